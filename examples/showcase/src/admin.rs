//! The administrator's pages: counters, signed-in users, and buttons that end sessions.

use rocket::response::Redirect;
use rocket::{FromForm, Route, Shutdown, State, get, post, routes, uri};
use rocket_dyn_templates::{Template, context};
use rocket_mongo_session::{CsrfForm, NoFields, Of, RecentLogin, Session, Sessions, SessionsOf};

use crate::customer::{Admin, Administrator, still_signed_in};
use crate::device::{Device, newest};
use crate::failure::Result;
use crate::live::{self, Changes};
use crate::notice::Notice;
use crate::now::Now;
use crate::page::Page;
use crate::users::Users;
use crate::words::count;

/// Accounts on a page, and sessions of one account: the newest.
const SHOWN: u32 = 20;

pub fn routes() -> Vec<Route> {
    routes![
        overview,
        overview_changes,
        user,
        user_changes,
        end,
        end_user,
        end_everyone
    ]
}

#[get("/?<search>")]
async fn overview(
    _admin: Administrator,
    search: Option<&str>,
    page: Page<'_>,
    admin: Of<'_, Admin>,
    sessions: &Sessions,
    users: &State<Users>,
) -> Result<Template> {
    let search = search.unwrap_or_default().trim().to_ascii_lowercase();
    let mut found = Vec::new();
    for name in users.names(&search, SHOWN as usize).await? {
        let devices = count(sessions.of(&name).count().await?, "device");
        let link = uri!("/admin", user(&name)).to_string();
        found.push(context! { name, devices, link });
    }
    let stats = sessions.stats();
    let live = sessions.count().await?;
    let content = context! {
        admin_token: admin.csrf_token(),
        changes: uri!("/admin", overview_changes(live)).to_string(),
        search,
        found,
        sessions: live,
        accounts: users.count().await?,
        stats: [
            ("Loads", stats.loads, "requests with a session's cookie"),
            ("Hits", stats.hits, "of these, found alive"),
            ("Misses", stats.misses, "ended, unknown or forged"),
            ("Wrong secrets", stats.wrong_secrets, "of these, with the name of a session"),
            ("Expired", stats.expired, "found, but too old"),
            ("Commits", stats.commits, "responses that waited for a write"),
            ("Touches", stats.touches, "notes that a session is in use"),
            ("Conflicts", stats.conflicts, "changes that had to be tried again"),
            ("Gone", stats.gone, "changes to sessions that had ended"),
            ("Ambiguous", stats.ambiguous, "requests with several cookies"),
            ("Refused", stats.refused, "requests from other sites"),
            ("Forged", stats.csrf_refused, "forms without their token"),
            ("Failures", stats.failures, "store operations that failed"),
        ],
    };
    page.show("admin", content).await
}

/// Tells the open overview of everything that happens to customers' sessions. `seen` is how many live
/// ones it shows.
#[get("/changes?<seen>")]
async fn overview_changes<'r>(
    admin: Option<Administrator>,
    session: Of<'r, Admin>,
    sessions: &'r Sessions,
    seen: u64,
    shutdown: Shutdown,
) -> Result<Changes<'r>> {
    if admin.is_none() {
        return Ok(live::ended());
    }
    let is_new = sessions.count().await? != seen;
    Ok(live::changes(&session, sessions, shutdown, is_new, |_| {
        true
    }))
}

#[get("/user/<name>")]
async fn user(
    _admin: Administrator,
    name: &str,
    page: Page<'_>,
    admin: Of<'_, Admin>,
    session: &Session,
    sessions: &Sessions,
    now: Now,
) -> Result<Template> {
    let (found, older) = newest(sessions, name, SHOWN).await?;
    let changes = uri!("/admin", user_changes(name, live::version(&found))).to_string();
    let devices = Device::list(found, session.id().as_deref(), now.0);
    let admin_token = admin.csrf_token();
    let content = context! { admin_token, name, devices, older, changes };
    page.show("admin_user", content).await
}

#[get("/user/<name>/changes?<seen>")]
async fn user_changes<'r>(
    admin: Option<Administrator>,
    name: &str,
    session: Of<'r, Admin>,
    sessions: &'r Sessions,
    seen: u64,
    shutdown: Shutdown,
) -> Result<Changes<'r>> {
    if admin.is_none() {
        return Ok(live::ended());
    }
    let (found, _) = newest(sessions, name, SHOWN).await?;
    let is_new = live::version(&found) != seen;
    let is_change = live::changes_list(found, name.to_owned());
    Ok(live::changes(
        &session, sessions, shutdown, is_new, is_change,
    ))
}

#[derive(FromForm)]
struct End<'r> {
    device: &'r str,
    name: &'r str,
}

#[post("/end", data = "<form>")]
async fn end(
    _admin: Administrator,
    form: CsrfForm<End<'_>, Admin>,
    admin: Of<'_, Admin>,
    session: &Session,
    sessions: &Sessions,
) -> Result<Redirect> {
    still_signed_in(&admin).await?;
    session.flash(if sessions.revoke(form.device).await? {
        Notice::good(format!("A device of {} is signed out.", form.name))
    } else {
        Notice::bad("That device was signed out already.")
    })?;
    Ok(Redirect::to(uri!("/admin", user(form.name))))
}

#[derive(FromForm)]
struct EndUser<'r> {
    name: &'r str,
}

#[post("/end-user", data = "<form>")]
async fn end_user(
    _admin: Administrator,
    form: CsrfForm<EndUser<'_>, Admin>,
    admin: Of<'_, Admin>,
    session: &Session,
    sessions: &Sessions,
) -> Result<Redirect> {
    still_signed_in(&admin).await?;
    let ended = count(sessions.of(form.name).revoke_all().await?, "device");
    session.flash(Notice::good(format!(
        "{} is signed out on {ended}.",
        form.name
    )))?;
    Ok(Redirect::to(uri!("/admin", user(form.name))))
}

/// Ends all sessions. Requires the password again if the last login is too long ago.
#[post("/end-everyone", data = "<_form>")]
async fn end_everyone(
    _admin: Administrator,
    _recent: RecentLogin<300, Admin>,
    _form: CsrfForm<NoFields, Admin>,
    admin: Of<'_, Admin>,
    session: &Session,
    sessions: &Sessions,
    admins: SessionsOf<'_, Admin>,
) -> Result<Redirect> {
    still_signed_in(&admin).await?;
    let ended = count(sessions.revoke_all().await?, "session");
    admins.revoke_all().await?;
    // The administrator's own sessions have ended too. The notice goes to a new session without a user.
    admin.logout()?;
    session.logout()?;
    session.flash(Notice::good(format!(
        "Everybody is signed out: {ended} ended."
    )))?;
    Ok(Redirect::to("/"))
}
