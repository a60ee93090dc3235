//! Headers of every page.

use rocket::fairing::AdHoc;
use rocket::http::Header;

/// The pages load the shop's own stylesheet, icon and script, connect to the shop alone, and are not
/// framed.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

pub fn fairing() -> AdHoc {
    AdHoc::on_response("Security headers", |_, response| {
        Box::pin(async move {
            response.set_header(Header::new("Content-Security-Policy", POLICY));
            // For browsers without `frame-ancestors`. Rocket's default allows framing by this site.
            response.set_header(Header::new("X-Frame-Options", "DENY"));
            // Other sites shall not learn which page an administrator came from.
            response.set_header(Header::new("Referrer-Policy", "same-origin"));
        })
    })
}
