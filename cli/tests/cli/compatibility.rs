//! Makes the measured part of docs/compatibility.md: the doctor on each server that can be started here.
//!
//! `scripts/compatibility` runs it.

use crate::support::{Mongod, ReplicaSet};
use crate::tool::{folder, run};

const BEGIN: &str = "<!-- made by scripts/compatibility -->\n";
const END: &str = "<!-- end -->\n";

#[rocket::async_test]
#[ignore = "makes a page: scripts/compatibility"]
async fn page_has_the_report_of_every_server() {
    let series = std::env::var("SERIES").unwrap_or_else(|_| "6.0 5.0 4.4".to_owned());
    let mut page = String::new();
    for series in series.split_whitespace() {
        let standalone = Mongod::builder().series(series).start().await;
        page += &report(series, "standalone server", &standalone.url("doctor")).await;
        drop(standalone);
        let set = ReplicaSet::builder().series(series).start().await;
        page += &report(series, "replica set", &set.url("doctor")).await;
    }
    let path = folder().join("../docs/compatibility.md");
    let text = std::fs::read_to_string(&path).expect("the page");
    let (before, rest) = text.split_once(BEGIN).expect("the first mark");
    let (_, after) = rest.split_once(END).expect("the last mark");
    let text = format!("{before}{BEGIN}\n{}\n\n{END}{after}", page.trim());
    std::fs::write(&path, text).expect("a page");
}

async fn report(series: &str, topology: &str, url: &str) -> String {
    let said = run(&["doctor", url, "--markdown"]).await;
    assert!(said.code == 0 || said.code == 1, "{series}: {said:#?}");
    format!(
        "### MongoDB {series}, {topology}\n\n{}\n\n",
        said.out.trim()
    )
}
