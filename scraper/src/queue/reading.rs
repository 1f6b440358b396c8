//! What a lane knows of its reader: where it stands, which records it has in hand, and what an acknowledgement means.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Instant;

use super::lane::{Lane, LaneState, Segment};
use super::losses::Loss;
use super::record::{Beside, RecordHeader};
use super::recovery::ASIDE;
use super::segment::SEGMENT_HEADER_BYTES;
use super::shared::{DropReason, add};

/// Where reading stands; guarded by the lane's lock.
#[derive(Debug, Default)]
pub(crate) struct ReadState {
    /// Base of the segment, 0 before the first.
    pub(super) segment: u64,
    pub(super) offset: u64,
    /// Sequence number of the record read last.
    pub(super) after: u64,
    /// Up to where bad records were counted, so that reading again counts none twice.
    counted: (u64, u64),
    /// Records that were read and are not acknowledged, oldest first.
    pub(super) in_hand: VecDeque<InHand>,
    /// A read failed; it is tried again after a pause.
    pub(super) stalled: bool,
}

#[derive(Debug)]
pub(super) struct InHand {
    sequence: u64,
    segment: u64,
    next: u64,
    enqueued_ms: i64,
    points: u64,
    beside: Beside,
    /// The queue dropped it meanwhile; it counts as dropped unless it is acknowledged after all.
    pub(super) lost: Option<DropReason>,
}

impl ReadState {
    fn holds(&self, base: u64) -> bool {
        self.in_hand.iter().any(|record| record.segment == base && record.lost.is_none())
    }

    fn has_passed(&self, segment: &Segment) -> bool {
        self.segment > segment.base || (self.segment == segment.base && self.offset >= segment.end)
    }

    /// A segment was dropped: how many samples of it are in hand, which are not lost yet.
    pub(crate) fn lose_segment(&mut self, base: u64, reason: DropReason) -> u64 {
        let mut points = 0;
        for record in self.in_hand.iter_mut().filter(|record| record.segment == base) {
            record.lost = Some(reason);
            points += record.points;
        }
        points
    }
}

impl LaneState {
    /// Whether everything in the lane was read.
    pub(crate) fn has_read_all(&self) -> bool {
        self.segments.back().is_none_or(|segment| self.read.has_passed(segment))
    }
}

impl Lane {
    /// Reading begins again at the cursor.
    pub(crate) fn rewind(&self) {
        let mut state = self.lock();
        for record in std::mem::take(&mut state.read.in_hand) {
            if let Some(reason) = record.lost {
                self.shared.dropped(reason, Loss::of_samples(record.points));
            }
        }
        let cursor = state.cursor;
        let counted = state.read.counted;
        state.read = ReadState {
            segment: cursor.segment,
            offset: cursor.offset,
            after: cursor.acknowledged,
            counted,
            ..ReadState::default()
        };
    }

    /// Whether it still has this segment.
    pub(super) fn holds(&self, base: u64) -> bool {
        self.lock().segments.binary_search_by_key(&base, |segment| segment.base).is_ok()
    }

    /// The record at `spot` was read. False: its segment was dropped meanwhile.
    pub(super) fn take(&self, spot: &Spot, header: &RecordHeader) -> bool {
        let mut state = self.lock();
        if state.segments.binary_search_by_key(&spot.base, |segment| segment.base).is_err() {
            return false;
        }
        let next = spot.offset + header.record_len();
        state.read.in_hand.push_back(InHand {
            sequence: header.sequence,
            segment: spot.base,
            next,
            enqueued_ms: header.enqueued_ms,
            points: header.meta.points(),
            beside: header.meta.beside(),
            lost: None,
        });
        (state.read.offset, state.read.after) = (next, header.sequence);
        true
    }

    /// What stands at `spot` cannot be used up to `next`. What it cost is counted when its segment is left: only then
    /// the totals tell.
    pub(super) fn skip(&self, spot: &Spot, next: u64, sequence: u64) {
        let mut state = self.lock();
        (state.read.offset, state.read.after) = (next, sequence);
        if (spot.base, spot.offset) >= state.read.counted {
            state.read.counted = (spot.base, next);
            add(&self.shared.counters.corrupt_records, 1);
            if let Some(untold) = self.shared.bad_records.tell(Instant::now()) {
                tracing::warn!(
                    destination = self.shared.destination,
                    set = self.id.set,
                    lane = self.id.index,
                    segment = spot.base,
                    offset = spot.offset,
                    bytes = next - spot.offset,
                    untold,
                    "a damaged record of the queue is skipped"
                );
            }
        }
        if state.read.in_hand.is_empty() {
            (state.cursor.segment, state.cursor.offset) = (spot.base, next);
        }
    }

    /// Nothing that can be used stands between `spot` and `next`, and what follows is to be looked at yet.
    pub(super) fn search_on(&self, spot: &Spot, next: u64) {
        let mut state = self.lock();
        state.read.offset = next;
        if state.read.in_hand.is_empty() {
            (state.cursor.segment, state.cursor.offset) = (spot.base, next);
        }
    }

    pub(super) fn ack(&self, sequence: u64) {
        let mut state = self.lock();
        let state = &mut *state;
        while let Some(record) = state.read.in_hand.pop_front_if(|record| record.sequence <= sequence) {
            state.cursor.acknowledged = state.cursor.acknowledged.max(record.sequence);
            let Ok(at) = state.segments.binary_search_by_key(&record.segment, |segment| segment.base) else {
                continue;
            };
            if let Some(segment) = state.segments.get_mut(at) {
                segment.acked_records += 1;
                segment.acked_points = segment.acked_points.saturating_add(record.points);
                segment.acked_beside.add(record.beside);
                segment.acked_bytes = record.next - SEGMENT_HEADER_BYTES;
                segment.pending_since_ms = segment.pending_since_ms.max(record.enqueued_ms);
                state.cursor.segment = record.segment;
                state.cursor.offset = record.next;
                state.cursor.segment_records = segment.acked_records;
                state.cursor.segment_points = segment.acked_points;
            }
        }
        if state.cursor.in_flight <= state.cursor.acknowledged {
            state.cursor.in_flight = 0;
        }
        self.write_cursor(state);
        self.remove_done(state);
        self.after_ack(state);
    }

    /// Deletes what was read through and acknowledged from the front of the lane.
    pub(crate) fn remove_done(&self, state: &mut LaneState) {
        let acknowledged = state.cursor.acknowledged;
        while let Some(segment) = state.segments.front() {
            if !state.read.has_passed(segment) || state.read.holds(segment.base) {
                break;
            }
            let takes_more = state.segments.len() == 1 && state.writer.is_some() && !state.closed;
            if takes_more && segment.is_done() && !state.is_idle_segment_large() {
                break;
            }
            let Some(segment) = self.remove_segment(state, 0) else { break };
            // Whatever was neither acknowledged nor dropped lay in bad records.
            self.shared.dropped(DropReason::Corrupt, Loss::of_samples(segment.pending_points()));
            state.cursor.acknowledged = state.cursor.acknowledged.max(segment.summary.last_sequence);
        }
        if state.cursor.acknowledged != acknowledged {
            self.write_cursor(state);
            self.after_ack(state);
        }
    }

    fn after_ack(&self, state: &LaneState) {
        if state.closed && state.is_empty() {
            self.wake_successors_if_empty(state);
            self.notify.notify_one();
        }
    }

    /// A segment that cannot be read is put aside under another name, for whoever can.
    pub(super) fn give_up_segment(&self, base: u64) {
        let mut state = self.lock();
        let Ok(at) = state.segments.binary_search_by_key(&base, |segment| segment.base) else { return };
        let path = self.segment_path(base);
        if let Err(error) = self.rename_aside(&path) {
            self.shared.write_failed("putting an unreadable segment aside", &error);
            state.to_put_aside.push(path);
        }
        self.drop_segment(&mut state, at, DropReason::Unreadable);
    }

    /// Gives an unreadable segment another name, if it is there.
    pub(super) fn rename_aside(&self, path: &Path) -> io::Result<()> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(ASIDE);
        match self.shared.files.rename(path, aside.as_ref()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(super) fn readiness(&self) -> Readiness {
        let open = self.is_open();
        let state = self.lock();
        let unread = !state.has_read_all();
        if state.closed && state.is_empty() {
            Readiness::Retired
        } else if !open {
            Readiness::Idle
        } else if state.read.stalled {
            Readiness::Stalled
        } else if unread {
            Readiness::Ready
        } else {
            Readiness::Idle
        }
    }
}

/// A place that a record is looked for at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub(super) base: u64,
    pub(super) offset: u64,
    pub(super) end: u64,
    pub(super) after: u64,
}

pub(super) enum Readiness {
    Ready,
    Idle,
    Stalled,
    Retired,
}
