//! `watch`: what happens to sessions.

use rocket::futures::StreamExt;
use rocket::tokio::select;
use rocket_mongo_session::mongodb::bson::Bson;
use rocket_mongo_session::{Event, EventKind};
use serde_json::{Value, json};

use super::Context;
use crate::failure::Failure;
use crate::output;
use crate::userid::UserId;

pub async fn run(mut context: Context, user: Option<UserId>) -> Result<(), Failure> {
    let sessions = context.app.sessions().await?;
    sessions.ping().await?;
    let wanted = user.map(|user| user.value);
    let mut events = sessions.events();
    loop {
        let event = select! {
            event = events.next() => event,
            () = context.interrupt.wait() => return Ok(()),
        };
        let Some(event) = event else { return Ok(()) };
        let event = event?;
        // What may have been missed is everybody's.
        let is_wanted = |wanted: &Bson| {
            event.kind == EventKind::Missed || is_same(wanted, event.user::<Bson>().ok().flatten())
        };
        if wanted.as_ref().is_none_or(is_wanted) {
            print(&event, context.json)?;
        }
    }
}

/// Whether a user is this one: whole numbers are compared by their value.
fn is_same(wanted: &Bson, user: Option<Bson>) -> bool {
    let whole = |value: &Bson| match value {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        _ => None,
    };
    user.is_some_and(|user| {
        user == *wanted || whole(&user).is_some_and(|n| Some(n) == whole(wanted))
    })
}

fn print(event: &Event, is_json: bool) -> Result<(), Failure> {
    let kind = format!("{:?}", event.kind);
    let user = event.user::<Value>().ok().flatten().unwrap_or_default();
    if is_json {
        let at = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::from(event.at));
        output::json(&json!({
            "at": at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            "kind": kind,
            "id": event.id,
            "user": user,
        }))?;
    } else {
        let (at, user) = (output::local(event.at), output::user(&user));
        output::line(&format!("{at}  {kind:<10}  {:<22}  {user}", event.id))?;
    }
    Ok(())
}
