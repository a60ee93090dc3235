//! How it looks: it fits every screen, can be told apart, and has its picture taken.

use std::path::Path;
use std::time::Duration;

use rocket::serde::json::json;

use crate::support::{Browser, Chromium, PASSWORD, Screen, Shop};

/// The longest name that there can be, of the widest letter.
const LONG: &str = "wwwwwwwwwwwwwwwwwwwwwwwwwwwwww";

#[rocket::async_test]
async fn every_page_fits_every_screen_by_day_and_by_night() {
    let (shop, mut chromium) = (Shop::open().await, Chromium::start());
    let customer = chromium.open(&shop, Screen::Any).await;
    for path in ["/", "/basket", "/sign-in", "/sign-up", "/coffee"] {
        customer.visit(path).await;
        looks_right(&customer).await;
    }
    customer.send_sign_in(LONG, PASSWORD).await;
    assert_eq!(customer.texts(".error").await.len(), 1);
    looks_right(&customer).await;

    customer.sign_up(LONG).await;
    looks_right(&customer).await;
    customer.press("Add Lapsang Souchong to the basket").await;
    looks_right(&customer).await;
    let phone = chromium.open(&shop, Screen::Phone).await;
    phone.sign_in(LONG).await;
    for path in [
        "/basket",
        "/account",
        "/account/password",
        "/sign-in",
        "/admin",
    ] {
        customer.visit(path).await;
        looks_right(&customer).await;
    }
    customer.visit("/account/password").await;
    customer.fill("current", "a pot of black tea").await;
    customer.fill("password", PASSWORD).await;
    customer.press("Change it").await;
    assert_eq!(customer.texts(".error").await.len(), 1);
    looks_right(&customer).await;

    let admin = chromium.open(&shop, Screen::Any).await;
    admin.sign_in_as_admin().await;
    admin.visit("/admin").await;
    admin.unfold("Sign out everybody").await;
    looks_right(&admin).await;
    admin.press(LONG).await;
    admin.unfold("Sign out every device").await;
    looks_right(&admin).await;
    admin.press("Sign out Safari on iPhone").await;
    looks_right(&admin).await;
    admin.unfold("Sign out every device").await;
    admin.press("Yes, sign out every device").await;
    looks_right(&admin).await;
}

/// Nothing sticks out to the right, every button is large enough for a thumb, what can be filled in
/// is seen and has a label, and the headings are a table of contents.
async fn looks_right(browser: &Browser) {
    let path = browser.path().await;
    for width in [320, 390, 1180] {
        for is_dark in [false, true] {
            let place = format!("{path}, {width} wide, dark: {is_dark}");
            browser.resize(width, is_dark).await;
            let wide = "return document.documentElement.scrollWidth";
            assert_eq!(browser.script(wide).await, width, "the width of {place}");
            let low = browser.script(LOW).await;
            assert_eq!(low, json!([]), "low buttons on {place}");
            let faint = browser.script(FAINT).await;
            assert_eq!(faint, json!([]), "faint borders on {place}");
        }
    }
    let bare = "return [...document.querySelectorAll('input:not([type=hidden],[aria-hidden])')]\
                .filter(input => !input.labels.length).map(input => input.name)";
    assert_eq!(browser.script(bare).await, json!([]), "labels on {path}");
    let jumps = "const levels = [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')]\
                 .map(heading => heading.tagName[1] - 0);\
                 return levels.filter((level, i) => level > (levels[i - 1] ?? 0) + 1)\
                 .concat(levels.filter(level => level === 1).slice(1))";
    assert_eq!(browser.script(jumps).await, json!([]), "headings on {path}");
}

/// The buttons that a thumb misses.
const LOW: &str = "return [...document.querySelectorAll('button, .button, nav a')]\
                   .map(button => [button.innerText, button.getBoundingClientRect().height])\
                   .filter(([_, height]) => height < 36)";

/// The fields whose border is hard to see on what is behind them (WCAG 2.2, 1.4.11).
const FAINT: &str = r#"
    const light = color => {
        const [r, g, b] = color.match(/[\d.]+/g).slice(0, 3).map(value => {
            const part = value / 255;
            return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = element => {
        const color = getComputedStyle(element).backgroundColor;
        return color === 'rgba(0, 0, 0, 0)' ? behind(element.parentElement) : color;
    };
    const contrast = (one, other) => {
        const [dark, bright] = [light(one), light(other)].sort((a, b) => a - b);
        return (bright + 0.05) / (dark + 0.05);
    };
    const fields = 'input:not([type=hidden], [type=checkbox], [aria-hidden])';
    return [...document.querySelectorAll(fields)]
        .map(input => [
            input.name,
            contrast(getComputedStyle(input).borderTopColor, behind(input.parentElement)),
        ])
        .filter(([_, ratio]) => !(ratio >= 3));
"#;

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
