//! Everything at once: races, faults, random programs, and the histories of crowds.

pub mod crowd;
pub mod faults;
pub mod history;
mod model;
mod outage;
mod races;
mod reproduced;
mod soak;
