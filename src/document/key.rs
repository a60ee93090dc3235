//! Session keys, and the field names that their values are stored under.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;

use crate::error::Error;

/// The prefix of flash queues among the stored fields, as in legacy documents.
pub(crate) const FLASH: &str = "_f_";
/// The CSRF token among the stored fields of a legacy document. This crate stores its CSRF secret
/// beside `value`.
pub(crate) const LEGACY_CSRF: &str = "_csrft_";
/// The address to return to after a login, among the stored fields.
const RETURN_TO: &str = "_return_to_";

/// A session key that knows the type of its value.
///
/// ```
/// use rocket_mongo_session::{Error, Key, Session};
///
/// const VISITS: Key<i64> = Key::new("visits");
/// const NAME: Key<String> = Key::new("name");
///
/// fn visit(session: &Session) -> Result<String, Error> {
///     let visits = session.increment(VISITS, 1)?;
///     let name = session.get(NAME)?.unwrap_or_default();
///     session.set(NAME, "Bob")?; // a number here would not compile
///     Ok(format!("{name}, visit number {visits}"))
/// }
/// ```
///
/// A key is any string that is not empty and does not contain NUL. Each method that takes a `Key`
/// also takes a `&str` (or a reference to any `AsRef<str>`); the type then comes from the call.
///
/// [`get`](crate::Session::get), [`set`](crate::Session::set), [`take`](crate::Session::take),
/// [`get_or_insert`](crate::Session::get_or_insert) and [`modify`](crate::Session::modify) check the
/// key's type at compile time. [`increment`](crate::Session::increment) and
/// [`push`](crate::Session::push) take a key of any type.
pub struct Key<T: ?Sized>(&'static str, PhantomData<fn() -> T>);

impl<T: ?Sized> Key<T> {
    /// Creates a key with this name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Key(name, PhantomData)
    }

    /// Returns the key's name, for calls that take a string.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
    }
}

impl<T: ?Sized> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Key<T> {}

impl<T: ?Sized> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.0).finish()
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A [`Key`] of any type, or a reference to a string. For calls that do not use the value's type.
///
/// This trait is sealed.
pub trait AsKey: sealed::Sealed {
    /// Returns the key's name.
    fn name(&self) -> &str;
}

/// A key whose value can be written from `&V`: a `Key<String>` takes a `&str`. A string key takes any
/// type.
///
/// This trait is sealed.
pub trait KeyOf<V: ?Sized>: AsKey {}

/// A key whose value is read as `T`. A string key is read as any type.
///
/// This trait is sealed.
pub trait KeyFor<T>: AsKey {}

impl<T: ?Sized> sealed::Sealed for Key<T> {}
impl<S: AsRef<str> + ?Sized> sealed::Sealed for &S {}

impl<T: ?Sized> AsKey for Key<T> {
    fn name(&self) -> &str {
        self.0
    }
}

impl<S: AsRef<str> + ?Sized> AsKey for &S {
    fn name(&self) -> &str {
        (**self).as_ref()
    }
}

impl<T: Borrow<V>, V: ?Sized> KeyOf<V> for Key<T> {}
impl<S: AsRef<str> + ?Sized, V: ?Sized> KeyOf<V> for &S {}
impl<T> KeyFor<T> for Key<T> {}
impl<S: AsRef<str> + ?Sized, T> KeyFor<T> for &S {}

/// A field of the stored `value` document, safe as one component of an update's path.
///
/// `.`, `%`, a leading `$` and the crate's own prefixes are percent-encoded. So two keys never map to
/// one field, and a key is never read as an operator or a path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Field(String);

impl Field {
    /// Returns the field of an application's key.
    pub(crate) fn of_key(name: &str) -> Result<Self, Error> {
        check(name)?;
        if name.is_empty() {
            let key = String::new();
            return Err(Error::BadKey { key });
        }
        let (first, rest) = match name.strip_prefix('$') {
            Some(rest) => ("%24", rest),
            None if is_reserved(name) => ("%5F", &name[1..]),
            None => ("", name),
        };
        let mut field = String::with_capacity(first.len() + rest.len());
        field.push_str(first);
        escape(rest, &mut field);
        Ok(Field(field))
    }

    /// Returns the field of a flash queue. The default queue's name is empty.
    pub(crate) fn of_queue(name: &str) -> Result<Self, Error> {
        check(name)?;
        let mut field = String::from(FLASH);
        escape(name, &mut field);
        Ok(Field(field))
    }

    /// Returns the field of the address to return to after a login.
    pub(crate) fn return_to() -> Self {
        Field(RETURN_TO.to_owned())
    }

    /// Takes a field name from a stored document.
    pub(crate) fn stored(name: &str) -> Self {
        Field(name.to_owned())
    }

    /// Returns whether a stored name can be a field of this crate. Other writers may have stored names
    /// that an update would read as a path or an operator.
    pub(crate) fn is_one(stored: &str) -> bool {
        !stored.is_empty() && !stored.starts_with('$') && !stored.contains('.')
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the application's key of a stored field, or `None` for the crate's own fields.
    pub(crate) fn key(stored: &str) -> Option<String> {
        (!is_reserved(stored)).then(|| unescape(stored))
    }

    /// Returns the name of the flash queue of a stored field, or `None` for any other field.
    pub(crate) fn queue(stored: &str) -> Option<String> {
        stored.strip_prefix(FLASH).map(unescape)
    }

    /// Returns the key for an error message, cut short because a client may have chosen it.
    pub(crate) fn display(&self) -> String {
        shortened(Field::key(&self.0).unwrap_or_else(|| unescape(&self.0)))
    }
}

fn shortened(name: String) -> String {
    const MAX_CHARS: usize = 64;
    match name.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name,
    }
}

/// Whether a stored name is one of the crate's own.
fn is_reserved(name: &str) -> bool {
    name.starts_with(FLASH) || name.starts_with(LEGACY_CSRF) || name == RETURN_TO
}

fn check(name: &str) -> Result<(), Error> {
    if name.contains('\0') {
        let key = shortened(name.to_owned());
        return Err(Error::BadKey { key });
    }
    Ok(())
}

fn escape(name: &str, into: &mut String) {
    for c in name.chars() {
        match c {
            '.' => into.push_str("%2E"),
            '%' => into.push_str("%25"),
            c => into.push(c),
        }
    }
}

fn unescape(stored: &str) -> String {
    let mut parts = stored.split('%');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let known = [("2E", '.'), ("25", '%'), ("24", '$'), ("5F", '_')];
        match known.iter().find(|(code, _)| part.starts_with(code)) {
            Some((code, c)) => {
                name.push(*c);
                name.push_str(&part[code.len()..]);
            }
            // Another writer stored it; show it as it is.
            None => {
                name.push('%');
                name.push_str(part);
            }
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("a", "a")]
    #[case("a.b", "a%2Eb")]
    #[case("..", "%2E%2E")]
    #[case("$set", "%24set")]
    #[case("$", "%24")]
    #[case("a$b", "a$b")]
    #[case("$[]", "%24[]")]
    #[case("%2E", "%252E")]
    #[case("_f_", "%5Ff_")]
    #[case("_f_x", "%5Ff_x")]
    #[case("_csrft_", "%5Fcsrft_")]
    #[case("_return_to_", "%5Freturn_to_")]
    #[case("_return_to_x", "_return_to_x")]
    #[case("_id", "_id")]
    #[case("__proto__", "__proto__")]
    #[case("0", "0")]
    #[case("ключ", "ключ")]
    fn key_is_never_an_operator_a_path_or_a_reserved_field(
        #[case] name: &str,
        #[case] stored: &str,
    ) {
        let field = Field::of_key(name).unwrap();
        assert_eq!(field.as_str(), stored);
        assert_eq!(Field::key(stored).as_deref(), Some(name));
    }

    #[test]
    fn empty_key_and_nul_are_refused() {
        for name in ["", "\0", "a\0b"] {
            let refused = Field::of_key(name).unwrap_err();
            assert!(matches!(&refused, Error::BadKey { key } if key == name));
            assert!(!refused.to_string().contains(char::is_control), "{refused}");
        }
        assert!(Field::of_queue("").is_ok());
        let refused = Field::of_queue("warn\0").unwrap_err();
        assert!(refused.to_string().contains("\"warn\\0\""), "{refused}");
    }

    #[rstest]
    #[case("")]
    #[case("x")]
    #[case("a.b")]
    #[case("$x")]
    #[case("%")]
    #[case("_f_")]
    #[case("%2E")]
    fn flash_queue_is_never_an_application_key(#[case] queue: &str) {
        let field = Field::of_queue(queue).unwrap();
        assert_eq!(Field::key(field.as_str()), None);
        assert!(field.as_str().starts_with(FLASH) && !field.as_str().contains('.'));
        assert_eq!(Field::queue(field.as_str()).as_deref(), Some(queue));
        let key = Field::of_key("_f_x").unwrap();
        assert_eq!(Field::queue(key.as_str()), None);
    }

    #[test]
    fn address_to_return_to_is_never_an_application_key() {
        let field = Field::return_to();
        assert_eq!(Field::key(field.as_str()), None);
        assert!(Field::is_one(field.as_str()));
    }

    #[test]
    fn displayed_key_is_cut_to_64_characters() {
        let shown = |name: &str| Field::of_key(name).unwrap().display();
        assert_eq!(shown("a.b"), "a.b");
        assert_eq!(shown(&"é".repeat(64)), "é".repeat(64));
        assert_eq!(shown(&"é".repeat(65)), "é".repeat(64) + "…");
        assert_eq!(shown(&".".repeat(1 << 20)), ".".repeat(64) + "…");
        // The error message escapes it.
        let error = Error::Mismatch {
            key: shown("\u{1b}[31m\n"),
            reason: "it does not fit",
        };
        assert!(!error.to_string().contains(char::is_control), "{error}");
    }

    proptest! {
        #[test]
        fn every_key_round_trips_and_stays_one_component(name in "[^\0]{1,40}") {
            let field = Field::of_key(&name).unwrap();
            prop_assert!(!field.as_str().contains('.') && !field.as_str().starts_with('$'));
            prop_assert!(!field.as_str().starts_with(FLASH));
            prop_assert_eq!(Field::key(field.as_str()), Some(name));
        }

        #[test]
        fn distinct_keys_never_share_a_field(a in "[$._f%2E5c]{1,8}", b in "[$._f%2E5c]{1,8}") {
            prop_assert_eq!(a == b, Field::of_key(&a).unwrap() == Field::of_key(&b).unwrap());
        }
    }
}
