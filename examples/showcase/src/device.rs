//! A session as its user sees it: a device.

use std::collections::HashMap;

use rocket_mongo_session::time::OffsetDateTime;
use rocket_mongo_session::{SessionInfo, Sessions};
use serde::Serialize;

use crate::failure::Result;
use crate::words::{ago, ahead, count, machine, moment};

#[derive(Serialize)]
pub struct Device {
    id: String,
    name: String,
    /// Text that distinguishes it from the others in a screen reader.
    label: String,
    is_phone: bool,
    is_this: bool,
    ip: Option<String>,
    since: Time,
    active: Time,
    expires: Option<Time>,
}

#[derive(Serialize)]
struct Time {
    machine: String,
    words: String,
}

fn time(time: OffsetDateTime, words: String) -> Time {
    let machine = machine(time);
    Time { machine, words }
}

/// Returns the newest sessions of a user, and a text with the number of older ones, if any.
pub async fn newest(
    sessions: &Sessions,
    user: &str,
    limit: u32,
) -> Result<(Vec<SessionInfo>, Option<String>)> {
    let older = sessions.of(user).count().await?;
    let older = older.saturating_sub(limit.into());
    let found = sessions.of(user).list(0, limit).await?;
    Ok((found, (older > 0).then(|| count(older, "older device"))))
}

impl Device {
    /// Returns the devices, in the order of the sessions. `this` is the device that shows the page.
    pub fn list(
        found: impl IntoIterator<Item = SessionInfo>,
        this: Option<&str>,
        now: OffsetDateTime,
    ) -> Vec<Device> {
        let found = found.into_iter();
        let mut devices: Vec<_> = found.map(|info| Device::new(info, this, now)).collect();
        let mut alike: HashMap<String, u32> = HashMap::new();
        for device in &mut devices {
            let count = alike.entry(device.label.clone()).or_default();
            *count += 1;
            if *count > 1 {
                device.label += &format!(" (number {count})");
            }
        }
        devices
    }

    fn new(info: SessionInfo, this: Option<&str>, now: OffsetDateTime) -> Device {
        let agent = info.client.as_deref().unwrap_or_default();
        let (name, since) = (name(agent), moment(info.created));
        let is_this = this == Some(info.id.as_str());
        // The use by this request is recorded after the response.
        let active = if is_this { now } else { info.accessed };
        Device {
            label: format!("{name}, signed in {since}"),
            name,
            is_phone: ["Mobile", "iPhone", "Android"]
                .iter()
                .any(|word| agent.contains(word)),
            is_this,
            ip: info.ip.map(|ip| ip.to_string()),
            since: time(info.created, since),
            active: time(active, ago(active, now)),
            expires: info.expires.map(|at| time(at, ahead(at, now))),
            id: info.id,
        }
    }
}

/// Returns a short name of a browser from its user agent. A client can send any user agent, so the
/// name is only displayed to the session's user.
fn name(agent: &str) -> String {
    // The first match counts, since browsers also name the browsers that they are derived from.
    const BROWSERS: &[(&str, &str)] = &[
        ("Edg", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("FxiOS/", "Firefox"),
        ("CriOS/", "Chrome"),
        ("Chrome/", "Chrome"),
        ("Version/", "Safari"),
        ("curl/", "curl"),
    ];
    const SYSTEMS: &[(&str, &str)] = &[
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Android", "Android"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("CrOS", "ChromeOS"),
        ("Linux", "Linux"),
    ];
    let first = |names: &[(&str, &'static str)]| {
        let found = names.iter().find(|(word, _)| agent.contains(word));
        found.map(|(_, name)| *name)
    };
    match (first(BROWSERS), first(SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(name), None) | (None, Some(name)) => name.to_owned(),
        (None, None) => "Unknown device".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn a_browser_is_called_by_the_name_its_owner_knows() {
        let linux = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
                     Chrome/140.0.0.0 Safari/537.36";
        assert_eq!(name(linux), "Chrome on Linux");
        let iphone = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 \
                      (KHTML, like Gecko) Version/18.5 Mobile/15E148";
        assert_eq!(name(iphone), "Safari on iPhone");
        assert_eq!(
            name("Mozilla/5.0 (Windows NT 10.0; rv:140.0) Firefox/140.0"),
            "Firefox on Windows"
        );
        assert_eq!(name("curl/8.5.0"), "curl");
        assert_eq!(name(""), "Unknown device");
    }
}
