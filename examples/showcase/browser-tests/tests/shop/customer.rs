//! Buying tea: the basket, signing in, notices, 'remember me'.

use std::time::Duration;

use crate::support::{Chromium, PASSWORD, Screen, Shop};

const DAY: Duration = Duration::from_secs(86_400);

#[rocket::async_test]
async fn a_basket_survives_signing_up_and_signing_in() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let alice = chromium.open(&shop, Screen::Desk).await;
    alice.press("Add Jade Oolong to the basket").await;
    alice.press("Add Jade Oolong to the basket").await;
    assert_eq!(alice.basket().await.as_deref(), Some("2"));
    alice.sign_up("alice").await;
    assert_eq!(alice.basket().await.as_deref(), Some("2"));

    alice.visit("/account").await;
    alice.press("Sign out").await;
    assert_eq!(alice.notices().await, ["You are signed out."]);
    assert_eq!(alice.basket().await, None, "signing out forgets it");

    alice.press("Add Earl Grey to the basket").await;
    let before = alice.cookie().await.expect("a session");
    alice.sign_in("alice").await;
    assert_eq!(alice.basket().await.as_deref(), Some("1"));
    let after = alice.cookie().await.expect("a session");
    assert_ne!(
        before.value(),
        after.value(),
        "who knew the old cookie is not signed in"
    );
    assert_eq!(after.http_only(), Some(true));

    alice.visit("/basket").await;
    alice.fill("count", "3").await;
    alice.press("Update Earl Grey").await;
    assert_eq!(alice.texts(".total .price").await, ["€ 25.50"]);
    alice.press("Place the order").await;
    assert_eq!(alice.basket().await, None);
}

#[rocket::async_test]
async fn a_notice_is_shown_once() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let alice = chromium.open(&shop, Screen::Desk).await;
    alice.press("Add White Peony to the basket").await;
    assert_eq!(alice.notices().await, ["White Peony is in your basket."]);
    alice.visit("/").await;
    assert_eq!(alice.notices().await, [""; 0]);
}

#[rocket::async_test]
async fn a_page_that_wants_a_sign_in_is_there_after_it() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let alice = chromium.open(&shop, Screen::Desk).await;
    alice.sign_up("alice").await;
    alice.visit("/account").await;
    alice.press("Sign out").await;

    alice.visit("/account/password").await;
    assert_eq!(alice.path().await, "/sign-in");
    assert_eq!(alice.notices().await, ["To go on, please sign in."]);
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
async fn a_wrong_password_signs_nobody_in() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let alice = chromium.open(&shop, Screen::Desk).await;
    alice.sign_up("alice").await;
    let mallory = chromium.open(&shop, Screen::Desk).await;
    for (name, password) in [("alice", "a pot of black tea"), ("bob", PASSWORD)] {
        mallory.send_sign_in(name, password).await;
        assert_eq!(
            mallory.texts(".error").await,
            ["That name and that password do not belong together."]
        );
        let typed = mallory.find("input[name=name]").await;
        assert_eq!(
            typed.attr("value").await.expect("an attribute").as_deref(),
            Some(name)
        );
    }
    assert!(!mallory.is_signed_in().await);
    mallory.visit("/sign-up").await;
    mallory.fill("name", "ALICE").await;
    mallory.fill("password", PASSWORD).await;
    mallory.press_submit().await;
    assert_eq!(mallory.texts(".error").await, ["That name is taken."]);
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
    let real_now = std::time::SystemTime::now();
    let real_now = real_now
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a time")
        .as_secs();
    let days = (expires - real_now as i64) as f64 / DAY.as_secs_f64();
    assert!((29.0..=30.0).contains(&days), "{days} days");

    shop.clock.advance(7 * DAY);
    assert!(home.is_signed_in().await);
    assert!(!alice.is_signed_in().await);
    assert_eq!(home.devices().await.len(), 1);
}
