//! The current time.

use std::convert::Infallible;

use rocket::request::{FromRequest, Outcome, Request};
// Also from a test's clock, since pages show times of sessions, which a test advances.
pub use rocket_mongo_session::testing::Clock;
use rocket_mongo_session::time::OffsetDateTime;

pub struct Now(pub OffsetDateTime);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Now {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Self::Error> {
        let clock = request.rocket().state::<Clock>().cloned();
        Outcome::Success(Now(clock.unwrap_or_default().time()))
    }
}
