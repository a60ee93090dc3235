//! A million sessions: how much memory a filtered end takes, and that it is exact. For a run by hand:
//!
//! ```sh
//! cargo test -p rocket_mongo_session_cli --test cli -- --ignored million --nocapture
//! ```

use std::time::Instant;

use mongodb::bson::doc;
use serde_json::json;

use crate::support::Mongod;
use crate::tool::{FIREFOX, Shop, start, wait};

const SESSIONS: u64 = 1_000_000;
const MAX_MEGABYTES: f64 = 50.0;

#[rocket::async_test]
#[ignore = "takes minutes"]
async fn filtered_end_of_a_million_sessions_is_small_and_exact() {
    let mongod = Mongod::start().await;
    let name = "cli_million";
    let shop = Shop::open(name, &mongod.url(name), mongod.client().await).await;
    let (one, other) = (
        shop.login(json!("a"), FIREFOX).await,
        shop.login(json!("b"), "curl/8").await,
    );
    shop.multiply(&one, SESSIONS / 2 - 1).await;
    shop.multiply(&other, SESSIONS / 2 - 1).await;
    let count = async || {
        shop.collection()
            .count_documents(doc! {})
            .await
            .expect("a count")
    };
    assert_eq!(count().await, SESSIONS);

    for (args, said, left) in [
        (
            &["count", "--client", "curl"][..],
            "500000 sessions",
            SESSIONS,
        ),
        (
            &["revoke", "--client", "curl", "--yes"],
            "500000 sessions ended",
            SESSIONS / 2,
        ),
        (&["revoke-all", "--yes"], "500000 sessions ended", 0),
    ] {
        let started = Instant::now();
        let child = start(&shop.with_config(args));
        let status = format!("/proc/{}/status", child.id());
        let watching = rocket::tokio::task::spawn_blocking(move || {
            let mut peak = 0.0_f64;
            while let Ok(text) = std::fs::read_to_string(&status) {
                let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                let Some(line) = line else { break }; // it has ended
                let kilobytes = line.trim().trim_end_matches(" kB").parse().unwrap_or(0.0);
                peak = peak.max(kilobytes / 1024.0);
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            peak
        });
        let done = wait(child).await.ends_with(0);
        let (time, peak) = (
            started.elapsed().as_secs_f64(),
            watching.await.expect("a thread"),
        );
        println!("{}: {time:.1} s, {peak:.1} MB at most", args.join(" "));
        assert!(done.out.starts_with(said), "{done:?}");
        assert_eq!(
            count().await.saturating_sub(1),
            left.saturating_sub(1),
            "{args:?}"
        );
        assert!(peak < MAX_MEGABYTES, "{peak} MB");
    }
}
