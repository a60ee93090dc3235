//! A small tea shop that shows what an application does with its sessions.
//!
//! Each file is a part of the shop. Read `sign` and `devices` first.

mod admin;
mod basket;
mod customer;
mod device;
mod devices;
mod error_page;
mod failure;
mod headers;
mod live;
mod metrics;
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

pub use customer::Admin;
use now::Clock;

/// The connection pool of the sessions and the accounts.
#[derive(Database)]
#[database("sessions")]
struct Db(MongoPool);

/// Builds the application. The clock is the system's, or a test's.
pub fn rocket(figment: Figment, clock: &Clock) -> Rocket<Build> {
    let has_database = figment.contains("databases.sessions.url");
    // Find the templates from any working directory.
    let figment = figment.join(("template_dir", relative!("templates")));
    let rocket = rocket::custom(figment).manage(metrics::install());
    let rocket = if has_database {
        rocket
            .attach(Db::init())
            .attach(Sessions::in_database::<Db>().with_clock(clock))
            .attach(
                Sessions::in_database::<Db>()
                    .for_kind::<Admin>()
                    .with_clock(clock),
            )
    } else {
        rocket
            .attach(Sessions::fairing().with_clock(clock))
            .attach(Sessions::fairing_of::<Admin>().with_clock(clock))
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
        .mount("/metrics", metrics::routes())
        .register("/", error_page::catchers())
}
