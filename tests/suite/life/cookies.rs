//! Which cookies are believed, and what ours looks like.

use crate::probe::{Probe, Script, asked, id_of, removes, run, run_with, value_of};
use crate::support::Browser;
use rocket::serde::json::json;

#[rocket::async_test]
async fn a_well_formed_cookie_that_nobody_was_given_is_looked_up_and_left_alone() {
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
        assert_eq!(asked(&profile).await, ["find"], "{what}");

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
async fn a_cookie_of_any_other_form_is_not_looked_up() {
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
async fn of_several_cookies_of_our_name_none_is_believed() {
    let probe = Probe::start("cookies_duplicate", &[("indexes", false.into())]).await;
    let good = run(&probe.browser(), Script::new().set("n", 1))
        .await
        .cookie();
    let other = run(&probe.browser(), Script::new().set("n", 2))
        .await
        .cookie();
    let profile = probe.profile().await;
    let request = || Script::new().get("n").then("is_new").request();
    for sent in [
        vec![format!("session={good}; session={other}")],
        vec![format!("session={other}; a=b; session={good}")],
        vec![format!("session={good}; session={good}")],
        vec![format!("session={good}; session=")],
        vec![format!("session={good}; session=junk")],
        vec![format!("session={good}"), format!("session={other}")],
        vec![format!("session={good}"), "a=b; session=x".into()],
    ] {
        let with = sent
            .iter()
            .fold(request(), |all, line| all.header("Cookie", line));
        let answer = probe.app.send(with).await;
        assert_eq!(answer.text(), "[null,true]", "{sent:?}");
        assert_eq!(answer.set_cookies(), Vec::<&str>::new(), "{sent:?}");
    }
    assert_eq!(asked(&profile).await, Vec::<String>::new());
}

#[rocket::async_test]
async fn a_name_that_only_decodes_or_trims_to_ours_neither_counts_nor_shadows() {
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
    // Rocket drops a line that is not UTF-8, so this is no cookie at all.
    let mut bytes = format!("session={good}; a=").into_bytes();
    bytes.push(0xff);
    let answer = probe.app.send(request().header("Cookie", bytes)).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "[null]"));
}

#[rocket::async_test]
async fn the_cookie_has_the_attributes_of_the_defaults() {
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
async fn the_cookie_has_the_attributes_that_were_configured() {
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
async fn large_data_makes_no_large_cookie() {
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
async fn outside_the_debug_profile_the_cookie_is_for_https_alone() {
    let probe = Probe::start("cookies_release", &[]).await;
    let mongod = crate::support::Mongod::shared().await;
    let url = mongod.url(&probe.db);
    let figment = crate::support::figment("release", Some(&url), &[]);
    let rocket = crate::probe::rocket(figment, &probe.clock, &probe.gates);
    let app = crate::support::App::launch(rocket).await;
    let answer = app.send(Script::new().set("n", 1).request()).await;
    assert!(
        answer.set_cookies()[0].split("; ").any(|a| a == "Secure"),
        "{answer:?}"
    );
}
