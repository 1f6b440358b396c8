//! A member's life: restarts, pauses, and its end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Ended, Held, Known, Member, MemberOptions};
use crate::handover::words::{Claim, Grant, MoveId, MoveTerms, Name, Staying, Version};
use crate::target::TargetKey;

/// Where an allocator is there but none leads, a drain waits for so many lapses.
const LEADERLESS_LAPSES: i64 = 2;

/// What a scraper keeps on its volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The highest term that it has seen.
    pub promised: u64,
    /// The version in force.
    pub version: Option<Version>,
    /// What is granted.
    pub keys: Vec<SavedKey>,
    /// The moves that it is in.
    pub moves: Vec<SavedMove>,
    /// Keys that were ended lately, with the move behind whose fence their markers may wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<SavedKey>,
    /// When it last learnt that it had been replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overtaken_ms: Option<i64>,
}

/// A key that is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedKey {
    /// The key.
    pub key: TargetKey,
    /// How.
    #[serde(flatten)]
    pub grant: Grant,
}

/// A move that it is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedMove {
    /// Which.
    pub id: MoveId,
    /// What it was told.
    pub terms: MoveTerms,
    /// What is final of it.
    pub settled: Option<i64>,
    /// The keys that go by it, or that have come, wherever those are now.
    #[serde(default)]
    pub keys: Vec<TargetKey>,
}

/// Whether a member that is on its way out may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// It was not asked to.
    No,
    /// It still has keys that others are to take.
    Waiting,
    /// Everything is given.
    Given,
    /// Everything is given but what nobody will take.
    Left(Staying),
    /// Nobody would take anything.
    InVain,
}

impl Member {
    /// A member with what the run before had saved. It starts nothing before a leader has confirmed that, or none has
    /// answered for long enough.
    #[must_use]
    pub fn restored(name: Name, options: MemberOptions, run: u64, saved: Saved, now_ms: i64) -> Self {
        let mut member = Self::new(name, options, run, now_ms);
        member.promised = saved.promised;
        member.version = saved.version;
        member.overtaken_ms = saved.overtaken_ms;
        member.moves = saved
            .moves
            .into_iter()
            .map(|SavedMove { id, terms, settled, keys }| {
                let keys = keys.into_iter().collect();
                (id, Known { terms, settled, keys, sent: Default::default(), all_sent: false })
            })
            .collect();
        let settled: BTreeMap<MoveId, bool> =
            member.moves.iter().map(|(id, known)| (*id, known.settled.is_some())).collect();
        member.keys = saved
            .keys
            .into_iter()
            .map(|SavedKey { key, grant }| {
                let active = grant.incoming.is_none_or(|id| settled.get(&id).copied().unwrap_or(true));
                let active_after = active.then_some(now_ms);
                (key, Held { grant, active_after, started_ms: i64::MIN })
            })
            .collect();
        let ended = saved.ended.into_iter();
        member.ended = ended
            .map(|SavedKey { key, grant }| (key, Ended { fence: grant.incoming, at_ms: now_ms }))
            .collect();
        member.doubting_ms = Some(now_ms);
        member
    }

    /// What is to be saved; None where that is done already.
    #[must_use]
    pub fn unsaved(&self) -> Option<Saved> {
        self.unsaved.then(|| Saved {
            promised: self.promised,
            version: self.version,
            keys: self.keys.iter().map(|(key, held)| SavedKey { key: *key, grant: held.grant }).collect(),
            moves: self
                .moves
                .iter()
                .map(|(id, known)| SavedMove {
                    id: *id,
                    terms: known.terms.clone(),
                    settled: known.settled,
                    keys: known.keys.iter().copied().collect(),
                })
                .collect(),
            ended: self
                .ended_lately(self.ticked_ms)
                .map(|Claim { key, grant }| SavedKey { key, grant })
                .collect(),
            overtaken_ms: self.overtaken_ms,
        })
    }

    /// Whether [`Member::unsaved`] gives something.
    #[must_use]
    pub fn is_unsaved(&self) -> bool {
        self.unsaved
    }

    /// What [`Member::unsaved`] gave is safe.
    pub fn saved(&mut self) {
        (self.unsaved, self.unsaved_grants, self.cannot_save) = (false, false, false);
    }

    /// The volume did not take `tried`, which [`Member::unsaved`] gave. Returns whether it may be said by that, and might
    /// not before.
    pub fn cannot_save(&mut self, tried: &Saved) -> bool {
        let silent = !self.may_tell();
        self.cannot_save |= self.unsaved().as_ref() == Some(tried);
        silent && self.may_tell()
    }

    /// Whether it may say what it has: all of it is safe; or the volume takes nothing, and what it would lose by a
    /// restart is nothing that a hand-over depends on. That is the promise to take nothing of a lower term, and, while it is
    /// in no move, the version: others may go by its word on a time, not on its having heard of something.
    pub(super) fn may_tell(&self) -> bool {
        !self.unsaved || self.cannot_save && (!self.unsaved_grants || self.moves.is_empty())
    }

    /// What is granted, or a move, has changed.
    pub(super) fn note_grants(&mut self) {
        (self.unsaved, self.unsaved_grants, self.cannot_save) = (true, true, false);
    }

    /// Time has passed. A gap in it of half the lapse is a pause in which the member may have been replaced.
    pub fn tick(&mut self, now_ms: i64) {
        if now_ms - self.ticked_ms > self.options.lapse.as_millis() as i64 / 2 {
            self.doubting_ms = Some(now_ms);
            self.paused_ms = Some(now_ms);
        }
        self.ticked_ms = now_ms;
        if let Some(since_ms) = self.doubting_ms
            && now_ms - since_ms.max(self.answered_ms) >= self.options.resume_after.as_millis() as i64
        {
            // Better twice than not at all: nobody is there to say.
            self.resume(now_ms);
        }
    }

    /// Whether a pause in which the member may have been replaced has ended since then: what was under way says nothing of others.
    #[must_use]
    pub fn was_paused_since(&self, from_ms: i64) -> bool {
        self.paused_ms.is_some_and(|paused_ms| paused_ms >= from_ms)
    }

    /// Whether a leader has to be asked at once whether what is held still holds.
    #[must_use]
    pub fn is_doubting(&self) -> bool {
        self.doubting_ms.is_some()
    }

    pub(super) fn trust(&mut self, asked_ms: i64, now_ms: i64) {
        // Only an answer to a question that was put after the pause says anything.
        if self.doubting_ms.is_some_and(|since_ms| asked_ms >= since_ms) {
            self.resume(now_ms);
        }
    }

    fn resume(&mut self, now_ms: i64) {
        self.doubting_ms = None;
        for held in self.keys.values_mut() {
            held.active_after = held.active_after.map(|_| now_ms);
        }
    }

    /// It is to end: what it has should go to others.
    pub fn drain(&mut self, now_ms: i64) {
        self.draining_ms.get_or_insert(now_ms);
    }

    /// From now on it takes nothing, if all that it had is given. False: it is not, or no more.
    pub fn close(&mut self, now_ms: i64) -> bool {
        self.closed |= self.has_given_all(now_ms);
        self.closed
    }

    /// Its last scrape is over. Where it is closed, nobody has to wait for it then once it has sent everything.
    pub fn end(&mut self) {
        self.over = self.closed;
    }

    fn has_given_all(&self, now_ms: i64) -> bool {
        self.keys.values().all(|held| self.has_given(held, now_ms))
    }

    fn has_given(&self, held: &Held, now_ms: i64) -> bool {
        // What is only being prepared may begin at any time, unless the leader takes it back.
        let id = held.grant.outgoing;
        let known = id.and_then(|id| self.moves.get(&id)).filter(|known| known.terms.begin);
        known.and_then(|known| known.settled).is_some_and(|at| at <= now_ms)
    }

    /// How far the drain is. `alone`: a leader says that nobody else takes targets. `staying`: it says so of what is left.
    #[must_use]
    pub fn drained(&self, alone: bool, staying: Option<Staying>, now_ms: i64) -> Drain {
        let Some(since_ms) = self.draining_ms else { return Drain::No };
        if self.has_given_all(now_ms) {
            return Drain::Given;
        }
        let lapse_ms = self.options.lapse.as_millis() as i64;
        // One that is there without leading soon does: a Lease lasts as long as the lapse.
        let patience = if now_ms - self.noticed_ms <= lapse_ms { LEADERLESS_LAPSES } else { 1 };
        let silent = now_ms - since_ms.max(self.answered_ms) > patience * lapse_ms;
        if alone || silent {
            return Drain::InVain;
        }
        // What it has accepted is to move, whatever else stays.
        let settled = |held: &Held| held.grant.outgoing.and_then(|id| self.moves.get(&id)?.settled);
        let is_over = |held: &Held| self.has_given(held, now_ms) || settled(held).is_none();
        let holds = |staying: &Staying| self.version == Some(staying.version);
        let staying = staying.filter(holds).filter(|_| self.keys.values().all(is_over));
        staying.map_or(Drain::Waiting, Drain::Left)
    }
}
