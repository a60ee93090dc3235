//! Which types of users have logged in: `login(7)` and `of("7")` are about two users, which only a
//! warning can show.

use std::sync::atomic::{AtomicU32, Ordering};

use bson::RawBson;
use bson::spec::BinarySubtype;

/// The types of users that logged in through this process.
#[derive(Default)]
pub(crate) struct PrincipalTypes {
    used: AtomicU32,
    warned: AtomicU32,
}

impl PrincipalTypes {
    /// Notes the type of a user who logs in.
    pub(crate) fn note(&self, user: &RawBson) {
        let (bit, _) = kind(user);
        if self.used.load(Ordering::Relaxed) & bit == 0 {
            self.used.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Warns, once for each type, when every login of this process had a user of another type.
    pub(crate) fn warn_if_unused(&self, user: &RawBson) {
        let (bit, name) = kind(user);
        if self.is_news(bit) {
            rocket::warn!(
                "Sessions: `of(user)` was given a {name}, but no login of this process had a user of \
                 that type; `login(7)` and `of(\"7\")` are two users"
            );
        }
    }

    fn is_news(&self, bit: u32) -> bool {
        let used = self.used.load(Ordering::Relaxed);
        used != 0 && used & bit == 0 && self.warned.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}

/// A bit for the type, and its name. Numbers are one type: the database compares their values.
fn kind(user: &RawBson) -> (u32, &'static str) {
    match user {
        RawBson::Int32(_) | RawBson::Int64(_) | RawBson::Double(_) | RawBson::Decimal128(_) => {
            (1, "number")
        }
        RawBson::String(_) => (1 << 1, "string"),
        RawBson::ObjectId(_) => (1 << 2, "ObjectId"),
        RawBson::Boolean(_) => (1 << 3, "boolean"),
        RawBson::DateTime(_) => (1 << 4, "date"),
        RawBson::Document(_) => (1 << 5, "document"),
        RawBson::Binary(binary) if binary.subtype == BinarySubtype::Uuid => (1 << 6, "UUID"),
        RawBson::Binary(_) => (1 << 7, "binary value"),
        _ => (1 << 8, "value of another type"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_warns_once_of_a_type_that_no_login_had() {
        let types = PrincipalTypes::default();
        let (number, _) = kind(&RawBson::Int64(7));
        let (text, _) = kind(&RawBson::String("7".into()));
        assert!(
            !types.is_news(text),
            "no user has logged in, so nothing is known"
        );
        types.note(&RawBson::Int32(7));
        assert!(!types.is_news(number), "numbers are one type");
        assert!(types.is_news(text));
        assert!(!types.is_news(text), "said once");
        types.note(&RawBson::String("bob".into()));
        let (object, _) = kind(&RawBson::ObjectId(bson::oid::ObjectId::new()));
        assert!(types.is_news(object));
    }
}
