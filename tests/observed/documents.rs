//! The table of metrics in the guide, the dashboard and the alerts are about metrics that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use metrics_util::MetricKind;
use serde_json::{Value, json};

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
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
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

/// What the dashboard schema of Grafana asks for, as far as it is used here.
#[test]
fn dashboard_can_be_imported() {
    let text = read("docs/grafana.json");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    // The id of a dashboard is that of one installation.
    assert!(dashboard.get("id").is_none_or(Value::is_null));
    assert!(dashboard["schemaVersion"].is_u64());
    assert!(dashboard["uid"].as_str().is_some_and(|uid| uid.len() <= 40));

    let source = json!({ "type": "prometheus", "uid": "${datasource}" });
    let list = dashboard["templating"]["list"].as_array();
    let mut variables = BTreeSet::from(["__rate_interval"]);
    for variable in list.expect("variables") {
        variables.insert(variable["name"].as_str().expect("a name"));
        match variable["type"].as_str() {
            Some("datasource") => assert_eq!(variable["query"], "prometheus"),
            _ => assert_eq!(variable["datasource"], source, "{variable}"),
        }
    }
    assert!(variables.contains("datasource"));
    for rest in text.split('$').skip(1) {
        let name = rest.trim_start_matches('{');
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let name = &name[..end.unwrap_or(name.len())];
        assert!(name == "__all" || variables.contains(name), "{name}");
    }

    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert_eq!(panel["type"], "timeseries", "{panel}");
        assert_eq!(panel["datasource"], source, "{panel}");
        let unit = &panel["fieldConfig"]["defaults"]["unit"];
        assert!(unit.is_string(), "{panel}");
        let side = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
        let (x, y) = (side("x"), side("y"));
        assert!(x + side("w") <= 24, "beyond the right edge: {panel}");
        for column in x..x + side("w") {
            for row in y..y + side("h") {
                assert!(taken.insert((column, row)), "over another one: {panel}");
            }
        }
        let targets = panel["targets"].as_array().expect("targets");
        let ids: BTreeSet<_> = targets
            .iter()
            .map(|target| target["refId"].as_str())
            .collect();
        assert!(
            ids.len() == targets.len() && !ids.contains(&None),
            "{panel}"
        );
    }
}

/// `scripts/check-alerts` runs them.
#[test]
fn each_alert_has_a_test() {
    let words = |file: &str, before: &str| -> BTreeSet<String> {
        let text = read(file);
        let end = |c: char| !c.is_ascii_alphanumeric();
        let found = text.split(before).skip(1);
        found
            .filter_map(|rest| rest.split(end).next())
            .map(str::to_owned)
            .collect()
    };
    let tested = words("tests/observed/alerts.test.yml", "alertname=\"");
    assert_eq!(tested, words("docs/alerts.yml", "- alert: "));
}
