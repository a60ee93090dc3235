use std::cell::Cell;
use std::collections::HashSet;

use rocket::http::{ContentType, Header, Status};
use rocket::local::asynchronous::{Client, LocalResponse};
use rocket::{post, routes};
use rstest::rstest;

use super::*;
use crate::admin::Sessions;
use crate::document::Filter;
use crate::session::Session;
use crate::store::Order;

/// Characters of an id: 16 bytes in base64url without padding.
const ID_CHARS: usize = 22;

thread_local! {
    static NO_RANDOM_BYTES: Cell<bool> = const { Cell::new(false) };
}

/// Stands for the operating system, in tests that take its random bytes away.
pub(super) fn draw_fails() -> Result<(), Error> {
    match NO_RANDOM_BYTES.get() {
        true => Err(Error::Randomness("none, for a test".to_owned())),
        false => Ok(()),
    }
}

fn token() -> Token {
    Token::new(Id::draw().unwrap(), Secret::draw().unwrap())
}

#[test]
fn ten_thousand_tokens_are_distinct_and_of_one_form() {
    let mut seen = HashSet::new();
    for _ in 0..10_000 {
        let token = token();
        let value = token.cookie_value().to_string();
        assert_eq!(value.len(), 66);
        assert!(
            value
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        );
        let read = Token::parse(&value, false).unwrap();
        assert!(read.id == token.id && read.secret.matches(&token.secret));
        assert!(seen.insert(token.id.as_str().to_owned()) && seen.insert(value));
    }
}

/// ID-01, ID-03: no bit of an id or a secret stands still or leans to one side, as the bits of a
/// time, a counter or a machine's number would. The bounds are ten standard deviations wide.
#[test]
fn every_bit_is_set_half_of_the_time() {
    const TOKENS: u32 = 10_000;
    let mut set = [0_u32; 8 * (16 + 32)];
    for _ in 0..TOKENS {
        let token = token();
        let id = decode::<16>(token.id.as_str()).unwrap();
        let bytes = id.iter().chain(token.secret.expose());
        let bits = bytes.flat_map(|byte| (0..8).map(move |bit| u32::from(byte >> bit & 1)));
        for (set, bit) in set.iter_mut().zip(bits) {
            *set += bit;
        }
    }
    for (at, set) in set.into_iter().enumerate() {
        let share = f64::from(set) / f64::from(TOKENS);
        assert!((0.45..0.55).contains(&share), "bit {at}: {share}");
    }
}

#[post("/<call>")]
async fn handler(session: &Session, call: &str) -> Result<String, Error> {
    match call {
        "set" => session.set("n", &1)?,
        "save" => {
            session.login("bob")?;
            NO_RANDOM_BYTES.set(true);
            let saved = session.save().await;
            NO_RANDOM_BYTES.set(false);
            assert!(saved.is_err());
        }
        "login" => session.login("alice")?,
        "elevate" => session.elevate()?,
        "renew" => session.renew()?,
        "csrf" => return Ok(session.csrf_token()),
        "user" => return Ok(session.user::<String>()?.unwrap_or_default()),
        _ => session.logout()?,
    }
    Ok(String::new())
}

async fn send<'c>(client: &'c Client, call: &str, cookie: Option<&str>) -> LocalResponse<'c> {
    let mut request = client.post(format!("/{call}")).header(ContentType::Plain);
    if let Some(cookie) = cookie {
        request.add_header(Header::new("Cookie", format!("session={cookie}")));
    }
    request.dispatch().await
}

/// ID-02: without random bytes nothing is begun, renewed or sent, and what was there stays.
#[test]
fn without_random_bytes_a_request_fails_and_changes_nothing() {
    // On one thread, on which alone they fail.
    let runtime = rocket::tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let silent = rocket::Config {
            log_level: rocket::config::LogLevel::Off,
            ..rocket::Config::debug_default()
        };
        let rocket = rocket::custom(silent)
            .attach(Sessions::in_memory())
            .mount("/", routes![handler]);
        let client = Client::untracked(rocket).await.unwrap();
        let login = send(&client, "login", None).await;
        let cookie = login.headers().get_one("Set-Cookie").unwrap();
        let cookie = cookie.split(['=', ';']).nth(1).unwrap().to_owned();
        let sessions: &Sessions = client.rocket().state().unwrap();
        let stored = || {
            sessions
                .core
                .store
                .find(Filter::all(), Order::OldestFirst, 0, 10)
        };
        let before = stored().await.unwrap();
        assert_eq!(before.len(), 1);

        NO_RANDOM_BYTES.set(true);
        for (call, cookie) in [
            ("set", None),
            ("login", None),
            ("login", Some(&*cookie)),
            ("elevate", Some(&*cookie)),
            ("renew", Some(&*cookie)),
        ] {
            let response = send(&client, call, cookie).await;
            assert_eq!(response.status(), Status::ServiceUnavailable, "{call}");
            assert_eq!(response.headers().get_one("Set-Cookie"), None, "{call}");
            assert!(stored().await.unwrap() == before, "{call}");
        }
        // The call has no error to give: the token is empty, which no check accepts.
        let token = send(&client, "csrf", None).await;
        assert_eq!(token.headers().get_one("Set-Cookie"), None);
        assert_eq!(token.into_string().await.unwrap_or_default(), "");
        assert!(stored().await.unwrap() == before);
        // What needs none still works.
        let user = send(&client, "user", Some(&cookie)).await;
        assert_eq!(user.into_string().await.unwrap(), "alice");
        let logout = send(&client, "logout", Some(&cookie)).await;
        assert_eq!(logout.status(), Status::Ok);
        NO_RANDOM_BYTES.set(false);

        let saved = send(&client, "save", None).await;
        let sent = saved.headers().get_one("Set-Cookie");
        assert_eq!(
            sent, None,
            "a login whose `save` failed is not stored by the response"
        );
        assert!(stored().await.unwrap().is_empty());
        let again = send(&client, "login", None).await;
        assert_eq!(again.status(), Status::Ok);
    });
}

#[test]
fn only_the_one_canonical_text_names_a_token() {
    let good = token().cookie_value().to_string();
    let mut bad = vec![
        String::new(),
        ".".into(),
        good.replace('.', ""),
        format!("{good}="),
        format!(" {good}"),
        format!("\"{good}\""),
        good.replace('.', "%2E"),
    ];
    for at in 0..good.len() {
        for other in ["+", "/", "=", "%", "é", "\0", " ", "."] {
            if good[at..=at] != *other {
                bad.push(format!("{}{other}{}", &good[..at], &good[at + 1..]));
            }
        }
    }
    // The last characters of both halves have spare bits; every value but one has them set.
    for at in [ID_CHARS - 1, good.len() - 1] {
        let canonical = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
            .chars()
            .filter(|c| {
                let text = format!("{}{c}{}", &good[..at], &good[at + 1..]);
                Token::parse(&text, true).is_some()
            })
            .count();
        assert_eq!(canonical, if at == ID_CHARS - 1 { 4 } else { 16 });
    }
    for text in bad {
        assert!(Token::parse(&text, true).is_none(), "{text:?} was read");
    }
}

const LEGACY: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn a_bare_id_is_a_token_with_legacy_ids_alone() {
    assert!(Token::parse(LEGACY, false).is_none());
    let token = Token::parse(LEGACY, true).unwrap();
    assert!(token.is_bare() && token.id.is_legacy());
    assert_eq!(token.cookie_value().as_str(), LEGACY);
}

#[rstest]
#[case("")]
#[case("0123456789abcdef0123456789abcde")]
#[case("0123456789abcdef0123456789abcdef0")]
#[case("0123456789ABCDEF0123456789ABCDEF")]
#[case("0123456789abcdef0123456789abcdeg")]
#[case(" 0123456789abcdef0123456789abcde")]
#[case("0123456789abcdef0123456789abcdef.")]
#[case("AAAAAAAAAAAAAAAAAAAAAA")]
fn text_that_only_resembles_a_bare_id_does_not_parse(#[case] text: &str) {
    assert!(Token::parse(text, true).is_none(), "{text:?}");
}

#[test]
fn a_legacy_id_with_a_secret_is_always_a_token() {
    let secret = Secret::draw().unwrap();
    let token = Token::new(Id::parse(LEGACY).unwrap(), secret);
    let text = token.cookie_value().to_string();
    assert_eq!(text.len(), 32 + 1 + 43);
    for legacy_ids in [false, true] {
        let read = Token::parse(&text, legacy_ids).unwrap();
        assert!(read.id == token.id && read.secret.matches(&token.secret));
        assert!(!read.is_bare());
    }
}

#[test]
fn may_be_in_finds_a_token_in_any_text() {
    let token = token().cookie_value();
    let token = token.as_str();
    for text in [
        token.to_owned(),
        format!("Bearer {token}"),
        format!("a.b; token=\"api_{token}\", é"),
    ] {
        assert!(Token::may_be_in(&text), "{text}");
    }
    let (id, secret) = token.split_once('.').unwrap();
    let cut = &token[..65];
    for text in ["", ".", "https://app.example", id, secret, cut] {
        assert!(!Token::may_be_in(text), "{text}");
    }
}

#[test]
fn a_bare_id_opens_what_no_secret_opens() {
    let bare = Token::parse(LEGACY, true).unwrap();
    let digest = bare.digest("session");
    assert!(digest.is_of_bare_id() && digest.matches(&bare.digest("session")));
    assert!(!digest.matches(&bare.digest("admin")), "one cookie's name");
    let other = Token::parse("1123456789abcdef0123456789abcdef", true).unwrap();
    assert!(!digest.matches(&other.digest("session")), "one id");
    // The secret that follows from the id, sent as if it had been drawn.
    let forged = Token::new(bare.id.clone(), bare.secret.clone());
    let forged = Token::parse(&forged.cookie_value(), true).unwrap();
    assert!(!digest.matches(&forged.digest("session")));
    assert!(!forged.digest("session").is_of_bare_id());
}

#[test]
fn a_digest_belongs_to_one_cookie_name() {
    let secret = Secret::draw().unwrap();
    assert!(secret.digest("session").matches(&secret.digest("session")));
    assert!(!secret.digest("session").matches(&secret.digest("admin")));
    let other = Secret::draw().unwrap();
    assert!(!secret.digest("session").matches(&other.digest("session")));
}

/// Does not compile when the type has the trait: then there are two ways to name `is_not`.
macro_rules! has_no {
    ($type:ty, $trait:path) => {{
        trait Not<A> {
            fn is_not() {}
        }
        impl<T: ?Sized> Not<()> for T {}
        struct Has;
        impl<T: $trait + ?Sized> Not<Has> for T {}
        <$type as Not<_>>::is_not();
    }};
}

#[test]
fn a_secret_is_not_compared_by_equality_and_does_not_print() {
    has_no!(Secret, PartialEq);
    has_no!(Secret, fmt::Debug);
    has_no!(Secret, fmt::Display);
    has_no!(Secret, serde::Serialize);
    has_no!(Digest, PartialEq);
    has_no!(Digest, fmt::Debug);
    has_no!(Digest, fmt::Display);
    has_no!(Token, PartialEq);
    has_no!(Token, fmt::Debug);
    has_no!(Token, fmt::Display);
    // It is there where it should be.
    fn wiped<T: zeroize::ZeroizeOnDrop>(_: &T) {}
    wiped(&Secret::draw().unwrap().0);
}
