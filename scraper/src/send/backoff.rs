//! How long to wait before a request is sent again.

use std::time::{Duration, SystemTime};

use rand::RngExt as _;

/// A receiver that asks for a longer pause is asked again after this one: it may have recovered, or have been mistaken.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// Pauses that double from one failure to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), next: min }
    }

    /// The longest pause, as after many failures.
    pub(super) fn longest(&self) -> Duration {
        Self { next: self.max, ..*self }.pause(None)
    }

    /// The pause after a failure: what the receiver asked for, or else a random time between half of the bound that
    /// doubles and that bound, so that senders that failed together do not come back together.
    pub(super) fn pause(&mut self, asked: Option<Duration>) -> Duration {
        let bound = self.next;
        self.next = (bound * 2).min(self.max);
        match asked {
            Some(asked) if !asked.is_zero() => asked.min(RETRY_AFTER_MAX),
            Some(_) | None => bound.mul_f64(rand::rng().random_range(0.5..=1.0)).max(self.min),
        }
    }
}

/// Reads `Retry-After`: seconds, or a date (RFC 9110, 10.2.3). None: it says nothing that can be used.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit ask for the longest pause there is.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn pauses_double_within_their_bounds_and_differ() {
        let mut pauses = Vec::new();
        for _ in 0..50 {
            let mut backoff = Backoff::new(30 * MS, 5_000 * MS);
            let mut bound = 30 * MS;
            for _ in 0..12 {
                let pause = backoff.pause(None);
                assert!(pause >= (bound / 2).max(30 * MS) && pause <= bound, "{pause:?} of {bound:?}");
                bound = (bound * 2).min(5_000 * MS);
                pauses.push(pause);
            }
        }
        pauses.sort();
        pauses.dedup();
        assert!(pauses.len() > 300);
    }

    #[test]
    fn a_minimum_above_the_maximum_wins() {
        assert_eq!(Backoff::new(9 * MS, MS).pause(None), 9 * MS);
    }

    #[test]
    fn what_the_receiver_asks_for_is_done_within_a_bound() {
        let mut backoff = Backoff::new(30 * MS, 5_000 * MS);
        assert_eq!(backoff.pause(Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(backoff.pause(Some(Duration::from_secs(86_400))), RETRY_AFTER_MAX);
        assert!(backoff.pause(Some(Duration::ZERO)) >= 30 * MS);
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = httpdate::parse_http_date("Sun, 22 Nov 2026 19:30:00 GMT").unwrap();
        let read = |value| retry_after(value, now);
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read(" 0 "), Some(Duration::ZERO));
        assert_eq!(read("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(read("Sun, 22 Nov 2026 19:31:30 GMT"), Some(Duration::from_secs(90)));
        assert_eq!(read("Sunday, 22-Nov-26 19:30:10 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(read("Sun, 22 Nov 2026 19:29:00 GMT"), Some(Duration::ZERO));
        for bad in ["", "-1", "1.5", "soon", "Sun, 99 Nov 2026 19:31:30 GMT"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
