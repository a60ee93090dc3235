//! Sessions in the application's own MongoDB pool: one client for both, and one error type.
//!
//! It needs a MongoDB, such as `docker run --rm -p 27017:27017 mongo:7.0`:
//!
//! ```sh
//! export ROCKET_DATABASES='{main={url="mongodb://localhost:27017/my_app"}}'
//! cargo run --example shared_pool
//! ```
//!
//! Then, in another terminal, as often as you like:
//!
//! ```sh
//! curl -c jar -b jar http://127.0.0.1:8000/
//! ```

#[macro_use]
extern crate rocket;

use rocket::http::Status;
use rocket_db_pools::{Connection, Database};
use rocket_mongo_session::mongodb::bson::{Document, doc};
use rocket_mongo_session::mongodb::options::ReturnDocument;
use rocket_mongo_session::{Error, Key, MongoPool, Session, Sessions, mongodb};

/// `[default.databases.main]` in Rocket.toml.
#[derive(Database)]
#[database("main")]
struct Main(MongoPool);

/// The error type of the handlers, which can use `?` on errors of both.
#[derive(Responder)]
enum Failure {
    Session(Error),
    Database(Status),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Session(error) // logs itself and responds with its own status
    }
}

impl From<mongodb::error::Error> for Failure {
    fn from(error: mongodb::error::Error) -> Self {
        error!("The database failed: {error}");
        Failure::Database(Status::ServiceUnavailable)
    }
}

const VIEWS: Key<i64> = Key::new("views");

/// Counts a view in the application's own collection, in the database that the URL names.
async fn count_view(client: &mongodb::Client) -> Result<i64, Failure> {
    let Some(database) = client.default_database() else {
        error!("`databases.main.url` names no database: mongodb://host:port/NAME");
        return Err(Failure::Database(Status::InternalServerError));
    };
    let page = database
        .collection::<Document>("pages")
        .find_one_and_update(doc! { "_id": "index" }, doc! { "$inc": { "views": 1_i64 } })
        .upsert(true)
        .return_document(ReturnDocument::After)
        .await?;
    let views = page.and_then(|page| page.get_i64("views").ok());
    views.ok_or_else(|| {
        error!("The page's `views` is not a number.");
        Failure::Database(Status::InternalServerError)
    })
}

#[get("/")]
async fn index(main: Connection<Main>, session: &Session) -> Result<String, Failure> {
    let mine = session.increment(VIEWS, 1)?;
    let all = count_view(&main).await?;
    Ok(format!("{all} views, {mine} of them by you\n"))
}

#[launch]
fn rocket() -> _ {
    rocket::build()
        .attach(Main::init())
        .attach(Sessions::in_database::<Main>())
        .mount("/", routes![index])
}
