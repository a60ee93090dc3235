//! Forms and their CSRF tokens: the session's own token lets a request pass and nothing else does,
//! and it is checked before other errors of the form.
//!
//! The input is a byte that chooses the request, lines of `X-CSRF-Token`, a NUL, and the body. In
//! both 0x01 stands for a live token, 0x02 and 0x03 for its halves, 0x04 for another's.
#![cfg_attr(fuzzing, no_main)]

use std::sync::{LazyLock, Mutex};

use rocket::form::name::Name;
use rocket::http::Header;
use rocket::local::blocking::Client;
use rocket::serde::json::json;
use rocket::{FromForm, post, routes};
use rocket_mongo_session::{CsrfForm, CsrfHeader, Sessions};
use rocket_mongo_session_fuzz::{base64url, client, cookie, lock, member, rocket, target};

#[derive(FromForm)]
struct Order<'r> {
    name: &'r str,
    count: Option<u8>,
    csrf_token_: Option<String>,
}

#[post("/form", data = "<order>")]
fn form(order: CsrfForm<Order<'_>>) -> String {
    format!("{} {:?} {:?}", order.name, order.count, order.csrf_token_)
}

#[post("/header")]
fn header(_checked: CsrfHeader) -> &'static str {
    "checked"
}

struct App {
    client: Mutex<Client>,
    cookie: String,
    token: String,
    other: String,
    secret: Vec<u8>,
}

static APP: LazyLock<App> = LazyLock::new(|| {
    let rocket = rocket(Sessions::in_memory(), json!({ "timeout": false }));
    let shared = client(rocket.mount("/", routes![form, header]));
    let token = |client: &Client, live: &str| {
        let response = client.get("/token").header(cookie(live)).dispatch();
        response.into_string().expect("a token")
    };
    let (live, mine, other) = {
        let client = lock(&shared);
        let (alice, bob) = (member(&client, "alice"), member(&client, "bob"));
        let (mine, other) = (token(&client, &alice), token(&client, &bob));
        (alice, mine, other)
    };
    App {
        client: shared,
        cookie: live,
        secret: unmasked(mine.as_bytes()).expect("a secret"),
        token: mine,
        other,
    }
});

target!(|data: &[u8]| {
    let app = &*APP;
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (head, body) = (parts.next().unwrap_or_default(), parts.next());
    let fill = |bytes: &[u8]| -> Vec<u8> {
        let (first, second) = app.token.split_at(app.token.len() / 2);
        let texts = [&app.token, first, second, &app.other];
        let filled = bytes.iter().flat_map(|byte| match byte {
            1..=4 => texts[usize::from(byte - 1)].as_bytes().to_vec(),
            byte => vec![*byte],
        });
        filled.collect()
    };
    let Ok(head) = String::from_utf8(fill(head)) else {
        return;
    };
    let body = fill(body.unwrap_or_default());
    let headers: Vec<&str> = match head.as_str() {
        "" => Vec::new(),
        lines => lines.split('\n').take(3).collect(),
    };
    let (known, has_form) = (choice & 1 == 0, choice & 2 == 0);
    let kind = match choice >> 2 & 3 {
        0 | 1 => "application/x-www-form-urlencoded",
        2 => "multipart/form-data; boundary=X",
        _ => "application/json",
    };
    let client = lock(&app.client);
    // A token in the query string is ignored.
    let path = if has_form { "/form" } else { "/header" };
    let path = match choice & 16 {
        0 => path.to_owned(),
        _ => format!("{path}?csrf_token={}", app.token),
    };
    let mut request = client.post(path).body(&body);
    request.add_header(Header::new("Content-Type", kind));
    for header in &headers {
        request.add_header(Header::new("X-CSRF-Token", (*header).to_owned()));
    }
    if known {
        request.add_header(cookie(&app.cookie));
    }
    let status = request.dispatch().status().code;
    assert!(status < 500, "{status}");

    let is_urlencoded = kind.ends_with("urlencoded");
    if is_urlencoded && body.starts_with(b"_method=") {
        // Rocket may have sent it to another route. Passing is what a token is needed for.
        assert!(status != 200 || known && has_live(app, &head, &body));
        return;
    }
    let fields = match (has_form, is_urlencoded) {
        (true, true) => match std::str::from_utf8(&body) {
            Ok(_) => fields(&body),
            Err(_) => {
                assert_ne!(status, 200, "a body that is not text");
                return;
            }
        },
        (true, false) => {
            // Which parts a multipart body has is for the parser to say: one direction only.
            assert!(status != 200 || known && has_live(app, &head, &body));
            return;
        }
        _ => Vec::new(),
    };
    let tokens: Vec<&[u8]> = fields
        .iter()
        .map(Vec::as_slice)
        .chain(headers.iter().map(|header| header.as_bytes()))
        .collect();
    let one_each = fields.len() <= 1 && headers.len() <= 1 && !tokens.is_empty();
    let good = known && one_each && tokens.iter().all(|token| is_live(app, token));
    let said = (
        choice,
        &headers,
        String::from_utf8_lossy(&body).into_owned(),
    );
    match status {
        403 => assert!(!good, "refused: {said:?}"),
        200 | 422 => assert!(good, "checked too late, or accepted: {said:?}"),
        413 => assert!(body.len() > 32 * 1024),
        _ => panic!("{status}: {said:?}"),
    }
});

/// The values of the fields `csrf_token`, as a form is encoded (WHATWG URL, 5.1).
fn fields(body: &[u8]) -> Vec<Vec<u8>> {
    let pairs = body
        .split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let end = pair.iter().position(|byte| *byte == b'=');
        let end = end.unwrap_or(pair.len());
        (
            decoded(&pair[..end]),
            decoded(pair.get(end + 1..).unwrap_or_default()),
        )
    });
    // Which names are that one is Rocket's to say: `.csrf_token` and `[csrf_token]` are, too.
    let ours = pairs.filter(|(name, _)| Name::new(&String::from_utf8_lossy(name)) == "csrf_token");
    ours.map(|(_, value)| value).collect()
}

fn decoded(bytes: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (mut decoded, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        match (
            bytes[at],
            digit(bytes.get(at + 1)),
            digit(bytes.get(at + 2)),
        ) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (b'+', ..) => {
                decoded.push(b' ');
                at += 1;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

/// The secret under a token's pad.
fn unmasked(token: &[u8]) -> Option<Vec<u8>> {
    let bytes = base64url(token).filter(|bytes| bytes.len() == 64)?;
    let (pad, masked) = bytes.split_at(32);
    Some(pad.iter().zip(masked).map(|(a, b)| a ^ b).collect())
}

fn is_live(app: &App, token: &[u8]) -> bool {
    unmasked(token).is_some_and(|secret| secret == app.secret)
}

/// Whether a live token is anywhere in what was sent.
fn has_live(app: &App, head: &str, body: &[u8]) -> bool {
    let length = app.token.len();
    [head.as_bytes(), body, &decoded(body)]
        .iter()
        .any(|text| text.windows(length).any(|token| is_live(app, token)))
}
