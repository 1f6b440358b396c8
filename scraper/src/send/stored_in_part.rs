//! What a receiver of 1.0 has stored of a request that it refused.
//!
//! Remote-Write 1.0 lets a receiver store what it can of a request and answer 400 for the rest, as Mimir and Cortex do, without a word
//! on how much that is. The request is then taken apart for that rest. What its pieces hold of other series is stored by the first
//! copy: a series' newest sample is taken again, as it is the same, and each older one is refused alone, as out of order.
//! These are no loss. A receiver that stores nothing of what it refuses, as Prometheus, does not say so of them: a lane sends
//! the samples of a series in their order, and the first copy has left nothing that they could come after.
//!
//! What is told apart by this is told by three answers together: a piece was refused for what some of its series are (not for a time
//! or an order), then an older sample of another series alone as out of order, then the newest one of that series in the piece was
//! taken. So a loss is named stored where somebody else writes the same series, and has written between the last two samples of
//! it in a request that is also refused for another series: not otherwise.

use std::collections::HashMap;

use super::answer::Refusal;
use super::units::{Counts, Unit};

/// What pieces of one request were answered.
#[derive(Debug, Default)]
pub(super) struct StoredInPart {
    series: HashMap<u64, Series>,
    /// How many of them wait for an answer to their newest sample.
    undecided: usize,
}

#[derive(Debug)]
struct Series {
    /// Of the newest sample that was in a refused piece.
    newest_ms: i64,
    /// One was taken after those.
    taken: bool,
    /// The newest one was refused as those, as somebody else has written a newer one, or one was taken after those that would have been
    /// refused had they been stored.
    overtaken: bool,
    /// Older ones that were refused alone as out of order.
    out_of_order: Option<(Counts, Refusal)>,
}

impl StoredInPart {
    /// A piece of these was refused for what some of the series are.
    pub(super) fn rejected(&mut self, units: &[Unit]) {
        for unit in units {
            if let Some(series) = unit.series_hash()
                && let Some(newest_ms) = unit.newest_ms
            {
                let known = self.series.entry(series).or_insert(Series {
                    newest_ms,
                    taken: false,
                    overtaken: false,
                    out_of_order: None,
                });
                known.newest_ms = known.newest_ms.max(newest_ms);
            }
        }
    }

    /// A sample was refused alone as out of order. True: whether it was stored shows with a later one.
    pub(super) fn out_of_order(&mut self, unit: &Unit, refusal: &Refusal) -> bool {
        let Some(series) = unit.series_hash().and_then(|series| self.series.get_mut(&series)) else {
            return false;
        };
        if unit.newest_ms.is_none_or(|at_ms| at_ms >= series.newest_ms) {
            series.overtaken = true;
            return false;
        }
        let Series { out_of_order, taken, .. } = series;
        *taken = false;
        self.undecided += usize::from(out_of_order.is_none());
        let (counts, _) = out_of_order.get_or_insert_with(|| (Counts::default(), refusal.clone()));
        counts.add(unit.counts);
        true
    }

    /// These were taken. How much this shows to have been stored before.
    pub(super) fn accepted(&mut self, units: &[Unit]) -> Counts {
        let mut stored = Counts::default();
        if self.undecided == 0 {
            return stored;
        }
        for unit in units {
            let Some(series) = unit.series_hash().and_then(|series| self.series.get_mut(&series)) else {
                continue;
            };
            // Of what a first copy has stored only the newest one is taken again: the one before was not stored, nor were older ones.
            series.overtaken |= series.taken && series.out_of_order.is_some();
            series.taken = true;
            if unit.newest_ms.is_some_and(|at_ms| at_ms >= series.newest_ms)
                && !series.overtaken
                && let Some((counts, _)) = series.out_of_order.take()
            {
                stored.add(counts);
                self.undecided -= 1;
            }
        }
        stored
    }

    /// A sample was refused alone for what it is. If it is the newest one of its series, the one that was taken before it was the
    /// newest that could be. How much this shows to have been stored before.
    pub(super) fn refused(&mut self, unit: &Unit) -> Counts {
        let series = unit.series_hash().and_then(|series| self.series.get_mut(&series));
        let newest = |series: &&mut Series| unit.newest_ms.is_some_and(|at_ms| at_ms >= series.newest_ms);
        let shown = series.filter(newest).filter(|series| series.taken && !series.overtaken);
        let Some((counts, _)) = shown.and_then(|series| series.out_of_order.take()) else {
            return Counts::default();
        };
        self.undecided -= 1;
        counts
    }

    /// Takes what is lost for certain.
    pub(super) fn take_lost(&mut self) -> Vec<(Counts, Refusal)> {
        if self.undecided == 0 {
            return Vec::new();
        }
        let overtaken = self.series.values_mut().filter(|series| series.overtaken);
        let lost: Vec<_> = overtaken.filter_map(|series| series.out_of_order.take()).collect();
        self.undecided -= lost.len();
        lost
    }

    /// Whether a sample of the series was refused that may have been stored.
    pub(super) fn is_undecided(&self, series: u64) -> bool {
        self.series.get(&series).is_some_and(|series| series.out_of_order.is_some())
    }

    /// Whether a sample of the series was in a refused piece.
    pub(super) fn holds(&self, series: u64) -> bool {
        self.series.contains_key(&series)
    }

    /// What was refused as out of order and has not been shown to be stored, with the answer to it, and whether it has been shown not
    /// to be: where that is not so, the newest sample of its series was not asked for, or is not taken for what it is.
    pub(super) fn rest(self) -> impl Iterator<Item = (Counts, Refusal, bool)> {
        self.series.into_values().filter_map(|series| {
            series.out_of_order.map(|(counts, refusal)| (counts, refusal, series.overtaken))
        })
    }
}

#[cfg(test)]
mod tests {
    use promring_proto::remote_write::v1;

    use super::super::units::take_apart;
    use super::*;
    use crate::queue::Encoding;

    fn units(samples: &[(&str, i64)]) -> Vec<Unit> {
        let mut bytes = Vec::new();
        for (name, time) in samples {
            let mut labels = Vec::new();
            v1::encode_labels([("__name__", *name)], &mut labels);
            v1::push_series(&labels, 1.0, *time, &mut bytes);
        }
        take_apart(Encoding::V1, &snap::raw::Encoder::new().compress_vec(&bytes).unwrap()).unwrap()
    }

    fn refuse(stored: &mut StoredInPart, sample: (&str, i64)) -> bool {
        let refusal = Refusal { status: 400, message: "out of order".to_owned() };
        stored.out_of_order(&units(&[sample])[0], &refusal)
    }

    /// How much is left, and how much of it is lost for certain.
    fn rest(stored: StoredInPart) -> [u64; 2] {
        let rest: Vec<_> = stored.rest().map(|(counts, _, overtaken)| (counts.points(), overtaken)).collect();
        let all = rest.iter().map(|(points, _)| points).sum();
        [all, rest.iter().filter(|(_, overtaken)| *overtaken).map(|(points, _)| points).sum()]
    }

    #[test]
    fn all_but_the_newest_of_a_series_were_stored_if_that_is_taken() {
        let mut stored = StoredInPart::default();
        stored.rejected(&units(&[("a", 1), ("b", 1), ("a", 2), ("b", 2), ("a", 3), ("b", 3)]));
        for sample in [("a", 1), ("b", 1), ("a", 2), ("b", 2)] {
            assert!(refuse(&mut stored, sample));
        }
        assert_eq!(stored.accepted(&units(&[("c", 3), ("a", 3)])).points(), 2);
        assert_eq!(stored.accepted(&units(&[("a", 3)])).points(), 0, "it counts once");
        // The newest one of b is not taken.
        assert!(!refuse(&mut stored, ("b", 3)));
        assert_eq!(rest(stored), [2, 2]);
    }

    #[test]
    fn what_was_in_no_refused_piece_or_only_an_older_one_is_taken_of_is_lost() {
        let mut stored = StoredInPart::default();
        stored.rejected(&units(&[("a", 1), ("a", 2), ("a", 3)]));
        assert!(!refuse(&mut stored, ("b", 1)));
        assert!(refuse(&mut stored, ("a", 1)));
        // Somebody else wrote between the first and the second one.
        assert_eq!(stored.accepted(&units(&[("a", 2)])).points(), 0);
        assert_eq!(rest(stored), [1, 0]);
    }

    #[test]
    fn what_was_stored_takes_no_older_sample_than_its_newest() {
        let mut stored = StoredInPart::default();
        stored.rejected(&units(&[("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("b", 3)]));
        assert!(refuse(&mut stored, ("a", 1)) && refuse(&mut stored, ("b", 1)));
        // Somebody else wrote between the first and the second one.
        for sample in [("a", 2), ("a", 3)] {
            assert_eq!(stored.accepted(&units(&[sample])).points(), 0);
        }
        assert_eq!(stored.take_lost().len(), 1);
        assert_eq!(stored.accepted(&units(&[("b", 2), ("b", 3)])).points(), 0);
        assert_eq!(rest(stored), [1, 1]);
    }

    #[test]
    fn where_the_newest_one_is_not_taken_for_what_it_is_the_one_before_it_stands_for_it() {
        let mut stored = StoredInPart::default();
        stored.rejected(&units(&[("a", 1), ("a", 2), ("a", 3), ("a", 4), ("b", 1), ("b", 2), ("b", 3)]));
        assert!(refuse(&mut stored, ("a", 1)) && refuse(&mut stored, ("b", 1)));
        let refused = |stored: &mut StoredInPart, sample| stored.refused(&units(&[sample])[0]).points();
        assert_eq!(refused(&mut stored, ("a", 2)), 0, "there are newer ones");
        assert_eq!(stored.accepted(&units(&[("a", 3), ("b", 2)])).points(), 0);
        assert_eq!((refused(&mut stored, ("a", 4)), refused(&mut stored, ("a", 4))), (1, 0));
        // What was refused since is older than what somebody else has written.
        let (b, refusal) = (units(&[("b", 2)]), Refusal { status: 400, message: "out of order".to_owned() });
        assert!(stored.out_of_order(&b[0], &refusal));
        assert_eq!((refused(&mut stored, ("b", 3)), rest(stored)), (0, [2, 0]));
    }
}
