//! Signing up, in and out.

use std::time::Duration;

use rocket::http::Status;
use rocket::response::Redirect;
use rocket::{FromForm, Route, State, get, post, routes};
use rocket_dyn_templates::{Template, context};
use rocket_mongo_session::{CsrfForm, Error, Key, Session};

use crate::basket::BASKET_NAME;
use crate::button::Button;
use crate::failure::Result;
use crate::notice::Notice;
use crate::page::Page;
use crate::password;
use crate::users::{ADMIN, User, Users};

/// How long a remembered sign-in lasts on a device that is not used.
const REMEMBERED_FOR: Duration = Duration::from_secs(30 * 86_400);

/// Whether 'remember me' was ticked, for what has to begin the session anew.
const REMEMBERED: Key<bool> = Key::new("remembered");

/// The page that asked for a sign-in. Kept here and not in an address, where others could write it.
pub const RETURN_TO: Key<String> = Key::new("return_to");

pub fn routes() -> Vec<Route> {
    routes![sign_in_page, sign_in, sign_up_page, sign_up, sign_out]
}

#[derive(FromForm)]
struct Credentials<'r> {
    name: &'r str,
    password: &'r str,
    remember: bool,
}

type Answer = Result<Result<Redirect, (Status, Template)>>;

#[get("/sign-in")]
async fn sign_in_page(page: Page<'_>, session: &Session) -> Result<Template> {
    let name: Option<String> = session.user()?;
    page.show("sign_in", context! { name, error: "" }).await
}

#[post("/sign-in", data = "<form>")]
async fn sign_in(
    form: CsrfForm<Credentials<'_>>,
    session: &Session,
    users: &State<Users>,
    page: Page<'_>,
) -> Answer {
    let name = form.name.to_ascii_lowercase();
    let user = users.find(&name).await?;
    if !password::verify(form.password, user.map(|user| user.password)).await? {
        let error = "That name and that password do not belong together.";
        let shown = page.show("sign_in", context! { name, error }).await?;
        return Ok(Err((Status::UnprocessableEntity, shown)));
    }
    let next = enter(session, &name, form.remember)?;
    session.flash(Notice::good(format!("Welcome back, {name}.")))?;
    Ok(Ok(next))
}

#[get("/sign-up")]
async fn sign_up_page(page: Page<'_>) -> Result<Template> {
    page.show(
        "sign_up",
        context! { name: "", error: "", shortest: password::SHORTEST },
    )
    .await
}

#[post("/sign-up", data = "<form>")]
async fn sign_up(
    form: CsrfForm<Credentials<'_>>,
    session: &Session,
    users: &State<Users>,
    page: Page<'_>,
) -> Answer {
    let error = match User::name(form.name) {
        None => "A name has 2 to 30 letters, digits, dots, dashes or underscores.",
        Some(_) if form.password.chars().count() < password::SHORTEST => {
            "That password is too short."
        }
        Some(name) => {
            let password = password::hash(form.password).await?;
            let user = User {
                name: name.clone(),
                password,
            };
            if name != ADMIN && users.create(user).await? {
                let next = enter(session, &name, form.remember)?;
                session.flash(Notice::good(format!("Welcome, {name}.")))?;
                return Ok(Ok(next));
            }
            "That name is taken."
        }
    };
    let content = context! { name: form.name, error, shortest: password::SHORTEST };
    let shown = page.show("sign_up", content).await?;
    Ok(Err((Status::UnprocessableEntity, shown)))
}

/// Begins a session of the user's: a new one, which nobody can have known before, with the basket
/// of the old one.
fn enter(session: &Session, name: &str, remember: bool) -> Result<Redirect, Error> {
    let next = session.take(RETURN_TO)?.unwrap_or_else(|| "/".to_owned());
    session.login_keeping(name, &[BASKET_NAME])?;
    if remember {
        session.set(REMEMBERED, &true)?;
    }
    keep_remembered(session)?;
    Ok(Redirect::to(next))
}

/// 'Remember me' is two lives: the session's in the database, and the cookie's in the browser.
pub fn keep_remembered(session: &Session) -> Result<(), Error> {
    if session.get(REMEMBERED)? == Some(true) {
        session.set_timeout(Some(REMEMBERED_FOR))?;
        session.set_max_age(Some(REMEMBERED_FOR))?;
    }
    Ok(())
}

#[post("/sign-out", data = "<_form>")]
fn sign_out(_form: CsrfForm<Button>, session: &Session) -> Result<Redirect> {
    session.logout()?;
    // From here on it is another session, of nobody.
    session.flash(Notice::good("You are signed out."))?;
    Ok(Redirect::to("/"))
}
