//! What is wrong with a form that was sent.

use serde::Serialize;

/// What its page says when it is shown again, and which of the fields are marked.
#[derive(Clone, Copy, Serialize)]
pub struct Mistake {
    text: &'static str,
    fields: &'static [&'static str],
}

/// The token is not one of this session's, most likely because its session has ended.
pub const OPEN_TOO_LONG: Mistake = Mistake::new(
    "This page was open for too long. Please send it once more.",
    &[],
);

pub const SHORT_PASSWORD: Mistake = Mistake::new("That password is too short.", &["password"]);

impl Mistake {
    pub const fn new(text: &'static str, fields: &'static [&'static str]) -> Self {
        Mistake { text, fields }
    }
}
