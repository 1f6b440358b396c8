//! The properties of the README, for arbitrary and for typical input.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::hash::hash64;

type Targets = Vec<(TargetKey, f64)>;

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("promring-scraper-{n}")).collect()
}

fn key(n: u64) -> TargetKey {
    TargetKey(hash64(&n.to_le_bytes()))
}

fn fresh(targets: &Targets, scrapers: &[String]) -> Placement {
    place(targets, scrapers, None, &PlacementOptions::default())
}

/// Places again, with what was placed before in mind.
fn again(
    targets: &Targets,
    scrapers: &[String],
    before: &HashMap<TargetKey, Held>,
    old: &[String],
) -> Placement {
    let previous = Previous { scrapers: old, held: &|key| before.get(&key).copied() };
    place(targets, scrapers, Some(&previous), &PlacementOptions::default())
}

/// How many targets have another owner.
fn moves(old: (&[String], &Placement), new: (&[String], &Placement)) -> usize {
    let pairs = old.1.owners.iter().zip(&new.1.owners);
    pairs.filter(|&(&a, &b)| old.0[a as usize] != new.0[b as usize]).count()
}

fn loads(placement: &Placement, weights: &[f64], scrapers: usize) -> Vec<f64> {
    let mut loads = vec![0.0; scrapers];
    for (&owner, weight) in placement.owners.iter().zip(weights) {
        loads[owner as usize] += weight;
    }
    loads
}

/// The bound as it is promised.
fn within_bound(placement: &Placement, scrapers: usize, c: f64) -> Result<(), TestCaseError> {
    let weights = &placement.weights;
    let mean = weights.iter().sum::<f64>() / scrapers as f64;
    let heaviest = weights.iter().copied().fold(0.0, f64::max);
    let allowed = if heaviest <= 0.01 * mean { c * mean } else { (c * mean).max(mean + heaviest) };
    for (scraper, load) in loads(placement, weights, scrapers).into_iter().enumerate() {
        prop_assert!(load <= allowed * (1.0 + 1e-9), "{scraper} has {load} of {allowed}, mean {mean}");
    }
    Ok(())
}

/// Weights of every kind: equal, skewed, wild, and none at all.
fn weights(count: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<f64>> {
    let weight = prop_oneof![
        4 => Just(1.0),
        2 => (1_u32..2_000).prop_map(|rank| 1e5 / f64::from(rank)),
        2 => 0.001..1_000.0,
        1 => prop_oneof![Just(0.0), Just(1e12), Just(f64::NAN), Just(f64::INFINITY), Just(-5.0)],
    ];
    vec(weight, count)
}

fn targets(count: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Targets> {
    (any::<u64>(), weights(count))
        .prop_map(|(seed, weights)| (seed..=u64::MAX).zip(weights).map(|(n, w)| (key(n), w)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_the_input_does_not_matter(targets in targets(0..300), scrapers in 1..20_usize, turn in 0..300_usize) {
        let scrapers = names(scrapers);
        let placed = fresh(&targets, &scrapers);
        let (mut turned, mut reversed) = (targets.clone(), scrapers.clone());
        turned.rotate_left(turn.min(targets.len()));
        turned.reverse();
        reversed.reverse();
        let other = fresh(&turned, &reversed).by_key(&turned);
        for (&(key, _), &owner) in targets.iter().zip(&placed.owners) {
            prop_assert_eq!(&scrapers[owner as usize], &reversed[other[&key].scraper]);
        }
    }

    #[test]
    fn any_membership_gives_every_target_an_owner_within_the_bound(
        targets in targets(0..400), sizes in vec(1..40_usize, 1..5),
    ) {
        let mut scrapers = names(sizes[0]);
        let mut placed = fresh(&targets, &scrapers);
        within_bound(&placed, scrapers.len(), 1.05)?;
        for (round, &size) in sizes.iter().enumerate() {
            // Some stay, some go, some come.
            let next: Vec<String> = names(size + round).split_off(round.min(size));
            let held = placed.by_key(&targets);
            placed = again(&targets, &next, &held, &scrapers);
            prop_assert!(placed.owners.iter().all(|&owner| (owner as usize) < next.len()));
            within_bound(&placed, next.len(), 1.05)?;
            scrapers = next;
        }
    }

    #[test]
    fn solving_twice_changes_nothing(targets in targets(0..400), sizes in vec(1..40_usize, 1..4)) {
        let mut scrapers = names(sizes[0]);
        let mut placed = fresh(&targets, &scrapers);
        for &size in &sizes {
            let next = names(size);
            placed = again(&targets, &next, &placed.by_key(&targets), &scrapers);
            prop_assert_eq!(&placed, &again(&targets, &next, &placed.by_key(&targets), &next));
            scrapers = next;
        }
    }
}

/// Equal weights, or Zipf's: the second target weighs half of the first, the third a third.
fn typical(count: u64, zipf: bool) -> Targets {
    let weight = |n: u64| if zipf { 1e6 / (n + 1) as f64 } else { 1.0 };
    (0..count).map(|n| (key(n), weight(n))).collect()
}

#[test]
fn a_new_scraper_takes_no_more_than_its_share_and_a_leaving_one_leaves_the_rest_alone() {
    for zipf in [false, true] {
        let targets = typical(10_000, zipf);
        let (ten, eleven) = (names(10), names(11));
        let before = fresh(&targets, &ten);
        let held = before.by_key(&targets);
        let joined = again(&targets, &eleven, &held, &ten);
        let moved = moves((&ten, &before), (&eleven, &joined));
        assert!(moved <= 10_000 * 115 / 1_100, "zipf {zipf}: {moved} moved");
        let newcomer = loads(&joined, &joined.weights, 11)[10];
        let mean = joined.weights.iter().sum::<f64>() / 11.0;
        assert!(newcomer > 0.95 * mean, "zipf {zipf}: the newcomer has {newcomer} of {mean}");
        for gone in 0..10 {
            let nine: Vec<String> = (0..10).filter(|&n| n != gone).map(|n| ten[n].clone()).collect();
            let left = again(&targets, &nine, &held, &ten);
            let own = before.owners.iter().filter(|&&owner| owner as usize == gone).count();
            let moved = moves((&ten, &before), (&nine, &left));
            assert!(moved <= own + 300, "zipf {zipf}: {moved} moved, {own} had to");
        }
    }
}
