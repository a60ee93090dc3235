//! Tokens of sessions with `transport = "bearer"`, which are handed out instead of being sent as a
//! cookie.

use super::Session;
use crate::config::Transport;
use crate::error::{Error, Result};
use crate::record::token::{Id, Secret, Token};
use crate::state::TokenChange;

impl Session {
    /// Returns the token that opens this session from the next request on, to be handed out once: in
    /// the body of the response to a login, for example.
    ///
    /// Only for a kind whose section says `transport = "bearer"`: its clients send the token as
    /// `Authorization: Bearer <token>`. On a stored session this is a [`renew`](Session::renew), and
    /// the token that the request brought opens nothing after it. Call it after
    /// [`login`](Session::login), [`elevate`](Session::elevate) and `renew`, which change the token:
    /// without it the response becomes a 500, and nothing of the request is stored.
    ///
    /// The session is stored with the response, in exactly one attempt, and if that fails the
    /// response is the 503 (a 401 if the session ended meanwhile), so that no client gets a token
    /// that opens nothing. The response has `Cache-Control: no-store`. Until the session is stored,
    /// further calls return the same token. No round trip beside that of the commit.
    ///
    /// # Examples
    ///
    /// ```
    /// # use rocket::{post, serde::{Deserialize, json::Json}};
    /// # use rocket_mongo_session::{Error, Kind, Of};
    /// # struct Phone;
    /// # impl Kind for Phone {
    /// #     const NAME: &'static str = "phone"; // [default.session_phone] transport = "bearer"
    /// # }
    /// # #[derive(Deserialize)]
    /// # #[serde(crate = "rocket::serde")]
    /// # struct Credentials { name: String }
    /// # fn is_right(_: &Credentials) -> bool { true }
    /// #[post("/token", data = "<credentials>")]
    /// fn token(session: Of<'_, Phone>, credentials: Json<Credentials>) -> Result<Option<String>, Error> {
    ///     if !is_right(&credentials) {
    ///         return Ok(None);
    ///     }
    ///     session.login(&credentials.name)?;
    ///     session.issue_token().map(Some)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::WrongTransport`] for sessions that travel in a cookie; [`Error::Sealed`], also in a
    /// catcher after the handler has handed out a token, because nothing of that request is stored, and
    /// in a response fairing that is attached before the session fairing;
    /// [`Error::Randomness`].
    #[doc(alias("bearer", "api token", "Authorization"))]
    pub fn issue_token(&self) -> Result<String> {
        if self.core.config.transport != Transport::Bearer {
            return Err(Error::WrongTransport {
                call: "Session::issue_token",
                needs: "bearer",
            });
        }
        let mut inner = self.open_to_write()?;
        if inner.issues_no_more {
            return Err(Error::Sealed);
        }
        let state = &mut inner.state;
        let token = match (state.issued(), state.stored()) {
            (Some(issued), _) => issued,
            (None, Some(stored)) => Token::new(stored.record.meta.id.clone(), Secret::draw()?),
            (None, None) => Token::new(Id::draw()?, Secret::draw()?),
        };
        if state.stored().is_some() {
            let change = &mut state.settings.token;
            *change = (*change).max(TokenChange::Renew);
        }
        state.settings.issued = Some(token.clone());
        inner.is_issued = true;
        Ok(token.cookie_value().as_str().to_owned())
    }

    /// Whether the request has handed out a token, stored or not.
    pub(crate) fn has_issued(&self) -> bool {
        self.lock().is_issued
    }

    /// The handler's token may be lost, and nothing is stored then: `issue_token` fails from now on.
    pub(crate) fn issue_no_more(&self) {
        self.lock().issues_no_more = true;
    }
}
