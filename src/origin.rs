//! The same-origin check of unsafe requests. Pure: it takes header values, not a Rocket request.
//!
//! Browsers name the source of a request in `Sec-Fetch-Site` (newer ones, to https sites) and in
//! `Origin` (all of them, on every unsafe cross-origin request and on most same-origin ones). A page
//! cannot set either header. A request that has neither is not sent by a browser, so no third party
//! can use its cookie, and it passes. See "Fetch Metadata" and "Verifying Origin" in the OWASP CSRF
//! Prevention Cheat Sheet.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The longest `host:port` that is parsed: 253 bytes of a domain name, its final dot, a port.
const MAX_AUTHORITY_BYTES: usize = 260;

/// An origin as browsers compare it: scheme, host and port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    scheme: Scheme,
    /// In lower case; IPv6 in brackets.
    host: String,
    /// The scheme's default where none was written.
    port: u16,
}

/// The schemes that serve pages. Origins of other schemes (`chrome-extension://…`) do not parse.
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
    /// Parses `scheme://host[:port]`, without userinfo, path or final slash. International names are
    /// accepted in their ASCII form (`xn--…`), which is the form that browsers send.
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

    /// Returns whether the origin is http on another machine. Anybody on the network can serve a page
    /// of such an origin.
    pub(crate) fn is_plain_http(&self) -> bool {
        self.scheme == Scheme::Http && !self.is_loopback()
    }

    /// Returns whether the `Host` header names this origin. Behind a proxy that ends TLS the scheme of
    /// the request is unknown (every client can write forwarded headers), so a port that `Host` leaves
    /// out is the default port of the *origin's* scheme.
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

/// Parses `host[:port]`: the host in lower case, the port if one is written.
fn parse_authority(text: &str) -> Option<(String, Option<u16>)> {
    if text.len() > MAX_AUTHORITY_BYTES {
        return None;
    }
    let (host, rest) = if let Some(inner) = text.strip_prefix('[') {
        let (ip, rest) = inner.split_once(']')?;
        // Parsed and formatted again, because one address has many spellings.
        (format!("[{}]", ip.parse::<Ipv6Addr>().ok()?), rest)
    } else {
        let end = text.find(':').unwrap_or(text.len());
        let (host, rest) = text.split_at(end);
        // Browsers treat a name with a final dot as a different host, so the dot is kept.
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

/// Parses a port as browsers write it: digits without a leading zero (`parse` would accept `+443`).
fn parse_port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if plain { text.parse().ok() } else { None }
}

/// Returns whether the text is a domain name: dot-separated labels of ASCII letters, digits, `-` and
/// `_`, of legal length, whose last label is not a number (browsers read that as an IPv4 address).
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

/// Returns whether a request can only read a response, which other sites cannot see. Its origin is
/// not checked.
///
/// The method, as routed, is safe if it is GET, HEAD, OPTIONS or TRACE. A form with a safe method is a
/// POST that Rocket rewrote because of a `_method` field. An upgrade asks for another protocol: a page
/// of any site can open a websocket, by GET and with our cookie.
pub(crate) fn is_exempt(method_is_safe: bool, is_form: bool, upgrades: bool) -> bool {
    method_is_safe && !is_form && !upgrades
}

/// The headers of a request that name its source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OriginHeaders<'a> {
    /// The session cookie is `Secure`.
    pub secure_cookie: bool,
    /// Every `Sec-Fetch-Site` header.
    pub sec_fetch_site: &'a [&'a str],
    /// Every `Origin` header.
    pub origin: &'a [&'a str],
    /// The `Host` header, or HTTP/2's `:authority`; `None` when it is missing or repeated.
    pub host: Option<&'a str>,
}

/// Why a request was refused. Its text is for the log: it names the header, and the origin in the
/// form that was parsed, never bytes of the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum CrossOrigin {
    /// `Sec-Fetch-Site` is `same-site` or `cross-site`. With the `Origin`, when it parses.
    FetchSite(&'static str, Option<Origin>),
    /// `Sec-Fetch-Site` is repeated, or has a value that no browser sends today.
    UnknownFetchSite,
    /// `Origin` is another host or port.
    OtherHost(Origin),
    /// `Origin` is this host over http, with a cookie that exists over https only.
    PlainHttp(Origin),
    /// `Origin: null`.
    NullOrigin,
    /// `Origin` is not an http or https origin.
    MalformedOrigin,
    /// `Origin` is repeated.
    SeveralOrigins,
}

impl fmt::Display for CrossOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FetchSite(site, Some(origin)) => write!(
                f,
                "`Sec-Fetch-Site` is `{site}` and `Origin` is {origin} (add this origin to \
                 `session.trusted_origins` if it may send such requests)"
            ),
            Self::FetchSite(site, None) => write!(
                f,
                "`Sec-Fetch-Site` is `{site}`, and no `Origin` names the site that sent the request"
            ),
            Self::UnknownFetchSite => {
                f.write_str("`Sec-Fetch-Site` is repeated or has a value that no browser sends")
            }
            Self::OtherHost(origin) => write!(
                f,
                "`Origin` is {origin}, which is not the host of the request (add it to \
                 `session.trusted_origins` if it may send such requests, or if a proxy rewrites \
                 `Host`)"
            ),
            Self::PlainHttp(origin) => write!(
                f,
                "`Origin` is {origin}, a page over plain http, but the session cookie is `Secure` \
                 (serve the site over https only)"
            ),
            Self::NullOrigin => f.write_str(
                "`Origin` is `null`: a sandboxed frame, a local file or a page that sends no \
                 referrer (use `Referrer-Policy: same-origin` instead of `no-referrer`)",
            ),
            Self::MalformedOrigin => f.write_str("`Origin` is not an http or https origin"),
            Self::SeveralOrigins => f.write_str("the request has more than one `Origin` header"),
        }
    }
}

/// Checks the source of a request that is not exempt. Requests of the site's own pages, of trusted
/// origins and of clients that are not browsers pass.
pub(crate) fn check_origin(
    headers: &OriginHeaders<'_>,
    trusted: &[Origin],
) -> Result<(), CrossOrigin> {
    let origin = match headers.origin {
        [] => Ok(None),
        ["null"] => Err(CrossOrigin::NullOrigin),
        [one] => Origin::parse(one)
            .map(Some)
            .ok_or(CrossOrigin::MalformedOrigin),
        // No browser sends two, so neither is believed.
        _ => return Err(CrossOrigin::SeveralOrigins),
    };
    if let Ok(Some(origin)) = &origin
        && trusted.contains(origin)
    {
        return Ok(());
    }
    match headers.sec_fetch_site {
        // `Sec-Fetch-Site` wins over `Origin`, which is `null` even on the site's own requests when
        // its pages send no referrer.
        ["same-origin" | "none"] => Ok(()),
        ["same-site"] => Err(CrossOrigin::FetchSite("same-site", origin.ok().flatten())),
        ["cross-site"] => Err(CrossOrigin::FetchSite("cross-site", origin.ok().flatten())),
        [] => match origin? {
            None => Ok(()),
            Some(origin) => check_host(origin, headers),
        },
        _ => Err(CrossOrigin::UnknownFetchSite),
    }
}

/// Compares `Origin` with `Host`, for browsers that send no `Sec-Fetch-Site`.
fn check_host(origin: Origin, headers: &OriginHeaders<'_>) -> Result<(), CrossOrigin> {
    if !headers.host.is_some_and(|host| origin.is_at(host)) {
        return Err(CrossOrigin::OtherHost(origin));
    }
    // `http://h` is not `https://h`: anybody on the network can serve the former. The scheme of the
    // request cannot be known without believing forwarded headers, but a `Secure` cookie settles it:
    // browsers keep and send it over https only, so a site that has sessions has no page on http.
    // Loopback is the exception that browsers make themselves.
    if headers.secure_cookie && origin.is_plain_http() {
        return Err(CrossOrigin::PlainHttp(origin));
    }
    Ok(())
}

/// Returns whether the browser says that another site sent the request. Without `Sec-Fetch-Site`
/// that is every `Origin` other than this host, because another subdomain cannot be distinguished
/// from another site.
pub(crate) fn is_cross_site(headers: &OriginHeaders<'_>) -> bool {
    let is_own = |origin: &&str| {
        let origin = Origin::parse(origin);
        let at_host = |origin: Origin| headers.host.is_some_and(|host| origin.is_at(host));
        origin.is_some_and(at_host)
    };
    match headers.sec_fetch_site {
        [] => !headers.origin.iter().all(is_own),
        sites => sites.contains(&"cross-site"),
    }
}

#[cfg(test)]
mod tests;
