//! The replies of several shards as one.

use std::collections::BTreeMap;

use bson::{Bson, Document, doc};

use super::{Reply, code, is_stale};

/// The reply to the statements of a write, from those of the shards.
#[derive(Default)]
pub(super) struct Merged {
    counts: BTreeMap<&'static str, i32>,
    pub(super) errors: Vec<Document>,
    concerns: Vec<Document>,
    retried: Vec<Bson>,
}

impl Merged {
    /// Takes the reply to the statements at these places; those that have to be sent elsewhere.
    pub(super) fn add(&mut self, part: &[usize], reply: Reply, is_ordered: bool) -> Vec<usize> {
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) if is_stale(&error) => return part.to_vec(),
            Err(error) => {
                let failed = if is_ordered { &part[..1] } else { part };
                self.errors.extend(failed.iter().map(|&at| {
                    doc! { "index": at as i32, "code": code(&error), "errmsg": "the shard refused" }
                }));
                return Vec::new();
            }
        };
        for name in ["n", "nModified"] {
            if let Ok(count) = reply.get_i32(name) {
                *self.counts.entry(name).or_default() += count;
            }
        }
        let list = |name| reply.get_array(name).cloned().unwrap_or_default();
        self.retried.extend(list("retriedStmtIds"));
        self.concerns
            .extend(reply.get_document("writeConcernError").cloned());
        let mut again = Vec::new();
        for error in list("writeErrors") {
            let mut error = error.as_document().cloned().unwrap_or_default();
            let index = error.get_i32("index").unwrap_or_default() as usize;
            match is_stale(&error) {
                // It ended an ordered command.
                true if is_ordered => again.extend(&part[index..]),
                true => again.push(part[index]),
                false => {
                    error.insert("index", part[index] as i32);
                    self.errors.push(error);
                }
            }
        }
        again
    }

    pub(super) fn reply(mut self) -> Document {
        let mut reply = Document::new();
        reply.extend(
            self.counts
                .into_iter()
                .map(|(name, count)| (name.to_owned(), count.into())),
        );
        self.errors
            .sort_by_key(|error| error.get_i32("index").unwrap_or_default());
        if !self.errors.is_empty() {
            reply.insert("writeErrors", self.errors);
        }
        if !self.retried.is_empty() {
            reply.insert("retriedStmtIds", self.retried);
        }
        if let Some(concern) = self.concerns.pop() {
            reply.insert("writeConcernError", concern);
        }
        reply.insert("ok", 1.0);
        reply
    }
}
