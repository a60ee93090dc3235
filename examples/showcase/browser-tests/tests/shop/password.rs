//! Changing the password.

use std::time::Duration;

use rocket::serde::json::json;

use crate::support::{Chromium, PASSWORD, Screen, Shop};

#[rocket::async_test]
async fn a_new_password_wants_a_fresh_sign_in_and_ends_every_other_device() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let desk = chromium.open(&shop, Screen::Desk).await;
    desk.sign_up("alice").await;
    let phone = chromium.open(&shop, Screen::Phone).await;
    phone.sign_in("alice").await;

    shop.clock.advance(Duration::from_secs(301));
    desk.visit("/account").await;
    desk.press("Change your password").await;
    assert_eq!(desk.path().await, "/sign-in");
    assert_eq!(
        desk.notices().await,
        ["To continue, please enter your password once more."]
    );
    desk.tick("remember").await;
    desk.sign_in("alice").await;
    assert_eq!(desk.path().await, "/account/password");

    let before = desk.cookie().await.expect("a session");
    desk.fill("current", PASSWORD).await;
    desk.fill("password", "another pot of tea").await;
    desk.press("Change it").await;
    assert_eq!(
        desk.notices().await,
        ["Your password is changed. Signed out on 1 other device."]
    );
    let after = desk.cookie().await.expect("a session");
    assert_ne!(before.value(), after.value(), "it is another session now");
    assert!(after.expires_datetime().is_some(), "it is still remembered");
    assert!(desk.is_signed_in().await);

    assert!(!phone.is_signed_in().await);
    phone.send_sign_in("alice", PASSWORD).await;
    assert_eq!(
        phone.texts(".error").await.len(),
        1,
        "the old password is refused"
    );
    phone.send_sign_in("alice", "another pot of tea").await;
    assert_eq!(phone.path().await, "/account");
}

#[rocket::async_test]
async fn a_wrong_current_password_changes_nothing() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let desk = chromium.open(&shop, Screen::Desk).await;
    desk.sign_up("alice").await;
    let phone = chromium.open(&shop, Screen::Phone).await;
    phone.sign_in("alice").await;

    desk.visit("/account/password").await;
    let filled_in = "return [...document.querySelectorAll('input[type=password]')]\
                     .map(field => field.autocomplete)";
    assert_eq!(
        desk.script(filled_in).await,
        json!(["current-password", "new-password"])
    );
    let before = desk.cookie().await.expect("a session");
    desk.fill("current", "a pot of black tea").await;
    desk.fill("password", "another pot of tea").await;
    desk.press("Change it").await;
    assert_eq!(desk.path().await, "/account/password");
    assert_eq!(
        desk.texts(".error").await,
        ["That is not your current password."]
    );
    assert_eq!(desk.marked().await, json!(["current"]));
    let status = "return performance.getEntriesByType('navigation')[0].responseStatus";
    assert_eq!(desk.script(status).await, 422);
    let after = desk.cookie().await.expect("a session");
    assert_eq!(before.value(), after.value(), "it is the same session");

    assert!(phone.is_signed_in().await);
    phone.send_sign_in("alice", "another pot of tea").await;
    assert_eq!(phone.texts(".error").await.len(), 1);
    phone.sign_in("alice").await;

    // From the same page, with the right one.
    desk.fill("current", PASSWORD).await;
    desk.fill("password", "another pot of tea").await;
    desk.press("Change it").await;
    phone.send_sign_in("alice", "another pot of tea").await;
    assert_eq!(phone.notices().await, ["Welcome back, alice."]);
}
