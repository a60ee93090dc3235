//! Keys and values as an application might take them from a form, and how much there may be.

use rocket::futures::future::join_all;
use rocket::serde::json::{Json, Value, json};
use rocket::{Build, Rocket, post, routes};
use rocket_mongo_session::{Error, Session};
use rstest::rstest;

use super::{call, member, null, whoami};
use crate::apps::arena::{Arena, Op, Setting, set};
use crate::apps::calls;
use crate::apps::database;
use crate::apps::probe::{Probe, Script, id_of, run_with};
use crate::support::{Mongod, Request};

/// Replaces a stored value, which it must find as it loaded it.
#[post("/modify?<key>", data = "<value>")]
async fn modify(session: &Session, key: &str, value: Json<Value>) -> Result<(), Error> {
    session
        .modify(key, |_: Option<Value>| value.0.clone())
        .await?;
    Ok(())
}

const MANY: usize = 20_000;

/// What a hostile client could have an application do, if it lets clients choose keys.
#[post("/many?<round>&<clears>")]
fn many(session: &Session, round: usize, clears: bool) -> Result<String, Error> {
    for n in 0..MANY {
        session.set(&format!("k{n}"), &(n + round))?;
    }
    for n in 0..MANY {
        session.push("list", &n)?;
    }
    if clears {
        session.clear();
    }
    Ok(session.len().to_string())
}

fn more(rocket: Rocket<Build>) -> Rocket<Build> {
    rocket.mount("/", routes![modify, many])
}

/// NJ-01 to NJ-06, NJ-08: any key is a name and any value a value.
#[rocket::async_test]
async fn hostile_keys_and_values_come_back_as_they_were() {
    let probe = Probe::start("sec_limits_keys", &[]).await;
    let cookie = member(&probe, "alice").await;
    let before = probe.document(&cookie).await.expect("a document");
    let keys = [
        "a",
        "a.b",
        ".a",
        "a.",
        "..",
        "a..b",
        "$set",
        "$where",
        "$[]",
        "$[x]",
        "$",
        "a$b",
        "0",
        "-1",
        "00",
        "1e9",
        "_id",
        "_v",
        "__proto__",
        "constructor",
        "prototype",
        "toString",
        "token",
        "csrf",
        "expires",
        "user",
        "value",
        "value.token",
        "%",
        "%2E",
        "%24set",
        "_f_",
        "_f_x",
        "_csrft_",
        "e\u{301}",
        "\u{e9}",
        "\u{feff}",
        "\u{202e}a",
        "😀",
        " ",
        "\n",
    ];
    let values = [
        json!("$token"),
        json!("$$NOW"),
        json!("$$ROOT"),
        json!({ "$literal": 1 }),
        json!({ "$oid": "0123456789abcdef01234567" }),
        json!({ "$date": 0 }),
        json!({ "$ref": "x", "$id": 1 }),
        json!({ "$ref": 1, "a.b": 2, "": 3, "__proto__": 4 }),
        json!([{ "$set": { "user": "root" } }]),
        json!({ "$concat": ["$user", "x"] }),
        json!(""),
        json!("\0"),
        json!(i64::MIN),
        json!(1e300),
    ];
    let value = |at: usize| &values[at % values.len()];
    let mut script = Script::new();
    for (at, key) in keys.iter().enumerate() {
        script = script.set(key, value(at).clone());
    }
    assert_eq!(run_with(&probe.app, &cookie, script).await.status, 200);
    for (at, key) in keys.iter().enumerate() {
        assert_eq!(
            &call(&probe.app, &cookie, json!(["get", key])).await,
            value(at),
            "{key:?}"
        );
    }
    let shown = call(&probe.app, &cookie, json!(["keys"])).await;
    assert_eq!(shown.as_array().map(Vec::len), Some(keys.len()));
    let after = probe.document(&cookie).await.expect("a document");
    for field in ["_id", "created", "token", "csrf", "user"] {
        assert_eq!(before.get(field), after.get(field), "{field}");
    }
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        after.keys().collect::<Vec<_>>(),
        "no field beside the crate's own"
    );
    // By every other way of writing, too.
    for key in ["$inc", "a.b.c", "_f_n", "%25"] {
        for order in [
            json!(["increment", key, 1]),
            json!(["modify", key, 1]),
            json!(["remove", key, null]),
            json!(["push", key, "$user"]),
            json!(["queue_push", key, { "$set": 1 }]),
        ] {
            call(&probe.app, &cookie, order).await;
        }
        let pushed = call(&probe.app, &cookie, json!(["get", key])).await;
        assert_eq!(pushed, json!(["$user"]), "{key}");
        let popped = call(&probe.app, &cookie, json!(["queue_pop", key])).await;
        assert_eq!(popped, json!([{ "$set": 1 }]), "{key}");
    }
    for key in ["", "\0", "a\0b"] {
        for order in [
            json!(["set", key, 1]),
            json!(["increment", key, 1]),
            json!(["push", key, 1]),
        ] {
            let refused = call(&probe.app, &cookie, order).await;
            assert_eq!(refused, json!({ "error": "BadKey" }), "{key:?}");
        }
    }
    assert_eq!(whoami(&probe.app, &cookie).await, json!("alice"));
}

/// SZ-01, SZ-03: the limit is of the whole, to the byte, and what was there stays.
#[rocket::async_test]
async fn data_beyond_the_limit_is_refused_and_the_rest_stays() {
    let keys = [("max_bytes", 4096.into())];
    let probe = Probe::start("sec_limits_bytes", &keys).await;
    let cookie = member(&probe, "alice").await;
    let mut stored = 0;
    for n in 0..200 {
        let order = json!(["set", format!("key{n:03}"), "x".repeat(40)]);
        let response = call(&probe.app, &cookie, order).await;
        if response.is_null() {
            stored += 1;
        } else {
            assert_eq!(response, json!({ "error": "TooLarge" }));
        }
    }
    assert!((50..=80).contains(&stored), "{stored}");
    let document = probe.document(&cookie).await.expect("a document");
    let value = calls::value(&probe, &cookie).await.expect("values");
    assert_eq!(value.len(), stored);
    assert!(mongodb::bson::to_vec(&value).expect("BSON").len() <= 4096);
    for order in [
        json!(["set_long", "key000", 5000]),
        json!(["set_long", "other", 900_000]),
        json!(["push", "other", "x".repeat(5000)]),
        json!(["flash", "x".repeat(5000)]),
        json!(["get_or_insert", "other", "x".repeat(5000)]),
    ] {
        let response = call(&probe.app, &cookie, order).await;
        assert_eq!(response, json!({ "error": "TooLarge" }));
    }
    assert_eq!(probe.document(&cookie).await.expect("a document"), document);
    // Room again.
    call(&probe.app, &cookie, json!(["remove", "key000"])).await;
    assert!(
        call(&probe.app, &cookie, json!(["set", "new", 1]))
            .await
            .is_null()
    );
}

/// SZ-04: depth is bounded where it is written.
#[rocket::async_test]
async fn a_value_that_nests_too_deep_is_refused() {
    let probe = Probe::start("sec_limits_depth", &[]).await;
    let cookie = member(&probe, "alice").await;
    let nested = |depth: usize| (0..depth).fold(json!(1), |inner, _| Value::Array(vec![inner]));
    for (depth, fits) in [(1, true), (60, true), (70, false), (100, false)] {
        let response = call(&probe.app, &cookie, json!(["set", "n", nested(depth)])).await;
        assert_eq!(response.is_null(), fits, "{depth}: {response}");
    }
    assert_eq!(
        call(&probe.app, &cookie, json!(["get", "n"])).await,
        nested(60)
    );
}

/// A user's name is a value as well, and no way to be another.
#[rstest]
#[test_attr(rocket::async_test)]
#[case(json!({ "$ne": null }))]
#[case(json!({ "$gt": "" }))]
#[case(json!("$user"))]
#[case(json!("{\"$ne\":1}"))]
#[case(json!(["alice"]))]
#[case(json!(""))]
#[case(json!("alice\0"))]
#[case(json!({ "a.b": { "$where": "1" } }))]
#[case(json!(false))]
#[case(json!(0))]
async fn a_hostile_principal_is_itself_and_no_other(#[case] user: Value) {
    let probe = Probe::start(&database(), &[]).await;
    let alice = member(&probe, "alice").await;
    let cookie = member(&probe, user.clone()).await;
    assert_eq!(whoami(&probe.app, &cookie).await, user);
    let count = super::ask(&probe.app, json!(["count_user", user])).await;
    assert_eq!(count, json!(1));
    let listed = super::ask(&probe.app, json!(["list", user])).await;
    assert_eq!(listed[0]["id"], json!(id_of(&cookie)));
    probe.clock.advance(std::time::Duration::from_millis(1));
    let revoked = super::ask(&probe.app, json!(["revoke_user", user])).await;
    assert_eq!(revoked, json!(1));
    assert_eq!(whoami(&probe.app, &alice).await, json!("alice"));
}

/// SZ-05: each was checked against what it had loaded.
#[rocket::async_test]
async fn requests_at_once_may_exceed_the_limit_and_the_next_write_is_refused() {
    let setting = Setting::on(Mongod::shared().await, true).key("max_bytes", "4KiB");
    let arena = Arena::start(&setting).await;
    let browser = arena.browser();
    arena.run(&browser, &[set("n", 1)]).await;
    let mut tabs = Vec::new();
    for tab in 0..6 {
        let program = [set(&format!("part{tab}"), "x".repeat(1024))];
        tabs.push(arena.poise(&browser, &[Op::View], &program).await);
    }
    tabs.iter().for_each(|tab| tab.release());
    for tab in &mut tabs {
        assert_eq!(tab.response().await.status(), 200);
    }
    let response = arena
        .run(
            &browser,
            &[set("more", 1), Op::Remove("n".into()), Op::View],
        )
        .await;
    let results = response.results();
    assert!(
        results
            .get(0)
            .as_ref()
            .is_err_and(|error| error.starts_with("TooLarge"))
    );
    // Nothing is lost, and what makes it smaller is written.
    assert_eq!(results.view(2).values.len(), 6);
    assert_eq!(
        arena
            .run(&browser, &[Op::View])
            .await
            .results()
            .view(0)
            .values
            .len(),
        6
    );
}

/// NJ-05: what was loaded is compared with what is stored by an expression, in which `$user` would
/// be a field and `$$NOW` a variable. Then the comparison would fail until the deadline.
#[rocket::async_test]
async fn an_expression_takes_a_stored_dollar_for_text() {
    for encoding in ["document", "binary"] {
        let keys = [("encoding", encoding.into())];
        let probe = Probe::start_with("sec_limits_dollar", &keys, more).await;
        let cookie = member(&probe, "alice").await;
        for key in ["text", "$user", "$$NOW", "$user.x"] {
            for value in [
                json!("$user"),
                json!("$$NOW"),
                json!("$value.text"),
                json!(["$user", { "a": "$$ROOT" }]),
                json!({ "$concat": ["$user", "x"] }),
                json!({ "$literal": 1 }),
            ] {
                call(&probe.app, &cookie, json!(["set", key, value])).await;
                let path = format!("/modify?key={}", key.replace('$', "%24"));
                let request = Request::post(&path).json(&json!([value, 1]).to_string());
                let request = request.header("Cookie", format!("session={cookie}"));
                let response = probe.app.send(request).await;
                assert_eq!(response.status, 200, "{encoding} {key} {value}");
                let stored = call(&probe.app, &cookie, json!(["get", key])).await;
                assert_eq!(stored, json!([value, 1]), "{encoding} {key}");

                call(&probe.app, &cookie, json!(["queue_push", key, value])).await;
                let popped = call(&probe.app, &cookie, json!(["queue_pop", key])).await;
                assert_eq!(popped, json!([value]), "{encoding} {key}");
                let popped = call(&probe.app, &cookie, json!(["queue_pop", key])).await;
                assert_eq!(popped, json!([]), "{encoding} {key}");
            }
        }
        assert_eq!(whoami(&probe.app, &cookie).await, json!("alice"));
    }
}

/// SZ-04: work grows with the number of keys and elements. If it grew with its square, each of these
/// requests would take minutes, and no answer of a test may.
#[rocket::async_test]
async fn many_keys_and_many_elements_cost_no_more_than_their_number() {
    for seals in [false, true] {
        many_keys_and_elements(seals).await;
    }
}

async fn many_keys_and_elements(seals: bool) {
    let keys = [
        ("max_bytes", "8MiB".into()),
        ("deadline", 60.into()),
        ("seal", seals.into()),
    ];
    let probe = Probe::start_with(&format!("sec_limits_many_{seals}"), &keys, more).await;
    let cookie = member(&probe, "alice").await;
    let ask = async |round: usize, clears: bool| {
        let request = Request::post(&format!("/many?round={round}&clears={clears}"));
        let request = request.header("Cookie", format!("session={cookie}"));
        let response = probe.app.send(request).await;
        assert_eq!(response.status, 200, "round {round}: {}", response.text());
        response.text()
    };
    let lists = async || {
        let value = calls::value(&probe, &cookie).await.expect("values");
        let length = value.get_array("list").map_or(0, Vec::len);
        (value.len(), length)
    };
    assert_eq!(ask(0, false).await, (MANY + 1).to_string());
    assert_eq!(lists().await, (MANY + 1, MANY));
    // Over as many that are stored.
    assert_eq!(ask(1, false).await, (MANY + 1).to_string());
    assert_eq!(lists().await, (MANY + 1, 2 * MANY));
    let last = format!("k{}", MANY - 1);
    let last = call(&probe.app, &cookie, json!(["get", last])).await;
    assert_eq!(last, json!(MANY));
    assert_eq!(ask(2, true).await, "0");
    assert_eq!(lists().await, (0, 0));
}

/// RB-15: a session is not a lock. A user with twenty tabs does not wait for one after the other.
#[rocket::async_test]
async fn requests_of_one_browser_are_inside_at_once() {
    let probe = Probe::start("sec_limits_parallel", &[]).await;
    let cookie = member(&probe, "alice").await;
    let tabs = (0..20).map(|n| {
        let script = Script::new()
            .set(&format!("k{n}"), n)
            .call(json!(["increment", "n", 1]))
            .pause("inside");
        run_with(&probe.app, &cookie, script)
    });
    let all_inside = async {
        // Every one has its session before the first continues.
        for _ in 0..20 {
            probe.gates.reached("inside").await;
        }
        for _ in 0..20 {
            probe.gates.open("inside");
        }
    };
    let (responses, ()) = rocket::tokio::join!(join_all(tabs), all_inside);
    for response in responses {
        assert_eq!((response.status, response.last()), (200, &null()));
    }
    let count = call(&probe.app, &cookie, json!(["get", "n"])).await;
    assert_eq!(count, json!(20));
    let keys = call(&probe.app, &cookie, json!(["len"])).await;
    assert_eq!(keys, json!(21));
}
