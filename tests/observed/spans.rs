//! Spans of loads, commits and touches, and the links of commands that several requests share.

use std::collections::BTreeSet;
use std::time::Duration;

use rocket::fairing::AdHoc;
use rocket::futures::future::join_all;
use rocket::http::Cookie;
use rocket::local::asynchronous::Client;
use rocket::{Build, Rocket, get, routes};
use rocket_mongo_session::testing::Clock;
use rocket_mongo_session::{Error, Session, SessionFairing, Sessions};
use tracing::info_span;

use crate::subscriber::{Recorder, Seen};
use crate::support::{Mongod, eventually};
use crate::{block_on, rocket};

#[get("/write")]
fn write(session: &Session) -> Result<(), Error> {
    session.increment("n", 1).map(drop)
}

#[get("/read")]
fn read(session: &Session) -> Result<String, Error> {
    let n: Option<i64> = session.get("n")?;
    Ok(format!("{n:?}"))
}

#[get("/save")]
async fn save(session: &Session) -> Result<(), Error> {
    session.set("m", &1)?;
    session.save().await
}

#[get("/modify")]
async fn modify(session: &Session) -> Result<(), Error> {
    let add = |n: Option<i64>| n.unwrap_or_default() + 1;
    session.modify("n", add).await.map(drop)
}

/// As the guide has it.
fn request_span() -> AdHoc {
    AdHoc::on_request("Request span", |request, _| {
        let span = info_span!("request", method = %request.method(), path = %request.uri().path());
        request.local_cache(|| span);
        Box::pin(async {})
    })
}

fn app(url: Option<&str>, sessions: SessionFairing) -> Rocket<Build> {
    let routes = routes![write, read, save, modify];
    rocket(url)
        .attach(sessions)
        .attach(request_span())
        .mount("/", routes)
}

async fn get(client: &Client, path: &str) {
    let response = client.get(path.to_owned()).dispatch().await;
    assert_eq!(response.status().code, 200, "{path}");
}

/// The names of a path's spans and their outcomes, in their order.
fn below(recorder: &Recorder, path: &str) -> Vec<(&'static str, String)> {
    let spans = recorder.spans();
    let is_of = |span: &Seen| {
        let parent = span.parent.map(|parent| &spans[parent]);
        parent.is_some_and(|parent| parent.name == "request" && parent.fields["path"] == path)
    };
    let of = spans.iter().filter(|span| is_of(span));
    of.map(|span| (span.name, span.fields["outcome"].clone()))
        .collect()
}

#[test]
fn loads_commits_and_touches_are_spans_below_that_of_their_request() {
    let recorder = Recorder::default();
    tracing::subscriber::with_default(recorder.subscriber(), || {
        block_on(async {
            let clock = Clock::new();
            let sessions = Sessions::in_memory().with_clock(&clock);
            let client = Client::tracked(app(None, sessions)).await;
            let client = client.expect("an application");
            get(&client, "/write").await;
            get(&client, "/save").await;
            get(&client, "/modify").await;
            clock.advance(Duration::from_secs(600));
            get(&client, "/read").await;
        });
    });
    let spans = |path| {
        let spans = below(&recorder, path).into_iter();
        spans
            .map(|(name, outcome)| format!("{name} {outcome}"))
            .collect::<Vec<_>>()
    };
    // The first request brought no cookie.
    assert_eq!(spans("/write"), ["session.commit applied"]);
    assert_eq!(
        spans("/save"),
        ["session.load live", "session.commit applied"]
    );
    assert_eq!(
        spans("/modify"),
        ["session.load live", "session.commit applied"]
    );
    assert_eq!(
        spans("/read"),
        ["session.load live", "session.touch nothing"]
    );
    for span in recorder.spans() {
        assert!(span.is_closed, "{span:?}");
        if span.name.starts_with("session.") {
            assert_eq!(span.fields["kind"], "main");
        }
    }
}

/// Each shared command is one span, with a link to the span of each operation in it.
fn check_links(recorder: &Recorder, operation: &str, of: &str) -> usize {
    let spans = recorder.spans();
    let mut linked = BTreeSet::new();
    for (_, command) in recorder.named("session.command") {
        assert_eq!(command.parent, None);
        if command.fields["operation"] != operation {
            continue;
        }
        let count: usize = command.fields["requests"].parse().expect("a number");
        // Without a lease a load, or a commit, also loads the generation of all sessions: one operation
        // more, in its span.
        let more = usize::from(of == "session.load");
        let linked_operations = command.follows.len()..=command.follows.len() + more;
        assert!(linked_operations.contains(&count), "{command:?}");
        for follows in command.follows {
            let span = &spans[follows];
            if more > 0 && span.name == "session.commit" {
                continue;
            }
            let is_new = linked.insert(follows) || more > 0;
            assert!(is_new, "an operation is in two commands");
            assert_eq!(span.name, of);
            let request = &spans[span.parent.expect("a request")];
            assert_eq!(request.name, "request");
        }
    }
    linked.len()
}

#[test]
fn a_shared_command_is_one_span_that_follows_from_each_request() {
    const REQUESTS: usize = 64;
    let recorder = Recorder::default();
    tracing::subscriber::with_default(recorder.subscriber(), || {
        block_on(async {
            let mongod = Mongod::start().await;
            let (clock, url) = (Clock::new(), mongod.url("spans"));
            let sessions = Sessions::fairing().with_clock(&clock);
            let client = Client::untracked(app(Some(&url), sessions)).await;
            let client = client.expect("an application");
            let all = async |path: &'static str, cookies: &[Option<Cookie<'static>>]| {
                let sent = cookies.iter().map(async |cookie| {
                    let mut request = client.get(path);
                    if let Some(cookie) = cookie {
                        request = request.cookie(cookie.clone());
                    }
                    let response = request.dispatch().await;
                    assert_eq!(response.status().code, 200);
                    response.cookies().get("session").cloned()
                });
                join_all(sent).await
            };
            let cookies = all("/write", &vec![None; REQUESTS]).await;
            assert!(cookies.iter().all(Option::is_some));
            all("/write", &cookies).await;
            clock.advance(Duration::from_secs(600));
            all("/read", &cookies).await;
            // Touches are written after the responses.
            let touched = || {
                check_links(
                    &recorder,
                    "recording that sessions were used",
                    "session.touch",
                )
            };
            eventually("the touches are written", async || {
                let commands = recorder.named("session.command");
                let is_written =
                    |command: &Seen| !command.fields.contains_key("requests") || !command.is_closed;
                !commands.iter().any(|(_, command)| is_written(command)) && touched() == REQUESTS
            })
            .await;
        });
    });
    // Up to four at a time go by themselves, in the span of their request.
    for (operation, of, count) in [
        ("creating a session", "session.commit", REQUESTS),
        ("loading a session", "session.load", 2 * REQUESTS),
        ("changing a session", "session.commit", REQUESTS),
    ] {
        let linked = check_links(&recorder, operation, of);
        assert!(
            (count / 2..=count).contains(&linked),
            "{operation}: {linked}"
        );
    }
    let commands = recorder.named("session.command").len();
    assert!(commands < REQUESTS, "{commands}");
}
