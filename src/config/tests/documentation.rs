//! The documentation of the configuration says what the code does.

use super::*;

const TABLE: &str = include_str!("../../../docs/configuration.md");
const README: &str = include_str!("../../../README.md");
const SECURITY: &str = include_str!("../../../SECURITY.md");

/// The table's rows: key and default, as a `Rocket.toml` would have them.
fn rows() -> Vec<(&'static str, &'static str)> {
    let cells = |line: &'static str| line.split('|').map(str::trim).collect::<Vec<_>>();
    let rows = TABLE.lines().map(cells).filter(|cells| cells.len() == 5);
    let rows = rows.filter(|cells| cells[1].starts_with('`'));
    rows.map(|cells| {
        let default = match cells[2] {
            "none" => "false",
            default => default.trim_matches('`'),
        };
        (cells[1].trim_matches('`'), default)
    })
    .collect()
}

/// The keys that are accepted, as the refusal of an unknown one lists them.
fn accepted() -> Vec<String> {
    let error = read_in("release", "no_such_key = 1").unwrap_err();
    let (_, keys) = error.split_once("the keys are `").unwrap();
    let (keys, _) = keys.split_once("`)").unwrap();
    keys.split("`, `").map(str::to_owned).collect()
}

#[test]
fn the_documented_keys_are_those_that_are_accepted() {
    let documented: Vec<_> = rows().into_iter().map(|(key, _)| key).collect();
    assert_eq!(documented, accepted());
}

#[test]
fn a_documented_default_is_what_holds_without_the_key() {
    let without = format!("{:?}", good(""));
    for (key, default) in rows() {
        let with = format!("{:?}", good(&format!("{key} = {default}")));
        assert_eq!(with, without, "{key} = {default}");
    }
}

#[test]
fn the_readme_has_rows_of_the_same_table() {
    let documented: Vec<_> = rows().into_iter().map(|(key, _)| key).collect();
    let (_, table) = README
        .split_once("\n| key | default | meaning |\n")
        .unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let mut count = 0;
    for row in table.lines().skip(1) {
        let key = row.split('`').nth(1).unwrap();
        assert!(documented.contains(&key), "{key}");
        assert!(TABLE.lines().any(|other| other == row), "{row}");
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn what_security_md_advises_is_accepted_and_leaves_nothing_to_warn_about() {
    let (_, advice) = SECURITY.split_once("```toml\n").unwrap();
    let (advice, _) = advice.split_once("```").unwrap();
    assert!(advice.starts_with("[release.session]\n"), "{advice}");
    let config = Config::from_figment(&figment("release", advice)).unwrap();
    assert_eq!(config.cookie_name, "__Host-session");
    assert_eq!(config.timeout, seconds(900.0));
    assert_eq!(config.lifetime, seconds(28_800.0));
    assert_eq!(config.max_per_user, Some(5));
    assert!(!config.set_on_exception && config.secure);
    let warnings = config.warnings(&Profile::from("release"));
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn the_readme_and_the_guide_show_the_quickstart_as_it_is() {
    let example = include_str!("../../../examples/quickstart.rs");
    let (_, code) = example.split_once("\n\n").unwrap();
    assert!(README.contains(&format!("```rust\n{code}```")));
    // The guide's has other imports, and the same handler.
    let guide = include_str!("../../guide/start.md");
    let (handler, _) = code.split_once("#[launch]").unwrap();
    let at = handler.find("const ").unwrap();
    assert!(guide.contains(&handler[at..]));
}
