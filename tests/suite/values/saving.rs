//! `save`, and what a handler does at the same time.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use rocket::tokio::join;
use rocket::{get, routes};
use rocket_mongo_session::{Error, Session, Sessions};

use crate::support::{App, Mongod, figment};

/// One route of which a part runs while its `save` waits for the database.
#[get("/during")]
async fn during(session: &Session) -> Result<(), Error> {
    session.set("undone", &2)?;
    session.increment("count", 5)?;
    // Polled in this order: the update is on its way when the rest runs.
    let rest = async {
        session.set("undone", &1)?;
        session.increment("count", -5)?;
        session.set("other", &"set")?;
        session.set_timeout(None)
    };
    let (saved, rest) = join!(session.save(), rest);
    saved.and(rest)
}

/// Begins something, and drops it.
async fn leave<T>(begun: impl Future<Output = T>) {
    let mut begun = pin!(begun);
    let is_pending = poll_fn(|context| Poll::Ready(begun.as_mut().poll(context).is_pending()));
    assert!(is_pending.await, "a database is not that fast");
}

/// A handler that loses patience with its `save`.
#[get("/leave/save")]
async fn leave_save(session: &Session) -> Result<&'static str, Error> {
    session.increment("count", 5)?;
    leave(session.save()).await;
    Ok("all is well")
}

/// The same with its `modify`, of a value that it has changed before.
#[get("/leave/modify")]
async fn leave_modify(session: &Session) -> Result<&'static str, Error> {
    session.increment("count", 5)?;
    let add = |count: Option<i64>| count.unwrap_or(0) + 1;
    leave(session.modify("count", add)).await;
    Ok("all is well")
}

/// It loses patience, and asks again.
#[get("/leave/twice")]
async fn leave_and_ask(session: &Session) -> Result<String, Error> {
    session.increment("count", 5)?;
    leave(session.save()).await;
    let again = session.save().await;
    session.set("other", &"set")?;
    Ok(format!("{again:?}"))
}

#[get("/leave/logout")]
async fn leave_and_log_out(session: &Session) -> Result<&'static str, Error> {
    session.increment("count", 5)?;
    leave(session.save()).await;
    session.logout()?;
    Ok("all is well")
}

#[get("/start")]
fn start(session: &Session) -> Result<(), Error> {
    session.set("undone", &1)
}

#[get("/show")]
fn show(session: &Session) -> Result<String, Error> {
    let (undone, count): (Option<i32>, Option<i64>) =
        (session.get("undone")?, session.get("count")?);
    let other: Option<String> = session.get("other")?;
    Ok(format!(
        "{undone:?} {count:?} {other:?} {}",
        session.expires().is_none()
    ))
}

#[rocket::async_test]
async fn what_is_done_during_a_save_is_stored_with_the_response() {
    let url = Mongod::shared().await.url("saving_during");
    let rocket = rocket::custom(figment("debug", Some(&url), &[]))
        .attach(Sessions::fairing())
        .mount("/", routes![start, during, show]);
    let app = App::launch(rocket).await;
    let browser = app.browser();
    browser.get("/start").await;
    browser.get("/during").await;
    let shown = browser.get("/show").await;
    assert_eq!(shown.text(), "Some(1) Some(0) Some(\"set\") true");
}

async fn app(db: &str) -> App {
    let url = Mongod::shared().await.url(db);
    let routes = routes![
        start,
        show,
        leave_save,
        leave_modify,
        leave_and_ask,
        leave_and_log_out
    ];
    let rocket = rocket::custom(figment("debug", Some(&url), &[]))
        .attach(Sessions::fairing())
        .mount("/", routes);
    App::launch(rocket).await
}

/// The write continues in a task of its own, and the response waits for it.
#[rocket::async_test]
async fn save_that_the_handler_dropped_is_stored_once_with_the_response() {
    let app = app("saving_dropped").await;
    for _ in 0..10 {
        let browser = app.browser();
        browser.get("/start").await;
        assert_eq!(browser.get("/leave/save").await.status, 200);
        assert_eq!(count(&browser.get("/show").await.text()), 5);
    }
}

/// A `modify` of a key that has changed before saves that change first. Dropped there, it changes
/// nothing itself.
#[rocket::async_test]
async fn modify_that_the_handler_dropped_loses_no_earlier_change() {
    let app = app("saving_dropped_modify").await;
    for _ in 0..10 {
        let browser = app.browser();
        browser.get("/start").await;
        assert_eq!(browser.get("/leave/modify").await.status, 200);
        assert_eq!(count(&browser.get("/show").await.text()), 5);
    }
}

#[rocket::async_test]
async fn save_after_a_dropped_save_waits_for_it() {
    let app = app("saving_dropped_twice").await;
    let browser = app.browser();
    browser.get("/start").await;
    let response = browser.get("/leave/twice").await;
    assert_eq!((response.status, &*response.text()), (200, "Ok(())"));
    let shown = browser.get("/show").await.text();
    assert!(
        shown.contains("Some(\"set\")") && count(&shown) == 5,
        "{shown}"
    );
}

#[rocket::async_test]
async fn logout_after_a_dropped_save_stands() {
    let app = app("saving_dropped_logout").await;
    let browser = app.browser();
    browser.get("/start").await;
    assert_eq!(browser.get("/leave/logout").await.status, 200);
    assert!(browser.get("/show").await.text().starts_with("None None"));
}

/// The count that `/show` shows.
fn count(shown: &str) -> i64 {
    let count = shown.split_whitespace().nth(1).unwrap_or_default();
    let count = count.trim_start_matches("Some(").trim_end_matches(')');
    count.parse().unwrap_or(0)
}
