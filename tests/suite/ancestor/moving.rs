//! A session of the ancestor's is moved at its first write, whatever races.

use mongodb::bson::doc;
use rocket::futures::future::join_all;
use rocket::serde::json::{Value, json};

use super::{fixture, start, stored};
use crate::cases::{ask, go, script, seconds};
use crate::probe::{Probe, Ran, id_of, removes, run, run_with};
use crate::support::Browser;

#[rocket::async_test]
async fn the_first_write_moves_it() {
    let (_, probe) = start("first_write", &[]).await;
    for call in [
        json!(["set", "n", 1]),
        json!(["remove", "name"]),
        json!(["increment", "i", 1]),
        json!(["push", "list", 1]),
        json!(["modify", "i", 1]),
        json!(["flash", "m"]),
        json!(["pop_flash"]),
        json!(["new_csrf_token"]),
        json!(["set_timeout", 60]),
        json!(["touch"]),
        json!(["renew"]),
        json!(["clear"]),
    ] {
        let fixture = fixture("flash", &probe);
        let browser = fixture.visitor(&probe).await;
        probe.clock.advance(seconds(5.0));
        let moved = go(&browser, json!([call])).await;
        assert_eq!(moved.set_cookies().len(), 1, "{call}");
        let cookie = moved.cookie();
        assert_eq!((id_of(&cookie).len(), cookie.len()), (22, 66), "{call}");
        assert_eq!(probe.document(&fixture.cookie).await, None, "{call}");
        let new = probe.document(&cookie).await.expect("the new document");
        let created = fixture.document.get_f64("created").unwrap();
        assert_eq!(
            new.get_f64("created"),
            Ok(created),
            "{call}: as old as it was"
        );
        assert_eq!(stored(&probe).await.len(), 1, "{call}");

        let read = go(&browser, json!([["get", "name"], ["queue_peek", "errors"]])).await;
        assert_eq!(read.sent(), None, "{call}");
        let name = if call == json!(["remove", "name"]) || call == json!(["clear"]) {
            json!(null)
        } else {
            json!("Bob")
        };
        assert_eq!(read.results[0], name, "{call}");
        assert_eq!(read.results[1][0]["text"], "no", "{call}");
        let old = run_with(&probe.app, &fixture.cookie, script(json!([["is_new"]]))).await;
        assert_eq!(old.results, [json!(true)], "{call}: the old cookie is dead");
        probe.sessions().delete_many(doc! {}).await.unwrap();
    }
}

#[rocket::async_test]
async fn a_save_moves_it_and_the_answer_goes_on() {
    let (_, probe) = start("save", &[]).await;
    let fixture = fixture("flash", &probe);
    let browser = fixture.visitor(&probe).await;
    let calls = json!([
        ["set", "a", 1],
        ["save"],
        ["id"],
        ["set", "b", 2],
        ["pop_flash"]
    ]);
    let moved = go(&browser, calls).await;
    assert_eq!(moved.results[2], id_of(&moved.cookie()));
    assert_eq!(moved.last(), &json!(["hello", "again", "again"]));
    assert_eq!(moved.set_cookies().len(), 1);
    let read = go(
        &browser,
        json!([["get", "a"], ["get", "b"], ["get", "name"], ["peek_flash"]]),
    )
    .await;
    assert_eq!(read.results, [json!(1), json!(2), json!("Bob"), json!([])]);
    assert_eq!(stored(&probe).await.len(), 1);
}

#[rocket::async_test]
async fn what_is_done_at_once_moves_only_itself() {
    // The handler fails after a pop: the pop stands, what was pending does not.
    let (_, probe) = start("at_once", &[("set_on_exception", false.into())]).await;
    let fixture = fixture("flash", &probe);
    let browser = fixture.visitor(&probe).await;
    let calls = json!([["set", "name", "Eve"], ["set_timeout", 60], ["pop_flash"]]);
    let failed = run(&browser, script(calls).fail(500)).await;
    assert_eq!(failed.status, 500);
    let cookie = browser.cookie("session").expect("a cookie");
    assert_ne!(cookie, fixture.cookie, "the moved session's");
    let read = go(&browser, json!([["get", "name"], ["peek_flash"]])).await;
    assert_eq!(read.results, [json!("Bob"), json!([])]);
    let new = probe.document(&cookie).await.expect("a session");
    assert!(!new.contains_key("timeout"));

    // It succeeds: both are kept.
    probe.sessions().delete_many(doc! {}).await.unwrap();
    let browser = fixture.visitor(&probe).await;
    let calls = json!([
        ["flash", "more"],
        ["set", "name", "Eve"],
        ["set_timeout", 60],
        ["pop_flash"]
    ]);
    let popped = go(&browser, calls).await;
    assert_eq!(popped.last(), &json!(["hello", "again", "again", "more"]));
    let read = go(&browser, json!([["get", "name"], ["peek_flash"]])).await;
    assert_eq!(read.results, [json!("Eve"), json!([])]);
    let cookie = browser.cookie("session").expect("a cookie");
    let new = probe.document(&cookie).await.expect("a session");
    assert_eq!(new.get_f64("timeout"), Ok(60.0));
}

/// Requests of one browser that have all loaded the session before any of them is answered.
async fn at_once(probe: &Probe, browser: &Browser, all: &[Value]) -> Vec<Ran> {
    let requests = all.iter().map(|calls| {
        let calls = calls.as_array().unwrap().iter();
        let gate = json!(["pause", "at once"]);
        // Asking for the session has loaded it by then.
        let calls: Vec<Value> = std::iter::once(gate).chain(calls.cloned()).collect();
        async move {
            Ran::from(
                browser
                    .send_undelivered(script(json!(calls)).request())
                    .await,
            )
        }
    });
    let opening = async {
        for _ in all {
            probe.gates.reached("at once").await;
        }
        for _ in all {
            probe.gates.open("at once");
        }
    };
    rocket::tokio::join!(join_all(requests), opening).0
}

#[rocket::async_test]
async fn of_requests_that_move_it_at_once_one_wins_and_nothing_it_held_is_lost() {
    let (_, probe) = start("race", &[]).await;
    for round in 0..10 {
        probe.sessions().delete_many(doc! {}).await.unwrap();
        let fixture = fixture("flash", &probe);
        let browser = fixture.visitor(&probe).await;
        let writes: Vec<_> = (0..4)
            .map(|n| json!([["set", format!("k{n}"), n]]))
            .collect();
        let answers = at_once(&probe, &browser, &writes).await;
        assert!(answers.iter().all(|answer| answer.status == 200));
        let winners: Vec<usize> = (0..4).filter(|n| answers[*n].sent().is_some()).collect();
        let [winner] = winners[..] else {
            panic!("round {round}: {winners:?} got a cookie");
        };
        let left = stored(&probe).await;
        assert_eq!(left.len(), 1, "round {round}: the others took theirs back");
        let cookie = answers[winner].cookie();
        assert_eq!(left[0].get_str("_id"), Ok(id_of(&cookie)));
        let key = format!("k{winner}");
        let calls = json!([
            ["get", "name"],
            ["peek_flash"],
            ["get", key],
            ["queue_peek", "100%"]
        ]);
        let read = run_with(&probe.app, &cookie, script(calls)).await;
        let messages = json!(["hello", "again", "again"]);
        let expected = [json!("Bob"), messages, json!(winner), json!(["percent"])];
        assert_eq!(read.results, expected, "round {round}");
    }
}

#[rocket::async_test]
async fn of_requests_that_pop_at_once_one_gets_the_messages() {
    let (_, probe) = start("pop_at_once", &[]).await;
    for round in 0..10 {
        probe.sessions().delete_many(doc! {}).await.unwrap();
        let browser = fixture("flash", &probe).visitor(&probe).await;
        let pops = vec![json!([["pop_flash"]]); 4];
        let answers = at_once(&probe, &browser, &pops).await;
        let messages = json!(["hello", "again", "again"]);
        let got = answers.iter().filter(|answer| answer.last() == &messages);
        assert_eq!(got.count(), 1, "round {round}: {answers:?}");
        let gone = json!({ "error": "Gone" });
        let without = answers.iter().filter(|answer| answer.last() == &gone);
        assert_eq!(
            without.count(),
            3,
            "round {round}: the session is another by now"
        );
    }
}

#[rocket::async_test]
async fn what_others_did_to_it_since_it_was_loaded_is_carried_along() {
    let (_, probe) = start("carried", &[]).await;
    let fixture = fixture("flash", &probe);
    let browser = fixture.visitor(&probe).await;
    let calls = json!([
        ["set", "name", "Eve"],
        ["flash", "ours"],
        ["pause", "carried"]
    ]);
    let moving = run(&browser, script(calls));
    let meanwhile = async {
        probe.gates.reached("carried").await;
        let update = doc! {
            "$set": { "value.new": 1, "value.name": "Python" },
            "$push": { "value._f_": "theirs" },
            "$unset": { "value._f_errors": true },
        };
        let by_id = doc! { "_id": &fixture.cookie };
        probe.sessions().update_one(by_id, update).await.unwrap();
        probe.gates.open("carried");
    };
    let (moved, ()) = rocket::tokio::join!(moving, meanwhile);
    assert!(moved.sent().is_some());
    let calls = json!([
        ["get", "name"],
        ["get", "new"],
        ["peek_flash"],
        ["queue_peek", "errors"]
    ]);
    let read = go(&browser, calls).await;
    let messages = json!(["hello", "again", "again", "theirs", "ours"]);
    assert_eq!(read.results, [json!("Eve"), json!(1), messages, json!([])]);
}

#[rocket::async_test]
async fn a_late_request_with_the_old_cookie_does_not_replace_the_new_one() {
    let (_, probe) = start("late", &[]).await;
    let fixture = fixture("flash", &probe);
    let browser = fixture.visitor(&probe).await;
    let late = browser.twin();
    go(&browser, json!([["set", "n", 1]])).await;
    let answer = go(&late, json!([["set", "n", 2], ["is_new"]])).await;
    assert_eq!(
        answer.sent(),
        None,
        "it would take the session from the browser"
    );
    assert_eq!(stored(&probe).await.len(), 1);
    assert_eq!(ask(&browser, json!(["get", "n"])).await, 1);
    // Who still comes with it after a minute has nothing better.
    probe.clock.advance(seconds(61.0));
    assert!(go(&late, json!([["set", "n", 3]])).await.sent().is_some());
    assert_eq!(ask(&browser, json!(["get", "n"])).await, 1);
}

#[rocket::async_test]
async fn a_handler_that_lost_the_race_starts_no_session_either() {
    let (_, probe) = start("lost", &[]).await;
    let fixture = fixture("flash", &probe);
    let browser = fixture.visitor(&probe).await;
    let calls = json!([
        ["set", "a", 1],
        ["pause", "lost"],
        ["save"],
        ["set", "b", 2]
    ]);
    let losing = async { Ran::from(browser.send_undelivered(script(calls).request()).await) };
    let meanwhile = async {
        probe.gates.reached("lost").await;
        let winner = browser.send_undelivered(script(json!([["set", "n", 1]])).request());
        let winner = winner.await;
        probe.gates.open("lost");
        winner
    };
    let (lost, winner) = rocket::tokio::join!(losing, meanwhile);
    assert_eq!(lost.results[2], json!({ "error": "Gone" }));
    assert_eq!(lost.sent(), None);
    assert_eq!(stored(&probe).await.len(), 1);
    assert!(crate::probe::sent_by(&winner).is_some());
}

#[rocket::async_test]
async fn a_login_ends_it_and_a_logout_too() {
    let (_, probe) = start("login", &[]).await;
    for (call, name, message) in [
        (json!(["login", "bob"]), json!(null), json!([])),
        (
            json!(["login_keeping", "bob", ["name"]]),
            json!("Bob"),
            json!([]),
        ),
        (json!(["elevate"]), json!("Bob"), json!(["percent"])),
    ] {
        probe.sessions().delete_many(doc! {}).await.unwrap();
        let fixture = fixture("flash", &probe);
        let browser = fixture.visitor(&probe).await;
        let logged_in = go(&browser, json!([call])).await;
        assert_eq!(logged_in.set_cookies().len(), 1, "{call}");
        assert_eq!(probe.document(&fixture.cookie).await, None, "{call}");
        assert_eq!(stored(&probe).await.len(), 1, "{call}");
        let read = go(&browser, json!([["get", "name"], ["queue_peek", "100%"]])).await;
        assert_eq!(read.results, [name, message], "{call}");
    }
    probe.sessions().delete_many(doc! {}).await.unwrap();
    let fixture = fixture("flash", &probe);
    let browser = fixture.visitor(&probe).await;
    let out = go(&browser, json!([["logout"], ["keys"]])).await;
    assert!(out.sent().is_some_and(removes));
    assert!(probe.documents().await.is_empty());
}

#[rocket::async_test]
async fn a_login_is_not_dropped_because_another_request_moved_it() {
    let (_, probe) = start("login_moved", &[]).await;
    for call in [
        json!(["login", "bob"]),
        json!(["login_keeping", "bob", ["name"]]),
    ] {
        probe.sessions().delete_many(doc! {}).await.unwrap();
        let browser = fixture("flash", &probe).visitor(&probe).await;
        let other = browser.twin();
        let login = run(&browser, script(json!([call, ["pause", "login"]])));
        let meanwhile = async {
            probe.gates.reached("login").await;
            go(&other, json!([["set", "n", 1]])).await;
            probe.gates.open("login");
        };
        let (login, ()) = rocket::tokio::join!(login, meanwhile);
        assert!(login.sent().is_some(), "{call}");
        assert_eq!(ask(&browser, json!(["user"])).await, "bob", "{call}");
    }
}
