//! A request with a dead cookie must not overwrite the login or renewal that overtook it.

use mongodb::bson::{DateTime, Document, doc};
use rocket::serde::json::json;

use super::{sessions, visitor};
use crate::apps::probe::{Probe, Script, id_of, run, run_with};

/// Moves a time that the server set a minute back: it is told by the server's clock, which a test
/// cannot move.
async fn a_minute_ago(probe: &Probe, chosen: Document, field: &str) {
    let then = DateTime::from_millis(DateTime::now().timestamp_millis() - 60_000);
    let set = doc! { "$set": { field: then } };
    let moved = probe
        .sessions()
        .update_one(chosen, set)
        .await
        .expect("an update");
    assert_eq!(moved.modified_count, 1);
}

#[rocket::async_test]
async fn a_request_that_a_login_overtook_creates_no_session() {
    let logins = [
        Script::new().login("bob"),
        Script::new().call(json!(["login_keeping", "bob", ["n"]])),
    ];
    for login in logins {
        let probe = Probe::start("overtaken_login", &[]).await;
        let (browser, old) = visitor(&probe).await;
        let new = run(&browser, login).await.cookie();
        for script in [
            Script::new().set("n", 9),
            Script::new().call(json!(["flash", "late"])),
            Script::new().then("csrf_token"),
            Script::new().call(json!(["set_max_age", 100])),
        ] {
            let late = run_with(&probe.app, &old, script).await;
            assert_eq!((late.status, late.sent()), (200, None), "{late:?}");
        }
        let saved = run_with(&probe.app, &old, Script::new().set("n", 9).then("save")).await;
        assert_eq!(
            (saved.last(), saved.sent()),
            (&json!({"error": "Gone"}), None)
        );
        assert_eq!(sessions(&probe).await.len(), 1);
        let user = run_with(&probe.app, &new, Script::new().then("user")).await;
        assert_eq!(user.results, [json!("bob")]);

        let tombstone = doc! { "_id": format!("~{}", id_of(&old)) };
        a_minute_ago(&probe, tombstone, "at").await;
        let later = run_with(&probe.app, &old, Script::new().set("n", 9)).await;
        assert_ne!(
            id_of(&later.cookie()),
            id_of(&old),
            "by now it is just an old cookie"
        );
    }
}

#[rocket::async_test]
async fn a_request_that_an_elevation_overtook_creates_no_session() {
    let probe = Probe::start("overtaken_elevate", &[]).await;
    let (browser, old) = visitor(&probe).await;
    run(&browser, Script::new().then("elevate")).await;
    let late = run_with(&probe.app, &old, Script::new().set("n", 9)).await;
    assert_eq!((late.status, late.sent()), (200, None));
    assert_eq!(sessions(&probe).await.len(), 1);
}

#[rocket::async_test]
async fn a_request_that_a_renewal_overtook_creates_no_session() {
    let probe = Probe::start("overtaken_renew", &[]).await;
    let (browser, old) = visitor(&probe).await;
    run(&browser, Script::new().then("renew")).await;
    let late = run_with(&probe.app, &old, Script::new().set("n", 9)).await;
    assert_eq!((late.status, late.sent()), (200, None));
    a_minute_ago(&probe, doc! { "_id": id_of(&old) }, "renewed").await;
    let later = run_with(&probe.app, &old, Script::new().set("n", 9)).await;
    assert_ne!(id_of(&later.cookie()), id_of(&old));
    assert_eq!(
        run(&browser, Script::new().get("n")).await.results,
        [json!(1)]
    );
}

#[rocket::async_test]
async fn a_login_with_a_dead_cookie_is_a_login() {
    let probe = Probe::start("overtaken_dead", &[]).await;
    let (browser, old) = visitor(&probe).await;
    run(&browser, Script::new().login("bob")).await;
    let again = run_with(&probe.app, &old, Script::new().login("bob")).await;
    let user = run_with(&probe.app, &again.cookie(), Script::new().then("user")).await;
    assert_eq!(user.results, [json!("bob")]);

    // It leaves a tombstone as well, for a request that comes with the dead cookie.
    probe
        .sessions()
        .delete_many(doc! {})
        .await
        .expect("no more");
    run_with(&probe.app, &old, Script::new().login("bob")).await;
    let late = run_with(&probe.app, &old, Script::new().set("n", 9)).await;
    assert_eq!(late.sent(), None);
}

#[rocket::async_test]
async fn a_logout_overtakes_no_request() {
    // After a logout the browser has no session, so a new one overwrites nothing.
    let probe = Probe::start("overtaken_logout", &[]).await;
    let (browser, old) = visitor(&probe).await;
    run(&browser, Script::new().then("logout")).await;
    let next = run_with(&probe.app, &old, Script::new().set("n", 9)).await;
    assert_ne!(id_of(&next.cookie()), id_of(&old));
}
