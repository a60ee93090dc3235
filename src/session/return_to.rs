//! Back to where the visitor was: the page to return to after a login.
//!
//! The address comes from the visitor's own request, so a link can choose it. A browser that is
//! redirected to `//host`, `/\host` or `/%09/host` may leave the site (an open redirect, CWE-601):
//! <https://cheatsheetseries.owasp.org/cheatsheets/Unvalidated_Redirects_and_Forwards_Cheat_Sheet.html>.

use bson::RawBson;
use rocket::http::RawStr;
use rocket::http::uri::Origin;

use super::Session;
use crate::document::key::Field;
use crate::error::{Error, Result};
use crate::state::changes::Change;

impl Session {
    /// Keeps the page that the visitor asked for, to return to it after the login.
    ///
    /// It is stored with the response; on a session that is not stored yet this creates it.
    /// [`login`](Session::login), [`login_keeping`](Session::login_keeping) and a
    /// [`logout`](Session::logout) that a login follows in the same request keep it.
    /// [`take_return_to`](Session::take_return_to) takes it. It is not among the application's
    /// [`keys`](Session::keys). The browser returns there by GET, so call this for GET requests only.
    ///
    /// # Examples
    ///
    /// ```
    /// use rocket::http::uri::Origin;
    /// use rocket::{catch, post, response::Redirect, uri};
    /// use rocket::{http::{Method, Status}, request::Request};
    /// use rocket_mongo_session::{CsrfForm, Error, Session};
    /// # #[derive(rocket::FromForm)]
    /// # struct Credentials<'r> { name: &'r str, password: &'r str }
    /// # fn find_user(_: &Credentials<'_>) -> Option<i64> { None }
    ///
    /// #[catch(401)] // a guard found no signed-in user
    /// async fn sign_in_first(request: &Request<'_>) -> Result<Redirect, Status> {
    ///     let session = request.guard::<&Session>().await.success_or(Status::ServiceUnavailable)?;
    ///     if request.method() == Method::Get
    ///         && let Err(error) = session.set_return_to(request.uri())
    ///     {
    ///         rocket::info!("the login will lead to the first page: {error}");
    ///     }
    ///     Ok(Redirect::to("/login"))
    /// }
    ///
    /// #[post("/login", data = "<form>")]
    /// fn login(form: CsrfForm<Credentials<'_>>, session: &Session) -> Result<Redirect, Error> {
    ///     let Some(user_id) = find_user(&form) else {
    ///         return Ok(Redirect::to("/login"));
    ///     };
    ///     session.login(user_id)?;
    ///     let page = session.take_return_to();
    ///     Ok(Redirect::to(page.unwrap_or_else(|| Origin::parse("/").expect("a path"))))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::BadReturnTo`] for an address that a browser would, or after decoding could, read as
    /// another host: a path that begins with two slashes or with a slash and a backslash, as it is,
    /// percent-encoded, or after `.` and `..` are resolved; a backslash or a control character
    /// anywhere. [`Error::TooLarge`], [`Error::Sealed`]. Nothing has changed then.
    #[doc(alias("redirect", "next", "open redirect"))]
    pub fn set_return_to(&self, uri: &Origin<'_>) -> Result<()> {
        let address = uri.to_string();
        if !is_local(&address) {
            return Err(Error::BadReturnTo);
        }
        let change = Change::Set(RawBson::String(address));
        let mut inner = self.open_to_write()?;
        inner.state.change(Field::return_to(), change)
    }

    /// Takes the page to return to after a login; `None` when the session has no such page.
    ///
    /// It is removed with the response, so it is returned to once. It is checked again: whatever is
    /// stored, this is a path of this site, as a browser reads it. Call it after the login, or in the
    /// request that follows.
    #[must_use]
    pub fn take_return_to(&self) -> Option<Origin<'static>> {
        let field = Field::return_to();
        let mut inner = self.open_or_log()?;
        let stored = inner.state.get(&field).inspect_err(Error::log).ok()??;
        if let Err(error) = inner.state.change(field, Change::Unset) {
            error.log();
            return None;
        }
        let RawBson::String(address) = stored else {
            return None;
        };
        is_local(&address)
            .then(|| Origin::parse_owned(address).ok())
            .flatten()
    }
}

/// Returns whether a browser and everything that decodes the address once read it as a path of the
/// site itself (<https://url.spec.whatwg.org/#concept-basic-url-parser>).
fn is_local(address: &str) -> bool {
    let path = address.split(['?', '#']).next().unwrap_or_default();
    let decoded = RawStr::new(path).percent_decode_lossy();
    let is_plain = |b: u8| b.is_ascii_graphic() && b != b'\\';
    let is_odd = |c: char| c.is_control() || c == '\\';
    address.bytes().all(is_plain)
        && !decoded.contains(is_odd)
        && has_one_leading_slash(path)
        && has_one_leading_slash(&decoded)
}

/// Returns whether a path begins with one slash alone, also after its `.` and `..` are resolved.
fn has_one_leading_slash(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else {
        return false;
    };
    let mut depth = 0_usize;
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        // Browsers treat an encoded dot as a dot.
        match &*segment.replace("%2e", ".").replace("%2E", ".") {
            "." => {}
            ".." => depth = depth.saturating_sub(1),
            // An empty first segment, with another one after it.
            "" if depth == 0 && segments.peek().is_some() => return false,
            _ => depth += 1,
        }
    }
    true
}

#[cfg(test)]
mod tests;
