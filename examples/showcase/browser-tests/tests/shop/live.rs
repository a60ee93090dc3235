//! Pages that change by themselves, in two browsers and two processes.

use std::time::Duration;

use crate::support::{Browser, Chromium, Mongod, Process, Screen, Shop};

/// How long a page may take to show what another process did.
const LIMIT: Duration = Duration::from_secs(2);

async fn two_processes(
    chromium: &mut Chromium,
    mongod: &Mongod,
) -> (Browser, Browser, [Process; 2]) {
    let processes = [Process::start(&mongod.url()), Process::start(&mongod.url())];
    let desk = chromium
        .open_at(&processes[0].address(), Screen::Desk)
        .await;
    let phone = chromium
        .open_at(&processes[1].address(), Screen::Phone)
        .await;
    (desk, phone, processes)
}

#[rocket::async_test]
async fn a_browser_that_is_signed_out_in_another_process_leaves_its_page() {
    let (mongod, mut chromium) = (Mongod::start_set().await, Chromium::start());
    let (desk, phone, _processes) = two_processes(&mut chromium, &mongod).await;
    desk.sign_up("alice").await;
    desk.visit("/account").await;
    assert_eq!(desk.devices().await, ["Chrome on Linux This device"]);
    desk.mark().await;

    // The list of the one grows and shrinks with what the other does.
    phone.sign_in("alice").await;
    let both = ["Chrome on Linux This device", "Safari on iPhone"];
    desk.wait_at_most(LIMIT, both.map(str::to_owned).to_vec(), async || {
        desk.devices().await
    })
    .await;
    phone.visit("/account").await;
    phone.press("Sign out").await;
    desk.wait_at_most(LIMIT, vec![both[0].to_owned()], async || {
        desk.devices().await
    })
    .await;
    assert!(desk.is_marked().await, "it was not loaded again as a whole");

    // Signed out by the other, it leaves.
    phone.sign_in("alice").await;
    phone.visit("/account").await;
    desk.wait_at_most(LIMIT, 2, async || desk.devices().await.len())
        .await;
    desk.press("Sign out Safari on iPhone").await;
    assert_eq!(desk.notices().await, ["That device is signed out."]);
    phone
        .wait_at_most(LIMIT, "/sign-in".to_owned(), async || phone.path().await)
        .await;
    assert!(desk.is_signed_in().await);

    // After the next sign-in it is where it was.
    phone.send_sign_in("alice", crate::support::PASSWORD).await;
    assert_eq!(phone.path().await, "/account");
}

#[rocket::async_test]
async fn the_administrators_pages_change_with_what_happens_in_another_process() {
    let (mongod, mut chromium) = (Mongod::start_set().await, Chromium::start());
    let (admin, alice, _processes) = two_processes(&mut chromium, &mongod).await;
    admin.sign_in_as_admin().await;
    admin.visit("/admin?search=al").await;
    assert_eq!(admin.texts(".found").await, [""; 0]);
    admin.mark().await;
    alice.sign_up("alice").await;
    admin
        .wait_at_most(LIMIT, vec!["alice\n1 device".to_owned()], async || {
            admin.texts(".found").await
        })
        .await;
    assert!(admin.is_marked().await);

    admin.visit("/admin/user/alice").await;
    assert_eq!(admin.devices().await, ["Safari on iPhone"]);
    admin.mark().await;
    alice.visit("/account").await;
    alice.press("Sign out").await;
    admin
        .wait_at_most(
            LIMIT,
            vec!["Not signed in anywhere.".to_owned()],
            async || admin.texts(".empty").await,
        )
        .await;
    assert!(admin.is_marked().await);

    // Everybody's pages leave, also those of administrators.
    alice.sign_in("alice").await;
    alice.visit("/account").await;
    let second = chromium.open_at(&admin.shop(), Screen::Desk).await;
    second.sign_in_as_admin().await;
    second.visit("/admin").await;
    second.unfold("Sign out everybody").await;
    second.press("Yes, sign out everybody").await;
    for browser in [&alice, &admin] {
        browser
            .wait_at_most(LIMIT, "/sign-in".to_owned(), async || browser.path().await)
            .await;
    }
}

#[rocket::async_test]
async fn in_one_process_and_in_memory_the_list_changes_too() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let desk = chromium.open(&shop, Screen::Desk).await;
    desk.sign_up("alice").await;
    desk.visit("/account").await;
    desk.mark().await;
    let phone = chromium.open(&shop, Screen::Phone).await;
    phone.sign_in("alice").await;
    desk.wait_until(2, async || desk.devices().await.len())
        .await;
    // A notice waits for a page that its user sees.
    assert_eq!(desk.notices().await, [""; 0]);
    assert!(desk.is_marked().await);
}

#[rocket::async_test]
async fn without_scripts_the_pages_work_when_they_are_loaded() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let desk = chromium.open(&shop, Screen::Desk).await;
    desk.forbid_scripts().await;
    desk.sign_up("alice").await;
    let phone = chromium.open(&shop, Screen::Phone).await;
    phone.sign_in("alice").await;
    phone.visit("/account").await;
    desk.visit("/account").await;
    assert_eq!(desk.devices().await.len(), 2);
    desk.press("Sign out Safari on iPhone").await;
    assert_eq!(desk.notices().await, ["That device is signed out."]);
    assert_eq!(desk.devices().await, ["Chrome on Linux This device"]);
    phone
        .wait_until("/sign-in".to_owned(), async || phone.path().await)
        .await;
}

#[rocket::async_test]
async fn a_stream_without_a_session_says_so_and_leaves_nothing_behind() {
    let shop = Shop::open().await;
    let mut visitor = crate::support::Wire::new(&shop);
    for path in [
        "/account/changes?seen=0",
        "/admin/changes?seen=0",
        "/admin/user/alice/changes?seen=0",
    ] {
        let response = visitor.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        assert!(
            response.body.contains("event:end"),
            "{path}: {}",
            response.body
        );
    }
    // The page that leads to the sign-in is not that of the stream.
    assert_eq!(shop.sessions.count().await.expect("a count"), 0);
}
