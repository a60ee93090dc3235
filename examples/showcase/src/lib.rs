//! A small tea shop, to be clicked through: what an application does with its sessions.
//!
//! Each file is a part of the shop. `sign` and `devices` are the ones to read first.

mod admin;
mod basket;
mod button;
mod customer;
mod device;
mod devices;
mod error_page;
mod failure;
mod headers;
mod mistake;
mod notice;
mod now;
mod page;
mod password;
mod password_page;
mod shop;
mod sign;
mod tea;
mod users;
mod words;

use rocket::figment::Figment;
use rocket::fs::{FileServer, relative};
use rocket::{Build, Rocket};
use rocket_db_pools::Database;
use rocket_dyn_templates::Template;
use rocket_mongo_session::{MongoPool, Sessions, rocket_db_pools};

use now::Clock;

/// One pool of connections, for the sessions and the accounts alike.
#[derive(Database)]
#[database("sessions")]
struct Db(MongoPool);

/// The application. The clock is the system's (its default), or one that a test moves.
pub fn rocket(figment: Figment, clock: &Clock) -> Rocket<Build> {
    let has_database = figment.contains("databases.sessions.url");
    // So that it finds its pages from whichever folder it is started.
    let figment = figment.join(("template_dir", relative!("templates")));
    let rocket = rocket::custom(figment);
    let rocket = if has_database {
        rocket
            .attach(Db::init())
            .attach(Sessions::in_database::<Db>().with_clock(clock))
    } else {
        rocket.attach(Sessions::fairing().with_clock(clock))
    };
    rocket
        .manage(clock.clone())
        .attach(users::fairing())
        .attach(Template::fairing())
        .attach(headers::fairing())
        .mount("/static", FileServer::from(relative!("static")))
        .mount("/", shop::routes())
        .mount("/basket", basket::routes())
        .mount("/", sign::routes())
        .mount("/account", devices::routes())
        .mount("/account/password", password_page::routes())
        .mount("/admin", admin::routes())
        .register("/", error_page::catchers())
}
