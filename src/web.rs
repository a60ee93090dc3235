//! Everything that knows Rocket: fairing, guards, cookies and responses.

mod backend;
mod client_ip;
mod connect;
mod cookie;
mod csrf;
mod fairing;
mod guard;
mod indexes;
mod load;
mod mark;
mod pool;
mod readiness;
mod recent;
mod request_cache;
mod response;

pub use csrf::{CsrfError, CsrfForm, CsrfHeader, CsrfRefusal};
pub use fairing::SessionFairing;
pub use pool::MongoPool;
pub use recent::RecentLogin;
