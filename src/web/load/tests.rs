use std::time::Duration;

use rocket::config::LogLevel;
use rocket::figment::Figment;
use rocket::figment::value::Value;
use rocket::http::{ContentType, Header};
use rocket::local::asynchronous::{Client as Browser, LocalRequest};
use rocket::{post, routes};
use rstest::rstest;

use super::*;
use crate::clock::Clock;
use crate::document::Filter;
use crate::record::token::Secret;

/// An application with sessions in memory, and its clock.
struct App {
    browser: Browser,
    clock: Clock,
}

#[post("/login/<user>")]
fn login(session: &Session, user: &str) -> Result<()> {
    session.login(user)
}

impl App {
    async fn start(keys: &[(&str, Value)]) -> Self {
        let trusted: [&str; 0] = [];
        App::start_trusting(keys, &trusted).await
    }

    async fn start_trusting(keys: &[(&str, Value)], trusted: &[&str]) -> Self {
        let clock = Clock::new();
        let silent = rocket::Config {
            log_level: LogLevel::Off,
            ..rocket::Config::debug_default()
        };
        let figment = keys.iter().fold(Figment::from(silent), |figment, key| {
            figment.merge((format!("session.{}", key.0), key.1.clone()))
        });
        let figment = figment.merge(("session.trusted_origins", trusted));
        let rocket = rocket::custom(figment)
            .attach(Sessions::in_memory().with_clock(&clock))
            .mount("/", routes![login]);
        let browser = Browser::untracked(rocket).await.unwrap();
        App { browser, clock }
    }

    fn core(&self) -> &Core {
        &self.browser.rocket().state::<Sessions>().unwrap().core
    }

    /// The cookie of a new session.
    async fn login(&self) -> String {
        self.login_over("").await
    }

    /// The cookie of the session that replaces one.
    async fn login_over(&self, old: &str) -> String {
        let login = self.browser.post("/login/alice");
        let cookie = Header::new("Cookie", format!("session={old}"));
        let response = login.header(cookie).dispatch().await;
        let cookie = response.headers().get_one("Set-Cookie").unwrap();
        cookie.split(['=', ';']).nth(1).unwrap().to_owned()
    }

    /// What a request with these session cookies loads.
    async fn load(&self, cookies: &[&str]) -> Loaded {
        let mut request = self.browser.get("/");
        for cookie in cookies {
            request.add_header(Header::new("Cookie", format!("session={cookie}")));
        }
        self.load_request(&request).await
    }

    /// What a request with these headers may create.
    async fn creation(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Creation {
        let mut request = self.browser.req(method, path.to_owned());
        for (name, value) in headers {
            request.add_header(Header::new(name.to_string(), value.to_string()));
        }
        self.load_request(&request).await.creation
    }

    async fn load_request(&self, request: &LocalRequest<'_>) -> Loaded {
        let (started, span) = (self.clock.started(), RequestSpan::none());
        let headers = RequestHeaders::read(request.inner().headers());
        let traits = read_request(request.inner(), &headers, false, self.core());
        let load = load_cookies(traits.unwrap(), self.core(), started, &span);
        load.await.unwrap()
    }
}

/// The id of the loaded session, or the reason why the request has no session.
fn outcome(loaded: &Loaded) -> Result<&str, NewReason> {
    match &loaded.outcome {
        LoadOutcome::Live(stored) => Ok(stored.record.meta.id.as_str()),
        LoadOutcome::New(reason) | LoadOutcome::Dead(_, reason) => Err(*reason),
        LoadOutcome::Replaced(_) => Err(NewReason::Replaced),
    }
}

fn others(loaded: &Loaded) -> Vec<&str> {
    let mut ids: Vec<&str> = loaded.other_sessions.iter().map(Id::as_str).collect();
    ids.sort_unstable();
    ids
}

fn id_of(cookie: &str) -> &str {
    cookie.split_once('.').unwrap().0
}

fn unknown() -> String {
    let (id, secret) = (Id::draw().unwrap(), Secret::draw().unwrap());
    Token::new(id, secret).cookie_value().to_string()
}

/// Another secret for the same id.
fn forged(cookie: &str) -> String {
    format!("{}.{}", id_of(cookie), unknown().split_once('.').unwrap().1)
}

#[rocket::async_test]
async fn load_says_why_there_is_no_earlier_session() {
    let app = App::start(&[("timeout", 600.into())]).await;
    let expired = app.login().await;
    app.clock.advance(Duration::from_secs(601));
    let good = app.login().await;
    let (unknown, forged) = (unknown(), forged(&good));
    for (cookies, expected, brought) in [
        (&[][..], Err(NewReason::NoCookie), false),
        (&["x"], Err(NewReason::Malformed), true),
        (&[""], Err(NewReason::Malformed), true),
        (&["x", "y"], Err(NewReason::Malformed), true),
        (&[unknown.as_str()], Err(NewReason::NotFound), true),
        (&[forged.as_str()], Err(NewReason::WrongSecret), true),
        (&[expired.as_str()], Err(NewReason::Expired), true),
        (&[good.as_str()], Ok(id_of(&good)), true),
        (&[good.as_str(), "x", good.as_str()], Ok(id_of(&good)), true),
    ] {
        let loaded = app.load(cookies).await;
        assert_eq!(outcome(&loaded), expected, "{cookies:?}");
        assert_eq!(loaded.brought_cookie, brought, "{cookies:?}");
        // A login and a logout end it, since it may be alive by another process's clock.
        let is_expired = expected == Err(NewReason::Expired);
        let proven: Vec<_> = is_expired.then_some(id_of(&expired)).into_iter().collect();
        assert_eq!(others(&loaded), proven, "{cookies:?}");
        assert_eq!(loaded.creation, Creation::Allowed, "{cookies:?}");
    }
}

/// Another application's document may have the id, and another user's session be stored under it.
#[rocket::async_test]
async fn missing_session_is_to_be_deleted_only_with_the_token_of_the_cookie() {
    let app = App::start(&[]).await;
    let own = app.login().await;
    let document = app.core().store.take(Filter::id(id_of(&own))).await;
    let document = document.unwrap().expect("a session");
    for (cookie, is_deleted) in [(&own, true), (&forged(&own), false)] {
        let loaded = app.load(&[cookie]).await;
        assert_eq!(outcome(&loaded), Err(NewReason::NotFound));
        let [missing] = loaded.not_alive.as_slice() else {
            panic!("{cookie}");
        };
        assert_eq!(missing.filter().matches(&document), is_deleted, "{cookie}");
    }
}

#[rocket::async_test]
async fn several_cookies_load_the_only_session_that_is_alive() {
    let app = App::start(&[("timeout", 600.into())]).await;
    let expired = app.login().await;
    app.clock.advance(Duration::from_secs(601));
    let good = app.login().await;
    for (other, proven) in [
        (unknown(), vec![]),
        (forged(&good), vec![]),
        (expired.clone(), vec![id_of(&expired)]),
    ] {
        for cookies in [[&*good, &*other], [&*other, &*good]] {
            let loaded = app.load(&cookies).await;
            assert_eq!(outcome(&loaded), Ok(id_of(&good)), "{cookies:?}");
            assert_eq!(others(&loaded), proven, "{cookies:?}");
        }
    }
    let (a, b) = (unknown(), forged(&good));
    let loaded = app.load(&[&a, &b, &expired, &good]).await;
    assert_eq!(outcome(&loaded), Ok(id_of(&good)));
}

#[rocket::async_test]
async fn several_cookies_are_ambiguous_unless_one_session_is_alive() {
    let app = App::start(&[("timeout", 600.into())]).await;
    let expired = app.login().await;
    app.clock.advance(Duration::from_secs(601));
    let (a, b) = (app.login().await, app.login().await);
    let (unknown, forged) = (unknown(), forged(&a));
    for (cookies, proven) in [
        (vec![&a, &b], vec![&a, &b]),
        (vec![&a, &expired, &b], vec![&a, &expired, &b]),
        (vec![&unknown, &forged], vec![]),
        (vec![&unknown, &expired], vec![&expired]),
    ] {
        let cookies: Vec<&str> = cookies.into_iter().map(String::as_str).collect();
        let mut proven: Vec<&str> = proven.into_iter().map(|cookie| id_of(cookie)).collect();
        proven.sort_unstable();
        let before = app.core().stats.read(0);
        let loaded = app.load(&cookies).await;
        assert_eq!(outcome(&loaded), Err(NewReason::Ambiguous), "{cookies:?}");
        assert_eq!(others(&loaded), proven, "{cookies:?}");
        assert!(loaded.brought_cookie);
        let after = app.core().stats.read(0);
        assert_eq!(after.ambiguous, before.ambiguous + 1);
    }
}

/// What a late response creates would overwrite the cookie of the login.
#[rocket::async_test]
async fn several_cookies_of_which_a_login_replaced_one_create_no_session() {
    let app = App::start(&[]).await;
    let old = app.login().await;
    app.login_over(&old).await;
    let other = unknown();
    for cookies in [[&*old, &*other], [&*other, &*old]] {
        let loaded = app.load(&cookies).await;
        assert_eq!(outcome(&loaded), Err(NewReason::Replaced), "{cookies:?}");
    }
    app.clock.advance(Duration::from_secs(6));
    let loaded = app.load(&[&old, &other]).await;
    assert_eq!(outcome(&loaded), Err(NewReason::Ambiguous));
}

#[rocket::async_test]
async fn more_than_four_tokens_are_ambiguous_and_not_looked_up() {
    let app = App::start(&[]).await;
    let good = app.login().await;
    let others: Vec<String> = (0..4).map(|_| unknown()).collect();
    let mut cookies: Vec<&str> = others.iter().map(String::as_str).collect();
    cookies.push(&good);
    let before = app.core().stats.read(0).loads;
    let loaded = app.load(&cookies).await;
    assert_eq!(outcome(&loaded), Err(NewReason::Ambiguous));
    assert!(loaded.brought_cookie && loaded.other_sessions.is_empty());
    assert_eq!(app.core().stats.read(0).loads, before);
    assert_eq!(outcome(&app.load(&cookies[1..]).await), Ok(id_of(&good)));
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case("/app", Creation::Allowed)]
#[case("/app/", Creation::Allowed)]
#[case("/app/x?y", Creation::Allowed)]
#[case("/", Creation::Never)]
#[case("/application", Creation::Never)]
#[case("/x/app", Creation::Never)]
async fn a_request_outside_the_cookies_path_never_creates_a_session(
    #[case] path: &str,
    #[case] expected: Creation,
) {
    let app = App::start(&[("path", "/app".into())]).await;
    assert_eq!(
        app.creation(Method::Get, path, &[]).await,
        expected,
        "{path}"
    );
}

const CROSS: (&str, &str) = ("Sec-Fetch-Site", "cross-site");
const PAGE: (&str, &str) = ("Sec-Fetch-Dest", "document");
const BANK: (&str, &str) = ("Origin", "https://bank.example");
const HOST: (&str, &str) = ("Host", "shop.example");
const WITH_COOKIE: (&str, &str) = ("Cookie", "session=x");

#[rstest]
#[test_attr(rocket::async_test)]
// The return from a payment or identity provider, as a POST without the `Lax` cookie.
#[case("Lax", Method::Post, &[CROSS, BANK, PAGE], Creation::OnlyByLogin)]
#[case("Lax", Method::Post, &[BANK, HOST], Creation::OnlyByLogin)]
#[case("Lax", Method::Post, &[CROSS, BANK, PAGE, WITH_COOKIE], Creation::Allowed)]
#[case("Lax", Method::Post, &[("Origin", "http://shop.example"), HOST], Creation::Allowed)]
#[case("Lax", Method::Post, &[HOST], Creation::Allowed)]
#[case("Lax", Method::Post, &[("Sec-Fetch-Site", "same-origin")], Creation::Allowed)]
// A link from another site: the browser would have sent a `Lax` cookie.
#[case("Lax", Method::Get, &[CROSS, PAGE], Creation::Allowed)]
#[case("Lax", Method::Get, &[CROSS], Creation::OnlyByLogin)]
#[case("Lax", Method::Get, &[CROSS, ("Sec-Fetch-Dest", "iframe")], Creation::OnlyByLogin)]
#[case("Lax", Method::Get, &[CROSS, ("Sec-Fetch-Dest", "image")], Creation::OnlyByLogin)]
#[case("Lax", Method::Get, &[BANK, HOST], Creation::OnlyByLogin)]
#[case("Lax", Method::Get, &[("Sec-Fetch-Site", "same-site"), BANK], Creation::Allowed)]
#[case("Lax", Method::Get, &[("Sec-Fetch-Site", "none"), PAGE], Creation::Allowed)]
#[case("Strict", Method::Get, &[CROSS, PAGE], Creation::OnlyByLogin)]
#[case("None", Method::Post, &[CROSS, BANK, PAGE], Creation::Allowed)]
async fn a_cross_site_request_without_a_cookie_creates_a_session_only_by_login(
    #[case] same_site: &str,
    #[case] method: Method,
    #[case] headers: &[(&str, &str)],
    #[case] expected: Creation,
) {
    let secure = same_site == "None";
    let keys = [("same_site", same_site.into()), ("secure", secure.into())];
    let app = App::start_trusting(&keys, &[BANK.1]).await;
    let creation = app.creation(method, "/", headers).await;
    assert_eq!(creation, expected, "{same_site} {method} {headers:?}");
}

#[rocket::async_test]
async fn an_unsafe_request_of_another_origin_is_refused_before_the_store_is_asked() {
    let app = App::start(&[]).await;
    let good = app.login().await;
    let before = app.core().stats.read(0);
    for (method, content) in [(Method::Post, None), (Method::Get, Some(ContentType::Form))] {
        let mut request = app.browser.req(method, "/");
        request.add_header(Header::new("Cookie", format!("session={good}")));
        request.add_header(Header::new(CROSS.0, CROSS.1));
        if let Some(content) = content {
            request.add_header(content);
        }
        let headers = RequestHeaders::read(request.inner().headers());
        let read = read_request(request.inner(), &headers, false, app.core());
        assert!(matches!(read, Err(Error::CrossSite)));
    }
    let after = app.core().stats.read(0);
    assert_eq!(
        (after.refused, after.loads),
        (before.refused + 2, before.loads)
    );
}

#[rocket::async_test]
async fn each_load_is_a_hit_a_miss_or_expired() {
    let app = App::start(&[]).await;
    let unknown = || {
        let token = Token::new(Id::draw().unwrap(), Secret::draw().unwrap());
        token.cookie_value().to_string()
    };
    for cookies in [vec![unknown()], vec![unknown(), unknown()]] {
        let before = app.core().stats.read(0);
        let values: Vec<&str> = cookies.iter().map(String::as_str).collect();
        app.load(&values).await;
        let after = app.core().stats.read(0);
        let counted = (after.loads, after.misses, after.hits + after.expired);
        let expected = (before.loads + 1, before.misses + 1, 0);
        assert_eq!(counted, expected, "{} cookies", cookies.len());
    }
}
