//! Guards that check the CSRF token: [`CsrfForm`] for forms, [`CsrfHeader`] for other clients.
//!
//! The token is the second protection against cross-site requests. The first is part of every
//! `&Session` guard, which refuses an unsafe request that the browser calls cross-origin (OWASP CSRF
//! Prevention Cheat Sheet, "Fetch Metadata" and "Synchronizer Token Pattern").

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

use rocket::data::{Capped, Data, FromData, Outcome as FormOutcome, ToByteUnit};
use rocket::form::{self, DataField, Errors, Form, FromForm, Options, ValueField};
use rocket::http::Status;
use rocket::outcome::Outcome;
use rocket::request::{FromRequest, Outcome as GuardOutcome, Request};
use rocket::tokio::sync::Notify;
use rocket::{Ignite, Phase, Rocket, Sentinel, async_trait, tokio};

use crate::config::Transport;
use crate::error::Error;
use crate::session::Session;
use crate::web::guard::{abort_without_fairing, session_of};
use crate::web::kind::{Kind, Main, sessions_of};

/// The form field with the token.
const FIELD: &str = "csrf_token";
/// The header with the token.
const HEADER: &str = "X-CSRF-Token";
/// A token has 86 bytes.
const MAX_TOKEN_BYTES: usize = 256;

/// A form whose CSRF token was checked: a data guard to use instead of [`Form<T>`].
///
/// The token is [`Session::csrf_token`]'s, in the field `csrf_token` or the header `X-CSRF-Token`,
/// never in the query string (OWASP CSRF Prevention Cheat Sheet, "Synchronizer Token Pattern"). It
/// is checked before the form's own errors, and before a file is read if it comes first. An empty
/// header counts as none. A refusal is a 403 through the application's catchers, and the log has the
/// reason. A failed check creates no session. A route without this guard, such as a webhook's, has no
/// token check.
///
/// `CsrfForm` alone is a form that is only a button ([`NoFields`]). `CsrfForm<T, Admin>` has a token
/// of the session of a further [`Kind`].
///
/// Everything else is as with `Form`: urlencoded and multipart, `CsrfForm<Strict<T>>` and
/// `CsrfForm<Contextual<'_, T>>`. A body over the limit is a 413, and another content type is
/// forwarded as a 415.
///
/// `Result<CsrfForm<T>, CsrfError<'_>>` gives the handler the reason instead of the 403, with what the
/// user typed ([`RefusedForm`]).
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
#[doc(alias("csrf_exempt", "csrf_protect", "anti-forgery token", "XSRF"))]
pub struct CsrfForm<T = NoFields, K = Main>(T, PhantomData<fn() -> K>);

impl<T, K> CsrfForm<T, K> {
    /// Returns the form's value.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T, K> Deref for CsrfForm<T, K> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T, K> DerefMut for CsrfForm<T, K> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Clone, K> Clone for CsrfForm<T, K> {
    fn clone(&self) -> Self {
        CsrfForm(self.0.clone(), PhantomData)
    }
}

impl<T: fmt::Debug, K> fmt::Debug for CsrfForm<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CsrfForm").field(&self.0).finish()
    }
}

/// The form of a button: it has no fields, and ignores those that are sent.
///
/// ```
/// # use rocket::post;
/// # use rocket_mongo_session::{CsrfForm, Error, Session};
/// #[post("/logout", data = "<_button>")]
/// fn logout(_button: CsrfForm, session: &Session) -> Result<(), Error> {
///     session.logout()
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoFields;

#[async_trait]
impl<'r> FromForm<'r> for NoFields {
    type Context = ();

    fn init(_: Options) {}

    fn push_value((): &mut (), _: ValueField<'r>) {}

    async fn push_data((): &mut (), _: DataField<'r, '_>) {}

    fn finalize((): ()) -> form::Result<'r, Self> {
        Ok(NoFields)
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
#[doc(alias("X-CSRF-Token", "XSRF", "fetch", "ajax"))]
pub struct CsrfHeader<K = Main>(PhantomData<fn() -> K>);

impl<K> Clone for CsrfHeader<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for CsrfHeader<K> {}

impl<K> fmt::Debug for CsrfHeader<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CsrfHeader")
    }
}

/// The reason why [`CsrfForm`] or [`CsrfHeader`] refused a request.
///
/// Its `Debug` output, which Rocket logs, names the fields of a form but not their contents.
#[non_exhaustive]
pub enum CsrfError<'r> {
    /// The session could not be loaded: the database failed, or the request is cross-origin.
    Session(Error),
    /// The token is missing or wrong. With the fields that were read.
    Token(RefusedForm),
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
    refusal: CsrfRefusal,
    fields: Vec<(String, String)>,
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

/// Checks the token of a request: in one field, in one header, or the same session's in both.
fn check<T: AsRef<str>>(
    session: &Session,
    request: &Request<'_>,
    fields: &[T],
) -> std::result::Result<(), CsrfRefusal> {
    let headers = headers(request);
    let is_right = |token: &T| session.verify_csrf(token.as_ref());
    match (fields, headers.as_slice()) {
        ([], []) => Err(CsrfRefusal::Missing),
        ([_, _, ..], _) | (_, [_, _, ..]) => Err(CsrfRefusal::Ambiguous),
        _ if !session.has_csrf() => Err(CsrfRefusal::NoSession),
        ([field], [header]) if is_right(field) != session.verify_csrf(header) => {
            Err(CsrfRefusal::Ambiguous)
        }
        (fields, headers) => {
            let mut headers = headers.iter();
            let is_right =
                fields.iter().all(is_right) && headers.all(|token| session.verify_csrf(token));
            is_right.then_some(()).ok_or(CsrfRefusal::Mismatch)
        }
    }
}

/// Returns the tokens in the headers. A script whose page has no token sends an empty one.
fn headers<'r>(request: &'r Request<'_>) -> Vec<&'r str> {
    let headers = request.headers().get(HEADER);
    headers.filter(|token| !token.trim().is_empty()).collect()
}

/// Counts and logs a refusal, and makes its error.
fn refuse<'r, K: Kind>(
    request: &Request<'_>,
    refusal: CsrfRefusal,
    fields: Vec<(String, String)>,
) -> (Status, CsrfError<'r>) {
    if let Some(sessions) = sessions_of::<K, _>(request.rocket()) {
        sessions.core.stats.csrf_refused.count();
    }
    let route = request.route().map(|route| route.uri.to_string());
    rocket::warn!(
        "CSRF: a {} request was refused by the route {}: {refusal}",
        request.method(),
        route.as_deref().unwrap_or("(none)"),
    );
    let form = RefusedForm { refusal, fields };
    (Status::Forbidden, CsrfError::Token(form))
}

async fn session<'r, K: Kind>(
    request: &'r Request<'_>,
) -> std::result::Result<&'r Session, (Status, CsrfError<'r>)> {
    let error = match session_of::<K>(request).await {
        // A launch with such a route is refused, but a guard can be asked for without a route.
        Ok(_) if is_bearer::<K, _>(request.rocket()) => Error::WrongTransport {
            call: "CsrfForm and CsrfHeader",
            needs: "cookie",
        },
        Ok(session) => return Ok(session),
        Err(error) => error,
    };
    Err((error.status(), CsrfError::Session(error)))
}

fn is_bearer<K: Kind, P: Phase>(rocket: &Rocket<P>) -> bool {
    let sessions = sessions_of::<K, P>(rocket);
    sessions.is_some_and(|sessions| sessions.core.config.transport == Transport::Bearer)
}

/// A refusal before the form was read to its end, and the fields that were read until then.
#[derive(Default)]
struct Early {
    refusal: OnceLock<(CsrfRefusal, Vec<(String, String)>)>,
    is_refused: Notify,
}

struct EarlyOf<K>(Early, PhantomData<fn() -> K>);

impl Early {
    fn of<'r, K: Kind>(request: &'r Request<'_>) -> &'r Early {
        let new = || EarlyOf::<K>(Early::default(), PhantomData);
        &request.local_cache(new).0
    }

    async fn refused(&self) -> (CsrfRefusal, Vec<(String, String)>) {
        loop {
            if let Some(refused) = self.refusal.get() {
                return refused.clone();
            }
            self.is_refused.notified().await;
        }
    }
}

#[async_trait]
impl<'r, T: FromForm<'r>, K: Kind> FromData<'r> for CsrfForm<T, K> {
    type Error = CsrfError<'r>;

    async fn from_data(
        request: &'r Request<'_>,
        data: Data<'r>,
    ) -> FormOutcome<'r, Self, CsrfError<'r>> {
        let session = match session::<K>(request).await {
            Ok(session) => session,
            Err(error) => return Outcome::Error(error),
        };
        let parsed = tokio::select! {
            biased;
            parsed = Form::<WithToken<'r, T, K>>::from_data(request, data) => parsed,
            // The rest of the body is not read.
            (refusal, fields) = Early::of::<K>(request).refused() => {
                return Outcome::Error(refuse::<K>(request, refusal, fields));
            }
        };
        let form = match parsed {
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
                _ => refuse::<K>(request, refusal, owned(&form.fields)),
            });
        }
        match form.value {
            Ok(value) => Outcome::Success(CsrfForm(value, PhantomData)),
            Err(errors) => Outcome::Error((errors.status(), CsrfError::Form(errors))),
        }
    }
}

#[async_trait]
impl<'r, K: Kind> FromRequest<'r> for CsrfHeader<K> {
    type Error = CsrfError<'r>;

    async fn from_request(request: &'r Request<'_>) -> GuardOutcome<Self, CsrfError<'r>> {
        let session = match session::<K>(request).await {
            Ok(session) => session,
            Err(error) => return Outcome::Error(error),
        };
        match check::<&str>(session, request, &[]) {
            Ok(()) => Outcome::Success(CsrfHeader(PhantomData)),
            Err(refusal) => Outcome::Error(refuse::<K>(request, refusal, Vec::new())),
        }
    }
}

impl<T, K: Kind> Sentinel for CsrfForm<T, K> {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        abort_without_fairing::<K>(rocket) || abort_for_bearer::<K>(rocket)
    }
}

impl<K: Kind> Sentinel for CsrfHeader<K> {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        abort_without_fairing::<K>(rocket) || abort_for_bearer::<K>(rocket)
    }
}

/// Refuses a launch with a check that no client of the kind could pass, and that none needs.
fn abort_for_bearer<K: Kind>(rocket: &Rocket<Ignite>) -> bool {
    let is_bearer = is_bearer::<K, _>(rocket);
    if is_bearer {
        rocket::error!(
            "Sessions: a mounted route checks a CSRF token of the kind `{}`, whose `transport` is \
             \"bearer\"; no browser sends such a token by itself, so remove the guard",
            K::NAME,
        );
    }
    is_bearer
}

/// A form and its token. Parsing it never fails, so that the token can be checked first; it holds
/// the form's own errors.
struct WithToken<'r, T, K> {
    tokens: Vec<Cow<'r, str>>,
    /// The fields with values, for a form that is refused.
    fields: Vec<ValueField<'r>>,
    /// The body is longer than the limit.
    is_cut: bool,
    value: form::Result<'r, T>,
    kind: PhantomData<fn() -> K>,
}

struct Parsing<'r, C> {
    tokens: Vec<Cow<'r, str>>,
    fields: Vec<ValueField<'r>>,
    is_cut: bool,
    form: C,
}

fn owned(fields: &[ValueField<'_>]) -> Vec<(String, String)> {
    let owned = |field: &ValueField<'_>| (field.name.source().to_string(), field.value.to_owned());
    fields.iter().map(owned).collect()
}

#[async_trait]
impl<'r, T: FromForm<'r>, K: Kind> FromForm<'r> for WithToken<'r, T, K> {
    type Context = Parsing<'r, T::Context>;

    fn init(options: Options) -> Self::Context {
        Parsing {
            tokens: Vec::new(),
            fields: Vec::new(),
            is_cut: false,
            form: T::init(options),
        }
    }

    fn push_value(parsing: &mut Self::Context, field: ValueField<'r>) {
        if field.name.source() == FIELD {
            parsing.tokens.push(Cow::Borrowed(field.value));
        } else {
            parsing.fields.push(field.clone());
            T::push_value(&mut parsing.form, field);
        }
    }

    async fn push_data(parsing: &mut Self::Context, field: DataField<'r, '_>) {
        let request = field.request;
        let field = if field.name.source() == FIELD {
            // Many HTTP clients give every part a `Content-Type`.
            let text = field.data.open(MAX_TOKEN_BYTES.bytes()).into_string().await;
            let text = text.map_or_else(|_| String::new(), Capped::into_inner);
            parsing.tokens.push(Cow::Owned(text));
            None
        } else {
            Some(field)
        };
        // A token that came before is checked before anything large is read.
        if !parsing.tokens.is_empty() || !headers(request).is_empty() {
            let refusal = match session_of::<K>(request).await {
                Ok(session) => check(session, request, &parsing.tokens).err(),
                Err(_) => None, // the form's own guard has it already
            };
            if let Some(refusal) = refusal {
                let early = Early::of::<K>(request);
                let _ = early.refusal.set((refusal, owned(&parsing.fields)));
                early.is_refused.notify_one();
                return std::future::pending().await;
            }
        }
        if let Some(field) = field {
            T::push_data(&mut parsing.form, field).await;
        }
    }

    fn push_error(parsing: &mut Self::Context, error: form::Error<'r>) {
        parsing.is_cut |= error.status() == Status::PayloadTooLarge;
        T::push_error(&mut parsing.form, error);
    }

    fn finalize(parsing: Self::Context) -> form::Result<'r, Self> {
        Ok(WithToken {
            tokens: parsing.tokens,
            fields: parsing.fields,
            is_cut: parsing.is_cut,
            value: T::finalize(parsing.form),
            kind: PhantomData,
        })
    }
}
