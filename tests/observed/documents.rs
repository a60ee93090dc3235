//! The table of metrics in the guide, the dashboard and the alerts are about metrics that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use metrics_util::MetricKind;

use crate::exported::all;

const PREFIX: &str = "rocket_mongo_session_";

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn guide_has_a_row_for_each_metric() {
    let guide = read("src/guide/operation.md");
    let rows: BTreeSet<String> = guide
        .lines()
        .filter(|line| line.starts_with(&format!("| `{PREFIX}")))
        .map(str::to_owned)
        .collect();
    let metrics = all().into_iter().map(|metric| {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let labels = metric.labels.keys().map(|label| format!("`{label}`"));
        let labels = labels.collect::<Vec<_>>().join(", ");
        let text = metric.text.trim_end_matches('.');
        format!("| `{}` | {kind} | {labels} | {text} |", metric.name)
    });
    let metrics: BTreeSet<String> = metrics.collect();
    let missing: Vec<_> = metrics.difference(&rows).collect();
    let surplus: Vec<_> = rows.difference(&metrics).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "missing: {missing:#?}\nsurplus: {surplus:#?}"
    );
}

/// The series that Prometheus has of each metric.
fn series() -> BTreeSet<String> {
    let mut series = BTreeSet::new();
    for metric in all() {
        if metric.kind == MetricKind::Histogram {
            for end in ["_bucket", "_sum", "_count"] {
                series.insert(format!("{}{end}", metric.name));
            }
        } else {
            series.insert(metric.name);
        }
    }
    series
}

fn named(text: &str) -> BTreeSet<String> {
    let names = text.split(PREFIX).skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
        format!("{PREFIX}{}", &rest[..end.unwrap_or(rest.len())])
    });
    names.collect()
}

#[test]
fn dashboard_names_only_metrics_that_exist() {
    let text = read("docs/grafana.json");
    let dashboard: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{panel}");
        assert!(panel["title"].is_string(), "{panel}");
        for target in panel["targets"].as_array().expect("targets") {
            let query = target["expr"].as_str().expect("a query");
            assert!(!named(query).is_empty(), "{query}");
        }
    }
    let (named, series) = (named(&text), series());
    assert!(named.is_subset(&series), "{:?}", named.difference(&series));
    assert!(named.len() > 15, "{named:?}");
}

#[test]
fn alerts_name_only_metrics_that_exist_and_say_what_to_do() {
    let text = read("docs/alerts.yml");
    let (named, series) = (named(&text), series());
    assert!(named.is_subset(&series), "{:?}", named.difference(&series));
    let alerts: Vec<&str> = text.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 4);
    for alert in alerts {
        let value = |key: &str| {
            let line = alert.lines().find_map(|line| line.trim().strip_prefix(key));
            line.unwrap_or_else(|| panic!("no {key} in {alert}")).trim()
        };
        assert!(self::named(value("expr:")).len() == 1, "{alert}");
        for key in ["for:", "labels: { severity:", "summary:", "action:"] {
            assert!(!value(key).is_empty(), "{alert}");
        }
    }
}
