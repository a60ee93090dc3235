//! I9, I10, I11, I13 and I14: what answers say, and that there are some.

use rocket::serde::json::json;

use super::*;
use crate::apps::arena::ArenaResponse;
use crate::support::Response;

const UNAVAILABLE: &str = "nothing but this";

fn token(id: &str, secret: &str) -> String {
    format!("{}.{}", id.repeat(22), secret.repeat(43))
}

fn sends(token: &str) -> String {
    format!("session={token}; HttpOnly; SameSite=Lax; Path=/")
}

/// The event of a response with these headers.
fn answered(work: Work, status: u16, headers: &[(&str, &str)], body: &str) -> Event {
    let headers = headers.iter();
    let response = ArenaResponse(Response {
        status,
        headers: headers
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body: body.as_bytes().to_vec(),
    });
    let mut event = Event {
        invoked: 10,
        returned: 20,
        told: Told::Done,
        ..Event::new(1, work, Some(token("a", "b")))
    };
    event.answered(&response, UNAVAILABLE);
    event
}

const VARY: (&str, &str) = ("Vary", "Cookie");
const PRIVATE: (&str, &str) = ("Cache-Control", "private, no-cache");
const NO_STORE: (&str, &str) = ("Cache-Control", "no-store");

#[test]
fn answers_that_can_be_have_no_complaint() {
    let renewed = sends(&token("a", "c"));
    let removal = "session=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970";
    for (work, status, headers, body) in [
        (Work::Read, 200, vec![VARY, PRIVATE], "[]"),
        (
            Work::Renew,
            200,
            vec![VARY, NO_STORE, ("Set-Cookie", &renewed)],
            "[]",
        ),
        (
            Work::Logout,
            200,
            vec![VARY, NO_STORE, ("Set-Cookie", removal)],
            "[]",
        ),
        (Work::Renew, 503, vec![VARY, NO_STORE], UNAVAILABLE),
        (Work::Read, 503, vec![VARY, PRIVATE], UNAVAILABLE),
    ] {
        let event = answered(work, status, &headers, body);
        assert_eq!(event.complaints, Vec::<String>::new());
    }
}

#[test]
fn a_secret_outside_of_its_cookie_is_found() {
    let headers = [VARY, PRIVATE];
    let own = format!("[\"{}\"]", token("a", "b"));
    finds("I9", [answered(Work::Read, 200, &headers, &own)]);
    let own = "b".repeat(43);
    let header = [VARY, PRIVATE, ("X-Token", &own)];
    finds("I9", [answered(Work::Read, 200, &header, "[]")]);
    // Another browser's, in a body.
    let other = made(Work::Plant(9), 2, 4, &token("c", "d"));
    let others = format!("[\"_{}_\"]", "d".repeat(43));
    let read = || answered(Work::Read, 200, &headers, &others);
    finds("I9", [other, read()]);
    passes([read()]);
    // What is stored of a session.
    let digest = format!("[\"{}\"]", "A".repeat(43));
    let read = answered(Work::Read, 200, &headers, &digest);
    finds_stored("I9", [read], &[stored("s", 0, 7)]);
}

#[test]
fn failed_response_with_other_content_is_found() {
    let headers = [VARY, NO_STORE];
    finds("I10", [answered(Work::Renew, 503, &headers, "no primary")]);
    finds("I10", [answered(Work::Renew, 500, &headers, UNAVAILABLE)]);
}

/// A request may take as long as its operations, and no longer.
#[test]
fn a_request_that_hangs_is_found() {
    let took = |work, seconds: u64| event(work, 10, seconds * 1_000_000, json!({}));
    finds("I10", [took(Work::Read, 8)]);
    let elevates = |seconds| giving("s.second", took(Work::Elevate, seconds));
    passes([elevates(8)]);
    finds("I10", [elevates(11)]);
}

#[test]
fn an_application_that_does_not_recover_is_found() {
    let healed = |healed| Terms {
        healed: Some(healed),
        ..TERMS
    };
    // One of each kind, each in a session of its own.
    let each = || {
        Work::KINDS.into_iter().zip(0..).map(|(work, number)| {
            let token = format!("{number}.secret");
            let given = (work.creates() || work.replaces_token()).then_some(token);
            Event {
                invoked: 10,
                returned: 20,
                told: Told::Done,
                given,
                ..Event::new(1, work, None)
            }
        })
    };
    let verdict = checked(each(), &[], healed(10));
    assert_eq!(verdict.violations, Vec::<String>::new());
    assert!(checked(each(), &[], healed(11)).breaks("I11"));
    for kind in Work::KINDS {
        let others = each().filter(|event| event.work != kind);
        assert!(checked(others, &[], healed(10)).breaks("I11"), "{kind:?}");
        // `Gone` and an unknown outcome are not successes.
        let failed = each().map(|event| match event.work == kind {
            true => gone(event),
            false => event,
        });
        assert!(checked(failed, &[], healed(10)).breaks("I11"), "{kind:?}");
    }
    let storm = (0..20).map(|_| open(event(Work::Read, 30, 40, json!({}))));
    assert!(checked(each().chain(storm), &[], healed(10)).breaks("I11"));
}

#[test]
fn a_cookie_or_a_header_that_should_not_be_is_found() {
    let good = sends(&token("a", "c"));
    let (cookie, other) = (("Set-Cookie", good.as_str()), ("Set-Cookie", "_rms=1"));
    for headers in [
        vec![VARY, NO_STORE, cookie, cookie],
        vec![VARY, NO_STORE, cookie, other],
        vec![VARY, NO_STORE, other],
        vec![NO_STORE, cookie],
        vec![("Vary", "X-Cookies"), NO_STORE, cookie],
        vec![VARY, cookie],
        vec![VARY, PRIVATE, cookie],
        vec![VARY, NO_STORE],
        vec![VARY],
        vec![VARY, ("Cache-Control", "public")],
    ] {
        finds("I13", [answered(Work::Renew, 200, &headers, "[]")]);
    }
    for line in [
        sends("short.token"),
        sends(&token("a", "=")),
        good.replace("HttpOnly; ", ""),
        good.replace("Lax", "None"),
        good.replace("Path=/", "Path=/run"),
        format!("{good}; Domain=example.org"),
        format!("{good}; Max-Age=60"),
        sends(""),
    ] {
        let headers = [VARY, NO_STORE, ("Set-Cookie", &line)];
        finds("I13", [answered(Work::Logout, 200, &headers, "[]")]);
    }
    let removal = format!("{}; Max-Age=0", sends(""));
    let headers = [VARY, NO_STORE, ("Set-Cookie", &removal)];
    finds("I13", [answered(Work::Read, 200, &headers, "[]")]);
}

#[test]
fn a_failure_that_sets_a_cookie_is_found() {
    for line in [sends(&token("a", "c")), format!("{}; Max-Age=0", sends(""))] {
        let headers = [VARY, NO_STORE, ("Set-Cookie", &line)];
        finds("I14", [answered(Work::Logout, 503, &headers, UNAVAILABLE)]);
    }
}
