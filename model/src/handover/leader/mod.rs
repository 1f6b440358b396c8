//! The leader's side: who owns which key, and the moves in flight.
//!
//! What members are told follows from the state alone ([`Leader::told`]); what they report changes the state at the
//! next [`Leader::advance`]. So no message needs to arrive, and each may arrive twice.

mod fences;
mod keys;
mod moves;
mod takeover;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::words::{Grant, MemberReport, MoveId, MoveReport, MoveTerms, Name, Told, Version};
use crate::membership::{Membership, MembershipOptions};
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
    /// A fence opens after this time in which the destination took samples and the giver sent it none; and no move waits
    /// longer for the giver's backlog. A key that is gone is remembered as long.
    pub fence_max: Duration,
    /// Whether the term may be raised above what members have seen, as long as nothing was given out: where no Lease
    /// keeps the terms.
    pub raises_term: bool,
    /// A move that is not urgent waits until the giver's oldest unsent sample is younger.
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
    /// Members that there must be, whoever reports; empty where nobody knows.
    expected: BTreeSet<Name>,
    membership: Membership,
    members: BTreeMap<Name, Seen>,
    keys: BTreeMap<TargetKey, Key>,
    moves: BTreeMap<MoveId, Move>,
    /// When what a member is told changed last. Also of members that are lost.
    changed: BTreeMap<Name, u64>,
    /// A change is being made, with the counter as it is.
    stamped: bool,
    /// Not all keys may be where they are wanted.
    restless: bool,
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
            expected: expected.into_iter().collect(),
            membership: Membership::new(options.membership),
            members: BTreeMap::new(),
            keys: BTreeMap::new(),
            moves: BTreeMap::new(),
            changed: BTreeMap::new(),
            stamped: false,
            restless: true,
            ended: Ended::default(),
        }
    }

    /// Changes the times.
    pub fn set_options(&mut self, options: LeaderOptions) {
        self.options = options;
        self.membership.set_options(options.membership);
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
            self.term = report.promised + 1;
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
        }
        for (destination, progress) in &report.progress {
            let before = seen.report.progress.get(destination).map(|before| before.acked);
            if before != Some(progress.acked) {
                seen.progressed_ms.insert(destination.clone(), now_ms);
            }
        }
        if self.leading {
            report.claims = Vec::new();
        }
        let wants_full = !seen.full;
        let answer = reply(wants_full);
        seen.report = report;
        let draining = seen.report.draining;
        if self.membership.report(name, draining, now_ms) {
            self.restless = true;
        }
        answer
    }

    /// Time has passed, or something was reported. Returns whether anybody is told something new.
    pub fn advance(&mut self, now_ms: i64) -> bool {
        self.stamped = false;
        let before = self.counter;
        if self.membership.tick(now_ms) {
            self.restless = true;
        }
        if !self.leading {
            if !self.has_collected(now_ms) {
                return false;
            }
            self.take_over();
        }
        self.follow_moves(now_ms);
        self.follow_fences(now_ms);
        if self.restless {
            self.settle_keys(now_ms);
        }
        if now_ms - self.buried_ms >= BURIAL_INTERVAL_MS {
            self.buried_ms = now_ms;
            self.bury(now_ms);
        }
        self.advanced_ms = now_ms;
        self.counter != before
    }

    /// Whether it knows what there is and gives out assignments.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.leading
    }

    /// What a member is told that holds the version `held`; None where that is the newest, or nothing is given out yet.
    #[must_use]
    pub fn told(&self, name: &str, held: Option<Version>) -> Option<Told> {
        let version = self.version_of(name);
        if !self.leading || held == Some(version) {
            return None;
        }
        let mut grants = BTreeMap::new();
        let mut gone = BTreeSet::new();
        for key in self.keys.keys() {
            if let Some(grant) = self.grant(*key, name) {
                grants.insert(*key, grant);
            } else if self.marks(*key, name) {
                gone.insert(*key);
            }
        }
        Some(Told { version, grants, moves: self.terms(name), gone })
    }

    /// The version of what a member is told.
    #[must_use]
    pub fn version_of(&self, name: &str) -> Version {
        Version { term: self.term, counter: self.changed.get(name).copied().unwrap_or(0) }
    }

    /// The newest version of all.
    #[must_use]
    pub fn version(&self) -> Version {
        Version { term: self.term, counter: self.counter }
    }

    /// What a member is granted of a key.
    #[must_use]
    pub fn grant(&self, key: TargetKey, name: &str) -> Option<Grant> {
        let key = self.keys.get(&key).filter(|key| key.dead.is_none())?;
        if key.owner.as_deref() == Some(name) {
            return Some(Grant { incoming: key.incoming, outgoing: key.outgoing });
        }
        let is = |id: Option<MoveId>, test: &dyn Fn(&Move) -> bool| {
            id.filter(|id| self.moves.get(id).is_some_and(test))
        };
        if let Some(id) = is(key.outgoing, &|m| *m.new == *name) {
            return Some(Grant { incoming: Some(id), outgoing: None });
        }
        is(key.incoming, &|m| *m.old == *name && !m.closing)
            .map(|id| Grant { incoming: None, outgoing: Some(id) })
    }

    /// Everyone who is granted something of a key.
    pub fn participants(&self, key: TargetKey) -> impl Iterator<Item = (&Name, Grant)> {
        let state = self.keys.get(&key);
        let of = |id: Option<MoveId>| id.and_then(|id| self.moves.get(&id));
        let names = [
            state.and_then(|state| state.owner.as_ref()),
            state.and_then(|state| of(state.outgoing)).map(|m| &m.new),
            state.and_then(|state| of(state.incoming)).map(|m| &m.old),
        ];
        let mut seen: Vec<&Name> = names.into_iter().flatten().collect();
        seen.dedup();
        seen.into_iter().filter_map(move |name| Some((name, self.grant(key, name)?)))
    }

    /// Whether a key exists no more and this member is the one that ends its series.
    #[must_use]
    pub fn marks(&self, key: TargetKey, name: &str) -> bool {
        self.keys.get(&key).and_then(|key| key.dead.as_ref()).is_some_and(|(marker, _)| **marker == *name)
    }

    /// The moves that concern a member.
    #[must_use]
    pub fn terms(&self, name: &str) -> BTreeMap<MoveId, MoveTerms> {
        let concerned =
            |m: &Move| *m.old == *name || *m.new == *name || m.holders.iter().any(|holder| **holder == *name);
        self.moves.iter().filter(|(_, m)| concerned(m)).map(|(id, m)| (*id, self.terms_of(m))).collect()
    }

    fn terms_of(&self, m: &Move) -> MoveTerms {
        MoveTerms {
            old: m.old.clone(),
            old_address: self.members.get(&m.old).map(|seen| seen.report.address.clone()).unwrap_or_default(),
            new: m.new.clone(),
            at: match m.until {
                Until::Open => None,
                Until::Proposed(at, _) | Until::Final(at) => Some(at),
            },
            begin: m.begun.is_some(),
            sent: m.sent.clone(),
        }
    }

    /// Who owns a key; None: nobody yet.
    #[must_use]
    pub fn owner(&self, key: TargetKey) -> Option<&Name> {
        self.keys.get(&key)?.owner.as_ref()
    }

    /// Every key that exists, with where it is or is going to.
    pub fn placed(&self) -> impl Iterator<Item = (TargetKey, &Name)> {
        self.keys.iter().filter_map(|(key, state)| {
            let going = state.outgoing.and_then(|id| self.moves.get(&id)).map(|m| &m.new);
            Some((*key, going.or(state.owner.as_ref())?))
        })
    }

    /// The members.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The moves that are not done.
    pub fn moves(&self) -> impl Iterator<Item = MoveStatus> {
        self.moves.iter().map(|(id, m)| MoveStatus {
            id: *id,
            old: m.old.clone(),
            new: m.new.clone(),
            keys: m.keys.len(),
            step: match (m.until, m.begun) {
                _ if m.closing => Step::Fence,
                (Until::Open, _) => Step::Prepare,
                (Until::Proposed(..), _) => Step::Until,
                (Until::Final(_), _) => Step::From,
            },
            since_ms: m.since_ms,
        })
    }

    /// Moves that were completed, and moves that were given up, since the start.
    #[must_use]
    pub fn moves_ended(&self) -> (u64, u64) {
        (self.ended.done, self.ended.given_up)
    }

    /// Keys that changed owner because theirs was lost, since the start.
    #[must_use]
    pub fn keys_lost(&self) -> u64 {
        self.ended.keys_lost
    }

    /// Fences that were opened though the giver has not sent everything, since the start.
    #[must_use]
    pub fn fences_forced(&self) -> u64 {
        self.ended.fences_forced
    }

    /// Whether a member has nothing more to give: it has no key, and no move that it gives by has yet to begin.
    #[must_use]
    pub fn has_given_all(&self, name: &str) -> bool {
        self.leading
            && self.moves.values().all(|m| *m.old != *name || m.closing)
            && self
                .keys
                .values()
                .all(|key| key.dead.is_some() || key.owner.as_deref().is_none_or(|owner| *owner != *name))
    }

    /// Whether somebody takes targets beside this member.
    #[must_use]
    pub fn has_others(&self, name: &str) -> bool {
        self.membership.takers().any(|taker| taker != name)
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
        self.restless = true;
        self.changed.insert(name.clone(), stamp);
        stamp
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

    fn is_taker(&self, name: &str) -> bool {
        self.membership.get(name).is_some_and(|member| !member.lost && !member.draining)
    }
}
