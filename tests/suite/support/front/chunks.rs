//! Where documents are, by the config server's word.

use std::collections::BTreeMap;

use bson::{Bson, Document, doc};

/// Where the documents of a collection are.
pub(in super::super) struct Chunks {
    /// The least hash of each chunk, in order, and its shard.
    pub(in super::super) all: Vec<(i64, String)>,
    /// The bounds of each, as the config server has them.
    pub(in super::super) bounds: Vec<(Document, Document)>,
    /// What a shard must know to carry out a command.
    pub(super) versions: BTreeMap<String, Document>,
    pub(in super::super) epoch: Bson,
    pub(in super::super) timestamp: Bson,
}

impl Chunks {
    /// From the config server's documents.
    pub(in super::super) fn new(
        collection: &Document,
        mut chunks: Vec<Document>,
    ) -> Option<Chunks> {
        let mut read = Chunks {
            all: Vec::new(),
            bounds: Vec::new(),
            versions: BTreeMap::new(),
            epoch: collection.get("lastmodEpoch")?.clone(),
            timestamp: collection.get("timestamp")?.clone(),
        };
        // The version of a shard is that of its newest chunk.
        chunks.sort_by_key(|chunk| chunk.get_timestamp("lastmod").ok());
        for chunk in &chunks {
            let version =
                doc! { "e": &read.epoch, "t": &read.timestamp, "v": chunk.get("lastmod")? };
            let shard = chunk.get_str("shard").ok()?.to_owned();
            read.versions.insert(shard, version);
        }
        let least = |chunk: &Document| {
            let hash = chunk.get_document("min").and_then(|min| min.get_i64("_id"));
            hash.unwrap_or(i64::MIN) // MinKey
        };
        chunks.sort_by_key(least);
        for chunk in &chunks {
            let bound = |name| chunk.get_document(name).cloned().ok();
            read.bounds.push((bound("min")?, bound("max")?));
            let shard = chunk.get_str("shard").ok()?.to_owned();
            read.all.push((least(chunk), shard));
        }
        (!read.all.is_empty()).then_some(read)
    }

    /// The place of the chunk that has this hash.
    pub(in super::super) fn position(&self, hash: i64) -> usize {
        let after = self.all.partition_point(|(least, _)| *least <= hash);
        after.saturating_sub(1)
    }

    /// The shard of this hash.
    pub(super) fn shard(&self, hash: i64) -> &str {
        &self.all[self.position(hash)].1
    }
}

/// The documents of a reply that has them all in its first batch.
pub(in super::super) fn batch(reply: &Document) -> Vec<Document> {
    let cursor = reply.get_document("cursor").ok();
    let batch = cursor.and_then(|cursor| cursor.get_array("firstBatch").ok());
    let documents = batch.into_iter().flatten().filter_map(Bson::as_document);
    documents.cloned().collect()
}

/// The hashes of `_id`s, as the shards have them.
pub(in super::super) fn hashes_of(ids: &[String]) -> Document {
    let ids = ids.iter().map(|id| doc! { "id": { "$literal": id } });
    let ids: Vec<Document> = ids.collect();
    let batch = doc! { "batchSize": ids.len() as i32 + 1 };
    let hash = doc! { "hash": { "$toHashedIndexKey": "$id" } };
    doc! { "aggregate": 1, "pipeline": [{ "$documents": ids }, { "$project": hash }], "cursor": batch }
}

/// The config server's documents of a collection, and of its chunks.
pub(in super::super) fn find_collection(namespace: &str) -> Document {
    config_find("collections", doc! { "_id": namespace })
}

pub(in super::super) fn find_chunks(collection: &Document) -> Document {
    config_find(
        "chunks",
        doc! { "uuid": collection.get("uuid").cloned().unwrap_or(Bson::Null) },
    )
}

pub(super) fn config_find(collection: &str, filter: Document) -> Document {
    let concern = doc! { "level": "majority" };
    doc! { "find": collection, "filter": filter, "batchSize": 1000, "readConcern": concern }
}
