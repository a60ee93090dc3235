//! 1,000 logins a second while the TTL index deletes as many sessions.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mongodb::Collection;
use mongodb::bson::{DateTime, Document, doc};
use rocket::futures::{StreamExt, stream};
use rocket::http::Cookie;
use rocket::local::asynchronous::Client;
use rocket::tokio::time::sleep_until;

use crate::support::server::Server;
use crate::support::stats::quantile;
use crate::support::table::Table;
use crate::{OF_EACH_USER, login_cookie};

const RATE: u32 = 1000;
/// How long after it has expired the index deletes a session.
const TTL_DELAY_MILLIS: i64 = 300_000;
/// Requests that wait for their moment or their response.
const MAX_CONCURRENT: usize = 1024;
/// Logins whose session is read in the end.
const EACH: u32 = 500;

/// Of one minute.
#[derive(Default)]
struct Minute {
    latencies: Vec<u32>,
    deleted: i64,
}

pub async fn measure(
    client: &Client,
    server: &Server,
    stored: &Collection<Document>,
    number: usize,
    seconds: u32,
) {
    let all = RATE * seconds;
    let expiring = expire_in_turn(stored, number, all, seconds).await;
    let deleted_before = server.ttl_deleted().await;
    let minutes: Mutex<BTreeMap<u64, Minute>> = Mutex::default();
    let cookies: Mutex<Vec<(u32, String)>> = Mutex::default();
    let start = Instant::now();
    let logins = stream::iter(0..all).for_each_concurrent(MAX_CONCURRENT, |at| {
        let (minutes, cookies) = (&minutes, &cookies);
        async move {
            let due = start + Duration::from_secs(1) * at / RATE;
            sleep_until(due.into()).await;
            // Users that the other sessions do not have.
            let cookie = login_cookie(client, -1 - i64::from(at)).await;
            let late = due.elapsed().as_micros() as u32;
            let minute = due.duration_since(start).as_secs() / 60;
            let mut minutes = minutes.lock().expect("no panic");
            minutes.entry(minute).or_default().latencies.push(late);
            if at % EACH == 0 {
                cookies.lock().expect("no panic").push((at, cookie));
            }
        }
    });
    let watch = async {
        let mut last = deleted_before;
        for minute in 0_u64.. {
            let end = start + Duration::from_secs(60) * (minute as u32 + 1);
            sleep_until(end.into()).await;
            let now = server.ttl_deleted().await;
            let mut minutes = minutes.lock().expect("no panic");
            minutes.entry(minute).or_default().deleted = now - last;
            last = now;
        }
    };
    rocket::tokio::select! {
        () = logins => {}
        () = watch => {}
    }
    let took = start.elapsed();

    let mut table = Table::new(&[
        "minute",
        "logins",
        "p50, ms",
        "p99",
        "p99.9",
        "longest",
        "deleted by TTL",
    ]);
    for (minute, mut one) in minutes.into_inner().expect("no panic") {
        let mut cells = vec![(minute + 1).to_string(), one.latencies.len().to_string()];
        for share in [0.5, 0.99, 0.999, 1.0] {
            cells.push(format!(
                "{:.1}",
                quantile(&mut one.latencies, share) / 1000.0
            ));
        }
        cells.push(one.deleted.to_string());
        table.row(cells);
    }
    table.print();

    // Of users below zero; none of them has expired yet.
    let of_logins = stored.count_documents(doc! { "user": { "$lt": 0_i64 } });
    let of_logins = of_logins.await.expect("a count");
    assert_eq!(of_logins, u64::from(all), "sessions of the logins");
    let cookies = cookies.into_inner().expect("no panic");
    for (at, cookie) in &cookies {
        let request = client
            .get("/user")
            .cookie(Cookie::new("session", cookie.clone()));
        let body = request.dispatch().await.into_string().await;
        assert_eq!(
            body,
            Some(format!("Some({})", -1 - i64::from(*at))),
            "a login"
        );
    }
    println!(
        "{all} logins in {took:.0?}, {} of them read again; {expiring} sessions expired meanwhile\n",
        cookies.len()
    );
}

/// Gives the sessions of the last users moments within the next seconds at which they are deleted.
async fn expire_in_turn(
    stored: &Collection<Document>,
    number: usize,
    count: u32,
    seconds: u32,
) -> u64 {
    let users = (number / OF_EACH_USER) as i64;
    let last = doc! { "user": { "$gte": users - i64::from(count) / OF_EACH_USER as i64 } };
    let start = DateTime::from_millis(DateTime::now().timestamp_millis() - TTL_DELAY_MILLIS);
    let random = doc! { "$multiply": [{ "$rand": {} }, i64::from(seconds) * 1000] };
    let moment = doc! { "$add": [start, { "$toLong": random }] };
    let update = stored
        .update_many(last, vec![doc! { "$set": { "expires": moment } }])
        .await;
    update.expect("an update").modified_count
}
