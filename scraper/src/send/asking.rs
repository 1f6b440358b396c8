//! How many series a lane asks for alone of which nobody expects that they are taken (docs/adr/0016).

use std::time::{Duration, Instant};

/// Asking may take this part of a lane's time.
const SHARE: f64 = 0.1;

/// So much of it can be saved up, and a lane begins with that. Fresh samples wait no longer behind it.
const SAVED_MAX: Duration = Duration::from_secs(2);

/// Asking once counts as no less, however fast the receiver is. So a lane asks twenty times a second at most in the long run, and the
/// eight of a scraper 160 times: fewer requests than Prometheus's own shards (50, one after the other) send to a receiver
/// that takes a tenth of a second.
const EACH_MIN: Duration = Duration::from_millis(5);

/// The time that a lane has for it.
#[derive(Debug)]
pub(super) struct Asking {
    saved: Duration,
    /// Until when it was saved.
    upto: Option<Instant>,
}

impl Default for Asking {
    fn default() -> Self {
        Self { saved: SAVED_MAX, upto: None }
    }
}

impl Asking {
    /// How often may be asked now, where each time takes so long.
    pub(super) fn affordable(&mut self, each: Duration, now: Instant) -> usize {
        let gone = self.upto.replace(now).map(|upto| now.saturating_duration_since(upto));
        let gone = gone.unwrap_or_default().mul_f64(SHARE);
        self.saved = self.saved.saturating_add(gone).min(SAVED_MAX);
        (self.saved.as_secs_f64() / each.max(EACH_MIN).as_secs_f64()) as usize
    }

    /// It is asked so often.
    pub(super) fn spend(&mut self, times: usize, each: Duration) {
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        self.saved = self.saved.saturating_sub(each.max(EACH_MIN).saturating_mul(times));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_takes_a_tenth_of_a_lanes_time_and_is_done_twenty_times_a_second_at_most() {
        for (each_ms, at_first, a_second) in [(0, 400, 20), (5, 400, 20), (50, 40, 2), (20_000, 0, 0)] {
            let each = Duration::from_millis(each_ms);
            let (mut asking, begun) = (Asking::default(), Instant::now());
            let at = |seconds| begun + Duration::from_secs(seconds);
            assert_eq!(asking.affordable(each, at(0)), at_first, "{each_ms} ms");
            asking.spend(at_first, each);
            assert_eq!(asking.affordable(each, at(0)), 0, "{each_ms} ms");
            assert_eq!(asking.affordable(each, at(1)), a_second, "{each_ms} ms");
            // What is not used is there later, but not without end.
            assert_eq!(asking.affordable(each, at(2)), 2 * a_second, "{each_ms} ms");
            assert_eq!(asking.affordable(each, at(1_000)), at_first, "{each_ms} ms");
            // What is asked in any case may cost more than there is.
            asking.spend(1_000_000, each);
            assert_eq!(asking.affordable(each, at(1_001)), a_second, "{each_ms} ms");
        }
    }
}
