//! Buying tea: the basket, notices.

use std::time::Duration;

use crate::support::{Chromium, Screen, Shop};

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
async fn an_order_of_a_visitor_leads_over_the_sign_in_back_to_the_basket() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let alice = chromium.open(&shop, Screen::Desk).await;
    alice.press("Add Assam Malty to the basket").await;
    alice.visit("/basket").await;
    alice.press("Sign in to order").await;
    assert_eq!(alice.path().await, "/sign-in");
    assert_eq!(alice.notices().await, ["To continue, please sign in."]);
    alice.press("Make an account").await;
    alice.send_sign_up("alice").await;
    assert_eq!(alice.path().await, "/basket");
    alice.press("Place the order").await;
    let thanks = "Thank you, alice. Nothing will arrive: this is a demonstration.";
    assert_eq!(alice.notices().await, [thanks]);
}

#[rocket::async_test]
async fn basket_is_not_handed_over_to_another_user() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let bob = chromium.open(&shop, Screen::Phone).await;
    bob.sign_up("bob").await;

    let desk = chromium.open(&shop, Screen::Desk).await;
    desk.visit("/sign-up").await;
    desk.tick("remember").await;
    desk.sign_up("alice").await;
    desk.press("Add Jade Oolong to the basket").await;
    // The page that alice wanted is not shown to bob either.
    shop.clock.advance(Duration::from_secs(301));
    desk.visit("/account/password").await;
    desk.sign_in("bob").await;
    assert_eq!(desk.path().await, "/");
    assert_eq!(desk.basket().await, None);
    let cookie = desk.cookie().await.expect("a session");
    assert_eq!(
        cookie.expires_datetime(),
        None,
        "it was alice who is remembered"
    );

    desk.press("Add Jade Oolong to the basket").await;
    desk.sign_up("carol").await;
    assert_eq!(desk.basket().await, None);
}
