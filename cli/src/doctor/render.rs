//! The report as text, Markdown and JSON.

use serde_json::json;

use super::report::{Line, Outcome, Report};

/// Columns of a line of text.
const WIDTH: usize = 100;

fn verdict(report: &Report) -> String {
    let count = |outcome| report.count(outcome);
    let numbers = format!(
        "{} hold, {} do not hold, {} need attention, {} not tried",
        count(Outcome::Holds),
        count(Outcome::Broken),
        count(Outcome::Attention),
        count(Outcome::NotTried)
    );
    match report.is_broken() {
        true => format!("A promise is broken: {numbers}."),
        false => format!("No broken promise was found: {numbers}."),
    }
}

pub fn text(report: &Report) -> String {
    let mut out = format!("{} at {}\n{}\n", report.server(), report.hosts, report.at);
    for line in report.lines() {
        let head = format!("{:<15}{}", line.outcome.text(), line.check);
        out += &format!("\n{head}\n");
        for (name, text) in [
            ("tried", Some(&line.tried)),
            ("found", Some(&line.found)),
            ("means", line.means.as_ref()),
            ("do", line.advice.as_ref()),
        ] {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                out += &wrapped(&format!("      {name:<9}"), text);
            }
        }
    }
    format!("{out}\n{}\n", verdict(report))
}

/// A text behind a head, with lines that are no longer than `WIDTH`.
fn wrapped(head: &str, text: &str) -> String {
    let mut out = head.to_owned();
    let mut column = head.len();
    for (at, word) in text.split_whitespace().enumerate() {
        if at > 0 && column + 1 + word.chars().count() > WIDTH {
            out += &format!("\n{:1$}", "", head.len());
            column = head.len();
        } else if at > 0 {
            out.push(' ');
            column += 1;
        }
        out += word;
        column += word.chars().count();
    }
    out + "\n"
}

pub fn markdown(report: &Report) -> String {
    let cell = |text: &str| text.replace('|', "\\|");
    let mut out = format!(
        "{}, {}\n\n{}\n\n| check | result | found |\n|---|---|---|\n",
        report.server(),
        report.at,
        verdict(report)
    );
    for line in report.lines() {
        let result = match line.outcome {
            Outcome::Broken => format!("**{}**", line.outcome.text()),
            outcome => outcome.text().to_owned(),
        };
        out += &format!(
            "| {} | {result} | {} |\n",
            cell(&line.check),
            cell(&line.found)
        );
    }
    let is_fault = |line: &Line| line.means.is_some() || line.advice.is_some();
    let mut faults = report.lines();
    faults.retain(is_fault);
    if !faults.is_empty() {
        out.push('\n');
    }
    for line in faults {
        let said = [line.means, line.advice].into_iter().flatten();
        let said: Vec<String> = said.collect();
        out += &format!("- *{}*: {}\n", line.check, said.join(" "));
    }
    out
}

pub fn json(report: &Report) -> serde_json::Result<String> {
    let count = |outcome| report.count(outcome);
    serde_json::to_string(&json!({
        "server": report.server(),
        "hosts": report.hosts,
        "at": report.at,
        "is_broken": report.is_broken(),
        "holds": count(Outcome::Holds),
        "broken": count(Outcome::Broken),
        "attention": count(Outcome::Attention),
        "not_tried": count(Outcome::NotTried),
        "lines": report.lines(),
    }))
}
