//! How large a body a receiver takes, as far as its answers have shown: what it would refuse as too large goes in pieces
//! at once, instead of being refused first each time.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After this time a request is tried as it is once more: the receiver may take larger ones by now.
const REMEMBERED_MAX: Duration = Duration::from_secs(300);

/// What is known of a receiver, by all lanes together.
#[derive(Debug, Default)]
pub(super) struct BodySize(Mutex<Option<(usize, Instant)>>);

impl BodySize {
    /// A body of so many bytes, as it goes over the wire, was refused as too large.
    pub(super) fn refused(&self, bytes: usize, now: Instant) {
        if bytes < self.least_refused(now) {
            *self.known() = Some((bytes, now));
        }
    }

    /// A body of so many bytes was taken: a smaller one was not refused for its size, or the receiver takes larger ones by now. So
    /// something before it that answers 413 for a while to whatever comes, down to single samples, is forgotten with
    /// the first of them that it lets through, and does not make requests many.
    pub(super) fn accepted(&self, bytes: usize) {
        let mut known = self.known();
        *known = known.filter(|(refused, _)| bytes < *refused);
    }

    /// Bodies of so many bytes or more are refused; `usize::MAX`: none was.
    pub(super) fn least_refused(&self, now: Instant) -> usize {
        let mut known = self.known();
        *known = known.filter(|(_, since)| now.saturating_duration_since(*since) < REMEMBERED_MAX);
        known.map_or(usize::MAX, |(bytes, _)| bytes)
    }

    /// Records are joined to less than this: a good deal less than what was refused, so that few requests are refused until
    /// they are small enough.
    pub(super) fn joined_max(&self, now: Instant) -> usize {
        let bytes = self.least_refused(now);
        bytes - bytes / 8
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<(usize, Instant)>> {
        // It is replaced as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_that_was_refused_is_remembered_for_a_while() {
        let (size, start) = (BodySize::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(size.least_refused(at(0)), usize::MAX);
        size.refused(100_000, at(0));
        size.refused(50_000, at(1));
        size.refused(80_000, at(200));
        size.accepted(49_999);
        assert_eq!((size.least_refused(at(300)), size.joined_max(at(300))), (50_000, 43_750));
        assert_eq!(size.least_refused(at(301)), usize::MAX);
        size.refused(80_000, at(302));
        assert_eq!(size.least_refused(at(302)), 80_000);
        size.refused(100, at(303));
        assert_eq!((size.least_refused(at(303)), size.joined_max(at(303))), (100, 88));
    }

    #[test]
    fn what_was_refused_is_forgotten_when_as_much_is_taken() {
        let (size, now) = (BodySize::default(), Instant::now());
        size.accepted(1_000_000);
        for bytes in [400, 200, 70] {
            size.refused(bytes, now);
        }
        size.accepted(69);
        assert_eq!(size.least_refused(now), 70);
        size.accepted(70);
        assert_eq!(size.least_refused(now), usize::MAX);
    }
}
