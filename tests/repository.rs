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
    let include = include(&manifest);
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
    assert!(count > 10, "{count} links");
}

/// Where the guide and the files of the package can be read once it is published.
const GUIDE: &str = "https://docs.rs/rocket_mongo_session/latest/rocket_mongo_session/guide/";
const SOURCE: &str = "https://docs.rs/crate/rocket_mongo_session/latest/source/";

/// Returns the patterns of the files that the package has.
fn include(manifest: &str) -> Vec<&str> {
    let (_, include) = manifest.split_once("\ninclude = [").expect("include");
    let (include, _) = include.split_once(']').expect("an end of include");
    include.split('"').skip(1).step_by(2).collect()
}

/// Returns the rest of each address that starts so.
fn addresses<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    let rests = text.split(start).skip(1);
    let end = |c: char| c.is_whitespace() || ")\"'`>".contains(c);
    rests.filter_map(|rest| rest.split(end).next()).collect()
}

/// Returns the pages of the guide: the module, and the text with its headings.
fn guide() -> Vec<(String, String)> {
    let source = read("src/guide.rs");
    let parts = source.split("include_str!(\"").skip(1);
    let pages = parts.map(|part| {
        let (file, rest) = part.split_once('"').expect("a file");
        let (_, rest) = rest.split_once("pub mod ").expect("a module");
        let (name, _) = rest.split_once(' ').expect("a name");
        let path = match file.strip_prefix("../") {
            Some(file) => file.to_owned(),
            None => format!("src/{file}"),
        };
        (name.to_owned(), read(&path))
    });
    pages.collect()
}

/// Returns whether a page has a heading with this anchor, as rustdoc makes it.
fn has_heading(page: &str, anchor: &str) -> bool {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchors = headings.map(|line| {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        let text = text.replace(' ', "-");
        text.replace(|c: char| !c.is_alphanumeric() && c != '-' && c != '_', "")
    });
    anchors.into_iter().any(|known| known == anchor)
}

#[test]
fn links_to_published_pages_name_pages_of_the_package() {
    let manifest = read("Cargo.toml");
    let include = include(&manifest);
    let guide = guide();
    let mut pages = files("", ".md");
    for folder in ["docs", "src/guide"] {
        pages.extend(files(folder, ".md"));
    }
    let (mut sources, mut links) = (0, 0);
    for page in pages {
        let text = read(&page);
        for path in addresses(&text, SOURCE) {
            assert!(root().join(path).is_file(), "{page} links to {path}");
            let is_packaged = is_packaged(path, &include);
            assert!(
                is_packaged,
                "{page} links to {path}, which is not in the package"
            );
            sources += 1;
        }
        for address in addresses(&text, GUIDE) {
            let (path, anchor) = address.split_once('#').unwrap_or((address, ""));
            let module = path.trim_end_matches("index.html").trim_end_matches('/');
            let found = guide.iter().find(|(name, _)| name == module);
            let is_there = match found {
                Some((_, text)) => anchor.is_empty() || has_heading(text, anchor),
                None => module.is_empty(),
            };
            assert!(is_there, "{page} links to {address}");
            links += 1;
        }
    }
    assert!(
        sources > 10 && links > 15,
        "{sources} files and {links} pages"
    );
}

#[test]
fn every_page_of_the_guide_is_a_module() {
    let source = read("src/guide.rs");
    for file in files("src/guide", ".md") {
        let name = file.trim_start_matches("src/");
        assert!(
            source.contains(&format!("include_str!(\"{name}\")")),
            "{file}"
        );
    }
    for (name, _) in guide() {
        let is_in_the_table = source.contains(&format!("[`{name}`]"));
        assert!(is_in_the_table, "the table of the guide lacks {name}");
    }
}

/// Headings are not searched by rustdoc: an item has to have the word as its name or an alias.
#[test]
fn words_that_people_search_for_lead_to_an_item() {
    let mut known: Vec<String> = guide().into_iter().map(|(name, _)| name).collect();
    for file in files("src", ".rs") {
        let text = read(&file);
        for part in text.split("#[doc(alias").skip(1) {
            let aliases = part.split(']').next().unwrap_or_default();
            known.extend(aliases.split('"').skip(1).step_by(2).map(str::to_lowercase));
        }
    }
    for word in [
        "concurrent",
        "atomic",
        "absolute timeout",
        "idle timeout",
        "remember me",
        "session fixation",
        "authentication",
        "2fa",
        "nginx",
        "cors",
        "htmx",
        "tera",
        "upload",
        "prometheus",
        "kubernetes",
        "health",
        "atlas",
        "gdpr",
        "upgrade",
        "rolling deploy",
        "troubleshooting",
        "session lost",
        "regenerate",
        "destroy",
        "websocket",
        "argon2",
        "integration test",
        "bearer",
        "encryption",
        "express-session",
    ] {
        assert!(known.iter().any(|alias| alias == word), "{word}");
    }
}

/// A registry shows the README without the repository around it.
#[test]
fn readme_links_to_no_file_beside_it() {
    let text = read("README.md");
    let without_images = text.replace("<img src=\"docs/images/", "");
    assert_eq!(links(&without_images), Vec::<&str>::new());
    for line in text.lines() {
        if let Some((_, target)) = line
            .strip_prefix('[')
            .and_then(|line| line.split_once("]: "))
        {
            assert!(target.starts_with("https://"), "{line}");
        }
    }
}

/// rustdoc checks that a page which is linked is there, and not that it has the heading.
#[test]
fn links_within_the_guide_lead_to_headings() {
    let guide = guide();
    let mut count = 0;
    let mut check = |place: &str, target: &str, own: Option<&str>| {
        let Some((path, anchor)) = target.split_once('#') else {
            return;
        };
        let path = path.trim_start_matches("crate::");
        let module = match own {
            Some(_) => path.trim_start_matches("guide::"),
            None => match path.strip_prefix("guide::") {
                Some(module) => module,
                None => return,
            },
        };
        let found = guide.iter().find(|(name, _)| name == module);
        let page = match (found, own) {
            (Some((_, page)), _) => page.as_str(),
            (None, Some(own)) if path.is_empty() => own,
            _ => return,
        };
        assert!(has_heading(page, anchor), "{place} links to {target}");
        count += 1;
    };
    for (name, page) in &guide {
        for part in page.split("](").skip(1) {
            check(name, part.split(')').next().unwrap_or_default(), Some(page));
        }
    }
    for file in files("src", ".rs") {
        let text = read(&file);
        let own = (file == "src/guide.rs").then_some("");
        for part in text.split("](").skip(1) {
            check(&file, part.split(')').next().unwrap_or_default(), own);
        }
    }
    assert!(count > 40, "{count} links to headings");
}

#[test]
fn tests_that_the_comparison_names_are_there() {
    let page = read("docs/comparison.md");
    let suite = files("tests/suite", ".rs");
    let suite: String = suite.iter().map(|file| read(file)).collect();
    let mut count = 0;
    for name in quoted(&page).filter(|name| name.contains("::")) {
        let Some(name) = name.rsplit("::").next().filter(|name| name.contains('_')) else {
            continue;
        };
        let is_there =
            suite.contains(&format!("fn {name}(")) || suite.contains(&format!("{name}(round)"));
        assert!(is_there, "docs/comparison.md names the test {name}");
        count += 1;
    }
    assert!(count >= 10, "{count} tests");
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
        named.extend(row.into_iter().flat_map(quoted).flat_map(modules));
    }
    for name in stems("src") {
        let is_named = |one: &String| one.split('/').next() == Some(&*name);
        assert!(named.iter().any(is_named), "the map lacks {name}");
    }
    // The folders whose files are named one by one.
    for folder in [
        "commit", "config", "document", "live", "record", "session", "state", "web",
    ] {
        for name in stems(&format!("src/{folder}")) {
            let name = format!("{folder}/{name}");
            let is_named = |one: &String| *one == name || one.starts_with(&format!("{name}/"));
            assert!(named.iter().any(is_named), "the map lacks {name}");
        }
    }
}

/// Returns the names of the modules in a folder, without its tests.
fn stems(folder: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root().join(folder)).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy();
        names.insert(name.into_owned());
    }
    names.remove("tests");
    names
}

#[test]
fn files_that_security_md_names_are_there() {
    let page = read("docs/security.md");
    let mut count = 0;
    for name in quoted(&page).filter(|name| name.ends_with(".rs")) {
        let is_there = root().join("src").join(name).is_file();
        assert!(is_there, "docs/security.md names {name}");
        count += 1;
    }
    assert!(count > 80, "{count} files are named");
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

/// `scripts/test` builds the crate and the command line by one command. A feature that one of them asks
/// for is on in the tests of both, and nothing would test the crate without it.
#[test]
fn command_line_asks_for_one_feature_of_the_crate() {
    let manifest = read("cli/Cargo.toml");
    let entries = manifest
        .lines()
        .filter(|line| line.contains("rocket_mongo_session ="));
    let features = entries.filter_map(|line| line.split_once("features = "));
    let features: Vec<&str> = features.map(|(_, features)| features).collect();
    assert_eq!(features, ["[\"unstable-store\"] }"]);
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
