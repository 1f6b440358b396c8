//! What a member says: reports to the leader, and words between giver and taker where no leader answers.

use std::collections::BTreeSet;

use super::{ENDED_MS_MAX, Known, Member};
use crate::handover::leader::Reply;
use crate::handover::words::{Claim, Grant, MemberReport, MoveId, MoveReport};
use crate::target::TargetKey;

/// A taker asks the giver no more often than this, in milliseconds.
const ASK_INTERVAL_MS: i64 = 1_000;

impl Member {
    /// The next report; None while what it would say is not safe yet.
    pub fn report(&mut self, now_ms: i64) -> Option<MemberReport> {
        self.tick(now_ms);
        if !self.may_tell() {
            return None;
        }
        self.sequence += 1;
        self.reported_ms = now_ms;
        let full = self.reported_full != Some(self.promised);
        if full {
            self.full_sent = Some((self.sequence, self.promised));
        }
        let claims = if full {
            self.keys.iter().map(|(key, held)| Claim { key: *key, grant: held.grant }).collect()
        } else {
            Vec::new()
        };
        Some(MemberReport {
            run: self.run,
            sequence: self.sequence,
            promised: self.promised,
            version: self.version,
            address: self.address.clone(),
            draining: self.draining_ms.is_some(),
            over: self.over,
            full,
            claims,
            ended: if full { self.ended_lately(now_ms).collect() } else { Vec::new() },
            moves: self.moves.iter().map(|(id, known)| self.word(*id, known)).collect(),
            progress: self.progress.clone(),
        })
    }

    /// Keys that were ended here, and not long ago.
    pub(super) fn ended_lately(&self, now_ms: i64) -> impl Iterator<Item = Claim> {
        let lately = self.ended.iter().filter(move |(_, ended)| now_ms - ended.at_ms < ENDED_MS_MAX);
        lately.map(|(key, ended)| Claim { key: *key, grant: Grant { incoming: ended.fence, outgoing: None } })
    }

    fn word(&self, id: MoveId, known: &Known) -> MoveReport {
        let comes = |key: &&TargetKey| self.keys.get(key).is_some_and(|held| held.grant.incoming == Some(id));
        let unready: BTreeSet<TargetKey> = self.unready.iter().filter(comes).copied().collect();
        MoveReport {
            id,
            terms: known.terms.clone(),
            settled: known.settled,
            // Who has given all takes nothing more: what it is granted it does not hold, ready or not.
            prepared: !self.closed && self.takes_by(known) && unready.is_empty(),
            unready,
            sent: known.sent.clone(),
            all_sent: known.all_sent,
        }
    }

    /// An allocator was there then, whether it leads or not.
    pub fn noticed(&mut self, at_ms: i64) {
        self.noticed_ms = self.noticed_ms.max(at_ms);
    }

    /// A leader has answered a report. True: another one should follow at once.
    pub fn replied(&mut self, reply: Reply, now_ms: i64) -> bool {
        if reply.term < self.promised {
            return false;
        }
        self.answered_ms = self.answered_ms.max(now_ms);
        if reply.version.is_some() {
            self.led_ms = self.led_ms.max(now_ms);
        }
        self.rumoured = self.rumoured.max(reply.version);
        if reply.term > self.promised {
            self.promise(reply.term);
            return true;
        }
        if reply.version.is_some() && reply.version == self.version && reply.sequence == self.sequence {
            // As good as the answer to a poll that nothing is newer.
            self.trust(self.reported_ms, now_ms);
        }
        if self.full_sent == Some((reply.sequence, reply.term)) {
            self.reported_full = Some(reply.term);
        }
        if reply.full && self.full_sent.is_none_or(|(sequence, _)| sequence < reply.sequence) {
            self.reported_full = None;
            return true;
        }
        false
    }

    /// Nothing of a lower term is taken from now on.
    pub(in crate::handover) fn promise(&mut self, term: u64) {
        if term > self.promised {
            self.promised = term;
            (self.unsaved, self.cannot_save) = (true, false);
        }
    }

    fn takes_by(&self, known: &Known) -> bool {
        known.terms.new == self.name && known.terms.old != self.name
    }

    /// Moves whose giver should be asked now, with its address: no leader answers, and T may come. Also where this scraper is not ready for
    /// some of the keys: if T was agreed on before, nobody else has the others.
    pub fn questions(&mut self, now_ms: i64) -> Vec<(MoveId, String)> {
        let silent = now_ms - self.led_ms > self.options.ask_after.as_millis() as i64;
        if !silent
            || self.is_decided_elsewhere()
            || !self.may_tell()
            || now_ms - self.asked_ms < ASK_INTERVAL_MS
        {
            return Vec::new();
        }
        self.asked_ms = now_ms;
        let waits = |known: &Known| known.settled.is_none() && !self.closed && self.takes_by(known);
        let asked = self.moves.iter().filter(|(_, known)| waits(known));
        asked.map(|(id, known)| (*id, known.terms.old_address.clone())).collect()
    }

    /// Whether a later leader than the one by whose word it goes gives out assignments: that one has decided on every move. It may have
    /// taken for lost whoever gives by one, and given the keys to others.
    fn is_decided_elsewhere(&self) -> bool {
        self.rumoured.map(|version| version.term) > self.version.map(|version| version.term)
    }

    /// Somebody asks when this member stops. What it says here counts as if the leader had said it, so it is only told
    /// to the one whom the keys are for, and only what is final.
    #[must_use]
    pub fn asked(&self, id: MoveId, by: &str) -> Option<i64> {
        let known = self.moves.get(&id).filter(|_| self.may_tell())?;
        let right = known.terms.old == self.name && *known.terms.new == *by;
        known.settled.filter(|_| right)
    }

    /// The giver has said when it stops.
    pub fn heard(&mut self, id: MoveId, at: i64, now_ms: i64) {
        if self.is_decided_elsewhere() {
            return;
        }
        let Some(known) = self.moves.get_mut(&id) else { return };
        if known.terms.new != self.name || known.settled.is_some() {
            return;
        }
        known.settled = Some(at);
        self.note_grants();
        for held in self.keys.values_mut().filter(|held| held.grant.incoming == Some(id)) {
            held.active_after.get_or_insert(now_ms);
        }
    }
}
