//! A form that is nothing but a button: no field of its own, only the CSRF token.

use rocket::form::{self, DataField, FromForm, Options, ValueField};

/// Rocket derives forms that have fields; this one has none, and ignores what is sent.
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
