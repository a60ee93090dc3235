//! What is logged: no secret that was issued or stored, at any level.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use log::Level;
use mongodb::bson::Document;
use rocket::config::LogLevel;
use rocket::serde::json::{Value, json};
use rocket_mongo_session::{CsrfError, CsrfForm, MemoryStore, MongoPool, MongoStore, Store, store};

use super::{Order, ask, guards};
use crate::apps::opened::opened;
use crate::apps::probe::{Probe, Script, caught, id_of, run, run_with};
use crate::secret_forms::{forms, unmasked};
use crate::support::alone::{all_lines, alone, forget_lines, lines};
use crate::support::{App, FailPoint, Failure, Mode, Mongod, Request, figment};

/// LG-01, LG-03, LG-05, LG-08, LG-09: with every secret in every form in which it could show.
#[test]
fn no_secret_is_ever_logged() {
    alone("security::logs::no_secret_is_ever_logged", use_everything());
}

async fn use_everything() {
    let mongod = Mongod::start().await;
    let client = mongod.client().await;
    let url = mongod.url("logs");
    let all = |rocket| guards(rocket).register("/", caught());
    let keys = [("record_client", true.into()), ("max_bytes", 4096.into())];
    let probe = Probe::start_at(client.clone(), &url, "logs", &keys, all).await;
    let mut secrets: Vec<Vec<u8>> = Vec::new();

    for user in ["alice-the-user-9", "bob-the-user-9"] {
        let browser = probe.browser();
        let value = format!("planted-{user}-value");
        secrets.push(value.clone().into());
        let steps = [
            Script::new().set("n", value.as_str()).then("csrf_token"),
            Script::new()
                .login(user)
                .set("n", value.as_str())
                .then("csrf_token"),
            Script::new().then("elevate").then("csrf_token"),
            Script::new().then("renew").then("new_csrf_token"),
            Script::new().call(json!(["get_as", "n", "i64"])),
            Script::new().call(json!(["increment", "n", 1])),
            Script::new().call(json!(["push", "n", value.as_str()])),
            Script::new().call(json!(["set_long", "long", 9000])),
            Script::new().call(json!(["set", "", value.as_str()])),
            Script::new().call(json!(["flash", value.as_str()])),
            Script::new().call(json!(["queue_pop_as_i64", ""])),
            Script::new().set("m", value.as_str()).fail(500),
            Script::new().set("m", value.as_str()).panic(),
            Script::new().then("touch").call(json!(["revoke_others"])),
        ];
        for script in steps {
            let ran = run(&browser, script).await;
            if let Some(token) = ran.results.last().and_then(Value::as_str)
                && token.len() == 86
            {
                secrets.push(token.into());
                secrets.push(unmasked(token));
                // Refusals speak of tokens, and must not repeat them.
                for token in [token.to_owned(), token.replace('A', "B") + "x"] {
                    browser
                        .send(Request::post("/header").header("X-CSRF-Token", &token))
                        .await;
                    let form = format!("n=word&csrf_token={token}&csrf_token=x");
                    browser.send(Request::post("/form").form(&form)).await;
                }
                // The token is right, and a field is not: Rocket writes the guard's error down.
                let form = format!("n={value}&csrf_token={token}");
                let refused = browser.send(Request::post("/form").form(&form)).await;
                assert_eq!(refused.status, 422);
            }
            let Some(cookie) = browser.cookie("session") else {
                continue;
            };
            let secret = cookie.split_once('.').expect("two halves").1;
            secrets.push(URL_SAFE_NO_PAD.decode(secret).expect("base64url"));
            let document = probe.document(&cookie).await.expect("a document");
            let document = opened(document, &cookie);
            for field in ["token", "csrf"] {
                secrets.push(document.get_binary_generic(field).expect("bytes").clone());
            }
            // What is wrong about a request is said without repeating it.
            for line in [
                format!(
                    "session={0}.{1}A; session={0}.{1}w",
                    id_of(&cookie),
                    "B".repeat(42)
                ),
                format!("session={}", cookie.to_uppercase()),
                format!("session={cookie}\u{1b}[31m"),
            ] {
                let request = Script::new().then("user").request();
                let _ = request
                    .header("Cookie", line)
                    .try_send(probe.app.addr())
                    .await;
            }
            let foreign = Script::new()
                .set("n", 1)
                .header("Origin", "https://evil.example/\u{1b}[31m")
                .header("Cookie", &format!("session={cookie}"));
            let _ = foreign.request().try_send(probe.app.addr()).await;
        }
        let cookie = browser.cookie("session").expect("a cookie");
        // A failing store, in each of its ways.
        for (command, code) in [
            ("find", 13),
            ("update", 121),
            ("insert", 11000),
            ("delete", 8000),
        ] {
            let failure = Failure::code(code);
            let point = FailPoint::on(&client, &[command], Mode::Times(3), failure).await;
            for script in [
                Script::new().set("n", "planted-while-failing"),
                Script::new().login(user),
                Script::new().then("logout"),
            ] {
                run_with(&probe.app, &cookie, script).await;
            }
            point.clear().await;
        }
        let id = mongodb::bson::doc! { "_id": id_of(&cookie) };
        let harm = mongodb::bson::doc! { "$set": { "token": "planted-instead-of-a-token" } };
        let _ = probe.sessions().update_one(id, harm).await;
        run_with(&probe.app, &cookie, Script::new().set("n", 1)).await;
    }
    secrets.push("planted-while-failing".into());
    secrets.push("planted-instead-of-a-token".into());
    for order in [
        json!(["revoke_all"]),
        json!(["stats"]),
        json!(["purge_expired"]),
    ] {
        ask(&probe.app, order).await;
    }
    // All that it has to say was said when it has ended.
    probe.app.shutdown().await.expect("a clean end");

    // An address with a password, that leads nowhere and that cannot be read.
    for url in [
        "mongodb://app:planted-password@127.0.0.1:1/x?serverSelectionTimeoutMS=200",
        "mongodb://app:planted-password@127.0.0.1:1/x?planted=%%%",
        "mongodb://app:planted-password@:/",
    ] {
        let figment = figment("release", Some(url), &[("deadline", 1.into())]);
        let clock = rocket_mongo_session::testing::Clock::new();
        let rocket = crate::apps::probe::rocket(figment, &clock, &Default::default());
        match App::try_launch(rocket).await {
            Ok(app) => {
                app.send(Script::new().set("n", 1).request()).await;
                let _ = app.shutdown().await;
            }
            Err(error) => drop(error.to_string()),
        }
    }
    secrets.push("planted-password".into());
    search(&secrets);
    // What an administrator should hear of was said, without the values.
    for said in [
        "a request sent several `session` cookies",
        "a POST request was refused",
        "the request carries more than one CSRF token",
    ] {
        let is_said = lines().iter().any(|line| line.text.contains(said));
        assert!(is_said, "{said}");
    }
}

fn search(secrets: &[Vec<u8>]) {
    assert!(secrets.len() > 40, "{}", secrets.len());
    let lines = all_lines();
    let ours = lines.iter().filter(|line| line.is_ours());
    assert!(ours.count() > 20, "the crate has spoken");
    // Rocket prints whole requests when it is told to debug; all else it prints is clean, too.
    let searched = lines
        .iter()
        .filter(|line| line.is_ours() || line.level <= Level::Info);
    let forms: Vec<String> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    for line in searched {
        for form in &forms {
            let found = line.text.contains(form.as_str());
            assert!(
                !found,
                "{} {}: {form} in {:?}",
                line.by, line.level, line.text
            );
        }
        if line.is_ours() {
            assert!(!line.text.contains('\u{1b}'), "{:?}", line.text);
            assert!(line.text.len() < 1000, "{:?}", line.text);
        }
    }
    // So does the search find anything at all?
    assert!(
        lines
            .iter()
            .any(|line| forms.iter().any(|form| line.text.contains(form)))
    );
}

/// LG-07: outside the debug profile, that Rocket prints cookies is warned about at launch.
#[test]
fn a_log_that_shows_cookies_is_warned_about_outside_debug() {
    let test = "security::logs::a_log_that_shows_cookies_is_warned_about_outside_debug";
    alone(test, async {
        for (profile, level, warned) in [
            ("release", LogLevel::Debug, true),
            ("release", LogLevel::Normal, false),
            ("debug", LogLevel::Debug, false),
        ] {
            forget_lines();
            let url = Mongod::shared().await.url("sec_logs_level");
            let figment = figment(profile, Some(&url), &[]).merge(("log_level", level));
            let clock = rocket_mongo_session::testing::Clock::new();
            let app = crate::apps::probe::rocket(figment, &clock, &Default::default());
            let app = App::launch(app).await;
            let cookie = format!("{}.{}", "A".repeat(22), "S".repeat(43));
            run_with(&app, &cookie, Script::new()).await;
            let lines = all_lines();
            let says = |text: &str| lines.iter().any(|line| line.text.contains(text));
            assert_eq!(
                says("session cookies included"),
                warned,
                "{profile} {level}"
            );
            assert!(
                says(&"S".repeat(43)),
                "the reason: Rocket's own debug lines"
            );
        }
    });
}

/// LG-04: each kind of attempt has a number of its own, which an administrator can watch.
#[rocket::async_test]
async fn what_was_tried_is_counted() {
    let probe = Probe::start_with("sec_logs_counted", &[("timeout", 600.into())], guards).await;
    let expired = super::member(&probe, "alice").await;
    probe.clock.advance(Duration::from_secs(601));
    let good = super::member(&probe, "alice").await;
    let forged = format!("{}.{}", id_of(&good), "A".repeat(43));
    let unknown = format!("{}.{}", "A".repeat(22), "A".repeat(43));
    let send = async |times: usize, cookie: String, request: Request| {
        for _ in 0..times {
            probe
                .app
                .send(request.clone().header("Cookie", &cookie))
                .await;
        }
    };
    let look = || Request::get("/recent");
    let with = |cookie: &str| format!("session={cookie}");
    let other = unknown.replace("A.", "w.");
    send(2, format!("{}; {}", with(&unknown), with(&other)), look()).await;
    send(3, with(&forged), look()).await;
    send(4, with(&unknown), look()).await;
    send(5, with(&expired), look()).await;
    send(6, with(&good), Request::post("/header")).await;
    send(
        1,
        with(&good),
        Request::post("/form").form("n=1&csrf_token=x"),
    )
    .await;
    let foreign = Request::post("/header").header("Sec-Fetch-Site", "cross-site");
    send(8, with(&good), foreign).await;
    send(9, with("no cookie of ours"), look()).await;
    let stats = ask(&probe.app, json!(["stats"])).await;
    let stats = stats.as_str().expect("text");
    for said in [
        "ambiguous: 2,",
        "wrong_secrets: 3,",
        "misses: 9,", // the ambiguous ones included
        "expired: 5,",
        " csrf_refused: 7,",
        " refused: 8,",
        "hits: 7,",
    ] {
        assert!(stats.contains(said), "{said} {stats}");
    }
}

/// LG-02: what prints itself prints nothing that is secret.
#[rocket::async_test]
async fn no_debug_shows_a_secret() {
    use rocket_mongo_session::{Key, Sessions};

    let shown = format!("{:?} {:?}", Sessions::fairing(), Key::<String>::new("name"));
    assert!(!shown.contains("mongodb://"), "{shown}");
    // A client knows its password, and its driver prints it.
    let url = "mongodb://app:planted-password@127.0.0.1:1/db";
    let client = mongodb::Client::with_uri_str(url).await.expect("a client");
    let collection = client.database("db").collection::<Document>("session");
    let store = MongoStore::new(&collection, Duration::from_secs(1), 1, true);
    for shown in [
        format!("{:?}", Sessions::in_collection(collection)),
        format!("{store:?} {store:#?}"),
        format!("{:?} {0:#?}", MongoPool::from(client)),
    ] {
        assert!(!shown.contains("planted"), "{shown}");
        assert!(!shown.contains("app"), "{shown}");
    }
    let probe = Probe::start_with("sec_logs_debug", &[], |rocket| {
        rocket.mount("/", rocket::routes![printed, form_printed])
    })
    .await;
    let browser = probe.browser();
    let login = Script::new().login("alice").set("n", "planted-value");
    let cookie = run(&browser, login).await.cookie();
    let mut shown = browser.send(Request::get("/printed")).await.text();
    // A form with its token, and each kind of error.
    let token = run(&browser, Script::new().then("csrf_token")).await;
    let token = token.last().as_str().expect("a token").to_owned();
    for (fields, said) in [
        (
            format!("n=1&csrf_token={token}"),
            "Ok(CsrfForm(Order { n: 1 }))",
        ),
        (
            format!("n=planted-value&csrf_token={token}"),
            "Err(Form([\"n\"]))",
        ),
        (format!("n=1&csrf_token={token}x"), "Err(Token(Mismatch))"),
        (
            format!("n=1&csrf_token={token}&csrf_token=planted-value"),
            "Err(Token(Ambiguous))",
        ),
        ("n=1".to_owned(), "Err(Token(Missing))"),
    ] {
        let request = Request::post("/form-printed").form(&fields);
        let printed = browser.send(request).await.text();
        assert!(printed.contains(said), "{printed}");
        assert!(!printed.contains(&token), "{printed}");
        shown += &printed;
    }
    let document = probe.document(&cookie).await.expect("a document");
    let document = opened(document, &cookie);
    let secret = cookie.split_once('.').expect("two halves").1;
    let secret = URL_SAFE_NO_PAD.decode(secret).expect("base64url");
    let bytes = |field| document.get_binary_generic(field).expect("bytes").clone();
    for secret in [
        secret,
        bytes("token"),
        bytes("csrf"),
        b"planted-value".to_vec(),
    ] {
        for form in forms(&secret) {
            assert!(!shown.contains(&form), "{form} in {shown}");
        }
    }
    assert!(shown.contains(id_of(&cookie)), "the id is for everybody");
}

#[rocket::post("/form-printed", data = "<form>")]
fn form_printed(form: Result<CsrfForm<Order>, CsrfError<'_>>) -> String {
    format!("{form:?} {form:#?}")
}

#[rocket::get("/printed")]
async fn printed(
    session: &rocket_mongo_session::Session,
    sessions: &rocket_mongo_session::Sessions,
) -> String {
    let list = sessions.of("alice").list(0, 10).await;
    let queue = session.flash_queue("q");
    let wrong = session.get::<u32>("n");
    let memory = MemoryStore::new();
    let document = mongodb::bson::doc! { "_id": "x", "value": "planted-value" };
    let document = mongodb::bson::to_vec(&document).expect("BSON");
    let document = store::Document::from_bytes(document);
    let stored = memory.insert(vec![document], store::Durability::Data).await;
    format!(
        "{session:?} {session:#?} {sessions:?} {list:?} {queue:?} {wrong:?} {:?} {stored:?} {memory:?}",
        sessions.stats()
    )
}
