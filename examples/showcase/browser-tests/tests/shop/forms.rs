//! Forms of other sites, and pages that do not exist.

use rocket::http::ContentType;
use rocket::response::content::RawHtml;
use rocket::serde::json::json;
use rocket::{State, get, routes};

use crate::support::{Browser, Chromium, Screen, Shop, figment, launch};

#[rocket::async_test]
async fn every_form_that_changes_something_carries_a_token_and_the_only_script_is_the_shops() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let admin = chromium.open(&shop, Screen::Desk).await;
    admin.press("Add Earl Grey to the basket").await;
    let mut forms = 0;
    for path in ["/sign-in", "/sign-up"] {
        forms += sound_forms(&admin, path).await;
    }
    admin.sign_in_as_admin().await;
    let other = chromium.open(&shop, Screen::Phone).await;
    other.sign_in_as_admin().await;
    for path in [
        "/",
        "/basket",
        "/account",
        "/account/password",
        "/admin",
        "/admin/user/admin",
    ] {
        forms += sound_forms(&admin, path).await;
    }
    assert_eq!(forms, 14, "forms on all pages");
}

/// How many forms of a page are sent as a POST.
async fn sound_forms(browser: &Browser, path: &str) -> u64 {
    browser.visit(path).await;
    let others = "return [...document.scripts].filter(script => script.text || \
                  new URL(script.src).pathname !== '/static/live.js').length";
    assert_eq!(browser.script(others).await, 0, "scripts on {path}");
    let bare = "return [...document.querySelectorAll('form[method=post]')]\
                .filter(form => !form.csrf_token?.value).map(form => form.action)";
    assert_eq!(browser.script(bare).await, json!([]), "forms on {path}");
    let forms = "return document.querySelectorAll('form[method=post]').length";
    browser.script(forms).await.as_u64().expect("a number")
}

#[rocket::async_test]
async fn a_form_with_a_forged_token_is_refused() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let alice = chromium.open(&shop, Screen::Desk).await;
    alice.sign_up("alice").await;
    alice.visit("/account").await;
    let forge = "for (const input of document.querySelectorAll('[name=csrf_token]')) \
                 input.value = 'A' + input.value.slice(1, -4) + 'AAAA'";
    alice.script(forge).await;
    alice.press("Sign out everywhere").await;
    assert_eq!(alice.heading().await, "That is not allowed");
    assert_eq!(alice.texts(".code").await, ["403"]);
    assert!(alice.is_signed_in().await);
}

/// A page of another origin, with a stolen token. It is of the same *site*, a
/// port being no part of that, so that the browser sends the cookie along.
#[get("/?<token>")]
fn trap(token: &str, shop: &State<String>) -> RawHtml<String> {
    RawHtml(format!(
        r#"<form method="post" action="{}/account/end-all">
           <input type="hidden" name="csrf_token" value="{token}">
           <button>Win a kettle</button></form>"#,
        shop.as_str()
    ))
}

#[rocket::async_test]
async fn a_form_on_another_site_is_refused_even_with_a_valid_token() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let admin = chromium.open(&shop, Screen::Desk).await;
    admin.sign_in_as_admin().await;
    admin.visit("/admin").await;
    let refused = admin.stat("Refused").await;
    let alice = chromium.open(&shop, Screen::Desk).await;
    alice.sign_up("alice").await;
    let token = alice.typed("csrf_token").await;
    let token = token.as_str().expect("a token");

    let site = rocket::custom(figment()).manage(shop.address());
    let (port, stop, _site) = launch(site.mount("/", routes![trap])).await;
    for host in ["127.0.0.1", "localhost"] {
        alice
            .visit(&format!("http://{host}:{port}/?token={token}"))
            .await;
        alice.press("Win a kettle").await;
        assert_eq!(alice.heading().await, "That is not allowed", "from {host}");
        assert!(alice.is_signed_in().await, "after {host}");
    }
    stop.notify();
    admin.visit("/admin").await;
    assert_eq!(admin.stat("Refused").await, refused + 2);

    // The same form on a page of the shop's: it was the place, and not the token.
    alice.visit("/").await;
    let own = "document.querySelector('main').innerHTML = '<form method=post \
               action=/account/end-all><input name=csrf_token value=TOKEN>\
               <button>Win a kettle</button></form>'";
    alice.script(&own.replace("TOKEN", token)).await;
    alice.press("Win a kettle").await;
    assert!(!alice.is_signed_in().await);
}

/// Puts scripts into a page, as an attacker would who found a way to, and waits until each of them
/// either ran or was stopped.
const INJECT: &str = r#"
    window.ran = 0; window.stopped = 0;
    document.addEventListener('securitypolicyviolation', () => window.stopped++);
    const script = document.createElement('script');
    script.textContent = 'window.ran++';
    document.body.append(script);
    const image = document.createElement('div');
    image.innerHTML = '<img src="/static/icon.svg" onload="window.ran++">';
    document.body.append(image);
    const other = document.createElement('script');
    other.src = 'data:text/javascript,window.ran++';
    document.body.append(other);
"#;

#[get("/")]
fn open_to_scripts() -> RawHtml<&'static str> {
    RawHtml("<body></body>")
}

#[get("/static/icon.svg")]
fn icon() -> (ContentType, &'static str) {
    let svg = r#"<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>"#;
    (ContentType::SVG, svg)
}

#[rocket::async_test]
async fn a_script_that_got_into_a_page_does_not_run() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let alice = chromium.open(&shop, Screen::Desk).await;
    let counts = "return [window.ran, window.stopped]";
    alice.script(INJECT).await;
    alice
        .wait_until(json!([0, 3]), async || alice.script(counts).await)
        .await;

    // They do run where nothing forbids it.
    let site = rocket::custom(figment()).mount("/", routes![open_to_scripts, icon]);
    let (port, stop, _site) = launch(site).await;
    alice.visit(&format!("http://127.0.0.1:{port}/")).await;
    alice.script(INJECT).await;
    alice
        .wait_until(json!([3, 0]), async || alice.script(counts).await)
        .await;
    stop.notify();
}

#[rocket::async_test]
async fn a_page_that_does_not_exist_says_so() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let alice = chromium.open(&shop, Screen::Desk).await;
    alice.visit("/coffee").await;
    assert_eq!(alice.heading().await, "Nothing here");
    alice.press("Back to the shop").await;
    assert_eq!(alice.path().await, "/");
}
