//! The `Cookie` header: a user is let in by the only cookie of our name whose session is alive. At most
//! four different tokens are looked up, with one find. Any other value is not looked up.
//!
//! In the input a byte below 8 stands for a whole text (see `TEXTS`); lines are headers.
#![cfg_attr(fuzzing, no_main)]

use std::sync::{LazyLock, Mutex};

use rocket::http::Header;
use rocket::local::blocking::Client;
use rocket::serde::json::json;
use rocket_mongo_session::Sessions;
use rocket_mongo_session_fuzz::store::{Call, Watched};
use rocket_mongo_session_fuzz::{client, is_token, lock, member, rocket, set_cookie, target};

struct App {
    client: Mutex<Client>,
    store: Watched,
    alice: String,
    bob: String,
    /// What the input's control characters stand for.
    texts: [String; 8],
}

static APP: LazyLock<App> = LazyLock::new(|| {
    let store = Watched::default();
    let settings = json!({ "timeout": false, "reissue_time": false });
    let shared = client(rocket(Sessions::with_store(store.clone()), settings));
    let (alice, bob) = {
        let client = lock(&shared);
        (member(&client, "alice"), member(&client, "bob"))
    };
    let halves = |cookie: &str| {
        let (id, secret) = cookie.split_once('.').expect("two halves");
        (id.to_owned(), secret.to_owned())
    };
    let ((alice_id, alice_secret), (_, bob_secret)) = (halves(&alice), halves(&bob));
    let unknown = format!("{}.{}", "A".repeat(22), "A".repeat(43));
    let texts = [
        "session=".into(),
        alice.clone(),
        bob.clone(),
        alice_id,
        alice_secret,
        bob_secret,
        unknown,
        "; ".into(),
    ];
    App {
        client: shared,
        store,
        alice,
        bob,
        texts,
    }
});

target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let app = &*APP;
    let written: String = text
        .chars()
        .map(|c| match app.texts.get(c as usize) {
            Some(text) => text.clone(),
            None => c.to_string(),
        })
        .collect();
    let lines: Vec<&str> = written.split('\n').take(3).collect();

    let client = lock(&app.client);
    app.store.calls();
    let mut request = client.get("/whoami");
    for line in &lines {
        request.add_header(Header::new("Cookie", (*line).to_owned()));
    }
    let response = request.dispatch();
    assert_eq!(response.status().code, 200);
    assert_eq!(set_cookie(&response), None, "looking sets no cookie");
    let user = response.into_string().unwrap_or_default();

    let ours: Vec<String> = lines.iter().flat_map(|line| values(line)).collect();
    let mut tokens: Vec<&String> = Vec::new();
    for value in ours.iter().filter(|value| is_token(value)) {
        if !tokens.contains(&value) {
            tokens.push(value);
        }
    }
    let alive = tokens
        .iter()
        .filter(|token| [&app.alice, &app.bob].contains(token));
    let alive: Vec<_> = alive.collect();
    let expected = match (tokens.len(), alive.as_slice()) {
        (..=4, [token]) if **token == &app.alice => "alice",
        (..=4, [_]) => "bob",
        _ => "stranger",
    };
    assert_eq!(user, expected, "{lines:?}");
    let calls = app.store.calls();
    match (tokens.as_slice(), alive.as_slice()) {
        ([] | [_, _, _, _, _, ..], _) => assert_eq!(calls, [], "{lines:?}"),
        ([token], [_]) => {
            let lookup = (Call::Load, token[..22].to_owned());
            assert_eq!(calls, [lookup], "{lines:?}");
        }
        _ => assert!(!calls.is_empty() && calls.len() <= 4, "{lines:?}"),
    }
});

/// The values of our cookies in a header, read byte by byte (RFC 6265bis, 4.2.1 and 5.4): pairs end
/// at `;`, blanks around a pair are none of it, and a name ends at the first `=`.
fn values(header: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = header.as_bytes();
    loop {
        while let [b' ' | b'\t', after @ ..] = rest {
            rest = after;
        }
        let mut end = 0;
        while end < rest.len() && rest[end] != b';' {
            end += 1;
        }
        let mut last = end;
        while last > 0 && matches!(rest[last - 1], b' ' | b'\t') {
            last -= 1;
        }
        if last >= 8 && &rest[..8] == b"session=" {
            found.push(String::from_utf8_lossy(&rest[8..last]).into_owned());
        }
        match rest.get(end + 1..) {
            Some(after) => rest = after,
            None => return found,
        }
    }
}
