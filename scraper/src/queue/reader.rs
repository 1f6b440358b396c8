//! Reading a lane: records in order, what is in flight, and acknowledgement. What the lane knows of it is in `reading.rs`.

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::ahead::SentAhead;
use super::files::File;
use super::lane::{Lane, LaneId, Place};
use super::limits::{READ_RETRY_MS, READ_TRIES_ENDING_MAX, READ_TRIES_MAX};
use super::reading::{Readiness, Spot};
use super::record::{Encoding, RecordHeader, RecordMeta};
use super::segment::{self, SEGMENT_HEADER_BYTES, STEP_BYTES_MAX, Step};

/// What is known of a record that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordInfo {
    /// Its place in the lane: higher than that of every record before it.
    pub sequence: u64,
    /// When it was enqueued, Unix milliseconds.
    pub enqueued_ms: i64,
    /// Bytes of its body.
    pub body_bytes: usize,
    /// What was said about it when it was appended.
    pub meta: RecordMeta,
}

impl RecordInfo {
    /// How the body is encoded.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.meta.encoding
    }

    pub(super) fn new(header: &RecordHeader) -> Self {
        Self {
            sequence: header.sequence,
            enqueued_ms: header.enqueued_ms,
            body_bytes: header.body_len as usize,
            meta: header.meta,
        }
    }
}

/// What [`LaneReader::wait`] waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// There may be a record to read.
    Ready,
    /// The lane is retired: there will never be one again.
    Retired,
}

/// Reads one lane. There is one reader a lane at a time; dropping it gives the lane back.
#[derive(Debug)]
pub struct LaneReader {
    lane: Arc<Lane>,
    /// The segment that was read last, kept open.
    file: Option<(u64, Arc<dyn File>)>,
    /// Failed reads of the same spot.
    tries: u32,
    /// The process ends: what is in memory then is lost.
    ending: bool,
    /// Where a damaged stretch begins that is being searched.
    stretch: Option<Spot>,
    /// Reading goes on at once, after others had a turn.
    is_searching: bool,
}

impl LaneReader {
    pub(crate) fn new(lane: Arc<Lane>) -> Option<Self> {
        let taken = lane.reader_taken.swap(true, Ordering::AcqRel);
        (!taken).then(|| Self {
            lane,
            file: None,
            tries: 0,
            ending: false,
            stretch: None,
            is_searching: false,
        })
    }

    /// Which lane this is.
    #[must_use]
    pub fn lane(&self) -> LaneId {
        self.lane.id
    }

    /// Reads the first record that is not acknowledged into `body`. None: there is none, or the lane must wait, or the
    /// disk does not give it now, or so much of it is damaged that others are to have a turn first; [`LaneReader::wait`] tells
    /// when to ask again.
    pub fn peek(&mut self, body: &mut Vec<u8>) -> Option<RecordInfo> {
        self.lane.rewind();
        self.peek_next_if(body, |_| true)
    }

    /// Reads the record after those that were read since the last [`LaneReader::peek`], if `wanted` says so of it.
    pub fn peek_next_if(
        &mut self,
        body: &mut Vec<u8>,
        mut wanted: impl FnMut(&RecordInfo) -> bool,
    ) -> Option<RecordInfo> {
        self.is_searching = false;
        if !self.lane.is_open() {
            return None;
        }
        let mut passed = 0;
        loop {
            if passed >= STEP_BYTES_MAX {
                self.is_searching = true;
                return None;
            }
            let spot = self.spot()?;
            match self.read(&spot, body, &mut wanted) {
                Ok(Outcome::Taken(header)) => {
                    self.tries = 0;
                    if self.lane.take(&spot, &header) {
                        return Some(RecordInfo::new(&header));
                    }
                    // Dropped while it was read: on to what is left.
                }
                Ok(Outcome::NotWanted) => return None,
                Ok(Outcome::Bad { next, sequence }) => {
                    self.tries = 0;
                    passed += next - spot.offset;
                    let begun = self.stretch.take().filter(|begun| begun.base == spot.base);
                    self.lane.skip(&begun.unwrap_or(spot), next, sequence);
                }
                Ok(Outcome::Search { next }) => {
                    self.tries = 0;
                    passed += next - spot.offset;
                    self.stretch = self.stretch.filter(|begun| begun.base == spot.base).or(Some(spot));
                    self.lane.search_on(&spot, next);
                }
                Ok(Outcome::End) => {}
                // Dropped while it was read: on to what is left.
                Err(_) if !self.lane.holds(spot.base) => self.file = None,
                Err(error) => {
                    if !self.read_failed(&spot, &error) {
                        return None;
                    }
                }
            }
        }
    }

    /// Up to where a request was in flight when an earlier process ended: it must be made of the same records again,
    /// and its first copy may have been stored.
    #[must_use]
    pub fn in_flight(&self) -> Option<u64> {
        let cursor = self.lane.lock().cursor;
        (cursor.in_flight > cursor.acknowledged).then_some(cursor.in_flight)
    }

    /// Writes down that a request is sent now that reaches up to this record: to be called before its first byte goes out.
    pub fn mark(&mut self, sequence: u64) {
        let mut state = self.lane.lock();
        if state.cursor.in_flight != sequence {
            state.cursor.in_flight = sequence;
            self.lane.write_cursor(&mut state);
        }
    }

    /// Takes the mark back: what was marked is known not to have been stored, so it may be sent in any other way.
    pub fn unmark(&mut self) {
        self.mark(0);
    }

    /// Up to which record something may have been sent ahead since the plan for that was written down last.
    #[must_use]
    pub fn ahead_upto(&self) -> u64 {
        self.lane.lock().cursor.ahead
    }

    /// Writes down that what is sent ahead now is of records up to this one: to be called before its first byte goes out.
    pub fn mark_ahead(&mut self, sequence: u64) {
        let mut state = self.lane.lock();
        if state.cursor.ahead != sequence {
            state.cursor.ahead = sequence;
            self.lane.write_cursor(&mut state);
        }
    }

    /// What was sent ahead of the lane's records, by its file. None: that tells nothing, which is counted and logged.
    #[must_use]
    pub fn sent_ahead(&self) -> Option<Vec<SentAhead>> {
        self.lane.ahead()
    }

    /// Writes down what is sent ahead; nothing: the file goes. False: the disk does not take it.
    pub fn write_ahead(&mut self, series: &[SentAhead]) -> bool {
        self.lane.write_ahead(series)
    }

    /// Everything up to this record is acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.lane.lock().cursor.acknowledged
    }

    /// The number of the newest record; 0: there is none.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.lane.newest_record().unwrap_or(0)
    }

    /// Leaves something with the request of these records, for whoever reads the lane next in this process.
    pub fn leave_rest(&mut self, from: u64, upto: u64, rest: Box<dyn Any + Send>) {
        self.lane.lock().rest = Some((from, upto, rest));
    }

    /// Takes what was left with the request of these records.
    pub fn take_rest(&mut self, from: u64, upto: u64) -> Option<Box<dyn Any + Send>> {
        // Of other records it is of no use: some of them were dropped meanwhile.
        let left = self.lane.lock().rest.take()?;
        (left.0 == from && left.1 == upto).then_some(left.2)
    }

    /// Acknowledges all records up to this one: they are never read again.
    pub fn ack(&mut self, sequence: u64) {
        self.lane.ack(sequence);
        // A file that is deleted takes its place on the disk for as long as it is open.
        if self.file.as_ref().is_some_and(|(base, _)| !self.lane.holds(*base)) {
            self.file = None;
        }
    }

    /// Whether the queue's bounds have dropped every record that was read and not acknowledged: it need not be tried again.
    #[must_use]
    pub fn is_dropped(&self) -> bool {
        let state = self.lane.lock();
        !state.read.in_hand.is_empty() && state.read.in_hand.iter().all(|record| record.lost.is_some())
    }

    /// Whether there is something in the lane that is sent once other lanes are empty.
    #[must_use]
    pub fn waits_for_others(&self) -> bool {
        !self.lane.held.load(Ordering::Acquire) && !self.lane.is_open() && !self.lane.is_empty()
    }

    /// The process ends: from now on an unreadable segment is given up soon where records in memory lie behind it, as they would be
    /// lost. One with nothing but the disk behind it is left as it is.
    pub fn end(&mut self) {
        self.ending = true;
    }

    /// Whether reading goes on after a pause, though the process ends, because records in memory lie behind what the disk did not
    /// give.
    #[must_use]
    pub fn holds_up_memory(&self) -> bool {
        self.lane.lock().read.stalled && self.lane.holds_up_memory()
    }

    /// Whether there may be a record behind a damaged stretch that is being searched.
    #[must_use]
    pub fn is_searching(&self) -> bool {
        self.is_searching
    }

    /// Waits until there may be a record after those that were read.
    pub async fn wait(&mut self) -> Wake {
        if std::mem::take(&mut self.is_searching) {
            tokio::task::yield_now().await;
            return Wake::Ready;
        }
        loop {
            let notified = self.lane.notify.notified();
            match self.lane.readiness() {
                Readiness::Ready => return Wake::Ready,
                Readiness::Retired => return Wake::Retired,
                Readiness::Stalled => {
                    tokio::time::sleep(Duration::from_millis(READ_RETRY_MS)).await;
                    self.lane.lock().read.stalled = false;
                }
                Readiness::Idle => notified.await,
            }
        }
    }

    /// Where the next record is looked for; None: nowhere now.
    fn spot(&mut self) -> Option<Spot> {
        let mut state = self.lane.lock();
        if state.read.stalled {
            return None;
        }
        let at = loop {
            let at = state.segments.partition_point(|segment| segment.base < state.read.segment);
            let segment = state.segments.get(at)?;
            if segment.base != state.read.segment {
                // The first one, or what was read last is gone.
                (state.read.segment, state.read.offset) = (segment.base, SEGMENT_HEADER_BYTES);
            } else if state.read.offset < segment.end {
                break at;
            } else if let Some(next) = state.segments.get(at + 1) {
                (state.read.segment, state.read.offset) = (next.base, SEGMENT_HEADER_BYTES);
                self.lane.remove_done(&mut state);
            } else {
                self.lane.remove_done(&mut state);
                return None;
            }
        };
        let segment = state.segments.get(at)?;
        let spot =
            Spot { base: segment.base, offset: state.read.offset, end: segment.end, after: state.read.after };
        if self.file.as_ref().is_none_or(|(open, _)| *open != spot.base) {
            // The writer's handle serves as well, and a segment in memory has no other.
            let writer = state.writer.as_ref().filter(|_| at + 1 == state.segments.len());
            let file = match (&segment.place, writer) {
                (_, Some(writer)) => Some(Arc::clone(&writer.file)),
                (Place::Memory(file), None) => Some(Arc::clone(file) as Arc<dyn File>),
                (Place::Disk, None) => None,
            };
            self.file = file.map(|file| (spot.base, file));
        }
        Some(spot)
    }

    fn read(
        &mut self,
        spot: &Spot,
        body: &mut Vec<u8>,
        wanted: &mut dyn FnMut(&RecordInfo) -> bool,
    ) -> io::Result<Outcome> {
        let file = match &self.file {
            Some((_, file)) => Arc::clone(file),
            None => {
                let file = self.lane.shared.files.open(&self.lane.segment_path(spot.base))?;
                self.file = Some((spot.base, Arc::clone(&file)));
                file
            }
        };
        match segment::step(&*file, spot.offset, spot.end, spot.after)? {
            Step::End => Ok(Outcome::End),
            Step::Bad { next } => Ok(Outcome::Bad { next, sequence: spot.after }),
            Step::Search { next } => Ok(Outcome::Search { next }),
            Step::Record(header) => {
                if !wanted(&RecordInfo::new(&header)) {
                    return Ok(Outcome::NotWanted);
                }
                if segment::read_body(&*file, spot.offset, &header, body)? {
                    return Ok(Outcome::Taken(header));
                }
                Ok(Outcome::Bad { next: spot.offset + header.record_len(), sequence: header.sequence })
            }
        }
    }

    /// Returns whether reading can go on at once.
    fn read_failed(&mut self, spot: &Spot, error: &io::Error) -> bool {
        self.file = None;
        self.lane.shared.read_failed("reading a segment", error);
        self.tries += 1;
        let hurries = self.ending && self.lane.holds_up_memory();
        let tries_max = if hurries { READ_TRIES_ENDING_MAX } else { READ_TRIES_MAX };
        if error.kind() != io::ErrorKind::NotFound && self.tries < tries_max {
            self.lane.lock().read.stalled = true;
            return false;
        }
        if !hurries {
            // Else there is no time for a pause at each segment of a disk that is gone.
            self.tries = 0;
        }
        self.lane.give_up_segment(spot.base);
        true
    }
}

impl Drop for LaneReader {
    fn drop(&mut self) {
        self.lane.rewind();
        self.lane.reader_taken.store(false, Ordering::Release);
    }
}

enum Outcome {
    Taken(RecordHeader),
    NotWanted,
    Bad { next: u64, sequence: u64 },
    Search { next: u64 },
    End,
}
