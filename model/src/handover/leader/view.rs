//! What follows from the state: what each member is told, and what others may want to see.

use std::collections::{BTreeMap, BTreeSet};

use super::{Key, Leader, Move, MoveStatus, Step, Transfer, Until};
use crate::handover::words::{Grant, MoveId, MoveTerms, Name, Staying, Told, Version};
use crate::membership::Membership;
use crate::target::TargetKey;

impl Leader {
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
        Version { term: self.term, counter: self.changed.get(name).copied().unwrap_or(self.floor) }
    }

    /// Keys of which somebody may be granted something else than when this was asked last, or which exist no more.
    pub fn take_changed(&mut self) -> BTreeSet<TargetKey> {
        std::mem::take(&mut self.changed_keys)
    }

    /// Keys that changed owner since this was asked last, in the order of the changes. One that nobody had is not among them.
    pub fn take_transfers(&mut self) -> Vec<Transfer> {
        std::mem::take(&mut self.transfers)
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

    /// Whether a key is where placement wants it.
    #[must_use]
    pub fn is_where_wanted(&self, key: TargetKey) -> bool {
        self.keys.get(&key).is_none_or(|state| state.owner == state.wanted)
    }

    /// Every key that exists, with where it is or is going to; of a new leader, also where its predecessor was about to move
    /// it.
    pub fn placed(&self) -> impl Iterator<Item = (TargetKey, &Name)> {
        self.keys.iter().filter_map(|(key, state)| {
            let going = state.outgoing.and_then(|id| self.moves.get(&id)).map(|m| &m.new);
            let meant = || self.meant.get(key).filter(|name| self.is_taker(name));
            Some((*key, going.or_else(meant).or(state.owner.as_ref())?))
        })
    }

    /// The members.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Whether no member is there to be heard of: whoever is alive would have reported since this leader began.
    #[must_use]
    pub fn hears_nobody(&self, now_ms: i64) -> bool {
        let lapse_ms = self.options.membership.lapse.as_millis() as i64;
        now_ms - self.started_ms > lapse_ms && self.membership.members().all(|(_, member)| member.lost)
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

    /// Whether every T that was agreed on, or may still be, is known to whoever begins there: nobody needs this leader for it.
    #[must_use]
    pub fn has_told_times(&self, now_ms: i64) -> bool {
        self.moves.values().all(|m| match m.until {
            Until::Open => true,
            Until::Proposed(at, _) => at <= now_ms || self.is_lost(&m.old),
            Until::Final(_) => {
                let knows = m.begun.is_some_and(|begun| self.in_force(&m.new) >= begun);
                m.closing || knows || self.is_lost(&m.new)
            }
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

    /// What a draining member has that stays with it, where everything else that it has is given, or is agreed on: it need
    /// not wait any longer. None: something of it is still to move; or it has not heard of everything that does.
    #[must_use]
    pub fn staying(&self, name: &str) -> Option<Staying> {
        let version = self.version_of(name);
        let is_up_to_date = self.in_force(name) >= version.counter;
        let is_draining = self.membership.get(name).is_some_and(|member| member.draining);
        if !self.leading || self.retiring || self.membership.is_deaf() || !is_draining || !is_up_to_date {
            return None;
        }
        // Looks at the moves first: they are few, and as long as some go on the keys need not be looked at.
        let is_over = |m: &Move| {
            let is_agreed = *m.old == *name && m.begun.is_some();
            m.closing
                || is_agreed
                || *m.old == *name && self.is_in_vain(m)
                || *m.old != *name && *m.new != *name
        };
        if !self.moves.values().all(is_over) {
            return None;
        }
        let (mut unknown, mut unready) = (0, 0);
        let its = |key: &&Key| key.dead.is_none() && key.owner.as_deref() == Some(name);
        for key in self.keys.values().filter(its) {
            match (&key.wanted, key.outgoing) {
                // No source has told of it.
                (None, None) => unknown += 1,
                (Some(_), Some(_)) if key.refused => unready += 1,
                // It is about to move.
                _ => return None,
            }
        }
        (unknown + unready > 0).then_some(Staying { version, unknown, unready })
    }

    /// Whether the taker of a move has been waited for already, by another one of the same keys, and has had its time
    /// to get ready this time as well.
    fn is_in_vain(&self, m: &Move) -> bool {
        let has_heard = self.in_force(&m.new) >= m.asked;
        let was_refused = |key: &TargetKey| self.keys.get(key).is_some_and(|key| key.refused);
        let again_ms = self.options.ahead.as_millis() as i64;
        m.until == Until::Open
            && !m.prepared
            && has_heard
            && self.advanced_ms - m.since_ms >= again_ms
            && m.keys.iter().all(was_refused)
    }

    /// Whether somebody takes targets beside this member.
    #[must_use]
    pub fn has_others(&self, name: &str) -> bool {
        self.membership.takers().any(|taker| taker != name)
    }
}
