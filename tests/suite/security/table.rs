//! The table in `docs/security.md`: it leaves out nothing that must be met, and the tests that it names
//! are there. And what the sources alone can show.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What must be met before anything is released: the requirements of the highest priority, by
/// group. (`EN` is asked of who encrypts what it stores, as `seal = true` does.)
const MUST: [(&str, &[u8]); 24] = [
    ("ID", &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ("RG", &[1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 14]),
    ("FX", &[1, 2, 3]),
    ("TO", &[1, 2, 3, 4, 5, 6, 10, 12, 13]),
    ("LO", &[1, 2, 3, 4, 5, 6, 8, 10]),
    ("CC", &[6]),
    ("RA", &[2]),
    ("RV", &[1, 2, 3, 4, 5, 6]),
    ("CK", &[1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 15, 16, 17]),
    ("CT", &[1, 2, 3, 4, 7, 8]),
    (
        "CS",
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17],
    ),
    ("AR", &[1, 3, 4]),
    ("TM", &[1, 2]),
    ("LG", &[1, 2, 3, 5, 7, 8]),
    ("NJ", &[1, 2, 4, 5, 6, 7, 8, 9, 10, 11]),
    ("SZ", &[1, 2, 3, 5, 6, 7, 9]),
    ("MC", &[1, 3, 4]),
    ("CH", &[1, 2, 3, 4, 5]),
    ("TL", &[1, 2, 3, 6]),
    ("KR", &[1, 2, 3]),
    ("EN", &[2, 3, 4]),
    ("BD", &[3]),
    ("RB", &[1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 14, 16]),
    ("DB", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14]),
];

/// Of these there is nothing to test: there are no keys but those of single sessions.
const NOTHING_THERE: [&str; 2] = ["KR-02", "KR-03"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every `.rs` file below a directory.
fn sources(directory: &Path, into: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let name = path.to_string_lossy().replace('\\', "/");
            into.push((name, fs::read_to_string(&path).expect("a source")));
        }
    }
}

fn is_id(word: &str) -> bool {
    word.split_once('-').is_some_and(|(group, number)| {
        group.len() == 2
            && group.bytes().all(|b| b.is_ascii_uppercase())
            && number.len() == 2
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

/// The ids that a row begins with, and the row. One row may speak of several.
fn rows(page: &str) -> Vec<(&str, &str)> {
    let cell = |line: &'_ str| line.strip_prefix("| ").and_then(|rest| rest.find(" |"));
    let mut rows = Vec::new();
    for line in page.lines() {
        if let Some(end) = cell(line) {
            let ids = line[2..2 + end].split(", ").filter(|id| is_id(id));
            rows.extend(ids.map(|id| (id, line)));
        }
    }
    rows
}

/// The tests that a text names, as `module::function`.
fn tests(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    let paths = quoted.filter_map(|name| name.rsplit_once("::"));
    let of = |text: &str, more: &[u8]| {
        text.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || more.contains(&b))
    };
    // Not a type's function, nor one of a single word.
    let tests = paths.filter(|(module, test)| of(module, b"_:") && of(test, b"_"));
    tests.filter(|(_, test)| test.contains('_')).collect()
}

#[test]
fn every_requirement_that_must_be_met_has_a_row_and_a_test() {
    let page = read("docs/security.md");
    let rows = rows(&page);
    let mut count = 0;
    for (group, numbers) in MUST {
        for number in numbers {
            let id = format!("{group}-{number:02}");
            let own: Vec<&str> = rows
                .iter()
                .filter(|(one, _)| *one == id)
                .map(|(_, row)| *row)
                .collect();
            let [row] = own.as_slice() else {
                panic!("{id} has {} rows", own.len());
            };
            let nothing = NOTHING_THERE.contains(&id.as_str());
            assert_eq!(tests(row).is_empty(), nothing, "{id}: {row}");
            count += 1;
        }
    }
    assert_eq!(count, 156);
    let mut met = BTreeSet::new();
    for (id, _) in rows {
        assert!(met.insert(id), "{id} has two rows");
    }
}

#[test]
fn every_test_that_the_page_names_exists_and_every_id_here_is_in_it() {
    let page = read("docs/security.md");
    let mut files = Vec::new();
    for directory in ["src", "tests/suite"] {
        sources(&root().join(directory), &mut files);
    }
    let mut named = 0;
    for (module, test) in tests(&page) {
        named += 1;
        let place = format!("/{}.rs", module.replace("::", "/"));
        let is_there = files.iter().any(|(path, source)| {
            let alike =
                path.ends_with(&place) || path.ends_with(&place.replace(".rs", "/tests.rs"));
            let defined = [
                format!("fn {test}("),
                // A module of several, or a macro that makes them.
                format!("mod {test} {{"),
                format!("{test}(round)"),
                format!("{test} =>"),
            ];
            alike
                && defined
                    .iter()
                    .any(|defined| source.contains(defined.as_str()))
        });
        assert!(
            is_there,
            "docs/security.md names `{module}::{test}`, which is not there"
        );
    }
    assert!(named > 200, "{named} tests are named");

    // What a test says it shows is a row.
    let rows: BTreeSet<&str> = rows(&page).into_iter().map(|(id, _)| id).collect();
    let here = files.iter().filter(|(path, _)| path.contains("/security/"));
    for (path, source) in here {
        let comments = source
            .lines()
            .filter_map(|line| line.trim().strip_prefix("/// "));
        let words =
            comments.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-'));
        for word in words.filter(|word| is_id(word)) {
            assert!(rows.contains(word), "{path} speaks of {word}");
        }
    }
}

/// TO-12: the crate redirects no browser, and reads no header that says where a request came from.
/// It names headers of an application's answer that redirect, to take them away.
#[test]
fn no_code_redirects_or_reads_a_referrer() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    assert!(files.len() > 50, "{}", files.len());
    let mut headers = BTreeSet::new();
    for (path, source) in &files {
        let code = source.lines().map(str::trim_start);
        for line in code.filter(|line| !line.starts_with("//")) {
            assert!(!line.contains("Referer"), "{path}: {line}");
            if line.contains("Redirect") {
                let is_header = line.starts_with('"') && line.ends_with("-Redirect\",");
                assert!(is_header, "{path}: {line}");
                headers.insert(line);
            }
        }
    }
    let headers: Vec<&str> = headers.into_iter().collect();
    assert_eq!(headers, ["\"X-Accel-Redirect\","]);
}

/// TL-06, TL-07: the driver that is built has no known hole, and compresses nothing by itself.
#[test]
fn the_driver_is_recent_and_compresses_nothing() {
    let lock = read("Cargo.lock");
    let package = lock
        .split("[[package]]")
        .find(|package| package.contains("name = \"mongodb\"\n"))
        .expect("the driver is locked");
    let quoted = |key: &str| {
        let (_, rest) = package.split_once(&format!("\n{key} = \"")).expect(key);
        rest.split('"').next().expect(key)
    };
    let version: Vec<u32> = quoted("version")
        .split('.')
        .map(|number| number.parse().expect("a number"))
        .collect();
    assert!(version >= vec![3, 9, 1], "{version:?}");

    let manifest = read("Cargo.toml");
    let driver: Vec<&str> = manifest
        .lines()
        .filter(|line| line.starts_with("mongodb = "))
        .collect();
    let [driver] = driver.as_slice() else {
        panic!("{driver:?}");
    };
    assert!(driver.contains("version = \"3.9.1\""), "{driver}");
    assert!(driver.contains("default-features = false"), "{driver}");
    assert!(!driver.contains("compression"), "{driver}");
}
