//! What must hold, checked as it happens and at the end.

use std::collections::{BTreeMap, BTreeSet};

use promring_model::handover::Name;
use promring_model::slots::Slots;
use promring_model::target::TargetKey;

use crate::world::Mode;

/// A gap is looked for between the first start of a key and this long before its end or the run's, in milliseconds.
const TAIL_MS: i64 = 3_000;

/// After a fault, everything must be back in order within this, in milliseconds: a lapse for the loss, a lapse of the
/// leader's, a Lease, and a hand-over.
const RECOVERY_MS: i64 = 75_000;

/// After the last scraper has gone, others may have to be waited for, and then the lapse, in milliseconds.
const NOBODY_MS: i64 = 45_000;

/// A marker of a target that came back may be this late, in milliseconds: news travel that long.
const MARKER_LATE_MS: i64 = 60_000;

#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) slots: u64,
    pub(crate) owners_changed: u64,
    pub(crate) moves_done: u64,
    pub(crate) moves_given_up: u64,
    pub(crate) keys_lost: u64,
    pub(crate) takeovers: u64,
    pub(crate) told_by_giver: u64,
    pub(crate) excused_duplicates: u64,
    pub(crate) excused_gaps: u64,
    pub(crate) excused_order: u64,
    pub(crate) markers: u64,
    pub(crate) received: u64,
    pub(crate) resumed: u64,
    /// Lost members that a leader forgot.
    pub(crate) forgotten: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, other: &Self) {
        self.slots += other.slots;
        self.owners_changed += other.owners_changed;
        self.moves_done += other.moves_done;
        self.moves_given_up += other.moves_given_up;
        self.keys_lost += other.keys_lost;
        self.takeovers += other.takeovers;
        self.told_by_giver += other.told_by_giver;
        self.excused_duplicates += other.excused_duplicates;
        self.excused_gaps += other.excused_gaps;
        self.excused_order += other.excused_order;
        self.markers += other.markers;
        self.received += other.received;
        self.resumed += other.resumed;
        self.forgotten += other.forgotten;
    }

    /// That the runs were not about nothing.
    pub(crate) fn check(&self, mode: Mode, runs: u64) {
        assert!(self.slots > runs * 300, "{self:?}");
        assert!(self.owners_changed > runs * 2, "{self:?}");
        assert!(self.moves_done > runs, "{self:?}");
        assert!(self.takeovers > runs, "{self:?}");
        assert!(self.markers > 0 && self.received > self.slots, "{self:?}");
        match mode {
            Mode::Planned => {
                assert_eq!((self.excused_duplicates, self.excused_gaps), (0, 0), "{self:?}");
                // What one that came back had left on its disk.
                assert!(self.excused_order * 1_000 < self.received, "{self:?}");
            }
            Mode::Lossy => assert_eq!(self.excused_duplicates, 0, "{self:?}"),
            Mode::Chaos => assert!(self.keys_lost > runs / 4 && self.forgotten > runs / 4, "{self:?}"),
        }
    }
}

/// A target's life.
#[derive(Clone, Debug)]
struct Life {
    slots: Slots,
    /// From when to when it lived.
    lives: Vec<(i64, Option<i64>)>,
}

#[derive(Clone, Debug)]
struct Start {
    by: Name,
    cut_off: bool,
}

#[derive(Default)]
pub(crate) struct Audit {
    lives: BTreeMap<TargetKey, Life>,
    starts: BTreeMap<TargetKey, BTreeMap<i64, Vec<Start>>>,
    /// Scrapers that a leader has counted as lost and that have not heard from the newest leader since.
    cut_off: BTreeMap<Name, i64>,
    ever_lost: BTreeSet<Name>,
    /// Who has ever started a slot.
    scraped: BTreeSet<Name>,
    /// Slots of a key that may be missing: its taker heard of T too late.
    late: BTreeMap<TargetKey, Vec<(i64, i64)>>,
    faults: Vec<(i64, i64)>,
    /// When nobody was left to take over what the last one had.
    nobody: Vec<(i64, i64)>,
    /// Slots up to here have been looked at.
    judged_ms: i64,
    received: BTreeMap<(usize, TargetKey), i64>,
    markers: BTreeMap<TargetKey, Vec<i64>>,
    pub(crate) totals: Totals,
}

impl Audit {
    pub(crate) fn lives(&mut self, key: TargetKey, slots: Slots, now_ms: i64) {
        self.lives.entry(key).or_insert(Life { slots, lives: Vec::new() }).lives.push((now_ms, None));
    }

    pub(crate) fn dies(&mut self, key: TargetKey, now_ms: i64) {
        if let Some((_, end)) = self.lives.get_mut(&key).and_then(|life| life.lives.last_mut()) {
            *end = Some(now_ms);
        }
    }

    pub(crate) fn lost(&mut self, name: &Name, now_ms: i64) {
        self.cut_off.insert(name.clone(), now_ms);
        // Who is new, and has yet to report, has nothing that could come late.
        if self.scraped.contains(name) {
            self.ever_lost.insert(name.clone());
        }
    }

    /// The newest leader has answered a question that it put at this time.
    pub(crate) fn found(&mut self, name: &Name, asked_ms: i64) {
        if self.cut_off.get(name).is_some_and(|lost_ms| *lost_ms <= asked_ms) {
            self.cut_off.remove(name);
        }
    }

    pub(crate) fn is_cut_off(&self, name: &Name) -> bool {
        self.cut_off.contains_key(name)
    }

    /// A fault from now until then.
    pub(crate) fn fault(&mut self, from_ms: i64, to_ms: i64) {
        self.faults.push((from_ms, to_ms));
    }

    /// The last one has gone.
    pub(crate) fn nobody_left(&mut self, now_ms: i64) {
        self.nobody.push((now_ms - 2_000, now_ms + NOBODY_MS));
    }

    /// A key has become a scraper's own, with no T before it.
    pub(crate) fn late(&mut self, mode: Mode, key: TargetKey, now_ms: i64) {
        let before = self.starts.get(&key).and_then(|starts| starts.last_key_value());
        let from_ms = before.map_or(now_ms, |(slot, _)| *slot);
        if mode != Mode::Planned {
            self.late.entry(key).or_default().push((from_ms, now_ms));
        }
    }

    /// A slot was started: nobody else may have started it.
    pub(crate) fn started(&mut self, key: TargetKey, slot_ms: i64, by: &Name, now_ms: i64) {
        let cut_off = self.cut_off.contains_key(by);
        self.totals.slots += 1;
        let of_key = self.starts.entry(key).or_default();
        if let Some((_, before)) = of_key.range(..slot_ms).next_back()
            && before.iter().all(|start| start.by != *by)
        {
            self.totals.owners_changed += 1;
        }
        self.scraped.insert(by.clone());
        let starts = of_key.entry(slot_ms).or_default();
        for other in starts.iter() {
            let excused =
                other.by != *by && (cut_off || other.cut_off || self.cut_off.contains_key(&other.by));
            assert!(excused, "at {now_ms}: slot {slot_ms} of {key} has two owners, {} and {by}", other.by);
            self.totals.excused_duplicates += 1;
        }
        starts.push(Start { by: by.clone(), cut_off });
    }

    pub(crate) fn marked(&mut self, key: TargetKey, by: &Name, now_ms: i64) {
        let lives = self.lives.get(&key).map(|life| &life.lives[..]).unwrap_or_default();
        let justified = lives
            .iter()
            .any(|(_, end)| end.is_some_and(|end| end <= now_ms && now_ms - end < MARKER_LATE_MS));
        let dead = lives.last().is_none_or(|(_, end)| end.is_some());
        assert!(dead || justified, "at {now_ms}: {by} marks {key}, which is alive");
        self.markers.entry(key).or_default().push(now_ms);
        self.totals.markers += 1;
    }

    /// A sample has come to a receiver: samples of a series come in order.
    pub(crate) fn received(&mut self, destination: usize, key: TargetKey, time_ms: i64, now_ms: i64) {
        self.totals.received += 1;
        let newest = self.received.entry((destination, key)).or_insert(i64::MIN);
        if time_ms <= *newest {
            // Whoever was lost sends late what it had, and a cut-off one what others have sent too.
            let starts = self.starts.get(&key);
            let by_lost = |at_ms: i64| {
                let slot = starts.and_then(|starts| starts.range(..=at_ms).next_back());
                let is_excused = |start: &Start| start.cut_off || self.ever_lost.contains(&start.by);
                slot.is_some_and(|(_, starts)| starts.iter().any(is_excused))
            };
            assert!(
                by_lost(time_ms) || by_lost(*newest),
                "at {now_ms}: {key} at receiver {destination}: {time_ms} came after {newest}, and nobody was lost"
            );
            self.totals.excused_order += 1;
        }
        *newest = (*newest).max(time_ms);
    }

    /// Where nothing may excuse it, a slot that is missing is seen as soon as it is over.
    pub(crate) fn step(&mut self, mode: Mode, now_ms: i64) {
        if mode == Mode::Planned && now_ms - self.judged_ms >= TAIL_MS {
            self.judge(now_ms);
        }
    }

    /// No slot of a living target that has not been looked at is missing without a reason.
    fn judge(&mut self, end_ms: i64) {
        let from_ms = std::mem::replace(&mut self.judged_ms, end_ms - TAIL_MS);
        for (key, life) in &self.lives {
            let Some(starts) = self.starts.get(key) else { continue };
            for (born, died) in &life.lives {
                let last_ms = died.unwrap_or(end_ms).min(end_ms) - TAIL_MS;
                let Some((first, _)) = starts.range(*born..).next() else { continue };
                let mut slot = life.slots.next_after((*first).max(from_ms - 1));
                while slot < last_ms {
                    let nobody = self.nobody.iter().any(|(from, to)| slot >= *from && slot <= *to);
                    if !starts.contains_key(&slot) && !nobody {
                        let late = self.late.get(key).is_some_and(|late| {
                            late.iter().any(|(from, to)| slot > *from && slot <= to + 500)
                        });
                        // After a first life, owners may have to be found anew.
                        let fault = self
                            .faults
                            .iter()
                            .any(|(from, to)| slot >= from - 1_500 && slot <= to + RECOVERY_MS);
                        assert!(
                            late || fault,
                            "slot {slot} of {key} (lives {:?}) is missing; before it {:?}, after it {:?}",
                            life.lives,
                            starts.range(..slot).next_back(),
                            starts.range(slot..).next(),
                        );
                        self.totals.excused_gaps += 1;
                    }
                    slot = life.slots.next_after(slot);
                }
            }
        }
    }

    /// At the end, when it is known what may excuse what: no slot of a living target is missing, and every target that died has
    /// its marker.
    pub(crate) fn finish(&mut self, mode: Mode, end_ms: i64) {
        self.judge(end_ms);
        for (key, life) in &self.lives {
            let Some(starts) = self.starts.get(key) else { continue };
            let last = life.lives.last();
            if let Some((born, Some(died))) = last
                && mode == Mode::Planned
                && end_ms - died > 40_000
                && !self.nobody.iter().any(|(from, to)| died >= from && died <= to)
                && starts.range(*born..).next().is_some_and(|(first, _)| *died - *first > 8_000)
            {
                let markers = self.markers.get(key).map(|all| all.iter().filter(|at| *at >= died).count());
                assert_eq!(markers, Some(1), "markers of {key}, which died at {died}");
            }
        }
    }

    /// Slots of a key that nobody has started between its first one and this time.
    pub(crate) fn missing(&self, key: TargetKey, until_ms: i64) -> Vec<i64> {
        let (Some(life), Some(starts)) = (self.lives.get(&key), self.starts.get(&key)) else {
            return Vec::new();
        };
        let Some((first, _)) = starts.first_key_value() else { return Vec::new() };
        let next = |slot: &i64| Some(life.slots.next_after(*slot)).filter(|slot| *slot < until_ms);
        let slots = std::iter::successors(next(first), next);
        slots.filter(|slot| !starts.contains_key(slot)).collect()
    }

    /// The newest sample of a key that a receiver has.
    pub(crate) fn newest(&self, destination: usize, key: TargetKey) -> Option<i64> {
        self.received.get(&(destination, key)).copied()
    }

    /// Who started the newest slot of a key.
    pub(crate) fn scraper(&self, key: TargetKey) -> Option<&Name> {
        let (_, starts) = self.starts.get(&key)?.last_key_value()?;
        starts.last().map(|start| &start.by)
    }

    /// In a calm world every living key was scraped by one alone, lately.
    pub(crate) fn calm(&self, alive: impl Iterator<Item = TargetKey>, now_ms: i64) {
        for key in alive {
            let life = &self.lives[&key];
            let slot = life.slots.slot_at(now_ms - 2_000);
            let starts = self.starts.get(&key).and_then(|starts| starts.get(&slot));
            assert_eq!(
                starts.map(Vec::len),
                Some(1),
                "at the end, slot {slot} of {key} was scraped by {starts:?}"
            );
        }
    }
}
