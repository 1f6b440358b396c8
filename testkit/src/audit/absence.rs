//! Planned ends: when a target or a series is not there, and what that means for each slot.

use promring_model::slots::Slots;
use serde::{Deserialize, Serialize};

use super::TIME_MS_MAX;
use super::coverage::Span;

/// A planned time without a target or a series. It begins with a staleness marker.
///
/// Nobody can say to the millisecond what a scrape saw that ran while something changed, so the slot in which an
/// absence begins or ends may have a sample or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    /// When it begins, in Unix milliseconds.
    pub from_ms: i64,
    /// When it ends, in Unix milliseconds; `i64::MAX`: never.
    pub to_ms: i64,
    /// How long both changes may take to get noticed, in milliseconds: discovery and assignment have latency.
    pub settle_ms: i64,
    /// The target is not even scraped, so that `up` and its companions end too.
    pub whole: bool,
}

/// What a slot needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Exactly one sample.
    Sample,
    /// At most one.
    Either,
    /// None.
    Nothing,
}

impl Absence {
    /// The exporter does not answer from then on: its series end, `up` is 0.
    #[must_use]
    pub fn down(from_ms: i64) -> Self {
        Self { from_ms, to_ms: i64::MAX, settle_ms: 0, whole: false }
    }

    /// A series is not exposed any more from then on.
    #[must_use]
    pub fn vanished(from_ms: i64) -> Self {
        Self::down(from_ms)
    }

    /// The target is removed from discovery then, which may take `settle_ms` to arrive at its scraper.
    #[must_use]
    pub fn removed(from_ms: i64, settle_ms: i64) -> Self {
        Self { from_ms, to_ms: i64::MAX, settle_ms, whole: true }
    }

    /// The same, ending at `to_ms`.
    #[must_use]
    pub fn until(self, to_ms: i64) -> Self {
        Self { to_ms, ..self }
    }

    /// What the slot at `slot_ms` needs.
    pub(super) fn need(&self, slot_ms: i64, interval_ms: i64) -> Need {
        let slot_end = slot_ms + interval_ms;
        if slot_end <= self.from_ms || slot_ms >= self.to_ms.saturating_add(self.settle_ms) {
            Need::Sample
        } else if slot_ms >= self.from_ms.saturating_add(self.settle_ms) && slot_end <= self.to_ms {
            Need::Nothing
        } else {
            Need::Either
        }
    }

    /// The slots that need no sample: those of which [`Self::need`] does not say [`Need::Sample`].
    pub(super) fn exempt(&self, slots: Slots) -> Span {
        let slot_at = |time_ms: i64| slots.slot_at(time_ms.clamp(-TIME_MS_MAX, TIME_MS_MAX));
        Span {
            first: slot_at(self.from_ms),
            last: slot_at(self.to_ms.saturating_add(self.settle_ms).saturating_sub(1)),
        }
    }

    /// Whether a marker at this time can be the one that this absence begins with.
    pub(super) fn explains_marker(&self, slot_ms: i64, interval_ms: i64) -> bool {
        slot_ms + interval_ms > self.from_ms && slot_ms < self.to_ms.saturating_add(self.settle_ms)
    }

    /// When the marker must have come; None for an absence so short that no scrape need have noticed it.
    pub(super) fn marker_due_ms(&self, interval_ms: i64) -> Option<i64> {
        let due = self.from_ms.saturating_add(self.settle_ms).saturating_add(2 * interval_ms);
        (due <= self.to_ms).then_some(due)
    }
}

/// What a slot needs where several absences are planned.
pub(super) fn need<'a>(
    absences: impl IntoIterator<Item = &'a Absence>,
    slot_ms: i64,
    interval_ms: i64,
) -> Need {
    let mut strictest = Need::Sample;
    for absence in absences {
        match absence.need(slot_ms, interval_ms) {
            Need::Nothing => return Need::Nothing,
            Need::Either => strictest = Need::Either,
            Need::Sample => {}
        }
    }
    strictest
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use promring_model::target::TargetKey;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_exempt_slots_are_those_that_need_no_sample(
            from_ms in -50_i64..50, length in 1_i64..60, settle_ms in 0_i64..30, offset in 0_u64..10,
        ) {
            let absence = Absence { from_ms, to_ms: from_ms + length, settle_ms, whole: true };
            let slots = Slots::new(Duration::from_millis(10), TargetKey(offset));
            let exempt = absence.exempt(slots);
            for at in -20..20 {
                let slot = slots.slot_at(at * 10);
                let inside = (exempt.first..=exempt.last).contains(&slot);
                prop_assert_eq!(inside, absence.need(slot, 10) != Need::Sample, "slot {}, {:?}", slot, exempt);
            }
        }
    }

    fn needs(absence: Absence) -> Vec<Need> {
        (0..8).map(|slot| absence.need(slot * 10, 10)).collect()
    }

    #[test]
    fn the_slots_in_which_an_absence_begins_and_ends_may_have_a_sample_or_not() {
        use Need::{Either, Nothing, Sample};
        let absence = Absence::down(25).until(55);
        assert_eq!(needs(absence), [Sample, Sample, Either, Nothing, Nothing, Either, Sample, Sample]);
        let sharp = Absence::down(20).until(50);
        assert_eq!(needs(sharp), [Sample, Sample, Nothing, Nothing, Nothing, Sample, Sample, Sample]);
    }

    #[test]
    fn a_removal_may_take_its_time_to_settle() {
        use Need::{Either, Nothing, Sample};
        assert_eq!(
            needs(Absence::removed(20, 25)),
            [Sample, Sample, Either, Either, Either, Nothing, Nothing, Nothing]
        );
    }

    #[test]
    fn a_marker_belongs_to_the_absence_and_is_due_two_slots_after_its_start() {
        let absence = Absence::down(25).until(60);
        assert!(!absence.explains_marker(10, 10));
        assert!(absence.explains_marker(20, 10));
        assert!(!absence.explains_marker(60, 10));
        assert_eq!(absence.marker_due_ms(10), Some(45));
        assert_eq!(absence.until(40).marker_due_ms(10), None);
    }
}
