//! The public names and signatures, as an application may rely on them. What is checked here is
//! that it compiles; what the calls do is checked elsewhere.

use std::time::Duration;

use futures::StreamExt;
use rocket::http::uri::Origin;
use rocket::outcome::Outcome;
use rocket::request::{FromRequest, Request};
use rocket::{FromForm, async_trait};
use rocket_db_pools::Database;
use rocket_mongo_session::time::OffsetDateTime;
use rocket_mongo_session::{
    CsrfError, CsrfForm, CsrfHeader, Edit, End, Ended, Error, Event, EventKind, Events, Key, Kind,
    MongoPool, NewReason, NoFields, Of, Page, Query, Queue, RecentLogin, Result, Session,
    SessionFairing, SessionInfo, Sessions, SessionsOf, Stats, Store, UserSessions, testing,
};

const VISITS: Key<u32> = Key::new("visits");
const NAME: Key<String> = Key::new("name");

#[derive(Database)]
#[database("main")]
struct Main(MongoPool);

#[derive(FromForm)]
struct Order {
    count: u32,
}

#[allow(dead_code, clippy::let_unit_value, clippy::too_many_lines)]
async fn a_session(session: &Session) -> Result<()> {
    let _: Option<u32> = session.get(VISITS)?;
    let _ = session.get::<u32>("visits")?;
    let _ = session.get::<u32>(&String::from("visits"))?;
    let _: () = session.set(VISITS, &1)?;
    session.set(NAME, "Bob")?;
    session.set("name", "Bob")?;
    session.set("list", &[1, 2][..])?;
    let _: bool = session.remove("x");
    let _: bool = session.remove(VISITS);
    let _: Option<u32> = session.take(VISITS)?;
    let _: bool = session.contains("x");
    let _: (Vec<String>, usize, bool) = (session.keys(), session.len(), session.is_empty());
    session.clear();
    let _: u32 = session.get_or_insert(VISITS, 1)?;
    let _: i64 = session.increment(VISITS, 1)?;
    session.push("list", &1)?;
    session.push("list", "text")?;
    let _: u32 = session
        .modify(VISITS, |visits| visits.unwrap_or(0) + 1)
        .await?;
    let _: Vec<u8> = session
        .modify("x", |x: Option<Vec<u8>>| x.unwrap_or_default())
        .await?;
    session.flash("message")?;
    session.flash(("level", 1))?;
    let queue: Queue<'_> = session.flash_queue("errors");
    queue.push("message")?;
    queue.push_unique(String::new())?;
    let _: Vec<String> = queue.peek()?;
    let _: Vec<String> = queue.pop().await?;
    let _: Vec<String> = session.pop_flash().await?;
    let _: Vec<String> = session.peek_flash()?;
    let _: (String, String) = (session.csrf_token(), session.new_csrf_token());
    let _: bool = session.verify_csrf("token");
    let _: &'static str = const { VISITS.name() };
    let _: Option<u32> = session
        .modify_or_remove(VISITS, |visits| visits.filter(|n| *n > 1))
        .await?;
    session.login(7)?;
    session.login("bob")?;
    session.login_keeping(7, &["basket"])?;
    let _: Option<i32> = session.user()?;
    session.logout()?;
    session.logout_keeping(&["language"])?;
    session.set_return_to(&Origin::parse("/a").expect("a path"))?;
    let _: Option<Origin<'static>> = session.take_return_to();
    session.invalidate()?;
    session.renew()?;
    session.elevate()?;
    session.touch();
    session.save().await?;
    let _: (Option<String>, bool) = (session.id(), session.is_new());
    let _: (OffsetDateTime, OffsetDateTime) = (session.created(), session.accessed());
    let _: Option<OffsetDateTime> = session.expires();
    let reason: Option<NewReason> = session.why_new();
    match reason {
        Some(
            NewReason::NoCookie
            | NewReason::Malformed
            | NewReason::Ambiguous
            | NewReason::NotFound
            | NewReason::WrongSecret
            | NewReason::Expired
            | NewReason::Replaced
            | NewReason::Ended,
        )
        | None => {}
        Some(_) => {}
    }
    session.skip_touch();
    session.set_timeout(Some(Duration::from_secs(1)))?;
    session.set_lifetime(Some(Duration::from_secs(1)))?;
    session.remember_for(Duration::from_secs(1))?;
    let _: Option<Duration> = session.timeout().or(session.lifetime());
    let _: Option<Duration> = session.max_age();
    session.reset_times()?;
    let ended: Ended = session.ended();
    ended.touch();
    lasts::<Ended>();
    match ended.clone().await {
        End::LoggedOut | End::Revoked | End::Replaced | End::Expired | End::Gone => {}
        _ => {}
    }
    session.set_max_age(None)
}

struct Admin;

impl Kind for Admin {
    const NAME: &'static str = "admin";
}

#[allow(dead_code)]
async fn a_kind(admin: Of<'_, Admin>, admins: SessionsOf<'_, Admin>, main: &Session) -> Result<()> {
    let session: &Session = &admin;
    let _: String = session.issue_token()?;
    let sessions: &Sessions = &admins;
    let _: u64 = sessions.count().await?;
    let _: &str = <rocket_mongo_session::Main as Kind>::NAME;
    admin.logout()?;
    main.logout()
}

#[allow(dead_code)]
async fn tests_sign_in(
    client: &rocket::local::asynchronous::Client,
    blocking: &rocket::local::blocking::Client,
) -> Result<()> {
    testing::sign_in(client, "bob").await?;
    testing::sign_in_of::<Admin>(client, 7).await?;
    testing::sign_in_blocking(blocking, String::new())?;
    testing::sign_in_blocking_of::<Admin>(blocking, 7)
}

#[rocket::post("/of-a-kind", data = "<_form>")]
fn every_guard_of_a_kind(
    _session: Of<'_, Admin>,
    _optional: Option<Of<'_, Admin>>,
    _result: std::result::Result<Of<'_, Admin>, Error>,
    _sessions: SessionsOf<'_, Admin>,
    _header: CsrfHeader<Admin>,
    _recent: RecentLogin<300, Admin>,
    _form: CsrfForm<NoFields, Admin>,
) {
}

#[rocket::post("/button", data = "<_form>")]
fn a_button(_form: CsrfForm) {}

#[allow(dead_code)]
fn lasts<T: Send + Sync + Unpin + Clone + Future + 'static>() {}

#[allow(dead_code)]
async fn what_happens(sessions: &Sessions) -> Result<()> {
    let mut events: Events = sessions.events();
    while let Some(event) = events.next().await {
        let event: Event = event?.clone();
        let _: (&String, OffsetDateTime, Option<i64>) = (&event.id, event.at, event.user()?);
        match event.kind {
            EventKind::Created | EventKind::LoggedIn | EventKind::Elevated => {}
            EventKind::Renewed | EventKind::LoggedOut | EventKind::Revoked => {}
            EventKind::Expired | EventKind::Deleted | EventKind::Missed => {}
            _ => {}
        }
    }
    Ok(())
}

#[allow(dead_code)]
async fn the_administrators(sessions: &Sessions, session: &Session) -> Result<()> {
    let sessions: Sessions = sessions.clone();
    let _: (u64, u64) = (sessions.count().await?, sessions.of(7).count().await?);
    for info in sessions.of("bob").list(0, 10).await? {
        let SessionInfo {
            id,
            created,
            accessed,
            expires,
            client,
            ip,
            ..
        } = info;
        let _: (String, OffsetDateTime, OffsetDateTime) = (id, created, accessed);
        let _: Option<OffsetDateTime> = expires;
        let _: (Option<String>, Option<std::net::IpAddr>) = (client, ip);
    }
    let _: (bool, bool) = (
        sessions.revoke("x").await?,
        sessions.of(7).revoke("x").await?,
    );
    let _: (u64, u64) = (
        sessions.of(7).revoke_all().await?,
        sessions.revoke_others(session).await?,
    );
    let _: (u64, u64) = (
        sessions.revoke_all().await?,
        sessions.purge_expired().await?,
    );
    let _: u64 = sessions.estimated_count().await?;
    let user: UserSessions = sessions.of("bob");
    let _: u64 = user.flash("message").await?;
    let _: Vec<serde_json::Value> = user.export().await?;
    let at = OffsetDateTime::UNIX_EPOCH;
    let query = Query::new().created_before(at).created_after(at);
    let query = query.accessed_before(at).accessed_after(at);
    let query = query.expires_before(at).expires_after(at);
    let query = query.client_contains("x").ip([127, 0, 0, 1].into());
    let page: Page = sessions.find(&query.limit(10).after("cursor")).await?;
    let _: (Vec<SessionInfo>, Option<String>) = (page.sessions, page.next);
    let edit: Edit = sessions.edit("id").set(NAME, "Bob")?.remove(NAME);
    let edit = edit
        .increment(VISITS, 1)
        .push("list", &1)?
        .flash("message")?;
    let _: bool = edit.apply().await?;
    let _: Sessions = Sessions::connect(&rocket::Config::figment()).await?;
    sessions.ensure_indexes().await?;
    sessions.ping().await?;
    let _: u64 = <Stats as Clone>::clone(&sessions.stats()).loads;
    Ok(())
}

#[allow(dead_code)]
fn every_constructor_makes_one_type(
    collection: mongodb::Collection<bson::Document>,
    store: impl Store,
) {
    let _: [SessionFairing; 6] = [
        Sessions::fairing(),
        Sessions::fairing_of::<Admin>(),
        Sessions::in_collection(collection),
        Sessions::in_database::<Main>(),
        Sessions::in_memory(),
        Sessions::with_store(store),
    ];
}

/// A guard of the application's own, built on the session's.
struct User;

#[async_trait]
impl<'r> FromRequest<'r> for User {
    type Error = Error;

    async fn from_request(request: &'r Request<'_>) -> rocket::request::Outcome<Self, Error> {
        match request.guard::<&Session>().await {
            Outcome::Success(_) => Outcome::Success(User),
            Outcome::Error(error) => Outcome::Error(error),
            Outcome::Forward(status) => Outcome::Forward(status),
        }
    }
}

#[rocket::post("/<_>", data = "<form>")]
#[allow(clippy::too_many_arguments)]
fn every_guard(
    _session: &Session,
    _optional: Option<&Session>,
    _result: std::result::Result<&Session, Error>,
    _sessions: &Sessions,
    _header: CsrfHeader,
    _recent: RecentLogin<300>,
    _user: User,
    form: std::result::Result<CsrfForm<Order>, CsrfError<'_>>,
) -> std::result::Result<(), Error> {
    match form {
        Ok(form) => {
            let _: u32 = form.into_inner().count;
            Ok(())
        }
        Err(CsrfError::Session(error)) => Err(error),
        Err(CsrfError::Token(_) | CsrfError::Form(_) | _) => Ok(()),
    }
}

#[test]
fn an_application_compiles_against_every_public_name() {
    fn owned_and_clone<T: Clone + Send + Sync + 'static>() {}
    owned_and_clone::<Error>();
    owned_and_clone::<Sessions>();
    let routes = rocket::routes![every_guard, every_guard_of_a_kind, a_button];
    assert_eq!(routes.len(), 3);
}
