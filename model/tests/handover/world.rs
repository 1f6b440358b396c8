//! The simulated world: time, network, Lease, targets, and who there is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use promring_model::handover::{LeaderOptions, MemberReport, MoveId, Name, Reply, Staying, Told, Version};
use promring_model::hash::hash64;
use promring_model::membership::MembershipOptions;
use promring_model::slots::Slots;
use promring_model::target::TargetKey;

use crate::allocator::Allocator;
use crate::audit::{Audit, Totals};
use crate::chance::Chance;
use crate::faults::Faults;
use crate::scraper::{POLL_TIMEOUT_MS, Scraper};

pub(crate) const STEP_MS: i64 = 50;
pub(crate) const START_MS: i64 = 1_000_000;
/// Changes and faults come in this time; then the world is left in peace for as long.
const BUSY_MS: i64 = 110_000;
const CALM_MS: i64 = 135_000;
/// A message takes no longer where nothing is wrong, in milliseconds.
const USUAL_DELAY_MS: i64 = 150;
/// So long into that time, sources that are away and jobs that are missing stay so: drains end all the same. Two takers, one after the
/// other, may turn out to lack a job, each after the time in which it has to be prepared.
const LACKING_MS: i64 = 85_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Planned changes on a network that delays a little; leaders come and go.
    Planned,
    /// The same, and messages are lost, late and out of order.
    Lossy,
    /// The same, and everything crashes, pauses, and is cut off.
    Chaos,
}

#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) slots: Slots,
    pub(crate) alive: bool,
    pub(crate) weight: f64,
}

#[derive(Clone, Debug)]
pub(crate) enum Message {
    Poll { from: Name, run: u64, held: Option<Version>, asked_ms: i64, number: u64, wait: bool },
    Report { from: Name, report: Box<MemberReport>, asked_ms: i64 },
    Told { told: Box<Told>, asked_ms: i64, number: u64 },
    Unchanged { version: Version, asked_ms: i64, number: u64 },
    Refused { number: u64 },
    Reply { reply: Reply, alone: bool, staying: Option<Staying>, asked_ms: i64 },
    Question { from: Name, id: MoveId },
    Word { id: MoveId, at: i64 },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Allocator(usize),
    Scraper(Name),
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lease {
    pub(crate) holder: Option<usize>,
    pub(crate) term: u64,
    pub(crate) renewed_ms: i64,
}

pub(crate) struct World {
    pub(crate) mode: Mode,
    pub(crate) now_ms: i64,
    pub(crate) chance: Chance,
    /// Whether something is lacking now and then. By a chance of its own: seeds that found something find it as they did.
    pub(crate) lacks: Option<Chance>,
    pub(crate) log: bool,
    pub(crate) audit: Audit,
    pub(crate) targets: BTreeMap<TargetKey, Target>,
    /// Keys that no source has told a new leader of yet.
    pub(crate) unsynced: BTreeSet<TargetKey>,
    /// What lacked something last, and until when: who was told so may not know better yet.
    pub(crate) lacked: (i64, BTreeSet<TargetKey>),
    /// Since when something is lacking, and until when: their source, or jobs in somebody's file.
    pub(crate) lacking_ms: Option<(i64, i64)>,
    /// Grows with every change of targets and weights.
    pub(crate) discovery: u64,
    pub(crate) allocators: Vec<Allocator>,
    pub(crate) scrapers: BTreeMap<Name, Scraper>,
    pub(crate) lease: Lease,
    pub(crate) faults: Faults,
    /// When messages get lost and late until, however lossy the world.
    pub(crate) calm_ms: i64,
    sent: u64,
    network: BinaryHeap<Reverse<(i64, u64)>>,
    flying: BTreeMap<u64, (Place, Place, Message)>,
}

pub(crate) fn leader_options() -> LeaderOptions {
    let membership = MembershipOptions { lapse: Duration::from_secs(15), settle: Duration::from_secs(5) };
    LeaderOptions { membership, fence_max: Duration::from_secs(40), ..LeaderOptions::default() }
}

impl World {
    pub(crate) fn new(seed: u64, mode: Mode, log: bool) -> Self {
        let mut chance = Chance::new(seed);
        let skews_ms = [(), ()].map(|()| chance.between(-250, 250));
        let scrapers = chance.between(1, 5);
        let targets = chance.between(3, 24);
        let mut world = Self::empty(chance, mode, log, skews_ms);
        world.lacks = (seed % 2 == 1).then(|| Chance::new(!seed));
        for number in 0..scrapers {
            world.add_scraper(number);
        }
        for number in 0..targets {
            world.add_target(number);
        }
        world
    }

    /// A world with two allocators, whose clocks are off by this much, and nothing else.
    pub(crate) fn empty(chance: Chance, mode: Mode, log: bool, skews_ms: [i64; 2]) -> Self {
        let allocators = skews_ms.into_iter().map(Allocator::new).collect();
        Self {
            mode,
            now_ms: START_MS,
            chance,
            lacks: None,
            log,
            audit: Audit::default(),
            targets: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            lacked: Default::default(),
            lacking_ms: None,
            discovery: 1,
            allocators,
            scrapers: BTreeMap::new(),
            lease: Lease::default(),
            faults: Faults::default(),
            calm_ms: START_MS + BUSY_MS,
            sent: 0,
            network: BinaryHeap::new(),
            flying: BTreeMap::new(),
        }
    }

    pub(crate) fn add_scraper(&mut self, number: i64) {
        let skew_ms = self.chance.between(-250, 250);
        self.add_skewed_scraper(number, skew_ms);
    }

    /// One whose clock is off by this much.
    pub(crate) fn add_skewed_scraper(&mut self, number: i64, skew_ms: i64) {
        let name = Name::from(format!("s{number}"));
        let scraper = Scraper::new(name.clone(), skew_ms, self.now_ms);
        self.scrapers.insert(name, scraper);
    }

    pub(crate) fn add_target(&mut self, number: i64) {
        let key = TargetKey(hash64(&number.to_le_bytes()));
        let interval = *self.chance.pick(&[1_000, 1_000, 2_000, 5_000]).unwrap_or(&1_000);
        let slots = Slots::new(Duration::from_millis(interval), key);
        let weight = self.chance.between(1, 100) as f64;
        self.targets.insert(key, Target { slots, alive: true, weight });
        self.audit.lives(key, slots, self.now_ms);
        self.discovery += 1;
    }

    pub(crate) fn run(mut self) -> Totals {
        let end_ms = START_MS + BUSY_MS + CALM_MS;
        while self.now_ms < end_ms {
            self.now_ms += STEP_MS;
            if self.now_ms < self.calm_ms {
                self.disturb();
            } else {
                self.calm_down();
            }
            if self.now_ms == self.calm_ms + LACKING_MS {
                self.check_drains();
                self.lack_nothing();
            }
            self.act();
        }
        self.finish()
    }

    /// Everybody does what is to be done at this moment.
    pub(crate) fn act(&mut self) {
        self.deliver();
        self.step_lease();
        self.step_allocators();
        self.step_scrapers();
        self.audit.pass(STEP_MS, self.is_able(), self.now_ms);
        self.audit.step(self.mode, self.now_ms);
    }

    /// Checks what must hold at the end of a time of peace.
    pub(crate) fn finish(mut self) -> Totals {
        let end_ms = self.now_ms;
        self.audit.finish(self.mode, end_ms);
        let alive = self.targets.iter().filter(|(_, target)| target.alive).map(|(key, _)| *key);
        if self.scrapers.values().any(|scraper| scraper.takes()) {
            self.audit.calm(alive, end_ms);
            self.check_at_rest();
        }
        self.audit.totals
    }

    /// At the end there is one leader, and nothing is in flight any more.
    fn check_at_rest(&self) {
        let leaders: Vec<_> =
            self.allocators.iter().filter_map(|allocator| allocator.leader.as_ref()).collect();
        assert_eq!(leaders.len(), 1, "one leads");
        let moves: Vec<_> = leaders[0].moves().collect();
        assert!(moves.is_empty(), "moves that never end: {moves:?}");
        for scraper in self.scrapers.values().filter(|scraper| scraper.exists) {
            let held: Vec<_> = scraper.queues.iter().map(|queue| queue.held()).collect();
            assert!(held.iter().all(|held| held.is_empty()), "{} has closed fences: {held:?}", scraper.name);
        }
    }

    /// Nobody waits for what is not going to move.
    fn check_drains(&self) {
        if self.mode == Mode::Planned {
            let draining: Vec<&Name> =
                self.scrapers.values().filter(|s| s.ending.is_some()).map(|s| &s.name).collect();
            assert!(draining.is_empty(), "at {}: drains that never end: {draining:?}", self.now_ms);
        }
    }

    pub(crate) fn say(&self, text: impl FnOnce() -> String) {
        if self.log {
            eprintln!("{} {}", self.now_ms, text());
        }
    }

    /// Sends a message; it may get lost.
    pub(crate) fn send(&mut self, from: Place, to: Place, message: Message) {
        if self.faults.is_cut(&from, &to, self.now_ms) {
            return;
        }
        let lossy = self.mode != Mode::Planned && self.now_ms < self.calm_ms;
        if lossy && self.chance.ppm(40_000) {
            self.say(|| format!("LOST {from:?} -> {to:?}: {message:?}"));
            self.note_unanswered(&from, &to, &message, POLL_TIMEOUT_MS);
            return;
        }
        let delay_ms = match lossy && self.chance.ppm(150_000) {
            true if self.chance.ppm(200_000) => self.chance.between(500, 9_000),
            true => self.chance.between(100, 2_500),
            false => self.chance.between(1, USUAL_DELAY_MS),
        };
        self.note_unanswered(&from, &to, &message, delay_ms);
        if lossy && self.chance.ppm(20_000) {
            // It comes twice.
            let again_ms = delay_ms + self.chance.between(1, 3_000);
            self.put(again_ms, from.clone(), to.clone(), message.clone());
        }
        self.put(delay_ms, from, to, message);
    }

    /// Whoever asks what is its own has to wait so long in vain.
    fn note_unanswered(&mut self, from: &Place, to: &Place, message: &Message, delay_ms: i64) {
        let waits = match (from, to, message) {
            (Place::Scraper(name), _, Message::Poll { .. })
            | (_, Place::Scraper(name), Message::Told { .. }) => name,
            _ => return,
        };
        if delay_ms > USUAL_DELAY_MS {
            self.audit.unanswered(waits, self.now_ms, self.now_ms + delay_ms);
        }
    }

    fn put(&mut self, delay_ms: i64, from: Place, to: Place, message: Message) {
        self.sent += 1;
        self.network.push(Reverse((self.now_ms + delay_ms, self.sent)));
        self.flying.insert(self.sent, (from, to, message));
    }

    fn deliver(&mut self) {
        while let Some(Reverse((at, number))) = self.network.peek().copied() {
            if at > self.now_ms {
                return;
            }
            self.network.pop();
            let Some((from, to, message)) = self.flying.remove(&number) else { continue };
            if self.faults.is_cut(&from, &to, self.now_ms) {
                continue;
            }
            // Who is stopped for a while finds its messages afterwards.
            if let Some(until) = self.faults.paused(&to, self.now_ms) {
                self.put(until - self.now_ms + 1, from, to, message);
                continue;
            }
            match to {
                Place::Allocator(index) => self.allocator_receives(index, message),
                Place::Scraper(name) => self.scraper_receives(&name, &from, message),
            }
        }
    }

    /// The allocator behind the Service, as somebody sees it now: the leading one, or, now and then, one that thinks so.
    pub(crate) fn service(&mut self) -> Option<usize> {
        let leading: Vec<usize> =
            (0..self.allocators.len()).filter(|index| self.allocators[*index].leader.is_some()).collect();
        match self.lease.holder {
            Some(holder) if leading.contains(&holder) && !self.chance.ppm(100_000) => Some(holder),
            _ => self.chance.pick(&leading).copied(),
        }
    }
}
