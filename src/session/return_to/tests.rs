//! An open redirect is impossible: a browser's URL parser is the oracle.

use proptest::prelude::*;
use rstest::rstest;
use url::Url;

use super::*;
use crate::session::tests::Bench;

fn page() -> Url {
    Url::parse("https://shop.example/account/login?next=1").unwrap()
}

/// Returns where a browser goes that is redirected to this.
fn destination(address: &str) -> Option<Url> {
    page().join(address).ok()
}

fn is_on_site(address: &str) -> bool {
    let there = destination(address);
    there.is_some_and(|there| there.origin() == page().origin() && there.username().is_empty())
}

#[rstest]
#[case("/")]
#[case("/a")]
#[case("/a/b/")]
#[case("/a//b")]
#[case("/a/../b")]
#[case("/a/.")]
#[case("/a?b=c&d=//evil.example")]
#[case("/a?b=%5C%0A")]
#[case("/caf%C3%A9")]
#[case("/a%20b")]
#[case("/@evil.example")]
#[case("/:80")]
#[case("/a;b=c")]
#[case("/http://evil.example")]
#[case("/%zz")]
fn path_of_this_site_is_local(#[case] address: &str) {
    assert!(is_local(address), "{address}");
    assert!(is_on_site(address), "{address}");
}

#[rstest]
#[case("")]
#[case("a")]
#[case("//evil.example")]
#[case("///evil.example")]
#[case("/\\evil.example")]
#[case("\\/evil.example")]
#[case("/\t/evil.example")]
#[case("\t//evil.example")]
#[case("/\n/evil.example")]
#[case(" //evil.example")]
#[case("/%2Fevil.example")]
#[case("/%2f%2fevil.example")]
#[case("%2F/evil.example")]
#[case("/%5Cevil.example")]
#[case("/%5cevil.example")]
#[case("/%09/evil.example")]
#[case("/%0D%0ALocation:/evil.example")]
#[case("/%00")]
#[case("/.//evil.example")]
#[case("/..//evil.example")]
#[case("/a/..//evil.example")]
#[case("/%2E//evil.example")]
#[case("/%2e%2e/%2Fevil.example")]
#[case("/./%2Fevil.example")]
#[case("/x%2Fy/%2e%2e//evil.example")]
#[case("/a/.%2E//evil.example")]
#[case("/a/%2e./%5Cevil.example")]
#[case("/a\\b")]
#[case("/a?b\\c")]
#[case("/a?b\nc")]
#[case("/ü")]
#[case("/\u{85}/evil.example")]
#[case("/\u{2028}")]
#[case("https://evil.example")]
#[case("javascript:alert(1)")]
#[case("?a")]
#[case("#a")]
fn address_that_is_or_decodes_to_another_host_is_not_local(#[case] address: &str) {
    assert!(!is_local(address), "{address:?}");
}

/// Pieces that matter to the parsers, and text.
fn address() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            "/", "//", "\\", ".", "..", "%2F", "%2f", "%5C", "%2E", "%2e", "%09", "%0a", "%00",
            "%25", "\t", "\n", "\r", "\0", " ", "@", ":", "?", "#", ";", "evil.example", "%",
            "http:", "https://", "%E2%80%A8", "\u{2028}", "\u{ff0f}", "%ef%bc%8f", "[", "]", "|",
        ]).prop_map(str::to_owned),
        2 => "[a-z]{1,3}",
        1 => any::<char>().prop_map(String::from),
    ];
    let rest = prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat());
    prop_oneof![4 => rest.clone().prop_map(|rest| format!("/{rest}")), 1 => rest]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// Whatever passes stays on the site: as it is, decoded, and as Rocket normalizes it.
    #[test]
    fn local_address_leads_a_browser_to_this_site(address in address()) {
        if !is_local(&address) {
            return Ok(());
        }
        prop_assert!(is_on_site(&address));
        let decoded = RawStr::new(&address).percent_decode_lossy().into_owned();
        prop_assert!(is_on_site(&decoded), "{}", decoded);
        // What an application makes of the path that the parser resolved.
        let resolved = destination(&address).unwrap();
        prop_assert!(is_on_site(resolved.path()), "{}", resolved);
        if let Ok(origin) = Origin::parse(&address) {
            prop_assert!(is_on_site(&origin.to_string()));
            let normalized = origin.into_normalized();
            prop_assert!(is_on_site(&normalized.to_string()), "{}", normalized);
        }
    }
}

proptest! {
    /// What is stored is not believed either.
    #[test]
    fn stored_address_is_checked_again(address in address()) {
        let session = Bench::new().session();
        let stored = Change::Set(RawBson::String(address.clone()));
        session.lock().state.change(Field::return_to(), stored).unwrap();
        if let Some(taken) = session.take_return_to() {
            prop_assert!(is_on_site(&taken.to_string()), "{}", taken);
        }
        prop_assert!(session.take_return_to().is_none(), "once");
    }
}

fn address_of(session: &Session) -> Option<String> {
    session.take_return_to().map(|page| page.to_string())
}

fn set(session: &Session, address: &'static str) -> Result<()> {
    session.set_return_to(&Origin::parse(address).unwrap())
}

#[rocket::async_test]
async fn refused_address_changes_nothing() {
    let session = Bench::new().session();
    let refused = set(&session, "//evil.example");
    assert!(matches!(refused, Err(Error::BadReturnTo)));
    assert_eq!(address_of(&session), None);
    set(&session, "/a?b=c").unwrap();
    assert!(set(&session, "/%5Cevil.example").is_err());
    assert_eq!(address_of(&session).as_deref(), Some("/a?b=c"));
    assert_eq!(address_of(&session), None);
}

#[rocket::async_test]
async fn address_is_not_a_key_of_the_application() {
    let session = Bench::new().session();
    set(&session, "/a").unwrap();
    session.set("_return_to_", "own").unwrap();
    assert_eq!(session.keys(), ["_return_to_"]);
    assert_eq!(session.get("_return_to_").unwrap(), Some("own".to_owned()));
    session.clear();
    assert_eq!(address_of(&session).as_deref(), Some("/a"));
}

#[rocket::async_test]
async fn login_keeps_the_address_and_nothing_else() {
    for (keys, logs_out) in [(None, false), (Some(["n"]), false), (None, true)] {
        let bench = Bench::new();
        let old = bench.begun(None, &[("n", 1), ("m", 1)]).await;
        let before = bench.comes(&old).await;
        set(&before, "/a").unwrap();
        before.finish().await.unwrap();

        let session = bench.comes(&old).await;
        if logs_out {
            session.logout().unwrap();
            assert_eq!(address_of(&session), None, "a logout alone forgets it");
        }
        match keys {
            Some(keys) => session.login_keeping(1, &keys).unwrap(),
            None => session.login(1).unwrap(),
        }
        session.save().await.unwrap();
        assert_eq!(session.len(), keys.map_or(0, |keys| keys.len()));
        assert_eq!(address_of(&session).as_deref(), Some("/a"));
        let cookie = crate::session::tests::given(&session).await.unwrap();
        let after = bench.comes(&cookie).await;
        assert_eq!(address_of(&after), None, "it was taken");
    }
}

#[rocket::async_test]
async fn second_login_and_a_login_form_sent_twice_keep_the_address() {
    let bench = Bench::new();
    let old = bench.begun(None, &[("n", 1)]).await;
    let before = bench.comes(&old).await;
    set(&before, "/a").unwrap();
    before.finish().await.unwrap();
    let (first, second) = (bench.comes(&old).await, bench.comes(&old).await);
    first.login(1).unwrap();
    first.login(2).unwrap();
    assert!(crate::session::tests::given(&first).await.is_some());
    // It was loaded before the first login was stored, and is replaced by now.
    second.login(2).unwrap();
    assert_eq!(address_of(&second).as_deref(), Some("/a"));
    // The form was sent again after it.
    let third = bench.comes(&old).await;
    assert_eq!(third.why_new(), Some(crate::state::NewReason::Replaced));
    third.login(2).unwrap();
    assert_eq!(address_of(&third).as_deref(), Some("/a"));
}
