//! A lane: one ordered stream of records in segments of a directory of its own. Here is what it knows; how records come in is
//! in `appending.rs`, how they are read in `reader.rs` and `reading.rs`, how segments leave it in `giving_way.rs`, and finding a lane again after
//! a restart in `recovery.rs`.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::cursor::{Cursor, CursorFile};
use super::files::File;
use super::limits::SEGMENT_IDLE_BYTES_MAX;
use super::memory::MemoryFile;
use super::reading::ReadState;
use super::record::Beside;
use super::segment::{SEGMENT_HEADER_BYTES, Summary, Writer};
use super::shared::Shared;

/// A lane of a queue: a set, and a place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId {
    /// The set.
    pub set: u32,
    /// The lane in the set, from 0.
    pub index: usize,
}

/// One lane.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) id: LaneId,
    pub(crate) dir: PathBuf,
    pub(crate) shared: Arc<Shared>,
    pub(crate) notify: Notify,
    /// Whether a condition holds back all lanes of the set.
    pub(crate) held: AtomicBool,
    /// Lanes that must be empty before anything of this one is sent.
    pub(crate) waits_for: Mutex<Vec<Arc<Lane>>>,
    /// Lanes to wake when this one is empty for good.
    pub(crate) successors: Mutex<Vec<std::sync::Weak<Lane>>>,
    /// Whether somebody has the reader.
    pub(crate) reader_taken: AtomicBool,
    pub(crate) state: Mutex<LaneState>,
}

/// What a lane's lock guards.
#[derive(Debug, Default)]
pub(crate) struct LaneState {
    /// Oldest first, in order of their base.
    pub(crate) segments: VecDeque<Segment>,
    /// Appends to the last segment.
    pub(crate) writer: Option<Writer>,
    pub(crate) next_sequence: u64,
    pub(crate) cursor: Cursor,
    /// None while the disk does not give it.
    pub(crate) cursor_file: Option<CursorFile>,
    /// The cursor in memory is newer than the one in the file.
    pub(crate) cursor_unwritten: bool,
    /// The cursor in the file is newer than the one on the disk.
    pub(crate) cursor_unsynced: bool,
    /// Files with bytes that are not synced, by the base of their segment.
    pub(crate) unsynced: Vec<(u64, Arc<dyn File>)>,
    /// Names were added that are not synced.
    pub(crate) dir_unsynced: bool,
    /// Files that could not be deleted yet.
    pub(crate) garbage: Vec<PathBuf>,
    /// Files that are to be put aside, which the disk did not take yet. They are no segments of the lane any more.
    pub(crate) to_put_aside: Vec<PathBuf>,
    /// Takes no more records.
    pub(crate) closed: bool,
    /// It has no directory yet, so that the disk is left alone: there may be somebody else's by now.
    pub(crate) unmade: bool,
    /// The disk failed, and is not tried again before this time.
    pub(crate) disk_retry_ms: i64,
    pub(crate) read: ReadState,
    /// What a reader left with a request, of which these are the first and the last record.
    pub(crate) rest: Option<(u64, u64, Box<dyn Any + Send>)>,
}

/// A segment of a lane.
#[derive(Debug)]
pub(crate) struct Segment {
    /// The number in its name.
    pub(crate) base: u64,
    pub(crate) place: Place,
    pub(crate) summary: Summary,
    /// Where its records end.
    pub(crate) end: u64,
    /// Bytes that it is accounted with.
    pub(crate) held_bytes: u64,
    pub(crate) acked_records: u64,
    pub(crate) acked_points: u64,
    pub(crate) acked_beside: Beside,
    pub(crate) acked_bytes: u64,
    /// No record that is not acknowledged was enqueued before this time.
    pub(crate) pending_since_ms: i64,
}

/// Where a segment lies.
#[derive(Debug)]
pub(crate) enum Place {
    Disk,
    Memory(Arc<MemoryFile>),
}

impl Segment {
    pub(crate) fn new(base: u64, place: Place) -> Self {
        Self {
            base,
            place,
            summary: Summary::default(),
            end: SEGMENT_HEADER_BYTES,
            held_bytes: 0,
            acked_records: 0,
            acked_points: 0,
            acked_beside: Beside::default(),
            acked_bytes: 0,
            pending_since_ms: 0,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.acked_records >= self.summary.records
    }

    pub(crate) fn pending_points(&self) -> u64 {
        self.summary.points.saturating_sub(self.acked_points)
    }

    pub(super) fn pending_bytes(&self) -> u64 {
        (self.end - SEGMENT_HEADER_BYTES).saturating_sub(self.acked_bytes)
    }

    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(self.place, Place::Memory(_))
    }
}

/// Which segments are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Among {
    All,
    Disk,
    Memory,
}

impl Among {
    pub(super) fn has(self, segment: &Segment) -> bool {
        match self {
            Self::All => true,
            Self::Disk => !segment.is_in_memory(),
            Self::Memory => segment.is_in_memory(),
        }
    }
}

/// What a lane has not sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Records.
    pub records: u64,
    /// Samples, native histograms included.
    pub samples: u64,
    /// What else there is, as far as it is known.
    pub beside: Beside,
    /// Bytes, headers included.
    pub bytes: u64,
    /// When the oldest was enqueued, Unix milliseconds; None: nothing is pending.
    pub oldest_ms: Option<i64>,
}

impl Pending {
    /// Takes another lane's, or segment's, to this.
    pub(crate) fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.samples = self.samples.saturating_add(other.samples);
        self.beside.add(other.beside);
        self.bytes += other.bytes;
        self.oldest_ms = match (self.oldest_ms, other.oldest_ms) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (known, new) => known.or(new),
        };
    }
}

impl Lane {
    pub(crate) fn lock(&self) -> MutexGuard<'_, LaneState> {
        // No code that holds the lock can leave the state half changed: a poisoned lock is as good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn segment_path(&self, base: u64) -> PathBuf {
        segment_path(&self.dir, base)
    }

    /// Sets how many bytes a segment is accounted with.
    pub(crate) fn account(&self, segment: &mut Segment, bytes: u64) {
        let total = if segment.is_in_memory() { &self.shared.memory_bytes } else { &self.shared.disk_bytes };
        // Only the holder of the lane's lock changes a segment, so the difference is right whatever others do.
        if bytes >= segment.held_bytes {
            total.fetch_add(bytes - segment.held_bytes, Ordering::Relaxed);
        } else {
            total.fetch_sub(segment.held_bytes - bytes, Ordering::Relaxed);
        }
        segment.held_bytes = bytes;
    }

    /// Writes the cursor; where that fails it is tried again later, and at worst records are sent twice.
    pub(crate) fn write_cursor(&self, state: &mut LaneState) {
        let cursor = state.cursor;
        let written = match state.cursor_file.as_mut() {
            Some(file) => file.write(&cursor),
            None => Err(io::Error::other("the cursor's file could not be opened")),
        };
        match written {
            Ok(()) => (state.cursor_unwritten, state.cursor_unsynced) = (false, true),
            Err(error) => {
                state.cursor_unwritten = true;
                // Opened anew: one that was opened on a read-only disk never takes anything.
                state.cursor_file = None;
                self.shared.write_failed("writing a cursor", &error);
            }
        }
    }

    /// What has not been acknowledged.
    pub(crate) fn pending(&self) -> Pending {
        self.pending_among(Among::All)
    }

    /// The same of some segments.
    pub(crate) fn pending_among(&self, among: Among) -> Pending {
        let state = self.lock();
        let mut pending = Pending::default();
        for segment in state.segments.iter().filter(|segment| among.has(segment) && !segment.is_done()) {
            pending.records += segment.summary.records - segment.acked_records;
            pending.samples += segment.pending_points();
            pending.beside.add(segment.summary.beside.without(segment.acked_beside));
            pending.bytes += segment.pending_bytes();
            pending.oldest_ms.get_or_insert(segment.pending_since_ms);
        }
        pending
    }

    /// When the oldest segment's first record was enqueued.
    pub(crate) fn oldest_segment_ms(&self, among: Among) -> Option<i64> {
        let state = self.lock();
        state
            .segments
            .iter()
            .find(|segment| among.has(segment))
            .map(|segment| segment.summary.first_enqueued_ms)
    }

    /// The sequence number of the newest record, if anything is not acknowledged.
    pub(crate) fn newest_record(&self) -> Option<u64> {
        let state = self.lock();
        (!state.is_empty()).then(|| state.next_sequence.saturating_sub(1))
    }

    /// Whether this record is acknowledged, or gone some other way.
    pub(crate) fn is_past(&self, sequence: u64) -> bool {
        let state = self.lock();
        state.is_empty() || state.cursor.acknowledged >= sequence
    }

    /// Whether everything in it is acknowledged.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Whether something lies in memory, in this lane or in one that waits for it.
    pub(super) fn holds_up_memory(&self) -> bool {
        if self.lock().segments.iter().any(|segment| segment.is_in_memory() && !segment.is_done()) {
            return true;
        }
        let successors = self.successors.lock().unwrap_or_else(PoisonError::into_inner);
        let mut successors = successors.iter().filter_map(std::sync::Weak::upgrade);
        // A lane waits for older ones alone, so this ends. What is held for another reason is not sent anyway.
        successors.any(|lane| !lane.held.load(Ordering::Acquire) && lane.holds_up_memory())
    }

    /// Whether what is in it may be sent.
    pub(crate) fn is_open(&self) -> bool {
        if self.held.load(Ordering::Acquire) {
            return false;
        }
        let mut waits_for = self.waits_for.lock().unwrap_or_else(PoisonError::into_inner);
        // A lane that others wait for takes no more records: once empty, always empty.
        waits_for.retain(|lane| !lane.is_empty());
        waits_for.is_empty()
    }

    /// Takes no more records from now on.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        self.finish_writer(&mut state);
        state.closed = true;
        self.wake_successors_if_empty(&state);
        drop(state);
        self.notify.notify_one();
    }

    pub(crate) fn wake_successors_if_empty(&self, state: &LaneState) {
        if !(state.closed && state.is_empty()) {
            return;
        }
        let successors = self.successors.lock().unwrap_or_else(PoisonError::into_inner);
        for lane in successors.iter().filter_map(std::sync::Weak::upgrade) {
            lane.notify.notify_one();
        }
    }
}

impl LaneState {
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.iter().all(Segment::is_done)
    }

    /// Whether a segment of which everything is acknowledged is not worth keeping for more.
    pub(crate) fn is_idle_segment_large(&self) -> bool {
        self.segments.back().is_some_and(|segment| segment.end > SEGMENT_IDLE_BYTES_MAX)
    }
}

/// The file of a segment.
pub(crate) fn segment_path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}.seg"))
}

/// The number in a segment's name, if it is one.
pub(crate) fn parse_segment_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg").filter(|digits| digits.len() == 20)?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())
        .flatten()
        .filter(|base| *base > 0)
}
