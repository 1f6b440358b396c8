//! Placement by node: a target goes to a scraper on its own node. The README has the wanted properties.
//!
//! Each node that has scrapers is a fleet of its own, and all scrapers together are one more, for the targets that no
//! scraper is near to. Each fleet is placed by [`place`], so within it everything holds that holds there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Held, Placement, PlacementOptions, Previous, place};
use crate::target::TargetKey;

/// A target: its key, its measured weight in samples a second (NaN: unknown), and its node, where it has one.
pub type NodeTarget<'a> = (TargetKey, f64, Option<&'a str>);

/// A scraper: its name, and its node, where it is known.
pub type NodeScraper<'a> = (&'a str, Option<&'a str>);

/// Gives every target to a scraper on its node; those that have none there to any. Targets that share a key share the
/// owner: the least of their nodes counts that has a scraper.
///
/// `previous` is the placement before, by either strategy.
#[must_use]
pub fn place_per_node<S: AsRef<str>>(
    targets: &[NodeTarget<'_>],
    scrapers: &[NodeScraper<'_>],
    previous: Option<&Previous<'_, S>>,
    options: &PlacementOptions,
) -> Placement {
    if scrapers.is_empty() {
        return Placement::default();
    }
    let mut on_node: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (index, (_, node)) in (0_u32..).zip(scrapers) {
        if let Some(node) = node {
            on_node.entry(node).or_default().push(index);
        }
    }
    let homes = homes(targets, &on_node);
    let mut fleets: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
    for (index, (key, ..)) in targets.iter().enumerate() {
        fleets.entry(homes.get(key).copied()).or_default().push(index);
    }
    let everyone: Vec<u32> = (0_u32..).zip(scrapers).map(|(index, _)| index).collect();
    let mut placement = Placement { owners: vec![0; targets.len()], weights: vec![0.0; targets.len()] };
    let mut drift_moves_left = options.drift_moves_max;
    for (node, members) in fleets {
        let options = &PlacementOptions { drift_moves_max: drift_moves_left, ..*options };
        let fleet = node.and_then(|node| on_node.get(node)).unwrap_or(&everyone);
        let names: Vec<&str> = pick(scrapers, fleet).map(|(name, _)| *name).collect();
        let of_fleet: Vec<(TargetKey, f64)> =
            members.iter().filter_map(|&at| targets.get(at)).map(|&(key, weight, _)| (key, weight)).collect();
        let placed = match previous.map(|previous| Before::new(previous, &names, &of_fleet)) {
            None => place(&of_fleet, &names, None, options),
            Some(before) => {
                let held = |key| before.held.get(&key).copied();
                let previous = Previous { scrapers: &before.scrapers, held: &held };
                let placed = place(&of_fleet, &names, Some(&previous), options);
                // All fleets together have one allowance. A move that had to be counts as well, so that it is never more.
                let moved = before.moved(&of_fleet, &names, &placed);
                drift_moves_left = drift_moves_left.saturating_sub(moved);
                placed
            }
        };
        for ((&at, owner), weight) in members.iter().zip(placed.owners).zip(placed.weights) {
            let global = fleet.get(owner as usize).copied().unwrap_or_default();
            if let (Some(owner), Some(in_force)) =
                (placement.owners.get_mut(at), placement.weights.get_mut(at))
            {
                (*owner, *in_force) = (global, weight);
            }
        }
    }
    placement
}

/// The node by which each key is placed; a key that no scraper is near to is not in it.
fn homes<'a>(
    targets: &[NodeTarget<'a>],
    on_node: &BTreeMap<&'a str, Vec<u32>>,
) -> HashMap<TargetKey, &'a str> {
    let mut homes: HashMap<TargetKey, &'a str> = HashMap::new();
    for &(key, _, node) in targets {
        if let Some(node) = node.filter(|node| on_node.contains_key(node)) {
            homes.entry(key).and_modify(|home| *home = node.min(*home)).or_insert(node);
        }
    }
    homes
}

fn pick<'a, T>(all: &'a [T], indices: &'a [u32]) -> impl Iterator<Item = &'a T> {
    indices.iter().filter_map(|&index| all.get(index as usize))
}

/// The placement before as one fleet saw it: the scrapers that it has now or that held one of its keys. Thus a scraper
/// that joins or leaves elsewhere is no change of members here.
struct Before<'a> {
    scrapers: Vec<&'a str>,
    held: HashMap<TargetKey, Held>,
}

impl<'a> Before<'a> {
    fn new<S: AsRef<str>>(
        previous: &'a Previous<'_, S>,
        names: &[&str],
        targets: &[(TargetKey, f64)],
    ) -> Self {
        let here: BTreeSet<&str> = names.iter().copied().collect();
        let mut places: HashMap<usize, usize> = HashMap::new();
        let mut scrapers = Vec::new();
        for (index, scraper) in previous.scrapers.iter().enumerate() {
            if here.contains(scraper.as_ref()) {
                places.insert(index, scrapers.len());
                scrapers.push(scraper.as_ref());
            }
        }
        let mut held = HashMap::new();
        for &(key, _) in targets {
            let Some(before) = (previous.held)(key) else { continue };
            let Some(scraper) = previous.scrapers.get(before.scraper) else { continue };
            let place = *places.entry(before.scraper).or_insert_with(|| {
                scrapers.push(scraper.as_ref());
                scrapers.len() - 1
            });
            held.insert(key, Held { scraper: place, weight: before.weight });
        }
        Self { scrapers, held }
    }

    /// How many of these targets were elsewhere before.
    fn moved(&self, targets: &[(TargetKey, f64)], names: &[&str], placed: &Placement) -> usize {
        let mut moved = BTreeSet::new();
        for ((key, _), owner) in targets.iter().zip(&placed.owners) {
            let before = self.held.get(key).and_then(|held| self.scrapers.get(held.scraper));
            if before.is_some_and(|before| names.get(*owner as usize) != Some(before)) {
                moved.insert(*key);
            }
        }
        moved.len()
    }
}
