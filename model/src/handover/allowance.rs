//! How many keys may move for weight alone: so many a minute.

/// An allowance that refills by the minute. What is not used is not saved up beyond one minute's worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    per_minute: u32,
    left: f64,
    at_ms: i64,
}

impl Allowance {
    /// A full allowance of this many moves a minute; zero: none ever.
    #[must_use]
    pub fn new(per_minute: u32, now_ms: i64) -> Self {
        Self { per_minute, left: f64::from(per_minute), at_ms: now_ms }
    }

    /// How many moves there may be now.
    #[must_use]
    pub fn left(&mut self, now_ms: i64) -> usize {
        let elapsed = (now_ms - self.at_ms).max(0) as f64;
        self.left =
            (self.left + elapsed * f64::from(self.per_minute) / 60_000.0).min(f64::from(self.per_minute));
        self.at_ms = now_ms;
        self.left as usize
    }

    /// So many were made.
    pub fn spend(&mut self, moves: usize) {
        self.left = (self.left - moves as f64).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_refills_over_a_minute_and_no_further() {
        let mut allowance = Allowance::new(60, 0);
        assert_eq!(allowance.left(0), 60);
        allowance.spend(60);
        assert_eq!((allowance.left(500), allowance.left(10_000)), (0, 10));
        assert_eq!(allowance.left(600_000), 60);
        assert_eq!(Allowance::new(0, 0).left(60_000), 0, "zero switches moves for weight off");
    }
}
