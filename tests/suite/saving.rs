//! `save`, and what a handler does at the same time.

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
async fn what_is_done_while_a_save_is_under_way_goes_with_the_answer() {
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
