//! How deep a value nests, found before it is encoded: the encoders recurse, this stops in time.

use std::fmt;

use serde::Serialize;
use serde::ser::{self, Serializer};

/// Levels of nesting that a value may have. MongoDB promises 100.
pub(crate) const LIMIT: usize = 64;

/// Whether the value nests no deeper than [`LIMIT`]. An error of its own `Serialize` counts as
/// shallow: the encoder will meet it again and say more.
pub(crate) fn is_within<T: Serialize + ?Sized>(value: &T) -> bool {
    !matches!(value.serialize(Level(LIMIT)), Err(Stop::TooDeep))
}

/// A serializer that writes nothing and counts down the levels that are left.
#[derive(Clone, Copy)]
struct Level(usize);

#[derive(Debug)]
enum Stop {
    TooDeep,
    Custom,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped")
    }
}

impl std::error::Error for Stop {}

impl ser::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Stop::Custom
    }
}

impl Level {
    fn enter(self) -> Result<Inside, Stop> {
        self.0
            .checked_sub(1)
            .map_or(Err(Stop::TooDeep), |left| Ok(Inside(Level(left))))
    }
}

/// The inside of a sequence, map or struct.
struct Inside(Level);

macro_rules! leaves {
    ($($method:ident: $type:ty),*) => {
        $(fn $method(self, _: $type) -> Result<(), Stop> { Ok(()) })*
    };
}

impl Serializer for Level {
    type Ok = ();
    type Error = Stop;
    type SerializeSeq = Inside;
    type SerializeTuple = Inside;
    type SerializeTupleStruct = Inside;
    type SerializeTupleVariant = Inside;
    type SerializeMap = Inside;
    type SerializeStruct = Inside;
    type SerializeStructVariant = Inside;

    leaves! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32,
        serialize_i64: i64, serialize_i128: i128, serialize_u8: u8, serialize_u16: u16,
        serialize_u32: u32, serialize_u64: u64, serialize_u128: u128, serialize_f32: f32,
        serialize_f64: f64, serialize_char: char, serialize_str: &str, serialize_bytes: &[u8],
        serialize_unit_struct: &'static str
    }

    fn serialize_none(self) -> Result<(), Stop> {
        Ok(())
    }

    fn serialize_unit(self) -> Result<(), Stop> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &str, _: u32, _: &str) -> Result<(), Stop> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Stop> {
        // Some(Some(…)) adds no level to the encoding, but it does to the recursion.
        value.serialize(self.enter()?.0)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Stop> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Stop> {
        value.serialize(self.enter()?.0)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Inside, Stop> {
        self.enter()
    }

    fn serialize_tuple(self, _: usize) -> Result<Inside, Stop> {
        self.enter()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Inside, Stop> {
        self.enter()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Inside, Stop> {
        self.enter()?.0.enter()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Inside, Stop> {
        self.enter()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Inside, Stop> {
        self.enter()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Inside, Stop> {
        self.enter()?.0.enter()
    }

    fn is_human_readable(&self) -> bool {
        true
    }
}

// The seven compound traits differ in the names of their methods only.
macro_rules! inside {
    ($($compound:ident { $method:ident $(, $key:ty)? })*) => {
        $(impl ser::$compound for Inside {
            type Ok = ();
            type Error = Stop;
            fn $method<T: Serialize + ?Sized>(&mut self, $(_: $key,)? value: &T) -> Result<(), Stop> {
                value.serialize(self.0)
            }
            fn end(self) -> Result<(), Stop> { Ok(()) }
        })*
    };
}

inside! {
    SerializeSeq { serialize_element }
    SerializeTuple { serialize_element }
    SerializeTupleStruct { serialize_field }
    SerializeTupleVariant { serialize_field }
    SerializeStruct { serialize_field, &'static str }
    SerializeStructVariant { serialize_field, &'static str }
}

impl ser::SerializeMap for Inside {
    type Ok = ();
    type Error = Stop;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Stop> {
        key.serialize(self.0)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        value.serialize(self.0)
    }

    fn end(self) -> Result<(), Stop> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nest(usize);

    impl Serialize for Nest {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq;
            let mut seq = serializer.serialize_seq(Some(1))?;
            if self.0 > 1 {
                seq.serialize_element(&Nest(self.0 - 1))?;
            }
            seq.end()
        }
    }

    #[test]
    fn sixty_four_levels_are_within_and_one_more_is_not() {
        assert!(is_within(&7) && is_within("x") && is_within(&Nest(64)));
        assert!(!is_within(&Nest(65)));
    }

    #[test]
    fn a_value_of_a_million_levels_ends_no_stack() {
        assert!(!is_within(&Nest(1_000_000)));
    }
}
