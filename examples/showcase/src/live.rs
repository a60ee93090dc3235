//! Pages that change by themselves: server-sent events tell an open page that what it shows has changed,
//! or that its session has ended. The script is `static/live.js`; without it the pages work as before.
//!
//! Events of other processes need a replica set. On a standalone server a page only hears of the end of
//! its own session.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use rocket::Shutdown;
use rocket::futures::StreamExt;
use rocket::futures::stream::BoxStream;
use rocket::response::stream::{Event as Message, EventStream, stream};
use rocket::tokio::select;
use rocket_mongo_session::{Event, EventKind, Session, SessionInfo, Sessions};

/// The messages to an open page.
pub type Changes<'r> = EventStream<BoxStream<'r, Message>>;

/// A number that tells whether a page shows these sessions or others.
pub fn version(found: &[SessionInfo]) -> u64 {
    let mut ids: Vec<&str> = found.iter().map(|info| info.id.as_str()).collect();
    ids.sort_unstable();
    let mut hasher = DefaultHasher::new();
    ids.hash(&mut hasher);
    hasher.finish()
}

/// Returns whether an event changes the list of a user's sessions. A deletion does not tell its user, so
/// the ids of the list are kept.
pub fn changes_list(found: Vec<SessionInfo>, name: String) -> impl FnMut(&Event) -> bool {
    let mut ids: HashSet<String> = found.into_iter().map(|info| info.id).collect();
    move |event| {
        let user = event.user::<String>().ok().flatten();
        let is_theirs = user.is_some_and(|user| user == name);
        if is_theirs {
            ids.insert(event.id.clone());
        }
        is_theirs || event.kind == EventKind::Missed || ids.contains(&event.id)
    }
}

/// Tells an open page of changes, and of the end of the session. `is_new`: what the page shows has
/// changed before the stream began.
pub fn changes<'r>(
    session: &Session,
    sessions: &'r Sessions,
    mut shutdown: Shutdown,
    mut is_new: bool,
    mut is_change: impl FnMut(&Event) -> bool + Send + 'r,
) -> Changes<'r> {
    // An open page is not a use of the session.
    session.skip_touch();
    let (mut ended, mut events, mut has_events) = (session.ended(), sessions.events(), true);
    let messages = stream! {
        loop {
            if std::mem::take(&mut is_new) {
                yield Message::data("").event("change");
            }
            select! {
                event = events.next(), if has_events => match event {
                    Some(Ok(event)) => is_new = is_change(&event),
                    // Without events the page still follows its session.
                    Some(Err(_)) | None => has_events = false,
                },
                _ = &mut ended => {
                    yield end();
                    break;
                }
                _ = &mut shutdown => break,
            }
        }
    };
    EventStream::from(messages.boxed())
}

/// Tells a page that its session has ended before the stream began. An error would make the browser
/// give up, and the page stay.
pub fn ended() -> Changes<'static> {
    let message = stream! {
        yield end();
    };
    EventStream::from(message.boxed())
}

fn end() -> Message {
    Message::data("").event("end")
}
