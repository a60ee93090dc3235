//! Origins: a write from another site is refused, however its headers are spelt.
//!
//! The input is lines: each `s`, `o`, `h` or `u` and a value of `Sec-Fetch-Site`, `Origin`, `Host`
//! or `Upgrade`.
#![no_main]

use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use rocket::http::Header;
use rocket::local::blocking::Client;
use rocket::serde::json::json;
use rocket_mongo_session::Sessions;
use rocket_mongo_session_fuzz::{client, cookie, member, rocket};

const TRUSTED: &str = "https://friend.example";

static APP: LazyLock<(Mutex<Client>, String)> = LazyLock::new(|| {
    let settings = json!({ "timeout": false, "trusted_origins": [TRUSTED] });
    let client = client(rocket(Sessions::in_memory(), settings));
    let cookie = member(&client.lock().expect("a client"));
    (client, cookie)
});

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (client, live) = &*APP;
    let client = client.lock().expect("a client");
    let mut request = client.post("/write").header(cookie(live));
    let (mut sites, mut origins, mut hosts) = (Vec::new(), Vec::new(), Vec::new());
    for line in text.split('\n').take(6) {
        let Some(kind) = line.chars().next() else {
            continue;
        };
        let value = &line[kind.len_utf8()..];
        let name = match kind {
            's' => {
                sites.push(value);
                "Sec-Fetch-Site"
            }
            'o' => {
                origins.push(value);
                "Origin"
            }
            'h' => {
                hosts.push(value);
                "Host"
            }
            'u' => "Upgrade",
            _ => continue,
        };
        request.add_header(Header::new(name, value.to_owned()));
    }
    let status = request.dispatch().status().code;
    assert!(matches!(status, 200 | 403), "{status}");
    if status == 403 {
        return;
    }
    // Why it passed, said again in other words.
    let is_trusted = matches!(origins.as_slice(), [origin] if *origin == TRUSTED);
    let is_own_site = matches!(sites.as_slice(), ["same-origin" | "none"]) && origins.len() <= 1;
    let is_no_browser = sites.is_empty() && origins.is_empty();
    let is_own_host = match (sites.as_slice(), origins.as_slice(), hosts.as_slice()) {
        ([], [origin], [host]) => same_host(origin, host),
        _ => false,
    };
    let fine = is_trusted || is_own_site || is_no_browser || is_own_host;
    // The local client fills in a host of its own where none is given.
    assert!(fine || hosts.is_empty(), "{text:?}");
});

/// Whether an origin is this host's: its text without the scheme, by letters and digits alone.
fn same_host(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let port = if scheme == "https" { ":443" } else { ":80" };
    let plain = |text: &str| {
        let text = text.to_ascii_lowercase();
        text.strip_suffix(port).unwrap_or(&text).to_owned()
    };
    // One IPv6 address has many spellings.
    plain(authority) == plain(host) || (authority.starts_with('[') && host.starts_with('['))
}
