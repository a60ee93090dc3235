//! The account page: every device, and the end of each.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::{Browser, Chromium, Screen, Shop};

/// Alice, signed in on two devices.
async fn two_devices(chromium: &mut Chromium, shop: &Shop) -> (Browser, Browser) {
    let desk = chromium.open(shop, Screen::Desk).await;
    desk.sign_up("alice").await;
    let phone = chromium.open(shop, Screen::Phone).await;
    phone.sign_in("alice").await;
    (desk, phone)
}

#[rocket::async_test]
async fn two_browsers_are_two_devices_and_one_ends_the_other() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let (desk, phone) = two_devices(&mut chromium, &shop).await;
    shop.clock.advance(Duration::from_secs(5 * 60));
    desk.visit("/account").await;
    assert_eq!(
        desk.devices().await,
        ["Chrome on Linux This device", "Safari on iPhone"]
    );
    let told = desk.texts(".device p").await;
    assert_eq!(
        [&told[0], &told[2]],
        ["Active just now", "Active 5 minutes ago"]
    );
    let (start, end) = (
        "Signed in ",
        " UTC from 127.0.0.1, ends in 15 minutes if not used",
    );
    assert!(
        told[3].starts_with(start) && told[3].ends_with(end),
        "{}",
        told[3]
    );
    phone.visit("/account").await;
    assert_eq!(
        phone.devices().await,
        ["Safari on iPhone This device", "Chrome on Linux"]
    );

    desk.press("Sign out Safari on iPhone").await;
    assert_eq!(desk.notices().await, ["That device is signed out."]);
    assert_eq!(desk.devices().await, ["Chrome on Linux This device"]);
    assert!(!phone.is_signed_in().await);
    assert!(desk.is_signed_in().await);
}

#[rocket::async_test]
async fn device_of_another_user_cannot_be_ended() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let (desk, phone) = two_devices(&mut chromium, &shop).await;
    desk.visit("/account").await;
    let button = desk.find("button[name=device]").await;
    let id = button
        .attr("value")
        .await
        .expect("an attribute")
        .expect("an id");

    let mallory = chromium.open(&shop, Screen::Desk).await;
    mallory.sign_up("mallory").await;
    let second = chromium.open(&shop, Screen::Desk).await;
    second.sign_in("mallory").await;
    mallory.visit("/account").await;
    mallory
        .script(&format!(
            "document.querySelector('button[name=device]').value = '{id}'"
        ))
        .await;
    mallory.press("Sign out Chrome on Linux").await;
    assert_eq!(
        mallory.notices().await,
        ["That device was signed out already."]
    );
    assert!(phone.is_signed_in().await);
}

#[rocket::async_test]
async fn all_other_devices_end_and_then_all_of_them() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let (desk, phone) = two_devices(&mut chromium, &shop).await;
    desk.visit("/account").await;
    desk.press("Sign out all others").await;
    assert_eq!(desk.notices().await, ["Signed out on 1 other device."]);
    assert!(!phone.is_signed_in().await);

    phone.sign_in("alice").await;
    assert_eq!(phone.path().await, "/account");
    phone.press("Sign out everywhere").await;
    assert_eq!(
        phone.notices().await,
        ["Signed out on 2 devices, this one included."]
    );
    assert!(!phone.is_signed_in().await);
    assert!(!desk.is_signed_in().await);
}

#[rocket::async_test]
async fn each_button_says_which_device_it_ends() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let (desk, _phone) = two_devices(&mut chromium, &shop).await;
    let (second, third) = (
        chromium.open(&shop, Screen::Desk).await,
        chromium.open(&shop, Screen::Desk).await,
    );
    // In the same minute, so that the time does not tell them apart.
    second.sign_in("alice").await;
    third.sign_in("alice").await;
    desk.visit("/account").await;
    let labels = "return [...document.querySelectorAll('.device button')].map(b => b.ariaLabel)";
    let labels = desk.script(labels).await;
    let labels = labels.as_array().expect("a list").iter();
    let labels: BTreeSet<_> = labels
        .map(|label| label.as_str().expect("a label"))
        .collect();
    assert_eq!(labels.len(), 3, "{labels:?}");
    for label in labels {
        let (start, end) = label.split_once(" on ").expect("a device");
        assert!(
            ["Sign out Chrome", "Sign out Safari"].contains(&start),
            "{label}"
        );
        assert!(end.contains(", signed in "), "{label}");
    }
}
