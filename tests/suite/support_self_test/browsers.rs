//! The tests' browsers, connections and applications.

use rocket::http::{Cookie, CookieJar};
use rocket::response::status::NoContent;
use rocket::response::stream::TextStream;
use rocket::{get, post, routes};

use crate::support::{App, Browser, Connection, Request, figment};

#[get("/set?<name>&<value>")]
fn set(jar: &CookieJar<'_>, name: String, value: String) {
    jar.add((name, value));
}

#[get("/remove?<name>")]
fn remove(jar: &CookieJar<'_>, name: String) {
    jar.remove(Cookie::build(name).path("/"));
}

#[get("/deep/show")]
fn show(jar: &CookieJar<'_>) -> String {
    jar.iter()
        .map(|cookie| cookie.to_string())
        .collect::<Vec<_>>()
        .join("; ")
}

#[post("/echo", data = "<body>")]
fn echo(body: Vec<u8>) -> Vec<u8> {
    body
}

#[get("/stream")]
fn stream() -> TextStream![&'static str] {
    TextStream! {
        yield "one";
        yield "two";
    }
}

#[get("/nothing")]
fn nothing() -> NoContent {
    NoContent
}

#[rocket::async_test]
async fn a_connection_is_kept_and_its_answers_are_told_apart() {
    let rocket =
        rocket::custom(figment("debug", None, &[])).mount("/", routes![set, stream, nothing, echo]);
    let app = App::launch(rocket).await;
    let mut kept = Connection::open(app.addr()).await.expect("a connection");

    let twice = Request::get("/set?name=a&value=%22");
    let response = kept.exchange(&twice).await.expect("a response");
    assert_eq!(response.set_cookies().len(), 1, "{response:?}");
    let response = kept
        .exchange(&Request::get("/stream"))
        .await
        .expect("a response");
    assert_eq!(
        (response.header("content-length"), response.text().as_str()),
        (None, "onetwo")
    );
    let response = kept
        .exchange(&Request::get("/nothing"))
        .await
        .expect("a response");
    assert_eq!((response.status, response.body.len()), (204, 0));
    let response = kept
        .exchange(&Request::head("/stream"))
        .await
        .expect("a response");
    assert_eq!((response.status, response.body.len()), (200, 0));
    let response = kept
        .exchange(&Request::post("/echo").form("a=b"))
        .await
        .expect("a response");
    assert_eq!(response.text(), "a=b");

    kept.write(&Request::get("/stream").to_bytes())
        .await
        .expect("a request");
    kept.read_head().await.expect("a head");
    let mut pieces = Vec::new();
    while let Some(piece) = kept.read_chunk().await.expect("a piece") {
        pieces.push(piece);
    }
    assert_eq!(pieces, [b"one", b"two"]);
    app.shutdown().await.expect("a clean end");
}

#[rocket::async_test]
async fn a_browser_obeys() {
    let rocket = rocket::custom(figment("debug", None, &[("timeout", 5.into())]))
        .mount("/", routes![set, remove, show, echo]);
    assert_eq!(
        rocket
            .figment()
            .extract_inner::<u32>("session.timeout")
            .expect("a key"),
        5
    );
    let app = App::launch(rocket).await;

    let browser = app.browser();
    browser.get("/set?name=a&value=1").await;
    let later = browser
        .send_undelivered(Request::get("/set?name=a&value=2"))
        .await;
    assert_eq!(browser.cookie("a").as_deref(), Some("1"));
    assert_eq!(browser.get("/deep/show").await.text(), "a=1");

    // Whatever is delivered last counts, not what was sent last.
    let removed = browser
        .send_undelivered(Request::get("/remove?name=a"))
        .await;
    browser.deliver(&removed, "/remove");
    assert_eq!(browser.cookie("a"), None);
    assert_eq!(browser.get("/deep/show").await.text(), "");
    browser.deliver(&later, "/set");
    assert_eq!(browser.cookie("a").as_deref(), Some("2"));

    browser.set_cookie("b=deep; Path=/deep; HttpOnly");
    browser.set_cookie("c=kept; Path=/; Max-Age=60");
    assert_eq!(browser.cookie("b"), None);
    assert_eq!(
        browser.cookie_at("/deep/show", "b").as_deref(),
        Some("deep")
    );
    browser.restart();
    assert_eq!(
        (browser.cookie("a"), browser.cookie("c").as_deref()),
        (None, Some("kept"))
    );
    assert_eq!(browser.twin().cookie("c").as_deref(), Some("kept"));

    let plain = Browser::at(app.addr(), "http://shop.example.org");
    plain.set_cookie("w=wide; Domain=example.org");
    plain.set_cookie("s=safe; Secure");
    assert_eq!(
        (plain.cookie("w").as_deref(), plain.cookie("s")),
        (Some("wide"), None)
    );
    assert_eq!(plain.get("/deep/show").await.text(), "w=wide");

    let echoed = app.post("/echo", "text/plain", "body").await;
    assert_eq!((echoed.status, echoed.text()), (200, "body".to_owned()));
    let head = app.send(Request::head("/deep/show")).await;
    assert_eq!(
        (head.status, head.header("content-length"), head.body.len()),
        (200, Some("0"), 0)
    );
    assert_eq!(app.get("/nowhere").await.status, 404);
    app.shutdown().await.expect("a clean end");
}

#[rocket::async_test]
async fn an_application_that_refuses_to_launch_says_so() {
    let rocket = rocket::custom(figment("debug", None, &[]))
        .mount("/", routes![show])
        .mount("/", routes![show]);
    let error = App::try_launch(rocket)
        .await
        .map(|_| ())
        .expect_err("two routes of one address");
    assert!(error.to_string().contains("collision"), "{error}");
}
