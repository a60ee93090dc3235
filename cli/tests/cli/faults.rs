//! Servers that break a promise: a real one behind a proxy that changes what it is asked. The doctor has
//! to find each.
//!
//! They are the faults of services that speak MongoDB's protocol, and of the crate's negative controls
//! (`tests/suite/store/wrong_stores.rs`, `tests/suite/store/conformance/faulty.rs`), as far as a server can
//! have them.

use bson::{Bson, Document, doc};
use serde_json::Value;

use crate::doctor::{doctor, line, scratches};
use crate::support::{Mongod, Proxy, ReplicaSet};

/// Changes each statement of a command that has a list of them.
fn statements(request: &mut Document, list: &str, change: impl Fn(&mut Document) -> bool) -> bool {
    let Ok(statements) = request.get_array_mut(list) else {
        return false;
    };
    let mut is_changed = false;
    for statement in statements.iter_mut().filter_map(Bson::as_document_mut) {
        is_changed |= change(statement);
    }
    is_changed
}

/// A standalone server behind a proxy with this fault.
async fn standalone(
    db: &str,
    fault: impl Fn(&mut Document) -> bool + Send + 'static,
    args: &[&str],
) -> Value {
    let mongod = Mongod::shared().await;
    let proxy = Proxy::start(mongod.port()).await;
    proxy.rewrite(fault);
    let (said, report) = doctor(&proxy.url(db), args).await;
    said.ends_with(1);
    assert!(scratches(&mongod.client().await, db).await.is_empty());
    report
}

/// The primary of a replica set behind a proxy.
async fn member(db: &str, set: &ReplicaSet) -> (Proxy, String) {
    let primary = &set.nodes()[set.primary().await];
    let proxy = Proxy::start(primary.port()).await;
    let url = format!("{}?directConnection=true", proxy.url(db));
    (proxy, url)
}

#[track_caller]
fn is_broken(report: &Value, check: &str) {
    assert_eq!(line(report, check).0, "broken", "{report:#}");
}

/// As a gateway that does not give the number to its engine.
#[rocket::async_test]
async fn numbered_write_that_is_applied_twice_is_found() {
    let set = ReplicaSet::shared().await;
    let (proxy, url) = member("fault_numbering", set).await;
    proxy.rewrite(|request| request.remove("txnNumber").is_some());
    let (said, report) = doctor(&url, &["--only", "numbering"]).await;
    said.ends_with(1);
    is_broken(&report, "numbering");
    assert!(
        line(&report, "numbering").1.contains("[2, 2]"),
        "{report:#}"
    );

    // With retryWrites=false nothing is sent again, so no promise is broken.
    let (said, report) = doctor(
        &format!("{url}&retryWrites=false"),
        &["--only", "numbering"],
    )
    .await;
    said.ends_with(0);
    assert_eq!(line(&report, "numbering").0, "attention", "{report:#}");
}

#[rocket::async_test]
async fn missing_change_streams_are_found() {
    let set = ReplicaSet::shared().await;
    let is_stream = |request: &Document| {
        request.contains_key("aggregate") && request.to_string().contains("$changeStream")
    };
    let (proxy, url) = member("fault_streams", set).await;
    proxy.refuse_where(move |request| is_stream(request).then_some(40324));
    let (said, report) = doctor(&url, &["--only", "change-streams"]).await;
    said.ends_with(1);
    is_broken(&report, "change-streams");

    // As a service that tells no deletion.
    let (proxy, url) = member("fault_deletions", set).await;
    proxy.rewrite(move |request| {
        let is_one = is_stream(request);
        if is_one && let Ok(stages) = request.get_array_mut("pipeline") {
            stages.push(doc! { "$match": { "operationType": { "$ne": "delete" } } }.into());
        }
        is_one
    });
    let (said, report) = doctor(&url, &["--only", "change-streams"]).await;
    said.ends_with(1);
    assert!(
        line(&report, "change-streams")
            .1
            .contains("told insert, update in"),
        "{report:#}"
    );
}

#[rocket::async_test]
async fn missing_partial_index_is_found() {
    let mongod = Mongod::shared().await;
    let proxy = Proxy::start(mongod.port()).await;
    proxy.refuse_where(|request| {
        let is_partial = request.to_string().contains("partialFilterExpression");
        (request.contains_key("createIndexes") && is_partial).then_some(67)
    });
    let (said, report) = doctor(&proxy.url("fault_partial"), &["--only", "partial-index"]).await;
    said.ends_with(1);
    is_broken(&report, "partial-index");

    // Another service makes the index, without the expression.
    let ignored = |request: &mut Document| {
        statements(request, "indexes", |index| {
            index.remove("partialFilterExpression").is_some()
        })
    };
    is_broken(
        &standalone("fault_ignored", ignored, &["--only", "partial-index"]).await,
        "partial-index",
    );
}

#[rocket::async_test]
async fn documents_that_never_expire_are_found() {
    let fault = |request: &mut Document| {
        statements(request, "indexes", |index| {
            index.remove("expireAfterSeconds").is_some()
        })
    };
    let args = ["--only", "ttl", "--ttl-patience", "4"];
    is_broken(&standalone("fault_ttl", fault, &args).await, "ttl");
}

#[rocket::async_test]
async fn wrong_time_of_the_server_is_found() {
    let fault = |request: &mut Document| {
        statements(request, "updates", |statement| {
            let Ok(update) = statement.get_document_mut("u") else {
                return false;
            };
            let is_one = update.remove("$currentDate").is_some();
            if is_one {
                update.insert("$set", doc! { "at": bson::DateTime::from_millis(0) });
            }
            is_one
        })
    };
    is_broken(
        &standalone("fault_date", fault, &["--only", "currentDate"]).await,
        "currentDate",
    );
}

/// Faults that the promises of the storage find, and which promise does.
#[rocket::async_test]
async fn broken_promises_of_the_storage_are_found() {
    type Fault = fn(&mut Document) -> bool;
    let faults: [(&str, Fault, &str); 6] = [
        (
            "fault_upsert",
            |request| {
                statements(request, "updates", |one| {
                    one.insert("upsert", true) != Some(true.into())
                })
            },
            "update_never_creates",
        ),
        (
            "fault_filter",
            |request| statements(request, "updates", only_id),
            "update_asks_its_whole_filter",
        ),
        (
            "fault_delete",
            |request| statements(request, "deletes", only_id),
            "delete_asks_its_whole_filter",
        ),
        (
            "fault_order",
            |request| request.contains_key("find") && request.remove("sort").is_some(),
            "find_goes_by_created_and_then_by_id",
        ),
        (
            "fault_increment",
            |request| {
                statements(request, "updates", |one| {
                    let Ok(update) = one.get_document_mut("u") else {
                        return false;
                    };
                    let Some(increment) = update.remove("$inc") else {
                        return false;
                    };
                    update.insert("$set", increment);
                    true
                })
            },
            "no_increment_is_lost",
        ),
        (
            "fault_page",
            |request| request.contains_key("find") && request.remove("skip").is_some(),
            "find_gives_the_page_that_was_asked_for",
        ),
    ];
    for (db, fault, promise) in faults {
        let report = standalone(db, fault, &["--only", "conformance"]).await;
        is_broken(&report, "conformance");
        is_broken(&report, &format!("conformance: {promise}"));
    }
}

/// Leaves of a statement's filter the id alone.
fn only_id(statement: &mut Document) -> bool {
    let Ok(filter) = statement.get_document_mut("q") else {
        return false;
    };
    let others: Vec<String> = filter.keys().filter(|key| *key != "_id").cloned().collect();
    if !filter.contains_key("_id") {
        return false;
    }
    for other in &others {
        filter.remove(other);
    }
    !others.is_empty()
}
