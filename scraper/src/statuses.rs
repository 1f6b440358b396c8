//! What each target's last scrape gave: for the reports to the allocator and the scraper's own API.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use promring_model::target::TargetId;
use promring_proto::api::TargetReport;

/// Bytes of a target's report in JSON beside its error.
const REPORT_BYTES: usize = 192;

/// The newest report of each target.
#[derive(Debug, Default)]
pub struct Statuses(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    statuses: HashMap<TargetId, Status>,
    /// Told with the next round.
    changed: HashSet<TargetId>,
    /// What is still to be told of a round that is too large for one report.
    round: BTreeSet<TargetId>,
    samples_total: u64,
}

#[derive(Debug)]
struct Status {
    report: TargetReport,
    /// Samples of the last scrape that succeeded, or had any; None: there was none.
    samples: Option<u64>,
}

impl Status {
    /// What the allocator is told: a target that is down will be back with what it had, and an allocator that has just started
    /// has to know how much that is.
    fn told(&self) -> TargetReport {
        let samples = self.samples.unwrap_or_default();
        TargetReport { samples, empty: self.samples == Some(0), ..self.report.clone() }
    }
}

impl Inner {
    /// What is left of a round is part of the next one.
    fn begin_anew(&mut self) {
        let left = std::mem::take(&mut self.round);
        self.changed.extend(left);
    }
}

impl Statuses {
    /// A scrape has ended.
    pub fn set(&self, report: TargetReport) {
        let mut inner = self.lock();
        inner.changed.insert(report.id);
        inner.samples_total += report.samples;
        let before = inner.statuses.get(&report.id).and_then(|status| status.samples);
        let samples = report.yields().or(before);
        inner.statuses.insert(report.id, Status { report, samples });
    }

    /// The target is no longer scraped here.
    pub fn remove(&self, id: TargetId) {
        let mut inner = self.lock();
        inner.statuses.remove(&id);
        inner.changed.remove(&id);
        inner.round.remove(&id);
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

    /// All of these are to be told, whether they have been scraped or not.
    pub fn tell_all(&self, ids: impl IntoIterator<Item = TargetId>) {
        let mut inner = self.lock();
        inner.begin_anew();
        inner.changed.extend(ids);
    }

    /// What the allocator is told of those that were scraped since it was told of them: as much as about `bytes_max` bytes of JSON
    /// hold, and one at least. True: there is more of them. Every target has its turn before one has its second.
    #[must_use]
    pub fn take_changed(&self, bytes_max: usize) -> (Vec<TargetReport>, bool) {
        let mut inner = self.lock();
        let Inner { statuses, changed, round, .. } = &mut *inner;
        if round.is_empty() {
            round.extend(changed.drain());
        }
        let (mut reports, mut bytes) = (Vec::new(), 0);
        while let Some(id) = round.pop_first() {
            let report = statuses.get(&id).map_or_else(|| TargetReport::unknown(id), Status::told);
            // Quotes and the like are escaped.
            bytes += REPORT_BYTES + 2 * report.last_error.len();
            if bytes > bytes_max && !reports.is_empty() {
                round.insert(id);
                break;
            }
            // What is told is the newest.
            changed.remove(&id);
            reports.push(report);
        }
        (reports, !round.is_empty())
    }

    /// These could not be told: they count as changed again.
    pub fn give_back(&self, reports: &[TargetReport]) {
        let mut inner = self.lock();
        inner.begin_anew();
        let Inner { statuses, changed, .. } = &mut *inner;
        changed.extend(reports.iter().map(|report| report.id).filter(|id| statuses.contains_key(id)));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use promring_proto::api::Health;

    use super::*;

    #[test]
    fn of_a_target_that_is_down_the_allocator_is_told_what_it_yielded_before() {
        let statuses = Statuses::default();
        let id = TargetId(1);
        let scrapes = [
            (Health::Down, 0, None),
            (Health::Up, 7, Some(7)),
            (Health::Up, 9, Some(9)),
            (Health::Down, 0, Some(9)),
            (Health::Up, 0, Some(0)),
            (Health::Down, 0, Some(0)),
            (Health::Up, 3, Some(3)),
        ];
        for (health, samples, told) in scrapes {
            statuses.set(TargetReport { health, samples, ..TargetReport::unknown(id) });
            assert_eq!(statuses.get(id).unwrap().samples, samples);
            let report = statuses.take_changed(1).0.remove(0);
            assert_eq!((report.health, report.yields()), (health, told));
        }
        assert_eq!(statuses.samples_total(), 19);
    }

    #[test]
    fn what_one_report_does_not_hold_follows_and_each_target_is_told_once() {
        let statuses = Statuses::default();
        let error = "e".repeat(1_000);
        let scraped =
            |id| statuses.set(TargetReport { last_error: error.clone(), ..TargetReport::unknown(id) });
        (0..100).map(TargetId).for_each(scraped);
        // Beside those: ten that have not been scraped yet.
        statuses.tell_all((0..110).map(TargetId));
        let ids = |reports: &[TargetReport]| reports.iter().map(|report| report.id).collect::<Vec<_>>();
        let (lost, is_cut) = statuses.take_changed(30_000);
        assert!(is_cut);
        statuses.give_back(&lost);
        let (mut told, mut reports) = (Vec::new(), 0);
        loop {
            let (piece, is_cut) = statuses.take_changed(30_000);
            assert!(serde_json::to_vec(&piece).unwrap().len() <= 30_000);
            // What is scraped in the meantime keeps nobody from its turn, and what is gone is not told of.
            scraped(TargetId(0));
            statuses.remove(TargetId(105));
            reports += 1;
            told.extend(ids(&piece));
            if !is_cut {
                break;
            }
        }
        assert!(reports > 5, "{reports}");
        told.sort_unstable();
        assert_eq!(told, (0..110).filter(|id| *id != 105).map(TargetId).collect::<Vec<_>>());
        assert_eq!(ids(&statuses.take_changed(30_000).0), [TargetId(0)]);
    }
}
