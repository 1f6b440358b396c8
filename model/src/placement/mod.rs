//! Placement: which scraper owns which target. The README beside this file has the wanted properties, how they
//! are come by, and figures.
//!
//! [`place_per_node`] lets a target's node decide first. Two doors to the same rooms: [`place`], a pure function over everything, and [`Placer`], which keeps the
//! books between changes so that one change costs no more than it moves. Both call the same code on the same
//! numbers and come to the same owners.
//!
//! Nothing here knows of hand-over, health or membership's grace periods: whoever calls says which scrapers
//! there are.

mod balance;
mod fleet;
mod per_node;
mod placer;
mod ring;
mod spread;
mod weight;

use std::collections::HashMap;
use std::sync::Arc;

use crate::target::TargetKey;

use fleet::{Entry, Fleet, NOBODY};
pub use per_node::{NodePrevious, NodeScraper, NodeTarget, place_per_node};
pub use placer::{Change, Move, Placer, ScraperLoad};
pub use spread::{Node, NodePlacer, Spread};
use weight::{Rules, WEIGHT_UNITS_MAX, samples, settle};
pub use weight::{WEIGHT_MAX, WEIGHT_MIN, WOBBLE_PERCENT};

/// How placement weighs evenness against moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlacementOptions {
    /// The bound c: after a fresh placement and every change of members, no scraper's load is above c times the
    /// mean, or above the mean plus its own heaviest key where that is more. At least 1.01; NaN and infinite
    /// values count as the default.
    pub bound: f64,
    /// Between changes of members, only a load above this many times the mean (or, again, above the mean plus
    /// the scraper's own heaviest key) moves targets. At least `bound`; NaN and infinite values count as the
    /// default.
    pub band: f64,
    /// The weight in samples a second of targets of which none is known, and of those whose weight is NaN,
    /// infinite or negative.
    pub weight_default: f64,
    /// The most keys that one call moves because of drift alone; 0 switches that off. Whoever wants a limit a
    /// minute hands in what is left of it. Where it cuts in, the next call goes on.
    pub drift_moves_max: usize,
}

impl Default for PlacementOptions {
    /// c 1.05, band 1.3, 100 samples a second (1,500 series every 15 s) for the unknown, no limit on moves.
    fn default() -> Self {
        Self { bound: 1.05, band: 1.3, weight_default: 100.0, drift_moves_max: usize::MAX }
    }
}

/// What is known of a key from the last placement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Held {
    /// Its owner, as an index into [`Previous::scrapers`].
    pub scraper: usize,
    /// Its weight in force, in samples a second: [`Placement::weights`].
    pub weight: f64,
}

/// The last placement.
pub struct Previous<'a, S> {
    /// The scrapers that there were. If they are the ones that there are, nothing moves but for new targets and
    /// drift; else the bound is restored.
    pub scrapers: &'a [S],
    /// What was placed where. None for a key that was not there.
    pub held: &'a dyn Fn(TargetKey) -> Option<Held>,
}

/// Who owns what.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placement {
    /// For each target, in the order of the targets, its owner as an index into the scrapers. Empty when there
    /// are no scrapers.
    pub owners: Vec<u32>,
    /// For each target the weight in force of its key, in samples a second: for [`Held::weight`] the next time.
    /// Living targets with one key count together.
    pub weights: Vec<f64>,
}

impl Placement {
    /// The placement by key, for [`Previous::held`]. `targets` are the ones that it was made for.
    #[must_use]
    pub fn by_key(&self, targets: &[(TargetKey, f64)]) -> HashMap<TargetKey, Held> {
        let owned = self.owners.iter().zip(&self.weights).zip(targets);
        owned.map(|((&owner, &weight), &(key, _))| (key, Held { scraper: owner as usize, weight })).collect()
    }
}

/// Gives every target to one scraper.
///
/// `targets` are keys with their measured weights in samples a second, NaN for the unknown; targets that share a
/// key share the owner. A scraper named twice counts once. The order of neither changes who owns what. Up to
/// four billion targets and scrapers.
#[must_use]
pub fn place<S: AsRef<str>>(
    targets: &[(TargetKey, f64)],
    scrapers: &[S],
    previous: Option<&Previous<'_, S>>,
    options: &PlacementOptions,
) -> Placement {
    let names = sorted_names(scrapers);
    if names.is_empty() {
        return Placement::default();
    }
    let (old_names, old_indices) = match previous {
        Some(previous) => (sorted_names(previous.scrapers), indices_in(previous.scrapers, &names)),
        None => (Vec::new(), Vec::new()),
    };
    let same_members = old_names == names;
    let joined = joined(&old_names, &names);
    let mut fleet = Fleet::new(names, Rules::new(options));
    let order = by_key(targets);
    let held = |key| previous.and_then(|previous| (previous.held)(key));
    for group in order.chunk_by(|a, b| a.0 == b.0) {
        let Some(&(key, _)) = group.first() else { continue };
        let weights = group.iter().map(|&(_, target)| fleet.rules.units(targets[target as usize].1));
        let measured = weights.fold(0_u64, u64::saturating_add).min(WEIGHT_UNITS_MAX);
        let held = held(TargetKey(key));
        let owner = held.and_then(|held| old_indices.get(held.scraper).copied()).unwrap_or(NOBODY);
        let weight = match held {
            Some(held) if same_members && owner != NOBODY => settle(fleet.rules.units(held.weight), measured),
            _ => measured,
        };
        let index = fleet.push(key, weight, measured);
        if owner != NOBODY {
            fleet.assign(index, owner);
        }
    }
    if same_members {
        fleet.keys_changed(fleet.homeless());
    } else {
        fleet.members_changed(joined);
    }
    answer(&fleet, targets.len(), &order, scrapers)
}

/// Keys in ascending order, each with the index of its target.
fn by_key(targets: &[(TargetKey, f64)]) -> Vec<(u64, u32)> {
    let mut order: Vec<(u64, u32)> =
        (0_u32..).zip(targets).map(|(index, &(key, _))| (key.0, index)).collect();
    order.sort_unstable();
    order
}

/// Owners and weights in the order of the targets, owners in the order of the scrapers as they were given.
fn answer<S: AsRef<str>>(fleet: &Fleet, targets: usize, order: &[(u64, u32)], scrapers: &[S]) -> Placement {
    let mut given = vec![NOBODY; fleet.scrapers.len()];
    for (index, sorted) in (0_u32..).zip(indices_in(scrapers, &fleet.scrapers)) {
        let first = &mut given[sorted as usize];
        *first = (*first).min(index);
    }
    let mut placement = Placement { owners: vec![NOBODY; targets], weights: vec![0.0; targets] };
    let groups = order.chunk_by(|a, b| a.0 == b.0);
    for (&Entry { owner, weight, .. }, group) in fleet.entries.iter().zip(groups) {
        for &(_, target) in group {
            placement.owners[target as usize] = given[owner as usize];
            placement.weights[target as usize] = samples(weight);
        }
    }
    placement
}

fn sorted_names<S: AsRef<str>>(scrapers: &[S]) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = scrapers.iter().map(|name| Arc::from(name.as_ref())).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// For each scraper its index in the sorted `names`, NOBODY where it is none of them.
fn indices_in<S: AsRef<str>>(scrapers: &[S], names: &[Arc<str>]) -> Vec<u32> {
    let index = |scraper: &S| names.binary_search_by(|name| (**name).cmp(scraper.as_ref())).ok();
    scrapers.iter().map(|scraper| index(scraper).map_or(NOBODY, |index| index as u32)).collect()
}

/// The indices in `names` of those that are not in `old_names`; both are sorted.
fn joined(old_names: &[Arc<str>], names: &[Arc<str>]) -> Vec<u32> {
    let new = (0_u32..).zip(names).filter(|(_, name)| old_names.binary_search(name).is_err());
    new.map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests;
