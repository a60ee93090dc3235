//! Valid and invalid values of each key.

use super::*;

// ---- durations

const DURATIONS: [&str; 5] = ["timeout", "lifetime", "max_age", "reissue_time", "deadline"];

#[test]
fn duration_may_be_text_with_units() {
    for (text, expected) in [
        ("20m", 1200.0),
        ("8h", 28_800.0),
        ("30d", 2_592_000.0),
        ("1h 30m", 5400.0),
        ("1h30min", 5400.0),
        (" 90 s ", 90.0),
        ("2weeks", 1_209_600.0),
        ("250ms", 0.25),
    ] {
        let config = good(&format!("lifetime = \"{text}\""));
        assert_eq!(config.lifetime, seconds(expected), "{text}");
    }
    for key in DURATIONS {
        let with_unit = good(&format!("{key} = \"2m\""));
        let in_seconds = good(&format!("{key} = 120"));
        assert_eq!(format!("{with_unit:?}"), format!("{in_seconds:?}"), "{key}");
    }
}

#[test]
fn duration_out_of_range_or_without_a_known_unit_is_refused() {
    for key in DURATIONS {
        for text in [
            "-20m",
            "20 mins ago",
            "m",
            "20x",
            "1.2.3m",
            "20m;",
            "500y",
            "∞",
        ] {
            let error = bad(key, &format!("{key} = \"{text}\""));
            assert!(
                error.contains("such as \"20m\", \"8h\" or \"30d\""),
                "{error}"
            );
        }
    }
    bad("max_age", "max_age = \"401d\"");
    bad("max_age", "max_age = \"500ms\"");
    bad("deadline", "deadline = \"6m\"");
    bad("timeout", "timeout = \"0s\"");
    bad("timeout", "timeout = \"100us\"");
}

// ---- numbers

#[test]
fn seconds_may_be_whole_fractions_or_text() {
    for (value, expected) in [
        ("30", 30.0),
        ("0.5", 0.5),
        ("\"30\"", 30.0),
        ("\" 0.5 \"", 0.5),
        ("0.001", 0.001),
        ("0.0004999e2", 0.05),
    ] {
        assert_eq!(
            good(&format!("timeout = {value}")).timeout,
            seconds(expected),
            "{value}"
        );
    }
    assert_eq!(good("lifetime = \"0.25\"").lifetime, seconds(0.25));
    assert_eq!(good("reissue_time = \"60\"").reissue_time, seconds(60.0));
    assert_eq!(good("max_age = 34560000").max_age, seconds(34_560_000.0));
    assert_eq!(good("deadline = 300").deadline, Duration::from_secs(300));
}

#[test]
fn seconds_out_of_range_are_refused() {
    for value in [
        "-1",
        "-0.5",
        "nan",
        "inf",
        "-inf",
        "1e300",
        "9223372036854775807",
        "\"inf\"",
        "\"NaN\"",
        "\"-1\"",
        "4e9",
        "0.0004",
    ] {
        for key in ["timeout", "lifetime", "max_age", "deadline"] {
            bad(key, &format!("{key} = {value}"));
        }
        if value != "0.0004" {
            bad(
                "reissue_time",
                &format!("timeout = false\nreissue_time = {value}"),
            );
        }
    }
    for key in ["timeout", "lifetime", "max_age", "deadline"] {
        for value in ["0", "0.0", "\"0\""] {
            bad(key, &format!("{key} = {value}"));
        }
    }
    bad("max_age", "max_age = 0.5");
    bad("max_age", "max_age = 34560001");
    bad("deadline", "deadline = 301");
}

#[test]
fn seconds_have_to_be_a_number() {
    for value in ["\"x\"", "\"\"", "true", "[1]", "{ a = 1 }", "1979-05-27"] {
        for key in [
            "timeout",
            "lifetime",
            "max_age",
            "reissue_time",
            "deadline",
            "max_per_user",
        ] {
            let error = bad(key, &format!("{key} = {value}"));
            assert!(error.starts_with("invalid type: found "), "{error}");
        }
    }
    bad("deadline", "deadline = false");
}

#[test]
fn max_bytes_is_a_size_or_a_number_up_to_8_mib() {
    for (value, expected) in [
        ("\"64KiB\"", 65_536),
        ("\"1 MB\"", 1_000_000),
        ("\"0.5MiB\"", 524_288),
        ("2048", 2048),
        ("\"2048\"", 2048),
        ("1", 1),
        ("\"8MiB\"", 8 << 20),
    ] {
        assert_eq!(
            good(&format!("max_bytes = {value}")).max_bytes,
            expected,
            "{value}"
        );
    }
    for value in [
        "0",
        "-1",
        "\"0\"",
        "\"16MiB\"",
        "8388609",
        "\"99999999999EiB\"",
        "\"9999999999999999999\"",
        "9223372036854775807",
        "1.5",
        "true",
        "\"\"",
        "\"MiB\"",
        "\"1 mile\"",
        "\"é\"",
    ] {
        let error = bad("max_bytes", &format!("max_bytes = {value}"));
        assert!(
            error.contains("expected a size from 1 B to 8MiB"),
            "{error}"
        );
    }
}

#[test]
fn max_per_user_is_a_whole_number_of_at_least_one() {
    assert_eq!(good("max_per_user = 1").max_per_user, Some(1));
    assert_eq!(good("max_per_user = \"5\"").max_per_user, Some(5));
    assert_eq!(
        good("max_per_user = 4294967295").max_per_user,
        Some(u32::MAX)
    );
    for value in ["0", "-1", "1.5", "4294967296", "nan"] {
        bad("max_per_user", &format!("max_per_user = {value}"));
    }
}

// ---- booleans and variants

#[test]
fn false_unsets_every_optional_key() {
    let keys = [
        "max_age",
        "domain",
        "timeout",
        "lifetime",
        "reissue_time",
        "max_per_user",
        "database",
        "same_site",
    ];
    let all = keys.map(|key| format!("{key} = false")).join("\n");
    let config = good(&all);
    assert_eq!(
        (
            config.max_age,
            config.timeout,
            config.lifetime,
            config.reissue_time
        ),
        (None, None, None, None)
    );
    assert_eq!(
        (config.domain, config.database, config.max_per_user),
        (None, None, None)
    );
    assert_eq!(config.same_site, None);

    let toml = "[default.session]\nmax_age = 5\n[release.session]\nmax_age = false";
    assert_eq!(
        Config::from_figment(&figment("release", toml))
            .unwrap()
            .max_age,
        None
    );
    for key in keys {
        bad(key, &format!("{key} = true"));
    }
    for key in [
        "collection",
        "cookie_name",
        "path",
        "encoding",
        "max_bytes",
        "trusted_origins",
        "trusted_proxies",
    ] {
        bad(key, &format!("{key} = false"));
    }
}

#[test]
fn switches_have_to_be_booleans() {
    let config = good(
        "set_on_exception = false\nrecord_client = true\nlegacy_ids = true\nshare = false\n\
         indexes = false\npartitioned = true\nhttp_only = false",
    );
    assert!(!config.set_on_exception && config.record_client && config.legacy_ids);
    assert!(!config.share && !config.indexes && config.partitioned && !config.http_only);
    for key in [
        "secure",
        "http_only",
        "httponly",
        "partitioned",
        "set_on_exception",
        "record_client",
        "legacy_ids",
        "share",
        "indexes",
    ] {
        for value in ["1", "\"yes\"", "\"false\"", "[]"] {
            assert!(bad(key, &format!("{key} = {value}")).contains("expected a boolean"));
        }
    }
}

#[test]
fn httponly_is_an_alias_and_both_keys_are_refused() {
    assert!(!good("httponly = false").http_only);
    assert!(good("httponly = true").http_only);
    assert!(bad("httponly", "httponly = true\nhttp_only = true").contains("`http_only`"));
}

#[test]
fn same_site_and_encoding_accept_their_variants() {
    for (word, expected) in [
        ("Lax", SameSite::Lax),
        ("strict", SameSite::Strict),
        ("None", SameSite::None),
    ] {
        let config = good(&format!("same_site = \"{word}\""));
        assert_eq!(config.same_site, Some(expected));
    }
    assert_eq!(good("encoding = \"binary\"").encoding, Encoding::Binary);
    assert_eq!(good("encoding = \"document\"").encoding, Encoding::Document);
    for value in ["\"\"", "\"Laxx\"", "1", "true"] {
        bad("same_site", &format!("same_site = {value}"));
        bad("encoding", &format!("encoding = {value}"));
    }
}

// ---- names in MongoDB

#[test]
fn collection_and_database_names_are_valid_in_mongodb() {
    for name in [
        "sessions",
        "app.sessions",
        "é",
        "a b",
        "systemic",
        &"c".repeat(120),
    ] {
        assert_eq!(good(&format!("collection = \"{name}\"")).collection, name);
    }
    for name in [
        "",
        "$cmd",
        "a$b",
        "a\\u0000b",
        "a\\nb",
        "system.users",
        ".a",
        &"c".repeat(121),
    ] {
        bad("collection", &format!("collection = \"{name}\""));
    }
    for name in ["app", "my-app_2", "é", &"d".repeat(63)] {
        assert_eq!(
            good(&format!("database = \"{name}\"")).database.as_deref(),
            Some(name)
        );
    }
    for c in [
        "/", "\\\\", ".", " ", "\\\"", "$", "*", "<", ">", ":", "|", "?", "\\u0000", "\\n",
    ] {
        bad("database", &format!("database = \"a{c}b\""));
    }
    for name in ["", "admin", "config", "local", &"d".repeat(64)] {
        bad("database", &format!("database = \"{name}\""));
    }
}

// ---- trusted origins

#[test]
fn trusted_origin_is_exactly_an_origin() {
    let config = good(
        "trusted_origins = [\"https://App.example\", \"http://localhost:3000\", \
         \"https://[::1]:8443\"]",
    );
    let origins = config
        .trusted_origins
        .iter()
        .map(Origin::to_string)
        .collect::<Vec<_>>();
    assert_eq!(
        origins,
        [
            "https://app.example",
            "http://localhost:3000",
            "https://[::1]:8443"
        ]
    );
    for origin in [
        "",
        "*",
        "null",
        "app.example",
        "https://",
        "https://*.example",
        "https://a.example/",
        "https://a.example/p",
        "https://u@a.example",
        "ftp://a.example",
        "https://bücher.example",
        "https://a.example:x",
    ] {
        bad(
            "trusted_origins.0",
            &format!("trusted_origins = [\"{origin}\"]"),
        );
    }
    bad(
        "trusted_origins.1",
        "trusted_origins = [\"https://a.example\", 5]",
    );
    bad("trusted_origins", "trusted_origins = \"https://a.example\"");
}

// ---- trusted proxies

#[test]
fn trusted_proxies_are_addresses_and_networks() {
    let config = good(
        "client_ip_header = \"X-Real-IP\"\n\
         trusted_proxies = [\"10.0.0.7\", \"10.1.2.3/16\", \"fd00::/8\", \"::1\"]",
    );
    assert_eq!(config.client_ip_header.as_deref(), Some("X-Real-IP"));
    let networks = config.trusted_proxies.iter().map(ToString::to_string);
    let networks = networks.collect::<Vec<_>>();
    assert_eq!(
        networks,
        ["10.0.0.7/32", "10.1.0.0/16", "fd00::/8", "::1/128"]
    );
    let with = |keys: &str| format!("client_ip_header = \"X-Forwarded-For\"\n{keys}");
    for network in [
        "",
        "*",
        "any",
        "localhost",
        "10.0.0.0/33",
        "10.0.0.1:80",
        "0.0.0.0/0",
        "::/0",
        "1.2.3.4/0",
        "::ffff:0:0/96",
        "::ffff:10.0.0.1",
    ] {
        let keys = with(&format!("trusted_proxies = [\"{network}\"]"));
        bad("trusted_proxies.0", &keys);
    }
    for networks in [
        "\"0.0.0.0/1\", \"128.0.0.0/1\"",
        "\"::/1\", \"10.0.0.1\", \"8000::/1\"",
        "\"2000::/3\"",
    ] {
        let keys = with(&format!("trusted_proxies = [{networks}]"));
        assert!(bad("trusted_proxies", &keys).contains("trust every client"));
    }
}

#[test]
fn a_proxy_header_and_its_proxies_need_each_other() {
    let alone = bad("client_ip_header", "client_ip_header = \"X-Real-IP\"");
    assert!(alone.contains("needs `trusted_proxies`"), "{alone}");
    let alone = bad("trusted_proxies", "trusted_proxies = [\"10.0.0.1\"]");
    assert!(alone.contains("needs `client_ip_header`"), "{alone}");
    for header in ["\"Forwarded\"", "\"X Real\"", "\"\"", "5", "\"X-Real-IP:\""] {
        let keys = format!("client_ip_header = {header}\ntrusted_proxies = [\"10.0.0.1\"]");
        bad("client_ip_header", &keys);
    }
    good("client_ip_header = false\ntrusted_proxies = []");
}
