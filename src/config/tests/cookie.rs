//! The keys of the cookie, and combinations of keys.

use rstest::rstest;

use super::*;

// ---- the cookie

#[rstest]
#[case("s")]
#[case("my.app-session_1")]
#[case("!$&'*+-._~")]
#[case("host")]
#[case("host_id")]
#[case("http-session")]
#[case("secure_x")]
#[case("_secure_x")]
#[case("a__Host-b")]
#[case(&"n".repeat(64))]
fn cookie_name_is_a_token_that_rocket_does_not_encode(#[case] name: &str) {
    assert_eq!(good(&format!("cookie_name = \"{name}\"")).cookie_name, name);
    // The name that leaves is the name that is looked for.
    let encoded = rocket::http::Cookie::new(name.to_owned(), "v")
        .encoded()
        .to_string();
    assert_eq!(encoded, format!("{name}=v"));
}

#[rstest]
#[case("")]
#[case(" ")]
#[case("a b")]
#[case("a=b")]
#[case("a;b")]
#[case("a,b")]
#[case("a\\tb")]
#[case("a\\u0000")]
#[case("é")]
#[case("a\\\"b")]
#[case("a/b")]
#[case("(a)")]
#[case("a%62")]
#[case("a^b")]
#[case("a|b")]
#[case("a#b")]
#[case("a`b")]
#[case(&"n".repeat(65))]
fn cookie_name_that_is_not_a_token_or_is_encoded_is_refused(#[case] name: &str) {
    refused_text("cookie_name", name);
}

#[rstest]
#[case("__Host-s")]
#[case("__Secure-s")]
#[case("__Http-s")]
#[case("__Host-Http-s")]
fn cookie_name_prefix_requires_what_browsers_enforce(#[case] name: &str) {
    let with = |keys: &str| format!("cookie_name = \"{name}\"\n{keys}");
    good(&with(""));
    assert!(bad("cookie_name", &with("secure = false")).contains("needs `secure = true`"));
    assert!(
        read_in("debug", &with(""))
            .unwrap_err()
            .contains("needs `secure = true`")
    );
    read_in("debug", &with("secure = true")).unwrap();

    let host = name.starts_with("__Host-");
    for (keys, message) in [
        ("path = \"/a\"", "needs `path = \"/\"`"),
        ("domain = \"a.example\"", "allows no `domain`"),
    ] {
        if host {
            assert!(bad("cookie_name", &with(keys)).contains(message));
        } else {
            good(&with(keys));
        }
    }
    if name.contains("Http-") {
        assert!(
            bad("cookie_name", &with("http_only = false")).contains("needs `http_only = true`")
        );
    } else {
        good(&with("http_only = false"));
    }
}

#[rstest]
#[case("__host-s")]
#[case("__HOST-s")]
#[case("__secure-s")]
#[case("__HTTP-s")]
#[case("__Host-http-s")]
#[case("__host-Http-s")]
#[case("Host__s")]
#[case("Host__-s")]
#[case("host--s")]
#[case("__Host_s")]
#[case("__Host__s")]
#[case("__Hosts")]
#[case("_Host-s")]
#[case("___Host-s")]
#[case("--Host-s")]
#[case("__Secure_s")]
#[case("Secure__s")]
#[case("_Http-s")]
#[case("__Host")]
#[case("__Host_Http-s")]
fn cookie_name_that_resembles_a_prefix_is_refused(#[case] name: &str) {
    let error = refused_text("cookie_name", name);
    assert!(
        error.contains("the prefix in the spelling `__H")
            || error.contains("the prefix in the spelling `__Secure-`"),
        "{error}"
    );
}

#[rstest]
#[case("/")]
#[case("/app")]
#[case("/a/b%20c,d=e")]
fn path_begins_with_a_slash_and_is_valid_in_a_header(#[case] path: &str) {
    assert_eq!(good(&format!("path = \"{path}\"")).path, path);
}

#[rstest]
#[case("")]
#[case("app")]
#[case(" /")]
#[case("/a;b")]
#[case("/a b")]
#[case("/a\\n")]
#[case("/\\u0000")]
#[case("/\\u007f")]
#[case("/é")]
#[case("/a?b")]
#[case("/a#b")]
#[case(&format!("/{}", "a".repeat(1024)))]
fn path_without_a_slash_or_not_valid_in_a_header_is_refused(#[case] path: &str) {
    refused_text("path", path);
}

#[rstest]
#[case("example.com", "example.com")]
#[case(".example.com", "example.com")]
#[case("App.Example.COM", "app.example.com")]
#[case("localhost", "localhost")]
#[case("xn--bcher-kva.example", "xn--bcher-kva.example")]
fn domain_is_a_name_without_scheme_port_or_address(#[case] domain: &str, #[case] kept: &str) {
    assert_eq!(
        good(&format!("domain = \"{domain}\"")).domain.as_deref(),
        Some(kept)
    );
}

#[rstest]
#[case("")]
#[case(".")]
#[case("..example.com")]
#[case("com")]
#[case("example.com.")]
#[case("https://example.com")]
#[case("example.com:443")]
#[case("example.com/")]
#[case("a;b.com")]
#[case("a b.com")]
#[case("127.0.0.1")]
#[case("[::1]")]
#[case("::1")]
#[case("bücher.example")]
#[case("*.example.com")]
#[case("a..b")]
#[case("a\\n.com")]
fn domain_with_a_scheme_a_port_or_an_address_is_refused(#[case] domain: &str) {
    refused_text("domain", domain);
}

#[test]
fn same_site_none_and_partitioned_need_secure() {
    assert!(
        bad("same_site", "same_site = \"None\"\nsecure = false").contains("needs `secure = true`")
    );
    assert!(
        bad("partitioned", "partitioned = true\nsecure = false").contains("needs `secure = true`")
    );
    good("same_site = \"None\"\npartitioned = true");
}

// ---- combinations of times

#[rstest]
#[case("reissue_time = 1200")]
#[case("reissue_time = 1201")]
#[case("timeout = 5\nreissue_time = 5")]
#[case("timeout = 0.5\nreissue_time = 0.5")]
fn reissue_time_has_to_be_below_timeout(#[case] keys: &str) {
    assert!(bad("reissue_time", keys).contains("has to be below `timeout`"));
}

#[rstest]
#[case("reissue_time = 1199")]
#[case("timeout = 0.5")]
#[case("timeout = 5\nreissue_time = false")]
#[case("timeout = false\nreissue_time = 9999")]
fn reissue_time_below_timeout_is_accepted(#[case] keys: &str) {
    good(keys);
}

#[test]
fn lifetime_below_timeout_is_accepted() {
    let config = good("lifetime = 600");
    assert_eq!(
        (config.lifetime, config.timeout),
        (seconds(600.0), seconds(1200.0))
    );
}

#[test]
fn combinations_are_not_checked_with_an_invalid_value() {
    bad("timeout", "timeout = \"soon\"\nreissue_time = 5000");
    bad("secure", "secure = \"no\"\nsame_site = \"None\"");
}
