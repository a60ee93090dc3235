//! An audit trail: what happens to sessions, in any process, written to a collection.
//!
//! Events need a replica set, and one member is enough:
//!
//! ```sh
//! mkdir -p /tmp/rs && mongod --replSet rs --dbpath /tmp/rs &
//! mongosh --eval 'rs.initiate()'
//! ROCKET_DATABASES='{sessions={url="mongodb://localhost/audit?replicaSet=rs"}}' \
//!   cargo run --example audit_trail
//! curl -X POST http://127.0.0.1:8000/login/7
//! mongosh audit --eval 'db.trail.find()'
//! ```

#[macro_use]
extern crate rocket;

use rocket::fairing::AdHoc;
use rocket::futures::StreamExt;
use rocket_db_pools::Database;
use rocket_mongo_session::mongodb::bson::{DateTime, Document, doc};
use rocket_mongo_session::mongodb::{self, Collection};
use rocket_mongo_session::{Error, MongoPool, Session, Sessions};

#[derive(Database)]
#[database("sessions")]
struct Db(MongoPool);

/// Writes every event until the application shuts down. One process of an application is enough.
async fn write(
    sessions: Sessions,
    trail: Collection<Document>,
) -> Result<(), mongodb::error::Error> {
    let mut events = sessions.events();
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                error!("no audit trail: {error}");
                break;
            }
        };
        let user: Option<i64> = event.user().unwrap_or_default();
        let millis = event.at.unix_timestamp_nanos() / 1_000_000;
        let at = DateTime::from_millis(i64::try_from(millis).unwrap_or_default());
        // `Missed` is written, too: a gap in the trail must be seen.
        let kind = format!("{:?}", event.kind);
        trail
            .insert_one(doc! { "at": at, "session": event.id, "user": user, "kind": kind })
            .await?;
    }
    Ok(())
}

#[post("/login/<user_id>")]
fn login(session: &Session, user_id: i64) -> Result<&'static str, Error> {
    session.login(user_id)?;
    Ok("signed in\n")
}

#[launch]
fn rocket() -> _ {
    rocket::build()
        .attach(Db::init())
        .attach(Sessions::in_database::<Db>())
        .attach(AdHoc::on_liftoff("Audit Trail", |rocket| {
            Box::pin(async move {
                let (Some(sessions), Some(db)) = (rocket.state::<Sessions>(), Db::fetch(rocket))
                else {
                    return;
                };
                let database = db
                    .default_database()
                    .unwrap_or_else(|| db.database("audit"));
                let (sessions, trail) = (sessions.clone(), database.collection("trail"));
                rocket::tokio::spawn(async move {
                    if let Err(error) = write(sessions, trail).await {
                        error!("the audit trail has stopped: {error}");
                    }
                });
            })
        }))
        .mount("/", routes![login])
}
