//! The metrics of the sessions, for Prometheus.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use rocket::http::Status;
use rocket::{Route, State, get, routes};

use crate::customer::Administrator;

/// The bounds of the histograms, in seconds.
const BOUNDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

pub struct Exporter(Option<PrometheusHandle>);

/// Installs the recorder of the process, before the session fairing takes it. Tests open several shops
/// in one process, which share it.
pub fn install() -> Exporter {
    static EXPORTER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || {
        let histograms = Matcher::Suffix("_seconds".to_owned());
        let exporter = PrometheusBuilder::new().set_buckets_for_metric(histograms, &BOUNDS);
        let installed = exporter.and_then(PrometheusBuilder::install_recorder);
        installed
            .inspect_err(|error| rocket::warn!("Metrics: not exported ({error})."))
            .ok()
    };
    Exporter(EXPORTER.get_or_init(install).clone())
}

pub fn routes() -> Vec<Route> {
    routes![metrics]
}

#[get("/")]
fn metrics(_admin: Administrator, exporter: &State<Exporter>) -> Result<String, Status> {
    let exporter = exporter.0.as_ref().ok_or(Status::ServiceUnavailable)?;
    exporter.run_upkeep();
    Ok(exporter.render())
}
