//! Requests that another site makes a browser send: refused by the guard alone (relaxed), and by
//! the guards that ask for a token (strict).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rocket::http::{ContentType, Header, uri::Host};
use rocket::local::asynchronous::Client;
use rocket::serde::json::json;
use rocket_mongo_session::Sessions;
use rstest::rstest;

use super::{guards, member};
use crate::apps::database;
use crate::apps::opened::opened;
use crate::apps::probe::{Gates, Probe, Script, run_with};
use crate::support::{Request, Response, figment};

/// The probe, a session in it, and a CSRF token of that session.
struct Site {
    probe: Probe,
    cookie: String,
    token: String,
}

impl Site {
    async fn start(db: &str, trusted: &[&str]) -> Site {
        let trusted: Vec<String> = trusted.iter().map(|origin| (*origin).to_owned()).collect();
        let keys = [("trusted_origins", trusted.into())];
        let probe = Probe::start_with(db, &keys, guards).await;
        let cookie = member(&probe, "alice").await;
        let token = Site::token(&probe, &cookie).await;
        Site {
            probe,
            cookie,
            token,
        }
    }

    async fn token(probe: &Probe, cookie: &str) -> String {
        let ran = run_with(&probe.app, cookie, Script::new().then("csrf_token")).await;
        ran.last().as_str().expect("a token").to_owned()
    }

    /// The same request to a route of each kind: the session's guard alone, a form, a header.
    fn requests(&self, with_token: bool) -> [(&'static str, Request); 3] {
        let (form, header) = match with_token {
            true => (format!("n=1&csrf_token={}", self.token), Some(&self.token)),
            false => ("n=1".to_owned(), None),
        };
        let by_header = Request::post("/header");
        [
            ("guard", Script::new().set("n", 1).request()),
            ("form", Request::post("/form").form(&form)),
            (
                "header",
                match header {
                    Some(token) => by_header.header("X-CSRF-Token", token),
                    None => by_header,
                },
            ),
        ]
    }

    async fn send(&self, request: Request, headers: &[(&str, String)]) -> Response {
        let request = request.header("Cookie", format!("session={}", self.cookie));
        let all = headers.iter();
        let request = all.fold(request, |request, (name, value)| {
            request.header(name, value)
        });
        self.probe.app.send(request).await
    }

    /// Whether a write arrived since the last time.
    async fn was_written(&self) -> bool {
        let take = Script::new().call(json!(["take", "n"]));
        let taken = run_with(&self.probe.app, &self.cookie, take).await;
        !taken.last().is_null()
    }

    /// What the three kinds answer, and that each wrote if and only if it answered 200.
    async fn check(&self, with_token: bool, headers: &[(&str, String)]) -> [u16; 3] {
        let mut all = [0; 3];
        for (at, (kind, request)) in self.requests(with_token).into_iter().enumerate() {
            let response = self.send(request, headers).await;
            assert_eq!(response.set_cookies(), Vec::<&str>::new(), "{kind}");
            let written = self.was_written().await;
            assert_eq!(written, response.status == 200, "{kind}: {response:?}");
            all[at] = response.status;
        }
        all
    }
}

/// The site's own origin, as the harness says in `Host`.
const OWN: &str = "http://localhost";

fn fetch(value: &str) -> (&'static str, String) {
    ("Sec-Fetch-Site", value.to_owned())
}

fn origin(value: &str) -> (&'static str, String) {
    ("Origin", value.to_owned())
}

const FINE: [u16; 3] = [200, 200, 200];
/// The guard lets it pass; the token is missing.
const RELAXED: [u16; 3] = [200, 403, 403];
const REFUSED: [u16; 3] = [403, 403, 403];

/// CS-04, CS-06, CS-07: row by row, without and with a token.
#[rstest]
#[test_attr(rocket::async_test)]
#[case(&[fetch("same-origin"), origin(OWN)], RELAXED, FINE)]
#[case(&[fetch("same-origin")], RELAXED, FINE)]
#[case(&[fetch("none")], RELAXED, FINE)]
#[case(&[fetch("same-site"), origin("http://sibling.localhost")], REFUSED, REFUSED)]
#[case(&[fetch("cross-site"), origin("https://evil.example")], REFUSED, REFUSED)]
#[case(&[fetch("cross-site"), origin(OWN)], REFUSED, REFUSED)]
#[case(&[fetch("cross-site")], REFUSED, REFUSED)]
#[case(&[origin(OWN)], RELAXED, FINE)]
#[case(&[origin("https://evil.example")], REFUSED, REFUSED)]
#[case(&[origin("http://127.0.0.1:1")], REFUSED, REFUSED)]
#[case(&[origin("http://localhost.evil.example")], REFUSED, REFUSED)]
#[case(&[origin("null")], REFUSED, REFUSED)]
#[case(&[origin("")], REFUSED, REFUSED)]
#[case(&[], RELAXED, FINE)]
#[case(&[fetch("garbage")], REFUSED, REFUSED)]
#[case(&[fetch("Same-Origin")], REFUSED, REFUSED)]
#[case(&[fetch("")], REFUSED, REFUSED)]
#[case(&[fetch("same-origin"), fetch("same-origin")], REFUSED, REFUSED)]
#[case(&[origin(OWN), origin(OWN)], REFUSED, REFUSED)]
#[case(&[fetch("same-origin"), origin(OWN), origin(OWN)], REFUSED, REFUSED)]
#[case(&[origin("http://localhost/")], REFUSED, REFUSED)]
#[case(&[origin("http://localhost, http://localhost")], REFUSED, REFUSED)]
async fn the_matrix_holds_row_by_row_relaxed_and_strict(
    #[case] headers: &[(&str, String)],
    #[case] without: [u16; 3],
    #[case] with: [u16; 3],
) {
    let site = Site::start(&database(), &[]).await;
    let got = site.check(false, headers).await;
    assert_eq!(got, without, "without a token: {headers:?}");
    let got = site.check(true, headers).await;
    assert_eq!(got, with, "with a token: {headers:?}");
}

/// CS-04: whatever the method, and CS-05: whatever Rocket makes of it.
#[rocket::async_test]
async fn no_method_is_a_way_round() {
    let site = Site::start("sec_csrf_methods", &[]).await;
    let evil = [
        ("Sec-Fetch-Site", "cross-site".to_owned()),
        ("Origin", "https://evil.example".to_owned()),
    ];
    let with_form = |path: &str, body: &str| Request::post(path).form(body);
    for (what, request) in [
        ("PUT", Request::put("/put")),
        ("POST as PUT", with_form("/put", "_method=put")),
        ("POST as PUT, again", with_form("/put", "n=1&_method=PUT")),
        ("POST as GET", with_form("/unused", "_method=GET")),
        (
            "POST as GET of a form",
            with_form("/form", "_method=get&n=1"),
        ),
    ] {
        let response = site.send(request, &evil).await;
        assert!(
            matches!(response.status, 403 | 404 | 422),
            "{what}: {response:?}"
        );
        assert!(!site.was_written().await, "{what}");
    }
    for method in ["FOO", "get", "CONNECT", "PROPFIND", "POST\t"] {
        let request = Request::new(method, "/put").header("Origin", "https://evil.example");
        let request = request.header("Cookie", format!("session={}", site.cookie));
        // Rocket knows no such method; that the connection ends is as good.
        if let Ok(response) = request.try_send(site.probe.app.addr()).await {
            assert!(response.status >= 400, "{method}: {response:?}");
        }
        assert!(!site.was_written().await, "{method}");
    }
    // Looking is everybody's right: it changes nothing, and the response is for the browser alone.
    let look = site.send(Request::get("/unused"), &evil).await;
    assert_eq!(look.status, 200);
}

/// CS-16: a websocket or a stream is opened by GET, with the cookie.
#[rocket::async_test]
async fn an_upgrade_from_another_site_is_refused() {
    let site = Site::start("sec_csrf_upgrade", &[]).await;
    let upgrade = || {
        Request::get("/unused")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
    };
    let evil = [("Origin", "https://evil.example".to_owned())];
    assert_eq!(site.send(upgrade(), &evil).await.status, 403);
    let own = [origin(OWN)];
    assert_eq!(site.send(upgrade(), &own).await.status, 200);
}

/// CS-17: no content type is simple enough to be believed.
#[rocket::async_test]
async fn no_content_type_is_exempt() {
    let site = Site::start("sec_csrf_types", &[]).await;
    let evil = [("Origin", "https://evil.example".to_owned())];
    for content in ["text/plain", "application/json", "multipart/form-data", ""] {
        for path in ["/run", "/form", "/header"] {
            let post = Request::post(path).body("{\"calls\":[[\"set\",\"n\",1]]}");
            let post = match content {
                "" => post,
                content => post.header("Content-Type", content),
            };
            let response = site.send(post, &evil).await;
            assert!(response.status >= 400, "{content:?} {path}: {response:?}");
            assert!(!site.was_written().await, "{content:?} {path}");
        }
    }
    for content in ["text/plain", "application/json"] {
        let post = Request::post("/header").header("Content-Type", content);
        assert_eq!(site.send(post, &[]).await.status, 403, "{content}");
    }
}

/// `trusted_origins`: exactly those, and the strict guards still ask for the token.
#[rocket::async_test]
async fn a_trusted_origin_may_and_its_lookalikes_may_not() {
    let trusted = ["https://app.example.org", "http://localhost:3000"];
    let site = Site::start("sec_csrf_trusted", &trusted).await;
    for origin in trusted {
        for fetch in [None, Some("cross-site"), Some("same-site")] {
            let mut headers = vec![("Origin", origin.to_owned())];
            headers.extend(fetch.map(|fetch| ("Sec-Fetch-Site", fetch.to_owned())));
            assert_eq!(site.check(false, &headers).await, RELAXED, "{headers:?}");
            assert_eq!(site.check(true, &headers).await, FINE, "{headers:?}");
        }
    }
    for origin in [
        "http://app.example.org",
        "https://app.example.org:444",
        "https://app.example.org.evil.example",
        "https://evil-app.example.org",
        "https://x.app.example.org",
        "https://app.example.org.",
        "https://app.example.org@evil.example",
        "https://evil.example/https://app.example.org",
        "https://app.example.org/",
        "https://example.org",
        "https://\u{430}pp.example.org",
        "http://localhost:3001",
        "https://localhost:3000",
        "null",
    ] {
        let headers = [("Origin", origin.to_owned())];
        assert_eq!(site.check(true, &headers).await, REFUSED, "{origin}");
    }
}

/// CS-08: HTTP/2 has no `Host` header; what stands in its place is as good.
#[rstest]
#[test_attr(rocket::async_test)]
#[case("app.example", "https://app.example", 200)]
#[case("app.example:8443", "https://app.example:8443", 200)]
#[case("[::1]:8443", "https://[::1]:8443", 200)]
#[case("app.example:8443", "https://app.example", 403)]
#[case("app.example", "https://evil.example", 403)]
async fn over_http_2_the_own_origin_is_known_as_well(
    #[case] host: &'static str,
    #[case] origin: &'static str,
    #[case] status: u16,
) {
    let rocket = crate::apps::probe::bare(figment("debug", None, &[]), &Gates::default());
    let rocket = rocket.attach(Sessions::in_memory());
    let client = Client::untracked(rocket).await.expect("a launch");
    let mut post = client.post("/run").header(ContentType::JSON).body("{}");
    let host = Host::parse(host).expect("a host");
    post.inner_mut().set_host(host);
    let response = post.header(Header::new("Origin", origin)).dispatch().await;
    assert_eq!(response.status().code, status);
}

/// CS-08: what a proxy would say is anybody's to say.
#[rstest]
#[test_attr(rocket::async_test)]
#[case("X-Forwarded-Host", "evil.example")]
#[case("X-Forwarded-Server", "evil.example")]
#[case("X-Host", "evil.example")]
#[case("Forwarded", "host=evil.example;proto=https")]
async fn forwarded_headers_change_no_verdict(#[case] name: &str, #[case] value: &str) {
    let site = Site::start(&database(), &[]).await;
    let headers = [
        origin("https://evil.example"),
        (name, value.to_owned()),
        ("X-Forwarded-Proto", "https".to_owned()),
    ];
    assert_eq!(site.check(true, &headers).await, REFUSED);
}

/// CS-02, CS-03, CS-09, CS-11, CS-12: what a token is, and where.
#[rocket::async_test]
async fn only_a_masked_token_of_this_session_in_its_place_is_one() {
    let site = Site::start("sec_csrf_tokens", &[]).await;
    let other = member(&site.probe, "mallory").await;
    let others = Site::token(&site.probe, &other).await;
    let again = Site::token(&site.probe, &site.cookie).await;
    assert_ne!(again, site.token, "masked afresh each time");
    assert_eq!(site.token.len(), 86);

    let document = site.probe.document(&site.cookie).await.expect("a document");
    let document = opened(document, &site.cookie);
    let raw = document.get_binary_generic("csrf").expect("a secret");
    let flipped = {
        let last = if site.token.ends_with('A') { "Q" } else { "A" };
        format!("{}{last}", &site.token[..85])
    };
    let mut forged = vec![
        String::new(),
        "A".into(),
        "A".repeat(86),
        "A".repeat(85),
        "A".repeat(87),
        site.token[..85].into(),
        format!("{}A", site.token),
        format!("{}=", site.token),
        format!("\"{}\"", site.token),
        site.token.replace(|c: char| c.is_ascii_digit(), "+"),
        flipped,
        URL_SAFE_NO_PAD.encode(raw),
        format!("{}{}", &site.token[..43], &again[43..]),
        others,
        site.cookie.clone(),
        "x".repeat(5000),
    ];
    forged.extend((0..90).map(|length| "z".repeat(length)));
    for token in &forged {
        let post = Request::post("/header").header("X-CSRF-Token", token);
        assert_eq!(site.send(post, &[]).await.status, 403, "{token:?}");
        let form = token.replace('+', "%2B").replace('=', "%3D");
        let post = Request::post("/form").form(&format!("n=1&csrf_token={form}"));
        assert_eq!(site.send(post, &[]).await.status, 403, "{token:?}");
        assert!(!site.was_written().await, "{token:?}");
    }
    let (token, wrong) = (&site.token, "A".repeat(86));
    for (what, request, status) in [
        (
            "in the query",
            Request::post(&format!("/form?csrf_token={token}")).form("n=1"),
            403,
        ),
        (
            "in a cookie",
            Request::post("/header").header("Cookie", format!("csrf_token={token}")),
            403,
        ),
        (
            "two fields, both right",
            Request::post("/form").form(&format!("n=1&csrf_token={token}&csrf_token={again}")),
            403,
        ),
        (
            "a right field and a wrong header",
            Request::post("/form")
                .form(&format!("n=1&csrf_token={token}"))
                .header("X-CSRF-Token", &wrong),
            403,
        ),
        (
            "a wrong field and a right header",
            Request::post("/form")
                .form(&format!("n=1&csrf_token={wrong}"))
                .header("X-CSRF-Token", token),
            403,
        ),
        (
            "two headers",
            Request::post("/header")
                .header("X-CSRF-Token", token)
                .header("X-CSRF-Token", &again),
            403,
        ),
        (
            "another field's name",
            Request::post("/form").form(&format!("n=1&csrf_token[0]={token}")),
            403,
        ),
        (
            "a field and a header, both right",
            Request::post("/form")
                .form(&format!("n=1&csrf_token={token}"))
                .header("X-CSRF-Token", &again),
            200,
        ),
        (
            "an older one",
            Request::post("/header").header("X-CSRF-Token", &again),
            200,
        ),
    ] {
        assert_eq!(site.send(request, &[]).await.status, status, "{what}");
        assert_eq!(site.was_written().await, status == 200, "{what}");
    }
}

/// CS-14, CS-15, FX-04: who has no session gets none by failing, and no login either.
#[rocket::async_test]
async fn a_refused_request_creates_no_session() {
    let site = Site::start("sec_csrf_none", &[]).await;
    let before = site.probe.documents().await.len();
    let evil = "https://evil.example";
    for request in [
        Request::post("/header").header("X-CSRF-Token", &site.token),
        Request::post("/form").form(&format!("n=1&csrf_token={}", site.token)),
        Request::post("/form").form("n=1"),
        Request::post("/header"),
        Script::new()
            .login("mallory")
            .header("Origin", evil)
            .request(),
        Script::new()
            .set("n", 1)
            .header("Sec-Fetch-Site", "cross-site")
            .request(),
    ] {
        let response = site.probe.app.send(request).await;
        assert_eq!(response.status, 403, "{response:?}");
        assert_eq!(response.set_cookies(), Vec::<&str>::new());
        assert!(!response.text().contains(&site.token), "CS-19");
    }
    assert_eq!(site.probe.documents().await.len(), before);
}

/// LO-08: a page that a user looks at does not sign them out.
#[rocket::async_test]
async fn a_logout_from_another_site_ends_nothing() {
    let site = Site::start("sec_csrf_logout", &[]).await;
    let evil = [
        vec![("Sec-Fetch-Site", "cross-site".to_owned())],
        vec![("Origin", "https://evil.example".to_owned())],
        vec![("Origin", "null".to_owned())],
    ];
    for headers in evil {
        for call in ["logout", "invalidate"] {
            let response = site
                .send(Script::new().then(call).request(), &headers)
                .await;
            assert_eq!(response.status, 403, "{headers:?}");
            assert_eq!(response.set_cookies(), Vec::<&str>::new(), "{headers:?}");
            let user = super::whoami(&site.probe.app, &site.cookie).await;
            assert_eq!(user, json!("alice"), "{headers:?}");
        }
    }
    let own = [origin(OWN)];
    let response = site
        .send(Script::new().then("logout").request(), &own)
        .await;
    assert_eq!(response.status, 200);
    let user = super::whoami(&site.probe.app, &site.cookie).await;
    assert_eq!(user, json!(null));
}

/// Whatever the token, and wherever it lies: what is over the limit is refused as that, unread.
#[rocket::async_test]
async fn a_form_over_the_limit_changes_nothing_and_is_413() {
    let site = Site::start("sec_csrf_long", &[]).await;
    let multipart = |parts: &[(&str, &str)]| {
        let mut body = String::new();
        for (name, value) in parts {
            body += &format!(
                "--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            );
        }
        Request::post("/form")
            .header("Content-Type", "multipart/form-data; boundary=x")
            .body(body + "--x--\r\n")
    };
    let (token, long) = (site.token.as_str(), "x".repeat(3 << 20));
    let fine = multipart(&[("n", "1"), ("csrf_token", token)]);
    assert_eq!(site.send(fine, &[]).await.status, 200);
    assert!(site.was_written().await);
    let mut answered = 0;
    for request in [
        multipart(&[("n", "1"), ("csrf_token", token), ("more", &long)]),
        multipart(&[("more", &long), ("n", "1"), ("csrf_token", token)]),
        multipart(&[("n", "1"), ("more", &long)]),
        Request::post("/form").form(&format!("n=1&csrf_token={token}&more={long}")),
        Request::post("/form").form(&format!("more={long}&n=1&csrf_token={token}")),
        Request::post("/form").form(&format!("n=1&more={long}")),
    ] {
        let request = request.header("Cookie", format!("session={}", site.cookie));
        // A server that does not read on may close the connection before all is sent.
        if let Ok(response) = request.try_send(site.probe.app.addr()).await {
            assert_eq!(response.status, 413, "{:.120}", response.text());
            answered += 1;
        }
        assert!(!site.was_written().await);
    }
    assert!(answered > 0);
}
