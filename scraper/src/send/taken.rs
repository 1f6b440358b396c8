//! Series that a receiver has taken of requests that it refused as a whole. While a lane is behind, what of a refused request is not
//! among them goes aside unasked: series that are new in each scrape are never known as refused (docs/adr/0021).

use std::collections::HashSet;
use std::time::{Duration, Instant};

/// So many are known at once at most, each of which takes 9 to 18 bytes. With more, none stands for anything.
const SERIES_MAX: usize = 4_000_000;

/// When nothing was refused for so long, they are forgotten: what was taken is of no interest then.
const IDLE_MAX: Duration = Duration::from_secs(300);

/// Twice the longest usual time between two samples of a series: who is not seen for so long may be forgotten.
const UNSEEN_MAX: Duration = Duration::from_secs(120);

/// So long after the first refusal what nothing was taken of is new, or refused: the longest usual time between two samples of a series.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// Two generations: a series is in one of them, or in both.
#[derive(Debug, Default)]
pub(super) struct Taken {
    newer: HashSet<u64>,
    older: HashSet<u64>,
    /// When the newer one was begun.
    begun: Option<Instant>,
    /// Since when something was refused again and again, and when it was last.
    since: Option<Instant>,
    refused: Option<Instant>,
    #[cfg(test)]
    pub(super) settled_after: Option<Duration>,
    /// There were too many at once.
    is_crowded: bool,
}

impl Taken {
    /// A request was refused: what is taken of it is of interest from now on.
    pub(super) fn refused(&mut self, now: Instant) {
        self.forget_if_idle(now);
        self.refused = Some(now);
        self.since.get_or_insert(now);
        self.begun.get_or_insert(now);
    }

    /// Whether all that the receiver takes has most likely been seen.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        #[cfg(test)]
        let after = self.settled_after.unwrap_or(SETTLED_AFTER);
        #[cfg(not(test))]
        let after = SETTLED_AFTER;
        !self.is_crowded && self.since.is_some_and(|since| now.saturating_duration_since(since) >= after)
    }

    /// Whether anybody is interested.
    pub(super) fn is_wanted(&mut self, now: Instant) -> bool {
        self.forget_if_idle(now);
        self.refused.is_some() && !self.is_crowded
    }

    /// A sample of a series was taken.
    pub(super) fn add(&mut self, series: u64, now: Instant) {
        self.newer.insert(series);
        if self.newer.len() < SERIES_MAX / 2 {
            return;
        }
        // Series that come and go fill it slowly; when it is full at once, some that are taken would not be found.
        self.is_crowded |= self.begun.is_some_and(|begun| now.saturating_duration_since(begun) < UNSEEN_MAX);
        self.older = std::mem::take(&mut self.newer);
        self.begun = Some(now);
        if self.is_crowded {
            self.older = HashSet::new();
        }
    }

    /// It was refused alone.
    pub(super) fn remove(&mut self, series: u64) {
        self.newer.remove(&series);
        self.older.remove(&series);
    }

    /// Whether nothing was taken of it, as far as is known.
    pub(super) fn is_new(&self, series: u64) -> bool {
        !self.is_crowded && !self.newer.contains(&series) && !self.older.contains(&series)
    }

    fn forget_if_idle(&mut self, now: Instant) {
        if self.refused.is_some_and(|refused| now.saturating_duration_since(refused) >= IDLE_MAX) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_known_while_something_is_refused_now_and_then() {
        let (mut taken, begun) = (Taken::default(), Instant::now());
        assert!(!taken.is_wanted(begun), "nothing was refused");
        taken.refused(begun);
        assert!(taken.is_wanted(begun) && taken.is_new(1));
        taken.add(1, begun);
        taken.add(2, begun);
        taken.remove(2);
        assert_eq!([1, 2].map(|series| taken.is_new(series)), [false, true]);
        taken.refused(begun + IDLE_MAX / 2);
        assert!(taken.is_wanted(begun + IDLE_MAX) && !taken.is_new(1));
        assert!(!taken.is_settled(begun) && taken.is_settled(begun + SETTLED_AFTER));
        assert!(!taken.is_wanted(begun + IDLE_MAX * 2) && taken.is_new(1), "forgotten");
    }

    #[test]
    fn series_that_are_seen_no_more_make_room_and_too_many_at_once_stand_for_nothing() {
        let (mut taken, begun) = (Taken::default(), Instant::now());
        taken.refused(begun);
        let half = SERIES_MAX as u64 / 2;
        let mut now = begun;
        for round in 0..4 {
            now += UNSEEN_MAX;
            taken.refused(now);
            // One is taken all the time.
            taken.add(u64::MAX, now);
            (1..half).for_each(|at| taken.add(round * half + at, now));
            assert!(taken.newer.len() + taken.older.len() <= SERIES_MAX);
            assert!(!taken.is_new(u64::MAX) && taken.is_wanted(now), "{round}");
        }
        assert!(taken.is_new(1), "of the first round");
        (0..half).for_each(|at| taken.add(at, now));
        assert!(!taken.is_wanted(now) && !taken.is_new(half * 9));
        assert!(taken.newer.is_empty() && taken.older.is_empty());
    }
}
