//! The map of values; each change is read again in the next request.

use mongodb::bson::doc;
use rocket::serde::json::{Value, json};
use rstest::rstest;

use crate::apps::calls::{ask, go, probe, value, visitor};
use crate::apps::probe::asked;

#[rstest]
#[test_attr(rocket::async_test)]
#[case("missing")]
#[case("")]
#[case("K")]
#[case("k.x")]
#[case("$k")]
#[case("a\0b")]
async fn a_missing_key_is_none(#[case] key: &str) {
    let probe = probe(&[]).await;
    let (browser, _) = visitor(&probe).await;
    let calls = json!([
        ["get", key],
        ["contains", key],
        ["take", key],
        ["remove", key]
    ]);
    let read = go(&browser, calls).await;
    let none = [json!(null), json!(false), json!(null), json!(false)];
    assert_eq!(read.results, none);
}

#[rocket::async_test]
async fn a_key_takes_any_value_after_any_other() {
    let probe = probe(&[]).await;
    let browser = probe.browser();
    for value in [
        json!("text"),
        json!(7),
        json!(1.5),
        json!(true),
        json!(null),
        json!([1, "two"]),
        json!({ "a": { "b": [] } }),
        json!([]),
        json!("again"),
    ] {
        let written = go(&browser, json!([["set", "k", value], ["get", "k"]])).await;
        assert_eq!(written.last(), &value, "in this request");
        assert_eq!(
            ask(&browser, json!(["get", "k"])).await,
            value,
            "in the next"
        );
    }
}

#[rocket::async_test]
async fn keys_agree_with_each_other_and_keep_their_order() {
    let probe = probe(&[]).await;
    let browser = probe.browser();
    let calls = json!([
        ["set", "z", 1],
        ["set", "a", 2],
        ["set", "m", 3],
        ["keys"],
        ["len"]
    ]);
    let written = go(&browser, calls).await;
    let order = json!(["z", "a", "m"]);
    assert_eq!(written.results[3..], [order.clone(), json!(3)]);
    assert_eq!(ask(&browser, json!(["keys"])).await, order);
    go(&browser, json!([["set", "b", 4]])).await;
    go(
        &browser,
        json!([["set", "a", 5], ["flash", "m"], ["csrf_token"]]),
    )
    .await;
    let read = go(&browser, json!([["keys"], ["len"], ["is_empty"]])).await;
    let order = json!(["z", "a", "m", "b"]);
    assert_eq!(read.results, [order, json!(4), json!(false)]);
    for key in ["z", "a", "m", "b"] {
        assert_eq!(ask(&browser, json!(["contains", key])).await, true);
    }
}

#[rocket::async_test]
async fn a_removed_key_is_gone() {
    let probe = probe(&[]).await;
    let browser = probe.browser();
    let cookie = go(
        &browser,
        json!([["set", "a", 1], ["set", "b", 2], ["set", "c", 3]]),
    )
    .await
    .cookie();
    let calls = json!([
        ["remove", "a"],
        ["contains", "a"],
        ["take", "b"],
        ["get", "b"],
        ["keys"]
    ]);
    let removed = go(&browser, calls).await;
    let expected = [
        json!(true),
        json!(false),
        json!(2),
        json!(null),
        json!(["c"]),
    ];
    assert_eq!(removed.results, expected);
    assert_eq!(value(&probe, &cookie).await, Some(doc! { "c": 3_i64 }));
}

#[rocket::async_test]
async fn the_last_pair_can_be_popped() {
    // 139: `keys` and `take`; there is no `popitem`.
    let probe = probe(&[]).await;
    let browser = probe.browser();
    let cookie = go(&browser, json!([["set", "a", 1], ["set", "b", 2]]))
        .await
        .cookie();
    for (last, expected) in [("b", 2), ("a", 1)] {
        let keys = ask(&browser, json!(["keys"])).await;
        assert_eq!(keys.as_array().unwrap().last(), Some(&json!(last)));
        assert_eq!(ask(&browser, json!(["take", last])).await, expected);
    }
    assert_eq!(ask(&browser, json!(["keys"])).await, json!([]));
    assert_eq!(value(&probe, &cookie).await, Some(doc! {}));
}

#[rocket::async_test]
async fn get_or_insert_stores_only_what_is_missing() {
    let probe = probe(&[]).await;
    let (browser, _) = visitor(&probe).await;
    let stored = ask(&browser, json!(["get_or_insert", "n", 1])).await;
    assert_eq!(stored, 1);
    let profile = probe.profile().await;
    let there = ask(&browser, json!(["get_or_insert", "n", 2])).await;
    assert_eq!(there, 1);
    assert_eq!(asked(&profile).await, ["find"], "no write");
    assert_eq!(ask(&browser, json!(["get", "n"])).await, 1);
}

#[rocket::async_test]
async fn several_values_merge_into_what_is_there() {
    let probe = probe(&[]).await;
    let browser = probe.browser();
    let cookie = go(&browser, json!([["set", "a", 1]])).await.cookie();
    go(&browser, json!([["set", "a", 2], ["set", "b", 3]])).await;
    let stored = value(&probe, &cookie).await;
    assert_eq!(stored, Some(doc! { "a": 2_i64, "b": 3_i64 }));
}

#[rocket::async_test]
async fn an_emptied_session_is_kept() {
    let probe = probe(&[]).await;
    for call in [
        json!(["clear"]),
        json!(["remove", "k"]),
        json!(["take", "k"]),
    ] {
        let (browser, cookie) = visitor(&probe).await;
        let emptied = go(&browser, json!([call, ["len"]])).await;
        assert_eq!((emptied.last(), emptied.sent()), (&json!(0), None));
        assert_eq!(value(&probe, &cookie).await, Some(doc! {}));
        let read = go(&browser, json!([["is_new"], ["id"]])).await;
        let id = Value::from(crate::apps::probe::id_of(&cookie));
        assert_eq!(read.results, [json!(false), id]);
    }
}

#[rocket::async_test]
async fn an_equal_value_changes_nothing() {
    let probe = probe(&[]).await;
    let browser = probe.browser();
    let values = json!({ "a": [1, { "b": null }], "c": 1.5 });
    go(&browser, json!([["set", "k", values]])).await;
    let profile = probe.profile().await;
    go(&browser, json!([["set", "k", values]])).await;
    let back = json!([["set", "k", 1], ["remove", "k"], ["set", "k", values]]);
    go(&browser, back).await;
    assert_eq!(asked(&profile).await, ["find", "find"]);
}
