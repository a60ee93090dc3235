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
        let is_id = Id::is_legacy_text(text) || decode::<16>(text).is_some();
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

/// A random number other than zero.
pub(crate) fn draw_number() -> Result<i64, Error> {
    let mut number = i64::from_le_bytes(*draw::<8>()?);
    while number == 0 {
        number = i64::from_le_bytes(*draw::<8>()?);
    }
    Ok(number)
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
/// the field is missing, and never replaces a drawn value, whose chance of being lower is 2^-64.
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
                let secret = decode::<32>(secret)?;
                Some(Token::new(Id::parse(id)?, Secret(secret)))
            }
            None if legacy_ids => Id::parse(text).filter(Id::is_legacy).map(Token::bare),
            None => None,
        }
    }

    /// Whether a text may contain a token: a dot, and a secret after it.
    pub(crate) fn may_be_in(text: &str) -> bool {
        text.match_indices('.').any(|(dot, _)| {
            let secret = text.get(dot + 1..dot + 1 + SECRET_CHARS);
            secret.is_some_and(|secret| decode::<32>(secret).is_some())
        })
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
pub(crate) fn decode<const N: usize>(text: &str) -> Option<Zeroizing<[u8; N]>> {
    if text.len() != (N * 4).div_ceil(3) {
        return None;
    }
    let mut bytes = Zeroizing::new([0; N]);
    let length = URL_SAFE_NO_PAD
        .decode_slice(text, bytes.as_mut_slice())
        .ok()?;
    (length == N).then_some(bytes)
}

#[cfg(test)]
mod tests;
