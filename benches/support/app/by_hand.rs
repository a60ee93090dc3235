//! The same routes by hand.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime, doc};
use mongodb::options::{Acknowledgment, ClientOptions, WriteConcern};
use mongodb::{Client, Collection};
use rand::TryRng;
use rand::rngs::SysRng;
use rocket::http::{Cookie, CookieJar, SameSite, Status};
use rocket::{Build, Rocket, State, get, routes};
use rocket_mongo_session::mongodb;
use serde::{Deserialize, Serialize};

use super::{Settings, held};

const COOKIE: &str = "session";

/// What a handler needs of the document. The rest is skipped, not built.
#[derive(Deserialize)]
struct Stored {
    value: Value,
    expires: DateTime,
}

#[derive(Serialize, Deserialize)]
struct Value {
    n: i64,
}

/// The document that the session layer stores, field for field.
#[derive(Serialize)]
struct New {
    _id: String,
    created: f64,
    accessed: f64,
    value: Value,
    token: Binary,
    csrf: Binary,
    expires: DateTime,
}

struct Db {
    stored: Collection<Stored>,
    new: Collection<New>,
}

pub async fn routes(rocket: Rocket<Build>, settings: &Settings) -> Rocket<Build> {
    // The options that the session layer's pool has.
    let mut options = ClientOptions::parse(&settings.url)
        .await
        .expect("an address");
    options.max_pool_size = Some(32);
    options.connect_timeout = Some(Duration::from_secs(5));
    options.server_selection_timeout = Some(Duration::from_secs(5));
    if settings.majority {
        let majority = WriteConcern::builder().w(Acknowledgment::Majority);
        options.write_concern = Some(majority.build());
    }
    let client = Client::with_options(options).expect("a client");
    let database = client.default_database().expect("a database's name");
    let db = Db {
        stored: database.collection(&settings.collection),
        new: database.collection(&settings.collection),
    };
    rocket
        .manage(db)
        .mount("/", routes![none, unused, new, read, write])
        .mount("/", held::routes())
}

#[get("/none")]
fn none() -> &'static str {
    "ok"
}

/// Looks for the cookie, and finds none.
#[get("/unused")]
fn unused(jar: &CookieJar<'_>) -> Result<&'static str, Status> {
    match jar.get(COOKIE) {
        None => Ok("ok"),
        Some(_) => Err(Status::BadRequest),
    }
}

#[get("/new")]
async fn new(jar: &CookieJar<'_>, db: &State<Db>) -> Result<&'static str, Status> {
    if jar.get(COOKIE).is_some() {
        return Err(Status::BadRequest);
    }
    let id = URL_SAFE_NO_PAD.encode(draw::<16>()?);
    let now = SystemTime::now();
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let document = New {
        _id: id.clone(),
        created: since.as_secs_f64(),
        accessed: since.as_secs_f64(),
        value: Value { n: 1 },
        token: binary(draw::<32>()?),
        csrf: binary(draw::<32>()?),
        expires: DateTime::from_system_time(now + Duration::from_secs(86_400)),
    };
    db.new.insert_one(&document).await.map_err(unavailable)?;
    jar.add(
        Cookie::build((COOKIE, id))
            .path("/")
            .secure(true)
            .http_only(true)
            .same_site(SameSite::Lax),
    );
    Ok("1")
}

#[get("/read")]
async fn read(jar: &CookieJar<'_>, db: &State<Db>) -> Result<String, Status> {
    let (_, stored) = load(jar, db).await?;
    Ok(stored.value.n.to_string())
}

#[get("/write")]
async fn write(jar: &CookieJar<'_>, db: &State<Db>) -> Result<String, Status> {
    let (id, stored) = load(jar, db).await?;
    let n = stored.value.n + 1;
    let update = db
        .stored
        .update_one(doc! { "_id": id }, doc! { "$set": { "value.n": n } });
    let updated = update.await.map_err(unavailable)?;
    match updated.matched_count {
        0 => Err(Status::Unauthorized),
        _ => Ok(n.to_string()),
    }
}

async fn load<'a>(jar: &'a CookieJar<'_>, db: &Db) -> Result<(&'a str, Stored), Status> {
    let id = jar.get(COOKIE).map(Cookie::value);
    let id = id.filter(|id| id.len() == 22).ok_or(Status::Unauthorized)?;
    let found = db.stored.find_one(doc! { "_id": id });
    let stored = found.await.map_err(unavailable)?;
    let alive = stored.filter(|stored| stored.expires >= DateTime::now());
    Ok((id, alive.ok_or(Status::Unauthorized)?))
}

fn draw<const N: usize>() -> Result<[u8; N], Status> {
    let mut bytes = [0; N];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|_| Status::InternalServerError)?;
    Ok(bytes)
}

fn binary(bytes: [u8; 32]) -> Binary {
    Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.into(),
    }
}

fn unavailable(_: mongodb::error::Error) -> Status {
    Status::ServiceUnavailable
}
