//! Keys: what is wanted of them, and what is done where that is not so.

use std::collections::{BTreeMap, BTreeSet};

use super::{Key, Leader, Move, Name, Until};
use crate::handover::words::MoveId;
use crate::target::TargetKey;

impl Leader {
    /// Where placement wants each key that exists. Nothing happens before the next [`Leader::advance`].
    pub fn want(&mut self, wanted: &BTreeMap<TargetKey, Name>, now_ms: i64) {
        self.stamped = false;
        let dying: Vec<TargetKey> = self
            .keys
            .iter()
            .filter(|(key, state)| state.dead.is_none() && !wanted.contains_key(key))
            .map(|(key, _)| *key)
            .collect();
        for key in dying {
            self.end_key(key, now_ms);
        }
        for (key, name) in wanted {
            self.want_key(*key, Some(name), now_ms);
        }
    }

    /// Where placement wants one key; None: it exists no more. The same as [`Leader::want`] for one key alone. Returns the owner
    /// that is to give it away, where it was not to go there already.
    pub fn want_key(&mut self, key: TargetKey, wanted: Option<&Name>, now_ms: i64) -> Option<Name> {
        self.stamped = false;
        self.meant.remove(&key);
        let Some(name) = wanted else {
            if self.keys.get(&key).is_some_and(|state| state.dead.is_none()) {
                self.end_key(key, now_ms);
            }
            return None;
        };
        let state = self.keys.entry(key).or_default();
        let is_back = state.dead.take().is_some();
        let mut gives = None;
        if state.wanted.as_ref() != Some(name) {
            state.wanted = Some(name.clone());
            state.refused = false;
            self.doubtful |= state.outgoing.is_some();
            gives = state.owner.clone().filter(|owner| owner != name);
            self.unsettle(key);
        }
        if is_back {
            self.dead.remove(&key);
            self.touch_all_of(key);
            self.free_key(key);
        }
        gives
    }

    /// A key that exists again has nobody where its last owner has ended and sent everything.
    fn free_key(&mut self, key: TargetKey) {
        let Some(state) = self.keys.get(&key) else { return };
        if !self.is_in_move(state) && state.owner.as_ref().is_some_and(|owner| self.is_over(owner)) {
            if let Some(state) = self.keys.get_mut(&key) {
                state.owner = None;
            }
            self.unsettle(key);
        }
    }

    /// Whether it goes from one member to another: where it is, is not settled.
    fn is_in_move(&self, key: &Key) -> bool {
        key.outgoing.is_some()
            || key.incoming.is_some_and(|id| self.moves.get(&id).is_some_and(|m| !m.closing))
    }

    /// What is behind a key has changed, so that whoever prepares for it has to do so again. Returns the counter
    /// with which it is told.
    pub fn renew(&mut self, key: TargetKey) -> u64 {
        self.stamped = false;
        self.touch_all_of(key);
        let stamp = self.stamp();
        let id = self.keys.get(&key).and_then(|key| key.outgoing);
        // A taker that was asked to be ready for T begins at T: what is new to it, it learns until then.
        if let Some(m) = id.and_then(|id| self.moves.get_mut(&id)).filter(|m| m.until == Until::Open) {
            if m.prepared {
                // It may have waited for the giver for long, and gets its time to be ready anew.
                m.since_ms = self.advanced_ms;
            }
            (m.prepared, m.asked) = (false, stamp);
        }
        stamp
    }

    /// Something else that all members are told has changed.
    pub fn renew_all(&mut self) {
        self.stamped = false;
        for name in self.members.keys().cloned().collect::<Vec<_>>() {
            self.touch(&name);
        }
    }

    /// A key exists no more. Whoever scrapes it now ends its series.
    fn end_key(&mut self, key: TargetKey, now_ms: i64) {
        self.touch_all_of(key);
        self.meant.remove(&key);
        let Some(state) = self.keys.get_mut(&key) else { return };
        let Some(mut marker) = state.owner.clone() else {
            self.keys.remove(&key);
            return;
        };
        if let Some(m) = state.incoming.and_then(|id| self.moves.get(&id))
            && let Until::Final(at) = m.until
            && now_ms + self.options.ahead.as_millis() as i64 / 2 < at
        {
            // It moves at T. That is far enough off for the giver to hear of this before.
            marker = m.old.clone();
        }
        state.dead = Some((marker, now_ms));
        self.dead.insert(key);
        // A move that is only being prepared goes on without it; of a later one the giver may know already.
        if let Some(id) = state.outgoing
            && let Some(m) = self.moves.get_mut(&id)
            && m.until == Until::Open
        {
            state.outgoing = None;
            m.keys.remove(&key);
            if m.keys.is_empty() {
                self.give_up(id);
            }
        }
    }

    fn touch_all_of(&mut self, key: TargetKey) {
        self.mark(key);
        for name in self.concerned(key) {
            self.touch(&name);
        }
    }

    /// Everyone who has, had or will have something of a key.
    fn concerned(&self, key: TargetKey) -> BTreeSet<Name> {
        let Some(key) = self.keys.get(&key) else { return BTreeSet::new() };
        let moves = [key.incoming, key.outgoing].into_iter().flatten().filter_map(|id| self.moves.get(&id));
        let ends = moves.flat_map(|m| [m.old.clone(), m.new.clone()]);
        ends.chain(key.owner.clone()).chain(key.dead.clone().map(|(marker, _)| marker)).collect()
    }

    /// Gives every key to whoever should have it: at once where nobody has it, otherwise by moves.
    pub(super) fn settle_keys(&mut self, now_ms: i64) {
        if self.retiring {
            return;
        }
        if std::mem::take(&mut self.doubtful) | self.restless {
            self.give_up_unwanted();
        }
        let unsettled = std::mem::take(&mut self.unsettled);
        let all = std::mem::take(&mut self.restless);
        let looked_at: Vec<TargetKey> =
            if all { self.keys.keys().copied().collect() } else { unsettled.into_iter().collect() };
        let mut starting: BTreeMap<(Name, Name, bool), BTreeSet<TargetKey>> = BTreeMap::new();
        for key in looked_at {
            if let Some((old, new)) = self.settle_key(key) {
                // What a taker did not get ready for keeps nothing else from moving.
                let refused = self.keys.get(&key).is_some_and(|key| key.refused);
                starting.entry((old, new, refused)).or_default().insert(key);
            }
        }
        for ((old, new, _), keys) in starting {
            self.start_move(old, new, keys, now_ms);
        }
    }

    /// Moves of which nothing is agreed yet, and which go where a key is not wanted any more.
    fn give_up_unwanted(&mut self) {
        let unwanted = |m: &Move| {
            let is_wanted = |key: &Key| key.wanted.as_ref() == Some(&m.new);
            m.until == Until::Open
                && (!self.is_taker(&m.new)
                    || m.keys.iter().any(|key| !self.keys.get(key).is_some_and(is_wanted)))
        };
        let ids: Vec<MoveId> = self.moves.iter().filter(|(_, m)| unwanted(m)).map(|(id, _)| *id).collect();
        for id in ids {
            self.give_up(id);
        }
    }

    /// Sees to one key. Returns giver and taker where it should move.
    fn settle_key(&mut self, key: TargetKey) -> Option<(Name, Name)> {
        let state = self.keys.get(&key)?;
        if state.dead.is_some() {
            return None;
        }
        let wanted = state.wanted.clone()?;
        let Some(owner) = state.owner.clone() else {
            if self.is_taker(&wanted) {
                self.hand(key, &wanted);
            }
            return None;
        };
        if owner == wanted && !self.is_lost(&owner) {
            return None;
        }
        if self.is_in_move(state) || !self.is_taker(&wanted) {
            return None;
        }
        if self.is_lost(&owner) {
            self.hand(key, &wanted);
            self.touch(&owner);
            self.ended.keys_lost += 1;
            return None;
        }
        Some((owner, wanted))
    }

    /// Gives a key that nobody has to a member, at once. A fence that held its samples holds them there as well.
    fn hand(&mut self, key: TargetKey, name: &Name) {
        self.touch(name);
        self.changed_keys.insert(key);
        self.transfer(key, name);
        let Some(state) = self.keys.get_mut(&key) else { return };
        if let Some(m) = state.incoming.and_then(|id| self.moves.get_mut(&id)) {
            if m.old == *name {
                state.incoming = None;
            } else {
                m.holders.insert(name.clone());
            }
        }
    }

    fn start_move(&mut self, old: Name, new: Name, keys: BTreeSet<TargetKey>, now_ms: i64) {
        // A counter of its own for each move, so that its name is unique.
        self.stamped = false;
        let asked = self.touch(&new);
        let id = MoveId(self.version());
        self.touch(&old);
        for key in &keys {
            if let Some(state) = self.keys.get_mut(key) {
                state.outgoing = Some(id);
            }
            self.changed_keys.insert(*key);
        }
        let m = Move {
            old,
            holders: BTreeSet::from([new.clone()]),
            new,
            keys,
            since_ms: now_ms,
            asked,
            prepared: false,
            until: Until::Open,
            begun: None,
            closing: false,
            sent: BTreeSet::new(),
            told_sent: 0,
            all_sent: false,
            stalled_ms: BTreeMap::new(),
        };
        self.moves.insert(id, m);
    }

    /// Forgets keys that have not existed for long. Until then they count as owned: one that returns does so by a move, as
    /// its last owner may not know yet that it went, or have something unsent of it.
    pub(super) fn bury(&mut self, now_ms: i64) {
        let kept_ms = self.options.fence_max.as_millis() as i64;
        let over = |key: &Key| key.dead.as_ref().is_some_and(|(_, at_ms)| now_ms - at_ms > kept_ms);
        let is_buried =
            |key: &&TargetKey| self.keys.get(key).is_none_or(|key| over(key) && !self.is_in_move(key));
        let buried: Vec<TargetKey> = self.dead.iter().filter(is_buried).copied().collect();
        for key in buried {
            self.keys.remove(&key);
            self.dead.remove(&key);
            self.changed_keys.insert(key);
            for m in self.moves.values_mut() {
                m.keys.remove(&key);
            }
        }
    }
}
