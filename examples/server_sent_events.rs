//! Server-sent events that end with their session, and a page that leaves when they do.
//!
//! `cargo run --example server_sent_events`, then open http://127.0.0.1:8000/ in two tabs.

#[macro_use]
extern crate rocket;

use rocket::response::stream::{Event, EventStream};
use rocket::response::{Redirect, content::RawHtml};
use rocket::tokio::time::{Duration, interval};
use rocket::{Shutdown, tokio::select};
use rocket_mongo_session::{Error, Session, Sessions};

#[get("/")]
fn page(session: &Session) -> Result<RawHtml<&'static str>, Error> {
    if session.user::<String>()?.is_none() {
        return Ok(RawHtml(
            r#"<!doctype html><title>Ticks</title>
            <form method="post" action="/login"><button>Sign in as a guest</button></form>"#,
        ));
    }
    Ok(RawHtml(
        r#"<!doctype html><title>Ticks</title>
        <form method="post" action="/logout"><button>Sign out</button></form>
        <p id="tick"></p>
        <script>
          const events = new EventSource("/ticks");
          events.onmessage = (event) => (tick.textContent = event.data);
          events.addEventListener("end", () => location.replace("/left"));
        </script>"#,
    ))
}

#[get("/left")]
fn left() -> RawHtml<&'static str> {
    RawHtml(
        r#"<!doctype html><title>Signed out</title><p>You were signed out. <a href="/">Again</a>"#,
    )
}

/// `&Session` refuses a form that another site sends. A GET is not checked, so a login is a POST.
#[post("/login")]
fn login(session: &Session) -> Result<Redirect, Error> {
    session.login("guest")?;
    Ok(Redirect::to(uri!(page)))
}

#[post("/logout")]
fn logout(session: &Session) -> Result<Redirect, Error> {
    session.logout()?;
    Ok(Redirect::to(uri!(left)))
}

#[get("/ticks")]
fn ticks(session: &Session, mut shutdown: Shutdown) -> EventStream![] {
    let (mut ended, mut tick) = (session.ended(), interval(Duration::from_secs(1)));
    EventStream! {
        for number in 0.. {
            select! {
                _ = tick.tick() => yield Event::data(format!("{number} seconds")),
                // By logout, revocation or expiry, in any process.
                _ = &mut ended => {
                    yield Event::data("").event("end");
                    break;
                }
                // A deploy: the browser connects again, to the new process.
                _ = &mut shutdown => break,
            }
        }
    }
}

#[launch]
fn rocket() -> _ {
    rocket::build()
        .attach(Sessions::fairing())
        .mount("/", routes![page, left, login, logout, ticks])
}
