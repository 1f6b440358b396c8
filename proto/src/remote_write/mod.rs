//! Remote write: what samples travel in.

use crate::pen::Padded;
use crate::varint::push_varint;

pub mod histogram;
pub mod v1;
pub mod v2;

/// The bits of the NaN that marks a series as stale
/// (Prometheus, `model/value`). It must be moved as bits: computing on it would lose the payload.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The bits of an ordinary NaN, as every other NaN is normalised when it is parsed.
pub const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// Whether `value` is a staleness marker.
#[must_use]
pub fn is_stale_marker(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// The staleness marker.
#[must_use]
pub fn stale_marker() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// The field with the time of a sample, which both versions have alike, encoded once for all samples of that time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeField {
    timestamp_ms: i64,
    bytes: Padded,
}

impl TimeField {
    /// Makes it that of another time, in Unix milliseconds.
    #[inline]
    pub fn set(&mut self, timestamp_ms: i64) {
        if timestamp_ms != self.timestamp_ms {
            self.encode(timestamp_ms);
        }
    }

    fn encode(&mut self, timestamp_ms: i64) {
        self.timestamp_ms = timestamp_ms;
        self.bytes.fill(|bytes| {
            // proto3 leaves out fields of value zero.
            if timestamp_ms != 0 {
                bytes.push(0x10); // Sample.timestamp = 2, varint
                push_varint(bytes, timestamp_ms as u64);
            }
        });
    }
}

impl From<i64> for TimeField {
    fn from(timestamp_ms: i64) -> Self {
        let mut field = Self::default();
        field.encode(timestamp_ms);
        field
    }
}
