//! A lane: one ordered stream of records in segments of a directory of its own. Here is the writing side and what
//! bounds it; reading is in `reader.rs`, finding a lane again after a restart in `recovery.rs`.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use promring_model::config::FsyncPolicy;
use tokio::sync::Notify;

use super::cursor::{Cursor, CursorFile};
use super::files::File;
use super::limits::{DISK_RETRY_MS, MEMORY_SEGMENT_BYTES_MAX, SEGMENT_IDLE_BYTES_MAX};
use super::losses::Loss;
use super::memory::MemoryFile;
use super::reader::ReadState;
use super::record::{Beside, RecordHeader, RecordMeta};
use super::segment::{FOOTER_BYTES, SEGMENT_HEADER_BYTES, Summary, Writer};
use super::shared::{DropReason, Shared, add};

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

    fn pending_bytes(&self) -> u64 {
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
    fn has(self, segment: &Segment) -> bool {
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

/// Why a record was not appended.
#[derive(Debug)]
pub(crate) enum AppendFailure {
    Closed,
    /// The disk failed a moment ago, or has not taken the lane's directory yet.
    Later,
    Disk(io::Error),
}

impl Lane {
    pub(crate) fn lock(&self) -> MutexGuard<'_, LaneState> {
        // No code that holds the lock can leave the state half changed: a poisoned lock is as good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn segment_path(&self, base: u64) -> PathBuf {
        segment_path(&self.dir, base)
    }

    /// Appends to the disk. After an error the record is not in the lane.
    pub(crate) fn append(&self, meta: RecordMeta, body: &[u8]) -> Result<(), AppendFailure> {
        let now_ms = self.shared.clock.now_ms();
        let mut state = self.lock();
        if state.closed {
            return Err(AppendFailure::Closed);
        }
        if state.unmade || now_ms < state.disk_retry_ms {
            return Err(AppendFailure::Later);
        }
        let written = self.append_locked(&mut state, now_ms, meta, body);
        if let Err(error) = written {
            self.give_up_writer(&mut state);
            return Err(AppendFailure::Disk(error));
        }
        drop(state);
        self.notify.notify_one();
        Ok(())
    }

    /// Appends to a segment in memory: the disk takes nothing.
    pub(crate) fn append_to_memory(&self, meta: RecordMeta, body: &[u8]) -> Result<(), AppendFailure> {
        let now_ms = self.shared.clock.now_ms();
        let mut state = self.lock();
        if state.closed {
            return Err(AppendFailure::Closed);
        }
        if now_ms >= state.disk_retry_ms {
            state.disk_retry_ms = now_ms + DISK_RETRY_MS;
        }
        let header = RecordHeader::new(state.next_sequence, now_ms, meta, body);
        let in_memory = state.segments.back().is_some_and(Segment::is_in_memory);
        let fits = state
            .writer
            .as_ref()
            .is_some_and(|writer| writer.end + header.record_len() <= MEMORY_SEGMENT_BYTES_MAX);
        if !(in_memory && fits) {
            self.finish_writer(&mut state);
            let file = Arc::new(MemoryFile::default());
            let base = state.next_sequence;
            let writer = Writer::begin(Arc::clone(&file) as Arc<dyn File>, base, now_ms);
            state.writer = Some(writer.map_err(AppendFailure::Disk)?);
            state.segments.push_back(Segment::new(base, Place::Memory(file)));
        }
        self.write_record(&mut state, &header, body).map_err(AppendFailure::Disk)?;
        drop(state);
        self.notify.notify_one();
        Ok(())
    }

    fn append_locked(
        &self,
        state: &mut LaneState,
        now_ms: i64,
        meta: RecordMeta,
        body: &[u8],
    ) -> io::Result<()> {
        let header = RecordHeader::new(state.next_sequence, now_ms, meta, body);
        if self.is_full(state, now_ms, header.record_len()) {
            self.finish_writer(state);
        }
        if state.writer.is_none() {
            self.begin_segment(state, now_ms)?;
        }
        self.write_record(state, &header, body)?;
        let base = state.segments.back().map_or(0, |segment| segment.base);
        if let Some(writer) = &state.writer
            && state.unsynced.last().is_none_or(|(unsynced, _)| *unsynced != base)
        {
            state.unsynced.push((base, Arc::clone(&writer.file)));
        }
        if self.shared.bounds().settings.fsync == FsyncPolicy::Always {
            self.sync_segments(state);
        }
        Ok(())
    }

    fn write_record(&self, state: &mut LaneState, header: &RecordHeader, body: &[u8]) -> io::Result<()> {
        let (Some(writer), Some(segment)) = (state.writer.as_mut(), state.segments.back_mut()) else {
            return Err(io::Error::other("no segment takes records"));
        };
        writer.append(header, body)?;
        if segment.is_done() {
            segment.pending_since_ms = header.enqueued_ms;
        }
        segment.summary.add(header);
        segment.end = writer.end;
        let bytes = writer.end;
        self.account(segment, bytes);
        state.next_sequence = state.next_sequence.saturating_add(1);
        Ok(())
    }

    /// Whether the segment that takes records must not take one of `len` bytes.
    fn is_full(&self, state: &LaneState, now_ms: i64, len: u64) -> bool {
        let (Some(writer), Some(segment)) = (&state.writer, state.segments.back()) else { return false };
        let bounds = self.shared.bounds();
        let old = now_ms.saturating_sub(segment.summary.first_enqueued_ms) > bounds.segment_age_max_ms;
        segment.summary.records > 0
            && (writer.end + len > bounds.segment_bytes_max || old || segment.is_in_memory())
    }

    fn begin_segment(&self, state: &mut LaneState, now_ms: i64) -> io::Result<()> {
        let base = state.next_sequence;
        let path = self.segment_path(base);
        let file = self.shared.files.create(&path)?;
        let begun = Writer::begin(file, base, now_ms);
        let writer = begun.inspect_err(|_| state.garbage.push(path))?;
        // A name that was to be deleted is in use again.
        let path = self.segment_path(base);
        state.garbage.retain(|garbage| *garbage != path);
        state.writer = Some(writer);
        state.segments.push_back(Segment::new(base, Place::Disk));
        state.dir_unsynced = true;
        Ok(())
    }

    /// Finishes the segment that takes records. A footer that cannot be written costs time at the next start only.
    pub(crate) fn finish_writer(&self, state: &mut LaneState) {
        let Some(writer) = state.writer.take() else { return };
        let Some(segment) = state.segments.back_mut() else { return };
        if segment.is_in_memory() {
            return;
        }
        match writer.finish(&segment.summary) {
            Ok(()) => {
                let bytes = segment.end + FOOTER_BYTES as u64;
                self.account(segment, bytes);
            }
            Err(error) => self.shared.write_failed("finishing a segment", &error),
        }
    }

    /// After a failed write: nothing more goes to this segment.
    fn give_up_writer(&self, state: &mut LaneState) {
        state.writer = None;
        if state.segments.back().is_some_and(|segment| segment.summary.records == 0) {
            let at = state.segments.len() - 1;
            self.remove_segment(state, at);
        }
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

    /// Takes a segment out of the lane and deletes its file.
    pub(crate) fn remove_segment(&self, state: &mut LaneState, at: usize) -> Option<Segment> {
        let mut segment = state.segments.remove(at)?;
        if at == state.segments.len() {
            // It was the last one: what follows needs a new one.
            state.writer = None;
        }
        self.account(&mut segment, 0);
        state.unsynced.retain(|(base, _)| *base != segment.base);
        if !segment.is_in_memory() {
            self.delete(state, self.segment_path(segment.base));
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

/// Counts what was appended.
pub(crate) fn count_enqueued(shared: &Shared, meta: &RecordMeta, body: &[u8]) {
    add(&shared.counters.enqueued_records, 1);
    add(&shared.counters.enqueued_points, meta.points());
    add(&shared.counters.enqueued_bytes, body.len() as u64);
    if meta.points() > 0 {
        shared.counters.newest_sample_ms.fetch_max(meta.last_ms, Ordering::Relaxed);
    }
}
