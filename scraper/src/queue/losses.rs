//! What the queue drops is counted, and told in the log: at most once a minute for each reason, with all that was lost since the
//! last line.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::shared::DropReason;

/// Between two lines for the same reason, in milliseconds.
const PAUSE_MS: i64 = 60_000;

/// Something that was dropped before anybody had acknowledged it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loss {
    /// Samples, native histograms included.
    pub(crate) samples: u64,
    pub(crate) bytes: u64,
    /// Whole segments.
    pub(crate) segments: u64,
    /// When the oldest of it was enqueued, Unix milliseconds, as far as that is known.
    pub(crate) oldest_ms: Option<i64>,
}

impl Loss {
    /// Samples alone.
    pub(crate) fn of_samples(samples: u64) -> Self {
        Self { samples, ..Self::default() }
    }

    fn add(&mut self, other: Self) {
        self.samples = self.samples.saturating_add(other.samples);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.segments += other.segments;
        self.oldest_ms = match (self.oldest_ms, other.oldest_ms) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (known, new) => known.or(new),
        };
    }
}

/// What was lost, by reason.
#[derive(Debug, Default)]
pub(crate) struct Losses([Mutex<Untold>; DropReason::ALL.len()]);

#[derive(Debug, Default)]
struct Untold {
    loss: Loss,
    told_ms: Option<i64>,
}

impl Losses {
    /// Takes a loss to what is to be told.
    pub(crate) fn add(&self, reason: DropReason, loss: Loss) {
        self.of(reason).loss.add(loss);
    }

    /// What is to be told now; `all`: however short a time it is since the last line.
    pub(crate) fn due(&self, reason: DropReason, now_ms: i64, all: bool) -> Option<Loss> {
        let mut untold = self.of(reason);
        // A clock that was set back must not silence it.
        let silent =
            untold.told_ms.is_some_and(|told_ms| (0..PAUSE_MS).contains(&now_ms.saturating_sub(told_ms)));
        if untold.loss.samples == 0 || silent && !all {
            return None;
        }
        untold.told_ms = Some(now_ms);
        Some(std::mem::take(&mut untold.loss))
    }

    fn of(&self, reason: DropReason) -> MutexGuard<'_, Untold> {
        let [first, ..] = &self.0;
        let untold = self.0.get(reason as usize).unwrap_or(first);
        // Sums, each as good as another.
        untold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a line.
pub(crate) fn tell(destination: &str, reason: DropReason, loss: &Loss, now_ms: i64) {
    let age_ms = loss.oldest_ms.map(|oldest_ms| now_ms.saturating_sub(oldest_ms));
    let age = age_ms.and_then(|age_ms| u64::try_from(age_ms).ok()).map(Duration::from_millis);
    let Loss { samples, bytes, segments, .. } = *loss;
    let why = match reason {
        DropReason::Size => "the queue is at its bound of bytes (scraper.queue.max_bytes)",
        DropReason::Age => "they are past the queue's bound of age (scraper.queue.max_age)",
        DropReason::DiskFull => "the disk is full",
        DropReason::DiskFailed => "the disk takes nothing, and memory is full or the process ends",
        DropReason::Unreadable => "the disk does not give them back",
        DropReason::Corrupt => "they are damaged on the disk",
        DropReason::Aside => {
            "the receiver has refused their series before, and more of them waits to be asked for alone than may"
        }
    };
    tracing::error!(
        destination,
        reason = reason.as_str(),
        samples,
        bytes,
        segments,
        oldest_age = age.map(tracing::field::debug),
        "the queue has dropped samples: {why}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_told_once_a_minute_for_each_reason_and_in_sum() {
        let losses = Losses::default();
        let lose = |reason, oldest_ms| {
            losses.add(reason, Loss { samples: 3, bytes: 100, segments: 1, oldest_ms: Some(oldest_ms) });
        };
        assert_eq!(losses.due(DropReason::Size, 0, false), None, "nothing is lost");
        lose(DropReason::Size, 70);
        assert!(losses.due(DropReason::Size, 1_000, false).is_some());
        lose(DropReason::Size, 90);
        lose(DropReason::Size, 80);
        lose(DropReason::Age, 10);
        assert_eq!(losses.due(DropReason::Size, 60_999, false), None);
        assert_eq!(losses.due(DropReason::Age, 2_000, false).map(|loss| loss.samples), Some(3));
        let both = Loss { samples: 6, bytes: 200, segments: 2, oldest_ms: Some(80) };
        assert_eq!(losses.due(DropReason::Size, 61_000, false), Some(both));
        lose(DropReason::Size, 95);
        assert!(losses.due(DropReason::Size, 61_001, true).is_some(), "at the end");
        assert_eq!(losses.due(DropReason::Size, 200_000, false), None, "told already");
        lose(DropReason::Size, 99);
        assert!(losses.due(DropReason::Size, 5, false).is_some(), "the clock was set back");
    }
}
