//! The takeover: a new leader finds out from its members' full reports what its predecessor left, and completes it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Key, Leader, Move, Name, Transfer, Until};
use crate::handover::words::{Claim, MoveId, MoveReport};
use crate::target::TargetKey;

/// A member that reports but does not tell what it has is waited for so many lapses.
const LAPSES_MAX: i64 = 4;

/// A leader that was not asked for longer than this part of the lapse was stopped.
const LAPSE_PARTS: i64 = 3;

/// What one member says of one key, and how new its word is.
struct Said {
    name: Name,
    version: (u64, u64),
    claim: Claim,
}

impl Leader {
    /// Time in which this leader was stopped itself, or heard of nobody, is none in which somebody could have told.
    pub(super) fn pass_over_silence(&mut self, now_ms: i64) {
        let elapsed_ms = (now_ms - self.advanced_ms).max(0);
        let usual_ms = self.options.membership.lapse.as_millis() as i64 / LAPSE_PARTS;
        let passed_over_ms = if self.membership.is_deaf() { elapsed_ms } else { elapsed_ms - usual_ms };
        self.started_ms += passed_over_ms.max(0);
        self.advanced_ms = now_ms;
    }

    /// Whether everyone has told everything, or is lost.
    pub(super) fn has_collected(&self, now_ms: i64) -> bool {
        if self.membership.is_deaf() {
            // All seem lost, so that all have something that nobody else may be given.
            return false;
        }
        let waited_ms = now_ms - self.started_ms;
        let lapse_ms = self.options.membership.lapse.as_millis() as i64;
        let told = |name: &Name| self.members.get(name).is_some_and(|seen| seen.full);
        if waited_ms > lapse_ms && self.membership.is_settled() {
            // Who is heard of, but has not told yet, is alive and has what nobody else may be given.
            let patience = waited_ms > LAPSES_MAX * lapse_ms;
            return patience || self.members.keys().all(|name| told(name) || self.is_lost(name));
        }
        if !self.expected.is_empty() {
            return self.expected.iter().chain(self.members.keys()).all(told);
        }
        // Nobody knows who there is. Where nobody has ever had anything, there is nothing to be missed.
        let fresh = self.members.values().all(|seen| seen.report.version.is_none());
        self.membership.is_settled() && fresh && self.members.keys().all(told)
    }

    /// Ends the waiting where it is known otherwise that nothing is missing: every key is claimed.
    pub fn lead_if_claimed(&mut self, mut living: impl Iterator<Item = TargetKey>) {
        if self.leading || !self.membership.is_settled() || !self.members.values().all(|seen| seen.full) {
            return;
        }
        let claims = self.members.values().flat_map(|seen| &seen.report.claims);
        let claimed: BTreeSet<TargetKey> = claims.map(|claim| claim.key).collect();
        if living.all(|key| claimed.contains(&key)) {
            self.stamped = false;
            self.take_over();
        }
    }

    pub(super) fn take_over(&mut self) {
        self.leading = true;
        self.restless = true;
        self.take_over_moves();
        let mut said: BTreeMap<TargetKey, Vec<Said>> = BTreeMap::new();
        for (name, seen) in &mut self.members {
            let version = seen.report.version.map_or((0, 0), |version| (version.term, version.counter));
            for claim in std::mem::take(&mut seen.report.claims) {
                said.entry(claim.key).or_default().push(Said { name: name.clone(), version, claim });
            }
        }
        for (key, said) in said {
            self.take_over_key(key, &said);
            self.changed_keys.insert(key);
        }
        self.take_over_ended();
        // Everyone hears of the new term.
        for name in self.members.keys().cloned().collect::<Vec<_>>() {
            self.touch(&name);
        }
    }

    /// A key that exists no more, and returns, does so by a move: what its last owner has queued of it comes first.
    fn take_over_ended(&mut self) {
        for (name, seen) in &mut self.members {
            for Claim { key, grant } in std::mem::take(&mut seen.report.ended) {
                if self.keys.contains_key(&key) {
                    continue;
                }
                let incoming = grant.incoming.filter(|id| self.moves.contains_key(id));
                if let Some(m) = incoming.and_then(|id| self.moves.get_mut(&id)) {
                    m.keys.insert(key);
                }
                let dead = Some((name.clone(), self.advanced_ms));
                let owner = Some(name.clone());
                self.keys.insert(key, Key { owner, incoming, dead, ..Key::default() });
                self.dead.insert(key);
                self.changed_keys.insert(key);
            }
        }
    }

    /// Only what is final has to be completed; the rest has never been.
    fn take_over_moves(&mut self) {
        let words = self
            .members
            .iter()
            .flat_map(|(name, seen)| seen.report.moves.iter().map(move |word| (name.clone(), word.clone())));
        let words: Vec<(Name, MoveReport)> = words.collect();
        for (name, word) in &words {
            let Some(at) = word.settled else { continue };
            let m = self.moves.entry(word.id).or_insert_with(|| inherited(word, at, self.started_ms));
            if word.terms.old == *name {
                // Whom it promised the keys to, and tells when it is asked.
                m.new = word.terms.new.clone();
            } else {
                m.begun = Some(0);
            }
        }
        for (name, word) in words {
            if let Some(m) = self.moves.get_mut(&word.id)
                && word.terms.old != name
            {
                m.holders.insert(name);
            }
        }
    }

    fn take_over_key(&mut self, key: TargetKey, said: &[Said]) {
        let known = |id: Option<MoveId>| id.filter(|id| self.moves.contains_key(id));
        // Who began to take it, or has it without more ado.
        let begun = |said: &&Said| match said.claim.grant.incoming {
            None => true,
            Some(id) => self.word_of(&said.name, id).is_some_and(|word| word.settled.is_some()),
        };
        let Some(newest) = said.iter().filter(begun).max_by_key(|said| (said.version, &said.name)) else {
            return;
        };
        // A giver and its taker both have it; then it is the taker's.
        let mut owner = newest;
        let mut outgoing = known(newest.claim.grant.outgoing);
        for _ in said {
            let Some(id) = outgoing else { break };
            let took = |said: &&Said| said.claim.grant.incoming == Some(id) && begun(said);
            let taker = said.iter().filter(took).max_by_key(|said| (said.version, &said.name));
            let Some(taker) = taker else { break };
            (owner, outgoing) = (taker, known(taker.claim.grant.outgoing));
        }
        let mut state = Key {
            owner: Some(owner.name.clone()),
            wanted: None,
            incoming: known(owner.claim.grant.incoming),
            outgoing,
            refused: false,
            dead: None,
        };
        // The taker of a move that has begun had it, and was told that it is gone.
        let begun = outgoing.and_then(|id| Some((id, self.moves.get(&id).filter(|m| m.begun.is_some())?)));
        if let Some((id, m)) = begun {
            (state.owner, state.incoming, state.outgoing) = (Some(m.new.clone()), Some(id), None);
        }
        // The taker has asked the giver: the predecessor has not agreed on it yet, or has not come to tell so.
        if let Some(id) = state.incoming
            && let Some(new) = &state.owner
            && self.word_of(new, id).is_some_and(|word| word.settled.is_some() && !word.terms.begin)
            && let Some(old) = self.moves.get(&id).map(|m| m.old.clone()).filter(|old| old != new)
        {
            self.transfers.push(Transfer { key, old, new: new.clone() });
        }
        if let Some(m) = state.incoming.and_then(|id| self.moves.get_mut(&id)) {
            m.keys.insert(key);
            if let Some(owner) = &state.owner {
                m.new = owner.clone();
            }
        }
        if let Some(m) = state.outgoing.and_then(|id| self.moves.get_mut(&id)) {
            m.keys.insert(key);
        }
        self.keys.insert(key, state);
        if let Some(name) = self.meant_for(owner, said) {
            self.meant.insert(key, name);
        }
    }

    /// Whom the predecessor was about to move a key to: of that move nothing is final, so that it is no more, but somebody
    /// knows of it. It was given up where the other end has heard of something later and does not know it.
    fn meant_for(&self, owner: &Said, said: &[Said]) -> Option<Name> {
        let is_over = |id: &MoveId| !self.moves.contains_key(id);
        let has_heard = |version: (u64, u64), id: MoveId| version >= (id.0.term, id.0.counter);
        let mut known: Vec<(MoveId, Name)> = Vec::new();
        for one in said.iter().filter(|one| one.name != owner.name) {
            if let Some(id) = one.claim.grant.incoming.filter(is_over)
                && (owner.claim.grant.outgoing == Some(id) || !has_heard(owner.version, id))
            {
                known.push((id, one.name.clone()));
            }
        }
        if let Some(id) = owner.claim.grant.outgoing.filter(is_over)
            && let Some(word) = self.word_of(&owner.name, id)
        {
            let new = &word.terms.new;
            let version = self.members.get(new).and_then(|seen| seen.report.version);
            let prepares = |one: &Said| one.name == *new && one.claim.grant.incoming == Some(id);
            if version.is_none_or(|version| version < id.0) || said.iter().any(prepares) {
                known.push((id, new.clone()));
            }
        }
        known.into_iter().max().map(|(_, name)| name)
    }
}

fn inherited(word: &MoveReport, at: i64, since_ms: i64) -> Move {
    Move {
        old: word.terms.old.clone(),
        new: word.terms.new.clone(),
        keys: BTreeSet::new(),
        since_ms,
        asked: 0,
        prepared: true,
        until: Until::Final(at),
        begun: None,
        closing: false,
        holders: BTreeSet::new(),
        sent: BTreeSet::new(),
        told_sent: 0,
        all_sent: false,
        stalled_ms: BTreeMap::new(),
    }
}
