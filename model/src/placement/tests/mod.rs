//! The properties of the README, for arbitrary and for typical input.

mod change;
mod per_node;
mod whole;

use std::collections::HashMap;

use proptest::collection::{SizeRange, vec};
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

/// Equal weights, or Zipf's: the second target weighs half of the first, the third a third.
fn typical(count: u64, zipf: bool) -> Targets {
    let weight = |n: u64| if zipf { 1e6 / (n + 1) as f64 } else { 1.0 };
    (0..count).map(|n| (key(n), weight(n))).collect()
}

/// Targets of every kind: equal, skewed, wild, and without a weight.
fn targets(count: impl Into<SizeRange>) -> impl Strategy<Value = Targets> {
    let weight = prop_oneof![
        4 => Just(1.0),
        2 => (1_u32..2_000).prop_map(|rank| 1e5 / f64::from(rank)),
        2 => 0.001..1_000.0,
        1 => prop_oneof![Just(0.0), Just(1e12), Just(f64::NAN), Just(f64::INFINITY), Just(-5.0)],
    ];
    (any::<u32>(), vec(weight, count)).prop_map(|(seed, weights)| {
        (u64::from(seed)..).zip(weights).map(|(n, weight)| (key(n), weight)).collect()
    })
}

fn fresh(targets: &Targets, scrapers: &[String]) -> Placement {
    place(targets, scrapers, None, &PlacementOptions::default())
}

/// Places again, after `before` on the scrapers `old`.
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

/// Loads by scraper in samples a second.
fn loads(placement: &Placement, scrapers: usize) -> Vec<f64> {
    let mut loads = vec![0.0; scrapers];
    for (&owner, weight) in placement.owners.iter().zip(&placement.weights) {
        loads[owner as usize] += weight;
    }
    loads
}

/// What a load may be above a limit for the rounding of sums.
fn slack(limit: f64) -> f64 {
    limit * (1.0 + 1e-9) + 1e-5
}

/// The heaviest weight on each scraper.
fn heaviest(placement: &Placement, scrapers: usize) -> Vec<f64> {
    let mut heaviest = vec![0.0_f64; scrapers];
    for (&owner, &weight) in placement.owners.iter().zip(&placement.weights) {
        heaviest[owner as usize] = heaviest[owner as usize].max(weight);
    }
    heaviest
}

/// The bound as it is promised, for placements whose keys are all different.
fn within_bound(placement: &Placement, scrapers: usize) -> Result<(), TestCaseError> {
    let c = PlacementOptions::default().bound;
    prop_assert!(placement.owners.iter().all(|&owner| (owner as usize) < scrapers));
    let mean = placement.weights.iter().sum::<f64>() / scrapers as f64;
    let loads = loads(placement, scrapers);
    for (scraper, (load, heaviest)) in loads.into_iter().zip(heaviest(placement, scrapers)).enumerate() {
        let allowed = if heaviest <= 0.01 * mean { c * mean } else { (c * mean).max(mean + heaviest) };
        prop_assert!(load <= slack(allowed), "{scraper} has {load} of {allowed}, mean {mean}");
    }
    Ok(())
}
