//! The CSRF token of a session. Forms and headers are in `legacy/csrf.rs` and `security/csrf.rs`.

use std::collections::HashSet;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Bson, bson, doc};
use rocket::form::Form;
use rocket::serde::json::{Json, json};
use rocket::{FromForm, post, routes};
use rocket_mongo_session::{CsrfForm, Session};

use crate::apps::calls::{ask, go, keys, probe, visitor};
use crate::apps::opened::opened;
use crate::apps::probe::{Probe, id_of};
use crate::support::{Browser, Request};

#[derive(FromForm)]
struct Order {
    #[field(default = 1)]
    count: u32,
}

#[post("/order", data = "<order>")]
fn order(order: CsrfForm<Order>, session: &Session) -> Result<(), rocket_mongo_session::Error> {
    session.set("count", &order.count)
}

#[derive(FromForm)]
struct Own<'r> {
    anti_forgery: &'r str,
}

/// An application's own field name, and a check that refuses nothing.
#[post("/own", data = "<form>")]
fn own(form: Form<Own<'_>>, session: &Session) -> Json<bool> {
    Json(session.verify_csrf(form.anti_forgery))
}

async fn with_forms(case: &str, more: &[(&str, rocket::figment::value::Value)]) -> Probe {
    let add = |rocket: rocket::Rocket<rocket::Build>| rocket.mount("/", routes![order, own]);
    Probe::start_with(&format!("case_{case}"), &keys(more), add).await
}

async fn token(browser: &Browser) -> String {
    let token = ask(browser, json!(["csrf_token"])).await;
    token.as_str().expect("a token").to_owned()
}

#[rocket::async_test]
async fn a_new_token_replaces_the_one_before() {
    let probe = probe(&[]).await;
    let browser = probe.browser();
    let first = token(&browser).await;
    let second = ask(&browser, json!(["new_csrf_token"])).await;
    assert_ne!(second, json!(first));
    let third = token(&browser).await;
    for (token, valid) in [(json!(first), false), (second, true), (json!(third), true)] {
        assert_eq!(ask(&browser, json!(["verify_csrf", token])).await, valid);
    }
}

#[rocket::async_test]
async fn the_secret_is_drawn_with_the_document_and_never_shown() {
    let probe = probe(&[]).await;
    let (browser, cookie) = visitor(&probe).await;
    let stored = probe.document(&cookie).await.expect("a session");
    let plain = opened(stored.clone(), &cookie);
    let Some(Bson::Binary(secret)) = plain.get("csrf") else {
        panic!("a secret in {plain}");
    };
    assert_eq!(
        (secret.subtype, secret.bytes.len()),
        (BinarySubtype::Generic, 32)
    );
    let profile = probe.profile().await;
    let shown = token(&browser).await;
    assert_eq!(
        crate::apps::probe::asked(&profile).await,
        ["find"],
        "it was there"
    );
    assert_eq!(probe.document(&cookie).await, Some(stored));
    assert_eq!(ask(&browser, json!(["verify_csrf", shown])).await, true);
    assert_eq!(ask(&browser, json!(["keys"])).await, json!(["k"]));
}

#[rocket::async_test]
async fn a_malformed_stored_token_is_never_accepted() {
    let probe = probe(&[("legacy_ids", true.into())]).await;
    let wrong = [bson!(""), bson!(null), bson!(5), bson!(false), bson!(["t"])];
    for (n, wrong) in wrong.into_iter().enumerate() {
        // One of ours with such a secret is malformed: no session.
        let (browser, cookie) = visitor(&probe).await;
        let by_id = doc! { "_id": id_of(&cookie) };
        let update = doc! { "$set": { "csrf": wrong.clone() } };
        probe.sessions().update_one(by_id, update).await.unwrap();
        let read = go(&browser, json!([["is_new"], ["verify_csrf", ""]])).await;
        assert_eq!(read.results, [json!(true), json!(false)], "{wrong}");

        // A document of the Python package is read, with a secret of its own.
        let now = probe.clock.time().unix_timestamp();
        let id = format!("{n:032x}");
        let document = doc! {
            "accessed": now as i32, "created": now as f64, "pickled": false, "_id": &id,
            "value": { "k": "v", "_csrft_": wrong.clone() },
        };
        probe.sessions().insert_one(document).await.unwrap();
        let browser = probe.browser();
        browser.set_cookie(&format!("session={id}"));
        let calls = json!([["verify_csrf", ""], ["verify_csrf", "5"], ["get", "k"]]);
        let read = go(&browser, calls).await;
        assert_eq!(read.results, [json!(false), json!(false), json!("v")]);
        let fresh = token(&browser).await;
        assert_eq!(ask(&browser, json!(["verify_csrf", fresh])).await, true);
        assert_eq!(ask(&browser, json!(["get", "k"])).await, "v");
    }
}

#[rocket::async_test]
async fn tokens_are_long_random_and_of_one_length() {
    // 177: 64 bytes, of which 32 are the secret's.
    let probe = probe(&[]).await;
    let mut tokens = HashSet::new();
    for _ in 0..50 {
        let browser = probe.browser();
        for _ in 0..2 {
            let token = token(&browser).await;
            assert_eq!(token.len(), 86);
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            assert!(token.chars().all(allowed), "{token}");
            assert!(tokens.insert(token), "a token was seen before");
        }
    }
}

#[rocket::async_test]
async fn a_form_with_the_token_passes() {
    let probe = with_forms("179", &[]).await;
    let browser = probe.browser();
    let token = token(&browser).await;
    let form = format!("count=3&csrf_token={token}");
    let passed = browser.send(Request::post("/order").form(&form)).await;
    assert_eq!(passed.status, 200);
    assert_eq!(ask(&browser, json!(["get", "count"])).await, 3);

    // 183: the query string is seen by logs, proxies and other sites.
    let path = format!("/order?csrf_token={token}");
    let refused = browser.send(Request::post(&path).form("count=4")).await;
    assert_eq!(refused.status, 403);
    assert_eq!(ask(&browser, json!(["get", "count"])).await, 3);
    let before = probe.documents().await.len();
    for form in ["count=1".to_owned(), form] {
        let stranger = probe.browser();
        let refused = stranger.send(Request::post("/order").form(&form)).await;
        assert_eq!((refused.status, refused.set_cookies()), (403, vec![]));
    }
    assert_eq!(probe.documents().await.len(), before);
}

#[rocket::async_test]
async fn a_form_can_have_names_of_its_own() {
    let probe = with_forms("180", &[]).await;
    let browser = probe.browser();
    let token = token(&browser).await;
    for (form, valid) in [
        (format!("anti_forgery={token}"), "true"),
        ("anti_forgery=x".into(), "false"),
    ] {
        let response = browser.send(Request::post("/own").form(&form)).await;
        assert_eq!((response.status, response.text().as_str()), (200, valid));
    }
}

#[rocket::async_test]
async fn a_token_is_one_sessions_alone() {
    let probe = with_forms("191", &[]).await;
    let (a, b) = (probe.browser(), probe.browser());
    let (of_a, of_b) = (token(&a).await, token(&b).await);
    let send = async |browser: &Browser, token: &str| {
        let form = format!("csrf_token={token}");
        browser
            .send(Request::post("/order").form(&form))
            .await
            .status
    };
    assert_eq!((send(&a, &of_a).await, send(&b, &of_b).await), (200, 200));
    assert_eq!((send(&a, &of_b).await, send(&b, &of_a).await), (403, 403));
}
