//! Placement with memory by either strategy.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    Change, Held, Move, NodePrevious, NodeScraper, NodeTarget, PlacementOptions, Placer, ScraperLoad,
    place_per_node,
};
use crate::target::TargetKey;

/// A node's name.
pub type Node = Arc<str>;

/// Placement that keeps its books between changes, by load alone or by node first.
pub enum Spread {
    /// By load, over all scrapers. Nodes are passed over.
    ByLoad(Box<Placer>),
    /// By node.
    ByNode(NodePlacer),
}

/// Placement by node with memory. Every change places everything anew from where it is: that is [`place_per_node`] and
/// costs what it costs, about 20 ms for 100,000 targets, where [`Placer`] costs microseconds.
pub struct NodePlacer {
    options: PlacementOptions,
    scrapers: Vec<(Arc<str>, Option<Node>)>,
    /// Which of these own a key, since the last change.
    busy: Vec<bool>,
    keys: BTreeMap<TargetKey, Located>,
}

#[derive(Clone, Debug)]
struct Located {
    node: Option<Node>,
    measured: f64,
    in_force: f64,
    owner: Option<Arc<str>>,
}

impl Spread {
    /// One without scrapers and keys, by node or by load.
    #[must_use]
    pub fn new(by_node: bool, options: &PlacementOptions) -> Self {
        if by_node {
            Self::ByNode(NodePlacer::new(options))
        } else {
            Self::ByLoad(Box::new(Placer::new(options)))
        }
    }

    /// Goes on from what another one decided, by either strategy: keys with their weight in force in samples a second, their
    /// node and their owner.
    #[must_use]
    pub fn resume<S: AsRef<str>>(
        by_node: bool,
        options: &PlacementOptions,
        scrapers: &[(Arc<str>, Option<Node>)],
        held: impl IntoIterator<Item = (TargetKey, f64, Option<Node>, S)>,
    ) -> Self {
        if !by_node {
            let names: Vec<&str> = scrapers.iter().map(|(name, _)| &**name).collect();
            let held = held.into_iter().map(|(key, weight, _, owner)| (key, weight, owner));
            return Self::ByLoad(Box::new(Placer::resume(options, &names, held)));
        }
        let mut placer = NodePlacer { scrapers: scrapers.to_vec(), ..NodePlacer::new(options) };
        for (key, weight, node, owner) in held {
            placer.hold(key, weight, node, owner.as_ref());
        }
        Self::ByNode(placer)
    }

    /// Whether it is by node.
    #[must_use]
    pub fn is_by_node(&self) -> bool {
        matches!(self, Self::ByNode(_))
    }

    /// Takes in a key that somebody has already, with its weight in force in samples a second. One that is known stays as
    /// it is.
    pub fn hold(&mut self, key: TargetKey, weight: f64, node: Option<Node>, owner: &str) {
        match self {
            Self::ByLoad(placer) => placer.hold(key, weight, owner),
            Self::ByNode(placer) => placer.hold(key, weight, node, owner),
        }
    }

    /// Replaces the options. Loads are held against them at the next change.
    pub fn set_options(&mut self, options: &PlacementOptions) {
        match self {
            Self::ByLoad(placer) => placer.set_options(options),
            Self::ByNode(placer) => placer.options = *options,
        }
    }

    /// Replaces the scrapers, each with its node where that is known. Answers with the keys that changed owner.
    pub fn set_scrapers(&mut self, scrapers: &[(Arc<str>, Option<Node>)]) -> Vec<Move> {
        match self {
            Self::ByLoad(placer) => {
                let names: Vec<&str> = scrapers.iter().map(|(name, _)| &**name).collect();
                placer.set_scrapers(&names)
            }
            Self::ByNode(placer) => placer.set_scrapers(scrapers),
        }
    }

    /// Applies changes to keys, each with the node of its targets. Answers with the keys that changed owner.
    pub fn apply(&mut self, changes: &[(Change, Option<Node>)]) -> Vec<Move> {
        match self {
            Self::ByLoad(placer) => {
                let changes: Vec<Change> = changes.iter().map(|(change, _)| *change).collect();
                placer.apply(&changes)
            }
            Self::ByNode(placer) => placer.apply(changes),
        }
    }

    /// The owner of a key.
    #[must_use]
    pub fn owner(&self, key: TargetKey) -> Option<&Arc<str>> {
        match self {
            Self::ByLoad(placer) => placer.owner(key),
            Self::ByNode(placer) => placer.keys.get(&key)?.owner.as_ref(),
        }
    }

    /// Whether a scraper owns a key, since the last change.
    #[must_use]
    pub fn has_keys(&self, scraper: &str) -> bool {
        match self {
            Self::ByLoad(placer) => placer.has_keys(scraper),
            Self::ByNode(placer) => {
                let mut scrapers = placer.scrapers.iter().zip(&placer.busy);
                scrapers.any(|((name, _), busy)| *busy && **name == *scraper)
            }
        }
    }

    /// The weight in force of a key, in samples a second.
    #[must_use]
    pub fn weight(&self, key: TargetKey) -> Option<f64> {
        match self {
            Self::ByLoad(placer) => placer.weight(key),
            Self::ByNode(placer) => placer.keys.get(&key).map(|located| located.in_force),
        }
    }

    /// What each scraper carries, by name.
    #[must_use]
    pub fn loads(&self) -> Vec<ScraperLoad> {
        match self {
            Self::ByLoad(placer) => placer.loads(),
            Self::ByNode(placer) => placer.loads(),
        }
    }
}

impl NodePlacer {
    /// A placer without scrapers and keys.
    #[must_use]
    pub fn new(options: &PlacementOptions) -> Self {
        Self { options: *options, scrapers: Vec::new(), busy: Vec::new(), keys: BTreeMap::new() }
    }

    /// Takes in a key that somebody has already, with its weight in force in samples a second. One that is known stays as
    /// it is.
    pub fn hold(&mut self, key: TargetKey, weight: f64, node: Option<Node>, owner: &str) {
        let located = Located { node, measured: weight, in_force: weight, owner: Some(Arc::from(owner)) };
        self.keys.entry(key).or_insert(located);
    }

    /// Replaces the scrapers. Answers with the keys that changed owner. Without scrapers no key has an owner, and nothing
    /// is reported.
    pub fn set_scrapers(&mut self, scrapers: &[(Arc<str>, Option<Node>)]) -> Vec<Move> {
        let before = std::mem::replace(&mut self.scrapers, scrapers.to_vec());
        self.solve(&before)
    }

    /// Applies changes to keys. Answers with the keys that changed owner. Of a key's changes the last counts.
    pub fn apply(&mut self, changes: &[(Change, Option<Node>)]) -> Vec<Move> {
        for (change, node) in changes {
            match change {
                Change::Remove(key) => drop(self.keys.remove(key)),
                Change::Set(key, weight) => {
                    let new = Located { node: None, measured: *weight, in_force: f64::NAN, owner: None };
                    let known = self.keys.entry(*key).or_insert(new);
                    known.measured = *weight;
                    known.node.clone_from(node);
                }
            }
        }
        let before = self.scrapers.clone();
        self.solve(&before)
    }

    /// `before`: the scrapers that there were when the keys got their owners.
    fn solve(&mut self, before: &[(Arc<str>, Option<Node>)]) -> Vec<Move> {
        if self.scrapers.is_empty() {
            for located in self.keys.values_mut() {
                located.owner = None;
            }
            return Vec::new();
        }
        let targets: Vec<NodeTarget<'_>> =
            self.keys.iter().map(|(key, at)| (*key, at.measured, at.node.as_deref())).collect();
        let scrapers: Vec<NodeScraper<'_>> = as_located(&self.scrapers);
        let before: Vec<NodeScraper<'_>> = as_located(before);
        let places: BTreeMap<&str, usize> =
            before.iter().enumerate().map(|(place, (name, _))| (*name, place)).collect();
        let held = |key: TargetKey| {
            let located = self.keys.get(&key)?;
            let scraper = *places.get(located.owner.as_deref()?)?;
            Some(Held { scraper, weight: located.in_force })
        };
        let previous = NodePrevious { scrapers: &before, held: &held };
        let placement = place_per_node(&targets, &scrapers, Some(&previous), &self.options);
        let mut moves = Vec::new();
        self.busy = vec![false; self.scrapers.len()];
        for ((key, located), (owner, weight)) in
            self.keys.iter_mut().zip(placement.owners.into_iter().zip(placement.weights))
        {
            if let Some(busy) = self.busy.get_mut(owner as usize) {
                *busy = true;
            }
            let Some((owner, _)) = self.scrapers.get(owner as usize) else { continue };
            located.in_force = weight;
            if located.owner.as_ref() != Some(owner) {
                let from = located.owner.replace(Arc::clone(owner));
                // Whoever is no scraper any more is told nothing.
                let from = from.filter(|from| self.scrapers.iter().any(|(name, _)| name == from));
                moves.push(Move { key: *key, from, to: Arc::clone(owner) });
            }
        }
        moves
    }

    fn loads(&self) -> Vec<ScraperLoad> {
        let mut loads: BTreeMap<&Arc<str>, (f64, usize)> =
            self.scrapers.iter().map(|(name, _)| (name, (0.0, 0))).collect();
        for located in self.keys.values() {
            if let Some((weight, keys)) = located.owner.as_ref().and_then(|owner| loads.get_mut(owner)) {
                *weight += located.in_force;
                *keys += 1;
            }
        }
        let load =
            |(name, (weight, keys)): (&Arc<str>, _)| ScraperLoad { scraper: Arc::clone(name), weight, keys };
        loads.into_iter().map(load).collect()
    }
}

fn as_located(scrapers: &[(Arc<str>, Option<Node>)]) -> Vec<NodeScraper<'_>> {
    scrapers.iter().map(|(name, node)| (&**name, node.as_deref())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(name: &str, node: &str) -> (Arc<str>, Option<Node>) {
        (Arc::from(name), Some(Arc::from(node)))
    }

    fn set(key: u64, node: &str) -> (Change, Option<Node>) {
        (Change::Set(TargetKey(key), f64::NAN), Some(Arc::from(node)))
    }

    #[test]
    fn targets_follow_their_node_and_fall_back_when_its_scraper_goes() {
        let mut spread = Spread::ByNode(NodePlacer::new(&PlacementOptions::default()));
        assert!(spread.apply(&[set(1, "north"), set(2, "south")]).is_empty(), "nobody is there");
        let moves = spread.set_scrapers(&[on("a", "north")]);
        assert_eq!(moves.len(), 2);
        assert!([1, 2].iter().all(|key| spread.owner(TargetKey(*key)).is_some_and(|owner| &**owner == "a")));
        let moves = spread.set_scrapers(&[on("a", "north"), on("b", "south")]);
        let expected = Move { key: TargetKey(2), from: Some(Arc::from("a")), to: Arc::from("b") };
        assert_eq!(moves, [expected]);
        assert_eq!(spread.apply(&[set(1, "south")]).len(), 1, "a target that changed its node follows it");
        assert!(spread.apply(&[(Change::Remove(TargetKey(1)), None)]).is_empty());
        let loads: Vec<usize> = spread.loads().into_iter().map(|load| load.keys).collect();
        assert_eq!((loads, spread.owner(TargetKey(1))), (vec![0, 1], None));
        assert_eq!(["a", "b", "c"].map(|name| spread.has_keys(name)), [false, true, false]);
        let moves = spread.set_scrapers(&[on("a", "north")]);
        assert_eq!(moves, [Move { key: TargetKey(2), from: None, to: Arc::from("a") }]);
    }

    #[test]
    fn it_goes_on_from_where_keys_are_and_brings_home_what_is_elsewhere() {
        let scrapers = [on("a", "north"), on("b", "south")];
        let held = |key, node: Option<&str>, owner| (TargetKey(key), 1.0, node.map(Node::from), owner);
        let held = [held(1, Some("north"), "a"), held(2, Some("south"), "a"), held(3, None, "b")];
        let options = PlacementOptions::default();
        let mut spread = Spread::resume(true, &options, &scrapers, held.clone());
        let owners = |spread: &Spread| [1, 2, 3].map(|key| spread.owner(TargetKey(key)).unwrap().to_string());
        assert_eq!(owners(&spread), ["a", "a", "b"]);
        assert_eq!(spread.apply(&[set(4, "south")]).len(), 2, "the new one, and the one of the south");
        assert_eq!(owners(&spread), ["a", "b", "b"]);
        let spread = Spread::resume(false, &options, &scrapers, held);
        assert_eq!(owners(&spread), ["a", "a", "b"]);
    }
}
