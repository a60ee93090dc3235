//! Streams a countdown. The session is saved before the stream starts; later changes fail.
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
    // Without this line, the change is stored before the first byte of the response. With it, the
    // handler knows the outcome before it starts the stream.
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
