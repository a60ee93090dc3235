//! Metrics, as a recorder gets them.

use std::collections::{BTreeMap, BTreeSet};

use metrics_util::MetricKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use rocket::local::asynchronous::Client;
use rocket::{Build, Rocket, State, get, routes};
use rocket_mongo_session::{Error, Kind, Of, Session, Sessions, Stats};

use crate::support::Mongod;
use crate::{block_on, rocket};

/// A metric: its name and labels, kind, description and value.
#[derive(Debug)]
pub struct Metric {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub kind: MetricKind,
    pub text: String,
    value: DebugValue,
}

fn read(snapshotter: &Snapshotter) -> Vec<Metric> {
    let all = snapshotter.snapshot().into_vec().into_iter();
    let metrics = all.map(|(key, _, text, value)| {
        let labels = key.key().labels();
        Metric {
            name: key.key().name().to_owned(),
            labels: labels
                .map(|label| (label.key().to_owned(), label.value().to_owned()))
                .collect(),
            kind: key.kind(),
            text: text.map(|text| text.to_string()).unwrap_or_default(),
            value,
        }
    });
    metrics.collect()
}

/// Runs a test with a recorder of its own. Returns what was exported.
fn recorded(test: impl Future<Output = ()>) -> Vec<Metric> {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || block_on(test));
    read(&snapshotter)
}

/// Every metric of an application. It reaches no database.
pub fn all() -> Vec<Metric> {
    recorded(async {
        let url = "mongodb://127.0.0.1:1/observed?serverSelectionTimeoutMS=50";
        let rocket = rocket(Some(url)).attach(Sessions::fairing());
        rocket.ignite().await.expect("it ignites");
    })
}

fn fields() -> BTreeSet<String> {
    let stats = serde_json::to_value(Stats::default()).expect("JSON");
    let fields = stats.as_object().expect("an object").keys();
    fields.cloned().collect()
}

#[test]
fn every_counter_of_stats_is_exported_and_no_other() {
    let metrics = all();
    let counters = metrics
        .iter()
        .filter(|metric| metric.kind == MetricKind::Counter);
    let counters: BTreeSet<String> = counters.map(|metric| metric.name.clone()).collect();
    let wanted = fields();
    let wanted = wanted
        .iter()
        .map(|field| format!("rocket_mongo_session_{field}_total"));
    assert_eq!(counters, wanted.collect());
}

#[test]
fn labels_name_the_kind_and_what_is_waited_for() {
    for metric in all() {
        assert!(!metric.text.is_empty(), "{metric:?}");
        for (label, value) in &metric.labels {
            let values: &[&str] = match label.as_str() {
                "kind" => &["main"],
                "for" => &["batch", "connection"],
                _ => &[],
            };
            assert!(values.contains(&value.as_str()), "{metric:?}");
        }
        // A pool may be that of several kinds.
        let is_of_pool = metric.name.contains("connections_") && metric.kind == MetricKind::Counter;
        assert_ne!(is_of_pool, metric.labels.contains_key("kind"), "{metric:?}");
    }
}

struct Admin;

impl Kind for Admin {
    const NAME: &'static str = "admin";
}

#[get("/visit")]
fn visit(session: &Session, admin: Of<'_, Admin>) -> Result<(), Error> {
    admin.set("n", &1)?;
    session.increment("n", 1).map(drop)
}

#[get("/pop")]
async fn pop(session: &Session) -> Result<(), Error> {
    session.flash("good")?;
    session.save().await?;
    session.pop_flash::<String>().await.map(drop)
}

#[get("/stats")]
fn stats(sessions: &State<Sessions>) -> rocket::serde::json::Json<Stats> {
    rocket::serde::json::Json(sessions.stats())
}

fn app(url: &str) -> Rocket<Build> {
    rocket(Some(url))
        .attach(Sessions::fairing())
        .attach(Sessions::fairing_of::<Admin>())
        .mount("/", routes![visit, pop, stats])
}

#[test]
fn exported_numbers_are_those_of_stats_and_of_what_was_done() {
    let stats = std::cell::RefCell::new(serde_json::Value::Null);
    let metrics = recorded(async {
        let mongod = Mongod::start().await;
        let client = Client::tracked(app(&mongod.url("exported"))).await;
        let client = client.expect("an application");
        for path in ["/visit", "/visit", "/pop", "/visit"] {
            assert_eq!(client.get(path).dispatch().await.status().code, 200);
        }
        let response = client.get("/stats").dispatch().await;
        *stats.borrow_mut() = response.into_json().await.expect("JSON");
    });
    let stats = stats.into_inner();
    let find = |name: &str, labels: &[(&str, &str)]| {
        let mut found = metrics.iter().filter(|metric| {
            let has = |(label, value): &(&str, &str)| {
                metric.labels.get(*label).map(String::as_str) == Some(*value)
            };
            metric.name == name && labels.iter().all(has)
        });
        let found = found.next();
        &found.unwrap_or_else(|| panic!("{name} {labels:?}")).value
    };
    for field in fields() {
        let labels: &[_] = match field.starts_with("connections_") {
            true => &[],
            false => &[("kind", "main")],
        };
        let name = format!("rocket_mongo_session_{field}_total");
        let exported = find(&name, labels);
        let counted = stats[&field].as_u64().expect("a number");
        assert_eq!(exported, &DebugValue::Counter(counted), "{field}");
    }
    assert_eq!(
        (stats["loads"].clone(), stats["commits"].clone()),
        (3.into(), 5.into())
    );

    let times = |name: &str, kind: &str, labels: &[(&str, &str)]| {
        let labels = [labels, &[("kind", kind)]].concat();
        match find(name, &labels) {
            DebugValue::Histogram(values) => {
                // Seconds, and not milliseconds.
                assert!(values.iter().all(|value| (0.0..60.0).contains(&value.0)));
                values.len()
            }
            other => panic!("{name}: {other:?}"),
        }
    };
    assert_eq!(times("rocket_mongo_session_load_seconds", "main", &[]), 3);
    assert_eq!(times("rocket_mongo_session_load_seconds", "admin", &[]), 2);
    // A commit of each `/visit` and two of `/pop`.
    assert_eq!(times("rocket_mongo_session_commit_seconds", "main", &[]), 5);
    assert_eq!(
        times("rocket_mongo_session_commit_seconds", "admin", &[]),
        1
    );
    let wait = "rocket_mongo_session_wait_seconds";
    assert!(times(wait, "main", &[("for", "batch")]) >= 3);
    assert!(times(wait, "main", &[("for", "connection")]) >= 8);
    for (name, labels) in [
        ("waiting_requests", &[("for", "batch")][..]),
        ("waiting_requests", &[("for", "connection")]),
        ("connections_in_use", &[]),
    ] {
        let gauge = find(&format!("rocket_mongo_session_{name}"), labels);
        assert_eq!(gauge, &DebugValue::Gauge(0.0.into()), "{name}");
    }
}
