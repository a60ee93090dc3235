//! No secret is in any span or event, at any level.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mongodb::bson::Document;
use rocket::form::FromForm;
use rocket::{get, post, routes};
use rocket_mongo_session::{CsrfForm, Error, Session, Sessions};

use crate::secret_forms::{forms, unmasked};
use crate::subscriber::Recorder;
use crate::support::{App, Browser, FailPoint, Failure, Mode, Mongod, Request};
use crate::{block_on, rocket};

const USER: &str = "alice-the-user";
const VALUE: &str = "a-planted-value";

#[get("/write")]
fn write(session: &Session) -> Result<String, Error> {
    session.set("planted-key", VALUE)?;
    session.flash(VALUE)?;
    Ok(session.csrf_token())
}

#[get("/login")]
async fn login(session: &Session) -> Result<String, Error> {
    session.login_keeping(USER, &["planted-key"])?;
    session.save().await?;
    Ok(session.csrf_token())
}

#[get("/work")]
async fn work(session: &Session) -> Result<String, Error> {
    session
        .modify("planted-key", |value: Option<String>| {
            value.unwrap_or_default() + VALUE
        })
        .await?;
    session.pop_flash::<String>().await?;
    session.push("list", VALUE)?;
    session.renew()?;
    Ok(session.csrf_token())
}

#[derive(Debug, FromForm)]
struct Order<'r> {
    planted: &'r str,
}

#[post("/form", data = "<form>")]
fn form(form: CsrfForm<Order<'_>>, session: &Session) -> Result<(), Error> {
    session.set("planted-key", form.planted)
}

#[get("/list")]
async fn list(sessions: &Sessions) -> Result<String, Error> {
    let found = sessions.of(USER).list(0, 10).await?;
    Ok(format!("{}", found.len()))
}

#[get("/logout")]
fn logout(session: &Session) -> Result<(), Error> {
    session.logout()
}

/// The secrets of a browser's session, and of its document.
async fn secrets_of(browser: &Browser, mongod: &Mongod) -> Vec<Vec<u8>> {
    let cookie = browser.cookie("session").expect("a cookie");
    let (id, secret) = cookie.split_once('.').expect("two halves");
    let sessions = mongod.client().await.database("secrets");
    let sessions = sessions.collection::<Document>("session");
    let document = sessions.find_one(mongodb::bson::doc! { "_id": id }).await;
    let document = document.expect("a find").expect("a document");
    let mut secrets = vec![URL_SAFE_NO_PAD.decode(secret).expect("base64url")];
    for field in ["token", "csrf"] {
        if let Ok(bytes) = document.get_binary_generic(field) {
            secrets.push(bytes.clone());
        }
    }
    secrets
}

#[test]
fn no_span_and_no_event_has_a_secret_at_any_level() {
    let recorder = Recorder::default();
    let mut secrets: Vec<Vec<u8>> = vec![USER.into(), VALUE.into()];
    tracing::subscriber::with_default(recorder.subscriber(), || {
        block_on(async {
            let mongod = Mongod::start().await;
            let rocket = rocket(Some(&mongod.url("secrets"))).attach(Sessions::fairing());
            let app = rocket.mount("/", routes![write, login, work, form, list, logout]);
            let app = App::launch(app).await;
            let browser = app.browser();
            let mut token = String::new();
            for path in ["/write", "/login", "/work", "/write", "/work", "/list"] {
                let response = browser.get(path).await;
                assert_eq!(response.status, 200, "{path}");
                secrets.extend(secrets_of(&browser, &mongod).await);
                if path != "/list" {
                    token = response.text();
                    secrets.push(token.clone().into());
                    secrets.push(unmasked(&token));
                }
            }
            let body = format!("planted={VALUE}&csrf_token={token}");
            let response = browser.send(Request::post("/form").form(&body)).await;
            assert_eq!(response.status, 200);
            let forged = body.replace("csrf_token=", "csrf_token=A");
            let response = browser.send(Request::post("/form").form(&forged)).await;
            assert_eq!(response.status, 403);
            // A wrong secret, and a database that fails.
            let cookie = browser.cookie("session").expect("a cookie");
            let (id, secret) = cookie.split_once('.').expect("two halves");
            let wrong: String = secret.chars().rev().collect();
            secrets.push(wrong.clone().into());
            let request = Request::get("/write").header("Cookie", format!("session={id}.{wrong}"));
            app.send(request).await;
            let client = mongod.client().await;
            for command in ["find", "update"] {
                let failure = Failure::code(121);
                let point = FailPoint::on(&client, &[command], Mode::Times(1), failure).await;
                assert_eq!(browser.get("/write").await.status, 503, "{command}");
                point.clear().await;
            }
            assert_eq!(browser.get("/logout").await.status, 200);
            app.shutdown().await.expect("a clean end");
        });
    });
    assert!(secrets.len() > 20, "{}", secrets.len());
    let text = recorder.text();
    for name in ["session.load", "session.commit"] {
        assert!(text.contains(name), "{text}");
    }
    assert!(text.contains("error"), "the failures are in it: {text}");
    assert_eq!(found(&secrets, &text), None);

    // So does the search find anything at all?
    for secret in &secrets {
        let control = Recorder::default();
        tracing::subscriber::with_default(control.subscriber(), || {
            tracing::trace!(secret = URL_SAFE_NO_PAD.encode(secret), "for a test");
        });
        assert!(found(&secrets, &control.text()).is_some());
    }
}

/// Returns the first line that has a secret in any form.
fn found<'a>(secrets: &[Vec<u8>], text: &'a str) -> Option<&'a str> {
    let forms: Vec<String> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    text.lines()
        .find(|line| forms.iter().any(|form| line.contains(form)))
}
