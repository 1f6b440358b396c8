//! How much the receiver gets, in all and at present, and the summary that page and API show.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::audit::{Finding, Report, TargetGaps};

/// The rate is taken over so many whole seconds.
pub const RATE_SECONDS: usize = 10;

/// What was received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Requests that were stored.
    pub requests: u64,
    /// Those of them that were of remote write 2.0.
    #[serde(default)]
    pub v2_requests: u64,
    /// Requests that met a fault instead.
    pub faulted: u64,
    /// Requests that no receiver would take.
    pub refused: u64,
    /// Bytes of stored requests, as they came.
    pub bytes: u64,
    /// Bytes of them after decompression.
    pub decompressed_bytes: u64,
    /// Exemplars in them.
    pub exemplars: u64,
    /// Native histograms in them.
    pub histograms: u64,
    /// Metadata in them.
    pub metadata: u64,
}

/// Samples of the last seconds.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// The second that the newest count is of, in Unix seconds.
    second: i64,
    /// Counts by second modulo their number: the running second, and whole ones before it.
    counts: [u64; RATE_SECONDS + 1],
    /// The second in which the first samples came; zero: none came yet.
    first: i64,
}

impl Rate {
    pub(super) fn add(&mut self, samples: u64, now_ms: i64) {
        self.advance(now_ms);
        if self.first == 0 {
            self.first = self.second;
        }
        let at = self.slot(self.second);
        self.counts[at] += samples;
    }

    /// Samples a second over the last whole seconds.
    pub(super) fn per_second(&mut self, now_ms: i64) -> f64 {
        self.advance(now_ms);
        let running = self.counts[self.slot(self.second)];
        let mut samples = self.counts.iter().sum::<u64>() - running;
        // At the beginning there are fewer whole seconds, and the first one was none.
        let age = self.second - self.first;
        if (1..=RATE_SECONDS as i64).contains(&age) {
            samples -= self.counts[self.slot(self.first)];
        }
        samples as f64 / (age - 1).clamp(1, RATE_SECONDS as i64) as f64
    }

    fn slot(&self, second: i64) -> usize {
        second.rem_euclid(self.counts.len() as i64) as usize
    }

    fn advance(&mut self, now_ms: i64) {
        let now = now_ms.div_euclid(1_000);
        let passed = (now - self.second).clamp(0, self.counts.len() as i64);
        for back in 0..passed {
            let at = self.slot(now - back);
            self.counts[at] = 0;
        }
        self.second = self.second.max(now);
    }
}

/// The body of `GET /api/v1/audit`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// When it was made, in Unix milliseconds.
    pub now_ms: i64,
    /// Slots up to this time were required.
    pub as_of_ms: i64,
    /// Samples so far, markers and duplicates included.
    pub samples: u64,
    /// Staleness markers among them.
    pub markers: u64,
    /// Samples off their slot's nominal time.
    pub late: u64,
    /// Different series so far.
    pub series: u64,
    /// Samples a second over the last ten.
    pub samples_per_second: f64,
    /// The latest timestamp of a sample, in Unix milliseconds.
    pub latest_ms: i64,
    /// What was received.
    pub received: Received,
    /// Targets expected.
    pub expected_targets: u64,
    /// Series expected.
    pub expected_series: u64,
    /// Slots that had to have a sample so far.
    pub slots: u64,
    /// Slots without a sample.
    pub gaps: u64,
    /// See [`crate::audit::Counts`].
    pub duplicates: u64,
    /// Those of the duplicates that were sent again as they were.
    pub resent: u64,
    /// Samples that came after a later one of their series.
    pub out_of_order: u64,
    /// Staleness markers of living series.
    pub stray_markers: u64,
    /// All other findings together.
    pub other_findings: u64,
    /// Whether there is no finding at all.
    pub clean: bool,
    /// Examples of what was found.
    pub findings: Vec<Finding>,
    /// Targets with gaps.
    pub gaps_by_target: Vec<TargetGaps>,
    /// What whoever runs the receiver has to tell, by name: see [`super::Receiver::set_facts`].
    pub facts: BTreeMap<String, String>,
}

impl Summary {
    /// Fills in what the audit has found.
    pub(super) fn with_report(self, report: Report) -> Self {
        let counts = report.counts;
        let other_findings = counts.missing_targets
            + counts.missing_series
            + counts.missing_markers
            + counts.unexpected_series
            + counts.samples_after_end
            + counts.unexpected_values
            + counts.malformed
            + counts.untracked;
        Self {
            as_of_ms: report.to_ms,
            expected_targets: report.targets,
            expected_series: report.series,
            slots: report.slots,
            gaps: counts.gaps,
            duplicates: counts.duplicates,
            resent: counts.resent,
            out_of_order: counts.out_of_order,
            stray_markers: counts.stray_markers,
            other_findings,
            clean: counts.is_clean(),
            findings: report.findings,
            gaps_by_target: report.gaps,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_over_the_last_ten_whole_seconds() {
        let mut rate = Rate::default();
        let start = 1_800_000_000_000;
        for second in 0..30 {
            for part in 0..4 {
                rate.add(25, start + second * 1_000 + part * 250);
            }
        }
        assert_eq!(rate.per_second(start + 29_999), 100.0);
        assert_eq!(rate.per_second(start + 34_000), 60.0, "four seconds had none");
        assert_eq!(rate.per_second(start + 60_000), 0.0);
    }

    #[test]
    fn a_clock_that_goes_back_does_no_harm() {
        let mut rate = Rate::default();
        rate.add(10, 50_000);
        rate.add(10, 20_000);
        rate.add(30, 51_000);
        assert_eq!(rate.per_second(52_000), 30.0, "the second in which the first came was no whole one");
        assert_eq!(rate.per_second(55_000), 7.5);
    }
}
