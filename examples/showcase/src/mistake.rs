//! Errors in a form.

use serde::Serialize;

/// The message on the page when the form is shown again, and the fields with an error.
#[derive(Clone, Copy, Serialize)]
pub struct Mistake {
    text: &'static str,
    fields: &'static [&'static str],
}

/// The token is not one of this session, most likely because its session has ended.
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
