//! Several kinds of session in one application.

use mongodb::Client;
use mongodb::bson::{Bson, Document, doc};
use rocket::config::LogLevel;
use rocket::error::ErrorKind;
use rocket::figment::{Figment, value::Value};
use rocket::http::{Header, Status};
use rocket::local::{asynchronous, blocking};
use rocket::{Build, Rocket, catch, catchers, get, post, routes};
use rocket_mongo_session::{
    CsrfForm, CsrfHeader, Error, Kind, NoFields, Of, RecentLogin, Session, SessionFairing,
    Sessions, SessionsOf, testing,
};

use crate::apps::probe::{id_of, removes};
use crate::support::alone::{alone, forget_lines, lines};
use crate::support::{App, Mongod, Proxy, Request, Response, figment};

struct Admin;

impl Kind for Admin {
    const NAME: &'static str = "admin";
}

struct Phone;

impl Kind for Phone {
    const NAME: &'static str = "phone";
}

const COOKIES: [&str; 2] = ["session", "session_admin"];

#[post("/write/both")]
fn write_both(main: &Session, admin: Of<'_, Admin>) -> Result<String, Error> {
    let (main, admin) = (main.increment("n", 1)?, admin.increment("n", 1)?);
    Ok(format!("{main} {admin}"))
}

#[post("/write/fail")]
fn write_both_and_fail(main: &Session, admin: Of<'_, Admin>) -> Result<Status, Error> {
    write_both(main, admin).map(|_| Status::Conflict)
}

#[post("/write/main")]
fn write_main(main: &Session) -> Result<String, Error> {
    Ok(main.increment("n", 1)?.to_string())
}

#[get("/read")]
fn read(main: &Session, admin: Of<'_, Admin>) -> Result<String, Error> {
    let count = |session: &Session| session.get::<i64>("n").map(Option::unwrap_or_default);
    Ok(format!("{} {}", count(main)?, count(&admin)?))
}

#[post("/login")]
fn login(main: &Session, admin: Of<'_, Admin>) -> Result<(), Error> {
    main.login("alice")?;
    admin.login("root")
}

#[get("/users")]
fn users(main: &Session, admin: Of<'_, Admin>) -> Result<String, Error> {
    let user = |session: &Session| session.user::<String>().map(Option::unwrap_or_default);
    Ok(format!("{} {}", user(main)?, user(&admin)?))
}

#[post("/logout/main")]
fn logout_main(main: &Session) -> Result<(), Error> {
    main.logout()
}

#[post("/logout/admin")]
fn logout_admin(admin: Of<'_, Admin>) -> Result<(), Error> {
    admin.logout()
}

#[get("/tokens")]
fn tokens(main: &Session, admin: Of<'_, Admin>) -> String {
    format!("{} {}", main.csrf_token(), admin.csrf_token())
}

#[post("/form/main", data = "<_form>")]
fn form_main(_form: CsrfForm) {}

#[post("/form/admin", data = "<_form>")]
fn form_admin(_form: CsrfForm<NoFields, Admin>) {}

#[post("/header/admin")]
fn header_admin(_checked: CsrfHeader<Admin>) {}

#[get("/recent/main")]
fn recent_main(_recent: RecentLogin<60>) {}

#[get("/recent/admin")]
fn recent_admin(_recent: RecentLogin<60, Admin>) {}

#[get("/counts")]
async fn counts(main: &Sessions, admin: SessionsOf<'_, Admin>) -> Result<String, Error> {
    Ok(format!("{} {}", main.count().await?, admin.count().await?))
}

#[catch(503)]
fn unavailable() -> &'static str {
    "our own 503"
}

/// Takes one of the kinds, and writes to it.
#[catch(409)]
async fn conflict(request: &rocket::Request<'_>) -> &'static str {
    let asked = request.headers().get_one("X-Kind");
    let written = match asked {
        Some("main") => {
            let session = request.guard::<&Session>().await.expect("a session");
            session.set("caught", &true)
        }
        Some("admin") => {
            let session = request.guard::<Of<'_, Admin>>().await.expect("a session");
            session.set("caught", &true)
        }
        _ => Ok(()),
    };
    written.expect("a change");
    "our own 409"
}

#[post("/issue/admin")]
fn issue_admin(admin: Of<'_, Admin>) -> Result<String, Error> {
    admin.issue_token()
}

/// Takes the kind that the handler did not, and tries to write to it.
#[catch(503)]
async fn write_late(request: &rocket::Request<'_>) -> String {
    let main = request.guard::<&Session>().await.expect("a session");
    let is_refused = matches!(main.set("n", &1), Err(Error::Sealed));
    format!("{is_refused} {:?}", main.csrf_token())
}

fn all_routes() -> Vec<rocket::Route> {
    let all = routes![
        write_both,
        write_both_and_fail,
        write_main,
        read,
        login,
        users,
        logout_main,
        logout_admin,
        tokens,
        form_main,
        form_admin,
        header_admin,
        recent_main,
        recent_admin,
        counts,
    ];
    all
}

fn rocket(figment: Figment) -> Rocket<Build> {
    rocket::custom(figment)
        .attach(Sessions::fairing())
        .attach(Sessions::fairing_of::<Admin>())
        .mount("/", all_routes())
        .register("/", catchers![unavailable, conflict])
}

/// On the shared server, in an empty database.
async fn start(db: &str, keys: &[(&str, Value)]) -> (App, Client) {
    let mongod = Mongod::shared().await;
    let client = mongod.client().await;
    client.database(db).drop().await.expect("an empty database");
    let debug = figment("debug", Some(&mongod.url(db)), &[]);
    let keys = keys.iter().cloned();
    let figment = keys.fold(debug, |figment, key| figment.merge(key));
    (App::launch(rocket(figment)).await, client)
}

async fn stored(client: &Client, db: &str, collection: &str) -> Vec<Document> {
    use rocket::futures::TryStreamExt;
    let all = client.database(db).collection::<Document>(collection);
    let query = doc! { "_id": { "$not": { "$regex": "^~" } } };
    let found = all.find(query).await.expect("a find");
    found.try_collect().await.expect("documents")
}

/// The names of the cookies that a response sets.
fn names(response: &Response) -> Vec<&str> {
    let lines = response.set_cookies().into_iter();
    let mut names: Vec<&str> = lines
        .map(|line| line.split('=').next().unwrap_or_default())
        .collect();
    names.sort_unstable();
    names
}

#[rocket::async_test]
async fn two_kinds_in_one_request_have_their_own_cookies_and_collections() {
    let (app, client) = start("kinds_two", &[]).await;
    let browser = app.browser();
    let first = browser.send(Request::post("/write/both")).await;
    assert_eq!((first.status, first.text()), (200, "1 1".into()));
    assert_eq!(names(&first), COOKIES);
    assert_eq!(first.headers_named("Vary"), ["Cookie"]);
    assert_eq!(first.headers_named("Cache-Control"), ["no-store"]);
    for (cookie, collection) in COOKIES.iter().zip(COOKIES) {
        let documents = stored(&client, "kinds_two", collection).await;
        let id = browser.cookie(cookie).expect("a cookie");
        assert_eq!(documents.len(), 1, "{collection}");
        assert_eq!(documents[0].get_str("_id"), Ok(id_of(&id)), "{collection}");
    }
    let again = browser.send(Request::post("/write/both")).await;
    assert_eq!(again.text(), "2 2");
    assert_eq!(browser.send(Request::post("/write/main")).await.text(), "3");
    let seen = browser.get("/read").await;
    assert_eq!((seen.text(), names(&seen)), ("3 2".into(), vec![]));
    assert_eq!(browser.get("/counts").await.text(), "1 1");
}

#[rocket::async_test]
async fn a_cookie_of_one_kind_opens_no_session_of_another() {
    let db = "kinds_strangers";
    let (app, client) = start(db, &[]).await;
    let browser = app.browser();
    browser.send(Request::post("/write/main")).await;
    let cookie = browser.cookie("session").expect("a cookie");
    let as_admin = Request::get("/read").header("Cookie", format!("session_admin={cookie}"));
    assert_eq!(app.send(as_admin.clone()).await.text(), "0 0");
    // Not even where the document itself comes into the other collection.
    let document = stored(&client, db, "session").await.remove(0);
    let others = client.database(db).collection::<Document>("session_admin");
    others.insert_one(document).await.expect("an insert");
    assert_eq!(app.send(as_admin).await.text(), "0 0");
    let as_main = Request::get("/read").header("Cookie", format!("session={cookie}"));
    assert_eq!(app.send(as_main).await.text(), "1 0");
}

#[rocket::async_test]
async fn logout_of_one_kind_leaves_the_other() {
    let (app, client) = start("kinds_logout", &[]).await;
    let browser = app.browser();
    browser.send(Request::post("/login")).await;
    assert_eq!(browser.get("/users").await.text(), "alice root");
    let out = browser.send(Request::post("/logout/admin")).await;
    assert_eq!(names(&out), ["session_admin"]);
    assert!(removes(out.set_cookies()[0]), "{out:?}");
    assert_eq!(browser.get("/users").await.text(), "alice ");
    assert_eq!(stored(&client, "kinds_logout", "session_admin").await, []);

    browser.send(Request::post("/login")).await;
    browser.send(Request::post("/logout/main")).await;
    assert_eq!(browser.get("/users").await.text(), " root");
}

#[rocket::async_test]
async fn each_kind_has_its_own_timeout_and_login_time() {
    let mongod = Mongod::shared().await;
    let db = "kinds_times";
    let client = mongod.client().await;
    client.database(db).drop().await.expect("an empty database");
    let figment = figment("debug", Some(&mongod.url(db)), &[]).merge(("session_admin.timeout", 60));
    let clock = testing::Clock::new();
    let fairing = |fairing: SessionFairing| fairing.with_clock(&clock);
    let rocket = rocket::custom(figment)
        .attach(fairing(Sessions::fairing_of::<Admin>()))
        .attach(fairing(Sessions::fairing()))
        .mount("/", all_routes());
    let app = App::launch(rocket).await;
    let browser = app.browser();
    assert_eq!(browser.get("/recent/admin").await.status, 401);
    browser.send(Request::post("/login")).await;
    for path in ["/recent/main", "/recent/admin"] {
        assert_eq!(browser.get(path).await.status, 200, "{path}");
    }
    clock.advance(std::time::Duration::from_secs(61));
    assert_eq!(browser.get("/users").await.text(), "alice ");
}

#[rocket::async_test]
async fn a_token_of_one_kind_passes_no_check_of_another() {
    let (app, _) = start("kinds_tokens", &[]).await;
    let browser = app.browser();
    let tokens = browser.get("/tokens").await.text();
    let (main, admin) = tokens.split_once(' ').expect("two tokens");
    let post = async |path: &str, token: &str| {
        let form = Request::post(path).form(&format!("csrf_token={token}"));
        browser.send(form).await.status
    };
    assert_eq!(post("/form/main", main).await, 200);
    assert_eq!(post("/form/admin", admin).await, 200);
    assert_eq!(post("/form/main", admin).await, 403);
    assert_eq!(post("/form/admin", main).await, 403);
    for (token, status) in [(main, 403), (admin, 200)] {
        let request = Request::post("/header/admin").header("X-CSRF-Token", token);
        assert_eq!(browser.send(request).await.status, status);
    }
}

#[rocket::async_test]
async fn a_kind_whose_store_fails_makes_a_503_with_the_cookies_of_the_others() {
    let db = "kinds_failing";
    let mongod = Mongod::shared().await;
    let client = mongod.client().await;
    client.database(db).drop().await.expect("an empty database");
    let proxy = Proxy::start(mongod.port()).await;
    let app = App::launch(rocket(figment("debug", Some(&proxy.url(db)), &[]))).await;
    for (failing, stands) in [("session_admin", "session"), ("session", "session_admin")] {
        let proxy = Proxy::start(mongod.port()).await;
        proxy.refuse_where(move |command| {
            (command.get("insert") == Some(&Bson::from(failing))).then_some(13)
        });
        let failing_app = rocket(figment("debug", Some(&proxy.url(db)), &[]));
        let failing_app = App::launch(failing_app).await;
        let browser = failing_app.browser();
        let response = browser.send(Request::post("/write/both")).await;
        assert_eq!(
            (response.status, response.text()),
            (503, "our own 503".into())
        );
        assert_eq!(names(&response), [stands], "{failing}");
        assert_eq!(response.headers_named("Cache-Control"), ["no-store"]);
        assert_eq!(response.headers_named("Vary"), ["Cookie"]);
        // The session that was stored is the browser's from here on.
        let cookie = browser.cookie(stands).expect("a cookie");
        let again = Request::get("/read").header("Cookie", format!("{stands}={cookie}"));
        let seen = app.send(again).await.text();
        assert_eq!(seen, if stands == "session" { "1 0" } else { "0 1" });
        assert_eq!(stored(&client, db, failing).await, [], "{failing}");
        client.database(db).drop().await.expect("an empty database");
    }
}

#[rocket::async_test]
async fn a_session_that_is_loaded_after_a_failed_commit_is_read_only() {
    let db = "kinds_late";
    let mongod = Mongod::shared().await;
    let client = mongod.client().await;
    client.database(db).drop().await.expect("an empty database");
    let proxy = Proxy::start(mongod.port()).await;
    proxy.refuse_where(|command| {
        (command.get("insert") == Some(&Bson::from("session_admin"))).then_some(13)
    });
    let figment = figment("debug", Some(&proxy.url(db)), &[]);
    let rocket = rocket::custom(figment.merge(("session_admin.transport", "bearer")))
        .attach(Sessions::fairing())
        .attach(Sessions::fairing_of::<Admin>())
        .mount("/", routes![issue_admin])
        .register("/", catchers![write_late]);
    let app = App::launch(rocket).await;
    let response = app.send(Request::post("/issue/admin")).await;
    assert_eq!(
        (response.status, response.text()),
        (503, "true \"\"".into())
    );
    assert!(names(&response).is_empty(), "{response:?}");
    assert_eq!(response.headers_named("Vary"), ["Authorization, Cookie"]);
    assert_eq!(stored(&client, db, "session").await, []);
}

/// `set_on_exception` is a kind's own, and which kind the catcher takes does not matter.
#[rocket::async_test]
async fn a_catcher_that_takes_one_kind_is_seen_by_the_others() {
    let keys = [("session_admin.set_on_exception", false.into())];
    let (app, _) = start("kinds_caught", &keys).await;
    for caught in ["none", "main", "admin"] {
        let browser = app.browser();
        browser.send(Request::post("/write/both")).await;
        let request = Request::post("/write/fail").header("X-Kind", caught);
        let response = browser.send(request).await;
        assert_eq!(response.text(), "our own 409");
        assert_eq!(browser.get("/read").await.text(), "2 1", "{caught}");
        let lines = response.set_cookies();
        assert!(!lines.iter().any(|line| line.contains("_rms")), "{lines:?}");
    }
}

/// The first failed fairing or guard, and what was logged about it.
async fn refusal(rocket: Rocket<Build>) -> String {
    forget_lines();
    let launched = App::try_launch(rocket).await;
    let error = launched.map(|_| ()).expect_err("a refusal");
    let kind = match error.kind() {
        ErrorKind::FailedFairings(failed) => format!("{failed:?}"),
        other => other.to_string(),
    };
    let all = crate::support::alone::all_lines().into_iter();
    let logged: Vec<String> = all.map(|line| line.text).collect();
    format!("{kind}\n{}", logged.join("\n"))
}

struct Misnamed;

impl Kind for Misnamed {
    const NAME: &'static str = "a.b";
}

struct SecondMain;

impl Kind for SecondMain {
    const NAME: &'static str = "main";
}

struct SecondAdmin;

impl Kind for SecondAdmin {
    const NAME: &'static str = "admin";
}

#[post("/checked")]
fn checked(_checked: CsrfHeader<Phone>) {}

#[post("/form", data = "<_form>")]
fn button(_form: CsrfForm<NoFields, Phone>) {}

#[get("/of")]
fn of(_admin: Option<Of<'_, Admin>>) {}

#[get("/handle")]
fn handle(_admin: SessionsOf<'_, Admin>) {}

#[test]
fn a_launch_with_kinds_that_do_not_fit_is_refused_and_says_why() {
    let test = "kinds::a_launch_with_kinds_that_do_not_fit_is_refused_and_says_why";
    alone(test, async {
        let figment = |keys: &[(&str, Value)]| {
            let debug = figment("debug", None, &[]);
            let keys = keys.iter().cloned();
            keys.fold(debug, |figment, key| figment.merge(key))
        };
        let two = |keys: &[(&str, Value)]| {
            rocket::custom(figment(keys))
                .attach(Sessions::fairing())
                .attach(Sessions::fairing_of::<Admin>())
        };
        let one = |fairing: SessionFairing| rocket::custom(figment(&[])).attach(fairing);
        for (rocket, reasons) in [
            (
                two(&[("session_admin.cookie_name", "session".into())]),
                &[
                    "the cookie name `session` is also that of [default.session]",
                    "session_admin",
                ][..],
            ),
            (
                two(&[("session.cookie_name", "session_admin".into())]),
                &["the cookie name `session_admin`"],
            ),
            (
                two(&[("session_admin.collection", "session".into())]),
                &["the collection `session` is also that of [default.session]"],
            ),
            (
                two(&[]).attach(Sessions::fairing_of::<Admin>()),
                &["two session fairings of the kind `admin`"],
            ),
            (
                two(&[("session_admin.timeouts", 5.into())]),
                &["unknown key `timeouts`", "session_admin"],
            ),
            (
                one(Sessions::fairing_of::<Misnamed>()),
                &["a kind of session cannot be named \"a.b\""],
            ),
            (
                one(Sessions::fairing_of::<SecondMain>()),
                &["a kind of session cannot be named \"main\""],
            ),
            (
                one(Sessions::fairing_of::<Admin>()).attach(Sessions::fairing_of::<SecondAdmin>()),
                &["`session_admin`"],
            ),
            (
                one(Sessions::fairing()).mount("/", routes![of]),
                &["of the kind `admin`", "Sessions::fairing_of::<Admin>()"],
            ),
            (
                one(Sessions::fairing()).mount("/", routes![handle]),
                &["Sessions::fairing_of::<Admin>()"],
            ),
            (
                one(Sessions::fairing()).mount("/", routes![header_admin]),
                &["Sessions::fairing_of::<Admin>()"],
            ),
            (
                one(Sessions::fairing()).mount("/", routes![recent_admin]),
                &["Sessions::fairing_of::<Admin>()"],
            ),
        ] {
            let said = refusal(rocket).await;
            for reason in reasons {
                assert!(said.contains(reason), "{reason}: {said}");
            }
        }
        for routes in [routes![checked], routes![button]] {
            let figment = figment(&[("session_phone.transport", "bearer".into())]);
            let rocket = rocket::custom(figment).attach(Sessions::fairing_of::<Phone>());
            let said = refusal(rocket.mount("/", routes)).await;
            assert!(said.contains("`transport` is \"bearer\""), "{said}");
        }
    });
}

/// In MongoDB the collections are compared with their databases.
#[rocket::async_test]
async fn kinds_may_have_one_collection_name_in_two_databases() {
    let mongod = Mongod::shared().await;
    let figment = figment("debug", Some(&mongod.url("kinds_a")), &[])
        .merge(("session_admin.collection", "session"));
    let elsewhere = figment.clone().merge(("session_admin.database", "kinds_b"));
    App::launch(rocket(elsewhere)).await;
    let same = figment.merge(("session_admin.database", "kinds_a"));
    let launched = App::try_launch(rocket(same)).await;
    let error = launched.map(|_| ()).expect_err("a refusal");
    let ErrorKind::FailedFairings(failed) = error.kind() else {
        panic!("{error}");
    };
    assert!(
        format!("{failed:?}").contains("Session Store"),
        "{failed:?}"
    );
}

#[test]
fn a_section_of_no_kind_is_warned_about() {
    alone("kinds::a_section_of_no_kind_is_warned_about", async {
        let debug = figment("debug", None, &[])
            .merge(("session_admn.timeout", 5))
            .merge(("log_level", LogLevel::Critical));
        App::launch(rocket(debug)).await;
        let said = lines();
        let warned = |line: &&crate::support::alone::Line| line.text.contains("session_admn");
        assert_eq!(said.iter().filter(warned).count(), 1, "{said:?}");
    });
}

#[rocket::async_test]
async fn sign_in_gives_a_local_client_a_session_of_each_kind() {
    let mongod = Mongod::shared().await;
    let client = mongod.client().await;
    client
        .database("kinds_sign_in")
        .drop()
        .await
        .expect("an empty database");
    let figment = figment("debug", Some(&mongod.url("kinds_sign_in")), &[])
        .merge(("session_admin.path", "/users"))
        .merge(("session.set_on_exception", false));
    let client = asynchronous::Client::tracked(rocket(figment))
        .await
        .expect("a client");
    let users = async || client.get("/users").dispatch().await.into_string().await;
    testing::sign_in(&client, "alice").await.expect("alice");
    assert_eq!(users().await.as_deref(), Some("alice "));
    testing::sign_in_of::<Admin>(&client, String::from("root"))
        .await
        .expect("root");
    assert_eq!(users().await.as_deref(), Some("alice root"));
    testing::sign_in(&client, &"bob").await.expect("bob");
    assert_eq!(users().await.as_deref(), Some("bob root"));
    // As by the login route, the session before has ended.
    let counts = client.get("/counts").dispatch().await.into_string().await;
    assert_eq!(counts.as_deref(), Some("1 1"));
    assert!(matches!(
        testing::sign_in(&client, ()).await,
        Err(Error::BadUser)
    ));
}

#[test]
fn sign_in_works_with_the_blocking_client() {
    let client = blocking::Client::tracked(rocket(figment("debug", None, &[]))).expect("a client");
    testing::sign_in_blocking(&client, "alice").expect("alice");
    testing::sign_in_blocking_of::<Admin>(&client, "root").expect("root");
    let users = client.get("/users").dispatch().into_string();
    assert_eq!(users.as_deref(), Some("alice root"));
}

#[rocket::async_test]
async fn sign_in_says_what_it_lacks() {
    let debug = || figment("debug", None, &[]);
    let untracked = asynchronous::Client::untracked(rocket(debug()))
        .await
        .expect("a client");
    let failed = testing::sign_in(&untracked, "alice").await;
    assert!(matches!(failed, Err(Error::UntrackedClient)), "{failed:?}");
    let bare = asynchronous::Client::tracked(rocket::custom(debug()))
        .await
        .expect("a client");
    let failed = testing::sign_in(&bare, "alice").await;
    assert!(matches!(failed, Err(Error::NotAttached)), "{failed:?}");
    let bearer = debug().merge(("session.transport", "bearer"));
    let bearer = rocket::custom(bearer).attach(Sessions::fairing());
    let bearer = asynchronous::Client::tracked(bearer)
        .await
        .expect("a client");
    let failed = testing::sign_in(&bearer, "alice").await;
    assert!(
        matches!(failed, Err(Error::WrongTransport { .. })),
        "{failed:?}"
    );
    // A database that does not answer.
    let nowhere = figment(
        "debug",
        Some("mongodb://127.0.0.1:1/x"),
        &[("deadline", 0.2.into())],
    );
    let nowhere = rocket::custom(nowhere).attach(Sessions::fairing());
    let nowhere = asynchronous::Client::tracked(nowhere)
        .await
        .expect("a client");
    let failed = testing::sign_in(&nowhere, "alice")
        .await
        .expect_err("no database");
    assert_eq!(failed.status(), Status::ServiceUnavailable, "{failed:?}");
}

/// A cookie with a domain that does not fit is dropped by browsers, without a word to anybody.
#[test]
fn a_domain_that_does_not_fit_the_host_is_warned_about_once() {
    let test = "kinds::a_domain_that_does_not_fit_the_host_is_warned_about_once";
    alone(test, async {
        let debug = figment("debug", None, &[("domain", "shop.example".into())]);
        let debug = debug.merge(("log_level", LogLevel::Critical));
        let client = asynchronous::Client::untracked(rocket(debug))
            .await
            .expect("a client");
        let warnings = || {
            let lines = lines().into_iter();
            lines
                .filter(|line| line.text.contains("`session.domain` is shop.example"))
                .count()
        };
        let visit = async |host: &str| {
            let request = client
                .post("/write/main")
                .header(Header::new("Host", host.to_owned()));
            let mut request = request;
            request.inner_mut().set_host(rocket::http::uri::Host::new(
                rocket::http::uri::Authority::parse_owned(host.to_owned()).expect("a host"),
            ));
            assert_eq!(request.dispatch().await.status(), Status::Ok);
        };
        for host in ["shop.example", "www.shop.example:8000", "SHOP.example"] {
            visit(host).await;
        }
        assert_eq!(warnings(), 0);
        for host in ["127.0.0.1:8000", "127.0.0.1:8000", "myshop.example"] {
            visit(host).await;
        }
        assert_eq!(warnings(), 2, "{:?}", lines());
    });
}
