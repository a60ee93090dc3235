//! Cookies in the wrong place, several of them, and their removal.

use rocket::serde::json::{Value, json};
use std::time::Duration;

use super::InMemory;
use crate::apps::probe::{Probe, Ran, Script, all_routes, id_of, removes, run, run_with, sent_by};
use crate::support::{App, Request};

/// Sends a script with these cookies, all of our name.
async fn run_with_all(app: &App, cookies: &[&str], script: Script) -> Ran {
    let pairs: Vec<String> = cookies.iter().map(|one| format!("session={one}")).collect();
    let request = script.request().header("Cookie", pairs.join("; "));
    app.send(request).await.into()
}

async fn visitor(app: &App, n: i64) -> String {
    run(&app.browser(), Script::new().set("n", n))
        .await
        .cookie()
}

async fn n(app: &App, cookie: &str) -> Value {
    run_with(app, cookie, Script::new().get("n"))
        .await
        .last()
        .clone()
}

/// The names of the errors that a script's calls returned.
fn refusals(ran: &Ran) -> Vec<&str> {
    let errors = ran.results.iter().filter_map(|one| one.get("error"));
    errors.filter_map(Value::as_str).collect()
}

/// A well-formed cookie that names no session.
fn stray(letter: &str) -> String {
    format!("{}A.{}A", letter.repeat(21), letter.repeat(42))
}

#[rocket::async_test]
async fn request_outside_of_the_cookie_path_creates_no_session() {
    let probe = Probe::start_with("cookies_path", &[("path", "/app".into())], |rocket| {
        rocket.mount("/app", all_routes())
    })
    .await;
    let browser = probe.browser();
    let mut inside = Script::new().set("n", 1).request();
    inside.path = "/app/run".to_owned();
    let visit: Ran = browser.send(inside).await.into();
    let id = id_of(&visit.cookie()).to_owned();

    for script in [
        Script::new().set("n", 2),
        Script::new().login("alice"),
        Script::new().call(json!(["flash", "hello"])),
        Script::new().set("n", 2).then("save"),
    ] {
        let outside = run(&browser, script.clone()).await;
        assert_eq!(outside.sent(), None, "{script:?}");
        assert_eq!(refusals(&outside), ["OutsidePath"], "{outside:?}");
    }
    let stored = probe.documents().await;
    assert_eq!(stored.len(), 1, "{stored:?}");
    assert_eq!(stored[0].get_str("_id"), Ok(id.as_str()));
    let mut inside = Script::new().get("n").request();
    inside.path = "/app/run".to_owned();
    let seen: Ran = browser.send(inside).await.into();
    assert_eq!(seen.results, [json!(1)]);
}

#[rocket::async_test]
async fn logout_removes_whatever_cookie_was_brought() {
    let memory = InMemory::start(|rocket| rocket).await;
    let app = &memory.app;
    let expired = visitor(app, 1).await;
    memory.clock.advance(Duration::from_secs(30 * 24 * 3600));
    let revoked = visitor(app, 1).await;
    let revoke = Script::new().call(json!(["revoke", id_of(&revoked)]));
    assert_eq!(run(&app.browser(), revoke).await.results, [json!(true)]);
    let live = visitor(app, 1).await;
    let forged = format!("{}.{}A", id_of(&live), "A".repeat(42));
    for (what, cookies) in [
        ("live", vec![visitor(app, 1).await]),
        ("expired", vec![expired]),
        ("revoked", vec![revoked]),
        ("unknown", vec![stray("B")]),
        ("forged", vec![forged]),
        ("malformed", vec!["garbage".to_owned()]),
        ("empty", vec![String::new()]),
        ("several", vec![live.clone(), visitor(app, 2).await]),
    ] {
        let cookies: Vec<&str> = cookies.iter().map(String::as_str).collect();
        let logout = run_with_all(app, &cookies, Script::new().then("logout")).await;
        assert!(logout.sent().is_some_and(removes), "{what}: {logout:?}");
    }
    // A cookie that another site's page has set is not ours to remove.
    let request = Script::new().then("logout").request();
    let logout = app.send(request.header("Cookie", "theme=dark")).await;
    assert_eq!(sent_by(&logout), None);
}

#[rocket::async_test]
async fn logout_removes_the_cookie_in_no_other_response() {
    let memory = InMemory::start(|rocket| rocket).await;
    let live = visitor(&memory.app, 1).await;
    let other = visitor(&memory.app, 2).await;
    let forged = format!("{}.{}A", id_of(&live), "A".repeat(42));
    let strays = [stray("B"), stray("C")];
    for cookies in [
        &["garbage"][..],
        &["garbage", "rubbish"],
        &[&strays[0]],
        &[&strays[0], &strays[1]],
        &[&forged],
        &[&live, &other],
        &[&live],
    ] {
        let read = run_with_all(&memory.app, cookies, Script::new().get("n")).await;
        assert_eq!((read.status, read.sent()), (200, None), "{cookies:?}");
    }
    memory.clock.advance(Duration::from_secs(86_400));
    let read = run_with(&memory.app, &live, Script::new().get("n")).await;
    assert_eq!((read.status, read.sent()), (200, None), "it has expired");
}

#[rocket::async_test]
async fn of_several_cookies_the_live_one_counts() {
    let memory = InMemory::start(|rocket| rocket).await;
    let probe = Probe::start("cookies_several", &[]).await;
    for app in [&memory.app, &probe.app] {
        let live = visitor(app, 1).await;
        let (one, other) = (stray("B"), stray("C"));
        let forged = format!("{}.{}A", id_of(&live), "A".repeat(42));
        for cookies in [
            [live.as_str(), &one],
            [&one, &live],
            ["garbage", &live],
            [&live, "garbage"],
            [&live, &live],
            [&live, &forged],
        ] {
            let seen = run_with_all(app, &cookies, Script::new().get("n")).await;
            assert_eq!(seen.results, [json!(1)], "{cookies:?}");
            assert_eq!(seen.sent(), None);
        }
        let three = [one.as_str(), &live, &other];
        for m in 1..4 {
            let set = run_with_all(app, &three, Script::new().set("m", m)).await;
            assert_eq!((set.status, set.sent()), (200, None), "{set:?}");
        }
        let seen = run_with(app, &live, Script::new().get("m")).await;
        assert_eq!(seen.results, [json!(3)]);
    }
    // The writes went to the one session that there is.
    assert_eq!(probe.documents().await.len(), 1);
}

/// It is unknown which one the browser means.
#[rocket::async_test]
async fn of_two_live_cookies_none_counts() {
    let memory = InMemory::start(|rocket| rocket).await;
    let app = &memory.app;
    let (one, other) = (visitor(app, 1).await, visitor(app, 2).await);
    let both = [one.as_str(), &other];
    let seen = run_with_all(app, &both, Script::new().get("n").then("is_new")).await;
    assert_eq!(seen.results, [json!(null), json!(true)]);
    assert_eq!(
        (n(app, &one).await, n(app, &other).await),
        (json!(1), json!(2))
    );
}

#[rocket::async_test]
async fn logout_ends_every_session_that_the_cookies_prove() {
    let memory = InMemory::start(|rocket| rocket).await;
    let app = &memory.app;
    let (one, other) = (visitor(app, 1).await, visitor(app, 2).await);
    let third = visitor(app, 3).await;
    let forged = format!("{}.{}A", id_of(&third), "A".repeat(42));
    let all = [one.as_str(), &other, &forged];
    run_with_all(app, &all, Script::new().then("logout")).await;
    assert_eq!(n(app, &one).await, json!(null));
    assert_eq!(n(app, &other).await, json!(null));
    assert_eq!(n(app, &third).await, json!(3), "nothing proves this one");
}

/// In two header lines, as HTTP/2 sends them.
#[rocket::async_test]
async fn cookies_of_all_header_lines_are_considered() {
    let memory = InMemory::start(|rocket| rocket).await;
    let live = visitor(&memory.app, 1).await;
    let request: Request = Script::new().get("n").request();
    let request = request
        .header("Cookie", format!("session={}", stray("B")))
        .header("Cookie", format!("session={live}"));
    let seen: Ran = memory.app.send(request).await.into();
    assert_eq!(seen.results, [json!(1)]);
}

/// The browser keeps a `Lax` cookie to itself there: a new one would overwrite the one that it has.
#[rocket::async_test]
async fn cross_site_request_without_a_cookie_creates_a_session_by_login_alone() {
    let shop = "https://pay.example.org";
    let keys = [("trusted_origins", vec![shop.to_owned()].into())];
    let probe = Probe::start_with("cookies_cross_site", &keys, |rocket| rocket).await;
    let from_the_shop = |script: Script| {
        let script = script.header("Origin", shop);
        script.header("Sec-Fetch-Site", "cross-site").request()
    };
    for script in [
        Script::new().set("paid", true),
        Script::new().call(json!(["flash", "thanks"])),
        Script::new().set("paid", true).then("save"),
    ] {
        let ran: Ran = probe.app.send(from_the_shop(script.clone())).await.into();
        assert_eq!(ran.sent(), None, "{script:?}");
        assert_eq!(refusals(&ran), ["CrossSiteWrite"], "{ran:?}");
    }
    assert_eq!(probe.documents().await.len(), 0);

    let login = from_the_shop(Script::new().login("alice").set("paid", true));
    let login: Ran = probe.app.send(login).await.into();
    let seen = Script::new().then("user").get("paid");
    let seen = run_with(&probe.app, &login.cookie(), seen).await;
    assert_eq!(seen.results, [json!("alice"), json!(true)]);
    // With its cookie it is a request as any other.
    let script = Script::new().set("n", 1).header("Origin", shop);
    let ran = run_with(&probe.app, &login.cookie(), script).await;
    assert_eq!((ran.status, ran.sent()), (200, None), "{ran:?}");
}
