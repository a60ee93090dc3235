//! The shop on a real MongoDB.

use rocket::figment::providers::Serialized;

use crate::support::{Chromium, Mongod, Screen, Shop, figment, release_figment};

#[rocket::async_test]
async fn on_mongodb_a_customer_outlives_the_shop_and_an_outage() {
    let (mongod, mut chromium) = (Mongod::start(), Chromium::start());
    let figment = || {
        figment()
            .merge(Serialized::default("databases.sessions.url", mongod.url()))
            .merge(Serialized::default("session.deadline", 5))
    };
    let shop = Shop::open_with(figment()).await;
    let alice = chromium.open(&shop, Screen::Desk).await;
    alice.press("Add Cape Rooibos to the basket").await;
    alice.sign_up("alice").await;
    assert_eq!(alice.basket().await.as_deref(), Some("1"));
    shop.close().await;

    // Another process would find the same, and a cookie knows no port.
    let shop = Shop::open_with(figment()).await;
    let alice = alice.at(&shop);
    assert!(alice.is_signed_in().await);
    assert_eq!(alice.basket().await.as_deref(), Some("1"));
    let phone = chromium.open(&shop, Screen::Phone).await;
    phone.sign_in("alice").await;
    alice.visit("/account").await;
    alice.press("Sign out Safari on iPhone").await;
    assert!(!phone.is_signed_in().await);

    mongod.pause();
    alice.visit("/account").await;
    assert_eq!(alice.heading().await, "Back in a moment");
    assert!(alice.body().await.contains("All users stay signed in"));
    mongod.resume();
    alice
        .wait_until("/account".to_owned(), async || {
            alice.visit("/account").await;
            match alice.heading().await.as_str() {
                "Your account" => alice.path().await,
                other => other.to_owned(),
            }
        })
        .await;

    let admin = chromium.open(&shop, Screen::Desk).await;
    admin.sign_in_as_admin().await;
    admin.visit("/admin?search=al").await;
    assert_eq!(admin.texts(".found").await, ["alice\n1 device"]);
    admin.unfold("Sign out everybody").await;
    admin.press("Yes, sign out everybody").await;
    assert!(!alice.is_signed_in().await);
}

#[rocket::async_test]
async fn in_the_release_profile_the_cookie_is_held_to_its_host() {
    let (mongod, mut chromium) = (Mongod::start(), Chromium::start());
    let url = Serialized::default("databases.sessions.url", mongod.url());
    let shop = Shop::open_with(release_figment().merge(url)).await;
    let alice = chromium.open(&shop, Screen::Desk).await;
    alice.sign_up("alice").await;
    assert!(alice.is_signed_in().await);
    assert!(alice.cookie().await.is_none(), "its name is another");
    let cookie = alice
        .cookie_named("__Host-session")
        .await
        .expect("a cookie");
    assert_eq!(
        (cookie.secure(), cookie.http_only()),
        (Some(true), Some(true))
    );
    assert_eq!(
        (cookie.path(), cookie.domain()),
        (Some("/"), Some("127.0.0.1"))
    );

    // The administrator's has a name of the same kind, and goes with the shop's own pages alone.
    let password = Serialized::default("showcase.admin_password", "a password of its own");
    let url = Serialized::default("databases.sessions.url", mongod.url());
    let shop = Shop::open_with(release_figment().merge(url).merge(password)).await;
    let admin = chromium.open(&shop, Screen::Desk).await;
    admin.send_sign_in("admin", "a password of its own").await;
    admin.visit("/admin").await;
    assert_eq!(admin.heading().await, "Administration");
    let name = "__Host-session_admin";
    let cookie = admin.cookie_named(name).await.expect("a cookie");
    assert_eq!(
        (cookie.secure(), cookie.http_only(), cookie.path()),
        (Some(true), Some(true), Some("/"))
    );
    assert_eq!(cookie.domain(), Some("127.0.0.1"));
    assert_eq!(format!("{:?}", cookie.same_site()), "Some(Strict)");
    assert!(admin.cookie_named("session_admin").await.is_none());
    // The browser refuses what another host or a part of the site could set.
    for attributes in [
        "Secure; Path=/admin",
        "Path=/",
        "Secure; Path=/; Domain=127.0.0.1",
    ] {
        let plant = format!("document.cookie = '{name}=planted; {attributes}'");
        admin.script(&plant).await;
        let kept = admin.cookie_named(name).await.expect("a cookie");
        assert_eq!(kept.value(), cookie.value(), "{attributes}");
    }
    admin.visit("/admin").await;
    assert_eq!(admin.heading().await, "Administration");
    // A logout removes it.
    admin.visit("/account").await;
    admin.press("Sign out").await;
    assert!(admin.cookie_named(name).await.is_none());

    // A published password must not open the administrator's account.
    alice.send_sign_in("admin", "let it steep").await;
    assert_eq!(alice.texts(".error").await.len(), 1);
}
