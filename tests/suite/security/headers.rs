//! Headers that a client writes as it likes.

use rocket::serde::json::json;

use super::{ask, whoami};
use crate::apps::probe::{Probe, Script};
use crate::support::Request;

/// BD-03, BD-04: what is kept of a client is the peer's own address and a cut, printable name.
#[rocket::async_test]
async fn what_is_recorded_of_a_client_is_bounded_and_not_what_it_claims() {
    let probe = Probe::start("sec_headers_client", &[("record_client", true.into())]).await;
    let long = "x".repeat(8_000);
    for (user, agent, kept) in [
        (
            "plain",
            Some("Mozilla/5.0".to_owned()),
            Some("Mozilla/5.0".to_owned()),
        ),
        ("long", Some(long.clone()), Some(long[..128].to_owned())),
        ("wide", Some("é".repeat(500)), Some("é".repeat(128))),
        ("none", None, None),
    ] {
        let login = Script::new().login(user).request();
        let login = login
            .header("X-Forwarded-For", "203.0.113.7")
            .header("X-Real-IP", "203.0.113.7")
            .header("Forwarded", "for=203.0.113.7");
        let login = match &agent {
            Some(agent) => login.header("User-Agent", agent),
            None => login,
        };
        assert_eq!(probe.app.send(login).await.status, 200);
        let listed = ask(&probe.app, json!(["list", user])).await;
        assert_eq!(listed[0]["client"], json!(kept), "{user}");
        assert_eq!(listed[0]["ip"], json!("127.0.0.1"), "{user}");
    }
    let mut told = 0;
    // Control characters, and those that are not seen and change how others are.
    for odd in [
        "\u{1b}",
        "\u{7f}",
        "\u{85}",
        "\u{ad}",
        "\u{200b}",
        "\u{200f}",
        "\u{202e}",
        "\u{2066}",
        "\u{feff}",
        "\u{e0041}",
    ] {
        let user = format!("odd{odd}");
        let login = Script::new().login(user.as_str()).request();
        let login = login.header("User-Agent", format!("a{odd}b"));
        // The first of these HTTP forbids by itself.
        let Ok(response) = login.try_send(probe.app.addr()).await else {
            continue;
        };
        if response.status == 200 {
            let listed = ask(&probe.app, json!(["list", user])).await;
            assert_eq!(listed[0]["client"], json!("ab"), "{odd:?}");
            told += 1;
        }
    }
    assert!(told >= 8, "{told}");
}

/// BD-01, BD-04: unless asked for, nothing is.
#[rocket::async_test]
async fn by_default_nothing_is_recorded_of_a_client_and_no_session_is_bound_to_one() {
    let probe = Probe::start("sec_headers_default", &[]).await;
    let login = Script::new().login("alice").header("User-Agent", "first");
    let response: crate::apps::probe::Ran = probe.app.send(login.request()).await.into();
    let cookie = response.cookie();
    let listed = ask(&probe.app, json!(["list", "alice"])).await;
    assert_eq!(
        (&listed[0]["client"], &listed[0]["ip"]),
        (&json!(null), &json!(null))
    );
    let other = Script::new().then("user").header("User-Agent", "second");
    let other = other.header("Cookie", &format!("session={cookie}"));
    assert_eq!(probe.app.send(other.request()).await.text(), "[\"alice\"]");
}

/// RB-10: whatever the headers, the response is not a 5xx and the session is what it was.
#[rocket::async_test]
async fn hostile_headers_are_no_trouble() {
    let probe = Probe::start("sec_headers_hostile", &[("record_client", true.into())]).await;
    let cookie = super::member(&probe, "alice").await;
    let values: [Vec<u8>; 7] = [
        vec![],
        b"null".to_vec(),
        b"x".repeat(60_000),
        vec![0xff; 40],
        b"\x1b[31m".to_vec(),
        "https://\u{202e}evil".as_bytes().to_vec(),
        b"https://user:pass@127.0.0.1".to_vec(),
    ];
    for name in [
        "User-Agent",
        "Origin",
        "Sec-Fetch-Site",
        "Host",
        "Upgrade",
        "Content-Type",
        "X-CSRF-Token",
        "X-Forwarded-For",
        "Vary",
    ] {
        for value in &values {
            for times in [1, 2] {
                let request = Request::post("/run");
                let request = (0..times).fold(request, |all, _| all.header(name, value));
                let request = request.header("Cookie", format!("session={cookie}"));
                let request = request.body("{\"calls\":[[\"user\"]]}");
                if let Ok(response) = request.try_send(probe.app.addr()).await {
                    assert!(response.status < 500, "{name}: {response:?}");
                    assert_eq!(response.set_cookies(), Vec::<&str>::new(), "{name}");
                }
            }
        }
    }
    assert_eq!(whoami(&probe.app, &cookie).await, json!("alice"));
}
