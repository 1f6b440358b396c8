//! Slots: the moments at which a target is due.
//!
//! A target's slots are `t_k = k · interval + offset`, in Unix milliseconds, where the offset comes from the
//! target's key alone. So every scraper computes the same slots for a target, a restart keeps them, and
//! targets are spread evenly over their interval. A slot has one owner.
//!
//! Living targets that share a key (they differ in path or parameters only) would all be due at once, so that each takes its
//! offset from its identity. The owner of the key has all of them, and so knows of which this is true.

use crate::target::{TargetId, TargetKey};

/// A sample carries its slot's nominal time when the scrape began at most this late, in milliseconds,
/// and at most a tenth of the interval.
pub const NOMINAL_LATENESS_MS_MAX: i64 = 1_000;

/// The slots of one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    interval_ms: i64,
    offset_ms: i64,
}

impl Slots {
    /// The slots of the target with this key. An interval under a millisecond counts as one millisecond.
    #[must_use]
    pub fn new(interval: std::time::Duration, key: TargetKey) -> Self {
        Self::with(interval, key.0)
    }

    /// The slots of one of several living targets with one key.
    #[must_use]
    pub fn apart(interval: std::time::Duration, id: TargetId) -> Self {
        // Its lower half is as good a hash as the whole.
        Self::with(interval, id.0 as u64)
    }

    fn with(interval: std::time::Duration, hash: u64) -> Self {
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
        Self { interval_ms, offset_ms: (hash % interval_ms as u64) as i64 }
    }

    /// The length of a slot in milliseconds.
    #[must_use]
    pub fn interval_ms(&self) -> i64 {
        self.interval_ms
    }

    /// The first slot after `time_ms`, in Unix milliseconds.
    #[must_use]
    pub fn next_after(&self, time_ms: i64) -> i64 {
        self.slot_at(time_ms) + self.interval_ms
    }

    /// The slot that `time_ms` lies in: the last one that is not after it.
    #[must_use]
    pub fn slot_at(&self, time_ms: i64) -> i64 {
        let since = (time_ms - self.offset_ms).rem_euclid(self.interval_ms);
        time_ms - since
    }

    /// The timestamp of a scrape for the slot `slot_ms` that began at `start_ms`: the slot's own time when the
    /// start is near enough to it, otherwise the start.
    #[must_use]
    pub fn sample_time(&self, slot_ms: i64, start_ms: i64) -> i64 {
        let tolerance = (self.interval_ms / 10).min(NOMINAL_LATENESS_MS_MAX);
        if (start_ms - slot_ms).abs() <= tolerance { slot_ms } else { start_ms }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn slots(key: u64) -> Slots {
        Slots::new(Duration::from_secs(10), TargetKey(key))
    }

    #[test]
    fn slots_are_one_interval_apart_and_begin_at_the_offset() {
        let slots = slots(3_456);
        assert_eq!(slots.next_after(0), 3_456);
        assert_eq!(slots.next_after(3_455), 3_456);
        assert_eq!(slots.next_after(3_456), 13_456, "a slot is after a time only when it is later");
        assert_eq!(slots.slot_at(13_455), 3_456);
        assert_eq!(slots.slot_at(13_456), 13_456);
    }

    #[test]
    fn targets_that_share_a_key_take_their_slots_from_their_identities() {
        let interval = Duration::from_secs(10);
        let offset = |id: u128| Slots::apart(interval, TargetId(id)).next_after(0);
        assert_eq!((offset(3_456), offset(7_000 | 1 << 64)), (3_456, 7_000));
    }

    #[test]
    fn times_before_the_epoch_have_slots_too() {
        assert_eq!(slots(3_456).slot_at(-1), -6_544);
    }

    #[test]
    fn a_late_start_keeps_the_nominal_time_within_a_second_or_a_tenth() {
        assert_eq!(slots(0).sample_time(20_000, 21_000), 20_000);
        assert_eq!(slots(0).sample_time(20_000, 21_001), 21_001);
        let short = Slots::new(Duration::from_secs(1), TargetKey(0));
        assert_eq!(short.sample_time(5_000, 5_100), 5_000);
        assert_eq!(short.sample_time(5_000, 5_101), 5_101);
    }

    #[test]
    fn keys_spread_targets_over_the_interval() {
        let mut buckets = [0_u32; 10];
        for target in 0..10_000_u64 {
            let key = TargetKey(crate::hash::hash64(&target.to_le_bytes()));
            buckets[(slots(key.0).next_after(0) / 1_000 % 10) as usize] += 1;
        }
        assert!(buckets.iter().all(|&n| (850..1_150).contains(&n)), "{buckets:?}");
    }
}
