//! Cookies that open no session: unknown, malformed, hostile, of another name.

use mongodb::bson::doc;
use rocket::serde::json::json;
use rstest::rstest;

use crate::apps::calls::{ask, go, probe, script, visitor};
use crate::apps::probe::{asked, id_of, run_with};

/// Of the right form, and never given to anybody.
fn unknown() -> String {
    format!("{}.{}", "A".repeat(22), "B".repeat(42) + "A")
}

#[rocket::async_test]
async fn an_unknown_cookie_is_a_new_visitor_and_stays_where_it_is() {
    let probe = probe(&[]).await;
    let calls = json!([["get", "k"], ["is_new"], ["len"]]);
    let read = run_with(&probe.app, &unknown(), script(calls)).await;
    assert_eq!(read.results, [json!(null), json!(true), json!(0)]);
    assert_eq!(read.sent(), None);
    assert!(probe.documents().await.is_empty());
}

#[rocket::async_test]
async fn an_id_from_a_client_is_never_adopted() {
    let probe = probe(&[]).await;
    let written = run_with(&probe.app, &unknown(), script(json!([["set", "k", "v"]]))).await;
    let cookie = written.cookie();
    assert_ne!(id_of(&cookie), id_of(&unknown()));
    let stored = probe.documents().await;
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].get_str("_id"), Ok(id_of(&cookie)));
}

#[rocket::async_test]
async fn a_cookie_that_cannot_be_one_of_ours_is_not_looked_up() {
    let probe = probe(&[]).await;
    let profile = probe.profile().await;
    for cookie in ["abc".to_owned(), "x".repeat(7 << 10), String::new()] {
        let calls = json!([["keys"], ["is_new"]]);
        let read = run_with(&probe.app, &cookie, script(calls)).await;
        assert_eq!(read.status, 200);
        assert_eq!(read.results, [json!([]), json!(true)]);
        assert_eq!(read.sent(), None);
    }
    assert!(asked(&profile).await.is_empty());
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case(r#"{"$gt":""}"#)]
#[case("[$ne]")]
#[case("%00")]
#[case("%0d%0aSet-Cookie: evil=1")]
#[case("\u{1f600}")]
#[case("\"")]
#[case("'")]
#[case::quoted("\"COOKIE\"")]
#[case("../../session")]
#[case("~all")]
#[case("$where:1")]
#[case("null")]
async fn hostile_cookies_are_new_visitors(#[case] hostile: &str) {
    let probe = probe(&[]).await;
    let (_, cookie) = visitor(&probe).await;
    let hostile = hostile.replace("COOKIE", &cookie);
    let profile = probe.profile().await;
    let read = run_with(&probe.app, &hostile, script(json!([["keys"], ["is_new"]]))).await;
    assert_eq!(read.status, 200);
    assert_eq!(read.results, [json!([]), json!(true)]);
    assert_eq!(read.set_cookies(), [""; 0]);
    assert!(asked(&profile).await.is_empty());
}

#[rocket::async_test]
async fn no_other_text_means_the_same_session() {
    let probe = probe(&[]).await;
    let (browser, cookie) = visitor(&probe).await;
    let (id, secret) = cookie.split_once('.').expect("two parts");
    let inserted = format!("{}!{}", &cookie[..5], &cookie[5..]);
    for other in [
        inserted,
        format!("ZZ{cookie}"),
        format!("{cookie}%24"),
        format!("{cookie}="),
        format!("{cookie}A"),
        format!("%20{cookie}"),
        format!("{cookie}\u{a0}"),
        format!("{}.{}", id.to_uppercase(), secret.to_uppercase()),
        format!("{id}%2E{secret}"),
        format!("{id}..{secret}"),
        format!("{secret}.{id}"),
        id.to_owned(),
    ] {
        let calls = json!([["get", "k"], ["is_new"]]);
        let read = run_with(&probe.app, &other, script(calls)).await;
        assert_eq!(read.results, [json!(null), json!(true)], "{other:?}");
    }
    assert_eq!(ask(&browser, json!(["get", "k"])).await, "v");
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case("other")]
#[case("Session")]
#[case("sessionx")]
#[case("xsession")]
#[case("session%")]
async fn a_cookie_of_another_name_is_not_ours(#[case] name: &str) {
    let probe = probe(&[]).await;
    let (_, cookie) = visitor(&probe).await;
    let request = script(json!([["is_new"]])).request();
    let request = request.header("Cookie", format!("{name}={cookie}"));
    let read: crate::apps::probe::Ran = probe.app.send(request).await.into();
    assert_eq!(read.results, [json!(true)]);
}

#[rocket::async_test]
async fn a_session_that_was_deleted_behind_our_back_is_gone() {
    let probe = probe(&[]).await;
    let (browser, cookie) = visitor(&probe).await;
    let sessions = probe.sessions();
    let deleted = sessions.delete_one(doc! { "_id": id_of(&cookie) });
    assert_eq!(deleted.await.unwrap().deleted_count, 1);
    let read = go(&browser, json!([["get", "k"], ["is_new"]])).await;
    assert_eq!(read.results, [json!(null), json!(true)]);
}

#[rocket::async_test]
async fn a_foreign_document_under_the_id_is_not_a_session_and_stays_as_it_is() {
    let probe = probe(&[]).await;
    let foreign = doc! { "_id": id_of(&unknown()), "kind": "of another application" };
    probe.sessions().insert_one(&foreign).await.unwrap();
    let calls = json!([["keys"], ["is_new"], ["set", "k", 1]]);
    let read = run_with(&probe.app, &unknown(), script(calls)).await;
    assert_eq!(read.results[..2], [json!([]), json!(true)]);
    assert_ne!(id_of(&read.cookie()), id_of(&unknown()));
    assert_eq!(probe.document(&unknown()).await, Some(foreign));
    let out = run_with(&probe.app, &unknown(), script(json!([["logout"]]))).await;
    assert_eq!(out.status, 200);
    assert!(probe.document(&unknown()).await.is_some());
}
