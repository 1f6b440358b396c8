//! What targets yielded that are gone: one that is soon back, as after a pod's restart or a source's short lapse, weighs what it
//! did.

use std::collections::{HashMap, VecDeque};

use promring_model::target::TargetId;

/// For how long it is kept what a target that is gone yielded, in milliseconds.
const KEPT_MS: i64 = 5 * 60_000;

/// Of so many targets it is kept; of more, of those that went last.
const KEPT_MAX: usize = 200_000;

/// Targets that are gone, with the samples of their scrapes.
#[derive(Debug, Default)]
pub(crate) struct Away {
    targets: HashMap<TargetId, Left>,
    /// When targets went, the earliest first. Those that are back are still there.
    order: VecDeque<(i64, TargetId)>,
}

#[derive(Debug)]
struct Left {
    at_ms: i64,
    samples: u64,
}

impl Away {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// A target is gone.
    pub(crate) fn put(&mut self, id: TargetId, samples: u64, now_ms: i64) {
        self.targets.insert(id, Left { at_ms: now_ms, samples });
        self.order.push_back((now_ms, id));
        self.expire(now_ms);
    }

    /// What a target yielded that went lately.
    pub(crate) fn get(&self, id: TargetId) -> Option<u64> {
        self.targets.get(&id).map(|left| left.samples)
    }

    /// A target is there. Returns what it yielded when it went lately.
    pub(crate) fn take(&mut self, id: TargetId) -> Option<u64> {
        self.targets.remove(&id).map(|left| left.samples)
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
                self.targets.remove(&id);
            }
        }
        // After many have gone at once.
        if self.targets.capacity() > 0 {
            (self.targets, self.order) = Default::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_back_in_time_yields_what_it_did() {
        let mut away = Away::default();
        away.put(TargetId(1), 10, 0);
        away.put(TargetId(2), 20, KEPT_MS - 1);
        assert_eq!(away.take(TargetId(1)), Some(10));
        assert_eq!(away.take(TargetId(1)), None, "it is there");
        away.put(TargetId(1), 11, KEPT_MS - 1);
        away.expire(KEPT_MS);
        assert_eq!(away.take(TargetId(1)), Some(11), "it has gone anew");
        away.expire(2 * KEPT_MS - 1);
        assert_eq!(away.take(TargetId(2)), None);
        assert!(away.is_empty() && away.order.is_empty());
    }

    #[test]
    fn of_too_many_those_that_went_last_are_kept() {
        let mut away = Away::default();
        (0..=KEPT_MAX as u64).for_each(|id| away.put(TargetId(id.into()), id, 0));
        assert_eq!((away.targets.len(), away.order.len()), (KEPT_MAX, KEPT_MAX));
        assert_eq!((away.take(TargetId(0)), away.take(TargetId(1))), (None, Some(1)));
        away.expire(KEPT_MS);
        assert_eq!((away.targets.capacity(), away.order.capacity()), (0, 0));
    }
}
