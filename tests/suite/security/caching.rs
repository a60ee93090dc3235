//! Caches: no answer that depends on a session may be another browser's.

use std::collections::HashMap;

use rocket::serde::json::{Value, json};
use rocket_mongo_session::Session;
use rstest::rstest;

use super::{guards, member};
use crate::apps::database;
use crate::apps::probe::{Probe, Script, caught, run, run_with, sent_by};
use crate::support::{App, FailPoint, Failure, Mode, Mongod, Request, Response, figment};

fn vary(response: &Response) -> usize {
    let lines = response.headers_named("Vary").into_iter();
    let names = lines.flat_map(|line| line.split(',')).map(str::trim);
    names
        .filter(|name| name.eq_ignore_ascii_case("cookie"))
        .count()
}

/// CH-02: by whatever call the session was used, the response says so once.
#[rstest]
#[test_attr(rocket::async_test)]
#[case(json!(["get", "n"]))]
#[case(json!(["contains", "n"]))]
#[case(json!(["len"]))]
#[case(json!(["is_empty"]))]
#[case(json!(["keys"]))]
#[case(json!(["peek_flash"]))]
#[case(json!(["csrf_token"]))]
#[case(json!(["verify_csrf", "x"]))]
#[case(json!(["user"]))]
#[case(json!(["is_new"]))]
#[case(json!(["id"]))]
#[case(json!(["created"]))]
#[case(json!(["expires"]))]
async fn every_read_makes_the_response_vary_by_cookie(#[case] call: Value) {
    let probe = Probe::start(&database(), &[]).await;
    let browser = probe.browser();
    run(&browser, Script::new().login("alice").set("n", 1)).await;
    let read = run(&browser, Script::new().call(call)).await;
    assert_eq!(vary(&read), 1);
    assert_eq!(read.headers_named("Cache-Control"), ["private, no-cache"]);
    assert_eq!(read.sent(), None);
}

/// CH-02: a `Vary` that names everything names the cookie.
#[rocket::async_test]
async fn a_vary_of_everything_stays_as_it_is() {
    let probe = Probe::start("sec_cache_reads", &[]).await;
    let browser = probe.browser();
    run(&browser, Script::new().login("alice").set("n", 1)).await;
    let starred = Script::new().get("n").answer_header("Vary", "*");
    assert_eq!(run(&browser, starred).await.headers_named("Vary"), ["*"]);
}

/// CH-01, CH-07: every response with a cookie of ours, the catchers' included.
#[rocket::async_test]
async fn a_response_with_a_session_cookie_is_never_cached() {
    let own = |rocket: rocket::Rocket<rocket::Build>| rocket.register("/", caught());
    let public = |script: Script| {
        script
            .answer_header("Cache-Control", "public, max-age=600")
            .answer_header("Expires", "Fri, 01 Jan 2100 00:00:00 GMT")
    };
    for (db, catches) in [("sec_cache_caught", true), ("sec_cache_default", false)] {
        let probe = match catches {
            true => Probe::start_with(db, &[], own).await,
            false => Probe::start(db, &[]).await,
        };
        for script in [
            Script::new().login("alice"),
            Script::new().login("alice").status(201),
            Script::new().login("alice").status(304),
            Script::new().login("alice").status(302),
            Script::new().login("alice").status(404),
            Script::new().login("alice").status(500),
            Script::new().login("alice").fail(404),
            Script::new().login("alice").fail(422),
            Script::new().login("alice").none(),
        ] {
            let response = probe.app.send(public(script).request()).await;
            assert!(sent_by(&response).is_some(), "{response:?}");
            assert_eq!(
                response.headers_named("Cache-Control"),
                ["no-store"],
                "{response:?}"
            );
            assert_eq!(response.header("Expires"), None, "{response:?}");
            assert_eq!(vary(&response), 1, "{response:?}");
        }
        // A logout stands though the handler panics; its response is for its browser alone, too.
        let cookie = member(&probe, "bob").await;
        let out = run_with(&probe.app, &cookie, Script::new().then("logout").panic()).await;
        assert!(out.sent().is_some());
        assert_eq!(out.headers_named("Cache-Control"), ["no-store"]);
    }
}

/// CH-03: the cookie that is only sent again.
#[rocket::async_test]
async fn a_cookie_resent_by_a_read_is_never_cached() {
    let probe = Probe::start("sec_cache_again", &[("max_age", 600.into())]).await;
    let cookie = member(&probe, "alice").await;
    probe.clock.advance(std::time::Duration::from_secs(120));
    let read = Script::new()
        .get("n")
        .answer_header("Cache-Control", "public, max-age=600");
    let read = run_with(&probe.app, &cookie, read).await;
    assert!(read.sent().is_some(), "{read:?}");
    assert_eq!(read.headers_named("Cache-Control"), ["no-store"]);
    assert_eq!(vary(&read), 1);
}

/// A refusal is a response that depends on the request's origin and cookie, too.
#[rocket::async_test]
async fn a_refused_request_varies_by_cookie() {
    let probe = Probe::start_with("sec_cache_refused", &[], guards).await;
    let cookie = member(&probe, "alice").await;
    for request in [
        Request::post("/header"),
        Request::post("/header").header("Origin", "https://evil.example"),
        Request::get("/recent"),
    ] {
        let response = probe
            .app
            .send(request.header("Cookie", format!("session={cookie}")))
            .await;
        assert_eq!(vary(&response), 1, "{response:?}");
    }
}

/// CH-05: who asks for no session gets the very headers that the application gives.
#[rocket::async_test]
async fn a_route_without_session_has_unchanged_headers() {
    let probe = Probe::start("sec_cache_none", &[]).await;
    let bare = rocket::custom(figment("debug", None, &[])).mount("/", rocket::routes![plain]);
    let bare = App::launch(bare).await;
    let cookie = member(&probe, "alice").await;
    let with = Request::get("/plain").header("Cookie", format!("session={cookie}"));
    let headers = |response: Response| {
        let all = response.headers.into_iter();
        let mut all: Vec<_> = all
            .filter(|(name, _)| !name.eq_ignore_ascii_case("date"))
            .collect();
        all.sort();
        all
    };
    let (ours, theirs) = (probe.app.send(with).await, bare.get("/plain").await);
    assert_eq!((ours.status, ours.text()), (theirs.status, theirs.text()));
    assert_eq!(headers(ours), headers(theirs));
}

#[rocket::get("/plain")]
fn plain() -> &'static str {
    "plain"
}

/// CH-01: nor by a cache that is told apart from the others (RFC 9213).
#[rocket::async_test]
async fn targeted_cache_headers_are_removed_with_a_session_cookie() {
    let probe = Probe::start("sec_cache_targeted", &[]).await;
    let names = [
        "CDN-Cache-Control",
        "Cloudflare-CDN-Cache-Control",
        "Surrogate-Control",
        "X-Accel-Expires",
    ];
    let script = names
        .iter()
        .fold(Script::new().login("alice"), |script, name| {
            script.answer_header(name, "max-age=600")
        });
    let login = run_with(&probe.app, "", script).await;
    assert!(login.sent().is_some());
    for name in names {
        assert_eq!(login.headers_named(name), Vec::<&str>::new(), "{name}");
    }
}

/// A failed commit takes back what the handler said to a server in front: to send a file, to go
/// elsewhere, to forget the browser's storage. What protects every page stays.
#[rocket::async_test]
async fn a_failed_commit_takes_back_the_headers_of_the_success() {
    let mongod = Mongod::start().await;
    let client = mongod.client().await;
    let url = mongod.url("caching");
    let probe = Probe::start_at(client.clone(), &url, "caching", &[], |rocket| rocket).await;
    let said = [
        ("X-Accel-Redirect", "/protected/invoice.pdf"),
        ("X-Sendfile", "/srv/invoice.pdf"),
        ("X-Lighttpd-Send-File", "/srv/invoice.pdf"),
        ("X-Reproxy-URL", "http://inside.example/"),
        ("HX-Redirect", "/done"),
        ("Location", "/done"),
        ("Refresh", "0; url=/done"),
        ("Clear-Site-Data", "\"cookies\""),
        ("ETag", "\"1\""),
        ("Link", "</style.css>; rel=preload"),
        ("Content-Language", "en"),
        ("X-Accel-Expires", "600"),
    ];
    let stays = ("Content-Security-Policy", "default-src 'self'");
    let all = said.iter().chain([&stays]);
    let script = all.fold(Script::new().login("alice"), |script, (name, value)| {
        script.answer_header(name, value)
    });
    let fine = probe.app.send(script.request()).await;
    assert_eq!(fine.status, 200);
    assert_eq!(fine.header("X-Accel-Redirect"), Some(said[0].1));

    let failure = Failure::code(8000);
    let point = FailPoint::on(&client, &["insert"], Mode::Always, failure).await;
    let failed = probe.app.send(script.request()).await;
    point.clear().await;
    assert_eq!(failed.status, 503, "{failed:?}");
    assert_eq!(failed.set_cookies(), Vec::<&str>::new());
    for (name, value) in said {
        assert!(!failed.headers_named(name).contains(&value), "{name}");
    }
    assert_eq!(failed.header(stays.0), Some(stays.1));
    assert_eq!(failed.headers_named("Cache-Control"), ["no-store"]);
}

/// Says who is signed in, and that anybody may store that: a mistake, and a common one.
#[rocket::get("/greeting")]
fn greeting(session: &Session) -> Public {
    let user: Option<String> = session.user().ok().flatten();
    Public(format!("Hello, {}.", user.as_deref().unwrap_or("stranger")))
}

/// The same, and the session changes.
#[rocket::get("/visit")]
fn visit(session: &Session) -> Public {
    session.renew().expect("a renewal");
    greeting(session)
}

/// Says nothing of caches.
#[rocket::get("/private")]
fn private(session: &Session) -> String {
    greeting(session).0
}

/// For everybody.
#[rocket::get("/about")]
fn about() -> Public {
    Public("About us.".to_owned())
}

struct Public(String);

impl<'r> rocket::response::Responder<'r, 'static> for Public {
    fn respond_to(self, request: &'r rocket::Request<'_>) -> rocket::response::Result<'static> {
        let mut response = self.0.respond_to(request)?;
        response.set_raw_header("Cache-Control", "public, max-age=600");
        Ok(response)
    }
}

/// A shared cache in front of an application: what may be stored is stored, and answered again to
/// every request of the same path whose headers are those that the response varies by.
struct Cache<'a> {
    app: &'a App,
    /// Whether it obeys; the control does not.
    obeys: bool,
    stored: HashMap<String, Vec<(Option<String>, Response)>>,
    hits: usize,
}

impl<'a> Cache<'a> {
    fn new(app: &'a App, obeys: bool) -> Self {
        let (stored, hits) = (HashMap::new(), 0);
        Cache {
            app,
            obeys,
            stored,
            hits,
        }
    }

    async fn get(&mut self, path: &str, cookie: &str) -> Response {
        let cookie = (!cookie.is_empty()).then(|| format!("session={cookie}"));
        let stored = self.stored.entry(path.to_owned()).or_default();
        let of_all = |response: &Response| !self.obeys || vary(response) == 0;
        let hit = stored
            .iter()
            .find(|(by, response)| of_all(response) || *by == cookie);
        if let Some((_, response)) = hit {
            self.hits += 1;
            return response.clone();
        }
        let request = match &cookie {
            Some(cookie) => Request::get(path).header("Cookie", cookie),
            None => Request::get(path),
        };
        let response = self.app.send(request).await;
        let control = response.headers_named("Cache-Control").join(", ");
        let forbids = ["no-store", "private", "no-cache"];
        if !(self.obeys && forbids.iter().any(|word| control.contains(word))) {
            stored.push((cookie, response.clone()));
        }
        response
    }
}

/// CH-06: whatever the order of requests, a shared cache gives each its own pages.
#[rocket::async_test]
async fn a_shared_cache_never_mixes_the_pages_of_two_users() {
    let probe = Probe::start_with("sec_cache_shared", &[], |rocket| {
        rocket.mount("/", rocket::routes![greeting, visit, private, about])
    })
    .await;
    let paths = ["/greeting", "/private", "/about", "/visit"];
    for obeys in [true, false] {
        let mut cache = Cache::new(&probe.app, obeys);
        let mut users = [
            ("alice", member(&probe, "alice").await),
            ("bob", member(&probe, "bob").await),
            ("stranger", String::new()),
        ];
        let mut strangers_pages = 0;
        for n in 0..500_usize {
            // Every user asks for every path after every other one has.
            let path = paths[n / 3 % 4];
            let (name, cookie) = &mut users[(n * 7 + n / 12) % 3];
            let response = cache.get(path, cookie).await;
            assert_eq!(response.status, 200, "{path}");
            let own = match path {
                "/about" => "About us.".to_owned(),
                _ => format!("Hello, {name}."),
            };
            strangers_pages += usize::from(response.text() != own);
            if let Some(line) = sent_by(&response) {
                let sent = crate::apps::probe::value_of(line);
                let whose = super::whoami(&probe.app, sent).await;
                strangers_pages += usize::from(whose != json!(*name));
                *cookie = sent.to_owned();
            }
        }
        assert!(
            cache.hits > 100,
            "{} responses came from the cache",
            cache.hits
        );
        // The control shows that this would be seen.
        assert_eq!(strangers_pages == 0, obeys, "{strangers_pages}");
    }
}
