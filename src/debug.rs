//! `Debug` for types that hold secrets, values of users, or handles whose own `Debug` can show
//! credentials: it prints the type's name alone.

macro_rules! opaque_debug {
    ($type:ident $(<$lifetime:lifetime>)?) => {
        /// Prints the type's name alone: what it holds must not be printed.
        impl std::fmt::Debug for $type $(<$lifetime>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($type)).finish_non_exhaustive()
            }
        }
    };
}

pub(crate) use opaque_debug;
