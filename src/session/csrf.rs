//! The session's CSRF secret: a synchronizer token (OWASP CSRF Prevention Cheat Sheet), masked
//! afresh each time it is shown, so that a compressed page does not reveal it (BREACH).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Session;
use crate::error::{Error, Result};
use crate::record::legacy;
use crate::record::token::{Secret, decode, draw};

impl Session {
    /// Returns the CSRF token to put into a form's field `csrf_token` or the header `X-CSRF-Token`.
    ///
    /// Every call returns another text (against BREACH). All of them are valid until the next
    /// [`login`](Session::login), [`elevate`](Session::elevate), [`logout`](Session::logout) or
    /// [`new_csrf_token`](Session::new_csrf_token), or until the session ends. The guards
    /// [`CsrfForm`](crate::CsrfForm) and [`CsrfHeader`](crate::CsrfHeader) check it.
    ///
    /// On a session that is not stored yet this creates it: on a public page, one for each visitor.
    /// Where no token can be shown (no random bytes, too late in a stream, or a request that may create
    /// no session, see [`Error::CrossSiteWrite`]) the text is empty, which no check accepts, and the log
    /// says why.
    ///
    /// ```
    /// # use rocket::{get, response::content::RawHtml};
    /// # use rocket_mongo_session::Session;
    /// #[get("/order")]
    /// fn page(session: &Session) -> RawHtml<String> {
    ///     RawHtml(format!(
    ///         r#"<form method="post"><input name="count">
    ///            <input type="hidden" name="csrf_token" value="{}"><button>Order</button></form>"#,
    ///         session.csrf_token()
    ///     ))
    /// }
    /// ```
    #[must_use]
    pub fn csrf_token(&self) -> String {
        let secret = self.open_or_view();
        shown(secret.and_then(|secret| mask(&secret)))
    }

    /// Makes every token that was shown so far invalid, and returns a new one.
    pub fn new_csrf_token(&self) -> String {
        let fresh = || {
            let secret = Secret::draw()?;
            self.open_to_write()?.state.settings.csrf = Some(secret.clone());
            mask(&secret)
        };
        shown(fresh())
    }

    /// Returns whether a token is one of this session's.
    ///
    /// For tokens that come in another way than the guards [`CsrfForm`](crate::CsrfForm) and
    /// [`CsrfHeader`](crate::CsrfHeader) look for. The comparison takes the same time for every
    /// token, and never creates a session.
    ///
    /// ```
    /// # use rocket::{http::Status, post, serde::{Deserialize, json::Json}};
    /// # use rocket_mongo_session::{Error, Session};
    /// #[derive(Deserialize)]
    /// # #[serde(crate = "rocket::serde")]
    /// struct Order {
    ///     csrf: String,
    ///     count: u32,
    /// }
    ///
    /// #[post("/order", data = "<order>")]
    /// fn order(order: Json<Order>, session: &Session) -> Result<Status, Error> {
    ///     if !session.verify_csrf(&order.csrf) {
    ///         return Ok(Status::Forbidden);
    ///     }
    ///     session.set("count", &order.count)?;
    ///     Ok(Status::Ok)
    /// }
    /// ```
    #[must_use]
    pub fn verify_csrf(&self, token: &str) -> bool {
        let Some(secret) = self.lock().state.csrf().cloned() else {
            return false;
        };
        if let Some(supplied) = unmask(token) {
            return supplied.matches(&secret);
        }
        // A form that the Python application rendered carries its token in clear.
        self.core.config.legacy_ids
            && !token.is_empty()
            && legacy::csrf_secret(token).matches(&secret)
    }

    /// Whether there is a secret that a token could belong to.
    pub(crate) fn has_csrf(&self) -> bool {
        self.lock().state.csrf().is_some()
    }

    /// After the response's commit a secret that exists can still be shown; none can be made.
    fn open_or_view(&self) -> Result<Secret> {
        match self.open() {
            Ok(mut inner) => inner.state.csrf_or_draw(),
            Err(error) => self.lock().state.csrf().cloned().ok_or(error),
        }
    }
}

/// Returns a pad and the secret under that pad, in base64url without padding.
fn mask(secret: &Secret) -> Result<String> {
    let pad = draw::<32>()?;
    let mut bytes = [0; 64];
    for (at, (pad, secret)) in pad.iter().zip(secret.expose()).enumerate() {
        bytes[at] = *pad;
        bytes[at + 32] = pad ^ secret;
    }
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn unmask(token: &str) -> Option<Secret> {
    let bytes = decode::<64>(token)?;
    let (pad, masked) = bytes.split_at(32);
    let mut secret = [0; 32];
    for (at, (pad, masked)) in pad.iter().zip(masked).enumerate() {
        secret[at] = pad ^ masked;
    }
    Some(Secret::from_bytes(secret))
}

/// Without a token there is only one that no check accepts; the log says why.
fn shown(token: Result<String, Error>) -> String {
    token.inspect_err(Error::log).unwrap_or_default()
}
