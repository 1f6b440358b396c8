//! Moves: prepare, until, from.

use super::{Leader, Move, Name, Until};
use crate::handover::words::MoveId;

impl Leader {
    /// Takes every move as far as the last reports allow.
    pub(super) fn follow_moves(&mut self, now_ms: i64) {
        for id in self.moves.keys().copied().collect::<Vec<_>>() {
            self.hear(id);
            self.follow(id, now_ms);
        }
    }

    /// What giver and taker say counts, whatever this leader thought.
    fn hear(&mut self, id: MoveId) {
        let Some(m) = self.moves.get(&id) else { return };
        let (old, new) = (m.old.clone(), m.new.clone());
        let given = self.word_of(&old, id).cloned();
        let taken = self.word_of(&new, id).cloned();
        let in_force = self.in_force(&new);
        let Some(m) = self.moves.get_mut(&id) else { return };
        if let Some(word) = given {
            if let Some(at) = word.settled {
                m.until = Until::Final(at);
            }
            m.sent.extend(word.sent.iter().cloned());
            m.all_sent |= word.all_sent;
        }
        if let Some(word) = taken {
            m.prepared |= word.prepared && in_force >= m.asked;
            if let Some(at) = word.settled {
                // The giver told it, while no leader did.
                m.until = Until::Final(at);
                m.prepared = true;
            }
        }
    }

    fn follow(&mut self, id: MoveId, now_ms: i64) {
        let Some(m) = self.moves.get(&id) else { return };
        let (old, new) = (m.old.clone(), m.new.clone());
        let is_final = matches!(m.until, Until::Final(_));
        let overdue = now_ms - m.since_ms > self.options.prepare_max.as_millis() as i64;
        // What the taker of one that has ended lacks, that one's next run may have sooner.
        let is_left = self.is_lost(&old) || m.prepared && self.is_over(&old);
        if is_left && !is_final {
            return self.end_unplanned(id);
        }
        if m.until == Until::Open && !m.prepared && overdue {
            let lacking = self.word_of(&new, id).map(|word| &word.unready).filter(|keys| !keys.is_empty());
            // The next move takes the others alone. Who does not say which they are lacks all.
            let refused = lacking.unwrap_or(&m.keys).intersection(&m.keys).copied().collect::<Vec<_>>();
            self.give_up(id);
            for key in refused {
                if let Some(key) = self.keys.get_mut(&key) {
                    key.refused = true;
                }
            }
            return;
        }
        if self.is_lost(&new) && !m.closing {
            return self.retarget(id, now_ms);
        }
        let (until, prepared, begun) = (m.until, m.prepared, m.begun);
        match until {
            Until::Open | Until::Proposed(..) if self.retiring => {}
            // It is prepared, and thus known to its members, before it waits for the giver: whoever leads next goes on with it.
            Until::Open if prepared && self.may_give(&old, now_ms) => self.propose(id, now_ms),
            // It has seen the proposal and not accepted; or it may not have seen it, and T comes.
            Until::Proposed(at, counter) if now_ms >= at || self.in_force(&old) >= counter => {
                self.propose(id, now_ms);
            }
            Until::Final(_) if begun.is_none() && prepared => self.begin(id),
            Until::Final(at) => self.close(id, at, now_ms),
            Until::Open | Until::Proposed(..) => {}
        }
    }

    /// Whether a member's backlog lets it give without holding up the taker's samples for long. Who drains does not wait,
    /// and nobody waits for a destination that takes nothing of anybody.
    fn may_give(&mut self, name: &Name, now_ms: i64) -> bool {
        let backlog_max_ms = self.options.backlog_max.as_millis() as i64;
        let progress = self.members.get(name).into_iter().flat_map(|seen| &seen.report.progress);
        let mut late = progress.filter(|(_, progress)| progress.oldest_ms > backlog_max_ms);
        let is_late = self.is_taker(name) && late.any(|(destination, _)| self.is_served(destination, now_ms));
        let Some(seen) = self.members.get_mut(name) else { return true };
        if !is_late {
            seen.waiting_ms = None;
            return true;
        }
        let since_ms = *seen.waiting_ms.get_or_insert(now_ms);
        now_ms - since_ms >= self.options.fence_max.as_millis() as i64
    }

    /// Asks the giver to stop at a T that it hears of early enough.
    fn propose(&mut self, id: MoveId, now_ms: i64) {
        let at = now_ms + self.options.ahead.as_millis() as i64;
        let Some(old) = self.moves.get(&id).map(|m| m.old.clone()) else { return };
        let stamp = self.touch(&old);
        if let Some(m) = self.moves.get_mut(&id) {
            m.until = Until::Proposed(at, stamp);
        }
    }

    /// The giver stops at T: only now may the taker begin there.
    fn begin(&mut self, id: MoveId) {
        let Some(m) = self.moves.get(&id) else { return };
        let (old, new, keys) = (m.old.clone(), m.new.clone(), m.keys.clone());
        self.touch(&old);
        let stamp = self.touch(&new);
        self.mark_all(&keys);
        for key in keys {
            self.transfer(key, &new);
            if let Some(key) = self.keys.get_mut(&key) {
                (key.incoming, key.outgoing) = (Some(id), None);
                key.refused = false;
            }
        }
        if let Some(m) = self.moves.get_mut(&id) {
            m.begun = Some(stamp);
            m.holders.insert(new);
        }
    }

    /// When T is history for all, the giver need not hold the keys any longer.
    fn close(&mut self, id: MoveId, at: i64, now_ms: i64) {
        let Some(m) = self.moves.get(&id) else { return };
        // The giver says what T is, whatever was proposed: it may be any number.
        let history = now_ms >= at.saturating_add(self.options.settled_after.as_millis() as i64);
        let taken = m.begun.is_some_and(|begun| self.in_force(&m.new) >= begun);
        if m.closing || !history || !taken {
            return;
        }
        let (old, keys) = (m.old.clone(), m.keys.clone());
        self.touch(&old);
        self.mark_all(&keys);
        if let Some(m) = self.moves.get_mut(&id) {
            m.closing = true;
        }
    }

    /// The giver is lost and has agreed on nothing: the taker has the keys at once, without a fence.
    fn end_unplanned(&mut self, id: MoveId) {
        let Some(m) = self.remove_move(id) else { return };
        let new = (!self.is_lost(&m.new)).then(|| m.new.clone());
        let is_lost = self.is_lost(&m.old);
        for key in &m.keys {
            let Some(state) = self.keys.get_mut(key) else { continue };
            state.outgoing = None;
            // Otherwise the key stays with the lost one until somebody takes it over.
            if let Some(new) = &new {
                state.incoming = None;
                self.ended.keys_lost += u64::from(is_lost);
                self.transfer(*key, new);
            }
        }
    }

    /// Nothing was agreed on: the giver goes on as if nothing had been.
    pub(super) fn give_up(&mut self, id: MoveId) {
        let Some(m) = self.remove_move(id) else { return };
        self.ended.given_up += 1;
        for key in &m.keys {
            if let Some(key) = self.keys.get_mut(key).filter(|key| key.outgoing == Some(id)) {
                key.outgoing = None;
            }
        }
    }

    /// The taker is lost: somebody else takes the same T behind the same fence.
    fn retarget(&mut self, id: MoveId, now_ms: i64) {
        let Some(m) = self.moves.get(&id) else { return };
        if m.until == Until::Open {
            return self.give_up(id);
        }
        let Some(next) = self.next_taker(m) else { return };
        if next == m.old {
            return self.resume(id);
        }
        let (old, before, keys) = (m.old.clone(), m.new.clone(), m.keys.clone());
        let is_final = matches!(m.until, Until::Final(_));
        let begun = m.begun.is_some();
        self.mark_all(&keys);
        self.touch(&old);
        self.touch(&before);
        let stamp = self.touch(&next);
        if begun {
            for key in keys {
                if self.keys.get(&key).is_some_and(|key| key.incoming == Some(id)) {
                    self.transfer(key, &next);
                }
            }
        }
        if let Some(m) = self.moves.get_mut(&id) {
            m.new = next;
            m.since_ms = now_ms;
            m.asked = stamp;
            // T may be near or past: it begins as soon as it can.
            m.prepared = true;
            m.begun = m.begun.map(|_| stamp);
            m.holders.insert(m.new.clone());
        }
        if is_final && !begun {
            self.begin(id);
        }
    }

    fn next_taker(&self, m: &Move) -> Option<Name> {
        let wanted = m.keys.iter().filter_map(|key| self.keys.get(key)?.wanted.as_ref());
        let others = self.membership.takers().filter(|taker| *taker != &*m.old);
        let fits = |name: &&str| **name != *m.new && self.is_taker(name);
        let found = wanted.map(|name| &**name).find(fits).or_else(|| others.into_iter().find(fits));
        found.map(Name::from).or_else(|| {
            let alone = !self.is_lost(&m.old) && m.old != m.new;
            alone.then(|| m.old.clone())
        })
    }

    /// Nobody is left to take: the giver goes on.
    fn resume(&mut self, id: MoveId) {
        let Some(m) = self.remove_move(id) else { return };
        self.ended.given_up += 1;
        for key in &m.keys {
            let is_its = |key: &&mut super::Key| key.incoming == Some(id) || key.outgoing == Some(id);
            if let Some(state) = self.keys.get_mut(key).filter(is_its) {
                state.outgoing = None;
                state.incoming = state.incoming.filter(|incoming| *incoming != id);
                self.transfer(*key, &m.old);
            }
        }
    }

    /// Forgets a move, and lets everyone know whom it concerned.
    pub(super) fn remove_move(&mut self, id: MoveId) -> Option<Move> {
        let m = self.moves.remove(&id)?;
        self.mark_all(&m.keys);
        self.touch(&m.old);
        self.touch(&m.new);
        for holder in &m.holders {
            self.touch(holder);
        }
        Some(m)
    }
}
