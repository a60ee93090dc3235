//! Live sessions: streams are told when their session ends, and every process hears what happens.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rocket::figment::value::Value;
use rocket::http::{Cookie, Status};
use rocket::local::asynchronous::Client;
use rocket::{Build, Rocket, State, get, routes};
use rocket_mongo_session::testing::Clock;
use rocket_mongo_session::{End, Ended, Error, Session, SessionFairing, Sessions};

use crate::apps::database;
use crate::support::{Mongod, ReplicaSet, figment, in_time};

mod elsewhere;
mod ends;
mod events;
mod faults;

/// What handlers keep beyond their requests.
#[derive(Default)]
struct Kept(Mutex<Vec<Ended>>);

impl Kept {
    fn keep(&self, ended: Ended) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(ended);
    }

    fn take(&self) -> Ended {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.pop().expect("a handler kept one")
    }
}

/// Does what the path says, one step after the other.
#[get("/do/<steps>")]
async fn run(
    session: &Session,
    sessions: &Sessions,
    kept: &State<Kept>,
    steps: &str,
) -> Result<String, Error> {
    for step in steps.split('-') {
        match step {
            "read" => {}
            "set" => session.set("n", &rand::random::<u32>())?,
            "login" => session.login(7)?,
            "bob" => session.login("bob")?,
            "eve" => session.login("eve")?,
            "keep" => session.login_keeping(8, &["n"])?,
            "logout" => session.logout()?,
            "leave" => session.logout_keeping(&["n"])?,
            "renew" => session.renew()?,
            "elevate" => session.elevate()?,
            "save" => session.save().await?,
            "short" => session.set_timeout(Some(Duration::from_secs(60)))?,
            "revoke" => drop(sessions.revoke(&session.id().unwrap_or_default()).await?),
            "ended" => kept.keep(session.ended()),
            "fail" => return Err(Error::Gone),
            other => panic!("an unknown step: {other}"),
        }
    }
    Ok(session.id().unwrap_or_default())
}

/// One process of an application: its own fairing, pool and clock.
struct Process {
    client: Client,
    clock: Clock,
}

impl Process {
    async fn start(url: Option<&str>, keys: &[(&str, Value)]) -> Process {
        let fairing = match url {
            Some(_) => Sessions::fairing(),
            None => Sessions::in_memory(),
        };
        Process::start_with(fairing, url, keys).await
    }

    async fn start_with(
        fairing: SessionFairing,
        url: Option<&str>,
        keys: &[(&str, Value)],
    ) -> Process {
        let clock = Clock::new();
        let rocket = rocket(fairing.with_clock(&clock), url, keys);
        let client = Client::untracked(rocket).await.expect("a launch");
        Process { client, clock }
    }

    fn sessions(&self) -> &Sessions {
        let rocket = self.client.rocket();
        rocket.state().expect("the fairing manages it")
    }

    /// Sends a request; the cookie is the browser's, and changes as the response says.
    async fn ask(&self, cookie: &mut Option<String>, steps: &str) -> Status {
        let mut request = self.client.get(format!("/do/{steps}"));
        if let Some(value) = &cookie {
            request = request.cookie(Cookie::new("session", value.clone()));
        }
        let response = request.dispatch().await;
        if let Some(set) = response.cookies().get("session") {
            let value = set.value().to_owned();
            *cookie = (!value.is_empty()).then_some(value);
        }
        response.status()
    }

    /// A browser that did this.
    async fn browser(&self, steps: &str) -> Option<String> {
        let mut cookie = None;
        assert_eq!(self.ask(&mut cookie, steps).await, Status::Ok);
        assert!(cookie.is_some(), "{steps} stores a session");
        cookie
    }

    /// The end of a browser's session, as a stream of this process waits for it.
    async fn follow(&self, cookie: &mut Option<String>) -> Ended {
        assert_eq!(self.ask(cookie, "ended").await, Status::Ok);
        self.kept()
    }

    fn kept(&self) -> Ended {
        let kept: Option<&Kept> = self.client.rocket().state();
        kept.expect("it is managed").take()
    }
}

fn rocket(fairing: SessionFairing, url: Option<&str>, keys: &[(&str, Value)]) -> Rocket<Build> {
    rocket::custom(figment("debug", url, keys))
        .attach(fairing)
        .manage(Kept::default())
        .mount("/", routes![run])
}

fn id(cookie: &Option<String>) -> String {
    let cookie = cookie.as_deref().expect("a cookie");
    crate::apps::probe::id_of(cookie).to_owned()
}

async fn end_of(ended: Ended) -> End {
    in_time("the end of a session", ended).await
}

/// Whether it has ended already.
fn has_ended(ended: &Ended) -> bool {
    use futures::FutureExt;
    ended.clone().now_or_never().is_some()
}

/// Where sessions are kept: nowhere, and on the servers that all tests share.
async fn everywhere() -> Vec<Option<String>> {
    let standalone = Mongod::shared().await.url(&database());
    let set = ReplicaSet::shared().await.url(&database());
    [None, Some(standalone), Some(set)].to_vec()
}
