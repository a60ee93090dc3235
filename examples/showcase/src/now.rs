//! What time it is.

use std::convert::Infallible;

use rocket::request::{FromRequest, Outcome, Request};
// A test's clock, too, since the times on a page are the sessions' own and a test moves those.
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
