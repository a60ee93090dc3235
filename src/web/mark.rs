//! The mark: a cookie that shows the response fairing whether a catcher made the response.
//!
//! Rocket runs a catcher in the handler's place when a guard or handler fails, and does not say so
//! to response fairings. It does drop every cookie that was added to the jar until then. So the
//! guard adds a cookie of its own, where it matters ([`is_needed`]): if it is missing in the response, a
//! catcher made the response.
//!
//! What is kept of the handler's changes, by the guard that asks for the session after the handler and
//! by `set_on_exception`:
//!
//! | guard after the handler | `true` | `true`, and a bearer token was issued | `false` |
//! |---|---|---|---|
//! | none, and the handler made the response | kept | kept | kept |
//! | none, and a catcher made it | kept, except with Rocket's own page of a 5xx | discarded | discarded |
//! | of the catcher that makes it | kept, as its own | discarded, as its own | discarded; its own are kept |
//! | of a response fairing attached before the session fairing | as without it | as without it | discarded, with a warning |
//!
//! [`guard_asks`] decides the last two lines, and `response::settle_changes` the rest.
//!
//! The fairing removes the mark from the response, so it never reaches the browser. Its value is
//! random, because the jar falls back to the cookies that the client sent, and short, because Rocket
//! writes it into a header of each response.

use std::borrow::Cow;
use std::sync::LazyLock;

use rocket::catcher::Catcher;
use rocket::http::Cookie;
use rocket::{Orbit, Request, Response, Rocket};

use crate::config::{Config, Transport};
use crate::error::Result;
use crate::record::token::Id;
use crate::session::Session;
use crate::web::cookie;
use crate::web::kind::KindInfo;

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

/// Whether it matters if a catcher made the response. It does not where every error has a catcher of
/// the application: with `set_on_exception` the changes are kept then in any case, unless a token was
/// handed out.
pub(super) fn is_needed(rocket: &Rocket<Orbit>, config: &Config) -> bool {
    let catches_all = |catcher: &Catcher| catcher.code.is_none() && catcher.base.path() == "/";
    let hands_out = config.transport == Transport::Bearer;
    hands_out || !config.set_on_exception || !rocket.catchers().any(catches_all)
}

pub(super) fn is_set(request: &Request<'_>, name: &str) -> bool {
    let pending = request.cookies().get_pending(name);
    pending.is_some_and(|cookie| cookie.value() == *VALUE)
}

/// Sets the mark when a guard asks for the session before the response is settled. When a catcher
/// asks, it discards those changes of the handler that are not kept.
pub(super) fn guard_asks(
    request: &Request<'_>,
    kind: &KindInfo,
    config: &Config,
    loaded: &Result<Session>,
    is_first: bool,
) {
    if !is_needed(request.rocket(), config) {
        return;
    }
    let name = kind.mark_name();
    if is_first {
        return set(request, name);
    }
    if is_set(request, &name) {
        return; // a further guard of the same response
    }
    // A catcher asks, after Rocket dropped the handler's response and with it the mark. Or a response
    // fairing that is attached before ours asks: `settle_changes` warns of it.
    match loaded {
        Ok(session) if !config.set_on_exception => session.discard(),
        Ok(session) if !session.can_be_answered_by_catcher() => {
            // Without the mark, `settle_changes` finds the catcher.
            return session.issue_no_more();
        }
        Ok(_) | Err(_) => {}
    }
    set(request, name);
}

fn set(request: &Request<'_>, name: Cow<'static, str>) {
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

#[cfg(test)]
mod tests {
    use rocket::config::LogLevel;
    use rocket::fairing::AdHoc;
    use rocket::local::asynchronous::Client;
    use rocket::{Catcher, catch, catchers, get, routes};
    use rstest::rstest;

    use crate::{Session, Sessions};

    #[get("/")]
    fn index(_session: &Session) {}

    #[catch(default)]
    fn any() {}

    #[catch(500)]
    fn one() {}

    #[rstest]
    #[test_attr(rocket::async_test)]
    #[case::default_catcher(true, "/", catchers![any], false)]
    #[case::catcher_of_500(true, "/", catchers![one], true)]
    #[case::catcher_below_another_path(true, "/api", catchers![any], true)]
    #[case::without_catchers(true, "/", Vec::new(), true)]
    #[case::saved_after_errors(false, "/", catchers![any], true)]
    async fn the_mark_is_set_only_where_it_matters_who_answers(
        #[case] set_on_exception: bool,
        #[case] base: &str,
        #[case] catchers: Vec<Catcher>,
        #[case] is_marked: bool,
    ) {
        let figment = rocket::Config::figment()
            .merge(("log_level", LogLevel::Off))
            .merge(("session.set_on_exception", set_on_exception));
        // It sees the response before the mark is removed.
        let seen = AdHoc::on_response("seen", |_, response| {
            Box::pin(async move {
                let is_marked = response.headers().contains("Set-Cookie");
                response.set_raw_header("X-Marked", is_marked.to_string());
            })
        });
        let rocket = rocket::custom(figment)
            .attach(seen)
            .attach(Sessions::in_memory())
            .register(base, catchers)
            .mount("/", routes![index]);
        let client = Client::untracked(rocket).await.unwrap();
        let response = client.get("/").dispatch().await;
        let headers = response.headers();
        assert_eq!(headers.get_one("X-Marked"), Some(&*is_marked.to_string()));
        assert!(!headers.contains("Set-Cookie"));
    }
}
