//! The settings of a pool: from its section, the URL, or the defaults, in this order.

use std::time::Duration;

use mongodb::options::{ClientOptions, ConnectionString, DriverInfo};
use rocket::figment::Figment;
use rocket::figment::error::Error;
use rocket::figment::providers::Serialized;
use rocket_db_pools::Config;

/// Longer than a pause between requests, and shorter than firewalls and load balancers keep an idle
/// connection: the shortest of the large clouds is 4 minutes (Azure Load Balancer). A connection that
/// they dropped silently costs a request its whole deadline.
const DEFAULT_IDLE: Duration = Duration::from_secs(180);

/// rocket_db_pools' own default.
const DEFAULT_CONNECT: Duration = Duration::from_secs(5);

/// Settings and where each comes from.
#[derive(Clone, Debug)]
pub(in crate::web) struct Settings {
    max_connections: Setting<u32>,
    min_connections: Setting<u32>,
    idle: Setting<Duration>,
    connect: Setting<Duration>,
    selection: Setting<Duration>,
    /// How the pool calls itself if the URL has no `appName`.
    app_name: Option<&'static str>,
}

#[derive(Clone, Debug)]
struct Setting<T> {
    value: T,
    /// For the launch output.
    origin: String,
}

impl<T> Setting<T> {
    /// Chooses the value of a key of the section, or of the URL's option of the same meaning, or the
    /// default.
    fn choose(names: (&str, &str), section: Option<T>, url: Option<T>, default: T) -> Self {
        let (key, option) = names;
        let (value, origin) = match (section, url) {
            (Some(value), None) => (value, format!("`{key}`")),
            (Some(value), Some(_)) => (
                value,
                format!("`{key}`, which overrides {option} in the URL"),
            ),
            (None, Some(value)) => (value, format!("{option} in the URL")),
            (None, None) => (default, "default".to_owned()),
        };
        Setting { value, origin }
    }
}

impl Settings {
    /// Reads the section of a pool. `own` is the default number of connections of a pool that has
    /// sessions alone; rocket_db_pools sets its own default for a pool of the application.
    pub(in crate::web) fn read(
        section: &Figment,
        url: &ConnectionString,
        own: Option<u32>,
    ) -> Result<Settings, Box<Error>> {
        // Both keys are required. Joined defaults lose to every file.
        let config: Config = section
            .clone()
            .join(Serialized::default("max_connections", own.unwrap_or(32)))
            .join(Serialized::default(
                "connect_timeout",
                DEFAULT_CONNECT.as_secs(),
            ))
            .extract()?;
        let seconds = Duration::from_secs;
        let max = u32::try_from(config.max_connections).unwrap_or(u32::MAX);
        let default_max = own.unwrap_or(max);
        let connect = is_given(section, "connect_timeout").then(|| seconds(config.connect_timeout));
        Ok(Settings {
            max_connections: Setting::choose(
                ("max_connections", "maxPoolSize"),
                is_given(section, "max_connections").then_some(max),
                url.max_pool_size,
                default_max,
            ),
            min_connections: Setting::choose(
                ("min_connections", "minPoolSize"),
                config.min_connections,
                url.min_pool_size,
                0,
            ),
            idle: Setting::choose(
                ("idle_timeout", "maxIdleTimeMS"),
                config.idle_timeout.map(seconds),
                url.max_idle_time,
                DEFAULT_IDLE,
            ),
            connect: Setting::choose(
                ("connect_timeout", "connectTimeoutMS"),
                connect,
                url.connect_timeout,
                DEFAULT_CONNECT,
            ),
            selection: Setting::choose(
                ("connect_timeout", "serverSelectionTimeoutMS"),
                connect,
                url.server_selection_timeout,
                DEFAULT_CONNECT,
            ),
            app_name: own.map(|_| env!("CARGO_PKG_NAME")),
        })
    }

    /// Selecting a server ends before the deadline, so that a write which found none is known to have
    /// changed nothing.
    pub(in crate::web) fn limit(&mut self, deadline: Duration) {
        self.selection.value = self.selection.value.min(deadline.mul_f64(0.9));
        self.connect.value = self.connect.value.min(deadline);
    }

    pub(in crate::web) fn connections(&self) -> u32 {
        self.max_connections.value
    }

    pub(in crate::web) fn connect_timeout(&self) -> Duration {
        self.connect.value
    }

    pub(super) fn apply(&self, options: &mut ClientOptions) {
        options.max_pool_size = Some(self.max_connections.value);
        options.min_pool_size = Some(self.min_connections.value);
        // The driver takes zero for no limit.
        options.max_idle_time = Some(self.idle.value);
        options.connect_timeout = Some(self.connect.value);
        options.server_selection_timeout = Some(self.selection.value);
        // The crate sends a write again itself, with its number and until its deadline.
        options.max_adaptive_retries = Some(0);
        let driver = DriverInfo::builder()
            .name(env!("CARGO_PKG_NAME"))
            .version(env!("CARGO_PKG_VERSION").to_owned())
            .build();
        options.driver_info = Some(driver);
        if let (None, Some(name)) = (&options.app_name, self.app_name) {
            options.app_name = Some(name.to_owned());
        }
    }

    /// Returns the settings in effect and where each comes from, for the launch output.
    pub(in crate::web) fn line(&self) -> String {
        let time = |time: Duration| format!("{}s", time.as_secs_f64());
        let (max, min) = (&self.max_connections, &self.min_connections);
        let parts = [
            ("at most", max.value.to_string(), &max.origin),
            ("at least", min.value.to_string(), &min.origin),
            ("idle timeout", time(self.idle.value), &self.idle.origin),
            (
                "connect timeout",
                time(self.connect.value),
                &self.connect.origin,
            ),
            (
                "server selection",
                time(self.selection.value),
                &self.selection.origin,
            ),
        ];
        let parts = parts.map(|(what, value, origin)| format!("{what} {value} ({origin})"));
        parts.join(", ")
    }
}

/// Whether the application set the key. rocket_db_pools joins defaults of its own before it opens a
/// pool, and these are distinguished by the code that they come from.
fn is_given(section: &Figment, key: &str) -> bool {
    let is_default = |file: &str| file.contains("rocket_db_pools") || file.contains("db_pools/lib");
    section.contains(key)
        && !section
            .find_metadata(key)
            .and_then(|metadata| metadata.provide_location)
            .is_some_and(|location| is_default(location.file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(keys: &[(&str, u64)], url: &str) -> Settings {
        let section = keys.iter().fold(Figment::new(), |all, key| all.merge(*key));
        let section = section.merge(("url", url));
        let url = ConnectionString::parse(url).unwrap();
        Settings::read(&section, &url, Some(32)).unwrap()
    }

    #[test]
    fn a_key_counts_before_the_url_and_the_url_before_the_default() {
        let s = Duration::from_secs;
        let url = "mongodb://h/db?maxPoolSize=50&minPoolSize=3&maxIdleTimeMS=60000\
                   &connectTimeoutMS=2000&serverSelectionTimeoutMS=4000";
        let values = |settings: &Settings| {
            let mut options = ClientOptions::builder().build();
            settings.apply(&mut options);
            (
                options.max_pool_size.unwrap(),
                options.min_pool_size.unwrap(),
                options.max_idle_time.unwrap(),
                options.connect_timeout.unwrap(),
                options.server_selection_timeout.unwrap(),
            )
        };
        let default = settings(&[], "mongodb://h/db");
        assert_eq!(values(&default), (32, 0, s(180), s(5), s(5)));
        let silent = settings(&[], url);
        assert_eq!(values(&silent), (50, 3, s(60), s(2), s(4)));
        let keys = [
            ("max_connections", 20),
            ("min_connections", 1),
            ("idle_timeout", 90),
            ("connect_timeout", 6),
        ];
        let given = settings(&keys, url);
        assert_eq!(values(&given), (20, 1, s(90), s(6), s(6)));
        for (settings, said) in [
            (&default, "at most 32 (default)"),
            (&silent, "at most 50 (maxPoolSize in the URL)"),
            (&silent, "idle timeout 60s (maxIdleTimeMS in the URL)"),
            (
                &given,
                "at most 20 (`max_connections`, which overrides maxPoolSize in the URL)",
            ),
            (
                &settings(&keys, "mongodb://h/db"),
                "idle timeout 90s (`idle_timeout`)",
            ),
        ] {
            assert!(
                settings.line().contains(said),
                "{said}: {}",
                settings.line()
            );
        }
    }

    #[test]
    fn both_timeouts_stay_below_the_deadline() {
        let mut settings = settings(&[("connect_timeout", 60)], "mongodb://h/db");
        settings.limit(Duration::from_secs(10));
        assert_eq!(settings.selection.value, Duration::from_secs(9));
        assert_eq!(settings.connect.value, Duration::from_secs(10));
    }

    #[test]
    fn the_pool_introduces_itself() {
        let name = |url| {
            let mut options = ClientOptions::builder().build();
            let parsed = ConnectionString::parse(url).unwrap();
            options.app_name = parsed.app_name;
            settings(&[], url).apply(&mut options);
            let driver = options.driver_info.unwrap();
            assert_eq!(driver.name, "rocket_mongo_session");
            options.app_name.unwrap()
        };
        assert_eq!(name("mongodb://h/db"), "rocket_mongo_session");
        assert_eq!(name("mongodb://h/db?appName=shop"), "shop");
    }
}
