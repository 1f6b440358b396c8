//! The assignment that is held, and what an answer changes of it. Pure: an answer goes in, changes come out.

use std::collections::{BTreeMap, HashMap, HashSet};

use promring_model::labels::Labels;
use promring_model::target::TargetId;
use promring_proto::api::{AssignedTarget, Assignment, Grant, JobAssignment, Version};

/// What an answer asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Scrape this target from now on. One with the same identity may be held already.
    Take {
        /// The job.
        job: String,
        /// The target.
        target: Box<AssignedTarget>,
    },
    /// The target belongs to somebody else.
    Moved(TargetId),
    /// The target exists no more.
    Gone(TargetId),
}

/// What is known of a job beside its targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobTerms {
    /// Hash over what the scraper owns of the configuration, as the allocator has it.
    pub config_hash: String,
    /// Why no target of it may be scraped.
    pub refusal: Option<String>,
}

/// The assignment in force.
#[derive(Debug, Default)]
pub struct Held {
    version: Option<Version>,
    targets: HashMap<TargetId, (String, Labels)>,
    jobs: BTreeMap<String, JobTerms>,
}

impl Held {
    /// The version in force; None before the first answer.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// The jobs.
    #[must_use]
    pub fn jobs(&self) -> &BTreeMap<String, JobTerms> {
        &self.jobs
    }

    /// The targets, each with its job.
    #[must_use]
    pub fn targets(&self) -> Vec<(String, AssignedTarget)> {
        let assigned = |(id, (job, labels)): (&TargetId, &(String, Labels))| {
            (
                job.clone(),
                AssignedTarget {
                    id: *id,
                    labels: labels.clone(),
                    from: None,
                    until: None,
                    grant: Grant::default(),
                },
            )
        };
        self.targets.iter().map(assigned).collect()
    }

    /// All of it, as an answer that starts from nothing; None before the first answer.
    #[must_use]
    pub fn assignment(&self) -> Option<Assignment> {
        let of_job = |(name, terms): (&String, &JobTerms)| {
            let JobTerms { config_hash, refusal } = terms.clone();
            (name.clone(), JobAssignment { config_hash, synced: true, refusal, targets: Vec::new() })
        };
        let mut upsert: BTreeMap<String, JobAssignment> = self.jobs.iter().map(of_job).collect();
        for (job, target) in self.targets() {
            // Every target's job was named with it.
            if let Some(job) = upsert.get_mut(&job) {
                job.targets.push(target);
            }
        }
        Some(Assignment {
            version: self.version?,
            base: None,
            upsert,
            gone: Vec::new(),
            moved: Vec::new(),
            gone_keys: Vec::new(),
            moves: BTreeMap::new(),
        })
    }

    /// Takes an answer; changes come in the order in which they are to be made: ends before beginnings, so that a
    /// target can take over the series of the one it replaces. An answer of an older term, or a difference to
    /// another version than the one held, changes nothing and gives None.
    pub fn apply(&mut self, answer: Assignment) -> Option<Vec<Change>> {
        let older = self.version.is_some_and(|held| answer.version.term < held.term);
        let foreign = answer.base.is_some() && answer.base != self.version;
        if older || foreign {
            return None;
        }
        let mut changes = Vec::new();
        let listed: HashSet<TargetId> =
            answer.upsert.values().flat_map(|job| job.targets.iter().map(|target| target.id)).collect();
        for id in answer.gone {
            if self.targets.remove(&id).is_some() {
                changes.push(Change::Gone(id));
            }
        }
        for id in answer.moved {
            if self.targets.remove(&id).is_some() {
                changes.push(Change::Moved(id));
            }
        }
        if answer.base.is_none() {
            // The answer is everything: what it does not list has moved, unless its job's sources have not synced.
            let unsynced = |job: &str| answer.upsert.get(job).is_some_and(|job| !job.synced);
            let absent: Vec<TargetId> = self
                .targets
                .iter()
                .filter(|(id, (job, _))| !listed.contains(id) && !unsynced(job))
                .map(|(id, _)| *id)
                .collect();
            for id in absent {
                self.targets.remove(&id);
                changes.push(Change::Moved(id));
            }
            self.jobs.clear();
        }
        for (name, job) in answer.upsert {
            let JobAssignment { config_hash, synced: _, refusal, targets } = job;
            for target in targets {
                self.targets.insert(target.id, (name.clone(), target.labels.clone()));
                changes.push(Change::Take { job: name.clone(), target: Box::new(target) });
            }
            self.jobs.insert(name, JobTerms { config_hash, refusal });
        }
        self.version = Some(answer.version);
        Some(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(counter: u64) -> Version {
        Version { term: 2, counter }
    }

    fn answer(counter: u64, base: Option<u64>, targets: &[u128]) -> Assignment {
        let targets = targets
            .iter()
            .map(|&id| AssignedTarget {
                id: TargetId(id),
                labels: Labels::default(),
                from: None,
                until: None,
                grant: Grant::default(),
            })
            .collect();
        let job = JobAssignment { config_hash: String::new(), synced: true, refusal: None, targets };
        Assignment {
            version: version(counter),
            base: base.map(version),
            upsert: BTreeMap::from([("job".to_owned(), job)]),
            gone: Vec::new(),
            moved: Vec::new(),
            gone_keys: Vec::new(),
            moves: BTreeMap::new(),
        }
    }

    fn taken(changes: &[Change]) -> Vec<u128> {
        let id = |change: &Change| match change {
            Change::Take { target, .. } => Some(target.id.0),
            Change::Moved(_) | Change::Gone(_) => None,
        };
        changes.iter().filter_map(id).collect()
    }

    #[test]
    fn a_target_absent_from_a_full_answer_has_moved() {
        let mut held = Held::default();
        assert_eq!(taken(&held.apply(answer(1, None, &[1, 2])).unwrap()), [1, 2]);
        let changes = held.apply(answer(2, None, &[2])).unwrap();
        assert_eq!(changes[0], Change::Moved(TargetId(1)));
        assert_eq!(taken(&changes), [2]);
    }

    #[test]
    fn a_target_of_an_unsynced_job_is_kept() {
        let mut held = Held::default();
        held.apply(answer(1, None, &[1]));
        let mut full = answer(2, None, &[]);
        full.upsert.get_mut("job").unwrap().synced = false;
        assert_eq!(held.apply(full), Some(vec![]));
        assert_eq!(held.apply(answer(3, None, &[])), Some(vec![Change::Moved(TargetId(1))]));
    }

    #[test]
    fn a_difference_leaves_the_rest_as_it_is() {
        let mut held = Held::default();
        held.apply(answer(1, None, &[1, 2]));
        let mut delta = answer(2, Some(1), &[3]);
        delta.gone = vec![TargetId(1), TargetId(77)];
        let changes = held.apply(delta).unwrap();
        assert_eq!(changes[0], Change::Gone(TargetId(1)));
        assert_eq!((taken(&changes), changes.len()), (vec![3], 2), "ids that are not held are no change");
    }

    #[test]
    fn what_is_older_or_relative_to_something_else_changes_nothing() {
        let mut held = Held::default();
        held.apply(answer(5, None, &[1]));
        assert_eq!(held.apply(answer(7, Some(6), &[2])), None);
        let mut older = answer(9, None, &[]);
        older.version.term = 1;
        assert_eq!(held.apply(older), None);
        assert_eq!(held.version(), Some(version(5)));
    }
}
