//! What is known of refused series, and what follows from it.

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
    for unit in units(names) {
        series.remember(&unit, false, now);
    }
}

/// As a lane sorts, where nothing lies aside.
fn sort(series: &RefusedSeries, names: &[&str], now: Instant) -> [Vec<i64>; 3] {
    sort_while(series, names, now, false)
}

fn sort_while(series: &RefusedSeries, names: &[&str], now: Instant, waits: bool) -> [Vec<i64>; 3] {
    let sorted = series.sort(units(names), now, |_| waits);
    [times(&sorted.unknown), times(&sorted.once), times(&sorted.again)]
}

const PLACE: Aside = (LaneId { set: 2, index: 0 }, 1);

#[test]
fn series_are_sorted_by_how_often_they_were_refused_in_a_row() {
    let (series, now) = (RefusedSeries::default(), Instant::now());
    let names = ["a", "b", "c", "a", "b", "c"];
    assert_eq!(sort(&series, &names, now)[0], [0, 1, 2, 3, 4, 5]);
    refuse(&series, &["b", "c", "c"], now);
    assert_eq!(sort(&series, &names, now), [[0, 3], [1, 4], [2, 5]]);
    let aside = series.sort_aside(units(&names), now);
    assert_eq!([times(&aside.unknown), times(&aside.once), times(&aside.again)], [[0, 3], [1, 4], [2, 5]]);
    series.forget(&units(&["b", "c"]), now);
    refuse(&series, &["c"], now);
    assert_eq!(sort(&series, &names, now), [vec![0, 1, 3, 4], vec![2, 5], vec![]]);
}

#[test]
fn what_follows_of_a_series_goes_aside_as_long_as_older_samples_wait_there() {
    let (series, begun) = (RefusedSeries::default(), Instant::now());
    refuse(&series, &["a", "a", "b", "b"], begun);
    series.put_aside(&units(&["a", "b"]), PLACE, begun);
    series.forget(&units(&["a", "a"]), begun);
    let names = ["a", "b", "c", "a"];
    assert_eq!(sort_while(&series, &names, begun, true), [vec![2], vec![], vec![0, 1, 3]]);
    // Aside it is taken with others.
    assert_eq!(times(&series.sort_aside(units(&names), begun).unknown), [0, 2, 3]);
    // However long it takes, until that is sent ahead.
    assert!(series.wants_sweep(PLACE.0) && !series.wants_sweep(PLACE.0));
    let a = series.is_to_sweep(&units(&["a"])[0], PLACE, begun).unwrap();
    assert_eq!(series.is_to_sweep(&units(&["b"])[0], PLACE, begun), None, "it is refused still");
    assert!(series.swept(a, PLACE));
    assert_eq!(sort_while(&series, &names, begun, true), [vec![0, 2, 3], vec![], vec![1]]);
    assert_eq!(times(&series.unsent(units(&names), PLACE)), [1, 2]);
    assert_eq!(times(&series.unsent(units(&names), (PLACE.0, PLACE.1 + 1))), [0, 1, 2, 3]);
    // What is refused still is so, whatever waits.
    assert_eq!(sort_while(&series, &names, begun, false), [vec![0, 2, 3], vec![], vec![1]]);
    series.forget(&units(&["b"]), begun);
    assert_eq!(sort_while(&series, &["b"], begun, false)[0], [0]);
    assert!(series.is_empty());
}

#[test]
fn a_series_that_is_refused_for_its_times_is_asked_for_in_its_lane_again_if_nobody_asks_aside() {
    let (series, begun) = (RefusedSeries::default(), Instant::now());
    let unit = &units(&["a"])[0];
    series.remember_late_aside(unit, begun);
    assert!(series.is_empty(), "aside it may have been overtaken");
    assert!(!series.remember_late(unit, begun) && series.remember_late(unit, begun));
    series.put_aside(&units(&["a"]), PLACE, begun);
    let later = begun + LATE_MAX / 2;
    series.remember_late_aside(unit, later);
    assert_eq!(sort_while(&series, &["a"], begun + LATE_MAX, true)[2], [0]);
    let long = later + LATE_MAX;
    assert_eq!(sort_while(&series, &["a", "a"], long, true), [vec![], vec![0, 1], vec![]]);
    assert!(series.is_in_doubt(long) && series.remember_late(unit, long));
    assert_eq!(sort_while(&series, &["a"], long, false)[2], [0]);
    // One that is refused for what it is waits for its turn.
    refuse(&series, &["b", "b"], begun);
    assert_eq!(sort_while(&series, &["b"], long, true)[2], [0]);
}

#[test]
fn a_series_is_asked_for_in_its_lane_now_and_then_while_what_lies_aside_of_it_is_refused_for_its_times() {
    let (series, begun) = (RefusedSeries::default(), Instant::now());
    let a = &units(&["a"])[0];
    refuse(&series, &["a", "a"], begun);
    series.put_aside(&units(&["a"]), PLACE, begun);
    series.remember_late_aside(a, begun);
    // What lies behind it may be taken yet, if something else is the cause of it.
    series.remember(a, true, begun + LATE_MAX / 2);
    let mut now = begun + LATE_MAX;
    assert_eq!(sort_while(&series, &["a"], now, true)[2], [0]);
    // Asked for again and again, it is refused for its times.
    series.remember_late_aside(a, now);
    series.remember_late_aside(a, now + LATE_MAX / 2);
    assert_eq!(sort_while(&series, &["a"], now + LATE_MAX / 2, true)[2], [0]);
    now += LATE_MAX;
    assert_eq!(sort_while(&series, &["a", "a"], now, true), [vec![], vec![0, 1], vec![]]);
    // Refused, it goes aside as before, also should it be taken there after all.
    assert!(series.remember(a, false, now));
    series.remember_late_aside(a, now + LATE_MAX / 2);
    assert_eq!(sort_while(&series, &["a"], now + LATE_MAX / 2, true)[2], [0]);
    series.forget(&units(&["a"]), now);
    assert_eq!(sort_while(&series, &["a"], now + LATE_MAX, true)[2], [0]);
    assert!(series.is_to_sweep(a, PLACE, now).is_some());
    // Taken, it is known no more, whatever becomes of what lies aside.
    series.remember_swept(a, true, now);
    series.remember_late_aside(a, now);
    now += LATE_MAX;
    assert_eq!(sort_while(&series, &["a"], now, true)[1], [0]);
    series.forget(&units(&["a"]), now);
    series.remember_late_aside(a, now);
    assert!(series.is_empty() && !series.is_in_doubt(now));
}

/// Times of those of these samples that are sent ahead.
fn to_sweep(series: &RefusedSeries, names: &[&str], now: Instant) -> Vec<i64> {
    let units = units(names).into_iter();
    times(&units.filter(|unit| series.is_to_sweep(unit, PLACE, now).is_some()).collect::<Vec<_>>())
}

#[test]
fn samples_that_are_newer_than_what_has_overtaken_a_series_are_sent_ahead_of_the_others() {
    let (series, begun) = (RefusedSeries::begun(3, Duration::ZERO), Instant::now());
    let names = ["a", "a", "a", "a", "a"];
    let hash = units(&["a"])[0].series_hash().unwrap();
    let overtake = |refused_ms, now_ms| {
        series.remember_late_series(hash, begun);
        series.note_overtaken(hash, refused_ms, now_ms, begun);
    };
    let to_sweep = || to_sweep(&series, &names, begun);
    // It is of an earlier process, and so is what comes before this one began.
    overtake(0, 90);
    overtake(1, 90);
    series.put_aside(&units(&["a"]), PLACE, begun);
    // Before, some record was looked through for it.
    assert!(series.swept(hash, (PLACE.0, PLACE.1 - 1)));
    assert!(!series.wants_sweep(PLACE.0));
    assert_eq!(sort_while(&series, &names, begun, true)[2], [0, 1, 2, 3, 4], "they wait for that");
    assert!(series.wants_sweep(PLACE.0));
    assert_eq!(to_sweep(), [3, 4]);
    // Taken, what follows goes its normal way, and the others have their turn, one by one.
    series.taken_ahead([hash], begun);
    assert!(!series.swept(hash, PLACE));
    assert!(to_sweep().is_empty());
    assert_eq!(times(&series.unsent(units(&names), PLACE)), [0, 1, 2]);
    assert!(series.unsent(units(&names), (PLACE.0, PLACE.1 - 1)).is_empty());
    assert_eq!(times(&series.sort_aside(units(&names[..3]), begun).again), [0, 1, 2]);
    assert_eq!(sort_while(&series, &["a"], begun, true)[0], [0]);
    // Overtaken once more, it waits.
    overtake(4, 4);
    overtake(4, 4);
    series.put_aside(&units(&["a"]), (PLACE.0, PLACE.1 + 1), begun);
    assert_eq!(sort_while(&series, &names, begun, true)[2], [0, 1, 2, 3, 4]);
    let next = (PLACE.0, PLACE.1 + 1);
    assert!(units(&names).iter().all(|unit| series.is_to_sweep(unit, next, begun).is_none()));
    series.forget(&units(&["a"]), begun);
    assert_eq!(sort_while(&series, &["a"], begun, false)[0], [0]);
    assert!(series.is_empty());
}

#[test]
fn what_was_sent_ahead_is_not_sent_again_when_the_series_is_overtaken_once_more() {
    let (series, begun) = (RefusedSeries::begun(0, Duration::ZERO), Instant::now());
    let names = ["a", "a", "a", "a", "a"];
    let hash = units(&["a"])[0].series_hash().unwrap();
    let overtake = |refused_ms, now_ms, now| {
        for _ in 0..REFUSED_MAX {
            series.remember_late_series(hash, now);
        }
        series.note_overtaken(hash, refused_ms, now_ms, now);
    };
    let to_sweep = |place, now| {
        let units = units(&names).into_iter();
        times(&units.filter(|unit| series.is_to_sweep(unit, place, now).is_some()).collect::<Vec<_>>())
    };
    let unsent = |place| times(&series.unsent(units(&names), place));
    overtake(0, 2, begun);
    series.put_aside(&units(&["a"]), PLACE, begun);
    assert_eq!(to_sweep(PLACE, begun), [2, 3, 4]);
    series.taken_ahead([hash], begun);
    assert!(!series.swept(hash, PLACE));
    // What was overtaken then still has its turns.
    let (next, later) = ((PLACE.0, PLACE.1 + 1), begun + LATE_MAX);
    overtake(3, 4, later);
    series.put_aside(&units(&["a"]), next, later);
    assert_eq!(to_sweep(next, later), [4]);
    assert_eq!(unsent(PLACE), [0, 1]);
    series.taken_ahead([hash], later);
    assert!(!series.swept(hash, next));
    assert_eq!((unsent(PLACE), unsent(next)), (vec![0, 1], vec![0, 1, 2, 3]));
}

#[test]
fn what_may_be_taken_yet_has_its_turns_before_anything_newer_is_sent_ahead() {
    let (series, begun) = (RefusedSeries::begun(0, Duration::from_secs(60)), Instant::now());
    let (names, hash) = (["a", "a", "a", "a"], units(&["a"])[0].series_hash().unwrap());
    let after = |secs| begun + Duration::from_secs(secs);
    let to_sweep = |now| to_sweep(&series, &names, now);
    let sort_aside = |now| {
        let sorted = series.sort_aside(units(&names), now);
        [times(&sorted.again), times(&sorted.overtaken)]
    };
    let overtake = |refused_ms, now_ms, now| {
        series.remember_late_series(hash, now);
        series.note_overtaken(hash, refused_ms, now_ms, now);
    };
    overtake(0, 2, begun);
    overtake(1, 2, after(1));
    series.put_aside(&units(&["a"]), PLACE, begun);
    assert_eq!(sort_aside(after(59)), [vec![], vec![0, 1, 2, 3]]);
    assert!(to_sweep(after(59)).is_empty());
    sort_while(&series, &names, after(59), true);
    assert!(!series.wants_sweep(PLACE.0));
    // What is newer is refused as well: that does not make the wait longer.
    overtake(2, 3, after(59));
    assert_eq!(sort_aside(after(60)), [vec![0, 1, 2, 3], vec![]]);
    assert!(series.wants_sweep(PLACE.0));
    assert_eq!(to_sweep(after(60)), [3]);
    // Once one is taken, it is over, and the next time there is a wait as the first time.
    series.forget(&units(&["a"]), after(60));
    overtake(0, 2, after(61));
    overtake(1, 2, after(61));
    assert_eq!(sort_aside(after(120)), [vec![], vec![0, 1, 2, 3]]);
}

#[test]
fn of_series_that_are_asked_for_in_their_lanes_again_there_are_only_some_at_once() {
    let (series, begun) = (RefusedSeries::default(), Instant::now());
    let names: Vec<String> = (0..100).map(|at| format!("s{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for unit in units(&names) {
        series.remember_late(&unit, begun);
        series.remember_late(&unit, begun);
    }
    let asked = |after| {
        let [_, once, again] = sort_while(&series, &names, begun + LATE_MAX + after, true);
        assert_eq!(once.len() + again.len(), 100);
        for at in &once {
            series.remember_late(&units(&names)[*at as usize], begun + LATE_MAX);
        }
        once.len()
    };
    assert_eq!([asked(Duration::ZERO), asked(PROBE_PAUSE), asked(PROBES_AHEAD)], [40, 1, 39]);
    assert_eq!(asked(PROBES_AHEAD * 2), 20, "the others were asked for");
}

#[test]
fn all_of_a_series_in_a_request_goes_one_way_though_the_last_of_it_aside_is_sent_meanwhile() {
    let (series, now) = (RefusedSeries::default(), Instant::now());
    series.put_aside(&units(&["a"]), PLACE, now);
    let asked = std::cell::Cell::new(0);
    let sorted = series.sort(units(&["a", "a", "b", "a"]), now, |place| {
        assert_eq!(place, PLACE);
        asked.replace(asked.get() + 1) == 0
    });
    assert_eq!((times(&sorted.again), times(&sorted.unknown)), (vec![0, 1, 3], vec![2]));
}

#[test]
fn a_series_is_in_doubt_until_it_is_refused_again_or_taken_or_some_time_is_over() {
    let (series, begun) = (RefusedSeries::default(), Instant::now());
    assert!(!series.is_in_doubt(begun) && series.is_empty());
    refuse(&series, &["a", "b"], begun);
    assert!(series.is_in_doubt(begun));
    refuse(&series, &["a"], begun);
    assert!(series.is_in_doubt(begun), "b is");
    series.forget(&units(&["b", "c"]), begun);
    assert!(!series.is_in_doubt(begun));
    refuse(&series, &["b"], begun);
    assert!(series.is_in_doubt(begun));
    assert!(!series.is_in_doubt(begun + DOUBT_MAX), "it may have ended");
    series.remember(&units(&["b"])[0], true, begun);
    series.remember(&units(&["d"])[0], true, begun);
    assert!(!series.is_in_doubt(begun), "what is refused aside is no news");
    assert_eq!(sort(&series, &["b", "d"], begun)[2], [0, 1]);
    series.forget(&units(&["a", "a"]), begun);
    assert!(series.has_any_of(&units(&["a", "b"])) && !series.has_any_of(&units(&["a", "c"])));
}

#[test]
fn who_was_not_seen_again_gives_its_place_up_where_there_is_none_left() {
    let (series, begun) = (RefusedSeries::default(), Instant::now());
    let after = |secs| begun + Duration::from_secs(secs);
    let known = |name: &str, now| sort(&series, &[name], now)[0].is_empty();
    for at in 0..SERIES_MAX {
        refuse(&series, &[&format!("s{at}")], begun);
    }
    assert!(known("s0", after(1)) && known("s2", after(1)));
    refuse(&series, &["new"], after(2));
    assert_eq!(series.lock().series.len(), SERIES_MAX);
    assert!(known("new", after(3)) && known("s0", after(3)) && known("s2", after(3)));
    assert!(!known("s1", after(3)), "the first that nobody has seen");
    assert_eq!(series.lock().once, SERIES_MAX);
    // Where all were seen again, nothing is known of a new one for now, and its samples go aside all the same.
    for at in 0..SERIES_MAX {
        let name = format!("s{at}");
        assert_eq!(known(&name, after(4)), at != 1);
    }
    refuse(&series, &["newest"], after(5));
    assert!(!known("newest", after(6)));
    series.suspect(&units(&["newest"]), after(6));
    assert!(!known("newest", after(6)) && series.is_in_doubt(after(6)));
    assert_eq!(series.lock().series.len(), SERIES_MAX);
}

#[test]
fn the_line_does_not_grow_with_series_that_come_to_be_known_again_and_again() {
    let (series, begun) = (RefusedSeries::default(), Instant::now());
    let a = units(&["a"]);
    for _ in 0..=2 * SERIES_MAX {
        series.remember(&a[0], false, begun);
        series.forget(&a, begun);
    }
    assert_eq!(series.lock().line.len(), 1);
}
