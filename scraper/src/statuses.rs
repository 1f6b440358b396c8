//! What each target's last scrape gave: for the reports to the allocator and the scraper's own API.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use promring_model::target::TargetId;
use promring_proto::api::TargetReport;

/// The newest report of each target.
#[derive(Debug, Default)]
pub struct Statuses(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    statuses: HashMap<TargetId, Status>,
    changed: HashSet<TargetId>,
    samples_total: u64,
}

#[derive(Debug)]
struct Status {
    report: TargetReport,
    /// Samples of the last scrape that had any.
    samples: u64,
}

impl Status {
    /// What the allocator is told: a target that is down will be back with what it had, and an allocator that has just started
    /// has to know how much that is.
    fn told(&self) -> TargetReport {
        TargetReport { samples: self.samples, ..self.report.clone() }
    }
}

impl Statuses {
    /// A scrape has ended.
    pub fn set(&self, report: TargetReport) {
        let mut inner = self.lock();
        inner.changed.insert(report.id);
        inner.samples_total += report.samples;
        let before = inner.statuses.get(&report.id).map_or(0, |status| status.samples);
        let samples = if report.samples > 0 { report.samples } else { before };
        inner.statuses.insert(report.id, Status { report, samples });
    }

    /// The target is no longer scraped here.
    pub fn remove(&self, id: TargetId) {
        let mut inner = self.lock();
        inner.statuses.remove(&id);
        inner.changed.remove(&id);
    }

    /// Samples of all scrapes so far, before metric relabelling.
    #[must_use]
    pub fn samples_total(&self) -> u64 {
        self.lock().samples_total
    }

    /// The newest report of a target.
    #[must_use]
    pub fn get(&self, id: TargetId) -> Option<TargetReport> {
        self.lock().statuses.get(&id).map(|status| status.report.clone())
    }

    /// What the allocator is told of a target.
    #[must_use]
    pub fn told(&self, id: TargetId) -> Option<TargetReport> {
        self.lock().statuses.get(&id).map(Status::told)
    }

    /// What it is told of those that were scraped since this was last called.
    #[must_use]
    pub fn take_changed(&self) -> Vec<TargetReport> {
        let mut inner = self.lock();
        let changed = std::mem::take(&mut inner.changed);
        changed.iter().filter_map(|id| inner.statuses.get(id).map(Status::told)).collect()
    }

    /// These could not be told: they count as changed again.
    pub fn give_back(&self, reports: &[TargetReport]) {
        let mut inner = self.lock();
        let known: Vec<TargetId> =
            reports.iter().map(|report| report.id).filter(|id| inner.statuses.contains_key(id)).collect();
        inner.changed.extend(known);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_target_that_is_down_the_allocator_is_told_what_it_yielded_before() {
        let statuses = Statuses::default();
        let id = TargetId(1);
        for samples in [0, 7, 9, 0] {
            statuses.set(TargetReport { samples, ..TargetReport::unknown(id) });
        }
        assert_eq!(statuses.get(id).unwrap().samples, 0);
        assert_eq!(statuses.told(id).unwrap().samples, 9);
        assert_eq!(statuses.take_changed()[0].samples, 9);
        assert_eq!(statuses.samples_total(), 16);
    }
}
