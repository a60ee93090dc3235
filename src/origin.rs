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

/// What decides whether a request may come from anywhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestTraits {
    /// The method, as routed, is GET, HEAD, OPTIONS or TRACE.
    pub method_is_safe: bool,
    /// The content type is a form's. With a safe method that is a POST which Rocket rewrote because
    /// of a `_method` field, so the method says nothing.
    pub is_form: bool,
    /// It asks for another protocol: a websocket is opened by GET, from any site, with our cookie.
    pub upgrades: bool,
}

impl RequestTraits {
    /// Whether nothing is to come of the request but an answer, which other sites cannot read.
    pub(crate) fn is_exempt(self) -> bool {
        self.method_is_safe && !self.is_form && !self.upgrades
    }
}

/// What of a request tells where it comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OriginHeaders<'a> {
    /// The session cookie is `Secure`.
    pub secure_cookie: bool,
    /// Every `Sec-Fetch-Site` header.
    pub sec_fetch_site: &'a [&'a str],
    /// Every `Origin` header.
    pub origin: &'a [&'a str],
    /// The `Host` header, or what HTTP/2 has in its place; none when there is none, or more than
    /// one.
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

/// Judges a request that is not harmless: `Ok` for the site's own pages, trusted origins, and clients
/// that are no browsers.
pub(crate) fn judge(claims: &OriginHeaders<'_>, trusted: &[Origin]) -> Result<(), CrossSite> {
    let origin = match claims.origin {
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
    match claims.sec_fetch_site {
        // The browser's own word, given without regard to `Origin`: that is `null` even on the
        // site's own requests when its pages send no referrer.
        ["same-origin" | "none"] => Ok(()),
        ["same-site" | "cross-site"] => Err(CrossSite::OtherSite),
        [] => match origin? {
            None => Ok(()),
            Some(origin) => judge_origin(&origin, claims),
        },
        _ => Err(CrossSite::OddFetchSite),
    }
}

/// Judges the `Origin` of a browser that sends no `Sec-Fetch-Site`.
fn judge_origin(origin: &Origin, claims: &OriginHeaders<'_>) -> Result<(), CrossSite> {
    if !claims.host.is_some_and(|host| origin.is_at(host)) {
        return Err(CrossSite::OtherOrigin);
    }
    // `http://h` is not `https://h`: who sits on the network can serve the former. The request's
    // scheme cannot be known without believing forwarded headers, but a `Secure` cookie settles it:
    // browsers keep and send it over https alone, so a site that has sessions has no page on http.
    // Loopback is the exception that browsers make themselves.
    if claims.secure_cookie && origin.is_plain_http() {
        return Err(CrossSite::PlainHttp);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
