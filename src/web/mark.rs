//! The mark: a cookie that tells the response fairing whether a catcher answered.
//!
//! Rocket runs a catcher in the handler's place when a guard or handler fails, and does not say so
//! to response fairings. It does drop every cookie that was added to the jar until then. So the
//! guard adds a cookie of its own: if it is missing in the response, a catcher answered.
//!
//! The fairing removes the mark from the response, so it never reaches the browser. Its value is
//! random, because the jar falls back to the cookies that the client sent, and short, because Rocket
//! writes it into a header of each response.

use std::borrow::Cow;
use std::sync::LazyLock;

use rocket::http::Cookie;
use rocket::{Request, Response};

use crate::record::token::Id;
use crate::web::cookie;

/// Characters of base64: a client that guesses 48 bits has a catcher on its own request overlooked,
/// nothing else.
const LENGTH: usize = 8;

/// Empty without random bytes. No session can be created then either.
static VALUE: LazyLock<String> = LazyLock::new(|| {
    let id = Id::draw();
    id.map_or_else(
        |_| String::new(),
        |id| id.as_str().chars().take(LENGTH).collect(),
    )
});

pub(super) fn is_set(request: &Request<'_>, name: &str) -> bool {
    let pending = request.cookies().get_pending(name);
    pending.is_some_and(|cookie| cookie.value() == *VALUE)
}

pub(super) fn set(request: &Request<'_>, name: Cow<'static, str>) {
    request.cookies().add(Cookie::new(name, VALUE.as_str()));
}

/// Removes the mark from a response. Returns whether it was there.
pub(super) fn remove(response: &mut Response<'_>, name: &str) -> bool {
    cookie::retain(response, |cookie| !is_mark(cookie, name))
}

/// Returns whether one `Set-Cookie` header is the mark.
fn is_mark(header: &str, name: &str) -> bool {
    let value = header
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('='));
    value.is_some_and(|rest| rest.split(';').next() == Some(VALUE.as_str()))
}
