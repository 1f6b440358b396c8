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
    reports: HashMap<TargetId, TargetReport>,
    changed: HashSet<TargetId>,
    samples_total: u64,
}

impl Statuses {
    /// A scrape has ended.
    pub fn set(&self, report: TargetReport) {
        let mut inner = self.lock();
        inner.changed.insert(report.id);
        inner.samples_total += report.samples;
        inner.reports.insert(report.id, report);
    }

    /// The target is no longer scraped here.
    pub fn remove(&self, id: TargetId) {
        let mut inner = self.lock();
        inner.reports.remove(&id);
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
        self.lock().reports.get(&id).cloned()
    }

    /// The reports that came since this was last called.
    #[must_use]
    pub fn take_changed(&self) -> Vec<TargetReport> {
        let mut inner = self.lock();
        let changed = std::mem::take(&mut inner.changed);
        changed.iter().filter_map(|id| inner.reports.get(id).cloned()).collect()
    }

    /// These could not be told: they count as changed again.
    pub fn give_back(&self, reports: &[TargetReport]) {
        let mut inner = self.lock();
        let known: Vec<TargetId> =
            reports.iter().map(|report| report.id).filter(|id| inner.reports.contains_key(id)).collect();
        inner.changed.extend(known);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
