//! Reads a section of a figment key by key, and remembers every key that is wrong.
//!
//! Not by deriving `Deserialize`: that stops at the first error, loses the place of errors between
//! keys, and through a focused figment the section's name (figment would print `default.timeout`).

use rocket::figment::error::{Actual, Error, Kind};
use rocket::figment::value::{Dict, Tag, Value};
use rocket::figment::{Figment, Profile};

/// The section's name in `Rocket.toml`.
const NAME: &str = "session";

/// `[<profile>.session]` while it is being read.
pub(super) struct Section<'f> {
    figment: &'f Figment,
    values: Dict,
    known: Vec<&'static str>,
    errors: Vec<Error>,
}

impl<'f> Section<'f> {
    /// The section as the selected profile sees it; empty when there is none.
    pub(super) fn of(figment: &'f Figment) -> Result<Self, Box<Error>> {
        let values = match figment.find_value(NAME) {
            Ok(Value::Dict(_, values)) => values,
            Ok(other) => {
                let kind = ill_typed(&other, "a table");
                return Err(Box::new(located(figment, other.tag(), &[], kind)));
            }
            Err(error) if error.missing() => Dict::new(),
            Err(error) => return Err(Box::new(error)),
        };
        let (known, errors) = (Vec::new(), Vec::new());
        Ok(Section {
            figment,
            values,
            known,
            errors,
        })
    }

    /// The profile that is selected.
    pub(super) fn profile(&self) -> &'f Profile {
        self.figment.profile()
    }

    /// Whether the key is set.
    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Reads one key into `target` by its rule; `target` keeps its default where the key is not
    /// set, or wrong.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        target: &mut T,
        rule: impl FnOnce(&Value) -> Result<T, Kind>,
    ) {
        self.known.push(key);
        let Some(value) = self.values.get(key) else {
            return;
        };
        match rule(value) {
            Ok(read) => *target = read,
            Err(kind) => self.refuse(key, kind),
        }
    }

    /// Reads one key that holds a list, each item by the rule.
    pub(super) fn read_list<T>(
        &mut self,
        key: &'static str,
        target: &mut Vec<T>,
        rule: impl Fn(&Value) -> Result<T, Kind>,
    ) {
        self.known.push(key);
        let items = match self.values.get(key) {
            None => return,
            Some(Value::Array(_, items)) => items,
            Some(other) => return self.refuse(key, ill_typed(other, "a list of strings")),
        };
        target.clear();
        for (index, item) in items.iter().enumerate() {
            match rule(item) {
                Ok(read) => target.push(read),
                Err(kind) => {
                    let path = [key, &index.to_string()];
                    self.errors
                        .push(located(self.figment, item.tag(), &path, kind));
                }
            }
        }
    }

    /// Refuses the key's value.
    pub(super) fn refuse(&mut self, key: &str, kind: Kind) {
        let tag = self.values.get(key).map_or(Tag::Default, Value::tag);
        self.errors.push(located(self.figment, tag, &[key], kind));
    }

    /// Refuses the key's value, unless it goes with the others.
    pub(super) fn require(&mut self, holds: bool, key: &str, message: impl FnOnce() -> String) {
        if !holds {
            self.refuse(key, Kind::Message(message()));
        }
    }

    /// Refuses every key that nothing has read.
    pub(super) fn refuse_unknown(&mut self) {
        let unknown = self
            .values
            .keys()
            .filter(|key| !self.known.contains(&key.as_str()));
        for key in unknown.cloned().collect::<Vec<_>>() {
            let hint = match closest(&key, &self.known) {
                Some(near) => format!("; did you mean `{near}`?"),
                None => String::new(),
            };
            let known = self.known.join("`, `");
            let message = format!("unknown key `{key}`{hint} (the keys are `{known}`)");
            self.refuse(&key, Kind::Message(message));
        }
    }

    /// Whether nothing was refused so far.
    pub(super) fn is_good(&self) -> bool {
        self.errors.is_empty()
    }

    /// All that was refused, as figment's chain of errors, which iterates in the order of refusal.
    pub(super) fn finish(self) -> Result<(), Box<Error>> {
        // `chain` puts its receiver behind its argument, so it starts with the last.
        match self.errors.into_iter().rev().reduce(Error::chain) {
            Some(error) => Err(Box::new(error)),
            None => Ok(()),
        }
    }
}

/// An error that says where the value came from: key with profile, and file.
fn located(figment: &Figment, tag: Tag, path: &[&str], kind: Kind) -> Error {
    let mut error = Error::from(kind);
    error.path = [NAME]
        .iter()
        .chain(path)
        .map(|part| part.to_string())
        .collect();
    // A value knows whether it is `default`'s or `global`'s; if not, it is the selected profile's.
    error.profile = tag.profile().or_else(|| Some(figment.profile().clone()));
    error.metadata = figment.get_metadata(tag).cloned();
    error
}

/// A value of a wrong type.
pub(super) fn ill_typed(value: &Value, expected: impl Into<String>) -> Kind {
    Kind::InvalidType(shown(value), expected.into())
}

/// A value of the right type that is wrong.
pub(super) fn invalid(value: &Value, expected: impl Into<String>) -> Kind {
    Kind::InvalidValue(shown(value), expected.into())
}

/// A value as errors show it. Nothing of this section is secret, but a whole `mongodb://` address
/// pasted into it is: what could be a URL with a password is not repeated.
fn shown(value: &Value) -> Actual {
    match value.as_str() {
        Some(text) if text.contains('@') => Actual::Other("a text with an `@`".into()),
        _ => value.to_actual(),
    }
}

/// The known key that was probably meant.
fn closest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    let (distance, near) = known
        .iter()
        .map(|near| (distance(&key, near), *near))
        .min()?;
    (distance <= near.len() / 3).then_some(near)
}

/// How many insertions, deletions and replacements of a character lead from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let mut row = (0..=b.chars().count()).collect::<Vec<_>>();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            left = (diagonal + usize::from(x != y))
                .min(*cell + 1)
                .min(left + 1);
            diagonal = std::mem::replace(cell, left);
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}
