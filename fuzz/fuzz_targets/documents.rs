//! Stored documents: any bytes at all, or a good document with some of its bytes changed.
#![no_main]

use std::sync::{Arc, LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use rocket::async_trait;
use rocket::local::blocking::Client;
use rocket::serde::json::json;
use rocket_mongo_session::store::{
    Created, Document, Durability, Filter, Touch, Update, Updated,
};
use rocket_mongo_session::{Error, Sessions, Store};
use rocket_mongo_session_fuzz::{client, cookie, member, rocket};

/// What every question is answered with.
#[derive(Clone, Default)]
struct Answers(Arc<Mutex<Vec<u8>>>);

impl Answers {
    fn document(&self) -> Document {
        Document::from_bytes(self.0.lock().expect("bytes").clone())
    }

    fn set(&self, bytes: Vec<u8>) {
        *self.0.lock().expect("bytes") = bytes;
    }
}

#[async_trait]
impl Store for Answers {
    async fn load(&self, _: &str) -> Result<Option<Document>, Error> {
        Ok(Some(self.document()))
    }

    async fn create(&self, documents: Vec<Document>, _: Durability) -> Result<Created, Error> {
        for document in documents.iter().take(1) {
            assert!(document.id().is_some());
        }
        let first = documents.into_iter().next();
        self.set(first.map(Document::into_bytes).unwrap_or_default());
        Ok(Created::Stored)
    }

    async fn update(&self, f: Filter, update: Update, _: Durability) -> Result<Updated, Error> {
        let _ = (f.to_bson(), update.to_bson(), f.matches(&self.document()));
        match update.apply(&self.document()) {
            Ok(after) => {
                self.set(after.into_bytes());
                Ok(Updated::Applied)
            }
            Err(misfit) => Err(misfit.into()),
        }
    }

    async fn update_returning(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Option<Document>, Error> {
        let before = self.document();
        self.update(filter, update, durability).await?;
        Ok(Some(before))
    }

    async fn delete(&self, _: Filter) -> Result<bool, Error> {
        Ok(true)
    }

    async fn take(&self, _: Filter) -> Result<Option<Document>, Error> {
        Ok(Some(self.document()))
    }

    fn touch(&self, touch: Touch) {
        let _ = touch.update().apply(&self.document());
    }

    async fn find(&self, filter: Filter, _: u64, _: u32) -> Result<Vec<Document>, Error> {
        let _ = filter.matches(&self.document());
        Ok(vec![self.document()])
    }

    async fn count(&self, _: Filter) -> Result<u64, Error> {
        Ok(1)
    }

    async fn delete_all(&self, _: Filter) -> Result<u64, Error> {
        Ok(0)
    }

    async fn ensure_indexes(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn flush(&self) {}

    fn describe(&self) -> String {
        "arbitrary".into()
    }
}

struct App {
    client: Mutex<Client>,
    answers: Answers,
    cookie: String,
    good: Vec<u8>,
}

static APP: LazyLock<App> = LazyLock::new(|| {
    let answers = Answers::default();
    let settings = json!({ "timeout": false, "max_age": 600, "legacy_ids": true, "max_per_user": 3 });
    let client = client(rocket(Sessions::with_store(answers.clone()), settings));
    let cookie = member(&client.lock().expect("a client"));
    let good = answers.0.lock().expect("bytes").clone();
    App {
        client,
        answers,
        cookie,
        good,
    }
});

fuzz_target!(|data: &[u8]| {
    let App {
        client,
        answers,
        cookie: live,
        good,
    } = &*APP;
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    let document = match kind % 3 {
        // Any bytes, of a length that they admit to or not.
        0 => data.to_vec(),
        // Some bytes of a good one changed.
        1 => {
            let mut document = good.clone();
            for change in data.chunks_exact(3) {
                let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
                let length = document.len();
                document[at % length] = change[2];
            }
            document
        }
        // A good one with more fields at its end.
        _ => {
            let mut document = good[..good.len() - 1].to_vec();
            document.extend_from_slice(data);
            document.push(0);
            let length = document.len() as i32;
            document[..4].copy_from_slice(&length.to_le_bytes());
            document
        }
    };
    let client = client.lock().expect("a client");
    for value in [live.as_str(), "0123456789abcdef0123456789abcdef"] {
        answers.set(document.clone());
        let answer = client.get("/whoami").header(cookie(value)).dispatch();
        assert!(answer.status().code < 500, "{}", answer.status());
        answers.set(document.clone());
        // Not a 5xx either, but where what the store answers makes no sense at all.
        drop(client.post("/everything").header(cookie(value)).dispatch());
    }
});
