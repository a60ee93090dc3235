//! The constructors of the session fairing, one for each place where sessions are kept.

#[cfg(feature = "unstable-store")]
use std::sync::Arc;

use rocket_db_pools::Database;

use crate::admin::Sessions;
#[cfg(feature = "unstable-store")]
use crate::store::Store;
use crate::web::backend::Backend;
use crate::web::fairing::SessionFairing;
use crate::web::kind::Kind;
use crate::web::pool::MongoPool;

impl Sessions {
    /// Returns the fairing that is configured by `Rocket.toml`.
    ///
    /// The section `[default.databases.sessions]` names the database, `[default.session]` has every
    /// other key; see [configuration](crate::guide::configuration). Without `databases.sessions.url` the
    /// debug profile keeps sessions in memory and logs that; every other profile refuses to launch.
    /// The pool has 32 connections unless `max_connections` is set.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use rocket::launch;
    /// # use rocket_mongo_session::Sessions;
    /// #[launch]
    /// fn rocket() -> _ {
    ///     rocket::build().attach(Sessions::fairing())
    /// }
    /// ```
    #[must_use]
    pub fn fairing() -> SessionFairing {
        SessionFairing::new(Backend::Toml)
    }

    /// Returns the fairing of a further [`Kind`] of session, configured by `[default.session_NAME]`.
    ///
    /// It is [`fairing`](Sessions::fairing) for that kind, in the same database, with a connection
    /// pool of its own. For another place see
    /// [`SessionFairing::for_kind`]. The example is at [`Kind`].
    #[must_use]
    pub fn fairing_of<K: Kind>() -> SessionFairing {
        Sessions::fairing().for_kind::<K>()
    }

    /// Returns the fairing that keeps sessions in a collection of the application's own client.
    ///
    /// The keys `collection` and `database` in Rocket.toml are ignored. Up to 32 operations run at
    /// once, so set `maxPoolSize=32` in the client's URL (the driver's default is 10), and a server
    /// selection timeout below `deadline` (the driver's default is 30 seconds).
    ///
    /// If you end the client yourself, use `client.shutdown().immediate(true)`: on a replica set the
    /// crate keeps sessions of the driver, for half an hour after the application has ended, and a
    /// plain `shutdown()` waits for them.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use rocket::launch;
    /// use rocket_mongo_session::Sessions;
    /// use rocket_mongo_session::mongodb::{Client, bson::Document};
    ///
    /// #[launch]
    /// async fn rocket() -> _ {
    ///     let url = "mongodb://localhost:27017/?maxPoolSize=32&serverSelectionTimeoutMS=5000";
    ///     let client = Client::with_uri_str(url).await.expect("a MongoDB URL");
    ///     let collection = client.database("my_app").collection::<Document>("session");
    ///     rocket::build().attach(Sessions::in_collection(collection))
    /// }
    /// ```
    #[must_use]
    pub fn in_collection<T: Send + Sync>(collection: mongodb::Collection<T>) -> SessionFairing {
        let sessions = collection.clone_with_type();
        SessionFairing::new(Backend::Collection(sessions))
    }

    /// Returns the fairing that shares the application's own database pool; the example is at
    /// [`MongoPool`].
    ///
    /// Attach `Db::init()` before or after it. `[default.session]` names the collection. The pool's
    /// `max_connections` holds, by default 4 for each of Rocket's `workers`.
    #[must_use]
    #[doc(alias = "share a connection pool")]
    pub fn in_database<Db: Database<Pool = MongoPool>>() -> SessionFairing {
        SessionFairing::new(Backend::Database {
            name: Db::NAME,
            find_pool: |rocket| rocket.state::<Db>().map(|db| MongoPool::clone(db)),
        })
    }

    /// Returns the fairing that keeps sessions in the memory of this process in every profile, for
    /// tests.
    ///
    /// # Examples
    ///
    /// ```
    /// use rocket::local::blocking::Client;
    /// use rocket::{get, routes};
    /// use rocket_mongo_session::{Error, Session, Sessions};
    ///
    /// #[get("/")]
    /// fn index(session: &Session) -> Result<String, Error> {
    ///     Ok(session.increment("visits", 1)?.to_string())
    /// }
    ///
    /// let rocket = rocket::build().attach(Sessions::in_memory()).mount("/", routes![index]);
    /// let client = Client::tracked(rocket).unwrap();
    /// assert_eq!(client.get("/").dispatch().into_string().unwrap(), "1");
    /// assert_eq!(client.get("/").dispatch().into_string().unwrap(), "2");
    /// ```
    #[must_use]
    #[doc(alias("mock", "testing"))]
    pub fn in_memory() -> SessionFairing {
        SessionFairing::new(Backend::Memory)
    }

    /// Returns the fairing that keeps sessions in this store.
    #[cfg(feature = "unstable-store")]
    #[doc(hidden)]
    #[must_use]
    pub fn with_store(store: impl Store) -> SessionFairing {
        SessionFairing::new(Backend::Store(Arc::new(store)))
    }
}
