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

/// A series is asked for alone once in this time, as far as time allows.
const ASK_AGAIN: Duration = Duration::from_secs(300);

/// So many of a group are asked for alone in any case.
pub(super) const ASKED_MIN: usize = 4;

/// What is known of the series of one destination, for all its lanes.
#[derive(Debug, Default)]
pub(super) struct RefusedSeries(Mutex<HashMap<u64, Known>>);

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
        let mut known = self.lock();
        if let Some(known) = known.get_mut(&series) {
            *known = Known { again: true, asked: now, seen: now };
            return;
        }
        if known.len() >= SERIES_MAX {
            known.retain(|_, known| now.saturating_duration_since(known.seen) < UNSEEN_MAX);
        }
        if known.len() < SERIES_MAX {
            known.insert(series, Known { again: false, asked: now, seen: now });
        }
    }

    /// The receiver has taken these, or refused them for something else.
    pub(super) fn forget(&self, units: &[Unit]) {
        let mut known = self.lock();
        for series in units.iter().filter_map(series_of) {
            known.remove(&series);
        }
    }

    /// Sorts the units of a refused request.
    pub(super) fn sort(&self, units: Vec<Unit>, now: Instant) -> Sorted {
        let mut known = self.lock();
        if known.is_empty() {
            return Sorted { unknown: units, ..Sorted::default() };
        }
        let mut sorted = Sorted::default();
        for unit in units {
            let list = match unit.series_hash().and_then(|series| known.get_mut(&series)) {
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

    /// Whose turn it is to be asked for alone, one unit a series, and the rest: those asked for longest ago, at least
    /// [`ASKED_MIN`], and up to `more` if they were not for [`ASK_AGAIN`].
    pub(super) fn choose(&self, units: Vec<Unit>, more: usize, now: Instant) -> (Vec<Unit>, Vec<Unit>) {
        let mut turns = Vec::new();
        let mut firsts = HashSet::new();
        let known = self.lock();
        for (at, unit) in units.iter().enumerate() {
            if let Some(series) = unit.series_hash()
                && firsts.insert(series)
            {
                // What another lane has seen taken meanwhile goes first.
                turns.push((known.get(&series).map(|known| known.asked), at));
            }
        }
        drop(known);
        turns.sort_unstable();
        let is_due = |asked: Option<Instant>| {
            asked.is_none_or(|asked| now.saturating_duration_since(asked) >= ASK_AGAIN)
        };
        let due = turns.iter().take_while(|(asked, _)| is_due(*asked)).count();
        turns.truncate(due.min(more).max(ASKED_MIN));
        let chosen: HashSet<usize> = turns.into_iter().map(|(_, at)| at).collect();
        let (mut asked, mut rest) = (Vec::new(), Vec::new());
        for (at, unit) in units.into_iter().enumerate() {
            if chosen.contains(&at) { &mut asked } else { &mut rest }.push(unit);
        }
        (asked, rest)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Known>> {
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
    fn everybody_has_a_turn_and_who_waited_longest_is_first() {
        let (series, begun) = (RefusedSeries::default(), Instant::now());
        let names: Vec<String> = (0..12).map(|at| format!("s{at}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let second = |at: usize| begun + Duration::from_secs(at as u64);
        names.iter().for_each(|name| refuse(&series, &[name], begun));
        let mut seen = Vec::new();
        for round in 1..=3 {
            let (asked, rest) = series.choose(units(&names), 0, second(round));
            assert_eq!((asked.len(), rest.len()), (ASKED_MIN, 12 - ASKED_MIN));
            asked.iter().for_each(|unit| series.remember(unit, second(round)));
            seen.extend(times(&asked));
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..12).collect::<Vec<i64>>());
        // Who is due is asked beyond the fewest, as far as there is time.
        let later = second(1) + ASK_AGAIN;
        assert_eq!(series.choose(units(&names), 100, second(3)).0.len(), ASKED_MIN);
        series.remember(&units(&["s0"])[0], later);
        assert_eq!(series.choose(units(&names), 100, second(3) + ASK_AGAIN).0.len(), 11);
        assert_eq!(series.choose(units(&names), 6, second(3) + ASK_AGAIN).0.len(), 6);
        // One unit of each series, the first one.
        let (asked, rest) = series.choose(units(&["s1", "s1", "s2", "s1"]), 0, later);
        assert_eq!((times(&asked), times(&rest)), (vec![0, 2], vec![1, 3]));
    }

    #[test]
    fn no_more_series_are_known_than_there_is_room_for() {
        let (series, begun) = (RefusedSeries::default(), Instant::now());
        for at in 0..=SERIES_MAX {
            refuse(&series, &[&format!("s{at}")], begun);
        }
        assert_eq!(series.lock().len(), SERIES_MAX);
        let last = format!("s{SERIES_MAX}");
        assert_eq!(series.sort(units(&[&last]), begun).unknown.len(), 1);
        // Those that nobody has seen for long make room.
        series.sort(units(&["s0", "s1"]), begun + UNSEEN_MAX);
        refuse(&series, &[&last], begun + UNSEEN_MAX);
        assert_eq!(series.lock().len(), 3);
    }
}
