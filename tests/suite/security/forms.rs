//! Forms and their tokens as other clients than a plain page send them, and what is said about a
//! refusal.

use log::Level;
use rocket::config::LogLevel;
use rocket::fs::TempFile;
use rocket::{FromForm, get, post, routes};
use rocket_mongo_session::{CsrfError, CsrfForm, CsrfRefusal, Error, Session, Sessions};
use rstest::rstest;

use crate::support::alone::{alone, forget_lines, lines};
use crate::support::{App, Browser, Connection, Request, figment};

#[derive(FromForm)]
struct Upload<'r> {
    title: &'r str,
    file: TempFile<'r>,
}

#[get("/token")]
fn token(session: &Session) -> String {
    session.csrf_token()
}

#[post("/upload", data = "<upload>")]
fn upload(upload: CsrfForm<Upload<'_>>) -> String {
    format!("{} {}", upload.title, upload.file.len())
}

#[post("/button", data = "<_form>")]
fn button(_form: CsrfForm) -> &'static str {
    "pressed"
}

#[derive(FromForm)]
struct Comment<'r> {
    text: &'r str,
    stars: u8,
}

/// Says what came of the form.
#[post("/comment", data = "<form>")]
fn comment(form: Result<CsrfForm<Comment<'_>>, CsrfError<'_>>) -> String {
    match form {
        Ok(form) => format!("{} {}", form.text, form.stars),
        Err(CsrfError::Token(refused)) => {
            let parsed = refused.parse::<Comment<'_>>();
            let stars = parsed.map_or_else(
                |errors| errors.len().to_string(),
                |form| form.text.to_owned(),
            );
            let text = refused.field("text").unwrap_or("(none)");
            let names: Vec<&str> = refused.fields().map(|(name, _)| name).collect();
            format!("{:?} {text} {stars} {names:?}", refused.refusal())
        }
        Err(other) => format!("{other:?}"),
    }
}

#[post("/result")]
fn result(session: Result<&Session, Error>) -> Result<(), Error> {
    session.map(drop)
}

#[post("/guard")]
fn guard(_session: &Session) {}

async fn app(level: LogLevel) -> App {
    let debug = figment("debug", None, &[]).merge(("log_level", level));
    let all = routes![token, upload, button, comment, result, guard];
    App::launch(
        rocket::custom(debug)
            .attach(Sessions::in_memory())
            .mount("/", all),
    )
    .await
}

/// A browser with a session, and its token.
async fn visitor(app: &App) -> (Browser, String) {
    let browser = app.browser();
    let token = browser.get("/token").await.text();
    (browser, token)
}

/// A part of a multipart body: its name, further headers, its content.
fn part(name: &str, more: &str, content: &str) -> String {
    format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n{content}\r\n")
}

fn multipart(path: &str, parts: &[String]) -> Request {
    let body = format!("{}--B--\r\n", parts.concat());
    let request = Request::post(path).header("Content-Type", "multipart/form-data; boundary=B");
    request.body(body)
}

const FILE: &str = "; filename=\"a.bin\"\r\nContent-Type: application/octet-stream";

/// The default of common HTTP clients: every part has a `Content-Type`.
#[rstest]
#[test_attr(rocket::async_test)]
#[case("")]
#[case("\r\nContent-Type: text/plain")]
#[case("\r\nContent-Type: text/plain; charset=utf-8")]
#[case("\r\nContent-Type: application/octet-stream")]
async fn a_token_part_with_a_content_type_is_a_token(#[case] more: &str) {
    let app = app(LogLevel::Off).await;
    let (browser, text) = visitor(&app).await;
    let title = part("title", "", "tea");
    let file = part("file", FILE, "leaves");
    let token = |token: &str| part("csrf_token", more, token);
    let right = token(&text);
    for parts in [
        [right.clone(), title.clone(), file.clone()],
        [title.clone(), file.clone(), right.clone()],
    ] {
        let response = browser.send(multipart("/upload", &parts)).await;
        assert_eq!((response.status, response.text()), (200, "tea 6".into()));
    }
    for wrong in ["", "AAAA", &"A".repeat(86), &"A".repeat(100_000), "\u{e9}"] {
        for parts in [
            [token(wrong), title.clone(), file.clone()],
            [title.clone(), file.clone(), token(wrong)],
        ] {
            let response = browser.send(multipart("/upload", &parts)).await;
            assert_eq!(response.status, 403);
        }
    }
    let twice = [right.clone(), title.clone(), file.clone(), right];
    let response = browser.send(multipart("/upload", &twice)).await;
    assert_eq!(response.status, 403);
}

/// The file's end is never sent, so a response can only come before it.
#[rocket::async_test]
async fn a_wrong_token_is_refused_before_the_file_is_read() {
    let app = app(LogLevel::Off).await;
    let (browser, _) = visitor(&app).await;
    let wrong = "A".repeat(86);
    let head = |with_header: bool| {
        let request = Request::post("/upload")
            .header("Content-Type", "multipart/form-data; boundary=B")
            .header("Content-Length", "1000000");
        let request = browser.with_cookies(request);
        let request = match with_header {
            true => request.header("X-CSRF-Token", &wrong),
            false => request,
        };
        Request {
            body: None,
            ..request
        }
        .to_bytes()
    };
    for (with_header, first) in [
        (false, part("csrf_token", "", &wrong)),
        (
            false,
            part("csrf_token", "\r\nContent-Type: text/plain", &wrong),
        ),
        (true, part("title", "", "tea")),
    ] {
        let mut connection = Connection::open(app.addr()).await.expect("a connection");
        let file = part("file", FILE, "lea");
        let begun = [head(with_header), first.into(), file.trim_end().into()].concat();
        connection.write(&begun).await.expect("a write");
        let response = connection.read_head().await.expect("a response");
        assert_eq!(response.status, 403);
    }
}

#[rocket::async_test]
async fn a_refused_form_is_handed_back() {
    let app = app(LogLevel::Off).await;
    let (browser, token) = visitor(&app).await;
    let send = async |request: Request| browser.send(request).await.text();
    let post = |body: &str| Request::post("/comment").form(body);
    for (body, said) in [
        (
            "text=hot+tea&stars=5",
            "Missing hot tea hot tea [\"text\", \"stars\"]",
        ),
        (
            "csrf_token=x&text=a&stars=5",
            "Mismatch a a [\"text\", \"stars\"]",
        ),
        (
            "csrf_token=x&csrf_token=x&text=a&stars=5",
            "Ambiguous a a [\"text\", \"stars\"]",
        ),
        ("csrf_token=x&stars=many", "Mismatch (none) 2 [\"stars\"]"),
    ] {
        assert_eq!(send(post(body)).await, said);
    }
    assert_eq!(
        send(post(&format!("csrf_token={token}&text=a&stars=5"))).await,
        "a 5"
    );
    // What was typed before the file, where the token is refused before it.
    let parts = [
        part("text", "", "hot tea"),
        part("csrf_token", "", "x"),
        part("stars", FILE, "5"),
    ];
    let said = send(multipart("/comment", &parts)).await;
    assert_eq!(said, "Mismatch hot tea 1 [\"text\"]");
    let stranger = Request::post("/comment").form("csrf_token=x&text=a&stars=5");
    assert!(app.send(stranger).await.text().starts_with("NoSession a"));
    assert_eq!(format!("{:?}", CsrfRefusal::Missing), "Missing");
}

/// A script whose page has no token sends the header without a value.
#[rocket::async_test]
async fn an_empty_header_is_not_a_token() {
    let app = app(LogLevel::Off).await;
    let (browser, token) = visitor(&app).await;
    let good = format!("csrf_token={token}");
    for (empty, body, status) in [
        ("", &*good, 200),
        (" ", &good, 200),
        ("", "", 403),
        ("x", &good, 403),
    ] {
        let request = Request::post("/button")
            .form(body)
            .header("X-CSRF-Token", empty);
        assert_eq!(
            browser.send(request).await.status,
            status,
            "{empty:?} {body}"
        );
    }
}

/// A refusal is one line, at a level that a release build shows, and it says why.
#[test]
fn a_refused_request_writes_one_line_of_ours() {
    alone(
        "security::forms::a_refused_request_writes_one_line_of_ours",
        async {
            let app = app(LogLevel::Critical).await;
            let (browser, _) = visitor(&app).await;
            let foreign = |path: &str| {
                let request = Request::post(path).header("Origin", "https://evil.example");
                request.header("Sec-Fetch-Site", "cross-site")
            };
            for (request, status, said) in [
                (
                    Request::post("/button").form(""),
                    403,
                    &["CSRF", "/button", "carries no CSRF token"][..],
                ),
                (
                    Request::post("/button").form("csrf_token=x"),
                    403,
                    &["another session"],
                ),
                (
                    foreign("/guard"),
                    403,
                    &["`Sec-Fetch-Site` is `cross-site`", "https://evil.example"],
                ),
                (foreign("/result"), 403, &["https://evil.example"]),
                (foreign("/button").form(""), 403, &["https://evil.example"]),
            ] {
                forget_lines();
                let path = request.path.clone();
                let response = browser.send(request).await;
                assert_eq!(response.status, status, "{path}");
                let lines = lines();
                assert_eq!(lines.len(), 1, "{path}: {lines:?}");
                assert_eq!(lines[0].level, Level::Warn, "{path}");
                for said in said {
                    assert!(lines[0].text.contains(said), "{path}: {lines:?}");
                }
            }
        },
    );
}
