//! The section `[default.session]` of `Rocket.toml`: its keys, defaults and checks.
//!
//! The section is read once, at ignition. All invalid values, invalid combinations and unknown keys
//! are reported at once, each with its key, profile and file. No key is read at request time, and
//! the section holds no secret.

mod parse;
mod report;
mod section;
#[cfg(test)]
mod tests;

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};
use rocket::figment::error::Error;
use rocket::figment::{Figment, Profile};
use rocket::http::SameSite;

pub(crate) use self::parse::{MAX_COOKIE_AGE, MAX_TIMEOUT};
pub(crate) use self::report::report;
use self::section::Section;
use crate::origin::Origin;

/// The largest `max_bytes` that is accepted. MongoDB refuses documents above 16 MiB. Half of that
/// leaves room for the crate's own fields, and for what encoding and concurrent `push`es add.
const MAX_BYTES_LIMIT: usize = 8 * 1024 * 1024;

/// All public IPv6 addresses.
const PUBLIC_IPV6: IpNet = IpNet::V6(Ipv6Net::new_assert(
    Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0),
    3,
));

/// How session values are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Encoding {
    /// Native BSON, readable and queryable.
    Document,
    /// CBOR bytes for each value. Any serde type can be stored.
    Binary,
}

/// How the token of a session travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transport {
    Cookie,
    /// In the `Authorization` header, for clients that are not browsers.
    Bearer,
}

/// The section of the kind that `&Session` is, and the beginning of the others' names.
pub(crate) const MAIN_SECTION: &str = "session";

/// The keys that say something about a cookie.
const COOKIE_KEYS: [&str; 10] = [
    "max_age",
    "path",
    "domain",
    "secure",
    "http_only",
    "httponly",
    "same_site",
    "partitioned",
    "trusted_origins",
    "legacy_ids",
];

/// The validated configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The section's name in `Rocket.toml`.
    pub section: String,
    /// How the token of a session travels.
    pub transport: Transport,
    /// The collection that holds the sessions.
    pub collection: String,
    /// The database of the collection. `None`: the database that the URL names.
    pub database: Option<String>,
    /// The cookie's name.
    pub cookie_name: String,
    /// The cookie's `Max-Age`, at least a second. `None`: the cookie lasts until the browser closes.
    pub max_age: Option<Duration>,
    /// The cookie's `Path`.
    pub path: String,
    /// The cookie's `Domain`, in lower case and without a leading dot. `None`: this host alone.
    pub domain: Option<String>,
    /// The cookie's `Secure`: browsers send it over https only.
    pub secure: bool,
    /// The cookie's `HttpOnly`: scripts cannot read it.
    pub http_only: bool,
    /// The cookie's `SameSite`. `None`: the attribute is left out.
    pub same_site: Option<SameSite>,
    /// The cookie's `Partitioned`: browsers keep one cookie for each embedding site.
    pub partitioned: bool,
    /// The idle timeout. `None`: no idle timeout.
    pub timeout: Option<Duration>,
    /// The absolute timeout, counted from creation, login or elevation. `None`: no absolute timeout.
    pub lifetime: Option<Duration>,
    /// The shortest time between two touches of a session that is only read. `None`: reads do not
    /// touch.
    pub reissue_time: Option<Duration>,
    /// Whether changes are stored when a catcher generated the response.
    pub set_on_exception: bool,
    /// How session values are stored.
    pub encoding: Encoding,
    /// Whether values are encrypted under a key that only the browser's cookie can unlock.
    pub seal: bool,
    /// The maximum size of the application's data in one session.
    pub max_bytes: usize,
    /// The time limit of one database operation.
    pub deadline: Duration,
    /// The other origins that may send unsafe requests.
    pub trusted_origins: Vec<Origin>,
    /// The maximum number of sessions of one principal. `None`: no limit.
    pub max_per_user: Option<u32>,
    /// Whether the user agent and the peer's address are recorded.
    pub record_client: bool,
    /// The header in which trusted proxies name the client's address. `None`: no header is read.
    pub client_ip_header: Option<String>,
    /// The networks of the proxies whose header is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether legacy cookies and documents (pyramid_mongo_session) are accepted.
    pub legacy_ids: bool,
    /// Whether concurrent operations of this process are batched into one command.
    pub share: bool,
    /// Whether indexes are created and repaired in the background after liftoff.
    pub indexes: bool,
}

impl Config {
    /// Returns the defaults in a profile.
    pub(crate) fn default_for(profile: &Profile) -> Config {
        Config {
            section: MAIN_SECTION.into(),
            transport: Transport::Cookie,
            collection: "session".into(),
            database: None,
            cookie_name: "session".into(),
            max_age: None,
            path: "/".into(),
            domain: None,
            // Decided by the profile and not by `debug_assertions`, as Rocket does for its secret key.
            secure: !is_debug(profile),
            http_only: true,
            same_site: Some(SameSite::Lax),
            partitioned: false,
            timeout: Some(Duration::from_secs(1200)),
            lifetime: None,
            reissue_time: Some(Duration::ZERO),
            set_on_exception: true,
            encoding: Encoding::Document,
            seal: false,
            max_bytes: 1024 * 1024,
            deadline: Duration::from_secs(10),
            trusted_origins: Vec::new(),
            max_per_user: None,
            record_client: false,
            client_ip_header: None,
            trusted_proxies: Vec::new(),
            legacy_ids: false,
            share: true,
            indexes: true,
        }
    }

    /// Reads and validates `[<profile>.session]`.
    ///
    /// # Errors
    ///
    /// All errors of the section, as one chain.
    #[cfg(test)]
    pub(crate) fn from_figment(figment: &Figment) -> Result<Config, Box<Error>> {
        Config::from_section(figment, MAIN_SECTION.to_owned())
    }

    /// Returns the name of the kind of session that the section configures.
    pub(crate) fn kind(&self) -> &str {
        let name = self.section.strip_prefix(MAIN_SECTION);
        let name = name.and_then(|name| name.strip_prefix('_'));
        name.unwrap_or("main")
    }

    /// Reads and validates the section of a kind, whose name is also the default of its collection
    /// and its cookie.
    ///
    /// # Errors
    ///
    /// All errors of the section, as one chain.
    pub(crate) fn from_section(figment: &Figment, name: String) -> Result<Config, Box<Error>> {
        let mut section = Section::from_figment(figment, name)?;
        let config = Config::read(&mut section);
        section.refuse_unknown();
        // Combinations are checked only when every single value is valid. A default that stands in
        // for an invalid value would be reported as wrong, although it is not in the file.
        if section.is_valid() {
            config.check(&mut section);
        }
        section.finish().map(|()| config)
    }

    fn read(section: &mut Section<'_>) -> Config {
        use self::parse::*;

        let mut config = Config::default_for(section.profile());
        config.section = section.name().to_owned();
        config.collection.clone_from(&config.section);
        config.cookie_name.clone_from(&config.section);
        let c = &mut config;
        let time = |min, max: Duration| optional(seconds(min, max.as_secs_f64()));
        section.read("collection", &mut c.collection, collection);
        section.read("database", &mut c.database, optional(database));
        section.read("cookie_name", &mut c.cookie_name, cookie_name);
        section.read("max_age", &mut c.max_age, time(1.0, MAX_COOKIE_AGE));
        section.read("path", &mut c.path, path);
        section.read("domain", &mut c.domain, optional(domain));
        section.read("secure", &mut c.secure, boolean);
        section.read("http_only", &mut c.http_only, boolean);
        section.read("httponly", &mut c.http_only, boolean);
        section.read("same_site", &mut c.same_site, optional(same_site));
        section.read("partitioned", &mut c.partitioned, boolean);
        section.read("timeout", &mut c.timeout, time(MIN_SECONDS, MAX_TIMEOUT));
        section.read("lifetime", &mut c.lifetime, time(MIN_SECONDS, MAX_TIMEOUT));
        section.read("reissue_time", &mut c.reissue_time, time(0.0, MAX_TIMEOUT));
        section.read("set_on_exception", &mut c.set_on_exception, boolean);
        section.read("encoding", &mut c.encoding, encoding);
        section.read("seal", &mut c.seal, boolean);
        section.read("max_bytes", &mut c.max_bytes, size);
        section.read("deadline", &mut c.deadline, seconds(MIN_SECONDS, 300.0));
        section.read_list("trusted_origins", &mut c.trusted_origins, trusted_origin);
        section.read("transport", &mut c.transport, transport);
        section.read("max_per_user", &mut c.max_per_user, optional(count));
        section.read("record_client", &mut c.record_client, boolean);
        section.read(
            "client_ip_header",
            &mut c.client_ip_header,
            optional(client_ip_header),
        );
        section.read_list("trusted_proxies", &mut c.trusted_proxies, trusted_proxy);
        section.read("legacy_ids", &mut c.legacy_ids, boolean);
        section.read("share", &mut c.share, boolean);
        section.read("indexes", &mut c.indexes, boolean);
        config
    }

    /// Reports invalid combinations of keys. Each error is reported at a key that is set, so that it
    /// names a file, and its text names the other key.
    ///
    /// A `lifetime` below `timeout` is accepted: a session ends at the earlier of the two. Otherwise
    /// `lifetime = 600` alone would fail because of the default `timeout`.
    fn check(&self, section: &mut Section<'_>) {
        let has_both = section.has("http_only") && section.has("httponly");
        section.require(!has_both, "httponly", || {
            "`httponly` is an alias of `http_only`; set only one of them".into()
        });

        match self.transport {
            Transport::Cookie => self.check_cookie(section),
            Transport::Bearer => refuse_cookie_keys(section),
        }
        self.check_proxies(section);
        if let (Some(reissue), Some(timeout)) = (self.reissue_time, self.timeout) {
            section.require(reissue < timeout, "reissue_time", || {
                format!(
                    "`reissue_time` ({}) has to be below `timeout` ({}), otherwise sessions in use \
                     expire; set `reissue_time = false` if reads shall not extend sessions",
                    in_seconds(reissue),
                    in_seconds(timeout),
                )
            });
        }
    }

    /// Reports attributes with which browsers refuse the cookie.
    fn check_cookie(&self, section: &mut Section<'_>) {
        if let Some(prefix) = parse::prefix(&self.cookie_name) {
            let is_host = prefix.starts_with("__Host-");
            let is_http = prefix.ends_with("Http-");
            let needs = |what: &str| {
                format!(
                    "a `cookie_name` with the prefix `{prefix}` {what}; otherwise browsers refuse \
                     the cookie"
                )
            };
            section.require(self.secure, "cookie_name", || {
                needs("needs `secure = true`")
            });
            section.require(!is_http || self.http_only, "cookie_name", || {
                needs("needs `http_only = true`")
            });
            section.require(!is_host || self.path == "/", "cookie_name", || {
                needs("needs `path = \"/\"`")
            });
            section.require(!is_host || self.domain.is_none(), "cookie_name", || {
                needs("allows no `domain`")
            });
        }

        let is_cross_site = self.same_site == Some(SameSite::None);
        section.require(!is_cross_site || self.secure, "same_site", || {
            "`same_site = \"None\"` needs `secure = true`; otherwise browsers refuse the cookie"
                .into()
        });
        section.require(!self.partitioned || self.secure, "partitioned", || {
            "`partitioned` needs `secure = true`; otherwise browsers refuse the cookie".into()
        });
    }

    /// Reports a `client_ip_header` that any client could send.
    fn check_proxies(&self, section: &mut Section<'_>) {
        let (has_header, has_proxies) = (
            self.client_ip_header.is_some(),
            !self.trusted_proxies.is_empty(),
        );
        section.require(!has_header || has_proxies, "client_ip_header", || {
            "`client_ip_header` needs `trusted_proxies`: any client could send the header".into()
        });
        section.require(!has_proxies || has_header, "trusted_proxies", || {
            "`trusted_proxies` needs `client_ip_header`, the header in which they name the client".into()
        });
        // Also two halves are everybody.
        let aggregated = IpNet::aggregate(&self.trusted_proxies);
        let is_everybody = aggregated
            .iter()
            .any(|network| network.prefix_len() == 0 || network.contains(&PUBLIC_IPV6));
        section.require(!is_everybody, "trusted_proxies", || {
            "`trusted_proxies` would trust every client; name the addresses of your proxies".into()
        });
    }
}

/// Reports keys about cookies, where the token travels in the `Authorization` header.
fn refuse_cookie_keys(section: &mut Section<'_>) {
    for key in COOKIE_KEYS {
        section.require(!section.has(key), key, || {
            format!("`{key}` is about cookies, and `transport = \"bearer\"` uses none; remove it")
        });
    }
}

fn in_seconds(time: Duration) -> String {
    format!("{}s", time.as_secs_f64())
}

fn is_debug(profile: &Profile) -> bool {
    *profile == rocket::Config::DEBUG_PROFILE
}
