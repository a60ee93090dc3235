//! Valid and invalid values of each key.

use rstest::rstest;

use super::*;

// ---- durations

const DURATIONS: [&str; 5] = ["timeout", "lifetime", "max_age", "reissue_time", "deadline"];

#[rstest]
#[case("20m", 1200.0)]
#[case("8h", 28_800.0)]
#[case("30d", 2_592_000.0)]
#[case("1h 30m", 5400.0)]
#[case("1h30min", 5400.0)]
#[case(" 90 s ", 90.0)]
#[case("2weeks", 1_209_600.0)]
#[case("250ms", 0.25)]
fn duration_may_be_text_with_units(#[case] text: &str, #[case] expected: f64) {
    let config = good(&format!("lifetime = \"{text}\""));
    assert_eq!(config.lifetime, seconds(expected));
}

#[test]
fn duration_with_a_unit_is_the_same_as_in_seconds_for_every_key() {
    for key in DURATIONS {
        let with_unit = good(&format!("{key} = \"2m\""));
        let in_seconds = good(&format!("{key} = 120"));
        assert_eq!(format!("{with_unit:?}"), format!("{in_seconds:?}"), "{key}");
    }
}

#[rstest]
#[case("-20m")]
#[case("20 mins ago")]
#[case("m")]
#[case("20x")]
#[case("1.2.3m")]
#[case("20m;")]
#[case("500y")]
#[case("∞")]
fn duration_out_of_range_or_without_a_known_unit_is_refused(#[case] text: &str) {
    for key in DURATIONS {
        let error = refused_text(key, text);
        assert!(
            error.contains("such as \"20m\", \"8h\" or \"30d\""),
            "{error}"
        );
    }
}

#[rstest]
#[case("max_age", "401d")]
#[case("max_age", "500ms")]
#[case("deadline", "6m")]
#[case("timeout", "0s")]
#[case("timeout", "100us")]
fn duration_beyond_the_limits_of_its_key_is_refused(#[case] key: &str, #[case] text: &str) {
    refused_text(key, text);
}

// ---- numbers

#[rstest]
#[case("30", 30.0)]
#[case("0.5", 0.5)]
#[case("\"30\"", 30.0)]
#[case("\" 0.5 \"", 0.5)]
#[case("0.001", 0.001)]
#[case("0.0004999e2", 0.05)]
fn seconds_may_be_whole_fractions_or_text(#[case] value: &str, #[case] expected: f64) {
    let config = good(&format!("timeout = {value}"));
    assert_eq!(config.timeout, seconds(expected));
}

#[test]
fn seconds_are_read_for_the_other_keys_too() {
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
            refused(key, value);
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
            refused(key, value);
        }
    }
    bad("max_age", "max_age = 0.5");
    bad("max_age", "max_age = 34560001");
    bad("deadline", "deadline = 301");
}

#[rstest]
fn seconds_have_to_be_a_number(
    #[values("\"x\"", "\"\"", "true", "[1]", "{ a = 1 }", "1979-05-27")] value: &str,
    #[values(
        "timeout",
        "lifetime",
        "max_age",
        "reissue_time",
        "deadline",
        "max_per_user"
    )]
    key: &str,
) {
    let error = refused(key, value);
    assert!(error.starts_with("invalid type: found "), "{error}");
}

#[rstest]
#[case("\"64KiB\"", 65_536)]
#[case("\"1 MB\"", 1_000_000)]
#[case("\"0.5MiB\"", 524_288)]
#[case("2048", 2048)]
#[case("\"2048\"", 2048)]
#[case("1", 1)]
#[case("\"8MiB\"", 8 << 20)]
fn max_bytes_is_a_size_or_a_number_up_to_8_mib(#[case] value: &str, #[case] expected: usize) {
    assert_eq!(good(&format!("max_bytes = {value}")).max_bytes, expected);
}

#[rstest]
#[case("0")]
#[case("-1")]
#[case("\"0\"")]
#[case("\"16MiB\"")]
#[case("8388609")]
#[case("\"99999999999EiB\"")]
#[case("\"9999999999999999999\"")]
#[case("9223372036854775807")]
#[case("1.5")]
#[case("true")]
#[case("\"\"")]
#[case("\"MiB\"")]
#[case("\"1 mile\"")]
#[case("\"é\"")]
fn max_bytes_out_of_range_or_not_a_size_is_refused(#[case] value: &str) {
    let error = refused("max_bytes", value);
    assert!(
        error.contains("expected a size from 1 B to 8MiB"),
        "{error}"
    );
}

#[rstest]
#[case("1", 1)]
#[case("\"5\"", 5)]
#[case("4294967295", u32::MAX)]
fn max_per_user_is_a_whole_number_of_at_least_one(#[case] value: &str, #[case] expected: u32) {
    let config = good(&format!("max_per_user = {value}"));
    assert_eq!(config.max_per_user, Some(expected));
}

#[rstest]
#[case("0")]
#[case("-1")]
#[case("1.5")]
#[case("4294967296")]
#[case("nan")]
fn max_per_user_below_one_or_not_a_whole_number_is_refused(#[case] value: &str) {
    refused("max_per_user", value);
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
        refused(key, "true");
    }
    for key in [
        "collection",
        "cookie_name",
        "path",
        "encoding",
        "max_bytes",
        "deadline",
        "trusted_origins",
        "trusted_proxies",
    ] {
        refused(key, "false");
    }
}

#[test]
fn switches_are_read_as_booleans() {
    let config = good(
        "set_on_exception = false\nrecord_client = true\nlegacy_ids = true\nshare = false\n\
         indexes = false\npartitioned = true\nhttp_only = false",
    );
    assert!(!config.set_on_exception && config.record_client && config.legacy_ids);
    assert!(!config.share && !config.indexes && config.partitioned && !config.http_only);
}

#[rstest]
fn switches_have_to_be_booleans(
    #[values(
        "secure",
        "http_only",
        "httponly",
        "partitioned",
        "set_on_exception",
        "record_client",
        "legacy_ids",
        "share",
        "indexes"
    )]
    key: &str,
    #[values("1", "\"yes\"", "\"false\"", "[]")] value: &str,
) {
    assert!(refused(key, value).contains("expected a boolean"));
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
        refused("same_site", value);
        refused("encoding", value);
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
        refused_text("collection", name);
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
        refused_text("database", &format!("a{c}b"));
    }
    for name in ["", "admin", "config", "local", &"d".repeat(64)] {
        refused_text("database", name);
    }
}

// ---- trusted origins

#[test]
fn trusted_origins_are_normalized() {
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
}

#[rstest]
#[case("")]
#[case("*")]
#[case("null")]
#[case("app.example")]
#[case("https://")]
#[case("https://*.example")]
#[case("https://a.example/")]
#[case("https://a.example/p")]
#[case("https://u@a.example")]
#[case("ftp://a.example")]
#[case("https://bücher.example")]
#[case("https://a.example:x")]
fn trusted_origin_is_exactly_an_origin(#[case] origin: &str) {
    bad(
        "trusted_origins.0",
        &format!("trusted_origins = [\"{origin}\"]"),
    );
}

#[test]
fn trusted_origins_have_to_be_an_array_of_strings() {
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
}

/// Returns the only error that this list of proxies causes, and checks that it names the key.
#[track_caller]
fn bad_proxies(key: &str, proxies: &str) -> String {
    let header = "client_ip_header = \"X-Forwarded-For\"";
    bad(key, &format!("{header}\ntrusted_proxies = [{proxies}]"))
}

#[rstest]
#[case("")]
#[case("*")]
#[case("any")]
#[case("localhost")]
#[case("10.0.0.0/33")]
#[case("10.0.0.1:80")]
#[case("0.0.0.0/0")]
#[case("::/0")]
#[case("1.2.3.4/0")]
#[case("::ffff:0:0/96")]
#[case("::ffff:10.0.0.1")]
fn trusted_proxy_that_is_malformed_or_unbounded_is_refused(#[case] network: &str) {
    bad_proxies("trusted_proxies.0", &format!("\"{network}\""));
}

#[rstest]
#[case("\"0.0.0.0/1\", \"128.0.0.0/1\"")]
#[case("\"::/1\", \"10.0.0.1\", \"8000::/1\"")]
#[case("\"2000::/3\"")]
fn trusted_proxies_that_cover_every_client_are_refused(#[case] networks: &str) {
    let error = bad_proxies("trusted_proxies", networks);
    assert!(error.contains("trust every client"), "{error}");
}

#[test]
fn a_proxy_header_and_its_proxies_need_each_other() {
    let alone = bad("client_ip_header", "client_ip_header = \"X-Real-IP\"");
    assert!(alone.contains("needs `trusted_proxies`"), "{alone}");
    let alone = bad("trusted_proxies", "trusted_proxies = [\"10.0.0.1\"]");
    assert!(alone.contains("needs `client_ip_header`"), "{alone}");
    good("client_ip_header = false\ntrusted_proxies = []");
}

/// Only the checks of the cookie depend on the transport.
#[rstest]
#[case(
    "trusted_proxies",
    "client_ip_header = \"X-Real-IP\"\ntrusted_proxies = [\"0.0.0.0/1\", \"128.0.0.0/1\"]"
)]
#[case("client_ip_header", "client_ip_header = \"X-Real-IP\"")]
#[case("trusted_proxies", "trusted_proxies = [\"10.0.0.1\"]")]
#[case("reissue_time", "timeout = 60\nreissue_time = 60")]
fn combination_that_is_not_about_cookies_is_refused_with_each_transport(
    #[case] key: &str,
    #[case] keys: &str,
) {
    for transport in ["cookie", "bearer"] {
        bad(key, &format!("transport = \"{transport}\"\n{keys}"));
    }
}

#[rstest]
#[case("\"Forwarded\"")]
#[case("\"X Real\"")]
#[case("\"\"")]
#[case("5")]
#[case("\"X-Real-IP:\"")]
fn client_ip_header_has_to_be_a_header_of_addresses(#[case] header: &str) {
    let keys = format!("client_ip_header = {header}\ntrusted_proxies = [\"10.0.0.1\"]");
    bad("client_ip_header", &keys);
}
