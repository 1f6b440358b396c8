//! What one scraper is assigned, with enough history to answer a poll with the difference.

use std::collections::BTreeMap;
use std::sync::Arc;

use promring_model::target::TargetId;
use promring_proto::api::{AssignedTarget, Assignment, Grant, JobAssignment, Version};

use crate::targets::Discovered;

/// How long an id stays listed in `gone` or `moved`.
pub const REMOVALS_KEPT_MS: i64 = 15 * 60 * 1_000;

/// What the scrapers are told of a job beside its targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobTerms {
    /// Hash over what the scraper owns of the configuration.
    pub config_hash: u64,
    /// Whether every source has synced.
    pub synced: bool,
    /// Why no target of it may be scraped.
    pub refusal: Option<String>,
}

/// Why a target left a scraper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It exists no more.
    Gone,
    /// Another scraper has it, or a target of the same key took its place.
    Moved,
}

#[derive(Debug)]
struct Entry {
    target: Arc<Discovered>,
    since: u64,
}

#[derive(Debug)]
struct Removed {
    why: Removal,
    counter: u64,
    at_ms: i64,
}

/// One scraper's part of the assignment. Counters are those of [`Version`].
#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<TargetId, Entry>,
    removed: BTreeMap<TargetId, Removed>,
    jobs: BTreeMap<String, (JobTerms, u64)>,
    /// The newest change.
    changed: u64,
    /// Removals up to this counter are forgotten, so that older versions need a whole answer.
    forgotten: u64,
}

impl Ledger {
    /// Makes `targets` and `jobs` what the scraper is assigned, as of `counter`. `gone` says whether a target that
    /// is no longer among them exists no more. Returns whether anything changed.
    pub fn replace<'a>(
        &mut self,
        targets: impl Iterator<Item = &'a Arc<Discovered>>,
        jobs: &BTreeMap<String, JobTerms>,
        gone: impl Fn(&Discovered) -> bool,
        counter: u64,
        now_ms: i64,
    ) -> bool {
        let mut before = std::mem::take(&mut self.entries);
        let mut changed = false;
        for target in targets {
            let id = target.target.id;
            // The same identity means the same labels and URL: the entry need not be sent again.
            let since = before.remove(&id).map(|entry| entry.since);
            changed |= since.is_none();
            self.removed.remove(&id);
            self.entries.insert(id, Entry { target: Arc::clone(target), since: since.unwrap_or(counter) });
        }
        for (id, entry) in before {
            changed = true;
            let why = if gone(&entry.target) { Removal::Gone } else { Removal::Moved };
            self.removed.insert(id, Removed { why, counter, at_ms: now_ms });
        }
        for (name, terms) in jobs {
            if self.jobs.get(name).is_none_or(|(known, _)| known != terms) {
                self.jobs.insert(name.clone(), (terms.clone(), counter));
                changed = true;
            }
        }
        self.jobs.retain(|name, _| jobs.contains_key(name));
        if changed {
            self.changed = counter;
        }
        changed
    }

    /// Forgets removals that every scraper has had time to hear of.
    pub fn forget(&mut self, now_ms: i64) {
        let mut forgotten = self.forgotten;
        self.removed.retain(|_, removed| {
            let keep = now_ms - removed.at_ms < REMOVALS_KEPT_MS;
            if !keep {
                forgotten = forgotten.max(removed.counter);
            }
            keep
        });
        self.forgotten = forgotten;
    }

    /// How many targets the scraper is assigned.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the scraper has no target.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The targets.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Discovered>> {
        self.entries.values().map(|entry| &entry.target)
    }

    /// The answer to a poll that holds `held`; None where it holds the newest. The version of the answer is that
    /// of the scraper's own newest change, so that a change elsewhere wakes nobody.
    #[must_use]
    pub fn answer(&self, held: Option<Version>, term: u64) -> Option<Assignment> {
        let version = Version { term, counter: self.changed };
        if held == Some(version) {
            return None;
        }
        let base = held.filter(|v| v.term == term && v.counter >= self.forgotten && v.counter < self.changed);
        let after = base.map_or(0, |version| version.counter);
        let newer = |counter: u64| base.is_none() || counter > after;
        let mut upsert: BTreeMap<String, JobAssignment> = BTreeMap::new();
        for (name, (terms, since)) in &self.jobs {
            if newer(*since) {
                upsert.insert(name.clone(), job_assignment(terms));
            }
        }
        for (id, entry) in self.entries.iter().filter(|(_, entry)| newer(entry.since)) {
            let target = &entry.target.target;
            let Some((terms, _)) = self.jobs.get(&*target.job) else { continue };
            let assigned = AssignedTarget {
                id: *id,
                labels: target.labels.to_labels(),
                from: None,
                until: None,
                grant: Grant::default(),
            };
            upsert
                .entry(target.job.to_string())
                .or_insert_with(|| job_assignment(terms))
                .targets
                .push(assigned);
        }
        let removed = |why: Removal| {
            let of_kind = self.removed.iter().filter(move |(_, r)| r.why == why && newer(r.counter));
            of_kind.map(|(id, _)| *id).collect()
        };
        Some(Assignment {
            version,
            base,
            upsert,
            gone: removed(Removal::Gone),
            moved: removed(Removal::Moved),
            moves: BTreeMap::new(),
        })
    }
}

fn job_assignment(terms: &JobTerms) -> JobAssignment {
    JobAssignment {
        config_hash: format!("{:016x}", terms.config_hash),
        synced: terms.synced,
        refusal: terms.refusal.clone(),
        targets: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use promring_model::labels::Labels;
    use promring_model::target::TargetKey;

    use super::*;
    use crate::discovery::Group;
    use crate::packed::Packed;
    use crate::targets::PackedTarget;

    const TERM: u64 = 7;

    fn target(n: u128) -> Arc<Discovered> {
        let address = format!("host:{n}");
        let labels = Labels::from_pairs([("__address__", address.as_str()), ("instance", address.as_str())]);
        let target = PackedTarget {
            id: TargetId(n),
            key: TargetKey(n as u64),
            job: Arc::from("job"),
            labels: Packed::from(&labels),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
        };
        let group = Group { source: Arc::from("group"), labels: Packed::default(), targets: Box::default() };
        Arc::new(Discovered::new(target, Arc::new(group), 0))
    }

    fn jobs() -> BTreeMap<String, JobTerms> {
        BTreeMap::from([("job".to_owned(), JobTerms { config_hash: 1, synced: true, refusal: None })])
    }

    fn ids(assignment: &Assignment) -> Vec<u128> {
        assignment.upsert.values().flat_map(|job| job.targets.iter().map(|target| target.id.0)).collect()
    }

    #[test]
    fn a_poll_with_an_older_version_of_this_term_gets_the_difference() {
        let mut ledger = Ledger::default();
        let [one, two, three] = [1, 2, 3].map(target);
        assert!(ledger.replace([&one, &two].into_iter(), &jobs(), |_| true, 1, 0));
        let first = ledger.answer(None, TERM).unwrap();
        assert_eq!((first.base, ids(&first)), (None, vec![1, 2]));
        assert!(ledger.replace([&two, &three].into_iter(), &jobs(), |_| true, 2, 0));
        let delta = ledger.answer(Some(first.version), TERM).unwrap();
        assert_eq!((delta.base, ids(&delta), delta.gone), (Some(first.version), vec![3], vec![TargetId(1)]));
        assert_eq!(ledger.answer(Some(delta.version), TERM), None, "nothing is newer");
    }

    #[test]
    fn a_poll_of_another_term_gets_everything() {
        let mut ledger = Ledger::default();
        ledger.replace([&target(1)].into_iter(), &jobs(), |_| true, 5, 0);
        let answer = ledger.answer(Some(Version { term: 6, counter: 5 }), TERM).unwrap();
        assert_eq!((answer.base, ids(&answer)), (None, vec![1]));
    }

    #[test]
    fn a_target_that_moved_is_not_told_as_gone() {
        let mut ledger = Ledger::default();
        ledger.replace([&target(1)].into_iter(), &jobs(), |_| true, 1, 0);
        ledger.replace([].into_iter(), &jobs(), |_| false, 2, 0);
        let answer = ledger.answer(Some(Version { term: TERM, counter: 1 }), TERM).unwrap();
        assert_eq!((answer.gone, answer.moved), (vec![], vec![TargetId(1)]));
    }

    #[test]
    fn a_target_that_came_back_is_no_longer_told_as_gone() {
        let mut ledger = Ledger::default();
        ledger.replace([&target(1)].into_iter(), &jobs(), |_| true, 1, 0);
        ledger.replace([].into_iter(), &jobs(), |_| true, 2, 0);
        ledger.replace([&target(1)].into_iter(), &jobs(), |_| true, 3, 0);
        let answer = ledger.answer(Some(Version { term: TERM, counter: 1 }), TERM).unwrap();
        assert_eq!((ids(&answer), answer.gone), (vec![1], vec![]));
    }

    #[test]
    fn after_a_removal_is_forgotten_older_versions_get_everything() {
        let mut ledger = Ledger::default();
        ledger.replace([&target(1)].into_iter(), &jobs(), |_| true, 1, 0);
        ledger.replace([&target(2)].into_iter(), &jobs(), |_| true, 2, 0);
        ledger.forget(REMOVALS_KEPT_MS);
        let answer = ledger.answer(Some(Version { term: TERM, counter: 1 }), TERM).unwrap();
        assert_eq!((answer.base, answer.gone), (None, vec![]));
    }
}
