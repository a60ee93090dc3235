use proptest::prelude::*;

use super::*;

const OWN: &str = "https://app.example.com";

/// An unsafe request to `https://app.example.com`, as a Rocket behind a TLS proxy sees it.
fn judged(fetch: &[&str], origin: &[&str]) -> Result<(), CrossSite> {
    judge(&post(fetch, origin), &[])
}

fn post<'a>(sec_fetch_site: &'a [&'a str], origin: &'a [&'a str]) -> OriginHeaders<'a> {
    OriginHeaders {
        secure_cookie: true,
        sec_fetch_site,
        origin,
        host: Some("app.example.com"),
    }
}

fn origin(text: &str) -> Origin {
    Origin::parse(text).expect(text)
}

#[test]
fn the_matrix_holds_row_by_row() {
    let (sibling, other) = ("https://www.example.com", "https://evil.test");
    assert_eq!(judged(&["same-origin"], &[OWN]), Ok(()));
    assert_eq!(judged(&["none"], &[]), Ok(()));
    assert_eq!(
        judged(&["same-site"], &[sibling]),
        Err(CrossSite::OtherSite)
    );
    for any in [OWN, sibling, other, "null", "%"] {
        assert_eq!(
            judged(&["cross-site"], &[any]),
            Err(CrossSite::OtherSite),
            "{any}"
        );
        assert_eq!(
            judged(&["garbage"], &[any]),
            Err(CrossSite::OddFetchSite),
            "{any}"
        );
    }
    assert_eq!(judged(&["cross-site"], &[]), Err(CrossSite::OtherSite));
    assert_eq!(judged(&[], &[OWN]), Ok(()));
    assert_eq!(judged(&[], &[other]), Err(CrossSite::OtherOrigin));
    assert_eq!(judged(&[], &["null"]), Err(CrossSite::NullOrigin));
    assert_eq!(judged(&[], &[]), Ok(()));
    for fetch in [&[][..], &["same-origin"], &["none"], &["cross-site"]] {
        assert_eq!(
            judged(fetch, &[OWN, OWN]),
            Err(CrossSite::ManyOrigins),
            "{fetch:?}"
        );
    }
}

#[test]
fn only_a_safe_method_without_a_form_or_an_upgrade_is_harmless() {
    for bits in 0..8 {
        let [method_is_safe, is_form, upgrades] = [1, 2, 4].map(|bit| bits & bit != 0);
        let manner = RequestTraits {
            method_is_safe,
            is_form,
            upgrades,
        };
        assert_eq!(manner.is_exempt(), bits == 1, "{manner:?}");
    }
}

#[test]
fn only_exactly_one_known_fetch_site_passes() {
    for odd in [
        "",
        " ",
        "Same-Origin",
        "SAME-ORIGIN",
        "same-origin ",
        "same-origin, none",
        "cross_site",
        "\0",
    ] {
        assert_eq!(
            judged(&[odd], &[OWN]),
            Err(CrossSite::OddFetchSite),
            "{odd:?}"
        );
    }
    assert_eq!(
        judged(&["same-origin", "same-origin"], &[OWN]),
        Err(CrossSite::OddFetchSite)
    );
    assert_eq!(
        judged(&["none", "cross-site"], &[OWN]),
        Err(CrossSite::OddFetchSite)
    );
}

#[test]
fn the_sites_own_form_passes_though_its_pages_send_no_referrer() {
    assert_eq!(judged(&["same-origin"], &["null"]), Ok(()));
}

#[test]
fn a_trusted_origin_passes_whatever_the_fetch_site() {
    let trusted = [
        origin("https://www.example.com"),
        origin("http://localhost:3000"),
    ];
    for fetch in [&[][..], &["same-site"], &["cross-site"], &["garbage"]] {
        assert_eq!(
            judge(&post(fetch, &["https://www.example.com"]), &trusted),
            Ok(())
        );
        assert_eq!(
            judge(&post(fetch, &["https://www.example.com:443"]), &trusted),
            Ok(())
        );
        assert_eq!(
            judge(&post(fetch, &["http://localhost:3000"]), &trusted),
            Ok(())
        );
        for other in [
            "http://www.example.com",
            "https://www.example.com:444",
            "http://localhost",
            "null",
        ] {
            assert!(judge(&post(fetch, &[other]), &trusted).is_err(), "{other}");
        }
        let twice = ["https://www.example.com", "https://www.example.com"];
        assert_eq!(
            judge(&post(fetch, &twice), &trusted),
            Err(CrossSite::ManyOrigins)
        );
    }
}

#[test]
fn hostile_origins_are_refused() {
    for (hostile, reason) in [
        ("", CrossSite::OddOrigin),
        (" ", CrossSite::OddOrigin),
        ("https://", CrossSite::OddOrigin),
        ("https:app.example.com", CrossSite::OddOrigin),
        ("//app.example.com", CrossSite::OddOrigin),
        ("app.example.com", CrossSite::OddOrigin),
        ("HTTPS://app.example.com", CrossSite::OddOrigin),
        ("chrome-extension://app.example.com", CrossSite::OddOrigin),
        ("https://user@app.example.com", CrossSite::OddOrigin),
        (
            "https://app.example.com:443@evil.test",
            CrossSite::OddOrigin,
        ),
        ("https://app.example.com/", CrossSite::OddOrigin),
        ("https://app.example.com/path", CrossSite::OddOrigin),
        ("https://app.example.com?q", CrossSite::OddOrigin),
        ("https://app.example.com#f", CrossSite::OddOrigin),
        ("https://app.example.com\\evil.test", CrossSite::OddOrigin),
        (
            "https://app.example.com https://evil.test",
            CrossSite::OddOrigin,
        ),
        (
            "https://app.example.com, https://evil.test",
            CrossSite::OddOrigin,
        ),
        ("https://app.example.com\0", CrossSite::OddOrigin),
        ("https://app.example.com\t", CrossSite::OddOrigin),
        ("https://app..example.com", CrossSite::OddOrigin),
        ("https://app.example.com..", CrossSite::OddOrigin),
        ("https://.app.example.com", CrossSite::OddOrigin),
        ("https://app.ex%61mple.com", CrossSite::OddOrigin),
        ("https://аpp.example.com", CrossSite::OddOrigin),
        ("https://app.example.com:", CrossSite::OddOrigin),
        ("https://app.example.com:+443", CrossSite::OddOrigin),
        ("https://app.example.com:0443", CrossSite::OddOrigin),
        ("https://app.example.com:0", CrossSite::OddOrigin),
        ("https://app.example.com:65979", CrossSite::OddOrigin),
        ("https://app.example.com:443:443", CrossSite::OddOrigin),
        ("https://app.example.com:444", CrossSite::OtherOrigin),
        ("https://app.example.com:80", CrossSite::OtherOrigin),
        ("https://app.example.com.", CrossSite::OtherOrigin),
        ("https://app.example.com.evil.test", CrossSite::OtherOrigin),
        ("https://evilapp.example.com", CrossSite::OtherOrigin),
        ("https://example.com", CrossSite::OtherOrigin),
        ("https://app.example.co", CrossSite::OtherOrigin),
        ("https://app", CrossSite::OtherOrigin),
        ("https://xn--pp-8cd.example.com", CrossSite::OtherOrigin),
        ("http://app.example.com:443", CrossSite::OtherOrigin),
        ("http://app.example.com", CrossSite::PlainHttp),
        ("http://app.example.com:80", CrossSite::PlainHttp),
    ] {
        assert_eq!(judged(&[], &[hostile]), Err(reason), "{hostile:?}");
    }
}

#[test]
fn an_origin_is_the_own_host_in_every_way_of_writing_it() {
    let passes = |origin: &str, host: &str, secure_cookie: bool| {
        let (fetch, origin) = ([], [origin]);
        judge(
            &OriginHeaders {
                host: Some(host),
                secure_cookie,
                ..post(&fetch, &origin)
            },
            &[],
        )
        .is_ok()
    };
    assert!(passes("https://a.example", "a.example", true));
    assert!(passes("https://a.example", "a.example:443", true));
    assert!(passes("https://a.example:443", "a.example", true));
    assert!(passes("https://A.Example", "a.eXAMPLE", true));
    assert!(passes("https://a.example.", "a.example.", true));
    assert!(passes("https://a.example:8443", "a.example:8443", true));
    assert!(passes("https://[::1]:8000", "[0:0:0:0:0:0:0:1]:8000", true));
    assert!(!passes("https://a.example:8443", "a.example", true));
    assert!(!passes("https://a.example", "a.example:8443", true));
    assert!(!passes("https://[::1]", "[::2]", true));
    assert!(!passes("https://a.example", "", true));
    assert!(!passes("https://a.example", "a.example/", true));

    // Over http, where no cookie is `Secure`, or on this machine.
    assert!(passes("http://a.example", "a.example", false));
    assert!(passes("http://a.example", "a.example:80", false));
    assert!(passes("http://a.example:8000", "a.example:8000", false));
    assert!(!passes("http://a.example", "a.example:443", false));
    assert!(!passes("http://a.example", "a.example", true));
    for local in [
        "localhost:8000",
        "x.localhost:8000",
        "127.0.0.1:8000",
        "127.1.2.3:8000",
        "[::1]:8000",
    ] {
        assert!(passes(&format!("http://{local}"), local, true), "{local}");
    }
    for remote in ["localhost.example", "notlocalhost", "10.0.0.1", "[::2]"] {
        assert!(
            !passes(&format!("http://{remote}"), remote, true),
            "{remote}"
        );
    }
}

#[test]
fn no_origin_is_our_own_without_a_host() {
    let (fetch, origin) = ([], [OWN]);
    let hostless = OriginHeaders {
        host: None,
        ..post(&fetch, &origin)
    };
    assert_eq!(judge(&hostless, &[]), Err(CrossSite::OtherOrigin));
}

#[test]
fn an_origin_displays_as_browsers_send_it() {
    for (written, sent) in [
        ("https://A.example:443", "https://a.example"),
        ("http://a.example:80", "http://a.example"),
        ("http://a.example:443", "http://a.example:443"),
        ("https://[0::1]:8443", "https://[::1]:8443"),
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
    ] {
        assert_eq!(origin(written).to_string(), sent);
        assert_eq!(origin(sent), origin(written));
    }
    for number in [
        "http://1",
        "http://127.1",
        "http://1.2.3.4.5",
        "http://256.1.1.1",
        "http://01.2.3.4",
    ] {
        assert_eq!(Origin::parse(number), None, "{number}");
    }
}

#[test]
fn an_overlong_host_is_no_origin() {
    assert_eq!(
        Origin::parse(&format!("https://{}", "a.".repeat(200_000))),
        None
    );
    assert_eq!(
        Origin::parse(&format!("https://{}.com", "a".repeat(64))),
        None
    );
    assert!(Origin::parse(&format!("https://{}.com", "a".repeat(63))).is_some());
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9_-]{1,8}(\\.[a-z][a-z0-9-]{0,5}){0,3}",
        "[0-9]{1,3}(\\.[0-9]{1,3}){3}",
        "\\[[0-9a-f]{0,4}::[0-9a-f]{1,4}\\]",
    ]
}

fn headers(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

proptest! {
    #[test]
    fn whatever_is_sent_is_judged(
        fetch in proptest::collection::vec(any::<String>(), 0..3),
        origin in proptest::collection::vec(any::<String>(), 0..3),
        authority in "\\PC*|[\\[\\]:.a-f0-9]*",
        host in proptest::option::of(any::<String>()),
        secure_cookie in any::<bool>(),
    ) {
        let written = format!("https://{authority}");
        let (fetch, mut origin) = (headers(&fetch), headers(&origin));
        for _ in 0..2 {
            let claims = OriginHeaders {
                secure_cookie,
                sec_fetch_site: &fetch,
                origin: &origin,
                host: host.as_deref().or(Some(&authority)),
            };
            let _ = judge(&claims, &[]);
            origin = vec![&written];
        }
    }

    #[test]
    fn what_parses_reads_back_the_same(
        text in "https?://(\\PC{0,20}|[a-zA-Z.\\[\\]:0-9]{0,20})",
    ) {
        if let Some(parsed) = Origin::parse(&text) {
            prop_assert_eq!(Origin::parse(&parsed.to_string()), Some(parsed));
        }
    }

    #[test]
    fn a_foreign_host_never_passes(
        own in host(),
        other in host(),
        https in any::<bool>(),
        ports in any::<[Option<u16>; 2]>(),
        fetch in proptest::option::of("same-site|cross-site|[a-z-]{0,4}"),
        secure_cookie in any::<bool>(),
    ) {
        let written = |host: &str, port: Option<u16>| match port {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let scheme = if https { "https" } else { "http" };
        let at = written(&own, ports[0]);
        let fetch = fetch.filter(|fetch| fetch != "none").into_iter().collect::<Vec<_>>();
        let fetch = headers(&fetch);
        for foreign in [
            other,
            format!("{own}.evil"),
            format!("evil{own}"),
            format!("evil.{own}"),
            format!("{own}."),
            own[1..].to_owned(),
            own[..own.len() - 1].to_owned(),
            format!("{own}@evil.test"),
            format!("evil.test/{own}"),
            format!("evil.test#{own}"),
        ] {
            // Compared as read: an IPv6 address can be written in two ways.
            let read = parse_authority(&foreign);
            prop_assume!(read.is_none() || read != parse_authority(&own));
            let origin = format!("{scheme}://{}", written(&foreign, ports[1]));
            let origin = [origin.as_str()];
            let claims = OriginHeaders { host: Some(&at), secure_cookie, ..post(&fetch, &origin) };
            prop_assert!(judge(&claims, &[]).is_err(), "{origin:?} passed at {at}");
        }
    }
}
