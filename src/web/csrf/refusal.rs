//! Why a CSRF guard refused a request, and what the user typed.

use std::fmt;

use rocket::form::{self, Errors, Form, FromForm, ValueField};
use rocket::http::Status;

#[cfg(doc)]
use super::{CsrfForm, CsrfHeader};
use crate::error::Error;

/// The reason why [`CsrfForm`] or [`CsrfHeader`] refused a request.
///
/// Its `Debug` output, which Rocket logs, names the fields of a form but not their contents.
#[non_exhaustive]
pub enum CsrfError<'r> {
    /// The session could not be loaded: the database failed, or the request is cross-origin.
    Session(Error),
    /// The token is missing or wrong. With the fields that were read.
    Token(RefusedForm),
    /// The form has errors. The token is right, except with a body that is too long or cannot be read
    /// (413, 400): then it may not have been seen.
    Form(Errors<'r>),
}

impl CsrfError<'_> {
    /// Returns the status of the response: 403 for the token, otherwise that of the session's or the
    /// form's error.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            CsrfError::Session(error) => error.status(),
            CsrfError::Token(_) => Status::Forbidden,
            CsrfError::Form(errors) => errors.status(),
        }
    }
}

impl fmt::Debug for CsrfError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CsrfError::Session(error) => f.debug_tuple("Session").field(error).finish(),
            CsrfError::Token(form) => f.debug_tuple("Token").field(&form.refusal).finish(),
            CsrfError::Form(errors) => {
                let name = |error: &form::Error<'_>| error.name.as_ref().map(ToString::to_string);
                let names: Vec<String> = errors.iter().filter_map(name).collect();
                f.debug_tuple("Form").field(&names).finish()
            }
        }
    }
}

impl fmt::Display for CsrfError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CsrfError::Session(error) => error.fmt(f),
            CsrfError::Token(form) => form.refusal.fmt(f),
            CsrfError::Form(errors) => errors.fmt(f),
        }
    }
}

impl std::error::Error for CsrfError<'_> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CsrfError::Session(error) => Some(error),
            CsrfError::Token(_) | CsrfError::Form(_) => None,
        }
    }
}

/// A form whose CSRF token was refused: the reason, and what the user typed.
///
/// Show the fields again in the same page, with a new token, so that nothing has to be typed twice.
/// Do nothing else with them: another site may have made the browser send them. Files are not kept. A
/// token that came before a file is refused before the file and the parts after it are read.
///
/// # Examples
///
/// ```
/// use rocket::{FromForm, http::Status, post};
/// use rocket_mongo_session::{CsrfError, CsrfForm, Error, Session};
///
/// #[derive(FromForm)]
/// struct Comment {
///     text: String,
/// }
///
/// # fn page(_text: &str, _token: String) -> String { String::new() }
/// #[post("/comment", data = "<form>")]
/// fn comment(
///     form: Result<CsrfForm<Comment>, CsrfError<'_>>,
///     session: &Session,
/// ) -> Result<(Status, String), Error> {
///     match form {
///         Ok(form) => session.set("comment", &form.text)?,
///         Err(CsrfError::Token(refused)) => {
///             let text = refused.field("text").unwrap_or_default();
///             return Ok((Status::Forbidden, page(text, session.csrf_token())));
///         }
///         Err(error) => return Ok((error.status(), String::new())),
///     }
///     Ok((Status::Ok, "Thank you.".to_owned()))
/// }
/// ```
#[derive(Clone)]
pub struct RefusedForm {
    pub(super) refusal: CsrfRefusal,
    pub(super) fields: Vec<(String, String)>,
}

impl RefusedForm {
    /// Returns why the token was refused.
    #[must_use]
    pub fn refusal(&self) -> CsrfRefusal {
        self.refusal
    }

    /// Returns the value of the first field of this name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields();
        fields
            .find(|(other, _)| *other == name)
            .map(|field| field.1)
    }

    /// Returns the fields that were read, names and values, without files and the token.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields = self.fields.iter();
        fields.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Parses the fields as the form, leniently.
    ///
    /// # Errors
    ///
    /// The errors of the form. Files are missing.
    pub fn parse<'f, T: FromForm<'f>>(&'f self) -> form::Result<'f, T> {
        Form::parse_iter(self.fields().map(ValueField::from))
    }
}

/// Shows the reason. The fields are private.
impl fmt::Debug for RefusedForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = &mut f.debug_struct("RefusedForm");
        form.field("refusal", &self.refusal).finish_non_exhaustive()
    }
}

/// The reason why a request's CSRF token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CsrfRefusal {
    /// The request carries no token.
    Missing,
    /// The request carries more than one token in the form, or in the header, even if all are right;
    /// or one in each, of which only one belongs to its session.
    Ambiguous,
    /// The session is new: the browser had none, or it expired or ended. The page with the form has
    /// to be loaded again.
    NoSession,
    /// The token belongs to another session: it is forged, or from before the last login.
    Mismatch,
}

impl fmt::Display for CsrfRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CsrfRefusal::Missing => {
                "the request carries no CSRF token; put `Session::csrf_token` into the form field \
                 `csrf_token` or the header `X-CSRF-Token`"
            }
            CsrfRefusal::Ambiguous => {
                "the request carries more than one CSRF token in the form, or in the header (even if \
                 all are right), or one in each that do not both belong to its session; send one"
            }
            CsrfRefusal::NoSession => {
                "the request has no session for its CSRF token; the session expired or ended, or \
                 cookies are disabled: load the page with the form again"
            }
            CsrfRefusal::Mismatch => {
                "the CSRF token belongs to another session; a token from before a login is not \
                 valid after it: load the page with the form again"
            }
        })
    }
}
