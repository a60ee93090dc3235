//! Whether a request comes from the site's own pages: pure, knows no Rocket request.
//!
//! Browsers say where a request comes from: newer ones in `Sec-Fetch-Site` (to https sites), all of
//! them in `Origin` (on every unsafe request to another site, and mostly on those to the own one).
//! Neither can be set by a page. What sends neither is no browser, carries no cookie that a third
//! party could ride on, and passes.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The longest `host:port` that is looked at: 253 bytes of a domain name, its final dot, a port.
const MAX_AUTHORITY: usize = 260;

/// An origin as browsers compare them: scheme, host and port, with nothing left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    scheme: Scheme,
    /// In lower case; IPv6 in brackets.
    host: String,
    /// The scheme's own where none was written.
    port: u16,
}

/// The schemes that serve pages. Other origins (`chrome-extension://…`) are nobody's site.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl Origin {
    /// Reads `scheme://host[:port]` and nothing more: no userinfo, no path, not even a final slash.
    /// International names are accepted in their ASCII form (`xn--…`), the form browsers send.
    pub(crate) fn parse(text: &str) -> Option<Origin> {
        let (scheme, authority) = if let Some(rest) = text.strip_prefix("https://") {
            (Scheme::Https, rest)
        } else {
            (Scheme::Http, text.strip_prefix("http://")?)
        };
        let (host, port) = parse_authority(authority)?;
        let port = port.unwrap_or(scheme.default_port());
        Some(Origin { scheme, host, port })
    }

    /// True for http to something else than this machine: what is said there, anyone on the way
    /// can have said.
    pub(crate) fn is_plain_http(&self) -> bool {
        self.scheme == Scheme::Http && !self.is_loopback()
    }

    /// Whether the `Host` header names this origin. Behind a proxy that ends TLS the request's own
    /// scheme is unknown (forwarded headers are anybody's to write), so a port left out of `Host`
    /// is read as the default of the *origin's* scheme.
    fn is_at(&self, host_header: &str) -> bool {
        parse_authority(host_header).is_some_and(|(host, port)| {
            host == self.host && port.unwrap_or(self.scheme.default_port()) == self.port
        })
    }

    fn is_loopback(&self) -> bool {
        let host = self.host.as_str();
        host == "localhost"
            || host.ends_with(".localhost")
            || host == "[::1]"
            || host.parse().is_ok_and(|ip: Ipv4Addr| ip.is_loopback())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port != self.scheme.default_port() {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

/// Reads `host[:port]`: the host in lower case, the port if one is written.
fn parse_authority(text: &str) -> Option<(String, Option<u16>)> {
    if text.len() > MAX_AUTHORITY {
        return None;
    }
    let (host, rest) = if let Some(inner) = text.strip_prefix('[') {
        let (ip, rest) = inner.split_once(']')?;
        // Parsed and written again, since one address can be spelt in many ways.
        (format!("[{}]", ip.parse::<Ipv6Addr>().ok()?), rest)
    } else {
        let end = text.find(':').unwrap_or(text.len());
        let (host, rest) = text.split_at(end);
        // A name with a final dot is a host of its own to browsers: it is kept, and differs.
        let domain = host.strip_suffix('.').unwrap_or(host);
        if host.parse::<Ipv4Addr>().is_err() && !is_domain(domain) {
            return None;
        }
        (host.to_ascii_lowercase(), rest)
    };
    match rest.strip_prefix(':') {
        Some(port) => Some((host, Some(parse_port(port)?))),
        None if rest.is_empty() => Some((host, None)),
        None => None,
    }
}

/// Reads a port as browsers write it: digits alone, no leading zero (`parse` would take `+443`).
fn parse_port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if plain { text.parse().ok() } else { None }
}

/// Whether this is a domain name: dot-separated labels of ASCII letters, digits, `-` and `_`, of
/// legal length, not ending in a number (browsers read those as an IPv4 address).
pub(crate) fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253 && text.split('.').all(label) && !last.bytes().all(|b| b.is_ascii_digit())
}

/// What of a request tells where it comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival<'a> {
    /// The method, as routed, is GET, HEAD, OPTIONS or TRACE.
    pub method_is_safe: bool,
    /// The content type is a form's. With a safe method that is a POST which Rocket rewrote because
    /// of a `_method` field, so the method says nothing.
    pub form_content_type: bool,
    /// The session cookie is `Secure`.
    pub secure_cookie: bool,
    /// Every `Sec-Fetch-Site` header.
    pub sec_fetch_site: &'a [&'a str],
    /// Every `Origin` header.
    pub origin: &'a [&'a str],
    /// The `Host` header; none when there is none, or more than one.
    pub host: Option<&'a str>,
}

/// Why a request was refused. What it displays is for the log: bounded, without a byte of the
/// client's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CrossSite {
    /// `Sec-Fetch-Site` is `same-site` or `cross-site`.
    OtherSite,
    /// `Sec-Fetch-Site` is repeated, or a value that no browser sends today.
    OddFetchSite,
    /// `Origin` is another host or port.
    OtherOrigin,
    /// `Origin` is the own host over http, with a cookie that exists over https only.
    PlainHttp,
    /// `Origin: null`.
    NullOrigin,
    /// `Origin` is not an http or https origin.
    OddOrigin,
    /// More than one `Origin`.
    ManyOrigins,
}

impl fmt::Display for CrossSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherSite => {
                "the browser says that another site sent it (if that site may, add its origin to \
                 `trusted_origins`)"
            }
            Self::OddFetchSite => "its `Sec-Fetch-Site` header is none that a browser sends",
            Self::OtherOrigin => {
                "its `Origin` is not this host (if that site may, or a proxy rewrites `Host`, add \
                 the origin to `trusted_origins`)"
            }
            Self::PlainHttp => {
                "it comes from a page of this host over plain http, which is not a page of a site \
                 whose session cookie is `Secure` (serve the site over https only)"
            }
            Self::NullOrigin => {
                "its `Origin` is `null`: a sandboxed frame, a local file or a page that sends no \
                 referrer (use `Referrer-Policy: same-origin` instead of `no-referrer`)"
            }
            Self::OddOrigin => "its `Origin` header is not an http or https origin",
            Self::ManyOrigins => "it has more than one `Origin` header",
        })
    }
}

/// Judges a request: `Ok` for the site's own pages, trusted origins, clients that are no browsers,
/// and everything that changes nothing.
pub(crate) fn judge(arrival: &Arrival<'_>, trusted: &[Origin]) -> Result<(), CrossSite> {
    if arrival.method_is_safe && !arrival.form_content_type {
        return Ok(());
    }
    let origin = match arrival.origin {
        [] => Ok(None),
        ["null"] => Err(CrossSite::NullOrigin),
        [one] => Origin::parse(one).map(Some).ok_or(CrossSite::OddOrigin),
        // No browser does this, whatever else it says.
        _ => return Err(CrossSite::ManyOrigins),
    };
    if let Ok(Some(origin)) = &origin
        && trusted.contains(origin)
    {
        return Ok(());
    }
    match arrival.sec_fetch_site {
        // The browser's own word, given without regard to `Origin`: that is `null` even on the
        // site's own requests when its pages send no referrer.
        ["same-origin" | "none"] => Ok(()),
        ["same-site" | "cross-site"] => Err(CrossSite::OtherSite),
        [] => match origin? {
            None => Ok(()),
            Some(origin) => judge_origin(&origin, arrival),
        },
        _ => Err(CrossSite::OddFetchSite),
    }
}

/// Judges the `Origin` of a browser that sends no `Sec-Fetch-Site`.
fn judge_origin(origin: &Origin, arrival: &Arrival<'_>) -> Result<(), CrossSite> {
    if !arrival.host.is_some_and(|host| origin.is_at(host)) {
        return Err(CrossSite::OtherOrigin);
    }
    // `http://h` is not `https://h`: who sits on the network can serve the former. The request's
    // scheme cannot be known without believing forwarded headers, but a `Secure` cookie settles it:
    // browsers keep and send it over https alone, so a site that has sessions has no page on http.
    // Loopback is the exception that browsers make themselves.
    if arrival.secure_cookie && origin.is_plain_http() {
        return Err(CrossSite::PlainHttp);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: &str = "https://app.example.com";

    /// An unsafe request to `https://app.example.com`, as a Rocket behind a TLS proxy sees it.
    fn judged(fetch: &[&str], origin: &[&str]) -> Result<(), CrossSite> {
        judge(&post(fetch, origin), &[])
    }

    fn post<'a>(sec_fetch_site: &'a [&'a str], origin: &'a [&'a str]) -> Arrival<'a> {
        Arrival {
            method_is_safe: false,
            form_content_type: false,
            secure_cookie: true,
            sec_fetch_site,
            origin,
            host: Some("app.example.com"),
        }
    }

    fn origin(text: &str) -> Origin {
        Origin::parse(text).expect(text)
    }

    #[test]
    fn the_matrix_holds_row_by_row() {
        let (sibling, other) = ("https://www.example.com", "https://evil.test");
        assert_eq!(judged(&["same-origin"], &[OWN]), Ok(()));
        assert_eq!(judged(&["none"], &[]), Ok(()));
        assert_eq!(
            judged(&["same-site"], &[sibling]),
            Err(CrossSite::OtherSite)
        );
        for any in [OWN, sibling, other, "null", "%"] {
            assert_eq!(
                judged(&["cross-site"], &[any]),
                Err(CrossSite::OtherSite),
                "{any}"
            );
            assert_eq!(
                judged(&["garbage"], &[any]),
                Err(CrossSite::OddFetchSite),
                "{any}"
            );
        }
        assert_eq!(judged(&["cross-site"], &[]), Err(CrossSite::OtherSite));
        assert_eq!(judged(&[], &[OWN]), Ok(()));
        assert_eq!(judged(&[], &[other]), Err(CrossSite::OtherOrigin));
        assert_eq!(judged(&[], &["null"]), Err(CrossSite::NullOrigin));
        assert_eq!(judged(&[], &[]), Ok(()));
        for fetch in [&[][..], &["same-origin"], &["none"], &["cross-site"]] {
            assert_eq!(
                judged(fetch, &[OWN, OWN]),
                Err(CrossSite::ManyOrigins),
                "{fetch:?}"
            );
        }
        let origins = [other, "null"];
        let safe = Arrival {
            method_is_safe: true,
            ..post(&["cross-site"], &origins)
        };
        assert_eq!(judge(&safe, &[]), Ok(()));
    }

    #[test]
    fn a_safe_method_with_a_form_is_judged_as_a_post() {
        let rewritten = Arrival {
            method_is_safe: true,
            form_content_type: true,
            ..post(&["cross-site"], &[])
        };
        assert_eq!(judge(&rewritten, &[]), Err(CrossSite::OtherSite));
        let own = Arrival {
            sec_fetch_site: &["same-origin"],
            ..rewritten
        };
        assert_eq!(judge(&own, &[]), Ok(()));
    }

    #[test]
    fn only_exactly_one_known_fetch_site_passes() {
        for odd in [
            "",
            " ",
            "Same-Origin",
            "SAME-ORIGIN",
            "same-origin ",
            "same-origin, none",
            "cross_site",
            "\0",
        ] {
            assert_eq!(
                judged(&[odd], &[OWN]),
                Err(CrossSite::OddFetchSite),
                "{odd:?}"
            );
        }
        assert_eq!(
            judged(&["same-origin", "same-origin"], &[OWN]),
            Err(CrossSite::OddFetchSite)
        );
        assert_eq!(
            judged(&["none", "cross-site"], &[OWN]),
            Err(CrossSite::OddFetchSite)
        );
    }

    #[test]
    fn the_sites_own_form_passes_though_its_pages_send_no_referrer() {
        assert_eq!(judged(&["same-origin"], &["null"]), Ok(()));
    }

    #[test]
    fn a_trusted_origin_passes_whatever_the_fetch_site() {
        let trusted = [
            origin("https://www.example.com"),
            origin("http://localhost:3000"),
        ];
        for fetch in [&[][..], &["same-site"], &["cross-site"], &["garbage"]] {
            assert_eq!(
                judge(&post(fetch, &["https://www.example.com"]), &trusted),
                Ok(())
            );
            assert_eq!(
                judge(&post(fetch, &["https://www.example.com:443"]), &trusted),
                Ok(())
            );
            assert_eq!(
                judge(&post(fetch, &["http://localhost:3000"]), &trusted),
                Ok(())
            );
            for other in [
                "http://www.example.com",
                "https://www.example.com:444",
                "http://localhost",
                "null",
            ] {
                assert!(judge(&post(fetch, &[other]), &trusted).is_err(), "{other}");
            }
            let twice = ["https://www.example.com", "https://www.example.com"];
            assert_eq!(
                judge(&post(fetch, &twice), &trusted),
                Err(CrossSite::ManyOrigins)
            );
        }
    }

    #[test]
    fn hostile_origins_are_refused() {
        for (hostile, reason) in [
            ("", CrossSite::OddOrigin),
            (" ", CrossSite::OddOrigin),
            ("https://", CrossSite::OddOrigin),
            ("https:app.example.com", CrossSite::OddOrigin),
            ("//app.example.com", CrossSite::OddOrigin),
            ("app.example.com", CrossSite::OddOrigin),
            ("HTTPS://app.example.com", CrossSite::OddOrigin),
            ("chrome-extension://app.example.com", CrossSite::OddOrigin),
            ("https://user@app.example.com", CrossSite::OddOrigin),
            (
                "https://app.example.com:443@evil.test",
                CrossSite::OddOrigin,
            ),
            ("https://app.example.com/", CrossSite::OddOrigin),
            ("https://app.example.com/path", CrossSite::OddOrigin),
            ("https://app.example.com?q", CrossSite::OddOrigin),
            ("https://app.example.com#f", CrossSite::OddOrigin),
            ("https://app.example.com\\evil.test", CrossSite::OddOrigin),
            (
                "https://app.example.com https://evil.test",
                CrossSite::OddOrigin,
            ),
            (
                "https://app.example.com, https://evil.test",
                CrossSite::OddOrigin,
            ),
            ("https://app.example.com\0", CrossSite::OddOrigin),
            ("https://app.example.com\t", CrossSite::OddOrigin),
            ("https://app..example.com", CrossSite::OddOrigin),
            ("https://app.example.com..", CrossSite::OddOrigin),
            ("https://.app.example.com", CrossSite::OddOrigin),
            ("https://app.ex%61mple.com", CrossSite::OddOrigin),
            ("https://аpp.example.com", CrossSite::OddOrigin),
            ("https://app.example.com:", CrossSite::OddOrigin),
            ("https://app.example.com:+443", CrossSite::OddOrigin),
            ("https://app.example.com:0443", CrossSite::OddOrigin),
            ("https://app.example.com:0", CrossSite::OddOrigin),
            ("https://app.example.com:65979", CrossSite::OddOrigin),
            ("https://app.example.com:443:443", CrossSite::OddOrigin),
            ("https://app.example.com:444", CrossSite::OtherOrigin),
            ("https://app.example.com:80", CrossSite::OtherOrigin),
            ("https://app.example.com.", CrossSite::OtherOrigin),
            ("https://app.example.com.evil.test", CrossSite::OtherOrigin),
            ("https://evilapp.example.com", CrossSite::OtherOrigin),
            ("https://example.com", CrossSite::OtherOrigin),
            ("https://app.example.co", CrossSite::OtherOrigin),
            ("https://app", CrossSite::OtherOrigin),
            ("https://xn--pp-8cd.example.com", CrossSite::OtherOrigin),
            ("http://app.example.com:443", CrossSite::OtherOrigin),
            ("http://app.example.com", CrossSite::PlainHttp),
            ("http://app.example.com:80", CrossSite::PlainHttp),
        ] {
            assert_eq!(judged(&[], &[hostile]), Err(reason), "{hostile:?}");
        }
    }

    #[test]
    fn an_origin_is_the_own_host_in_every_way_of_writing_it() {
        let passes = |origin: &str, host: &str, secure_cookie: bool| {
            let (fetch, origin) = ([], [origin]);
            judge(
                &Arrival {
                    host: Some(host),
                    secure_cookie,
                    ..post(&fetch, &origin)
                },
                &[],
            )
            .is_ok()
        };
        assert!(passes("https://a.example", "a.example", true));
        assert!(passes("https://a.example", "a.example:443", true));
        assert!(passes("https://a.example:443", "a.example", true));
        assert!(passes("https://A.Example", "a.eXAMPLE", true));
        assert!(passes("https://a.example.", "a.example.", true));
        assert!(passes("https://a.example:8443", "a.example:8443", true));
        assert!(passes("https://[::1]:8000", "[0:0:0:0:0:0:0:1]:8000", true));
        assert!(!passes("https://a.example:8443", "a.example", true));
        assert!(!passes("https://a.example", "a.example:8443", true));
        assert!(!passes("https://[::1]", "[::2]", true));
        assert!(!passes("https://a.example", "", true));
        assert!(!passes("https://a.example", "a.example/", true));

        // Over http, where no cookie is `Secure`, or on this machine.
        assert!(passes("http://a.example", "a.example", false));
        assert!(passes("http://a.example", "a.example:80", false));
        assert!(passes("http://a.example:8000", "a.example:8000", false));
        assert!(!passes("http://a.example", "a.example:443", false));
        assert!(!passes("http://a.example", "a.example", true));
        for local in [
            "localhost:8000",
            "x.localhost:8000",
            "127.0.0.1:8000",
            "127.1.2.3:8000",
            "[::1]:8000",
        ] {
            assert!(passes(&format!("http://{local}"), local, true), "{local}");
        }
        for remote in ["localhost.example", "notlocalhost", "10.0.0.1", "[::2]"] {
            assert!(
                !passes(&format!("http://{remote}"), remote, true),
                "{remote}"
            );
        }
    }

    #[test]
    fn no_origin_is_our_own_without_a_host() {
        let (fetch, origin) = ([], [OWN]);
        let hostless = Arrival {
            host: None,
            ..post(&fetch, &origin)
        };
        assert_eq!(judge(&hostless, &[]), Err(CrossSite::OtherOrigin));
    }

    #[test]
    fn an_origin_displays_as_browsers_send_it() {
        for (written, sent) in [
            ("https://A.example:443", "https://a.example"),
            ("http://a.example:80", "http://a.example"),
            ("http://a.example:443", "http://a.example:443"),
            ("https://[0::1]:8443", "https://[::1]:8443"),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
        ] {
            assert_eq!(origin(written).to_string(), sent);
            assert_eq!(origin(sent), origin(written));
        }
        for number in [
            "http://1",
            "http://127.1",
            "http://1.2.3.4.5",
            "http://256.1.1.1",
            "http://01.2.3.4",
        ] {
            assert_eq!(Origin::parse(number), None, "{number}");
        }
    }

    #[test]
    fn an_overlong_host_is_no_origin() {
        assert_eq!(
            Origin::parse(&format!("https://{}", "a.".repeat(200_000))),
            None
        );
        assert_eq!(
            Origin::parse(&format!("https://{}.com", "a".repeat(64))),
            None
        );
        assert!(Origin::parse(&format!("https://{}.com", "a".repeat(63))).is_some());
    }

    fn host() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z0-9_-]{1,8}(\\.[a-z][a-z0-9-]{0,5}){0,3}",
            "[0-9]{1,3}(\\.[0-9]{1,3}){3}",
            "\\[[0-9a-f]{0,4}::[0-9a-f]{1,4}\\]",
        ]
    }

    fn headers(texts: &[String]) -> Vec<&str> {
        texts.iter().map(String::as_str).collect()
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_judged(
            fetch in proptest::collection::vec(any::<String>(), 0..3),
            origin in proptest::collection::vec(any::<String>(), 0..3),
            authority in "\\PC*|[\\[\\]:.a-f0-9]*",
            host in proptest::option::of(any::<String>()),
            flags in any::<[bool; 3]>(),
        ) {
            let [method_is_safe, form_content_type, secure_cookie] = flags;
            let written = format!("https://{authority}");
            let (fetch, mut origin) = (headers(&fetch), headers(&origin));
            for _ in 0..2 {
                let arrival = Arrival {
                    method_is_safe,
                    form_content_type,
                    secure_cookie,
                    sec_fetch_site: &fetch,
                    origin: &origin,
                    host: host.as_deref().or(Some(&authority)),
                };
                let _ = judge(&arrival, &[]);
                origin = vec![&written];
            }
        }

        #[test]
        fn what_parses_reads_back_the_same(
            text in "https?://(\\PC{0,20}|[a-zA-Z.\\[\\]:0-9]{0,20})",
        ) {
            if let Some(parsed) = Origin::parse(&text) {
                prop_assert_eq!(Origin::parse(&parsed.to_string()), Some(parsed));
            }
        }

        #[test]
        fn a_foreign_host_never_passes(
            own in host(),
            other in host(),
            https in any::<bool>(),
            ports in any::<[Option<u16>; 2]>(),
            fetch in proptest::option::of("same-site|cross-site|[a-z-]{0,4}"),
            secure_cookie in any::<bool>(),
        ) {
            let written = |host: &str, port: Option<u16>| match port {
                Some(port) => format!("{host}:{port}"),
                None => host.to_owned(),
            };
            let scheme = if https { "https" } else { "http" };
            let at = written(&own, ports[0]);
            let fetch = fetch.filter(|fetch| fetch != "none").into_iter().collect::<Vec<_>>();
            let fetch = headers(&fetch);
            for foreign in [
                other,
                format!("{own}.evil"),
                format!("evil{own}"),
                format!("evil.{own}"),
                format!("{own}."),
                own[1..].to_owned(),
                own[..own.len() - 1].to_owned(),
                format!("{own}@evil.test"),
                format!("evil.test/{own}"),
                format!("evil.test#{own}"),
            ] {
                // Compared as read: an IPv6 address can be written in two ways.
                let read = parse_authority(&foreign);
                prop_assume!(read.is_none() || read != parse_authority(&own));
                let origin = format!("{scheme}://{}", written(&foreign, ports[1]));
                let origin = [origin.as_str()];
                let arrival = Arrival { host: Some(&at), secure_cookie, ..post(&fetch, &origin) };
                prop_assert!(judge(&arrival, &[]).is_err(), "{origin:?} passed at {at}");
            }
        }
    }
}
