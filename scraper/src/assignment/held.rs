//! The assignment that is held, and what an answer changes of it. Pure: an answer goes in, changes come out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use promring_model::handover::Told;
use promring_model::labels::Labels;
use promring_model::target::{TargetId, TargetKey};
use promring_proto::api::{AssignedTarget, Assignment, Grant, JobAssignment, MoveId, MoveTerms, Version};

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

/// What an answer changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// In the order in which the changes are to be made: ends before beginnings, so that a target can take over the series
    /// of the one it replaces.
    pub changes: Vec<Change>,
    /// Keys of which no target exists any more.
    pub gone: BTreeSet<TargetKey>,
}

/// The assignment in force.
#[derive(Debug, Default)]
pub struct Held {
    version: Option<Version>,
    targets: HashMap<TargetId, HeldTarget>,
    keys: BTreeMap<TargetKey, HeldKey>,
    /// Those of several targets.
    shared: BTreeSet<TargetKey>,
    jobs: BTreeMap<String, JobTerms>,
    /// Targets that are held only because their job's sources had not synced: nobody has listed them since. Once the job has
    /// synced they have moved.
    unlisted: BTreeMap<String, HashSet<TargetId>>,
}

#[derive(Debug)]
struct HeldTarget {
    job: String,
    labels: Labels,
    key: TargetKey,
}

#[derive(Debug)]
struct HeldKey {
    grant: Grant,
    /// It is another scraper's for good, though no answer could say so by its targets yet: their job has not synced.
    given: bool,
    /// How many targets have it.
    targets: usize,
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

    /// The targets, each with its job, but for those that are known to be another scraper's.
    #[must_use]
    pub fn targets(&self) -> Vec<(String, AssignedTarget)> {
        let assigned = |(id, target): (&TargetId, &HeldTarget)| {
            let grant = self.keys.get(&target.key).map(|key| key.grant).unwrap_or_default();
            let assigned =
                AssignedTarget { id: *id, labels: target.labels.clone(), from: None, until: None, grant };
            (target.job.clone(), assigned)
        };
        let is_given = |target: &HeldTarget| self.keys.get(&target.key).is_some_and(|key| key.given);
        self.targets.iter().filter(|(_, target)| !is_given(target)).map(assigned).collect()
    }

    /// The key of a target that is held.
    #[must_use]
    pub fn key(&self, id: TargetId) -> Option<TargetKey> {
        Some(self.targets.get(&id)?.key)
    }

    /// Whether a target is held.
    #[must_use]
    pub fn holds(&self, id: TargetId) -> bool {
        self.targets.contains_key(&id)
    }

    /// Keys that several targets share.
    #[must_use]
    pub fn shared(&self) -> &BTreeSet<TargetKey> {
        &self.shared
    }

    /// Keys of targets that are not `running`.
    pub fn keys_without(&self, running: impl Fn(TargetId) -> bool) -> BTreeSet<TargetKey> {
        let idle = self.targets.iter().filter(|(id, _)| !running(**id));
        idle.map(|(_, target)| target.key).collect()
    }

    /// What the answer that was applied last says, by key. `moves` are those of that answer, `gone` the keys that it ended;
    /// `window` says of a key from when on it is scraped, and until when, as [`Member::window`] does.
    ///
    /// [`Member::window`]: promring_model::handover::Member::window
    #[must_use]
    pub fn told(
        &mut self,
        version: Version,
        moves: BTreeMap<MoveId, MoveTerms>,
        gone: BTreeSet<TargetKey>,
        window: impl Fn(TargetKey) -> Option<(i64, Option<i64>)>,
    ) -> Told {
        let grant = |(key, held): (&TargetKey, &mut HeldKey)| {
            // A target that is kept although the answer does not list it (its job has not synced) may speak of moves that
            // are over. One that was only being prepared stays so. One of which T was agreed on is another scraper's: that is final.
            let listed = |id: &MoveId| moves.contains_key(id);
            let Grant { incoming, outgoing } = held.grant;
            let window = window(*key);
            let is_given = window.is_some_and(|(_, until)| until.is_some());
            held.given |= is_given && outgoing.is_some_and(|id| !listed(&id));
            if held.given {
                return None;
            }
            let incoming = incoming.filter(|id| listed(id) || window.is_none());
            Some((*key, Grant { incoming, outgoing: outgoing.filter(listed) }))
        };
        let grants = self.keys.iter_mut().filter_map(grant).collect();
        Told { version, grants, moves, gone }
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

    /// Takes an answer. A difference to another version than the one held changes nothing and gives None; whether an
    /// answer is too old is not asked here.
    pub fn apply(&mut self, answer: Assignment) -> Option<Difference> {
        if answer.base.is_some() && answer.base != self.version {
            return None;
        }
        let mut changes = Vec::new();
        let mut gone = BTreeSet::new();
        let listed: HashSet<TargetId> =
            answer.upsert.values().flat_map(|job| job.targets.iter().map(|target| target.id)).collect();
        for id in answer.gone {
            if let Some(key) = self.remove(id) {
                gone.insert(key);
                changes.push(Change::Gone(id));
            }
        }
        for id in answer.moved {
            if self.remove(id).is_some() {
                changes.push(Change::Moved(id));
            }
        }
        if answer.base.is_none() {
            // The answer is everything: what it does not list has moved, unless its job's sources have not synced.
            self.unlisted.clear();
            for (id, target) in self.targets.iter().filter(|(id, _)| !listed.contains(id)) {
                self.unlisted.entry(target.job.clone()).or_default().insert(*id);
            }
            self.jobs.clear();
        } else {
            self.unlisted.values_mut().for_each(|ids| ids.retain(|id| !listed.contains(id)));
        }
        let unsynced = |job: &str| match answer.upsert.get(job) {
            Some(job) => !job.synced,
            // A difference says nothing of a job that is as before.
            None => answer.base.is_some(),
        };
        for (job, ids) in std::mem::take(&mut self.unlisted) {
            if unsynced(&job) {
                self.unlisted.insert(job, ids);
                continue;
            }
            for id in ids {
                match self.remove(id) {
                    // Nobody knows its id any more, but its key.
                    Some(key) if answer.gone_keys.contains(&key) => {
                        gone.insert(key);
                        changes.push(Change::Gone(id));
                    }
                    Some(_) => changes.push(Change::Moved(id)),
                    None => {}
                }
            }
        }
        for (name, job) in answer.upsert {
            let JobAssignment { config_hash, synced: _, refusal, targets } = job;
            for target in targets {
                self.insert(&name, &target);
                changes.push(Change::Take { job: name.clone(), target: Box::new(target) });
            }
            self.jobs.insert(name, JobTerms { config_hash, refusal });
        }
        self.version = Some(answer.version);
        gone.retain(|key| !self.keys.contains_key(key));
        Some(Difference { changes, gone })
    }

    fn insert(&mut self, job: &str, target: &AssignedTarget) {
        self.remove(target.id);
        let key = TargetKey::new(job, &target.labels);
        let held = self.keys.entry(key).or_insert(HeldKey { grant: target.grant, given: false, targets: 0 });
        // Targets that share a key share its grant.
        (held.grant, held.given) = (target.grant, false);
        held.targets += 1;
        if held.targets > 1 {
            self.shared.insert(key);
        }
        let labels = target.labels.clone();
        self.targets.insert(target.id, HeldTarget { job: job.to_owned(), labels, key });
    }

    fn remove(&mut self, id: TargetId) -> Option<TargetKey> {
        let HeldTarget { key, .. } = self.targets.remove(&id)?;
        if let Some(held) = self.keys.get_mut(&key) {
            held.targets -= 1;
            if held.targets == 1 {
                self.shared.remove(&key);
            }
            if held.targets == 0 {
                self.keys.remove(&key);
            }
        }
        Some(key)
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
                labels: Labels::from_pairs([("instance", id.to_string())]),
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
    fn keys_that_several_targets_share_are_known() {
        let mut both = answer(1, None, &[1, 2]);
        for target in &mut both.upsert.get_mut("job").unwrap().targets {
            target.labels = Labels::from_pairs([("instance", "same"), ("__metrics_path__", "/x")]);
        }
        let key = TargetKey::new("job", &Labels::from_pairs([("instance", "same")]));
        let mut held = Held::default();
        held.apply(both.clone()).unwrap();
        assert_eq!(held.shared(), &BTreeSet::from([key]));
        held.apply(both.clone()).unwrap();
        assert_eq!(held.shared(), &BTreeSet::from([key]), "told again");
        both.upsert.get_mut("job").unwrap().targets.pop();
        both.version = version(2);
        held.apply(both).unwrap();
        assert_eq!(held.shared(), &BTreeSet::new());
    }

    #[test]
    fn a_target_absent_from_a_full_answer_has_moved() {
        let mut held = Held::default();
        assert_eq!(taken(&held.apply(answer(1, None, &[1, 2])).unwrap().changes), [1, 2]);
        let changes = held.apply(answer(2, None, &[2])).unwrap().changes;
        assert_eq!(changes[0], Change::Moved(TargetId(1)));
        assert_eq!(taken(&changes), [2]);
    }

    #[test]
    fn a_target_whose_key_a_new_allocator_knows_to_be_gone_is_gone() {
        let mut held = Held::default();
        held.apply(answer(1, None, &[1, 2]));
        let mut full = answer(2, None, &[]);
        let labels = Labels::from_pairs([("instance", "1")]);
        full.gone_keys = vec![TargetKey::new("job", &labels)];
        let Difference { changes, gone } = held.apply(full).unwrap();
        assert!(
            changes.contains(&Change::Gone(TargetId(1))) && changes.contains(&Change::Moved(TargetId(2)))
        );
        assert_eq!(gone, BTreeSet::from([TargetKey::new("job", &labels)]));
    }

    #[test]
    fn a_target_of_an_unsynced_job_is_kept() {
        let mut held = Held::default();
        held.apply(answer(1, None, &[1]));
        let mut full = answer(2, None, &[]);
        full.upsert.get_mut("job").unwrap().synced = false;
        assert_eq!(held.apply(full), Some(Difference::default()));
        let changes = held.apply(answer(3, None, &[])).unwrap().changes;
        assert_eq!(changes, [Change::Moved(TargetId(1))]);
    }

    #[test]
    fn what_an_unsynced_job_kept_moves_once_the_job_has_synced_without_it() {
        let mut held = Held::default();
        held.apply(answer(1, None, &[1, 2, 3]));
        let mut full = answer(2, None, &[]);
        full.upsert.get_mut("job").unwrap().synced = false;
        assert_eq!(held.apply(full), Some(Difference::default()));
        // Another job's news, and a part of this one's targets, change nothing for the rest.
        let mut other = answer(3, Some(2), &[]);
        other.upsert = BTreeMap::from([("other".to_owned(), other.upsert.remove("job").unwrap())]);
        assert_eq!(held.apply(other), Some(Difference::default()));
        let mut some = answer(4, Some(3), &[1]);
        some.upsert.get_mut("job").unwrap().synced = false;
        assert_eq!(taken(&held.apply(some).unwrap().changes), [1]);
        let changes = held.apply(answer(5, Some(4), &[2])).unwrap().changes;
        assert_eq!((changes.len(), &changes[0]), (2, &Change::Moved(TargetId(3))));
        assert_eq!(taken(&changes), [2]);
        assert_eq!(held.apply(answer(6, Some(5), &[])), Some(Difference::default()), "2 was listed");
    }

    #[test]
    fn a_job_that_is_no_longer_there_keeps_nothing() {
        let mut held = Held::default();
        held.apply(answer(1, None, &[1]));
        let mut without = answer(2, None, &[]);
        without.upsert.clear();
        assert_eq!(held.apply(without).unwrap().changes, [Change::Moved(TargetId(1))]);
    }

    #[test]
    fn a_difference_leaves_the_rest_as_it_is() {
        let mut held = Held::default();
        held.apply(answer(1, None, &[1, 2]));
        let mut delta = answer(2, Some(1), &[3]);
        delta.gone = vec![TargetId(1), TargetId(77)];
        let Difference { changes, gone } = held.apply(delta).unwrap();
        assert_eq!(gone.len(), 1);
        assert_eq!(changes[0], Change::Gone(TargetId(1)));
        assert_eq!((taken(&changes), changes.len()), (vec![3], 2), "ids that are not held are no change");
    }

    #[test]
    fn what_is_relative_to_something_else_changes_nothing() {
        let mut held = Held::default();
        held.apply(answer(5, None, &[1]));
        assert_eq!(held.apply(answer(7, Some(6), &[2])), None);
        assert_eq!(held.version(), Some(version(5)));
    }

    #[test]
    fn a_key_is_gone_with_its_last_target() {
        let same_key = |id: u128| {
            let mut one = answer(1, None, &[id]);
            let path = format!("/{id}");
            let labels = [("instance", "a"), ("__metrics_path__", &*path)];
            one.upsert.get_mut("job").unwrap().targets[0].labels = Labels::from_pairs(labels);
            one.upsert.remove("job").unwrap().targets.remove(0)
        };
        let mut held = Held::default();
        let mut both = answer(1, None, &[]);
        both.upsert.get_mut("job").unwrap().targets = vec![same_key(1), same_key(2)];
        held.apply(both);
        let mut delta = answer(2, Some(1), &[]);
        delta.gone = vec![TargetId(1)];
        let Difference { changes, gone } = held.apply(delta).unwrap();
        assert_eq!((changes, gone.len()), (vec![Change::Gone(TargetId(1))], 0));
        let mut delta = answer(3, Some(2), &[]);
        delta.gone = vec![TargetId(2)];
        assert_eq!(held.apply(delta).unwrap().gone.len(), 1);
        assert!(held.told(version(3), BTreeMap::new(), BTreeSet::new(), |_| None).grants.is_empty());
    }

    #[test]
    fn a_grant_of_a_target_that_was_kept_does_not_speak_of_moves_that_are_over() {
        let (over, on) = (MoveId(version(1)), MoveId(version(2)));
        let mut full = answer(3, None, &[1]);
        full.upsert.get_mut("job").unwrap().targets[0].grant =
            Grant { incoming: Some(over), outgoing: Some(on) };
        let mut held = Held::default();
        held.apply(full);
        let terms = MoveTerms {
            old: "a".into(),
            old_address: String::new(),
            new: "b".into(),
            at: None,
            begin: false,
            sent: BTreeSet::new(),
        };
        let mut told = |window, listed: &[MoveId]| {
            let moves = listed.iter().map(|id| (*id, terms.clone())).collect();
            let told = held.told(version(3), moves, BTreeSet::new(), |_| window);
            assert_eq!(held.targets().len(), told.grants.len());
            told.grants.into_values().next()
        };
        assert_eq!(told(Some((0, None)), &[on]), Some(Grant { incoming: None, outgoing: Some(on) }));
        assert_eq!(told(None, &[on]), Some(Grant { incoming: Some(over), outgoing: Some(on) }));
        assert_eq!(told(Some((0, Some(9))), &[on]), Some(Grant { incoming: None, outgoing: Some(on) }));
        // Nothing was agreed on of a move that is no more; or a time was, and the key is the other one's for good.
        assert_eq!(told(Some((0, None)), &[]), Some(Grant::default()));
        assert_eq!(told(Some((0, Some(9))), &[]), None);
        assert_eq!(told(None, &[]), None);
    }
}
