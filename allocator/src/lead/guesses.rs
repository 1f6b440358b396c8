//! The weights of targets of which nothing is known follow those that are known (see `means.rs`). Otherwise whoever reports first
//! would seem to have far more to carry than the others, or far less.

use std::collections::BTreeMap;

use promring_model::placement::WOBBLE_PERCENT;
use promring_model::target::TargetId;

use super::Seen;
use crate::placing::{Placing, REWEIGHED_MAX};

/// Targets that are looked at at once, as many as placement takes: a millisecond of work.
const LOOKED_AT_MAX: usize = REWEIGHED_MAX;

/// What a target of each job weighs of which nothing is known, as far as placement has been told.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    told: BTreeMap<String, f64>,
    /// The job whose targets are being looked at, and the next one of them.
    at: Option<(String, TargetId)>,
}

impl Guesses {
    /// Those that the first placement goes by.
    pub(super) fn begin(seen: &Seen<'_>) -> Self {
        let jobs = seen.catalog.jobs().map(|job| &job.config.job_name);
        let told = jobs.map(|name| (name.clone(), seen.reports.guess(name))).collect();
        Self { told, at: None }
    }

    /// Has placement weigh anew what nothing is known of, where a guess has changed by more than placement passes over. Returns
    /// whether there is no more of it; if there is, it comes with the next calls.
    pub(super) fn follow(&mut self, seen: &Seen<'_>, placing: &mut Placing, now_ms: i64) -> bool {
        // What placement has not taken yet comes first; by node it takes everything together.
        let waiting = if placing.is_by_node() { 0 } else { placing.waiting() };
        let mut left = LOOKED_AT_MAX.saturating_sub(waiting);
        while left > 0 {
            let Some((name, from)) = self.at.take().or_else(|| self.next(seen, placing, now_ms)) else {
                return true;
            };
            let Some(job) = seen.catalog.job(&name) else { continue };
            let mut targets = job.active().range(from..);
            for (id, target) in targets.by_ref().take(left) {
                left -= 1;
                if !seen.reports.knows(*id) {
                    placing.reweighed(target.target.key);
                }
            }
            self.at = targets.next().map(|(id, _)| (name, *id));
        }
        false
    }

    /// The next job to look at.
    fn next(&mut self, seen: &Seen<'_>, placing: &Placing, now_ms: i64) -> Option<(String, TargetId)> {
        if !placing.is_due(now_ms) {
            return None;
        }
        self.told.retain(|name, _| seen.catalog.has_job(name));
        for job in seen.catalog.jobs() {
            let name = &job.config.job_name;
            let guess = seen.reports.guess(name);
            let wobbles = |told: &f64| (guess - told).abs() * 100.0 <= told * WOBBLE_PERCENT as f64;
            if self.told.get(name).is_some_and(wobbles) {
                continue;
            }
            self.told.insert(name.clone(), guess);
            if seen.reports.known(name) < job.active().len() {
                return Some((name.clone(), TargetId(0)));
            }
        }
        None
    }
}
