//! The application that races, faults and the model test are run against, in this process, and
//! what drives it: programs of session calls, gates inside handlers, and browsers with tabs.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rocket::figment::value::Value;
use rocket::http::Header;
use rocket::local::asynchronous::Client;
use rocket::tokio::task::JoinHandle;
use rocket::{Build, Orbit, Rocket, tokio};
use rocket_mongo_session::testing::Clock;
use rocket_mongo_session::{Ended, SessionFairing, Sessions};

use super::database;
use crate::support::{Browser, Mongod, Request, Response, figment};

mod gate;
mod program;

pub use gate::{Gate, Gates};
pub use program::{FLOAT, Float, Leaving, Op, Results, View, set, shown};

/// The path of every program; it decides nothing but which cookies belong to it.
const PATH: &str = "/run";

/// How an arena keeps its sessions.
#[derive(Clone)]
pub struct Setting {
    pub url: Option<String>,
    pub session: Vec<(&'static str, Value)>,
    pub clock: Option<Clock>,
    /// `databases.sessions.max_connections`
    pub connections: Option<u32>,
    gates: Gates,
}

impl Setting {
    /// In memory.
    pub fn in_memory() -> Setting {
        Setting {
            url: None,
            session: Vec::new(),
            clock: None,
            connections: None,
            gates: Gates::default(),
        }
    }

    /// In a database of its own on this server.
    pub fn on(mongod: &Mongod, share: bool) -> Setting {
        Setting::in_memory()
            .url(mongod.url(&database()))
            .key("share", share)
    }

    pub fn url(mut self, url: String) -> Setting {
        self.url = Some(url);
        self
    }

    /// One more key of `[default.session]`.
    pub fn key(mut self, name: &'static str, value: impl Into<Value>) -> Setting {
        self.session.push((name, value.into()));
        self
    }

    pub fn connections(mut self, most: u32) -> Setting {
        self.connections = Some(most);
        self
    }

    pub fn clock(mut self, clock: &Clock) -> Setting {
        self.clock = Some(clock.clone());
        self
    }

    pub fn rocket(&self) -> Rocket<Build> {
        let fairing = match self.url {
            Some(_) => Sessions::fairing(),
            None => Sessions::in_memory(),
        };
        self.rocket_with(fairing)
    }

    /// With a fairing of the test's own, for a store of its own.
    pub fn rocket_with(&self, fairing: SessionFairing) -> Rocket<Build> {
        let fairing = match &self.clock {
            Some(clock) => fairing.with_clock(clock),
            None => fairing,
        };
        let mut figment = figment("debug", self.url.as_deref(), &self.session);
        if let Some(most) = self.connections {
            figment = figment.merge(("databases.sessions.max_connections", most));
        }
        rocket::custom(figment)
            .attach(fairing)
            .manage(self.gates.clone())
            .mount("/", program::routes())
    }
}

/// A running application, without a socket: a request is a call, and fairings run as in life.
pub struct Arena {
    /// Its processes. Requests go to them in turn.
    clients: Vec<Client>,
    next: AtomicUsize,
    clock: Option<Clock>,
}

impl Arena {
    pub async fn start(setting: &Setting) -> Arc<Arena> {
        Arena::launch([setting.rocket()], setting.clock.clone()).await
    }

    /// With a fairing, and so a store, of the test's own.
    pub async fn start_with(setting: &Setting, fairing: SessionFairing) -> Arc<Arena> {
        Arena::launch([setting.rocket_with(fairing)], setting.clock.clone()).await
    }

    /// A rolling deploy of `seal`: two processes with one database, of which the second seals.
    pub async fn start_rolling(setting: &Setting) -> Arc<Arena> {
        let rockets = [false, true].map(|seals| setting.clone().key("seal", seals).rocket());
        Arena::launch(rockets, setting.clock.clone()).await
    }

    async fn launch(
        rockets: impl IntoIterator<Item = Rocket<Build>>,
        clock: Option<Clock>,
    ) -> Arc<Arena> {
        let mut clients = Vec::new();
        for rocket in rockets {
            let client = Client::untracked(rocket).await;
            clients.push(client.expect("an application that launches"));
        }
        let next = AtomicUsize::new(0);
        Arc::new(Arena {
            clients,
            next,
            clock,
        })
    }

    /// Its first process.
    fn rocket(&self) -> &Rocket<Orbit> {
        self.clients[0].rocket()
    }

    /// Whether one of its processes seals.
    pub fn seals(&self) -> bool {
        self.clients.iter().any(|client| {
            let seal = client.rocket().figment().extract_inner("session.seal");
            seal.unwrap_or(false)
        })
    }

    /// The clock that its sessions live by, if the test holds it.
    pub fn clock(&self) -> &Clock {
        self.clock.as_ref().expect("a setting with a clock")
    }

    pub fn sessions(&self) -> &Sessions {
        let sessions = self.rocket().state();
        sessions.expect("an application with sessions")
    }

    /// A gate for programs to wait at.
    pub fn gate(&self) -> Gate {
        let gates: &Gates = self.rocket().state().expect("gates");
        gates.make()
    }

    /// The end of the session that a program has followed under this number.
    pub fn followed(&self, number: u64) -> Option<Ended> {
        let gates: &Gates = self.rocket().state().expect("gates");
        gates.followed(number)
    }

    /// A browser that knows nothing yet.
    pub fn browser(&self) -> Browser {
        // Where it is asked about decides about cookies only.
        Browser::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 80)))
    }

    /// Runs a program with the browser's cookies, and keeps those of the response.
    pub async fn run(&self, browser: &Browser, program: &[Op]) -> ArenaResponse {
        let response = self.send(request(browser, program)).await;
        response.arrive(browser);
        response
    }

    /// The only allowed body of a 503: Rocket's own page.
    pub async fn unavailable(&self) -> String {
        let response = self.run(&self.browser(), &[Op::Fail(503)]).await;
        assert_eq!(response.status(), 503);
        response.0.text()
    }

    /// Sends a request of a program; the response is pending.
    pub async fn send(&self, request: Request) -> ArenaResponse {
        let method = request.method.parse().expect("a method");
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let client = &self.clients[turn % self.clients.len()];
        let mut local = client.req(method, request.path.clone());
        for (name, value) in request.headers {
            let value = String::from_utf8(value).expect("the tests' own headers are text");
            local.add_header(Header::new(name, value));
        }
        let response = local
            .body(request.body.unwrap_or_default())
            .dispatch()
            .await;
        let headers = response.headers().iter();
        ArenaResponse(Response {
            status: response.status().code,
            headers: headers
                .map(|header| (header.name().to_string(), header.value().to_owned()))
                .collect(),
            body: response.into_bytes().await.unwrap_or_default(),
        })
    }

    /// Starts a program in a tab. It has the cookies of now, does `first` (which begins with the
    /// session's load), and then waits for its turn to do the rest.
    pub async fn poise(self: &Arc<Self>, browser: &Browser, first: &[Op], then: &[Op]) -> Poised {
        let gate = self.gate();
        let program = [first, &[Op::Gate(gate.number())], then].concat();
        let (arena, request) = (Arc::clone(self), request(browser, &program));
        let response = tokio::spawn(async move { arena.send(request).await });
        gate.arrived().await;
        Poised {
            turn: gate,
            response,
        }
    }

    /// A tab whose request has the cookies of now, but reaches the server only when its turn
    /// comes.
    pub fn poise_outside(self: &Arc<Self>, browser: &Browser, program: &[Op]) -> Poised {
        let gate = self.gate();
        let (turn, entrance) = (gate.clone(), gate);
        let (arena, request) = (Arc::clone(self), request(browser, program));
        let response = tokio::spawn(async move {
            entrance.pass().await;
            arena.send(request).await
        });
        Poised { turn, response }
    }

    /// Something else than a request that waits for its turn, as an administrator's call.
    pub fn poise_call<F>(self: &Arc<Self>, call: F) -> Poised
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let gate = self.gate();
        let entrance = gate.clone();
        let response = tokio::spawn(async move {
            entrance.pass().await;
            call.await;
            ArenaResponse(Response {
                status: 200,
                headers: Vec::new(),
                body: b"[]".to_vec(),
            })
        });
        Poised {
            turn: gate,
            response,
        }
    }
}

/// The request of a program, with the cookies that the browser has now.
pub fn request(browser: &Browser, program: &[Op]) -> Request {
    browser.with_cookies(Request::post(PATH).json(&Op::encode(program)))
}

/// A tab that waits for its turn.
pub struct Poised {
    turn: Gate,
    response: JoinHandle<ArenaResponse>,
}

impl Poised {
    pub fn release(&self) {
        self.turn.open();
    }

    pub fn is_over(&self) -> bool {
        self.response.is_finished()
    }

    pub async fn response(&mut self) -> ArenaResponse {
        match (&mut self.response).await {
            Ok(response) => response,
            Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
        }
    }
}

/// The response to a program.
#[derive(Clone)]
pub struct ArenaResponse(pub Response);

impl ArenaResponse {
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// Its cookies reach the browser.
    pub fn arrive(&self, browser: &Browser) {
        browser.deliver(&self.0, PATH);
    }

    /// What each step said. Panics unless the program was answered.
    pub fn results(&self) -> Results {
        assert_eq!(self.status(), 200, "{}", self.0.text());
        Results::decode(&self.0.text())
    }

    /// Whether it tells the browser another token.
    pub fn sends_cookie(&self) -> bool {
        let cookies = self.0.set_cookies();
        cookies.iter().any(|cookie| !cookie.contains("Max-Age=0"))
    }
}
