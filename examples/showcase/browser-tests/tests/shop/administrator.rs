//! The administrator's pages.

use std::time::Duration;

use crate::support::{Chromium, PASSWORD, Screen, Shop, Wire};

#[rocket::async_test]
async fn customer_is_refused_on_administrator_pages() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let alice = chromium.open(&shop, Screen::Desk).await;
    alice.visit("/admin").await;
    assert_eq!(alice.path().await, "/sign-in");
    alice.send_sign_up("alice").await;
    assert_eq!(alice.path().await, "/admin");
    assert_eq!(alice.heading().await, "Not for this account");
    assert!(
        alice
            .body()
            .await
            .contains("Only administrators see this page.")
    );
}

#[rocket::async_test]
async fn the_administrator_finds_a_user_and_ends_a_device() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let alice = chromium.open(&shop, Screen::Phone).await;
    alice.sign_up("alice").await;
    let bob = chromium.open(&shop, Screen::Phone).await;
    bob.sign_up("bob").await;
    let admin = chromium.open(&shop, Screen::Desk).await;
    admin.sign_in_as_admin().await;

    admin.press("Admin").await;
    assert_eq!(admin.texts("#live-sessions").await, ["3"]);
    assert_eq!(
        admin.texts(".found").await,
        ["admin\n1 device", "alice\n1 device", "bob\n1 device"]
    );
    admin.fill("search", "AL").await;
    admin.press("Search").await;
    assert_eq!(admin.texts(".found").await, ["alice\n1 device"]);
    admin.press("alice").await;
    assert_eq!(admin.devices().await, ["Safari on iPhone"]);
    admin.press("Sign out Safari on iPhone").await;
    assert_eq!(admin.notices().await, ["A device of alice is signed out."]);
    assert_eq!(admin.texts(".empty").await, ["Not signed in anywhere."]);
    assert!(!alice.is_signed_in().await);

    admin.visit("/admin/user/bob").await;
    admin.unfold("Sign out every device").await;
    admin.press("Yes, sign out every device").await;
    assert_eq!(admin.notices().await, ["bob is signed out on 1 device."]);
    assert!(!bob.is_signed_in().await);
}

#[rocket::async_test]
async fn a_mass_logout_ends_everybody_and_everybody_may_come_back() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let alice = chromium.open(&shop, Screen::Desk).await;
    alice.sign_up("alice").await;
    let admin = chromium.open(&shop, Screen::Desk).await;
    admin.sign_in_as_admin().await;
    admin.visit("/admin").await;
    admin.unfold("Sign out everybody").await;
    admin.press("Yes, sign out everybody").await;
    assert_eq!(
        admin.notices().await,
        ["Everybody is signed out: 2 sessions ended."]
    );
    assert!(!alice.is_signed_in().await);
    assert!(!admin.is_signed_in().await);

    // The logout also ends logins in progress; time has to pass.
    shop.clock.advance(Duration::from_secs(1));
    alice.sign_in("alice").await;
    assert!(alice.is_signed_in().await);
}

#[rocket::async_test]
async fn a_mass_logout_wants_the_password_again_after_a_while() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let alice = chromium.open(&shop, Screen::Desk).await;
    alice.sign_up("alice").await;
    let admin = chromium.open(&shop, Screen::Desk).await;
    admin.sign_in_as_admin().await;
    admin.visit("/admin").await;
    shop.clock.advance(Duration::from_secs(301));
    admin.unfold("Sign out everybody").await;
    admin.press("Yes, sign out everybody").await;
    assert_eq!(admin.path().await, "/sign-in");
    assert!(alice.is_signed_in().await, "alice is still signed in");

    admin.send_sign_in("admin", "let it steep").await;
    assert_eq!(admin.path().await, "/admin");
    admin.unfold("Sign out everybody").await;
    admin.press("Yes, sign out everybody").await;
    assert!(!alice.is_signed_in().await);
}

#[rocket::async_test]
async fn metrics_are_for_administrators() {
    let shop = Shop::open().await;
    let mut alice = Wire::new(&shop);
    alice.enter("/sign-up", "alice", PASSWORD).await;
    assert_eq!(alice.get("/metrics").await.status(), 403);
    let mut admin = Wire::new(&shop);
    admin.enter("/sign-in", "admin", "let it steep").await;
    let metrics = admin.get("/metrics").await;
    assert_eq!(metrics.status(), 200);
    for series in [
        r#"rocket_mongo_session_loads_total{kind="main"}"#,
        r#"rocket_mongo_session_loads_total{kind="admin"}"#,
        r#"rocket_mongo_session_load_seconds_bucket{kind="main",le="0.005"}"#,
        "# TYPE rocket_mongo_session_commit_seconds histogram",
        "# TYPE rocket_mongo_session_connections_lost_total counter",
    ] {
        assert!(metrics.body.contains(series), "{series}: {}", metrics.body);
    }
}

#[rocket::async_test]
async fn the_administrators_session_is_short_and_its_cookie_strict() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let admin = chromium.open(&shop, Screen::Desk).await;
    admin.sign_in_as_admin().await;
    admin.visit("/admin").await;
    let cookie = admin.cookie_named("session_admin").await.expect("a cookie");
    assert_eq!(format!("{:?}", cookie.same_site()), "Some(Strict)");
    assert_eq!(cookie.http_only(), Some(true));

    // As a customer the same person stays signed in.
    shop.clock.advance(Duration::from_secs(601));
    admin.visit("/admin").await;
    assert_eq!(admin.path().await, "/sign-in");
    assert!(admin.is_signed_in().await);
    admin.send_sign_in("admin", "let it steep").await;
    assert_eq!(admin.path().await, "/admin");

    // The next user of this device is not an administrator.
    admin.sign_up("alice").await;
    admin.visit("/admin").await;
    assert_ne!(admin.heading().await, "Administration");
}
