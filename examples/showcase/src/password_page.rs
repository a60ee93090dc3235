//! Changing the password: only soon after signing in, and it ends every other device.

use rocket::http::Status;
use rocket::response::Redirect;
use rocket::{FromForm, Route, State, get, post, routes};
use rocket_dyn_templates::{Template, context};
use rocket_mongo_session::{CsrfForm, RecentLogin, Session, Sessions};

use crate::customer::{Customer, still_signed_in};
use crate::failure::Result;
use crate::mistake::{Mistake, SHORT_PASSWORD};
use crate::notice::Notice;
use crate::page::Page;
use crate::password;
use crate::sign::keep_remembered;
use crate::users::Users;
use crate::words::count;

/// Signed in within the last five minutes; otherwise the sign-in page comes first.
type Recent = RecentLogin<300>;

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
    password: &'r str,
}

#[post("/", data = "<form>")]
async fn change(
    customer: Customer,
    _recent: Recent,
    form: CsrfForm<Change<'_>>,
    session: &Session,
    sessions: &Sessions,
    users: &State<Users>,
    page: Page<'_>,
) -> Result<Result<Redirect, (Status, Template)>> {
    if form.password.chars().count() < password::SHORTEST {
        let shown = show_form(&page, Some(SHORT_PASSWORD)).await?;
        return Ok(Err((Status::UnprocessableEntity, shown)));
    }
    let Customer(user) = customer;
    let hash = password::hash(form.password).await?;
    // This device gets a new session as well: whoever had learned its cookie is out. And first of
    // all, so that who is out already sets no password.
    session.elevate()?;
    keep_remembered(session)?;
    still_signed_in(session).await?;
    users.set_password(&user.name, &hash).await?;
    let ended = sessions.revoke_others(session).await?;
    let ended = count(ended, "other device");
    let said = format!("Your password is changed. Signed out on {ended}.");
    session.flash(Notice::good(said))?;
    Ok(Ok(Redirect::to("/account")))
}
