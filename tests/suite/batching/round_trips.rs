//! The round trips of a request, kind by kind, as the server itself saw them.

use mongodb::bson::{Bson, Document, doc};
use rocket::serde::json::{Value, json};
use std::time::Duration;

use crate::apps::probe::{Probe, Script, asked, id_of, run};
use crate::support::{Browser, Profile, eventually};

struct Seen {
    probe: Probe,
    profile: Profile,
}

/// Without the work on the indexes, which starts by itself.
async fn start(db: &str) -> Seen {
    start_with(db, &[]).await
}

async fn start_with(db: &str, more: &[(&str, rocket::figment::value::Value)]) -> Seen {
    let mut keys = vec![("indexes", false.into())];
    keys.extend_from_slice(more);
    let probe = Probe::start(db, &keys).await;
    let profile = probe.profile().await;
    Seen { probe, profile }
}

impl Seen {
    /// A browser with a session, and nothing seen yet.
    async fn visitor(&self) -> (Browser, String) {
        let browser = self.probe.browser();
        let script = Script::new()
            .set("n", 1)
            .call(json!(["queue_push", "q", "m"]));
        let cookie = run(&browser, script).await.cookie();
        self.profile.restart().await;
        (browser, cookie)
    }

    /// What a script of these calls costs this browser, before its response.
    async fn costs(&self, browser: &Browser, calls: &[Value]) -> Vec<String> {
        self.profile.restart().await;
        let script = calls.iter().cloned().fold(Script::new(), Script::call);
        assert_eq!(run(browser, script).await.status, 200);
        asked(&self.profile).await
    }

    /// The one command of this name.
    async fn the(&self, name: &str) -> Document {
        let seen = self.profile.commands().await.into_iter();
        let mut named: Vec<_> = seen.filter(|seen| seen.name == name).collect();
        assert_eq!(named.len(), 1, "{named:?}");
        named.remove(0).command
    }
}

const NOTHING: [String; 0] = [];

#[rocket::async_test]
async fn not_asked_for_or_no_cookie_and_nothing_set_costs_nothing() {
    let seen = start("trips_nothing").await;
    let (browser, _) = seen.visitor().await;
    assert_eq!(browser.get("/plain").await.status, 200);
    assert_eq!(seen.probe.app.get("/unused").await.status, 200);
    let calls = [json!(["get", "n"]), json!(["is_new"]), json!(["pop_flash"])];
    assert_eq!(seen.costs(&seen.probe.browser(), &calls).await, NOTHING);
}

#[rocket::async_test]
async fn a_read_is_one_find_by_id() {
    let seen = start("trips_read").await;
    let (browser, cookie) = seen.visitor().await;
    let calls = [
        json!(["get", "n"]),
        json!(["keys"]),
        json!(["user"]),
        json!(["peek_flash"]),
    ];
    assert_eq!(seen.costs(&browser, &calls).await, ["find"]);
    let find = seen.the("find").await;
    // Once a second the same find brings the generation of all sessions.
    let with_epoch = doc! { "_id": { "$in": [id_of(&cookie), "~epoch"] } };
    let filter = find.get_document("filter").expect("a filter");
    assert!(
        *filter == doc! { "_id": id_of(&cookie) } || *filter == with_epoch,
        "{filter}"
    );
    assert!(
        find.contains_key("maxTimeMS"),
        "the server gives up with us: {find}"
    );
    seen.profile.restart().await;
    browser.get("/unused").await;
    assert_eq!(asked(&seen.profile).await, ["find"]);
}

#[rocket::async_test]
async fn a_write_is_a_find_and_one_update_of_single_keys() {
    let seen = start("trips_write").await;
    let (browser, cookie) = seen.visitor().await;
    run(
        &browser,
        Script::new().set("gone", 1).set("list", json!([])),
    )
    .await;
    seen.probe.clock.advance(Duration::from_secs(5));
    let calls = [
        json!(["set", "a", 2]),
        json!(["set", "b.c", 3]),
        json!(["remove", "gone"]),
        json!(["increment", "n", 5]),
        json!(["push", "list", 1]),
        json!(["flash", "m"]),
    ];
    assert_eq!(seen.costs(&browser, &calls).await, ["find", "update"]);
    let update = seen.the("update").await;
    let filter = update.get_document("q").expect("a filter");
    assert_eq!(filter.get_str("_id"), Ok(id_of(&cookie)), "{update}");
    let asked_for: Vec<&String> = filter.keys().collect();
    assert_eq!(asked_for, ["_id", "expires"], "unless it has expired");
    assert_ne!(update.get_bool("upsert"), Ok(true), "{update}");
    let changes = update.get_document("u").expect("changes");
    let paths = |operator: &str| -> Vec<&str> {
        let paths = changes.get_document(operator).expect(operator).keys();
        let mut paths: Vec<&str> = paths.map(String::as_str).collect();
        paths.sort_unstable();
        paths
    };
    let set = paths("$set");
    assert_eq!(set.len(), 2, "{changes}");
    assert!(
        set.iter().all(|path| path.starts_with("value.")),
        "{changes}"
    );
    assert_eq!(paths("$unset"), ["value.gone"]);
    assert_eq!(paths("$inc"), ["value.n"]);
    assert_eq!(paths("$push"), ["value._f_", "value.list"]);
    assert_eq!(
        paths("$max"),
        ["accessed", "expires"],
        "in the same command"
    );
}

#[rocket::async_test]
async fn changing_one_integer_sends_few_bytes_whatever_the_size() {
    let seen = start("trips_bytes").await;
    let (browser, _) = seen.visitor().await;
    let long = [json!(["set_long", "long", 200_000])];
    seen.costs(&browser, &long).await;
    seen.probe.clock.advance(Duration::from_secs(5));
    assert_eq!(
        seen.costs(&browser, &[json!(["set", "n", 7])]).await,
        ["find", "update"]
    );
    let update = seen.the("update").await;
    let bytes = mongodb::bson::to_vec(&update).expect("bson").len();
    assert!(bytes < 300, "{bytes} of the statement: {update}");
}

#[rocket::async_test]
async fn a_new_session_is_one_insert_and_three_commands_with_a_dead_cookie() {
    let seen = start("trips_new").await;
    let set = [json!(["set", "n", 1]), json!(["set", "m", 1])];
    assert_eq!(seen.costs(&seen.probe.browser(), &set).await, ["insert"]);

    let (browser, cookie) = seen.visitor().await;
    seen.probe
        .sessions()
        .delete_many(doc! {})
        .await
        .expect("no more");
    assert_eq!(seen.costs(&browser, &set).await, ["find", "find", "insert"]);
    let seen_all = seen.profile.commands().await;
    let looked = seen_all[1]
        .command
        .get_document("filter")
        .expect("a filter");
    let ids = looked
        .get_document("_id")
        .and_then(|id| id.get_array("$in"))
        .expect("ids");
    let expected = [id_of(&cookie).to_owned(), format!("~{}", id_of(&cookie))].map(Bson::from);
    assert_eq!(ids, &expected);
}

#[rocket::async_test]
async fn a_renewal_is_a_find_and_one_update_that_asks_for_the_old_token() {
    let seen = start("trips_renew").await;
    let (browser, cookie) = seen.visitor().await;
    let renew = [json!(["renew"]), json!(["set", "n", 2])];
    assert_eq!(seen.costs(&browser, &renew).await, ["find", "update"]);
    let update = seen.the("update").await;
    let filter = update.get_document("q").expect("a filter");
    let asked_for: Vec<&String> = filter.keys().collect();
    // Another process, with `seal = true`, may have sealed it meanwhile.
    assert_eq!(asked_for, ["_id", "expires", "token", "seal"]);
    assert_eq!(filter.get_str("_id"), Ok(id_of(&cookie)));
    let set = update
        .get_document("u")
        .and_then(|u| u.get_document("$set"))
        .expect("$set");
    for field in ["token", "value.n"] {
        assert!(set.contains_key(field), "{field} in {set}");
    }
    let now = update
        .get_document("u")
        .and_then(|u| u.get_document("$currentDate"));
    assert!(now.expect("$currentDate").contains_key("renewed"));
}

#[rocket::async_test]
async fn a_login_is_an_insert_before_and_a_delete_after() {
    let seen = start("trips_login").await;
    // The second find asks whether a revocation was faster, before the old session is deleted.
    let (browser, cookie) = seen.visitor().await;
    let costs = seen.costs(&browser, &[json!(["login", "bob"])]).await;
    assert_eq!(costs, ["find", "insert", "find", "delete"]);
    let delete = seen.the("delete").await;
    assert_eq!(
        delete.get_document("q"),
        Ok(&doc! { "_id": id_of(&cookie) })
    );
    let all = seen.profile.commands().await;
    let inserted = all[1].entry.get_i32("ninserted");
    assert_eq!(inserted, Ok(2), "with its tombstone in one command");
    let keeping = json!(["login_keeping", "bob", ["n"]]);
    let (browser, _) = seen.visitor().await;
    let costs = seen.costs(&browser, &[keeping]).await;
    assert_eq!(costs, ["find", "insert", "find", "findAndModify"]);
}

#[rocket::async_test]
async fn elevate_is_a_find_and_an_update() {
    let seen = start("trips_elevate").await;
    let (browser, _) = seen.visitor().await;
    let costs = seen.costs(&browser, &[json!(["elevate"])]).await;
    assert_eq!(costs, ["find", "update"]);
}

#[rocket::async_test]
async fn a_logout_is_a_find_and_a_delete_and_an_insert_if_it_continues() {
    let seen = start("trips_logout").await;
    let (browser, cookie) = seen.visitor().await;
    assert_eq!(
        seen.costs(&browser, &[json!(["logout"])]).await,
        ["find", "delete"]
    );
    let delete = seen.the("delete").await;
    assert_eq!(
        delete.get_document("q"),
        Ok(&doc! { "_id": id_of(&cookie) })
    );
    let (browser, _) = seen.visitor().await;
    let used = [json!(["logout"]), json!(["set", "n", 2])];
    assert_eq!(
        seen.costs(&browser, &used).await,
        ["find", "delete", "insert"]
    );
}

#[rocket::async_test]
async fn each_pop_modify_and_save_is_one_more() {
    let seen = start("trips_more").await;
    let (browser, _) = seen.visitor().await;
    let pop = [json!(["queue_pop", "q"])];
    assert_eq!(seen.costs(&browser, &pop).await, ["find", "update"]);
    assert_eq!(seen.costs(&browser, &pop).await, ["find"], "nothing to pop");
    assert_eq!(
        seen.costs(&browser, &[json!(["modify", "n", 1])]).await,
        ["find", "update"]
    );
    let saves = [
        json!(["set", "a", 1]),
        json!(["save"]),
        json!(["save"]),
        json!(["set", "b", 1]),
    ];
    assert_eq!(
        seen.costs(&browser, &saves).await,
        ["find", "update", "update"]
    );
    assert_eq!(
        seen.costs(&browser, &[json!(["save"])]).await,
        ["find"],
        "nothing to save"
    );
}

#[rocket::async_test]
async fn a_read_that_is_due_is_noted_later_with_others() {
    let seen = start("trips_touch").await;
    let mut browsers = Vec::new();
    for _ in 0..20 {
        browsers.push(seen.visitor().await);
    }
    seen.probe.clock.advance(Duration::from_secs(5));
    seen.profile.restart().await;
    let reads = browsers
        .iter()
        .map(|(browser, _)| run(browser, Script::new().get("n")));
    for ran in rocket::futures::future::join_all(reads).await {
        assert_eq!((ran.results.clone(), ran.sent()), (vec![json!(1)], None));
    }
    let now = seen.probe.clock.time().unix_timestamp_nanos() as f64 / 1e9;
    eventually("the touches", async || {
        let touched = doc! { "accessed": { "$gte": now - 0.01 } };
        let count = seen.probe.sessions().count_documents(touched).await;
        count.expect("a count") == 20
    })
    .await;
    let stats = run(&seen.probe.browser(), Script::new().then("stats")).await;
    let stats = stats.last().to_string();
    assert!(stats.contains("touches: 20"), "{stats}");
    let all = seen.profile.commands().await;
    let updates: Vec<_> = all.iter().filter(|seen| seen.name == "update").collect();
    assert!(updates.len() < 20, "many in one: {}", updates.len());
    for update in updates {
        let changes = update.command.get_document("u").expect("changes");
        let operators: Vec<&String> = changes.keys().collect();
        assert_eq!(operators, ["$max"], "times never move back");
        assert_ne!(update.command.get_bool("upsert"), Ok(true));
    }
}

#[rocket::async_test]
async fn reads_within_a_second_are_noted_once() {
    let seen = start("trips_second").await;
    let (browser, _) = seen.visitor().await;
    seen.probe.clock.advance(Duration::from_millis(999));
    for _ in 0..5 {
        run(&browser, Script::new().get("n")).await;
    }
    let told = async || {
        let stats = run(&seen.probe.browser(), Script::new().then("stats")).await;
        stats.last().to_string()
    };
    assert!(told().await.contains("touches: 0"), "{}", told().await);
    seen.probe.clock.advance(Duration::from_millis(1));
    for _ in 0..5 {
        run(&browser, Script::new().get("n")).await;
    }
    assert!(
        told().await.contains("touches: 1"),
        "what is on its way counts: {}",
        told().await
    );
}

#[rocket::async_test]
async fn with_a_life_of_its_own_a_cookie_is_sent_after_the_touch() {
    let seen = start_with("trips_resend", &[("max_age", 100.into())]).await;
    let (browser, cookie) = seen.visitor().await;
    seen.probe.clock.advance(Duration::from_secs(10));
    assert_eq!(
        seen.costs(&browser, &[json!(["get", "n"])]).await,
        ["find", "update"]
    );
    let update = seen.the("update").await;
    let filter: Vec<&String> = update.get_document("q").expect("a filter").keys().collect();
    assert_eq!(
        filter,
        ["_id", "expires", "token"],
        "the token must still be the one that is sent"
    );
    assert_eq!(browser.cookie("session"), Some(cookie));
}

/// After its insert a login looks for revocations: one that began before the insert and deleted what
/// was stored then has missed it.
#[rocket::async_test]
async fn a_login_of_a_newcomer_is_an_insert_and_a_look_for_revocations_after_it() {
    let seen = start("trips_newcomer").await;
    let login = [json!(["login", "bob"])];
    let costs = seen.costs(&seen.probe.browser(), &login).await;
    assert_eq!(costs, ["insert", "find"]);
    let look = seen.the("find").await;
    let ids = look
        .get_document("filter")
        .and_then(|filter| filter.get_document("_id"))
        .and_then(|id| id.get_array("$in"))
        .expect("ids");
    assert_eq!(ids.len(), 2, "of all and of this user: {look}");
    // With a dead cookie the load and the look for its tombstone come before.
    let (browser, _) = seen.visitor().await;
    let all = seen.probe.sessions();
    all.delete_many(doc! {}).await.expect("no more");
    let costs = seen.costs(&browser, &login).await;
    assert_eq!(costs, ["find", "find", "insert", "find"]);
}
