//! Prometheus's summaries of times: quantiles of the newest, and sum and number of all, for each value of one label.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use metrics::{Counter, Gauge, Label, counter, describe_gauge, gauge};

/// Prometheus's quantiles.
const QUANTILES: [f64; 5] = [0.01, 0.05, 0.5, 0.9, 0.99];

/// The newest times, of which the quantiles are.
const KEPT_MAX: usize = 1_024;

/// Values of the label that are told apart; targets may name any interval they like.
const VALUES_MAX: usize = 100;

/// A summary for each `K`.
pub struct Summaries<K> {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    shown: fn(&K) -> String,
    summaries: Mutex<BTreeMap<K, Summary>>,
}

struct Summary {
    newest: Vec<f64>,
    next: usize,
    sum_seconds: f64,
    number: u64,
    count: Counter,
    sum: Gauge,
    quantiles: [Gauge; QUANTILES.len()],
}

impl<K> std::fmt::Debug for Summaries<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Summaries").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<K: Ord + Clone> Summaries<K> {
    /// A metric whose `label` has what `shown` makes of a key.
    #[must_use]
    pub fn new(name: &'static str, help: &'static str, label: &'static str, shown: fn(&K) -> String) -> Self {
        Self { name, help, label, shown, summaries: Mutex::default() }
    }

    /// Takes in one more time.
    pub fn record(&self, key: &K, seconds: f64) {
        let mut summaries = self.summaries.lock().unwrap_or_else(PoisonError::into_inner);
        if !summaries.contains_key(key) {
            if summaries.len() >= VALUES_MAX {
                return;
            }
            summaries.insert(key.clone(), self.summary(key));
        }
        let Some(summary) = summaries.get_mut(key) else { return };
        if summary.newest.len() < KEPT_MAX {
            summary.newest.push(seconds);
        } else {
            summary.newest[summary.next] = seconds;
        }
        summary.next = (summary.next + 1) % KEPT_MAX;
        summary.sum_seconds += seconds;
        summary.number += 1;
    }

    /// Brings the metrics up to date.
    pub fn publish(&self) {
        for summary in self.summaries.lock().unwrap_or_else(PoisonError::into_inner).values() {
            // Together, so that a page shows both of one moment.
            summary.sum.set(summary.sum_seconds);
            summary.count.absolute(summary.number);
            let mut sorted = summary.newest.clone();
            sorted.sort_unstable_by(f64::total_cmp);
            for (quantile, gauge) in QUANTILES.iter().zip(&summary.quantiles) {
                gauge.set(sorted[((sorted.len() - 1) as f64 * quantile).round() as usize]);
            }
        }
    }

    fn summary(&self, key: &K) -> Summary {
        let Self { name, help, label, shown, .. } = self;
        describe_gauge!(*name, *help);
        let labels = vec![Label::new(*label, shown(key))];
        let of_quantile = |quantile: f64| {
            let quantile = Label::new("quantile", quantile.to_string());
            gauge!(*name, [labels.clone(), vec![quantile]].concat())
        };
        Summary {
            newest: Vec::new(),
            next: 0,
            sum_seconds: 0.0,
            number: 0,
            count: counter!(format!("{name}_count"), labels.clone()),
            sum: gauge!(format!("{name}_sum"), labels.clone()),
            quantiles: QUANTILES.map(of_quantile),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use promring_model::duration::format_duration;

    use super::*;

    #[test]
    fn quantiles_sum_and_count_are_told_by_interval() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let lengths =
                Summaries::new("length_seconds", "Lengths.", "interval", |key| format_duration(*key));
            for tenth in 1..=100 {
                lengths.record(&Duration::from_secs(10), f64::from(tenth) / 10.0);
            }
            lengths.record(&Duration::from_secs(60), 59.0);
            lengths.publish();
            // Not told before the next look.
            lengths.record(&Duration::from_secs(60), 61.0);
        });
        let text = handle.render();
        for line in [
            "length_seconds{interval=\"10s\",quantile=\"0.99\"} 9.9",
            "length_seconds{interval=\"1m\",quantile=\"0.5\"} 59",
            "length_seconds_count{interval=\"10s\"} 100",
            "length_seconds_sum{interval=\"1m\"} 59",
            "length_seconds_count{interval=\"1m\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
