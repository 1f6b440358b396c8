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

/// The last placement, by either strategy.
pub struct NodePrevious<'a> {
    /// The scrapers that there were, with the nodes that they were on. Where a node has the same ones as now, nothing of its
    /// own moves but for drift, whatever comes to it or leaves it.
    pub scrapers: &'a [NodeScraper<'a>],
    /// What was placed where. None for a key that was not there.
    pub held: &'a dyn Fn(TargetKey) -> Option<Held>,
}

/// Gives every target to a scraper on its node; those that have none there to any. Targets that share a key share the
/// owner: the least of their nodes counts that has a scraper.
#[must_use]
pub fn place_per_node(
    targets: &[NodeTarget<'_>],
    scrapers: &[NodeScraper<'_>],
    previous: Option<&NodePrevious<'_>>,
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
        let placed = match previous {
            None => place(&of_fleet, &names, None, options),
            Some(previous) => {
                let before = Before::new(previous, node, &names, &of_fleet);
                let held = |key| before.held.get(&key).copied();
                let of_before = Previous { scrapers: &before.scrapers, held: &held };
                let placed = place(&of_fleet, &names, Some(&of_before), options);
                // All fleets together have one allowance. A move that had to be counts as well, so that it is never more.
                let moved = moved(previous, &of_fleet, &names, &placed);
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

/// The placement before as one fleet saw it: those of its scrapers that it still has or that held one of its keys. Thus a
/// scraper that joins or leaves elsewhere is no change of members here, and neither is a key that comes from elsewhere:
/// that has no owner yet.
struct Before<'a> {
    scrapers: Vec<&'a str>,
    held: HashMap<TargetKey, Held>,
}

impl<'a> Before<'a> {
    /// As the scrapers `names` on `node` saw it, or, without one, all of them.
    fn new(
        previous: &'a NodePrevious<'_>,
        node: Option<&str>,
        names: &[&str],
        targets: &[(TargetKey, f64)],
    ) -> Self {
        let here: BTreeSet<&str> = names.iter().copied().collect();
        let was_here = |on: Option<&str>| node.is_none() || on == node;
        let mut places: HashMap<usize, usize> = HashMap::new();
        let mut scrapers = Vec::new();
        for (index, (scraper, on)) in previous.scrapers.iter().enumerate() {
            if was_here(*on) && here.contains(scraper) {
                places.insert(index, scrapers.len());
                scrapers.push(*scraper);
            }
        }
        let mut held = HashMap::new();
        for &(key, _) in targets {
            let Some(before) = (previous.held)(key) else { continue };
            let Some((scraper, on)) = previous.scrapers.get(before.scraper) else { continue };
            // One that has come to this node keeps what it had of it.
            if !was_here(*on) && !here.contains(scraper) {
                continue;
            }
            let place = *places.entry(before.scraper).or_insert_with(|| {
                scrapers.push(*scraper);
                scrapers.len() - 1
            });
            held.insert(key, Held { scraper: place, weight: before.weight });
        }
        Self { scrapers, held }
    }
}

/// How many of these targets were elsewhere before.
fn moved(
    previous: &NodePrevious<'_>,
    targets: &[(TargetKey, f64)],
    names: &[&str],
    placed: &Placement,
) -> usize {
    let mut moved = BTreeSet::new();
    for ((key, _), owner) in targets.iter().zip(&placed.owners) {
        let before = (previous.held)(*key).and_then(|held| previous.scrapers.get(held.scraper));
        if before.is_some_and(|(before, _)| names.get(*owner as usize) != Some(before)) {
            moved.insert(*key);
        }
    }
    moved.len()
}
