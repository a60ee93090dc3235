//! A store with something around each of its operations: a turn to wait for, others to let go first.

use rocket::async_trait;
use rocket_mongo_session::Result;
use rocket_mongo_session::store::{
    Aged, Document, Durability, Filter, Inserted, Order, Store, TimeSource, Touch, Update, Updated,
    Watch,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Load,
    Insert,
    Update,
    Delete,
    Take,
    Find,
    Count,
    DeleteAll,
    PutRevocation,
}

/// What is around an operation.
pub trait Hook: Send + Sync + 'static {
    /// What happens just before these are stored.
    fn creating(&self, _: &[Document]) -> impl Future<Output = ()> + Send {
        async {}
    }

    fn around<T: Send>(
        &self,
        kind: Kind,
        operation: impl Future<Output = T> + Send,
    ) -> impl Future<Output = T> + Send;
}

pub struct Hooked<H> {
    store: Box<dyn Store>,
    hook: H,
}

impl<H: Hook> Hooked<H> {
    pub fn new(store: Box<dyn Store>, hook: H) -> Hooked<H> {
        Hooked { store, hook }
    }
}

#[async_trait]
impl<H: Hook> Store for Hooked<H> {
    fn load_now(&self, id: &str) -> Option<Option<Document>> {
        self.store.load_now(id)
    }

    async fn insert(&self, documents: Vec<Document>, durability: Durability) -> Result<Inserted> {
        let create = async {
            self.hook.creating(&documents).await;
            self.store.insert(documents, durability).await
        };
        self.hook.around(Kind::Insert, create).await
    }

    async fn update(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Updated> {
        let update = self.store.update(filter, update, durability);
        self.hook.around(Kind::Update, update).await
    }

    async fn delete(&self, filter: Filter) -> Result<bool> {
        let delete = self.store.delete(filter);
        self.hook.around(Kind::Delete, delete).await
    }

    async fn take(&self, filter: Filter) -> Result<Option<Document>> {
        self.hook.around(Kind::Take, self.store.take(filter)).await
    }

    async fn load_many(&self, ids: Vec<String>) -> Result<Vec<Document>> {
        let is_of_epoch = ids == ["~epoch"];
        let load = self.store.load_many(ids);
        match is_of_epoch {
            true => load.await, // beside the work of requests, once a second
            false => self.hook.around(Kind::Load, load).await,
        }
    }

    async fn ages(&self, ids: Vec<String>) -> Result<Vec<Aged>> {
        self.hook.around(Kind::Find, self.store.ages(ids)).await
    }

    async fn put_revocation(&self, id: &str) -> Result<()> {
        let put = self.store.put_revocation(id);
        self.hook.around(Kind::PutRevocation, put).await
    }

    async fn times(&self, ids: Vec<String>, is_final: bool) -> Result<Vec<Document>> {
        self.store.times(ids, is_final).await
    }

    fn watch(&self) -> Box<dyn Watch> {
        self.store.watch()
    }

    fn time_source(&self) -> TimeSource {
        self.store.time_source()
    }

    fn touch(&self, touch: Touch) {
        self.store.touch(touch);
    }

    async fn find(
        &self,
        filter: Filter,
        order: Order,
        skip: u64,
        limit: u32,
    ) -> Result<Vec<Document>> {
        let find = self.store.find(filter, order, skip, limit);
        self.hook.around(Kind::Find, find).await
    }

    async fn estimated_count(&self) -> Result<u64> {
        let count = self.store.estimated_count();
        self.hook.around(Kind::Count, count).await
    }

    async fn count(&self, filter: Filter) -> Result<u64> {
        let count = self.store.count(filter);
        self.hook.around(Kind::Count, count).await
    }

    async fn delete_all(&self, filter: Filter) -> Result<u64> {
        let delete = self.store.delete_all(filter);
        self.hook.around(Kind::DeleteAll, delete).await
    }

    async fn ensure_indexes(&self) -> Result<()> {
        self.store.ensure_indexes().await
    }

    async fn ping(&self) -> Result<()> {
        self.store.ping().await
    }

    async fn flush(&self) {
        self.store.flush().await;
    }

    fn describe(&self) -> String {
        self.store.describe()
    }
}
