//! The life of a request, as browsers see it (DESIGN 4): visits, headers, what is stored.

use mongodb::bson::{DateTime, doc};
use rocket::http::Status;
use rocket::request::{FromRequest, Outcome};
use rocket::serde::json::{Value, json};
use rocket::{Request as Incoming, async_trait, get, routes};
use rocket_mongo_session::{Error, Session};
use std::time::Duration;

use crate::probe::{Probe, Script, asked, id_of, removes, run, sent_by};
use crate::support::Request;

mod cookies;
mod exceptions;
mod wire;

#[rocket::async_test]
async fn a_visitor_is_known_from_visit_to_visit() {
    let probe = Probe::start("life_visits", &[]).await;
    let browser = probe.browser();
    let first = run(&browser, Script::new().then("is_new").set("n", 1)).await;
    assert_eq!(first.results, [json!(true), json!(null)]);
    let cookie = first.cookie();

    let second = run(&browser, Script::new().then("is_new").get("n").set("n", 2)).await;
    assert_eq!(second.results, [json!(false), json!(1), json!(null)]);
    assert_eq!(second.sent(), None, "nothing new to tell");
    assert_eq!(browser.cookie("session"), Some(cookie));

    let third = run(&browser, Script::new().get("n")).await;
    assert_eq!(third.results, [json!(2)]);
    assert_eq!(probe.documents().await.len(), 1);
    let stranger = run(&probe.browser(), Script::new().get("n").then("id")).await;
    assert_eq!(stranger.results, [json!(null), json!(null)]);
    assert_eq!(stranger.sent(), None);
}

#[rocket::async_test]
async fn the_id_is_public_and_of_no_use_as_a_cookie() {
    let probe = Probe::start("life_id", &[]).await;
    let browser = probe.browser();
    let first = run(&browser, Script::new().then("id").set("n", 1).then("id")).await;
    let id = first.results[2].as_str().expect("an id").to_owned();
    assert_eq!(first.results[0], json!(null), "nothing was written yet");
    assert_eq!(id_of(&first.cookie()), id);
    assert_eq!(
        run(&browser, Script::new().then("id")).await.results,
        [json!(id)]
    );

    let thief = probe.browser();
    thief.set_cookie(&format!("session={id}; Path=/"));
    assert_eq!(
        run(&thief, Script::new().get("n")).await.results,
        [json!(null)]
    );
}

#[rocket::async_test]
async fn a_route_that_asks_for_no_session_costs_nothing() {
    let probe = Probe::start("life_plain", &[("indexes", false.into())]).await;
    let browser = probe.browser();
    run(&browser, Script::new().set("n", 1)).await;
    let profile = probe.profile().await;
    let plain = browser.get("/plain").await;
    assert_eq!(plain.text(), "plain");
    assert_eq!(plain.set_cookies(), Vec::<&str>::new());
    assert_eq!(
        (plain.header("Vary"), plain.header("Cache-Control")),
        (None, None)
    );
    assert_eq!(asked(&profile).await, Vec::<String>::new());
}

#[rocket::async_test]
async fn a_new_session_that_holds_nothing_is_never_stored() {
    let probe = Probe::start("life_empty", &[("indexes", false.into())]).await;
    let profile = probe.profile().await;
    for calls in [
        vec![],
        vec![
            json!(["get", "a"]),
            json!(["keys"]),
            json!(["user"]),
            json!(["expires"]),
        ],
        vec![json!(["set", "a", 1]), json!(["remove", "a"])],
        vec![json!(["set", "a", 1]), json!(["clear"])],
        vec![json!(["set", "a", 1]), json!(["logout"])],
        vec![
            json!(["remove", "a"]),
            json!(["take", "a"]),
            json!(["clear"]),
        ],
        vec![json!(["pop_flash"]), json!(["peek_flash"])],
        vec![json!(["touch"])],
        vec![json!(["renew"])],
        vec![json!(["elevate"])],
        vec![json!(["logout"]), json!(["logout"])],
        vec![json!(["save"])],
        vec![json!(["verify_csrf", "x"])],
    ] {
        let script = calls.iter().cloned().fold(Script::new(), Script::call);
        let ran = run(&probe.browser(), script).await;
        assert_eq!((ran.status, ran.sent()), (200, None), "{calls:?}: {ran:?}");
        let errors = ran
            .results
            .iter()
            .filter(|result| result.get("error").is_some());
        assert_eq!(errors.count(), 0, "{calls:?}: {ran:?}");
        assert_eq!(
            ran.header("Vary"),
            Some("Cookie"),
            "it depends on the cookie all the same"
        );
    }
    assert_eq!(asked(&profile).await, Vec::<String>::new());
    assert_eq!(probe.documents().await, []);
}

#[rocket::async_test]
async fn two_guards_of_one_request_share_one_session() {
    let probe = Probe::start("life_twice", &[("indexes", false.into())]).await;
    let browser = probe.browser();
    run(&browser, Script::new().set("n", 1)).await;
    let profile = probe.profile().await;
    assert_eq!(browser.get("/twice").await.text(), "[2,1]");
    assert_eq!(asked(&profile).await, ["find", "update"]);
    let seen = run(&browser, Script::new().then("keys")).await;
    assert_eq!(seen.results, [json!(["n", "one", "other"])]);
}

#[rocket::async_test]
async fn an_equal_value_is_no_change() {
    let probe = Probe::start("life_equal", &[("indexes", false.into())]).await;
    let browser = probe.browser();
    run(
        &browser,
        Script::new()
            .set("n", 1)
            .set("list", json!([1, {"a": "b"}])),
    )
    .await;
    let profile = probe.profile().await;
    let again = Script::new()
        .set("n", 2)
        .set("n", 1)
        .set("list", json!([1, {"a": "b"}]))
        .call(json!(["get_or_insert", "n", 7]));
    assert_eq!(run(&browser, again).await.last(), &json!(1));
    assert_eq!(asked(&profile).await, ["find"]);
}

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

#[rocket::async_test]
async fn a_session_that_expires_while_a_request_runs_is_not_revived() {
    for calls in [
        json!(["touch"]),
        json!(["set", "n", 2]),
        json!(["renew"]),
        json!(["get", "n"]),
    ] {
        let probe = Probe::start("life_expires", &[("timeout", 10.into())]).await;
        let browser = probe.browser();
        let cookie = run(&browser, Script::new().set("n", 1)).await.cookie();
        let before = probe.document(&cookie).await.expect("a session");
        let slow = Script::new().get("n").pause("slow").call(calls.clone());
        let expires = async {
            probe.gates.reached("slow").await;
            probe.clock.advance(Duration::from_secs(11));
            probe.gates.open("slow");
        };
        let (ran, ()) = rocket::tokio::join!(run(&browser, slow), expires);
        assert_eq!((ran.status, ran.sent()), (200, None), "{calls}: {ran:?}");
        let after = probe.document(&cookie).await.expect("its document");
        assert_eq!(after.get("expires"), before.get("expires"), "{calls}");
        assert_eq!(after.get("value"), before.get("value"), "{calls}");
        let read = run(&browser, Script::new().get("n")).await;
        assert_eq!(read.results, [json!(null)], "{calls}");
    }
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
    assert_eq!(document.get_str("team"), Ok("red"));
    assert_eq!(
        document.get_document("value"),
        Ok(&doc! { "a": 3_i64, "by_hand": [1, 2] })
    );
}

#[rocket::async_test]
async fn a_malformed_document_is_no_session_and_is_left_as_it_is() {
    let probe = Probe::start("life_malformed", &[]).await;
    for harm in [
        doc! { "$set": { "value": "text" } },
        doc! { "$set": { "value": [["n", 1]] } },
        doc! { "$unset": { "value": "" } },
        doc! { "$set": { "accessed": "yesterday" } },
        doc! { "$set": { "accessed": f64::NAN } },
        doc! { "$set": { "created": f64::INFINITY } },
        doc! { "$unset": { "created": "" } },
        doc! { "$set": { "expires": 1e12 } },
        doc! { "$unset": { "expires": "" } },
        doc! { "$set": { "token": "text" } },
        doc! { "$unset": { "token": "" } },
        doc! { "$unset": { "csrf": "" } },
        doc! { "$set": { "user": [1] } },
        doc! { "$set": { "timeout": -1 } },
        doc! { "$set": { "max_age": "long" } },
    ] {
        let browser = probe.browser();
        let cookie = run(&browser, Script::new().set("n", 1)).await.cookie();
        let id = doc! { "_id": id_of(&cookie) };
        probe
            .sessions()
            .update_one(id, harm.clone())
            .await
            .expect("harm");
        let before = probe.document(&cookie).await;

        let read = run(&browser, Script::new().get("n").then("is_new")).await;
        assert_eq!((read.status, read.sent()), (200, None), "{harm}");
        assert_eq!(read.results, [json!(null), json!(true)], "{harm}");
        let new = run(&browser, Script::new().set("n", 2)).await.cookie();
        assert_ne!(id_of(&new), id_of(&cookie), "{harm}");
        // NaN is not equal to itself; what both print is.
        let after = probe.document(&cookie).await;
        assert_eq!(format!("{after:?}"), format!("{before:?}"), "{harm}");
        assert_eq!(
            run(&browser, Script::new().get("n")).await.results,
            [json!(2)],
            "{harm}"
        );
    }
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

#[rocket::async_test]
async fn an_answer_with_a_cookie_is_kept_by_no_cache() {
    let probe = Probe::start("life_headers", &[]).await;
    let browser = probe.browser();
    let order = Script::new()
        .set("n", 1)
        .answer_header("Cache-Control", "public, max-age=60")
        .answer_header("Expires", "Fri, 01 Jan 2100 00:00:00 GMT")
        .answer_header("Vary", "Accept, Accept-Language")
        .answer_header("Set-Cookie", "theme=dark; Path=/")
        .answer_header("Set-Cookie", "session=forged; Path=/");
    let first = run(&browser, order).await;
    assert_eq!(first.headers_named("Cache-Control"), ["no-store"]);
    assert_eq!(first.header("Expires"), None);
    assert_eq!(
        first.headers_named("Vary"),
        ["Accept, Accept-Language", "Cookie"]
    );
    let cookie = first.cookie();
    assert_ne!(cookie, "forged");
    assert_eq!(
        first.set_cookies()[0],
        "theme=dark; Path=/",
        "the application's own stay"
    );

    let read = run(&browser, Script::new().get("n")).await;
    assert_eq!(read.headers_named("Cache-Control"), ["private, no-cache"]);
    assert_eq!(read.headers_named("Vary"), ["Cookie"]);
    let order = Script::new()
        .get("n")
        .answer_header("Cache-Control", "private, max-age=5");
    let told = run(&browser, order.answer_header("Vary", "accept, COOKIE")).await;
    assert_eq!(told.headers_named("Cache-Control"), ["private, max-age=5"]);
    assert_eq!(told.headers_named("Vary"), ["accept, COOKIE"], "said once");
    let out = run(&browser, Script::new().then("logout")).await;
    assert!(out.sent().is_some_and(removes));
    assert_eq!(out.headers_named("Cache-Control"), ["no-store"]);
}

/// A guard that writes to the session and lets the route run.
struct Writes;

#[async_trait]
impl<'r> FromRequest<'r> for Writes {
    type Error = Error;

    async fn from_request(request: &'r Incoming<'_>) -> Outcome<Writes, Error> {
        let session: &Session = rocket::outcome::try_outcome!(request.guard().await);
        match session.increment("guarded", 1) {
            Ok(_) => Outcome::Success(Writes),
            Err(error) => Outcome::Error((error.status(), error)),
        }
    }
}

/// A guard that hands the request on.
struct Forwards;

#[async_trait]
impl<'r> FromRequest<'r> for Forwards {
    type Error = ();

    async fn from_request(_: &'r Incoming<'_>) -> Outcome<Forwards, ()> {
        Outcome::Forward(Status::NotFound)
    }
}

#[get("/forward", rank = 1)]
fn forwarding(_writes: Writes, _forwards: Forwards) {}

#[get("/forward", rank = 2)]
fn forwarded(session: &Session) -> Result<String, Error> {
    let before: i64 = session.get("guarded")?.unwrap_or_default();
    session.set("handled", &true)?;
    Ok(before.to_string())
}

#[get("/exhausted")]
fn exhausted(_writes: Writes, _forwards: Forwards) {}

#[rocket::async_test]
async fn a_forwarded_request_keeps_its_session() {
    let keys = [("indexes", false.into())];
    let probe = Probe::start_with("life_forward", &keys, |rocket| {
        rocket.mount("/", routes![forwarding, forwarded])
    })
    .await;
    let browser = probe.browser();
    let first = browser.get("/forward").await;
    assert_eq!(first.text(), "1");
    assert!(sent_by(&first).is_some());
    let profile = probe.profile().await;
    assert_eq!(browser.get("/forward").await.text(), "2");
    assert_eq!(asked(&profile).await, ["find", "update"]);
    let seen = run(&browser, Script::new().get("guarded").get("handled")).await;
    assert_eq!(seen.results, [json!(2), json!(true)]);
}

#[rocket::async_test]
async fn an_exhausted_forward_is_an_exception() {
    for kept in [true, false] {
        let keys = [("set_on_exception", kept.into())];
        let probe = Probe::start_with("life_exhausted", &keys, |rocket| {
            rocket.mount("/", routes![exhausted])
        })
        .await;
        let browser = probe.browser();
        let answer = browser.get("/exhausted").await;
        assert_eq!(answer.status, 404);
        assert_eq!(sent_by(&answer).is_some(), kept);
        assert_eq!(probe.documents().await.len(), usize::from(kept));
    }
}

#[rocket::async_test]
async fn requests_on_one_connection_have_nothing_in_common() {
    let probe = Probe::start("life_connection", &[]).await;
    let cookie_of = async |n: i64| {
        let browser = probe.browser();
        run(&browser, Script::new().set("n", n)).await.cookie()
    };
    let (a, b) = (cookie_of(1).await, cookie_of(2).await);
    let mut connection = crate::support::Connection::open(probe.app.addr())
        .await
        .expect("one");
    let plain = |cookie: Option<&str>| {
        let request: Request = Script::new().get("n").request();
        match cookie {
            Some(cookie) => request.header("Cookie", format!("session={cookie}")),
            None => request,
        }
    };
    for (cookie, n) in [
        (Some(&*a), json!(1)),
        (None, json!(null)),
        (Some(&*b), json!(2)),
    ] {
        let answer = connection
            .exchange(&plain(cookie))
            .await
            .expect("an answer");
        let results: Value = rocket::serde::json::from_slice(&answer.body).expect("results");
        assert_eq!(results, json!([n]));
    }
}
