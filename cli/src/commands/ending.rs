//! `revoke`, `revoke-all` and `purge`: what ends sessions.

use std::io::{IsTerminal, Write, stderr, stdin};

use rocket::tokio::task::spawn_blocking;
use rocket_mongo_session::{Error, Sessions};
use serde_json::json;

use super::reading::{batch, hint, matching, total};
use super::{Context, or_interrupted, sessions as number_of, watched};
use crate::args::{Ending, Filter, Revoke};
use crate::failure::{Failure, NO};
use crate::output;
use crate::progress::Progress;

/// How a command that did a part of its work is continued.
pub const CONTINUES: &str = "the same command ends the rest";
/// The same of `revoke-all`, which would end later logins, too.
const ALL_ENDED: &str = "if it ended sessions, it ended all; the application deletes the rest";

pub async fn revoke(context: Context, revoke: Revoke) -> Result<u8, Failure> {
    let Revoke {
        ids,
        filter,
        ending,
    } = revoke;
    match (ids.is_empty(), filter.is_empty()) {
        (false, true) => by_id(&context, &ids, ending.dry_run).await,
        (true, false) => by_filter(&context, &filter, &ending).await.map(|()| 0),
        (false, false) => Err(Failure::Usage("name ids or a filter, not both".to_owned())),
        (true, true) => Err(Failure::Usage(
            "which sessions? Name their ids or a filter; revoke-all ends all of them".to_owned(),
        )),
    }
}

async fn by_id(context: &Context, ids: &[String], dry_run: bool) -> Result<u8, Failure> {
    let sessions = context.app.sessions().await?;
    let mut missing = 0;
    for (at, id) in ids.iter().enumerate() {
        let was_there = match dry_run {
            true => sessions.export(id).await?.is_some(),
            false => sessions.revoke(id).await?,
        };
        missing += u64::from(!was_there);
        match context.json {
            true if dry_run => output::json(&json!({ "id": id, "would_end": was_there }))?,
            true => output::json(&json!({ "id": id, "ended": was_there }))?,
            false => {
                let what = match (was_there, dry_run) {
                    (true, true) => "would end",
                    (true, false) => "ended",
                    (false, _) => "no such session",
                };
                output::line(&format!("{}  {what}", output::printable(id)))?;
            }
        }
        if context.interrupt.is_set() && at + 1 < ids.len() {
            return Err(Failure::Interrupted(format!("interrupted; {CONTINUES}")));
        }
    }
    Ok(if missing == 0 { 0 } else { NO })
}

async fn by_filter(context: &Context, filter: &Filter, ending: &Ending) -> Result<(), Failure> {
    let sessions = context.app.sessions().await?;
    if ending.dry_run {
        return dry_run(context, &sessions, filter).await;
    }
    if !ending.yes {
        let count = matching(context, &sessions, filter, |_| Ok(())).await?;
        hint(count, filter.user.as_ref());
        if count > 0 {
            confirm(context, format!("End {}?", number_of(count))).await?;
        }
    }
    let ended = match &filter.user {
        // Which ends logins in progress, too.
        Some(user) if filter.is_user_alone() => {
            let theirs = sessions.of(&user.value);
            let end = theirs.revoke_all();
            let ended = watched(context, "ending the sessions", CONTINUES, end).await?;
            hint(ended, filter.user.as_ref());
            ended
        }
        _ => in_batches(context, &sessions, filter).await?,
    };
    said_ended(context, ended)
}

/// Ends what a filter chooses. What an interruption or an error leaves, the next run ends.
async fn in_batches(
    context: &Context,
    sessions: &Sessions,
    filter: &Filter,
) -> Result<u64, Failure> {
    let mut progress = Progress::of_sessions(total(sessions, filter).await?);
    let mut query = batch(filter);
    let mut ended = 0;
    loop {
        let page = sessions.revoke_found(&query).await.map_err(|error| {
            let cause = crate::failure::with_causes(&error);
            let done = number_of(ended);
            Failure::Database(format!("{cause}; {done} ended before; {CONTINUES}"))
        })?;
        ended += page.ended;
        progress.advance(page.examined);
        progress.say(format!(", {ended} ended"));
        let Some(next) = page.next else {
            return Ok(ended);
        };
        query = query.after(&next);
        if context.interrupt.is_set() {
            let done = number_of(ended);
            return Err(Failure::Interrupted(format!(
                "interrupted; {done} ended; {CONTINUES}"
            )));
        }
    }
}

pub async fn revoke_all(context: Context, ending: Ending) -> Result<(), Failure> {
    let sessions = context.app.sessions().await?;
    if ending.dry_run {
        return dry_run(&context, &sessions, &Filter::default()).await;
    }
    if !ending.yes {
        let about = sessions.estimated_count().await?;
        let question = format!("End all sessions of the application (about {about})?");
        confirm(&context, question).await?;
    }
    let about = sessions.estimated_count().await?;
    let end = async |progress: &mut Steps<'_>| sessions.revoke_all_with(progress).await;
    let ended = in_steps(&context, about, ALL_ENDED, end).await?;
    said_ended(&context, ended)
}

pub async fn purge(context: Context, dry_run: bool) -> Result<(), Failure> {
    let sessions = context.app.sessions().await?;
    if dry_run {
        let count = sessions.count_expired().await?;
        let text = format!("{} would be deleted", number_of_expired(count));
        return context.say("would_end", count, &text);
    }
    let expired = sessions.count_expired().await?;
    let purge = async |progress: &mut Steps<'_>| sessions.purge_expired_with(progress).await;
    let count = in_steps(&context, expired, CONTINUES, purge).await?;
    let text = format!("{} deleted", number_of_expired(count));
    context.say("purged", count, &text)
}

/// "1 expired session", "2 expired sessions".
fn number_of_expired(count: u64) -> String {
    match count {
        1 => "1 expired session".to_owned(),
        count => format!("{count} expired sessions"),
    }
}

/// What a call in steps tells: how many sessions it has deleted so far.
type Steps<'a> = dyn FnMut(u64) + Send + 'a;

/// Runs a call in steps beside a progress bar, to its end or until Ctrl-C. `rest`: what becomes of the
/// work that is left then.
async fn in_steps(
    context: &Context,
    total: u64,
    rest: &str,
    call: impl AsyncFnOnce(&mut Steps<'_>) -> Result<u64, Error>,
) -> Result<u64, Failure> {
    let mut progress = Progress::of_sessions(Some(total));
    let mut before = 0;
    let mut advance = |so_far: u64| {
        progress.advance(so_far.saturating_sub(before));
        before = so_far;
    };
    let failed = |error: Error| match Failure::from(error) {
        Failure::Database(text) => Failure::Database(format!("{text}; {rest}")),
        other => other,
    };
    let done = async { call(&mut advance).await.map_err(failed) };
    or_interrupted(context, rest, done).await
}

/// Shows the sessions that a filter chooses.
pub async fn dry_run(
    context: &Context,
    sessions: &Sessions,
    filter: &Filter,
) -> Result<(), Failure> {
    let mut shown = output::Sessions::new(context.json);
    let count = matching(context, sessions, filter, |page| Ok(shown.print(page)?)).await?;
    hint(count, filter.user.as_ref());
    if !context.json {
        output::line(&format!("{} would end", number_of(count)))?;
    }
    Ok(())
}

pub fn said_ended(context: &Context, ended: u64) -> Result<(), Failure> {
    context.say("ended", ended, &format!("{} ended", number_of(ended)))
}

/// Asks at the terminal.
pub async fn confirm(context: &Context, question: String) -> Result<(), Failure> {
    if !stdin().is_terminal() || !stderr().is_terminal() {
        let text = format!("{question} Without a terminal, add --yes. Nothing was ended.");
        return Err(Failure::Declined(text));
    }
    eprint!("{question} [y/N] ");
    stderr().flush()?;
    let answer = spawn_blocking(|| {
        let mut answer = String::new();
        stdin().read_line(&mut answer).map(|_| answer)
    });
    let answer = async { answer.await.map_err(std::io::Error::other)? };
    let answer = or_interrupted(context, "nothing was ended", answer).await?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Declined(
            "not confirmed; nothing was ended".to_owned(),
        )),
    }
}
