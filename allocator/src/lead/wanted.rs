//! Where keys are wanted beside what placement says of it, and why they go there.

use std::collections::BTreeMap;

use promring_model::handover::{Name, Transfer};
use promring_model::placement::{Move, ScraperLoad};
use promring_model::target::TargetKey;

use super::{Lead, Seen};
use crate::placing::Placing;
use crate::reasons::Reason;

/// What placement does not know of the keys that it places.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Keys that are with another one than placement wants, as the file of that one lacks their job.
    elsewhere: BTreeMap<TargetKey, Name>,
    /// Why keys go where they are wanted, until they are there; the last is where they are now. A move that has been agreed on is
    /// completed though a key is wanted elsewhere by then.
    why: BTreeMap<TargetKey, Vec<(Name, Reason)>>,
}

impl Wanted {
    /// Whether all keys are wanted where placement wants them.
    pub(super) fn is_as_placed(&self) -> bool {
        self.elsewhere.is_empty()
    }

    /// A key has come to a scraper: why, where it was wanted there.
    fn arrived(&mut self, key: TargetKey, name: &Name) -> Option<Reason> {
        let whys = self.why.get_mut(&key)?;
        let at = whys.iter().position(|(to, _)| to == name)?;
        let (_, reason) = whys.drain(..=at).next_back()?;
        if whys.is_empty() {
            self.why.remove(&key);
        }
        Some(reason)
    }

    /// What each scraper is to carry of what placement has placed.
    pub(super) fn loads(&self, placing: &Placing) -> Vec<ScraperLoad> {
        let mut loads = placing.loads();
        for (key, name) in &self.elsewhere {
            let (Some(owner), Some(weight)) = (placing.owner(*key), placing.weight(*key)) else { continue };
            let mut add = |name: &Name, keys: isize, weight: f64| {
                // They come by name.
                if let Ok(at) = loads.binary_search_by(|load| (*load.scraper).cmp(name)) {
                    let load = &mut loads[at];
                    load.keys = load.keys.saturating_add_signed(keys);
                    // Differences of fractions may come out a little below nothing.
                    load.weight = (load.weight + weight).max(0.0);
                }
            };
            add(&owner, -1, -weight);
            add(name, 1, weight);
        }
        loads
    }
}

impl Lead {
    /// Placement wants a key at `placed`. It goes there, or, while that one's file lacks its job, to another one; where somebody
    /// has it who stays, for this reason.
    pub(super) fn want(
        &mut self,
        seen: &Seen<'_>,
        key: TargetKey,
        placed: &Name,
        reason: Reason,
        now_ms: i64,
    ) {
        let takers = self.placing.as_ref().map(Placing::takers).unwrap_or_default();
        let to = seen.diverted(key, placed, takers);
        let reason = if to == placed { reason } else { Reason::Config };
        let gives = self.leader.want_key(key, Some(to), now_ms);
        if to == placed {
            self.wanted.elsewhere.remove(&key);
        } else {
            self.wanted.elsewhere.insert(key, to.clone());
        }
        if let Some(owner) = gives {
            let (to, reason) = (to.clone(), self.reason_for(seen, &owner, reason));
            let why = self.wanted.why.entry(key).or_default();
            why.retain(|(name, _)| *name != to);
            why.push((to, reason));
        }
    }

    /// Placement has moved keys.
    pub(super) fn want_all(&mut self, seen: &Seen<'_>, moves: &[Move], reason: Reason, now_ms: i64) {
        for Move { key, to, .. } in moves {
            self.want(seen, *key, to, reason, now_ms);
        }
    }

    /// A key exists no more. What it was on its way for counts if it arrives all the same.
    pub(super) fn want_none(&mut self, key: TargetKey, now_ms: i64) {
        self.wanted.elsewhere.remove(&key);
        self.leader.want_key(key, None, now_ms);
    }

    /// Why a key leaves its owner: `otherwise`, if that one takes targets still.
    pub(super) fn reason_for(&self, seen: &Seen<'_>, owner: &str, otherwise: Reason) -> Reason {
        match self.leader.membership().get(owner) {
            Some(member) if member.takes_targets() => otherwise,
            Some(member) if !member.lost && seen.intended.is_leaving(owner) => Reason::ScaleIn,
            Some(member) if !member.lost => Reason::Drain,
            _ => Reason::Lost,
        }
    }

    /// Counts the keys that have another owner since.
    pub(super) fn count_moves(&mut self, seen: &Seen<'_>) {
        let mut counts: BTreeMap<Reason, u64> = BTreeMap::new();
        for Transfer { key, old, new } in self.leader.take_transfers() {
            let reason = self.wanted.arrived(key, &new).unwrap_or_else(|| {
                let whys = self.wanted.why.get(&key);
                // Another one than it was wanted at, as that one was lost; or it was agreed on under the leader before.
                let begun = whys.and_then(|whys| whys.last()).map_or(Reason::Takeover, |(_, why)| *why);
                self.reason_for(seen, &old, begun)
            });
            *counts.entry(reason).or_default() += 1;
        }
        counts.into_iter().for_each(|(reason, keys)| self.reasons.count(reason, keys));
    }

    /// Forgets why keys were to go that are where they are wanted all the same.
    pub(super) fn forget_reasons(&mut self) {
        let leader = &self.leader;
        self.wanted.why.retain(|key, _| !leader.is_where_wanted(*key));
    }
}
