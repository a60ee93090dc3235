//! Keys: what an application calls a value, and the field name that it is stored under.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;

use crate::error::Error;

/// The prefix of flash queues among the stored keys; the ancestor's.
pub(crate) const FLASH: &str = "_f_";
/// The ancestor's CSRF token among the stored keys. Ours is a field of the document.
pub(crate) const LEGACY_CSRF: &str = "_csrft_";

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
/// Any string is a key, except the empty one and one with NUL inside. A plain `&str` (or a reference
/// to anything that is `AsRef<str>`) works wherever a `Key` does, with the type given at the call.
///
/// [`get`](crate::Session::get), [`set`](crate::Session::set), [`take`](crate::Session::take),
/// [`get_or_insert`](crate::Session::get_or_insert) and [`modify`](crate::Session::modify) hold you
/// to the key's type. [`increment`](crate::Session::increment) and [`push`](crate::Session::push)
/// take a key of any type.
pub struct Key<T: ?Sized>(&'static str, PhantomData<fn() -> T>);

impl<T: ?Sized> Key<T> {
    /// A key of this name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Key(name, PhantomData)
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

/// What names a key: a [`Key`], or a reference to any string. Sealed.
pub trait AsKey: sealed::Sealed {
    /// The key's name.
    fn name(&self) -> &str;
}

/// What names a key whose value may be given as `&V`: a `Key<String>` takes a `&str`. Sealed.
pub trait KeyOf<V: ?Sized>: AsKey {}

/// What names a key whose value is read as `T`. Sealed.
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

/// The field of the stored `value` that a key names: safe as one component of an update's path.
///
/// `.`, `%`, a leading `$` and the prefixes that the crate uses itself are percent-encoded, so that
/// distinct keys never meet in one field and no key is ever an operator or a path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Field(String);

impl Field {
    /// The field of an application's key.
    pub(crate) fn of_key(name: &str) -> Result<Self, Error> {
        check(name)?;
        if name.is_empty() {
            return Err(Error::BadKey);
        }
        let mut field = String::with_capacity(name.len());
        let rest = match name.strip_prefix('$') {
            Some(rest) => {
                field.push_str("%24");
                rest
            }
            None if name.starts_with(FLASH) || name.starts_with(LEGACY_CSRF) => {
                field.push_str("%5F");
                &name[1..]
            }
            None => name,
        };
        escape(rest, &mut field);
        Ok(Field(field))
    }

    /// The field of a flash queue; the default queue's name is empty, as with the ancestor.
    pub(crate) fn of_queue(name: &str) -> Result<Self, Error> {
        check(name)?;
        let mut field = String::from(FLASH);
        escape(name, &mut field);
        Ok(Field(field))
    }

    /// A field as it stands in a document that we stored.
    pub(crate) fn stored(name: &str) -> Self {
        Field(name.to_owned())
    }

    /// Whether a stored name can be a field of ours. What somebody else wrote under another name
    /// would be a path or an operator in an update.
    pub(crate) fn is_one(stored: &str) -> bool {
        !stored.is_empty() && !stored.starts_with('$') && !stored.contains('.')
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The application's key that the field holds, or `None` when it is one of the crate's own.
    pub(crate) fn key(stored: &str) -> Option<String> {
        if stored.starts_with(FLASH) || stored.starts_with(LEGACY_CSRF) {
            return None;
        }
        Some(unescape(stored))
    }

    /// How the field is called in a message to the application, cut short: a key may be a client's.
    pub(crate) fn display(&self) -> String {
        const LONGEST: usize = 64;
        let name = Field::key(&self.0).unwrap_or_else(|| unescape(&self.0));
        match name.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}…", &name[..end]),
            None => name,
        }
    }
}

fn check(name: &str) -> Result<(), Error> {
    if name.contains('\0') {
        return Err(Error::BadKey);
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
            // Not written by us: shown as it is.
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

    use super::*;

    #[test]
    fn nothing_that_an_application_names_is_an_operator_a_path_or_ours() {
        for (name, stored) in [
            ("a", "a"),
            ("a.b", "a%2Eb"),
            ("..", "%2E%2E"),
            ("$set", "%24set"),
            ("$", "%24"),
            ("a$b", "a$b"),
            ("$[]", "%24[]"),
            ("%2E", "%252E"),
            ("_f_", "%5Ff_"),
            ("_f_x", "%5Ff_x"),
            ("_csrft_", "%5Fcsrft_"),
            ("_id", "_id"),
            ("__proto__", "__proto__"),
            ("0", "0"),
            ("ключ", "ключ"),
        ] {
            let field = Field::of_key(name).unwrap();
            assert_eq!(field.as_str(), stored);
            assert_eq!(Field::key(stored).as_deref(), Some(name));
        }
    }

    #[test]
    fn the_empty_key_and_nul_are_refused() {
        for name in ["", "\0", "a\0b"] {
            assert!(matches!(Field::of_key(name), Err(Error::BadKey)));
        }
        assert!(Field::of_queue("").is_ok());
        assert!(matches!(Field::of_queue("\0"), Err(Error::BadKey)));
    }

    #[test]
    fn a_flash_queue_is_never_an_application_key() {
        for queue in ["", "x", "a.b", "$x", "%", "_f_"] {
            let field = Field::of_queue(queue).unwrap();
            assert_eq!(Field::key(field.as_str()), None);
            assert!(field.as_str().starts_with(FLASH) && !field.as_str().contains('.'));
        }
    }

    #[test]
    fn a_key_in_a_message_is_cut_to_64_characters() {
        let shown = |name: &str| Field::of_key(name).unwrap().display();
        assert_eq!(shown("a.b"), "a.b");
        assert_eq!(shown(&"é".repeat(64)), "é".repeat(64));
        assert_eq!(shown(&"é".repeat(65)), "é".repeat(64) + "…");
        assert_eq!(shown(&".".repeat(1 << 20)), ".".repeat(64) + "…");
        // And it is escaped where it is said.
        let error = Error::Mismatch {
            key: shown("\u{1b}[31m\n"),
            reason: "it does not fit",
        };
        assert!(!error.to_string().contains(char::is_control), "{error}");
    }

    proptest! {
        #[test]
        fn any_key_round_trips_and_stays_one_component(name in "[^\0]{1,40}") {
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
