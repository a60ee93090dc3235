//! I9: no secret is where it may be read.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mongodb::bson::{Bson, Document};

use super::response::SECRET;
use super::{Event, secret_of};

/// Of anybody's, in anybody's response: every secret that a cookie held, and the digests and CSRF
/// secrets that are stored.
pub(super) fn check(events: &[Event], documents: &[Document], violations: &mut Vec<String>) {
    let cookies = events
        .iter()
        .flat_map(|event| [&event.cookie, &event.given]);
    let mut secrets: HashSet<Vec<u8>> = cookies
        .flatten()
        .map(|cookie| secret_of(cookie).as_bytes().to_vec())
        .collect();
    let stored = documents.iter().flat_map(|document| {
        let fields = ["token", "csrf"].map(|name| document.get(name));
        fields.into_iter().flatten()
    });
    for field in stored {
        if let Bson::Binary(binary) = field {
            secrets.insert(URL_SAFE_NO_PAD.encode(&binary.bytes).into_bytes());
        }
    }
    for event in events {
        let mut words = event.words.iter().map(|word| word.as_bytes());
        if words.any(|word| word.windows(SECRET).any(|part| secrets.contains(part))) {
            violations.push(format!("I9: a secret outside of its cookie: {event:?}"));
        }
    }
}
