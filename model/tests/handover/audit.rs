//! What must hold, checked as it happens and at the end.

use std::collections::{BTreeMap, BTreeSet};

use promring_model::handover::Name;
use promring_model::slots::Slots;
use promring_model::target::TargetKey;

use crate::world::Mode;

/// A gap is looked for between the first start of a key and this long before its end or the run's, in milliseconds.
const TAIL_MS: i64 = 3_000;

/// What a loss may cost: the lapse, and two intervals of the target's, as docs/ promise. In milliseconds of time in which an allocator
/// leads that hears somebody who could take over.
const LOSS_MS: i64 = 15_000;

/// What messages that are lost or late add to that, in milliseconds.
const DELAYS_MS: i64 = 3_000;

/// So long before a fault what it makes worse may have begun, as news are late, and so long after its end what it has caused: whoever
/// comes back is in doubt, or hears only then that it was replaced. In milliseconds.
const LATE_MS: i64 = 10_000;

/// A scraper's clock, and how often it looks, in milliseconds.
const CLOCK_MS: i64 = 500;

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
    /// Those of which nobody was counted as lost but the giver by whose word one of both began.
    pub(crate) excused_by_word: u64,
    pub(crate) excused_gaps: u64,
    pub(crate) excused_order: u64,
    pub(crate) markers: u64,
    pub(crate) received: u64,
    /// Lost members that a leader forgot.
    pub(crate) forgotten: u64,
    /// How often somebody learnt that it had been replaced.
    pub(crate) overtaken: u64,
    /// How often a source was away at a restart, or a job not in all files.
    pub(crate) lacks: u64,
    /// Drains that ended with such keys, and slots of these that were missing.
    pub(crate) left: u64,
    pub(crate) left_gaps: u64,
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
        self.excused_by_word += other.excused_by_word;
        self.excused_gaps += other.excused_gaps;
        self.excused_order += other.excused_order;
        self.markers += other.markers;
        self.received += other.received;
        self.forgotten += other.forgotten;
        self.overtaken += other.overtaken;
        self.lacks += other.lacks;
        self.left += other.left;
        self.left_gaps += other.left_gaps;
    }

    /// That the runs were not about nothing.
    pub(crate) fn check(&self, mode: Mode, runs: u64) {
        assert!(self.slots > runs * 300, "{self:?}");
        assert!(self.owners_changed > runs * 2, "{self:?}");
        assert!(self.moves_done > runs, "{self:?}");
        assert!(self.takeovers > runs, "{self:?}");
        assert!(self.lacks > runs / 4 && self.left > runs / 20, "{self:?}");
        assert!(self.markers > 0 && self.received > self.slots, "{self:?}");
        match mode {
            Mode::Planned => {
                assert_eq!((self.excused_duplicates, self.excused_gaps), (0, 0), "{self:?}");
                // What one that came back had left on its disk.
                assert!(self.excused_order * 1_000 < self.received, "{self:?}");
            }
            Mode::Lossy => assert_eq!(self.excused_duplicates, 0, "{self:?}"),
            Mode::Chaos => {
                assert!(self.keys_lost > runs / 4 && self.forgotten > runs / 4, "{self:?}");
                assert!(self.overtaken > runs / 4, "{self:?}");
            }
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
    by_word: bool,
}

/// A giver's word.
#[derive(Clone, Debug)]
struct Word {
    giver: Name,
    at_ms: i64,
    /// The giver was cut off then, or has been since.
    cut_off: bool,
}

#[derive(Default)]
pub(crate) struct Audit {
    lives: BTreeMap<TargetKey, Life>,
    starts: BTreeMap<TargetKey, BTreeMap<i64, Vec<Start>>>,
    /// Scrapers that a leader has counted as lost and that have not heard from the newest leader since.
    cut_off: BTreeMap<Name, i64>,
    /// Who has begun to scrape a key by the word of its giver, and has not heard from the newest leader since.
    by_word: BTreeMap<(Name, TargetKey), Word>,
    ever_lost: BTreeSet<Name>,
    /// Whose drain was in vain and who then went for good, with something unsent on its volume, and when.
    left_unsent: BTreeMap<Name, i64>,
    /// Who has ever started a slot, or ended a series.
    queued: BTreeSet<Name>,
    /// Slots of a key that may be missing: its taker heard of T too late.
    late: BTreeMap<TargetKey, Vec<(i64, i64)>>,
    /// Whom faults befell, from when to when.
    faults: Vec<(Name, i64, i64)>,
    /// Who had to do with a key by a leader's word, since when.
    concerned: BTreeMap<TargetKey, Vec<(i64, BTreeSet<Name>)>>,
    /// When the leader heard a report that came late, and when that was made.
    late_reports: BTreeMap<Name, Vec<(i64, i64)>>,
    /// When somebody waited for an answer that was lost or late, as far as it was, from when to when.
    unanswered: BTreeMap<Name, Vec<(i64, i64)>>,
    /// For how long a leader was able to replace somebody, up to each step.
    able_ms: BTreeMap<i64, i64>,
    /// Whose drain ended with a key that lacked something, when, and when nothing was lacking any more.
    left: BTreeMap<TargetKey, Vec<(Name, i64, Option<i64>)>>,
    /// When no source told of a key, so that nobody could be given it, from when to when.
    unsynced: BTreeMap<TargetKey, Vec<(i64, Option<i64>)>>,
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
        self.by_word.values_mut().filter(|word| word.giver == *name).for_each(|word| word.cut_off = true);
        // Who is new, and has yet to report, has nothing that could come late.
        if self.queued.contains(name) {
            self.ever_lost.insert(name.clone());
        }
    }

    /// The newest leader has answered a question that it put at this time.
    pub(crate) fn found(&mut self, name: &Name, asked_ms: i64) {
        if self.cut_off.get(name).is_some_and(|lost_ms| *lost_ms <= asked_ms) {
            self.cut_off.remove(name);
        }
        self.by_word.retain(|(by, _), word| by != name || word.at_ms > asked_ms);
    }

    /// A scraper that knows of no later leader begins to scrape a key by the word of its giver.
    pub(crate) fn told_by_giver(&mut self, key: TargetKey, by: &Name, giver: &Name, now_ms: i64) {
        let word = Word { giver: giver.clone(), at_ms: now_ms, cut_off: self.is_cut_off(giver) };
        self.by_word.insert((by.clone(), key), word);
    }

    /// Who has a key by the word of a giver that was cut off.
    fn has_by_word(&self, key: TargetKey) -> BTreeSet<Name> {
        let cut_off = self.by_word.iter().filter(|((_, of), word)| *of == key && word.cut_off);
        cut_off.map(|((by, _), _)| by.clone()).collect()
    }

    pub(crate) fn is_cut_off(&self, name: &Name) -> bool {
        self.cut_off.contains_key(name)
    }

    /// A scraper takes it that it was replaced without its word.
    pub(crate) fn overtaken(&mut self, name: &Name, now_ms: i64) {
        let was_lost = self.is_cut_off(name) || self.ever_lost.contains(name);
        // Or somebody else was given what it has begun by its giver's word.
        let by_word = self.by_word.iter().any(|((by, _), word)| by == name && word.cut_off);
        assert!(
            was_lost || by_word,
            "at {now_ms}: {name} takes it that it was replaced, and nobody has counted it as lost"
        );
        self.totals.overtaken += 1;
    }

    /// A fault befalls a scraper from now until then.
    pub(crate) fn fault(&mut self, name: &Name, from_ms: i64, to_ms: i64) {
        self.faults.push((name.clone(), from_ms, to_ms));
    }

    /// These have to do with a key, as a leader has it.
    pub(crate) fn concern(&mut self, key: TargetKey, names: BTreeSet<Name>, now_ms: i64) {
        let known = self.concerned.entry(key).or_default();
        if known.last().is_none_or(|(_, last)| *last != names) {
            known.push((now_ms, names));
        }
    }

    /// Time has passed, in which a leader was able to replace somebody, or not.
    pub(crate) fn pass(&mut self, time_ms: i64, is_able: bool, now_ms: i64) {
        let before = self.able_ms.last_key_value().map_or(0, |(_, able_ms)| *able_ms);
        self.able_ms.insert(now_ms, before + if is_able { time_ms } else { 0 });
    }

    /// For how long in this time a leader was able to replace somebody.
    fn able_in(&self, from_ms: i64, to_ms: i64) -> i64 {
        let until = |at_ms: i64| self.able_ms.range(..=at_ms).next_back().map_or(0, |(_, able_ms)| *able_ms);
        until(to_ms) - until(from_ms)
    }

    /// The same of one key: nobody can be given a key that no source tells of.
    fn able_for(&self, key: TargetKey, from_ms: i64, to_ms: i64) -> i64 {
        let unsynced = self.unsynced.get(&key).into_iter().flatten();
        let windows = unsynced
            .map(|(since_ms, until_ms)| (from_ms.max(*since_ms), to_ms.min(until_ms.unwrap_or(i64::MAX))));
        let not: i64 =
            windows.filter(|(from_ms, to_ms)| from_ms < to_ms).map(|(from, to)| self.able_in(from, to)).sum();
        self.able_in(from_ms, to_ms) - not
    }

    /// The leader has heard a report that was made then.
    pub(crate) fn reported(&mut self, name: &Name, made_ms: i64, now_ms: i64) {
        if now_ms - made_ms > CLOCK_MS {
            self.late_reports.entry(name.clone()).or_default().push((made_ms, now_ms));
        }
    }

    /// When the leader heard last of one whom something befell then: nobody counts as lost before the lapse after that, and a report may
    /// come later than what befell who made it.
    fn heard_last(&self, name: &Name, befell_ms: i64) -> i64 {
        let reports = self.late_reports.get(name).into_iter().flatten();
        let before = reports.filter(|(made_ms, _)| *made_ms <= befell_ms).map(|(_, came_ms)| *came_ms);
        before.max().unwrap_or(befell_ms).max(befell_ms)
    }

    /// A question of this scraper what is its own, or the answer, does not come before then.
    pub(crate) fn unanswered(&mut self, name: &Name, from_ms: i64, to_ms: i64) {
        self.unanswered.entry(name.clone()).or_default().push((from_ms, to_ms));
    }

    /// For how long up to a slot somebody waited in vain for the answer that a key is its own, once a leader had given it the key.
    fn unheard(&self, key: TargetKey, name: &Name, slot_ms: i64) -> i64 {
        let known = self.concerned.get(&key).map(|known| &known[..]).unwrap_or_default();
        let known = &known[..known.partition_point(|(at_ms, _)| *at_ms <= slot_ms)];
        let of_it = known.iter().rev().take_while(|(_, names)| names.contains(name));
        let Some((given_ms, _)) = of_it.last() else { return 0 };
        let (mut passed_ms, mut unheard_ms) = (*given_ms, 0);
        let mut waits = self.unanswered.get(name).cloned().unwrap_or_default();
        waits.sort_unstable();
        for (from_ms, to_ms) in waits {
            let (from_ms, to_ms) = (from_ms.max(passed_ms), to_ms.min(slot_ms));
            if from_ms < to_ms {
                unheard_ms += self.able_for(key, from_ms, to_ms);
                passed_ms = to_ms;
            }
        }
        unheard_ms
    }

    /// A drain has ended with these, which lack something; `over`: lacked it until now.
    pub(crate) fn left(&mut self, name: &Name, keys: &BTreeSet<TargetKey>, now_ms: i64, over: bool) {
        for key in keys {
            self.left.entry(*key).or_default().push((name.clone(), now_ms, over.then_some(now_ms)));
        }
    }

    /// No source tells of these.
    pub(crate) fn unsynced(&mut self, keys: &BTreeSet<TargetKey>, now_ms: i64) {
        for key in keys {
            self.unsynced.entry(*key).or_default().push((now_ms, None));
        }
    }

    /// Nothing is lacking any more.
    pub(crate) fn lacked(&mut self, now_ms: i64) {
        let left = self.left.values_mut().flatten().map(|(_, _, until)| until);
        let unsynced = self.unsynced.values_mut().flatten().map(|(_, until)| until);
        for until in left.chain(unsynced) {
            until.get_or_insert(now_ms);
        }
    }

    /// Whether a slot may be missing because a drain has ended with its key. `before`: the last slot that was not.
    fn is_left(&self, key: TargetKey, interval_ms: i64, before: i64, slot_ms: i64) -> bool {
        let bound_ms = LOSS_MS + 2 * interval_ms + DELAYS_MS;
        let mut left = self.left.get(&key).into_iter().flatten();
        left.any(|(name, left_ms, over_ms)| {
            let lost_ms = self.heard_last(name, *left_ms);
            let over = over_ms.map_or(0, |over_ms| self.able_for(key, over_ms.max(lost_ms), slot_ms));
            before <= left_ms + CLOCK_MS && slot_ms >= left_ms - CLOCK_MS && over <= bound_ms
        })
    }

    /// Who had to do with a key in this time.
    fn concerned_in(&self, key: TargetKey, from_ms: i64, to_ms: i64) -> impl Iterator<Item = &Name> {
        let known = self.concerned.get(&key).map(|known| &known[..]).unwrap_or_default();
        // What held at the beginning is older.
        let first = known.partition_point(|(at_ms, _)| *at_ms <= from_ms).saturating_sub(1);
        let of_time = known.iter().skip(first).take_while(move |(at_ms, _)| *at_ms <= to_ms);
        of_time.flat_map(|(_, names)| names)
    }

    /// Whether a slot may be missing because of what befell somebody who had to do with its key. `before`: the last slot that was not;
    /// `next`: who started the next one.
    fn is_lost(
        &self,
        key: TargetKey,
        interval_ms: i64,
        before: i64,
        slot_ms: i64,
        parties: &BTreeSet<&Name>,
        next: &[Start],
    ) -> bool {
        let unheard_ms = next.iter().map(|start| self.unheard(key, &start.by, slot_ms)).max().unwrap_or(0);
        let bound_ms = LOSS_MS + 2 * interval_ms + DELAYS_MS + unheard_ms;
        let begun_ms = before + interval_ms;
        let befell = self.faults.iter().filter(|(name, from_ms, to_ms)| {
            let began = *from_ms <= slot_ms + CLOCK_MS + LATE_MS;
            parties.contains(name) && began && self.able_for(key, *to_ms, begun_ms) <= LATE_MS
        });
        let since_ms = |name, from_ms| self.heard_last(name, from_ms).max(begun_ms);
        let took =
            befell.map(|(name, from_ms, _)| self.able_for(key, since_ms(name, *from_ms), slot_ms)).min();
        took.is_some_and(|took_ms| took_ms <= bound_ms)
    }

    /// The last one has gone.
    pub(crate) fn nobody_left(&mut self, now_ms: i64) {
        self.nobody.push((now_ms - 2_000, now_ms + NOBODY_MS));
    }

    /// One goes for good with something unsent, as nobody takes what it has: nobody waits for that, and it may be back with its volume.
    pub(crate) fn left_unsent(&mut self, name: &Name, now_ms: i64) {
        self.left_unsent.insert(name.clone(), now_ms);
    }

    /// A key has become a scraper's own, with no T before it.
    pub(crate) fn late(&mut self, mode: Mode, key: TargetKey, now_ms: i64) {
        let before = self.starts.get(&key).and_then(|starts| starts.last_key_value());
        let from_ms = before.map_or(now_ms, |(slot, _)| *slot);
        if mode != Mode::Planned {
            self.late.entry(key).or_default().push((from_ms, now_ms));
        }
    }

    /// A key is its scraper's own again, which had heard at `gone_ms` that it is gone. Where that was so late that the key was back already,
    /// slots between the one word and the other may be missing: until it hears, it scrapes what it had.
    pub(crate) fn back(&mut self, mode: Mode, key: TargetKey, gone_ms: i64, now_ms: i64) {
        let born = self.lives.get(&key).and_then(|life| life.lives.last()).map(|(born, _)| *born);
        if mode != Mode::Planned && born.is_some_and(|born| born <= gone_ms) {
            self.late.entry(key).or_default().push((gone_ms - CLOCK_MS, now_ms));
        }
    }

    /// A slot was started: nobody else may have started it.
    pub(crate) fn started(&mut self, key: TargetKey, slot_ms: i64, by: &Name, now_ms: i64) {
        let cut_off = self.cut_off.contains_key(by);
        let has_by_word = self.has_by_word(key);
        self.totals.slots += 1;
        let of_key = self.starts.entry(key).or_default();
        if let Some((_, before)) = of_key.range(..slot_ms).next_back()
            && before.iter().all(|start| start.by != *by)
        {
            self.totals.owners_changed += 1;
        }
        self.queued.insert(by.clone());
        let starts = of_key.entry(slot_ms).or_default();
        for other in starts.iter() {
            let lost = cut_off || other.cut_off || self.cut_off.contains_key(&other.by);
            let by_word = other.by_word || has_by_word.contains(by) || has_by_word.contains(&other.by);
            let excused = other.by != *by && (lost || by_word);
            assert!(excused, "at {now_ms}: slot {slot_ms} of {key} has two owners, {} and {by}", other.by);
            self.totals.excused_by_word += u64::from(!lost);
            self.totals.excused_duplicates += 1;
        }
        let by_word = has_by_word.contains(by);
        starts.push(Start { by: by.clone(), cut_off, by_word });
    }

    pub(crate) fn marked(&mut self, key: TargetKey, by: &Name, now_ms: i64) {
        let lives = self.lives.get(&key).map(|life| &life.lives[..]).unwrap_or_default();
        let justified = lives
            .iter()
            .any(|(_, end)| end.is_some_and(|end| end <= now_ms && now_ms - end < MARKER_LATE_MS));
        let dead = lives.last().is_none_or(|(_, end)| end.is_some());
        assert!(dead || justified, "at {now_ms}: {by} marks {key}, which is alive");
        self.markers.entry(key).or_default().push(now_ms);
        self.queued.insert(by.clone());
        self.totals.markers += 1;
    }

    /// A sample has come to a receiver: samples of a series come in order.
    pub(crate) fn received(
        &mut self,
        destination: usize,
        key: TargetKey,
        time_ms: i64,
        by: &Name,
        now_ms: i64,
    ) {
        self.totals.received += 1;
        let newest = self.received.get(&(destination, key)).copied().unwrap_or(i64::MIN);
        if time_ms <= newest {
            // Whoever was lost, or has left a key behind, sends late what it had, and a cut-off one what others have sent too. One that was
            // lost in between had the fence of the one before it.
            let starts = self.starts.get(&key);
            let by_lost = |at_ms: i64| {
                let slot = starts.and_then(|starts| starts.range(..=at_ms).next_back());
                let is_excused = |start: &Start| start.cut_off || self.ever_lost.contains(&start.by);
                slot.is_some_and(|(_, starts)| starts.iter().any(is_excused))
            };
            assert!(
                self.ever_lost.contains(by)
                    || self.left_unsent.get(by).is_some_and(|left_ms| time_ms <= left_ms + CLOCK_MS)
                    || by_lost(time_ms)
                    || by_lost(newest)
                    || self.concerned_in(key, time_ms, newest).any(|name| self.ever_lost.contains(name))
                    || self.left.contains_key(&key),
                "at {now_ms}: {key} at receiver {destination}: {time_ms} came after {newest}, and nobody was lost"
            );
            self.totals.excused_order += 1;
        }
        self.received.insert((destination, key), newest.max(time_ms));
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
                        let (before, after) = (starts.range(..slot).next_back(), starts.range(slot..).next());
                        let before_ms = before.map_or(*born, |(slot, _)| *slot);
                        let scraped = before.iter().chain(&after).flat_map(|(_, starts)| *starts);
                        let mut parties: BTreeSet<&Name> = scraped.map(|start| &start.by).collect();
                        parties.extend(self.concerned_in(*key, before_ms, slot + CLOCK_MS));
                        let interval_ms = life.slots.interval_ms();
                        let next = after.map_or(&[][..], |(_, starts)| starts);
                        let fault = self.is_lost(*key, interval_ms, before_ms, slot, &parties, next);
                        let left = self.is_left(*key, interval_ms, before_ms, slot);
                        assert!(
                            late || fault || left,
                            "slot {slot} of {key} (lives {:?}) is missing; before it {before:?}, after it {after:?}, parties {parties:?}, faults {:?}",
                            life.lives,
                            self.faults,
                        );
                        match left {
                            true => self.totals.left_gaps += 1,
                            false => self.totals.excused_gaps += 1,
                        }
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
                && !self.left.contains_key(key)
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
