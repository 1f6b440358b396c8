//! Which exemplars are news.

use super::*;

/// Labels, value, time.
type Plain = (&'static str, f64, Option<i64>);

struct Series {
    last: LastExemplars,
    shared: Shared,
}

const NOW_MS: i64 = 1_000;

/// An exemplar that is news: its first label's value, its value, its time.
type News = (String, f64, i64);

impl Series {
    fn new() -> Self {
        Self { last: LastExemplars::default(), shared: Shared::default() }
    }

    /// What is news of these, and how many were found and out of order.
    fn take(&mut self, exemplars: &[Plain], needs_time: bool) -> (Vec<News>, (usize, usize)) {
        let mut extras = Extras::default();
        let of = |(id, value, timestamp_ms): &Plain| Exemplar {
            labels: vec![("id".into(), (*id).into()), ("empty".into(), "".into())],
            value: *value,
            timestamp_ms: *timestamp_ms,
        };
        self.last.begin();
        let found = exemplars.iter().map(of);
        let taken = self.last.take((1, 0), found, NOW_MS, needs_time, &mut extras, &self.shared);
        self.last.commit();
        let list = Exemplars { list: &extras.exemplars, symbols: &extras.symbols };
        let reading = self.shared.symbols.reading();
        let news = list.iter().map(|(labels, bits, time_ms)| {
            assert_eq!(labels.len(), 2, "an empty label is none");
            (reading.text(labels[1]).to_owned(), f64::from_bits(bits), time_ms)
        });
        let news = news.collect();
        drop(reading);
        extras.release(&self.shared);
        (news, (taken.found, taken.out_of_order))
    }
}

#[test]
fn exemplars_of_a_sample_come_in_order_of_time_and_value() {
    let mut series = Series::new();
    let (news, counts) = series.take(&[("c", 1.0, Some(9)), ("b", 5.0, Some(7)), ("a", 2.0, Some(7))], false);
    assert_eq!(news, [("a".into(), 2.0, 7), ("b".into(), 5.0, 7), ("c".into(), 1.0, 9)]);
    assert_eq!(counts, (3, 0));
}

#[test]
fn of_several_only_those_after_the_last_one_are_news() {
    let mut series = Series::new();
    series.take(&[("a", 1.0, Some(5))], false);
    let (news, counts) =
        series.take(&[("old", 1.0, Some(4)), ("a", 1.0, Some(5)), ("new", 1.0, Some(6))], false);
    assert_eq!((news, counts), (vec![("new".into(), 1.0, 6)], (3, 1)));
    // At the same time another value or other labels may be, and a lower value may not.
    assert_eq!(series.take(&[("new", 2.0, Some(6))], false).0.len(), 1);
    assert_eq!(series.take(&[("other", 2.0, Some(6))], false).0.len(), 1);
    assert_eq!(series.take(&[("other", 1.5, Some(6))], false).1, (1, 1));
}

#[test]
fn without_a_time_of_its_own_an_exemplar_is_known_by_labels_and_value() {
    let mut series = Series::new();
    assert_eq!(series.take(&[("a", 1.0, None)], false).0, [("a".into(), 1.0, NOW_MS)]);
    assert_eq!(series.take(&[("a", 1.0, None)], false), (Vec::new(), (1, 0)));
    assert_eq!(series.take(&[("a", 2.0, None)], false).0.len(), 1);
    // The same with a time is another one.
    assert_eq!(series.take(&[("a", 2.0, Some(NOW_MS + 1))], false).0.len(), 1);
}

#[test]
fn where_a_time_is_needed_those_without_are_left_out() {
    let mut series = Series::new();
    assert_eq!(series.take(&[("a", 1.0, None)], true), (Vec::new(), (0, 0)));
    assert_eq!(series.take(&[("a", 1.0, Some(1))], true).0.len(), 1);
}

#[test]
fn strings_of_exemplars_are_held_no_longer_than_they_are_needed() {
    let mut series = Series::new();
    for value in 0..100 {
        series.take(&[("trace", f64::from(value), None)], false);
    }
    let mut symbols = Vec::new();
    series.shared.symbols.intern(["another"], &mut symbols);
    assert_eq!(series.shared.symbols.reading().kept(), 1);
}
