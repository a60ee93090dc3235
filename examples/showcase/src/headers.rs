//! Headers that every page carries.

use rocket::fairing::AdHoc;
use rocket::http::Header;

/// The pages load one stylesheet and one icon, run no script, and go into no frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

pub fn fairing() -> AdHoc {
    AdHoc::on_response("Content Security Policy", |_, response| {
        Box::pin(async move {
            response.set_header(Header::new("Content-Security-Policy", POLICY));
        })
    })
}
