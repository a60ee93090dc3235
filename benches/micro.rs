//! What the crate itself costs, without a database and without a socket.
//!
//!     cargo bench --bench micro
//!
//! Through the public face alone: a store that answers from memory at once, a clock that stands
//! still, and requests of Rocket's local client.

use std::hint::black_box;
use std::sync::{Mutex, PoisonError};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use futures::FutureExt;
use rocket::http::{Cookie, Header};
use rocket::local::asynchronous::{Client, LocalRequest};
use rocket::request::{FromRequest, Outcome};
use rocket::tokio::runtime::{Builder, Runtime};
use rocket::{Build, Config, Rocket, async_trait, config::LogLevel, get, routes};
use rocket_mongo_session::store::{
    Aged, Document, Durability, Filter, Inserted, Order, TimeSource, Touch, Update, Updated, Watch,
};
use rocket_mongo_session::testing::Clock;
use rocket_mongo_session::{Error, Result, Session, Sessions, Store};

const KEYS: [usize; 3] = [1, 50, 1000];

criterion_group!(benches, cookies, load, values, commit, responses);
criterion_main!(benches);

/// The guard up to the point where the session would be loaded. The difference to `none` is what a
/// cookie costs; `malformed` is read to its last character and then not looked up.
fn cookies(c: &mut Criterion) {
    let app = App::new(1);
    let _entered = app.runtime.enter();
    let malformed = format!("{}!", &app.cookie[..app.cookie.len() - 1]);
    let among_others = format!("theme=dark; lang=en-GB; {malformed}; consent=all");
    let mut group = c.benchmark_group("cookie");
    let headers = [
        ("none", None),
        ("malformed", Some(malformed)),
        ("among_others", Some(among_others)),
    ];
    for (name, header) in headers {
        group.bench_function(name, |b| {
            b.iter_batched(
                || app.request("/", header.as_deref()),
                |request| {
                    black_box(guard(&request).is_new());
                    request
                },
                BatchSize::SmallInput,
            );
        });
    }
}

/// The guard with a session: the cookie, the store's copy of the document, its checks, the token.
fn load(c: &mut Criterion) {
    let mut group = c.benchmark_group("load");
    for keys in KEYS {
        let app = App::new(keys);
        let _entered = app.runtime.enter();
        group.bench_function(BenchmarkId::from_parameter(keys), |b| {
            b.iter_batched(
                || app.request("/", Some(&app.cookie)),
                |request| {
                    assert!(!guard(&request).is_new());
                    request
                },
                BatchSize::SmallInput,
            );
        });
    }
}

/// Calls on a loaded session. The key is the middle one of all.
fn values(c: &mut Criterion) {
    let mut group = c.benchmark_group("value");
    for keys in KEYS {
        let app = App::new(keys);
        let _entered = app.runtime.enter();
        let request = app.request("/", Some(&app.cookie));
        let session = guard(&request);
        let key = key(keys / 2);
        group.bench_function(BenchmarkId::new("get", keys), |b| {
            b.iter(|| session.get::<i64>(black_box(&*key)));
        });
        // The first change of a request; later ones of the same key replace it.
        group.bench_function(BenchmarkId::new("first_set", keys), |b| {
            b.iter_batched(
                || {
                    let request = app.request("/", Some(&app.cookie));
                    guard(&request);
                    request
                },
                |request| {
                    set(guard(&request), &key, -1);
                    request
                },
                BatchSize::SmallInput,
            );
        });
        let mut n = 0;
        group.bench_function(BenchmarkId::new("set_again", keys), |b| {
            b.iter(|| {
                n -= 1;
                set(session, &key, n);
            });
        });
    }
}

/// The decision what to write, the filter and the update of it, and the record as it is afterwards;
/// of nothing for a session that was only read.
fn commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("commit");
    for keys in KEYS {
        let app = App::new(keys);
        let _entered = app.runtime.enter();
        let key = key(keys / 2);
        let loaded = || {
            let request = app.request("/", Some(&app.cookie));
            let value = guard(&request).get::<i64>(&*key);
            assert!(value.is_ok());
            request
        };
        group.bench_function(BenchmarkId::new("read", keys), |b| {
            b.iter_batched(loaded, save, BatchSize::SmallInput);
        });
        let changed = || {
            let request = loaded();
            set(guard(&request), &key, -1);
            request
        };
        group.bench_function(BenchmarkId::new("write", keys), |b| {
            b.iter_batched(changed, save, BatchSize::SmallInput);
        });
    }
}

/// Whole responses of Rocket, routing and headers included. The differences to `none` are what the
/// session costs.
fn responses(c: &mut Criterion) {
    let mut group = c.benchmark_group("response");
    for keys in KEYS {
        let app = App::new(keys);
        for path in ["/none", "/read", "/write"] {
            if path == "/none" && keys != KEYS[0] {
                continue;
            }
            group.bench_function(BenchmarkId::new(&path[1..], keys), |b| {
                b.iter_batched(
                    || app.request(path, Some(&app.cookie)),
                    |request| {
                        let response = app.runtime.block_on(request.dispatch());
                        assert_eq!(response.status().code, 200);
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
}

fn key(at: usize) -> String {
    format!("key{at:04}")
}

fn set(session: &Session, key: &str, n: i64) {
    let set = session.set(key, &n);
    assert!(set.is_ok());
}

fn save(request: LocalRequest<'_>) -> LocalRequest<'_> {
    let saved = guard(&request).save().now_or_never();
    assert!(matches!(saved, Some(Ok(()))));
    request
}

/// The request's session, loaded by the first call. Nothing here waits, so one poll is enough.
fn guard<'r>(request: &'r LocalRequest<'_>) -> &'r Session {
    match <&Session>::from_request(request.inner()).now_or_never() {
        Some(Outcome::Success(session)) => session,
        _ => panic!("a session that is there at once"),
    }
}

#[get("/none")]
fn none() -> &'static str {
    "ok"
}

/// The key in the middle is the only one that a handler of an application with many keys asks for.
#[get("/read")]
fn read(session: &Session) -> Result<String> {
    let keys = session.len();
    let n = session.get::<i64>(&*key(keys / 2))?;
    Ok(n.unwrap_or(-1).to_string())
}

#[get("/write")]
fn write(session: &Session) -> Result<String> {
    let key = key(session.len() / 2);
    let n = session.get::<i64>(&*key)?.unwrap_or(-1) + 1;
    session.set(&*key, &n)?;
    Ok(n.to_string())
}

#[get("/fill?<keys>")]
fn fill(session: &Session, keys: usize) -> Result<()> {
    for at in 0..keys {
        session.set(&*key(at), &i64::try_from(at).unwrap_or(0))?;
    }
    Ok(())
}

/// Builds an application with one session that has a number of keys.
struct App {
    // Before the runtime: it goes first.
    client: Client,
    runtime: Runtime,
    cookie: String,
}

impl App {
    fn new(keys: usize) -> App {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let (client, cookie) = runtime.block_on(async {
            let client = Client::untracked(rocket()).await.expect("a Rocket");
            let response = client.get(format!("/fill?keys={keys}")).dispatch().await;
            let header = response.headers().get_one("Set-Cookie").expect("a cookie");
            let cookie = Cookie::parse(header.to_owned()).expect("a cookie");
            drop(response);
            (client, format!("{}={}", cookie.name(), cookie.value()))
        });
        App {
            client,
            runtime,
            cookie,
        }
    }

    fn request(&self, path: &'static str, cookie: Option<&str>) -> LocalRequest<'_> {
        let mut request = self.client.get(path);
        if let Some(cookie) = cookie {
            request.add_header(Header::new("Cookie", cookie.to_owned()));
        }
        request
    }
}

fn rocket() -> Rocket<Build> {
    let config = Config {
        log_level: LogLevel::Off,
        ..Config::release_default()
    };
    rocket::custom(config)
        .attach(Sessions::with_store(One::default()).with_clock(&Clock::new()))
        .mount("/", routes![none, read, write, fill])
}

/// A store of one document that says yes to every change and keeps none.
#[derive(Default)]
struct One(Mutex<Option<Document>>);

#[async_trait]
impl Store for One {
    async fn insert(&self, documents: Vec<Document>, _: Durability) -> Result<Inserted> {
        let mut document = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *document = documents.into_iter().next();
        Ok(Inserted::Stored)
    }

    async fn update(&self, filter: Filter, update: Update, _: Durability) -> Result<Updated> {
        black_box((filter, update));
        Ok(Updated::Applied)
    }

    async fn delete(&self, _: Filter) -> Result<bool> {
        Ok(false)
    }

    async fn take(&self, _: Filter) -> Result<Option<Document>> {
        Ok(None)
    }

    async fn load_many(&self, ids: Vec<String>) -> Result<Vec<Document>> {
        let document = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = document
            .iter()
            .filter(|one| ids.iter().any(|id| one.id() == Some(id)));
        Ok(found.cloned().collect())
    }

    async fn ages(&self, _: Vec<String>) -> Result<Vec<Aged>> {
        Ok(Vec::new())
    }

    async fn put_revocation(&self, _: &str) -> Result<()> {
        Ok(())
    }

    fn watch(&self) -> Box<dyn Watch> {
        unreachable!("no benchmark asks for changes")
    }

    fn time_source(&self) -> TimeSource {
        TimeSource::Process
    }

    fn touch(&self, _: Touch) {}

    async fn estimated_count(&self) -> Result<u64> {
        Ok(0)
    }

    async fn find(&self, _: Filter, _: Order, _: u64, _: u32) -> Result<Vec<Document>> {
        Ok(Vec::new())
    }

    async fn count(&self, _: Filter) -> Result<u64> {
        Ok(0)
    }

    async fn delete_all(&self, _: Filter) -> Result<u64> {
        Ok(0)
    }

    async fn ensure_indexes(&self) -> Result<()> {
        Ok(())
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn flush(&self) {}

    fn describe(&self) -> String {
        "nowhere".into()
    }
}
