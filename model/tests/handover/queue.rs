//! A scraper's queue, as far as order goes: for each destination, lanes and fences, on a disk that survives.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use promring_model::handover::MoveId;
use promring_model::target::TargetKey;

pub(crate) const DESTINATIONS: [&str; 2] = ["one", "two"];
const LANES: u64 = 3;

#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) key: TargetKey,
    pub(crate) time_ms: i64,
    pub(crate) queued_ms: i64,
}

/// A lane: how many records ever went in and out, and those between.
#[derive(Clone, Debug, Default)]
struct Lane {
    appended: u64,
    acked: u64,
    waiting: VecDeque<Record>,
}

/// The lanes of one destination: (fence or not, number).
type LaneId = (Option<MoveId>, u64);

#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    lanes: BTreeMap<LaneId, Lane>,
    /// Fences that may be sent.
    open: BTreeSet<MoveId>,
    pub(crate) acked: u64,
}

/// A place in several lanes. Whatever stood before it is sent once all of them are past it.
pub(crate) type Barrier = Vec<(LaneId, u64)>;

impl Queue {
    pub(crate) fn append(&mut self, fence: Option<MoveId>, record: Record) {
        // A fence that has been opened and emptied is no more.
        let lane = record.key.0 % LANES;
        let earlier = self.fences_with(record.key).last().copied();
        let closed = |id: &MoveId| !self.open.contains(id);
        let fence = fence.filter(closed).or(earlier);
        let lane = self.lanes.entry((fence, lane)).or_default();
        lane.appended += 1;
        lane.waiting.push_back(record);
    }

    fn fences_with(&self, key: TargetKey) -> Vec<MoveId> {
        let holds = |lane: &Lane| lane.waiting.iter().any(|record| record.key == key);
        self.lanes.iter().filter(|(_, lane)| holds(lane)).filter_map(|((fence, _), _)| *fence).collect()
    }

    pub(crate) fn open(&mut self, fence: MoveId) {
        self.open.insert(fence);
    }

    pub(crate) fn held(&self) -> BTreeSet<MoveId> {
        let waiting = self.lanes.iter().filter(|(_, lane)| !lane.waiting.is_empty());
        waiting.filter_map(|((fence, _), _)| *fence).filter(|id| !self.open.contains(id)).collect()
    }

    /// Of what these keys had before they went by a move: not what is in the fence of a later one.
    pub(crate) fn barrier(&self, by: MoveId, keys: &BTreeSet<TargetKey>) -> Barrier {
        let numbers: BTreeSet<u64> = keys.iter().map(|key| key.0 % LANES).collect();
        let of = |(id, lane): (&LaneId, &Lane)| {
            let normal = id.0.is_none() && numbers.contains(&id.1);
            let earlier = id.0.is_none_or(|fence| fence < by);
            let fenced = earlier && lane.waiting.iter().any(|record| keys.contains(&record.key));
            (normal || fenced).then_some((*id, lane.appended))
        };
        self.lanes.iter().filter_map(of).collect()
    }

    pub(crate) fn has_passed(&self, barrier: &Barrier) -> bool {
        barrier.iter().all(|(id, upto)| self.lanes.get(id).is_none_or(|lane| lane.acked >= *upto))
    }

    pub(crate) fn oldest_ms(&self) -> Option<i64> {
        self.lanes.values().filter_map(|lane| lane.waiting.front()).map(|record| record.queued_ms).min()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.values().all(|lane| lane.waiting.is_empty())
    }

    /// What is sent next: some records of each lane that is not held.
    pub(crate) fn send(&mut self, max: usize, mut receive: impl FnMut(Record)) {
        for ((fence, _), lane) in &mut self.lanes {
            if fence.is_some_and(|id| !self.open.contains(&id)) {
                continue;
            }
            for record in lane.waiting.drain(..lane.waiting.len().min(max)) {
                lane.acked += 1;
                self.acked += 1;
                receive(record);
            }
        }
        self.lanes.retain(|(fence, _), lane| fence.is_none() || !lane.waiting.is_empty());
    }
}
