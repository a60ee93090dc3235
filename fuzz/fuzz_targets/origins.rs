//! Origins: which requests pass is said here a second time, with the `url` crate.
//!
//! The input is a byte that chooses the request, then lines: each `s`, `o`, `h` or `u` and a value
//! of `Sec-Fetch-Site`, `Origin`, `Host` or `Upgrade`.
#![cfg_attr(fuzzing, no_main)]

use std::sync::{LazyLock, Mutex};

use rocket::http::{ContentType, Header, Method};
use rocket::local::blocking::Client;
use rocket::serde::json::json;
use rocket::{get, post, routes};
use rocket_mongo_session::{Error, Session, Sessions};
use rocket_mongo_session_fuzz::store::{Call, Watched};
use rocket_mongo_session_fuzz::{client, cookie, lock, member, rocket, target};
use url::{Host, Url};

const TRUSTED: [&str; 2] = ["https://friend.example", "http://[::1]:3000"];

#[get("/site")]
fn look(session: &Session) -> &'static str {
    let _ = session.is_new();
    "seen"
}

#[post("/site")]
fn change(session: &Session) -> Result<(), Error> {
    session.increment("n", 1).map(drop)
}

struct App {
    client: Mutex<Client>,
    store: Watched,
    cookie: String,
}

/// One whose cookie is `Secure` and one whose is not.
static APPS: LazyLock<[App; 2]> = LazyLock::new(|| {
    [true, false].map(|secure| {
        let store = Watched::default();
        let settings = json!({
            "timeout": false,
            "reissue_time": false,
            "trusted_origins": TRUSTED,
            "secure": secure,
        });
        let fairing = Sessions::with_store(store.clone());
        let client = client(rocket(fairing, settings).mount("/", routes![look, change]));
        let cookie = member(&lock(&client), "alice");
        App {
            client,
            store,
            cookie,
        }
    })
});

target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Some((choice, text)) = text.as_bytes().first().zip(text.get(1..)) else {
        return;
    };
    let (secure, get, form) = (choice & 1 == 0, choice & 2 != 0, choice & 4 != 0);
    let app = &APPS[usize::from(!secure)];
    let client = lock(&app.client);
    app.store.calls();
    let method = if get { Method::Get } else { Method::Post };
    let mut request = client.req(method, "/site").header(cookie(&app.cookie));
    if form {
        let multipart = choice & 8 != 0;
        request.add_header(if multipart {
            ContentType::FormData
        } else {
            ContentType::Form
        });
    }
    let (mut sites, mut origins, mut hosts) = (Vec::new(), Vec::new(), Vec::new());
    let mut upgrade = false;
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
            'u' => {
                upgrade = true;
                "Upgrade"
            }
            _ => continue,
        };
        request.add_header(Header::new(name, value.to_owned()));
    }
    let status = request.dispatch().status().code;
    let calls = app.store.calls();
    assert!(matches!(status, 200 | 403), "{status}");
    let passed = status == 200;
    if !passed {
        assert!(calls.is_empty(), "a refusal asks and changes nothing");
    } else if !get {
        assert!(calls.iter().any(|(call, _)| *call == Call::Write));
    }

    let safe = get && !upgrade && !form;
    if safe {
        assert!(passed);
        return;
    }
    // What a browser sends in one way, and what could be meant, however it is spelt.
    let (must, may) = match (origins.as_slice(), sites.as_slice()) {
        ([_, _, ..], _) => (false, false),
        ([one], _) if TRUSTED.contains(one) => (true, true),
        ([one], _) if TRUSTED.iter().any(|trusted| same(trusted, one)) => (false, true),
        (_, ["same-origin" | "none"]) => (true, true),
        (_, [_, ..]) => (false, false),
        ([], []) => (true, true),
        ([origin], []) => match hosts.as_slice() {
            [host] => own(origin, host, secure),
            _ => (false, false),
        },
    };
    assert!(!passed || may, "let in: {text:?}");
    assert!(passed || !must, "refused: {text:?}");
});

fn same(a: &str, b: &str) -> bool {
    match (Url::parse(a), Url::parse(b)) {
        (Ok(a), Ok(b)) => a.origin().is_tuple() && a.origin() == b.origin(),
        _ => false,
    }
}

/// Whether an origin must be, and may be, taken for that of the host.
fn own(origin: &str, host: &str, secure: bool) -> (bool, bool) {
    let Ok(url) = Url::parse(origin) else {
        return (false, false);
    };
    let (scheme, Some(domain)) = (url.scheme(), url.host()) else {
        return (false, false);
    };
    if !matches!(scheme, "http" | "https") {
        return (false, false);
    }
    let loopback = match &domain {
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    };
    if secure && scheme == "http" && !loopback {
        return (false, false);
    }
    let may = same(origin, &format!("{scheme}://{host}"));
    let is_name = match &domain {
        Host::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            let label = |label: &str| {
                let legal = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
                (1..64).contains(&label.len()) && label.chars().all(legal)
            };
            name.len() <= 253 && name.split('.').all(label)
        }
        _ => true,
    };
    // As a browser writes them both.
    let canonical = url.origin().ascii_serialization() == origin
        && origin
            .strip_prefix(scheme)
            .and_then(|o| o.strip_prefix("://"))
            == Some(host);
    (may && canonical && is_name && url.port() != Some(0), may)
}
