use proptest::prelude::*;

use super::*;

fn span(offset: i32, length: u32) -> Span {
    Span { offset, length }
}

fn integer(spans: Vec<Span>, deltas: Vec<i64>) -> NativeHistogram {
    let count = sum_deltas(&deltas).unwrap_or_default();
    NativeHistogram {
        positive_spans: spans,
        counts: Counts::Integer {
            count,
            zero_count: 0,
            positive_deltas: deltas,
            negative_deltas: Vec::new(),
        },
        ..NativeHistogram::default()
    }
}

fn deltas(histogram: &NativeHistogram) -> Vec<i64> {
    match &histogram.counts {
        Counts::Integer { positive_deltas, .. } => positive_deltas.clone(),
        Counts::Float { .. } => panic!("not a histogram of whole numbers"),
    }
}

/// Bucket index and absolute count, without empty buckets.
fn buckets(spans: &[Span], deltas: &[i64]) -> Vec<(i64, i64)> {
    let indexes = spans.iter().scan(0, |end, span| {
        let start = *end + i64::from(span.offset);
        *end = start + i64::from(span.length);
        Some(start..*end)
    });
    let counts = deltas.iter().scan(0, |count, delta| {
        *count += delta;
        Some(*count)
    });
    indexes.flatten().zip(counts).filter(|(_, count)| *count != 0).collect()
}

#[test]
fn compacting_cuts_empty_buckets_and_empty_spans() {
    for (spans, before, compacted, after) in [
        (vec![span(0, 0)], vec![], vec![], vec![]),
        (vec![span(0, 3)], vec![0, 0, 0], vec![], vec![]),
        (vec![span(0, 3)], vec![1, 0, 0], vec![span(0, 3)], vec![1, 0, 0]),
        (vec![span(-2, 4)], vec![0, 5, -5, 2], vec![span(-1, 1), span(1, 1)], vec![5, -3]),
        (
            vec![span(3, 1), span(0, 1), span(2, 0), span(1, 1)],
            vec![1, 1, 1],
            vec![span(3, 2), span(3, 1)],
            vec![1, 1, 1],
        ),
    ] {
        let mut histogram = integer(spans, before);
        histogram.compact();
        assert_eq!(histogram.positive_spans, compacted);
        assert_eq!(deltas(&histogram), after);
    }
}

#[test]
fn compacting_leaves_what_does_not_fit() {
    for spans in
        [vec![span(0, 3)], vec![span(0, u32::MAX)], vec![span(5, 1), span(-3, 1)], vec![span(i32::MAX, 2)]]
    {
        let before = integer(spans, vec![1, -1]);
        let mut histogram = before.clone();
        histogram.compact();
        assert_eq!(histogram, before);
    }
}

#[test]
fn floats_are_compacted_like_whole_numbers() {
    let mut histogram = NativeHistogram {
        negative_spans: vec![span(0, 4)],
        counts: Counts::Float {
            count: 1.5,
            zero_count: 0.0,
            positive_counts: Vec::new(),
            negative_counts: vec![0.0, 1.0, -0.0, 0.5],
        },
        ..NativeHistogram::default()
    };
    histogram.compact();
    assert_eq!(histogram.negative_spans, [span(1, 1), span(1, 1)]);
    assert_eq!(histogram.buckets(), 2);
    assert_eq!(histogram.validate(), Ok(()));
}

#[test]
fn what_prometheus_takes_in_is_valid() {
    assert_eq!(NativeHistogram::default().validate(), Ok(()));
    assert_eq!(integer(vec![span(-5, 2), span(1, 1)], vec![1, 1, -2]).validate(), Ok(()));
}

#[test]
fn what_prometheus_refuses_is_invalid() {
    let good = || integer(vec![span(0, 2)], vec![1, 1]);
    for (reason, histogram) in [
        ("schema", NativeHistogram { schema: 9, ..good() }),
        ("schema", NativeHistogram { schema: -5, ..good() }),
        ("custom bounds", NativeHistogram { custom_values: vec![1.0], ..good() }),
        ("spans", integer(vec![span(0, 3)], vec![1, 1])),
        ("spans", integer(vec![span(0, u32::MAX), span(0, u32::MAX)], vec![1, 1])),
        ("negative offset", integer(vec![span(0, 1), span(-1, 1)], vec![1, 1])),
        ("negative count", integer(vec![span(0, 2)], vec![1, -2])),
    ] {
        let error = histogram.validate().unwrap_err();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[test]
fn the_count_matches_the_buckets_unless_the_sum_is_no_number() {
    let mut histogram = integer(vec![span(0, 1)], vec![2]);
    let set = |histogram: &mut NativeHistogram, to| match &mut histogram.counts {
        Counts::Integer { count, .. } => *count = to,
        Counts::Float { .. } => {}
    };
    set(&mut histogram, 3);
    assert!(histogram.validate().is_err());
    histogram.sum = f64::NAN;
    assert_eq!(histogram.validate(), Ok(()));
    set(&mut histogram, 1);
    assert!(histogram.validate().is_err());
}

#[test]
fn custom_bounds_ascend_and_cover_every_bucket() {
    let custom = |bounds: &[f64], spans| NativeHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        custom_values: bounds.to_vec(),
        ..integer(spans, vec![1, 0])
    };
    assert_eq!(custom(&[1.0], vec![span(0, 2)]).validate(), Ok(()));
    for bounds in [&[2.0, 1.0][..], &[1.0, 1.0], &[1.0, f64::INFINITY], &[f64::NAN], &[1.0, f64::NAN]] {
        assert!(custom(bounds, vec![span(0, 2)]).validate().is_err(), "{bounds:?}");
    }
    assert!(custom(&[1.0], vec![span(1, 2)]).validate().is_err());
    assert!(NativeHistogram { zero_threshold: 1.0, ..custom(&[1.0], vec![span(0, 2)]) }.validate().is_err());
}

proptest! {
    #[test]
    fn compacting_changes_no_bucket_and_leaves_none_empty(
        parts in prop::collection::vec((0..4_i32, prop::collection::vec(0..3_i64, 0..5)), 0..6),
        first in -5..5_i32,
    ) {
        let mut spans: Vec<Span> =
            parts.iter().map(|(offset, counts)| span(*offset, counts.len() as u32)).collect();
        if let Some(span) = spans.first_mut() {
            span.offset = first;
        }
        let mut last = 0;
        let counts = parts.iter().flat_map(|(_, counts)| counts.iter().copied());
        let before: Vec<i64> = counts.map(|count| count - std::mem::replace(&mut last, count)).collect();
        let mut histogram = integer(spans.clone(), before.clone());
        histogram.compact();
        let after = deltas(&histogram);
        prop_assert_eq!(buckets(&histogram.positive_spans, &after), buckets(&spans, &before));
        prop_assert_eq!(buckets(&spans, &before).len(), after.len());
        prop_assert!(histogram.positive_spans.iter().skip(1).all(|span| span.offset > 0));
        prop_assert!(histogram.positive_spans.iter().all(|span| span.length > 0));
        prop_assert_eq!(histogram.validate(), Ok(()));
    }
}

/// The bucket of a lower resolution that holds an index of a higher one, by their upper bounds.
fn merged_index(index: i64, shift: u32) -> i64 {
    (index as f64 / f64::from(1_u32 << shift)).ceil() as i64
}

#[test]
fn a_bucket_of_a_lower_resolution_takes_all_that_are_within_it() {
    // Indexes -3, -2, -1, 0, 1, 2 and 7; by one step down -1, -1, 0, 0, 1, 1 and 4.
    let mut histogram = integer(vec![span(-3, 6), span(4, 1)], vec![1, 1, 1, 1, 1, 1, 1]);
    histogram.schema = 3;
    histogram.reduce_resolution(2).unwrap();
    assert_eq!(histogram.schema, 2);
    assert_eq!(histogram.positive_spans, [span(-1, 3), span(2, 1)]);
    assert_eq!(deltas(&histogram), [3, 4, 4, -4]);
    assert_eq!(histogram.validate(), Ok(()));
}

#[test]
fn a_resolution_can_neither_be_raised_nor_reduced_with_bounds_of_its_own() {
    let mut histogram = integer(vec![span(0, 1)], vec![1]);
    assert!(histogram.reduce_resolution(0).is_err());
    histogram.schema = CUSTOM_BUCKETS_SCHEMA;
    assert!(histogram.reduce_resolution(-60).is_err());
    let mut backwards = NativeHistogram { schema: 3, ..integer(vec![span(0, 1), span(-1, 1)], vec![1, 1]) };
    assert!(backwards.reduce_resolution(2).is_err());
    let mut beyond = NativeHistogram { schema: 3, ..integer(vec![span(0, 1)], vec![]) };
    assert!(beyond.reduce_resolution(2).is_err());
    // Prometheus counts buckets in 32 bits.
    let mut far =
        NativeHistogram { schema: 3, ..integer(vec![span(i32::MAX, 1), span(i32::MAX, 1)], vec![1, 0]) };
    assert_eq!(far.validate(), Ok(()));
    assert!(far.reduce_resolution(2).is_err());
    let mut last = NativeHistogram { schema: 3, ..integer(vec![span(i32::MAX, 1)], vec![1]) };
    assert!(last.reduce_resolution(2).is_ok());
}

proptest! {
    #[test]
    fn reducing_the_resolution_loses_no_observation(
        parts in proptest::collection::vec((0..9_i32, 1..5_u32), 1..6),
        counts in proptest::collection::vec(1..1_000_i64, 30),
        first in -40..40_i32,
        steps in 1..5_i32,
    ) {
        let mut spans: Vec<Span> = parts.iter().map(|(offset, length)| span(*offset, *length)).collect();
        spans[0].offset = first;
        let total: u32 = spans.iter().map(|span| span.length).sum();
        let counts = &counts[..(total as usize).min(counts.len())];
        let mut before = 0;
        let deltas_of: Vec<i64> = counts.iter().map(|count| count - std::mem::replace(&mut before, *count)).collect();
        let mut whole = NativeHistogram { schema: 5, ..integer(spans.clone(), deltas_of.clone()) };
        let mut expected = std::collections::BTreeMap::new();
        for (index, count) in buckets(&spans, &deltas_of) {
            *expected.entry(merged_index(index, steps as u32)).or_insert(0) += count;
        }
        let mut floats = whole.clone();
        floats.counts = Counts::Float {
            count: 1.0,
            zero_count: 0.0,
            positive_counts: counts.iter().map(|count| *count as f64).collect(),
            negative_counts: Vec::new(),
        };
        whole.reduce_resolution(5 - steps).unwrap();
        prop_assert_eq!(whole.validate(), Ok(()));
        let merged = buckets(&whole.positive_spans, &deltas(&whole));
        prop_assert_eq!(merged, expected.clone().into_iter().collect::<Vec<_>>());
        floats.reduce_resolution(5 - steps).unwrap();
        prop_assert_eq!(&floats.positive_spans, &whole.positive_spans);
        let Counts::Float { positive_counts, .. } = &floats.counts else { panic!("floats stay floats") };
        let sums: Vec<f64> = expected.values().map(|count| *count as f64).collect();
        prop_assert_eq!(positive_counts, &sums);
    }
}
