//! Compares the documentation of the configuration with the code.

use super::*;

const TABLE: &str = include_str!("../../../docs/configuration.md");
const README: &str = include_str!("../../../README.md");
const SECURITY: &str = include_str!("../../../docs/security.md");

/// Returns the rows of the table: key and default, as in a `Rocket.toml`.
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

/// Returns the accepted keys, which the error of an unknown key lists.
fn accepted() -> Vec<String> {
    let error = read_in("release", "no_such_key = 1").unwrap_err();
    let (_, keys) = error.split_once("the keys are `").unwrap();
    let (keys, _) = keys.split_once("`)").unwrap();
    keys.split("`, `").map(str::to_owned).collect()
}

#[test]
fn documented_keys_are_the_accepted_keys() {
    let documented: Vec<_> = rows().into_iter().map(|(key, _)| key).collect();
    assert_eq!(documented, accepted());
}

#[test]
fn documented_defaults_are_the_defaults() {
    let without = format!("{:?}", good(""));
    for (key, default) in rows() {
        let with = format!("{:?}", good(&format!("{key} = {default}")));
        assert_eq!(with, without, "{key} = {default}");
    }
}

#[test]
fn configuration_of_the_security_page_causes_no_warning() {
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
fn readme_and_guide_contain_the_quickstart_example() {
    let example = include_str!("../../../examples/quickstart.rs");
    let (_, code) = example.split_once("\n\n").unwrap();
    assert!(README.contains(&format!("```rust\n{code}```")));
    // The guide has other imports, and the same handler.
    let guide = include_str!("../../guide/start.md");
    let (handler, _) = code.split_once("#[launch]").unwrap();
    let at = handler.find("const ").unwrap();
    assert!(guide.contains(&handler[at..]));
}
