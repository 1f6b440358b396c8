//! The next request of a lane: one record as it lies, or several small neighbours in one.

use bytes::Bytes;

use super::units::{self, Counts, SNAPPY_LENGTH_BYTES_MAX, push_varint, snappy_parts};
use crate::queue::{Encoding, LaneReader, RecordInfo};

/// Neighbours are not joined to more than this before compression: receivers limit bodies.
const JOINED_BYTES_MAX: usize = 4 << 20;

/// An idle lane keeps buffers of at most this size.
const IDLE_BUFFER_BYTES_MAX: usize = 256 << 10;

/// A request of one or more records.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) body: Bytes,
    pub(super) counts: Counts,
    pub(super) records: usize,
    /// Sequence number of its last record.
    pub(super) upto: u64,
    /// Oldest and newest time of its samples, Unix milliseconds.
    pub(super) first_ms: i64,
    pub(super) last_ms: i64,
    /// Whether an earlier copy of it may have been stored.
    pub(super) maybe_stored: bool,
}

/// Makes requests of records. Its buffers are used again.
#[derive(Debug, Default)]
pub(super) struct Gatherer {
    first: Vec<u8>,
    next: Vec<u8>,
    /// Records up to this sequence number go alone.
    alone_upto: u64,
}

impl Gatherer {
    /// The next request; None: the lane has no record now.
    pub(super) fn gather(&mut self, reader: &mut LaneReader, samples_max: u64) -> Option<Request> {
        let resumed = reader.in_flight();
        let info = reader.peek(&mut self.first)?;
        let mut request = Request {
            body: Bytes::new(),
            counts: counts(&info),
            records: 1,
            upto: info.sequence,
            first_ms: info.meta.first_ms,
            last_ms: info.meta.last_ms,
            maybe_stored: false,
        };
        let resumed = resumed.filter(|upto| *upto >= info.sequence);
        request.maybe_stored = resumed.is_some();
        let Some((len, elements)) = snappy_parts(&self.first).filter(|_| info.encoding() == Encoding::V1)
        else {
            request.body = Bytes::from(std::mem::take(&mut self.first));
            return Some(request);
        };
        let mut joined = Joined { len, body: Vec::new() };
        loop {
            let points = request.counts.points();
            let fits = |info: &RecordInfo| match resumed {
                // The same records as the first time, whatever the limits say now.
                Some(upto) => info.sequence <= upto,
                None if info.sequence <= self.alone_upto || request.upto <= self.alone_upto => false,
                None => info.encoding() == Encoding::V1 && points + info.meta.points() <= samples_max,
            };
            let Some(info) = reader.peek_next_if(&mut self.next, fits) else { break };
            let parts = snappy_parts(&self.next);
            let Some((len, more)) =
                parts.filter(|(len, _)| resumed.is_some() || joined.len + len <= JOINED_BYTES_MAX)
            else {
                break;
            };
            if joined.body.is_empty() {
                // Room in front for the summed length.
                joined.body.resize(SNAPPY_LENGTH_BYTES_MAX, 0);
                joined.body.extend_from_slice(elements);
            }
            joined.len += len;
            joined.body.extend_from_slice(more);
            request.counts.add(counts(&info));
            request.records += 1;
            request.upto = info.sequence;
            request.first_ms = request.first_ms.min(info.meta.first_ms);
            request.last_ms = request.last_ms.max(info.meta.last_ms);
        }
        request.body = if joined.body.is_empty() {
            Bytes::from(std::mem::take(&mut self.first))
        } else {
            joined.finish()
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

/// Snappy blocks as one: their elements one after the other, under the sum of their lengths. A copy element reaches back
/// into what its own block has made, so it means the same wherever the block stands.
struct Joined {
    len: usize,
    body: Vec<u8>,
}

impl Joined {
    fn finish(mut self) -> Bytes {
        let mut varint = Vec::with_capacity(SNAPPY_LENGTH_BYTES_MAX);
        push_varint(&mut varint, self.len as u64);
        let start = SNAPPY_LENGTH_BYTES_MAX.saturating_sub(varint.len());
        if let Some(place) = self.body.get_mut(start..start + varint.len()) {
            place.copy_from_slice(&varint);
        }
        Bytes::from(self.body).slice(start..)
    }
}

fn counts(info: &RecordInfo) -> Counts {
    let meta = info.meta;
    units::Counts {
        samples: meta.samples.into(),
        histograms: meta.histograms.into(),
        exemplars: meta.exemplars.into(),
        metadata: meta.metadata.into(),
    }
}
