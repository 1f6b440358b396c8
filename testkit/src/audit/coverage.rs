//! Which slots of a series have their sample: everything from the first to the last, but for some holes.
//!
//! Samples come in order as a rule, so a series needs two numbers; holes are kept aside for the few that have any.

/// Slots from `first` to `last`, both inclusive, as slot times in Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: i64,
    pub(super) last: i64,
}

impl Span {
    /// How many slots it has.
    pub(super) fn slots(self, interval_ms: i64) -> u64 {
        if self.last < self.first { 0 } else { ((self.last - self.first) / interval_ms + 1) as u64 }
    }

    /// What both have.
    pub(super) fn overlap(self, other: Self) -> Self {
        Self { first: self.first.max(other.first), last: self.last.min(other.last) }
    }

    pub(super) fn is_empty(self) -> bool {
        self.last < self.first
    }
}

/// The span of no slot.
pub(super) const NOTHING: Span = Span { first: i64::MAX, last: i64::MIN };

/// What a sample's slot was before the sample came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Was {
    /// Later than all others.
    Next,
    /// Earlier than the last one, and missing.
    Missing,
    /// Filled already.
    Filled,
}

/// Marks `slot` as filled. `holes` are sorted, and neither touch nor overlap.
pub(super) fn fill(span: &mut Span, holes: &mut Vec<Span>, slot: i64, interval_ms: i64) -> Was {
    if span.is_empty() {
        *span = Span { first: slot, last: slot };
        return Was::Next;
    }
    if slot > span.last {
        if slot > span.last + interval_ms {
            holes.push(Span { first: span.last + interval_ms, last: slot - interval_ms });
        }
        span.last = slot;
        return Was::Next;
    }
    if slot < span.first {
        if slot < span.first - interval_ms {
            holes.insert(0, Span { first: slot + interval_ms, last: span.first - interval_ms });
        }
        span.first = slot;
        return Was::Missing;
    }
    let at = holes.partition_point(|hole| hole.last < slot);
    let Some(hole) = holes.get(at).copied().filter(|hole| hole.first <= slot) else {
        return Was::Filled;
    };
    let parts = [
        Span { first: hole.first, last: slot - interval_ms },
        Span { first: slot + interval_ms, last: hole.last },
    ];
    holes.splice(at..=at, parts.into_iter().filter(|part| !part.is_empty()));
    Was::Missing
}

/// The slots of `wanted` that are not filled, as spans in order.
pub(super) fn missing(span: Span, holes: &[Span], wanted: Span, interval_ms: i64) -> Vec<Span> {
    if wanted.is_empty() {
        return Vec::new();
    }
    if span.is_empty() {
        return vec![wanted];
    }
    let before = Span { first: i64::MIN, last: span.first - interval_ms };
    let after = Span { first: span.last + interval_ms, last: i64::MAX };
    let all = std::iter::once(before).chain(holes.iter().copied()).chain([after]);
    all.map(|missing| missing.overlap(wanted)).filter(|missing| !missing.is_empty()).collect()
}

/// The spans without the slots of `out`.
pub(super) fn subtract(spans: Vec<Span>, out: Span, interval_ms: i64) -> Vec<Span> {
    if out.is_empty() || spans.is_empty() {
        return spans;
    }
    let parts = |span: Span| {
        let before = Span { last: span.last.min(out.first - interval_ms), ..span };
        let after = Span { first: span.first.max(out.last + interval_ms), ..span };
        // What `out` does not touch would be in one of the two as a whole.
        [before, after].into_iter().filter(|part| !part.is_empty())
    };
    spans.into_iter().flat_map(parts).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const INTERVAL: i64 = 10;

    proptest! {
        #[test]
        fn what_is_subtracted_is_gone_and_all_else_stays(
            bounds in proptest::collection::btree_set(-30_i64..30, 0..8), out in (-35_i64..35, -35_i64..35),
        ) {
            let bounds: Vec<i64> = bounds.into_iter().collect();
            // Every second pair, so that spans do not touch.
            let spans: Vec<Span> = bounds
                .chunks_exact(2)
                .map(|pair| Span { first: pair[0] * INTERVAL, last: (pair[1] - 1) * INTERVAL })
                .collect();
            let out = Span { first: out.0 * INTERVAL, last: out.1 * INTERVAL };
            let slots = |spans: &[Span]| -> Vec<i64> {
                let slots = |span: &Span| (span.first / INTERVAL..=span.last / INTERVAL).collect::<Vec<_>>();
                spans.iter().flat_map(slots).collect()
            };
            let expected: Vec<i64> =
                slots(&spans).into_iter().filter(|slot| !(out.first..=out.last).contains(&(slot * INTERVAL))).collect();
            prop_assert_eq!(slots(&subtract(spans, out, INTERVAL)), expected);
        }

        /// Against the plainest model that there is: a set of filled slots.
        #[test]
        fn filling_and_missing_agree_with_a_set_of_slots(
            slots in proptest::collection::vec(-20_i64..20, 0..40),
            wanted in (-25_i64..25, -25_i64..25),
        ) {
            let mut model = BTreeSet::new();
            let (mut span, mut holes) = (NOTHING, Vec::new());
            for slot in slots {
                let expected = if model.last().is_none_or(|&last| slot > last) {
                    Was::Next
                } else if model.contains(&slot) {
                    Was::Filled
                } else {
                    Was::Missing
                };
                model.insert(slot);
                prop_assert_eq!(fill(&mut span, &mut holes, slot * INTERVAL, INTERVAL), expected);
            }
            let wanted = Span { first: wanted.0 * INTERVAL, last: wanted.1 * INTERVAL };
            let mut found = Vec::new();
            let spans = missing(span, &holes, wanted, INTERVAL);
            for span in &spans {
                let count = span.slots(INTERVAL) as i64;
                found.extend((0..count).map(|at| span.first / INTERVAL + at));
            }
            let expected: Vec<i64> =
                (wanted.first / INTERVAL..=wanted.last / INTERVAL).filter(|slot| !model.contains(slot)).collect();
            prop_assert_eq!(found, expected);
            for pair in holes.windows(2) {
                prop_assert!(pair[0].last + INTERVAL < pair[1].first, "holes touch: {:?}", holes);
            }
        }
    }
}
