//! Parsing and validation of single values.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use rocket::data::ByteUnit;
use rocket::figment::error::{Actual, Kind};
use rocket::figment::value::Value;
use rocket::http::SameSite;

use super::section::{ill_typed, invalid};
use super::{Encoding, MAX_BYTES_LIMIT, Transport};
use crate::origin::{self, Origin};

type Parsed<T> = Result<T, Kind>;

/// The shortest time that is not zero, in seconds. Stored times have milliseconds.
pub(super) const MIN_SECONDS: f64 = 0.001;
/// The longest timeout: a hundred years, which is far below the overflow of dates.
pub(crate) const MAX_TIMEOUT: Duration = Duration::from_secs(100 * 365 * 86_400);
/// The longest `Max-Age` of a cookie. Browsers cut longer ones to 400 days (RFC 6265bis).
pub(crate) const MAX_COOKIE_AGE: Duration = Duration::from_secs(400 * 86_400);

/// The cookie name prefixes that browsers enforce, the longest first.
const PREFIXES: [&str; 4] = ["__Host-Http-", "__Host-", "__Http-", "__Secure-"];

/// Accepts `false` as `None`, and any other value by its parser.
pub(super) fn optional<T>(
    parse: impl FnOnce(&Value) -> Parsed<T>,
) -> impl FnOnce(&Value) -> Parsed<Option<T>> {
    |value| match value.to_bool() {
        Some(false) => Ok(None),
        _ => parse(value).map(Some),
    }
}

/// Parses `true` or `false`.
pub(super) fn boolean(value: &Value) -> Parsed<bool> {
    value.to_bool().ok_or_else(|| ill_typed(value, "a boolean"))
}

/// Parses a duration between two bounds, in seconds: a number of seconds, or text with units such as
/// `"1h 30m"`. Rounded to the millisecond.
pub(super) fn seconds(min: f64, max: f64) -> impl FnOnce(&Value) -> Parsed<Duration> {
    move |value| {
        let expected = || {
            format!(
                "a number of seconds from {min} to {max}, or a duration such as \"20m\", \"8h\" or \
                 \"30d\""
            )
        };
        let with_unit = |text: String| humantime::parse_duration(text.trim()).ok();
        let seconds = number(value)
            .or_else(|| Some(text(value).and_then(with_unit)?.as_secs_f64()))
            .ok_or_else(|| ill_typed(value, expected()))?;
        // Compared before the conversion: NaN and infinities are outside of every range.
        if !(min..=max).contains(&seconds) {
            return Err(invalid(value, expected()));
        }
        Ok(Duration::from_millis((seconds * 1000.0).round() as u64))
    }
}

/// Parses a whole number of at least one.
pub(super) fn count(value: &Value) -> Parsed<u32> {
    let expected = "a whole number of at least 1";
    let number = number(value).ok_or_else(|| ill_typed(value, expected))?;
    let is_count = (1.0..=f64::from(u32::MAX)).contains(&number) && number.fract() == 0.0;
    if is_count {
        Ok(number as u32)
    } else {
        Err(invalid(value, expected))
    }
}

/// Parses a size in Rocket's form (`"1MiB"`), or a number of bytes.
pub(super) fn size(value: &Value) -> Parsed<usize> {
    let expected = format!(
        "a size from 1 B to {}, such as \"1MiB\"",
        ByteUnit::from(MAX_BYTES_LIMIT)
    );
    let bytes = match (text(value), value.to_actual()) {
        (Some(text), _) => text
            .trim()
            .parse::<ByteUnit>()
            .ok()
            .map(|unit| unit.as_u64()),
        (_, Actual::Unsigned(bytes)) => Some(u64::try_from(bytes).unwrap_or(u64::MAX)),
        // A negative number becomes zero, which is refused below.
        (_, Actual::Signed(bytes)) => Some(u64::try_from(bytes).unwrap_or(0)),
        _ => None,
    };
    let bytes = bytes.ok_or_else(|| ill_typed(value, expected.as_str()))?;
    match usize::try_from(bytes) {
        Ok(size) if (1..=MAX_BYTES_LIMIT).contains(&size) => Ok(size),
        _ => Err(invalid(value, expected)),
    }
}

/// Parses `"Lax"`, `"Strict"` or `"None"`.
pub(super) fn same_site(value: &Value) -> Parsed<SameSite> {
    let choices = [
        ("lax", SameSite::Lax),
        ("strict", SameSite::Strict),
        ("none", SameSite::None),
    ];
    one_of(value, "\"Lax\", \"Strict\" or \"None\"", &choices)
}

/// Parses `"document"` or `"binary"`.
pub(super) fn encoding(value: &Value) -> Parsed<Encoding> {
    let choices = [
        ("document", Encoding::Document),
        ("binary", Encoding::Binary),
    ];
    one_of(value, "\"document\" or \"binary\"", &choices)
}

/// Parses `"cookie"` or `"bearer"`.
pub(super) fn transport(value: &Value) -> Parsed<Transport> {
    let choices = [("cookie", Transport::Cookie), ("bearer", Transport::Bearer)];
    one_of(value, "\"cookie\" or \"bearer\"", &choices)
}

/// Parses a collection name that MongoDB accepts. MongoDB would also accept a URL, but that is a
/// mistake and may hold a password, and the name is printed at launch.
pub(super) fn collection(value: &Value) -> Parsed<String> {
    let expected = "a collection name: 1 to 120 bytes, without `$` and control characters, \
                    not beginning with `system.` or a dot, and not a URL";
    checked(value, expected, |name| {
        (1..=120).contains(&name.len())
            && !name.contains(|c: char| c == '$' || c.is_control())
            && !name.starts_with("system.")
            && !name.starts_with('.')
            && !name.contains("://")
    })
}

/// Parses a database name that MongoDB accepts. `admin`, `config` and `local` are refused: `local` is
/// not replicated, and `config` takes no retryable writes.
pub(super) fn database(value: &Value) -> Parsed<String> {
    let expected = "a database name: 1 to 63 bytes, without blanks, control characters and \
                    /\\.\"$*<>:|?, and other than `admin`, `config` and `local`";
    let illegal = |c: char| c.is_whitespace() || c.is_control() || "/\\.\"$*<>:|?".contains(c);
    checked(value, expected, |name| {
        (1..=63).contains(&name.len())
            && !name.contains(illegal)
            && !["admin", "config", "local"].contains(&name)
    })
}

/// Parses a cookie name: a token (RFC 6265bis) of at most 64 bytes. The characters that Rocket
/// percent-encodes in cookies are refused: the name that is sent would differ from the name that is
/// looked up in the next request.
pub(super) fn cookie_name(value: &Value) -> Parsed<String> {
    let expected = "a cookie name: 1 to 64 ASCII letters, digits and !$&'*+-._~";
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"!$&'*+-._~".contains(&b);
    let name = checked(value, expected, |name| {
        (1..=64).contains(&name.len()) && name.bytes().all(legal)
    })?;
    match almost_prefixed(&name) {
        Some(prefix) => Err(invalid(
            value,
            format!("the prefix in the spelling `{prefix}`, or a name that does not resemble it"),
        )),
        None => Ok(name),
    }
}

/// Returns the prefix of a cookie name. Browsers enforce the attributes that it stands for.
pub(super) fn prefix(name: &str) -> Option<&'static str> {
    PREFIXES.into_iter().find(|prefix| name.starts_with(prefix))
}

/// Returns the prefix that a name resembles without having it. Browsers enforce nothing for a misspelt
/// prefix; and they enforce a prefix in any case of letters, while servers compare names exactly.
fn almost_prefixed(name: &str) -> Option<&'static str> {
    let is_dash = |c: char| c == '_' || c == '-';
    let lower = name.to_ascii_lowercase();
    let has = |prefix: &str| lower.starts_with(&prefix.to_ascii_lowercase());
    // Browsers ignore the case of a prefix, so require the exact spelling.
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

/// Parses a cookie's path: it begins with `/` and can be the beginning of a URL's path. Browsers ignore
/// attributes above 1024 bytes.
pub(super) fn path(value: &Value) -> Parsed<String> {
    let expected = "a path that begins with `/`, of at most 1024 printable ASCII characters, \
                    without blanks, `;`, `?` and `#`";
    let legal = |b: u8| b.is_ascii_graphic() && !b";?#".contains(&b);
    checked(value, expected, |path| {
        path.starts_with('/') && path.len() <= 1024 && path.bytes().all(legal)
    })
}

/// Parses a cookie's domain and returns it in lower case. A leading dot is removed, as browsers do. A
/// single label is refused: it is a public suffix, which browsers refuse, or the host itself, which
/// needs no domain. `localhost` is accepted for development.
pub(super) fn domain(value: &Value) -> Parsed<String> {
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

/// Parses an origin that may send unsafe requests from another site.
pub(super) fn trusted_origin(value: &Value) -> Parsed<Origin> {
    let expected = "an origin such as `https://app.example.com` or `http://localhost:3000` \
                    (no path, no wildcard)";
    Origin::parse(&string(value, expected)?).ok_or_else(|| invalid(value, expected))
}

/// Parses the name of the header in which proxies name the client. `Forwarded` (RFC 7239) has a grammar
/// of its own, which is not supported.
pub(super) fn client_ip_header(value: &Value) -> Parsed<String> {
    let expected = "the name of a header such as `X-Forwarded-For` or `X-Real-IP` (`Forwarded` is not \
                    supported)";
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    checked(value, expected, |name| {
        let is_name = (1..=64).contains(&name.len()) && name.bytes().all(legal);
        is_name && !name.eq_ignore_ascii_case("Forwarded")
    })
}

/// Parses the address or network (CIDR) of trusted proxies. Connections are compared in their IPv4 form
/// where they have one.
pub(super) fn trusted_proxy(value: &Value) -> Parsed<IpNet> {
    let expected = "the address of a proxy or a network that is not everybody, such as `10.0.0.7` or \
                    `10.0.0.0/8`";
    let text = string(value, expected)?;
    let network = text.parse::<IpNet>().ok();
    let network = network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let is_mapped = |network: &IpNet| network.network().to_canonical() != network.network();
    match network {
        Some(network) if network.prefix_len() > 0 && !is_mapped(&network) => Ok(network.trunc()),
        _ => Err(invalid(value, expected)),
    }
}

/// Returns a value as a number. It may be written as text.
fn number(value: &Value) -> Option<f64> {
    match value.to_actual() {
        Actual::Unsigned(number) => Some(number as f64),
        Actual::Signed(number) => Some(number as f64),
        Actual::Float(number) => Some(number),
        _ => text(value)?.trim().parse().ok(),
    }
}

/// Returns a value as text. A single quoted character in an environment variable is a `char`.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Char(_, c) => Some(c.to_string()),
        _ => None,
    }
}

/// Parses text that meets a condition.
fn checked(value: &Value, expected: &str, is_legal: impl FnOnce(&str) -> bool) -> Parsed<String> {
    let text = string(value, expected)?;
    match is_legal(&text) {
        true => Ok(text),
        false => Err(invalid(value, expected)),
    }
}

/// Parses one of several words, in upper or lower case.
fn one_of<T: Copy>(value: &Value, expected: &str, choices: &[(&str, T)]) -> Parsed<T> {
    let text = string(value, expected)?;
    let choice = choices
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(&text));
    choice
        .map(|(_, choice)| *choice)
        .ok_or_else(|| invalid(value, expected))
}

/// Returns a value as text, or an error that names what was expected.
fn string(value: &Value, expected: &str) -> Parsed<String> {
    text(value).ok_or_else(|| ill_typed(value, expected))
}
