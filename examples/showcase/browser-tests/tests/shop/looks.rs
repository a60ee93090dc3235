//! How it looks: it fits a phone, and has its picture taken.

use std::path::Path;
use std::time::Duration;

use crate::support::{Browser, Chromium, Screen, Shop};

#[rocket::async_test]
async fn every_page_fits_a_phone() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let phone = chromium.open(&shop, Screen::Phone).await;
    for path in ["/", "/basket", "/sign-in", "/sign-up", "/coffee"] {
        fits(&phone, path).await;
    }
    phone.visit("/").await;
    phone.press("Add Lapsang Souchong to the basket").await;
    phone.sign_in_as_admin().await;
    for path in [
        "/",
        "/basket",
        "/account",
        "/account/password",
        "/admin",
        "/admin/user/admin",
    ] {
        fits(&phone, path).await;
    }
}

/// Nothing sticks out to the right, and every button is large enough for a thumb.
async fn fits(phone: &Browser, path: &str) {
    phone.visit(path).await;
    let width = phone
        .script("return document.documentElement.scrollWidth")
        .await;
    assert_eq!(width, 390, "the width of {path}");
    let least = "return Math.min(99, ...[...document.querySelectorAll('button, .button, nav a')]\
                 .map(button => button.getBoundingClientRect().height))";
    let least = phone.script(least).await;
    assert!(
        least.as_f64() >= Some(36.0),
        "a button on {path} is {least} high"
    );
    let label = "return [...document.querySelectorAll('input:not([type=hidden],[aria-hidden])')]\
                 .filter(input => !input.labels.length).map(input => input.name)";
    assert_eq!(
        phone.script(label).await,
        rocket::serde::json::json!([]),
        "labels on {path}"
    );
}

#[rocket::async_test]
async fn its_picture_is_taken() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let admin = chromium.open(&shop, Screen::Desk).await;
    admin.sign_in_as_admin().await;
    let desk = chromium.open(&shop, Screen::Desk).await;
    keep("desk-shop", &desk).await;
    desk.sign_up("alice").await;
    let tab = chromium.open(&shop, Screen::Desk).await;
    tab.visit("/sign-in").await;
    tab.tick("remember").await;
    tab.sign_in("alice").await;
    shop.clock.advance(Duration::from_secs(7 * 60));
    let phone = chromium.open(&shop, Screen::Phone).await;
    phone.visit("/sign-in").await;
    phone.tick("remember").await;
    keep("phone-sign-in", &phone).await;
    phone.sign_in("alice").await;
    shop.clock.advance(Duration::from_secs(4 * 60));
    desk.visit("/").await;
    desk.press("Add Jade Oolong to the basket").await;
    desk.press("Add Moroccan Mint to the basket").await;
    phone.press("Add Morning Sencha to the basket").await;
    keep("phone-shop", &phone).await;
    phone.visit("/basket").await;
    keep("phone-basket", &phone).await;
    phone.visit("/account").await;
    keep("phone-account", &phone).await;
    desk.visit("/basket").await;
    keep("desk-basket", &desk).await;
    desk.visit("/account").await;
    keep("desk-account", &desk).await;
    admin.visit("/admin").await;
    keep("desk-admin", &admin).await;
    admin.visit("/coffee").await;
    keep("desk-404", &admin).await;
}

/// Keeps a picture in the folder that `PICTURES` names, if it names one.
async fn keep(name: &str, browser: &Browser) {
    let picture = browser.screenshot().await;
    assert!(picture.starts_with(b"\x89PNG"), "{name} is a picture");
    if let Some(folder) = std::env::var_os("PICTURES").filter(|folder| !folder.is_empty()) {
        let folder = Path::new(&folder);
        std::fs::create_dir_all(folder).expect("the pictures' folder");
        std::fs::write(folder.join(format!("{name}.png")), picture).expect("a file for a picture");
    }
}
