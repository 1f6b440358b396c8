//! Placement that keeps its books between changes.

use std::collections::HashMap;
use std::sync::Arc;

use crate::target::TargetKey;

use super::fleet::{Fleet, NOBODY};
use super::weight::{Rules, samples, settle};
use super::{PlacementOptions, indices_in, joined, sorted_names};

/// Something that happened to a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// The key is there, with this measured weight in samples a second: the sum over its living targets. NaN for
    /// the unknown.
    Set(TargetKey, f64),
    /// No target has the key any more.
    Remove(TargetKey),
}

/// A key that changed owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The key.
    pub key: TargetKey,
    /// Who had it: None for a new key, and for one whose owner has gone.
    pub from: Option<Arc<str>>,
    /// Who has it now.
    pub to: Arc<str>,
}

/// What a scraper carries.
#[derive(Clone, Debug, PartialEq)]
pub struct ScraperLoad {
    /// The scraper's name.
    pub scraper: Arc<str>,
    /// Its load by weights in force, in samples a second.
    pub weight: f64,
    /// How many keys it owns.
    pub keys: usize,
}

/// Placement with memory. The same changes lead to the same owners as [`super::place`] called after each batch
/// with the owners before it.
pub struct Placer {
    fleet: Fleet,
    index: HashMap<u64, u32>,
    /// Keys that may be without an owner; some may have gone, or stand here twice.
    homeless: Vec<u64>,
}

impl Placer {
    /// A placer without scrapers and keys.
    #[must_use]
    pub fn new(options: &PlacementOptions) -> Self {
        Self::with_scrapers(options, Vec::new())
    }

    /// A placer that goes on from what another one decided: keys with their weight in force in samples a second
    /// and their owner. A key whose owner is not among `scrapers` gets one at the next change.
    #[must_use]
    pub fn resume<S: AsRef<str>, T: AsRef<str>>(
        options: &PlacementOptions,
        scrapers: &[S],
        held: impl IntoIterator<Item = (TargetKey, f64, T)>,
    ) -> Self {
        let mut placer = Self::with_scrapers(options, sorted_names(scrapers));
        for (key, weight, owner) in held {
            placer.hold(key, weight, owner);
        }
        placer
    }

    /// Takes in a key that somebody has already, with its weight in force in samples a second. One whose owner is not
    /// among the scrapers gets one at the next change; one that is known stays as it is.
    pub fn hold(&mut self, key: TargetKey, weight: f64, owner: impl AsRef<str>) {
        if self.index.contains_key(&key.0) {
            return;
        }
        let weight = self.fleet.rules.units(weight);
        let index = self.fleet.push(key.0, weight, weight);
        self.index.insert(key.0, index);
        let owner = indices_in(&[owner], &self.fleet.scrapers).first().copied().unwrap_or(NOBODY);
        if owner == NOBODY {
            self.homeless.push(key.0);
        } else {
            self.fleet.assign(index, owner);
        }
    }

    fn with_scrapers(options: &PlacementOptions, scrapers: Vec<Arc<str>>) -> Self {
        let fleet = Fleet::new(scrapers, Rules::new(options));
        Self { fleet, index: HashMap::new(), homeless: Vec::new() }
    }

    /// Replaces the options. Loads are held against them at the next change.
    pub fn set_options(&mut self, options: &PlacementOptions) {
        self.fleet.rules = Rules::new(options);
    }

    /// Replaces the scrapers. If they are others than before, all measured weights come into force and the
    /// bound is restored. Answers with the keys that changed owner. Without scrapers no key has an owner, and
    /// nothing is reported.
    pub fn set_scrapers<S: AsRef<str>>(&mut self, scrapers: &[S]) -> Vec<Move> {
        let names = sorted_names(scrapers);
        if names == self.fleet.scrapers {
            return self.apply(&[]);
        }
        let joined = joined(&self.fleet.scrapers, &names);
        let kept = indices_in(&self.fleet.scrapers, &names);
        let mut fleet = Fleet::new(names, self.fleet.rules);
        for entry in &self.fleet.entries {
            let index = fleet.push(entry.key, entry.measured, entry.measured);
            let owner = kept.get(entry.owner as usize).copied().unwrap_or(NOBODY);
            if owner != NOBODY {
                fleet.assign(index, owner);
            }
        }
        self.fleet = fleet;
        self.homeless.clear();
        if self.fleet.scrapers.is_empty() {
            self.homeless.extend(self.index.keys());
        }
        self.fleet.members_changed(joined);
        self.take_moves()
    }

    /// Applies changes to keys, finds owners for new keys, and corrects drift. Of a key's changes only the last
    /// counts: a key that goes and comes back among them never was away. Answers with the keys that changed
    /// owner.
    pub fn apply(&mut self, changes: &[Change]) -> Vec<Move> {
        for change in last_by_key(changes) {
            match change {
                Change::Set(key, weight) => self.set(key.0, weight),
                Change::Remove(key) => self.remove(key.0),
            }
        }
        if self.fleet.scrapers.is_empty() {
            return Vec::new();
        }
        let homeless = std::mem::take(&mut self.homeless);
        let mut homeless: Vec<u32> = homeless.iter().filter_map(|key| self.index.get(key).copied()).collect();
        homeless.sort_unstable();
        homeless.dedup();
        self.fleet.keys_changed(homeless);
        self.take_moves()
    }

    fn set(&mut self, key: u64, weight: f64) {
        let measured = self.fleet.rules.units(weight);
        let Some(&index) = self.index.get(&key) else {
            self.index.insert(key, self.fleet.push(key, measured, measured));
            self.homeless.push(key);
            return;
        };
        let entry = &mut self.fleet.entries[index as usize];
        entry.measured = measured;
        let settled = if entry.owner == NOBODY { measured } else { settle(entry.weight, measured) };
        self.fleet.reweigh(index, settled);
    }

    fn remove(&mut self, key: u64) {
        let Some(index) = self.index.remove(&key) else { return };
        self.fleet.remove(index);
        if let Some(filler) = self.fleet.entries.get(index as usize) {
            self.index.insert(filler.key, index);
        }
    }

    fn take_moves(&mut self) -> Vec<Move> {
        let name = |scraper: u32| self.fleet.scrapers.get(scraper as usize).cloned();
        let mut moved = std::mem::take(&mut self.fleet.moved);
        // A stable sort: the first of a key's moves says where it came from.
        moved.sort_by_key(|&(index, _)| index);
        moved.dedup_by_key(|&mut (index, _)| index);
        let moves = moved.into_iter().filter_map(|(index, from)| {
            let entry = &self.fleet.entries[index as usize];
            let to = name(entry.owner)?;
            Some(Move { key: TargetKey(entry.key), from: name(from), to })
        });
        moves.collect()
    }

    /// The owner of a key.
    #[must_use]
    pub fn owner(&self, key: TargetKey) -> Option<&Arc<str>> {
        let &index = self.index.get(&key.0)?;
        self.fleet.scrapers.get(self.fleet.entries[index as usize].owner as usize)
    }

    /// The weight in force of a key, in samples a second.
    #[must_use]
    pub fn weight(&self, key: TargetKey) -> Option<f64> {
        let &index = self.index.get(&key.0)?;
        Some(samples(self.fleet.entries[index as usize].weight))
    }

    /// Whether a scraper owns a key.
    pub(super) fn has_keys(&self, scraper: &str) -> bool {
        let index = self.fleet.scrapers.binary_search_by(|name| (**name).cmp(scraper));
        index.is_ok_and(|index| !self.fleet.held(index as u32).is_empty())
    }

    /// What each scraper carries, by name.
    #[must_use]
    pub fn loads(&self) -> Vec<ScraperLoad> {
        let load = |scraper: u32| ScraperLoad {
            scraper: Arc::clone(&self.fleet.scrapers[scraper as usize]),
            weight: samples(u64::try_from(self.fleet.load(scraper)).unwrap_or(u64::MAX)),
            keys: self.fleet.held(scraper).len(),
        };
        self.fleet.indices().map(load).collect()
    }
}

/// The last change of every key, in no order that depends on that of the others.
fn last_by_key(changes: &[Change]) -> Vec<Change> {
    let mut last = changes.to_vec();
    let key = |change: &Change| match change {
        Change::Set(key, _) | Change::Remove(key) => *key,
    };
    // Stable, so that the last of a key's changes is the first of them after turning the whole.
    last.reverse();
    last.sort_by_key(key);
    last.dedup_by_key(|change| key(change));
    last
}
