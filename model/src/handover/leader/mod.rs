//! The leader's side: who owns which key, and the moves in flight.
//!
//! What members are told follows from the state alone ([`Leader::told`]); what they report changes the state at the
//! next [`Leader::advance`]. So no message needs to arrive, and each may arrive twice.

mod fences;
mod keys;
mod moves;
mod takeover;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::words::{MemberReport, MoveId, MoveReport, Name, Version};
use crate::membership::{Member, Membership, MembershipOptions};
use crate::roster::Roster;
use crate::target::TargetKey;

/// How often it is looked for keys that can be forgotten, in milliseconds.
const BURIAL_INTERVAL_MS: i64 = 10_000;

/// The leader's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderOptions {
    /// When a member counts as lost.
    pub membership: MembershipOptions,
    /// T is proposed this far ahead.
    pub ahead: Duration,
    /// So long after T a move is looked on as history: more than clocks may differ, and more than it takes to
    /// learn of it.
    pub settled_after: Duration,
    /// A taker that is not prepared after this is not waited for any longer.
    pub prepare_max: Duration,
    /// A fence opens after this time in which the destination took samples and the giver sent it none; and no move that is
    /// prepared waits longer for the giver's backlog. A key that is gone is remembered as long.
    pub fence_max: Duration,
    /// Whether the term may be raised above what members have seen, as long as nothing was given out: where no Lease
    /// keeps the terms.
    pub raises_term: bool,
    /// A move that is not urgent, and prepared, waits until the giver's oldest unsent sample is younger, destinations that
    /// take nothing of anybody left aside.
    pub backlog_max: Duration,
}

impl Default for LeaderOptions {
    fn default() -> Self {
        Self {
            membership: MembershipOptions { lapse: Duration::from_secs(15), settle: Duration::from_secs(5) },
            ahead: Duration::from_secs(5),
            settled_after: Duration::from_secs(10),
            prepare_max: Duration::from_secs(30),
            fence_max: Duration::from_secs(300),
            backlog_max: Duration::from_secs(10),
            raises_term: false,
        }
    }
}

/// The allocator's state machine.
#[derive(Clone, Debug)]
pub struct Leader {
    options: LeaderOptions,
    term: u64,
    counter: u64,
    started_ms: i64,
    advanced_ms: i64,
    buried_ms: i64,
    /// False: still finding out what its predecessor left.
    leading: bool,
    /// Another one is to lead: nothing new begins.
    retiring: bool,
    /// Members that there must be, whoever reports; empty where nobody knows.
    expected: BTreeSet<Name>,
    membership: Membership,
    members: BTreeMap<Name, Seen>,
    keys: BTreeMap<TargetKey, Key>,
    moves: BTreeMap<MoveId, Move>,
    /// Where a predecessor was about to move keys, until placement says where it wants them.
    meant: BTreeMap<TargetKey, Name>,
    /// When what a member is told changed last. Also of members that are lost.
    changed: HashMap<Name, u64>,
    /// A later counter than any that a member which is forgotten may have seen.
    floor: u64,
    /// A change is being made, with the counter as it is.
    stamped: bool,
    /// Any key may not be where it is wanted.
    restless: bool,
    /// Keys that may not be where they are wanted.
    unsettled: BTreeSet<TargetKey>,
    /// A move of which nothing is agreed may not be wanted any more.
    doubtful: bool,
    /// Keys of which somebody may have been granted something else since [`Leader::take_changed`].
    changed_keys: BTreeSet<TargetKey>,
    /// Keys that exist no more and are remembered.
    dead: BTreeSet<TargetKey>,
    /// Since [`Leader::take_transfers`].
    transfers: Vec<Transfer>,
    /// Moves by how they ended.
    ended: Ended,
}

/// How moves ended, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ended {
    done: u64,
    given_up: u64,
    keys_lost: u64,
    fences_forced: u64,
}

/// What is known of a member.
#[derive(Clone, Debug, Default)]
struct Seen {
    report: MemberReport,
    /// Its claims, until the takeover.
    full: bool,
    /// When a destination last took something of it.
    progressed_ms: BTreeMap<String, i64>,
    /// Since when moves wait for its backlog.
    waiting_ms: Option<i64>,
}

/// One key.
#[derive(Clone, Debug, Default)]
struct Key {
    /// Who scrapes it; with a move that has begun, the taker.
    owner: Option<Name>,
    /// Where placement wants it.
    wanted: Option<Name>,
    /// The move by which it came to the owner, as long as that is not done.
    incoming: Option<MoveId>,
    /// The move by which it goes, until that begins.
    outgoing: Option<MoveId>,
    /// Where it is wanted did not get ready for it in time, and has not since.
    refused: bool,
    /// Who ends its series, and since when: it exists no more.
    dead: Option<(Name, i64)>,
}

/// A move: keys that go from one member to another at one T, behind one fence.
#[derive(Clone, Debug)]
struct Move {
    old: Name,
    new: Name,
    keys: BTreeSet<TargetKey>,
    since_ms: i64,
    /// The taker must hold this version for its word to count.
    asked: u64,
    prepared: bool,
    until: Until,
    /// The counter with which the taker was told to begin.
    begun: Option<u64>,
    /// T is long past and the taker has begun: only the fence is left.
    closing: bool,
    /// Who may have something behind its fence.
    holders: BTreeSet<Name>,
    sent: BTreeSet<String>,
    /// How many of them the holders were told.
    told_sent: usize,
    all_sent: bool,
    /// By destination how long a fence has been held up with no fault of the destination.
    stalled_ms: BTreeMap<String, i64>,
}

/// What is agreed with the giver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Nothing.
    Open,
    /// T was proposed with this counter.
    Proposed(i64, u64),
    /// T is final.
    Final(i64),
}

/// A key that changed owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Which.
    pub key: TargetKey,
    /// Who had it.
    pub old: Name,
    /// Who has it now.
    pub new: Name,
}

/// Answer to a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The leader's term.
    pub term: u64,
    /// The next report should be a full one, at once.
    pub full: bool,
    /// The number of the report that this answers.
    pub sequence: u64,
    /// The newest version for this member, as long as the leader gives out any.
    pub version: Option<Version>,
}

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The taker gets ready.
    Prepare,
    /// The giver has been asked to stop at T.
    Until,
    /// The giver stops at T, and the taker begins there.
    From,
    /// What the giver scraped is being sent.
    Fence,
}

impl Step {
    /// All, in their order.
    pub const ALL: [Self; 4] = [Self::Prepare, Self::Until, Self::From, Self::Fence];

    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Until => "until",
            Self::From => "from",
            Self::Fence => "fence",
        }
    }
}

/// A move, for those who look on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveStatus {
    /// Which.
    pub id: MoveId,
    /// Who gives.
    pub old: Name,
    /// Who takes.
    pub new: Name,
    /// How many keys.
    pub keys: usize,
    /// How far it is.
    pub step: Step,
    /// When it began, in Unix milliseconds.
    pub since_ms: i64,
}

impl Leader {
    /// A leader of this term, which must be higher than any before. `expected` are the members that there must be, where
    /// that is known: they are waited for, no longer than the lapse.
    #[must_use]
    pub fn new(
        options: LeaderOptions,
        term: u64,
        expected: impl IntoIterator<Item = Name>,
        now_ms: i64,
    ) -> Self {
        Self {
            options,
            term,
            counter: 0,
            started_ms: now_ms,
            advanced_ms: now_ms,
            buried_ms: now_ms,
            leading: false,
            retiring: false,
            expected: expected.into_iter().collect(),
            membership: Membership::new(options.membership),
            members: BTreeMap::new(),
            keys: BTreeMap::new(),
            moves: BTreeMap::new(),
            meant: BTreeMap::new(),
            changed: HashMap::new(),
            floor: 0,
            stamped: false,
            restless: true,
            unsettled: BTreeSet::new(),
            doubtful: true,
            changed_keys: BTreeSet::new(),
            dead: BTreeSet::new(),
            transfers: Vec::new(),
            ended: Ended::default(),
        }
    }

    /// Changes the times.
    pub fn set_options(&mut self, options: LeaderOptions) {
        self.options = options;
        self.membership.set_options(options.membership);
    }

    /// Who the members must be was learnt only now. Counts as long as nothing was given out.
    pub fn expect(&mut self, expected: impl IntoIterator<Item = Name>) {
        if !self.leading {
            self.expected = expected.into_iter().collect();
        }
    }

    /// Who the members are to be was told, or how their pods are doing; None: whoever reports.
    pub fn set_roster(&mut self, roster: Option<Roster>) {
        self.restless |= self.membership.set_roster(roster);
    }

    /// A member has reported.
    pub fn report(&mut self, name: &str, mut report: MemberReport, now_ms: i64) -> Reply {
        self.stamped = false;
        let (term, sequence) = (self.term, report.sequence);
        let version = self.leading.then(|| self.version_of(name));
        let reply = |full| Reply { term, full, sequence, version };
        let seen = self.members.entry(Name::from(name)).or_default();
        if (report.run, report.sequence) <= (seen.report.run, seen.report.sequence) {
            return reply(false);
        }
        if report.promised > self.term && self.options.raises_term && !self.leading {
            self.term = report.promised.saturating_add(1);
            self.members.values_mut().for_each(|seen| seen.full = false);
            return self.report(name, report, now_ms);
        }
        if report.promised > self.term {
            // There is, or was, a leader after this one: nothing may be concluded from what this member says.
            return reply(false);
        }
        // Only a member that takes nothing of older leaders any more tells the whole truth.
        let full = report.full && report.promised == self.term;
        if full {
            seen.full = true;
        } else if !self.leading && seen.full {
            report.claims = std::mem::take(&mut seen.report.claims);
            report.ended = std::mem::take(&mut seen.report.ended);
        }
        for (destination, progress) in &report.progress {
            let before = seen.report.progress.get(destination).map(|before| before.acked);
            if before != Some(progress.acked) {
                seen.progressed_ms.insert(destination.clone(), now_ms);
            }
        }
        if self.leading {
            report.claims = Vec::new();
            report.ended = Vec::new();
        }
        let wants_full = !seen.full;
        let answer = reply(wants_full);
        seen.report = report;
        let draining = seen.report.draining;
        let was_lost = self.is_lost(name);
        self.restless |= self.membership.report(name, draining, now_ms) | was_lost;
        answer
    }

    /// A process of this run asks what is its own: whatever an earlier one has said last, somebody is there to whom it is told.
    pub fn polled(&mut self, name: &str, run: u64) {
        if let Some(seen) = self.members.get_mut(name).filter(|seen| seen.report.run < run) {
            (seen.report.run, seen.report.sequence, seen.report.over) = (run, 0, false);
        }
    }

    /// A sign of life that says nothing: of a member that cannot save what it would say. Nothing changes but that it is not
    /// silent.
    pub fn alive(&mut self, name: &str, now_ms: i64) {
        if let Some(draining) = self.membership.get(name).map(|member| member.draining) {
            let was_lost = self.is_lost(name);
            self.restless |= self.membership.report(name, draining, now_ms) | was_lost;
        }
    }

    /// Another one is to lead soon: from now on no move begins, and no T is proposed. What is final is still told.
    pub fn retire(&mut self) {
        self.retiring = true;
    }

    /// Whether a report of this number, or a later one, has come already: then [`Leader::report`] ignores it.
    #[must_use]
    pub fn has_heard(&self, name: &str, run: u64, sequence: u64) -> bool {
        let newest = self.members.get(name).map_or((0, 0), |seen| (seen.report.run, seen.report.sequence));
        (run, sequence) <= newest
    }

    /// Time has passed, or something was reported. Returns whether anybody is told something new.
    pub fn advance(&mut self, now_ms: i64) -> bool {
        self.stamped = false;
        let before = self.counter;
        let lost = self.count_lost();
        self.restless |= self.membership.tick(now_ms) | (lost != self.count_lost());
        if !self.leading {
            self.pass_over_silence(now_ms);
            if !self.has_collected(now_ms) {
                return false;
            }
            self.take_over();
        }
        if self.membership.is_deaf() {
            // Nobody would be told, and those who go on as they were told would have to be believed when they are heard again.
            self.advanced_ms = now_ms;
            return self.counter != before;
        }
        self.follow_moves(now_ms);
        self.follow_fences(now_ms);
        self.settle_keys(now_ms);
        if now_ms - self.buried_ms >= BURIAL_INTERVAL_MS {
            self.buried_ms = now_ms;
            self.bury(now_ms);
        }
        self.advanced_ms = now_ms;
        self.counter != before
    }

    /// Forgets those of these members that are lost and concern nobody any more: they have no key, end none, and no move knows
    /// them. Should one come back, it is new, and told everything with a later version than it can have. Returns who is forgotten.
    /// It takes a look at every key.
    pub fn forget(&mut self, names: &[Name]) -> Vec<Name> {
        if !self.leading || self.membership.is_deaf() {
            return Vec::new();
        }
        let mut over: HashSet<&str> = names.iter().map(|name| &**name).collect();
        over.retain(|name| self.is_lost(name));
        for m in self.moves.values() {
            over.retain(|name| *m.old != **name && *m.new != **name && !m.holders.contains(*name));
        }
        for key in self.keys.values() {
            if over.is_empty() {
                break;
            }
            let marker = key.dead.as_ref().map(|(marker, _)| marker);
            for name in [marker, key.owner.as_ref(), key.wanted.as_ref()].into_iter().flatten() {
                over.remove(&**name);
            }
        }
        let forgotten: Vec<Name> = names.iter().filter(|name| over.contains(&***name)).cloned().collect();
        for name in &forgotten {
            self.membership.forget(name);
            self.members.remove(name);
            self.changed.remove(name);
            self.stamped = false;
            self.floor = self.stamp();
        }
        forgotten
    }

    /// Whether it knows what there is and gives out assignments.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.leading
    }

    /// The counter of the change that is being made; what it changes is told with it or a later one.
    fn stamp(&mut self) -> u64 {
        if !self.stamped {
            self.stamped = true;
            self.counter += 1;
        }
        self.counter
    }

    /// What this member is told has changed.
    fn touch(&mut self, name: &Name) -> u64 {
        let stamp = self.stamp();
        self.changed.insert(name.clone(), stamp);
        stamp
    }

    /// Somebody may be granted something else of a key, and it may have to be seen to.
    fn mark(&mut self, key: TargetKey) {
        self.unsettle(key);
        self.changed_keys.insert(key);
    }

    /// A key may not be where it is wanted.
    fn unsettle(&mut self, key: TargetKey) {
        // Where any may not be, all are looked at, a million at a start.
        if !self.restless {
            self.unsettled.insert(key);
        }
    }

    /// A key has another owner from now on.
    fn transfer(&mut self, key: TargetKey, new: &Name) {
        let Some(state) = self.keys.get_mut(&key) else { return };
        if let Some(old) = state.owner.replace(new.clone()).filter(|old| old != new) {
            self.transfers.push(Transfer { key, old, new: new.clone() });
        }
    }

    fn mark_all(&mut self, keys: &BTreeSet<TargetKey>) {
        keys.iter().for_each(|key| self.mark(*key));
    }

    fn count_lost(&self) -> usize {
        self.membership.members().filter(|(_, member)| member.lost).count()
    }

    /// The counter that a member has in force; zero where it is another leader's, or none.
    fn in_force(&self, name: &str) -> u64 {
        let version = self.members.get(name).and_then(|seen| seen.report.version);
        version.filter(|version| version.term == self.term).map_or(0, |version| version.counter)
    }

    /// What a member last said of a move.
    fn word_of(&self, name: &str, id: MoveId) -> Option<&MoveReport> {
        self.members.get(name)?.report.moves.iter().find(|report| report.id == id)
    }

    /// Whether it is lost, or has never reported to this leader.
    fn is_lost(&self, name: &str) -> bool {
        self.membership.get(name).is_none_or(|member| member.lost)
    }

    /// Whether it has said that it scrapes nothing any more and that all it had is sent: nobody has to wait for it.
    fn is_over(&self, name: &str) -> bool {
        let is_sent = |seen: &Seen| seen.report.progress.values().all(|progress| progress.oldest_ms == 0);
        self.members.get(name).is_some_and(|seen| seen.report.over && is_sent(seen))
    }

    fn is_taker(&self, name: &str) -> bool {
        self.membership.get(name).is_some_and(Member::takes_targets)
    }
}
