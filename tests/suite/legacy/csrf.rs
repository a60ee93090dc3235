//! CSRF tokens: which are valid when, and the guards that check them.

use std::collections::HashSet;

use rocket::form::{Contextual, Strict};
use rocket::serde::json::{Value, json};
use rocket::{Build, FromForm, Rocket, post, routes};
use rocket_mongo_session::{CsrfError, CsrfForm, CsrfHeader, CsrfRefusal, Error, Session};
use rstest::rstest;

use super::{fixture, start};
use crate::apps::calls::{ask, go, keys};
use crate::apps::database;
use crate::apps::probe::{Probe, caught};
use crate::support::{Browser, Request, Response};

#[derive(FromForm)]
struct Order {
    count: u32,
    note: Option<String>,
}

fn keep(session: &Session, order: &Order) -> Result<(), Error> {
    session.set("note", &order.note)?;
    session.set("count", &order.count)
}

#[post("/form", data = "<form>")]
fn form(form: CsrfForm<Order>, session: &Session) -> Result<(), Error> {
    keep(session, &form)
}

#[post("/strict", data = "<form>")]
fn strict(form: CsrfForm<Strict<Order>>, session: &Session) -> Result<(), Error> {
    keep(session, &form)
}

/// Answers the form's own errors itself.
#[post("/contextual", data = "<form>")]
fn contextual(form: CsrfForm<Contextual<'_, Order>>, session: &Session) -> Result<String, Error> {
    match &form.value {
        Some(order) => keep(session, order).map(|()| "kept".to_owned()),
        None => Ok(form.context.errors().count().to_string()),
    }
}

#[post("/header", data = "<count>")]
fn header(_checked: CsrfHeader, session: &Session, count: &str) -> Result<(), Error> {
    session.set("count", count)
}

#[post("/reason", data = "<form>")]
fn reason(form: Result<CsrfForm<Order>, CsrfError<'_>>) -> String {
    match form {
        Ok(form) => format!("count {}", form.count),
        Err(CsrfError::Token(refused)) => match refused.refusal() {
            CsrfRefusal::Missing => "missing".into(),
            CsrfRefusal::Ambiguous => "ambiguous".into(),
            CsrfRefusal::NoSession => "no session".into(),
            CsrfRefusal::Mismatch => "mismatch".into(),
            other => format!("{other:?}"),
        },
        Err(CsrfError::Form(errors)) => format!("form: {}", errors.len()),
        Err(other) => format!("{other:?}"),
    }
}

#[post("/header-reason")]
fn header_reason(checked: Result<CsrfHeader, CsrfError<'_>>) -> String {
    match checked {
        Ok(_) => "passed".into(),
        Err(error) => format!("{} {error}", error.status().code),
    }
}

fn forms(rocket: Rocket<Build>) -> Rocket<Build> {
    let all = routes![form, strict, contextual, header, reason, header_reason];
    rocket.mount("/", all).register("/", caught())
}

async fn probe(name: &str) -> Probe {
    Probe::start_with(&format!("csrf_{name}"), &keys(&[]), forms).await
}

async fn token(browser: &Browser) -> String {
    let token = ask(browser, json!(["csrf_token"])).await;
    token.as_str().expect("a token").to_owned()
}

async fn urlencoded(browser: &Browser, path: &str, body: &str) -> Response {
    browser.send(Request::post(path).form(body)).await
}

async fn multipart(browser: &Browser, path: &str, fields: &[(&str, &str)]) -> Response {
    let part = |(name, value): &(&str, &str)| {
        format!("--xx\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let body: String = fields.iter().map(part).collect();
    let request = Request::post(path).header("Content-Type", "multipart/form-data; boundary=xx");
    browser.send(request.body(body + "--xx--\r\n")).await
}

/// A refusal is the application's own 403, and nothing was kept.
async fn is_refused(browser: &Browser, response: Response, what: &str) {
    let spoke = response.header("X-Caught");
    assert_eq!(
        (response.status, spoke),
        (403, Some("yes")),
        "{what}: {response:?}"
    );
    assert_eq!(response.set_cookies(), [""; 0], "{what}");
    assert_eq!(
        ask(browser, json!(["get", "count"])).await,
        json!(null),
        "{what}"
    );
}

#[rocket::async_test]
async fn csrf_token_differs_at_each_call_and_stays_valid() {
    let probe = probe("masked").await;
    let browser = probe.browser();
    let mut tokens = HashSet::new();
    let calls = json!([["csrf_token"], ["csrf_token"], ["csrf_token"]]);
    for _ in 0..3 {
        let shown = go(&browser, calls.clone()).await;
        tokens.extend(shown.results.iter().map(ToString::to_string));
    }
    assert_eq!(tokens.len(), 9);
    for token in &tokens {
        let token: String = rocket::serde::json::from_str(token).unwrap();
        let body = format!("count=1&csrf_token={token}");
        assert_eq!(urlencoded(&browser, "/form", &body).await.status, 200);
    }
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case(json!(["login", "bob"]), false)]
#[case(json!(["login_keeping", "bob", ["k"]]), false)]
#[case(json!(["elevate"]), false)]
#[case(json!(["new_csrf_token"]), false)]
#[case(json!(["logout"]), false)]
#[case(json!(["renew"]), true)]
#[case(json!(["set", "k", 2]), true)]
#[case(json!(["clear"]), true)]
async fn login_and_elevate_replace_the_csrf_secret_and_renew_keeps_it(
    #[case] call: Value,
    #[case] kept: bool,
) {
    let probe = probe(&database()).await;
    let browser = probe.browser();
    let before = token(&browser).await;
    go(&browser, json!([["set", "k", 1]])).await;
    let valid = go(&browser, json!([call, ["verify_csrf", before]])).await;
    assert_eq!(valid.last(), &json!(kept), "in this request");
    let valid = ask(&browser, json!(["verify_csrf", before])).await;
    assert_eq!(valid, json!(kept), "in the next");
    let body = format!("count=1&csrf_token={before}");
    let status = urlencoded(&browser, "/form", &body).await.status;
    assert_eq!(status, if kept { 200 } else { 403 });
    let after = token(&browser).await;
    assert_eq!(ask(&browser, json!(["verify_csrf", after])).await, true);
}

#[rocket::async_test]
async fn verify_csrf_refuses_forged_tokens() {
    let probe = probe("forged").await;
    let browser = probe.browser();
    let token = token(&browser).await;
    let mut other = token.clone().into_bytes();
    other[3] = if other[3] == b'A' { b'B' } else { b'A' };
    let forged = [
        String::new(),
        "x".to_owned(),
        "A".repeat(86),
        "\u{e9}".repeat(43),
        "0".repeat(32),
        token.to_lowercase(),
        token[..85].to_owned(),
        format!("{token}="),
        format!("{token}A"),
        format!(" {token}"),
        String::from_utf8(other).unwrap(),
    ];
    for forged in forged {
        let valid = ask(&browser, json!(["verify_csrf", forged])).await;
        assert_eq!(valid, false, "{forged}");
    }
    assert_eq!(ask(&browser, json!(["verify_csrf", token])).await, true);
}

#[rocket::async_test]
async fn csrf_form_reads_the_token_from_a_field_of_any_form() {
    let probe = probe("forms").await;
    for path in ["/form", "/strict", "/contextual"] {
        for kind in ["urlencoded", "multipart"] {
            let what = format!("{path}, {kind}");
            let browser = probe.browser();
            let token = token(&browser).await;
            let send = async |token: &str| match kind {
                "multipart" => {
                    let fields = [("count", "3"), ("csrf_token", token), ("note", "n")];
                    multipart(&browser, path, &fields).await
                }
                _ => {
                    urlencoded(
                        &browser,
                        path,
                        &format!("count=3&csrf_token={token}&note=n"),
                    )
                    .await
                }
            };
            is_refused(&browser, send("x").await, &what).await;
            assert_eq!(send(&token).await.status, 200, "{what}");
            let read = go(&browser, json!([["get", "count"], ["get", "note"]])).await;
            assert_eq!(read.results, [json!(3), json!("n")], "{what}");
        }
    }
}

#[rocket::async_test]
async fn csrf_form_checks_the_token_before_the_form() {
    let probe = probe("order").await;
    let browser = probe.browser();
    let token = token(&browser).await;
    for path in ["/form", "/strict", "/contextual"] {
        for bad in [
            "count=many",
            "",
            "count=1&csrf_token=x&more=2",
            "csrf_token=x",
        ] {
            let refused = urlencoded(&browser, path, bad).await;
            is_refused(&browser, refused, &format!("{path} {bad}")).await;
        }
    }
    let bad = format!("count=many&csrf_token={token}");
    assert_eq!(urlencoded(&browser, "/form", &bad).await.status, 422);
    assert_eq!(urlencoded(&browser, "/contextual", &bad).await.text(), "1");
    let more = format!("count=1&more=2&csrf_token={token}");
    assert_eq!(urlencoded(&browser, "/form", &more).await.status, 200);
    assert_eq!(urlencoded(&browser, "/strict", &more).await.status, 422);
}

#[rocket::async_test]
async fn csrf_form_forwards_an_unreadable_form_as_rocket_does() {
    let probe = probe("unread").await;
    let browser = probe.browser();
    let token = token(&browser).await;
    let json = Request::post("/form").json(r#"{"count":1}"#);
    assert_eq!(browser.send(json).await.status, 415);
    let long = format!("count=1&csrf_token={token}&note={}", "x".repeat(40 << 10));
    assert_eq!(urlencoded(&browser, "/form", &long).await.status, 413);
}

#[rocket::async_test]
async fn csrf_header_reads_the_token_from_a_header() {
    let probe = probe("header").await;
    let browser = probe.browser();
    let token = token(&browser).await;
    for wrong in [None, Some(""), Some("x")] {
        let mut request = Request::post("/header").body("7");
        if let Some(wrong) = wrong {
            request = request.header("X-CSRF-Token", wrong);
        }
        let refused = browser.send(request).await;
        is_refused(&browser, refused, &format!("{wrong:?}")).await;
    }
    // In the field, which this guard does not read.
    let refused = urlencoded(&browser, "/header", &format!("csrf_token={token}")).await;
    is_refused(&browser, refused, "a field").await;
    let request = Request::post("/header").header("x-csrf-token", &token);
    assert_eq!(browser.send(request.body("7")).await.status, 200);
    assert_eq!(ask(&browser, json!(["get", "count"])).await, "7");
    let request = Request::post("/form").header("X-CSRF-Token", &token);
    assert_eq!(browser.send(request.form("count=8")).await.status, 200);
    assert_eq!(ask(&browser, json!(["get", "count"])).await, 8);
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case("/form")]
#[case("/strict")]
#[case("/contextual")]
#[case("/header")]
async fn csrf_guards_ignore_a_token_in_the_query_string(#[case] path: &str) {
    let probe = probe(&database()).await;
    let browser = probe.browser();
    let token = token(&browser).await;
    let path = format!("{path}?csrf_token={token}&X-CSRF-Token={token}");
    let refused = urlencoded(&browser, &path, "count=1").await;
    is_refused(&browser, refused, &path).await;
}

#[rocket::async_test]
async fn csrf_refusal_tells_the_handler_its_reason() {
    let probe = probe("reason").await;
    let browser = probe.browser();
    let stranger = probe.browser();
    let (token, other) = (token(&browser).await, token(&probe.browser()).await);
    let good = format!("count=1&csrf_token={token}");
    for (browser, body, expected) in [
        (&browser, good.clone(), "count 1"),
        (&browser, "count=1".into(), "missing"),
        (&browser, "count=many".into(), "missing"),
        (&browser, "count=1&csrf_token=x".into(), "mismatch"),
        (&browser, format!("count=1&csrf_token={other}"), "mismatch"),
        (&browser, format!("{good}&csrf_token=x"), "ambiguous"),
        (&browser, format!("{good}&csrf_token={token}"), "ambiguous"),
        (
            &browser,
            format!("count=many&csrf_token={token}"),
            "form: 1",
        ),
        (&stranger, good, "no session"),
    ] {
        let response = urlencoded(browser, "/reason", &body).await;
        assert_eq!(
            (response.status, response.text().as_str()),
            (200, expected),
            "{body}"
        );
    }
    // Field and header that do not agree.
    let both = Request::post("/reason").header("X-CSRF-Token", "x");
    let both = browser
        .send(both.form(&format!("count=1&csrf_token={token}")))
        .await;
    assert_eq!(both.text(), "ambiguous");
    // Two headers are refused even if both are right.
    let twice = Request::post("/header-reason")
        .header("X-CSRF-Token", &token)
        .header("X-CSRF-Token", &token);
    let told = browser.send(twice).await.text();
    assert!(told.contains("more than one CSRF token"), "{told}");
    let told = browser.send(Request::post("/header-reason")).await.text();
    assert!(
        told.starts_with("403 ") && told.contains("X-CSRF-Token"),
        "{told}"
    );
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case("/form")]
#[case("/strict")]
#[case("/contextual")]
#[case("/reason")]
#[case("/header")]
async fn failed_csrf_check_creates_no_session(#[case] path: &str) {
    let probe = probe(&database()).await;
    let stranger = probe.browser();
    for body in ["count=1", "count=1&csrf_token=x"] {
        let refused = urlencoded(&stranger, path, body).await;
        assert_eq!(refused.set_cookies(), [""; 0], "{body}");
    }
    assert!(probe.documents().await.is_empty());
}

#[rocket::async_test]
async fn csrf_token_of_a_python_form_stays_valid_until_login() {
    let keys = keys(&[("legacy_ids", true.into())]);
    let probe = Probe::start_with("csrf_python", &keys, forms).await;
    let fixture = fixture("csrf", &probe);
    let browser = fixture.visitor(&probe).await;
    let old = &fixture.csrf;
    assert_eq!(old.len(), 32);
    // Ours is another text for the same session.
    let calls = json!([["verify_csrf", old], ["csrf_token"]]);
    let shown = go(&browser, calls).await;
    assert_eq!((&shown.results[0], shown.sent()), (&json!(true), None));
    let ours = shown.last().as_str().unwrap().to_owned();
    for (round, token) in [old, &ours, old].into_iter().enumerate() {
        // The first of them upgrades the session.
        let body = format!("count={round}&csrf_token={token}");
        assert_eq!(
            urlencoded(&browser, "/form", &body).await.status,
            200,
            "{round}"
        );
        assert_eq!(ask(&browser, json!(["get", "count"])).await, json!(round));
    }
    let mut stored = probe.document(&fixture.cookie).await.expect("a session");
    assert!(stored.contains_key("csrf"));
    // The Python package has its token under this key.
    let values = stored.get_document_mut("value").unwrap();
    assert_eq!(values.remove("_csrft_"), Some(old.as_str().into()));
    assert!(
        !stored.to_string().contains(old.as_str()),
        "the stored secret does not tell it"
    );
    let renewed = go(&browser, json!([["renew"], ["verify_csrf", old]])).await;
    assert_eq!(renewed.last(), &json!(true));
    go(&browser, json!([["login", "bob"]])).await;
    let body = format!("count=9&csrf_token={old}");
    assert_eq!(urlencoded(&browser, "/form", &body).await.status, 403);
    // It is not valid in another session.
    let (_, other) = start("csrf_other", &[]).await;
    let browser = other.browser();
    token(&browser).await;
    assert_eq!(ask(&browser, json!(["verify_csrf", old])).await, false);
}
