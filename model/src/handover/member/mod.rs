//! A member's side: which slots a scraper may start, and what it says of itself.
//!
//! What it has accepted is safe before it says so: [`Member::report`] and [`Member::asked`] are silent between a change
//! and [`Member::saved`]. Where its volume takes nothing ([`Member::cannot_save`]), it says all the same what no hand-over
//! depends on: otherwise nobody could lead, and it would scrape nothing after a restart.

mod life;
mod talk;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use life::{Drain, Saved, SavedKey, SavedMove};

use super::words::{Grant, MoveId, MoveTerms, Name, Progress, Told, Version};
use crate::target::TargetKey;

/// A member's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberOptions {
    /// After this long without a word from it the leader replaces a member.
    pub lapse: Duration,
    /// A member that does not know whether it was replaced goes on with what it had when no leader has answered for
    /// this long.
    pub resume_after: Duration,
    /// A taker asks the giver itself when no allocator that leads has answered for this long. One that is still finding
    /// out what there is cannot say when to begin.
    pub ask_after: Duration,
}

impl Default for MemberOptions {
    fn default() -> Self {
        Self {
            lapse: Duration::from_secs(15),
            resume_after: Duration::from_secs(10),
            ask_after: Duration::from_millis(2_500),
        }
    }
}

/// What is to be done after an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The key is granted and was not before. Whether a slot may be started says [`Member::may_start`].
    Take(TargetKey),
    /// The key is somebody else's: its series end here without markers.
    Moved(TargetKey),
    /// The key exists no more: its series end with markers.
    Gone {
        /// The key.
        key: TargetKey,
        /// Markers are not older than this.
        from: Option<i64>,
        /// They are older than this.
        until: Option<i64>,
        /// They go behind this fence.
        fence: Option<MoveId>,
    },
    /// Everything from before T is sent to this destination: the fence opens there.
    Open(MoveId, String),
    /// The move is done, or never came to be: its fence opens everywhere.
    OpenAll(MoveId),
}

/// So long a key that was ended is told to a new leader, in milliseconds: as long as a leader remembers it where `fence_max` is as it is by default.
const ENDED_MS_MAX: i64 = 300_000;

/// A scraper's state machine.
#[derive(Clone, Debug)]
pub struct Member {
    name: Name,
    options: MemberOptions,
    run: u64,
    sequence: u64,
    /// When the report of that number was made.
    reported_ms: i64,
    promised: u64,
    /// The term whose leader has had a full report, and the number of the first full report that is under way.
    reported_full: Option<u64>,
    full_sent: Option<(u64, u64)>,
    version: Option<Version>,
    /// The newest version that a reply to a report has spoken of.
    rumoured: Option<Version>,
    keys: BTreeMap<TargetKey, Held>,
    moves: BTreeMap<MoveId, Known>,
    /// Keys that were ended here lately, and have not come back.
    ended: BTreeMap<TargetKey, Ended>,
    /// Keys that this scraper cannot scrape yet, as its own file does not have their job.
    unready: BTreeSet<TargetKey>,
    unsaved: bool,
    /// What is unsaved is more than the promise to take nothing of a lower term.
    unsaved_grants: bool,
    /// The volume did not take what is unsaved.
    cannot_save: bool,
    /// Since when it is not known whether what is held still holds; nothing is scraped meanwhile.
    doubting_ms: Option<i64>,
    /// When a pause last ended in which it may have been replaced.
    paused_ms: Option<i64>,
    ticked_ms: i64,
    /// When an allocator last answered anything, when one that leads did, and when one was there at all.
    answered_ms: i64,
    led_ms: i64,
    noticed_ms: i64,
    asked_ms: i64,
    draining_ms: Option<i64>,
    /// All that it had is given, and it takes nothing more.
    closed: bool,
    /// It scrapes nothing any more either.
    over: bool,
    /// When it last learnt that it had been replaced.
    overtaken_ms: Option<i64>,
    address: String,
    progress: BTreeMap<String, Progress>,
}

#[derive(Clone, Debug)]
struct Held {
    grant: Grant,
    /// Slots after this time may be started; None: the key is only being prepared for.
    active_after: Option<i64>,
    /// The newest slot that was started.
    started_ms: i64,
}

/// A key that was ended here.
#[derive(Clone, Copy, Debug)]
struct Ended {
    /// Its marker may wait behind this move's fence.
    fence: Option<MoveId>,
    at_ms: i64,
}

#[derive(Clone, Debug)]
struct Known {
    terms: MoveTerms,
    /// As the giver, the T that was accepted; as the taker, the T that it begins at.
    settled: Option<i64>,
    /// The keys that go by it, or that have come: also once they have gone on by another one.
    keys: BTreeSet<TargetKey>,
    sent: BTreeSet<String>,
    all_sent: bool,
}

impl Member {
    /// A member that has nothing. `run` must be higher than that of any run before: the start time does.
    #[must_use]
    pub fn new(name: Name, options: MemberOptions, run: u64, now_ms: i64) -> Self {
        Self {
            name,
            options,
            run,
            sequence: 0,
            reported_ms: i64::MIN,
            promised: 0,
            reported_full: None,
            full_sent: None,
            version: None,
            rumoured: None,
            keys: BTreeMap::new(),
            moves: BTreeMap::new(),
            ended: BTreeMap::new(),
            unready: BTreeSet::new(),
            unsaved: false,
            unsaved_grants: false,
            cannot_save: false,
            doubting_ms: None,
            paused_ms: None,
            ticked_ms: now_ms,
            answered_ms: now_ms,
            led_ms: now_ms,
            noticed_ms: now_ms,
            asked_ms: now_ms,
            draining_ms: None,
            closed: false,
            over: false,
            overtaken_ms: None,
            address: String::new(),
            progress: BTreeMap::new(),
        }
    }

    /// Whether an answer that brings this version says anything: not where it is of an older term or version.
    #[must_use]
    pub fn takes(&self, version: Version) -> bool {
        let stale = self.version.is_some_and(|held| held.term == version.term && held > version);
        version.term >= self.promised && !stale
    }

    /// Takes the answer to a poll that was sent at `asked_ms`. None: it is of an older term or version and changes nothing.
    pub fn apply(&mut self, told: Told, asked_ms: i64, now_ms: i64) -> Option<Vec<Effect>> {
        let version = told.version;
        if !self.takes(version) {
            return None;
        }
        self.promise(version.term);
        (self.answered_ms, self.led_ms) = (now_ms, now_ms);
        if self.version == Some(version) {
            self.trust(asked_ms, now_ms);
            return Some(Vec::new());
        }
        self.note_grants();
        if self.was_replaced(&told, now_ms) {
            self.overtaken_ms = Some(now_ms);
        }
        let mut effects = Vec::new();
        self.learn_moves(&told, now_ms, &mut effects);
        self.drop_keys(&told, now_ms, &mut effects);
        if self.closed {
            // What was given is told for as long as its move takes; what is granted anew is not taken.
            self.keys.retain(|key, held| told.grants.get(key) == Some(&held.grant));
        } else {
            for (key, grant) in told.grants {
                self.grant(key, grant, now_ms, &mut effects);
            }
        }
        self.moves.retain(|id, _| told.moves.contains_key(id));
        self.version = Some(version);
        self.trust(asked_ms, now_ms);
        Some(effects)
    }

    /// The answer to a poll sent at `asked_ms` was that nothing is newer than this version.
    pub fn confirm(&mut self, version: Version, asked_ms: i64, now_ms: i64) {
        if self.version == Some(version) && version.term >= self.promised {
            (self.answered_ms, self.led_ms) = (now_ms, now_ms);
            self.trust(asked_ms, now_ms);
        }
    }

    /// Whether the slot `slot_ms` of a key is this scraper's to scrape, now that it is due. Asked once a slot of each of the
    /// key's targets, which may have slots of their own: the answer yes is a start.
    pub fn may_start(&mut self, key: TargetKey, slot_ms: i64, now_ms: i64) -> bool {
        self.tick(now_ms);
        if self.doubting_ms.is_some() || slot_ms > now_ms {
            return false;
        }
        let Some(held) = self.keys.get(&key) else { return false };
        let settled = |id: Option<MoveId>| id.and_then(|id| self.moves.get(&id)?.settled);
        let active = held.active_after.is_some_and(|after| slot_ms > after);
        let from = settled(held.grant.incoming).is_none_or(|from| slot_ms >= from);
        let until = settled(held.grant.outgoing).is_none_or(|until| slot_ms < until);
        let free = active && from && until;
        if let Some(held) = self.keys.get_mut(&key).filter(|_| free) {
            held.started_ms = held.started_ms.max(slot_ms);
        }
        free
    }

    /// First slot, and first slot that is not any more, as far as known; None where the key is not to be scraped.
    #[must_use]
    pub fn window(&self, key: TargetKey) -> Option<(i64, Option<i64>)> {
        let held = self.keys.get(&key)?;
        let settled = |id: Option<MoveId>| id.and_then(|id| self.moves.get(&id)?.settled);
        let from = settled(held.grant.incoming).unwrap_or(i64::MIN).max(held.active_after?.saturating_add(1));
        Some((from, settled(held.grant.outgoing)))
    }

    /// The fence that a key's samples go behind, unless that has opened.
    #[must_use]
    pub fn fence(&self, key: TargetKey) -> Option<(MoveId, &MoveTerms)> {
        let id = self.behind(key, self.keys.get(&key)?.grant)?;
        self.moves.get(&id).filter(|known| known.settled.is_some()).map(|known| (id, &known.terms))
    }

    /// The move behind whose fence a key is: also where it is about to go on by another one, as of which alone a grant tells then.
    fn behind(&self, key: TargetKey, grant: Grant) -> Option<MoveId> {
        let came = |known: &Known| known.terms.old != self.name && known.keys.contains(&key);
        let came = || self.moves.iter().rev().find(|(_, known)| came(known)).map(|(id, _)| *id);
        grant.incoming.or_else(came)
    }

    /// The keys that are held, prepared ones included.
    pub fn keys(&self) -> impl Iterator<Item = (TargetKey, Grant)> {
        self.keys.iter().map(|(key, held)| (*key, held.grant))
    }

    /// The run of the process, which grows with every start.
    #[must_use]
    pub fn run(&self) -> u64 {
        self.run
    }

    /// How a key is granted; None where it is not.
    #[must_use]
    pub fn grant_of(&self, key: TargetKey) -> Option<Grant> {
        Some(self.keys.get(&key)?.grant)
    }

    /// The move by which this member gives a key, as long as that is not done, and its T, final or proposed.
    #[must_use]
    pub fn gives(&self, key: TargetKey) -> Option<(MoveId, Option<i64>)> {
        let gives = |known: &Known| known.terms.old == self.name && known.keys.contains(&key);
        // The newest, should there be two.
        let (id, known) = self.moves.iter().rev().find(|(_, known)| gives(known))?;
        Some((*id, known.settled.or(known.terms.at)))
    }

    /// Moves by which keys come here, with the T from which on they do, as far as that is final.
    pub fn taking(&self) -> impl Iterator<Item = (MoveId, &MoveTerms, Option<i64>)> {
        let taken = self.moves.iter().filter(|(_, known)| known.terms.new == self.name);
        taken.map(|(id, known)| (*id, &known.terms, known.settled))
    }

    /// Whether it is in any move.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        !self.moves.is_empty()
    }

    /// Whether it is to end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining_ms.is_some()
    }

    /// When this member last learnt that others had been given what it had without its word: it was lost to the leader, as after a
    /// crash, a pause, or a cut network. What it had queued until then, others may have overtaken; in Unix milliseconds of its own
    /// clock, kept over restarts. None: never. Only known while it is not [`Member::is_doubting`].
    #[must_use]
    pub fn overtaken_ms(&self) -> Option<i64> {
        self.overtaken_ms
    }

    /// The version in force.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Whether there is something newer: a poll that was sent before has been lost, or waits in vain.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.rumoured > self.version
    }

    /// Moves by which this member gives, with T and the keys, of which something may still have to be sent.
    pub fn giving(&self) -> impl Iterator<Item = (MoveId, i64, &BTreeSet<TargetKey>)> {
        let unsent = |known: &Known| known.terms.old == self.name && !known.all_sent;
        let given = self.moves.iter().filter(move |(_, known)| unsent(known));
        given.filter_map(|(id, known)| Some((*id, known.settled?, &known.keys)))
    }

    /// Moves whose fence may hold something here, with the keys that have come by them, wherever those are now.
    pub fn fences(&self) -> impl Iterator<Item = (MoveId, &MoveTerms, &BTreeSet<TargetKey>)> {
        let taken = self.moves.iter().filter(|(_, known)| known.terms.old != self.name);
        taken.map(|(id, known)| (*id, &known.terms, &known.keys))
    }

    /// Whether all that others have of what goes by this move is sent to a destination, as far as the moves tell by which it came here.
    /// Before that nothing of it may be called sent, also where this member itself has nothing of it: it may go back to one of those.
    #[must_use]
    pub fn is_clear(&self, id: MoveId, destination: &str) -> bool {
        let Some(given) = self.moves.get(&id) else { return true };
        let is_behind = |(earlier, terms, keys): (MoveId, &MoveTerms, &BTreeSet<TargetKey>)| {
            earlier < id && !terms.sent.contains(destination) && !keys.is_disjoint(&given.keys)
        };
        !self.fences().any(is_behind)
    }

    /// Keys that were ended here while they came by a move that is not done, with that move: their markers are of series that the giver
    /// knows.
    pub fn ended(&self) -> impl Iterator<Item = (TargetKey, MoveId)> {
        self.ended.keys().filter_map(|key| Some((*key, self.ended_by(*key)?)))
    }

    /// The move of a key that is one of [`Member::ended`].
    #[must_use]
    pub fn ended_by(&self, key: TargetKey) -> Option<MoveId> {
        self.ended.get(&key)?.fence.filter(|id| self.moves.contains_key(id))
    }

    /// Everything from before the move's T is sent to a destination; with `all`, to every one that there is.
    pub fn sent(&mut self, id: MoveId, destination: Option<&str>, all: bool) {
        if let Some(known) = self.moves.get_mut(&id) {
            known.sent.extend(destination.map(str::to_owned));
            known.all_sent |= all;
        }
    }

    /// Keys that cannot be scraped yet: what they come by is not prepared.
    pub fn set_unready(&mut self, keys: BTreeSet<TargetKey>) {
        self.unready = keys;
    }

    /// Where others reach it.
    pub fn set_address(&mut self, address: &str) {
        address.clone_into(&mut self.address);
    }

    /// How far the queues are.
    pub fn set_progress(&mut self, progress: BTreeMap<String, Progress>) {
        self.progress = progress;
    }

    /// Whether an answer tells that somebody else has, or had meanwhile, a key that was this member's to scrape and that it has
    /// not given away.
    fn was_replaced(&self, told: &Told, now_ms: i64) -> bool {
        let settled = |id: Option<MoveId>| id.and_then(|id| self.moves.get(&id)?.settled);
        let is_had = |held: &Held| {
            let begun = settled(held.grant.incoming).is_none_or(|from| from <= now_ms);
            held.active_after.is_some() && begun && settled(held.grant.outgoing).is_none()
        };
        let comes_here = |id: MoveId| told.moves.get(&id).is_some_and(|terms| terms.new == self.name);
        self.keys.iter().filter(|(_, held)| is_had(held)).any(|(key, held)| match told.grants.get(key) {
            // It comes back from whoever was given it.
            Some(grant) => grant.incoming.is_some() && grant.incoming != held.grant.incoming,
            // Where the move by which it came still leads here, it ended before T, and its giver wrote the markers.
            None => !told.gone.contains(key) && !held.grant.incoming.is_some_and(comes_here),
        })
    }

    fn learn_moves(&mut self, told: &Told, now_ms: i64, effects: &mut Vec<Effect>) {
        for (id, terms) in &told.moves {
            let giver = terms.old == self.name;
            let concerned = |grant: &Grant| grant.outgoing == Some(*id) || grant.incoming == Some(*id);
            let moving = told.grants.iter().filter(|(_, grant)| concerned(grant));
            let moving: BTreeSet<TargetKey> = moving.map(|(key, _)| *key).collect();
            let started =
                moving.iter().filter_map(|key| self.keys.get(key)).map(|held| held.started_ms).max();
            let known = self.moves.entry(*id).or_insert_with(|| Known {
                terms: terms.clone(),
                settled: None,
                keys: BTreeSet::new(),
                sent: BTreeSet::new(),
                all_sent: false,
            });
            for destination in terms.sent.difference(&known.terms.sent) {
                effects.push(Effect::Open(*id, destination.clone()));
            }
            known.terms = terms.clone();
            known.keys.extend(moving);
            let Some(at) = terms.at else { continue };
            // What has started cannot be given away, and what was accepted cannot be taken back.
            let acceptable = at > now_ms && started.is_none_or(|started| started < at);
            if known.settled.is_none() && (terms.begin || giver && acceptable) {
                known.settled = Some(at);
            }
        }
        let over = self.moves.keys().filter(|id| !told.moves.contains_key(id));
        effects.extend(over.map(|id| Effect::OpenAll(*id)));
    }

    fn drop_keys(&mut self, told: &Told, now_ms: i64, effects: &mut Vec<Effect>) {
        let dropped: Vec<TargetKey> =
            self.keys.keys().filter(|key| !told.grants.contains_key(key)).copied().collect();
        self.ended.retain(|_, ended| now_ms - ended.at_ms < ENDED_MS_MAX);
        for key in dropped {
            let Some(held) = self.keys.remove(&key) else { continue };
            let giving = held.grant.outgoing.and_then(|id| self.moves.get(&id));
            let taking = held.grant.incoming.and_then(|id| self.moves.get(&id));
            let until = giving.and_then(|known| known.settled);
            // What has been called sent is not added to.
            let closed = giving.is_some_and(|known| known.all_sent || !known.sent.is_empty());
            effects.push(match told.gone.contains(&key) && !closed {
                true => {
                    let from = taking.and_then(|known| known.settled.or(known.terms.at));
                    let fence = self.behind(key, held.grant);
                    self.ended.insert(key, Ended { fence, at_ms: now_ms });
                    Effect::Gone { key, from, until, fence }
                }
                false => Effect::Moved(key),
            });
        }
    }

    fn grant(&mut self, key: TargetKey, grant: Grant, now_ms: i64, effects: &mut Vec<Effect>) {
        let settled = |id: Option<MoveId>| id.and_then(|id| self.moves.get(&id)?.settled);
        let is_active = grant.incoming.is_none() || settled(grant.incoming).is_some();
        let fresh = is_active.then_some(now_ms);
        let Some(held) = self.keys.get(&key) else {
            effects.push(Effect::Take(key));
            self.ended.remove(&key);
            self.keys.insert(key, Held { grant, active_after: fresh, started_ms: i64::MIN });
            return;
        };
        // Slots that passed while it was stopped are somebody else's.
        let stopped = settled(held.grant.outgoing).is_some_and(|at| at <= now_ms);
        let back = stopped && held.grant.outgoing != grant.outgoing;
        let active_after = match held.active_after {
            Some(after) if is_active && !back => Some(after),
            _ => fresh,
        };
        if let Some(held) = self.keys.get_mut(&key) {
            (held.grant, held.active_after) = (grant, active_after);
        }
    }
}
