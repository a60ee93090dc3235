//! What is in the database: documents, their changes, and the indexes.

mod changes;
mod fields;
mod indexes;
mod malformed;
