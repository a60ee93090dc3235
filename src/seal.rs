//! The cryptography of sealed sessions, and nothing else: pure, without I/O and without random
//! bytes. Its caller draws keys and nonces.
//!
//! # Version 1, byte for byte
//!
//! `‖` joins bytes, `u64` is 8 bytes, the most significant first, and texts are UTF-8. Each nonce is
//! drawn.
//!
//! ```text
//! ciphertext (as long as the text) ‖ tag (16) = AES-256-GCM-SIV(key, nonce, associated data, text)
//!
//! sealed(key, associated data, text) = 73 01 ‖ nonce (12) ‖ ciphertext ‖ tag
//!
//! wrapping key = HKDF-SHA-256(salt: none, input: secret of the cookie (32), length: 32,
//!                info: "rocket_mongo_session wrapping key 1" ‖ 00
//!                      ‖ u64(bytes of the cookie's name) ‖ the cookie's name ‖ id)
//!
//! stored in    = sealed(key,          associated data,                                text)
//! seal         = sealed(wrapping key, "rocket_mongo_session data key 1" ‖ 00,         data key (32))
//! csrf         = sealed(data key,     "rocket_mongo_session csrf 1" ‖ 00 ‖ id,        CSRF secret (32))
//! value.FIELD  = sealed(data key,     "rocket_mongo_session value 1" ‖ 00
//!                                     ‖ u64(bytes of id) ‖ id ‖ FIELD,                BSON of { "": value })
//! ```
//!
//! Each of them is a BSON binary of subtype 80. The data key is drawn for one session and stays until
//! a login. `id` is the `_id` of the session, FIELD the name of the value as it is stored. A tombstone,
//! which has `kept.FIELD` for `value.FIELD`, has a data key of its own; its secret and `id` are those of
//! the session that was replaced.
//!
//! # Why this is enough
//!
//! - AES-256-GCM-SIV ([RFC 8452](https://www.rfc-editor.org/rfc/rfc8452)) stays secret when a nonce
//!   repeats: it then shows only that one text was sealed twice for one place.
//! - HKDF ([RFC 5869](https://www.rfc-editor.org/rfc/rfc5869)) takes the cookie's secret, 256 random
//!   bits. The database has SHA-256 of `"rocket_mongo_session token 1" ‖ 00 ‖ …`, which is neither
//!   a prefix nor a block of what HMAC hashes. A wrapping key serves one cookie's name and one session.
//! - The associated data name purpose, version, session and field, each in one way only: nothing opens
//!   in a place for which it was not sealed. An older text of the same place does open.
//! - AES-GCM-SIV does not commit to its key. No key here comes from a text that can be guessed.
//! - Keys and what the ciphers expand them to are wiped on drop. `hmac` leaves a block on the stack that
//!   the wrapping key could be computed from.
//! - Another version has another header, other tags, and this one beside it for reading.

use aes_gcm_siv::aead::AeadInOut;
use aes_gcm_siv::{Aes256GcmSiv, KeyInit};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

/// How everything sealed begins: a letter that no other opaque value begins with, and the version.
const HEADER: [u8; 2] = *b"s\x01";
pub(crate) const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// The number of bytes by which a sealed text is longer than the text.
pub(crate) const OVERHEAD_BYTES: usize = HEADER.len() + NONCE_BYTES + TAG_BYTES;

/// What is sealed, and where it is stored.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    DataKey,
    Csrf { id: &'a str },
    Value { id: &'a str, field: &'a str },
}

impl Place<'_> {
    fn associated_data(self) -> Vec<u8> {
        match self {
            Place::DataKey => b"rocket_mongo_session data key 1\0".to_vec(),
            Place::Csrf { id } => [b"rocket_mongo_session csrf 1\0", id.as_bytes()].concat(),
            Place::Value { id, field } => [
                b"rocket_mongo_session value 1\0".as_slice(),
                &length(id),
                id.as_bytes(),
                field.as_bytes(),
            ]
            .concat(),
        }
    }
}

fn length(text: &str) -> [u8; 8] {
    (text.len() as u64).to_be_bytes()
}

/// A key of AES-256-GCM-SIV: wiped on drop, no `Clone`, no `Debug`, no `Display`, no `==`.
pub(crate) struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// Takes a data key that was drawn.
    pub(crate) fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Key(bytes)
    }

    /// Derives the key that wraps a session's data key, from the secret in the cookie.
    pub(crate) fn wrapping(secret: &[u8; 32], cookie_name: &str, id: &str) -> Option<Self> {
        let (mut extracted, hkdf) = Hkdf::<Sha256>::extract(None, secret);
        extracted.as_mut_slice().zeroize();
        let info = [
            b"rocket_mongo_session wrapping key 1\0".as_slice(),
            &length(cookie_name),
            cookie_name.as_bytes(),
            id.as_bytes(),
        ];
        let mut key = Zeroizing::new([0; 32]);
        hkdf.expand_multi_info(&info, key.as_mut_slice()).ok()?;
        Some(Key(key))
    }

    /// Seals a data key under this wrapping key.
    pub(crate) fn wrap(&self, nonce: &[u8; NONCE_BYTES], data_key: &Key) -> Option<Vec<u8>> {
        self.seal(nonce, Place::DataKey, data_key.0.as_slice())
    }

    /// Opens a wrapped data key; `None` when it was not wrapped under this key.
    pub(crate) fn unwrap(&self, wrapped: &[u8]) -> Option<Key> {
        let bytes = self.open(Place::DataKey, wrapped)?;
        Some(Key(Zeroizing::new(bytes.as_slice().try_into().ok()?)))
    }

    /// Seals a text for a place. `None` only beyond the 64 GiB of RFC 8452.
    pub(crate) fn seal(
        &self,
        nonce: &[u8; NONCE_BYTES],
        place: Place<'_>,
        text: &[u8],
    ) -> Option<Vec<u8>> {
        // In one allocation and in place, so that no copy of a key is left behind.
        let mut sealed = Vec::with_capacity(text.len() + OVERHEAD_BYTES);
        sealed.extend_from_slice(&HEADER);
        sealed.extend_from_slice(nonce);
        sealed.extend_from_slice(text);
        let (_, text) = sealed.split_at_mut_checked(HEADER.len() + NONCE_BYTES)?;
        let (cipher, data) = (self.cipher(), place.associated_data());
        let tag = cipher.encrypt_inout_detached(nonce.into(), &data, text.into());
        let tag = tag.ok()?;
        sealed.extend_from_slice(&tag);
        Some(sealed)
    }

    /// Opens what was sealed for a place; `None` when it was not, for this place and under this key.
    pub(crate) fn open(&self, place: Place<'_>, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let sealed = sealed.strip_prefix(&HEADER)?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let (sealed, tag) = sealed.split_last_chunk::<TAG_BYTES>()?;
        let mut text = Zeroizing::new(sealed.to_vec());
        let (cipher, data) = (self.cipher(), place.associated_data());
        let buffer = text.as_mut_slice().into();
        let opened = cipher.decrypt_inout_detached(nonce.into(), &data, buffer, tag.into());
        opened.ok()?;
        Some(text)
    }

    fn cipher(&self) -> Aes256GcmSiv {
        Aes256GcmSiv::new((&*self.0).into())
    }
}

/// Whether bytes look sealed: whether they open shows only with the key.
pub(crate) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(&HEADER[..1])
}

#[cfg(test)]
mod tests;
