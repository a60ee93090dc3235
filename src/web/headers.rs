//! The request headers that a load looks at, read in one pass: each look-up of a name hashes it, which
//! costs more than all comparisons here.

use std::borrow::Cow;

use rocket::http::HeaderMap;

/// Every line of each header, in the order of the request.
#[derive(Default)]
pub(super) struct RequestHeaders<'r> {
    pub(super) authorization: Vec<&'r str>,
    pub(super) cookie: Vec<&'r str>,
    pub(super) host: Vec<&'r str>,
    pub(super) origin: Vec<&'r str>,
    pub(super) sec_fetch_dest: Vec<&'r str>,
    pub(super) sec_fetch_site: Vec<&'r str>,
    pub(super) user_agent: Option<&'r str>,
    pub(super) has_content_type: bool,
    /// The request asks for another protocol.
    pub(super) upgrades: bool,
    /// The browser fetches a page that the user may never open
    /// (<https://wicg.github.io/nav-speculation/prefetch.html#sec-purpose-header>). `Purpose` is the
    /// older name.
    pub(super) is_prefetch: bool,
}

impl<'r> RequestHeaders<'r> {
    pub(super) fn read(map: &'r HeaderMap<'_>) -> Self {
        let mut headers = RequestHeaders::default();
        for header in map.iter() {
            let name = header.name().as_str();
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            let lines = match name.len() {
                4 if is("Host") => &mut headers.host,
                6 if is("Cookie") => &mut headers.cookie,
                6 if is("Origin") => &mut headers.origin,
                13 if is("Authorization") => &mut headers.authorization,
                14 if is("Sec-Fetch-Dest") => &mut headers.sec_fetch_dest,
                14 if is("Sec-Fetch-Site") => &mut headers.sec_fetch_site,
                7 if is("Upgrade") => {
                    headers.upgrades = true;
                    continue;
                }
                7 | 11 if is("Purpose") || is("Sec-Purpose") => {
                    headers.is_prefetch |= header.value().to_ascii_lowercase().contains("prefetch");
                    continue;
                }
                12 if is("Content-Type") => {
                    headers.has_content_type = true;
                    continue;
                }
                10 if is("User-Agent") => {
                    headers.user_agent = headers.user_agent.or(borrowed(header.value));
                    continue;
                }
                _ => continue,
            };
            lines.extend(borrowed(header.value));
        }
        headers
    }
}

/// Rocket's iterator borrows every value from its map.
fn borrowed(value: Cow<'_, str>) -> Option<&str> {
    match value {
        Cow::Borrowed(value) => Some(value),
        Cow::Owned(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn every_line_is_read_whatever_its_name_is_spelled_like() {
        let mut map = HeaderMap::new();
        for (name, value) in [
            ("HOST", "a.example"),
            ("cookie", "a=1"),
            ("Cookie", "b=2"),
            ("Origin", "null"),
            ("sec-fetch-site", "same-origin"),
            ("Sec-Fetch-Dest", "document"),
            ("authorization", "Bearer x"),
            ("user-agent", "first"),
            ("User-Agent", "second"),
            ("upgrade", "websocket"),
            ("content-type", "text/plain"),
            ("Cookies", "other"),
        ] {
            map.add_raw(name, value);
        }
        let headers = RequestHeaders::read(&map);
        assert_eq!(headers.host, ["a.example"]);
        assert_eq!(headers.cookie, ["a=1", "b=2"]);
        assert_eq!(headers.origin, ["null"]);
        assert_eq!(headers.sec_fetch_site, ["same-origin"]);
        assert_eq!(headers.sec_fetch_dest, ["document"]);
        assert_eq!(headers.authorization, ["Bearer x"]);
        assert_eq!(headers.user_agent, Some("first"));
        assert!(headers.upgrades && headers.has_content_type && !headers.is_prefetch);
    }

    #[rstest]
    #[case("sec-purpose", "Prefetch;prerender", true)]
    #[case("Purpose", "prefetch", true)]
    #[case("Purpose", "preview", false)]
    #[case("X-Purpose", "prefetch", false)]
    fn both_names_tell_a_prefetch(
        #[case] name: &str,
        #[case] value: &str,
        #[case] is_prefetch: bool,
    ) {
        let mut map = HeaderMap::new();
        map.add_raw(name, value);
        assert_eq!(RequestHeaders::read(&map).is_prefetch, is_prefetch);
    }
}
