//! The cookie: from the raw header to a token, from a decision to a `Set-Cookie`.

use rocket::http::{Cookie, HeaderMap};

use crate::config::Config;
use crate::record::token::{Id, Token};
use crate::state::plan::CookieLife;

/// What a request's `Cookie` headers say about our session.
pub(crate) enum Presented {
    /// No cookie of our name, or one that cannot be a token: anonymous, never looked up.
    Nothing,
    /// Several of our name: as good as none.
    Several,
    Token(Token),
    /// A cookie of the Python ancestor (`session.legacy_ids`).
    LegacySession(Id),
}

/// Reads the session cookie from the raw headers, byte-exact.
///
/// Not through Rocket's jar: that decodes and trims names, so that another cookie can shadow ours,
/// and of several it silently takes the last. Several cookies of our name mean that somebody else
/// (a sibling domain, a page on plain HTTP) could set one, so none of them is believed (RFC
/// 6265bis, 8.6).
pub(crate) fn read(headers: &HeaderMap<'_>, config: &Config) -> Presented {
    let mut ours = headers.get("Cookie").flat_map(|header| {
        header.split(';').filter_map(|pair| {
            let (name, value) = pair.trim_matches([' ', '\t']).split_once('=')?;
            (name == config.cookie_name).then_some(value)
        })
    });
    match (ours.next(), ours.next()) {
        (Some(value), None) => parse(value, config),
        (None, _) => Presented::Nothing,
        (Some(_), Some(_)) => {
            rocket::warn!(
                "Session: a request with several `{}` cookies was taken as anonymous.",
                config.cookie_name
            );
            Presented::Several
        }
    }
}

/// Reads one cookie value.
pub(crate) fn parse(value: &str, config: &Config) -> Presented {
    match Token::parse(value, config.legacy_ids) {
        Some(token) if token.is_bare() => Presented::LegacySession(token.id),
        Some(token) => Presented::Token(token),
        None => Presented::Nothing,
    }
}

/// The cookie that gives the browser a token.
pub(crate) fn sending(token: &Token, life: CookieLife, config: &Config) -> Cookie<'static> {
    let value = token.cookie_value();
    let mut cookie = with_attributes(value.as_str().to_owned(), config);
    if let Some(life) = life {
        // Whole seconds, rounded down: the browser must not keep it longer than was said.
        let seconds = i64::try_from(life.as_secs()).unwrap_or(i64::MAX);
        cookie.set_max_age(rocket::time::Duration::seconds(seconds));
    }
    cookie
}

/// The cookie that removes the browser's: the same name, path, domain and flags, or the browser
/// would keep it (RFC 6265bis, 5.7).
pub(crate) fn removing(config: &Config) -> Cookie<'static> {
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

#[cfg(test)]
mod tests {
    use rocket::http::{Header, SameSite};

    use super::*;
    use crate::record::token::Secret;

    fn config(name: &str) -> Config {
        let mut config = Config::default_for(&rocket::Config::DEBUG_PROFILE);
        config.cookie_name = name.to_owned();
        config
    }

    fn token() -> String {
        let token = Token::new(Id::draw().unwrap(), Secret::draw().unwrap());
        token.cookie_value().to_string()
    }

    fn reads(headers: &[&str], config: &Config) -> Option<String> {
        let mut map = HeaderMap::new();
        for header in headers {
            map.add(Header::new("Cookie", (*header).to_owned()));
        }
        match read(&map, config) {
            Presented::Token(token) => Some(token.cookie_value().to_string()),
            _ => None,
        }
    }

    #[test]
    fn the_one_cookie_of_our_name_is_read() {
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
                reads(&[&header], &config).as_deref(),
                Some(&*good),
                "{header}"
            );
        }
        let other = format!("session={good}");
        assert_eq!(reads(&["a=b", &other], &config), Some(good));
    }

    #[test]
    fn no_other_name_or_form_is_ours() {
        let (config, good) = (config("__Host-session"), token());
        for header in [
            String::new(),
            ";;;".into(),
            "__Host-session".into(),
            "__Host-session=".into(),
            format!("=__Host-session={good}"),
            format!("__%48ost-session={good}"),
            format!("__host-session={good}"),
            format!("\u{2000}__Host-session={good}"),
            format!("__Host-session\u{85}={good}"),
            format!("__Host-session={good},__Host-session={good}"),
            format!("__Host-session=\"{good}\""),
            format!("__Host-session={good}%20"),
        ] {
            assert_eq!(reads(&[&header], &config), None, "{header}");
        }
    }

    #[test]
    fn several_cookies_of_our_name_are_none() {
        let (config, a, b) = (config("session"), token(), token());
        let (a, b) = (format!("session={a}"), format!("session={b}"));
        assert_eq!(reads(&[&format!("{a}; {b}")], &config), None);
        assert_eq!(reads(&[&format!("{a}; x=y; {a}")], &config), None);
        assert_eq!(reads(&[&a, &b], &config), None);
        assert_eq!(reads(&[&format!("{a}; session=x")], &config), None);
    }

    #[test]
    fn same_site_is_said_unless_it_is_switched_off() {
        let mut config = config("session");
        let token = Token::parse(&token(), false).unwrap();
        for (same_site, said) in [
            (Some(SameSite::Lax), Some("SameSite=Lax")),
            (Some(SameSite::Strict), Some("SameSite=Strict")),
            (Some(SameSite::None), Some("SameSite=None")),
            (None, None),
        ] {
            config.same_site = same_site;
            config.secure = true;
            for cookie in [sending(&token, None, &config), removing(&config)] {
                let line = Header::from(&cookie).value().to_owned();
                let mut attributes = line.split("; ");
                let same_site = attributes.find(|attribute| attribute.contains("SameSite"));
                assert_eq!(same_site, said, "{same_site:?}: {line}");
            }
        }
    }

    #[test]
    fn a_removal_names_what_was_sent() {
        let mut config = config("s");
        config.path = "/app".into();
        config.domain = Some("a.example".into());
        config.secure = true;
        let sent = sending(&Token::parse(&token(), false).unwrap(), None, &config);
        let removal = removing(&config);
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
