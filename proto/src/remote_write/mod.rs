//! Remote write: what samples travel in.

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
