//! The fences of a destination: what a key's new owner scrapes while the old one still has something to send goes into
//! a second set of lanes, which is held until the old owner has sent everything (`model/src/handover/README.md`).
//!
//! A fence belongs to a move. When it opens, its keys go on to use it until what they have in it is sent, and only then
//! the normal lanes: a scrape never overtakes another one of its target. What an earlier process has left in a fence
//! that is open is sent before anything in the normal lanes, as nobody knows whose it is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use promring_model::handover::MoveId;
use promring_model::target::TargetKey;

use super::batch::Batch;
use crate::filling::Filling;
use crate::queue::{Hold, LaneId, Queue, SetKind};

/// So many fences a destination has at most at a time. A move that would need one more waits.
pub(crate) const FENCES_MAX: usize = 32;

/// How the condition of a fence begins; the move follows.
const CONDITION: &str = "hand-over ";

/// What a move's fence is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WantedFence {
    /// Destinations at which it is open.
    pub(crate) open_at: BTreeSet<String>,
    /// The keys that come by the move.
    pub(crate) keys: BTreeSet<TargetKey>,
}

/// The fences of one destination.
#[derive(Debug)]
pub(super) struct Fences {
    /// A place stays where it is, so that its lanes can be lent out.
    places: Box<[OnceLock<Box<Place>>]>,
    /// How many are in use: mostly none.
    used: AtomicUsize,
}

#[derive(Debug)]
struct Place {
    /// Taken for moments only, and never while lanes are waited for.
    fence: Mutex<Option<Fence>>,
    filling: Filling<Batch>,
}

#[derive(Debug)]
struct Fence {
    id: MoveId,
    set: u32,
    open: bool,
    /// Of an earlier process: whose samples it holds is not known yet.
    unclaimed: bool,
    /// Keys that may have samples in it, each with the newest records of them: none of any later sample.
    keys: HashMap<TargetKey, Option<Vec<(usize, u64)>>>,
}

/// A fence that a scrape goes behind.
#[derive(Debug)]
pub(super) struct Behind<'f> {
    place: &'f Place,
    pub(super) filling: &'f Filling<Batch>,
    pub(super) set: u32,
}

impl Fences {
    /// Those that an earlier process has left. What is open is sent first.
    pub(super) fn of_earlier_process(queue: &Queue) -> Self {
        let fences =
            Self { places: (0..FENCES_MAX).map(|_| OnceLock::new()).collect(), used: AtomicUsize::new(0) };
        fences.find(queue);
        fences
    }

    /// Finds those that an earlier process has left, but for those that are known.
    fn find(&self, queue: &Queue) {
        queue.tell_of_fences();
        let known: Vec<u32> =
            self.occupied().filter_map(|place| place.lock().as_ref().map(|fence| fence.set)).collect();
        let sets = queue.stats().sets.into_iter().filter(|set| set.kind == SetKind::Fence);
        for set in sets.filter(|set| !set.closed && !known.contains(&set.set)) {
            let id = match &set.hold {
                Hold::Until(condition) => condition.strip_prefix(CONDITION).and_then(|id| id.parse().ok()),
                Hold::None | Hold::After(_) => None,
            };
            let taken =
                id.is_some_and(|version| self.occupy(MoveId(version), set.set, set.lanes.len(), true));
            if !taken {
                give_way(queue, set.set);
            }
        }
    }

    pub(super) fn count(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// Calls `each` with the set and the requests of every fence.
    pub(super) fn for_each(&self, mut each: impl FnMut(u32, &Filling<Batch>)) {
        for place in self.occupied() {
            let set = place.lock().as_ref().map(|fence| fence.set);
            if let Some(set) = set {
                each(set, &place.filling);
            }
        }
    }

    /// The fence that samples of a key go behind; None: the normal way. `fence` is the move by which the key came, as long
    /// as that is not done.
    pub(super) fn way(&self, key: TargetKey, fence: Option<MoveId>, queue: &Queue) -> Option<Behind<'_>> {
        let mut newest: Option<(MoveId, &Place)> = None;
        for place in self.occupied() {
            let mut guard = place.lock();
            let Some(known) = &mut *guard else { continue };
            let is_own = fence == Some(known.id) && !known.open;
            if (is_own || known.holds(key, queue)) && newest.is_none_or(|(id, _)| id < known.id) {
                newest = Some((known.id, place));
            }
        }
        let (id, place) = newest?;
        let mut guard = place.lock();
        let known = guard.as_mut().filter(|known| known.id == id)?;
        known.keys.insert(key, None);
        Some(Behind { place, filling: &place.filling, set: known.set })
    }

    /// Whether a set may hold samples of these keys that came before this move.
    pub(super) fn may_hold(&self, set: u32, keys: &BTreeSet<TargetKey>, before: MoveId) -> bool {
        let places = self.occupied();
        let found = places.map(|place| place.lock()).find_map(|guard| {
            let fence = guard.as_ref().filter(|fence| fence.set == set)?;
            let holds = fence.unclaimed || keys.iter().any(|key| fence.keys.contains_key(key));
            Some(fence.id < before && holds)
        });
        // Of one that was left open by an earlier process nobody knows.
        found.unwrap_or(true)
    }

    /// Has a fence for each of these moves, unless it is to be open at once, and opens the others. Gives those moves that
    /// it cannot have one for. Waits for the disk.
    pub(super) fn keep(
        &self,
        wanted: &BTreeMap<MoveId, WantedFence>,
        destination: &str,
        queue: &Queue,
    ) -> BTreeSet<MoveId> {
        if queue.has_untold_fences() {
            self.find(queue);
        }
        let mut there = BTreeSet::new();
        for place in self.occupied() {
            let mut guard = place.lock();
            let Some(fence) = &mut *guard else { continue };
            there.insert(fence.id);
            let wish = wanted.get(&fence.id);
            if std::mem::take(&mut fence.unclaimed) {
                let Some(wish) = wish else {
                    // The move was over before anybody could say which keys came by it.
                    let set = fence.set;
                    *guard = None;
                    self.used.fetch_sub(1, Ordering::AcqRel);
                    drop(guard);
                    give_way(queue, set);
                    continue;
                };
                fence.keys.extend(wish.keys.iter().map(|key| (*key, None)));
            }
            if !fence.open && wish.is_none_or(|wish| wish.open_at.contains(destination)) {
                fence.open = true;
                let (id, set) = (fence.id, fence.set);
                drop(guard);
                tracing::debug!(destination, %id, "a fence opens");
                release(queue, set);
            }
        }
        let mut missing = BTreeSet::new();
        for (id, wish) in wanted {
            if there.contains(id) || wish.open_at.contains(destination) {
                continue;
            }
            let lanes = queue.lane_count();
            let made =
                (self.count() < FENCES_MAX).then(|| queue.create_fence(lanes, &format!("{CONDITION}{id}")));
            let occupied = match made {
                Some(Ok(set)) => self.occupy(*id, set, lanes, false),
                Some(Err(error)) => {
                    tracing::warn!(destination, %id, %error, "no fence can be made; the hand-over waits");
                    false
                }
                None => {
                    tracing::debug!(destination, %id, "there are too many fences; the hand-over waits");
                    false
                }
            };
            if !occupied {
                missing.insert(*id);
            }
        }
        missing
    }

    /// Gives up fences that are open and empty.
    pub(super) fn close_empty(&self, queue: &Queue) {
        for place in self.occupied() {
            let open = place.lock().as_ref().filter(|fence| fence.open).map(|fence| fence.set);
            let Some(set) = open.filter(|set| queue.is_set_empty(*set)) else { continue };
            // Nobody pushes meanwhile, and who waits to will see that it is gone.
            let batches = place.filling.lock(|count| 0..count);
            if queue.is_set_empty(set) && batches.iter().all(|batch| batch.is_empty()) {
                *place.lock() = None;
                self.used.fetch_sub(1, Ordering::AcqRel);
                queue.close_set(set);
            }
        }
    }

    fn occupied(&self) -> impl Iterator<Item = &Place> {
        let places = if self.count() == 0 { &[] } else { &*self.places };
        places.iter().filter_map(|place| Some(&**place.get()?))
    }

    fn occupy(&self, id: MoveId, set: u32, lanes: usize, unclaimed: bool) -> bool {
        for place in &self.places {
            let place =
                place.get_or_init(|| Box::new(Place { fence: Mutex::default(), filling: Filling::new(1) }));
            if place.lock().is_some() {
                continue;
            }
            // Whatever was here before has left its requests empty.
            let changed: Result<(), ()> = place.filling.change(|_| Ok(lanes));
            if changed.is_ok() {
                *place.lock() = Some(Fence { id, set, open: false, unclaimed, keys: HashMap::new() });
                self.used.fetch_add(1, Ordering::AcqRel);
                return true;
            }
        }
        false
    }
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, Option<Fence>> {
        // Whatever panicked elsewhere, it is whole.
        self.fence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fence {
    /// Whether there are samples of a key in it that are not sent.
    fn holds(&mut self, key: TargetKey, queue: &Queue) -> bool {
        let Some(newest) = self.keys.get(&key) else { return false };
        let is_sent = |(index, sequence): &(usize, u64)| {
            queue.is_past(LaneId { set: self.set, index: *index }, *sequence)
        };
        let sent = newest.as_ref().is_some_and(|newest| newest.iter().all(is_sent));
        if sent {
            self.keys.remove(&key);
        }
        !sent
    }
}

impl Behind<'_> {
    /// Whether the fence is still the one that was chosen.
    pub(super) fn is_there(&self) -> bool {
        self.place.lock().as_ref().is_some_and(|fence| fence.set == self.set)
    }

    pub(super) fn is_open(&self) -> bool {
        self.place.lock().as_ref().is_some_and(|fence| fence.open)
    }

    /// All that a key has in the fence is in the queue: in these lanes.
    pub(super) fn settle(&self, key: TargetKey, lanes: Range<usize>, queue: &Queue) {
        let newest =
            queue.newest_records_where(|lane, _, _| lane.set == self.set && lanes.contains(&lane.index));
        let newest = newest.into_iter().map(|(lane, sequence)| (lane.index, sequence)).collect();
        if let Some(fence) = self.place.lock().as_mut().filter(|fence| fence.set == self.set) {
            fence.keys.insert(key, Some(newest));
        }
    }
}

/// Sends a set whose keys nobody knows before anything of the normal lanes.
fn give_way(queue: &Queue, set: u32) {
    queue.send_before_others(set);
    release(queue, set);
}

fn release(queue: &Queue, set: u32) {
    if let Err(error) = queue.release(set) {
        // It is sent all the same, and after a restart it is open by what stands in the assignment.
        tracing::warn!(set, %error, "a fence is open, and this could not be written down");
    }
}
