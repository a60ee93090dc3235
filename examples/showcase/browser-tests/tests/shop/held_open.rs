//! A request may take as long as it likes to send its form: what holds when its session has ended
//! meanwhile.

use std::time::Duration;

use crate::support::{Answer, PASSWORD, Shop, Wire};

const ADMINS: &str = "let it steep";

/// Another device of this user's.
async fn sign_in(shop: &Shop, name: &str, password: &str) -> Wire {
    // What signs in at the very moment of a revocation ends with it; time has to pass.
    shop.clock.advance(Duration::from_secs(1));
    let mut device = Wire::new(shop);
    let response = device.enter("/sign-in", name, password).await;
    assert_eq!(response.status(), 303, "{}", response.body);
    device
}

async fn sign_up(shop: &Shop, name: &str) -> Wire {
    let mut device = Wire::new(shop);
    let response = device.enter("/sign-up", name, PASSWORD).await;
    assert_eq!(response.status(), 303, "{}", response.body);
    device
}

fn wants_a_sign_in(response: &Answer, of: &str) {
    let got = (response.status(), response.leads_to());
    assert_eq!(got, (303, Some("/sign-in")), "{of}");
}

#[rocket::async_test]
async fn a_stolen_cookie_sets_no_password_after_its_owner_has_changed_it() {
    let shop = Shop::open().await;
    let mut alice = sign_up(&shop, "alice").await;
    let mut thief = alice.clone();
    // Whom even the password helps no more.
    let current = PASSWORD.replace(' ', "+");
    let poison = format!("current={current}&password=a+cup+of+poison");
    let held = thief.hold("/account/password", &poison).await;

    let new = format!("current={current}&password=another+pot+of+tea");
    let response = alice.post("/account/password", &new).await;
    assert_eq!(response.leads_to(), Some("/account"));
    let mut phone = sign_in(&shop, "alice", "another pot of tea").await;

    wants_a_sign_in(&held.finish().await, "the thief's form");
    assert!(alice.is_signed_in().await);
    assert!(phone.is_signed_in().await);
    let refused = Wire::new(&shop)
        .enter("/sign-in", "alice", "a cup of poison")
        .await;
    assert_eq!(refused.status(), 422);
    sign_in(&shop, "alice", "another pot of tea").await;
}

#[rocket::async_test]
async fn a_device_that_was_signed_out_meanwhile_ends_nothing() {
    let shop = Shop::open().await;
    let mut alice = sign_up(&shop, "alice").await;
    let mut admin = sign_in(&shop, "admin", ADMINS).await;
    let device = r#"name="device" value=""#;
    let alices = admin.find("/admin/user/alice", device).await;
    for (path, fields) in [
        ("/account/end", "device=ADMINS"),
        ("/account/end-others", ""),
        ("/account/end-all", ""),
        ("/admin/end", "device=ALICES&name=alice"),
        ("/admin/end-user", "name=alice"),
        ("/admin/end-everyone", ""),
    ] {
        let mut ended = sign_in(&shop, "admin", ADMINS).await;
        let admins = ended.find("/account", device).await;
        let fields = fields.replace("ADMINS", &admins);
        let held = ended.hold(path, &fields.replace("ALICES", &alices)).await;
        let response = admin.post("/account/end-others", "").await;
        assert_eq!(response.leads_to(), Some("/account"));

        wants_a_sign_in(&held.finish().await, path);
        assert!(admin.is_signed_in().await, "after {path}");
        assert!(alice.is_signed_in().await, "after {path}");
    }
}
