//! Sessions in the application's own MongoDB pool: one client for both.
//!
//! It needs a MongoDB:
//!
//! ```sh
//! export ROCKET_DATABASES='{main={url="mongodb://localhost:27017/my_app"}}'
//! cargo run --example shared_pool
//! ```
//!
//! ```sh
//! curl -c jar -b jar http://127.0.0.1:8000/hello
//! curl -c jar -b jar http://127.0.0.1:8000/hello
//! ```

#[macro_use]
extern crate rocket;

use rocket_db_pools::{Connection, Database};
use rocket_mongo_session::mongodb::bson::{Document, doc};
use rocket_mongo_session::mongodb::options::ReturnDocument;
use rocket_mongo_session::{Error, MongoPool, Session, Sessions, mongodb};

/// `[default.databases.main]` in Rocket.toml.
#[derive(Database)]
#[database("main")]
struct Main(MongoPool);

/// The application's own collection, in the database that the URL names.
async fn count(client: &mongodb::Client, page: &str) -> mongodb::error::Result<i64> {
    let Some(database) = client.default_database() else {
        return Ok(0);
    };
    let counted = database
        .collection::<Document>("pages")
        .find_one_and_update(doc! { "_id": page }, doc! { "$inc": { "views": 1_i64 } })
        .upsert(true)
        .return_document(ReturnDocument::After)
        .await?;
    Ok(counted
        .and_then(|page| page.get_i64("views").ok())
        .unwrap_or(0))
}

#[get("/<page>")]
async fn view(page: &str, main: Connection<Main>, session: &Session) -> Result<String, Error> {
    let mine = session.increment(page, 1)?;
    let all = count(&main, page)
        .await
        .map_err(|error| Error::store("counting a page", error))?;
    Ok(format!(
        "{page} was viewed {all} times, {mine} of them by you\n"
    ))
}

#[launch]
fn rocket() -> _ {
    rocket::build()
        .attach(Main::init())
        .attach(Sessions::in_database::<Main>())
        .mount("/", routes![view])
}
