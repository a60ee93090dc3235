//! A stream, and what of the session it can still change: nothing. `save` comes before it.
//!
//! `cargo run --example streaming`, then:
//!
//! ```sh
//! curl -N -c jar -b jar http://127.0.0.1:8000/
//! curl -N -c jar -b jar http://127.0.0.1:8000/
//! ```

#[macro_use]
extern crate rocket;

use rocket::response::stream::TextStream;
use rocket::tokio::time::{Duration, sleep};
use rocket_mongo_session::{Error, Key, Session, Sessions};

const STARTS: Key<i64> = Key::new("starts");

#[get("/")]
async fn countdown(session: &Session) -> Result<TextStream![String + '_], Error> {
    let starts = session.increment(STARTS, 1)?;
    // Without it the change goes with the head of the answer, before the first byte of the stream.
    // With it, whether it could be stored is known here, before anything is started.
    session.save().await?;
    Ok(TextStream! {
        yield format!("countdown number {starts}\n");
        for seconds in (1..=3).rev() {
            yield format!("{seconds}\n");
            sleep(Duration::from_secs(1)).await;
        }
        if let Err(error) = session.set("landed", &true) {
            yield format!("too late for a change: {error}\n");
        }
    })
}

#[launch]
fn rocket() -> _ {
    rocket::build()
        .attach(Sessions::fairing())
        .mount("/", routes![countdown])
}
