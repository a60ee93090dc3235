//! How a request comes by its session: the guards, and what a request remembers of it.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rocket::http::{Cookie, Method, Status};
use rocket::request::{FromRequest, Outcome, Request};
use rocket::tokio::sync::OnceCell;
use rocket::{Ignite, Rocket, Sentinel, async_trait};

use crate::ancestor::Ancestor;
use crate::cookie::{self, Presented};
use crate::document::Document;
use crate::error::{Error, Result};
use crate::origin::{self, Arrival as Origins};
use crate::record::{Client, Record};
use crate::session::Session;
use crate::sessions::Sessions;
use crate::state::{Arrival, Stored};
use crate::token::Token;

/// The session of one request, loaded at most once, whoever asks for it first. It lives in the
/// request, where the response fairing finds it.
#[derive(Default)]
pub(crate) struct Slot {
    session: OnceCell<Result<Session>>,
    /// The answer was judged: who asks from here on is another response fairing.
    judged: AtomicBool,
}

impl Slot {
    pub(crate) fn of<'r>(request: &'r Request<'_>) -> &'r Slot {
        request.local_cache(Slot::default)
    }

    /// What was loaded, if anybody asked.
    pub(crate) fn asked(&self) -> Option<&Result<Session>> {
        self.session.get()
    }

    /// Says that who answers is known by now; whether it was said before.
    pub(crate) fn judge(&self) -> bool {
        self.judged.swap(true, Ordering::Relaxed)
    }
}

/// Tells the response fairing who answered. Rocket drops the cookies that a handler added when a
/// catcher answers in its place, so a cookie that the guard adds is there only if no catcher did.
/// It never reaches the browser; its value is random, since a client's own cookie would look alike.
pub(crate) struct Mark;

static MARK: LazyLock<String> = LazyLock::new(|| {
    // Without random bytes no session can be made either; a client could then at most have its
    // own request's exception overlooked.
    crate::token::Id::draw().map_or_else(|_| String::new(), |id| id.to_string())
});

impl Mark {
    /// Short, because it is hashed and written into a header at every use of a session.
    const NAME: &'static str = "_rms";

    fn is_set(request: &Request<'_>) -> bool {
        let pending = request.cookies().get_pending(Self::NAME);
        pending.is_some_and(|cookie| cookie.value() == *MARK)
    }

    fn set(request: &Request<'_>) {
        request
            .cookies()
            .add(Cookie::new(Self::NAME, MARK.as_str()));
    }

    /// Whether one `Set-Cookie` header is the mark.
    pub(crate) fn is(header: &str) -> bool {
        let value = header
            .strip_prefix(Self::NAME)
            .and_then(|rest| rest.strip_prefix('='));
        value.is_some_and(|rest| rest.split(';').next() == Some(MARK.as_str()))
    }
}

#[async_trait]
impl<'r> FromRequest<'r> for &'r Session {
    type Error = Error;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Error> {
        let Some(sessions) = request.rocket().state::<Sessions>() else {
            Error::NotAttached.log();
            return Outcome::Error((Status::InternalServerError, Error::NotAttached));
        };
        let slot = Slot::of(request);
        let asked_before = slot.asked().is_some();
        let loaded = slot.session.get_or_init(|| load(request, sessions)).await;
        if !slot.judged.load(Ordering::Relaxed) && !Mark::is_set(request) {
            // Either nobody had asked before, or a catcher asks, after the handler's answer was
            // dropped.
            if let (true, Ok(session)) = (asked_before, loaded) {
                sessions.catcher_began(session);
            }
            Mark::set(request);
        }
        match loaded {
            Ok(session) => Outcome::Success(session),
            Err(error) => Outcome::Error((error.status(), error.clone())),
        }
    }
}

impl Sentinel for &Session {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        not_attached(rocket)
    }
}

#[async_trait]
impl<'r> FromRequest<'r> for &'r Sessions {
    type Error = Error;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Error> {
        match request.rocket().state::<Sessions>() {
            Some(sessions) => Outcome::Success(sessions),
            None => {
                Error::NotAttached.log();
                Outcome::Error((Status::InternalServerError, Error::NotAttached))
            }
        }
    }
}

impl Sentinel for &Sessions {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        not_attached(rocket)
    }
}

pub(crate) fn not_attached(rocket: &Rocket<Ignite>) -> bool {
    if rocket.state::<Sessions>().is_some() {
        return false;
    }
    rocket::error!("A mounted route asks for a session, but no session fairing is attached.");
    rocket::info_!("Attach one: `rocket.attach(Sessions::fairing())`.");
    true
}

async fn load(request: &Request<'_>, sessions: &Sessions) -> Result<Session> {
    let committer = &sessions.committer;
    if let Err(reason) = same_site(request, sessions) {
        committer.stats.refused.count();
        rocket::warn!(
            "Session: a {} request was refused: {reason}",
            request.method()
        );
        return Err(Error::CrossSite);
    }
    let config = &committer.config;
    let headers = request.headers();
    let presented = if headers.contains("Cookie") {
        cookie::read(headers, config)
    } else {
        // Rocket's local client fills the jar alone; over the wire there is no jar without it.
        match request.cookies().get(&config.cookie_name) {
            Some(cookie) => cookie::parse(cookie.value(), config),
            None => Presented::Nothing,
        }
    };
    let client = if config.record_client {
        client(request)
    } else {
        Client::default()
    };
    let arrival = arrive(presented, sessions).await.inspect_err(Error::log)?;
    Ok(Session::new(committer.clone(), arrival, client))
}

fn same_site(request: &Request<'_>, sessions: &Sessions) -> Result<(), origin::CrossSite> {
    let config = &sessions.committer.config;
    let headers = request.headers();
    let is_form = request
        .content_type()
        .is_some_and(|content| content.is_form() || content.is_form_data());
    let safe = matches!(
        request.method(),
        Method::Get | Method::Head | Method::Options | Method::Trace
    );
    // A websocket is opened by GET, from any site, with our cookie.
    let safe = safe && !headers.contains("Upgrade");
    if safe && !is_form {
        return Ok(()); // as it would be judged, without the search for what is not asked
    }
    let all = |name| headers.get(name).collect::<Vec<&str>>();
    let (sites, origins, hosts) = (all("Sec-Fetch-Site"), all("Origin"), all("Host"));
    // HTTP/2 says it outside the headers.
    let authority = request.host().map(ToString::to_string);
    origin::judge(
        &Origins {
            method_is_safe: safe,
            form_content_type: is_form,
            secure_cookie: config.secure,
            sec_fetch_site: &sites,
            origin: &origins,
            host: match hosts.as_slice() {
                [] => authority.as_deref(),
                [host] => Some(host),
                _ => None,
            },
        },
        &config.trusted_origins,
    )
}

fn client(request: &Request<'_>) -> Client {
    const LONGEST: usize = 128;
    let agent = request.headers().get_one("User-Agent").map(|agent| {
        let printable = agent.chars().filter(|c| !c.is_control());
        printable.take(LONGEST).collect()
    });
    Client {
        agent,
        // The peer itself: what a proxy or a client claims in a header is not believed here.
        ip: request.remote().map(|peer| peer.ip().to_string()),
    }
}

async fn arrive(presented: Presented, sessions: &Sessions) -> Result<Arrival> {
    let stats = &sessions.committer.stats;
    match presented {
        Presented::Nothing => Ok(Arrival::Nothing),
        Presented::Token(token) => {
            stats.loads.count();
            let document = sessions.committer.store.load(token.id.as_str()).await?;
            Ok(judge(document, token, sessions))
        }
        Presented::Ancestor(id) => {
            stats.loads.count();
            let document = sessions.committer.store.load(id.as_str()).await?;
            let config = &sessions.committer.config;
            let Some(ancestor) = document.as_ref().and_then(Ancestor::parse) else {
                sessions.missed();
                return Ok(Arrival::Dead(id));
            };
            let now = sessions.committer.clock.now();
            if !ancestor.is_alive(now, config.timeout, config.lifetime) {
                stats.expired.count();
                return Ok(Arrival::Expired(id));
            }
            stats.hits.count();
            Ok(Arrival::Ancestor(Box::new(ancestor)))
        }
    }
}

/// Whether the document that a token names is its browser's own, and alive.
fn judge(document: Option<Document>, token: Token, sessions: &Sessions) -> Arrival {
    let (config, stats) = (&sessions.committer.config, &sessions.committer.stats);
    let record = document.and_then(|document| {
        let id = document.id().unwrap_or_default().to_owned();
        let record = Record::parse(document);
        if record.is_none() {
            // Not overwritten: somebody may want to look at it.
            rocket::warn!("Session: the stored document {id:?} is malformed and not used.");
        }
        record
    });
    // A collation of somebody's can find another id than the one that was asked for.
    let Some(record) = record.filter(|record| record.id == token.id) else {
        sessions.missed();
        return Arrival::Dead(token.id);
    };
    let digest = token.secret.digest(&config.cookie_name);
    if !record.token.matches(&digest) {
        sessions.missed();
        return Arrival::Locked(token.id);
    }
    if record.deadline(config.timeout, config.lifetime) < sessions.committer.clock.now() {
        stats.expired.count();
        return Arrival::Expired(token.id);
    }
    stats.hits.count();
    Arrival::Live(Box::new(Stored { record, token }))
}
