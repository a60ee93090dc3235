//! Signing up, in and out.

use std::time::Duration;

use rocket::form::Form;
use rocket::http::Status;
use rocket::response::Redirect;
use rocket::{FromForm, Route, State, get, post, routes};
use rocket_dyn_templates::{Template, context};
use rocket_mongo_session::{CsrfForm, Error, Key, Of, Session};

use crate::basket::BASKET_NAME;
use crate::customer::Admin;
use crate::failure::Result;
use crate::mistake::{Mistake, OPEN_TOO_LONG, SHORT_PASSWORD};
use crate::notice::Notice;
use crate::page::Page;
use crate::password;
use crate::users::{ADMIN, User, Users};

/// The timeout of a remembered sign-in on an unused device.
const REMEMBERED_FOR: Duration = Duration::from_secs(30 * 86_400);

/// Whether 'remember me' was ticked, for pages that log in again.
const REMEMBERED: Key<bool> = Key::new("remembered");

/// The page that required a sign-in. Stored in the session and not in the URL, which others can set.
pub const RETURN_TO: Key<String> = Key::new("return_to");

const WRONG: Mistake = Mistake::new("The name or the password is wrong.", &["name", "password"]);
const NO_NAME: Mistake = Mistake::new(
    "A name has 2 to 30 letters, digits, dots, dashes or underscores, and begins with a letter or \
     a digit.",
    &["name"],
);
const TAKEN: Mistake = Mistake::new("That name is taken.", &["name"]);

pub fn routes() -> Vec<Route> {
    routes![sign_in_page, sign_in, sign_up_page, sign_up, sign_out]
}

#[derive(FromForm)]
struct Credentials<'r> {
    name: &'r str,
    password: &'r str,
    remember: bool,
    // Checked by the handler. `CsrfForm` would refuse an old page with a 403, and the input would be
    // lost.
    #[field(default = "")]
    csrf_token: &'r str,
}

type Answer = Result<Result<Redirect, (Status, Template)>>;

#[get("/sign-in")]
async fn sign_in_page(page: Page<'_>, session: &Session) -> Result<Template> {
    let name: Option<String> = session.user()?;
    let name = name.as_deref().unwrap_or_default();
    show_sign_in(&page, session, name, false, None).await
}

#[post("/sign-in", data = "<form>")]
async fn sign_in(
    form: Form<Credentials<'_>>,
    session: &Session,
    admin: Of<'_, Admin>,
    users: &State<Users>,
    page: Page<'_>,
) -> Answer {
    let name = form.name.trim().to_ascii_lowercase();
    let (status, mistake) = if !session.verify_csrf(form.csrf_token) {
        (Status::Forbidden, OPEN_TOO_LONG)
    } else {
        let user = users.find(&name).await?;
        if password::verify(form.password, user.map(|user| user.password)).await? {
            let next = enter(session, &admin, &name, form.remember)?;
            session.flash(Notice::good(format!("Welcome back, {name}.")))?;
            return Ok(Ok(next));
        }
        (Status::UnprocessableEntity, WRONG)
    };
    let shown = show_sign_in(&page, session, &name, form.remember, Some(mistake)).await?;
    Ok(Err((status, shown)))
}

async fn show_sign_in(
    page: &Page<'_>,
    session: &Session,
    name: &str,
    remember: bool,
    mistake: Option<Mistake>,
) -> Result<Template> {
    let is_remembered = session.get(REMEMBERED)? == Some(true);
    let content = context! { name, remember, is_remembered, mistake };
    page.show("sign_in", content).await
}

#[get("/sign-up")]
async fn sign_up_page(page: Page<'_>) -> Result<Template> {
    show_sign_up(&page, "", false, None).await
}

#[post("/sign-up", data = "<form>")]
async fn sign_up(
    form: Form<Credentials<'_>>,
    session: &Session,
    admin: Of<'_, Admin>,
    users: &State<Users>,
    page: Page<'_>,
) -> Answer {
    let (status, mistake) = if !session.verify_csrf(form.csrf_token) {
        (Status::Forbidden, OPEN_TOO_LONG)
    } else {
        match make_account(&form, users).await? {
            Ok(name) => {
                let next = enter(session, &admin, &name, form.remember)?;
                session.flash(Notice::good(format!("Welcome, {name}.")))?;
                return Ok(Ok(next));
            }
            Err(mistake) => (Status::UnprocessableEntity, mistake),
        }
    };
    let shown = show_sign_up(&page, form.name.trim(), form.remember, Some(mistake)).await?;
    Ok(Err((status, shown)))
}

async fn make_account(
    form: &Credentials<'_>,
    users: &Users,
) -> Result<std::result::Result<String, Mistake>> {
    let Some(name) = User::name(form.name) else {
        return Ok(Err(NO_NAME));
    };
    if form.password.chars().count() < password::SHORTEST {
        return Ok(Err(SHORT_PASSWORD));
    }
    let user = User {
        name: name.clone(),
        password: password::hash(form.password).await?,
    };
    if name == ADMIN || !users.create(user).await? {
        return Ok(Err(TAKEN));
    }
    Ok(Ok(name))
}

async fn show_sign_up(
    page: &Page<'_>,
    name: &str,
    remember: bool,
    mistake: Option<Mistake>,
) -> Result<Template> {
    let shortest = password::SHORTEST;
    let content = context! { name, remember, mistake, shortest };
    page.show("sign_up", content).await
}

/// Logs the user in, with a new session that no one else can know. The basket of a visitor and of the
/// same user is kept; the data of another user is not.
fn enter(
    session: &Session,
    admin: &Session,
    name: &str,
    remember: bool,
) -> Result<Redirect, Error> {
    // The administrator gets a session of each kind; another user ends it here.
    match name {
        ADMIN => admin.login(name)?,
        _ => admin.logout()?,
    }
    let (mut next, mut remember) = (None, remember);
    let before: Option<String> = session.user()?;
    if before.is_none_or(|before| before == name) {
        next = session.take(RETURN_TO)?;
        remember |= session.get(REMEMBERED)? == Some(true);
        session.login_keeping(name, &[BASKET_NAME])?;
    } else {
        session.login(name)?;
    }
    if remember {
        session.set(REMEMBERED, &true)?;
    }
    keep_remembered(session)?;
    Ok(Redirect::to(next.unwrap_or_else(|| "/".to_owned())))
}

/// 'Remember me' sets two times: the session's in the database, and the cookie's in the browser.
pub fn keep_remembered(session: &Session) -> Result<(), Error> {
    if session.get(REMEMBERED)? == Some(true) {
        session.set_timeout(Some(REMEMBERED_FOR))?;
        session.set_max_age(Some(REMEMBERED_FOR))?;
    }
    Ok(())
}

#[post("/sign-out", data = "<_form>")]
fn sign_out(_form: CsrfForm, session: &Session, admin: Of<'_, Admin>) -> Result<Redirect> {
    admin.logout()?;
    session.logout()?;
    // From here on it is another session, without a user.
    session.flash(Notice::good("You are signed out."))?;
    Ok(Redirect::to("/"))
}
