//! Secrets, in the forms in which a log could show them.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// As text, both kinds of base64, both kinds of hexadecimal, and as Rust prints bytes.
pub fn forms(secret: &[u8]) -> Vec<String> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let numbers: Vec<String> = secret.iter().take(12).map(u8::to_string).collect();
    let mut forms = vec![
        STANDARD.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
        hex.to_uppercase(),
        hex,
        numbers.join(", "),
        secret.escape_ascii().to_string(),
    ];
    forms.extend(String::from_utf8(secret.to_vec()).ok());
    forms
}

/// What the two halves of a masked CSRF token hide.
pub fn unmasked(token: &str) -> Vec<u8> {
    let bytes = URL_SAFE_NO_PAD.decode(token).expect("base64url");
    let (pad, masked) = bytes.split_at(32);
    let pairs = pad.iter().zip(masked);
    pairs.map(|(pad, masked)| pad ^ masked).collect()
}
