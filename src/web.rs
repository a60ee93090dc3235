//! Everything that knows Rocket: fairing, guards, cookies and responses.

mod backend;
mod client_ip;
mod connect;
mod constructors;
mod cookie;
mod csrf;
mod fairing;
mod guard;
mod headers;
mod kind;
mod load;
mod maintenance;
mod mark;
mod pool;
mod readiness;
mod recent;
mod request_cache;
mod response;
mod sign_in;

pub use csrf::{CsrfError, CsrfForm, CsrfHeader, CsrfRefusal, NoFields, RefusedForm};
pub use fairing::SessionFairing;
pub use guard::{Of, SessionsOf};
pub use kind::{Kind, Main};
pub use pool::MongoPool;
#[cfg(feature = "unstable-store")]
pub use pool::parse_url;
pub use recent::RecentLogin;
pub(crate) use sign_in::{cookie_is_kept, order_sign_in, prepare_sign_in};
