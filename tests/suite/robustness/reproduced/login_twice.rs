//! Logins whose response is lost, and login forms that are sent twice.

use mongodb::bson::{Bson, DateTime, Document, Timestamp, doc};
use rocket::futures::TryStreamExt;
use rocket::request::{FromRequest, Outcome};
use rocket::serde::json::json;
use rocket::{Build, FromForm, Request as Incoming, Rocket, async_trait, get, post, routes};
use rocket_mongo_session::{CsrfForm, Error, Session};
use std::time::Duration;

use super::{InMemory, visitor};
use crate::apps::probe::{Gates, Probe, Script, run, sent_by};
use crate::support::{Browser, Request, Response};

/// Longer than the time in which a login's response is taken to be on its way.
const LOST: Duration = Duration::from_secs(8);

/// Waits where the request's `X-Pause` says, before the session is loaded.
struct Pause;

#[async_trait]
impl<'r> FromRequest<'r> for Pause {
    type Error = ();

    async fn from_request(request: &'r Incoming<'_>) -> Outcome<Pause, ()> {
        let gates = request.rocket().state::<Gates>().expect("gates");
        if let Some(gate) = request.headers().get_one("X-Pause") {
            gates.pass(gate).await;
        }
        Outcome::Success(Pause)
    }
}

#[derive(FromForm)]
struct Login {
    user: String,
}

#[get("/login")]
fn page(session: &Session) -> String {
    session.csrf_token()
}

#[post("/login", data = "<form>")]
fn login(_pause: Pause, form: CsrfForm<Login>, session: &Session) -> Result<&'static str, Error> {
    session.login_keeping(&form.user, &["basket"])?;
    Ok("welcome")
}

fn login_form(rocket: Rocket<Build>) -> Rocket<Build> {
    rocket.mount("/", routes![page, login])
}

/// The form that the login page gives this browser, filled in.
async fn filled_in(browser: &Browser) -> Request {
    let token = browser.get("/login").await.text();
    Request::post("/login").form(&format!("user=alice&csrf_token={token}"))
}

/// The login page gives a cookie and a form that works.
async fn can_sign_in(browser: &Browser, what: &str) {
    let page = browser.get("/login").await;
    assert!(sent_by(&page).is_some(), "{what}: {page:?}");
    let form = format!("user=alice&csrf_token={}", page.text());
    let login = browser.send(Request::post("/login").form(&form)).await;
    assert_eq!(
        (login.status, login.text().as_str()),
        (200, "welcome"),
        "{what}"
    );
    let seen = run(browser, Script::new().then("user")).await;
    assert_eq!(seen.results, [json!("alice")], "{what}");
}

/// Whatever changes the cookie.
fn changes() -> [Script; 4] {
    [
        Script::new().login("bob"),
        Script::new().call(json!(["login_keeping", "bob", ["n"]])),
        Script::new().then("elevate"),
        Script::new().then("renew"),
    ]
}

#[rocket::async_test]
async fn login_page_works_after_a_response_with_a_new_cookie_was_lost() {
    for change in changes() {
        let memory = InMemory::start(login_form).await;
        let browser = visitor(&memory.app).await;
        let lost = browser.send_undelivered(change.request()).await;
        assert!(sent_by(&lost).is_some(), "{change:?}: {lost:?}");
        memory.clock.advance(LOST);
        can_sign_in(&browser, &format!("{change:?}")).await;
    }
}

/// Lets time pass for what the server has dated.
async fn time_passes(probe: &Probe, by: Duration) {
    let all = probe.sessions().find(doc! {}).await.expect("a find");
    let all: Vec<Document> = all.try_collect().await.expect("documents");
    for document in all {
        for field in ["at", "renewed"] {
            let earlier: Bson = match document.get(field) {
                Some(Bson::Timestamp(at)) => Timestamp {
                    time: at.time - by.as_secs() as u32,
                    increment: at.increment,
                }
                .into(),
                Some(Bson::DateTime(at)) => {
                    DateTime::from_millis(at.timestamp_millis() - by.as_millis() as i64).into()
                }
                Some(Bson::Double(at)) => (at - by.as_secs_f64()).into(),
                _ => continue,
            };
            let id: &Bson = document.get("_id").expect("an id");
            let set = doc! { "$set": { field: earlier } };
            let aged = probe.sessions().update_one(doc! { "_id": id }, set).await;
            aged.expect("an update");
        }
    }
}

#[rocket::async_test]
async fn login_page_works_after_a_lost_response_on_mongodb() {
    let probe = Probe::start_with("login_lost", &[], login_form).await;
    for change in changes() {
        let browser = visitor(&probe.app).await;
        let lost = browser.send_undelivered(change.request()).await;
        assert!(sent_by(&lost).is_some(), "{change:?}: {lost:?}");
        time_passes(&probe, LOST).await;
        can_sign_in(&browser, &format!("{change:?}")).await;
    }
}

/// In whatever order the responses arrive, the browser is signed in and has its basket.
async fn both_are_welcome(browser: &Browser, responses: [&Response; 2]) {
    for response in responses {
        let said = (response.status, response.text());
        assert_eq!(said, (200, "welcome".to_owned()), "{response:?}");
        assert!(sent_by(response).is_some(), "{response:?}");
    }
    let [first, second] = responses;
    for order in [[first, second], [second, first]] {
        let browser = browser.twin();
        for response in order {
            browser.deliver(response, "/login");
            let seen = run(&browser, Script::new().then("user").get("basket")).await;
            assert_eq!(seen.results, [json!("alice"), json!(["tea"])]);
        }
    }
}

#[rocket::async_test]
async fn login_form_that_is_sent_twice_is_welcome_twice() {
    let memory = InMemory::start(login_form).await;
    let browser = memory.app.browser();
    run(&browser, Script::new().set("basket", json!(["tea"]))).await;
    let form = filled_in(&browser).await;
    let first = browser.send_undelivered(form.clone()).await;
    memory.clock.advance(Duration::from_secs(4));
    let second = browser.send_undelivered(form).await;
    both_are_welcome(&browser, [&first, &second]).await;
}

/// The second request arrives before the first login is stored, and is looked at afterwards.
#[rocket::async_test]
async fn login_form_that_is_sent_twice_at_once_is_welcome_twice() {
    let probe = Probe::start_with("login_twice", &[], login_form).await;
    let browser = probe.browser();
    run(&browser, Script::new().set("basket", json!(["tea"]))).await;
    let form = filled_in(&browser).await;
    let second = browser.send_undelivered(form.clone().header("X-Pause", "second"));
    let first = async {
        probe.gates.reached("second").await;
        let first = browser.send_undelivered(form).await;
        probe.gates.open("second");
        first
    };
    let (second, first) = rocket::tokio::join!(second, first);
    both_are_welcome(&browser, [&first, &second]).await;
}

/// A browser that sends the old cookie later can no longer use the login's form.
#[rocket::async_test]
async fn login_form_that_is_sent_again_late_is_refused() {
    let memory = InMemory::start(login_form).await;
    let browser = memory.app.browser();
    let form = filled_in(&browser).await;
    assert_eq!(browser.send_undelivered(form.clone()).await.status, 200);
    memory.clock.advance(LOST);
    assert_eq!(browser.send_undelivered(form).await.status, 403);
}
