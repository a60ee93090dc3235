//! [`CsrfForm`], and the parsing of a form that holds the token.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

use rocket::data::{Capped, Data, FromData, Outcome as FormOutcome, ToByteUnit};
use rocket::form::{self, DataField, Form, FromForm, Options, ValueField};
use rocket::http::Status;
use rocket::outcome::Outcome;
use rocket::tokio::sync::Notify;
use rocket::{Ignite, Request, Rocket, Sentinel, async_trait, tokio};

#[cfg(doc)]
use super::RefusedForm;
use super::{CsrfError, CsrfRefusal, abort_for_bearer, check, headers, refuse, session};
#[cfg(doc)]
use crate::session::Session;
use crate::web::guard::{abort_without_fairing, session_of};
use crate::web::kind::{Kind, Main};

/// The form field with the token.
const FIELD: &str = "csrf_token";
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

impl<T, K: Kind> Sentinel for CsrfForm<T, K> {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        abort_without_fairing::<K>(rocket) || abort_for_bearer::<K>(rocket)
    }
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
