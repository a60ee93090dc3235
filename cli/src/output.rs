//! What the commands print: tables for people, JSON for programs.

use std::io::{self, Write, stdout};
use std::time::SystemTime;

use chrono::{DateTime, Local};
use comfy_table::{Cell, CellAlignment, Table, presets};
use rocket_mongo_session::SessionInfo;
use rocket_mongo_session::time::OffsetDateTime;
use serde::Serialize;
use serde_json::Value;
use woothee::parser::Parser;

/// Characters of a client that no parser knows.
const MAX_CLIENT_CHARS: usize = 40;

/// Local time, to the second.
pub fn local(at: OffsetDateTime) -> String {
    let at = DateTime::<Local>::from(SystemTime::from(at));
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// Returns a text of a client's without what a terminal would act on.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() { '\u{fffd}' } else { char })
        .collect()
}

/// Returns the name of a browser and its system, or the beginning of what it says of itself.
pub fn client(agent: &str) -> String {
    let known = Parser::new()
        .parse(agent)
        .filter(|known| known.name != "UNKNOWN");
    let Some(known) = known else {
        return printable(agent).chars().take(MAX_CLIENT_CHARS).collect();
    };
    let version = known.version.split('.').next().unwrap_or_default();
    let version = version
        .chars()
        .all(|char| char.is_ascii_digit())
        .then_some(version);
    let mut name = known.name.to_owned();
    if let Some(version) = version.filter(|version| !version.is_empty()) {
        name = format!("{name} {version}");
    }
    match known.os {
        "UNKNOWN" | "" => name,
        os => format!("{name}, {os}"),
    }
}

/// A user as text: a string as it is, another value as JSON.
pub fn user(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => printable(text),
        other => printable(&other.to_string()),
    }
}

/// Prints one line of JSON.
pub fn json(value: &impl Serialize) -> io::Result<()> {
    let mut out = stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    out.write_all(b"\n")
}

/// Prints one line.
pub fn line(text: &str) -> io::Result<()> {
    writeln!(stdout().lock(), "{text}")
}

/// Prints sessions, a page at a time.
pub struct Sessions {
    json: bool,
    has_header: bool,
}

impl Sessions {
    pub fn new(json: bool) -> Self {
        Sessions {
            json,
            has_header: false,
        }
    }

    pub fn print(&mut self, page: &[SessionInfo]) -> io::Result<()> {
        if page.is_empty() {
            return Ok(());
        }
        if self.json {
            return page.iter().try_for_each(json);
        }
        let mut table = table();
        if !self.has_header {
            self.has_header = true;
            table.set_header([
                "ID",
                "USER",
                "CREATED",
                "LAST USED",
                "EXPIRES",
                "CLIENT",
                "ADDRESS",
            ]);
        }
        for info in page {
            let value = info.user::<Value>().ok().flatten().unwrap_or_default();
            table.add_row([
                info.id.clone(),
                user(&value),
                local(info.created),
                local(info.accessed),
                info.expires.map_or_else(|| "never".to_owned(), local),
                info.client
                    .as_deref()
                    .map_or_else(|| "-".to_owned(), client),
                info.ip.map_or_else(|| "-".to_owned(), |ip| ip.to_string()),
            ]);
        }
        line(&table.trim_fmt())
    }
}

/// Prints names and values, aligned.
pub fn pairs<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> io::Result<()> {
    let mut table = table();
    for (name, value) in rows {
        table.add_row([
            Cell::new(name).set_alignment(CellAlignment::Left),
            Cell::new(value),
        ]);
    }
    line(&table.trim_fmt())
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_is_named_by_browser_and_system() {
        let firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0";
        assert_eq!(client(firefox), "Firefox 121, Linux");
        let safari = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 \
                      (KHTML, like Gecko) Version/17.1 Mobile/15E148 Safari/604.1";
        assert_eq!(client(safari), "Safari 17, iPhone");
    }

    #[test]
    fn client_cannot_act_on_the_terminal() {
        assert_eq!(client("\u{1b}[2Jmy client"), "\u{fffd}[2Jmy client");
        assert_eq!(user(&Value::from("a\u{7}b")), "a\u{fffd}b");
    }
}
