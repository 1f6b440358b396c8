//! A record: one finished request body after a header with checksums (docs/format/queue.md, Record).

use super::limits::RECORD_BODY_BYTES_MAX;

/// Bytes of a record's header.
pub(crate) const RECORD_HEADER_BYTES: usize = 72;
/// What every record begins with.
pub(crate) const RECORD_MAGIC: [u8; 4] = *b"PREC";

const KIND_REQUEST: u8 = 1;

/// A flag of [`RecordMeta::maybe_stored`].
const MAYBE_STORED: u8 = 1;

/// What a body is encoded as. Both are compressed in snappy's block format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Encoding {
    /// `prometheus.WriteRequest`, remote write 1.0.
    #[default]
    V1,
    /// `io.prometheus.write.v2.Request`, remote write 2.0.
    V2,
}

impl Encoding {
    fn byte(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            _ => None,
        }
    }
}

/// What whoever appends a request body says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RecordMeta {
    /// Samples with a float value.
    pub samples: u32,
    /// Samples with a native histogram.
    pub histograms: u32,
    /// Exemplars.
    pub exemplars: u32,
    /// Metadata entries.
    pub metadata: u32,
    /// Oldest time of a sample, Unix milliseconds.
    pub first_ms: i64,
    /// Newest time of a sample, Unix milliseconds.
    pub last_ms: i64,
    /// How the body is encoded.
    pub encoding: Encoding,
    /// Whether the receiver may have stored it before it was put into this lane.
    pub maybe_stored: bool,
}

impl RecordMeta {
    /// Samples of both types: what loss and backlog are counted in.
    #[must_use]
    pub fn points(&self) -> u64 {
        u64::from(self.samples) + u64::from(self.histograms)
    }

    pub(crate) fn beside(&self) -> Beside {
        Beside {
            histograms: self.histograms.into(),
            exemplars: self.exemplars.into(),
            metadata: self.metadata.into(),
        }
    }
}

/// What a record holds beside floats, for metrics. It is not kept in the footers of segments: of what an earlier process
/// has left, it is known only where records were walked over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Samples with a native histogram.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
    /// Metadata entries.
    pub metadata: u64,
}

impl Beside {
    pub(crate) fn add(&mut self, other: Self) {
        // Headers are checked, yet not proven to be ours: totals must not overflow.
        self.histograms = self.histograms.saturating_add(other.histograms);
        self.exemplars = self.exemplars.saturating_add(other.exemplars);
        self.metadata = self.metadata.saturating_add(other.metadata);
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self {
            histograms: self.histograms.saturating_sub(other.histograms),
            exemplars: self.exemplars.saturating_sub(other.exemplars),
            metadata: self.metadata.saturating_sub(other.metadata),
        }
    }
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    /// Position in the lane, from 1.
    pub(crate) sequence: u64,
    /// When it was enqueued, Unix milliseconds.
    pub(crate) enqueued_ms: i64,
    pub(crate) body_len: u32,
    pub(crate) body_crc: u32,
    pub(crate) meta: RecordMeta,
}

/// Why bytes are no record header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// Not ours or damaged: nothing in it can be believed, its length neither.
    Damaged,
    /// Intact, of a kind or encoding that we do not know: it can be stepped over by its length.
    Unknown { sequence: u64, body_len: u32 },
}

impl RecordHeader {
    /// The header for `body`.
    pub(crate) fn new(sequence: u64, enqueued_ms: i64, meta: RecordMeta, body: &[u8]) -> Self {
        Self {
            sequence,
            enqueued_ms,
            // The queue refuses longer bodies before it comes here.
            body_len: u32::try_from(body.len()).unwrap_or(u32::MAX),
            body_crc: crc32fast::hash(body),
            meta,
        }
    }

    /// Bytes of header and body.
    pub(crate) fn record_len(&self) -> u64 {
        RECORD_HEADER_BYTES as u64 + u64::from(self.body_len)
    }

    pub(crate) fn encode(&self) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        let mut out = Fields(&mut bytes);
        out.put(0, RECORD_MAGIC);
        out.put(8, self.body_len.to_le_bytes());
        out.put(12, self.body_crc.to_le_bytes());
        out.put(16, self.sequence.to_le_bytes());
        out.put(24, self.enqueued_ms.to_le_bytes());
        out.put(32, self.meta.first_ms.to_le_bytes());
        out.put(40, self.meta.last_ms.to_le_bytes());
        out.put(48, self.meta.samples.to_le_bytes());
        out.put(52, self.meta.histograms.to_le_bytes());
        out.put(56, self.meta.exemplars.to_le_bytes());
        out.put(60, self.meta.metadata.to_le_bytes());
        out.put(64, [KIND_REQUEST, self.meta.encoding.byte(), u8::from(self.meta.maybe_stored)]);
        let crc = crc32fast::hash(&bytes[8..]);
        Fields(&mut bytes).put(4, crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; RECORD_HEADER_BYTES]) -> Result<Self, BadHeader> {
        if bytes[..4] != RECORD_MAGIC || u32_at(bytes, 4) != crc32fast::hash(&bytes[8..]) {
            return Err(BadHeader::Damaged);
        }
        let (sequence, body_len) = (u64_at(bytes, 16), u32_at(bytes, 8));
        if sequence == 0 || body_len as usize > RECORD_BODY_BYTES_MAX {
            return Err(BadHeader::Damaged);
        }
        let Some(encoding) = Encoding::from_byte(bytes[65]).filter(|_| bytes[64] == KIND_REQUEST) else {
            return Err(BadHeader::Unknown { sequence, body_len });
        };
        Ok(Self {
            sequence,
            enqueued_ms: i64_at(bytes, 24),
            body_len,
            body_crc: u32_at(bytes, 12),
            meta: RecordMeta {
                samples: u32_at(bytes, 48),
                histograms: u32_at(bytes, 52),
                exemplars: u32_at(bytes, 56),
                metadata: u32_at(bytes, 60),
                first_ms: i64_at(bytes, 32),
                last_ms: i64_at(bytes, 40),
                encoding,
                maybe_stored: bytes[66] & MAYBE_STORED != 0,
            },
        })
    }
}

/// Puts fields at their places.
pub(crate) struct Fields<'b>(pub(crate) &'b mut [u8]);

impl Fields<'_> {
    pub(crate) fn put<const N: usize>(&mut self, at: usize, field: [u8; N]) {
        if let Some(place) = self.0.get_mut(at..at + N) {
            place.copy_from_slice(&field);
        }
    }
}

/// The field at `at`; bytes beyond the end read as zero.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|field| field.try_into().ok()).unwrap_or([0; N])
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(field(bytes, at))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(bytes, at))
}

pub(crate) fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(field(bytes, at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> RecordHeader {
        let meta = RecordMeta {
            samples: 1,
            histograms: 2,
            exemplars: 3,
            metadata: 4,
            first_ms: -5,
            last_ms: 6,
            encoding: Encoding::V2,
            maybe_stored: true,
        };
        RecordHeader::new(7, 8, meta, b"body")
    }

    #[test]
    fn a_header_lies_as_the_format_says() {
        let bytes = header().encode();
        assert_eq!(&bytes[..4], b"PREC");
        assert_eq!(bytes[8..12], 4_u32.to_le_bytes());
        assert_eq!(bytes[16..24], 7_u64.to_le_bytes());
        assert_eq!(bytes[32..40], (-5_i64).to_le_bytes());
        assert_eq!(bytes[60..68], [4, 0, 0, 0, 1, 2, 1, 0]);
        assert_eq!(RecordHeader::decode(&bytes), Ok(header()));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = header().encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&bad), Err(BadHeader::Damaged), "bit {bit}");
        }
    }

    #[test]
    fn an_unknown_kind_can_be_stepped_over() {
        let mut bytes = header().encode();
        bytes[64] = 9;
        let crc = crc32fast::hash(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(RecordHeader::decode(&bytes), Err(BadHeader::Unknown { sequence: 7, body_len: 4 }));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: [u8; RECORD_HEADER_BYTES / 2], more: [u8; RECORD_HEADER_BYTES / 2]) {
            let mut all = [0; RECORD_HEADER_BYTES];
            all[..36].copy_from_slice(&bytes);
            all[36..].copy_from_slice(&more);
            prop_assert!(RecordHeader::decode(&all).is_err());
        }
    }
}
