//! Notices that are shown once, at the top of the next page.

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub struct Notice {
    kind: Kind,
    text: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Good,
    Bad,
}

impl Notice {
    pub fn good(text: impl Into<String>) -> Self {
        let (kind, text) = (Kind::Good, text.into());
        Notice { kind, text }
    }

    pub fn bad(text: impl Into<String>) -> Self {
        let (kind, text) = (Kind::Bad, text.into());
        Notice { kind, text }
    }
}
