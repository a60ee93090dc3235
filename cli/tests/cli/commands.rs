//! Each command on a real server.

use rocket_mongo_session::mongodb::bson::doc;
use serde_json::{Value, json};

use crate::support::{Mongod, Profile, Proxy, ReplicaSet, Traffic, eventually};
use crate::tool::{FIREFOX, Shop, run, signal, start, wait};

async fn shop(name: &str) -> Shop {
    let mongod = Mongod::shared().await;
    Shop::open(name, &mongod.url(name), mongod.client().await).await
}

#[rocket::async_test]
async fn list_shows_sessions_as_a_table_and_as_json() {
    let shop = shop("cli_list").await;
    let alice = shop.login(json!("alice"), FIREFOX).await;
    let seven = shop.login(json!(7), "curl/8.4").await;
    let visitor = shop.visit().await;

    let table = shop.run(&["list"]).await.ends_with(0);
    let lines: Vec<_> = table.out.lines().collect();
    assert_eq!(lines.len(), 4, "{table:#?}");
    assert!(lines[0].contains("LAST USED"), "{table:#?}");
    let row = lines
        .iter()
        .find(|line| line.contains(&alice))
        .expect("alice's");
    assert!(
        row.contains("Firefox 121, Linux") && row.contains("192.0.2.7"),
        "{row}"
    );
    let columns: Vec<_> = lines
        .iter()
        .map(|line| line.find("2026").or(line.find("CREATED")))
        .collect();
    assert!(
        columns.windows(2).all(|pair| pair[0] == pair[1]),
        "not aligned: {table:#?}"
    );
    assert!(!table.out.contains("a secret"), "{table:#?}");

    let mut listed = shop.run(&["list", "--json"]).await.ends_with(0).json();
    listed.sort_by_key(|one| one["id"].to_string());
    let mut ids = [alice.clone(), seven.clone(), visitor.clone()];
    ids.sort();
    assert_eq!(
        listed
            .iter()
            .map(|one| one["id"].as_str().unwrap_or(""))
            .collect::<Vec<_>>(),
        ids
    );

    for (filter, wanted) in [
        (&["--user", "alice"][..], vec![&alice]),
        (&["--user", "7"], vec![&seven]),
        (&["--user", "\"7\""], vec![]),
        (&["--client", "firefox"], vec![&alice]),
        (&["--ip", "192.0.2.7", "--client", "curl"], vec![&seven]),
        (&["--user", "alice", "--client", "curl"], vec![]),
        (&["--idle", "1h"], vec![]),
        (
            &["--created-after", "2026-01-01", "--user", "alice"],
            vec![&alice],
        ),
    ] {
        let args = [&["list", "--json"], filter].concat();
        let listed = shop.run(&args).await.ends_with(0).json();
        let ids: Vec<_> = listed.iter().filter_map(|one| one["id"].as_str()).collect();
        assert_eq!(ids, wanted, "{filter:?}");
        let args = [&["count"], filter].concat();
        let count = shop.run(&args).await.ends_with(0).out;
        assert!(
            count.starts_with(&format!("{} session", wanted.len())),
            "{filter:?}: {count}"
        );
    }
    let hint = shop.run(&["list", "--user", "8"]).await.ends_with(0);
    assert!(hint.err.contains("--user '\"8\"'"), "{hint:#?}");
    let page = shop
        .run(&["list", "--json", "--limit", "2"])
        .await
        .ends_with(0);
    let cursor = page
        .err
        .split("--after ")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    let cursor = cursor.expect("a cursor").to_owned();
    let rest = shop
        .run(&["list", "--json", "--after", &cursor])
        .await
        .ends_with(0);
    assert_eq!((page.json().len(), rest.json().len()), (2, 1));
}

#[rocket::async_test]
async fn show_keeps_values_back_unless_it_is_asked_for_them() {
    let shop = shop("cli_show").await;
    let id = shop.login(json!({ "name": "alice" }), FIREFOX).await;
    let stored = shop.collection().find_one(doc! { "_id": &id }).await;
    let stored = stored.expect("a find").expect("a session").to_string();

    for args in [&["show", &id][..], &["show", &id, "--json"]] {
        let said = shop.run(args).await.ends_with(0);
        assert!(
            said.out.contains(&id) && said.out.contains("alice"),
            "{said:#?}"
        );
        for value in ["a secret", "/orders/42"] {
            assert!(!said.out.contains(value), "{said:#?}");
        }
    }
    for args in [
        &["show", &id, "--values"][..],
        &["show", &id, "--values", "--json"],
    ] {
        let said = shop.run(args).await.ends_with(0);
        for value in ["a secret of the user", "/orders/42"] {
            assert!(said.out.contains(value), "{said:#?}");
        }
        // Neither the token's digest nor a CSRF secret.
        for name in ["token", "csrf"] {
            assert!(!said.out.contains(name), "{said:#?} of {stored}");
        }
    }
    let missing = shop
        .run(&["show", "AAAAAAAAAAAAAAAAAAAAAA"])
        .await
        .ends_with(1);
    assert!(missing.err.contains("no live session"), "{missing:#?}");
}

#[rocket::async_test]
async fn revoke_ends_what_it_names_and_no_more() {
    let shop = shop("cli_revoke").await;
    let (one, other) = (shop.visit().await, shop.visit().await);
    let dry = shop.run(&["revoke", &one, "--dry-run"]).await.ends_with(0);
    assert!(dry.out.contains("would end"), "{dry:#?}");
    assert_eq!(shop.sessions().count().await.expect("a count"), 2);

    let said = shop.run(&["revoke", &one, "--json"]).await.ends_with(0);
    assert_eq!(said.json(), [json!({ "id": one, "ended": true })]);
    let again = shop.run(&["revoke", &one, &other]).await.ends_with(1);
    assert!(
        again.out.contains("no such session") && again.out.contains("ended"),
        "{again:#?}"
    );
    assert_eq!(shop.sessions().count().await.expect("a count"), 0);

    shop.run(&["revoke"]).await.ends_with(64);
    shop.run(&["revoke", &one, "--user", "alice"])
        .await
        .ends_with(64);
}

#[rocket::async_test]
async fn filtered_end_is_asked_for_and_exact() {
    let shop = shop("cli_filtered").await;
    let mut old = Vec::new();
    for days in [40.0, 31.0] {
        let id = shop.login(json!("alice"), FIREFOX).await;
        shop.age(&id, days).await;
        old.push(id);
    }
    let new = shop.login(json!("alice"), FIREFOX).await;
    let bob = shop.login(json!("bob"), FIREFOX).await;
    // Without a timeout, or they would have expired.
    let everything = ["list", "--json"];
    let no_timeout = |args: &[&str]| {
        let mut command = crate::tool::command(&shop.with_config(args));
        command.env("ROCKET_SESSION", "{timeout=false}");
        command
    };
    let forever = doc! { "$set": { "timeout": false, "expires": mongodb::bson::DateTime::MAX } };
    let changed = shop.collection().update_many(doc! {}, forever).await;
    assert_eq!(changed.expect("an update").matched_count, 4);
    let run = async |args: &[&str]| {
        let mut command = no_timeout(args);
        let output = rocket::tokio::task::spawn_blocking(move || command.output()).await;
        let output = output.expect("a thread").expect("the binary");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };

    let filter = ["--idle", "30d"];
    let (code, out, _) = run(&[&["revoke"], &filter[..], &["--dry-run"]].concat()).await;
    assert_eq!(code, Some(0));
    for id in &old {
        assert!(out.contains(id.as_str()), "{out}");
    }
    assert!(
        out.contains("2 sessions would end") && !out.contains(&new),
        "{out}"
    );

    let (code, _, err) = run(&[&["revoke"], &filter[..]].concat()).await;
    assert_eq!(code, Some(4), "{err}");
    assert!(
        err.contains("End 2 sessions?") && err.contains("--yes"),
        "{err}"
    );
    assert_eq!(
        run(&everything).await.1.lines().count(),
        4,
        "nothing was ended"
    );

    let (code, out, err) = run(&[&["revoke"], &filter[..], &["--yes"]].concat()).await;
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "2 sessions ended\n"),
        "{err}"
    );
    let left = run(&everything).await.1;
    assert!(
        left.contains(&new) && left.contains(&bob) && left.lines().count() == 2,
        "{left}"
    );

    let (code, out, _) = run(&["revoke", "--user", "alice", "--yes", "--json"]).await;
    assert_eq!((code, out.as_str()), (Some(0), "{\"ended\":1}\n"));
    let (code, out, _) = run(&["revoke-all", "--dry-run"]).await;
    assert!(code == Some(0) && out.contains(&bob), "{out}");
    assert_eq!(run(&["revoke-all"]).await.0, Some(4));
    let (code, out, _) = run(&["revoke-all", "--yes"]).await;
    assert_eq!((code, out.as_str()), (Some(0), "1 session ended\n"));
}

/// Of more than two pages, with and without an index for the filter.
#[rocket::async_test]
async fn dry_run_reads_each_session_once() {
    const COPIES: u64 = 2_500;
    let shop = shop("cli_once").await;
    let model = shop.login(json!("alice"), "curl/8.4").await;
    shop.multiply(&model, COPIES).await;
    let profile = Profile::start(&shop.database, &shop.name).await;
    for filter in [["--user", "alice"], ["--client", "curl"]] {
        profile.restart().await;
        let dry = shop
            .run(&["revoke", filter[0], filter[1], "--dry-run"])
            .await;
        let dry = dry.ends_with(0);
        assert!(dry.out.contains("2501 sessions would end"), "{filter:?}");
        let mut read = 0;
        for seen in profile.commands().await {
            // The number of documents in the metadata, for the progress bar.
            let is_estimate = seen.name == "count" && filter[0] != "--user";
            assert!(seen.name == "find" || is_estimate, "{filter:?}: {seen:#?}");
            let returned = seen.entry.get("nreturned");
            read += returned
                .and_then(|n| n.as_i64().or(n.as_i32().map(i64::from)))
                .unwrap_or(0);
        }
        // The generation of all sessions beside them.
        let once = 2_501..2_510;
        assert!(
            once.contains(&read),
            "{filter:?}: {read} documents were read"
        );
    }
    profile.stop().await;
}

/// Ctrl-C after the first batch: the batch is whole, and the same command ends the rest.
#[rocket::async_test]
async fn interrupted_end_is_continued_by_the_same_command() {
    const COPIES: u64 = 6_000;
    let mongod = Mongod::start().await;
    let proxy = Proxy::start(mongod.port()).await;
    let name = "cli_interrupted";
    let shop = Shop::open(name, &proxy.url(name), mongod.client().await).await;
    let model = shop.login(json!("alice"), "curl/8.4").await;
    shop.multiply(&model, COPIES).await;
    let kept = shop.login(json!("bob"), FIREFOX).await;

    proxy.set(Traffic::Delay(std::time::Duration::from_millis(40)));
    let child = start(&shop.with_config(&["revoke", "--client", "curl", "--yes"]));
    let stored = async || {
        shop.collection()
            .count_documents(doc! {})
            .await
            .expect("a count")
    };
    eventually("a first batch", async || stored().await < COPIES + 2).await;
    signal(&child, "-INT");
    let said = wait(child).await.ends_with(130);
    let left = stored().await;
    assert!(left > 1, "all of them ended before the signal: {said:?}");
    let ended = COPIES + 2 - left;
    assert!(
        said.err.contains(&format!("{ended} sessions ended")),
        "{said:?}, of {ended}"
    );

    proxy.set(Traffic::Pass);
    let rest = shop
        .run(&["revoke", "--client", "curl", "--yes", "--json"])
        .await
        .ends_with(0);
    assert_eq!(rest.json(), [json!({ "ended": left - 1 })]);
    let listed = shop.run(&["list", "--json"]).await.ends_with(0).json();
    assert_eq!(
        listed.iter().map(|one| &one["id"]).collect::<Vec<_>>(),
        [&json!(kept)]
    );
}

/// On a terminal: what takes more than a second shows its progress, and the question waits for a reply.
#[rocket::async_test]
async fn terminal_shows_progress_and_is_asked() {
    const COPIES: u64 = 4_000;
    let mongod = Mongod::start().await;
    let proxy = Proxy::start(mongod.port()).await;
    let name = "cli_terminal";
    let shop = Shop::open(name, &proxy.url(name), mongod.client().await).await;
    let model = shop.login(json!("alice"), "curl/8.4").await;
    shop.multiply(&model, COPIES).await;
    proxy.set(Traffic::Delay(std::time::Duration::from_millis(200)));

    let args = shop.with_config(&["count", "--client", "curl"]);
    let said = crate::tool::run_on_terminal(&args, "").await.ends_with(0);
    assert!(said.out.contains(" sessions, "), "no progress: {said:#?}");
    assert!(said.out.contains("4001 sessions"), "{said:#?}");
    let piped = shop.run(&["count", "--client", "curl"]).await.ends_with(0);
    assert_eq!(
        (piped.out.as_str(), piped.err.as_str()),
        ("4001 sessions\n", "")
    );

    proxy.set(Traffic::Pass);
    let args = shop.with_config(&["revoke", "--client", "curl"]);
    let said = crate::tool::run_on_terminal(&args, "n\n")
        .await
        .ends_with(4);
    assert!(said.out.contains("End 4001 sessions? [y/N]"), "{said:#?}");
    assert_eq!(shop.sessions().count().await.expect("a count"), COPIES + 1);
    let said = crate::tool::run_on_terminal(&args, "y\n")
        .await
        .ends_with(0);
    assert!(said.out.contains("4001 sessions ended"), "{said:#?}");
    assert_eq!(shop.sessions().count().await.expect("a count"), 0);
}

#[rocket::async_test]
async fn purge_deletes_what_has_expired() {
    let shop = shop("cli_purge").await;
    let (old, _new) = (shop.visit().await, shop.visit().await);
    let past = mongodb::bson::DateTime::from_millis(0);
    // Without its index the server does not get there first.
    shop.collection().drop_indexes().await.expect("no indexes");
    let set = doc! { "$set": { "expires": past, "accessed": 0.0 } };
    shop.collection()
        .update_one(doc! { "_id": &old }, set)
        .await
        .expect("an update");
    let dry = shop
        .run(&["purge", "--dry-run", "--json"])
        .await
        .ends_with(0);
    assert_eq!(dry.json(), [json!({ "would_end": 1 })]);
    let told = shop.run(&["purge", "--dry-run"]).await.ends_with(0);
    assert_eq!(told.out, "1 expired session would be deleted\n");
    let purged = shop.run(&["purge", "--json"]).await.ends_with(0);
    assert_eq!(purged.json(), [json!({ "purged": 1 })]);
    let again = shop.run(&["purge"]).await.ends_with(0);
    assert_eq!(again.out, "0 expired sessions deleted\n");
    assert_eq!(shop.sessions().count().await.expect("a count"), 1);
}

#[rocket::async_test]
async fn indexes_are_compared_and_repaired() {
    let shop = shop("cli_indexes").await;
    let state = async |code| {
        let said = shop
            .run(&["indexes", "--dry-run", "--json"])
            .await
            .ends_with(code);
        let states = said.json().into_iter();
        states
            .map(|one| one["state"].as_str().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    shop.visit().await;
    assert_eq!(state(0).await, ["ok", "ok"]);
    shop.collection()
        .drop_index("session_user")
        .await
        .expect("no index");
    let wrong = doc! { "collMod": "session", "index": { "name": "session_expires", "expireAfterSeconds": 9 } };
    let database = shop.database.database(&shop.name);
    database.run_command(wrong).await.expect("another index");
    assert_eq!(state(1).await, ["differs", "missing"]);
    shop.run(&["indexes"]).await.ends_with(0);
    assert_eq!(state(0).await, ["ok", "ok"]);
}

#[rocket::async_test]
async fn export_and_erase_are_about_one_person() {
    let shop = shop("cli_personal").await;
    let alice = shop.login(json!("alice"), FIREFOX).await;
    shop.login(json!("bob"), FIREFOX).await;
    let said = shop.run(&["export", "--user", "alice"]).await.ends_with(0);
    let exported: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(exported[0]["id"], json!(alice));
    assert_eq!(exported[0]["values"]["note"], json!("a secret of the user"));
    assert_eq!(exported.as_array().map(Vec::len), Some(1));

    let file = std::env::temp_dir().join(format!("cli_personal-{}.json", std::process::id()));
    let path = file.to_str().expect("a path");
    let written = shop
        .run(&["export", "--user", "alice", "--output", path])
        .await
        .ends_with(0);
    assert_eq!(written.out, "1 session exported\n");
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), said.out);
    let again = shop
        .run(&["export", "--user", "alice", "--output", path])
        .await
        .ends_with(64);
    assert!(again.err.contains("--output"), "{again:?}");
    std::fs::remove_file(&file).expect("no file");

    let dry = shop
        .run(&["erase", "--user", "alice", "--dry-run"])
        .await
        .ends_with(0);
    assert!(
        dry.out.contains(&alice) && dry.out.contains("1 session would end"),
        "{dry:?}"
    );
    shop.run(&["erase", "--user", "alice"]).await.ends_with(4);
    let erased = shop
        .run(&["erase", "--user", "alice", "--yes", "--json"])
        .await
        .ends_with(0);
    assert_eq!(erased.json(), [json!({ "erased": 1, "remaining": 0 })]);
    assert!(erased.err.contains("backups"), "{erased:?}");
    let bob = shop.run(&["count", "--json"]).await.ends_with(0);
    assert_eq!(bob.json(), [json!({ "count": 1 })]);
}

#[rocket::async_test]
async fn watch_tells_events_until_ctrl_c() {
    use std::io::{BufRead, BufReader};
    let set = ReplicaSet::shared().await;
    let name = "cli_watch";
    let shop = Shop::open(name, &set.url(name), set.client().await).await;
    let mut child = start(&shop.with_config(&["watch", "--json", "--user", "alice"]));
    let out = BufReader::new(child.stdout.take().expect("stdout"));
    let lines = rocket::tokio::task::spawn_blocking(move || out.lines().next());
    let first = rocket::tokio::spawn(lines);
    // The stream may not be open yet: a login before that is not told.
    eventually("an event", async || {
        shop.login(json!("bob"), FIREFOX).await;
        shop.login(json!("alice"), FIREFOX).await;
        first.is_finished()
    })
    .await;
    let line = first
        .await
        .expect("a task")
        .expect("a thread")
        .expect("a line")
        .expect("text");
    let event: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(
        (&event["kind"], &event["user"]),
        (&json!("LoggedIn"), &json!("alice")),
        "{event}"
    );
    signal(&child, "-INT");
    wait(child).await.ends_with(0);

    let standalone = Mongod::shared().await;
    let url = format!("{{sessions={{url=\"{}\"}}}}", standalone.url(name));
    let mut command = crate::tool::command(&["watch"]);
    let ended = command
        .env("ROCKET_DATABASES", url)
        .output()
        .expect("the binary");
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
}

#[rocket::async_test]
async fn another_kind_of_session_has_its_own_collection() {
    let shop = shop("cli_kinds").await;
    let id = shop.visit().await;
    let stored = shop.collection().find_one(doc! { "_id": &id }).await;
    let admins = shop
        .database
        .database(&shop.name)
        .collection("session_admin");
    let model = stored.expect("a find").expect("a session");
    admins.insert_one(model).await.expect("an insertion");
    shop.visit().await;
    let count = async |args: &[&str]| {
        let args = [&["count", "--json"], args].concat();
        shop.run(&args).await.ends_with(0).json()[0]["count"].clone()
    };
    assert_eq!(
        (count(&[]).await, count(&["--kind", "admin"]).await),
        (json!(2), json!(1))
    );
    let said = shop.run(&["count", "--kind", "none"]).await.ends_with(0);
    assert!(said.err.contains("no [default.session_none]"), "{said:?}");
    shop.run(&["count", "--kind", "main"]).await.ends_with(3);
}

#[rocket::async_test]
async fn exit_codes_are_those_of_the_help() {
    let free = Proxy::start(1).await;
    free.set(Traffic::Refuse);
    let url = format!("{}?serverSelectionTimeoutMS=500", free.url("shop"));
    let unreachable = run(&["doctor", &format!("{url}&connectTimeoutMS=500")])
        .await
        .ends_with(2);
    assert!(
        unreachable.err.contains("cannot connect"),
        "{unreachable:?}"
    );
    run(&["doctor", "mongodb://127.0.0.1:1/"])
        .await
        .ends_with(3);
    run(&["doctor", "localhost"]).await.ends_with(3);
    let secret = run(&["doctor", "mongodb://app:hunter2@@@:1/shop"])
        .await
        .ends_with(3);
    assert!(!secret.err.contains("hunter2"), "{secret:?}");
    run(&["list", "--config", "/nowhere/Rocket.toml"])
        .await
        .ends_with(3);
    run(&["list", "--limit", "many"]).await.ends_with(64);
    run(&["list", "--used-after", "yesterday"])
        .await
        .ends_with(64);
    for age in [["--idle", "13000y"], ["--older-than", "5000000d"]] {
        run(&["list", age[0], age[1]]).await.ends_with(64);
    }
    let unknown = run(&["doctor", "--only", "weather", &url]).await;
    let unknown = unknown.ends_with(64);
    assert!(
        unknown.err.contains("the checks are version, "),
        "{unknown:?}"
    );
    let help = run(&["--help"]).await.ends_with(0);
    for code in ["0 ", "1 ", "2 ", "3 ", "4 ", "64 ", "130 "] {
        assert!(
            help.out.contains(&format!("\n  {code}")),
            "{code}: {}",
            help.out
        );
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]).await.ends_with(0);
        assert!(script.out.contains("revoke-all"), "{shell}");
    }
    let commands: Vec<_> = help.out.lines().collect();
    let readme = std::fs::read_to_string(crate::tool::folder().join("../docs/command-line.md"));
    let readme = readme.expect("the page");
    for line in commands
        .iter()
        .skip_while(|line| **line != "Exit codes:")
        .skip(1)
    {
        let meaning = line
            .trim()
            .split_once("  ")
            .map_or("", |(_, meaning)| meaning.trim());
        assert!(
            readme.contains(meaning),
            "docs/command-line.md lacks {meaning:?}"
        );
    }
}
