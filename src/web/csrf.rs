//! Guards that check the CSRF token: [`CsrfForm`] for forms, [`CsrfHeader`] for other clients.
//!
//! The token is the second protection against cross-site requests. The first is part of every
//! `&Session` guard, which refuses an unsafe request that the browser calls cross-origin (OWASP CSRF
//! Prevention Cheat Sheet, "Fetch Metadata" and "Synchronizer Token Pattern").

use std::fmt;
use std::ops::{Deref, DerefMut};

use rocket::data::{Data, FromData, Outcome as FormOutcome};
use rocket::form::{self, DataField, Errors, Form, FromForm, Options, ValueField};
use rocket::http::Status;
use rocket::outcome::Outcome;
use rocket::request::{FromRequest, Outcome as GuardOutcome, Request};
use rocket::{Ignite, Rocket, Sentinel, async_trait};

use crate::admin::Sessions;
use crate::error::Error;
use crate::session::Session;
use crate::web::guard::abort_without_fairing;

/// The form field with the token.
const FIELD: &str = "csrf_token";
/// The header with the token.
const HEADER: &str = "X-CSRF-Token";

/// A form whose CSRF token was checked: a data guard to use instead of [`Form<T>`].
///
/// The token is [`Session::csrf_token`]'s, in the field `csrf_token` or the header `X-CSRF-Token`,
/// never in the query string (OWASP CSRF Prevention Cheat Sheet, "Synchronizer Token Pattern"). It
/// is checked before the form's own errors. A refusal is a 403 through the application's catchers,
/// and the log has the reason. A failed check creates no session. A route without this guard, such
/// as a webhook's, has no token check.
///
/// Everything else is as with `Form`: urlencoded and multipart, `CsrfForm<Strict<T>>` and
/// `CsrfForm<Contextual<'_, T>>`. A body over the limit is a 413, and another content type is
/// forwarded as a 415.
///
/// `Result<CsrfForm<T>, CsrfError<'_>>` gives the handler the reason instead of the 403.
///
/// # Examples
///
/// ```
/// use rocket::{FromForm, get, post, response::content::RawHtml};
/// use rocket_mongo_session::{CsrfForm, Error, Session};
///
/// #[derive(FromForm)]
/// struct Order {
///     count: u32,
/// }
///
/// #[get("/order")]
/// fn page(session: &Session) -> RawHtml<String> {
///     RawHtml(format!(
///         r#"<form method="post"><input name="count">
///            <input type="hidden" name="csrf_token" value="{}"><button>Order</button></form>"#,
///         session.csrf_token()
///     ))
/// }
///
/// #[post("/order", data = "<order>")]
/// fn order(order: CsrfForm<Order>, session: &Session) -> Result<(), Error> {
///     session.set("count", &order.count)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[doc(alias("csrf_exempt", "csrf_protect", "anti-forgery token", "XSRF"))]
pub struct CsrfForm<T>(T);

impl<T> CsrfForm<T> {
    /// Returns the form's value.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for CsrfForm<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for CsrfForm<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// Proof that the CSRF token in the request's `X-CSRF-Token` header was checked: a request guard for
/// `fetch()` and other clients that send no form.
///
/// A refusal is a 403 through the application's catchers, and the log has the reason.
///
/// # Examples
///
/// ```
/// use rocket::{post, serde::json::Json};
/// use rocket_mongo_session::{CsrfHeader, Error, Session};
///
/// #[post("/count", data = "<count>")]
/// fn count(_checked: CsrfHeader, session: &Session, count: Json<u32>) -> Result<(), Error> {
///     session.set("count", &*count)
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[doc(alias("X-CSRF-Token", "XSRF", "fetch", "ajax"))]
#[non_exhaustive]
pub struct CsrfHeader;

/// The reason why [`CsrfForm`] or [`CsrfHeader`] refused a request.
///
/// Its `Debug` output, which Rocket logs, names the fields of a form but not their contents.
#[non_exhaustive]
pub enum CsrfError<'r> {
    /// The session could not be loaded: the database failed, or the request is cross-origin.
    Session(Error),
    /// The token is missing or wrong.
    Token(CsrfRefusal),
    /// The token is right, but the form has errors.
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
            CsrfError::Token(refusal) => f.debug_tuple("Token").field(refusal).finish(),
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
            CsrfError::Token(refusal) => refusal.fmt(f),
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

/// The reason why a request's CSRF token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CsrfRefusal {
    /// The request carries no token.
    Missing,
    /// The request carries several tokens that do not all belong to its session.
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
                "the request carries several CSRF tokens that differ; send one"
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

/// Checks the token of a request: in one field, in one header, or the same session's in both.
fn check(
    session: &Session,
    request: &Request<'_>,
    fields: &[&str],
) -> std::result::Result<(), CsrfRefusal> {
    let headers: Vec<&str> = request.headers().get(HEADER).collect();
    let refusal = match (fields, headers.as_slice()) {
        ([], []) => Some(CsrfRefusal::Missing),
        ([_, _, ..], _) | (_, [_, _, ..]) => Some(CsrfRefusal::Ambiguous),
        _ if !session.has_csrf() => Some(CsrfRefusal::NoSession),
        ([field], [header]) if session.verify_csrf(field) != session.verify_csrf(header) => {
            Some(CsrfRefusal::Ambiguous)
        }
        (fields, headers) => {
            let mut tokens = fields.iter().chain(headers);
            (!tokens.all(|token| session.verify_csrf(token))).then_some(CsrfRefusal::Mismatch)
        }
    };
    match refusal {
        Some(refusal) => {
            if let Some(sessions) = request.rocket().state::<Sessions>() {
                sessions.core.stats.csrf_refused.count();
            }
            rocket::warn!(
                "CSRF: a {} request was refused: {refusal}",
                request.method()
            );
            Err(refusal)
        }
        None => Ok(()),
    }
}

async fn session<'r>(
    request: &'r Request<'_>,
) -> std::result::Result<&'r Session, (Status, CsrfError<'r>)> {
    match request.guard::<&Session>().await {
        Outcome::Success(session) => Ok(session),
        Outcome::Error((status, error)) => Err((status, CsrfError::Session(error))),
        Outcome::Forward(status) => Err((status, CsrfError::Session(Error::NotAttached))),
    }
}

#[async_trait]
impl<'r, T: FromForm<'r>> FromData<'r> for CsrfForm<T> {
    type Error = CsrfError<'r>;

    async fn from_data(
        request: &'r Request<'_>,
        data: Data<'r>,
    ) -> FormOutcome<'r, Self, CsrfError<'r>> {
        let session = match session(request).await {
            Ok(session) => session,
            Err(error) => return Outcome::Error(error),
        };
        let form = match Form::<WithToken<T>>::from_data(request, data).await {
            Outcome::Success(form) => form.into_inner(),
            Outcome::Forward(forward) => return Outcome::Forward(forward),
            Outcome::Error((status, errors)) => {
                return Outcome::Error((status, CsrfError::Form(errors)));
            }
        };
        if let Err(refusal) = check(session, request, &form.tokens) {
            return Outcome::Error(match form.value {
                // The token may be in the part of the body that was cut off.
                Err(errors) if form.is_cut => (Status::PayloadTooLarge, CsrfError::Form(errors)),
                _ => (Status::Forbidden, CsrfError::Token(refusal)),
            });
        }
        match form.value {
            Ok(value) => Outcome::Success(CsrfForm(value)),
            Err(errors) => Outcome::Error((errors.status(), CsrfError::Form(errors))),
        }
    }
}

#[async_trait]
impl<'r> FromRequest<'r> for CsrfHeader {
    type Error = CsrfError<'r>;

    async fn from_request(request: &'r Request<'_>) -> GuardOutcome<Self, CsrfError<'r>> {
        let session = match session(request).await {
            Ok(session) => session,
            Err(error) => return Outcome::Error(error),
        };
        match check(session, request, &[]) {
            Ok(()) => Outcome::Success(CsrfHeader),
            Err(refusal) => Outcome::Error((Status::Forbidden, CsrfError::Token(refusal))),
        }
    }
}

impl<T> Sentinel for CsrfForm<T> {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        abort_without_fairing(rocket)
    }
}

impl Sentinel for CsrfHeader {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        abort_without_fairing(rocket)
    }
}

/// A form and its token. Parsing it never fails, so that the token can be checked first; it holds
/// the form's own errors.
struct WithToken<'r, T> {
    tokens: Vec<&'r str>,
    /// The body is longer than the limit.
    is_cut: bool,
    value: form::Result<'r, T>,
}

struct Parsing<'r, C> {
    tokens: Vec<&'r str>,
    is_cut: bool,
    form: C,
}

#[async_trait]
impl<'r, T: FromForm<'r>> FromForm<'r> for WithToken<'r, T> {
    type Context = Parsing<'r, T::Context>;

    fn init(options: Options) -> Self::Context {
        Parsing {
            tokens: Vec::new(),
            is_cut: false,
            form: T::init(options),
        }
    }

    fn push_value(parsing: &mut Self::Context, field: ValueField<'r>) {
        if field.name.source() == FIELD {
            parsing.tokens.push(field.value);
        } else {
            T::push_value(&mut parsing.form, field);
        }
    }

    async fn push_data(parsing: &mut Self::Context, field: DataField<'r, '_>) {
        T::push_data(&mut parsing.form, field).await;
    }

    fn push_error(parsing: &mut Self::Context, error: form::Error<'r>) {
        parsing.is_cut |= error.status() == Status::PayloadTooLarge;
        T::push_error(&mut parsing.form, error);
    }

    fn finalize(parsing: Self::Context) -> form::Result<'r, Self> {
        Ok(WithToken {
            tokens: parsing.tokens,
            is_cut: parsing.is_cut,
            value: T::finalize(parsing.form),
        })
    }
}
