//! Whether the allocator's clock and this machine's agree: times of hand-overs are told by the one and kept by the other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::UNIX_EPOCH;

use metrics::{Gauge, describe_gauge, gauge};
use reqwest::header::{DATE, HeaderMap};

/// More than this between the clocks takes from the 5 s by which the time of a hand-over is told ahead; in milliseconds.
const OFFSET_MS_MAX: i64 = 3_000;

/// What was seen of the allocator's clock.
pub(super) struct AllocatorClock {
    offset: Gauge,
    /// The log has said that it is off.
    is_off: AtomicBool,
}

impl std::fmt::Debug for AllocatorClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AllocatorClock")
    }
}

impl Default for AllocatorClock {
    fn default() -> Self {
        describe_gauge!(
            "promring_assignment_clock_offset_seconds",
            "How far the allocator's clock is ahead of this scraper's, within about a second."
        );
        Self { offset: gauge!("promring_assignment_clock_offset_seconds"), is_off: AtomicBool::new(false) }
    }
}

impl AllocatorClock {
    /// Compares it with this machine's, by an answer that has just come.
    pub(super) fn compare(&self, headers: &HeaderMap, now_ms: i64) {
        let Some(offset_ms) = offset_ms(headers, now_ms) else { return };
        let seconds = offset_ms as f64 / 1_000.0;
        self.offset.set(seconds);
        let is_off = offset_ms.abs() > OFFSET_MS_MAX;
        if self.is_off.swap(is_off, Ordering::Relaxed) != is_off {
            if is_off {
                tracing::warn!(
                    seconds,
                    "the allocator's clock is ahead of this scraper's by so much (behind, where it is less than 0): hand-overs may not end, or leave gaps; have both machines' clocks set by NTP"
                );
            } else {
                tracing::info!(seconds, "the allocator's clock and this scraper's agree again");
            }
        }
    }
}

/// How far the clock of who has answered is ahead of `now_ms`, in milliseconds; None where the answer does not say.
fn offset_ms(headers: &HeaderMap, now_ms: i64) -> Option<i64> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let told_ms = i64::try_from(date.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()?;
    // Whole seconds are told, and half a one has passed as a rule.
    Some(told_ms.saturating_add(500).saturating_sub(now_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_tells_the_offset() {
        let told = |date: &str| {
            let headers = HeaderMap::from_iter([(DATE, date.parse().unwrap())]);
            offset_ms(&headers, 784_111_777_000)
        };
        assert_eq!(told("Sun, 06 Nov 1994 08:49:37 GMT"), Some(500));
        assert_eq!(told("Sun, 06 Nov 1994 08:49:17 GMT"), Some(-19_500));
        assert_eq!(told("yesterday"), None);
        assert_eq!(offset_ms(&HeaderMap::new(), 0), None);
    }
}
