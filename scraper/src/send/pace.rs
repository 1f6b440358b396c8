//! How often a destination is asked for what lies aside: its lanes share turns that come one after the other. What is asked for so that
//! anything is known of a series at all, or before what follows of a series that was overtaken is sent ahead, has turns of its own that come as fast
//! as the receiver answers.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between two first turns of a lane there are so many times as long as the last answer took: they take a tenth of the receiver's time.
const FIRST_FACTOR: u32 = 9;

/// Turns of one destination.
#[derive(Debug)]
pub(super) struct Pace {
    pause: Duration,
    lanes: u32,
    usual: Turns,
    first: Turns,
}

/// When the next one is to be had.
#[derive(Debug, Default)]
struct Turns(Mutex<Option<Instant>>);

impl Pace {
    /// A turn each `pause` for each of so many lanes.
    pub(super) fn new(pause: Duration, lanes: usize) -> Self {
        let lanes = u32::try_from(lanes).unwrap_or(u32::MAX).max(1);
        Self { pause: pause / lanes, lanes, usual: Turns::default(), first: Turns::default() }
    }

    /// When a turn comes that is asked for now.
    pub(super) fn turn(&self, now: Instant) -> Instant {
        self.usual.next(now, self.pause)
    }

    /// The same for what is not asked for again and again. The last answer took so long; turns come no more seldom than the others for that.
    pub(super) fn first_turn(&self, now: Instant, answered_in: Duration) -> Instant {
        self.first.next(now, (answered_in.saturating_mul(FIRST_FACTOR) / self.lanes).min(self.pause))
    }

    /// Whether there was no turn yet but for such.
    #[cfg(test)]
    pub(super) fn has_first_turns_only(&self) -> bool {
        let had = |turns: &Turns| turns.0.lock().unwrap().is_some();
        had(&self.first) && !had(&self.usual)
    }
}

impl Turns {
    /// What nobody asked for is not saved up.
    fn next(&self, now: Instant, pause: Duration) -> Instant {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.map_or(now, |next| next.max(now));
        *next = Some(turn + pause);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_one_after_the_other_whoever_asks_and_none_is_saved_up() {
        let (pace, begun) = (Pace::new(Duration::from_millis(40), 4), Instant::now());
        let at = |ms| begun + Duration::from_millis(ms);
        assert_eq!([pace.turn(begun), pace.turn(begun), pace.turn(at(5))], [begun, at(10), at(20)]);
        assert_eq!([pace.turn(at(100)), pace.turn(at(100))], [at(100), at(110)]);
    }

    #[test]
    fn what_is_asked_for_once_waits_for_no_other_turn_and_is_as_fast_as_the_receiver() {
        let (pace, begun) = (Pace::new(Duration::from_millis(400), 4), Instant::now());
        let at = |ms| begun + Duration::from_millis(ms);
        let first = |answered_ms| pace.first_turn(begun, Duration::from_millis(answered_ms));
        assert_eq!(pace.turn(begun), begun);
        assert_eq!([first(4), first(4), first(8), first(1_000)], [begun, at(9), at(18), at(36)]);
        assert_eq!([first(0), first(0)], [at(136); 2], "never slower than the others");
        assert_eq!(pace.turn(begun), at(100));
    }
}
