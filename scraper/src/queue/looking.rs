//! Looking at what a lane holds beside its reader: nothing is taken, and nothing that is damaged is counted, which is the reader's.

use std::io;
use std::sync::Arc;

use super::Queue;
use super::files::File;
use super::lane::{Lane, LaneId, Place};
use super::reader::RecordInfo;
use super::segment::{self, SEGMENT_HEADER_BYTES, Step};

/// A segment as it is when a look begins.
struct Seen {
    base: u64,
    begin: u64,
    end: u64,
    /// None: it is to be opened.
    file: Option<Arc<dyn File>>,
}

impl Queue {
    /// Calls `look` with each record of a lane that is not acknowledged, and its body, in order. What is appended meanwhile may be
    /// left out, and so is the rest when `look` says false. False: the disk did not give all of it, which is counted and logged.
    pub fn look_through(&self, lane: LaneId, mut look: impl FnMut(&RecordInfo, &[u8]) -> bool) -> bool {
        let Some(lane) = self.directory.lane(Some(lane.set), lane.index) else { return true };
        let seen = lane.look_through(&mut look);
        if let Err(error) = &seen {
            lane.shared.read_failed("looking through a lane", error);
        }
        seen.is_ok()
    }
}

impl Lane {
    fn look_through(&self, look: &mut dyn FnMut(&RecordInfo, &[u8]) -> bool) -> io::Result<()> {
        let (segments, mut after) = self.seen();
        let mut body = Vec::new();
        for segment in segments {
            match self.look_through_segment(&segment, &mut after, &mut body, look) {
                // Acknowledged or dropped meanwhile.
                Err(_) if !self.holds(segment.base) => {}
                Ok(true) => {}
                ended => return ended.map(|_| ()),
            }
        }
        Ok(())
    }

    /// Its segments, and the number of the last record that is acknowledged.
    fn seen(&self) -> (Vec<Seen>, u64) {
        let state = self.lock();
        let (cursor, last) = (state.cursor, state.segments.len().saturating_sub(1));
        let segments = state.segments.iter().enumerate().filter(|(_, segment)| !segment.is_done());
        let segments = segments.map(|(at, segment)| {
            let writer = state.writer.as_ref().filter(|_| at == last);
            let file = match (&segment.place, writer) {
                (_, Some(writer)) => Some(Arc::clone(&writer.file)),
                (Place::Memory(file), None) => Some(Arc::clone(file) as Arc<dyn File>),
                (Place::Disk, None) => None,
            };
            let begun = cursor.segment == segment.base && cursor.offset > SEGMENT_HEADER_BYTES;
            let begin = if begun { cursor.offset } else { SEGMENT_HEADER_BYTES };
            Seen { base: segment.base, begin, end: segment.end, file }
        });
        (segments.collect(), cursor.acknowledged)
    }

    /// False: that is enough.
    fn look_through_segment(
        &self,
        segment: &Seen,
        after: &mut u64,
        body: &mut Vec<u8>,
        look: &mut dyn FnMut(&RecordInfo, &[u8]) -> bool,
    ) -> io::Result<bool> {
        let file = match &segment.file {
            Some(file) => Arc::clone(file),
            None => self.shared.files.open(&self.segment_path(segment.base))?,
        };
        let mut offset = segment.begin;
        loop {
            match segment::step(&*file, offset, segment.end, *after)? {
                Step::End => return Ok(true),
                Step::Bad { next } | Step::Search { next } => offset = next,
                Step::Record(header) => {
                    let whole = segment::read_body(&*file, offset, &header, body)?;
                    if whole && !look(&RecordInfo::new(&header), body) {
                        return Ok(false);
                    }
                    (offset, *after) = (offset + header.record_len(), header.sequence);
                }
            }
        }
    }
}
