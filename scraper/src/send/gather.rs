//! The next request of a lane: one record as it lies, or several small neighbours in one.

use bytes::Bytes;

use super::join::Joined;
use super::units::Counts;
use crate::queue::{Encoding, LaneReader, RecordInfo};

/// An idle lane keeps buffers of at most this size.
const IDLE_BUFFER_BYTES_MAX: usize = 256 << 10;

/// A request of one or more records.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) body: Bytes,
    pub(super) encoding: Encoding,
    pub(super) counts: Counts,
    pub(super) records: usize,
    /// Sequence numbers of its first and its last record.
    pub(super) from: u64,
    pub(super) upto: u64,
    /// Oldest and newest time of its samples, Unix milliseconds.
    pub(super) first_ms: i64,
    pub(super) last_ms: i64,
    /// When its first record was queued, Unix milliseconds.
    pub(super) queued_ms: i64,
    /// Whether an earlier copy of it may have been stored.
    pub(super) maybe_stored: bool,
    /// The same was known when its first record was appended.
    pub(super) was_put_aside_so: bool,
}

/// Makes requests of records. Its buffers are used again.
#[derive(Debug, Default)]
pub(super) struct Gatherer {
    first: Vec<u8>,
    next: Vec<u8>,
    /// Records up to this sequence number go alone.
    alone_upto: u64,
    /// Each goes alone, what was in flight included.
    never_joins: bool,
}

impl Gatherer {
    /// One that joins nothing, what was in flight included.
    pub(super) fn of_single_records() -> Self {
        Self { never_joins: true, ..Self::default() }
    }

    /// The next request; None: the lane has no record now. Records are joined to at most so many samples, and less than so
    /// many bytes as they go over the wire; one that has more goes alone.
    pub(super) fn gather(
        &mut self,
        reader: &mut LaneReader,
        samples_max: u64,
        bytes_max: usize,
    ) -> Option<Request> {
        let resumed = reader.in_flight();
        let info = reader.peek(&mut self.first)?;
        let mut request = Request {
            body: Bytes::new(),
            encoding: info.encoding(),
            counts: counts(&info),
            records: 1,
            from: info.sequence,
            upto: info.sequence,
            first_ms: info.meta.first_ms,
            last_ms: info.meta.last_ms,
            queued_ms: info.enqueued_ms,
            maybe_stored: false,
            was_put_aside_so: info.meta.maybe_stored,
        };
        let resumed = resumed.filter(|upto| *upto >= info.sequence);
        request.maybe_stored = resumed.is_some() || info.meta.maybe_stored;
        let Some(mut joined) = Joined::begin(request.encoding, &self.first) else {
            request.body = Bytes::from(std::mem::take(&mut self.first));
            return Some(request);
        };
        let mut bytes = info.body_bytes;
        loop {
            let points = request.counts.points();
            let fits = |info: &RecordInfo| match resumed {
                _ if self.never_joins => false,
                // The same records as the first time, whatever the limits say now.
                Some(upto) => info.sequence <= upto,
                None if info.sequence <= self.alone_upto || request.upto <= self.alone_upto => false,
                None => {
                    info.encoding() == request.encoding
                        && points + info.meta.points() <= samples_max
                        && bytes + info.body_bytes < bytes_max
                }
            };
            let Some(info) = reader.peek_next_if(&mut self.next, fits) else { break };
            if !joined.add(&self.first, &self.next, resumed.is_none()) {
                break;
            }
            bytes += info.body_bytes;
            request.counts.add(counts(&info));
            request.records += 1;
            request.upto = info.sequence;
            request.first_ms = request.first_ms.min(info.meta.first_ms);
            request.last_ms = request.last_ms.max(info.meta.last_ms);
        }
        request.body = match joined.finish() {
            Some(body) => body,
            None => Bytes::from(std::mem::take(&mut self.first)),
        };
        Some(request)
    }

    /// Records up to this one are not joined any more.
    pub(super) fn leave_alone(&mut self, upto: u64) {
        self.alone_upto = upto;
    }

    /// Takes a buffer back.
    pub(super) fn give_back(&mut self, body: Bytes) {
        // Without a copy where nobody else has it, which is so once the request is done.
        if let Ok(buffer) = body.try_into_mut()
            && buffer.capacity() <= IDLE_BUFFER_BYTES_MAX
        {
            self.first = Vec::from(buffer);
        }
        if self.next.capacity() > IDLE_BUFFER_BYTES_MAX {
            self.next = Vec::new();
        }
    }
}

fn counts(info: &RecordInfo) -> Counts {
    let meta = info.meta;
    Counts {
        samples: meta.samples.into(),
        histograms: meta.histograms.into(),
        exemplars: meta.exemplars.into(),
        metadata: meta.metadata.into(),
    }
}
