//! Headers that every page carries.

use rocket::fairing::AdHoc;
use rocket::http::Header;

/// The pages load one stylesheet and one icon, run no script, and go into no frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

pub fn fairing() -> AdHoc {
    AdHoc::on_response("Security headers", |_, response| {
        Box::pin(async move {
            response.set_header(Header::new("Content-Security-Policy", POLICY));
            // For browsers that know no `frame-ancestors`; Rocket's own lets this site frame itself.
            response.set_header(Header::new("X-Frame-Options", "DENY"));
            // Where an administrator looks at whom is nobody's business elsewhere.
            response.set_header(Header::new("Referrer-Policy", "same-origin"));
        })
    })
}
