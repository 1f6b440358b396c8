//! Neighbouring records in one request body. The same records always give the same bytes: a request that is sent again,
//! after a restart too, is the one that was sent before.

use bytes::Bytes;
use promring_proto::varint::push_varint;

use super::units::{SNAPPY_LENGTH_BYTES_MAX, Unit, put_together, snappy_parts, take_apart};
use crate::queue::Encoding;

/// Neighbours are not joined to more than this before compression: receivers limit bodies.
pub(super) const JOINED_BYTES_MAX: usize = 4 << 20;

/// A body in the making.
pub(super) struct Joined {
    /// Bytes before compression; of 2.0 before the tables of symbols are made one.
    len: usize,
    parts: Parts,
}

enum Parts {
    /// Snappy blocks as one: their elements one after the other, under the sum of their lengths. A copy element reaches
    /// back into what its own block has made, so it means the same wherever the block stands.
    V1(Vec<u8>),
    /// Series of all of them, which get one table of symbols.
    V2(Vec<Unit>),
}

impl Joined {
    /// None: nothing can be joined to this record, which is no snappy block.
    pub(super) fn begin(encoding: Encoding, first: &[u8]) -> Option<Self> {
        let (len, _) = snappy_parts(first)?;
        let parts = match encoding {
            Encoding::V1 => Parts::V1(Vec::new()),
            Encoding::V2 => Parts::V2(Vec::new()),
        };
        Some(Self { len, parts })
    }

    /// Joins the next record to those before it. False: it is none that can be, or there would be too much of them if
    /// `bounded`.
    pub(super) fn add(&mut self, first: &[u8], next: &[u8], bounded: bool) -> bool {
        let Some((len, elements)) = snappy_parts(next) else { return false };
        if bounded && self.len.saturating_add(len) > JOINED_BYTES_MAX {
            return false;
        }
        match &mut self.parts {
            Parts::V1(body) => {
                if body.is_empty() {
                    let Some((_, elements)) = snappy_parts(first) else { return false };
                    // Room in front for the summed length.
                    body.resize(SNAPPY_LENGTH_BYTES_MAX, 0);
                    body.extend_from_slice(elements);
                }
                body.extend_from_slice(elements);
            }
            Parts::V2(units) => {
                // A record that cannot be decoded must not take others with it.
                let Ok(more) = take_apart(Encoding::V2, next) else { return false };
                if units.is_empty() {
                    let Ok(begun) = take_apart(Encoding::V2, first) else { return false };
                    *units = begun;
                }
                units.extend(more);
            }
        }
        self.len += len;
        true
    }

    /// The body; None: nothing was joined to the first record.
    pub(super) fn finish(self) -> Option<Bytes> {
        match self.parts {
            Parts::V1(body) if body.is_empty() => None,
            Parts::V1(mut body) => {
                let mut varint = Vec::with_capacity(SNAPPY_LENGTH_BYTES_MAX);
                push_varint(&mut varint, self.len as u64);
                let start = SNAPPY_LENGTH_BYTES_MAX.saturating_sub(varint.len());
                if let Some(place) = body.get_mut(start..start + varint.len()) {
                    place.copy_from_slice(&varint);
                }
                Some(Bytes::from(body).slice(start..))
            }
            Parts::V2(units) if units.is_empty() => None,
            Parts::V2(units) => Some(put_together(&units)),
        }
    }
}
