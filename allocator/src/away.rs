//! What targets yielded that are gone: one that is soon back, as after a pod's restart or a source's short lapse, weighs what it
//! did, and so does one that has come in the place of another, as when its path changes.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use promring_model::target::{TargetId, TargetKey};

/// For how long it is kept what a target that is gone yielded, in milliseconds.
const KEPT_MS: i64 = 5 * 60_000;

/// Of so many targets it is kept; of more, of those that went last.
const KEPT_MAX: usize = 200_000;

/// Targets that are gone, with the samples of their scrapes.
#[derive(Debug, Default)]
pub(crate) struct Away {
    targets: HashMap<TargetId, Left>,
    /// The same by key, those that went last at the end.
    by_key: HashMap<TargetKey, Vec<TargetId>>,
    /// When targets went, the earliest first. Those that are back are still there.
    order: VecDeque<(i64, TargetId)>,
}

#[derive(Debug)]
struct Left {
    key: TargetKey,
    at_ms: i64,
    samples: u64,
}

impl Away {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// A target is gone.
    pub(crate) fn put(&mut self, key: TargetKey, id: TargetId, samples: u64, now_ms: i64) {
        self.remove(id);
        self.targets.insert(id, Left { key, at_ms: now_ms, samples });
        self.by_key.entry(key).or_default().push(id);
        self.order.push_back((now_ms, id));
        self.expire(now_ms);
    }

    /// What a target yielded that went lately.
    pub(crate) fn get(&self, id: TargetId) -> Option<u64> {
        self.targets.get(&id).map(|left| left.samples)
    }

    /// A target is there. Returns what it yielded when it went lately, or what another one of its key did.
    pub(crate) fn take(&mut self, key: TargetKey, id: TargetId) -> Option<u64> {
        let other = || self.by_key.get(&key)?.last().copied();
        let id = if self.targets.contains_key(&id) { id } else { other()? };
        self.remove(id)
    }

    fn remove(&mut self, id: TargetId) -> Option<u64> {
        let left = self.targets.remove(&id)?;
        if let Entry::Occupied(mut ids) = self.by_key.entry(left.key) {
            ids.get_mut().retain(|other| *other != id);
            if ids.get().is_empty() {
                ids.remove();
            }
        }
        Some(left.samples)
    }

    /// Time has passed.
    pub(crate) fn expire(&mut self, now_ms: i64) {
        while let Some((at_ms, id)) = self.order.front().copied() {
            if self.order.len() <= KEPT_MAX && now_ms - at_ms < KEPT_MS {
                return;
            }
            self.order.pop_front();
            // It may have been back since, and have gone again.
            if self.targets.get(&id).is_some_and(|left| left.at_ms == at_ms) {
                self.remove(id);
            }
        }
        // After many have gone at once.
        if self.targets.capacity() > 0 {
            (self.targets, self.by_key, self.order) = Default::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: TargetKey = TargetKey(7);

    #[test]
    fn what_is_back_in_time_yields_what_it_did() {
        let mut away = Away::default();
        away.put(TargetKey(1), TargetId(1), 10, 0);
        away.put(TargetKey(2), TargetId(2), 20, KEPT_MS - 1);
        assert_eq!(away.take(TargetKey(1), TargetId(1)), Some(10));
        assert_eq!(away.take(TargetKey(1), TargetId(1)), None, "it is there");
        away.put(TargetKey(1), TargetId(1), 11, KEPT_MS - 1);
        away.expire(KEPT_MS);
        assert_eq!(away.take(TargetKey(1), TargetId(1)), Some(11), "it has gone anew");
        away.expire(2 * KEPT_MS - 1);
        assert_eq!(away.take(TargetKey(2), TargetId(2)), None);
        assert!(away.is_empty() && away.order.is_empty());
    }

    #[test]
    fn one_that_comes_in_the_place_of_another_yields_what_that_did() {
        let mut away = Away::default();
        for (id, samples) in [(1, 10), (2, 20), (3, 30)] {
            away.put(KEY, TargetId(id), samples, 0);
        }
        assert_eq!(away.take(TargetKey(8), TargetId(9)), None);
        assert_eq!(away.take(KEY, TargetId(2)), Some(20), "its own, if there is that");
        assert_eq!([8, 9, 10].map(|id| away.take(KEY, TargetId(id))), [Some(30), Some(10), None]);
        assert!(away.is_empty() && away.by_key.is_empty());
    }

    #[test]
    fn of_too_many_those_that_went_last_are_kept() {
        let mut away = Away::default();
        (0..=KEPT_MAX as u64).for_each(|id| away.put(TargetKey(id), TargetId(id.into()), id, 0));
        assert_eq!((away.targets.len(), away.by_key.len(), away.order.len()), (KEPT_MAX, KEPT_MAX, KEPT_MAX));
        let mut take = |id: u64| away.take(TargetKey(id), TargetId(id.into()));
        assert_eq!((take(0), take(1)), (None, Some(1)));
        away.expire(KEPT_MS);
        assert_eq!((away.targets.capacity(), away.by_key.capacity(), away.order.capacity()), (0, 0, 0));
    }
}
