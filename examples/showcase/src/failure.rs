//! The error type of the handlers, so that they can use `?`.

use rocket::http::Status;
use rocket::request::Request;
use rocket::response::{self, Redirect, Responder};
use rocket_mongo_session::{Error, mongodb};

pub type Result<T, E = Failure> = std::result::Result<T, E>;

#[derive(Clone, Debug)]
pub enum Failure {
    Session(Error),
    Users(mongodb::error::Error),
    Password(String),
    /// Returned by `still_signed_in`.
    SignedOut,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Session(error)
    }
}

impl From<mongodb::error::Error> for Failure {
    fn from(error: mongodb::error::Error) -> Self {
        Failure::Users(error)
    }
}

impl Failure {
    pub fn status(&self) -> Status {
        match self {
            Failure::Session(error) => error.status(),
            Failure::Users(_) => Status::ServiceUnavailable,
            Failure::Password(_) => Status::InternalServerError,
            Failure::SignedOut => Status::Unauthorized,
        }
    }
}

impl<'r> Responder<'r, 'static> for Failure {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        match self {
            // Signed out on another device while this request ran: not an error of the application.
            Failure::Session(Error::Gone) => Redirect::to("/").respond_to(request),
            Failure::Session(error) => error.respond_to(request),
            Failure::Users(ref error) => {
                rocket::error!("Accounts: {error}");
                Err(self.status())
            }
            Failure::Password(ref reason) => {
                rocket::error!("Passwords: {reason}");
                Err(self.status())
            }
            // The catcher redirects to the sign-in page.
            Failure::SignedOut => Err(self.status()),
        }
    }
}
