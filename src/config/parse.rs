//! What a single value must be, whatever the others are.

use std::time::Duration;

use rocket::data::ByteUnit;
use rocket::figment::error::{Actual, Kind};
use rocket::figment::value::Value;
use rocket::http::SameSite;

use super::section::{ill_typed, invalid};
use super::{Encoding, MAX_MAX_BYTES};
use crate::origin::{self, Origin};

type Rule<T> = Result<T, Kind>;

/// Stored times have milliseconds: the shortest time that is not zero.
pub(super) const LEAST: f64 = 0.001;
/// A hundred years: far from where dates overflow, beyond what any session wants.
pub(crate) const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);
/// 400 days: browsers shorten what a cookie asks beyond it.
pub(crate) const LONGEST_COOKIE: Duration = Duration::from_secs(400 * 86_400);

/// The beginnings of a cookie's name that browsers know, the longest first.
const PREFIXES: [&str; 4] = ["__Host-Http-", "__Host-", "__Http-", "__Secure-"];

/// Lets `false` unset an optional key.
pub(super) fn optional<T>(
    rule: impl FnOnce(&Value) -> Rule<T>,
) -> impl FnOnce(&Value) -> Rule<Option<T>> {
    |value| match value.to_bool() {
        Some(false) => Ok(None),
        _ => rule(value).map(Some),
    }
}

/// `true` or `false`.
pub(super) fn boolean(value: &Value) -> Rule<bool> {
    value.to_bool().ok_or_else(|| ill_typed(value, "a boolean"))
}

/// Seconds between the two bounds, kept to the millisecond.
pub(super) fn seconds(least: f64, most: f64) -> impl FnOnce(&Value) -> Rule<Duration> {
    move |value| {
        let expected = || format!("a number of seconds from {least} to {most}");
        let number = number(value).ok_or_else(|| ill_typed(value, expected()))?;
        // Compared before it is converted: NaN and the infinities are in no range.
        if !(least..=most).contains(&number) {
            return Err(invalid(value, expected()));
        }
        Ok(Duration::from_millis((number * 1000.0).round() as u64))
    }
}

/// A whole number of at least one.
pub(super) fn count(value: &Value) -> Rule<u32> {
    let expected = "a whole number of at least 1";
    let number = number(value).ok_or_else(|| ill_typed(value, expected))?;
    let fits = (1.0..=f64::from(u32::MAX)).contains(&number) && number.fract() == 0.0;
    if fits {
        Ok(number as u32)
    } else {
        Err(invalid(value, expected))
    }
}

/// A size as Rocket writes them (`"1MiB"`), or a number of bytes.
pub(super) fn size(value: &Value) -> Rule<usize> {
    let expected = format!(
        "a size from 1 B to {}, such as \"1MiB\"",
        ByteUnit::from(MAX_MAX_BYTES)
    );
    let bytes = match (text(value), value.to_actual()) {
        (Some(text), _) => text
            .trim()
            .parse::<ByteUnit>()
            .ok()
            .map(|unit| unit.as_u64()),
        (_, Actual::Unsigned(bytes)) => Some(u64::try_from(bytes).unwrap_or(u64::MAX)),
        // Never negative in range: refused below as zero.
        (_, Actual::Signed(bytes)) => Some(u64::try_from(bytes).unwrap_or(0)),
        _ => None,
    };
    let bytes = bytes.ok_or_else(|| ill_typed(value, expected.as_str()))?;
    match usize::try_from(bytes) {
        Ok(size) if (1..=MAX_MAX_BYTES).contains(&size) => Ok(size),
        _ => Err(invalid(value, expected)),
    }
}

/// `"Lax"`, `"Strict"` or `"None"`.
pub(super) fn same_site(value: &Value) -> Rule<SameSite> {
    let expected = "\"Lax\", \"Strict\" or \"None\"";
    match string(value, expected)?.to_ascii_lowercase().as_str() {
        "lax" => Ok(SameSite::Lax),
        "strict" => Ok(SameSite::Strict),
        "none" => Ok(SameSite::None),
        _ => Err(invalid(value, expected)),
    }
}

/// `"document"` or `"binary"`.
pub(super) fn encoding(value: &Value) -> Rule<Encoding> {
    let expected = "\"document\" or \"binary\"";
    match string(value, expected)?.to_ascii_lowercase().as_str() {
        "document" => Ok(Encoding::Document),
        "binary" => Ok(Encoding::Binary),
        _ => Err(invalid(value, expected)),
    }
}

/// A name that MongoDB takes for a collection of an application's own. It would take an address as
/// well, which is a mistake, and the name is printed at launch.
pub(super) fn collection(value: &Value) -> Rule<String> {
    let expected = "the name of a collection: 1 to 120 bytes, no `$` and no control characters, \
                    not beginning with `system.` or a dot, and no URL";
    let name = string(value, expected)?;
    let legal = (1..=120).contains(&name.len())
        && !name.contains(|c: char| c == '$' || c.is_control())
        && !name.starts_with("system.")
        && !name.starts_with('.')
        && !name.contains("://");
    if legal {
        Ok(name)
    } else {
        Err(invalid(value, expected))
    }
}

/// A name that MongoDB takes for a database of an application's own. `local` is not replicated and
/// `config` takes no retryable writes, so neither could keep our promises.
pub(super) fn database(value: &Value) -> Rule<String> {
    let expected = "the name of a database: 1 to 63 bytes, no blanks, no control characters and \
                    none of /\\.\"$*<>:|?, and not `admin`, `config` or `local`";
    let name = string(value, expected)?;
    let illegal = |c: char| c.is_whitespace() || c.is_control() || "/\\.\"$*<>:|?".contains(c);
    let legal = (1..=63).contains(&name.len())
        && !name.contains(illegal)
        && !["admin", "config", "local"].contains(&name.as_str());
    if legal {
        Ok(name)
    } else {
        Err(invalid(value, expected))
    }
}

/// A cookie's name: a token (RFC 6265bis) of at most 64 bytes, without those of a token's
/// characters that Rocket's cookies percent-encode: such a name would leave as another than the
/// one that is looked for when it comes back.
pub(super) fn cookie_name(value: &Value) -> Rule<String> {
    let expected = "a cookie name: 1 to 64 ASCII letters, digits and !$&'*+-._~";
    let name = string(value, expected)?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"!$&'*+-._~".contains(&b);
    if !(1..=64).contains(&name.len()) || !name.bytes().all(legal) {
        return Err(invalid(value, expected));
    }
    match almost_prefixed(&name) {
        Some(prefix) => Err(invalid(
            value,
            format!("the prefix spelt `{prefix}`, or a name unlike it"),
        )),
        None => Ok(name),
    }
}

/// The prefix of a cookie's name, which browsers hold the cookie's attributes to.
pub(super) fn prefix(name: &str) -> Option<&'static str> {
    PREFIXES.into_iter().find(|prefix| name.starts_with(prefix))
}

/// The prefix that a name nearly has. Such a name promises what browsers do not check; and in
/// another case browsers check it while servers take it for another name.
fn almost_prefixed(name: &str) -> Option<&'static str> {
    let is_dash = |c: char| c == '_' || c == '-';
    let lower = name.to_ascii_lowercase();
    let has = |prefix: &str| lower.starts_with(&prefix.to_ascii_lowercase());
    // In any case: what browsers see, and so what the exact spelling must be.
    if let Some(seen) = PREFIXES.into_iter().find(|prefix| has(prefix)) {
        return (prefix(name) != Some(seen)).then_some(seen);
    }
    let word = lower.trim_start_matches(is_dash);
    let before = lower.len() - word.len();
    PREFIXES.into_iter().find(|prefix| {
        let stem = prefix
            .trim_matches('_')
            .trim_end_matches('-')
            .to_ascii_lowercase();
        let Some(rest) = word.strip_prefix(&stem) else {
            return false;
        };
        let after = rest.len() - rest.trim_start_matches(is_dash).len();
        // `__Host_x`, `__Hostx`; `_Host-x`; `Host__x`. `host_id` and `_secure_x` are just names.
        before >= 2 || (before == 1 && rest.starts_with('-')) || (before == 0 && after >= 2)
    })
}

/// A cookie's path: begins with `/`, and is one that a URL's path can begin with. Browsers ignore
/// attributes above 1024 bytes.
pub(super) fn path(value: &Value) -> Rule<String> {
    let expected = "a path that begins with `/`, of at most 1024 printable ASCII characters, \
                    without blanks, `;`, `?` and `#`";
    let path = string(value, expected)?;
    let legal = path.starts_with('/')
        && path.len() <= 1024
        && path
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b";?#".contains(&b));
    if legal {
        Ok(path)
    } else {
        Err(invalid(value, expected))
    }
}

/// A cookie's domain, in lower case. A leading dot is dropped, as browsers do. One label alone is
/// refused: it is a public suffix, which browsers refuse, or the host itself, which needs no
/// domain; `localhost` is let through for the sake of development.
pub(super) fn domain(value: &Value) -> Rule<String> {
    let expected = "a domain name such as `example.com` (ASCII, no scheme, port or IP address)";
    let text = string(value, expected)?;
    let name = text.strip_prefix('.').unwrap_or(&text).to_ascii_lowercase();
    let legal = origin::is_domain(&name) && (name.contains('.') || name == "localhost");
    if legal {
        Ok(name)
    } else {
        Err(invalid(value, expected))
    }
}

/// An origin that may send unsafe requests from another site.
pub(super) fn trusted_origin(value: &Value) -> Rule<Origin> {
    let expected = "an origin such as `https://app.example.com` or `http://localhost:3000` \
                    (no path, no wildcard)";
    Origin::parse(&string(value, expected)?).ok_or_else(|| invalid(value, expected))
}

/// A number, also written as text.
fn number(value: &Value) -> Option<f64> {
    match value.to_actual() {
        Actual::Unsigned(number) => Some(number as f64),
        Actual::Signed(number) => Some(number as f64),
        Actual::Float(number) => Some(number),
        _ => text(value)?.trim().parse().ok(),
    }
}

/// A text. Environment variables make a single quoted character a `char`.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Char(_, c) => Some(c.to_string()),
        _ => None,
    }
}

/// A text, or the error that it is none.
fn string(value: &Value, expected: &str) -> Rule<String> {
    text(value).ok_or_else(|| ill_typed(value, expected))
}
