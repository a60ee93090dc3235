//! The session's two names: the public [`Id`] and the [`Secret`] that only the browser holds.
//!
//! A cookie carries both as `<id>.<secret>`; the database keeps the id and a [`Digest`] of the
//! secret, so that no cookie can be made from what is stored (OWASP ASVS 7.2.3, 7.2.4).
//!
//! The cookie of the Python package pyramid_mongo_session is a bare id of 32 hexadecimal digits,
//! which is a credential. It is read with `session.legacy_ids` alone.

use std::borrow::Borrow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::Error;

/// Characters of an id: 16 bytes in base64url without padding.
const ID_CHARS: usize = 22;
/// Characters of an id that the Python package drew: 16 bytes in hexadecimal digits.
const LEGACY_ID_CHARS: usize = 32;
/// Characters of a secret: 32 bytes in base64url without padding.
const SECRET_CHARS: usize = 43;

/// The public name of a session, its `_id`: safe to log and to show, and not a credential, unless
/// the session was opened by a bare id ([`Token::is_bare`]).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Id(String);

impl Id {
    pub(crate) fn draw() -> Result<Self, Error> {
        Ok(Id(URL_SAFE_NO_PAD.encode(draw::<16>()?.as_slice())))
    }

    /// Reads an id of ours in its one canonical form, or one of the Python package: exactly 32
    /// lower-case hexadecimal digits. `None` for everything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_id = Id::is_legacy_text(text) || decode::<16>(text, ID_CHARS).is_some();
        is_id.then(|| Id(text.to_owned()))
    }

    /// Whether a text is an id that the Python package drew.
    pub(crate) fn is_legacy_text(text: &str) -> bool {
        let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        text.len() == LEGACY_ID_CHARS && text.bytes().all(is_hex)
    }

    /// Whether the Python package drew it.
    pub(crate) fn is_legacy(&self) -> bool {
        self.0.len() == LEGACY_ID_CHARS
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// So that a map by ids is asked with a text.
impl Borrow<str> for Id {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// 32 random bytes that must not be seen: wiped on drop, no `Debug`, no `Display`, no `==`.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    pub(crate) fn draw() -> Result<Self, Error> {
        Ok(Secret(draw::<32>()?))
    }

    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Secret(Zeroizing::new(bytes))
    }

    /// The bytes themselves, for the one field that stores them (the CSRF secret).
    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// What the database keeps of a token's secret. The cookie's name is part of it, so that a
    /// cookie of one purpose is never accepted under another name.
    pub(crate) fn digest(&self, cookie_name: &str) -> Digest {
        Digest(hash(
            b"rocket_mongo_session token 1\0",
            cookie_name,
            self.0.as_slice(),
        ))
    }

    /// A secret that follows from something else, and sorts before every drawn one.
    pub(super) fn derive(purpose: &[u8], from: &[u8]) -> Self {
        Secret::from_bytes(before_drawn_ones(hash(purpose, "", from)))
    }

    pub(crate) fn matches(&self, other: &Secret) -> bool {
        self.0.ct_eq(other.0.as_slice()).into()
    }
}

fn hash(purpose: &[u8], cookie_name: &str, from: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(purpose);
    hash.update((cookie_name.len() as u64).to_be_bytes());
    hash.update(cookie_name.as_bytes());
    hash.update(from);
    hash.finalize().into()
}

/// Begins a derived value with eight zero bytes, and keeps 192 bits of it. So `$max` stores it where
/// there is none and never replaces a drawn value, whose chance of being lower is 2^-64.
fn before_drawn_ones(hash: [u8; 32]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[DERIVED.len()..].copy_from_slice(&hash[DERIVED.len()..]);
    bytes
}

/// How derived values begin.
const DERIVED: [u8; 8] = [0; 8];

/// SHA-256 of a token's secret. Not usable as a cookie, and still not printed.
#[derive(Clone)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Digest(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Compares in constant time.
    pub(crate) fn matches(&self, other: &Digest) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Whether a bare id opens the session that stores this digest.
    pub(crate) fn is_of_bare_id(&self) -> bool {
        self.0.starts_with(&DERIVED)
    }
}

/// What a browser's cookie says: which session, and the proof that it is its own.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) id: Id,
    pub(crate) secret: Secret,
    is_bare: bool,
}

impl Token {
    pub(crate) fn new(id: Id, secret: Secret) -> Self {
        Token {
            id,
            secret,
            is_bare: false,
        }
    }

    /// The token of the Python package's cookie, which is the id alone. Its secret follows from the
    /// id.
    pub(super) fn bare(id: Id) -> Self {
        let secret = Secret::derive(
            b"rocket_mongo_session bare id's secret 1\0",
            id.0.as_bytes(),
        );
        Token {
            id,
            secret,
            is_bare: true,
        }
    }

    /// Reads exactly `<id>.<secret>`, canonical base64url without padding; anything else is
    /// not a token and is never looked up. An id of the Python package may stand in the place of ours:
    /// `renew` and `elevate` keep it. With `legacy_ids` it may also stand alone.
    pub(crate) fn parse(text: &str, legacy_ids: bool) -> Option<Self> {
        match text.split_once('.') {
            Some((id, secret)) => {
                let secret = decode::<32>(secret, SECRET_CHARS)?;
                Some(Token::new(Id::parse(id)?, Secret(secret)))
            }
            None if legacy_ids => Id::parse(text).filter(Id::is_legacy).map(Token::bare),
            None => None,
        }
    }

    /// Whether the id alone opened the session. Such an id is a credential: it is neither shown nor
    /// logged.
    pub(crate) fn is_bare(&self) -> bool {
        self.is_bare
    }

    /// What the database keeps of it. A bare id's digest is one that no secret has, so that no
    /// cookie can be made from an id without `legacy_ids`.
    pub(crate) fn digest(&self, cookie_name: &str) -> Digest {
        if !self.is_bare {
            return self.secret.digest(cookie_name);
        }
        let purpose = b"rocket_mongo_session bare id 1\0";
        Digest(before_drawn_ones(hash(
            purpose,
            cookie_name,
            self.id.0.as_bytes(),
        )))
    }

    /// The cookie's value.
    pub(crate) fn cookie_value(&self) -> Zeroizing<String> {
        if self.is_bare {
            return Zeroizing::new(self.id.0.clone());
        }
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(self.secret.0.as_slice()));
        Zeroizing::new(format!("{}.{}", self.id, secret.as_str()))
    }
}

/// Random bytes from the operating system, or a failed request: never a weaker source.
pub(crate) fn draw<const N: usize>() -> Result<Zeroizing<[u8; N]>, Error> {
    #[cfg(test)]
    tests::draw_fails()?;
    let mut bytes = Zeroizing::new([0; N]);
    SysRng
        .try_fill_bytes(bytes.as_mut_slice())
        .map_err(|error| Error::Randomness(error.to_string()))?;
    Ok(bytes)
}

/// Decodes canonical base64url without padding (the decoder refuses non-zero spare bits, so two
/// texts never name the same bytes).
pub(crate) fn decode<const N: usize>(text: &str, chars: usize) -> Option<Zeroizing<[u8; N]>> {
    if text.len() != chars {
        return None;
    }
    let mut bytes = Zeroizing::new([0; N]);
    let length = URL_SAFE_NO_PAD
        .decode_slice(text, bytes.as_mut_slice())
        .ok()?;
    (length == N).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashSet;

    use rocket::http::{ContentType, Header, Status};
    use rocket::local::asynchronous::{Client, LocalResponse};
    use rocket::{post, routes};

    use super::*;
    use crate::admin::Sessions;
    use crate::document::Filter;
    use crate::session::Session;

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
            let id = decode::<16>(token.id.as_str(), ID_CHARS).unwrap();
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
    fn handler(session: &Session, call: &str) -> Result<String, Error> {
        match call {
            "set" => session.set("n", &1)?,
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
            let stored = || sessions.core.store.find(Filter::all(), 0, 10);
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
                let answer = send(&client, call, cookie).await;
                assert_eq!(answer.status(), Status::ServiceUnavailable, "{call}");
                assert_eq!(answer.headers().get_one("Set-Cookie"), None, "{call}");
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
        for text in [
            "",
            "0123456789abcdef0123456789abcde",
            "0123456789abcdef0123456789abcdef0",
            "0123456789ABCDEF0123456789ABCDEF",
            "0123456789abcdef0123456789abcdeg",
            " 0123456789abcdef0123456789abcde",
            "0123456789abcdef0123456789abcdef.",
            "AAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert!(Token::parse(text, true).is_none(), "{text:?}");
        }
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
}
