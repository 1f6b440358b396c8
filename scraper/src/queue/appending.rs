//! The writing side of a lane: records go to the segment that takes them, on the disk or, while that takes none, in memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use promring_model::config::FsyncPolicy;

use super::files::File;
use super::lane::{Lane, LaneState, Place, Segment};
use super::limits::{DISK_RETRY_MS, MEMORY_SEGMENT_BYTES_MAX};
use super::memory::MemoryFile;
use super::record::{RecordHeader, RecordMeta};
use super::segment::{FOOTER_BYTES, Writer};
use super::shared::{Shared, add};

/// Why a record was not appended.
#[derive(Debug)]
pub(crate) enum AppendFailure {
    Closed,
    /// The disk failed a moment ago, or has not taken the lane's directory yet.
    Later,
    Disk(io::Error),
}

impl Lane {
    /// Appends to the disk, and gives the record's number. After an error the record is not in the lane.
    pub(crate) fn append(&self, meta: RecordMeta, body: &[u8]) -> Result<u64, AppendFailure> {
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
        let sequence = state.next_sequence.saturating_sub(1);
        drop(state);
        self.notify.notify_one();
        Ok(sequence)
    }

    /// Appends to a segment in memory: the disk takes nothing.
    pub(crate) fn append_to_memory(&self, meta: RecordMeta, body: &[u8]) -> Result<u64, AppendFailure> {
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
        Ok(header.sequence)
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
