//! `list`, `show` and `count`.

use rocket_mongo_session::{Query, Sessions};
use serde_json::Value;

use super::{Context, sessions as number_of, watched};
use crate::args::{Filter, List};
use crate::failure::Failure;
use crate::output::{self, user};
use crate::progress::Progress;
use crate::userid::UserId;

/// The most sessions of one page.
const PAGE: u32 = 1000;
const COUNTING: &str = "counting";
const UNCHANGED: &str = "nothing was changed";

pub async fn list(context: Context, list: List) -> Result<(), Failure> {
    let sessions = context.app.sessions().await?;
    let mut left = if list.all { u64::MAX } else { list.limit };
    let mut query = list.filter.query();
    if let Some(cursor) = &list.after {
        query = query.after(cursor);
    }
    let mut shown = output::Sessions::new(context.json);
    let mut progress = Progress::of_sessions(None);
    let mut count = 0;
    let mut next = None;
    while left > 0 {
        query = query.limit(u32::try_from(left).unwrap_or(u32::MAX).min(PAGE));
        let page = sessions.find(&query).await?;
        progress.advance(page.examined);
        progress.print(|| shown.print(&page.sessions))?;
        left -= page.sessions.len() as u64;
        count += page.sessions.len() as u64;
        next = page.next;
        let Some(cursor) = &next else { break };
        query = query.after(cursor);
        if context.interrupt.is_set() {
            let text = format!("interrupted; the list continues with --after {cursor}");
            return Err(Failure::Interrupted(text));
        }
    }
    progress.finish();
    if let Some(cursor) = next {
        eprintln!("more may follow: --after {cursor}, or --all");
    }
    hint(count, list.filter.user.as_ref());
    Ok(())
}

/// Tells that a user without sessions may be one of another type.
pub fn hint(found: u64, user: Option<&UserId>) {
    if found == 0
        && let Some(hint) = user.and_then(UserId::hint)
    {
        eprintln!("no session; {hint}");
    }
}

pub async fn show(context: Context, id: &str, values: bool) -> Result<(), Failure> {
    let sessions = context.app.sessions().await?;
    let Some(mut session) = sessions.export(id).await? else {
        return Err(Failure::NotFound(format!(
            "no live session has the id {}",
            output::printable(id)
        )));
    };
    let Some(fields) = session.as_object_mut() else {
        return Err(Failure::Database("the session is malformed".to_owned()));
    };
    let counts = ["values", "flash"].map(|name| {
        let stored = if values {
            fields.get(name).cloned()
        } else {
            fields.remove(name)
        };
        (
            name,
            stored
                .as_ref()
                .and_then(Value::as_object)
                .map(serde_json::Map::len),
        )
    });
    if !values {
        fields.remove("return_to");
    }
    let is_sealed = counts.iter().any(|(_, count)| count.is_none());
    if context.json {
        fields.insert("sealed".to_owned(), is_sealed.into());
        output::json(&session)?;
        return Ok(());
    }
    let text = |name: &str| session.get(name).and_then(Value::as_str);
    let time = |name: &str| text(name).map_or_else(|| "never".to_owned(), local_of_text);
    let agent = text("client");
    let mut rows = vec![
        (
            "id",
            text("id")
                .unwrap_or("(an id that is a credential)")
                .to_owned(),
        ),
        ("user", user(session.get("user").unwrap_or(&Value::Null))),
        ("created", time("created")),
        ("last used", time("accessed")),
        ("expires", time("expires")),
        (
            "client",
            agent.map_or_else(|| "-".to_owned(), output::client),
        ),
        (
            "user agent",
            agent.map_or_else(|| "-".to_owned(), output::printable),
        ),
        ("address", text("ip").unwrap_or("-").to_owned()),
    ];
    for (name, count) in counts {
        rows.push((
            name,
            match count {
                None => "sealed".to_owned(),
                Some(0) => "none".to_owned(),
                Some(count) if !values => format!("{count} (shown with --values)"),
                Some(_) => {
                    let all = session.get(name).unwrap_or(&Value::Null);
                    output::printable(&all.to_string())
                }
            },
        ));
    }
    if let Some(address) = text("return_to") {
        rows.push(("return to", output::printable(address)));
    }
    output::pairs(rows)?;
    Ok(())
}

/// A time of the export, as local time.
fn local_of_text(text: &str) -> String {
    match chrono::DateTime::parse_from_rfc3339(text) {
        Ok(at) => output::local(std::time::SystemTime::from(at).into()),
        Err(_) => text.to_owned(),
    }
}

pub async fn count(context: Context, filter: Filter, estimate: bool) -> Result<(), Failure> {
    let sessions = context.app.sessions().await?;
    let count = match &filter.user {
        _ if estimate && filter.is_empty() => sessions.estimated_count().await?,
        _ if estimate => {
            let text = "--estimate counts all sessions; leave the filter out";
            return Err(Failure::Usage(text.to_owned()));
        }
        None if filter.is_empty() => {
            watched(&context, COUNTING, UNCHANGED, sessions.count()).await?
        }
        Some(user) if filter.is_user_alone() => {
            let theirs = sessions.of(&user.value);
            watched(&context, COUNTING, UNCHANGED, theirs.count()).await?
        }
        _ => matching(&context, &sessions, &filter, |_| Ok(())).await?,
    };
    hint(count, filter.user.as_ref());
    context.say("count", count, &number_of(count))
}

/// Reads all sessions that a filter chooses; returns how many there are.
pub async fn matching(
    context: &Context,
    sessions: &Sessions,
    filter: &Filter,
    mut see: impl FnMut(&[rocket_mongo_session::SessionInfo]) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let mut query = filter.query().limit(PAGE);
    let mut progress = Progress::of_sessions(total(sessions, filter).await?);
    let mut count = 0;
    loop {
        let page = sessions.find(&query).await?;
        progress.advance(page.examined);
        count += page.sessions.len() as u64;
        progress.print(|| see(&page.sessions))?;
        let Some(next) = page.next else {
            return Ok(count);
        };
        query = query.after(&next);
        if context.interrupt.is_set() {
            return Err(Failure::Interrupted(format!("interrupted; {UNCHANGED}")));
        }
    }
}

/// Returns how many sessions a search reads, about. Those of a user are not counted: that reads all of
/// them.
pub async fn total(sessions: &Sessions, filter: &Filter) -> Result<Option<u64>, Failure> {
    Ok(match filter.user {
        Some(_) => None,
        None => Some(sessions.estimated_count().await?),
    })
}

/// The query of a batch.
pub fn batch(filter: &Filter) -> Query {
    filter.query().limit(PAGE)
}
