//! Server-side sessions for Rocket 0.5, kept in MongoDB.
//!
//! A [`&Session`](Session) guard loads the session of a request, the handler reads and changes it,
//! and what changed is committed before the answer leaves. It loses no update, brings back no
//! session that ended, and tells no browser about a session that it failed to save.
//!
//! This page is the guide: [quick start](#quick-start), [data](#data), [login and
//! logout](#login-and-logout), [flash messages](#flash-messages), [CSRF](#csrf),
//! [times](#timeouts-and-remember-me), [errors and outages](#errors-and-outages),
//! [tests](#testing-an-application), [configuration](#configuration), [several
//! applications](#several-applications-on-one-database), [operation](#operating-it),
//! [migration](#migrating).
//!
//! # Quick start
//!
//! Attach the fairing and ask for the session where it is needed:
//!
//! ```no_run
//! use rocket::{get, launch, routes};
//! use rocket_mongo_session::{Error, Key, Session, Sessions};
//!
//! const VISITS: Key<u32> = Key::new("visits");
//!
//! #[get("/")]
//! async fn index(session: &Session) -> Result<String, Error> {
//!     let visits = session.get(VISITS)?.unwrap_or(0) + 1;
//!     session.set(VISITS, &visits)?;
//!     Ok(format!("visit number {visits}"))
//! }
//!
//! #[launch]
//! fn rocket() -> _ {
//!     rocket::build().attach(Sessions::fairing()).mount("/", routes![index])
//! }
//! ```
//!
//! It runs as it is: without a database the debug profile keeps sessions in memory. With one, in
//! `Rocket.toml`:
//!
//! ```toml
//! [default.databases.sessions]
//! url = "mongodb://localhost:27017/my_app"
//! ```
//!
//! A route that does not ask for the session costs no trip to the database. Several guards of one
//! request share one session and one load. A visitor whose session holds nothing gets no cookie and
//! leaves nothing in the database.
//!
//! # Data
//!
//! A session is a map from names to values of any serde type. A [`Key`] names a value and knows its
//! type; a string names one as well, and the type stands at the call.
//!
//! ```
//! use rocket::serde::{Deserialize, Serialize};
//! use rocket_mongo_session::{Error, Key, Session};
//!
//! #[derive(Serialize, Deserialize, Default)]
//! # #[serde(crate = "rocket::serde")]
//! struct Basket {
//!     articles: Vec<u32>,
//! }
//!
//! const BASKET: Key<Basket> = Key::new("basket");
//!
//! fn look(session: &Session) -> Result<usize, Error> {
//!     let basket = session.get(BASKET)?.unwrap_or_default();
//!     let name = session.get::<String>("name")?;
//!     session.set("greeted", &name.is_some())?;
//!     session.remove("name");
//!     Ok(basket.articles.len())
//! }
//! ```
//!
//! [`set`](Session::set) writes that key alone, with the answer. Requests of one browser that run
//! at the same time and set different keys do not undo each other. When they set the same key, the
//! later one wins; three calls are right even then:
//!
//! ```
//! # use rocket_mongo_session::{Error, Key, Session};
//! # #[derive(Default, rocket::serde::Serialize, rocket::serde::Deserialize)]
//! # #[serde(crate = "rocket::serde")]
//! # struct Basket { articles: Vec<u32> }
//! # const BASKET: Key<Basket> = Key::new("basket");
//! async fn put(session: &Session, article: u32) -> Result<(), Error> {
//!     session.increment("clicks", 1)?; // the database adds, when the answer is committed
//!     session.push("seen", &article)?; // the database appends, then as well
//!
//!     // Read, change, compare and set, again until it wins. Done when the call returns.
//!     session
//!         .modify(BASKET, |basket| {
//!             let mut basket = basket.unwrap_or_default();
//!             basket.articles.push(article);
//!             basket
//!         })
//!         .await?;
//!     Ok(())
//! }
//! ```
//!
//! A value is a copy: change it and [`set`](Session::set) it again. A stored value that is not of
//! the type asked for is an [`Error::Decode`] for that key alone. With `encoding = "document"`
//! values are native BSON, which can be read and queried in the database, and `u64` above
//! `i64::MAX` and maps with keys that are not strings are an error at `set`; `encoding = "binary"`
//! takes those as well.
//!
//! # Login and logout
//!
//! [`login`](Session::login) starts a new session, with a new id and a new secret, that belongs to
//! the user; the old one is deleted before the answer leaves. The argument is whatever identifies a
//! user, and never changes: an id, no profile.
//!
//! ```
//! use rocket::form::{Form, FromForm};
//! use rocket::http::Status;
//! use rocket::{post, response::Redirect};
//! use rocket_mongo_session::{Error, Session};
//!
//! #[derive(FromForm)]
//! struct Credentials<'r> {
//!     name: &'r str,
//!     password: &'r str,
//! }
//! # fn check(_: &Credentials<'_>) -> Option<i64> { None }
//!
//! #[post("/login", data = "<form>")]
//! fn login(
//!     form: Form<Credentials<'_>>,
//!     session: &Session,
//! ) -> Result<Result<Redirect, Status>, Error> {
//!     let Some(user_id) = check(&form) else {
//!         return Ok(Err(Status::Unauthorized));
//!     };
//!     session.login_keeping(user_id, &["basket"])?; // `login` keeps nothing
//!     Ok(Ok(Redirect::to("/")))
//! }
//!
//! #[post("/logout")]
//! fn logout(session: &Session) -> Result<Redirect, Error> {
//!     session.logout()?;
//!     Ok(Redirect::to("/"))
//! }
//! ```
//!
//! A guard of the application's own says which routes are for users:
//!
//! ```
//! use rocket::http::Status;
//! use rocket::outcome::try_outcome;
//! use rocket::request::{FromRequest, Outcome, Request};
//! use rocket_mongo_session::{Error, Session};
//!
//! struct User(i64);
//!
//! #[rocket::async_trait]
//! impl<'r> FromRequest<'r> for User {
//!     type Error = Error;
//!
//!     async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Error> {
//!         let session = try_outcome!(request.guard::<&Session>().await);
//!         match session.user() {
//!             Ok(Some(id)) => Outcome::Success(User(id)),
//!             Ok(None) => Outcome::Forward(Status::Unauthorized),
//!             Err(error) => Outcome::Error((error.status(), error)),
//!         }
//!     }
//! }
//! ```
//!
//! * [`elevate`](Session::elevate) is for more rights within a login (a second factor): a new
//!   session with all the data.
//! * [`renew`](Session::renew) gives the same session a new secret, for rotation from time to time.
//! * [`RecentLogin<300>`](RecentLogin) is a guard for routes that ask for a login of the last five
//!   minutes.
//! * [`Sessions`] lists a user's sessions and ends them: [`list`](Sessions::list),
//!   [`revoke_of`](Sessions::revoke_of), [`revoke_others`](Sessions::revoke_others),
//!   [`revoke_user`](Sessions::revoke_user) (when a password changes). With `record_client` the
//!   list names browsers and addresses; `max_per_user` ends the oldest at a login.
//!
//! # Flash messages
//!
//! Said now, shown with the next page, delivered once:
//!
//! ```
//! use rocket::{get, post, response::Redirect};
//! use rocket_mongo_session::{Error, Session};
//!
//! #[post("/save")]
//! fn save(session: &Session) -> Result<Redirect, Error> {
//!     session.flash("Saved.")?;
//!     session.queue("warnings").push_unique("The disk is nearly full.")?;
//!     Ok(Redirect::to("/"))
//! }
//!
//! #[get("/")]
//! async fn page(session: &Session) -> Result<String, Error> {
//!     let mut messages: Vec<String> = session.pop_flash().await?;
//!     messages.extend(session.queue("warnings").pop::<String>().await?);
//!     Ok(messages.join("\n"))
//! }
//! ```
//!
//! A message is any serde type. A pop is one trip to the database, and none when the queue was
//! empty at the load. Requests that pop at the same time get each message once. `peek_flash` and
//! [`Queue::peek`] leave the messages there.
//!
//! # CSRF
//!
//! Two checks. The first is always on: `&Session` refuses an unsafe request (POST and the like)
//! that a browser says comes from another site, with a 403, unless `trusted_origins` names it. The
//! second asks for a token:
//!
//! ```
//! use rocket::{FromForm, get, post, response::content::RawHtml, serde::json::Json};
//! use rocket_mongo_session::{CsrfForm, CsrfHeader, Error, Session};
//!
//! #[derive(FromForm)]
//! struct Order {
//!     count: u32,
//! }
//!
//! #[get("/order")]
//! fn page(session: &Session) -> RawHtml<String> {
//!     RawHtml(format!(
//!         r#"<form method="post"><input name="count">
//!            <input type="hidden" name="csrf_token" value="{}"><button>Order</button></form>"#,
//!         session.csrf_token()
//!     ))
//! }
//!
//! #[post("/order", data = "<form>")]
//! fn order(form: CsrfForm<Order>, session: &Session) -> Result<(), Error> {
//!     session.set("count", &form.count)
//! }
//!
//! #[post("/api/order", data = "<count>")] // the token is in the header X-CSRF-Token
//! fn api(_checked: CsrfHeader, count: Json<u32>, session: &Session) -> Result<(), Error> {
//!     session.set("count", &*count)
//! }
//! ```
//!
//! A token looks different each time and stays valid until the next login or logout. In a template,
//! put `csrf_token()` into the context. A refusal is a 403 through the application's catchers; the
//! log says why, and so does `Result<CsrfForm<T>, CsrfError<'_>>`. Behind a proxy that changes the
//! `Host` header, name the site's own origin in `trusted_origins`.
//!
//! # Timeouts and remember-me
//!
//! * `timeout`: a session ends when it was not used for so long (20 minutes). A read extends it, at
//!   most once a second and at most every `reissue_time`; many such notes travel in one command,
//!   after the answers.
//! * `lifetime`: it ends so long after its creation or login, used or not.
//! * `max_age`: the browser keeps the cookie for so long, also after it was closed. The cookie is
//!   sent again before it ends, at most every tenth of its life.
//!
//! One session can have times of its own. A login starts with the configured ones, so set them
//! after it:
//!
//! ```
//! use std::time::Duration;
//! use rocket_mongo_session::{Error, Session};
//!
//! fn remember(session: &Session, user_id: i64) -> Result<(), Error> {
//!     const MONTH: Duration = Duration::from_secs(30 * 86_400);
//!     session.login(user_id)?;
//!     session.set_timeout(Some(MONTH))?; // in the database
//!     session.set_max_age(Some(MONTH)) // in the browser
//! }
//! ```
//!
//! # Errors and outages
//!
//! [`Error`] is a responder: a handler uses `?`, the error is logged, and the application's catcher
//! for its status answers: 503 when the store cannot be asked, 500 otherwise. The guard does the
//! same before the handler runs. When the commit fails after it, the answer is replaced by the 503
//! catcher's, without a session cookie.
//!
//! ```
//! use rocket::{catch, get};
//! use rocket_mongo_session::{Error, Session, Sessions};
//!
//! #[catch(503)]
//! fn unavailable() -> &'static str {
//!     "We will be back in a minute."
//! }
//!
//! #[get("/news")] // served while the database is down; nobody is signed in then
//! fn news(session: Option<&Session>) -> &'static str {
//! #   let _ = session;
//!     "news"
//! }
//!
//! #[get("/pay")] // the error itself; the one of `save` comes before anything is paid
//! async fn pay(session: Result<&Session, Error>) -> Result<(), Error> {
//!     let session = session?;
//!     session.set("paying", &true)?;
//!     session.save().await
//! }
//!
//! #[get("/health")]
//! async fn health(sessions: &Sessions) -> Result<(), Error> {
//!     sessions.ping().await
//! }
//! ```
//!
//! * Every operation ends by `deadline`. The application starts without its database, and recovers
//!   when it comes back.
//! * A 503 after a write does not say that nothing was stored: what was sent may still take effect,
//!   all of it or nothing.
//! * A session that ended while a request ran (a logout in another tab) takes no more writes: the
//!   change is dropped, no cookie is sent, and the answer is the handler's own. `save` and `modify`
//!   say [`Error::Gone`].
//! * What a handler changed before it failed is kept when a catcher answers, unless
//!   `set_on_exception = false`. A 5xx that no catcher of the application answers (after a panic,
//!   say) keeps nothing. A logout stands in every case.
//! * In a stream or a websocket the answer is committed when the body begins. Call
//!   [`save`](Session::save) first; a change that comes later is an error.
//!
//! # Testing an application
//!
//! [`Sessions::in_memory`] needs no database, Rocket's local client keeps the cookie, and a
//! [`testing::Clock`] moves the time:
//!
//! ```
//! use std::time::Duration;
//! use rocket::local::blocking::Client;
//! use rocket::{Build, Rocket, get, routes};
//! use rocket_mongo_session::{Error, Session, SessionFairing, Sessions, testing::Clock};
//!
//! #[get("/")]
//! fn index(session: &Session) -> Result<String, Error> {
//!     Ok(session.increment("visits", 1)?.to_string())
//! }
//!
//! // The application's own function, as `main` calls it with `Sessions::fairing()`.
//! fn rocket(sessions: SessionFairing) -> Rocket<Build> {
//!     rocket::build().attach(sessions).mount("/", routes![index])
//! }
//!
//! let clock = Clock::new();
//! let client = Client::tracked(rocket(Sessions::in_memory().with_clock(&clock))).unwrap();
//! let visit = || client.get("/").dispatch().into_string().unwrap();
//! assert_eq!((visit(), visit()), ("1".into(), "2".into()));
//!
//! clock.advance(Duration::from_secs(1201)); // the session idles out
//! assert_eq!(visit(), "1");
//! ```
//!
//! A second `Client::tracked` is a second application; for a second browser on one application use
//! `Client::untracked` and carry the cookies by hand. `client.rocket().state::<Sessions>()` is the
//! administrator's handle.
//!
//! A [`Store`] of one's own is attached with [`Sessions::with_store`]; [`testing::conformance`] tries
//! every promise that it has to keep.
//!
//! # Configuration
//!
#![doc = include_str!("../docs/configuration.md")]
//!
//! Where the sessions are kept is rocket_db_pools' section `[default.databases.sessions]`: `url`,
//! `max_connections` (32 unless set), `min_connections`, `connect_timeout` (5 unless set),
//! `idle_timeout`.
//!
//! # Several applications on one database
//!
//! * Applications with sessions of their own: give each a `collection` (or a `database`), and a
//!   `cookie_name` where browsers see them on one host. Ports do not separate cookies. A secret
//!   belongs to one cookie name: the cookie of one application opens no session of another, even in
//!   one collection.
//! * Applications that share sessions: the same `collection`, `cookie_name` and `encoding`, and a
//!   `domain` where they have different hosts. They have to agree on the keys.
//! * An application with a pool of its own: [`Sessions::in_database`] shares it,
//!   [`Sessions::in_collection`] takes a collection as it is.
//!
//! # Operating it
//!
//! **Indexes.** Two beside `_id`: one on `expires`, by which MongoDB deletes what expired five
//! minutes ago, and one on `user`. The application makes and repairs them in the background, also
//! after the collection was dropped. Nothing waits for them, and expiry is judged at every load,
//! whatever the TTL monitor does.
//!
//! **Replica sets.** Writes are acknowledged by the majority and reads go to the primary, whatever
//! the server's defaults; what the URL weakens is warned about at launch. A primary that is cut off
//! can answer reads until it notices, up to an election timeout, also of a session that was revoked
//! meanwhile.
//!
//! **Sharding.** By the hashed id: `sh.shardCollection("my_app.session", {_id: "hashed"})`. Loads
//! and commits go to one shard; lists and revocations of a user ask all of them.
//!
//! **Least privilege.** With `indexes = false` this role is enough; with `indexes = true` it needs
//! `createIndex`, `dropIndex` and `collMod` as well.
//!
//! ```js
//! db.createRole({role: "sessions", roles: [], privileges: [{
//!   resource: {db: "my_app", collection: "session"},
//!   actions: ["find", "insert", "update", "remove"]}]})
//! ```
//!
//! **Backups.** A restored backup brings back sessions that ended after it was taken. Leave the
//! collection out of backups, or empty it after a restore.
//!
//! **Mass logout**, each on live traffic: [`Sessions::revoke_all`], which also ends logins that are
//! under way; `db.session.deleteMany({})`; dropping the collection.
//!
//! **Sizing.** A session that holds one small number is a document of 204 bytes. Connections: 32 a
//! process, unless `max_connections` says otherwise; requests beyond wait for one until the
//! `deadline`, and only those that ask for a session.
//!
//! **Numbers.** [`Sessions::stats`] counts loads, commits, failures and the rest in this process.
//! [`count`](Sessions::count) asks the database.
//!
//! # Migrating
//!
//! **From pyramid_mongo_session.** `legacy_ids = true` reads its sessions and moves each to this
//! crate's form at its first write. Turn it on after the Python application has stopped; pickled
//! sessions are not read. The README has the table of every parameter and method.
//!
//! **From express-session with connect-mongo.** Its documents are not read: use another collection,
//! and users log in once more.
//!
//! | there | here |
//! |---|---|
//! | `req.session.x` | `get("x")?`, `set("x", &value)?` |
//! | `req.session.regenerate`, then the user | `login(user)` |
//! | `req.session.destroy` | `logout()` |
//! | `req.session.save` | `save().await` |
//! | `req.session.cookie.maxAge` | `set_max_age` for the browser, `set_timeout` for the database |
//! | `req.sessionID` | `id()`, which is no credential here |
//! | `secret` | none: the secret is random, and its hash is stored |
//! | `resave`, `saveUninitialized` | neither: what did not change is not written, what holds nothing is not stored |
//! | `rolling` | `max_age`, which is sent again at most every tenth of it |
//! | `mongoUrl`, `collectionName`, `ttl`, `touchAfter` | `url`, `collection`, `timeout`, `reissue_time` |
//! | `store.length`, `store.clear` | [`Sessions::count`], [`Sessions::revoke_all`] |
//!
//! **From rocket_flex_session.**
//!
//! | there | here |
//! |---|---|
//! | `Session<'_, T>` of one type | `&Session`, and a [`Key<T>`](Key) for each value |
//! | `session.set(value)` | `session.set(KEY, &value)?` |
//! | `session.tap_mut(..)` | `session.modify(KEY, ..).await?` |
//! | `session.delete()` | `session.logout()?` |
//! | `session.set_ttl(..)` | `session.set_timeout(..)?` and `set_max_age` |
//! | `rolling` | `reissue_time` |
//! | `SessionIdentifier` | the argument of `login` |
//! | `invalidate_all_sessions` | [`Sessions::revoke_user`], [`Sessions::revoke_others`] |
//! | `session.error()` | the guard's own [`Error`], and a 503 when the commit fails |
//!
//! Log users in with [`login`](Session::login), which also changes the session's id.

mod ancestor;
mod changes;
mod clock;
mod commit;
mod config;
mod cookie;
mod csrf;
mod deadline;
mod depth;
mod document;
mod error;
mod fairing;
mod guard;
mod key;
mod origin;
mod pool;
mod recent;
mod record;
mod session;
mod sessions;
mod state;
mod stats;
pub mod store;
pub mod testing;
mod token;
mod value;

pub use mongodb;
pub use rocket_db_pools;
pub use time;

pub use csrf::{CsrfError, CsrfForm, CsrfHeader, CsrfRefusal};
pub use error::{Cause, Error, Result};
pub use fairing::SessionFairing;
pub use key::{AsKey, Key, KeyFor, KeyOf};
pub use pool::MongoPool;
pub use recent::RecentLogin;
pub use session::{Queue, Session};
pub use sessions::{SessionInfo, Sessions};
pub use stats::Stats;
pub use store::Store;
pub use store::memory::MemoryStore;
pub use store::mongo::MongoStore;
