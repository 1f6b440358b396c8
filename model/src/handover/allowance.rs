//! How many keys may move for weight alone: so many a minute.

use std::collections::VecDeque;

const MINUTE_MS: i64 = 60_000;

/// An allowance of moves: in no minute are there more, wherever one lets it begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    per_minute: u32,
    /// When moves were made within the last minute, in Unix milliseconds, and how many.
    spent: VecDeque<(i64, usize)>,
}

impl Allowance {
    /// A full allowance of this many moves a minute; zero: none ever.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute, spent: VecDeque::new() }
    }

    /// The same for who goes on in another's place, and does not know what that one has spent: nothing is left for a minute.
    #[must_use]
    pub fn spent(per_minute: u32, now_ms: i64) -> Self {
        Self { per_minute, spent: VecDeque::from([(now_ms, per_minute as usize)]) }
    }

    /// From now on there are so many a minute; what was spent is not forgotten.
    pub fn set(&mut self, per_minute: u32) {
        self.per_minute = per_minute;
    }

    /// How many moves there may be now.
    #[must_use]
    pub fn left(&mut self, now_ms: i64) -> usize {
        while self.spent.front().is_some_and(|(at_ms, _)| now_ms - at_ms >= MINUTE_MS) {
            self.spent.pop_front();
        }
        let spent: usize = self.spent.iter().map(|(_, moves)| moves).sum();
        (self.per_minute as usize).saturating_sub(spent)
    }

    /// So many are made.
    pub fn spend(&mut self, moves: usize, now_ms: i64) {
        if moves > 0 {
            self.spent.push_back((now_ms, moves));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_minute_has_more_moves_than_allowed() {
        let mut allowance = Allowance::new(6);
        let mut made: Vec<i64> = Vec::new();
        for now_ms in (0..600_000).step_by(5_000) {
            let moves = allowance.left(now_ms).min(1 + (now_ms / 5_000 % 3) as usize);
            allowance.spend(moves, now_ms);
            made.extend(std::iter::repeat_n(now_ms, moves));
        }
        let within = |from: i64| made.iter().filter(|at| (from..from + MINUTE_MS).contains(*at)).count();
        assert!((0..600_000).step_by(1_000).all(|from| within(from) <= 6), "{made:?}");
        assert_eq!(made.len(), 60, "and none is given away");
        assert_eq!(Allowance::new(0).left(MINUTE_MS), 0, "zero switches moves for weight off");
    }

    #[test]
    fn who_goes_on_for_another_waits_a_minute() {
        let mut allowance = Allowance::spent(6, 1_000);
        assert_eq!((allowance.left(60_999), allowance.left(61_000)), (0, 6));
    }

    #[test]
    fn another_allowance_does_not_begin_anew() {
        let mut allowance = Allowance::new(10);
        allowance.spend(10, 0);
        allowance.set(12);
        assert_eq!((allowance.left(1_000), allowance.left(MINUTE_MS)), (2, 12));
    }
}
