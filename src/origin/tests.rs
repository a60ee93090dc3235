use proptest::prelude::*;
use rstest::rstest;

use super::*;

const OWN: &str = "https://app.example.com";

/// An unsafe request to `https://app.example.com`, as a Rocket behind a TLS proxy sees it.
fn checked(fetch: &[&str], origin: &[&str]) -> Result<(), CrossOrigin> {
    check_origin(&post(fetch, origin), &[])
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
fn check_origin_follows_the_fetch_site_and_then_the_origin() {
    let (sibling, other) = ("https://www.example.com", "https://evil.test");
    let said = |site, text| Err(CrossOrigin::FetchSite(site, Origin::parse(text)));
    assert_eq!(checked(&["same-origin"], &[OWN]), Ok(()));
    assert_eq!(checked(&["none"], &[]), Ok(()));
    assert_eq!(
        checked(&["same-site"], &[sibling]),
        said("same-site", sibling)
    );
    for any in [OWN, sibling, other, "null", "%"] {
        assert_eq!(checked(&["cross-site"], &[any]), said("cross-site", any));
        assert_eq!(
            checked(&["garbage"], &[any]),
            Err(CrossOrigin::UnknownFetchSite),
            "{any}"
        );
    }
    assert_eq!(checked(&["cross-site"], &[]), said("cross-site", ""));
    assert_eq!(checked(&[], &[OWN]), Ok(()));
    assert_eq!(
        checked(&[], &[other]),
        Err(CrossOrigin::OtherHost(origin(other)))
    );
    assert_eq!(checked(&[], &["null"]), Err(CrossOrigin::NullOrigin));
    assert_eq!(checked(&[], &[]), Ok(()));
    for fetch in [&[][..], &["same-origin"], &["none"], &["cross-site"]] {
        assert_eq!(
            checked(fetch, &[OWN, OWN]),
            Err(CrossOrigin::SeveralOrigins),
            "{fetch:?}"
        );
    }
}

#[test]
fn cross_site_is_what_the_browser_says_or_else_every_other_origin() {
    let cross = |fetch: &[&str], origin: &[&str]| is_cross_site(&post(fetch, origin));
    let (sibling, other) = ("https://www.example.com", "https://evil.test");
    for origin in [&[][..], &[OWN], &[sibling], &[other], &["null"]] {
        assert!(cross(&["cross-site"], origin), "{origin:?}");
        for fetch in ["same-origin", "same-site", "none"] {
            assert!(!cross(&[fetch], origin), "{fetch} {origin:?}");
        }
    }
    assert!(!cross(&[], &[]) && !cross(&[], &[OWN]));
    for origin in [sibling, other, "null", "%"] {
        assert!(cross(&[], &[origin]), "{origin}");
    }
}

#[rstest]
#[case(&["cross-site"], "https://EVIL.test:443", "Sec-Fetch-Site", "https://evil.test ")]
#[case(&["same-site"], "https://www.example.com", "Sec-Fetch-Site", "https://www.example.com ")]
#[case(&[], "https://evil.test:8443", "Origin", "https://evil.test:8443,")]
#[case(&[], "http://app.example.com", "Origin", "http://app.example.com,")]
#[case(&[], "null", "Origin", "null")]
#[case(&[], "https://a\r\nX: y", "Origin", "not an http")]
#[case(&["x\r\ny"], "", "Sec-Fetch-Site", "no browser")]
fn a_refusal_names_the_header_and_the_origin_as_parsed_in_one_line(
    #[case] fetch: &[&str],
    #[case] sent: &str,
    #[case] header: &str,
    #[case] named: &str,
) {
    let text = checked(fetch, &[sent]).unwrap_err().to_string();
    assert!(text.contains(header) && text.contains(named), "{text}");
    assert!(!text.contains(['\r', '\n']), "{text:?}");
}

#[test]
fn a_request_is_exempt_only_with_a_safe_method_and_no_form_or_upgrade() {
    for bits in 0..8 {
        let [method_is_safe, is_form, upgrades] = [1, 2, 4].map(|bit| bits & bit != 0);
        let is_exempt = is_exempt(method_is_safe, is_form, upgrades);
        assert_eq!(is_exempt, bits == 1, "{bits:03b}");
    }
}

#[rstest]
#[case(&[""])]
#[case(&[" "])]
#[case(&["Same-Origin"])]
#[case(&["SAME-ORIGIN"])]
#[case(&["same-origin "])]
#[case(&["same-origin, none"])]
#[case(&["cross_site"])]
#[case(&["\0"])]
#[case(&["same-origin", "same-origin"])]
#[case(&["none", "cross-site"])]
fn only_exactly_one_known_fetch_site_passes(#[case] fetch: &[&str]) {
    assert_eq!(
        checked(fetch, &[OWN]),
        Err(CrossOrigin::UnknownFetchSite),
        "{fetch:?}"
    );
}

#[test]
fn the_sites_own_form_passes_though_its_pages_send_no_referrer() {
    assert_eq!(checked(&["same-origin"], &["null"]), Ok(()));
}

#[rstest]
#[case(&[])]
#[case(&["same-site"])]
#[case(&["cross-site"])]
#[case(&["garbage"])]
fn a_trusted_origin_passes_whatever_the_fetch_site(#[case] fetch: &[&str]) {
    let trusted = [
        origin("https://www.example.com"),
        origin("http://localhost:3000"),
    ];
    let check = |origins: &[&str]| check_origin(&post(fetch, origins), &trusted);
    assert_eq!(check(&["https://www.example.com"]), Ok(()));
    assert_eq!(check(&["https://www.example.com:443"]), Ok(()));
    assert_eq!(check(&["http://localhost:3000"]), Ok(()));
    assert!(check(&["http://www.example.com"]).is_err());
    assert!(check(&["https://www.example.com:444"]).is_err());
    assert!(check(&["http://localhost"]).is_err());
    assert!(check(&["null"]).is_err());
    let twice = ["https://www.example.com", "https://www.example.com"];
    assert_eq!(check(&twice), Err(CrossOrigin::SeveralOrigins));
}

#[rstest]
#[case("")]
#[case(" ")]
#[case("https://")]
#[case("https:app.example.com")]
#[case("//app.example.com")]
#[case("app.example.com")]
#[case("HTTPS://app.example.com")]
#[case("chrome-extension://app.example.com")]
#[case("https://user@app.example.com")]
#[case("https://app.example.com:443@evil.test")]
#[case("https://app.example.com/")]
#[case("https://app.example.com/path")]
#[case("https://app.example.com?q")]
#[case("https://app.example.com#f")]
#[case("https://app.example.com\\evil.test")]
#[case("https://app.example.com https://evil.test")]
#[case("https://app.example.com, https://evil.test")]
#[case("https://app.example.com\0")]
#[case("https://app.example.com\t")]
#[case("https://app..example.com")]
#[case("https://app.example.com..")]
#[case("https://.app.example.com")]
#[case("https://app.ex%61mple.com")]
#[case("https://аpp.example.com")]
#[case("https://app.example.com:")]
#[case("https://app.example.com:+443")]
#[case("https://app.example.com:0443")]
#[case("https://app.example.com:0")]
#[case("https://app.example.com:65979")]
#[case("https://app.example.com:443:443")]
fn hostile_origins_are_refused(#[case] hostile: &str) {
    let refused = Err(CrossOrigin::MalformedOrigin);
    assert_eq!(checked(&[], &[hostile]), refused, "{hostile:?}");
}

#[rstest]
#[case("https://app.example.com:444", CrossOrigin::OtherHost)]
#[case("https://app.example.com:80", CrossOrigin::OtherHost)]
#[case("https://app.example.com.", CrossOrigin::OtherHost)]
#[case("https://app.example.com.evil.test", CrossOrigin::OtherHost)]
#[case("https://evilapp.example.com", CrossOrigin::OtherHost)]
#[case("https://example.com", CrossOrigin::OtherHost)]
#[case("https://app.example.co", CrossOrigin::OtherHost)]
#[case("https://app", CrossOrigin::OtherHost)]
#[case("https://xn--pp-8cd.example.com", CrossOrigin::OtherHost)]
#[case("http://app.example.com:443", CrossOrigin::OtherHost)]
#[case("http://app.example.com", CrossOrigin::PlainHttp)]
#[case("http://app.example.com:80", CrossOrigin::PlainHttp)]
fn an_origin_of_another_host_port_or_scheme_is_refused(
    #[case] hostile: &str,
    #[case] reason: fn(Origin) -> CrossOrigin,
) {
    let refused = Err(reason(origin(hostile)));
    assert_eq!(checked(&[], &[hostile]), refused, "{hostile:?}");
}

#[test]
fn an_origin_is_the_own_host_in_every_way_of_writing_it() {
    let passes = |origin: &str, host: &str, secure_cookie: bool| {
        let sent = [origin];
        let headers = OriginHeaders {
            host: Some(host),
            secure_cookie,
            ..post(&[], &sent)
        };
        check_origin(&headers, &[]).is_ok()
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
        let passes = passes(&format!("http://{remote}"), remote, true);
        assert!(!passes, "{remote}");
    }
}

#[test]
fn no_origin_is_our_own_without_a_host() {
    let hostless = OriginHeaders {
        host: None,
        ..post(&[], &[OWN])
    };
    let refused = Err(CrossOrigin::OtherHost(origin(OWN)));
    assert_eq!(check_origin(&hostless, &[]), refused);
}

#[rstest]
#[case("https://A.example:443", "https://a.example")]
#[case("http://a.example:80", "http://a.example")]
#[case("http://a.example:443", "http://a.example:443")]
#[case("https://[0::1]:8443", "https://[::1]:8443")]
#[case("http://127.0.0.1:3000", "http://127.0.0.1:3000")]
fn an_origin_displays_as_browsers_send_it(#[case] written: &str, #[case] sent: &str) {
    assert_eq!(origin(written).to_string(), sent);
    assert_eq!(origin(sent), origin(written));
}

#[rstest]
#[case("http://1")]
#[case("http://127.1")]
#[case("http://1.2.3.4.5")]
#[case("http://256.1.1.1")]
#[case("http://01.2.3.4")]
fn a_host_that_looks_like_a_number_does_not_parse(#[case] number: &str) {
    assert_eq!(Origin::parse(number), None, "{number}");
}

#[test]
fn an_overlong_host_does_not_parse() {
    let parses = |host: String| Origin::parse(&format!("https://{host}")).is_some();
    assert!(!parses("a.".repeat(200_000)));
    assert!(!parses("a".repeat(64) + ".com"));
    assert!(parses("a".repeat(63) + ".com"));
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9_-]{1,8}(\\.[a-z][a-z0-9-]{0,5}){0,3}",
        "[0-9]{1,3}(\\.[0-9]{1,3}){3}",
        "\\[[0-9a-f]{0,4}::[0-9a-f]{1,4}\\]",
    ]
}

fn borrowed(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

proptest! {
    #[test]
    fn check_origin_never_panics(
        fetch in proptest::collection::vec(any::<String>(), 0..3),
        origin in proptest::collection::vec(any::<String>(), 0..3),
        authority in "\\PC*|[\\[\\]:.a-f0-9]*",
        host in proptest::option::of(any::<String>()),
        secure_cookie in any::<bool>(),
    ) {
        let written = format!("https://{authority}");
        let (fetch, mut origin) = (borrowed(&fetch), borrowed(&origin));
        for _ in 0..2 {
            let headers = OriginHeaders {
                secure_cookie,
                sec_fetch_site: &fetch,
                origin: &origin,
                host: host.as_deref().or(Some(&authority)),
            };
            let _ = (check_origin(&headers, &[]), is_cross_site(&headers));
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
        let fetch = borrowed(&fetch);
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
            let headers = OriginHeaders { host: Some(&at), secure_cookie, ..post(&fetch, &origin) };
            prop_assert!(check_origin(&headers, &[]).is_err(), "{origin:?} passed at {at}");
        }
    }
}
