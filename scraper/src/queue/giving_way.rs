//! How segments leave a lane: acknowledged ones quietly, others at the bounds of the queue or for want of room, counted.

use std::io;
use std::path::PathBuf;

use super::lane::{Among, Lane, LaneState, Segment};
use super::losses::Loss;
use super::shared::DropReason;

impl Lane {
    /// Takes a segment out of the lane and deletes its file.
    pub(crate) fn remove_segment(&self, state: &mut LaneState, at: usize) -> Option<Segment> {
        let mut segment = state.segments.remove(at)?;
        if at == state.segments.len() {
            // It was the last one: what follows needs a new one.
            state.writer = None;
        }
        self.account(&mut segment, 0);
        state.unsynced.retain(|(base, _)| *base != segment.base);
        let path = self.segment_path(segment.base);
        if !segment.is_in_memory() && !state.to_put_aside.contains(&path) {
            self.delete(state, path);
        }
        Some(segment)
    }

    fn delete(&self, state: &mut LaneState, path: PathBuf) {
        match self.shared.files.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.shared.write_failed("deleting a segment", &error);
                state.garbage.push(path);
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// Drops the oldest segment of these. Returns whether there was one.
    pub(crate) fn drop_oldest(&self, reason: DropReason, among: Among) -> bool {
        let mut state = self.lock();
        let at = state.segments.iter().position(|segment| among.has(segment));
        let Some(at) = at else { return false };
        self.drop_segment(&mut state, at, reason);
        drop(state);
        self.notify.notify_one();
        true
    }

    /// Drops segments whose newest record was enqueued before `before_ms`.
    pub(crate) fn drop_older(&self, before_ms: i64) {
        let mut state = self.lock();
        while state.segments.front().is_some_and(|segment| segment.summary.last_enqueued_ms < before_ms) {
            self.drop_segment(&mut state, 0, DropReason::Age);
        }
    }

    /// Takes the bytes out of a segment that is to be deleted: whoever reads it would keep them on the disk, which may
    /// be full.
    fn empty(&self, base: u64) {
        let path = self.segment_path(base);
        if let Err(error) = self.shared.files.open(&path).and_then(|file| file.set_len(0)) {
            self.shared.write_failed("emptying a segment", &error);
        }
    }

    pub(crate) fn drop_segment(&self, state: &mut LaneState, at: usize, reason: DropReason) {
        if let Some(segment) = state.segments.get(at)
            && !segment.is_in_memory()
            && reason != DropReason::Unreadable
        {
            self.empty(segment.base);
        }
        let Some(segment) = self.remove_segment(state, at) else { return };
        let in_hand = state.read.lose_segment(segment.base, reason);
        let loss = Loss {
            samples: segment.pending_points().saturating_sub(in_hand),
            bytes: segment.pending_bytes(),
            segments: 1,
            oldest_ms: Some(segment.pending_since_ms),
        };
        if !segment.is_done() {
            self.shared.dropped(reason, loss);
        }
        if at == 0 && segment.summary.last_sequence > state.cursor.acknowledged {
            // What was dropped does not come back after a restart.
            state.cursor.acknowledged = segment.summary.last_sequence;
            state.cursor.segment = 0;
            self.write_cursor(state);
        }
        self.wake_successors_if_empty(state);
    }

    /// Gives the segment back that takes records, where all of them are acknowledged. Returns whether there was one.
    pub(crate) fn let_go(&self) -> bool {
        let mut state = self.lock();
        let Some(base) = state.segments.back().map(|segment| segment.base) else { return false };
        if state.writer.is_none() || !state.is_empty() || !state.has_read_all() {
            return false;
        }
        // No footer: it goes. Nobody reads what is acknowledged.
        state.writer = None;
        if state.segments.back().is_some_and(|segment| !segment.is_in_memory()) {
            self.empty(base);
        }
        self.remove_done(&mut state);
        true
    }
}
