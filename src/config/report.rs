//! The launch output: the configuration in effect, warnings, and errors.

use std::time::Duration;

use rocket::data::ByteUnit;
use rocket::figment::Profile;
use rocket::figment::error::Error;
use rocket::http::SameSite;

use super::{Config, Transport, in_seconds, is_debug, parse};
use crate::origin::Origin;

impl Config {
    /// Returns the configuration in effect, as lines of the launch output.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let time = |time: Option<Duration>, none: &str| match time {
            Some(time) => in_seconds(time),
            None => none.into(),
        };
        let origins = self
            .trusted_origins
            .iter()
            .map(Origin::to_string)
            .collect::<Vec<_>>();
        vec![
            ("cookie", self.cookie_line()),
            ("max age", time(self.max_age, "until the browser closes")),
            ("timeout", time(self.timeout, "never")),
            ("lifetime", time(self.lifetime, "unlimited")),
            ("reissue time", time(self.reissue_time, "never")),
            ("set on exception", self.set_on_exception.to_string()),
            ("encoding", format!("{:?}", self.encoding).to_lowercase()),
            ("seal", self.seal.to_string()),
            ("max bytes", ByteUnit::from(self.max_bytes).to_string()),
            ("deadline", in_seconds(self.deadline)),
            (
                "trusted origins",
                if origins.is_empty() {
                    "none".into()
                } else {
                    origins.join(", ")
                },
            ),
            (
                "max per user",
                self.max_per_user
                    .map_or("unlimited".into(), |n| n.to_string()),
            ),
            ("record client", self.record_client.to_string()),
            ("client address", self.client_address_line()),
            ("legacy ids", self.legacy_ids.to_string()),
            ("share", self.share.to_string()),
            ("indexes", self.indexes.to_string()),
        ]
    }

    /// Returns where the client's address is taken from.
    fn client_address_line(&self) -> String {
        match &self.client_ip_header {
            Some(header) => {
                let proxies = self.trusted_proxies.iter().map(ToString::to_string);
                let proxies = proxies.collect::<Vec<_>>().join(", ");
                format!("{header} of {proxies}, otherwise the connection's")
            }
            None => "the connection's".into(),
        }
    }

    /// Returns the cookie's name and attributes in the form of a `Set-Cookie` header.
    fn cookie_line(&self) -> String {
        if self.transport == Transport::Bearer {
            return "none; the token is in `Authorization: Bearer`".into();
        }
        let mut line = format!("{}; Path={}", self.cookie_name, self.path);
        if let Some(domain) = &self.domain {
            line += &format!("; Domain={domain}");
        }
        for (is_set, flag) in [
            (self.secure, "Secure"),
            (self.http_only, "HttpOnly"),
            (self.partitioned, "Partitioned"),
        ] {
            if is_set {
                line += &format!("; {flag}");
            }
        }
        if let Some(same_site) = self.same_site {
            line += &format!("; SameSite={same_site}");
        }
        line
    }

    /// Returns a warning for each setting that is valid but dangerous. Each warning says what to do.
    /// The debug profile has no warnings.
    pub(crate) fn warnings(&self, profile: &Profile) -> Vec<String> {
        if is_debug(profile) {
            return Vec::new();
        }
        let mut warnings = Vec::new();
        if self.timeout.is_none() && self.lifetime.is_none() {
            let warning =
                "sessions never expire, stolen ones included; set `timeout` or `lifetime`";
            warnings.push(warning.to_owned());
        }
        if self.transport == Transport::Bearer {
            return warnings;
        }
        let of_cookie = [
            (
                !self.secure,
                "the session cookie is sent over plain http, where anyone on the network can read it; \
                 serve the site over https and remove `secure = false`",
            ),
            (
                !self.http_only,
                "scripts can read the session cookie, so an injected script can steal it; remove \
                 `http_only = false`",
            ),
            (
                self.same_site.is_none(),
                "the session cookie has no SameSite attribute: for its first two minutes browsers send \
                 it with forms of other sites; remove `same_site = false`",
            ),
            (
                self.same_site == Some(SameSite::None) && !self.partitioned,
                "requests from every other site carry the session cookie; use `same_site = \"Lax\"`, or \
                 `partitioned = true` if other sites embed this one",
            ),
            (
                self.legacy_ids,
                "`legacy_ids` accepts the old application's cookies, whose ids are credentials; remove \
                 it when the last of them has expired",
            ),
        ];
        let of_cookie = of_cookie.into_iter().filter(|(applies, _)| *applies);
        warnings.extend(of_cookie.map(|(_, warning)| warning.to_owned()));
        let origins = self.trusted_origins.iter();
        let plain = origins.filter(|origin| origin.is_plain_http());
        warnings.extend(plain.map(|origin| {
            format!(
                "`trusted_origins` contains {origin}, and anyone on the network can impersonate \
                 a plain http site; use its https origin"
            )
        }));
        if let Some(domain) = &self.domain {
            warnings.push(format!(
                "every host below {domain} receives the session cookie and can replace it; \
                 remove `domain` unless they share sessions"
            ));
        } else if self.secure && self.path == "/" && parse::prefix(&self.cookie_name).is_none() {
            // Warned about only where the other keys meet the prefix, so that one line is enough.
            let name = &self.cookie_name;
            warnings.push(format!(
                "other hosts of this domain can set a session cookie for this host; set \
                 `cookie_name = \"__Host-{name}\"` in [{profile}.{}] to prevent it",
                self.section
            ));
        }
        warnings
    }
}

/// Prints a configuration error as Rocket prints its own: kind, key and file.
///
/// The function of Rocket that does this is public but hidden from its documentation. Rocket's contrib
/// crates call it and depend on `rocket = "0.5"`, so it exists in every 0.5 release. A copy would need
/// `rocket::error_!` and Rocket's log colors, which are hidden as well.
pub(crate) fn report(error: Error) {
    rocket::config::pretty_print_error(error);
}
