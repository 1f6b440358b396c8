//! Finding a lane again after a restart: its segments by their footers, and where reading goes on.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use promring_model::config::FsyncPolicy;
use tokio::sync::Notify;

use super::QueueError;
use super::ahead::AHEAD;
use super::cursor::{Cursor, CursorFile};
use super::files::File;
use super::lane::{Lane, LaneId, LaneState, Place, Segment, parse_segment_name, segment_path};
use super::limits::SEGMENT_BYTES_MAX;
use super::losses::Loss;
use super::record::RECORD_HEADER_BYTES;
use super::segment::{self, FOOTER_BYTES, Found, SEGMENT_HEADER_BYTES, SegmentError, Step};
use super::shared::{DropReason, Shared, add};
use super::volume;

const CURSOR: &str = "cursor";

/// What the name of a segment ends in that was put aside.
pub(super) const ASIDE: &str = ".unreadable";

/// A sync may come so much later than its interval, in milliseconds: upkeep is once a second, and the disk takes its time.
const SYNC_LATE_MS: i64 = 10_000;

impl Lane {
    /// Opens the lane in `dir`, which exists. Reads no record but the last of a segment without a footer.
    pub(crate) fn open(shared: &Arc<Shared>, id: LaneId, dir: PathBuf) -> Result<Arc<Self>, QueueError> {
        let failed = |path: &PathBuf| {
            let path = path.clone();
            move |source| QueueError::Io { path, source }
        };
        let mut bases: Vec<u64> = Vec::new();
        let mut ahead = false;
        for name in shared.files.list(&dir).map_err(failed(&dir))? {
            bases.extend(parse_segment_name(&name));
            ahead |= name.strip_suffix(".tmp").unwrap_or(&name) == AHEAD;
        }
        bases.sort_unstable();
        let mut recovered = Recovered::new(shared, &dir, !bases.is_empty())?;
        for base in bases {
            recovered.add(base)?;
        }
        recovered.settle_cursor()?;
        let Recovered { cursor, cursor_file, segments, last_sequence, unsynced, recent, .. } = recovered;
        // In the order in which they were written.
        let recent = recent.into_iter().map(|(_, base, file)| (base, file));
        let unsynced = recent.chain(unsynced).collect();
        let state = LaneState {
            segments,
            next_sequence: last_sequence.max(cursor.acknowledged).max(cursor.in_flight).saturating_add(1),
            cursor,
            cursor_unwritten: cursor_file.is_none(),
            // A process that was killed may have written it a moment ago.
            cursor_unsynced: cursor_file.is_some(),
            cursor_file,
            unsynced,
            dir_unsynced: true,
            ..LaneState::default()
        };
        let lane = Self::with_state(shared, id, dir, state);
        lane.rewind();
        if ahead {
            lane.tidy_ahead();
        }
        Ok(Arc::new(lane))
    }

    /// A new lane whose directory the disk does not take yet: until it does, records live in memory.
    pub(crate) fn unmade(shared: &Arc<Shared>, id: LaneId, dir: PathBuf) -> Arc<Self> {
        let state =
            LaneState { next_sequence: 1, cursor_unwritten: true, unmade: true, ..LaneState::default() };
        Arc::new(Self::with_state(shared, id, dir, state))
    }

    fn with_state(shared: &Arc<Shared>, id: LaneId, dir: PathBuf, state: LaneState) -> Self {
        Self {
            id,
            dir,
            shared: Arc::clone(shared),
            notify: Notify::new(),
            held: AtomicBool::new(false),
            waits_for: Mutex::default(),
            successors: Mutex::default(),
            reader_taken: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// Whether a segment lies in its directory that was put aside, or is to be. Where the disk does not say, one may.
    pub(crate) fn has_put_aside(&self) -> bool {
        if !self.lock().to_put_aside.is_empty() {
            return true;
        }
        let names = self.shared.files.list(&self.dir);
        names.map_or(true, |names| names.iter().any(|name| name.ends_with(ASIDE)))
    }

    /// Opens the file of the cursor, if that failed before.
    pub(crate) fn open_cursor_file(&self, state: &mut LaneState) {
        if state.cursor_file.is_none() {
            // What stands in the file is older than what is known here.
            state.cursor_file = open_cursor(&self.shared, &self.dir).ok().map(|(file, _)| file);
        }
    }
}

fn open_cursor(shared: &Shared, dir: &Path) -> io::Result<(CursorFile, Option<Cursor>)> {
    let path = dir.join(CURSOR);
    let file = match shared.files.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // One that is gone tells nothing, unlike one that was never written to.
            let (file, _) = CursorFile::open(shared.files.create(&path)?)?;
            return Ok((file, None));
        }
        opened => opened?,
    };
    CursorFile::open(file)
}

struct Recovered<'s> {
    shared: &'s Shared,
    dir: &'s PathBuf,
    cursor: Cursor,
    cursor_file: Option<CursorFile>,
    segments: VecDeque<Segment>,
    last_sequence: u64,
    unsynced: Vec<(u64, Arc<dyn File>)>,
    /// Whole segments that may not be synced, by the time of their last record.
    recent: VecDeque<(i64, u64, Arc<dyn File>)>,
}

impl<'s> Recovered<'s> {
    fn new(shared: &'s Shared, dir: &'s PathBuf, has_segments: bool) -> Result<Self, QueueError> {
        let path = dir.join(CURSOR);
        let (cursor_file, cursor) = match open_cursor(shared, dir) {
            Ok((file, cursor)) => (Some(file), cursor),
            Err(source) if shared.is_patient_with(&source) => return Err(QueueError::Io { path, source }),
            Err(error) => {
                shared.write_failed("opening a cursor", &error);
                (None, None)
            }
        };
        if cursor.is_none() && has_segments {
            add(&shared.counters.lost_cursors, 1);
            tracing::warn!(
                destination = shared.destination,
                file = %path.display(),
                "the cursor of a lane is lost: the lane is sent again from its oldest record"
            );
        }
        let cursor = cursor.unwrap_or_default();
        Ok(Self {
            shared,
            dir,
            cursor,
            cursor_file,
            segments: VecDeque::new(),
            last_sequence: 0,
            unsynced: Vec::new(),
            recent: VecDeque::new(),
        })
    }

    fn add(&mut self, base: u64) -> Result<(), QueueError> {
        let path = segment_path(self.dir, base);
        let opened = self.shared.files.open(&path).map_err(SegmentError::from);
        let found = opened.and_then(|file| {
            let found = segment::open(&*file)?;
            let begins = found.summary.records > 0 || segment::begins_as_one(&*file)?;
            Ok((file, found, begins))
        });
        let (file, Found { summary, end, finished, torn_bytes, torn_points }, begins) = match found {
            Ok(found) => found,
            Err(SegmentError::Newer(_)) => return Err(QueueError::Newer { path }),
            Err(SegmentError::Io(source)) if self.shared.is_patient_with(&source) => {
                return Err(QueueError::Io { path, source });
            }
            Err(SegmentError::Io(error)) => {
                self.shared.read_failed("opening a segment", &error);
                match self.put_aside(&path) {
                    // It is not the segment that is ill: without it the lane would go on as if it had never been.
                    Err(source) if volume::is_sick(&source) && !volume::takes_nothing(&source) => {
                        return Err(QueueError::Io { path, source });
                    }
                    Ok(()) | Err(_) => {}
                }
                // Nobody knows what it holds: numbers go on behind what it could hold.
                let most = SEGMENT_BYTES_MAX / RECORD_HEADER_BYTES as u64;
                self.last_sequence = self.last_sequence.max(base.saturating_add(most));
                return Ok(());
            }
        };
        if !begins {
            // Somebody else's file, or one that is damaged from its first byte on: it is not ours to delete.
            let _it_stays_where_it_is = self.put_aside(&path);
            return Ok(());
        }
        if torn_bytes > 0 {
            add(&self.shared.counters.torn_tails, 1);
            self.shared.dropped(DropReason::Corrupt, Loss::of_samples(torn_points));
            tracing::warn!(
                destination = self.shared.destination,
                file = %path.display(),
                bytes = torn_bytes,
                "the torn tail of a segment is cut off"
            );
        }
        self.last_sequence = self.last_sequence.max(summary.last_sequence);
        if summary.records == 0 || summary.last_sequence <= self.cursor.acknowledged {
            if let Err(error) = self.shared.files.remove(&path) {
                self.shared.write_failed("deleting a segment", &error);
            }
            return Ok(());
        }
        if !finished {
            // They are numbered one by one from the number in the name on.
            let records = summary.last_sequence.saturating_add(1).saturating_sub(base);
            self.tell_of_unknown(&path, records.saturating_sub(summary.records));
            if let Err(error) = segment::finish(&*file, &summary, end) {
                self.shared.write_failed("finishing a segment", &error);
            }
            // What was cut off must not come back with the power: its sequence numbers are used again. Syncing goes in order, so it
            // is gone from the disk before a new record is there.
            self.unsynced.push((base, file));
        } else {
            self.note_recent(summary.last_enqueued_ms, base, file);
        }
        let mut segment = Segment::new(base, Place::Disk);
        (segment.summary, segment.end) = (summary, end);
        segment.pending_since_ms = summary.first_enqueued_ms;
        segment.held_bytes = end + FOOTER_BYTES as u64;
        add(&self.shared.disk_bytes, segment.held_bytes);
        self.segments.push_back(segment);
        Ok(())
    }

    /// So many records of a segment have no good header, and no footer has its totals: nobody knows how many samples to count.
    fn tell_of_unknown(&self, path: &Path, records: u64) {
        if records > 0 {
            tracing::error!(
                destination = self.shared.destination,
                file = %path.display(),
                records,
                "records with damaged headers are passed over; how many samples they held is not known, and they are not counted as dropped"
            );
        }
    }

    /// A process that was killed may have finished this segment a moment before, and not synced it yet. Nobody but this one
    /// does that.
    fn note_recent(&mut self, last_ms: i64, base: u64, file: Arc<dyn File>) {
        let FsyncPolicy::Interval(interval) = self.shared.bounds().settings.fsync else { return };
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        let synced_ms = last_ms.saturating_sub(interval_ms).saturating_sub(SYNC_LATE_MS);
        while self.recent.pop_front_if(|(last_ms, ..)| *last_ms < synced_ms).is_some() {}
        self.recent.push_back((last_ms, base, file));
    }

    fn put_aside(&self, path: &Path) -> io::Result<()> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(ASIDE);
        let put = self.shared.files.rename(path, aside.as_ref());
        match &put {
            Ok(()) => tracing::error!(
                destination = self.shared.destination,
                file = %path.display(),
                "a segment cannot be read, or is none, and is put aside"
            ),
            Err(error) => self.shared.write_failed("putting an unreadable segment aside", error),
        }
        put
    }

    /// Finds the place of the first record that is not acknowledged, and how much of its segment is.
    fn settle_cursor(&mut self) -> Result<(), QueueError> {
        let acknowledged = self.cursor.acknowledged;
        let Some(segment) = self.segments.front_mut() else {
            self.cursor.segment = 0;
            if self.cursor.in_flight <= self.last_sequence {
                self.cursor.in_flight = 0;
            }
            return Ok(());
        };
        if segment.summary.first_sequence > self.cursor.in_flight {
            // What was in flight is gone: there is nothing to send again.
            self.cursor.in_flight = 0;
        }
        let hint = self.cursor;
        self.cursor.segment = segment.base;
        let path = segment_path(self.dir, segment.base);
        let failed = |source| Err(QueueError::Io { path: path.clone(), source });
        let file = match self.shared.files.open(&path) {
            Ok(file) => file,
            Err(error) if self.shared.is_patient_with(&error) => return failed(error),
            Err(error) => {
                // Reading will meet the same error, and deals with it. Records already acknowledged are passed over by
                // their sequence numbers.
                self.shared.read_failed("opening a segment", &error);
                self.cursor.offset = SEGMENT_HEADER_BYTES;
                return Ok(());
            }
        };
        let fits =
            hint.segment == segment.base && (SEGMENT_HEADER_BYTES..=segment.end).contains(&hint.offset);
        let first = match segment::step(&*file, hint.offset, segment.end, acknowledged) {
            Err(error) if self.shared.is_patient_with(&error) => return failed(error),
            first => first,
        };
        if let Ok(Step::Record(header)) = &first {
            segment.pending_since_ms = header.enqueued_ms;
        }
        if fits && matches!(first, Ok(Step::Record(_) | Step::End)) {
            segment.acked_records = hint.segment_records.min(segment.summary.records);
            segment.acked_points = hint.segment_points.min(segment.summary.points);
            // How much of it is acknowledged is not known.
            segment.acked_beside = segment.summary.beside;
            segment.acked_bytes = hint.offset - SEGMENT_HEADER_BYTES;
            return Ok(());
        }
        let (mut offset, mut resume) = (SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES);
        loop {
            match segment::step(&*file, offset, segment.end, 0) {
                Ok(Step::Record(header)) if header.sequence <= acknowledged => {
                    segment.acked_records += 1;
                    segment.acked_points = segment.acked_points.saturating_add(header.meta.points());
                    segment.acked_beside.add(header.meta.beside());
                    offset += header.record_len();
                    resume = offset;
                }
                Ok(Step::Bad { next } | Step::Search { next }) => offset = next,
                Ok(Step::Record(header)) => {
                    segment.pending_since_ms = header.enqueued_ms;
                    break;
                }
                Err(error) if self.shared.is_patient_with(&error) => return failed(error),
                Ok(Step::End) | Err(_) => break,
            }
        }
        segment.acked_bytes = resume - SEGMENT_HEADER_BYTES;
        self.cursor.offset = resume;
        self.cursor.segment_records = segment.acked_records;
        self.cursor.segment_points = segment.acked_points;
        Ok(())
    }
}
