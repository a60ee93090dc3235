//! The mark: a cookie that shows the response fairing whether a catcher made the response.
//!
//! Rocket runs a catcher in the handler's place when a guard or handler fails, and does not say so
//! to response fairings. It does drop every cookie that was added to the jar until then. So the
//! guard adds a cookie of its own, where it matters ([`is_needed`]): if it is missing in the response, a
//! catcher made the response.
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
