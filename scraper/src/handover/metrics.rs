//! What hand-overs show of themselves.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use crate::queue::{Hold, QueueStats, SetKind};

/// Handles.
pub(super) struct HandoverMetrics {
    pub(super) giving: Gauge,
    pub(super) taking: Gauge,
    pub(super) given: Counter,
    pub(super) taken: Counter,
    pub(super) asked: Counter,
    pub(super) series_failed: Counter,
    pub(super) save_failures: Counter,
}

impl std::fmt::Debug for HandoverMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HandoverMetrics")
    }
}

impl HandoverMetrics {
    pub(super) fn new() -> Self {
        describe_gauge!("promring_handover_moves", "Hand-overs that this scraper is in, by its role.");
        describe_counter!(
            "promring_handover_keys_total",
            "Keys whose hand-over became final, by the role that this scraper had."
        );
        describe_counter!(
            "promring_handover_series_asked_total",
            "Keys whose last owner was asked for the series of its last scrape."
        );
        describe_gauge!(
            "promring_handover_fenced_samples",
            "Samples that wait until the last owner of their target has sent everything."
        );
        describe_gauge!("promring_handover_fences", "Second sets of lanes, for hand-overs.");
        describe_counter!(
            "promring_assignment_save_failures_total",
            "Times that the volume did not take what must survive a restart; meanwhile scraping goes on and no hand-over does."
        );
        Self {
            giving: gauge!("promring_handover_moves", "role" => "giver"),
            taking: gauge!("promring_handover_moves", "role" => "taker"),
            given: counter!("promring_handover_keys_total", "role" => "giver"),
            taken: counter!("promring_handover_keys_total", "role" => "taker"),
            asked: counter!("promring_handover_series_asked_total"),
            series_failed: counter!("promring_handover_series_failed_total"),
            save_failures: counter!("promring_assignment_save_failures_total"),
        }
    }
}

/// A destination that is gone shows nothing of fences any more.
pub(super) fn hide_fences(destination: &str) {
    for name in ["promring_handover_fenced_samples", "promring_handover_fences"] {
        // What is not a number is not shown.
        gauge!(name, "remote_name" => destination.to_owned()).set(f64::NAN);
    }
}

/// Brings up to date what a destination's fences show.
pub(super) fn publish_fences(destination: &str, stats: &QueueStats) {
    let fences = || stats.sets.iter().filter(|set| set.kind == SetKind::Fence);
    let held = fences().filter(|set| matches!(set.hold, Hold::Until(_)));
    let samples: u64 = held.flat_map(|set| &set.lanes).map(|lane| lane.pending.samples).sum();
    let name = || destination.to_owned();
    gauge!("promring_handover_fenced_samples", "remote_name" => name()).set(samples as f64);
    gauge!("promring_handover_fences", "remote_name" => name()).set(fences().count() as f64);
}
