//! I13 and I14, and other invariants of a single response.

use super::{Event, Work, secret_of};
use crate::apps::arena::ArenaResponse;
use crate::support::Response;

/// What every cookie of ours says beside its value.
const ATTRIBUTES: [&str; 3] = ["HttpOnly", "Path=/", "SameSite=Lax"];

/// What a cookie that removes the browser's says as well. (When it "expires" is any time that is
/// past.)
const REMOVAL: [&str; 4] = ["HttpOnly", "Max-Age=0", "Path=/", "SameSite=Lax"];

/// The characters of a secret, of its digest, and of the CSRF secret: 32 bytes in base64url.
pub(super) const SECRET: usize = 43;

impl Event {
    /// Records the response; the caller records its steps. `unavailable`
    /// is the only allowed body of a failed response.
    pub fn answered(&mut self, response: &ArenaResponse, unavailable: &str) {
        let response = &response.0;
        let cookies = response.set_cookies();
        let first = cookies.first().map(|line| Cookie::parse(line));
        self.given = first.as_ref().and_then(Cookie::token).map(str::to_owned);
        self.words = words(response);
        let mut complain = |what: String| self.complaints.push(what);

        match response.status {
            200 => {}
            503 if response.text() == unavailable => {}
            503 => complain(format!("I10: a 503 that says: {}", response.text())),
            other => complain(format!("I10: a status that nothing explains: {other}")),
        }
        if response.status >= 500 && !cookies.is_empty() {
            complain(format!("I14: a {} with a cookie", response.status));
        }
        if cookies.len() > 1 {
            complain(format!("I13: {} cookies", cookies.len()));
        }
        if let Some(cookie) = &first {
            if !cookie.is_well_formed() {
                complain(format!("I13: a cookie that should not be: {cookie:?}"));
            }
            if cookie.value.is_empty() && self.work != Work::Logout {
                complain("I13: a cookie was removed without a logout".to_owned());
            }
        }
        let vary = response.headers_named("Vary").join(",");
        let mut names = vary.split(',').map(str::trim);
        if !names.any(|name| name.eq_ignore_ascii_case("cookie")) {
            complain("I13: no Vary: Cookie".to_owned());
        }
        let cache = response.headers_named("Cache-Control").join(", ");
        let is_kept_from_caches = match (response.status, cookies.is_empty()) {
            (200, true) => cache == "private, no-cache",
            (200, false) => cache == "no-store",
            // The guard failed, or the commit did.
            _ => cache == "private, no-cache" || cache == "no-store",
        };
        if !is_kept_from_caches {
            complain(format!("I13: Cache-Control: {cache}"));
        }
    }
}

/// One `Set-Cookie` line.
#[derive(Debug)]
struct Cookie<'a> {
    name: &'a str,
    value: &'a str,
    attributes: Vec<&'a str>,
}

impl<'a> Cookie<'a> {
    fn parse(line: &'a str) -> Cookie<'a> {
        let mut parts = line.split(';').map(str::trim);
        let pair = parts.next().unwrap_or_default();
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let mut attributes: Vec<&str> = parts.collect();
        attributes.sort_unstable();
        Cookie {
            name,
            value,
            attributes,
        }
    }

    /// The token that it gives.
    fn token(&self) -> Option<&'a str> {
        (self.name == "session" && !self.value.is_empty()).then_some(self.value)
    }

    fn is_well_formed(&self) -> bool {
        let is_past = |attribute: &&&str| !attribute.starts_with("Expires=");
        let says: Vec<&str> = self.attributes.iter().filter(is_past).copied().collect();
        match self.token() {
            Some(token) => is_token(token) && self.attributes == ATTRIBUTES,
            None => self.name == "session" && says == REMOVAL,
        }
    }
}

/// An id of 16 bytes and a secret of 32, in base64url.
fn is_token(value: &str) -> bool {
    let (secret, length) = (secret_of(value), value.len());
    length == 22 + 1 + SECRET
        && secret.len() == SECRET
        && value.replace('.', "").bytes().all(is_url)
}

fn is_url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// Returns the words of a response outside of its cookie that are long enough for a secret.
fn words(response: &Response) -> Vec<String> {
    let headers = response.headers.iter();
    let others = headers.filter(|(name, _)| !name.eq_ignore_ascii_case("Set-Cookie"));
    let texts = others
        .map(|(_, value)| value.clone())
        .chain([response.text()]);
    let is_long = |word: &&str| word.len() >= SECRET;
    texts
        .flat_map(|text| {
            let words = text.split(|c: char| !u8::try_from(c).is_ok_and(is_url));
            words.filter(is_long).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}
