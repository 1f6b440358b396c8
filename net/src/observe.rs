//! The process's own metrics.

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Bounds of histograms in seconds.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Bounds of the durations of hand-overs in seconds: those of a fence at the end.
const HANDOVER_SECONDS: [f64; 10] = [5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0, 600.0];

/// Installs the recorder that the `metrics` macros write to. Must run before any handle is taken, since a handle
/// taken earlier goes nowhere. Later calls change nothing.
pub fn install_metrics() {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(|builder| {
            let handovers = Matcher::Full("promring_allocator_handover_duration_seconds".to_owned());
            builder.set_buckets_for_metric(handovers, &HANDOVER_SECONDS)
        })
        .map(PrometheusBuilder::build_recorder);
    let Ok(recorder) = recorder else { return };
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_ok() {
        let _ = RECORDER.set(handle);
        metrics::gauge!("promring_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    }
}

/// All metrics in the text format, or nothing where [`install_metrics`] has not run.
#[must_use]
pub fn render_metrics() -> String {
    RECORDER.get().map(PrometheusHandle::render).unwrap_or_default()
}

/// Keeps histograms bounded: the exporter collects samples until it is told to sort them into buckets.
pub async fn upkeep() {
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    loop {
        tick.tick().await;
        if let Some(handle) = RECORDER.get() {
            handle.run_upkeep();
        }
    }
}
