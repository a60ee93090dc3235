//! Reads a section of a figment key by key and collects all errors.
//!
//! `Deserialize` would stop at the first error and lose the file of an error that concerns two keys.
//! On a focused figment it would also lose the section's name (figment prints `default.timeout`).

use rocket::figment::error::{Actual, Error, Kind};
use rocket::figment::value::{Dict, Tag, Value};
use rocket::figment::{Figment, Profile};

/// `[<profile>.session]`, or the section of a further kind, while it is being read.
pub(super) struct Section<'f> {
    figment: &'f Figment,
    /// The section's name in `Rocket.toml`.
    name: String,
    values: Dict,
    known: Vec<&'static str>,
    errors: Vec<Error>,
}

impl<'f> Section<'f> {
    /// Finds the section in the selected profile. A missing section is empty.
    pub(super) fn from_figment(figment: &'f Figment, name: String) -> Result<Self, Box<Error>> {
        let values = match figment.find_value(&name) {
            Ok(Value::Dict(_, values)) => values,
            Ok(other) => {
                let kind = ill_typed(&other, "a table");
                return Err(Box::new(located(figment, other.tag(), &[&name], kind)));
            }
            Err(error) if error.missing() => Dict::new(),
            Err(error) => return Err(Box::new(error)),
        };
        let (known, errors) = (Vec::new(), Vec::new());
        Ok(Section {
            figment,
            name,
            values,
            known,
            errors,
        })
    }

    /// Returns the section's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the selected profile.
    pub(super) fn profile(&self) -> &'f Profile {
        self.figment.profile()
    }

    /// Returns whether the key is set.
    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Parses one key into `target`. `target` keeps its default when the key is not set or invalid.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        target: &mut T,
        parse: impl FnOnce(&Value) -> Result<T, Kind>,
    ) {
        self.known.push(key);
        let Some(value) = self.values.get(key) else {
            return;
        };
        match parse(value) {
            Ok(parsed) => *target = parsed,
            Err(kind) => self.refuse(key, kind),
        }
    }

    /// Parses one key that holds a list, item by item.
    pub(super) fn read_list<T>(
        &mut self,
        key: &'static str,
        target: &mut Vec<T>,
        parse: impl Fn(&Value) -> Result<T, Kind>,
    ) {
        self.known.push(key);
        let items = match self.values.get(key) {
            None => return,
            Some(Value::Array(_, items)) => items,
            Some(other) => return self.refuse(key, ill_typed(other, "a list of strings")),
        };
        target.clear();
        for (index, item) in items.iter().enumerate() {
            match parse(item) {
                Ok(parsed) => target.push(parsed),
                Err(kind) => {
                    let path = [&self.name, key, &index.to_string()];
                    self.errors
                        .push(located(self.figment, item.tag(), &path, kind));
                }
            }
        }
    }

    /// Adds an error for the key.
    pub(super) fn refuse(&mut self, key: &str, kind: Kind) {
        let tag = self.values.get(key).map_or(Tag::Default, Value::tag);
        self.errors
            .push(located(self.figment, tag, &[&self.name, key], kind));
    }

    /// Adds an error for the key, unless the condition holds.
    pub(super) fn require(&mut self, holds: bool, key: &str, message: impl FnOnce() -> String) {
        if !holds {
            self.refuse(key, Kind::Message(message()));
        }
    }

    /// Adds an error for each unknown key.
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

    /// Returns whether there are no errors so far.
    pub(super) fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }

    /// Returns all errors as figment's chain, which iterates in the order in which they were added.
    pub(super) fn finish(self) -> Result<(), Box<Error>> {
        // `chain` puts its receiver behind its argument, so begin with the last error.
        match self.errors.into_iter().rev().reduce(Error::chain) {
            Some(error) => Err(Box::new(error)),
            None => Ok(()),
        }
    }
}

/// Builds an error that names the key, the profile and the file of a value.
fn located(figment: &Figment, tag: Tag, path: &[&str], kind: Kind) -> Error {
    let mut error = Error::from(kind);
    error.path = path.iter().map(|part| part.to_string()).collect();
    // The tag names the profile `default` or `global`. Otherwise it is the selected profile.
    error.profile = tag.profile().or_else(|| Some(figment.profile().clone()));
    error.metadata = figment.get_metadata(tag).cloned();
    error
}

/// Builds the error for a value of the wrong type.
pub(super) fn ill_typed(value: &Value, expected: impl Into<String>) -> Kind {
    Kind::InvalidType(displayed(value), expected.into())
}

/// Builds the error for an invalid value of the right type.
pub(super) fn invalid(value: &Value, expected: impl Into<String>) -> Kind {
    Kind::InvalidValue(displayed(value), expected.into())
}

/// Returns a value as error messages display it. Text with an `@` is left out, since it may be a
/// `mongodb://` URL with a password that was pasted into the wrong key.
fn displayed(value: &Value) -> Actual {
    match value.as_str() {
        Some(text) if text.contains('@') => Actual::Other("a text with an `@`".into()),
        _ => value.to_actual(),
    }
}

/// Returns the known key that is most similar, if one is similar enough.
fn closest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    let (distance, near) = known
        .iter()
        .map(|near| (distance(&key, near), *near))
        .min()?;
    (distance <= near.len() / 3).then_some(near)
}

/// Returns the Levenshtein distance between `a` and `b`.
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
