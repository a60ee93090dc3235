//! Changing the password: only soon after signing in and with the current password. It signs out every
//! other device.

use rocket::http::Status;
use rocket::response::Redirect;
use rocket::{FromForm, Route, State, get, post, routes};
use rocket_dyn_templates::{Template, context};
use rocket_mongo_session::{CsrfForm, RecentLogin, Session, Sessions, SessionsOf};

use crate::customer::{Admin, Customer, still_signed_in};
use crate::failure::Result;
use crate::mistake::{Mistake, SHORT_PASSWORD};
use crate::notice::Notice;
use crate::page::Page;
use crate::password;
use crate::sign::keep_remembered;
use crate::users::{User, Users};
use crate::words::count;

/// Requires a login within the last five minutes; otherwise redirects to the sign-in page.
type Recent = RecentLogin<300>;

const NOT_THE_CURRENT: Mistake = Mistake::new("That is not your current password.", &["current"]);

pub fn routes() -> Vec<Route> {
    routes![show, change]
}

#[get("/")]
async fn show(_customer: Customer, _recent: Recent, page: Page<'_>) -> Result<Template> {
    show_form(&page, None).await
}

async fn show_form(page: &Page<'_>, mistake: Option<Mistake>) -> Result<Template> {
    let shortest = password::SHORTEST;
    page.show("password", context! { mistake, shortest }).await
}

#[derive(FromForm)]
struct Change<'r> {
    current: &'r str,
    password: &'r str,
}

impl Change<'_> {
    /// The current password is required as well: another person may use a device that its owner has left
    /// a moment after signing in.
    async fn mistake(&self, user: &User) -> Result<Option<Mistake>> {
        if self.password.chars().count() < password::SHORTEST {
            return Ok(Some(SHORT_PASSWORD));
        }
        let is_current = password::verify(self.current, Some(user.password.clone())).await?;
        Ok((!is_current).then_some(NOT_THE_CURRENT))
    }
}

#[allow(clippy::too_many_arguments)]
#[post("/", data = "<form>")]
async fn change(
    customer: Customer,
    _recent: Recent,
    form: CsrfForm<Change<'_>>,
    session: &Session,
    sessions: &Sessions,
    admins: SessionsOf<'_, Admin>,
    users: &State<Users>,
    page: Page<'_>,
) -> Result<Result<Redirect, (Status, Template)>> {
    let Customer(user) = customer;
    if let Some(mistake) = form.mistake(&user).await? {
        let shown = show_form(&page, Some(mistake)).await?;
        return Ok(Err((Status::UnprocessableEntity, shown)));
    }
    let hash = password::hash(form.password).await?;
    // This device gets a new secret too, so a stolen cookie is worthless. This comes first, so that a
    // request whose session has ended cannot set a password.
    session.elevate()?;
    keep_remembered(session)?;
    still_signed_in(session).await?;
    users.set_password(&user.name, &hash).await?;
    let ended = sessions.revoke_others(session).await?;
    admins.of(&user.name).revoke_all().await?;
    let ended = count(ended, "other device");
    let said = format!("Your password is changed. Signed out on {ended}.");
    session.flash(Notice::good(said))?;
    Ok(Ok(Redirect::to("/account")))
}
