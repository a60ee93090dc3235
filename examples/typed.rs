//! Typed keys: a struct and an enum in a session.
//!
//! `cargo run --example typed`, then:
//!
//! ```sh
//! curl -c jar -b jar -X POST http://127.0.0.1:8000/basket/apple
//! curl -c jar -b jar -X POST http://127.0.0.1:8000/basket/apple
//! curl -c jar -b jar -X POST 'http://127.0.0.1:8000/theme?to=dark'
//! curl -b jar http://127.0.0.1:8000/
//! ```

#[macro_use]
extern crate rocket;

use std::collections::BTreeMap;

use rocket::serde::{Deserialize, Serialize};
use rocket_mongo_session::{Error, Key, Session, Sessions};

/// A value can be any serde type.
#[derive(Default, Serialize, Deserialize)]
#[serde(crate = "rocket::serde")]
struct Basket {
    pieces: BTreeMap<String, u32>,
}

#[derive(Clone, Copy, Debug, Default, FromFormField, Serialize, Deserialize)]
#[serde(crate = "rocket::serde", rename_all = "lowercase")]
enum Theme {
    #[default]
    Light,
    Dark,
}

// A key has the type of its value: `session.set(THEME, &3)` does not compile.
const BASKET: Key<Basket> = Key::new("basket");
const THEME: Key<Theme> = Key::new("theme");

/// Adds a piece. When two tabs add at the same time, the basket gets both.
#[post("/basket/<item>")]
async fn add(item: &str, session: &Session) -> Result<String, Error> {
    let basket = session
        .modify(BASKET, |basket| {
            let mut basket: Basket = basket.unwrap_or_default();
            *basket.pieces.entry(item.to_owned()).or_default() += 1;
            basket
        })
        .await?;
    Ok(format!("{} kinds in the basket\n", basket.pieces.len()))
}

#[post("/theme?<to>")]
fn theme(to: Theme, session: &Session) -> Result<(), Error> {
    session.set(THEME, &to)
}

#[get("/")]
fn index(session: &Session) -> Result<String, Error> {
    let theme = session.get(THEME)?.unwrap_or_default();
    let basket = session.get(BASKET)?.unwrap_or_default();
    Ok(format!("{theme:?} theme, basket: {:?}\n", basket.pieces))
}

#[launch]
fn rocket() -> _ {
    rocket::build()
        .attach(Sessions::fairing())
        .mount("/", routes![add, theme, index])
}
