//! `prometheus_target_interval_length_seconds`: the time between the starts of a target's scrapes, as a summary for each
//! configured interval.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, counter, describe_gauge, gauge};
use promring_model::duration::format_duration;

/// Prometheus's quantiles.
const QUANTILES: [f64; 5] = [0.01, 0.05, 0.5, 0.9, 0.99];

/// The newest lengths, of which the quantiles are.
const KEPT_MAX: usize = 1_024;

/// Intervals that are told apart; targets may name any they like.
const INTERVALS_MAX: usize = 100;

/// The lengths of all intervals.
#[derive(Default)]
pub struct Intervals(Mutex<BTreeMap<Duration, Lengths>>);

struct Lengths {
    newest: Vec<f64>,
    next: usize,
    sum_seconds: f64,
    count: Counter,
    sum: Gauge,
    quantiles: [Gauge; QUANTILES.len()],
}

impl std::fmt::Debug for Intervals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Intervals")
    }
}

impl Intervals {
    /// This long after the last one, a scrape of a target with this interval began.
    pub fn record(&self, interval: Duration, seconds: f64) {
        let mut intervals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if intervals.len() >= INTERVALS_MAX && !intervals.contains_key(&interval) {
            return;
        }
        let lengths = intervals.entry(interval).or_insert_with(|| Lengths::new(interval));
        if lengths.newest.len() < KEPT_MAX {
            lengths.newest.push(seconds);
        } else {
            lengths.newest[lengths.next] = seconds;
        }
        lengths.next = (lengths.next + 1) % KEPT_MAX;
        lengths.sum_seconds += seconds;
        lengths.count.increment(1);
    }

    /// Brings the metrics up to date.
    pub fn publish(&self) {
        for lengths in self.0.lock().unwrap_or_else(PoisonError::into_inner).values() {
            lengths.sum.set(lengths.sum_seconds);
            let mut sorted = lengths.newest.clone();
            sorted.sort_unstable_by(f64::total_cmp);
            for (quantile, gauge) in QUANTILES.iter().zip(&lengths.quantiles) {
                gauge.set(sorted[((sorted.len() - 1) as f64 * quantile).round() as usize]);
            }
        }
    }
}

impl Lengths {
    fn new(interval: Duration) -> Self {
        describe_gauge!("prometheus_target_interval_length_seconds", "Actual intervals between scrapes.");
        let interval = format_duration(interval);
        Self {
            newest: Vec::new(),
            next: 0,
            sum_seconds: 0.0,
            count: counter!("prometheus_target_interval_length_seconds_count", "interval" => interval.clone()),
            sum: gauge!("prometheus_target_interval_length_seconds_sum", "interval" => interval.clone()),
            quantiles: QUANTILES.map(
                |quantile| gauge!("prometheus_target_interval_length_seconds", "interval" => interval.clone(), "quantile" => quantile.to_string()),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_sum_and_count_are_told_by_interval() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let intervals = Intervals::default();
            for tenth in 1..=100 {
                intervals.record(Duration::from_secs(10), f64::from(tenth) / 10.0);
            }
            intervals.record(Duration::from_secs(60), 59.0);
            intervals.publish();
        });
        let text = handle.render();
        for line in [
            "prometheus_target_interval_length_seconds{interval=\"10s\",quantile=\"0.99\"} 9.9",
            "prometheus_target_interval_length_seconds{interval=\"1m\",quantile=\"0.5\"} 59",
            "prometheus_target_interval_length_seconds_count{interval=\"10s\"} 100",
            "prometheus_target_interval_length_seconds_sum{interval=\"1m\"} 59",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
