//! What is said of the configuration at launch: what is in force, what is dangerous, what is wrong.

use std::time::Duration;

use rocket::data::ByteUnit;
use rocket::figment::Profile;
use rocket::figment::error::Error;
use rocket::http::SameSite;

use super::{Config, in_seconds, is_debug, parse};
use crate::origin::Origin;

impl Config {
    /// What is in force, for the launch output.
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
            ("legacy ids", self.legacy_ids.to_string()),
            ("share", self.share.to_string()),
            ("indexes", self.indexes.to_string()),
        ]
    }

    /// The cookie without its value, in the words of a `Set-Cookie` header.
    fn cookie_line(&self) -> String {
        let mut line = format!("{}; Path={}", self.cookie_name, self.path);
        if let Some(domain) = &self.domain {
            line += &format!("; Domain={domain}");
        }
        for (set, flag) in [
            (self.secure, "Secure"),
            (self.http_only, "HttpOnly"),
            (self.partitioned, "Partitioned"),
        ] {
            if set {
                line += &format!("; {flag}");
            }
        }
        if let Some(same_site) = self.same_site {
            line += &format!("; SameSite={same_site}");
        }
        line
    }

    /// What is legal but dangerous, each a sentence that says what to do; nothing in the debug
    /// profile.
    pub(crate) fn warnings(&self, profile: &Profile) -> Vec<String> {
        if is_debug(profile) {
            return Vec::new();
        }
        let mut warnings = Vec::new();
        let mut warn = |when: bool, sentence: String| {
            if when {
                warnings.push(sentence)
            }
        };
        warn(
            !self.secure,
            "the session cookie is sent over plain http, where anyone on the way can take it; \
             serve the site over https and remove `secure = false`"
                .into(),
        );
        warn(
            !self.http_only,
            "scripts can read the session cookie, so that one injected script can steal it; remove \
             `http_only = false`"
                .into(),
        );
        warn(
            self.same_site.is_none(),
            "the session cookie has no SameSite: for its first two minutes browsers send it with \
             the forms of other sites; remove `same_site = false`"
                .into(),
        );
        warn(
            self.same_site == Some(SameSite::None) && !self.partitioned,
            "every site's requests carry the session cookie; use `same_site = \"Lax\"`, or \
             `partitioned = true` if this site is meant to be embedded"
                .into(),
        );
        warn(
            self.timeout.is_none() && self.lifetime.is_none(),
            "sessions never end by themselves, stolen ones included; set `timeout` or `lifetime`"
                .into(),
        );
        warn(
            self.legacy_ids,
            "`legacy_ids` accepts the old application's cookies, whose ids are credentials; switch it \
             off when the last of them has expired"
                .into(),
        );
        for origin in self
            .trusted_origins
            .iter()
            .filter(|origin| origin.is_plain_http())
        {
            warn(
                true,
                format!(
                    "`trusted_origins` names {origin}, and whoever is on the way can speak as a \
                     plain http site; use https there"
                ),
            );
        }
        if let Some(domain) = &self.domain {
            warn(
                true,
                format!(
                    "every host below {domain} receives the session cookie and can replace it; \
                     remove `domain` unless they share sessions"
                ),
            );
        } else if self.secure && self.path == "/" && parse::prefix(&self.cookie_name).is_none() {
            // Only where one line mends it: the other keys are as the prefix wants them.
            let name = &self.cookie_name;
            warn(
                true,
                format!(
                    "other hosts of this domain can plant a session cookie of their own; set \
                     `cookie_name = \"__Host-{name}\"` in [{profile}.session] to prevent it"
                ),
            );
        }
        warnings
    }
}

/// Prints a configuration error as Rocket prints its own: kind, key, file.
///
/// By Rocket's own printer, which is hidden from its documentation but public, because Rocket's
/// contrib crates print theirs with it: they depend on `rocket = "0.5"`, so it stays through 0.5.
/// A copy would need `rocket::error_!` and the paint of Rocket's log, hidden just as well, and
/// would drift.
pub(crate) fn report(error: Error) {
    rocket::config::pretty_print_error(error);
}
