//! What scrapers report beside hand-over: health and weight of targets, queues, rates.

use std::collections::{BTreeMap, HashMap};

use promring_model::target::TargetId;
use promring_proto::api::{Report, TargetReport};

use crate::targets::Discovered;

/// Samples a second of a target of which nothing is known yet: 1,500 series every 15 s.
pub(crate) const WEIGHT_DEFAULT: f64 = 100.0;

/// A weight that is another by less than this part is the same: samples come and go with every scrape.
const SAME_PART: u64 = 20;

/// What a scraper last reported, beside its targets.
#[derive(Clone, Debug, Default)]
pub struct Reported {
    /// The report without its targets and without what concerns hand-over but for the version.
    pub report: Report,
    /// Samples a second over its recent reports.
    pub samples_per_second: f64,
    /// When it reported, in Unix milliseconds.
    pub at_ms: i64,
    /// The run whose health of all targets was told.
    health_of_run: Option<u64>,
}

/// How one target is doing.
#[derive(Debug)]
struct Known {
    report: TargetReport,
    /// Samples of a scrape that had any, a recent one: a target that is down will be back with what it had.
    samples: u64,
}

/// All scrapers' reports.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    by_scraper: BTreeMap<String, Reported>,
    targets: HashMap<TargetId, Known>,
}

impl Reports {
    /// Takes a report. Calls `changed` for each target whose weight is another than before, and returns whether the
    /// health of all targets is wanted: there is only what changed.
    pub(crate) fn take(
        &mut self,
        name: &str,
        mut report: Report,
        now_ms: i64,
        mut changed: impl FnMut(TargetId),
    ) -> bool {
        for report in std::mem::take(&mut report.targets) {
            let id = report.id;
            let known = self.targets.get(&id).map_or(0, |known| known.samples);
            let is_other = report.samples.abs_diff(known) > known / SAME_PART;
            let samples = if report.samples > 0 && is_other { report.samples } else { known };
            if samples != known {
                changed(id);
            }
            self.targets.insert(id, Known { report, samples });
        }
        report.handover.claims = Vec::new();
        report.handover.moves = Vec::new();
        let reported = self.by_scraper.entry(name.to_owned()).or_default();
        let run = report.handover.run;
        if report.full {
            reported.health_of_run = Some(run);
        }
        reported.observe(report, now_ms);
        reported.health_of_run != Some(run)
    }

    /// These targets are no more.
    pub(crate) fn forget(&mut self, gone: &[TargetId]) {
        gone.iter().for_each(|id| drop(self.targets.remove(id)));
    }

    /// Samples a second that the targets of a key make together.
    pub(crate) fn weight<'a>(&self, targets: impl IntoIterator<Item = &'a Discovered>) -> f64 {
        let weight = |target: &Discovered| {
            let samples = self.targets.get(&target.target.id).map_or(0, |known| known.samples);
            match samples {
                0 => WEIGHT_DEFAULT,
                samples => samples as f64 / target.target.interval.as_secs_f64(),
            }
        };
        targets.into_iter().map(weight).sum()
    }

    /// What its scraper last said of a target.
    pub(crate) fn health(&self, id: TargetId) -> Option<&TargetReport> {
        self.targets.get(&id).map(|known| &known.report)
    }

    /// What a scraper last reported.
    pub(crate) fn of(&self, scraper: &str) -> Option<&Reported> {
        self.by_scraper.get(scraper)
    }
}

impl Reported {
    fn observe(&mut self, report: Report, now_ms: i64) {
        let seconds = (now_ms - self.at_ms) as f64 / 1_000.0;
        // A total that shrank is a scraper that restarted.
        if self.at_ms > 0 && seconds > 0.0 && report.samples_total >= self.report.samples_total {
            let rate = (report.samples_total - self.report.samples_total) as f64 / seconds;
            // Half of it is forgotten in about ten seconds: scrapes come in bursts.
            let share = 1.0 - 0.5_f64.powf(seconds / 10.0);
            let first = self.samples_per_second == 0.0;
            self.samples_per_second =
                if first { rate } else { self.samples_per_second * (1.0 - share) + rate * share };
        }
        (self.report, self.at_ms) = (report, now_ms);
    }
}

#[cfg(test)]
mod tests {
    use promring_proto::api::MemberReport;

    use super::*;

    #[test]
    fn a_target_that_goes_down_or_wobbles_keeps_its_weight() {
        let mut reports = Reports::default();
        let id = TargetId(1);
        let mut changes = 0;
        for samples in [500, 0, 500, 600, 570, 630] {
            let targets = vec![TargetReport { samples, ..TargetReport::unknown(id) }];
            reports.take("a", Report { targets, ..Report::default() }, 0, |_| changes += 1);
        }
        assert_eq!(changes, 2);
    }

    #[test]
    fn every_run_is_asked_for_the_health_of_all_its_targets() {
        let mut reports = Reports::default();
        let mut report = |run, full| {
            let handover = MemberReport { run, ..MemberReport::default() };
            reports.take("a", Report { full, handover, ..Report::default() }, 0, |_| ())
        };
        assert!(report(1, false));
        assert!(!report(1, true) && !report(1, false));
        assert!(report(2, false), "what it found out before it restarted is old");
    }
}
