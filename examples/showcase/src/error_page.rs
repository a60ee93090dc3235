//! The error pages. They use no session, so that they work without the store.

use rocket::http::{Method, Status};
use rocket::outcome::Outcome;
use rocket::response::Redirect;
use rocket::{Catcher, Request, catch, catchers};
use rocket_dyn_templates::{Template, context};
use rocket_mongo_session::Session;

use crate::failure::Failure;
use crate::notice::Notice;
use crate::page::is_refresh;
use crate::sign::RETURN_TO;

pub fn catchers() -> Vec<Catcher> {
    catchers![sign_in_first, any]
}

/// Remembers the requested page and redirects to the sign-in page.
#[catch(401)]
async fn sign_in_first(request: &Request<'_>) -> Result<Redirect, (Status, Template)> {
    if is_refresh(request) {
        return Err(page(Status::Unauthorized));
    }
    let session = match request.guard::<&Session>().await {
        Outcome::Success(session) => session,
        Outcome::Error((status, _)) | Outcome::Forward(status) => return Err(page(status)),
    };
    let remember = || {
        session.set(RETURN_TO, &wanted(request))?;
        session.flash(Notice::bad(match session.user::<String>()? {
            Some(_) => "To continue, please enter your password once more.",
            None => "To continue, please sign in.",
        }))
    };
    match remember() {
        Ok(()) => Ok(Redirect::to("/sign-in")),
        Err(error) => Err(page(Failure::from(error).status())),
    }
}

/// Returns the requested page, or the page whose form was sent.
fn wanted(request: &Request<'_>) -> String {
    // Normalized, since a redirect to `//elsewhere` would go to another host.
    let uri = request.uri().clone().into_normalized();
    if request.method() == Method::Get {
        return uri.to_string();
    }
    let pages = ["/account/password", "/account", "/admin", "/basket"];
    let page = pages.into_iter().find(|page| uri.path().starts_with(page));
    page.unwrap_or("/").to_owned()
}

#[catch(default)]
fn any(status: Status, request: &Request<'_>) -> (Status, Template) {
    if (status, request.method()) == (Status::Forbidden, Method::Get) {
        let (title, text) = ("Not for this account", "Only administrators see this page.");
        return render(status, title, text);
    }
    page(status)
}

fn page(status: Status) -> (Status, Template) {
    let (title, text) = match status.code {
        403 => (
            "That is not allowed",
            "The form may be out of date: go back, load its page again, and send it once more. \
             Without cookies no form works here.",
        ),
        404 => (
            "Nothing here",
            "This page was drunk, or it was never brewed.",
        ),
        422 => (
            "Something is missing",
            "Go back and fill in the whole form, please.",
        ),
        503 => (
            "Back in a moment",
            "We cannot reach our own records right now. All users stay signed in; please try again \
             shortly.",
        ),
        500.. => (
            "Our fault",
            "Something went wrong here. It is written down, and will be looked at.",
        ),
        _ => ("That did not work", "Go back and try again, please."),
    };
    render(status, title, text)
}

fn render(status: Status, title: &str, text: &str) -> (Status, Template) {
    let content = context! { code: status.code, title, text };
    (status, Template::render("error", content))
}
