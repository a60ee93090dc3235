//! Caches: no answer that depends on a session may be another browser's.

use rocket::serde::json::json;

use super::{guards, member};
use crate::probe::{Probe, Script, caught, run, run_with, sent_by};
use crate::support::{App, Request, Response, figment};

fn vary(answer: &Response) -> usize {
    let lines = answer.headers_named("Vary").into_iter();
    let names = lines.flat_map(|line| line.split(',')).map(str::trim);
    names
        .filter(|name| name.eq_ignore_ascii_case("cookie"))
        .count()
}

/// CH-02: by whatever call the session was used, the answer says so once.
#[rocket::async_test]
async fn whatever_reads_the_session_makes_the_answer_its_browsers_own() {
    let probe = Probe::start("sec_cache_reads", &[]).await;
    let browser = probe.browser();
    run(&browser, Script::new().login("alice").set("n", 1)).await;
    for call in [
        json!(["get", "n"]),
        json!(["contains", "n"]),
        json!(["len"]),
        json!(["is_empty"]),
        json!(["keys"]),
        json!(["peek_flash"]),
        json!(["csrf_token"]),
        json!(["verify_csrf", "x"]),
        json!(["user"]),
        json!(["is_new"]),
        json!(["id"]),
        json!(["created"]),
        json!(["expires"]),
    ] {
        let read = run(&browser, Script::new().call(call.clone())).await;
        assert_eq!(vary(&read), 1, "{call}");
        assert_eq!(
            read.headers_named("Cache-Control"),
            ["private, no-cache"],
            "{call}"
        );
        assert_eq!(read.sent(), None, "{call}");
    }
    let starred = Script::new().get("n").answer_header("Vary", "*");
    assert_eq!(run(&browser, starred).await.headers_named("Vary"), ["*"]);
}

/// CH-01, CH-07: every answer with a cookie of ours, the catchers' included.
#[rocket::async_test]
async fn no_answer_with_a_cookie_may_be_stored_whatever_its_status() {
    let own = |rocket: rocket::Rocket<rocket::Build>| rocket.register("/", caught());
    let public = |script: Script| {
        script
            .answer_header("Cache-Control", "public, max-age=600")
            .answer_header("Expires", "Fri, 01 Jan 2100 00:00:00 GMT")
    };
    for (db, catches) in [("sec_cache_caught", true), ("sec_cache_default", false)] {
        let probe = match catches {
            true => Probe::start_with(db, &[], own).await,
            false => Probe::start(db, &[]).await,
        };
        for script in [
            Script::new().login("alice"),
            Script::new().login("alice").status(201),
            Script::new().login("alice").status(304),
            Script::new().login("alice").status(302),
            Script::new().login("alice").status(404),
            Script::new().login("alice").status(500),
            Script::new().login("alice").fail(404),
            Script::new().login("alice").fail(422),
            Script::new().login("alice").none(),
        ] {
            let answer = probe.app.send(public(script).request()).await;
            assert!(sent_by(&answer).is_some(), "{answer:?}");
            assert_eq!(
                answer.headers_named("Cache-Control"),
                ["no-store"],
                "{answer:?}"
            );
            assert_eq!(answer.header("Expires"), None, "{answer:?}");
            assert_eq!(vary(&answer), 1, "{answer:?}");
        }
        // A logout stands though the handler panics; its answer is nobody else's either.
        let cookie = member(&probe, "bob").await;
        let out = run_with(&probe.app, &cookie, Script::new().then("logout").panic()).await;
        assert!(out.sent().is_some());
        assert_eq!(out.headers_named("Cache-Control"), ["no-store"]);
    }
}

/// CH-03: the cookie that is only sent again.
#[rocket::async_test]
async fn a_cookie_that_is_sent_again_by_a_read_is_kept_out_of_caches() {
    let probe = Probe::start("sec_cache_again", &[("max_age", 600.into())]).await;
    let cookie = member(&probe, "alice").await;
    probe.clock.advance(std::time::Duration::from_secs(120));
    let read = Script::new()
        .get("n")
        .answer_header("Cache-Control", "public, max-age=600");
    let read = run_with(&probe.app, &cookie, read).await;
    assert!(read.sent().is_some(), "{read:?}");
    assert_eq!(read.headers_named("Cache-Control"), ["no-store"]);
    assert_eq!(vary(&read), 1);
}

/// A refusal is an answer that depends on the request's origin and cookie, too.
#[rocket::async_test]
async fn a_refusal_is_no_public_answer() {
    let probe = Probe::start_with("sec_cache_refused", &[], guards).await;
    let cookie = member(&probe, "alice").await;
    for request in [
        Request::post("/header"),
        Request::post("/header").header("Origin", "https://evil.example"),
        Request::get("/recent"),
    ] {
        let answer = probe
            .app
            .send(request.header("Cookie", format!("session={cookie}")))
            .await;
        assert_eq!(vary(&answer), 1, "{answer:?}");
    }
}

/// CH-05: who asks for no session gets the very headers that the application gives.
#[rocket::async_test]
async fn an_untouched_answer_is_untouched() {
    let probe = Probe::start("sec_cache_none", &[]).await;
    let bare = rocket::custom(figment("debug", None, &[])).mount("/", rocket::routes![plain]);
    let bare = App::launch(bare).await;
    let cookie = member(&probe, "alice").await;
    let with = Request::get("/plain").header("Cookie", format!("session={cookie}"));
    let headers = |answer: Response| {
        let all = answer.headers.into_iter();
        let mut all: Vec<_> = all
            .filter(|(name, _)| !name.eq_ignore_ascii_case("date"))
            .collect();
        all.sort();
        all
    };
    let (ours, theirs) = (probe.app.send(with).await, bare.get("/plain").await);
    assert_eq!((ours.status, ours.text()), (theirs.status, theirs.text()));
    assert_eq!(headers(ours), headers(theirs));
}

#[rocket::get("/plain")]
fn plain() -> &'static str {
    "plain"
}

/// CH-01: nor by a cache that is told apart from the others (RFC 9213).
#[rocket::async_test]
async fn no_cache_in_front_is_told_to_store_an_answer_with_a_cookie() {
    let probe = Probe::start("sec_cache_targeted", &[]).await;
    let names = [
        "CDN-Cache-Control",
        "Cloudflare-CDN-Cache-Control",
        "Surrogate-Control",
        "X-Accel-Expires",
    ];
    let script = names
        .iter()
        .fold(Script::new().login("alice"), |script, name| {
            script.answer_header(name, "max-age=600")
        });
    let login = run_with(&probe.app, "", script).await;
    assert!(login.sent().is_some());
    for name in names {
        assert_eq!(login.headers_named(name), Vec::<&str>::new(), "{name}");
    }
}
