//! Revocation: at once, everywhere, and against logins in progress.

use std::time::Duration;

use mongodb::bson::doc;
use rocket::futures::future::join_all;
use rocket::request::{FromRequest, Outcome, Request as Incoming};
use rocket::serde::json::json;
use rocket::tokio::join;
use rocket::{async_trait, post, routes};
use rocket_mongo_session::{Error, Session};
use rstest::rstest;

use super::{ask, call, forget_revocations, member, null, whoami};
use crate::apps::database;
use crate::apps::probe::{Gates, Probe, Script, id_of, run_with};
use crate::support::{Mongod, Request};

/// RV-01, RV-04, RV-05, LO-01: another process sees it at its next request, whatever that does.
#[rstest]
#[test_attr(rocket::async_test)]
#[case("revoke")]
#[case("revoke_of")]
#[case("revoke_user")]
#[case("revoke_all")]
#[case("logout")]
async fn two_applications_on_one_database_see_a_revocation_at_the_next_request(#[case] end: &str) {
    let db = database();
    let probe = Probe::start(&db, &[]).await;
    let url = Mongod::shared().await.url(&db);
    let other = probe.again(&url, &[]).await;
    let mut cookies = Vec::new();
    for _ in 0..3 {
        cookies.push(member(&probe, "alice").await);
    }
    let stranger = member(&probe, "bob").await;
    for cookie in &cookies {
        assert_eq!(whoami(&other, cookie).await, json!("alice"));
    }
    probe.clock.advance(Duration::from_millis(1));
    let first = &cookies[0];
    let (ended, all) = match end {
        "revoke" => (
            ask(&probe.app, json!(["revoke", id_of(first)])).await,
            false,
        ),
        "revoke_of" => {
            let order = json!(["revoke_of", "alice", id_of(first)]);
            (ask(&probe.app, order).await, false)
        }
        "revoke_user" => (ask(&probe.app, json!(["revoke_user", "alice"])).await, true),
        "revoke_all" => (ask(&probe.app, json!(["revoke_all"])).await, true),
        _ => (call(&probe.app, first, json!(["logout"])).await, false),
    };
    assert_ne!(ended, json!(false));
    for app in [&other, &probe.app] {
        for (at, cookie) in cookies.iter().enumerate() {
            let dead = all || at == 0;
            assert_eq!(whoami(app, cookie).await.is_null(), dead, "{at}");
            // Nor does writing bring it back.
            let written = run_with(app, cookie, Script::new().get("n")).await;
            assert_eq!(written.sent(), None);
        }
        assert_eq!(whoami(app, &stranger).await.is_null(), end == "revoke_all");
    }
}

/// RV-02: 500 logins that read the password before it was changed; none is left.
#[rocket::async_test]
async fn a_login_in_progress_when_its_user_was_revoked_fails() {
    let probe = Probe::start("sec_revoke_race", &[]).await;
    for round in 0..500 {
        let order = match round % 50 {
            0 => json!(["revoke_all"]), // which takes two seconds
            _ => json!(["revoke_user", "alice"]),
        };
        let login = match round % 3 {
            0 => Script::new().pause("checked").login("alice"),
            1 => Script::new().pause("checked").login("alice").then("save"),
            _ => {
                let keep = json!(["login_keeping", "alice", []]);
                Script::new().set("n", 1).pause("checked").call(keep)
            }
        };
        forget_revocations(&probe).await;
        let login = probe.app.send(login.request());
        let revoke = async {
            // The login has begun, and has checked what it is shown.
            probe.gates.reached("checked").await;
            probe.clock.advance(Duration::from_millis(1));
            let continues = async { probe.gates.open("checked") };
            let (revoked, ()) = join!(ask(&probe.app, order), continues);
            assert!(revoked.is_u64(), "{revoked}");
        };
        let (login, ()) = join!(login, revoke);
        let login: crate::apps::probe::Ran = login.into();
        assert_eq!(login.status, 200, "round {round}");
        // Either it ended itself, or it was there in time to be revoked.
        if let Some(line) = login.sent() {
            let cookie = crate::apps::probe::value_of(line);
            assert_eq!(whoami(&probe.app, cookie).await, null(), "round {round}");
        }
        let left = doc! { "user": "alice" };
        let left = probe
            .sessions()
            .count_documents(left)
            .await
            .expect("a count");
        assert_eq!(left, 0, "round {round}");
    }
    // The next login is later, and stands.
    forget_revocations(&probe).await;
    let cookie = member(&probe, "alice").await;
    assert_eq!(whoami(&probe.app, &cookie).await, json!("alice"));
}

/// An application's own guard, which checks a password and knows nothing of sessions.
struct Checked;

#[async_trait]
impl<'r> FromRequest<'r> for Checked {
    type Error = ();

    async fn from_request(request: &'r Incoming<'_>) -> Outcome<Checked, ()> {
        let gates: &Gates = request.rocket().state().expect("the probe's gates");
        gates.pass("checked").await;
        Outcome::Success(Checked)
    }
}

#[post("/enter")]
fn enter(_checked: Checked, session: &Session) -> Result<(), Error> {
    session.login("alice")
}

/// RV-02: what counts is when the request began, whichever guard comes first.
#[rocket::async_test]
async fn a_login_whose_password_was_checked_before_the_session_was_asked_for_is_none() {
    let probe = Probe::start_with("sec_revoke_guard", &[], |rocket| {
        rocket.mount("/", routes![enter])
    })
    .await;
    for order in [json!(["revoke_user", "alice"]), json!(["revoke_all"])] {
        let login = probe.app.send(Request::post("/enter"));
        let revoke = async {
            probe.gates.reached("checked").await;
            probe.clock.advance(Duration::from_millis(1));
            let ended = ask(&probe.app, order.clone()).await;
            assert_eq!(ended, json!(0), "{order}: no session was there");
            probe.clock.advance(Duration::from_millis(1));
            probe.gates.open("checked");
        };
        let (login, ()) = join!(login, revoke);
        assert_eq!(login.status, 200, "{order}");
        assert_eq!(login.set_cookies(), Vec::<&str>::new(), "{order}");
        let left = ask(&probe.app, json!(["count_user", "alice"])).await;
        assert_eq!(left, json!(0), "{order}");
        forget_revocations(&probe).await;
    }
    // A later login stands.
    probe.gates.open("checked");
    let login = probe.app.send(Request::post("/enter")).await;
    assert_eq!(login.set_cookies().len(), 1, "{login:?}");
}

/// CC-05 with RV-02: the user who changes the password stays, and no other session, not even
/// one of this moment.
#[rstest]
#[test_attr(rocket::async_test)]
#[case(Script::new())]
#[case(Script::new().set("n", 1))]
#[case(Script::new().then("elevate"))]
#[case(Script::new().then("renew"))]
#[case(Script::new().login("alice"))]
#[case(Script::new().then("elevate").then("save"))]
async fn revoking_the_others_spares_this_session_in_whatever_state_it_is(#[case] script: Script) {
    let probe = Probe::start(&database(), &[]).await;
    let own = member(&probe, "alice").await;
    let others = [member(&probe, "alice").await, member(&probe, "alice").await];
    let stranger = member(&probe, "bob").await;
    let late = probe
        .app
        .send(Script::new().pause("checked").login("alice").request());
    let change = async {
        probe.gates.reached("checked").await;
        probe.clock.advance(Duration::from_millis(1));
        let script = script.call(json!(["revoke_others"]));
        let ran = run_with(&probe.app, &own, script).await;
        assert_eq!(ran.last(), &json!(2), "{ran:?}");
        probe.gates.open("checked");
        ran
    };
    let (late, ran) = join!(late, change);
    assert_eq!(
        late.set_cookies(),
        Vec::<&str>::new(),
        "in progress elsewhere"
    );
    let own = ran
        .sent()
        .map_or(own, |line| crate::apps::probe::value_of(line).to_owned());
    assert_eq!(whoami(&probe.app, &own).await, json!("alice"));
    for other in &others {
        assert_eq!(whoami(&probe.app, other).await, null());
    }
    assert_eq!(whoami(&probe.app, &stranger).await, json!("bob"));
    let count = ask(&probe.app, json!(["count_user", "alice"])).await;
    assert_eq!(count, json!(1));
}

#[rocket::async_test]
async fn without_a_user_there_are_no_others_to_revoke() {
    let probe = Probe::start("sec_revoke_others", &[]).await;
    member(&probe, "alice").await;
    let visitor = run_with(&probe.app, "", Script::new().call(json!(["revoke_others"]))).await;
    assert_eq!(visitor.last(), &json!(0));
}

/// CC-05 with RV-02: a login that ends the others stands against its own revocation, and against
/// no other that began while it was in progress.
#[rocket::async_test]
async fn a_login_that_ends_the_others_outlives_no_other_revocation() {
    let probe = Probe::start("sec_revoke_both", &[]).await;
    for order in [json!(["revoke_user", "alice"]), json!(["revoke_all"])] {
        for login in [
            Script::new().pause("checked").login("alice"),
            Script::new().login("alice").pause("checked"),
        ] {
            let login = login.call(json!(["revoke_others"]));
            let running = run_with(&probe.app, "", login);
            let revoke = async {
                probe.gates.reached("checked").await;
                probe.clock.advance(Duration::from_millis(1));
                ask(&probe.app, order.clone()).await;
                probe.clock.advance(Duration::from_millis(1));
                probe.gates.open("checked");
            };
            let (ran, ()) = join!(running, revoke);
            assert_eq!((ran.status, ran.sent()), (200, None), "{order}");
            let left = ask(&probe.app, json!(["count_user", "alice"])).await;
            assert_eq!(left, json!(0), "{order}");
        }
    }
}

/// RV-02: numbers that the database takes for equal are one user, also to a login in progress.
#[rocket::async_test]
async fn a_login_in_progress_is_revoked_by_an_equal_number_of_another_type() {
    let probe = Probe::start("sec_revoke_numbers", &[]).await;
    for (user, same) in [
        (json!(7), json!(7.0)),
        (json!(7.0), json!(7)),
        (json!({"id": 7}), json!({"id": 7.0})),
    ] {
        let running = run_with(
            &probe.app,
            "",
            Script::new().pause("checked").login(user.clone()),
        );
        let revoke = async {
            probe.gates.reached("checked").await;
            probe.clock.advance(Duration::from_millis(1));
            ask(&probe.app, json!(["revoke_user", same])).await;
            probe.gates.open("checked");
        };
        let (ran, ()) = join!(running, revoke);
        assert_eq!((ran.status, ran.sent()), (200, None), "{user}");
    }
}

/// LO-03, LO-04, RV-08: what was slower than a revocation changes nothing and sends nothing.
#[rstest]
#[test_attr(rocket::async_test)]
#[case("renew")]
#[case("touch")]
#[case("csrf_token")]
#[case("new_csrf_token")]
#[case("elevate")]
async fn a_request_in_progress_when_its_session_was_revoked_leaves_nothing(#[case] slow: &str) {
    let probe = Probe::start(&database(), &[("max_age", 60.into())]).await;
    let cookie = member(&probe, "alice").await;
    probe.clock.advance(Duration::from_secs(30));
    let script = Script::new().pause("loaded").set("n", 1).then(slow);
    let running = run_with(&probe.app, &cookie, script);
    let revoke = async {
        probe.gates.reached("loaded").await;
        let ended = ask(&probe.app, json!(["revoke", id_of(&cookie)])).await;
        assert_eq!(ended, json!(true));
        probe.gates.open("loaded");
    };
    let (ran, ()) = join!(running, revoke);
    assert_eq!((ran.status, ran.sent()), (200, None));
    assert_eq!(probe.document(&cookie).await, None);
    let count = ask(&probe.app, json!(["count_user", "alice"])).await;
    assert_eq!(count, json!(0));
}

/// LO-07: a logout twenty times at once is one logout.
#[rocket::async_test]
async fn a_logout_may_be_repeated() {
    let probe = Probe::start("sec_revoke_twice", &[]).await;
    let cookie = member(&probe, "alice").await;
    let out = (0..20).map(|_| run_with(&probe.app, &cookie, Script::new().then("logout")));
    for ran in join_all(out).await {
        assert_eq!(ran.status, 200);
    }
    assert_eq!(ask(&probe.app, json!(["count"])).await, json!(0));
}
