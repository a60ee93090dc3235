//! A form with only a button: the CSRF token is its only field.

use rocket::form::{self, DataField, FromForm, Options, ValueField};

/// A form without fields, which Rocket cannot derive. It ignores everything that is sent.
pub struct Button;

#[rocket::async_trait]
impl<'r> FromForm<'r> for Button {
    type Context = ();

    fn init(_: Options) {}

    fn push_value((): &mut (), _: ValueField<'r>) {}

    async fn push_data((): &mut (), _: DataField<'r, '_>) {}

    fn finalize((): ()) -> form::Result<'r, Self> {
        Ok(Button)
    }
}
