//! Who holds what: the books of placement, and the search for a home for one key.
//!
//! An entry is a key with its weight; living targets that share a key are one entry. Everything that decides is
//! a whole number or a comparison of `(weight, key)`, so no order of arrival shows in the result.

use std::sync::Arc;

use super::ring::Ring;
use super::weight::Rules;

/// The owner of an entry that has none.
pub(super) const NOBODY: u32 = u32::MAX;

/// How many choices of the ring a key tries before it goes to the least loaded scraper. At the end of a fresh
/// placement some two scrapers in three are full; this many tries find a free one 99 times in 100.
const CHOICES_MAX: u32 = 12;

/// Entries above this part of the level are placed before all others.
const HEAVY_PART: u128 = 128;

/// A key and its owner.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) key: u64,
    /// In force.
    pub(super) weight: u64,
    /// As last reported.
    pub(super) measured: u64,
    /// An index into [`Fleet::scrapers`], or [`NOBODY`].
    pub(super) owner: u32,
    /// Where it stands in its owner's list.
    at: u32,
}

/// Whether an entry may be given to a scraper that is over the cap with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// No.
    UnderCap,
    /// Yes, to the least loaded one: its load is under the mean, and the entry stays within mean + itself.
    Anywhere,
}

/// Scrapers that have just joined, and are preferred until they have their share.
pub(super) struct Newcomers {
    pub(super) list: Vec<u32>,
    is: Vec<bool>,
}

impl Newcomers {
    pub(super) fn new(list: Vec<u32>, scrapers: usize) -> Self {
        let mut is = vec![false; scrapers];
        for &scraper in &list {
            is[scraper as usize] = true;
        }
        Self { list, is }
    }

    pub(super) fn none() -> Self {
        Self { list: Vec::new(), is: Vec::new() }
    }

    pub(super) fn contains(&self, scraper: u32) -> bool {
        self.is.get(scraper as usize).copied().unwrap_or(false)
    }
}

/// Scrapers, entries, and who holds which.
pub(super) struct Fleet {
    /// In the order of their names, each once.
    pub(super) scrapers: Vec<Arc<str>>,
    pub(super) entries: Vec<Entry>,
    pub(super) rules: Rules,
    /// Entries that changed owner, with the owner before, in the order of moving.
    pub(super) moved: Vec<(u32, u32)>,
    ring: Ring,
    held: Vec<Vec<u32>>,
    loads: Vec<u128>,
    total: u128,
    /// What a scraper without heavy targets should carry: see [`Fleet::level_by_weights`].
    level: u128,
}

impl Fleet {
    /// Scrapers without entries. `scrapers` is sorted and holds no name twice.
    pub(super) fn new(scrapers: Vec<Arc<str>>, rules: Rules) -> Self {
        Self {
            ring: Ring::new(&scrapers),
            held: vec![Vec::new(); scrapers.len()],
            loads: vec![0; scrapers.len()],
            scrapers,
            entries: Vec::new(),
            rules,
            moved: Vec::new(),
            total: 0,
            level: 0,
        }
    }

    /// Adds an entry that nobody holds yet.
    pub(super) fn push(&mut self, key: u64, weight: u64, measured: u64) -> u32 {
        let index = self.entries.len() as u32;
        self.entries.push(Entry { key, weight, measured, owner: NOBODY, at: 0 });
        self.total += u128::from(weight);
        index
    }

    /// Takes an entry out. The last entry takes its index.
    pub(super) fn remove(&mut self, index: u32) -> Entry {
        self.release(index);
        let gone = self.entries.swap_remove(index as usize);
        self.total -= u128::from(gone.weight);
        if let Some(entry) = self.entries.get(index as usize)
            && entry.owner != NOBODY
        {
            self.held[entry.owner as usize][entry.at as usize] = index;
        }
        gone
    }

    /// Brings another weight into force.
    pub(super) fn reweigh(&mut self, index: u32, weight: u64) {
        let entry = &mut self.entries[index as usize];
        let before = std::mem::replace(&mut entry.weight, weight);
        self.total = self.total - u128::from(before) + u128::from(weight);
        if entry.owner != NOBODY {
            let load = &mut self.loads[entry.owner as usize];
            *load = *load - u128::from(before) + u128::from(weight);
        }
    }

    /// Gives an entry to a scraper.
    pub(super) fn assign(&mut self, index: u32, scraper: u32) {
        self.release(index);
        let held = &mut self.held[scraper as usize];
        let entry = &mut self.entries[index as usize];
        entry.owner = scraper;
        entry.at = held.len() as u32;
        held.push(index);
        self.loads[scraper as usize] += u128::from(entry.weight);
    }

    /// Gives an entry to a scraper and writes it down as a move.
    pub(super) fn move_to(&mut self, index: u32, scraper: u32) {
        self.moved.push((index, self.entries[index as usize].owner));
        self.assign(index, scraper);
    }

    fn release(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        let owner = std::mem::replace(&mut entry.owner, NOBODY);
        if owner == NOBODY {
            return;
        }
        let (at, weight) = (entry.at, entry.weight);
        self.loads[owner as usize] -= u128::from(weight);
        let held = &mut self.held[owner as usize];
        held.swap_remove(at as usize);
        if let Some(&filler) = held.get(at as usize) {
            self.entries[filler as usize].at = at;
        }
    }

    /// The load of a scraper in millionths of a sample a second.
    pub(super) fn load(&self, scraper: u32) -> u128 {
        self.loads[scraper as usize]
    }

    /// The entries of a scraper, in no order that means anything.
    pub(super) fn held(&self, scraper: u32) -> &[u32] {
        &self.held[scraper as usize]
    }

    /// The entries without an owner.
    pub(super) fn homeless(&self) -> Vec<u32> {
        let entries = (0_u32..).zip(&self.entries);
        entries.filter(|(_, entry)| entry.owner == NOBODY).map(|(index, _)| index).collect()
    }

    /// All scrapers by index.
    pub(super) fn indices(&self) -> std::ops::Range<u32> {
        0..self.scrapers.len() as u32
    }

    /// The mean load, rounded down.
    pub(super) fn mean(&self) -> u128 {
        self.total / self.scrapers.len().max(1) as u128
    }

    /// See [`Rules::bound`].
    pub(super) fn bound(&self) -> u128 {
        self.rules.bound(self.total, self.scrapers.len())
    }

    /// See [`Fleet::level_by_weights`].
    pub(super) fn level(&self) -> u128 {
        self.level
    }

    /// Sets the level that loads should have: the mean, but for keys that are heavier than the mean of the rest,
    /// and for as many scrapers. With the plain mean as the goal, a few heavy targets would raise the cap of all
    /// others so far that it would bind nobody, and they would be as uneven as the ring.
    pub(super) fn level_by_weights(&mut self) {
        let mut weights: Vec<u64> = self.entries.iter().map(|entry| entry.weight).collect();
        let scrapers = self.scrapers.len();
        if weights.len() > scrapers {
            weights.select_nth_unstable_by(scrapers, |a, b| b.cmp(a));
            weights.truncate(scrapers);
        }
        weights.sort_unstable_by(|a, b| b.cmp(a));
        self.level =
            self.level_without(weights.into_iter().map(u128::from), |rest, scrapers| rest / scrapers as u128);
    }

    /// The same by what scrapers carry, where a load past the band counts as heavy. A little different, but it
    /// needs no look at every key.
    pub(super) fn level_by_loads(&mut self) {
        let mut loads = self.loads.clone();
        loads.sort_unstable_by(|a, b| b.cmp(a));
        self.level = self.level_without(loads.into_iter(), |rest, scrapers| self.rules.band(rest, scrapers));
    }

    fn level_without(
        &self,
        heaviest_first: impl Iterator<Item = u128>,
        heavy: impl Fn(u128, usize) -> u128,
    ) -> u128 {
        let (mut rest, mut scrapers) = (self.total, self.scrapers.len());
        for load in heaviest_first {
            if scrapers <= 1 || load <= heavy(rest, scrapers) {
                break;
            }
            rest -= load;
            scrapers -= 1;
        }
        rest / scrapers.max(1) as u128
    }

    /// See [`Rules::cap`].
    pub(super) fn cap(&self) -> u128 {
        self.rules.cap(self.level)
    }

    /// See [`Rules::band`].
    pub(super) fn band(&self) -> u128 {
        self.rules.band(self.total, self.scrapers.len())
    }

    /// What a scraper's load must not exceed where `share` of the mean is allowed: with a target heavier than
    /// that room, the mean plus that target.
    pub(super) fn limit(&self, scraper: u32, share: u128) -> u128 {
        let heaviest = self.held(scraper).iter().map(|&index| self.entries[index as usize].weight).max();
        share.max(self.mean() + u128::from(heaviest.unwrap_or(0)))
    }

    /// The least loaded scraper, the first by name of several.
    pub(super) fn least_loaded(&self, among: impl Iterator<Item = u32>) -> Option<u32> {
        among.min_by_key(|&scraper| self.load(scraper))
    }

    /// Whether the ring's first choice for the entry is a newcomer.
    pub(super) fn first_choice_among(&self, index: u32, newcomers: &Newcomers) -> Option<u32> {
        let first = self.ring.choice(self.entries[index as usize].key, 0)?;
        newcomers.contains(first).then_some(first)
    }

    /// A scraper for the entry other than the one it is on: a newcomer that has room, else the first of the
    /// ring's choices that has room, else the least loaded.
    pub(super) fn home(&self, index: u32, newcomers: &Newcomers, fit: Fit) -> Option<u32> {
        let entry = self.entries[index as usize];
        let cap = self.cap();
        let weight = u128::from(entry.weight);
        let has_room = |scraper: &u32| *scraper != entry.owner && self.load(*scraper) + weight <= cap;
        if weight <= cap {
            let newcomer = self
                .first_choice_among(index, newcomers)
                .filter(has_room)
                .or_else(|| self.least_loaded(newcomers.list.iter().copied()).filter(has_room));
            if newcomer.is_some() {
                return newcomer;
            }
            let mut choices = (0..CHOICES_MAX).filter_map(|salt| self.ring.choice(entry.key, salt));
            if let Some(scraper) = choices.find(has_room) {
                return Some(scraper);
            }
        }
        self.least_loaded(self.indices().filter(|&scraper| scraper != entry.owner))
            .filter(|scraper| fit == Fit::Anywhere || has_room(scraper))
    }

    /// Puts entries into the order in which they are placed: the heavy ones first, while there is room for them,
    /// then the others by key. To take those by weight too would be no evener, and would leave the mass of
    /// the very light ones (of Zipf's, half of the targets are five percent of the load) for the time when most
    /// scrapers are full: slow to place, and seldom at home.
    pub(super) fn sort_for_placing(&self, indices: &mut Vec<u32>) {
        let heavy = self.level / HEAVY_PART;
        self.sort_by_weight(indices, |weight| if u128::from(weight) > heavy { weight } else { 0 });
    }

    /// Puts entries into the order of weight, and equals into that of the key.
    pub(super) fn sort_heaviest_first(&self, indices: &mut Vec<u32>) {
        self.sort_by_weight(indices, |weight| weight);
    }

    fn sort_by_weight(&self, indices: &mut Vec<u32>, effective: impl Fn(u64) -> u64) {
        let mut keyed: Vec<(u64, u64, u32)> = indices
            .iter()
            .map(|&index| {
                let entry = &self.entries[index as usize];
                (u64::MAX - effective(entry.weight), entry.key, index)
            })
            .collect();
        keyed.sort_unstable();
        indices.clear();
        indices.extend(keyed.into_iter().map(|(_, _, index)| index));
    }
}
