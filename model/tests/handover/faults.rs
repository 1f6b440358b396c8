//! What happens to the world: planned changes, and faults.

use std::collections::{BTreeMap, BTreeSet};

use promring_model::handover::Name;
use promring_model::target::TargetKey;

use crate::queue::DESTINATIONS;
use crate::scraper::Scraper;
use crate::world::{Mode, Place, World};

/// Scrapers that there may be.
const SCRAPERS_MAX: usize = 7;

#[derive(Default)]
pub(crate) struct Faults {
    cut: BTreeMap<(Place, Place), i64>,
    paused: BTreeMap<Place, i64>,
    lease_cut: BTreeMap<usize, i64>,
    /// Destinations that take nothing, or little, until then.
    away: BTreeMap<usize, (i64, usize)>,
}

impl Faults {
    /// Nothing passes between these two until then.
    pub(crate) fn cut(&mut self, from: Place, to: Place, until_ms: i64) {
        self.cut.insert((from, to), until_ms);
    }

    /// A destination takes so many records of a lane at once until then.
    pub(crate) fn slow(&mut self, destination: usize, until_ms: i64, max: usize) {
        self.away.insert(destination, (until_ms, max));
    }

    pub(crate) fn is_cut(&self, from: &Place, to: &Place, now_ms: i64) -> bool {
        let cut =
            |a: &Place, b: &Place| self.cut.get(&(a.clone(), b.clone())).is_some_and(|until| *until > now_ms);
        !self.cut.is_empty() && (cut(from, to) || cut(to, from))
    }

    pub(crate) fn paused(&self, place: &Place, now_ms: i64) -> Option<i64> {
        self.paused.get(place).copied().filter(|until| *until > now_ms)
    }

    pub(crate) fn lease_cut(&self, index: usize, now_ms: i64) -> bool {
        self.lease_cut.get(&index).is_some_and(|until| *until > now_ms)
    }

    /// How many records of a lane a destination takes now.
    pub(crate) fn receives(&self, destination: usize, now_ms: i64) -> Option<usize> {
        match self.away.get(&destination) {
            Some((until, max)) if *until > now_ms => (*max > 0).then_some(*max),
            _ => Some(100),
        }
    }
}

impl World {
    pub(crate) fn calm_down(&mut self) {
        if self.faults.cut.is_empty() && self.faults.lease_cut.is_empty() && self.faults.away.is_empty() {
            return;
        }
        self.faults.cut.clear();
        self.faults.lease_cut.clear();
        self.faults.away.clear();
        self.say(|| "calm".to_owned());
    }

    /// Keys that no source tells of, or whose job is not in everybody's file.
    pub(crate) fn lacking(&self) -> BTreeSet<TargetKey> {
        let of_scrapers = self.scrapers.values().flat_map(|s| &s.lacking);
        self.unsynced.iter().chain(of_scrapers).copied().collect()
    }

    /// Every source answers, and every job is in everybody's file.
    pub(crate) fn lack_nothing(&mut self) {
        if self.lacking_ms.take().is_none() {
            return;
        }
        self.say(|| "CHANGE nothing is lacking".to_owned());
        self.audit.lacked(self.now_ms);
        self.lacked = (self.now_ms, self.lacking());
        self.unsynced.clear();
        self.scrapers.values_mut().for_each(|s| s.set_lacking(BTreeSet::new()));
        self.discovery += 1;
    }

    /// Something happens, now and then.
    pub(crate) fn disturb(&mut self) {
        if self.lacking_ms.is_some_and(|(_, until_ms)| until_ms <= self.now_ms) {
            self.lack_nothing();
        }
        self.lack_something();
        if self.chance.ppm(8_000) {
            self.change();
        }
        if self.mode == Mode::Chaos && self.chance.ppm(4_000) {
            self.fault();
        }
    }

    fn change(&mut self) {
        let names: Vec<Name> = self.scrapers.values().filter(|s| s.takes()).map(|s| s.name.clone()).collect();
        let keys: Vec<TargetKey> = self.targets.keys().copied().collect();
        let now_ms = self.now_ms;
        match self.chance.between(0, 11) {
            0 | 1 if names.len() < SCRAPERS_MAX => {
                let number = (0..).find(|n| !self.scrapers.contains_key(format!("s{n}").as_str()));
                let gone: Vec<Name> =
                    self.scrapers.values().filter(|s| !s.exists).map(|s| s.name.clone()).collect();
                if let Some(name) = self.chance.pick(&gone).cloned() {
                    // An ordinal that comes back has its volume.
                    self.say(|| format!("CHANGE {name} is back"));
                    if let Some(s) = self.scrapers.get_mut(&name) {
                        (s.exists, s.starts_ms) = (true, Some(now_ms));
                    }
                } else if let Some(number) = number {
                    self.say(|| format!("CHANGE s{number} is new"));
                    self.add_scraper(number);
                }
            }
            2 | 3 if names.len() > 1 => {
                let back = self.chance.ppm(600_000).then(|| self.chance.between(500, 8_000));
                if let Some(name) = self.chance.pick(&names).cloned()
                    && let Some(s) = self.scrapers.get_mut(&name)
                    && s.member.is_some()
                {
                    s.ending = Some(back);
                    self.say(|| format!("CHANGE {name} drains, back {back:?}"));
                }
            }
            4 | 5 => {
                for key in &keys {
                    let weight = self.chance.between(1, 1_000) as f64;
                    if let Some(target) = self.targets.get_mut(key) {
                        target.weight = weight;
                    }
                }
                self.say(|| "CHANGE weights".to_owned());
                self.discovery += 1;
            }
            6 => self.add_target(1_000 + now_ms),
            7 | 8 => {
                // Of what no source tells nobody can say that it is gone.
                if let Some(key) = self.chance.pick(&keys)
                    && !self.unsynced.contains(key)
                    && let Some(target) = self.targets.get_mut(key)
                {
                    target.alive = !target.alive;
                    let (alive, slots) = (target.alive, target.slots);
                    match alive {
                        true => self.audit.lives(*key, slots, now_ms),
                        false => self.audit.dies(*key, now_ms),
                    }
                    self.say(|| format!("CHANGE {key} alive {alive}"));
                    self.discovery += 1;
                }
            }
            9 => {
                // A rolling update of the allocators: it releases the Lease.
                if let Some(holder) = self.lease.holder {
                    self.say(|| format!("CHANGE allocator {holder} restarts"));
                    self.retire(holder);
                }
            }
            10 => {
                let destination = self.chance.between(0, DESTINATIONS.len() as i64 - 1) as usize;
                let max = self.chance.between(0, 1) as usize;
                self.say(|| format!("CHANGE destination {destination} takes {max}"));
                self.faults.away.insert(destination, (now_ms + self.chance.between(1_000, 25_000), max));
            }
            _ => {
                if let Some(key) = self.chance.pick(&keys).copied() {
                    for allocator in &mut self.allocators {
                        if let Some(leader) = &mut allocator.leader {
                            leader.renew(key);
                        }
                    }
                }
            }
        }
    }

    /// Now and then a source is away when the allocators restart, or a job is in some scrapers' files only.
    fn lack_something(&mut self) {
        let now_ms = self.now_ms;
        let Some(chance) = self.lacks.as_mut().filter(|_| self.lacking_ms.is_none()) else { return };
        let Some(holder) = self.lease.holder.filter(|_| chance.ppm(1_500)) else { return };
        let alive = self.targets.iter().filter(|(_, target)| target.alive).map(|(key, _)| *key);
        let keys: BTreeSet<TargetKey> = alive.filter(|_| chance.ppm(250_000)).collect();
        // Up to the time of peace, and for a part of that, if it comes to it.
        self.lacking_ms = Some((now_ms, now_ms + chance.between(10_000, 150_000)));
        self.audit.totals.lacks += 1;
        if chance.ppm(500_000) {
            self.say(|| format!("CHANGE allocator {holder} restarts without {keys:?}"));
            self.audit.unsynced(&keys, now_ms);
            self.unsynced = keys;
            self.retire(holder);
            return;
        }
        for s in self.scrapers.values_mut().filter(|_| chance.ppm(700_000)) {
            s.set_lacking(keys.clone());
        }
        self.say(|| format!("CHANGE {keys:?} are not in all files"));
    }

    /// The worst moment: before something is saved, and then no allocator can be reached.
    pub(crate) fn crash_out_of_reach(&mut self, s: &mut Scraper) {
        let until_ms = (self.now_ms + self.chance.between(5_000, 30_000)).min(self.calm_ms);
        self.say(|| format!("FAULT {} crashes out of reach until {until_ms}", s.name));
        s.stop();
        s.starts_ms = Some(self.now_ms + self.chance.between(100, 3_000));
        for index in 0..2 {
            let pair = (Place::Allocator(index), Place::Scraper(s.name.clone()));
            self.faults.cut.insert(pair, until_ms);
        }
        self.audit.fault(&s.name, self.now_ms, until_ms);
    }

    fn fault(&mut self) {
        let names: Vec<Name> = self.scrapers.keys().cloned().collect();
        let Some(name) = self.chance.pick(&names).cloned() else { return };
        let (now_ms, allocator) = (self.now_ms, self.chance.between(0, 1) as usize);
        let long_ms = match self.chance.ppm(500_000) {
            true => self.chance.between(200, 8_000),
            false => self.chance.between(8_000, 45_000),
        };
        let until_ms = (now_ms + long_ms).min(self.calm_ms);
        let what = self.chance.between(0, 8);
        self.say(|| format!("FAULT {what} {name} allocator {allocator} until {until_ms}"));
        // What befalls an allocator excuses nobody's gap: scraping goes on.
        if what < 6 {
            self.audit.fault(&name, now_ms, until_ms);
        }
        match what {
            0 | 1 => {
                if let Some(s) = self.scrapers.get_mut(&name).filter(|s| s.member.is_some()) {
                    s.stop();
                    s.starts_ms = Some(until_ms);
                }
            }
            2 => drop(self.faults.paused.insert(Place::Scraper(name), until_ms)),
            3 => {
                let pair = (Place::Allocator(allocator), Place::Scraper(name));
                self.faults.cut.insert(pair, until_ms);
            }
            4 => {
                for index in 0..2 {
                    let pair = (Place::Allocator(index), Place::Scraper(name.clone()));
                    self.faults.cut.insert(pair, until_ms);
                }
            }
            5 => {
                if let Some(other) = self.chance.pick(&names).cloned() {
                    self.audit.fault(&other, now_ms, until_ms);
                    let pair = (Place::Scraper(name), Place::Scraper(other));
                    self.faults.cut.insert(pair, until_ms);
                }
            }
            6 => drop(self.faults.lease_cut.insert(allocator, until_ms)),
            7 => {
                // It is killed: nobody releases the Lease.
                self.allocators[allocator].step_down();
                self.allocators[allocator].down_until_ms = until_ms;
            }
            _ => drop(self.faults.paused.insert(Place::Allocator(allocator), until_ms)),
        }
    }
}
