//! The repository: what its pages, manifests and scripts name is there. These tests need no server.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Returns the files of a folder whose names end so, by their paths from the root.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.strip_prefix(root()).expect("a path below the root");
        let name = name.to_string_lossy().into_owned();
        if path.is_file() && name.ends_with(ending) {
            found.push(name);
        } else if path.is_dir() && !folder.is_empty() {
            found.extend(files(&name, ending));
        }
    }
    found
}

/// Returns what a page links to, without addresses of other sites.
fn links(text: &str) -> Vec<&str> {
    let (marked, tagged) = (text.split("](").skip(1), text.split("src=\"").skip(1));
    let targets = marked
        .chain(tagged)
        .filter_map(|rest| rest.split([')', '"', '#']).next());
    targets
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .collect()
}

/// Returns whether the published package has this file, by `include` of the manifest.
fn is_packaged(path: &str, include: &[&str]) -> bool {
    include.iter().any(|pattern| {
        let pattern = pattern.trim_start_matches('/');
        match pattern.split_once('*') {
            Some((start, end)) => path
                .strip_prefix(start)
                .and_then(|rest| rest.strip_suffix(end))
                .is_some_and(|middle| !middle.contains('/')),
            None => path == pattern || path.starts_with(&format!("{pattern}/")),
        }
    })
}

#[test]
fn packaged_pages_link_to_packaged_files() {
    let manifest = read("Cargo.toml");
    let (_, include) = manifest.split_once("\ninclude = [").expect("include");
    let (include, _) = include.split_once(']').expect("an end of include");
    let include: Vec<&str> = include.split('"').skip(1).step_by(2).collect();

    let mut pages = files("", ".md");
    pages.extend(files("docs", ".md"));
    let mut count = 0;
    for page in pages {
        assert!(is_packaged(&page, &include), "{page} is not in `include`");
        let text = read(&page);
        let folder = Path::new(&page).parent().expect("a folder");
        for target in links(&text) {
            let mut path = PathBuf::new();
            for part in folder.join(target).components() {
                match part.as_os_str().to_str() {
                    Some("..") => assert!(path.pop(), "{page} links to {target}"),
                    _ => path.push(part),
                }
            }
            assert!(root().join(&path).exists(), "{page} links to {target}");
            let path = path.to_string_lossy();
            assert!(
                is_packaged(&path, &include),
                "{page} links to {target}, which is not in the package"
            );
            count += 1;
        }
    }
    assert!(count > 20, "{count} links");
}

/// Returns the cells of the table rows below a heading.
fn table<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let (_, text) = page
        .split_once(&format!("\n## {heading}\n"))
        .unwrap_or_else(|| panic!("no heading {heading}"));
    let (text, _) = text.split_once("\n## ").unwrap_or((text, ""));
    let rows = text.lines().filter(|line| line.starts_with("| "));
    rows.skip(1)
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns the modules of a name as in `web/{guard, load}`.
fn modules(name: &str) -> Vec<String> {
    let Some((start, rest)) = name.split_once('{') else {
        return vec![name.trim_end_matches('/').to_owned()];
    };
    let names = rest.trim_end_matches('}').split(',').map(str::trim);
    names
        .filter(|name| *name != "…")
        .map(|name| format!("{start}{name}"))
        .collect()
}

fn is_module(name: &str) -> bool {
    let path = root().join("src").join(name);
    path.is_dir() || path.with_extension("rs").is_file()
}

#[test]
fn what_architecture_md_names_is_there() {
    let page = read("ARCHITECTURE.md");
    let mut count = 0;
    for (heading, column) in [
        ("Module map", 0),
        ("Dependency rules", 1),
        ("Where each rule is implemented", 1),
    ] {
        for row in table(&page, heading) {
            let cell = row.get(column).unwrap_or_else(|| panic!("{row:?}"));
            for name in quoted(cell).filter(|name| name.starts_with(char::is_lowercase)) {
                for module in modules(name) {
                    assert!(is_module(&module), "{heading}: src has no module {module}");
                    count += 1;
                }
            }
        }
    }
    assert!(count > 80, "{count} modules are named");
}

#[test]
fn module_map_has_every_folder_and_file_of_src() {
    let page = read("ARCHITECTURE.md");
    let mut named = BTreeSet::new();
    for row in table(&page, "Module map") {
        named.extend(quoted(row[0]).flat_map(modules));
    }
    for entry in fs::read_dir(root().join("src")).expect("src") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy();
        let is_named = |one: &String| one.split('/').next() == Some(&*name);
        assert!(named.iter().any(is_named), "the map lacks {name}");
    }
}

#[test]
fn places_for_tests_are_there() {
    let page = read("CONTRIBUTING.md");
    let mut count = 0;
    for row in table(&page, "Where does my test go?") {
        for name in quoted(row[1]).filter(|name| name.contains('/')) {
            let path = root().join(name);
            let is_there = path.exists() || path.with_extension("rs").exists();
            assert!(is_there, "CONTRIBUTING.md names {name}");
            count += 1;
        }
    }
    assert!(count > 10, "{count} places");
}

/// `SKIP_MONGODB` leaves out the tests of an older server by their names.
#[test]
fn tests_of_an_older_server_have_its_series_in_their_names() {
    let mut count = 0;
    for file in files("tests/suite", ".rs") {
        let text = read(&file);
        for (at, _) in text.match_indices("fn ") {
            let rest = &text[at..];
            let end = rest.find("\n}\n").unwrap_or(rest.len());
            let (name, body) = rest[..end].split_once('(').unwrap_or_default();
            for series in ["5.0", "4.4"] {
                let ending = format!("_{}", series.replace('.', "_"));
                if text[..at].ends_with("_test]\nasync ") && body.contains(&format!("\"{series}\""))
                {
                    assert!(
                        name.contains(&ending),
                        "{file}: {name} needs MongoDB {series}"
                    );
                    count += 1;
                }
            }
        }
    }
    assert!(count >= 8, "{count} tests name an older server");
}
