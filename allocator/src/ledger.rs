//! Which targets one scraper is told of, with enough history to answer a poll with the difference. Counters are those of
//! the scraper's [`Version`]s, which the leader gives.

use std::collections::BTreeMap;

use promring_model::target::{TargetId, TargetKey};
use promring_proto::api::Version;

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
    /// It exists no more, and the scraper ends its series.
    Gone,
    /// Another scraper has it, or a target of the same key took its place.
    Moved,
}

#[derive(Debug)]
struct Entry {
    key: TargetKey,
    since: u64,
}

#[derive(Debug)]
struct Removed {
    why: Removal,
    counter: u64,
    at_ms: i64,
}

/// One scraper's part of the assignment.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<TargetId, Entry>,
    removed: BTreeMap<TargetId, Removed>,
    /// Removals up to this counter are forgotten, so that older versions need a whole answer.
    forgotten: u64,
}

/// What there is to tell a scraper.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// What it is relative to; None: it is everything.
    pub base: Option<Version>,
    /// Targets to take up or to change.
    pub upsert: Vec<(TargetId, TargetKey)>,
    /// Targets whose series end.
    pub gone: Vec<TargetId>,
    /// Targets that are somebody else's, or were replaced.
    pub moved: Vec<TargetId>,
}

impl Ledger {
    /// The ledger of a scraper that may hold what nobody here knows of, from versions before `counter`.
    #[must_use]
    pub fn after(counter: u64) -> Self {
        Self { forgotten: counter, ..Self::default() }
    }

    /// The scraper is told of this target with the version `counter`.
    pub fn tell(&mut self, id: TargetId, key: TargetKey, counter: u64) {
        self.removed.remove(&id);
        self.entries.insert(id, Entry { key, since: counter });
    }

    /// The scraper is told with the version `counter` that it has this target no more.
    pub fn end(&mut self, id: TargetId, why: Removal, counter: u64, now_ms: i64) {
        if self.entries.remove(&id).is_some() {
            self.removed.insert(id, Removed { why, counter, at_ms: now_ms });
        }
    }

    /// From the version after `counter` on the scraper is told everything, whatever it holds.
    pub fn tell_whole(&mut self, counter: u64) {
        self.forgotten = self.forgotten.max(counter + 1);
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

    /// How many targets the scraper is told of, those included that come or go.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the scraper has no target.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The key of a target that the scraper is told of.
    #[must_use]
    pub fn key(&self, id: TargetId) -> Option<TargetKey> {
        self.entries.get(&id).map(|entry| entry.key)
    }

    /// What leads from the version `held` to `version`, the newest: a difference where that is of the same term and not
    /// too old, otherwise everything.
    #[must_use]
    pub fn since(&self, held: Option<Version>, version: Version) -> Difference {
        let is_base = |held: &Version| {
            held.term == version.term && held.counter >= self.forgotten && held.counter < version.counter
        };
        let base = held.filter(is_base);
        let after = base.map_or(0, |base| base.counter);
        let newer = |counter: u64| base.is_none() || counter > after;
        let upsert = self.entries.iter().filter(|(_, entry)| newer(entry.since));
        let removed = |why: Removal| {
            let of_kind = self.removed.iter().filter(move |(_, r)| r.why == why && newer(r.counter));
            of_kind.map(|(id, _)| *id).collect()
        };
        Difference {
            base,
            upsert: upsert.map(|(id, entry)| (*id, entry.key)).collect(),
            gone: removed(Removal::Gone),
            moved: removed(Removal::Moved),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(counter: u64) -> Version {
        Version { term: 7, counter }
    }

    fn ledger(ids: &[u128]) -> Ledger {
        let mut ledger = Ledger::default();
        ids.iter().for_each(|id| ledger.tell(TargetId(*id), TargetKey(*id as u64), 1));
        ledger
    }

    fn ids(difference: &Difference) -> Vec<u128> {
        difference.upsert.iter().map(|(id, _)| id.0).collect()
    }

    #[test]
    fn a_poll_with_an_older_version_of_this_term_gets_the_difference() {
        let mut ledger = ledger(&[1, 2]);
        let first = ledger.since(None, version(1));
        assert_eq!((first.base, ids(&first)), (None, vec![1, 2]));
        ledger.end(TargetId(1), Removal::Gone, 2, 0);
        ledger.tell(TargetId(3), TargetKey(3), 2);
        let delta = ledger.since(Some(version(1)), version(2));
        assert_eq!((delta.base, ids(&delta), delta.gone), (Some(version(1)), vec![3], vec![TargetId(1)]));
    }

    #[test]
    fn a_poll_of_another_term_gets_everything() {
        let answer = ledger(&[1]).since(Some(Version { term: 6, counter: 1 }), version(1));
        assert_eq!((answer.base, ids(&answer)), (None, vec![1]));
    }

    #[test]
    fn a_target_that_came_back_is_no_longer_told_as_gone() {
        let mut ledger = ledger(&[1]);
        ledger.end(TargetId(1), Removal::Gone, 2, 0);
        ledger.end(TargetId(1), Removal::Moved, 3, 0);
        assert_eq!(ledger.since(Some(version(1)), version(3)).gone, [TargetId(1)], "what left before stays");
        ledger.tell(TargetId(1), TargetKey(1), 4);
        let answer = ledger.since(Some(version(1)), version(4));
        assert_eq!((ids(&answer), answer.gone), (vec![1], vec![]));
    }

    #[test]
    fn after_a_removal_is_forgotten_older_versions_get_everything() {
        let mut ledger = ledger(&[1, 2]);
        ledger.end(TargetId(1), Removal::Moved, 2, 0);
        ledger.forget(REMOVALS_KEPT_MS - 1);
        assert_eq!(ledger.since(Some(version(1)), version(2)).moved, [TargetId(1)]);
        ledger.forget(REMOVALS_KEPT_MS);
        let answer = ledger.since(Some(version(1)), version(2));
        assert_eq!((answer.base, answer.moved), (None, vec![]));
    }

    #[test]
    fn everything_is_told_where_a_difference_cannot_say_it() {
        let mut ledger = ledger(&[1]);
        ledger.tell_whole(1);
        assert_eq!(ledger.since(Some(version(1)), version(2)).base, None);
        assert_eq!(ledger.since(Some(version(2)), version(3)).base, Some(version(2)));
    }
}
