//! `[default.session]`: names, defaults, checks.
//!
//! Read once, at ignition. Every bad value and bad pair is refused there, all at once, with its
//! key, profile and file; nothing here is read at request time, and nothing here is secret.

mod parse;
mod report;
mod section;
#[cfg(test)]
mod tests;

use std::time::Duration;

use rocket::figment::error::Error;
use rocket::figment::{Figment, Profile};
use rocket::http::SameSite;

pub(crate) use self::parse::{LONGEST, LONGEST_COOKIE};
pub(crate) use self::report::report;
use self::section::Section;
use crate::origin::Origin;

/// The most that `max_bytes` may be. MongoDB refuses documents above 16 MiB: half of it leaves room
/// for our own fields, and for what encoding and concurrent `push`es add.
const MAX_MAX_BYTES: usize = 8 * 1024 * 1024;

/// How values are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Encoding {
    /// Native BSON, readable and queryable.
    Document,
    /// One opaque value a key, any serde type.
    Binary,
}

/// The section, read and checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The collection that holds the sessions.
    pub collection: String,
    /// Its database; none = the one that the URL names.
    pub database: Option<String>,
    /// The cookie's name.
    pub cookie_name: String,
    /// The cookie's life in the browser, at least a second; none = until the browser closes.
    pub max_age: Option<Duration>,
    /// The cookie's path.
    pub path: String,
    /// The cookie's domain, in lower case and without a leading dot; none = this host alone.
    pub domain: Option<String>,
    /// Whether the cookie travels over https alone.
    pub secure: bool,
    /// Whether scripts are kept from the cookie.
    pub http_only: bool,
    /// Which requests from other sites carry the cookie; none = the cookie does not say.
    pub same_site: Option<SameSite>,
    /// Whether the cookie is kept apart for each site that embeds this one.
    pub partitioned: bool,
    /// How long a session lives unused; none = for ever.
    pub timeout: Option<Duration>,
    /// How long a session lives after creation or login, used or not; none = for ever.
    pub lifetime: Option<Duration>,
    /// How long after the last write of `accessed` a read writes it again; none = never.
    pub reissue_time: Option<Duration>,
    /// Whether changes are kept when a catcher answered.
    pub set_on_exception: bool,
    /// How values are stored.
    pub encoding: Encoding,
    /// The most that an application's data may take in one session.
    pub max_bytes: usize,
    /// How long one operation of the database may take.
    pub deadline: Duration,
    /// The origins that may send unsafe requests from other sites.
    pub trusted_origins: Vec<Origin>,
    /// How many sessions a principal may have; none = any number.
    pub max_per_user: Option<u32>,
    /// Whether the user agent and the address are recorded at login.
    pub record_client: bool,
    /// Whether the ancestor's cookies and documents are accepted.
    pub legacy_ids: bool,
    /// Whether loads, commits and new sessions of this process may travel together.
    pub share: bool,
    /// Whether indexes are created and repaired after liftoff.
    pub indexes: bool,
}

impl Config {
    /// What is in force where the section says nothing.
    pub(crate) fn default_for(profile: &Profile) -> Config {
        Config {
            collection: "session".into(),
            database: None,
            cookie_name: "session".into(),
            max_age: None,
            path: "/".into(),
            domain: None,
            // By the profile, not by how the crate was compiled: Rocket's own rule for its secrets.
            secure: !is_debug(profile),
            http_only: true,
            same_site: Some(SameSite::Lax),
            partitioned: false,
            timeout: Some(Duration::from_secs(1200)),
            lifetime: None,
            reissue_time: Some(Duration::ZERO),
            set_on_exception: true,
            encoding: Encoding::Document,
            max_bytes: 1024 * 1024,
            deadline: Duration::from_secs(10),
            trusted_origins: Vec::new(),
            max_per_user: None,
            record_client: false,
            legacy_ids: false,
            share: true,
            indexes: true,
        }
    }

    /// Reads and checks `[<profile>.session]` of a Rocket's figment. The error is a chain of all
    /// that is wrong.
    pub(crate) fn from(figment: &Figment) -> Result<Config, Box<Error>> {
        let mut section = Section::of(figment)?;
        let config = Config::read(&mut section);
        section.refuse_unknown();
        // Keys are held against each other only when each is right: a default that stands in for a
        // bad value would be blamed for what nobody wrote.
        if section.is_good() {
            config.check(&mut section);
        }
        section.finish().map(|()| config)
    }

    fn read(section: &mut Section<'_>) -> Config {
        use self::parse::*;

        let mut config = Config::default_for(section.profile());
        let c = &mut config;
        section.read("collection", &mut c.collection, collection);
        section.read("database", &mut c.database, optional(database));
        section.read("cookie_name", &mut c.cookie_name, cookie_name);
        section.read(
            "max_age",
            &mut c.max_age,
            optional(seconds(1.0, LONGEST_COOKIE.as_secs_f64())),
        );
        section.read("path", &mut c.path, path);
        section.read("domain", &mut c.domain, optional(domain));
        section.read("secure", &mut c.secure, boolean);
        section.read("http_only", &mut c.http_only, boolean);
        section.read("httponly", &mut c.http_only, boolean);
        section.read("same_site", &mut c.same_site, optional(same_site));
        section.read("partitioned", &mut c.partitioned, boolean);
        section.read(
            "timeout",
            &mut c.timeout,
            optional(seconds(LEAST, LONGEST.as_secs_f64())),
        );
        section.read(
            "lifetime",
            &mut c.lifetime,
            optional(seconds(LEAST, LONGEST.as_secs_f64())),
        );
        section.read(
            "reissue_time",
            &mut c.reissue_time,
            optional(seconds(0.0, LONGEST.as_secs_f64())),
        );
        section.read("set_on_exception", &mut c.set_on_exception, boolean);
        section.read("encoding", &mut c.encoding, encoding);
        section.read("max_bytes", &mut c.max_bytes, size);
        section.read("deadline", &mut c.deadline, seconds(LEAST, 300.0));
        section.read_list("trusted_origins", &mut c.trusted_origins, trusted_origin);
        section.read("max_per_user", &mut c.max_per_user, optional(count));
        section.read("record_client", &mut c.record_client, boolean);
        section.read("legacy_ids", &mut c.legacy_ids, boolean);
        section.read("share", &mut c.share, boolean);
        section.read("indexes", &mut c.indexes, boolean);
        config
    }

    /// Refuses what does not go together. Each refusal stands at a key that is set, so that it
    /// names a file, and names the other key in its text.
    ///
    /// A `lifetime` below `timeout` is not refused: a session ends at the earlier of the two, which
    /// is what was asked for, and `lifetime = 600` alone would otherwise fail on the default
    /// `timeout`.
    fn check(&self, section: &mut Section<'_>) {
        let twice = section.has("http_only") && section.has("httponly");
        section.require(!twice, "httponly", || {
            "`httponly` is another name of `http_only`: set one of them".into()
        });

        if let Some(prefix) = parse::prefix(&self.cookie_name) {
            let host = prefix.starts_with("__Host-");
            let http = prefix.ends_with("Http-");
            let needs = |what: &str| {
                format!(
                    "a `cookie_name` with the prefix `{prefix}` {what}: browsers refuse the cookie \
                     otherwise"
                )
            };
            section.require(self.secure, "cookie_name", || {
                needs("needs `secure = true`")
            });
            section.require(!http || self.http_only, "cookie_name", || {
                needs("needs `http_only = true`")
            });
            section.require(!host || self.path == "/", "cookie_name", || {
                needs("needs `path = \"/\"`")
            });
            section.require(!host || self.domain.is_none(), "cookie_name", || {
                needs("allows no `domain`")
            });
        }

        let anywhere = self.same_site == Some(SameSite::None);
        section.require(!anywhere || self.secure, "same_site", || {
            "`same_site = \"None\"` needs `secure = true`: browsers refuse the cookie otherwise"
                .into()
        });
        section.require(!self.partitioned || self.secure, "partitioned", || {
            "`partitioned` needs `secure = true`: browsers refuse the cookie otherwise".into()
        });

        if let (Some(reissue), Some(timeout)) = (self.reissue_time, self.timeout) {
            section.require(reissue < timeout, "reissue_time", || {
                format!(
                    "`reissue_time` ({}) has to be below `timeout` ({}): sessions in use would \
                     expire; `reissue_time = false` says that reads keep none alive",
                    in_seconds(reissue),
                    in_seconds(timeout),
                )
            });
        }
    }
}

fn in_seconds(time: Duration) -> String {
    format!("{}s", time.as_secs_f64())
}

fn is_debug(profile: &Profile) -> bool {
    *profile == rocket::Config::DEBUG_PROFILE
}
