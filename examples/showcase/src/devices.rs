//! The account page: the signed-in devices, with buttons that sign each out.

use std::cmp::Reverse;

use rocket::response::Redirect;
use rocket::{FromForm, Route, Shutdown, get, post, routes, uri};
use rocket_dyn_templates::{Template, context};
use rocket_mongo_session::{CsrfForm, Of, Session, Sessions, SessionsOf};

use crate::customer::{Admin, Customer, still_signed_in};
use crate::device::{Device, newest};
use crate::failure::Result;
use crate::live::{self, Changes};
use crate::notice::Notice;
use crate::now::Now;
use crate::page::Page;
use crate::words::count;

/// The number of listed devices, the newest. Ending all others includes devices that are not listed.
const LISTED: u32 = 50;

pub fn routes() -> Vec<Route> {
    routes![devices, changes, end, end_others, end_all]
}

#[get("/")]
async fn devices(
    customer: Customer,
    page: Page<'_>,
    session: &Session,
    sessions: &Sessions,
    now: Now,
) -> Result<Template> {
    let Customer(user) = customer;
    let this = session.id();
    let (mut found, older) = newest(sessions, &user.name, LISTED).await?;
    // This device first, then by last use.
    found.sort_by_key(|info| (this.as_ref() != Some(&info.id), Reverse(info.accessed)));
    let changes = uri!("/account", changes(live::version(&found))).to_string();
    let devices = Device::list(found, this.as_deref(), now.0);
    page.show("account", context! { devices, older, changes })
        .await
}

/// Tells the open account page of new and ended devices. `seen` is the version that it shows.
#[get("/changes?<seen>")]
async fn changes<'r>(
    customer: Option<Customer>,
    session: &'r Session,
    sessions: &'r Sessions,
    seen: u64,
    shutdown: Shutdown,
) -> Result<Changes<'r>> {
    let Some(Customer(user)) = customer else {
        return Ok(live::ended());
    };
    let (found, _) = newest(sessions, &user.name, LISTED).await?;
    let is_new = live::version(&found) != seen;
    let is_change = live::changes_list(found, user.name);
    Ok(live::changes(
        session, sessions, shutdown, is_new, is_change,
    ))
}

#[derive(FromForm)]
struct End<'r> {
    device: &'r str,
}

/// Ends one session. The id comes from the browser, so only a session of this user is ended.
#[post("/end", data = "<form>")]
async fn end(
    customer: Customer,
    form: CsrfForm<End<'_>>,
    session: &Session,
    sessions: &Sessions,
) -> Result<Redirect> {
    let Customer(user) = customer;
    still_signed_in(session).await?;
    session.flash(if sessions.of(&user.name).revoke(form.device).await? {
        Notice::good("That device is signed out.")
    } else {
        Notice::bad("That device was signed out already.")
    })?;
    Ok(Redirect::to("/account"))
}

#[post("/end-others", data = "<_form>")]
async fn end_others(
    customer: Customer,
    _form: CsrfForm,
    session: &Session,
    sessions: &Sessions,
    admins: SessionsOf<'_, Admin>,
) -> Result<Redirect> {
    let Customer(user) = customer;
    still_signed_in(session).await?;
    let ended = sessions.revoke_others(session).await?;
    // The same person's sessions as an administrator: this device, too, signs in for them again.
    admins.of(&user.name).revoke_all().await?;
    let ended = count(ended, "other device");
    session.flash(Notice::good(format!("Signed out on {ended}.")))?;
    Ok(Redirect::to("/account"))
}

#[post("/end-all", data = "<_form>")]
async fn end_all(
    customer: Customer,
    _form: CsrfForm,
    session: &Session,
    admin: Of<'_, Admin>,
    sessions: &Sessions,
    admins: SessionsOf<'_, Admin>,
) -> Result<Redirect> {
    let Customer(user) = customer;
    still_signed_in(session).await?;
    let ended = sessions.of(&user.name).revoke_all().await?;
    admins.of(&user.name).revoke_all().await?;
    admin.logout()?;
    // This session has ended too. The notice goes to a new session without a user.
    session.logout()?;
    let ended = count(ended, "device");
    session.flash(Notice::good(format!(
        "Signed out on {ended}, this one included."
    )))?;
    Ok(Redirect::to("/"))
}
