//! How often a destination is asked for what lies aside: its lanes share turns that come one after the other.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Turns of one destination.
#[derive(Debug)]
pub(super) struct Pace {
    pause: Duration,
    /// When the next one is to be had.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// A turn each `pause`.
    pub(super) fn new(pause: Duration) -> Self {
        Self { pause, next: Mutex::default() }
    }

    /// When a turn comes that is asked for now. What nobody asked for is not saved up.
    pub(super) fn turn(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.map_or(now, |next| next.max(now));
        *next = Some(turn + self.pause);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_one_after_the_other_whoever_asks_and_none_is_saved_up() {
        let (pace, begun) = (Pace::new(Duration::from_millis(10)), Instant::now());
        let at = |ms| begun + Duration::from_millis(ms);
        assert_eq!([pace.turn(begun), pace.turn(begun), pace.turn(at(5))], [begun, at(10), at(20)]);
        assert_eq!([pace.turn(at(100)), pace.turn(at(100))], [at(100), at(110)]);
    }
}
