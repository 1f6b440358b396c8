//! The gate: every target asks here at every slot whether that is this scraper's, and says when its scrape is over.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use promring_model::handover::{Effect, Member, MoveId};
use promring_model::target::TargetKey;
use promring_net::clock::now_ms;
use tokio::sync::Notify;

use super::given::Given;
use super::tend::INTERVAL;
use crate::sink::WantedFence;

/// What this scraper may scrape, and what it does at the moment.
#[derive(Debug)]
pub struct Gate {
    inner: Mutex<Inner>,
    /// Something has changed that is to be told at once.
    pub(crate) changed: Notify,
    /// What is held must be asked for again at once: it is in doubt, or there is something newer.
    pub(crate) asks: Notify,
    /// Something is to be saved; and that a hand-over depends on it.
    pub(super) unsaved: Notify,
    pub(super) urgent: Notify,
    /// Grows when a marker is written for a key, which may stand behind what was taken for all.
    marked: AtomicU64,
    /// Series of targets that are given away.
    pub(crate) given: Given,
}

#[derive(Debug)]
struct Inner {
    member: Member,
    /// Keys of targets that cannot be scraped here yet.
    idle: BTreeSet<TargetKey>,
    /// Moves whose fences are there, at every destination.
    fenced: BTreeSet<MoveId>,
    /// Scrapes, and markers, that have begun and are not in the queue yet.
    under_way: HashMap<TargetKey, usize>,
    was_doubting: bool,
}

/// Why a slot is not scraped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Nobody has said yet whether it still is this scraper's.
    Doubt,
    /// It is somebody else's.
    NotOurs,
}

/// A scrape that has begun. When this is dropped, its samples are with the destinations.
#[derive(Debug)]
pub(crate) struct Begun {
    gate: Arc<Gate>,
    key: TargetKey,
    /// The move behind whose fence the samples go.
    pub(crate) fence: Option<MoveId>,
}

/// How a target that exists no more ends with markers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// They are not older than this.
    pub from: Option<i64>,
    /// They are older than this.
    pub until: Option<i64>,
    /// They go behind this move's fence.
    pub fence: Option<MoveId>,
    /// Another target of the key, which differs in its path only, lives here.
    pub shared: bool,
    /// Whoever has the key from `until` on writes markers that are due then, and finds the series of those that are not written here.
    pub given: bool,
}

impl End {
    /// When the markers are due, and their time, where the next slot would be at `slot_ms` and the newest sample is of
    /// `newest_ms`; None: none can be written here.
    pub(crate) fn time(&self, slot_ms: i64, newest_ms: i64) -> Option<i64> {
        if self.given && self.until.is_some_and(|until| slot_ms >= until) {
            return None;
        }
        let earliest = newest_ms.saturating_add(1).max(self.from.unwrap_or(i64::MIN));
        let latest = self.until.map_or(i64::MAX, |until| until - 1);
        (earliest <= latest).then(|| slot_ms.clamp(earliest, latest))
    }
}

impl Gate {
    /// A gate in front of what this member has.
    #[must_use]
    pub fn new(member: Member) -> Arc<Self> {
        let was_doubting = member.is_doubting();
        Arc::new(Self {
            inner: Mutex::new(Inner {
                member,
                idle: BTreeSet::new(),
                fenced: BTreeSet::new(),
                under_way: HashMap::new(),
                was_doubting,
            }),
            changed: Notify::new(),
            asks: Notify::new(),
            unsaved: Notify::new(),
            urgent: Notify::new(),
            marked: AtomicU64::new(0),
            given: Given::default(),
        })
    }

    /// Begins the scrape of a slot that is due, if it is this scraper's.
    pub(crate) fn begin(self: &Arc<Self>, key: TargetKey, slot_ms: i64) -> Result<Begun, Refused> {
        let mut inner = self.lock();
        let ours = inner.member.may_start(key, slot_ms, now_ms());
        self.note_doubt(&mut inner, false);
        if !ours {
            return Err(if inner.was_doubting { Refused::Doubt } else { Refused::NotOurs });
        }
        *inner.under_way.entry(key).or_default() += 1;
        let fence = inner.member.fence(key).map(|(id, _)| id);
        drop(inner);
        Ok(Begun { gate: Arc::clone(self), key, fence })
    }

    /// Markers of a key are going to be written: until [`Gate::end`] nothing of it counts as sent.
    pub(crate) fn begin_markers(&self, key: TargetKey) {
        *self.lock().under_way.entry(key).or_default() += 1;
        self.marked.fetch_add(1, Ordering::AcqRel);
    }

    /// What was begun for a key is with the destinations.
    pub(crate) fn end(&self, key: TargetKey) {
        let mut inner = self.lock();
        if let Some(count) = inner.under_way.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                inner.under_way.remove(&key);
            }
        }
    }

    /// How often markers were written so far.
    pub(crate) fn marked(&self) -> u64 {
        self.marked.load(Ordering::Acquire)
    }

    /// Does something with the member.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Member) -> T) -> T {
        let mut inner = self.lock();
        // What follows from the time alone follows before.
        inner.member.tick(now_ms());
        self.note_doubt(&mut inner, false);
        let result = act(&mut inner.member);
        self.note_doubt(&mut inner, true);
        self.note_saving(&inner.member);
        result
    }

    /// What was queued here until then, others may have overtaken, as they were given this scraper's targets without its word; in Unix
    /// milliseconds. None: nothing. As long as it is in doubt nobody knows, and this waits.
    pub(crate) async fn overtaken_ms(&self) -> Option<i64> {
        loop {
            // This notices a pause that has just ended as well.
            let (doubting, overtaken_ms) = self.with(|member| (member.is_doubting(), member.overtaken_ms()));
            if !doubting {
                return overtaken_ms;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Has it saved, if anything is unsaved.
    pub(super) fn note_unsaved(&self) {
        self.note_saving(&self.lock().member);
    }

    fn note_saving(&self, member: &Member) {
        if member.is_unsaved() {
            self.unsaved.notify_one();
            if member.is_draining() || member.is_moving() {
                self.urgent.notify_one();
            }
        }
    }

    /// These keys have targets that cannot be scraped here yet.
    pub(crate) fn set_idle(&self, keys: BTreeSet<TargetKey>) {
        let mut inner = self.lock();
        inner.idle = keys;
        inner.tell_unready();
    }

    /// These moves have their fences.
    pub(crate) fn set_fenced(&self, moves: BTreeSet<MoveId>) {
        let mut inner = self.lock();
        inner.fenced = moves;
        inner.tell_unready();
    }

    /// Lets time pass.
    pub(crate) fn tick(&self) {
        let mut inner = self.lock();
        inner.member.tick(now_ms());
        self.note_doubt(&mut inner, false);
    }

    /// Says when doubt begins, and when it ended without an answer.
    fn note_doubt(&self, inner: &mut Inner, by_answer: bool) {
        let doubting = inner.member.is_doubting();
        if std::mem::replace(&mut inner.was_doubting, doubting) == doubting {
            return;
        }
        if doubting {
            tracing::warn!(
                "the process was paused for so long that its targets may have another scraper; nothing is scraped until an allocator answers"
            );
            self.asks.notify_one();
        } else if !by_answer {
            tracing::warn!("no allocator answers; scraping goes on with the assignment that is held");
            metrics::counter!("promring_assignment_resumed_total").increment(1);
        }
    }

    /// Moves by which this scraper gives keys, whose T has passed and of which nothing is under way any more.
    pub(crate) fn given(&self, now_ms: i64) -> Vec<(MoveId, BTreeSet<TargetKey>)> {
        let inner = self.lock();
        let over = inner.member.giving().filter(|(_, at, keys)| {
            *at <= now_ms && !keys.iter().any(|key| inner.under_way.contains_key(key))
        });
        over.map(|(id, _, keys)| (id, keys.clone())).collect()
    }

    /// The fences that there should be.
    pub(crate) fn wanted_fences(&self) -> BTreeMap<MoveId, WantedFence> {
        let inner = self.lock();
        let fences = inner.member.fences();
        let wanted = fences
            .map(|(id, terms, keys)| (id, WantedFence { open_at: terms.sent.clone(), keys: keys.clone() }));
        wanted.collect()
    }

    /// Ends of keys by what an answer has brought about.
    pub(crate) fn ends(effects: &[Effect]) -> HashMap<TargetKey, End> {
        let end = |effect: &Effect| match effect {
            Effect::Gone { key, from, until, fence } => {
                Some((*key, End { from: *from, until: *until, fence: *fence, ..End::default() }))
            }
            // Fences follow from the moves that there are.
            Effect::Take(_) | Effect::Moved(_) | Effect::Open(..) | Effect::OpenAll(_) => None,
        };
        effects.iter().filter_map(end).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // The member is whole between two calls.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Prepared is what can be scraped, and put behind a fence.
    fn tell_unready(&mut self) {
        let Self { member, idle, fenced, .. } = self;
        let unfenced =
            member.keys().filter(|(_, grant)| grant.incoming.is_some_and(|id| !fenced.contains(&id)));
        let unready = unfenced.map(|(key, _)| key).chain(idle.iter().copied()).collect();
        member.set_unready(unready);
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.gate.end(self.key);
    }
}
