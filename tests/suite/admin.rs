//! `Sessions` as jobs and administrators use it: `of`, `find`, `edit` and `connect`, on a real MongoDB,
//! beside an application that uses the same sessions.

mod operations;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use mongodb::bson::doc;
use rocket::figment::value::Value as Setting;
use rocket::serde::json::{Value, json};
use rocket_mongo_session::time::{self, OffsetDateTime};
use rocket_mongo_session::{Error, Key, Query, Session, Sessions};

use crate::apps::jobs::Jobs;
use crate::apps::probe::{Probe, Script, id_of, run, run_with};
use crate::support::{Mongod, eventually, figment, in_time};

/// An application, and a handle to its sessions from outside of it.
async fn start(db: &str, keys: &[(&str, Setting)]) -> (Probe, Sessions) {
    let probe = Probe::start(db, keys).await;
    let url = Mongod::shared().await.url(db);
    let figment = figment("debug", Some(&url), keys);
    let sessions = Sessions::connect(&figment).await.expect("a handle");
    (probe, sessions)
}

/// A browser's session of this user, with a value.
async fn login(probe: &Probe, user: impl Into<Value>) -> String {
    let script = Script::new().login(user).set("n", 1);
    run(&probe.browser(), script).await.cookie()
}

async fn get(probe: &Probe, cookie: &str, key: &str) -> Value {
    let read = run_with(&probe.app, cookie, Script::new().get(key)).await;
    read.last().clone()
}

fn as_bytes(encoding: &str) -> [(&'static str, Setting); 1] {
    [("encoding", encoding.into())]
}

#[rocket::async_test]
async fn of_user_counts_lists_newest_first_and_ends_only_theirs() {
    let (probe, sessions) = start("admin_of", &[]).await;
    let mut cookies = Vec::new();
    for _ in 0..3 {
        cookies.push(login(&probe, "bob").await);
        probe.clock.advance(Duration::from_millis(5));
    }
    let ann = login(&probe, "ann").await;
    let bob = sessions.of("bob");
    assert_eq!(bob.count().await.unwrap(), 3);
    let ids = |listed: &[rocket_mongo_session::SessionInfo]| -> Vec<String> {
        listed.iter().map(|info| info.id.clone()).collect()
    };
    let newest_first: Vec<_> = cookies.iter().rev().map(|c| id_of(c).to_owned()).collect();
    assert_eq!(ids(&bob.list(0, 10).await.unwrap()), newest_first);
    assert_eq!(ids(&bob.list(1, 1).await.unwrap()), newest_first[1..2]);
    assert!(bob.list(0, 0).await.unwrap().is_empty());
    let info = &bob.list(0, 1).await.unwrap()[0];
    assert_eq!(info.user::<String>().unwrap().as_deref(), Some("bob"));
    assert!(matches!(info.user::<i64>(), Err(Error::Decode { .. })));
    let shown = rocket::serde::json::to_string(info).unwrap();
    assert!(shown.contains("\"user\":\"bob\""), "{shown}");
    let secret = cookies[2].split_once('.').expect("two parts").1;
    assert!(!shown.contains(secret));

    assert!(!sessions.of("ann").revoke(id_of(&cookies[0])).await.unwrap());
    assert!(bob.revoke(id_of(&cookies[0])).await.unwrap());
    assert!(!bob.revoke(id_of(&cookies[0])).await.unwrap());
    assert!(!bob.revoke("~all").await.unwrap());
    assert_eq!(bob.revoke_all().await.unwrap(), 2);
    assert_eq!(bob.count().await.unwrap(), 0);
    assert_eq!(get(&probe, &ann, "n").await, json!(1));
    assert_eq!(get(&probe, &cookies[1], "n").await, json!(null));
}

#[rocket::async_test]
async fn of_a_user_that_cannot_be_one_is_an_error_of_each_call() {
    let (_probe, sessions) = start("admin_bad_user", &[]).await;
    let unset = sessions.of(None::<i64>);
    assert!(matches!(unset.count().await, Err(Error::BadUser)));
    assert!(matches!(unset.list(0, 0).await, Err(Error::BadUser)));
    assert!(matches!(unset.revoke("x").await, Err(Error::BadUser)));
    assert!(matches!(unset.revoke_all().await, Err(Error::BadUser)));
    assert!(matches!(unset.flash("m").await, Err(Error::BadUser)));
    assert!(matches!(unset.export().await, Err(Error::BadUser)));
}

#[rocket::async_test]
async fn of_user_flash_reaches_every_live_session_once() {
    for encoding in ["document", "binary"] {
        let keys = [("encoding", encoding.into()), ("max_bytes", 300.into())];
        let (probe, sessions) = start(&format!("admin_flash_{encoding}"), &keys).await;
        let (one, two) = (login(&probe, "bob").await, login(&probe, "bob").await);
        let full = login(&probe, "bob").await;
        let fill = Script::new().set("text", "x".repeat(260));
        run_with(&probe.app, &full, fill).await;
        let ann = login(&probe, "ann").await;
        assert_eq!(sessions.of("bob").flash("Hello.").await.unwrap(), 2);
        for (cookie, expected) in [(&one, json!(["Hello."])), (&two, json!(["Hello."]))] {
            let pop = Script::new().then("pop_flash").then("pop_flash");
            let popped = run_with(&probe.app, cookie, pop).await;
            assert_eq!(popped.results, [expected, json!([])], "{encoding}");
        }
        for cookie in [&full, &ann] {
            let popped = run_with(&probe.app, cookie, Script::new().then("pop_flash")).await;
            assert_eq!(popped.last(), &json!([]));
        }
    }
}

#[rocket::async_test]
async fn of_user_export_shows_everything_but_secrets() {
    for encoding in ["document", "binary"] {
        let (probe, sessions) =
            start(&format!("admin_export_{encoding}"), &as_bytes(encoding)).await;
        let cookie = login(&probe, 7).await;
        let script = Script::new().set("a.b", json!({"c": [1, "x"]}));
        let csrf = run_with(&probe.app, &cookie, script.then("csrf_token")).await;
        let script = Script::new()
            .call(json!(["flash", "m"]))
            .call(json!(["queue_push", "a.b", "q"]))
            .call(json!(["set_return_to", "/a?b=1"]));
        run_with(&probe.app, &cookie, script).await;
        let exported = sessions.of(7).export().await.unwrap();
        assert_eq!(exported.len(), 1);
        let session = &exported[0];
        assert_eq!(session["id"], id_of(&cookie));
        assert_eq!(session["user"], 7);
        assert_eq!(session["values"], json!({"n": 1, "a.b": {"c": [1, "x"]}}));
        assert_eq!(session["flash"], json!({"": ["m"], "a.b": ["q"]}));
        assert_eq!(session["return_to"], "/a?b=1");
        let text = session.to_string();
        let secret = cookie.split_once('.').expect("two parts").1;
        assert!(!text.contains(secret) && !text.contains("token") && !text.contains("csrf"));
        assert!(
            csrf.last()
                .as_str()
                .is_some_and(|token| !text.contains(token))
        );
    }
}

/// A whole page of them, which has no id to continue after.
#[rocket::async_test]
async fn of_user_export_passes_over_documents_of_other_applications() {
    let (probe, sessions) = start("admin_export_foreign", &[]).await;
    let cookie = login(&probe, "bob").await;
    let never = mongodb::bson::DateTime::from_millis(i64::MAX);
    let foreign = (0..1000).map(|number| {
        let id = format!("!{number}"); // before every id of a session
        doc! { "_id": id, "user": "bob", "expires": never }
    });
    probe.sessions().insert_many(foreign).await.unwrap();
    let exported = in_time("the export", sessions.of("bob").export()).await;
    let ids = exported.unwrap().into_iter().map(|one| one["id"].clone());
    assert_eq!(ids.collect::<Vec<_>>(), [id_of(&cookie)]);
}

/// Stores documents of another application that have the user's name and no strings as ids: more than one
/// command reads.
async fn store_foreign_documents(probe: &Probe, user: &str) -> u64 {
    const COUNT: u64 = 1200;
    let never = mongodb::bson::DateTime::from_millis(i64::MAX);
    let foreign = (0..COUNT as i64).map(|number| {
        let mut document = doc! { "user": user, "expires": never }; // the driver adds an ObjectId
        if number % 2 == 0 {
            document.insert("_id", number);
        }
        document
    });
    probe.sessions().insert_many(foreign).await.unwrap();
    COUNT
}

#[rocket::async_test]
async fn of_user_leaves_documents_alone_whose_ids_are_not_strings() {
    let (probe, sessions) = start("admin_of_foreign", &[]).await;
    let cookies = [login(&probe, "bob").await, login(&probe, "bob").await];
    let foreign = store_foreign_documents(&probe, "bob").await;
    let bob = sessions.of("bob");
    assert_eq!(bob.count().await.unwrap(), 2);
    assert_eq!(bob.list(0, 10).await.unwrap().len(), 2);
    assert_eq!(bob.export().await.unwrap().len(), 2);
    let page = sessions.find(&Query::new().user("bob")).await.unwrap();
    assert_eq!((page.sessions.len(), page.next), (2, None));
    let others = Script::new().call(json!(["revoke_others"]));
    let ended = run_with(&probe.app, &cookies[0], others).await;
    assert_eq!(ended.last(), &json!(1));
    assert_eq!(bob.revoke_all().await.unwrap(), 1);
    let theirs = doc! { "user": "bob" };
    let left = probe.sessions().count_documents(theirs).await.unwrap();
    assert_eq!(left, foreign);
}

#[rocket::async_test]
async fn max_per_user_passes_over_documents_whose_ids_are_not_strings() {
    let (probe, sessions) = start("admin_max_foreign", &[("max_per_user", 1.into())]).await;
    store_foreign_documents(&probe, "bob").await;
    login(&probe, "bob").await;
    let last = login(&probe, "bob").await;
    let bob = sessions.of("bob");
    eventually("one session is left", async || {
        bob.count().await.unwrap() == 1
    })
    .await;
    assert_eq!(bob.list(0, 10).await.unwrap()[0].id, id_of(&last));
}

/// The stored time of their end is that of the longer setting.
#[rocket::async_test]
async fn of_user_list_goes_by_a_setting_that_was_shortened_and_export_by_what_is_stored() {
    for setting in ["timeout", "lifetime"] {
        let db = format!("admin_shortened_{setting}");
        let (probe, long) = start(&db, &[(setting, 3600.into())]).await;
        let (old, new) = (login(&probe, "bob").await, login(&probe, "bob").await);
        let age = doc! { "$inc": { "created": -600.0, "accessed": -600.0 } };
        let aged = probe.sessions();
        let aged = aged.update_one(doc! { "_id": id_of(&old) }, age).await;
        assert_eq!(aged.unwrap().modified_count, 1);
        let url = Mongod::shared().await.url(&db);
        let short = figment("debug", Some(&url), &[(setting, 300.into())]);
        let short = Sessions::connect(&short).await.expect("a handle");
        for (sessions, live) in [(&long, vec![&new, &old]), (&short, vec![&new])] {
            let live: Vec<_> = live.into_iter().map(|cookie| id_of(cookie)).collect();
            let bob = sessions.of("bob");
            let listed = bob.list(0, 10).await.unwrap();
            let ids: Vec<_> = listed.iter().map(|info| info.id.as_str()).collect();
            assert_eq!(ids, live, "{setting}");
            let exported = bob.export().await.unwrap();
            let ids: BTreeSet<_> = exported.iter().map(|one| one["id"].as_str()).collect();
            let stored = BTreeSet::from([&old, &new].map(|cookie| Some(id_of(cookie))));
            assert_eq!(ids, stored, "{setting}");
            assert_eq!(bob.count().await.unwrap(), 2, "by the stored time");
        }
        // A page of one stored session.
        assert!(short.of("bob").list(1, 1).await.unwrap().is_empty());
    }
}

#[rocket::async_test]
async fn find_gives_each_live_session_once_page_by_page() {
    let (probe, sessions) = start("admin_find", &[("timeout", 3600.into())]).await;
    let mut cookies = BTreeSet::new();
    for user in 0..7 {
        cookies.insert(id_of(&login(&probe, user).await).to_owned());
    }
    // Dead, legacy and malformed documents are not shown, nor are tombstones.
    let all = probe.sessions();
    let dead = login(&probe, 8).await;
    let past = mongodb::bson::DateTime::from_millis(1);
    let expire = doc! { "$set": { "expires": past } };
    all.update_one(doc! { "_id": id_of(&dead) }, expire)
        .await
        .unwrap();
    let legacy = "0123456789abcdef0123456789abcdef";
    let now = OffsetDateTime::now_utc().unix_timestamp() as f64;
    let old = doc! { "_id": legacy, "created": now, "accessed": now, "value": {} };
    all.insert_one(old).await.unwrap();
    all.insert_one(doc! { "_id": "zz", "value": 1 })
        .await
        .unwrap();

    let mut seen = Vec::new();
    let mut query = Query::new().limit(2);
    loop {
        let page = sessions.find(&query).await.unwrap();
        assert!(page.sessions.len() <= 2);
        seen.extend(page.sessions.into_iter().map(|info| info.id));
        let Some(next) = page.next else { break };
        assert!(
            !legacy.starts_with(&next) && !next.starts_with(legacy),
            "{next}"
        );
        query = query.after(&next);
    }
    assert_eq!(seen.len(), cookies.len(), "each once: {seen:?}");
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), cookies);
    // A limit of 0 would never get on.
    let page = sessions.find(&Query::new().limit(0)).await.unwrap();
    assert_eq!(page.sessions.len(), 1);
}

#[rocket::async_test]
async fn find_chooses_by_times_client_and_address() {
    let keys = [("record_client", true.into()), ("timeout", 3600.into())];
    let (probe, sessions) = start("admin_query", &keys).await;
    let first = Script::new()
        .header("User-Agent", "Firefox/1 (Linux)")
        .login("a");
    let first = run(&probe.browser(), first).await.cookie();
    probe.clock.advance(Duration::from_secs(60));
    probe.clock.advance(Duration::from_secs(60));
    let second = Script::new().header("User-Agent", "curl/8").login("b");
    let second = run(&probe.browser(), second).await.cookie();
    let created = sessions.of("a").list(0, 1).await.unwrap()[0].created;
    let middle = created + time::Duration::seconds(60);
    let local = "127.0.0.1".parse().unwrap();
    let other = "127.0.0.2".parse().unwrap();
    let hour = time::Duration::hours(1);
    let (both, none) = (vec![&first, &second], vec![]);
    for (query, expected) in [
        (Query::new(), both.clone()),
        (Query::new().created_before(middle), vec![&first]),
        (Query::new().created_after(middle), vec![&second]),
        (Query::new().accessed_before(middle), vec![&first]),
        (Query::new().accessed_after(middle), vec![&second]),
        (Query::new().expires_before(middle + hour), vec![&first]),
        (Query::new().expires_after(middle + hour), vec![&second]),
        (Query::new().client_contains("firefox"), vec![&first]),
        (Query::new().client_contains("chrome"), none.clone()),
        (Query::new().ip(local), both),
        (Query::new().ip(other), none.clone()),
        (
            Query::new().created_after(middle).created_before(middle),
            none,
        ),
    ] {
        let page = sessions.find(&query).await.unwrap();
        let found: BTreeSet<_> = page.sessions.into_iter().map(|info| info.id).collect();
        let expected = expected.iter().map(|cookie| id_of(cookie).to_owned());
        assert_eq!(found, expected.collect(), "{query:?}");
    }
}

#[rocket::async_test]
async fn edit_changes_the_named_keys_of_a_live_session_and_nothing_else() {
    const COUNT: Key<i64> = Key::new("count");
    for encoding in ["document", "binary"] {
        let (probe, sessions) = start(&format!("admin_edit_{encoding}"), &as_bytes(encoding)).await;
        let cookie = login(&probe, "bob").await;
        let set = Script::new().set("gone", 1).set("list", json!(["a"]));
        run_with(&probe.app, &cookie, set).await;
        let before = probe.document(&cookie).await.unwrap();
        let edit = sessions.edit(id_of(&cookie));
        let edit = edit.set("text.with", "dot").unwrap().remove("gone");
        let edit = edit.increment(COUNT, 2).increment(COUNT, 3);
        let edit = edit.push("list", "b").unwrap().flash("News.").unwrap();
        assert!(edit.apply().await.unwrap());
        let after = probe.document(&cookie).await.unwrap();
        for field in ["accessed", "expires", "token", "csrf", "created"] {
            assert_eq!(before.get(field), after.get(field), "{field}");
        }
        let script = Script::new()
            .get("n")
            .get("text.with")
            .get("gone")
            .get("count");
        let read = run_with(&probe.app, &cookie, script.get("list").then("pop_flash")).await;
        let expected = [
            json!(1),
            json!("dot"),
            json!(null),
            json!(5),
            json!(["a", "b"]),
        ];
        assert_eq!(read.results[..5], expected, "{encoding}");
        assert_eq!(read.results[5], json!(["News."]));

        let nothing = sessions.edit(id_of(&cookie)).apply().await.unwrap();
        assert!(nothing, "nothing to do for a session that is alive");
        let mismatch = sessions.edit(id_of(&cookie)).increment("list", 1);
        assert!(matches!(
            mismatch.apply().await,
            Err(Error::Mismatch { .. })
        ));
        let folded = sessions.edit(id_of(&cookie)).set("x", "text").unwrap();
        let folded = folded.increment("x", 1).apply().await;
        assert!(matches!(folded, Err(Error::Mismatch { .. })));
        let bad = sessions.edit(id_of(&cookie)).increment("", 1).apply().await;
        assert!(matches!(bad, Err(Error::BadKey { .. })));
        let large = "x".repeat(3 << 20);
        let large = sessions.edit(id_of(&cookie)).set("large", &large).unwrap();
        assert!(matches!(large.apply().await, Err(Error::TooLarge { .. })));
    }
}

/// An address has a form for people and one for machines. A list of both cannot be read.
#[rocket::async_test]
async fn edit_and_flash_append_in_the_encoding_of_the_stored_list() {
    for (stored, configured) in [("binary", "document"), ("document", "binary")] {
        let db = format!("admin_edit_{stored}_list");
        let (jobs, probe) = Jobs::start(&db, &as_bytes(stored)).await;
        let browser = probe.browser();
        let ip = |number: u8| IpAddr::from([10, 0, 0, number]);
        let write = move |s: &Session| -> Result<(), Error> {
            s.login("bob")?;
            s.push("pushed", &ip(1))?;
            s.set("whole", &vec![ip(1)])?;
            s.flash(ip(1))
        };
        jobs.run(&browser, write).await.0.unwrap();
        let url = Mongod::shared().await.url(&db);
        let figment = figment("debug", Some(&url), &as_bytes(configured));
        let sessions = Sessions::connect(&figment).await.expect("a handle");
        let cookie = browser.cookie("session").expect("a cookie");
        let edit = sessions.edit(id_of(&cookie)).flash(ip(2)).unwrap();
        let edit = edit.push("pushed", &ip(2)).unwrap();
        let edit = edit.push("whole", &ip(2)).unwrap();
        assert!(edit.apply().await.unwrap(), "{stored}");
        assert_eq!(sessions.of("bob").flash(ip(3)).await.unwrap(), 1);
        let read = |s: &Session| -> Result<_, Error> {
            let list = |key: &str| s.get::<Vec<IpAddr>>(key);
            Ok((list("pushed")?, list("whole")?, s.peek_flash::<IpAddr>()?))
        };
        let (read, _) = jobs.run(&browser, read).await;
        let two = Some(vec![ip(1), ip(2)]);
        let expected = (two.clone(), two, vec![ip(1), ip(2), ip(3)]);
        assert_eq!(read.unwrap(), expected, "{stored}");
    }
}

#[rocket::async_test]
async fn edit_of_a_session_that_has_ended_brings_nothing_back() {
    let (probe, sessions) = start("admin_edit_ended", &[("timeout", 100.into())]).await;
    let edit = |cookie: &str| sessions.edit(id_of(cookie)).increment("n", 1);
    let ended = login(&probe, "bob").await;
    run_with(&probe.app, &ended, Script::new().then("logout")).await;
    assert!(!edit(&ended).apply().await.unwrap());
    let expired = login(&probe, "bob").await;
    let past = mongodb::bson::DateTime::from_millis(1);
    let expire = doc! { "$set": { "expires": past } };
    let one = doc! { "_id": id_of(&expired) };
    probe
        .sessions()
        .update_one(one.clone(), expire)
        .await
        .unwrap();
    assert!(!edit(&expired).apply().await.unwrap());
    for nonsense in ["", "~all", "$ne", "0".repeat(22).as_str()] {
        assert!(
            !sessions
                .edit(nonsense)
                .increment("n", 1)
                .apply()
                .await
                .unwrap()
        );
    }
    assert!(probe.document(&ended).await.is_none());
    let left = probe.document(&expired).await.unwrap();
    assert_eq!(left.get_document("value").unwrap().get_i64("n"), Ok(1));
}

/// Many edits and many requests count in one key at the same time, in both encodings.
#[rocket::async_test]
async fn edit_and_requests_lose_no_increment_of_each_other() {
    for encoding in ["document", "binary"] {
        let (probe, sessions) = start(&format!("admin_race_{encoding}"), &as_bytes(encoding)).await;
        let cookie = login(&probe, "bob").await;
        let add = json!(["increment", "n", 1]);
        let edits = (0..20).map(|number| {
            let list = Key::<Vec<i64>>::new("list");
            let edit = sessions.edit(id_of(&cookie)).increment("n", 1);
            let edit = edit.push(list, &number).unwrap();
            async move { assert!(edit.apply().await.unwrap()) }
        });
        let requests = (0..20).map(|_| {
            let push = json!(["push", "list", 1]);
            run_with(
                &probe.app,
                &cookie,
                Script::new().call(add.clone()).call(push),
            )
        });
        rocket::futures::future::join(
            rocket::futures::future::join_all(edits),
            rocket::futures::future::join_all(requests),
        )
        .await;
        assert_eq!(get(&probe, &cookie, "n").await, json!(41), "{encoding}");
        let list = get(&probe, &cookie, "list").await;
        assert_eq!(list.as_array().map(Vec::len), Some(40), "{encoding}");
    }
}

#[rocket::async_test]
async fn edit_of_a_legacy_session_upgrades_what_it_writes() {
    let (probe, sessions) = start("admin_edit_legacy", &[("legacy_ids", true.into())]).await;
    let id = "0123456789abcdef0123456789abcdef";
    let now = OffsetDateTime::now_utc().unix_timestamp() as f64;
    let value = doc! { "n": 1, "$odd": 2 };
    let old = doc! { "_id": id, "created": now, "accessed": now, "value": value };
    probe.sessions().insert_one(old).await.unwrap();
    let edit = sessions.edit(id).increment("n", 1).increment("$odd", 1);
    assert!(edit.apply().await.unwrap());
    let read = Script::new().get("n").get("$odd");
    let read = run_with(&probe.app, id, read).await;
    assert_eq!(read.results, [json!(2), json!(3)]);
}

#[rocket::async_test]
async fn estimated_count_takes_no_look_at_the_sessions() {
    let (probe, sessions) = start("admin_estimate", &[("indexes", false.into())]).await;
    for user in 0..3 {
        login(&probe, user).await;
    }
    let profile = probe.profile().await;
    assert_eq!(sessions.estimated_count().await.unwrap(), 3);
    assert_eq!(crate::apps::probe::asked(&profile).await, ["count"]);
    let count = profile.commands().await.remove(0);
    assert_eq!(count.entry.get_i32("docsExamined").unwrap_or(0), 0);
}

#[rocket::async_test]
async fn connect_refuses_what_would_refuse_a_launch() {
    let refusal =
        async |profile: &str, url: Option<&str>, keys: &[(&str, Setting)]| match Sessions::connect(
            &figment(profile, url, keys),
        )
        .await
        {
            Err(error @ Error::Configuration { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        };
    let url = Some("mongodb://127.0.0.1:1/db");
    let missing = refusal("debug", None, &[]).await;
    assert!(missing.contains("databases.sessions.url"), "{missing}");
    let unknown = refusal("debug", url, &[("timeuot", 1.into())]).await;
    assert!(unknown.contains("timeuot"), "{unknown}");
    let none = refusal("release", Some("mongodb://127.0.0.1:1"), &[]).await;
    assert!(none.contains("names no database"), "{none}");
}

#[rocket::async_test]
async fn find_reads_the_sessions_of_one_user_alone() {
    let (probe, sessions) = start("admin_find_user", &[]).await;
    let mut wanted = BTreeSet::new();
    for user in ["ann", "bob", "ann"] {
        let cookie = login(&probe, user).await;
        if user == "ann" {
            wanted.insert(id_of(&cookie).to_owned());
        }
    }
    let page = sessions.find(&Query::new().user("ann")).await.unwrap();
    let found: BTreeSet<_> = page.sessions.into_iter().map(|info| info.id).collect();
    assert_eq!((found, page.examined), (wanted, 2));
    let none = sessions.find(&Query::new().user(7)).await.unwrap();
    assert!(none.sessions.is_empty());
    let impossible = sessions.find(&Query::new().user(())).await;
    assert!(matches!(impossible, Err(Error::BadUser)), "{impossible:?}");
}

#[rocket::async_test]
async fn revoke_found_ends_what_find_finds_and_no_more() {
    let (probe, sessions) = start("admin_revoke_found", &[("timeout", 3600.into())]).await;
    for user in ["ann", "bob", "ann", "bob", "bob"] {
        login(&probe, user).await;
    }
    let mut query = Query::new().user("bob").limit(2);
    let (mut ended, mut pages) = (0, 0);
    loop {
        let page = sessions.revoke_found(&query).await.unwrap();
        (ended, pages) = (ended + page.ended, pages + 1);
        let Some(next) = page.next else { break };
        query = query.after(&next);
    }
    assert_eq!((ended, sessions.count().await.unwrap()), (3, 2));
    assert!(pages > 1, "{pages} pages");
    let all = OffsetDateTime::now_utc() - time::Duration::minutes(1);
    let idle = Query::new().accessed_before(all);
    assert_eq!(sessions.revoke_found(&idle).await.unwrap().ended, 0);
    assert_eq!(sessions.count().await.unwrap(), 2);
}

/// A session that is used between the search and the deletion is not idle any more.
#[rocket::async_test]
async fn revoke_found_leaves_a_session_that_was_used_meanwhile() {
    let mongod = Mongod::shared().await;
    let proxy = crate::support::Proxy::start(mongod.port()).await;
    let (probe, _) = start("admin_revoke_used", &[("timeout", 7200.into())]).await;
    let idle = login(&probe, "ann").await;
    let used = login(&probe, "ann").await;
    let all = probe.sessions();
    let long_ago = OffsetDateTime::now_utc().unix_timestamp() as f64 - 3600.0;
    let age = doc! { "$set": { "accessed": long_ago } };
    all.update_many(doc! {}, age).await.unwrap();
    let url = proxy.url("admin_revoke_used");
    let figment = figment("debug", Some(&url), &[("timeout", 7200.into())]);
    let sessions = Sessions::connect(&figment).await.unwrap();
    proxy.plan("delete", [crate::support::Fate::Hold]);
    let before = OffsetDateTime::now_utc() - time::Duration::minutes(30);
    let query = Query::new().accessed_before(before);
    let revoking = rocket::tokio::spawn(async move { sessions.revoke_found(&query).await });
    crate::support::eventually("the deletion", async || proxy.held() == 1).await;
    let now = OffsetDateTime::now_utc().unix_timestamp() as f64;
    let touch = doc! { "$set": { "accessed": now } };
    all.update_one(doc! { "_id": id_of(&used) }, touch)
        .await
        .unwrap();
    proxy.release();
    assert_eq!(revoking.await.unwrap().unwrap().ended, 1);
    let left = all.find_one(doc! {}).await.unwrap().expect("a session");
    assert_eq!(left.get_str("_id").unwrap(), id_of(&used));
    assert_ne!(id_of(&idle), id_of(&used));
}

#[rocket::async_test]
async fn export_of_one_session_shows_its_values_and_no_secret() {
    let (probe, sessions) = start("admin_export_one", &[]).await;
    let cookie = login(&probe, "ann").await;
    let exported = sessions.export(id_of(&cookie)).await.unwrap();
    let exported = exported.expect("a session");
    assert_eq!(exported["values"], json!({"n": 1}));
    assert_eq!(exported["user"], "ann");
    assert_eq!(exported["return_to"], json!(null));
    let secret = cookie.split_once('.').expect("two parts").1;
    let text = exported.to_string();
    assert!(!text.contains(secret) && !text.contains("token"), "{text}");
    for id in ["AAAAAAAAAAAAAAAAAAAAAA", "~a tombstone", ""] {
        assert_eq!(sessions.export(id).await.unwrap(), None, "{id}");
    }
}

#[rocket::async_test]
async fn count_expired_counts_what_purge_would_delete() {
    let (probe, sessions) = start("admin_expired", &[("indexes", false.into())]).await;
    let (dead, _) = (login(&probe, 1).await, login(&probe, 2).await);
    assert_eq!(sessions.count_expired().await.unwrap(), 0);
    let all = probe.sessions();
    let past = mongodb::bson::DateTime::from_millis(1);
    let expire = doc! { "$set": { "expires": past } };
    all.update_one(doc! { "_id": id_of(&dead) }, expire)
        .await
        .unwrap();
    let orphan = doc! { "_id": "0123456789abcdef0123456789abcdef", "accessed": 1.0 };
    all.insert_one(orphan).await.unwrap();
    assert_eq!(sessions.count_expired().await.unwrap(), 2);
    assert_eq!(sessions.purge_expired().await.unwrap(), 2);
    assert_eq!(sessions.count_expired().await.unwrap(), 0);
}

#[rocket::async_test]
async fn connect_kind_reads_the_section_of_that_kind() {
    let url = Mongod::shared().await.url("admin_connect_kind");
    let figment = figment("debug", Some(&url), &[]);
    let kind = Sessions::connect_kind(&figment, "admin").await.unwrap();
    let shown = format!("{kind:?}");
    assert!(
        shown.contains("admin_connect_kind.session_admin"),
        "{shown}"
    );
    for name in ["main", "", "a b"] {
        let refused = Sessions::connect_kind(&figment, name).await;
        let is_refused = matches!(refused, Err(Error::Configuration { .. }));
        assert!(is_refused, "{name}: {refused:?}");
    }
}
