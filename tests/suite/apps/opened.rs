//! Opens stored sessions with the browser's cookie: the format that `src/seal.rs` describes, read
//! once more.

use aes_gcm_siv::aead::AeadInOut;
use aes_gcm_siv::{Aes256GcmSiv, KeyInit, Nonce, Tag};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{self, Binary, Bson, Document};
use sha2::Sha256;

/// The cookie's name in every test that opens a session.
const NAME: &str = "session";

/// The document as it would be stored plain. One that is not sealed stays as it is, and so do plain
/// values of one that is.
pub fn opened(mut document: Document, cookie: &str) -> Document {
    let Some(Bson::Binary(wrapped)) = document.remove("seal") else {
        return document;
    };
    let (id, secret) = cookie.split_once('.').expect("a token");
    assert_eq!(document.get_str("_id"), Ok(id), "the cookie's session");
    let place = b"rocket_mongo_session data key 1\0";
    let key = open(&wrapping_key(secret, id), place, &wrapped);
    for (name, value) in document.iter_mut() {
        match value {
            Bson::Document(values) if name == "value" => {
                for (field, value) in values.iter_mut() {
                    let (purpose, length) = (b"rocket_mongo_session value 1\0", length(id));
                    let place = [purpose, &length[..], id.as_bytes(), field.as_bytes()].concat();
                    if let Some(sealed) = sealed(value) {
                        let holder = open(&key, &place, sealed);
                        let holder: Document = bson::from_slice(&holder).expect("a document");
                        *value = holder.get("").expect("a value").clone();
                    }
                }
            }
            value if name == "csrf" => {
                let place = [b"rocket_mongo_session csrf 1\0", id.as_bytes()].concat();
                if let Some(sealed) = sealed(value) {
                    let bytes = open(&key, &place, sealed);
                    let subtype = BinarySubtype::Generic;
                    *value = Bson::Binary(Binary { subtype, bytes });
                }
            }
            _ => {}
        }
    }
    document
}

fn wrapping_key(secret: &str, id: &str) -> Vec<u8> {
    let secret = URL_SAFE_NO_PAD.decode(secret).expect("a secret");
    let (purpose, length) = (b"rocket_mongo_session wrapping key 1\0", length(NAME));
    let info = [purpose, &length[..], NAME.as_bytes(), id.as_bytes()].concat();
    let mut key = vec![0; 32];
    let derived = Hkdf::<Sha256>::new(None, &secret).expand(&info, &mut key);
    derived.expect("32 bytes");
    key
}

fn length(text: &str) -> [u8; 8] {
    (text.len() as u64).to_be_bytes()
}

fn sealed(value: &Bson) -> Option<&Binary> {
    match value {
        Bson::Binary(binary) => {
            (u8::from(binary.subtype) == 0x80 && binary.bytes.starts_with(b"s")).then_some(binary)
        }
        _ => None,
    }
}

/// Opens what was sealed for a place. Panics if it was not.
fn open(key: &[u8], place: &[u8], sealed: &Binary) -> Vec<u8> {
    let bytes = sealed.bytes.strip_prefix(b"s\x01").expect("version 1");
    let (nonce, rest) = bytes.split_first_chunk::<12>().expect("a nonce");
    let (text, tag) = rest.split_last_chunk::<16>().expect("a tag");
    let mut text = text.to_vec();
    let cipher = Aes256GcmSiv::new_from_slice(key).expect("32 bytes");
    let (nonce, tag) = (Nonce::from(*nonce), Tag::from(*tag));
    cipher
        .decrypt_inout_detached(&nonce, place, text.as_mut_slice().into(), &tag)
        .unwrap_or_else(|_| panic!("it does not open: {}", String::from_utf8_lossy(place)));
    text
}
