//! What holds for every route, and needs no browser.

use std::time::Duration;

use rocket::http::{ContentType, Method, Status};
use rocket::local::asynchronous::Client;
use rocket::{get, routes};
use rocket_mongo_session::testing::Clock;
use rocket_mongo_session::{Error, Of, Session};
use showcase::Admin;

use crate::support::figment;

/// What any of the forms asks for. The password stays the administrator's when it is changed.
const FIELDS: &str =
    "tea=grey&count=1&device=x&name=alice&current=let+it+steep&password=let+it+steep";

/// The routes are walked, so that a new one is not forgotten.
#[rocket::async_test]
async fn no_form_is_taken_without_its_token() {
    let clock = Clock::new();
    let client = shop(&clock).await;
    let mut forms = Vec::new();
    for route in client.rocket().routes() {
        match route.method {
            Method::Get => {}
            Method::Post => forms.push(route.uri.to_string()),
            other => panic!("{other} {}: what checks its token?", route.uri),
        }
    }
    assert_eq!(forms.len(), 13, "{forms:?}");

    sign_in(&client).await;
    for form in &forms {
        let forged = format!("{FIELDS}&csrf_token=AAAA");
        for body in [FIELDS, &forged] {
            assert_eq!(send(&client, form, body).await, Status::Forbidden, "{form}");
        }
    }
    // With it each of them is taken: nothing else was in its way.
    for form in &forms {
        // A login at the very moment of a mass logout ends with it; time has to pass.
        clock.advance(Duration::from_secs(1));
        let mut token = sign_in(&client).await;
        if form.starts_with("/admin") {
            // Of another kind of session.
            token = self::token(&client, "/admin").await;
        }
        let body = format!("{FIELDS}&csrf_token={token}");
        let status = send(&client, form, &body).await;
        assert!(
            status == Status::SeeOther || form.starts_with("/sign-"),
            "{form}: {status}"
        );
        assert_ne!(status, Status::Forbidden, "{form}");
    }
}

#[rocket::async_test]
async fn every_response_has_security_and_cache_headers() {
    let client = shop(&Clock::new()).await;
    for path in ["/", "/account", "/coffee", "/static/style.css"] {
        let response = client.get(path).dispatch().await;
        let header = |name| response.headers().get(name).collect::<Vec<_>>();
        assert_eq!(header("X-Frame-Options"), ["DENY"], "{path}");
        assert_eq!(header("X-Content-Type-Options"), ["nosniff"], "{path}");
        assert_eq!(header("Referrer-Policy"), ["same-origin"], "{path}");
        let policy = header("Content-Security-Policy").concat();
        assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
        assert!(
            policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
    }
}

/// Signs in as the administrator, quickly.
#[get("/one-more")]
fn one_more(session: &Session, admin: Of<'_, Admin>) -> Result<(), Error> {
    admin.login("admin")?;
    session.login("admin")
}

#[rocket::async_test]
async fn of_many_devices_the_newest_are_listed_and_the_others_counted() {
    let clock = Clock::new();
    let rocket = showcase::rocket(figment(), &clock).mount("/", routes![one_more]);
    // It keeps no cookie: every request is another device's.
    let client = Client::untracked(rocket).await.expect("the shop");
    let mut devices = Vec::new();
    for _ in 0..52 {
        let response = client.get("/one-more").dispatch().await;
        let cookie = |name| response.cookies().get(name).expect("a cookie").clone();
        devices.push([cookie("session"), cookie("session_admin")]);
        clock.advance(Duration::from_secs(1));
    }
    let newest = devices.pop().expect("a device");
    for (path, listed, older) in [
        ("/account", 50, "Not shown: 2 older devices."),
        ("/admin/user/admin", 20, "Not shown: 32 older devices."),
    ] {
        let request = client.get(path).cookies(newest.clone());
        let page = request.dispatch().await.into_string().await;
        let page = page.expect("a page");
        let (_, list) = page.split_once("<ul").expect("a list");
        let rows: Vec<_> = list.split(r#"<li class="device">"#).skip(1).collect();
        assert_eq!(rows.len(), listed, "{path}");
        assert!(rows[0].contains("This device"), "{path}");
        assert!(page.contains(older), "{path}: {page}");
    }
}

async fn shop(clock: &Clock) -> Client {
    let rocket = showcase::rocket(figment(), clock);
    Client::tracked(rocket).await.expect("the shop")
}

/// As the administrator, who may do everything; a token of that session.
async fn sign_in(client: &Client) -> String {
    let token = token(client, "/sign-in").await;
    let body = format!("name=admin&password=let+it+steep&csrf_token={token}");
    let status = send(client, "/sign-in", &body).await;
    assert_eq!(status, Status::SeeOther);
    self::token(client, "/account").await
}

async fn token(client: &Client, page: &str) -> String {
    let page = client.get(page).dispatch().await.into_string().await;
    let page = page.expect("a page");
    let (_, field) = page
        .split_once(r#"name="csrf_token" value=""#)
        .expect("a form");
    field.split('"').next().unwrap_or_default().to_owned()
}

async fn send(client: &Client, path: &str, body: &str) -> Status {
    let request = client.post(path).header(ContentType::Form).body(body);
    request.dispatch().await.status()
}
