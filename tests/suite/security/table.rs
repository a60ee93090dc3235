//! The table in `SECURITY.md` names tests: they are there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

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

#[test]
fn every_test_that_security_md_names_exists_and_every_id_here_is_in_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("SECURITY.md")).expect("SECURITY.md");
    let mut files = Vec::new();
    for directory in ["src", "tests/suite"] {
        sources(&root.join(directory), &mut files);
    }
    let mut named = 0;
    for name in page.split('`').skip(1).step_by(2) {
        let Some((module, test)) = name.rsplit_once("::") else {
            continue;
        };
        if !test.contains('_') || test.contains(|c: char| !c.is_ascii_lowercase() && c != '_') {
            continue; // a function, not a test
        }
        if !module
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b"_:".contains(&b))
        {
            continue; // a type's
        }
        named += 1;
        let place = format!("/{}.rs", module.replace("::", "/"));
        let is_there = files.iter().any(|(path, source)| {
            let alike =
                path.ends_with(&place) || path.ends_with(&place.replace(".rs", "/tests.rs"));
            let defined = [
                format!("fn {test}("),
                // By a macro that makes several tests of one.
                format!("{test}(round)"),
                format!("{test} =>"),
            ];
            alike
                && defined
                    .iter()
                    .any(|defined| source.contains(defined.as_str()))
        });
        assert!(is_there, "SECURITY.md names `{name}`, which is not there");
    }
    assert!(named > 100, "{named} tests are named");

    // What a test says it shows is a row.
    let rows: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .collect();
    let here = files.iter().filter(|(path, _)| path.contains("/security/"));
    for (path, source) in here {
        let comments = source
            .lines()
            .filter_map(|line| line.trim().strip_prefix("/// "));
        let words =
            comments.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-'));
        for word in words {
            let id = word.split_once('-').filter(|(letters, number)| {
                letters.len() == 2
                    && letters.bytes().all(|b| b.is_ascii_uppercase())
                    && number.len() == 2
                    && number.bytes().all(|b| b.is_ascii_digit())
            });
            assert!(
                id.is_none() || rows.contains(word),
                "{path} speaks of {word}"
            );
        }
    }
}
