//! Forms and their CSRF tokens: whatever is sent, only the session's own token lets it pass.
//!
//! The input is a header line and a body with a NUL between them; 0x01 stands for a live token.
#![no_main]

use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use rocket::http::{ContentType, Header};
use rocket::local::blocking::Client;
use rocket::serde::json::json;
use rocket_mongo_session::Sessions;
use rocket_mongo_session_fuzz::{client, cookie, member, rocket};

struct App {
    client: Mutex<Client>,
    cookie: String,
    token: String,
}

static APP: LazyLock<App> = LazyLock::new(|| {
    let shared = client(rocket(Sessions::in_memory(), json!({ "timeout": false })));
    let (live, token) = {
        let client = shared.lock().expect("a client");
        let live = member(&client);
        let token = client.get("/token").header(cookie(&live)).dispatch();
        (live, token.into_string().expect("a token"))
    };
    App {
        client: shared,
        cookie: live,
        token,
    }
});

fuzz_target!(|data: &[u8]| {
    let app = &*APP;
    let client = app.client.lock().expect("a client");
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (head, body) = (parts.next().unwrap_or_default(), parts.next());
    let fill = |bytes: &[u8]| -> Vec<u8> {
        let filled = bytes.iter().flat_map(|byte| match byte {
            1 => app.token.clone().into_bytes(),
            byte => vec![*byte],
        });
        filled.collect()
    };
    let head = String::from_utf8(fill(head)).unwrap_or_default();
    let body = fill(body.unwrap_or_default());
    let whole = [head.as_bytes(), b" ", &body].concat();
    // Percent-encoded it may be, too; a live token is long enough to be recognized by its bytes.
    let sent: Vec<u8> = whole.clone();
    let has_token = decoded(&sent)
        .windows(app.token.len())
        .any(|window| window == app.token.as_bytes());
    for kind in [ContentType::Form, ContentType::FormData, ContentType::JSON] {
        for path in ["/form", "/header"] {
            let mut request = client.post(path).header(cookie(&app.cookie)).body(&body);
            request.add_header(match &kind {
                form if form.is_form_data() => {
                    Header::new("Content-Type", "multipart/form-data; boundary=X")
                }
                other => Header::new("Content-Type", other.to_string()),
            });
            if !head.is_empty() {
                request.add_header(Header::new("X-CSRF-Token", head.clone()));
            }
            let answer = request.dispatch();
            let status = answer.status().code;
            assert!(status < 500, "{status}");
            if status == 200 {
                assert!(has_token, "{path} {kind}: {head:?} {body:?}");
            }
        }
    }
});

fn decoded(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let code = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (first, code) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                rest = &after[2..];
            }
            _ => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}
