//! Sessions with `transport = "bearer"`: for phones and command lines.

use mongodb::Client;
use mongodb::bson::{Document, doc};
use rocket::error::ErrorKind;
use rocket::fairing::AdHoc;
use rocket::figment::value::Value;
use rocket::http::{Header, Status};
use rocket::{Build, Responder, Rocket, State, catch, catchers, get, post, routes};
use rocket_mongo_session::{Error, Kind, Of, RecentLogin, Session, Sessions, SessionsOf};
use rstest::rstest;

use crate::apps::database;
use crate::apps::probe::{Gates, id_of};
use crate::support::{App, Fate, Mongod, Proxy, Request, Response, figment};

struct Phone;

impl Kind for Phone {
    const NAME: &'static str = "phone";
}

type Phones<'r> = Of<'r, Phone>;

#[post("/login/<user>")]
fn login(phone: Phones<'_>, user: &str) -> Result<String, Error> {
    phone.login(user)?;
    phone.issue_token()
}

#[post("/token")]
fn token(phone: Phones<'_>) -> Result<String, Error> {
    phone.increment("n", 1)?;
    let token = phone.issue_token()?;
    assert_eq!(
        phone.issue_token()?,
        token,
        "it is one token until it is stored"
    );
    Ok(token)
}

#[post("/token/saved")]
async fn token_saved(phone: Phones<'_>) -> Result<String, Error> {
    let token = phone.issue_token()?;
    // The handler does not care.
    let _ = phone.save().await;
    Ok(token)
}

#[post("/elevate")]
fn elevate(phone: Phones<'_>) -> Result<String, Error> {
    phone.elevate()?;
    phone.issue_token()
}

/// The token in headers, beside a header without it.
#[derive(Responder)]
struct InHeaders {
    text: &'static str,
    token: Header<'static>,
    authorization: Header<'static>,
    origin: Header<'static>,
}

#[post("/headers/<when>")]
async fn in_headers(phone: Phones<'_>, when: &str) -> Result<InHeaders, Error> {
    let token = phone.issue_token()?;
    if when == "saved" {
        let _ = phone.save().await;
    }
    Ok(InHeaders {
        text: "done",
        authorization: Header::new("Authorization", format!("Bearer {token}")),
        token: Header::new("X-Auth-Token", token),
        origin: Header::new("Access-Control-Allow-Origin", "https://app.example"),
    })
}

/// A catcher answers, and no token was made.
#[post("/conflict")]
fn conflict(_phone: Phones<'_>) -> Status {
    Status::Conflict
}

/// It fails after the token was made, and a catcher answers.
#[post("/fails/<after>")]
fn fails(phone: Phones<'_>, after: &str) -> Result<String, Status> {
    if after == "login" {
        phone.login("bob").expect("a login");
    }
    phone.issue_token().expect("a token");
    Err(Status::Conflict)
}

#[post("/token/late")]
async fn token_late(phone: Phones<'_>, gates: &State<Gates>) -> Result<String, Error> {
    let token = phone.issue_token()?;
    gates.pass("late").await;
    Ok(token)
}

/// Stores the token's session, and changes it later: with the response, or by a `save` of which the
/// handler ignores the result.
#[post("/token/and-more/<again>")]
async fn token_and_more(
    phone: Phones<'_>,
    gates: &State<Gates>,
    again: bool,
) -> Result<String, Error> {
    let token = phone.issue_token()?;
    phone.save().await?;
    gates.pass("late").await;
    phone.set("later", &1)?;
    if again {
        let _ = phone.save().await;
    }
    Ok(token)
}

/// Each changes the token, and hands none out.
#[post("/forget/<what>")]
fn forget(phone: Phones<'_>, what: &str) -> Result<&'static str, Error> {
    phone.set("forgotten", &true)?;
    match what {
        "login" => phone.login("bob")?,
        "elevate" => phone.elevate()?,
        "renew" => phone.renew()?,
        "issue first" => {
            phone.issue_token()?;
            phone.login("bob")?;
        }
        "logout first" => {
            phone.logout()?;
            phone.login("bob")?;
        }
        _ => {}
    }
    Ok("done")
}

#[post("/logout")]
fn logout(phone: Phones<'_>) -> Result<(), Error> {
    phone.logout()
}

#[get("/me")]
fn me(phone: Phones<'_>) -> Result<String, (Status, String)> {
    let user = phone.user::<String>().ok().flatten();
    user.ok_or_else(|| (Status::Unauthorized, format!("{:?}", phone.why_new())))
}

#[get("/n")]
fn n(phone: Phones<'_>) -> Result<String, Error> {
    Ok(phone.get::<i64>("n")?.unwrap_or_default().to_string())
}

#[get("/recent")]
fn recent(_recent: RecentLogin<60, Phone>) {}

#[post("/revoke/<user>")]
async fn revoke(phones: SessionsOf<'_, Phone>, user: &str) -> Result<String, Error> {
    Ok(phones.of(user).revoke_all().await?.to_string())
}

#[post("/cookie-kind")]
fn cookie_kind(session: &Session) -> String {
    format!("{:?}", session.issue_token())
}

#[catch(503)]
fn unavailable() -> &'static str {
    "our own 503"
}

/// Hands out a token in the handler's place.
#[catch(409)]
async fn conflicting(request: &rocket::Request<'_>) -> String {
    let phone = request.guard::<Phones<'_>>().await.expect("a session");
    match phone.issue_token() {
        Err(Error::Sealed) => "sealed".to_owned(),
        issued => issued.expect("a token"),
    }
}

fn rocket(url: &str, gates: &Gates) -> Rocket<Build> {
    let debug = figment("debug", Some(url), &[]).merge(("session_phone.transport", "bearer"));
    let all = routes![
        login,
        token,
        token_saved,
        token_late,
        token_and_more,
        in_headers,
        conflict,
        elevate,
        fails,
        forget,
        logout,
        me,
        n,
        recent,
        revoke,
        cookie_kind
    ];
    rocket::custom(debug)
        .manage(gates.clone())
        .attach(Sessions::fairing())
        .attach(Sessions::fairing_of::<Phone>())
        .mount("/", all)
        .register("/", catchers![unavailable])
}

struct Api {
    app: App,
    client: Client,
    db: String,
    gates: Gates,
}

impl Api {
    async fn start(db: &str) -> Api {
        let url = Mongod::shared().await.url(db);
        Api::start_at(db, &url).await
    }

    async fn start_at(db: &str, url: &str) -> Api {
        let client = Mongod::shared().await.client().await;
        client.database(db).drop().await.expect("an empty database");
        let gates = Gates::default();
        let app = App::launch(rocket(url, &gates)).await;
        let db = db.to_owned();
        Api {
            app,
            client,
            db,
            gates,
        }
    }

    async fn send(&self, request: Request, token: Option<&str>) -> Response {
        let request = match token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        };
        let response = self.app.send(request).await;
        assert_eq!(response.set_cookies(), Vec::<&str>::new(), "{response:?}");
        response
    }

    async fn get(&self, path: &str, token: &str) -> Response {
        self.send(Request::get(path), Some(token)).await
    }

    async fn post(&self, path: &str, token: &str) -> Response {
        self.send(Request::post(path), Some(token)).await
    }

    async fn login(&self, user: &str) -> String {
        let response = self
            .send(Request::post(&format!("/login/{user}")), None)
            .await;
        assert_eq!(response.status, 200, "{response:?}");
        response.text()
    }

    /// The stored sessions.
    async fn stored(&self) -> Vec<Document> {
        use rocket::futures::TryStreamExt;
        let all = self
            .client
            .database(&self.db)
            .collection::<Document>("session_phone");
        let query = doc! { "_id": { "$not": { "$regex": "^~" } } };
        let found = all.find(query).await.expect("a find");
        found.try_collect().await.expect("documents")
    }
}

#[rocket::async_test]
async fn a_token_is_handed_out_once_and_opens_the_session() {
    let api = Api::start("bearer_issue").await;
    let issued = api.send(Request::post("/login/alice"), None).await;
    assert_eq!(issued.headers_named("Cache-Control"), ["no-store"]);
    assert_eq!(issued.headers_named("Vary"), ["Authorization"]);
    let token = issued.text();
    let me = api.get("/me", &token).await;
    assert_eq!((me.status, me.text()), (200, "alice".into()));
    assert_eq!(me.headers_named("Vary"), ["Authorization"]);
    assert_eq!(me.headers_named("Cache-Control"), ["private, no-cache"]);
    assert_eq!(api.get("/recent", &token).await.status, 200);
    // A session without a login, which only the token makes.
    let visitor = api.send(Request::post("/token"), None).await.text();
    assert_eq!(api.get("/n", &visitor).await.text(), "1");
    // A write does not change the token.
    assert_eq!(api.post("/forget/nothing", &token).await.status, 200);
    assert_eq!(api.get("/me", &token).await.text(), "alice");
    assert_eq!(api.stored().await.len(), 2);
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case("Cookie", "session_phone=")]
#[case("Cookie", "session=")]
#[case("Authorization", "Basic ")]
#[case("Authorization", "")]
#[case("X-Authorization", "Bearer ")]
async fn a_cookie_and_other_schemes_open_nothing(#[case] header: &str, #[case] scheme: &str) {
    let api = Api::start(&database()).await;
    let token = api.login("alice").await;
    let request = Request::get("/me").header(header, format!("{scheme}{token}"));
    let response = api.send(request, None).await;
    assert_eq!(
        (response.status, response.text()),
        (401, "Some(NoCookie)".into())
    );
}

#[rocket::async_test]
async fn a_token_that_is_sent_twice_opens_nothing() {
    let api = Api::start("bearer_twice").await;
    let token = api.login("alice").await;
    let twice = Request::get("/me").header("Authorization", format!("Bearer {token}"));
    let twice = api.send(twice, Some(&token)).await;
    assert_eq!(
        (twice.status, twice.text()),
        (401, "Some(Ambiguous)".into())
    );
}

#[rocket::async_test]
async fn a_token_that_opens_nothing_has_no_user() {
    let api = Api::start("bearer_401").await;
    let token = api.login("alice").await;
    let other = api.login("bob").await;
    let secret = |token: &str| token.split_once('.').expect("two halves").1.to_owned();
    for (bad, why) in [
        (String::new(), "NoCookie"),
        ("x".to_owned(), "Malformed"),
        (
            format!("{}.{}", id_of(&token), secret(&other)),
            "WrongSecret",
        ),
        (format!("{}.{}", "A".repeat(22), secret(&token)), "NotFound"),
    ] {
        let response = api.get("/me", &bad).await;
        assert_eq!(
            (response.status, response.text()),
            (401, format!("Some({why})")),
            "{bad}"
        );
        assert_eq!(api.get("/recent", &bad).await.status, 401, "{bad}");
    }
    assert_eq!(api.post("/logout", &token).await.status, 200);
    assert_eq!(api.get("/me", &token).await.status, 401);
    assert_eq!(api.get("/me", &other).await.text(), "bob");
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case("/token", true)]
#[case("/elevate", true)]
#[case("/token/saved", true)]
#[case("/login/alice", false)]
async fn a_new_token_replaces_the_old_one(#[case] path: &str, #[case] keeps_id: bool) {
    let api = Api::start(&database()).await;
    let old = api.login("alice").await;
    let new = api.post(path, &old).await.text();
    assert_ne!(old, new);
    assert_eq!(api.get("/me", &new).await.text(), "alice");
    assert_eq!(api.get("/me", &old).await.status, 401);
    assert_eq!(id_of(&old) == id_of(&new), keeps_id);
    // Without a cookie to overwrite, a request with the token of an ended session creates a new one at once.
    assert_eq!(api.post("/token", &old).await.status, 200);
}

#[rocket::async_test]
async fn a_token_that_is_not_handed_out_is_an_error_and_nothing_is_written() {
    let api = Api::start("bearer_forgotten").await;
    let token = api.login("alice").await;
    let before = api.stored().await;
    for what in ["login", "elevate", "renew", "issue%20first"] {
        let response = api.post(&format!("/forget/{what}"), &token).await;
        assert_eq!(response.status, 500, "{what}");
        assert_eq!(api.stored().await, before, "{what}");
    }
    // A new session that no client could ever open.
    let response = api.send(Request::post("/forget/nothing"), None).await;
    assert_eq!(response.status, 500);
    assert_eq!(api.stored().await, before);
    // A logout stands whatever the response becomes.
    assert_eq!(api.post("/forget/logout%20first", &token).await.status, 500);
    assert_eq!(api.stored().await, Vec::<Document>::new());
}

#[rocket::async_test]
async fn a_token_whose_response_a_catcher_replaced_is_not_stored() {
    let api = Api::start("bearer_caught").await;
    let token = api.login("alice").await;
    let before = api.stored().await;
    for after in ["login", "nothing"] {
        let path = format!("/fails/{after}");
        assert_eq!(api.post(&path, &token).await.status, 409, "{after}");
        assert_eq!(api.stored().await, before, "{after}");
        let new = api.send(Request::post(&path), None).await;
        assert_eq!(new.status, 409, "{after}");
        assert_eq!(api.stored().await, before, "{after}, without a session");
    }
    assert_eq!(api.get("/me", &token).await.text(), "alice");
}

/// A response fairing that is attached before the session fairing asks for the session.
#[rocket::async_test]
async fn an_early_response_fairing_keeps_no_token_from_being_stored() {
    let url = Mongod::shared().await.url("bearer_early");
    let client = Mongod::shared().await.client().await;
    let old = client.database("bearer_early");
    old.drop().await.expect("an empty database");
    let early = AdHoc::on_response("Early", |request, _| {
        Box::pin(async move {
            let phone = request.guard::<Phones<'_>>().await;
            assert!(phone.is_success());
        })
    });
    let debug = figment("debug", Some(&url), &[]).merge(("session_phone.transport", "bearer"));
    let rocket = rocket::custom(debug)
        .attach(early)
        .attach(Sessions::fairing_of::<Phone>())
        .mount("/", routes![login, me]);
    let app = App::launch(rocket).await;
    let login = app.send(Request::post("/login/alice")).await;
    assert_eq!(login.status, 200, "{login:?}");
    let me = Request::get("/me").header("Authorization", format!("Bearer {}", login.text()));
    assert_eq!(app.send(me).await.text(), "alice");
}

#[rocket::async_test]
async fn a_token_of_a_session_that_was_not_stored_is_not_sent() {
    for path in ["/login/alice", "/token", "/token/saved"] {
        let proxy = Proxy::start(Mongod::shared().await.port()).await;
        let api = Api::start_at("bearer_refused", &proxy.url("bearer_refused")).await;
        for fate in [Fate::Refuse(13), Fate::LoseReply] {
            let is_lost = matches!(fate, Fate::LoseReply);
            proxy.plan("insert", [fate]);
            let response = api.send(Request::post(path), None).await;
            let said = (response.status, response.text());
            assert_eq!(said, (503, "our own 503".to_owned()), "{path}");
            assert_eq!(response.headers_named("Cache-Control"), ["no-store"]);
            assert_eq!(proxy.cuts() > 0, is_lost, "{path}");
        }
        // The attempt whose reply was lost is taken back.
        crate::apps::probe::eventually("nothing stored", async || api.stored().await.is_empty())
            .await;
    }
}

#[rocket::async_test]
async fn a_token_of_a_session_that_was_not_stored_is_in_no_header() {
    let proxy = Proxy::start(Mongod::shared().await.port()).await;
    let api = Api::start_at("bearer_headers", &proxy.url("bearer_headers")).await;
    for when in ["response", "saved"] {
        let path = format!("/headers/{when}");
        let fine = api.send(Request::post(&path), None).await;
        let token = fine.header("X-Auth-Token").expect("a token");
        let bearer = format!("Bearer {token}");
        assert_eq!(fine.header("Authorization"), Some(bearer.as_str()));
        assert_eq!(api.get("/me", token).await.text(), "None", "{when}");

        proxy.plan("insert", [Fate::Refuse(13)]);
        let failed = api.send(Request::post(&path), None).await;
        assert_eq!(failed.status, 503, "{when}");
        for name in ["X-Auth-Token", "Authorization"] {
            assert_eq!(failed.header(name), None, "{when}");
        }
        let origin = failed.header("Access-Control-Allow-Origin");
        assert_eq!(origin, Some("https://app.example"), "{when}");
    }
}

#[rocket::async_test]
async fn a_catcher_hands_out_no_token_that_is_not_stored() {
    let url = Mongod::shared().await.url("bearer_catcher");
    let rocket = rocket(&url, &Gates::default()).register("/", catchers![conflicting]);
    let app = App::launch(rocket).await;
    for after in ["login", "nothing"] {
        let response = app.send(Request::post(&format!("/fails/{after}"))).await;
        let said = (response.status, response.text());
        assert_eq!(said, (409, "sealed".to_owned()), "{after}");
    }
    // Where the handler has handed out none, the catcher's is stored.
    let token = app.send(Request::post("/conflict")).await.text();
    let me = Request::get("/me").header("Authorization", format!("Bearer {token}"));
    assert_eq!(app.send(me).await.text(), "None");
}

/// The update of a renewal: whatever became of it, no token is sent that may be dead.
#[rocket::async_test]
async fn a_renewal_whose_reply_was_lost_is_a_503() {
    let proxy = Proxy::start(Mongod::shared().await.port()).await;
    let api = Api::start_at("bearer_lost", &proxy.url("bearer_lost")).await;
    let token = api.login("alice").await;
    proxy.plan("update", [Fate::LoseReply]);
    let response = api.post("/token", &token).await;
    let is_told = response.status == 503 && response.text() == "our own 503";
    // Or it was sent again, and the server said what had become of it.
    let is_known = response.status == 200 && api.get("/me", &response.text()).await.status == 200;
    assert!(is_told || is_known, "{response:?}");
    assert!(proxy.cuts() > 0);
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case("/token/late")]
#[case("/token/and-more/false")]
#[case("/token/and-more/true")]
async fn a_session_that_ends_meanwhile_is_a_401_without_a_token(#[case] path: &str) {
    let api = Api::start(&database()).await;
    let token = api.login("alice").await;
    let (late, ()) = rocket::tokio::join!(api.post(path, &token), async {
        api.gates.reached("late").await;
        let revoked = api.send(Request::post("/revoke/alice"), None).await;
        assert_eq!(revoked.text(), "1");
        api.gates.open("late");
    });
    assert_eq!(late.status, 401, "{late:?}");
    assert_eq!(late.headers_named("Cache-Control"), ["no-store"]);
    assert_eq!(api.stored().await, Vec::<Document>::new());
}

#[rocket::async_test]
async fn no_origin_is_checked_because_no_browser_sends_a_token_by_itself() {
    let api = Api::start("bearer_origin").await;
    let token = api.login("alice").await;
    let foreign = Request::post("/token")
        .header("Sec-Fetch-Site", "cross-site")
        .header("Origin", "https://app.example");
    let response = api.send(foreign, Some(&token)).await;
    assert_eq!(response.status, 200, "{response:?}");
}

#[rocket::async_test]
async fn issue_token_is_an_error_for_sessions_in_cookies() {
    let api = Api::start("bearer_cookie_kind").await;
    let said = api.send(Request::post("/cookie-kind"), None).await.text();
    assert!(said.contains("WrongTransport"), "{said}");
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case("max_age", 5)]
#[case("path", "/")]
#[case("secure", true)]
#[case("same_site", "Lax")]
#[case("legacy_ids", true)]
async fn keys_of_a_cookie_are_refused(#[case] key: &str, #[case] value: impl Into<Value>) {
    let url = Mongod::shared().await.url(&database());
    let keys = [(key, value.into()), ("transport", "bearer".into())];
    let debug = figment("debug", Some(&url), &keys);
    let rocket = rocket::custom(debug).attach(Sessions::fairing());
    let launched = App::try_launch(rocket).await;
    let error = launched.map(|_| ()).expect_err("a refusal");
    let ErrorKind::FailedFairings(failed) = error.kind() else {
        panic!("{error}");
    };
    assert!(format!("{failed:?}").contains("Session Store"));
}

#[rocket::async_test]
async fn the_name_of_a_cookie_is_accepted() {
    let url = Mongod::shared().await.url("bearer_keys");
    let named = [
        ("cookie_name", "phone".into()),
        ("transport", "bearer".into()),
    ];
    let debug = figment("debug", Some(&url), &named);
    App::launch(rocket::custom(debug).attach(Sessions::fairing())).await;
}
