//! What the stored document says, or no longer says.

use mongodb::bson::{DateTime, Document, doc};
use rocket::serde::json::{Value, json};
use rstest::rstest;
use std::time::Duration;

use crate::apps::database;
use crate::apps::opened::opened;
use crate::apps::probe::{Probe, Script, id_of, run};

#[rocket::async_test]
async fn a_session_that_was_deleted_behind_the_back_is_gone() {
    let probe = Probe::start("life_deleted", &[]).await;
    let browser = probe.browser();
    let old = run(&browser, Script::new().set("n", 1)).await.cookie();
    probe
        .sessions()
        .delete_many(doc! {})
        .await
        .expect("no more");

    let read = run(&browser, Script::new().get("n").then("is_new").then("id")).await;
    assert_eq!(read.results, [json!(null), json!(true), json!(null)]);
    assert_eq!(
        read.sent(),
        None,
        "a cookie that names nothing is left alone"
    );
    let written = run(&browser, Script::new().set("n", 2)).await;
    let new = written.cookie();
    assert_ne!(
        id_of(&new),
        id_of(&old),
        "an id from a client is never adopted"
    );
    assert_eq!(
        run(&browser, Script::new().get("n")).await.results,
        [json!(2)]
    );
    assert_eq!(probe.documents().await.len(), 1);
}

#[rocket::async_test]
async fn a_session_that_ends_while_a_request_writes_stays_ended() {
    let probe = Probe::start("life_ended", &[]).await;
    let browser = probe.browser();
    let cookie = run(&browser, Script::new().set("n", 1)).await.cookie();
    let slow = Script::new()
        .get("n")
        .pause("slow")
        .set("n", 2)
        .then("touch");
    let deletes = async {
        probe.gates.reached("slow").await;
        probe
            .sessions()
            .delete_many(doc! {})
            .await
            .expect("no more");
        probe.gates.open("slow");
    };
    let (ran, ()) = rocket::tokio::join!(run(&browser, slow), deletes);
    assert_eq!(
        (ran.status, &ran.results[0]),
        (200, &json!(1)),
        "the handler's own answer"
    );
    assert_eq!(ran.sent(), None, "no cookie for what was not saved");
    assert_eq!(browser.cookie("session"), Some(cookie));
    assert_eq!(probe.documents().await, [], "nothing is brought back");
}

#[rocket::async_test]
async fn a_session_lives_exactly_as_long_as_its_timeout() {
    let keys = [("timeout", 10.into()), ("reissue_time", false.into())];
    let probe = Probe::start("life_timeout", &keys).await;
    let browser = probe.browser();
    let old = run(&browser, Script::new().set("n", 1)).await.cookie();
    probe.clock.advance(Duration::from_secs(10));
    assert_eq!(
        run(&browser, Script::new().get("n")).await.results,
        [json!(1)]
    );
    probe.clock.advance(Duration::from_millis(1));
    let read = run(&browser, Script::new().get("n").then("is_new")).await;
    assert_eq!(read.results, [json!(null), json!(true)]);
    assert_eq!(
        read.sent(),
        None,
        "the cookie of an expired session is left alone"
    );

    let new = run(&browser, Script::new().set("n", 2)).await.cookie();
    assert_ne!(id_of(&new), id_of(&old));
    assert_eq!(
        run(&browser, Script::new().get("n")).await.results,
        [json!(2)]
    );
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case(json!(["touch"]))]
#[case(json!(["set", "n", 2]))]
#[case(json!(["renew"]))]
#[case(json!(["get", "n"]))]
async fn a_session_that_expires_while_a_request_runs_is_not_revived(#[case] call: Value) {
    let probe = Probe::start(&database(), &[("timeout", 10.into())]).await;
    let browser = probe.browser();
    let cookie = run(&browser, Script::new().set("n", 1)).await.cookie();
    let before = probe.document(&cookie).await.expect("a session");
    let slow = Script::new().get("n").pause("slow").call(call);
    let expires = async {
        probe.gates.reached("slow").await;
        probe.clock.advance(Duration::from_secs(11));
        probe.gates.open("slow");
    };
    let (ran, ()) = rocket::tokio::join!(run(&browser, slow), expires);
    assert_eq!((ran.status, ran.sent()), (200, None), "{ran:?}");
    let after = probe.document(&cookie).await.expect("its document");
    assert_eq!(after.get("expires"), before.get("expires"));
    assert_eq!(after.get("value"), before.get("value"));
    let read = run(&browser, Script::new().get("n")).await;
    assert_eq!(read.results, [json!(null)]);
}

#[rocket::async_test]
async fn what_a_request_did_not_change_survives_its_write() {
    let probe = Probe::start("life_unknown", &[]).await;
    let browser = probe.browser();
    let cookie = run(&browser, Script::new().set("a", 1).set("b", 2))
        .await
        .cookie();
    let elsewhere = doc! { "$set": { "team": "red", "value.by_hand": [1, 2] } };
    let id = doc! { "_id": id_of(&cookie) };
    probe
        .sessions()
        .update_one(id, elsewhere)
        .await
        .expect("an update");
    run(
        &browser,
        Script::new().set("a", 3).call(json!(["remove", "b"])),
    )
    .await;
    let document = probe.document(&cookie).await.expect("a session");
    let document = opened(document, &cookie);
    assert_eq!(document.get_str("team"), Ok("red"));
    assert_eq!(
        document.get_document("value"),
        Ok(&doc! { "a": 3_i64, "by_hand": [1, 2] })
    );
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case(doc! { "$set": { "value": "text" } })]
#[case(doc! { "$set": { "value": [["n", 1]] } })]
#[case(doc! { "$unset": { "value": "" } })]
#[case(doc! { "$set": { "accessed": "yesterday" } })]
#[case(doc! { "$set": { "accessed": f64::NAN } })]
#[case(doc! { "$set": { "created": f64::INFINITY } })]
#[case(doc! { "$unset": { "created": "" } })]
#[case(doc! { "$set": { "expires": 1e12 } })]
#[case(doc! { "$unset": { "expires": "" } })]
#[case(doc! { "$set": { "token": "text" } })]
#[case(doc! { "$unset": { "token": "" } })]
#[case(doc! { "$unset": { "csrf": "" } })]
#[case(doc! { "$set": { "user": [1] } })]
#[case(doc! { "$set": { "timeout": -1 } })]
#[case(doc! { "$set": { "max_age": "long" } })]
async fn a_malformed_document_is_not_a_session_and_is_left_as_it_is(#[case] harm: Document) {
    let probe = Probe::start(&database(), &[]).await;
    let browser = probe.browser();
    let cookie = run(&browser, Script::new().set("n", 1)).await.cookie();
    let id = doc! { "_id": id_of(&cookie) };
    let harmed = probe.sessions().update_one(id, harm).await;
    harmed.expect("harm");
    let before = probe.document(&cookie).await;

    let read = run(&browser, Script::new().get("n").then("is_new")).await;
    assert_eq!((read.status, read.sent()), (200, None));
    assert_eq!(read.results, [json!(null), json!(true)]);
    let new = run(&browser, Script::new().set("n", 2)).await.cookie();
    assert_ne!(id_of(&new), id_of(&cookie));
    // NaN is not equal to itself; what both print is.
    let after = probe.document(&cookie).await;
    assert_eq!(format!("{after:?}"), format!("{before:?}"));
    let read = run(&browser, Script::new().get("n")).await;
    assert_eq!(read.results, [json!(2)]);
}

#[rocket::async_test]
async fn the_earliest_of_all_times_in_a_document_ends_it() {
    let keys = [("timeout", 100.into()), ("lifetime", 1000.into())];
    let probe = Probe::start("life_earliest", &keys).await;
    let now = probe.clock.time().unix_timestamp();
    for (change, alive) in [
        (
            doc! { "expires": DateTime::from_millis((now - 5) * 1000) },
            false,
        ),
        (
            doc! { "expires": DateTime::from_millis((now + 5000) * 1000) },
            true,
        ),
        (doc! { "accessed": (now - 105) as f64 }, false),
        (doc! { "accessed": now - 95 }, true),
        (doc! { "created": (now - 1005) as f64 }, false),
        (doc! { "created": (now - 995) as i32 }, true),
        // A clock that is ahead elsewhere.
        (
            doc! { "accessed": (now + 60) as f64, "created": (now + 60) as f64 },
            true,
        ),
    ] {
        let browser = probe.browser();
        let cookie = run(&browser, Script::new().set("n", 1)).await.cookie();
        let id = doc! { "_id": id_of(&cookie) };
        let update = doc! { "$set": change.clone() };
        probe
            .sessions()
            .update_one(id, update)
            .await
            .expect("another time");
        let read = run(&browser, Script::new().get("n")).await;
        assert_eq!(
            read.results,
            [if alive { json!(1) } else { json!(null) }],
            "{change}"
        );
    }
}
