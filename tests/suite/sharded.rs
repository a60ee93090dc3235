//! Sessions on a sharded cluster: two shards by a hashed `_id`, chunks that move, a shard that dies. What
//! stands in for a mongos there, and so what these tests do not show, is in docs/reliability.md.

use std::collections::BTreeSet;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::options::{IndexOptions, WriteConcern};
use mongodb::{Collection, IndexModel};
use rocket::futures::TryStreamExt;
use rocket::futures::future::join_all;
use rocket::serde::json::json;
use rocket_mongo_session::store::Filter;
use rocket_mongo_session::testing::Clock;
use rocket_mongo_session::{End, MongoStore, Query, Store};

use crate::apps::arena::{Arena, Op, set};
use crate::apps::database;
use crate::apps::probe::id_of;
use crate::robustness::crowd::Crowd;
use crate::robustness::faults::{self, DEADLINE, serves, setting};
use crate::robustness::history::Terms;
use crate::store::conformance::conforms_with;
use crate::support::{Browser, Cluster, Fate, Proxy, ReplicaSet, eventually, in_time, seed};

/// A database of its own on a cluster, and its collection of sessions.
fn place() -> (String, String) {
    let db = database();
    let namespace = format!("{db}.session");
    (db, namespace)
}

/// A collection of sessions as one shard has it.
async fn on_shard(shard: &ReplicaSet, db: &str) -> Collection<Document> {
    let primary = shard.primary().await;
    let client = shard.nodes()[primary].client().await;
    client.database(db).collection("session")
}

fn add() -> Op {
    Op::Increment("n".into(), 1)
}

/// Browsers with a session each, on both shards.
async fn spread(cluster: &Cluster, namespace: &str, arena: &Arena) -> Vec<(Browser, usize)> {
    let mut browsers = Vec::new();
    let mut shards = BTreeSet::new();
    while browsers.len() < 20 || shards.len() < 2 {
        let browser = arena.plant(&[set("n", 0)]).await;
        let shard = cluster.shard_of(namespace, &id(&browser)).await;
        shards.insert(shard);
        browsers.push((browser, shard));
    }
    browsers
}

fn id(browser: &Browser) -> String {
    let cookie = browser.cookie("session").expect("a session");
    id_of(&cookie).to_owned()
}

async fn n(arena: &Arena, browser: &Browser) -> i64 {
    arena
        .run(browser, &[Op::View])
        .await
        .results()
        .view(0)
        .int("n")
}

/// The harness: batches reach both shards, and the shards deduplicate them.
#[rocket::async_test]
async fn batch_that_is_sent_twice_is_applied_once_on_both_shards() {
    let (cluster, (db, _)) = (Cluster::shared().await, place());
    let client = cluster.client().await;
    let database = client.database(&db);
    let mut session = client.start_session().await.expect("a server session");
    let ids = (0..40).map(|number| format!("id{number}"));
    let documents: Vec<_> = ids.clone().map(|id| doc! { "_id": id, "n": 0 }).collect();
    let insert = doc! { "insert": "session", "documents": documents, "txnNumber": 1i64 };
    let add = |id| doc! { "q": { "_id": id }, "u": { "$inc": { "n": 1 } } };
    let updates: Vec<_> = ids.map(add).collect();
    let update = doc! { "update": "session", "updates": updates, "txnNumber": 2i64 };
    for command in [insert, update] {
        for times in 0..2 {
            let run = database.run_command(command.clone());
            let reply = run.session(&mut session).await.expect("a batch");
            assert_eq!(reply.get_i32("n"), Ok(40), "{reply}");
            let retried = reply.get_array("retriedStmtIds").map_or(0, Vec::len);
            assert_eq!(retried, 40 * times, "{reply}");
        }
    }
    let mut total = 0;
    for shard in cluster.shards() {
        let sessions = on_shard(shard, &db).await;
        let here = sessions.count_documents(doc! { "n": 1 }).await.unwrap();
        assert_eq!(here, sessions.count_documents(doc! {}).await.unwrap());
        assert!(here > 0);
        total += here;
    }
    assert_eq!(total, 40);
}

#[rocket::async_test]
async fn mongo_store_keeps_every_promise_on_two_shards() {
    conforms_with(&Cluster::shared().await.client().await, true).await;
}

#[rocket::async_test]
#[ignore = "takes a minute; the one with batching is run"]
async fn mongo_store_keeps_every_promise_on_two_shards_without_batching() {
    conforms_with(&Cluster::shared().await.client().await, false).await;
}

#[rocket::async_test]
async fn indexes_are_made_and_repaired_on_every_shard_beside_the_hashed_one() {
    let (cluster, (db, _)) = (Cluster::shared().await, place());
    let sessions: Collection<Document> = cluster.client().await.database(&db).collection("session");
    let wrong = |keys: Document, options: IndexOptions| {
        let index = IndexModel::builder().keys(keys).options(options).build();
        sessions.create_index(index)
    };
    let late = IndexOptions::builder()
        .name("session_expires".to_owned())
        .expire_after(Duration::from_secs(7))
        .build();
    wrong(doc! { "expires": 1 }, late).await.expect("an index");
    let whole = IndexOptions::builder()
        .name("session_user".to_owned())
        .build();
    let keys = doc! { "user": 1, "created": 1, "_id": 1 };
    wrong(keys, whole).await.expect("an index");
    let store = MongoStore::new(&sessions, Duration::from_secs(60), 10, true);
    store.ensure_indexes().await.expect("indexes");
    for shard in cluster.shards() {
        let indexes = on_shard(shard, &db).await.list_indexes().await.unwrap();
        let indexes: Vec<IndexModel> = indexes.try_collect().await.unwrap();
        let options = indexes.into_iter().filter_map(|index| index.options);
        let found = options.map(|index| {
            let seconds = index.expire_after.map(|after| after.as_secs());
            let is_partial = index.partial_filter_expression.is_some();
            (index.name.unwrap_or_default(), seconds, is_partial)
        });
        let found: BTreeSet<_> = found.collect();
        let wanted = [
            ("_id_", None, false),
            ("_id_hashed", None, false),
            ("session_expires", Some(300), false),
            ("session_user", None, true),
        ];
        let wanted =
            wanted.map(|(name, seconds, is_partial)| (name.to_owned(), seconds, is_partial));
        assert_eq!(found, wanted.into());
    }
}

#[rocket::async_test]
async fn every_call_of_a_session_and_of_an_administrator_works() {
    let (cluster, (db, namespace)) = (Cluster::shared().await, place());
    let clock = Clock::new();
    let keys = setting(&cluster.url(&db), true).key("timeout", 600);
    let arena = Arena::start(&keys.clock(&clock)).await;
    serves(&arena).await;

    let sessions = arena.sessions();
    let mut browsers = Vec::new();
    let mut shards = BTreeSet::new();
    while browsers.len() < 9 || shards.len() < 2 {
        let browser = arena.plant(&[Op::Login("bob".into()), set("n", 1)]).await;
        shards.insert(cluster.shard_of(&namespace, &id(&browser)).await);
        browsers.push(browser);
        clock.advance(Duration::from_millis(5));
    }
    let ann = arena.plant(&[Op::Login("ann".into())]).await;
    let (bob, count) = (sessions.of("bob"), browsers.len());
    let newest_first: Vec<String> = browsers.iter().rev().map(id).collect();
    let listed = bob.list(0, 100).await.unwrap();
    let listed: Vec<String> = listed.into_iter().map(|info| info.id).collect();
    assert_eq!(listed, newest_first);
    let page = bob.list(2, 3).await.unwrap();
    let page: Vec<String> = page.into_iter().map(|info| info.id).collect();
    assert_eq!(page, newest_first[2..5]);
    assert_eq!(bob.list(u64::MAX, 1).await.unwrap().len(), 0);
    assert_eq!(bob.count().await.unwrap(), count as u64);
    assert_eq!(sessions.count().await.unwrap(), count as u64 + 1);
    assert!(sessions.estimated_count().await.unwrap() > count as u64);

    let (mut found, mut query) = (BTreeSet::new(), Query::new().limit(2));
    loop {
        let page = sessions.find(&query).await.unwrap();
        found.extend(page.sessions.into_iter().map(|info| info.id));
        match page.next {
            Some(next) => query = Query::new().limit(2).after(&next),
            None => break,
        }
    }
    let all = newest_first.iter().cloned().chain([id(&ann)]);
    assert_eq!(found, all.collect());

    assert_eq!(bob.flash("hello").await.unwrap(), count as u64);
    let popped = arena.run(&browsers[1], &[Op::Pop]).await;
    assert_eq!(*popped.results().value(0), json!(["hello"]));
    assert!(sessions.revoke(&newest_first[0]).await.unwrap());
    assert!(bob.revoke(&newest_first[1]).await.unwrap());
    let others = arena.run(&browsers[0], &[Op::RevokeOthers]).await;
    assert_eq!(*others.results().value(0), json!(count - 3));
    assert_eq!(bob.revoke_all().await.unwrap(), 1);
    assert_eq!(sessions.revoke_all().await.unwrap(), 1);
    assert_eq!(sessions.count().await.unwrap(), 0);

    spread(cluster, &namespace, &arena).await;
    let stored = sessions.count().await.unwrap();
    clock.advance(Duration::from_secs(601));
    assert_eq!(sessions.purge_expired().await.unwrap(), stored);
}

/// A mongos has no profiler: what is asked is counted on its way there.
#[rocket::async_test]
async fn request_costs_one_find_and_one_update() {
    let (cluster, (db, _)) = (Cluster::shared().await, place());
    let proxy = Proxy::start(cluster.front().port()).await;
    let url = proxy.url(&db);
    let arena = Arena::start(&setting(&url, true).key("indexes", false)).await;
    let browser = arena.plant(&[set("n", 0)]).await;
    let seen = |name: &str| proxy.requests(name).len();
    let before = (seen("find"), seen("update"));
    let response = arena.run(&browser, &[add()]).await;
    assert_eq!(response.status(), 200);
    assert_eq!((seen("find"), seen("update")), (before.0 + 1, before.1 + 1));
}

#[rocket::async_test]
async fn ended_is_told_to_another_process() {
    let (cluster, (db, _)) = (Cluster::shared().await, place());
    let keys = setting(&cluster.url(&db), true);
    let (here, there) = (Arena::start(&keys).await, Arena::start(&keys).await);
    let browser = here.plant(&[Op::Login("bob".into())]).await;
    here.run(&browser, &[Op::View, Op::Follow(1)]).await;
    let ended = here.followed(1).expect("a session that is followed");
    let logout = there.run(&browser, &[Op::Logout]).await;
    assert_eq!(logout.status(), 200);
    assert_eq!(in_time("the end of a session", ended).await, End::Gone);
}

#[rocket::async_test]
async fn increments_whose_replies_were_lost_count_once() {
    let (cluster, (db, namespace)) = (Cluster::shared().await, place());
    let proxy = Proxy::start(cluster.front().port()).await;
    let arena = Arena::start(&setting(&proxy.url(&db), true)).await;
    let browsers = spread(cluster, &namespace, &arena).await;
    let rounds = 6;
    for _ in 0..rounds {
        proxy.plan_batches("update", [Fate::LoseReply]);
        let tabs = browsers.iter().map(|(browser, _)| async {
            let mut tab = arena.poise(browser, &[Op::View], &[add()]).await;
            tab.release();
            tab.response().await
        });
        for response in join_all(tabs).await {
            assert_eq!(response.status(), 200, "{}", response.0.text());
        }
    }
    assert!(proxy.cuts() > 0);
    for (browser, _) in &browsers {
        assert_eq!(n(&arena, browser).await, rounds);
    }
}

/// What a shard remembers of a numbered write goes with the chunk.
#[rocket::async_test]
async fn increment_whose_reply_was_lost_counts_once_after_its_chunk_has_moved() {
    let (cluster, (db, namespace)) = (Cluster::shared().await, place());
    let proxy = Proxy::start(cluster.front().port()).await;
    let keys = setting(&proxy.url(&db), true).key("deadline", 60);
    let arena = Arena::start(&keys).await;
    let browser = arena.plant(&[set("n", 0)]).await;
    let before = cluster.shard_of(&namespace, &id(&browser)).await;
    proxy.plan("update", [Fate::LoseReply, Fate::Hold]);
    let mut tab = arena.poise(&browser, &[Op::View], &[add()]).await;
    tab.release();
    eventually("a second attempt", async || proxy.held() == 1).await;
    let after = cluster.move_chunk(&namespace, &id(&browser)).await;
    proxy.release();
    assert_eq!(tab.response().await.status(), 200);
    assert_ne!(after, before);
    assert_eq!(n(&arena, &browser).await, 1);
    let sessions = on_shard(&cluster.shards()[after], &db).await;
    let here = sessions.find_one(doc! { "_id": id(&browser) }).await;
    assert!(here.unwrap().is_some());
}

#[rocket::async_test]
async fn increments_in_batches_are_exact_while_chunks_move() {
    let (cluster, (db, namespace)) = (Cluster::shared().await, place());
    let keys = setting(&cluster.url(&db), true).key("deadline", 60);
    let arena = Arena::start(&keys).await;
    let browsers = spread(cluster, &namespace, &arena).await;
    let reroutings = cluster.front().reroutings();
    let moving = async {
        for (browser, _) in browsers.iter().take(6) {
            cluster.move_chunk(&namespace, &id(browser)).await;
        }
    };
    let (is_over, over) = rocket::tokio::sync::watch::channel(false);
    let adding = join_all(browsers.iter().map(async |(browser, _)| {
        let mut added = 0;
        while !*over.borrow() {
            let program = [add(), Op::Push("log".into(), json!(added))];
            let response = arena.run(browser, &program).await;
            assert_eq!(response.status(), 200, "{}", response.0.text());
            added += 1;
        }
        added
    }));
    let moving = async {
        moving.await;
        is_over.send_replace(true);
    };
    let (added, ()) = rocket::tokio::join!(adding, moving);
    assert!(cluster.front().reroutings() > reroutings);
    for ((browser, _), added) in browsers.iter().zip(added) {
        let view = arena.run(browser, &[Op::View]).await.results().view(0);
        assert_eq!(
            (view.int("n"), view.list("log").len()),
            (added, added as usize)
        );
    }
}

/// Each shard carries out a deletion of many by itself. Here the new shard has done so before the session
/// arrives, and the old one after the session has left.
#[rocket::async_test]
async fn revocation_misses_no_session_whose_chunk_moves_meanwhile() {
    let (cluster, (db, namespace)) = (Cluster::shared().await, place());
    let arena = Arena::start(&setting(&cluster.url(&db), true)).await;
    let browser = arena.plant(&[Op::Login("bob".into())]).await;
    let from = cluster.shard_of(&namespace, &id(&browser)).await;
    let shard = &cluster.shards()[from];
    let primary = shard.nodes()[shard.primary().await].client().await;
    let admin = primary.database("admin");
    let point = "hangDuringBatchRemove";
    let set = doc! {
        "configureFailPoint": point, "mode": "alwaysOn", "data": { "nss": &namespace },
    };
    let set = admin.run_command(set).await.expect("a fail point");
    let entered = set.get_i32("count").unwrap_or(0) + 1;
    let releasing = async {
        let wait = doc! {
            "waitForFailPoint": point, "timesEntered": entered, "maxTimeMS": 20_000,
        };
        admin.run_command(wait).await.expect("a deletion");
        let release = async {
            // The shard's own deletions at the end of a move may wait, too.
            eventually("a chunk that has moved", async || {
                cluster.shard_of(&namespace, &id(&browser)).await != from
            })
            .await;
            let clear = doc! { "configureFailPoint": point, "mode": "off" };
            admin.run_command(clear).await.expect("no fail point");
        };
        let session = id(&browser);
        rocket::tokio::join!(cluster.move_chunk(&namespace, &session), release);
    };
    let bob = arena.sessions().of("bob");
    let (ended, ()) = rocket::tokio::join!(bob.revoke_all(), releasing);
    assert_eq!(bob.count().await.unwrap(), 0, "{ended:?}");
    assert_eq!(ended.unwrap(), 1);
}

/// A find returns at most 1,000 ids, so the deletion needs a second one.
#[rocket::async_test]
async fn revocation_of_more_than_a_thousand_sessions_counts_each() {
    let (cluster, (db, _)) = (Cluster::shared().await, place());
    let keys = setting(&cluster.url(&db), true).key("deadline", 60);
    let arena = Arena::start(&keys).await;
    arena.plant(&[Op::Login("bob".into())]).await;
    let sessions: Collection<Document> = cluster.client().await.database(&db).collection("session");
    let one = sessions.find_one(doc! { "user": "bob" }).await.unwrap();
    let one = one.expect("the session of the login");
    let id = one.get_str("_id").expect("its id").to_owned();
    let more = (1000..2200).map(|number| {
        let mut another = one.clone();
        another.insert("_id", format!("{}{number}", &id[..id.len() - 4]));
        another
    });
    sessions.insert_many(more).await.expect("more sessions");
    let bob = arena.sessions().of("bob");
    assert_eq!(bob.revoke_all().await.unwrap(), 1201);
    assert_eq!(bob.count().await.unwrap(), 0);
}

/// Holds replication back, so that the primary alone has what is written from now on.
async fn hold_replication(shard: &ReplicaSet, held: bool) {
    let mode = if held { "alwaysOn" } else { "off" };
    let primary = shard.primary().await;
    for node in (0..3).filter(|node| *node != primary) {
        let admin = shard.nodes()[node].client().await.database("admin");
        let order = doc! { "configureFailPoint": "stopReplProducer", "mode": mode };
        admin.run_command(order).await.expect("a fail point");
    }
}

/// Another process has deleted the session, and a failover could bring it back: the majority does not have
/// the deletion yet.
#[rocket::async_test]
async fn revocation_waits_for_a_deletion_that_the_majority_does_not_have() {
    let cluster = Cluster::start(3).await;
    let (db, namespace) = place();
    let sessions: Collection<Document> = cluster.client().await.database(&db).collection("session");
    let insert = sessions.insert_one(doc! { "_id": "one" });
    let insert = insert.write_concern(WriteConcern::majority());
    insert.await.expect("a document");
    let shard = &cluster.shards()[cluster.shard_of(&namespace, "one").await];
    hold_replication(shard, true).await;
    let delete = sessions.delete_one(doc! { "_id": "one" });
    let delete = delete.write_concern(WriteConcern::nodes(1));
    assert_eq!(delete.await.expect("a deletion").deleted_count, 1);
    let store = MongoStore::new(&sessions, Duration::from_secs(DEADLINE), 10, false);
    let all = store.delete_all(Filter::default()).await;
    assert!(all.is_err(), "{all:?}");
    hold_replication(shard, false).await;
    eventually("a majority that has the deletion", async || {
        store.delete_all(Filter::default()).await.ok() == Some(0)
    })
    .await;
}

/// Lets a crowd loose on two applications, does something to the cluster, and checks what the crowd was
/// told and what is stored.
async fn survives(cluster: &Cluster, failover: bool, fault: impl AsyncFnOnce(&str, &Crowd)) {
    let (db, namespace) = place();
    let keys = setting(&cluster.url(&db), true);
    let apps = [Arena::start(&keys).await, Arena::start(&keys).await];
    for app in &apps {
        serves(app).await;
    }
    let crowd = Crowd::gather(&apps, seed("FAULT_SEED")).await;
    crowd.see(100).await;
    fault(&namespace, &crowd).await;
    let healed = crowd.history.now();
    crowd.see(100).await;
    crowd.see_all_succeed(healed).await;
    let terms = Terms {
        deadline: Duration::from_secs(DEADLINE),
        failover,
        several_apps: true,
        sealing_starts: false,
        healed: Some(healed),
    };
    let verdict = faults::check(&cluster.client().await, &db, crowd, terms).await;
    println!("{verdict}");
    verdict.assert();
}

#[rocket::async_test]
async fn crowd_keeps_every_invariant_while_chunks_move() {
    let cluster = Cluster::shared().await;
    survives(cluster, false, async |namespace, crowd| {
        for number in 0..6 {
            cluster.move_chunk(namespace, &format!("id{number}")).await;
            crowd.see(40).await;
        }
    })
    .await;
}

#[rocket::async_test]
async fn killed_primary_of_a_shard_takes_nothing_acknowledged_with_it() {
    let cluster = Cluster::start(3).await;
    survives(&cluster, true, async |namespace, crowd| {
        let shard = &cluster.shards()[0];
        let primary = shard.primary().await;
        shard.kill(primary).await;
        shard.wait_for_primary().await;
        crowd.see(100).await;
        shard.restart(primary).await;
        cluster.move_chunk(namespace, "id0").await;
    })
    .await;
}

/// Without a second member to take over: the sessions of the other shard are served, if that has the
/// epoch, and the rest again when the shard is back. Without the epoch no session is served.
#[rocket::async_test]
async fn shard_that_is_down_costs_its_own_sessions_a_503_and_no_increment() {
    let cluster = Cluster::start(1).await;
    let (db, namespace) = place();
    let arena = Arena::start(&setting(&cluster.url(&db), false)).await;
    let browsers = spread(&cluster, &namespace, &arena).await;
    let add_to_each = async || {
        let runs = browsers.iter().map(async |(browser, _)| {
            let response = arena.run(browser, &[add()]).await;
            response.status()
        });
        join_all(runs).await
    };
    let with_epoch = cluster.shard_of(&namespace, "~epoch").await;
    let other = 1 - with_epoch;
    assert!(add_to_each().await.iter().all(|status| *status == 200));
    let mut told = vec![1; browsers.len()];

    cluster.shards()[other].kill(0).await;
    // Longer than a process goes by the epoch that it has read: each 503 takes a deadline.
    for _ in 0..2 {
        let statuses = add_to_each().await.into_iter();
        for (at, (status, (_, shard))) in statuses.zip(&browsers).enumerate() {
            assert_eq!(status, if *shard == other { 503 } else { 200 });
            told[at] += i64::from(status == 200);
        }
    }
    cluster.shards()[other].restart(0).await;
    serves(&arena).await;
    for ((browser, _), told) in browsers.iter().zip(&told) {
        // What failed did so at its load: no update was sent.
        assert_eq!(n(&arena, browser).await, *told);
    }

    cluster.shards()[with_epoch].kill(0).await;
    let mut tried = told.clone();
    eventually("no session is served without the epoch", async || {
        let statuses = add_to_each().await;
        for (at, status) in statuses.iter().enumerate() {
            told[at] += i64::from(*status == 200);
            tried[at] += 1;
        }
        statuses.iter().all(|status| *status == 503)
    })
    .await;
    cluster.shards()[with_epoch].restart(0).await;
    serves(&arena).await;
    for (at, (browser, _)) in browsers.iter().enumerate() {
        let n = n(&arena, browser).await;
        assert!((told[at]..=tried[at]).contains(&n), "{n} of {}", told[at]);
    }
}
