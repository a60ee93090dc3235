//! Guards for users and administrators, built on the session.
//!
//! `cargo run --example login`, then open http://127.0.0.1:8000, or:
//!
//! ```sh
//! curl -i -c jar -b jar -d name=alice -d password=wonderland http://127.0.0.1:8000/login
//! curl -b jar http://127.0.0.1:8000/
//! curl -b jar http://127.0.0.1:8000/admin
//! curl -i -c jar -b jar -X POST http://127.0.0.1:8000/logout
//! ```

#[macro_use]
extern crate rocket;

use rocket::form::Form;
use rocket::http::Status;
use rocket::outcome::try_outcome;
use rocket::request::{FromRequest, Outcome, Request};
use rocket::response::Redirect;
use rocket::response::content::RawHtml;
use rocket_mongo_session::{Error, Session, Sessions};

/// Who signed in. A route with this guard is for users alone.
struct User {
    name: String,
}

#[async_trait]
impl<'r> FromRequest<'r> for User {
    type Error = Error;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Error> {
        let session = try_outcome!(request.guard::<&Session>().await);
        match session.user() {
            Ok(Some(name)) => Outcome::Success(User { name }),
            Ok(None) => Outcome::Forward(Status::Unauthorized),
            Err(error) => Outcome::Error((error.status(), error)),
        }
    }
}

/// A user who is an administrator as well.
struct Admin(User);

#[async_trait]
impl<'r> FromRequest<'r> for Admin {
    type Error = Error;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Error> {
        let user = try_outcome!(request.guard::<User>().await);
        // Asked at every request, not kept in the session: who is dismissed is no administrator
        // any more.
        if user.name == "alice" {
            Outcome::Success(Admin(user))
        } else {
            Outcome::Forward(Status::Forbidden)
        }
    }
}

#[derive(FromForm)]
struct Credentials<'r> {
    name: &'r str,
    password: &'r str,
}

/// Stands in for the application's database, which would hold hashes of the passwords.
fn is_right(credentials: &Credentials<'_>) -> bool {
    let known = [("alice", "wonderland"), ("bob", "builder")];
    known.contains(&(credentials.name, credentials.password))
}

#[get("/")]
fn index(user: User) -> RawHtml<String> {
    // Only names that are known come this far; others would have to be escaped.
    RawHtml(format!(
        r#"<p>Hello {}!</p><form method="post" action="/logout"><button>Sign out</button></form>"#,
        user.name
    ))
}

#[get("/admin")]
async fn admin(admin: Admin, sessions: &Sessions) -> Result<String, Error> {
    let (name, count) = (admin.0.name, sessions.count().await?);
    Ok(format!("{name}, there are {count} sessions\n"))
}

#[get("/login")]
fn form() -> RawHtml<&'static str> {
    RawHtml(
        r#"<form method="post"><input name="name" placeholder="alice">
           <input name="password" type="password" placeholder="wonderland">
           <button>Sign in</button></form>"#,
    )
}

/// The guard refuses a form that another site sends. `CsrfForm` asks for a token as well.
#[post("/login", data = "<credentials>")]
fn login(
    credentials: Form<Credentials<'_>>,
    session: &Session,
) -> Result<Result<Redirect, Status>, Error> {
    if !is_right(&credentials) {
        return Ok(Err(Status::Unauthorized));
    }
    session.login(credentials.name)?;
    Ok(Ok(Redirect::to(uri!(index))))
}

#[post("/logout")]
fn logout(session: &Session) -> Result<Redirect, Error> {
    session.logout()?;
    Ok(Redirect::to(uri!(form)))
}

#[catch(401)]
fn unauthorized() -> Redirect {
    Redirect::to(uri!(form))
}

#[launch]
fn rocket() -> _ {
    rocket::build()
        .attach(Sessions::fairing())
        .mount("/", routes![index, admin, form, login, logout])
        .register("/", catchers![unauthorized])
}
