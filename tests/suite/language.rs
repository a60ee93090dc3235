//! Keeps retired words and idioms out of code, comments and documents.
//!
//! The project uses the terms of its field, so that a reader who has never seen it can search for
//! them. Each rule below names what to write instead. A phrase is found across line breaks, comment
//! markers and the parts of an identifier: `lives_for_ever` is found as "for ever".

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A word or phrase that is not used any more, and what to write instead. `*` stands for any word.
/// A match inside of one of the exceptions is allowed.
struct Phrase {
    retired: &'static str,
    instead: &'static str,
    except: &'static [&'static str],
}

const fn phrase(retired: &'static str, instead: &'static str) -> Phrase {
    let except = &[];
    Phrase {
        retired,
        instead,
        except,
    }
}

const fn phrase_except(
    retired: &'static str,
    instead: &'static str,
    except: &'static [&'static str],
) -> Phrase {
    Phrase {
        retired,
        instead,
        except,
    }
}

const PHRASES: &[Phrase] = &[
    // Words of this project alone.
    phrase("lane", "server session"),
    phrase("lanes", "server sessions"),
    phrase("together", "batch, batched, at once, both"),
    phrase_except("ancestor", "legacy", &["frame ancestor"]),
    phrase_except("ancestors", "legacy", &["frame ancestors"]),
    phrase_except(
        "marker",
        "tombstone",
        &["std marker", "marker phantomdata", "core marker"],
    ),
    phrase("markers", "tombstones"),
    phrase("is tired", "is in doubt"),
    phrase("misfit", "mismatch"),
    phrase("misfits", "mismatches"),
    phrase("judge", "check"),
    phrase("judges", "checks"),
    phrase("judged", "checked"),
    // Rocket has responses.
    phrase("the answer", "the response"),
    phrase("an answer", "a response"),
    phrase("its answer", "its response"),
    phrase("each answer", "each response"),
    phrase("every answer", "every response"),
    phrase("session's answer", "the session's response"),
    // Idioms.
    phrase("for ever", "without a limit, never expires"),
    phrase("so many", "a number of, that many"),
    phrase("of late", "recently"),
    phrase("by then", "at that time"),
    phrase("brings along", "carries"),
    phrase("comes along", "is kept, is sent"),
    phrase("come along", "are kept, are sent"),
    phrase("under way", "in progress, in flight, running"),
    phrase("goes on", "continues"),
    phrase("go on", "continue"),
    phrase("half way", "before it is complete"),
    phrase("all the same", "nevertheless, anyway"),
    phrase("what became of", "the outcome of"),
    phrase("comes to nothing", "fails"),
    phrase("comes by", "gets, loads"),
    phrase("no session any more", "ended"),
    // People who are not there.
    phrase("nobody", "no request, no process, not … any"),
    phrase("nobody's", "without a user"),
    phrase("somebody", "another process, a user"),
    phrase("somebody's", "another's"),
    phrase("whoever", "the process, request or person that"),
    phrase("who comes", "the request that"),
    // Definitions by negation.
    phrase_except(
        "is no",
        "is not a",
        &[
            "there is no",
            "is no longer",
            "is no more than",
            "* there is no",
        ],
    ),
    phrase("is none", "is not one, is absent"),
    phrase("makes no", "does not make"),
];

/// Identifiers that are not used any more, found in Rust code outside of comments.
const IDENTIFIERS: &[(&str, &str)] = &[
    ("Committer", "Core"),
    ("Decision", "CommitPlan"),
    ("Alter", "UpdatePlan"),
    ("Create", "InsertPlan"),
    ("Way", "Dispatch"),
    ("Turn", "a permit"),
    ("TooManyTurns", "ConflictRetriesExhausted"),
    ("Lane", "ServerSession"),
    ("Lanes", "ServerSessions"),
    ("Arrival", "LoadOutcome"),
    ("Slot", "RequestCache"),
    ("Manner", "RequestTraits"),
    ("Claims", "OriginHeaders"),
    ("Home", "Backend"),
    ("Refusal", "a configuration error"),
    ("Strength", "write guarantees"),
    ("Unbroken", "detach"),
    ("is_tired", "in_doubt"),
    ("is_harmless", "is_exempt"),
    ("is_attended", "writer_running"),
    ("look_after", "maintain_indexes"),
    ("to_its_end", "detach"),
    ("name_itself", "ensure_id"),
    ("settle_in", "finalize_login"),
    ("mark_again", "refresh_tombstones"),
    ("mark_beside", "put_tombstone"),
    ("put_back", "restore_in_flight"),
    ("stands_on", "authenticated_by"),
    ("outlives_revocation", "exempt_own_login_from_revocation"),
    ("spared", "revoked_others_at"),
    ("doing", "operation"),
    ("abandon", "roll_back_in_background"),
    ("withdraw", "roll_back"),
    ("owed", "pending_cookie"),
    ("fell", "discard_in_flight"),
    ("Sent", "InFlight"),
    ("Stage", "store initialisation"),
    ("Lives", "the commit fairing"),
    ("AGAIN", "RETRY_…"),
    ("ALIKE", "MAX_…"),
    ("APART", "…_INTERVAL"),
    ("AT_ONCE", "MAX_…"),
    ("DEEPEST", "MAX_LEVELS"),
    ("DOING", "Operation"),
    ("DRAWS", "MAX_ID_ATTEMPTS"),
    ("FEW", "MAX_IN_FLIGHT"),
    ("LARGE", "…_THRESHOLD"),
    ("LEAST", "MIN_…"),
    ("LONGEST", "MAX_…"),
    ("MOST", "MAX_…"),
    ("REST", "COOLDOWN"),
];

/// Paths that still have findings. The list may only become shorter: a path without findings has to
/// be removed from it.
const UNCONVERTED: &[&str] = &[
    // Being rebuilt.
    "src/clock.rs",
    "src/commit",
    "src/commit.rs",
    "src/error.rs",
    "src/record",
    "src/session",
    "src/session.rs",
    "src/state",
    "src/state.rs",
    "src/testing",
    // Not yet read.
    "fuzz/fuzz_targets/documents.rs",
    "fuzz/src/store.rs",
    "tests/suite/legacy",
    "tests/suite/cases",
    "tests/suite/conformance",
    "tests/suite/conformance.rs",
    "tests/suite/faults",
    "tests/suite/hooked.rs",
    "tests/suite/identity",
    "tests/suite/identity.rs",
    "tests/suite/jobs.rs",
    "tests/suite/life",
    "tests/suite/life.rs",
    "tests/suite/main.rs",
    "tests/suite/model",
    "tests/suite/model.rs",
    "tests/suite/outage",
    "tests/suite/outage.rs",
    "tests/suite/probe",
    "tests/suite/probe.rs",
    "tests/suite/races",
    "tests/suite/races.rs",
    "tests/suite/reproduced",
    "tests/suite/saving.rs",
    "tests/suite/security",
    "tests/suite/stored.rs",
    "tests/suite/support",
    "tests/suite/support_works.rs",
    "tests/suite/together.rs",
    "tests/suite/trips.rs",
];

/// The folders and files that are checked.
const CHECKED: &[&str] = &[
    ".ci", "benches", "cli", "docs", "examples", "fuzz", "scripts", "src", "tests",
];

struct Finding {
    line: usize,
    text: String,
}

/// One word of a text, in lower case.
struct Word {
    line: usize,
    text: String,
    /// Only blanks, comment signs or `_` are between this word and the one before it.
    follows: bool,
}

fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let (mut line, mut current, mut follows) = (1, String::new(), false);
    let mut gap = String::new();
    let mut was_lower = false;
    let mut end = |current: &mut String, line: usize, follows: bool| {
        if !current.is_empty() {
            words.push(Word {
                line,
                text: std::mem::take(current).to_lowercase(),
                follows,
            });
        }
    };
    for c in text.chars().chain(['\n']) {
        let is_letter = c.is_alphanumeric() || (c == '\'' && !current.is_empty());
        if !is_letter || (was_lower && c.is_uppercase()) {
            if !current.is_empty() {
                gap.clear();
            }
            end(&mut current, line, follows);
        }
        if is_letter {
            if current.is_empty() {
                follows = gap
                    .chars()
                    .all(|c| c.is_whitespace() || "_-/!#\\:".contains(c));
            }
            current.push(c);
        } else {
            gap.push(c);
        }
        was_lower = c.is_lowercase();
        line += usize::from(c == '\n');
    }
    words
}

/// Returns whether a pattern matches the words from `at` on.
fn matches(pattern: &[&str], words: &[Word], at: usize) -> bool {
    pattern.iter().enumerate().all(|(index, part)| {
        words.get(at + index).is_some_and(|word| {
            (index == 0 || word.follows) && (*part == "*" || word.text == *part)
        })
    })
}

/// Removes paths of Rust items and names in inline code. Documents and scripts have to repeat the
/// names of tests, which are checked where they are defined.
fn without_names(page: &str) -> String {
    let mut without = String::new();
    for line in page.lines() {
        for (index, span) in line.split('`').enumerate() {
            if index > 0 {
                without.push('`');
            }
            if index % 2 == 0 || !span.contains('_') {
                let words = span.split(' ').filter(|word| !word.contains("::"));
                without.extend(words.flat_map(|word| [word, " "]));
            }
        }
        without.push('\n');
    }
    without
}

fn find_phrases(text: &str) -> Vec<Finding> {
    // `Option::is_none`, and `is None` in Python.
    let words = words(&text.replace("is_none", "").replace("is None", ""));
    let mut findings = Vec::new();
    for phrase in PHRASES {
        let retired: Vec<&str> = phrase.retired.split(' ').collect();
        for at in (0..words.len()).filter(|at| matches(&retired, &words, *at)) {
            let is_exception = phrase.except.iter().any(|exception| {
                let exception: Vec<&str> = exception.split(' ').collect();
                let before = exception.len();
                (at.saturating_sub(before)..=at).any(|start| {
                    start + exception.len() >= at + retired.len()
                        && matches(&exception, &words, start)
                })
            });
            if !is_exception {
                findings.push(Finding {
                    line: words[at].line,
                    text: format!("\"{}\": write {}", phrase.retired, phrase.instead),
                });
            }
        }
    }
    findings
}

fn find_identifiers(code: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        for name in code.split(|c| !is_part(c)) {
            if let Some((_, instead)) = IDENTIFIERS.iter().find(|(retired, _)| *retired == name) {
                findings.push(Finding {
                    line: index + 1,
                    text: format!("`{name}`: write {instead}"),
                });
            }
        }
    }
    findings
}

/// Collects the files below a path, with their names relative to the root.
fn collect(root: &Path, name: &str, into: &mut Vec<String>) {
    let path = root.join(name);
    if !path.is_dir() {
        let last = name.rsplit('/').next().unwrap_or_default();
        let is_text = match last.rsplit_once('.') {
            Some((_, extension)) => ["rs", "md", "toml"].contains(&extension),
            None => true,
        };
        if is_text {
            into.push(name.to_owned());
        }
        return;
    }
    for entry in fs::read_dir(&path).expect("a folder") {
        let entry = entry.expect("an entry").file_name();
        let entry = entry.to_str().expect("a name in UTF-8");
        // Built, recorded or taken from elsewhere.
        if !["target", "seeds", "corpus", "artifacts", "fixtures"].contains(&entry) {
            collect(root, &format!("{name}/{entry}"), into);
        }
    }
}

fn is_below(file: &str, path: &str) -> bool {
    file.strip_prefix(path)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[test]
fn retired_words_are_used_nowhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for path in CHECKED {
        collect(root, path, &mut files);
    }
    for entry in fs::read_dir(root).expect("the root") {
        let name = entry.expect("an entry").file_name();
        let name = name.to_str().expect("a name in UTF-8").to_owned();
        if name.ends_with(".md") || name.ends_with(".toml") {
            files.push(name);
        }
    }
    // This file has to name them.
    files.retain(|file| file != "tests/suite/language.rs");
    assert!(files.len() > 150, "only {} files were found", files.len());

    let mut report = Vec::new();
    let mut unconverted = BTreeSet::new();
    for file in &files {
        let Ok(text) = fs::read_to_string(root.join(file)) else {
            continue; // not a text
        };
        let mut findings = if file.ends_with(".rs") {
            let mut findings = find_phrases(&text);
            findings.extend(find_identifiers(&text));
            findings
        } else {
            find_phrases(&without_names(&text))
        };
        findings.sort_by_key(|finding| finding.line);
        let listed = UNCONVERTED.iter().find(|path| is_below(file, path));
        match listed {
            Some(path) if !findings.is_empty() => {
                unconverted.insert(*path);
            }
            Some(_) => {}
            None => report.extend(
                findings
                    .iter()
                    .map(|finding| format!("{file}:{}: {}", finding.line, finding.text)),
            ),
        }
    }
    for path in UNCONVERTED {
        if !unconverted.contains(path) {
            report.push(format!(
                "{path} has no findings: remove it from UNCONVERTED"
            ));
        }
    }
    assert!(
        report.is_empty(),
        "{} findings:\n{}",
        report.len(),
        report.join("\n")
    );
}

#[test]
fn a_retired_word_is_found_with_its_line() {
    let sample = "/// Lives for\n/// ever.\nfn waits_for_ever() {}\nstruct OldLane;\n\
                  // It is no session. There is no session. It is no longer one.\n\
                  use std::marker::PhantomData;\nconst MOST: u8 = 1; // MOST\n";
    let phrases: Vec<_> = find_phrases(sample)
        .into_iter()
        .map(|finding| (finding.line, finding.text))
        .collect();
    let starts: Vec<_> = phrases
        .iter()
        .map(|(line, text)| (*line, text.split(':').next().unwrap_or_default()))
        .collect();
    assert_eq!(
        starts,
        [
            (4, "\"lane\""),
            (1, "\"for ever\""),
            (3, "\"for ever\""),
            (5, "\"is no\""),
        ]
    );
    let page = "Shown by `lives_for_ever` and\nmod::for_ever, but not for\never.";
    let lines: Vec<_> = find_phrases(&without_names(page));
    assert_eq!(
        lines.iter().map(|finding| finding.line).collect::<Vec<_>>(),
        [2]
    );

    let identifiers = find_identifiers(sample);
    assert_eq!(identifiers.len(), 1);
    assert_eq!(identifiers[0].line, 7);
}
