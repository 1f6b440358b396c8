//! What happens while members stay: weights that wobble and drift, targets that come and go.

use super::*;
use crate::placement::weight::settle;

/// The most that a scraper may carry before drift moves targets: 1.3 times the mean, or the mean and its
/// heaviest target.
fn limits(placement: &Placement, scrapers: usize) -> Vec<f64> {
    let mean = placement.weights.iter().sum::<f64>() / scrapers as f64;
    heaviest(placement, scrapers).into_iter().map(|heaviest| (1.3 * mean).max(mean + heaviest)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn weights_that_wobble_by_a_quarter_move_nothing(
        targets in targets(0..400), scrapers in 1..40_usize, wobble in vec(0.75..=1.25, 400),
    ) {
        let scrapers = names(scrapers);
        let placed = fresh(&targets, &scrapers);
        let wobbled: Targets =
            targets.iter().zip(&placed.weights).zip(&wobble).map(|((t, weight), by)| (t.0, weight * by)).collect();
        prop_assert_eq!(&placed, &again(&wobbled, &scrapers, &placed.by_key(&targets), &scrapers));
    }

    #[test]
    fn drift_moves_only_what_brings_a_load_back_under_the_band(
        targets in targets(0..400), scrapers in 1..20_usize,
        drift in vec(prop_oneof![4 => Just(1.0), 1 => 0.01..0.5, 1 => 2.0..20.0], 400),
    ) {
        let names = names(scrapers);
        let before = fresh(&targets, &names);
        let drifted: Targets =
            targets.iter().zip(&before.weights).zip(&drift).map(|((t, weight), by)| (t.0, weight * by)).collect();
        let after = again(&drifted, &names, &before.by_key(&targets), &names);
        let unmoved = Placement { owners: before.owners.clone(), weights: after.weights.clone() };
        let (was, limits) = (loads(&unmoved, scrapers), limits(&unmoved, scrapers));
        let mut lightest_moved = vec![f64::INFINITY; scrapers];
        for ((&from, &to), &weight) in before.owners.iter().zip(&after.owners).zip(&after.weights) {
            if from != to {
                prop_assert!(was[from as usize] > limits[from as usize] * (1.0 - 1e-9), "{from} was not over");
                lightest_moved[from as usize] = lightest_moved[from as usize].min(weight);
            }
        }
        let now = loads(&after, scrapers);
        let limits_now = self::limits(&after, scrapers);
        for scraper in 0..scrapers {
            prop_assert!(now[scraper] <= slack(limits_now[scraper]), "{scraper}: {} of {}", now[scraper], limits_now[scraper]);
            let with_one_back = now[scraper] + lightest_moved[scraper];
            prop_assert!(slack(with_one_back) > limits[scraper], "{scraper}: one move too many");
        }
    }

    #[test]
    fn a_placer_comes_to_the_same_owners_as_placing_everything(
        steps in vec(step(), 1..12), turn in any::<u64>(),
    ) {
        let options = PlacementOptions::default();
        let mut placer = Placer::new(&options);
        let (mut weights, mut scrapers) = (HashMap::new(), Vec::new());
        for step in steps {
            let before = state(&placer, &weights);
            let old_scrapers = scrapers.clone();
            let step = if let Step::Thin(spared) = step { thin(&before, &scrapers, spared) } else { step };
            let reported = match step {
                Step::Thin(_) => Vec::new(),
                Step::Scrapers(range) => {
                    scrapers = names(range.end).split_off(range.start);
                    placer.set_scrapers(&scrapers)
                }
                Step::Keys(changes) => {
                    for change in &changes {
                        match *change {
                            Change::Set(key, weight) => weights.insert(key, weight),
                            Change::Remove(key) => weights.remove(&key),
                        };
                    }
                    placer.apply(&changes)
                }
            };
            let mut targets: Targets = weights.iter().map(|(&key, &weight)| (key, weight)).collect();
            targets.sort_by_key(|target| target.0.0 ^ turn);
            let held = |key| {
                let (owner, weight) = before.get(&key)?;
                Some(Held { scraper: old_scrapers.iter().position(|name| Some(name) == owner.as_ref())?, weight: *weight })
            };
            let previous = Previous { scrapers: &old_scrapers, held: &held };
            let placed = place(&targets, &scrapers, Some(&previous), &options);
            let mut moved = 0;
            for (at, &(key, _)) in targets.iter().enumerate() {
                let owner = placed.owners.get(at).map(|&owner| scrapers[owner as usize].as_str());
                prop_assert_eq!(placer.owner(key).map(|name| &**name), owner);
                if owner.is_some() {
                    prop_assert_eq!(placer.weight(key), placed.weights.get(at).copied());
                }
                // A move is reported of every key that has another owner, and of none else.
                let from = before.get(&key).and_then(|held| held.0.as_deref());
                let from_living = from.filter(|from| scrapers.iter().any(|name| name == from));
                if let Some(owner) = owner.filter(|_| owner != from) {
                    let report = reported.iter().find(|report| report.key == key);
                    prop_assert!(report.is_some_and(|report| *report.to == *owner), "{key:?} {report:?}");
                    prop_assert_eq!(report.and_then(|report| report.from.as_deref()), from_living);
                    moved += 1;
                }
            }
            prop_assert_eq!(reported.len(), moved);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Scrapers(std::ops::Range<usize>),
    /// Most keys go, but for those of one scraper.
    Thin(usize),
    Keys(Vec<Change>),
}

fn step() -> impl Strategy<Value = Step> {
    let change = prop_oneof![
        3 => (0..150_u64, 0.0..100.0).prop_map(|(n, weight)| Change::Set(key(n), weight)),
        1 => (0..150_u64).prop_map(|n| Change::Remove(key(n))),
    ];
    prop_oneof![
        1 => (0..4_usize, 0..12_usize).prop_map(|(start, more)| Step::Scrapers(start..start + more)),
        1 => (0..12_usize).prop_map(Step::Thin),
        3 => vec(change, 0..80).prop_map(Step::Keys),
    ]
}

fn thin(before: &HashMap<TargetKey, (Option<String>, f64)>, scrapers: &[String], spared: usize) -> Step {
    let goes = |(key, held): (&TargetKey, &(Option<String>, f64))| {
        let stays = key.0 % 4 == 0 || held.0.as_ref() == scrapers.get(spared % scrapers.len().max(1));
        (!stays).then_some(Change::Remove(*key))
    };
    Step::Keys(before.iter().filter_map(goes).collect())
}

/// What a placer holds: owner and weight in force of every key.
fn state(placer: &Placer, weights: &HashMap<TargetKey, f64>) -> HashMap<TargetKey, (Option<String>, f64)> {
    let held = |&key| (key, (placer.owner(key).map(ToString::to_string), placer.weight(key).unwrap_or(0.0)));
    weights.keys().map(held).collect()
}

fn drifting(options: &PlacementOptions) -> usize {
    let (mut targets, scrapers) = (typical(1_000, false), names(10));
    let before = fresh(&targets, &scrapers);
    let held = before.by_key(&targets);
    for (target, _) in targets.iter_mut().zip(&before.owners).filter(|(_, owner)| **owner == 3) {
        target.1 = 2.0;
    }
    let previous = Previous { scrapers: &scrapers, held: &|key| held.get(&key).copied() };
    let after = place(&targets, &scrapers, Some(&previous), options);
    moves((&scrapers, &before), (&scrapers, &after))
}

#[test]
fn moves_for_drift_can_be_limited_and_switched_off() {
    // 200 on one, 1,100 in all: the band is 143, and the moved ones weigh 2.
    assert_eq!(drifting(&PlacementOptions::default()), 29);
    assert_eq!(drifting(&PlacementOptions { drift_moves_max: 10, ..PlacementOptions::default() }), 10);
    assert_eq!(drifting(&PlacementOptions { drift_moves_max: 0, ..PlacementOptions::default() }), 0);
    assert_eq!(drifting(&PlacementOptions { band: 2.0, ..PlacementOptions::default() }), 0);
}

/// The weights of those that move for drift alone among three scrapers.
fn moved_for_drift(held: &[(f64, usize)], options: &PlacementOptions) -> Vec<f64> {
    let scrapers = names(3);
    let targets: Targets = (0..).zip(held).map(|(n, (weight, _))| (key(n), *weight)).collect();
    let by_key: HashMap<_, _> =
        targets.iter().zip(held).map(|(t, &(weight, scraper))| (t.0, Held { scraper, weight })).collect();
    let previous = Previous { scrapers: &scrapers, held: &|key| by_key.get(&key).copied() };
    let after = place(&targets, &scrapers, Some(&previous), options);
    let moved = held.iter().zip(&after.owners).filter(|((_, before), after)| *before != **after as usize);
    moved.map(|((weight, _), _)| *weight).collect()
}

#[test]
fn where_few_may_move_for_drift_those_are_the_heavy_ones() {
    // The others have 18 each, so that a weight of 41 fits nowhere under their cap, and one of 0.1 does.
    let held = [vec![(41.0, 0); 10], vec![(0.1, 0); 10], vec![(0.9, 1); 20], vec![(0.9, 2); 20]].concat();
    for drift_moves_max in [1, 2] {
        let options = PlacementOptions { drift_moves_max, ..PlacementOptions::default() };
        assert_eq!(moved_for_drift(&held, &options), vec![41.0; drift_moves_max]);
    }
}

#[test]
fn a_few_heavy_ones_move_for_drift_where_many_light_ones_would_do() {
    // The first has 354.7, and the band is 348.7: one of 41 brings it there, as do 60 of 0.1, for which there is room under the caps.
    let held = [vec![(41.0, 0); 8], vec![(0.1, 0); 267], vec![(0.9, 1); 250], vec![(0.9, 2); 250]].concat();
    assert_eq!(moved_for_drift(&held, &PlacementOptions::default()), [41.0]);
}

#[test]
fn one_heavier_move_takes_back_the_lighter_ones_before_it() {
    // The mean is 20, so the first of three may have 26 of its 30. The others are near their cap of 15.4, which
    // lets the 0.8 go; that is not enough, and the 4.2 that goes then would have been enough alone.
    let scrapers = names(3);
    let held = [(5.0, 0), (5.0, 0), (5.0, 0), (5.0, 0), (5.0, 0), (4.2, 0), (0.8, 0), (14.0, 1), (16.0, 2)];
    let targets: Targets = (0..).zip(held).map(|(n, (weight, _))| (key(n), weight)).collect();
    let held_by_key: HashMap<_, _> =
        targets.iter().zip(held).map(|(t, (weight, scraper))| (t.0, Held { scraper, weight })).collect();
    let placed = again(&targets, &scrapers, &held_by_key, &scrapers);
    assert_eq!(placed.owners, [0, 0, 0, 0, 0, 1, 0, 1, 2]);
}

/// Owners after one more call, and after another, of targets that were placed by hand.
fn twice(held: &[(f64, usize)], old: usize, new: usize) -> (Vec<u32>, Vec<u32>) {
    let targets: Targets = (0..).zip(held).map(|(n, &(weight, _))| (key(n), weight)).collect();
    let by_key =
        |&(key, _): &(TargetKey, f64), &(weight, scraper): &(f64, usize)| (key, Held { scraper, weight });
    let held = targets.iter().zip(held).map(|(target, held)| by_key(target, held)).collect();
    let first = again(&targets, &names(new), &held, &names(old));
    let second = again(&targets, &names(new), &first.by_key(&targets), &names(new));
    (first.owners, second.owners)
}

#[test]
fn the_heaviest_target_stays_as_it_is_why_the_load_may_be_above_the_band() {
    // The mean is 19, so the first of four may have 19 + 10. Without the 10 it might have 24.7 only.
    let mut held = vec![(10.0, 0)];
    held.extend([(1.0, 0); 30]);
    held.extend((0..36).map(|n| (1.0, 1 + n % 3)));
    let (first, second) = twice(&held, 4, 4);
    assert_eq!(first[0], 0);
    assert_eq!(first[1..31].iter().filter(|&&owner| owner != 0).count(), 11);
    assert_eq!(first, second);
}

#[test]
fn a_scraper_over_its_share_keeps_what_nobody_has_room_for() {
    // The third of three has left. 13 is over 1.05 x 12, but not over the bound of 12 + 5; with the 3, the other
    // one would have more than that.
    let mut held = vec![(5.0, 0), (5.0, 0), (3.0, 0), (11.0, 1)];
    held.extend([(0.0001, 1); 60]);
    let (first, _) = twice(&held, 3, 2);
    assert_eq!(first[..4], [0, 0, 0, 1]);
}

#[test]
fn new_and_vanished_targets_move_no_other() {
    let scrapers = names(10);
    let targets = typical(2_000, false);
    let placed = fresh(&targets, &scrapers);
    let mut later = targets.clone();
    later.drain(..150);
    later.extend((5_000..5_300).map(|n| (key(n), 1.0)));
    let after = again(&later, &scrapers, &placed.by_key(&targets), &scrapers).by_key(&later);
    let before = placed.by_key(&targets);
    for (key, _) in later.iter().filter(|(key, _)| before.contains_key(key)) {
        assert_eq!(before[key].scraper, after[key].scraper);
    }
}

#[test]
fn a_change_of_members_brings_the_measured_weights_into_force() {
    let mut targets = typical(100, false);
    let (three, four) = (names(3), names(4));
    let placed = fresh(&targets, &three);
    targets[5].1 = 1.2;
    let held = placed.by_key(&targets);
    assert_eq!(again(&targets, &three, &held, &three).weights[5], 1.0, "a wobble");
    assert_eq!(again(&targets, &four, &held, &three).weights[5], 1.2);
}

#[test]
fn a_resumed_placer_goes_on_where_the_other_one_stopped() {
    let options = PlacementOptions::default();
    let (scrapers, targets) = (names(5), typical(500, true));
    let changes: Vec<Change> = targets.iter().map(|&(key, weight)| Change::Set(key, weight)).collect();
    let mut first = Placer::new(&options);
    first.set_scrapers(&scrapers);
    first.apply(&changes);
    let held = |&(key, _): &(TargetKey, f64)| Some((key, first.weight(key)?, first.owner(key)?.clone()));
    let mut second = Placer::resume(&options, &scrapers, targets.iter().filter_map(held));
    assert_eq!(second.loads(), first.loads());
    assert_eq!(second.apply(&changes), []);
    // Of a scraper that has gone meanwhile, the targets get another owner at the first change.
    let mut third = Placer::resume(&options, &scrapers[1..], targets.iter().filter_map(held));
    let orphans =
        targets.iter().filter(|target| first.owner(target.0).is_some_and(|name| **name == *scrapers[0]));
    assert_eq!(third.apply(&[]).len(), orphans.count());
    assert!(targets.iter().all(|target| third.owner(target.0).is_some()));
}

#[test]
fn a_weight_in_force_changes_only_past_a_quarter() {
    assert_eq!(settle(1_000_000, 1_250_000), 1_000_000);
    assert_eq!(settle(1_000_000, 1_250_002), 1_250_002);
}
