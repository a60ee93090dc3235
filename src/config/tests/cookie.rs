//! The keys of the cookie, and combinations of keys.

use super::*;

// ---- the cookie

#[test]
fn cookie_name_is_a_token_that_rocket_does_not_encode() {
    for name in [
        "s",
        "my.app-session_1",
        "!$&'*+-._~",
        "host",
        "host_id",
        "http-session",
        "secure_x",
        "_secure_x",
        "a__Host-b",
        &"n".repeat(64),
    ] {
        assert_eq!(good(&format!("cookie_name = \"{name}\"")).cookie_name, name);
        // The name that leaves is the name that is looked for.
        let encoded = rocket::http::Cookie::new(name.to_owned(), "v")
            .encoded()
            .to_string();
        assert_eq!(encoded, format!("{name}=v"));
    }
    for name in [
        "",
        " ",
        "a b",
        "a=b",
        "a;b",
        "a,b",
        "a\\tb",
        "a\\u0000",
        "é",
        "a\\\"b",
        "a/b",
        "(a)",
        "a%62",
        "a^b",
        "a|b",
        "a#b",
        "a`b",
        &"n".repeat(65),
    ] {
        bad("cookie_name", &format!("cookie_name = \"{name}\""));
    }
}

#[test]
fn cookie_name_prefix_requires_what_browsers_enforce() {
    for name in ["__Host-s", "__Secure-s", "__Http-s", "__Host-Http-s"] {
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
}

#[test]
fn cookie_name_that_resembles_a_prefix_is_refused() {
    for name in [
        "__host-s",
        "__HOST-s",
        "__secure-s",
        "__HTTP-s",
        "__Host-http-s",
        "__host-Http-s",
        "Host__s",
        "Host__-s",
        "host--s",
        "__Host_s",
        "__Host__s",
        "__Hosts",
        "_Host-s",
        "___Host-s",
        "--Host-s",
        "__Secure_s",
        "Secure__s",
        "_Http-s",
        "__Host",
        "__Host_Http-s",
    ] {
        let error = bad("cookie_name", &format!("cookie_name = \"{name}\""));
        assert!(
            error.contains("the prefix in the spelling `__H")
                || error.contains("the prefix in the spelling `__Secure-`"),
            "{error}"
        );
    }
}

#[test]
fn path_begins_with_a_slash_and_is_valid_in_a_header() {
    for path in ["/", "/app", "/a/b%20c,d=e"] {
        assert_eq!(good(&format!("path = \"{path}\"")).path, path);
    }
    for path in [
        "",
        "app",
        " /",
        "/a;b",
        "/a b",
        "/a\\n",
        "/\\u0000",
        "/\\u007f",
        "/é",
        "/a?b",
        "/a#b",
        &format!("/{}", "a".repeat(1024)),
    ] {
        bad("path", &format!("path = \"{path}\""));
    }
}

#[test]
fn domain_is_a_name_without_scheme_port_or_address() {
    for (domain, kept) in [
        ("example.com", "example.com"),
        (".example.com", "example.com"),
        ("App.Example.COM", "app.example.com"),
        ("localhost", "localhost"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ] {
        assert_eq!(
            good(&format!("domain = \"{domain}\"")).domain.as_deref(),
            Some(kept)
        );
    }
    for domain in [
        "",
        ".",
        "..example.com",
        "com",
        "example.com.",
        "https://example.com",
        "example.com:443",
        "example.com/",
        "a;b.com",
        "a b.com",
        "127.0.0.1",
        "[::1]",
        "::1",
        "bücher.example",
        "*.example.com",
        "a..b",
        "a\\n.com",
    ] {
        bad("domain", &format!("domain = \"{domain}\""));
    }
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

#[test]
fn reissue_time_has_to_be_below_timeout() {
    for keys in [
        "reissue_time = 1200",
        "reissue_time = 1201",
        "timeout = 5\nreissue_time = 5",
        "timeout = 0.5\nreissue_time = 0.5",
    ] {
        assert!(bad("reissue_time", keys).contains("has to be below `timeout`"));
    }
    for keys in [
        "reissue_time = 1199",
        "timeout = 0.5",
        "timeout = 5\nreissue_time = false",
        "timeout = false\nreissue_time = 9999",
    ] {
        good(keys);
    }
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
