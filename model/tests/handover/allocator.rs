//! An allocator: a leader while it holds the Lease, and what stands around that: polls that wait, and placement.

use std::collections::{BTreeMap, BTreeSet};

use promring_model::handover::{Grant, Leader, Name, Version};
use promring_model::placement::{self, Held, PlacementOptions, Previous};
use promring_model::target::TargetKey;

use crate::world::{Lease, Message, Place, World, leader_options};

/// A Lease that was not renewed for this long is free. Its holder gives up earlier.
const LEASE_MS: i64 = 15_000;
const RENEW_MAX_MS: i64 = 10_000;
/// So often a leader forgets who is lost, in milliseconds.
const FORGET_MS: i64 = 7_000;
/// A leader that has heard of nobody for so long concludes nothing, in milliseconds: a third of the lapse.
const DEAF_MS: i64 = 5_000;
/// A poll waits so long, in milliseconds.
const WAIT_MS: i64 = 6_000;

struct Poll {
    held: Option<Version>,
    asked_ms: i64,
    came_ms: i64,
    number: u64,
}

pub(crate) struct Allocator {
    pub(crate) skew_ms: i64,
    pub(crate) leader: Option<Leader>,
    /// Not there until then.
    pub(crate) down_until_ms: i64,
    renewed_ms: i64,
    polls: BTreeMap<Name, Poll>,
    /// What the last placement was for.
    placed_for: (u64, Vec<String>),
    placed: BTreeMap<TargetKey, Name>,
    lost: BTreeSet<Name>,
    counted: (u64, u64, u64),
    books: Books,
}

/// What is granted, kept up to date by what the leader says has changed.
#[derive(Default)]
struct Books {
    grants: BTreeMap<TargetKey, BTreeMap<Name, Grant>>,
    versions: BTreeMap<Name, Version>,
}

impl Books {
    /// Follows the leader, and holds the books against what it says of all keys.
    fn follow(&mut self, leader: &mut Leader, keys: impl Iterator<Item = TargetKey>) {
        let granted = |leader: &Leader, key| -> BTreeMap<Name, Grant> {
            leader.participants(key).map(|(name, grant)| (name.clone(), grant)).collect()
        };
        for key in leader.take_changed() {
            let now = granted(leader, key);
            let before = self.grants.insert(key, now.clone()).unwrap_or_default();
            for name in before.keys().chain(now.keys()).filter(|name| before.get(*name) != now.get(*name)) {
                let known = self.versions.get(name);
                assert!(
                    known.is_none_or(|known| leader.version_of(name) > *known),
                    "{name} is granted something else of {key:?} without a new version"
                );
            }
        }
        for key in self.grants.keys().copied().chain(keys) {
            let known = self.grants.get(&key).cloned().unwrap_or_default();
            assert_eq!(known, granted(leader, key), "{key:?} has changed and nobody was told");
        }
        let names = self.grants.values().flat_map(|grants| grants.keys());
        self.versions = names.map(|name| (name.clone(), leader.version_of(name))).collect();
    }
}

impl Allocator {
    pub(crate) fn new(skew_ms: i64) -> Self {
        Self {
            skew_ms,
            leader: None,
            down_until_ms: 0,
            renewed_ms: 0,
            polls: BTreeMap::new(),
            placed_for: (0, Vec::new()),
            placed: BTreeMap::new(),
            lost: BTreeSet::new(),
            counted: (0, 0, 0),
            books: Books::default(),
        }
    }

    pub(crate) fn step_down(&mut self) {
        self.leader = None;
        self.polls.clear();
        self.placed.clear();
        self.placed_for = (0, Vec::new());
        self.lost.clear();
        self.counted = (0, 0, 0);
        self.books = Books::default();
    }
}

impl World {
    pub(crate) fn step_lease(&mut self) {
        let now_ms = self.now_ms;
        if now_ms % 500 != 0 {
            return;
        }
        for index in 0..self.allocators.len() {
            let place = Place::Allocator(index);
            let down = self.allocators[index].down_until_ms > now_ms;
            if down || self.faults.paused(&place, now_ms).is_some() {
                continue;
            }
            let reached = !self.faults.lease_cut(index, now_ms);
            let holds = self.lease.holder == Some(index);
            if holds && reached && self.allocators[index].leader.is_some() {
                self.lease.renewed_ms = now_ms;
                self.allocators[index].renewed_ms = now_ms;
            }
            if self.allocators[index].leader.is_some()
                && (reached && !holds || now_ms - self.allocators[index].renewed_ms > RENEW_MAX_MS)
            {
                self.say(|| format!("allocator {index} steps down"));
                self.allocators[index].step_down();
            }
            let free = self.lease.holder.is_none() || now_ms - self.lease.renewed_ms > LEASE_MS;
            if reached && free && self.allocators[index].leader.is_none() {
                self.lead(index);
            }
        }
    }

    /// The process ends as it should: it releases the Lease and ends its polls.
    pub(crate) fn retire(&mut self, index: usize) {
        if self.lease.holder == Some(index) {
            self.lease.holder = None;
        }
        for (name, poll) in std::mem::take(&mut self.allocators[index].polls) {
            let message = Message::Refused { number: poll.number };
            self.send(Place::Allocator(index), Place::Scraper(name), message);
        }
        self.allocators[index].step_down();
        self.allocators[index].down_until_ms = self.now_ms + 3_000;
    }

    fn lead(&mut self, index: usize) {
        self.lease = Lease { holder: Some(index), term: self.lease.term + 1, renewed_ms: self.now_ms };
        let expected: Vec<Name> =
            self.scrapers.values().filter(|s| s.exists).map(|s| s.name.clone()).collect();
        // Outside Kubernetes nobody knows who there must be.
        let expected = if self.chance.ppm(700_000) { expected } else { Vec::new() };
        let allocator = &mut self.allocators[index];
        allocator.step_down();
        let clock_ms = self.now_ms + allocator.skew_ms;
        allocator.renewed_ms = self.now_ms;
        allocator.leader = Some(Leader::new(leader_options(), self.lease.term, expected, clock_ms));
        self.audit.totals.takeovers += 1;
        self.say(|| format!("allocator {index} leads term {}", self.lease.term));
    }

    pub(crate) fn allocator_receives(&mut self, index: usize, message: Message) {
        let now_ms = self.now_ms;
        let me = Place::Allocator(index);
        let allocator = &mut self.allocators[index];
        let clock_ms = now_ms + allocator.skew_ms;
        match message {
            Message::Poll { from, run, held, asked_ms, number, wait } => {
                let Some(leader) = &mut allocator.leader else {
                    return self.send(me, Place::Scraper(from), Message::Refused { number });
                };
                if !leader.is_leading() {
                    return self.send(me, Place::Scraper(from), Message::Refused { number });
                }
                leader.polled(&from, run);
                let came_ms = if wait { now_ms } else { now_ms - WAIT_MS };
                allocator.polls.insert(from.clone(), Poll { held, asked_ms, came_ms, number });
                self.answer(index, &from);
            }
            Message::Report { from, report, asked_ms } => {
                let Some(leader) = &mut allocator.leader else { return };
                if self.lease.holder == Some(index) && !leader.has_heard(&from, report.run, report.sequence) {
                    // The clock by which it was made is the scraper's.
                    let skew_ms = self.scrapers.get(&from).map_or(0, |s| s.skew_ms);
                    self.audit.reported(&from, asked_ms - skew_ms, now_ms);
                }
                let reply = leader.report(&from, *report, clock_ms);
                let alone = leader.is_leading() && !leader.has_others(&from);
                let staying = leader.staying(&from);
                self.send(me, Place::Scraper(from), Message::Reply { reply, alone, staying, asked_ms });
            }
            _ => {}
        }
    }

    fn answer(&mut self, index: usize, name: &Name) {
        let allocator = &mut self.allocators[index];
        let (Some(leader), Some(poll)) = (&allocator.leader, allocator.polls.get(name)) else { return };
        let (asked_ms, number, came_ms) = (poll.asked_ms, poll.number, poll.came_ms);
        let message = match leader.told(name, poll.held) {
            Some(told) => Message::Told { told: Box::new(told), asked_ms, number },
            None if self.now_ms - came_ms >= WAIT_MS => {
                let version = leader.version_of(name);
                Message::Unchanged { version, asked_ms, number }
            }
            None => return,
        };
        allocator.polls.remove(name);
        self.send(Place::Allocator(index), Place::Scraper(name.clone()), message);
    }

    pub(crate) fn step_allocators(&mut self) {
        if self.now_ms % 200 != 0 {
            return;
        }
        for index in 0..self.allocators.len() {
            if self.faults.paused(&Place::Allocator(index), self.now_ms).is_some() {
                continue;
            }
            self.advance(index);
            let waiting: Vec<Name> = self.allocators[index].polls.keys().cloned().collect();
            for name in waiting {
                self.answer(index, &name);
            }
        }
    }

    fn advance(&mut self, index: usize) {
        let clock_ms = self.now_ms + self.allocators[index].skew_ms;
        let Some(mut leader) = self.allocators[index].leader.take() else { return };
        leader.advance(clock_ms);
        if leader.is_leading() {
            let takers: Vec<String> = leader.membership().takers().map(str::to_owned).collect();
            let wanted_for = (self.discovery, takers);
            if self.allocators[index].placed_for != wanted_for && !wanted_for.1.is_empty() {
                self.place(index, &mut leader, &wanted_for.1);
                if self.unsynced.is_empty() {
                    leader.want(&self.allocators[index].placed, clock_ms);
                } else {
                    // Nobody can say of the others that they are gone.
                    for (key, target) in &self.targets {
                        let name = self.allocators[index].placed.get(key);
                        if name.is_some() || !target.alive {
                            leader.want_key(*key, name, clock_ms);
                        }
                    }
                }
                self.allocators[index].placed_for = wanted_for;
                leader.advance(clock_ms);
            }
            let gone: Vec<Name> =
                self.scrapers.values().filter(|s| !s.exists).map(|s| s.name.clone()).collect();
            for name in gone {
                leader.left(&name);
            }
            if self.now_ms % FORGET_MS == 0 {
                self.forget(&mut leader);
            }
        }
        if leader.is_leading() {
            self.allocators[index].books.follow(&mut leader, self.targets.keys().copied());
            for key in self.targets.keys() {
                let names = leader.participants(*key).map(|(name, _)| name.clone());
                self.audit.concern(*key, names.collect(), self.now_ms);
            }
        }
        let lost: BTreeSet<Name> =
            leader.membership().members().filter(|(_, m)| m.lost).map(|(name, _)| Name::from(name)).collect();
        for name in lost.difference(&self.allocators[index].lost) {
            self.say(|| format!("allocator {index} counts {name} as lost"));
            self.audit.lost(name, self.now_ms);
        }
        // Whoever was expected and did not report when it took over counts as lost too.
        if leader.is_leading() {
            for name in self.scrapers.keys() {
                if leader.membership().get(name).is_none() && !self.audit.is_cut_off(name) {
                    self.audit.lost(name, self.now_ms);
                }
            }
        }
        let ended = leader.moves_ended();
        let now = (ended.0, ended.1, leader.keys_lost());
        let allocator = &mut self.allocators[index];
        let totals = &mut self.audit.totals;
        totals.moves_done += now.0 - allocator.counted.0;
        totals.moves_given_up += now.1 - allocator.counted.1;
        totals.keys_lost += now.2 - allocator.counted.2;
        allocator.counted = now;
        allocator.lost = lost;
        allocator.leader = Some(leader);
    }

    /// Whether an allocator leads that could have somebody replace one who is lost: one that hears somebody, and has somebody to give
    /// targets to.
    pub(crate) fn is_able(&self) -> bool {
        let now_ms = self.now_ms;
        let Some(index) = self.lease.holder else { return false };
        let (place, allocator) = (Place::Allocator(index), &self.allocators[index]);
        let Some(leader) = allocator.leader.as_ref().filter(|leader| leader.is_leading()) else {
            return false;
        };
        let heard_ms = leader.membership().members().map(|(_, member)| member.reported_ms).max();
        let is_deaf = heard_ms.is_none_or(|heard_ms| now_ms + allocator.skew_ms - heard_ms > DEAF_MS);
        let is_up = |taker: &str| {
            let taker_place = Place::Scraper(Name::from(taker));
            self.scrapers.get(taker).is_some_and(|s| s.member.is_some())
                && self.faults.paused(&taker_place, now_ms).is_none()
                && !self.faults.is_cut(&place, &taker_place, now_ms)
        };
        self.faults.paused(&place, now_ms).is_none() && !is_deaf && leader.membership().takers().any(is_up)
    }

    /// Forgets everyone who is lost, and may well be alive. The product does so after a day, or where a pod is gone for good.
    fn forget(&mut self, leader: &mut Leader) {
        let lost = leader.membership().members().filter(|(_, member)| member.lost);
        let lost: Vec<Name> = lost.map(|(name, _)| Name::from(name)).collect();
        for name in leader.forget(&lost) {
            self.audit.totals.forgotten += 1;
            self.say(|| format!("{name} is forgotten"));
        }
    }

    /// The product's own placement, from where things are.
    fn place(&mut self, index: usize, leader: &mut Leader, takers: &[String]) {
        let targets: Vec<(TargetKey, f64)> = self
            .targets
            .iter()
            .filter(|(key, t)| t.alive && !self.unsynced.contains(key))
            .map(|(key, t)| (*key, t.weight))
            .collect();
        let before: BTreeMap<TargetKey, Name> =
            leader.placed().map(|(key, name)| (key, name.clone())).collect();
        // As the product has it: whoever has nothing is new.
        let mut scrapers: Vec<String> = before.values().map(|name| name.to_string()).collect();
        scrapers.sort();
        scrapers.dedup();
        let held = |key: TargetKey| {
            let owner = before.get(&key)?;
            let scraper = scrapers.binary_search_by(|name| (**name).cmp(&**owner)).ok()?;
            Some(Held { scraper, weight: self.targets.get(&key)?.weight })
        };
        let previous = Previous { scrapers: &scrapers, held: &held };
        let placement = placement::place(&targets, takers, Some(&previous), &PlacementOptions::default());
        let placed = targets.iter().zip(&placement.owners);
        self.allocators[index].placed =
            placed.map(|((key, _), owner)| (*key, Name::from(takers[*owner as usize].as_str()))).collect();
    }
}
