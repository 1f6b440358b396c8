//! Fences: what a taker scrapes is sent only after what its giver had scraped before T.

use std::collections::BTreeMap;

use super::{Leader, Seen};
use crate::handover::words::MoveId;

/// A member whose destination took nothing of it for this long stands still there; a fleet of which no member's did
/// is not being served. In milliseconds: a few heartbeats.
const STILL_MS: i64 = 10_000;

impl Leader {
    /// Ends moves whose fences may open.
    pub(super) fn follow_fences(&mut self, now_ms: i64) {
        let closing: Vec<MoveId> = self.moves.iter().filter(|(_, m)| m.closing).map(|(id, _)| *id).collect();
        if closing.is_empty() {
            return;
        }
        let served = self.served(now_ms);
        for id in closing {
            self.count_stall(id, &served, now_ms);
            self.tell_sent(id);
            if self.moves.get(&id).is_some_and(|m| m.all_sent) {
                self.finish(id);
            }
        }
    }

    /// A member is gone for good: nobody waits for what it has left. Where it still has the keys, there is nothing to be waited for yet,
    /// and it may be back before it has given them.
    pub fn left(&mut self, name: &str) {
        self.stamped = false;
        for m in self.moves.values_mut().filter(|m| *m.old == *name && m.closing && !m.all_sent) {
            m.all_sent = true;
            self.ended.fences_forced += 1;
        }
    }

    /// Every destination that there is, and whether it has taken something of anybody lately.
    fn served(&self, now_ms: i64) -> BTreeMap<String, bool> {
        let mut served: BTreeMap<String, bool> = BTreeMap::new();
        for seen in self.members.values() {
            for destination in seen.report.progress.keys() {
                let progresses = seen.progresses(destination, now_ms);
                match served.get_mut(destination) {
                    Some(known) => *known |= progresses,
                    None => drop(served.insert(destination.clone(), progresses)),
                }
            }
        }
        served
    }

    /// Whether a destination has taken something of anybody lately.
    pub(super) fn is_served(&self, destination: &str, now_ms: i64) -> bool {
        self.members.values().any(|seen| seen.progresses(destination, now_ms))
    }

    /// Counts the time in which a fence was held up although its destination took samples.
    fn count_stall(&mut self, id: MoveId, served: &BTreeMap<String, bool>, now_ms: i64) {
        let elapsed_ms = (now_ms - self.advanced_ms).max(0);
        let Some(m) = self.moves.get(&id) else { return };
        let giver = self.members.get(&m.old);
        let held_up: Vec<String> = served
            .iter()
            .filter(|(destination, served)| **served && !m.sent.contains(*destination))
            .filter(|(destination, _)| !giver.is_some_and(|seen| seen.progresses(destination, now_ms)))
            .map(|(destination, _)| destination.clone())
            .collect();
        let gone = self.is_lost(&m.old);
        let fence_max_ms = self.options.fence_max.as_millis() as i64;
        let Some(m) = self.moves.get_mut(&id) else { return };
        for destination in held_up {
            let stalled = m.stalled_ms.entry(destination.clone()).or_default();
            *stalled += elapsed_ms;
            if *stalled >= fence_max_ms {
                m.sent.insert(destination);
                self.ended.fences_forced += 1;
            }
        }
        // A giver that is lost cannot say that it was all.
        if gone && served.keys().all(|destination| m.sent.contains(destination)) {
            m.all_sent = true;
        }
    }

    /// Lets the holders of a fence know at which destinations it opens.
    fn tell_sent(&mut self, id: MoveId) {
        let Some(m) = self.moves.get_mut(&id) else { return };
        if m.sent.len() == m.told_sent {
            return;
        }
        m.told_sent = m.sent.len();
        for holder in m.holders.clone() {
            self.touch(&holder);
        }
    }

    fn finish(&mut self, id: MoveId) {
        let Some(m) = self.remove_move(id) else { return };
        self.ended.done += 1;
        for key in &m.keys {
            if let Some(key) = self.keys.get_mut(key).filter(|key| key.incoming == Some(id)) {
                key.incoming = None;
            }
        }
    }
}

impl Seen {
    /// Whether a destination has taken something of this member lately.
    fn progresses(&self, destination: &str, now_ms: i64) -> bool {
        self.progressed_ms.get(destination).is_some_and(|at_ms| now_ms - at_ms < STILL_MS)
    }
}
