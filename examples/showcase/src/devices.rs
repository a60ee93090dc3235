//! The account page: the signed-in devices, with buttons that sign each out.

use std::cmp::Reverse;

use rocket::response::Redirect;
use rocket::{FromForm, Route, get, post, routes};
use rocket_dyn_templates::{Template, context};
use rocket_mongo_session::{CsrfForm, Of, Session, Sessions, SessionsOf};

use crate::customer::{Admin, Customer, still_signed_in};
use crate::device::{Device, newest};
use crate::failure::Result;
use crate::notice::Notice;
use crate::now::Now;
use crate::page::Page;
use crate::words::count;

/// The number of listed devices, the newest. Ending all others includes devices that are not listed.
const LISTED: u32 = 50;

pub fn routes() -> Vec<Route> {
    routes![devices, end, end_others, end_all]
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
    let devices = Device::list(found, this.as_deref(), now.0);
    page.show("account", context! { devices, older }).await
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
