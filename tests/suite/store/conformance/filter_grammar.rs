//! Every filter has the shape that `Filter` documents, so that a store may read it.

use std::time::Duration;

use mongodb::bson::{Bson, Document as Query};
use rocket::async_trait;
use rocket::http::Status;
use rocket::local::asynchronous::Client;
use rocket::{get, post, routes};
use rocket_mongo_session::store::{
    Aged, Document, Durability, Filter, Inserted, Order, TimeSource, Touch, Update, Updated, Watch,
};
use rocket_mongo_session::testing::{Clock, conformance};
use rocket_mongo_session::{Error, MemoryStore, Result, Session, Sessions, Store};

/// Looks at what it is asked before it answers.
#[derive(Default)]
struct Strict(MemoryStore);

/// Panics unless the filter is one that the documentation of `Filter` describes.
#[track_caller]
fn look(filter: &Filter, names_one: bool) {
    let bytes = filter.to_bson();
    let query = Query::from_reader(bytes.as_slice()).expect("a query");
    let mut conditions: Vec<(&String, &Bson)> = query.iter().collect();
    if let Some(more) = query.get("$and") {
        conditions.retain(|(path, _)| *path != "$and");
        for another in more.as_array().expect("a list") {
            let another = another.as_document().expect("a query");
            assert_eq!(another.len(), 1, "{query}");
            let path = another.keys().next().expect("a path");
            assert!(query.contains_key(path), "{path} occurs once in {query}");
            conditions.extend(another);
        }
    }
    for (path, condition) in &conditions {
        assert!(
            is_documented(path, condition),
            "{path}: {condition} in {query}"
        );
    }
    let ids: Vec<&str> = conditions
        .iter()
        .filter(|(path, _)| *path == "_id")
        .filter_map(|(_, condition)| condition.as_str())
        .collect();
    assert_eq!(filter.wanted_id(), ids.first().copied(), "{query}");
    assert!(ids.len() == 1 || !names_one, "{query} names no document");
}

fn is_documented(path: &str, condition: &Bson) -> bool {
    // The one operator of a condition, and what it is given.
    let operator = condition
        .as_document()
        .filter(|condition| condition.len() == 1);
    let operator = operator.and_then(|condition| condition.iter().next());
    let operator = operator.map(|(operator, operand)| (operator.as_str(), operand));
    let is_name = |path: &str| {
        let name = path.strip_prefix("value.");
        name.is_some_and(|name| !name.is_empty() && !name.contains('.') && !name.starts_with('$'))
    };
    match (path, operator) {
        ("_id", None) => condition.as_str().is_some(),
        ("_id", Some(("$in", Bson::Array(ids)))) => ids.iter().all(|id| id.as_str().is_some()),
        ("_id", Some(("$ne" | "$gt", Bson::String(_)))) => true,
        ("_id", Some(("$lt", Bson::String(end)))) => end == "~",
        ("token" | "user" | "by" | "epoch" | "generation", Some(("$eq", value))) => {
            !matches!(value, Bson::Null | Bson::Array(_))
        }
        ("token", Some(("$in", Bson::Array(either)))) => {
            matches!(either.as_slice(), [Bson::Null, value] if *value != Bson::Null)
        }
        ("expires", Some(("$gte" | "$lt", Bson::DateTime(_)))) => true,
        ("expires", Some(("$not", Bson::Document(not)))) => {
            let first = mongodb::bson::DateTime::from_millis(i64::MIN);
            not.len() == 1
                && (not.get_datetime("$gte") == Ok(&first) || not.get_datetime("$lt").is_ok())
        }
        ("seal", Some(("$exists", Bson::Boolean(false)))) => true,
        ("accessed", Some(("$lt", Bson::Double(_)))) => true,
        ("$expr", Some(("$eq", Bson::Array(both)))) => match both.as_slice() {
            [Bson::String(path), Bson::Document(literal)] => {
                path.strip_prefix('$').is_some_and(is_name)
                    && literal.len() == 1
                    && literal.contains_key("$literal")
            }
            _ => false,
        },
        (path, Some(("$exists", Bson::Boolean(false)))) => is_name(path),
        _ => false,
    }
}

#[async_trait]
impl Store for Strict {
    async fn insert(&self, documents: Vec<Document>, durability: Durability) -> Result<Inserted> {
        self.0.insert(documents, durability).await
    }

    async fn update(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Updated> {
        look(&filter, true);
        self.0.update(filter, update, durability).await
    }

    async fn delete(&self, filter: Filter) -> Result<bool> {
        look(&filter, true);
        self.0.delete(filter).await
    }

    async fn take(&self, filter: Filter) -> Result<Option<Document>> {
        look(&filter, true);
        self.0.take(filter).await
    }

    async fn load_many(&self, ids: Vec<String>) -> Result<Vec<Document>> {
        self.0.load_many(ids).await
    }

    async fn ages(&self, ids: Vec<String>) -> Result<Vec<Aged>> {
        self.0.ages(ids).await
    }

    async fn put_revocation(&self, id: &str) -> Result<()> {
        self.0.put_revocation(id).await
    }

    async fn times(&self, ids: Vec<String>, is_final: bool) -> Result<Vec<Document>> {
        self.0.times(ids, is_final).await
    }

    fn watch(&self) -> Box<dyn Watch> {
        self.0.watch()
    }

    fn time_source(&self) -> TimeSource {
        self.0.time_source()
    }

    fn touch(&self, touch: Touch) {
        self.0.touch(touch);
    }

    async fn estimated_count(&self) -> Result<u64> {
        self.0.estimated_count().await
    }

    async fn find(
        &self,
        filter: Filter,
        order: Order,
        skip: u64,
        limit: u32,
    ) -> Result<Vec<Document>> {
        look(&filter, false);
        self.0.find(filter, order, skip, limit).await
    }

    async fn count(&self, filter: Filter) -> Result<u64> {
        look(&filter, false);
        self.0.count(filter).await
    }

    async fn delete_all(&self, filter: Filter) -> Result<u64> {
        look(&filter, false);
        self.0.delete_all(filter).await
    }

    async fn ensure_indexes(&self) -> Result<()> {
        self.0.ensure_indexes().await
    }

    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }

    async fn flush(&self) {
        self.0.flush().await;
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

#[rocket::async_test]
async fn every_filter_of_the_suite_has_the_documented_shape() {
    conformance::run(async || Strict::default()).await;
}

#[post("/login")]
fn login(session: &Session) -> Result<(), Error> {
    session.login(7)
}

#[post("/everything")]
async fn everything(session: &Session) -> Result<(), Error> {
    session.set("a.b", "text")?;
    session.push("list", &1)?;
    session.increment("number", 1)?;
    session.flash("message")?;
    session.save().await?;
    let add = |number: Option<i64>| number.unwrap_or(0) + 1;
    session.modify("number", add).await?;
    session.modify("fresh", add).await?;
    session.pop_flash::<String>().await?;
    session.renew()?;
    session.save().await?;
    session.elevate()
}

#[post("/out")]
fn out(session: &Session) -> Result<(), Error> {
    session.logout()
}

/// An elevation whose session ends on the way.
#[post("/lost")]
async fn lost(session: &Session, sessions: &Sessions) -> Result<(), Error> {
    let id = session.id().expect("a session");
    session.elevate()?;
    sessions.revoke(&id).await.map(drop)
}

#[get("/administer")]
async fn administer(session: &Session, sessions: &Sessions) -> Result<(), Error> {
    let id = session.id().expect("a session");
    sessions.count().await?;
    sessions.of(7).count().await?;
    sessions.of(7).list(0, 10).await?;
    sessions.revoke_others(session).await?;
    sessions.of(8).revoke(&id).await?;
    sessions.purge_expired().await?;
    sessions.revoke(&id).await?;
    sessions.of(7).revoke_all().await?;
    sessions.revoke_all().await?;
    Ok(())
}

#[rocket::async_test]
async fn every_filter_of_an_application_has_the_documented_shape() {
    let clock = Clock::new();
    let figment = rocket::Config::figment()
        .merge(("log_level", "critical"))
        .merge(("session.max_per_user", 1));
    let rocket = rocket::custom(figment)
        .attach(Sessions::with_store(Strict::default()).with_clock(&clock))
        .mount("/", routes![login, everything, out, lost, administer]);
    let client = Client::tracked(rocket).await.expect("a rocket");
    let post = async |path: &'static str| {
        let status = client.post(path).dispatch().await.status();
        assert_eq!(status, Status::Ok, "{path}");
    };
    post("/login").await;
    post("/everything").await;
    // Late enough for a touch, and for a cookie that names a session which is over.
    clock.advance(Duration::from_secs(60));
    post("/everything").await;
    let cookie = client.cookies().get("session").cloned();
    post("/out").await;
    let late = client.post("/everything").cookie(cookie.expect("a cookie"));
    assert_eq!(late.dispatch().await.status(), Status::Ok);
    post("/login").await;
    post("/lost").await;
    post("/login").await;
    post("/login").await;
    let status = client.get("/administer").dispatch().await.status();
    assert_eq!(status, Status::Ok);
}
