//! A limit on how deep a value may nest, enforced while the value is encoded.
//!
//! The encoders recurse, so a value that nests a million levels deep would overflow the stack.
//! [`Limit::apply`] wraps a value so that its serialization fails at the first level that is too
//! deep. The value is serialized once: some types can be serialized only once (an iterator in a
//! `Cell`, for example).

use std::cell::Cell;
use std::fmt;

use serde::Serialize;
use serde::ser::{self, Error, Serializer};

/// Levels of nesting that a value may have. MongoDB promises 100
/// (<https://www.mongodb.com/docs/manual/reference/limits/>).
pub(crate) const MAX_LEVELS: usize = 64;

/// The limit of one value, and whether the value exceeded it.
pub(crate) struct Limit(Cell<bool>);

impl Limit {
    pub(crate) fn new() -> Self {
        Limit(Cell::new(false))
    }

    /// Wraps a value. Serializing it fails where it nests deeper than [`MAX_LEVELS`].
    pub(crate) fn apply<'a, T: ?Sized>(&'a self, value: &'a T) -> Limited<'a, T> {
        let level = Level {
            remaining: MAX_LEVELS,
            exceeded: &self.0,
        };
        Limited { value, level }
    }

    /// Whether a value that was wrapped nests too deep. It is known once the value is serialized.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.0.get()
    }
}

/// How many levels may follow.
#[derive(Clone, Copy)]
struct Level<'a> {
    remaining: usize,
    exceeded: &'a Cell<bool>,
}

impl Level<'_> {
    fn enter<E: Error>(mut self, levels: usize) -> Result<Self, E> {
        let Some(remaining) = self.remaining.checked_sub(levels) else {
            self.exceeded.set(true);
            return Err(E::custom("the value nests too deep"));
        };
        self.remaining = remaining;
        Ok(self)
    }
}

/// A value that is serialized at a level.
pub(crate) struct Limited<'a, T: ?Sized> {
    value: &'a T,
    level: Level<'a>,
}

impl<T: Serialize + ?Sized> Serialize for Limited<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(LimitedSerializer {
            inner: serializer,
            level: self.level,
        })
    }
}

/// Forwards everything to another serializer, and wraps each value inside of a value.
struct LimitedSerializer<'a, S> {
    inner: S,
    level: Level<'a>,
}

/// The serializer of a sequence, map or struct, and the level of its elements.
struct Compound<'a, C> {
    inner: C,
    level: Level<'a>,
}

macro_rules! forward_scalars {
    ($($method:ident: $type:ty),*) => {
        $(fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        })*
    };
}

/// Implements the methods that begin a sequence, map or struct. Each names the type that it returns,
/// and the levels that its encoding adds: a variant is in a map of its own.
macro_rules! forward_compounds {
    ($($method:ident($($name:ident: $type:ty),*) -> $compound:ident, $levels:literal;)*) => {
        $(type $compound = Compound<'a, S::$compound>;

        fn $method(self, $($name: $type),*) -> Result<Self::$compound, S::Error> {
            let level = self.level.enter($levels)?;
            let inner = self.inner.$method($($name),*)?;
            Ok(Compound { inner, level })
        })*
    };
}

impl<'a, S: Serializer> Serializer for LimitedSerializer<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;

    forward_scalars! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32,
        serialize_i64: i64, serialize_i128: i128, serialize_u8: u8, serialize_u16: u16,
        serialize_u32: u32, serialize_u64: u64, serialize_u128: u128, serialize_f32: f32,
        serialize_f64: f64, serialize_char: char, serialize_str: &str, serialize_bytes: &[u8],
        serialize_unit_struct: &'static str
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        // Some(Some(…)) adds no level to the encoding, but it does to the recursion.
        let level = self.level.enter(1)?;
        self.inner.serialize_some(&Limited { value, level })
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let level = self.level;
        self.inner
            .serialize_newtype_struct(name, &Limited { value, level })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let level = self.level.enter(1)?;
        self.inner
            .serialize_newtype_variant(name, index, variant, &Limited { value, level })
    }

    forward_compounds! {
        serialize_seq(length: Option<usize>) -> SerializeSeq, 1;
        serialize_tuple(length: usize) -> SerializeTuple, 1;
        serialize_tuple_struct(name: &'static str, length: usize) -> SerializeTupleStruct, 1;
        serialize_tuple_variant(
            name: &'static str, index: u32, variant: &'static str, length: usize
        ) -> SerializeTupleVariant, 2;
        serialize_map(length: Option<usize>) -> SerializeMap, 1;
        serialize_struct(name: &'static str, length: usize) -> SerializeStruct, 1;
        serialize_struct_variant(
            name: &'static str, index: u32, variant: &'static str, length: usize
        ) -> SerializeStructVariant, 2;
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// Implements the traits that serialize the elements of a value. A method with `name` also takes the
/// name of a field; the trait of such a method also has the method in brackets.
macro_rules! forward_elements {
    ($($trait:ident $([$skip:ident])? { $($method:ident($($name:ident)?))* })*) => {
        $(impl<C: ser::$trait> ser::$trait for Compound<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            $(fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($name: &'static str,)?
                value: &T,
            ) -> Result<(), C::Error> {
                let level = self.level;
                self.inner.$method($($name,)? &Limited { value, level })
            })*

            $(fn $skip(&mut self, name: &'static str) -> Result<(), C::Error> {
                self.inner.$skip(name)
            })?

            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        })*
    };
}

forward_elements! {
    SerializeSeq { serialize_element() }
    SerializeTuple { serialize_element() }
    SerializeTupleStruct { serialize_field() }
    SerializeTupleVariant { serialize_field() }
    SerializeMap { serialize_key() serialize_value() }
    SerializeStruct[skip_field] { serialize_field(name) }
    SerializeStructVariant[skip_field] { serialize_field(name) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Sequences in sequences: this many levels.
    pub(in crate::document) struct Nested(pub(in crate::document) usize);

    impl Serialize for Nested {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq((self.0 > 1).then(|| Nested(self.0 - 1)))
        }
    }

    fn is_within<T: Serialize + ?Sized>(value: &T) -> bool {
        let limit = Limit::new();
        let written = ciborium::into_writer(&limit.apply(value), Vec::new());
        assert_eq!(written.is_err(), limit.is_exceeded());
        written.is_ok()
    }

    #[test]
    fn limit_allows_64_levels_and_refuses_65() {
        assert!(is_within(&7) && is_within("x") && is_within(&Nested(64)));
        assert!(!is_within(&Nested(65)));
    }

    #[test]
    fn limit_stops_a_million_levels_before_the_stack_overflows() {
        assert!(!is_within(&Nested(1_000_000)));
    }
}
