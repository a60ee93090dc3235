//! The session cookie: from the raw `Cookie` headers to tokens, and from a token to a `Set-Cookie`.
//! With `transport = "bearer"` the token is in the `Authorization` header instead.

use std::net::IpAddr;

use rocket::http::Cookie;
use rocket::{Request, Response};

use crate::config::{Config, Transport};
use crate::lock::Mutex;
use crate::record::token::Token;
use crate::state::plan::CookieLife;
use crate::web::headers::RequestHeaders;

/// How many different tokens of one request are looked up. A browser has more than one cookie of
/// our name only while `path`, `domain` or `partitioned` changes; a client can send thousands.
const MAX_TOKENS: usize = 4;

/// The cookies of our name that a request carries.
pub(super) enum SessionCookies {
    None,
    /// None of them has the form of a token. They are never looked up.
    Malformed,
    /// From one to [`MAX_TOKENS`] different tokens, in the order of the headers.
    Tokens(Vec<Token>),
    /// More different tokens than are looked up.
    TooMany,
}

impl SessionCookies {
    /// Reads the session cookies of a request, or its bearer token.
    pub(super) fn of(request: &Request<'_>, headers: &RequestHeaders<'_>, config: &Config) -> Self {
        if config.transport == Transport::Bearer {
            return Self::from_authorization(&headers.authorization, config);
        }
        if !headers.cookie.is_empty() {
            return Self::from_headers(&headers.cookie, config);
        }
        // Rocket's local client fills the jar without a header. Over the wire the jar is empty here.
        let cookie = request.cookies().get(&config.cookie_name);
        Self::from_values(cookie.iter().map(|cookie| cookie.value()), config)
    }

    /// Reads the raw headers byte by byte. Rocket's jar decodes and trims names, so that a cookie of
    /// another name could shadow ours, and keeps only the last of several.
    fn from_headers(headers: &[&str], config: &Config) -> Self {
        let values = headers.iter().flat_map(|header| {
            header.split(';').filter_map(|pair| {
                let (name, value) = pair.trim_matches([' ', '\t']).split_once('=')?;
                (name == config.cookie_name).then_some(value)
            })
        });
        Self::from_values(values, config)
    }

    /// Reads the token of `Authorization: Bearer` (RFC 6750, 2.1). The header is not repeatable, so
    /// none of several is believed; another scheme does not count.
    fn from_authorization(headers: &[&str], config: &Config) -> Self {
        match headers {
            [] => SessionCookies::None,
            [line] => match line.trim_start_matches(' ').split_once(' ') {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer") => {
                    Self::from_values(std::iter::once(token.trim_matches(' ')), config)
                }
                _ => SessionCookies::None,
            },
            _ => SessionCookies::TooMany,
        }
    }

    fn from_values<'a>(values: impl Iterator<Item = &'a str>, config: &Config) -> Self {
        let (mut tokens, mut is_present) = (Vec::<Token>::new(), false);
        for value in values {
            is_present = true;
            let Some(token) = Token::parse(value, config.legacy_ids) else {
                continue;
            };
            let is_same =
                |other: &Token| other.id == token.id && other.secret.matches(&token.secret);
            if tokens.iter().any(is_same) {
                continue;
            }
            if tokens.len() == MAX_TOKENS {
                return SessionCookies::TooMany;
            }
            tokens.push(token);
        }
        match (is_present, tokens.is_empty()) {
            (false, _) => SessionCookies::None,
            (true, true) => SessionCookies::Malformed,
            (true, false) => SessionCookies::Tokens(tokens),
        }
    }
}

/// Returns whether a browser would send a cookie with this path to this request path (RFC 6265,
/// 5.1.4).
pub(super) fn path_matches(cookie_path: &str, request_path: &str) -> bool {
    match request_path.strip_prefix(cookie_path) {
        Some(rest) => rest.is_empty() || cookie_path.ends_with('/') || rest.starts_with('/'),
        None => false,
    }
}

/// Returns the cookie that gives the browser a token.
pub(super) fn with_token(token: &Token, life: CookieLife, config: &Config) -> Cookie<'static> {
    let value = token.cookie_value();
    let mut cookie = with_attributes(value.as_str().to_owned(), config);
    if let Some(life) = life {
        // Whole seconds, rounded down: the browser must not keep the cookie longer than configured.
        let seconds = i64::try_from(life.as_secs()).unwrap_or(i64::MAX);
        cookie.set_max_age(rocket::time::Duration::seconds(seconds));
    }
    cookie
}

/// Returns the cookie that removes the browser's. Name, path, domain and flags must be the same, or
/// the browser keeps its cookie (RFC 6265bis, 5.7).
pub(super) fn removal(config: &Config) -> Cookie<'static> {
    let mut cookie = with_attributes(String::new(), config);
    cookie.make_removal();
    cookie
}

fn with_attributes(value: String, config: &Config) -> Cookie<'static> {
    let mut cookie = Cookie::build((config.cookie_name.clone(), value))
        .path(config.path.clone())
        .secure(config.secure)
        .http_only(config.http_only)
        .partitioned(config.partitioned)
        .build();
    cookie.set_same_site(config.same_site);
    if let Some(domain) = &config.domain {
        cookie.set_domain(domain.clone());
    }
    cookie
}

/// Warns of hosts that `domain` does not fit: browsers drop a cookie whose domain does not contain
/// the host that sends it (RFC 6265, 5.3).
#[derive(Default)]
pub(super) struct UnfitDomains(Mutex<Vec<String>>);

impl UnfitDomains {
    /// How many hosts are warned of. A client can name any number of them.
    const MAX_HOSTS: usize = 8;

    /// Warns when the response to this request sets a cookie that its browser will drop.
    pub(super) fn check(&self, request: &Request<'_>, config: &Config) {
        let Some(domain) = &config.domain else {
            return;
        };
        // Rocket has parsed it, so it holds nothing that does not belong into a log.
        let Some(host) = request.host() else {
            return;
        };
        let host = host.domain().as_str().to_ascii_lowercase();
        if !domain_matches(domain, &host) && self.is_news(&host) {
            rocket::warn!(
                "Session: browsers at the host {host:?} drop the cookie `{}`, because its \
                 `session.domain` is {domain}; remove `domain`, serve the site below it, or let the \
                 proxy pass `Host` on",
                config.cookie_name
            );
        }
    }

    fn is_news(&self, host: &str) -> bool {
        let mut hosts = self.0.lock();
        let is_news = hosts.len() < Self::MAX_HOSTS && !hosts.iter().any(|known| known == host);
        if is_news {
            hosts.push(host.to_owned());
        }
        is_news
    }
}

/// Returns whether a browser accepts a cookie with this domain from this host (RFC 6265, 5.1.3).
fn domain_matches(domain: &str, host: &str) -> bool {
    let is_below = |rest: &str| rest.ends_with('.') && host.parse::<IpAddr>().is_err();
    host == domain || host.strip_suffix(domain).is_some_and(is_below)
}

/// Removes the `Set-Cookie` headers that `keep` refuses. Returns whether there were any.
pub(super) fn retain(response: &mut Response<'_>, keep: impl Fn(&str) -> bool) -> bool {
    let (mut kept, mut is_any_removed) = (Vec::new(), false);
    // With a few headers, comparing all of them costs less than hashing one name.
    for header in response.headers().iter() {
        if header.name() != "Set-Cookie" {
            continue;
        }
        match keep(header.value()) {
            true => kept.push(header.value().to_owned()),
            false => is_any_removed = true,
        }
    }
    if is_any_removed {
        response.remove_header("Set-Cookie");
        for cookie in kept {
            response.adjoin_raw_header("Set-Cookie", cookie);
        }
    }
    is_any_removed
}

#[cfg(test)]
mod tests {
    use rocket::http::{Header, SameSite};
    use rstest::rstest;

    use super::*;
    use crate::record::token::{Id, Secret};

    fn config(name: &str) -> Config {
        let mut config = Config::default_for(&rocket::Config::DEBUG_PROFILE);
        config.cookie_name = name.to_owned();
        config
    }

    fn token() -> String {
        let token = Token::new(Id::draw().unwrap(), Secret::draw().unwrap());
        token.cookie_value().to_string()
    }

    /// Returns the tokens in these headers as cookie values, or why there are none.
    fn read(lines: &[&str], config: &Config) -> Result<Vec<String>, &'static str> {
        match SessionCookies::from_headers(lines, config) {
            SessionCookies::None => Err("none"),
            SessionCookies::Malformed => Err("malformed"),
            SessionCookies::TooMany => Err("too many"),
            SessionCookies::Tokens(tokens) => {
                let values = tokens.iter().map(|token| token.cookie_value().to_string());
                Ok(values.collect())
            }
        }
    }

    #[test]
    fn a_cookie_of_our_exact_name_is_read() {
        let (config, good) = (config("session"), token());
        for header in [
            format!("session={good}"),
            format!("a=b; session={good}; c=d"),
            format!("a=b;\tsession={good} ;c"),
            format!("$Version=1; session={good}; $Path=/"),
            format!("=session={}; session={good}", token()),
            format!("%73ession={}; session={good}", token()),
            format!("\u{a0}session={}; session={good}", token()),
            format!("session ={}; session={good}", token()),
            format!("Session={}; session={good}", token()),
        ] {
            assert_eq!(
                read(&[&header], &config),
                Ok(vec![good.clone()]),
                "{header}"
            );
        }
        let other = format!("session={good}");
        assert_eq!(read(&["a=b", &other], &config), Ok(vec![good]));
    }

    #[test]
    fn cookies_of_other_names_are_not_ours() {
        let (config, good) = (config("__Host-session"), token());
        for header in [
            String::new(),
            ";;;".into(),
            "__Host-session".into(),
            format!("=__Host-session={good}"),
            format!("__%48ost-session={good}"),
            format!("__host-session={good}"),
            format!("\u{2000}__Host-session={good}"),
            format!("__Host-session\u{85}={good}"),
        ] {
            assert_eq!(read(&[&header], &config), Err("none"), "{header}");
        }
    }

    #[test]
    fn a_value_of_another_form_is_malformed() {
        let (config, good) = (config("__Host-session"), token());
        for value in [
            String::new(),
            "x".into(),
            format!("{good},__Host-session={good}"),
            format!("\"{good}\""),
            format!("{good}%20"),
        ] {
            let header = format!("__Host-session={value}");
            assert_eq!(read(&[&header], &config), Err("malformed"), "{header}");
            let twice = format!("{header}; {header}");
            assert_eq!(read(&[&twice], &config), Err("malformed"), "{header}");
        }
    }

    #[test]
    fn several_cookies_give_up_to_four_different_tokens() {
        let config = config("session");
        let tokens: Vec<String> = (0..5).map(|_| token()).collect();
        let named: Vec<String> = tokens.iter().map(|t| format!("session={t}")).collect();
        let [a, b, ..] = named.as_slice() else {
            unreachable!()
        };
        let both = Ok(tokens[..2].to_vec());
        assert_eq!(read(&[&format!("{a}; {b}")], &config), both);
        assert_eq!(read(&[a, b], &config), both, "in two headers");
        let one = Ok(tokens[..1].to_vec());
        assert_eq!(read(&[&format!("{a}; x=y; {a}")], &config), one, "the same");
        assert_eq!(read(&[&format!("session=x; {a}; session=")], &config), one);
        let four = named[..4].join("; ");
        assert_eq!(read(&[&four], &config), Ok(tokens[..4].to_vec()));
        assert_eq!(read(&[&four, &four], &config), Ok(tokens[..4].to_vec()));
        assert_eq!(read(&[&named.join("; ")], &config), Err("too many"));
    }

    #[test]
    fn a_legacy_id_is_a_token_only_when_it_is_allowed() {
        let mut config = config("session");
        let line = format!("session={}", "0123456789abcdef".repeat(2));
        assert_eq!(read(&[&line], &config), Err("malformed"));
        config.legacy_ids = true;
        assert_eq!(read(&[&line], &config).map(|tokens| tokens.len()), Ok(1));
    }

    /// The rules and examples of RFC 6265, 5.1.4.
    #[rstest]
    #[case("/", "/", true)]
    #[case("/", "/a/b", true)]
    #[case("/app", "/app", true)]
    #[case("/app", "/app/", true)]
    #[case("/app", "/app/x", true)]
    #[case("/app/", "/app/x", true)]
    #[case("/app/", "/app", false)]
    #[case("/app", "/application", false)]
    #[case("/app", "/", false)]
    #[case("/app", "/App", false)]
    #[case("/app", "/x/app", false)]
    fn path_matches_as_browsers_match(
        #[case] cookie: &str,
        #[case] request: &str,
        #[case] matches: bool,
    ) {
        assert_eq!(path_matches(cookie, request), matches, "{cookie} {request}");
    }

    #[test]
    fn a_bearer_token_is_read_from_one_authorization_header() {
        let (mut config, good) = (config("session"), token());
        config.transport = Transport::Bearer;
        let read = |lines: &[&str]| match SessionCookies::from_authorization(lines, &config) {
            SessionCookies::Tokens(tokens) => tokens[0].cookie_value().to_string(),
            SessionCookies::None => "none".into(),
            SessionCookies::Malformed => "malformed".into(),
            SessionCookies::TooMany => "too many".into(),
        };
        for scheme in ["Bearer", "bearer", "BEARER", "Bearer "] {
            assert_eq!(read(&[&format!("{scheme} {good}")]), good, "{scheme}");
        }
        let bearer = format!("Bearer {good}");
        for (lines, read_as) in [
            (&[][..], "none"),
            (&[""], "none"),
            (&["Bearer"], "none"),
            (&[&*format!("Basic {good}")], "none"),
            (&[&*good], "none"),
            (&["Bearer "], "malformed"),
            (&["Bearer x"], "malformed"),
            (&[&*format!("{bearer}, {bearer}")], "malformed"),
            (&[&*bearer, &*bearer], "too many"),
        ] {
            assert_eq!(read(lines), read_as, "{lines:?}");
        }
    }

    /// RFC 6265, 5.1.3.
    #[rstest]
    #[case("a.example", "a.example", true)]
    #[case("a.example", "b.a.example", true)]
    #[case("a.example", "xa.example", false)]
    #[case("a.example", "example", false)]
    #[case("b.a.example", "a.example", false)]
    #[case("0.0.1", "127.0.0.1", false)]
    #[case("localhost", "127.0.0.1", false)]
    fn domain_matches_as_browsers_match(
        #[case] domain: &str,
        #[case] host: &str,
        #[case] matches: bool,
    ) {
        assert_eq!(domain_matches(domain, host), matches, "{domain} {host}");
    }

    #[test]
    fn each_unfit_host_is_news_once_and_only_the_first_eight_are() {
        let unfit = UnfitDomains::default();
        assert!(unfit.is_news("a") && !unfit.is_news("a"));
        let news = (0..100).filter(|n| unfit.is_news(&n.to_string())).count();
        assert_eq!(news, UnfitDomains::MAX_HOSTS - 1);
    }

    #[rstest]
    #[case(Some(SameSite::Lax), Some("SameSite=Lax"))]
    #[case(Some(SameSite::Strict), Some("SameSite=Strict"))]
    #[case(Some(SameSite::None), Some("SameSite=None"))]
    #[case(None, None)]
    fn same_site_is_sent_unless_it_is_switched_off(
        #[case] same_site: Option<SameSite>,
        #[case] said: Option<&str>,
    ) {
        let mut config = config("session");
        let token = Token::parse(&token(), false).unwrap();
        config.same_site = same_site;
        config.secure = true;
        for cookie in [with_token(&token, None, &config), removal(&config)] {
            let line = Header::from(&cookie).value().to_owned();
            let mut attributes = line.split("; ");
            let same_site = attributes.find(|attribute| attribute.contains("SameSite"));
            assert_eq!(same_site, said, "{same_site:?}: {line}");
        }
    }

    #[test]
    fn a_removal_has_the_attributes_of_the_cookie() {
        let mut config = config("s");
        config.path = "/app".into();
        config.domain = Some("a.example".into());
        config.secure = true;
        let sent = with_token(&Token::parse(&token(), false).unwrap(), None, &config);
        let removal = removal(&config);
        assert_eq!(removal.value(), "");
        assert_eq!(removal.max_age(), Some(rocket::time::Duration::ZERO));
        assert_eq!(sent.name(), removal.name());
        assert_eq!(sent.path(), removal.path());
        assert_eq!(sent.domain(), removal.domain());
        assert_eq!(sent.secure(), removal.secure());
        assert_eq!(sent.http_only(), removal.http_only());
        assert_eq!(sent.same_site(), removal.same_site());
    }
}
