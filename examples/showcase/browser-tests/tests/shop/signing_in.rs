//! Signing in: where it leads, what it takes, and for how long it lasts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rocket::serde::json::json;

use crate::support::{Chromium, PASSWORD, Screen, Shop};

const DAY: Duration = Duration::from_secs(86_400);

#[rocket::async_test]
async fn a_page_that_wants_a_sign_in_is_there_after_it() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let alice = chromium.open(&shop, Screen::Desk).await;
    alice.sign_up("alice").await;
    alice.visit("/account").await;
    alice.press("Sign out").await;

    alice.visit("/account/password").await;
    assert_eq!(alice.path().await, "/sign-in");
    assert_eq!(alice.notices().await, ["To continue, please sign in."]);
    alice.sign_in("alice").await;
    assert_eq!(alice.path().await, "/account/password");
}

#[rocket::async_test]
async fn an_address_that_reads_as_another_host_leads_back_to_this_one() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let alice = chromium.open(&shop, Screen::Desk).await;
    alice.visit("//account/password").await;
    assert_eq!(alice.path().await, "/sign-in");
    alice.sign_up("alice").await;
    assert_eq!(alice.path().await, "/account/password");
}

#[rocket::async_test]
async fn wrong_password_is_refused() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let alice = chromium.open(&shop, Screen::Desk).await;
    alice.sign_up("alice").await;
    let mallory = chromium.open(&shop, Screen::Desk).await;
    for (name, password) in [("alice", "a pot of black tea"), ("bob", PASSWORD)] {
        mallory.send_sign_in(name, password).await;
        assert_eq!(
            mallory.texts(".error").await,
            ["The name or the password is wrong."]
        );
        assert_eq!(mallory.typed("name").await, name);
        assert_eq!(mallory.marked().await, json!(["name", "password"]));
    }
    assert!(!mallory.is_signed_in().await);
    mallory.visit("/sign-up").await;
    mallory.fill("name", "ALICE").await;
    mallory.fill("password", PASSWORD).await;
    mallory.press_submit().await;
    assert_eq!(mallory.texts(".error").await, ["That name is taken."]);
    assert_eq!(mallory.marked().await, json!(["name"]));
}

#[rocket::async_test]
async fn who_is_remembered_is_still_there_next_week() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let alice = chromium.open(&shop, Screen::Phone).await;
    alice.sign_up("alice").await;
    assert_eq!(
        alice.cookie().await.expect("a session").expires_datetime(),
        None
    );

    let home = chromium.open(&shop, Screen::Desk).await;
    home.visit("/sign-in").await;
    home.tick("remember").await;
    home.sign_in("alice").await;
    let cookie = home.cookie().await.expect("a session");
    let expires = cookie.expires_datetime().expect("a life").unix_timestamp();
    let real_now = SystemTime::now().duration_since(UNIX_EPOCH);
    let real_now = real_now.expect("a time").as_secs();
    let days = (expires - real_now as i64) as f64 / DAY.as_secs_f64();
    assert!((29.0..=30.0).contains(&days), "{days} days");

    shop.clock.advance(7 * DAY);
    assert!(home.is_signed_in().await);
    assert!(!alice.is_signed_in().await);
    assert_eq!(home.devices().await.len(), 1);
}

#[rocket::async_test]
async fn who_signs_in_once_more_keeps_the_basket_and_stays_remembered() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let alice = chromium.open(&shop, Screen::Desk).await;
    alice.visit("/sign-up").await;
    alice.tick("remember").await;
    alice.sign_up("alice").await;
    alice.press("Add Earl Grey to the basket").await;

    shop.clock.advance(Duration::from_secs(301));
    alice.visit("/account/password").await;
    assert_eq!(alice.path().await, "/sign-in");
    let page = alice.body().await;
    assert!(
        page.contains("alice stays remembered on this device."),
        "{page}"
    );
    alice.sign_in("alice").await;
    assert_eq!(alice.path().await, "/account/password");
    assert_eq!(alice.basket().await.as_deref(), Some("1"));
    let cookie = alice.cookie().await.expect("a session");
    assert!(cookie.expires_datetime().is_some());
    shop.clock.advance(7 * DAY);
    assert!(alice.is_signed_in().await);
}

#[rocket::async_test]
async fn a_closed_browser_comes_back_signed_in_only_if_it_is_remembered() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let home = chromium.open(&shop, Screen::Desk).await;
    home.visit("/sign-up").await;
    home.tick("remember").await;
    home.sign_up("alice").await;
    let library = chromium.open(&shop, Screen::Desk).await;
    library.sign_in("alice").await;

    let home = chromium.reopen(home, &shop, Screen::Desk).await;
    assert!(home.is_signed_in().await);
    let library = chromium.reopen(library, &shop, Screen::Desk).await;
    assert!(!library.is_signed_in().await);
}

#[rocket::async_test]
async fn blanks_around_a_name_are_no_part_of_it() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let alice = chromium.open(&shop, Screen::Desk).await;
    alice.send_sign_up(" Alice ").await;
    assert_eq!(alice.notices().await, ["Welcome, alice."]);
    let phone = chromium.open(&shop, Screen::Phone).await;
    phone.send_sign_in("alice ", PASSWORD).await;
    assert_eq!(phone.notices().await, ["Welcome back, alice."]);
}

#[rocket::async_test]
async fn a_page_that_was_open_for_too_long_is_shown_again_with_what_was_typed() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let alice = chromium.open(&shop, Screen::Desk).await;
    for (path, heading, welcome) in [
        ("/sign-up", "Make an account", "Welcome, alice."),
        ("/sign-in", "Sign in", "Welcome back, alice."),
    ] {
        alice.visit(path).await;
        alice.tick("remember").await;
        shop.clock.advance(Duration::from_secs(1201));
        alice.fill("name", "alice").await;
        alice.fill("password", PASSWORD).await;
        alice.press_submit().await;
        assert_eq!(alice.heading().await, heading);
        assert_eq!(
            alice.texts(".error").await,
            ["This page was open for too long. Please send it once more."]
        );
        assert_eq!(alice.typed("name").await, "alice");
        let ticked = "return document.querySelector('input[name=remember]').checked";
        assert_eq!(alice.script(ticked).await, true);
        alice.fill("password", PASSWORD).await;
        alice.press_submit().await;
        assert_eq!(alice.notices().await, [welcome]);
        alice.visit("/account").await;
        alice.press("Sign out").await;
    }
}
