//! Whose sessions they are: lists, limits, ends.

use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
use rocket::futures::future::join_all;
use rocket::serde::json::{Json, Value, json};
use rocket::{get, routes};
use rocket_mongo_session::{Error, Sessions};
use rstest::rstest;

use super::{ask, call, forget_revocations, guards, member, null, whoami};
use crate::apps::database;
use crate::apps::probe::{Probe, Script, id_of, run, run_with};
use crate::support::{Request, eventually};

/// RA-01, RA-02: the login's own age counts, and nothing that a request writes.
#[rocket::async_test]
async fn a_sensitive_route_asks_for_a_recent_login() {
    let probe = Probe::start_with("sec_user_recent", &[], guards).await;
    let browser = probe.browser();
    let recent = || async { browser.get("/recent").await.status };
    assert_eq!(recent().await, 401, "without a session");
    run(&browser, Script::new().set("n", 1)).await;
    assert_eq!(recent().await, 401, "a visitor");
    run(&browser, Script::new().login("alice")).await;
    assert_eq!(recent().await, 200);
    probe.clock.advance(Duration::from_secs(60));
    assert_eq!(recent().await, 200, "exactly as old as allowed");
    probe.clock.advance(Duration::from_millis(1));
    assert_eq!(recent().await, 401);
    let use_it = Script::new()
        .set("created", 9_999_999_999_i64)
        .set("auth_at", 9_999_999_999_i64)
        .then("renew")
        .then("touch")
        .call(json!(["set_timeout", 86_400]));
    run(&browser, use_it).await;
    assert_eq!(recent().await, 401, "use is not a login");
    run(&browser, Script::new().then("elevate")).await;
    assert_eq!(recent().await, 200, "a second factor is");
    run(&browser, Script::new().then("logout")).await;
    assert_eq!(recent().await, 401);
}

/// RA-02: nor by a time that lies ahead, as of a server whose clock was wrong.
#[rstest]
#[test_attr(rocket::async_test)]
#[case(0.0, 200)]
#[case(60.0, 200)]
#[case(61.0, 401)]
#[case(86_400.0, 401)]
async fn a_login_of_tomorrow_is_not_a_recent_one(#[case] ahead: f64, #[case] status: u16) {
    let probe = Probe::start_with(&database(), &[], guards).await;
    let browser = probe.browser();
    let cookie = run(&browser, Script::new().login("alice")).await.cookie();
    let now = probe.document(&cookie).await.expect("a document");
    let now = now.get_f64("created").expect("a time");
    let change = doc! { "$set": { "created": now + ahead } };
    let id = doc! { "_id": id_of(&cookie) };
    let changed = probe.sessions().update_one(id, change).await;
    changed.expect("another time");
    let response = browser.send(Request::get("/recent")).await;
    assert_eq!(response.status, status);
    assert_eq!(whoami(&probe.app, &cookie).await, json!("alice"));
}

/// CC-04, RV-06, CC-03, SZ-09: a page of what is alive, the newest first, without a credential.
#[rocket::async_test]
async fn a_users_sessions_are_listed_page_by_page_without_a_credential() {
    let probe = Probe::start("sec_user_list", &[("timeout", 600.into())]).await;
    let expired = member(&probe, "alice").await;
    probe.clock.advance(Duration::from_secs(601));
    let mut ids = Vec::new();
    let mut cookies = Vec::new();
    for _ in 0..5 {
        let cookie = member(&probe, "alice").await;
        ids.push(id_of(&cookie).to_owned());
        cookies.push(cookie);
        probe.clock.advance(Duration::from_secs(1));
    }
    member(&probe, "bob").await;
    let list = |skip: u64| ask(&probe.app, json!(["list", "alice", skip]));
    let listed = |page: &Value| -> Vec<String> {
        let page = page.as_array().expect("a list").iter();
        page.map(|info| info["id"].as_str().expect("an id").to_owned())
            .collect()
    };
    ids.reverse();
    let all = list(0).await;
    assert_eq!(listed(&all), ids);
    assert_eq!(listed(&list(3).await), ids[3..]);
    assert_eq!(listed(&list(9).await), Vec::<String>::new());
    assert_eq!(
        ask(&probe.app, json!(["count_user", "alice"])).await,
        json!(5)
    );
    let shown = all.to_string();
    for cookie in cookies.iter().chain([&expired]) {
        let secret = cookie.split_once('.').expect("two halves").1;
        assert!(!shown.contains(secret));
    }
}

/// CC-06, RV-07, NJ-10: ids and users from requests are compared, never interpreted.
#[rocket::async_test]
async fn what_comes_from_a_request_ends_nothing_else() {
    let probe = Probe::start("sec_user_requests", &[]).await;
    let alice = member(&probe, "alice").await;
    let bob = member(&probe, "bob").await;
    // A revocation leaves its documents, which are not sessions.
    member(&probe, "carol").await;
    probe.clock.advance(Duration::from_millis(1));
    ask(&probe.app, json!(["revoke_user", "carol"])).await;
    let before = probe.documents().await.len();
    let theirs = ask(&probe.app, json!(["revoke_of", "alice", id_of(&bob)])).await;
    assert_eq!(theirs, json!(false));
    let long = "x".repeat(100_000);
    for id in [
        "",
        "~all",
        "~user:",
        ".*",
        "{\"$ne\":null}",
        "$",
        "\0",
        id_of(&bob).split_at(21).0,
        &bob,
        &long,
        "-1",
        "[object Object]",
    ] {
        assert_eq!(
            ask(&probe.app, json!(["revoke", id])).await,
            json!(false),
            "{id:.40}"
        );
        let of = ask(&probe.app, json!(["revoke_of", "bob", id])).await;
        assert_eq!(of, json!(false), "{id:.40}");
    }
    for document in probe.documents().await {
        let id = document.get_str("_id").expect("an id").to_owned();
        if id.starts_with('~') {
            assert_eq!(ask(&probe.app, json!(["revoke", id])).await, json!(false));
        }
    }
    for user in [
        json!({ "$ne": null }),
        json!({ "$gt": "" }),
        json!({ "$regex": ".*" }),
        json!(["alice", "bob"]),
        json!("{\"$ne\":null}"),
        json!(""),
        json!("alice\0"),
        json!("ALICE"),
        json!("а".to_owned() + "lice"),
        json!(true),
        json!({ "user": "alice" }),
    ] {
        assert_eq!(
            ask(&probe.app, json!(["count_user", user])).await,
            json!(0),
            "{user}"
        );
        assert_eq!(
            ask(&probe.app, json!(["list", user])).await,
            json!([]),
            "{user}"
        );
        assert_eq!(
            ask(&probe.app, json!(["revoke_user", user])).await,
            json!(0),
            "{user}"
        );
        let of = ask(&probe.app, json!(["revoke_of", user, id_of(&alice)])).await;
        assert_eq!(of, json!(false), "{user}");
    }
    for invalid in [json!(null), json!("x".repeat(10_000))] {
        let refused = ask(&probe.app, json!(["revoke_user", invalid])).await;
        assert_eq!(refused, json!({ "error": "BadUser" }));
    }
    assert!(probe.documents().await.len() >= before);
    assert_eq!(whoami(&probe.app, &alice).await, json!("alice"));
    assert_eq!(whoami(&probe.app, &bob).await, json!("bob"));
    let own = ask(&probe.app, json!(["revoke_of", "bob", id_of(&bob)])).await;
    assert_eq!(own, json!(true));
    assert_eq!(whoami(&probe.app, &bob).await, null());
}

/// CC-01, CC-03: the oldest go, the expired and those of others do not count.
#[rocket::async_test]
async fn beyond_the_limit_the_oldest_session_ends() {
    let keys = [("max_per_user", 3.into()), ("timeout", 600.into())];
    let probe = Probe::start("sec_user_cap", &keys).await;
    for _ in 0..3 {
        member(&probe, "alice").await;
    }
    probe.clock.advance(Duration::from_secs(601));
    let mut cookies = Vec::new();
    for _ in 0..5 {
        member(&probe, "bob").await;
        cookies.push(member(&probe, "alice").await);
        probe.clock.advance(Duration::from_secs(1));
    }
    eventually("the end of the second one", async || {
        whoami(&probe.app, &cookies[1]).await.is_null()
    })
    .await;
    for (at, cookie) in cookies.iter().enumerate() {
        assert_eq!(whoami(&probe.app, cookie).await.is_null(), at < 2, "{at}");
    }
    // At the limit, elevations, renewals and logins of one browser end no other.
    let own = &cookies[4];
    let keep = Script::new().set("n", 7).then("elevate");
    let moved = run_with(&probe.app, own, keep).await.cookie();
    let renewed = run_with(&probe.app, &moved, Script::new().then("renew"))
        .await
        .cookie();
    let again = Script::new().call(json!(["login_keeping", "alice", ["n"]]));
    let again = run_with(&probe.app, &renewed, again).await.cookie();
    assert_eq!(
        call(&probe.app, &again, json!(["get", "n"])).await,
        json!(7)
    );
    for cookie in &cookies[2..4] {
        assert_eq!(whoami(&probe.app, cookie).await, json!("alice"));
    }
    assert_eq!(
        ask(&probe.app, json!(["count_user", "alice"])).await,
        json!(3)
    );
}

/// With a clock that stands still, the new one counts as the newest.
#[rocket::async_test]
async fn of_logins_in_one_millisecond_the_last_one_stays() {
    let probe = Probe::start("sec_user_tie", &[("max_per_user", 1.into())]).await;
    for _ in 0..20 {
        let cookie = member(&probe, "alice").await;
        eventually("the older login has ended", async || {
            ask(&probe.app, json!(["count_user", "alice"])).await == json!(1)
        })
        .await;
        assert_eq!(whoami(&probe.app, &cookie).await, json!("alice"));
    }
}

/// CC-02: a form that was sent twice, at the limit: the one elevation that wins stays, and so do the
/// other devices.
#[rocket::async_test]
async fn elevations_at_once_end_neither_each_other_nor_another_device() {
    let keys = [("max_per_user", 2.into())];
    let probe = Probe::start("sec_user_cap_elevate", &keys).await;
    for round in 0..20 {
        let user = format!("user{round}");
        let other = member(&probe, user.as_str()).await;
        probe.clock.advance(Duration::from_millis(1));
        let own = member(&probe, user.as_str()).await;
        probe.clock.advance(Duration::from_millis(1));
        let elevations = (0..5).map(|_| run_with(&probe.app, &own, Script::new().then("elevate")));
        let responses = join_all(elevations).await;
        let sent: Vec<&str> = responses
            .iter()
            .filter_map(|response| response.sent())
            .collect();
        let [line] = sent.as_slice() else {
            panic!("round {round}: {sent:?}");
        };
        let new = crate::apps::probe::value_of(line);
        for cookie in [new, &other] {
            assert_eq!(whoami(&probe.app, cookie).await, json!(user), "{round}");
        }
    }
}

/// CC-02: also when all come at once.
#[rocket::async_test]
async fn the_limit_holds_under_parallel_logins() {
    let keys = [("max_per_user", 3.into())];
    let probe = Probe::start("sec_user_cap_race", &keys).await;
    for round in 0..10 {
        let user = format!("user{round}");
        let stands_still = round % 2 == 0;
        let logins = (0..30).map(|_| {
            let login = Script::new().pause("go").login(user.as_str()).request();
            probe.app.send(login)
        });
        let go = async {
            for _ in 0..30 {
                probe.gates.reached("go").await;
            }
            for _ in 0..30 {
                if !stands_still {
                    probe.clock.advance(Duration::from_millis(1));
                }
                probe.gates.open("go");
            }
        };
        let (responses, ()) = rocket::tokio::join!(join_all(logins), go);
        assert!(responses.iter().all(|response| response.status == 200));
        // The limit is enforced after the responses.
        eventually("as many sessions are left as are allowed", async || {
            ask(&probe.app, json!(["count_user", user])).await == json!(3)
        })
        .await;
        let live = 3;
        let mut known = 0;
        for response in responses {
            if let Some(line) = crate::apps::probe::sent_by(&response) {
                let cookie = crate::apps::probe::value_of(line);
                known += u64::from(!whoami(&probe.app, cookie).await.is_null());
            }
        }
        assert_eq!(known, live, "every live session has a known cookie");
    }
}

/// Every call of the administrator's that asks for one user's sessions goes by the index.
#[rocket::async_test]
async fn calls_about_a_user_read_that_users_sessions_alone() {
    let keys = [("max_per_user", 3.into()), ("indexes", false.into())];
    let probe = Probe::start("sec_user_index", &keys).await;
    ask(&probe.app, json!(["ensure_indexes"])).await;
    for user in 0..40 {
        member(&probe, format!("user{user}")).await;
    }
    for _ in 0..3 {
        member(&probe, "alice").await;
        probe.clock.advance(Duration::from_millis(1));
    }
    let profile = probe.profile().await;
    let cookie = member(&probe, "alice").await;
    for order in [
        json!(["count_user", "alice"]),
        json!(["list", "alice"]),
        json!(["revoke_of", "alice", id_of(&cookie)]),
        json!(["revoke_user", "alice"]),
    ] {
        ask(&probe.app, order).await;
    }
    let seen = profile.commands().await;
    assert!(seen.len() > 6, "{seen:?}");
    for seen in seen.iter().filter(|seen| seen.collection == "session") {
        let plan = seen.entry.get_str("planSummary").unwrap_or("none");
        assert!(!plan.contains("COLLSCAN"), "{}: {plan}", seen.name);
        let examined = seen.entry.get("docsExamined");
        let examined = examined.and_then(|n| n.as_i32().map(i64::from).or(n.as_i64()));
        assert!(
            examined.unwrap_or(0) <= 6,
            "{}: {:?}",
            seen.name,
            seen.entry
        );
    }
}

/// RA-02, NJ-12: what an application stores is not a field of the session's own.
#[rocket::async_test]
async fn no_key_of_the_application_says_who_it_is() {
    let probe = Probe::start_with("sec_user_keys", &[], guards).await;
    let browser = probe.browser();
    let mut script = Script::new();
    for key in [
        "user",
        "_id",
        "token",
        "csrf",
        "created",
        "expires",
        "value",
        "value.user",
    ] {
        script = script.set(key, "root");
    }
    let ran = run(&browser, script.then("user")).await;
    assert_eq!(ran.last(), &null());
    let read = run(&browser, Script::new().then("user").then("keys")).await;
    assert_eq!(read.results[0], null());
    assert_eq!(read.results[1].as_array().map(Vec::len), Some(8));
    assert_eq!(browser.send(Request::get("/recent")).await.status, 401);
}

/// RA-03: a user who gave the right password, and not yet the second factor, is not logged in; as
/// the guide shows it.
#[rocket::async_test]
async fn a_user_with_one_factor_only_is_not_logged_in() {
    let probe = Probe::start_with("sec_user_factors", &[], guards).await;
    let browser = probe.browser();
    let early = run(&browser, Script::new().set("basket", 1)).await.cookie();
    let first_factor = Script::new()
        .set("proving", "alice")
        .call(json!(["set_timeout", 300]))
        .then("elevate");
    let proving = run(&browser, first_factor).await.cookie();
    assert_eq!(
        run_with(&probe.app, &early, Script::new().get("proving"))
            .await
            .last(),
        &null()
    );
    assert_eq!(whoami(&probe.app, &proving).await, null());
    assert_eq!(
        call(&probe.app, &proving, json!(["get", "proving"])).await,
        json!("alice")
    );
    assert_eq!(browser.send(Request::get("/recent")).await.status, 401);
    for order in [
        json!(["count_user", "alice"]),
        json!(["revoke_user", "alice"]),
    ] {
        assert_eq!(ask(&probe.app, order.clone()).await, json!(0), "{order}");
    }

    forget_revocations(&probe).await;
    let second_factor = run(&browser, Script::new().login("alice")).await.cookie();
    assert_eq!(whoami(&probe.app, &second_factor).await, json!("alice"));
    assert_eq!(
        call(&probe.app, &second_factor, json!(["keys"])).await,
        json!([])
    );
    assert_eq!(browser.send(Request::get("/recent")).await.status, 200);
    for old in [&early, &proving] {
        let seen = run_with(&probe.app, old, Script::new().then("user").then("keys")).await;
        assert_eq!(seen.results, [null(), json!([])]);
    }
    // The time that was for the proof is not the login's.
    probe.clock.advance(Duration::from_secs(301));
    assert_eq!(whoami(&probe.app, &second_factor).await, json!("alice"));
}

/// How many of a user's sessions one page has.
#[get("/page?<user>&<limit>")]
async fn page(sessions: &Sessions, user: &str, limit: u32) -> Result<Json<usize>, Error> {
    Ok(Json(sessions.of(user).list(0, limit).await?.len()))
}

/// SZ-09: a list costs what it shows, whatever the sessions hold, and a page is at most a thousand.
#[rocket::async_test]
async fn a_list_reads_no_values() {
    let keys = [("indexes", false.into())];
    let probe = Probe::start_with("sec_user_long_list", &keys, |rocket| {
        rocket.mount("/", routes![page])
    })
    .await;
    ask(&probe.app, json!(["ensure_indexes"])).await;
    let cookie = member(&probe, "alice").await;
    let own = probe.document(&cookie).await.expect("a document");
    let plant = async |user: &str, number: usize, values: Document| {
        let copy = |n: usize| {
            let mut copy = own.clone();
            copy.insert("_id", format!("{user}{n:016}A"));
            copy.insert("user", user);
            copy.insert("value", values.clone());
            copy
        };
        let copies: Vec<Document> = (0..number).map(copy).collect();
        for some in copies.chunks(20) {
            probe.sessions().insert_many(some).await.expect("an insert");
        }
    };
    // Ids as the crate draws them: 22 characters, the last of which has no spare bits set.
    plant("large", 50, doc! { "long": "x".repeat(500_000) }).await;
    plant("small", 1_001, doc! {}).await;

    let profile = probe.profile().await;
    let count = async |user: &str, limit: u32| {
        let response = probe
            .app
            .get(&format!("/page?user={user}&limit={limit}"))
            .await;
        assert_eq!(response.status, 200, "{response:?}");
        response.text()
    };
    assert_eq!(count("large", 1000).await, "50");
    let seen = profile.commands().await;
    let ours: Vec<_> = seen
        .iter()
        .filter(|seen| seen.collection == "session")
        .collect();
    assert_eq!(ours.len(), 1, "{ours:?}");
    let length = ours[0].entry.get("responseLength").and_then(as_number);
    let length = length.expect("a length");
    assert!(length < 50 * 1024, "{length} bytes for 50 sessions");

    for limit in [1_000, 1_001, 5_000, u32::MAX] {
        assert_eq!(count("small", limit).await, "1000", "{limit}");
    }
    assert_eq!(count("small", 7).await, "7");
    assert_eq!(count("small", 0).await, "0");
}

fn as_number(value: &Bson) -> Option<i64> {
    value.as_i64().or_else(|| value.as_i32().map(i64::from))
}
