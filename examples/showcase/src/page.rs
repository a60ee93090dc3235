//! What every page shows: the user, the size of the basket, the notices.

use rocket::outcome::{Outcome, try_outcome};
use rocket::request::{FromRequest, Outcome as Guarded, Request};
use rocket_dyn_templates::Template;
use rocket_mongo_session::Session;
use serde::Serialize;

use crate::basket::{BASKET, Basket};
use crate::customer::signed_in;
use crate::failure::{Failure, Result};
use crate::notice::Notice;
use crate::users::User;

/// A page that is about to be rendered.
pub struct Page<'r> {
    session: &'r Session,
    user: Option<&'r User>,
    path: &'r str,
    is_refresh: bool,
}

/// Returns whether the page's script loads it again, and not the user.
pub fn is_refresh(request: &Request<'_>) -> bool {
    request.headers().contains("X-Refresh")
}

/// The layout around a page's content.
#[derive(Serialize)]
struct Frame<'a, C> {
    user: Option<&'a str>,
    is_admin: bool,
    path: &'a str,
    basket_count: u64,
    notices: Vec<Notice>,
    csrf_token: String,
    #[serde(flatten)]
    content: C,
}

impl Page<'_> {
    /// Renders the page and removes the notices, so that the next page does not show them again.
    pub async fn show(&self, template: &'static str, content: impl Serialize) -> Result<Template> {
        let session = self.session;
        let notices = match self.is_refresh {
            true => Vec::new(), // they wait for a page that the user sees
            false => session.pop_flash().await?,
        };
        let basket: Basket = session.get(BASKET)?.unwrap_or_default();
        Ok(Template::render(
            template,
            Frame {
                user: self.user.map(|user| user.name.as_str()),
                is_admin: self.user.is_some_and(User::is_admin),
                path: self.path,
                basket_count: basket.values().map(|count| u64::from(*count)).sum(),
                notices,
                // A token creates a session, also for visitors and crawlers that only read. A site
                // with many of them would call this only on pages with a form, keep forms off the
                // most visited pages (here a link to a page for each tea instead of 'Add'), and give
                // a session without a user a short `set_timeout`.
                csrf_token: session.csrf_token(),
                content,
            },
        ))
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Page<'r> {
    type Error = Failure;

    async fn from_request(request: &'r Request<'_>) -> Guarded<Self, Failure> {
        let session = try_outcome!(
            request
                .guard::<&Session>()
                .await
                .map_error(|(status, error)| (status, error.into()))
        );
        let is_refresh = is_refresh(request);
        if is_refresh {
            session.skip_touch(); // the session ends when its user is idle
        }
        match signed_in(request, session).await {
            Ok(user) => Outcome::Success(Page {
                session,
                user: user.as_ref(),
                path: request.uri().path().as_str(),
                is_refresh,
            }),
            Err(failure) => Outcome::Error((failure.status(), failure.clone())),
        }
    }
}
