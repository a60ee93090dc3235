//! Cookies as browsers send and keep them: unknown and several ones, paths, and attributes.

use std::time::Duration;

use crate::apps::probe::{
    Probe, Ran, Script, all_routes, asked, id_of, removes, run, run_with, value_of,
};
use crate::support::Browser;
use rocket::serde::json::json;

#[rocket::async_test]
async fn an_unknown_cookie_is_looked_up_and_left_alone() {
    let probe = Probe::start("cookies_unknown", &[("indexes", false.into())]).await;
    let browser = probe.browser();
    let good = run(&browser, Script::new().set("n", 1)).await.cookie();
    let (id, secret) = good.split_once('.').expect("two parts");
    assert_eq!((id.len(), secret.len()), (22, 43));

    let profile = probe.profile().await;
    for (what, cookie) in [
        ("unknown id", format!("{}.{secret}", "A".repeat(22))),
        ("wrong secret", format!("{id}.{}", "A".repeat(43))),
    ] {
        profile.restart().await;
        let script = Script::new().get("n").then("is_new").then("id");
        let read = run_with(&probe.app, &cookie, script).await;
        assert_eq!(
            read.results,
            [json!(null), json!(true), json!(null)],
            "{what}"
        );
        assert_eq!(read.sent(), None, "{what}");
        assert_eq!(asked(&profile).await, ["find", "find"], "{what}");

        let before = probe.document(&good).await;
        let written = run_with(&probe.app, &cookie, Script::new().set("n", 2)).await;
        let new = written.cookie();
        assert_ne!(id_of(&new), id_of(&cookie), "{what}");
        assert_eq!(
            probe.document(&good).await,
            before,
            "{what}: another's is not touched"
        );
        assert_eq!(probe.document(&"A".repeat(22)).await, None, "{what}");
    }
    assert_eq!(
        run(&browser, Script::new().get("n")).await.results,
        [json!(1)]
    );
}

#[rocket::async_test]
async fn a_malformed_cookie_is_not_looked_up() {
    let probe = Probe::start("cookies_malformed", &[("indexes", false.into())]).await;
    let good = run(&probe.browser(), Script::new().set("n", 1))
        .await
        .cookie();
    let (id, secret) = good.split_once('.').expect("two parts");
    let profile = probe.profile().await;
    let forms = [
        String::new(),
        ".".into(),
        "abc".into(),
        id.into(),
        format!("{id}."),
        format!(".{secret}"),
        format!("{secret}.{id}"),
        format!("{id}.{secret}."),
        format!("{id}.{secret}.{secret}"),
        format!("ZZ{good}"),
        format!("{good}%24"),
        format!("{good}=="),
        format!("\"{good}\""),
        format!("{id}%2E{secret}"),
        good.replace('.', ":"),
        good.to_uppercase() + "x",
        format!("{id}.{}+", &secret[..42]),
        format!("{id}.{}\u{e9}", &secret[..41]),
        "{\"$gt\":\"\"}".into(),
        "[$ne]".into(),
        "%00".into(),
        "%0d%0aSet-Cookie:%20a=b".into(),
        "'".into(),
        "x".repeat(7000),
        format!("{good}{}", "x".repeat(7000)),
    ];
    for form in &forms {
        let read = run_with(&probe.app, form, Script::new().get("n").then("is_new")).await;
        assert_eq!((read.status, read.sent()), (200, None), "{form:?}");
        assert_eq!(read.results, [json!(null), json!(true)], "{form:?}");
    }
    assert_eq!(asked(&profile).await, Vec::<String>::new());
    let written = run_with(&probe.app, "abc", Script::new().set("n", 2)).await;
    assert_ne!(id_of(&written.cookie()), "abc");
}

#[rocket::async_test]
async fn several_cookies_load_the_live_session_with_one_find() {
    let probe = Probe::start("cookies_several", &[("indexes", false.into())]).await;
    let [good, other, ended] = [1, 2, 3].map(|n| Script::new().set("n", n));
    let good = run(&probe.browser(), good).await.cookie();
    let other = run(&probe.browser(), other).await.cookie();
    let ended = run(&probe.browser(), ended).await.cookie();
    run_with(&probe.app, &ended, Script::new().then("logout")).await;
    let forged = format!("{}.{}", id_of(&good), "A".repeat(43));
    let dead = |n: u8| format!("session={n}{}.{}", "A".repeat(21), "A".repeat(43));
    let (g, o, e) = (
        format!("session={good}"),
        format!("session={other}"),
        format!("session={ended}"),
    );
    let profile = probe.profile().await;
    let request = || Script::new().get("n").then("is_new").request();
    let (first, none) = ("[1,false]", "[null,true]");
    for (sent, seen, finds) in [
        (vec![format!("{g}; {g}")], first, 1),
        (vec![format!("{g}; session=")], first, 1),
        (vec![format!("session=junk; {g}")], first, 1),
        (vec![g.clone(), "a=b; session=x".into()], first, 1),
        (vec![format!("{g}; {e}")], first, 1),
        (vec![e.clone(), g.clone()], first, 1),
        (vec![format!("session={forged}; {g}")], first, 1),
        (vec![dead(1), dead(2), dead(3), g.clone()], first, 1),
        // More than one is alive, or none, or there are too many.
        (vec![format!("{g}; {o}")], none, 1),
        (vec![o.clone(), g.clone()], none, 1),
        (vec![format!("{e}; session={forged}")], none, 2),
        (vec![dead(1), dead(2), dead(3), dead(4), g.clone()], none, 0),
        (vec!["session=x; session=y".into()], none, 0),
    ] {
        profile.restart().await;
        let with = sent
            .iter()
            .fold(request(), |all, line| all.header("Cookie", line));
        let response = probe.app.send(with).await;
        assert_eq!(response.text(), seen, "{sent:?}");
        assert_eq!(response.set_cookies(), Vec::<&str>::new(), "{sent:?}");
        assert_eq!(asked(&profile).await, vec!["find"; finds], "{sent:?}");
    }
}

/// After `path`, `domain` or `partitioned` changed, a browser sends the old cookie beside the new one.
#[rocket::async_test]
async fn a_stray_second_cookie_does_not_lock_its_user_out() {
    let probe = Probe::start("cookies_stray", &[]).await;
    let old = run(&probe.browser(), Script::new().login("alice"))
        .await
        .cookie();
    run_with(&probe.app, &old, Script::new().then("logout")).await;
    let new = run(&probe.browser(), Script::new().login("alice"))
        .await
        .cookie();
    let ask = async |script: Script| -> crate::apps::probe::Ran {
        let both = format!("session={old}; session={new}");
        let response = probe.app.send(script.request().header("Cookie", both));
        response.await.into()
    };
    let written = ask(Script::new()
        .call(json!(["increment", "n", 1]))
        .then("user"))
    .await;
    assert_eq!((written.last(), written.sent()), (&json!("alice"), None));
    assert_eq!(ask(Script::new().get("n")).await.results, [json!(1)]);
}

#[rocket::async_test]
async fn logout_ends_every_session_that_the_requests_cookies_prove() {
    let probe = Probe::start("cookies_logout", &[("timeout", 600.into())]).await;
    let login = async || {
        let browser = probe.browser();
        run(&browser, Script::new().login("alice")).await.cookie()
    };
    let expired = login().await;
    probe.clock.advance(std::time::Duration::from_secs(601));
    let (a, b, foreign) = (login().await, login().await, login().await);
    let forged = format!("{}.{}", id_of(&foreign), "A".repeat(43));
    for (sent, proven) in [
        ([&a, &forged], vec![&a]),
        ([&b, &expired], vec![&b, &expired]),
    ] {
        let line = format!("session={}; session={}", sent[0], sent[1]);
        let request = Script::new().then("logout").request();
        let out = probe.app.send(request.header("Cookie", line)).await;
        let [cookie] = out.set_cookies()[..] else {
            panic!("{out:?}")
        };
        assert!(removes(cookie), "{cookie}");
        for cookie in proven {
            assert_eq!(probe.document(cookie).await, None, "{sent:?}");
        }
    }
    // Two live sessions: neither is believed, and both end.
    let (a, b) = (login().await, login().await);
    let line = format!("session={a}; session={b}");
    let request = Script::new().then("user").then("logout").request();
    let out = probe.app.send(request.header("Cookie", line)).await;
    assert!(out.text().starts_with("[null,"), "{out:?}");
    assert!(removes(out.set_cookies()[0]));
    assert_eq!(probe.document(&a).await, None);
    assert_eq!(probe.document(&b).await, None);
    assert!(probe.document(&foreign).await.is_some());
}

#[rocket::async_test]
async fn logout_removes_whatever_cookie_of_our_name_was_sent_and_nothing_else_does() {
    let probe = Probe::start("cookies_removal", &[("timeout", 600.into())]).await;
    let login = async || {
        let browser = probe.browser();
        run(&browser, Script::new().login("alice")).await.cookie()
    };
    let expired = login().await;
    probe.clock.advance(std::time::Duration::from_secs(601));
    let (good, ended) = (login().await, login().await);
    run_with(&probe.app, &ended, Script::new().then("logout")).await;
    let unknown = format!("{}.{}", "A".repeat(22), "A".repeat(43));
    let forged = format!("{}.{}", id_of(&good), "A".repeat(43));
    for cookie in ["x", "", &expired, &ended, &unknown, &forged, &good] {
        let read = run_with(&probe.app, cookie, Script::new().get("n")).await;
        assert_eq!(read.sent(), None, "{cookie}");
        let out = run_with(&probe.app, cookie, Script::new().then("logout")).await;
        assert!(out.sent().is_some_and(removes), "{cookie}: {out:?}");
    }
    let out: crate::apps::probe::Ran = probe
        .app
        .send(Script::new().then("logout").request())
        .await
        .into();
    assert_eq!(out.sent(), None, "no cookie was sent");
    let other = Script::new().then("logout").header("Cookie", "a=b");
    let out: crate::apps::probe::Ran = probe.app.send(other.request()).await.into();
    assert_eq!(out.sent(), None, "no cookie of our name was sent");
}

#[rocket::async_test]
async fn a_request_outside_the_cookies_path_creates_no_session() {
    let probe = Probe::start("cookies_path", &[("path", "/app".into())]).await;
    for (script, what) in [
        (Script::new().set("n", 1), "a write"),
        (Script::new().login("alice"), "a login"),
        (Script::new().then("csrf_token"), "a CSRF token"),
    ] {
        let ran: crate::apps::probe::Ran = probe.app.send(script.request()).await.into();
        assert_eq!(ran.sent(), None, "{what}");
    }
    assert_eq!(probe.documents().await.len(), 0);
    let read: crate::apps::probe::Ran = probe
        .app
        .send(Script::new().get("n").request())
        .await
        .into();
    assert_eq!((read.status, read.last()), (200, &json!(null)));
}

/// The browser has it, because another host of the domain has set it for all paths.
#[rocket::async_test]
async fn a_cookie_that_is_due_is_not_sent_outside_of_its_path() {
    let keys = [("path", "/app".into()), ("max_age", 600.into())];
    let probe = Probe::start_with("cookies_path_due", &keys, |rocket| {
        rocket.mount("/app", all_routes())
    })
    .await;
    let inside = |script: Script| {
        let mut request = script.request();
        request.path = "/app/run".to_owned();
        request
    };
    let first = inside(Script::new().set("n", 1));
    let first: Ran = probe.app.send(first).await.into();
    let cookie = first.cookie();
    probe.clock.advance(Duration::from_secs(300));
    let outside = run_with(&probe.app, &cookie, Script::new().get("n")).await;
    assert_eq!((outside.last(), outside.sent()), (&json!(1), None));
    let again = inside(Script::new().get("n"));
    let again = again.header("Cookie", format!("session={cookie}"));
    let again: Ran = probe.app.send(again).await.into();
    assert_eq!(again.cookie(), cookie, "it is due");
}

/// The return from a payment or identity provider: a cross-site POST, with which a browser
/// does not send the `Lax` cookie.
#[rocket::async_test]
async fn a_trusted_cross_site_post_without_a_cookie_creates_a_session_only_by_login() {
    let trusted = (
        "trusted_origins",
        ["https://bank.example"].as_slice().into(),
    );
    let probe = Probe::start("cookies_cross_site", &[trusted]).await;
    let browser = probe.browser();
    let member = run(&browser, Script::new().login("alice")).await.cookie();
    let stored = probe.documents().await.len();
    let sent = async |script: Script, cookie: Option<&str>| -> crate::apps::probe::Ran {
        let request = script
            .request()
            .header("Origin", "https://bank.example")
            .header("Sec-Fetch-Site", "cross-site");
        let request = match cookie {
            Some(cookie) => request.header("Cookie", format!("session={cookie}")),
            None => request,
        };
        probe.app.send(request).await.into()
    };
    let returned = sent(Script::new().set("paid", true), None).await;
    assert_eq!(returned.sent(), None, "{returned:?}");
    assert_eq!(probe.documents().await.len(), stored);
    let read = sent(Script::new().get("paid"), None).await;
    assert_eq!((read.status, read.sent()), (200, None));
    assert!(
        sent(Script::new().login("bob"), None)
            .await
            .sent()
            .is_some()
    );
    let with_cookie = sent(Script::new().set("paid", true), Some(&member)).await;
    assert_eq!((with_cookie.status, with_cookie.sent()), (200, None));
    let paid = run(&browser, Script::new().get("paid").then("user")).await;
    assert_eq!(paid.results, [json!(true), json!("alice")]);
}

#[rocket::async_test]
async fn a_cookie_name_that_decodes_or_trims_to_ours_is_another_cookie() {
    let probe = Probe::start("cookies_names", &[]).await;
    let good = run(&probe.browser(), Script::new().set("n", 1))
        .await
        .cookie();
    let other = run(&probe.browser(), Script::new().set("n", 2))
        .await
        .cookie();
    let request = || Script::new().get("n").request();
    for name in [
        "%73ession",
        "session%20",
        "Session",
        "session ",
        "\u{a0}session",
        "=session",
    ] {
        let alone = request().header("Cookie", format!("{name}={other}"));
        assert_eq!(probe.app.send(alone).await.text(), "[null]", "{name:?}");
        for line in [
            format!("{name}={other}; session={good}"),
            format!("session={good}; {name}={other}"),
        ] {
            let both = request().header("Cookie", &line);
            assert_eq!(probe.app.send(both).await.text(), "[1]", "{line:?}");
        }
    }
    // Among others it is found, in whatever line.
    let lines = request()
        .header("Cookie", "a=b; c")
        .header("Cookie", format!("d=e;session={good}"));
    assert_eq!(probe.app.send(lines).await.text(), "[1]");
    // Rocket drops a line that is not UTF-8, so no cookie arrives.
    let mut bytes = format!("session={good}; a=").into_bytes();
    bytes.push(0xff);
    let response = probe.app.send(request().header("Cookie", bytes)).await;
    assert_eq!((response.status, response.text().as_str()), (200, "[null]"));
}

#[rocket::async_test]
async fn cookie_attributes_are_the_defaults() {
    let probe = Probe::start("cookies_defaults", &[]).await;
    let browser = probe.browser();
    let first = run(&browser, Script::new().set("n", 1)).await;
    let attributes = |line: &str| {
        let mut all: Vec<String> = line.split("; ").skip(1).map(str::to_owned).collect();
        all.sort();
        all
    };
    let sent = first.sent().expect("a cookie").to_owned();
    assert_eq!(attributes(&sent), ["HttpOnly", "Path=/", "SameSite=Lax"]);
    let out = run(&browser, Script::new().then("logout")).await;
    let gone = out.sent().expect("a removal");
    assert!(removes(gone));
    let rest = attributes(gone).into_iter();
    let rest: Vec<_> = rest
        .filter(|a| !a.starts_with("Expires=") && a != "Max-Age=0")
        .collect();
    assert_eq!(
        rest,
        attributes(&sent),
        "with other attributes browsers would keep it"
    );
    assert_eq!(browser.cookie("session"), None);
}

#[rocket::async_test]
async fn cookie_attributes_are_as_configured() {
    let keys = [
        ("cookie_name", "abc".into()),
        ("path", "/run".into()),
        ("domain", "Example.org".into()),
        ("secure", true.into()),
        ("http_only", false.into()),
        ("same_site", "Strict".into()),
        ("partitioned", true.into()),
        ("max_age", 300.into()),
    ];
    let probe = Probe::start("cookies_configured", &keys).await;
    let browser = Browser::at(probe.app.addr(), "https://shop.example.org");
    let first = browser.send(Script::new().set("n", 1).request()).await;
    let sent = first.set_cookies()[0].to_owned();
    let mut attributes: Vec<&str> = sent.split("; ").skip(1).collect();
    attributes.sort_unstable();
    assert_eq!(
        attributes,
        [
            "Domain=example.org",
            "Max-Age=300",
            "Partitioned",
            "Path=/run",
            "SameSite=Strict",
            "Secure"
        ]
    );
    assert!(sent.starts_with("abc="));
    assert_eq!(
        browser.cookie_at("/run", "abc").as_deref(),
        Some(value_of(&sent))
    );
    let read = browser.send(Script::new().get("n").request()).await;
    assert_eq!(read.text(), "[1]");
    // A cookie of the default's name is just another one.
    let request = Script::new().get("n").request();
    let shadow = request.header("Cookie", format!("session={}", value_of(&sent)));
    assert_eq!(probe.app.send(shadow).await.text(), "[null]");

    let out = browser.send(Script::new().then("logout").request()).await;
    let gone = out.set_cookies()[0].to_owned();
    assert!(
        gone.starts_with("abc=;")
            && gone.contains("Path=/run")
            && gone.contains("Domain=example.org")
    );
    assert_eq!(
        browser.cookie_at("/run", "abc"),
        None,
        "browsers obey: {gone}"
    );
}

#[rocket::async_test]
async fn cookie_size_does_not_depend_on_the_data() {
    let probe = Probe::start("cookies_large", &[]).await;
    let browser = probe.browser();
    let first = run(&browser, Script::new().set("n", 1)).await.cookie();
    let long = Script::new().call(json!(["set_long", "long", 100_000]));
    assert_eq!(run(&browser, long).await.sent(), None);
    assert_eq!(first.len(), 22 + 1 + 43);
    let other = run(&browser, Script::new().call(json!(["get", "long"]))).await;
    assert_eq!(other.last().as_str().map(str::len), Some(100_000));
}

#[rocket::async_test]
async fn ids_and_secrets_are_drawn_anew_each_time() {
    let probe = Probe::start("cookies_drawn", &[]).await;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..50 {
        let cookie = run(&probe.browser(), Script::new().set("n", 1))
            .await
            .cookie();
        for part in cookie.split('.') {
            let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            assert!(part.chars().all(legal), "{cookie}");
            assert!(seen.insert(part.to_owned()), "drawn twice: {part}");
        }
    }
}

#[rocket::async_test]
async fn secure_is_the_default_outside_the_debug_profile() {
    let probe = Probe::start("cookies_release", &[]).await;
    let mongod = crate::support::Mongod::shared().await;
    let url = mongod.url(&probe.db);
    let figment = crate::support::figment("release", Some(&url), &[]);
    let rocket = crate::apps::probe::rocket(figment, &probe.clock, &probe.gates);
    let app = crate::support::App::launch(rocket).await;
    let response = app.send(Script::new().set("n", 1).request()).await;
    assert!(
        response.set_cookies()[0].split("; ").any(|a| a == "Secure"),
        "{response:?}"
    );
}
