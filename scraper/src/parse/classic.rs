//! A classic histogram on its way to a native one with custom bounds
//! (the rules are those of Prometheus's `util/convertnhcb`).

use promring_proto::histogram::{CUSTOM_BUCKETS_SCHEMA, Counts, NativeHistogram, ResetHint, Span};

use super::number::normalise_nan;

/// What is known of a classic histogram so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ClassicHistogram {
    /// Upper bound and cumulative count, in order of bounds.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
    /// What is wrong with it.
    wrong: Option<&'static str>,
}

impl ClassicHistogram {
    /// A bucket. The first one of a bound counts.
    pub(super) fn bucket(&mut self, bound: f64, count: f64) {
        if bound.is_nan() || count < 0.0 {
            self.wrong.get_or_insert("a bucket's bound is NaN or its count negative");
            return;
        }
        let at = self.buckets.partition_point(|(other, _)| *other < bound);
        if self.buckets.get(at).is_some_and(|(other, _)| *other == bound) {
            return;
        }
        let below = at.checked_sub(1).and_then(|at| self.buckets.get(at));
        let falls = below.is_some_and(|(_, other)| count < *other)
            || self.buckets.get(at).is_some_and(|(_, other)| count > *other);
        if falls {
            self.wrong.get_or_insert("the counts of its buckets are not cumulative");
            return;
        }
        self.buckets.insert(at, (bound, count));
    }

    /// The number of observations.
    pub(super) fn count(&mut self, count: f64) {
        if count < 0.0 {
            self.wrong.get_or_insert("its count is negative");
        }
        self.count = Some(count);
    }

    /// The sum of observations.
    pub(super) fn sum(&mut self, sum: f64) {
        self.sum = normalise_nan(sum);
    }

    /// The native histogram: of whole numbers where all counts are whole.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn convert(mut self, is_gauge: bool) -> Result<NativeHistogram, &'static str> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        let last = self.buckets.last().copied();
        let count = self.count.or(last.map(|(_, count)| count)).unwrap_or(0.0);
        if last.is_none_or(|(bound, _)| bound != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        // A NaN equals nothing, and goes as a float.
        if self.buckets.last().is_some_and(|(_, of_all)| *of_all != count) {
            return Err("its count is not that of its last bucket");
        }
        let whole = |count: f64| (count as i64) as f64 == count;
        let counts = self.buckets.iter().map(|(_, count)| *count);
        let length = self.buckets.len() as u32;
        let counts = if counts.clone().all(whole) && whole(count) {
            let (mut below, mut before) = (0_i64, 0_i64);
            let delta = |count: f64| {
                let own = (count as i64).wrapping_sub(std::mem::replace(&mut below, count as i64));
                own.wrapping_sub(std::mem::replace(&mut before, own))
            };
            let positive_deltas = counts.map(delta).collect();
            Counts::Integer {
                count: count as u64,
                zero_count: 0,
                positive_deltas,
                negative_deltas: Vec::new(),
            }
        } else {
            let mut below = 0.0;
            let own = |count: f64| count - std::mem::replace(&mut below, count);
            let positive_counts = counts.map(own).collect();
            Counts::Float { count, zero_count: 0.0, positive_counts, negative_counts: Vec::new() }
        };
        let mut histogram = NativeHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            sum: self.sum,
            reset_hint: if is_gauge { ResetHint::Gauge } else { ResetHint::Unknown },
            positive_spans: vec![Span { offset: 0, length }],
            counts,
            custom_values: self
                .buckets
                .iter()
                .map(|(bound, _)| *bound)
                .filter(|b| *b != f64::INFINITY)
                .collect(),
            ..NativeHistogram::default()
        };
        histogram.compact();
        histogram.validate()?;
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(
        buckets: &[(f64, f64)],
        count: Option<f64>,
        sum: f64,
    ) -> Result<NativeHistogram, &'static str> {
        let mut classic = ClassicHistogram::default();
        buckets.iter().for_each(|(bound, count)| classic.bucket(*bound, *count));
        count.into_iter().for_each(|count| classic.count(count));
        classic.sum(sum);
        classic.convert(false)
    }

    const INFINITE: f64 = f64::INFINITY;

    #[test]
    fn whole_counts_make_a_histogram_of_whole_numbers() {
        let histogram =
            converted(&[(0.5, 1.0), (1.0, 4.0), (2.0, 4.0), (INFINITE, 9.0)], Some(9.0), 7.5).unwrap();
        let counts = Counts::Integer {
            count: 9,
            zero_count: 0,
            positive_deltas: vec![1, 2, 2],
            negative_deltas: Vec::new(),
        };
        let expected = NativeHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            sum: 7.5,
            positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 1 }],
            counts,
            custom_values: vec![0.5, 1.0, 2.0],
            ..NativeHistogram::default()
        };
        assert_eq!(histogram, expected);
    }

    #[test]
    fn buckets_may_come_in_any_order_and_without_that_of_infinity() {
        let sorted = converted(&[(1.0, 2.0), (2.0, 3.0), (INFINITE, 5.0)], Some(5.0), 1.0).unwrap();
        assert_eq!(converted(&[(2.0, 3.0), (1.0, 2.0)], Some(5.0), 1.0).as_ref(), Ok(&sorted));
        assert_eq!(converted(&[(1.0, 2.0), (1.0, 9.0), (2.0, 3.0)], Some(5.0), 1.0), Ok(sorted));
        // Without a count it is the last bucket's.
        let histogram = converted(&[(1.0, 2.0), (2.0, 3.0)], None, 0.0).unwrap();
        assert!(matches!(histogram.counts, Counts::Integer { count: 3, .. }));
    }

    #[test]
    fn a_count_that_is_not_whole_makes_all_of_them_floats() {
        let histogram = converted(&[(1.0, 0.5), (INFINITE, 2.0)], Some(2.0), 1.0).unwrap();
        let expected = Counts::Float {
            count: 2.0,
            zero_count: 0.0,
            positive_counts: vec![0.5, 1.5],
            negative_counts: Vec::new(),
        };
        assert_eq!(histogram.counts, expected);
    }

    #[test]
    fn what_cannot_be_a_histogram_is_refused() {
        for (buckets, count) in [
            (vec![(1.0, 3.0), (2.0, 2.0)], Some(3.0)),
            (vec![(2.0, 2.0), (1.0, 3.0)], Some(3.0)),
            (vec![(1.0, -1.0)], Some(3.0)),
            (vec![(f64::NAN, 1.0)], Some(3.0)),
            (vec![(INFINITE, 2.0)], Some(3.0)),
            (vec![(1.0, 2.0)], Some(-3.0)),
        ] {
            assert!(converted(&buckets, count, 1.0).is_err(), "{buckets:?} {count:?}");
        }
    }
}
