//! Signing in and out, with guards for users and for administrators.
//!
//! `cargo run --example login`, then open http://127.0.0.1:8000, or:
//!
//! ```sh
//! curl -i -c jar -b jar -d name=alice -d password=wonderland http://127.0.0.1:8000/login
//! curl -b jar http://127.0.0.1:8000/
//! curl -b jar http://127.0.0.1:8000/admin
//! curl -i -c jar -b jar -X POST http://127.0.0.1:8000/logout
//! ```
//!
//! For password hashing see the page "Recipes" of the guide.

#[macro_use]
extern crate rocket;

use rocket::form::Form;
use rocket::http::Status;
use rocket::outcome::try_outcome;
use rocket::request::{FromRequest, Outcome, Request};
use rocket::response::Redirect;
use rocket::response::content::RawHtml;
use rocket_mongo_session::{Error, Session, Sessions};

/// The signed-in user. A route with this guard is for users only.
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
        // Checked at every request and not stored in the session, so that a user who is removed from
        // the administrators loses the privilege immediately.
        if user.name == "alice" {
            Outcome::Success(Admin(user))
        } else {
            // Not 403, which would reveal that the page exists.
            Outcome::Forward(Status::NotFound)
        }
    }
}

#[derive(FromForm)]
struct Credentials<'r> {
    name: &'r str,
    password: &'r str,
}

/// A stand-in for the application's database, which would hold a hash of each password.
fn is_right(credentials: &Credentials<'_>) -> bool {
    let known = [("alice", "wonderland"), ("bob", "builder")];
    known.contains(&(credentials.name, credentials.password))
}

#[get("/")]
fn index(user: User) -> RawHtml<String> {
    // Only the two known names occur here. Other names would have to be escaped.
    RawHtml(format!(
        r#"<p>Hello {}!</p><form method="post" action="/logout"><button>Sign out</button></form>"#,
        user.name
    ))
}

#[get("/admin")]
async fn admin(admin: Admin, sessions: &Sessions) -> Result<String, Error> {
    let name = admin.0.name;
    Ok(match sessions.count().await? {
        1 => format!("{name}, there is 1 session\n"),
        count => format!("{name}, there are {count} sessions\n"),
    })
}

#[get("/login")]
async fn form(session: &Session) -> Result<RawHtml<String>, Error> {
    // The queue holds only messages of this file. Other text would have to be escaped.
    let messages: Vec<String> = session.pop_flash().await?;
    Ok(RawHtml(format!(
        r#"<p role="alert">{}</p>
           <form method="post">
             <p><label>Name <input name="name" autocomplete="username" required></label> (alice)</p>
             <p><label>Password <input name="password" type="password"
                autocomplete="current-password" required></label> (wonderland)</p>
             <button>Sign in</button>
           </form>"#,
        messages.join(" ")
    )))
}

/// `&Session` refuses a form that another site sends. `CsrfForm` would check a token as well.
#[post("/login", data = "<credentials>")]
fn login(credentials: Form<Credentials<'_>>, session: &Session) -> Result<Redirect, Error> {
    if !is_right(&credentials) {
        session.flash("The name or the password is wrong.")?;
        return Ok(Redirect::to(uri!(form)));
    }
    session.login(credentials.name)?;
    Ok(Redirect::to(uri!(index)))
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
