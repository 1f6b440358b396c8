//! Series that a receiver refused alone, for what they are and not for a sample's time: what has come to that more than once
//! is not taken apart for it again and again (docs/adr/0016). Nothing is hashed as long as nothing was refused.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::units::Unit;

/// So many are known at once, which takes about 3 MB. Further ones are found anew in each request.
const SERIES_MAX: usize = 50_000;

/// A series that no refused request has held for so long gives its place up where there is none left.
const UNSEEN_MAX: Duration = Duration::from_secs(300);

/// So many series of a request are asked for alone in any case.
const ASKED_MIN: usize = 4;

/// Whether a series that was refused once is refused again is waited for so long: twice the minute that is the longest usual time
/// between two of its samples.
const DOUBT_MAX: Duration = Duration::from_secs(120);

/// What is known of the series of one destination, for all its lanes.
#[derive(Debug, Default)]
pub(super) struct RefusedSeries(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    series: HashMap<u64, Known>,
    /// How many of them were refused once only.
    once: usize,
    /// When a series came to be one of them last.
    once_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    /// Refused alone more than once, and not taken in between.
    again: bool,
    /// When it was refused alone last.
    asked: Instant,
    /// When it was in a refused request last.
    seen: Instant,
}

/// Units by what is known of their series. All units of a series are in the same list, in their order.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    /// Nothing.
    pub(super) unknown: Vec<Unit>,
    /// They were refused alone once, which the sample may have been the cause of.
    pub(super) once: Vec<Unit>,
    /// They were more often.
    pub(super) again: Vec<Unit>,
}

impl RefusedSeries {
    /// A series was refused alone.
    pub(super) fn remember(&self, unit: &Unit, now: Instant) {
        let Some(series) = series_of(unit) else { return };
        let mut all = self.lock();
        if let Some(known) = all.series.get_mut(&series) {
            let before = std::mem::replace(known, Known { again: true, asked: now, seen: now });
            all.once -= usize::from(!before.again);
            return;
        }
        if all.series.len() >= SERIES_MAX {
            all.series.retain(|_, known| now.saturating_duration_since(known.seen) < UNSEEN_MAX);
            all.once = all.series.values().filter(|known| !known.again).count();
        }
        if all.series.len() < SERIES_MAX {
            all.series.insert(series, Known { again: false, asked: now, seen: now });
            all.once += 1;
            all.once_since = Some(now);
        }
    }

    /// The receiver has taken these, or refused them for something else.
    pub(super) fn forget(&self, units: &[Unit]) {
        let mut all = self.lock();
        for series in units.iter().filter_map(series_of) {
            let known = all.series.remove(&series);
            all.once -= usize::from(known.is_some_and(|known| !known.again));
        }
    }

    /// Whether nothing was refused, so that nothing needs to be looked for.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().series.is_empty()
    }

    /// Whether any of these is of a series that was refused.
    pub(super) fn has_any_of(&self, units: &[Unit]) -> bool {
        let all = self.lock();
        let mut hashes = units.iter().filter_map(Unit::series_hash);
        hashes.any(|series| all.series.contains_key(&series))
    }

    /// Whether a series was refused once, and no second time yet: there may be more of its kind.
    pub(super) fn is_in_doubt(&self, now: Instant) -> bool {
        let all = self.lock();
        let waited = all.once_since.map(|since| now.saturating_duration_since(since));
        all.once > 0 && waited.is_some_and(|waited| waited < DOUBT_MAX)
    }

    /// Sorts the units of a request by what is known of their series.
    pub(super) fn sort(&self, units: Vec<Unit>, now: Instant) -> Sorted {
        let mut all = self.lock();
        if all.series.is_empty() {
            return Sorted { unknown: units, ..Sorted::default() };
        }
        let mut sorted = Sorted::default();
        for unit in units {
            let list = match unit.series_hash().and_then(|series| all.series.get_mut(&series)) {
                None => &mut sorted.unknown,
                Some(known) => {
                    known.seen = now;
                    if known.again { &mut sorted.again } else { &mut sorted.once }
                }
            };
            list.push(unit);
        }
        sorted
    }

    /// What is asked for alone, and the rest: as many units as are affordable, or one of each of [`ASKED_MIN`] series. Those series
    /// are first that were asked for longest ago, and none has a second one before each has its first one.
    pub(super) fn choose(&self, units: Vec<Unit>, affordable: usize) -> (Vec<Unit>, Vec<Unit>) {
        let mut turns = Vec::new();
        let mut counts: HashMap<u64, usize> = HashMap::new();
        let all = self.lock();
        for (at, unit) in units.iter().enumerate() {
            if let Some(series) = unit.series_hash() {
                let count = counts.entry(series).or_default();
                // What another lane has seen taken meanwhile goes first.
                turns.push((*count, all.series.get(&series).map(|known| known.asked), at));
                *count += 1;
            }
        }
        drop(all);
        turns.sort_unstable();
        turns.truncate(affordable.max(counts.len().min(ASKED_MIN)));
        let chosen: HashSet<usize> = turns.into_iter().map(|(_, _, at)| at).collect();
        let (mut asked, mut rest) = (Vec::new(), Vec::new());
        for (at, unit) in units.into_iter().enumerate() {
            if chosen.contains(&at) { &mut asked } else { &mut rest }.push(unit);
        }
        (asked, rest)
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        // Whatever panicked elsewhere, it is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The series that a unit's answer says something of: one with samples. What exemplars alone are refused for says nothing.
fn series_of(unit: &Unit) -> Option<u64> {
    unit.series_hash().filter(|_| unit.counts.points() > 0)
}

#[cfg(test)]
mod tests {
    use promring_proto::remote_write::v1;

    use super::super::units::take_apart;
    use super::*;
    use crate::queue::Encoding;

    fn units(names: &[&str]) -> Vec<Unit> {
        let mut bytes = Vec::new();
        for (time, name) in names.iter().enumerate() {
            let mut labels = Vec::new();
            v1::encode_labels([("__name__", *name)], &mut labels);
            v1::push_series(&labels, 1.0, time as i64, &mut bytes);
        }
        take_apart(Encoding::V1, &snap::raw::Encoder::new().compress_vec(&bytes).unwrap()).unwrap()
    }

    fn times(units: &[Unit]) -> Vec<i64> {
        units.iter().filter_map(|unit| unit.newest_ms).collect()
    }

    fn refuse(series: &RefusedSeries, names: &[&str], now: Instant) {
        units(names).iter().for_each(|unit| series.remember(unit, now));
    }

    #[test]
    fn series_are_sorted_by_how_often_they_were_refused_in_a_row() {
        let (series, now) = (RefusedSeries::default(), Instant::now());
        let names = ["a", "b", "c", "a", "b", "c"];
        assert_eq!(times(&series.sort(units(&names), now).unknown), [0, 1, 2, 3, 4, 5]);
        refuse(&series, &["b", "c", "c"], now);
        let sorted = series.sort(units(&names), now);
        assert_eq!(
            [times(&sorted.unknown), times(&sorted.once), times(&sorted.again)],
            [[0, 3], [1, 4], [2, 5]]
        );
        series.forget(&units(&["b", "c"]));
        refuse(&series, &["c"], now);
        let sorted = series.sort(units(&names), now);
        assert_eq!([times(&sorted.once), times(&sorted.again)], [vec![2, 5], vec![]]);
    }

    #[test]
    fn a_series_is_in_doubt_until_it_is_refused_again_or_taken_or_some_time_is_over() {
        let (series, begun) = (RefusedSeries::default(), Instant::now());
        assert!(!series.is_in_doubt(begun) && series.is_empty());
        refuse(&series, &["a", "b"], begun);
        assert!(series.is_in_doubt(begun));
        refuse(&series, &["a"], begun);
        assert!(series.is_in_doubt(begun), "b is");
        series.forget(&units(&["b", "c"]));
        assert!(!series.is_in_doubt(begun));
        refuse(&series, &["b"], begun);
        assert!(series.is_in_doubt(begun));
        assert!(!series.is_in_doubt(begun + DOUBT_MAX), "it may have ended");
        series.forget(&units(&["a", "a"]));
        assert!(series.has_any_of(&units(&["a", "b"])) && !series.has_any_of(&units(&["a", "c"])));
    }

    #[test]
    fn everybody_has_a_turn_and_who_waited_longest_is_first() {
        let (series, begun) = (RefusedSeries::default(), Instant::now());
        let names: Vec<String> = (0..12).map(|at| format!("s{at}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let second = |at: usize| begun + Duration::from_secs(at as u64);
        names.iter().for_each(|name| refuse(&series, &[name], begun));
        let mut seen = Vec::new();
        for round in 1..=3 {
            let (asked, rest) = series.choose(units(&names), 0);
            assert_eq!((asked.len(), rest.len()), (ASKED_MIN, 12 - ASKED_MIN));
            asked.iter().for_each(|unit| series.remember(unit, second(round)));
            seen.extend(times(&asked));
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..12).collect::<Vec<i64>>());
        // More are asked for as far as there is time.
        assert_eq!(series.choose(units(&names), 6).0.len(), 6);
        assert_eq!(series.choose(units(&names), 100).1.len(), 0);
    }

    #[test]
    fn each_series_has_a_sample_asked_for_before_any_has_two() {
        let (series, now) = (RefusedSeries::default(), Instant::now());
        refuse(&series, &["a", "b", "a", "b"], now);
        let chosen = |affordable| {
            let (asked, rest) = series.choose(units(&["a", "a", "b", "a", "b"]), affordable);
            (times(&asked), times(&rest))
        };
        // Of all that are few, one each in any case.
        assert_eq!(chosen(0), (vec![0, 2], vec![1, 3, 4]));
        assert_eq!(chosen(3), (vec![0, 1, 2], vec![3, 4]));
        assert_eq!(chosen(4), (vec![0, 1, 2, 4], vec![3]));
        assert_eq!(chosen(5), (vec![0, 1, 2, 3, 4], vec![]));
    }

    #[test]
    fn no_more_series_are_known_than_there_is_room_for() {
        let (series, begun) = (RefusedSeries::default(), Instant::now());
        for at in 0..=SERIES_MAX {
            refuse(&series, &[&format!("s{at}")], begun);
        }
        assert_eq!(series.lock().series.len(), SERIES_MAX);
        let last = format!("s{SERIES_MAX}");
        assert_eq!(series.sort(units(&[&last]), begun).unknown.len(), 1);
        // Those that nobody has seen for long make room.
        series.sort(units(&["s0", "s1"]), begun + UNSEEN_MAX);
        refuse(&series, &[&last], begun + UNSEEN_MAX);
        assert_eq!(series.lock().series.len(), 3);
    }
}
