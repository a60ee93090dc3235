//! Forms that somebody else made, and pages that are not there.

use rocket::response::content::RawHtml;
use rocket::serde::json::json;
use rocket::{State, get, routes};

use crate::support::{Browser, Chromium, Screen, Shop, figment, launch};

#[rocket::async_test]
async fn every_form_that_changes_something_carries_a_token_and_no_page_a_script() {
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
    let scripts = browser.script("return document.scripts.length").await;
    assert_eq!(scripts, 0, "scripts on {path}");
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

/// A page of another origin. It is of the same *site*, a port being no part of that, so that the
/// browser sends the cookie along.
#[get("/")]
fn trap(shop: &State<String>) -> RawHtml<String> {
    RawHtml(format!(
        r#"<form method="post" action="{}/account/end-all"><button>Win a kettle</button></form>"#,
        shop.as_str()
    ))
}

#[rocket::async_test]
async fn a_form_on_another_site_is_refused() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let alice = chromium.open(&shop, Screen::Desk).await;
    alice.sign_up("alice").await;
    let site = rocket::custom(figment()).manage(shop.address());
    let (port, stop, _site) = launch(site.mount("/", routes![trap])).await;
    for host in ["127.0.0.1", "localhost"] {
        alice.visit(&format!("http://{host}:{port}/")).await;
        alice.press("Win a kettle").await;
        assert_eq!(alice.heading().await, "That is not allowed", "from {host}");
        assert!(alice.is_signed_in().await, "after {host}");
    }
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
