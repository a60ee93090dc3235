//! Requests whose futures are dropped at any point, as a server that shuts down or times out does.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rocket::tokio::{spawn, time};

use super::{both_ways, serves, setting, view};
use crate::apps::arena::{Arena, Op, request, set};
use crate::apps::database;
use crate::support::{Mongod, seed};

both_ways! {
    a_dropped_request_does_all_or_nothing_and_breaks_no_pool => dropped;
}

async fn dropped(share: bool) {
    let mongod = Mongod::shared().await;
    let setting = setting(&mongod.url(&database()), share)
        .connections(4)
        .key("deadline", 30);
    let arena = Arena::start(&setting).await;
    let browser = arena.plant(&[set("a", 0), set("b", 0)]).await;
    // What is dropped where, as far as it is ours to decide.
    let mut rng = StdRng::seed_from_u64(seed("DROP_SEED"));
    let mut dropped = 0;
    for round in 1..=400_i64 {
        let program = [
            set("a", round),
            set("b", round),
            Op::Push("list".into(), round.into()),
        ];
        let request = request(&browser, &program);
        let other = Arc::clone(&arena);
        let task = spawn(async move { other.send(request).await });
        let patience = rng.random_range(0..3000);
        time::sleep(Duration::from_micros(patience)).await;
        if !task.is_finished() {
            dropped += 1;
        }
        task.abort();
        if round % 100 == 0 {
            let view = view(&arena, &browser).await;
            assert_eq!(view.values["a"], view.values["b"], "{view:?}");
        }
    }
    println!("{dropped} of 400 dropped");
    assert!(dropped > 0);
    serves(&arena).await;
    let view = view(&arena, &browser).await;
    assert_eq!(view.values["a"], view.values["b"]);
    let list = view.list("list");
    let mut once: Vec<_> = list.iter().filter_map(|item| item.as_i64()).collect();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), list.len(), "a change was done twice");
}
