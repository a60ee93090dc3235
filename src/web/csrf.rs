//! Guards that check the CSRF token: [`CsrfForm`] for forms, [`CsrfHeader`] for other clients.
//!
//! They are the strict half of the protection against cross-site requests. The other half every
//! `&Session` guard brings along: an unsafe request that a browser says comes from another site is
//! refused (OWASP CSRF Prevention Cheat Sheet, fetch metadata and synchronizer token).

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
use crate::web::guard::not_attached;

/// The form field that carries the token.
const FIELD: &str = "csrf_token";
/// The header that carries the token.
const HEADER: &str = "X-CSRF-Token";

/// A form whose CSRF token was checked: a data guard in the place of [`Form<T>`].
///
/// The token is [`Session::csrf_token`]'s, in the field `csrf_token` or the header `X-CSRF-Token`,
/// never in the query string (synchronizer token of the OWASP CSRF Prevention Cheat Sheet). It is
/// judged before the form's own errors. A refusal is a 403 through the application's catchers, and
/// the log says why. A failing check creates no session.
///
/// In everything else it is like `Form`: urlencoded and multipart, `CsrfForm<Strict<T>>` and
/// `CsrfForm<Contextual<'_, T>>`. A body over the limit is a 413, and another content type is
/// forwarded as a 415.
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
///
/// `Result<CsrfForm<T>, CsrfError<'_>>` gives the reason instead of the 403.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CsrfForm<T>(T);

impl<T> CsrfForm<T> {
    /// The form's value.
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

/// Proof that the request's `X-CSRF-Token` header was checked: a request guard for scripts and other
/// clients that send no form.
///
/// A refusal is a 403 through the application's catchers, and the log says why.
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
#[non_exhaustive]
pub struct CsrfHeader;

/// Why [`CsrfForm`] or [`CsrfHeader`] refused a request. Its `Debug` names a form's fields and not
/// what was sent in them: Rocket writes it into the log.
#[non_exhaustive]
pub enum CsrfError<'r> {
    /// There is no session to check against: the database failed, or the request came from another
    /// site.
    Session(Error),
    /// The token is missing or wrong.
    Token(CsrfRefusal),
    /// The token is right, and the form has errors of its own.
    Form(Errors<'r>),
}

impl CsrfError<'_> {
    /// The status that the error answers with: 403 for the token, the session's or the form's own
    /// otherwise.
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

/// What is wrong with a request's CSRF token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CsrfRefusal {
    /// The request carries none.
    Missing,
    /// The request carries several, which do not all belong to its session.
    Ambiguous,
    /// The browser's session is new: it had none, or its own has expired or ended. The page with
    /// the form has to be loaded again.
    NoSession,
    /// The token is not one of this session's: it is forged, or was shown before the last login.
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
                "the browser has no session that the CSRF token could belong to; it expired or \
                 ended, or cookies are off: load the page with the form again"
            }
            CsrfRefusal::Mismatch => {
                "the CSRF token is not one of this session's; a token that was shown before a \
                 login is not valid after it: load the page with the form again"
            }
        })
    }
}

/// Checks every token that a request carries: one field, one header, or both.
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
            rocket::warn!("CSRF: a {} request was refused.", request.method());
            rocket::info_!("{refusal}");
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
                // The token may lie in what was cut off.
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
        not_attached(rocket)
    }
}

impl Sentinel for CsrfHeader {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        not_attached(rocket)
    }
}

/// A form beside its token. It never fails to parse, so that the token can be judged first; the
/// form's own errors wait in it.
struct WithToken<'r, T> {
    tokens: Vec<&'r str>,
    /// The body went on beyond the limit.
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
