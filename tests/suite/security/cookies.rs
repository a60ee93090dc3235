//! The cookie, as the network delivers it and as browsers keep it.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use mongodb::bson::{Bson, Document};
use rocket::serde::json::json;
use rstest::rstest;

use super::{ask, member, null, whoami};
use crate::apps::database;
use crate::apps::probe::{
    Probe, Script, asked, caught, id_of, removes, run, run_with, sent_by, value_of,
};
use crate::support::{App, Browser, Mongod, figment};

/// ID-05, ID-06, MC-01: only the one text that was issued leads to the database.
#[rocket::async_test]
async fn a_cookie_with_one_wrong_character_is_never_looked_up() {
    let probe = Probe::start("sec_cookie_forms", &[("indexes", false.into())]).await;
    let good = member(&probe, "alice").await;
    let (id, secret) = good.split_once('.').expect("two halves");
    let bytes = URL_SAFE_NO_PAD.decode(secret).expect("base64url");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    let mut forms: Vec<String> = vec![
        format!("{good}="),
        format!("{good}%3D"),
        format!("{id}.{}", STANDARD.encode(&bytes)),
        format!("{id}.{hex}"),
        hex,
        good.chars().rev().collect(),
        format!("{good},session={good}"),
        format!("{good} {good}"),
        "true".into(),
        "null".into(),
        "*".into(),
        "../../etc/passwd".into(),
        "' OR 1=1".into(),
        "~all".into(),
        format!("~{id}"),
        format!("~{id}.{secret}"),
    ];
    for at in (0..good.len()).step_by(5).chain([21, 65]) {
        for other in ["+", "/", "=", "%", "~", "\"", "\\", " ", "\t", "é"] {
            forms.push(format!("{}{other}{}", &good[..at], &good[at + 1..]));
        }
    }
    // The last characters of both halves have unused bits, which are zero in what is issued.
    for at in [21, good.len() - 1] {
        let digit = |text: &str| alphabet.find(&text[at..=at]).expect("in the alphabet");
        let spare = if at == 21 { 16 } else { 4 };
        for bits in 1..spare {
            let other = digit(&good) | bits;
            forms.push(format!(
                "{}{}{}",
                &good[..at],
                &alphabet[other..=other],
                &good[at + 1..]
            ));
        }
    }
    let profile = probe.profile().await;
    for form in &forms {
        let ran = run_with(&probe.app, form, Script::new().then("user")).await;
        assert_eq!((ran.status, ran.sent()), (200, None), "{form:?}");
        assert_eq!(ran.last(), &null(), "{form:?}");
    }
    assert_eq!(asked(&profile).await, Vec::<String>::new());
    assert_eq!(whoami(&probe.app, &good).await, json!("alice"));
}

/// MC-01 and CT-07: bytes that no cookie has, and the syntax of older standards.
#[rocket::async_test]
async fn odd_bytes_and_old_cookie_syntax_open_no_session() {
    let probe = Probe::start("sec_cookie_bytes", &[("indexes", false.into())]).await;
    let good = member(&probe, "alice").await;
    let script = || Script::new().then("user").request();
    for byte in (0..=0x1f).chain([0x7f, 0x80, 0xc3, 0xff]) {
        for at in [0, 10, good.len()] {
            let mut bytes = format!("session={good}").into_bytes();
            bytes.insert("session=".len() + at, byte);
            let sent = script().header("Cookie", &bytes);
            // What HTTP itself forbids may also end the connection.
            let Ok(response) = sent.try_send(probe.app.addr()).await else {
                continue;
            };
            let inside = at == 10 || !matches!(byte, b'\t');
            if response.status == 200 && inside {
                assert_eq!(response.text(), "[null]", "{byte:#x} at {at}");
            } else if response.status != 200 {
                assert_eq!(response.status, 400, "{byte:#x} at {at}");
            }
        }
    }
    let old = format!("$Version=1; session={good}; $Path=/; $Domain=x");
    let response = probe.app.send(script().header("Cookie", old)).await;
    assert_eq!(response.text(), "[\"alice\"]");
    let pairs: String = (0..2_000).map(|n| format!("c{n}=x; ")).collect();
    for line in [
        format!("{pairs}session={good}"),
        format!("session={good}; {pairs}"),
    ] {
        let response = probe.app.send(script().header("Cookie", line)).await;
        assert_eq!(response.text(), "[\"alice\"]");
    }
    let twice = format!("session={good}; {pairs}session={good}");
    let response = probe.app.send(script().header("Cookie", twice)).await;
    assert_eq!(response.text(), "[\"alice\"]");
    // More than the server takes at all: refused, and the server continues.
    let _ = script()
        .header("Cookie", "x".repeat(2 << 20))
        .try_send(probe.app.addr())
        .await;
    assert_eq!(whoami(&probe.app, &good).await, json!("alice"));
}

/// MC-04, AR-03: the id is looked up by equality, in the index of `_id`.
#[rocket::async_test]
async fn an_unknown_cookie_costs_two_indexed_finds() {
    let probe = Probe::start("sec_cookie_unknown", &[("indexes", false.into())]).await;
    let good = member(&probe, "alice").await;
    let profile = probe.profile().await;
    for cookie in [
        format!("{}.{}", "A".repeat(22), "A".repeat(43)),
        format!("{}w.{}8", "_".repeat(21), "_".repeat(42)),
    ] {
        profile.restart().await;
        assert_eq!(whoami(&probe.app, &cookie).await, null());
        // The session, and whether a login replaced it a moment ago.
        let seen = profile.commands().await;
        assert_eq!(seen.len(), 2, "{seen:?}");
        for one in seen {
            assert_eq!(one.name, "find");
            let plan = one.entry.get_str("planSummary").unwrap_or_default();
            assert!(
                plan == "IDHACK" || plan.starts_with("IXSCAN { _id"),
                "{plan}"
            );
            let number = |name| one.entry.get(name).and_then(as_number);
            assert_eq!(number("docsExamined"), Some(0), "{:?}", one.entry);
            let filter = one.command.get_document("filter").expect("a filter");
            assert_eq!(filter.keys().collect::<Vec<_>>(), ["_id"]);
        }
    }
    assert_eq!(whoami(&probe.app, &good).await, json!("alice"));
}

fn as_number(value: &mongodb::bson::Bson) -> Option<i64> {
    value.as_i64().or_else(|| value.as_i32().map(i64::from))
}

/// MC-03: unknown cookies are counted, stored nowhere, and lock no browser out.
#[rocket::async_test]
async fn unknown_cookies_are_counted_and_store_nothing() {
    let probe = Probe::start("sec_cookie_flood", &[]).await;
    let good = member(&probe, "alice").await;
    let before = probe.documents().await.len();
    let flood = (0..300_u32).map(|n| {
        let cookie = format!("{n:020}AA.{}", "A".repeat(43));
        let app = &probe.app;
        async move { whoami(app, &cookie).await }
    });
    let responses = rocket::futures::future::join_all(flood).await;
    assert!(responses.iter().all(|user| user.is_null()));
    assert_eq!(whoami(&probe.app, &good).await, json!("alice"));
    assert_eq!(probe.documents().await.len(), before);
    let stats = ask(&probe.app, json!(["stats"])).await;
    assert!(
        stats.as_str().expect("text").contains("misses: 300"),
        "{stats}"
    );
}

/// AR-01: a reader of the database has nothing that opens a session.
#[rocket::async_test]
async fn stored_documents_contain_no_cookie() {
    let probe = Probe::start("sec_cookie_stored", &[]).await;
    let good = member(&probe, "alice").await;
    let (id, secret) = good.split_once('.').expect("two halves");
    let bytes = URL_SAFE_NO_PAD.decode(secret).expect("base64url");
    let documents = probe.documents().await;
    let dump: Vec<u8> = documents
        .iter()
        .flat_map(|document| mongodb::bson::to_vec(document).expect("BSON"))
        .collect();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    for form in [
        bytes.clone(),
        secret.into(),
        hex.into_bytes(),
        STANDARD.encode(&bytes).into_bytes(),
    ] {
        assert!(!dump.windows(form.len()).any(|window| window == form));
    }
    // Every stored string of 32 bytes, in the form of a secret.
    let mut tried = 0;
    for window in dump.windows(32) {
        tried += 1;
        let forged = format!("{id}.{}", URL_SAFE_NO_PAD.encode(window));
        // Most are alike: the fields' own bytes and a sample of the others do.
        let is_field = fields(&documents).iter().any(|field| field == window);
        if is_field || tried % 40 == 0 {
            assert_eq!(whoami(&probe.app, &forged).await, null());
        }
    }
    assert_eq!(
        fields(&documents).len(),
        2,
        "the token's hash, the CSRF secret"
    );
}

fn fields(documents: &[Document]) -> Vec<Vec<u8>> {
    let binary = |document: &Document, name: &str| match document.get(name) {
        Some(Bson::Binary(binary)) => Some(binary.bytes.clone()),
        _ => None,
    };
    let both = |document| [binary(document, "token"), binary(document, "csrf")];
    documents.iter().flat_map(both).flatten().collect()
}

/// CK-09, CK-16, RG-13: whatever one request does.
#[rstest]
#[test_attr(rocket::async_test)]
async fn a_response_has_at_most_one_session_cookie_and_it_is_the_last(
    #[values("renew", "touch", "elevate", "logout")] first: &str,
    #[values("renew", "touch", "elevate", "logout")] second: &str,
) {
    let start = |rocket: rocket::Rocket<rocket::Build>| rocket.register("/", caught());
    let probe = Probe::start_with(&database(), &[("max_age", 600.into())], start).await;
    for (end, catches) in [(200, false), (404, true), (500, true)] {
        let browser = probe.browser();
        let old = run(&browser, Script::new().login("alice")).await.cookie();
        let mut script = Script::new().then(first).set("n", 1).then(second);
        if catches {
            script = script.fail(end);
        }
        let ran = run(&browser, script).await;
        let what = format!("{end}: {ran:?}");
        let line = sent_by(&ran).expect(&what); // at most one
        let out = second == "logout";
        assert_eq!(removes(line), out, "{what}");
        let user = run(&browser, Script::new().then("user"))
            .await
            .last()
            .clone();
        if out || first == "logout" {
            assert_eq!(user, null(), "{what}");
            assert_eq!(whoami(&probe.app, &old).await, null(), "{what}");
        } else {
            assert_eq!(user, json!("alice"), "{what}");
            let moved = [first, second].iter().any(|call| *call != "touch");
            let old = whoami(&probe.app, &old).await;
            assert_eq!(old.is_null(), moved, "{what}");
        }
    }
}

/// CK-01 to CK-04, CK-07, CK-08, CK-14, LO-05: with everything that a browser can check.
#[rocket::async_test]
async fn a_host_prefixed_partitioned_cookie_is_kept_and_removed_by_browsers() {
    let name = "__Host-session";
    let db = "sec_cookie_prefix";
    let probe = Probe::start(db, &[]).await;
    let keys = [
        ("cookie_name", name.into()),
        ("same_site", "None".into()),
        ("partitioned", true.into()),
    ];
    let url = Mongod::shared().await.url(db);
    let figment = figment("release", Some(&url), &keys);
    let app = App::launch(crate::apps::probe::rocket(
        figment,
        &probe.clock,
        &probe.gates,
    ))
    .await;
    let browser = Browser::at(app.addr(), "https://shop.example.org");
    let response = browser.send(Script::new().login("alice").request()).await;
    let lines = response.set_cookies();
    assert_eq!(lines.len(), 1, "{response:?}");
    let mut attributes: Vec<&str> = lines[0].split("; ").collect();
    let value = attributes.remove(0).strip_prefix(&format!("{name}="));
    assert_eq!(value.map(str::len), Some(66));
    attributes.sort_unstable();
    assert_eq!(
        attributes,
        [
            "HttpOnly",
            "Partitioned",
            "Path=/",
            "SameSite=None",
            "Secure"
        ]
    );
    let user = browser.send(Script::new().then("user").request()).await;
    assert_eq!(user.text(), "[\"alice\"]");
    // The names that only look like it.
    let stolen = browser.cookie(name).expect("a cookie");
    for other in [
        "__host-session",
        "__%48ost-session",
        "\u{2000}__Host-session",
        "Host-session",
    ] {
        let request = Script::new().then("user").request();
        let response = app
            .send(request.header("Cookie", format!("{other}={stolen}")))
            .await;
        assert_eq!(response.text(), "[null]", "{other:?}");
    }
    browser.send(Script::new().then("logout").request()).await;
    assert_eq!(browser.cookie(name), None);
    let sent = Script::new().then("user").request();
    let replay = app
        .send(sent.header("Cookie", format!("{name}={stolen}")))
        .await;
    assert_eq!(replay.text(), "[null]");
}

/// ID-09: a token is a cookie and nothing else.
#[rocket::async_test]
async fn a_token_is_read_from_and_written_to_the_cookie_alone() {
    let probe = Probe::start_with("sec_cookie_only", &[], super::guards).await;
    let browser = probe.browser();
    let login = run(&browser, Script::new().login("alice")).await;
    let token = login.cookie();
    let user = || Script::new().then("user");
    for sent in [
        user().header("X-Session", &token).request(),
        user().header("session", &token).request(),
        user()
            .header("Authorization", &format!("Bearer {token}"))
            .request(),
        user()
            .header("Set-Cookie", &format!("session={token}"))
            .request(),
        user()
            .header("Cookie2", &format!("session={token}"))
            .request(),
        crate::support::Request::post(&format!("/run?session={token}"))
            .json("{\"calls\":[[\"user\"]]}"),
    ] {
        assert_eq!(probe.app.send(sent).await.text(), "[null]");
    }
    // What is shown: the body of every call, and every header but the cookie's own.
    let all = Script::new()
        .then("id")
        .then("keys")
        .then("csrf_token")
        .then("stats")
        .call(json!(["list", "alice"]));
    let mut responses = vec![login.response, run(&browser, all).await.response];
    responses.push(browser.send(crate::support::Request::get("/missing")).await);
    let secret = token.split_once('.').expect("two halves").1;
    for response in responses {
        assert!(!response.text().contains(secret), "{response:?}");
        let other = response
            .headers
            .iter()
            .filter(|(name, _)| !name.eq_ignore_ascii_case("set-cookie"));
        for (name, value) in other {
            assert!(!value.contains(secret), "{name}: {value}");
        }
    }
}

/// ID-04, CK-12: ids come from the server alone, and only for who stores something.
#[rocket::async_test]
async fn a_clients_id_is_never_adopted_and_reading_stores_nothing() {
    let probe = Probe::start("sec_cookie_adopted", &[]).await;
    for (at, script) in [
        Script::new().set("n", 1),
        Script::new().login("alice"),
        Script::new().then("csrf_token"),
        Script::new().call(json!(["flash", "hello"])),
    ]
    .into_iter()
    .enumerate()
    {
        let foreign = format!("{at}{}.{}", "A".repeat(21), "A".repeat(43));
        let given = run_with(&probe.app, &foreign, script).await.cookie();
        assert_ne!(id_of(&given), id_of(&foreign));
        assert_eq!(probe.document(&foreign).await, None);
    }
    let stored = probe.documents().await.len();
    for script in [
        Script::new().get("n").then("keys").then("user").then("id"),
        Script::new().then("renew").then("touch").then("elevate"),
        Script::new().then("logout"),
        Script::new().call(json!(["verify_csrf", "x"])),
    ] {
        let response = probe.app.send(script.request()).await;
        assert_eq!(response.set_cookies(), Vec::<&str>::new(), "{script:?}");
    }
    assert_eq!(probe.documents().await.len(), stored);
}

/// FX-02: a cookie is good under one name and in one collection.
#[rocket::async_test]
async fn a_cookie_of_one_purpose_opens_no_other() {
    let db = "sec_cookie_purpose";
    let probe = Probe::start(db, &[]).await;
    let cookie = member(&probe, "alice").await;
    let url = Mongod::shared().await.url(db);
    let other_name = probe.again(&url, &[("cookie_name", "admin".into())]).await;
    let request = Script::new().then("user").request();
    let moved = request.header("Cookie", format!("admin={cookie}"));
    assert_eq!(other_name.send(moved).await.text(), "[null]");
    let other_place = probe.again(&url, &[("collection", "admins".into())]).await;
    assert_eq!(whoami(&other_place, &cookie).await, null());
    assert_eq!(whoami(&probe.app, &cookie).await, json!("alice"));
}

/// CT-08: as long a header as the server takes at all costs one lookup at most.
#[rocket::async_test]
async fn a_cookie_header_of_400_kilobytes_costs_at_most_one_lookup() {
    let probe = Probe::start("sec_cookie_long", &[("indexes", false.into())]).await;
    let good = member(&probe, "alice").await;
    let pairs = "c=x; ".repeat(78_000);
    let near = |name: &str| format!("{name}={good}; ").repeat(5_000);
    let many: String = (10_000..15_000)
        .map(|n| format!("session={n}{}.{}; ", "A".repeat(17), "A".repeat(43)))
        .collect();
    let profile = probe.profile().await;
    for (line, user, finds) in [
        (format!("{pairs}session={good}"), json!(["alice"]), 1),
        (format!("session={good}; {pairs}"), json!(["alice"]), 1),
        (
            format!("{pairs}session={}", "x".repeat(60)),
            json!([null]),
            0,
        ),
        (format!("session={}", "x".repeat(390_000)), json!([null]), 0),
        (near("session"), json!(["alice"]), 1),
        (many, json!([null]), 0),
        (near("Session"), json!([null]), 0),
        (";".repeat(390_000), json!([null]), 0),
        ("=".repeat(390_000), json!([null]), 0),
    ] {
        profile.restart().await;
        let request = Script::new().then("user").request();
        let response = probe.app.send(request.header("Cookie", &line)).await;
        assert_eq!(
            (response.status, response.text()),
            (200, user.to_string()),
            "{line:.40}"
        );
        let asked = asked(&profile).await;
        assert_eq!(asked, vec!["find"; finds], "{line:.40}");
    }
}

/// TM-03: what a stranger is told does not reveal the fate of the session that a cookie names.
#[rocket::async_test]
async fn an_unknown_an_expired_and_a_revoked_cookie_are_answered_alike() {
    let keys = [("timeout", 600.into())];
    let probe = Probe::start_with("sec_cookie_alike", &keys, super::guards).await;
    let expired = member(&probe, "alice").await;
    probe.clock.advance(std::time::Duration::from_secs(601));
    let revoked = member(&probe, "alice").await;
    let logged_out = member(&probe, "alice").await;
    let alive = member(&probe, "alice").await;
    ask(&probe.app, json!(["revoke", id_of(&revoked)])).await;
    run_with(&probe.app, &logged_out, Script::new().then("logout")).await;
    let dead = [
        format!("{}.{}", "A".repeat(22), "A".repeat(43)),
        format!("{}.{}", id_of(&alive), "A".repeat(43)),
        expired,
        revoked,
        logged_out,
    ];
    for request in [
        Script::new()
            .then("user")
            .then("keys")
            .then("is_new")
            .request(),
        Script::new()
            .then("touch")
            .then("renew")
            .then("elevate")
            .request(),
        Script::new().set("n", 1).request(),
        crate::support::Request::get("/recent"),
        crate::support::Request::post("/header").header("X-CSRF-Token", "A".repeat(86)),
    ] {
        let mut told = Vec::new();
        for cookie in &dead {
            let request = request
                .clone()
                .header("Cookie", format!("session={cookie}"));
            let mut response = probe.app.send(request).await;
            // A new session's cookie is another each time.
            let own = response
                .set_cookies()
                .first()
                .map(|line| value_of(line).to_owned());
            for (name, value) in &mut response.headers {
                match &own {
                    _ if name.eq_ignore_ascii_case("date") => value.clear(),
                    Some(own) => *value = value.replace(own.as_str(), "new"),
                    None => {}
                }
            }
            told.push((response.status, response.text(), response.headers));
        }
        for (other, cookie) in told.iter().zip(&dead) {
            assert_eq!(other, &told[0], "{}: {cookie}", request.path);
        }
    }
    assert_eq!(whoami(&probe.app, &alive).await, json!("alice"));
}
