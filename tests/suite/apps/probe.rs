//! `Probe`: a small application over a database of its own, whose handlers do to the session what
//! the request tells them to.
//!
//! ```ignore
//! let probe = Probe::start("my_test", &[("timeout", 60.into())]).await;
//! let browser = probe.browser();
//! let ran = run(&browser, Script::new().set("n", 1).call(json!(["get", "n"]))).await;
//! assert_eq!(ran.results, [json!(null), json!(1)]);
//! ```
//!
//! Calls are JSON arrays, `["set", "key", value]`, carried out one after the other in one handler;
//! `perform` in `probe/calls.rs` knows their names. A call that fails gives `{"error": "Gone"}`.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use mongodb::bson::{Document, doc};
use mongodb::{Client, Collection};
use rocket::figment::{Figment, value::Value as Setting};
use rocket::futures::TryStreamExt;
use rocket::http::{Header, RawStr, Status};
use rocket::response::{self, Responder};
use rocket::serde::json::{Json, Value, json};
use rocket::tokio::sync::Semaphore;
use rocket::{Build, Request as Incoming, Response as Outgoing, Rocket, State};
use rocket::{catch, catchers, get, post, routes};
use rocket_mongo_session::testing::Clock;
use rocket_mongo_session::{Error, Session, Sessions};

use crate::support::{App, Browser, Mongod, Profile, Request, Response, figment, in_time};
pub use crate::support::{PATIENCE, eventually};

#[path = "probe/calls.rs"]
mod calls;

/// A running probe application and its database.
pub struct Probe {
    pub app: App,
    pub clock: Clock,
    pub gates: Gates,
    /// The tests' own way into the database.
    pub client: Client,
    pub db: String,
}

impl Probe {
    /// On the shared server, in a database of this name, with these keys of `[default.session]`.
    pub async fn start(db: &str, session: &[(&str, Setting)]) -> Probe {
        Probe::start_with(db, session, |rocket| rocket).await
    }

    /// As `start`, and whatever `more` adds: routes, catchers (`caught` is one), fairings.
    pub async fn start_with(
        db: &str,
        session: &[(&str, Setting)],
        more: impl FnOnce(Rocket<Build>) -> Rocket<Build>,
    ) -> Probe {
        let mongod = Mongod::shared().await;
        let client = mongod.client().await;
        client.database(db).drop().await.expect("an empty database");
        Probe::start_at(client, &mongod.url(db), db, session, more).await
    }

    /// On any server, by the address for the application; `client` is the tests' own way there.
    pub async fn start_at(
        client: Client,
        url: &str,
        db: &str,
        session: &[(&str, Setting)],
        more: impl FnOnce(Rocket<Build>) -> Rocket<Build>,
    ) -> Probe {
        let (clock, gates) = (Clock::new(), Gates::default());
        let figment = figment("debug", Some(url), session);
        let app = App::launch(more(rocket(figment, &clock, &gates))).await;
        Probe {
            app,
            clock,
            gates,
            client,
            db: db.to_owned(),
        }
    }

    /// The same application once more, on the same database, by the same clock: after a restart,
    /// or as a second process.
    pub async fn again(&self, url: &str, session: &[(&str, Setting)]) -> App {
        let figment = figment("debug", Some(url), session);
        App::launch(rocket(figment, &self.clock, &self.gates)).await
    }

    pub fn browser(&self) -> Browser {
        self.app.browser()
    }

    /// The collection of the sessions (its name by default).
    pub fn sessions(&self) -> Collection<Document> {
        self.client.database(&self.db).collection("session")
    }

    /// All stored documents, tombstones and revocations included.
    pub async fn documents(&self) -> Vec<Document> {
        let all = self.sessions().find(doc! {}).await.expect("a find");
        all.try_collect().await.expect("documents")
    }

    /// The document that a cookie's value names.
    pub async fn document(&self, cookie: &str) -> Option<Document> {
        let sessions = self.sessions();
        let found = sessions.find_one(doc! { "_id": id_of(cookie) }).await;
        found.expect("a find")
    }

    /// Looks at what is asked of the database from now on. Best with `indexes = false`, or the
    /// work on the indexes is among it.
    pub async fn profile(&self) -> Profile {
        Profile::start(&self.client, &self.db).await
    }
}

/// The names of the commands on the sessions' collection alone, in order.
pub async fn asked(profile: &Profile) -> Vec<String> {
    let seen = profile.commands().await.into_iter();
    let ours = seen.filter(|seen| seen.collection == "session");
    ours.map(|seen| seen.name).collect()
}

/// The probe application, not launched: to attach more to it, or to launch it in a way of one's
/// own.
pub fn rocket(figment: Figment, clock: &Clock, gates: &Gates) -> Rocket<Build> {
    bare(figment, gates).attach(Sessions::fairing().with_clock(clock))
}

/// The same without a fairing, for sessions in another place.
pub fn bare(figment: Figment, gates: &Gates) -> Rocket<Build> {
    let rocket = rocket::custom(figment).manage(gates.clone());
    rocket.mount("/", all_routes())
}

/// The probe's routes, to be mounted in a second place.
pub fn all_routes() -> Vec<rocket::Route> {
    routes![plain, unused, twice, option, result, posted, got]
}

/// Asks for no session.
#[get("/plain")]
fn plain() -> &'static str {
    "plain"
}

/// Asks for it and does nothing with it.
#[get("/unused")]
fn unused(_session: &Session) -> &'static str {
    "unused"
}

/// Two guards of one request.
#[get("/twice")]
fn twice(one: &Session, other: &Session) -> Result<Json<Value>, Error> {
    one.set("one", &1)?;
    other.set("other", &2)?;
    Ok(Json(json!([
        one.get::<u32>("other")?,
        other.get::<u32>("one")?
    ])))
}

#[get("/option")]
fn option(session: Option<&Session>) -> Json<bool> {
    Json(session.is_some())
}

#[get("/result")]
fn result(session: Result<&Session, Error>) -> Json<Value> {
    Json(match session {
        Ok(session) => json!(session.id()),
        Err(error) => calls::error(&error),
    })
}

#[post("/run", data = "<order>")]
async fn posted(
    session: &Session,
    sessions: &Sessions,
    gates: &State<Gates>,
    order: Json<Value>,
) -> ProbeResponse {
    perform(&order, session, sessions, gates).await
}

#[get("/run?<order>")]
async fn got(
    session: &Session,
    sessions: &Sessions,
    gates: &State<Gates>,
    order: &str,
) -> ProbeResponse {
    let order = rocket::serde::json::from_str(order).expect("a script");
    perform(&order, session, sessions, gates).await
}

async fn perform(
    order: &Value,
    session: &Session,
    sessions: &Sessions,
    gates: &Gates,
) -> ProbeResponse {
    let calls = order["calls"].as_array().cloned().unwrap_or_default();
    let mut results = Vec::new();
    for call in &calls {
        results.push(calls::perform(call, session, sessions, gates).await);
    }
    if order["end"] == "panic" {
        panic!("told to");
    }
    ProbeResponse {
        results,
        end: order["end"].clone(),
        headers: order["headers"].as_array().cloned().unwrap_or_default(),
    }
}

/// What a handler returns: the results, in the way it was told to.
struct ProbeResponse {
    results: Vec<Value>,
    end: Value,
    headers: Vec<Value>,
}

impl<'r> Responder<'r, 'static> for ProbeResponse {
    fn respond_to(self, request: &'r Incoming<'_>) -> response::Result<'static> {
        let status = |of: &Value| {
            let code = of.as_u64().and_then(|code| u16::try_from(code).ok());
            code.and_then(Status::from_code)
        };
        if self.end == "none" {
            return None::<()>.respond_to(request);
        }
        if let Some(failed) = status(&self.end["fail"]) {
            return Err(failed);
        }
        let status = status(&self.end["status"]).unwrap_or(Status::Ok);
        let mut response = (status, Json(Value::Array(self.results))).respond_to(request)?;
        for header in self.headers {
            let part = |at: usize| header[at].as_str().unwrap_or_default().to_owned();
            response.adjoin_header(Header::new(part(0), part(1)));
        }
        Ok(response)
    }
}

/// A catcher of the application's own, for every status, to be registered by tests that want one.
/// What the request's header `X-Catcher` says, it does to the session; without one it takes none.
pub fn caught() -> Vec<rocket::Catcher> {
    catchers![catch_all]
}

#[catch(default)]
async fn catch_all(status: Status, request: &Incoming<'_>) -> (Status, Caught) {
    let Some(calls) = request.headers().get_one("X-Catcher") else {
        return (status, Caught(format!("caught {}", status.code)));
    };
    let calls: Vec<Value> = rocket::serde::json::from_str(calls).expect("calls");
    let session = request.guard::<&Session>().await;
    let sessions = request.rocket().state::<Sessions>().expect("a fairing");
    let gates = request
        .rocket()
        .state::<Gates>()
        .expect("the probe's gates");
    let Some(session) = session.succeeded() else {
        return (status, Caught("caught without a session".to_owned()));
    };
    let mut results = Vec::new();
    for call in &calls {
        results.push(calls::perform(call, session, sessions, gates).await);
    }
    (status, Caught(Value::Array(results).to_string()))
}

/// Text that says by a header of its own that the catcher spoke.
struct Caught(String);

impl<'r> Responder<'r, 'static> for Caught {
    fn respond_to(self, request: &'r Incoming<'_>) -> response::Result<'static> {
        Outgoing::build_from(self.0.respond_to(request)?)
            .raw_header("X-Caught", "yes")
            .ok()
    }
}

/// Places in handlers (`["pause", "name"]`) at which a request waits until the test opens the gate.
#[derive(Clone, Default)]
pub struct Gates(Arc<Mutex<HashMap<String, Arc<Gate>>>>);

struct Gate {
    arrived: Semaphore,
    open: Semaphore,
}

impl Gates {
    /// Waits until a request has come to the gate; as often as it is called, as many requests.
    pub async fn reached(&self, name: &str) {
        let gate = self.gate(name);
        let arrived = in_time(
            &format!("a request at the gate {name:?}"),
            gate.arrived.acquire(),
        )
        .await;
        arrived.expect("gates stay").forget();
    }

    /// Lets one request through, now or when it comes.
    pub fn open(&self, name: &str) {
        self.gate(name).open.add_permits(1);
    }

    /// What a handler does at a gate.
    pub async fn pass(&self, name: &str) {
        let gate = self.gate(name);
        gate.arrived.add_permits(1);
        gate.open.acquire().await.expect("gates stay").forget();
    }

    fn gate(&self, name: &str) -> Arc<Gate> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = gates.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Gate {
                arrived: Semaphore::new(0),
                open: Semaphore::new(0),
            })
        });
        Arc::clone(gate)
    }
}

/// What one request does.
#[derive(Clone, Debug, Default)]
pub struct Script {
    calls: Vec<Value>,
    end: Value,
    headers: Vec<Value>,
    sent: Vec<(String, String)>,
}

impl Script {
    pub fn new() -> Script {
        Script::default()
    }

    /// One more call: `json!(["set", "key", 1])`.
    pub fn call(mut self, call: Value) -> Script {
        self.calls.push(call);
        self
    }

    pub fn set(self, key: &str, value: impl Into<Value>) -> Script {
        self.call(json!(["set", key, value.into()]))
    }

    pub fn get(self, key: &str) -> Script {
        self.call(json!(["get", key]))
    }

    /// A call without arguments: `logout`, `renew`, `touch`, `save`, `id`, `is_new` …
    pub fn then(self, name: &str) -> Script {
        self.call(json!([name]))
    }

    pub fn login(self, user: impl Into<Value>) -> Script {
        self.call(json!(["login", user.into()]))
    }

    /// Waits here until the test opens the gate.
    pub fn pause(self, gate: &str) -> Script {
        self.call(json!(["pause", gate]))
    }

    /// The handler itself returns this status, with its results.
    pub fn status(mut self, status: u16) -> Script {
        self.end = json!({ "status": status });
        self
    }

    /// The handler fails with this status: a catcher answers.
    pub fn fail(mut self, status: u16) -> Script {
        self.end = json!({ "fail": status });
        self
    }

    /// The handler returns `None`.
    pub fn none(mut self) -> Script {
        self.end = json!("none");
        self
    }

    pub fn panic(mut self) -> Script {
        self.end = json!("panic");
        self
    }

    /// One more header of the handler's answer.
    pub fn answer_header(mut self, name: &str, value: &str) -> Script {
        self.headers.push(json!([name, value]));
        self
    }

    /// One more header of the request.
    pub fn header(mut self, name: &str, value: &str) -> Script {
        self.sent.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What the catcher `caught` does to the session.
    pub fn catcher(self, calls: Value) -> Script {
        self.header("X-Catcher", &calls.to_string())
    }

    fn order(&self) -> String {
        json!({ "calls": self.calls, "end": self.end, "headers": self.headers }).to_string()
    }

    /// As a POST, which is how `run` sends it.
    pub fn request(&self) -> Request {
        self.with_headers(Request::post("/run").json(&self.order()))
    }

    /// As a GET, or a HEAD.
    pub fn request_by(&self, method: &str) -> Request {
        let order = RawStr::new(&self.order()).percent_encode().to_string();
        self.with_headers(Request::new(method, &format!("/run?order={order}")))
    }

    fn with_headers(&self, request: Request) -> Request {
        let headers = self.sent.iter();
        headers.fold(request, |request, (name, value)| {
            request.header(name, value)
        })
    }
}

/// The response to a script.
#[derive(Debug)]
pub struct Ran {
    /// What the calls gave; empty unless the handler's own answer came.
    pub results: Vec<Value>,
    pub response: Response,
}

impl Deref for Ran {
    type Target = Response;

    fn deref(&self) -> &Response {
        &self.response
    }
}

impl From<Response> for Ran {
    fn from(response: Response) -> Ran {
        let results = rocket::serde::json::from_slice(&response.body).unwrap_or_default();
        Ran { results, response }
    }
}

impl Ran {
    /// The `Set-Cookie` line of the session, and that there is at most one.
    pub fn sent(&self) -> Option<&str> {
        sent_by(&self.response)
    }

    /// The result of the last call.
    pub fn last(&self) -> &Value {
        let last = self.results.last();
        last.unwrap_or_else(|| panic!("results instead of {:?}", self.response))
    }

    /// The value that the browser was given.
    pub fn cookie(&self) -> String {
        let sent = self.sent();
        let line = sent.unwrap_or_else(|| panic!("a cookie in {:?}", self.response));
        value_of(line).to_owned()
    }
}

/// Sends a script with the browser's cookies, and delivers the answer's to it.
pub async fn run(browser: &Browser, script: Script) -> Ran {
    browser.send(script.request()).await.into()
}

/// Sends a script with exactly this session cookie.
pub async fn run_with(app: &App, cookie: &str, script: Script) -> Ran {
    let request = script
        .request()
        .header("Cookie", format!("session={cookie}"));
    app.send(request).await.into()
}

/// The `Set-Cookie` line of the session, and that there is at most one.
pub fn sent_by(response: &Response) -> Option<&str> {
    let lines = response.set_cookies().into_iter();
    let ours: Vec<&str> = lines.filter(|line| line.starts_with("session=")).collect();
    assert!(ours.len() <= 1, "one cookie of ours at most: {response:?}");
    ours.first().copied()
}

/// The value in a `Set-Cookie` line.
pub fn value_of(line: &str) -> &str {
    let value = line.split(';').next().and_then(|pair| pair.split_once('='));
    value.expect("a cookie").1
}

/// The public part of a cookie's value: the `_id` of its document.
pub fn id_of(cookie: &str) -> &str {
    cookie.split('.').next().unwrap_or_default()
}

/// Whether a `Set-Cookie` line takes the cookie away.
pub fn removes(line: &str) -> bool {
    value_of(line).is_empty() && line.contains("Max-Age=0")
}
