//! Lanes aside: what a receiver has refused before goes there, so that nothing waits while each sample of it is asked for alone
//! (docs/adr/0019). They are made when they are first needed, have a bound of their own, and give way before anything else does.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::directory::{Directory, Set, gcd};
use super::lane::{Among, Lane, LaneId};
use super::limits::RECORD_BODY_BYTES_MAX;
use super::meta::{Hold, SetKind, SetMeta};
use super::record::{RECORD_HEADER_BYTES, RecordMeta};
use super::shared::DropReason;
use super::{Queue, QueueError};

impl Queue {
    /// Puts a request body aside that was found in this lane, behind what lies in the lane `behind` of its series. Gives the lane where it is
    /// now and its number there; None: it is nowhere, as there are no lanes aside and the disk takes none, or the queue is closed.
    pub fn append_aside(
        &self,
        from: LaneId,
        behind: Option<LaneId>,
        meta: RecordMeta,
        body: &[u8],
    ) -> Option<(LaneId, u64)> {
        if body.len() > RECORD_BODY_BYTES_MAX {
            return None;
        }
        let directory = &self.directory;
        let lane = match directory.aside_lane(from, behind) {
            Ok(lane) => lane,
            Err(error) => {
                let error = std::io::Error::other(error.to_string());
                directory.shared.write_failed("making lanes aside", &error);
                return None;
            }
        };
        directory.keep_aside_bound((RECORD_HEADER_BYTES + body.len()) as u64);
        let sequence = self.append_to_lane(&lane, meta, body).ok()?;
        Some((lane.id, sequence))
    }

    /// Whether a lane is one of those aside.
    #[must_use]
    pub fn is_aside(&self, lane: LaneId) -> bool {
        let sets = self.directory.sets.read().unwrap_or_else(PoisonError::into_inner);
        sets.get(&lane.set).is_some_and(Set::is_aside)
    }

    /// The lanes aside that hold something.
    #[must_use]
    pub fn lanes_aside(&self) -> Vec<LaneId> {
        let lanes = self.directory.aside_lanes();
        lanes.iter().filter(|lane| !lane.is_empty()).map(|lane| lane.id).collect()
    }

    /// Whether anything lies aside that was in this lane, or in another one that may have held the same series.
    #[must_use]
    pub fn holds_aside(&self, from: LaneId) -> bool {
        let sets = self.directory.sets.read().unwrap_or_else(PoisonError::into_inner);
        let lanes = sets.get(&from.set).map_or(1, |set| set.lanes.len());
        sets.values().filter(|set| set.is_aside()).any(|set| {
            let common = if set.is_mixed.load(Ordering::Relaxed) { 1 } else { gcd(set.lanes.len(), lanes) };
            set.lanes.iter().skip(from.index % common).step_by(common).any(|lane| !lane.is_empty())
        })
    }

    /// Some series come from other lanes from now on: of what lies aside, any lane may have held any.
    pub(crate) fn mix_aside(&self) {
        self.directory.for_each_set(|_, set| set.is_mixed.store(set.is_aside(), Ordering::Relaxed));
    }
}

impl Directory {
    /// The lane aside for what is in this lane: that one, where some of its series lies in one.
    fn aside_lane(&self, from: LaneId, behind: Option<LaneId>) -> Result<Arc<Lane>, QueueError> {
        let find = || {
            let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
            let open = |set: &&Set| set.is_aside() && !set.closed;
            let behind = behind.and_then(|id| Some((sets.get(&id.set).filter(open)?, id.index)));
            let (set, index) = behind.or_else(|| Some((sets.values().rev().find(open)?, from.index)))?;
            let lanes = set.lanes.len().max(1);
            // Whose lane is told by another number, or by a remainder of one, may lie in any of them from now on.
            let is_told = sets.get(&from.set).is_some_and(|set| set.lanes.len() % lanes == 0);
            let is_mixed = !is_told || index % lanes != from.index % lanes;
            set.is_mixed.fetch_or(is_mixed, Ordering::Relaxed);
            set.lanes.get(index % lanes).cloned()
        };
        if let Some(lane) = find() {
            return Ok(lane);
        }
        let _one_after_the_other = self.making_aside.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(lane) = find() {
                return Ok(lane);
            }
            let lanes = self.lane_count();
            self.create_set(&SetMeta { kind: SetKind::Aside, lanes, hold: Hold::None })?;
            self.upkeep_sets();
        }
    }

    /// Makes room for `bytes` more within the bound of what lies aside.
    fn keep_aside_bound(&self, bytes: u64) {
        let bytes_max = self.shared.bounds().aside_bytes_max();
        let held = || self.aside_lanes().iter().map(|lane| lane.held_bytes()).sum::<u64>();
        while held() + bytes > bytes_max {
            // Segments that wait for more records may hold nothing but acknowledged ones.
            let let_go = self.aside_lanes().iter().filter(|lane| lane.let_go()).count() > 0;
            if !let_go && !self.drop_aside(DropReason::Aside, Among::All) {
                return;
            }
        }
    }

    /// Drops the oldest segment of what lies aside. Returns whether there was one.
    pub(super) fn drop_aside(&self, reason: DropReason, among: Among) -> bool {
        drop_oldest_of(&self.aside_lanes(), reason, among)
    }

    /// Closes lanes aside that are empty, so that they go: how many there are to be may have changed. `mixed`: only those in which
    /// any lane would look, without need, for what comes there next.
    pub(super) fn close_empty_aside(&self, mixed: bool) {
        let mut empty = Vec::new();
        self.for_each_set(|id, set| {
            let is_meant = set.is_aside() && !set.closed && (!mixed || set.is_mixed.load(Ordering::Relaxed));
            if is_meant && set.lanes.iter().all(|lane| lane.is_empty()) {
                empty.push(id);
            }
        });
        empty.into_iter().for_each(|id| self.close_set(id));
    }

    pub(super) fn aside_lanes(&self) -> Vec<Arc<Lane>> {
        self.lanes_where(Set::is_aside)
    }
}

impl Set {
    pub(crate) fn is_aside(&self) -> bool {
        self.meta.kind == SetKind::Aside
    }
}

impl Lane {
    /// Bytes that its segments are accounted with.
    fn held_bytes(&self) -> u64 {
        self.lock().segments.iter().map(|segment| segment.held_bytes).sum()
    }
}

/// Drops the oldest segment of some lanes. Returns whether there was one.
pub(super) fn drop_oldest_of(lanes: &[Arc<Lane>], reason: DropReason, among: Among) -> bool {
    let aged = lanes.iter().filter_map(|lane| Some((lane.oldest_segment_ms(among)?, lane)));
    aged.min_by_key(|(ms, _)| *ms).is_some_and(|(_, lane)| lane.drop_oldest(reason, among))
}
