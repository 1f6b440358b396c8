//! Exemplars in protobuf.

use super::metric::{Bucket, next_message, read_label_bytes};
use super::wire::{Fields, WireResult};
use crate::parse::exemplar::Exemplar;
use crate::parse::number::normalise_nan;
use crate::parse::series::Pairs;

/// Reads an `Exemplar` message. Name and value of a label may be any bytes.
pub(in crate::parse) fn read_exemplar<'b>(
    message: &'b [u8],
    mut label: impl FnMut((&'b [u8], &'b [u8])),
) -> WireResult<(f64, Option<i64>)> {
    let (mut value, mut timestamp_ms) = (0.0, None);
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => label(read_label_bytes(field)?),
            2 => value = normalise_nan(field.double()?),
            3 => timestamp_ms = Some(read_timestamp(field.bytes()?)?),
            _ => {}
        }
    }
    Ok((value, timestamp_ms))
}

/// Takes one exemplar apart. None: a name or a value of its labels is not UTF-8, which no request can carry.
pub(in crate::parse) fn exemplar_of(message: &[u8]) -> WireResult<Option<Exemplar<'_>>> {
    let (mut labels, mut is_text) = (Pairs::new(), true);
    let (value, timestamp_ms) = read_exemplar(message, |(name, value)| {
        match (std::str::from_utf8(name), std::str::from_utf8(value)) {
            (Ok(name), Ok(value)) => labels.push((name.into(), value.into())),
            _ => is_text = false,
        }
    })?;
    Ok(is_text.then_some(Exemplar { labels, value, timestamp_ms }))
}

/// The exemplars of a native histogram that have a timestamp: its own, or those of its classic buckets where it has
/// none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::parse) struct NativeExemplars<'b> {
    fields: Fields<'b>,
    in_buckets: bool,
}

impl<'b> NativeExemplars<'b> {
    /// Looks at all of them; None where there is none.
    pub(super) fn new(histogram: &'b [u8]) -> WireResult<Option<Self>> {
        let in_buckets = next_message(&mut Fields::new(histogram), OWN)?.is_none();
        let exemplars = Self { fields: Fields::new(histogram), in_buckets };
        let (mut all, mut some) = (exemplars, false);
        while all.next()?.is_some() {
            some = true;
        }
        Ok(some.then_some(exemplars))
    }

    /// The message that they stand in.
    pub(in crate::parse) fn bytes(&self) -> &'b [u8] {
        self.fields.rest()
    }

    pub(in crate::parse) fn next(&mut self) -> WireResult<Option<Exemplar<'b>>> {
        let wanted = if self.in_buckets { BUCKET } else { OWN };
        while let Some(message) = next_message(&mut self.fields, wanted)? {
            let message = if self.in_buckets { Bucket::read(message)?.exemplar } else { Some(message) };
            let Some(message) = message else { continue };
            // Without one it cannot be told from an older exemplar with the same value.
            if read_exemplar(message, |_| {})?.1.is_some()
                && let Some(exemplar) = exemplar_of(message)?
            {
                return Ok(Some(exemplar));
            }
        }
        Ok(None)
    }
}

/// Numbers of fields of `Histogram`.
const BUCKET: u32 = 3;
const OWN: u32 = 16;

/// A `google.protobuf.Timestamp` in Unix milliseconds.
pub(super) fn read_timestamp(message: &[u8]) -> WireResult<i64> {
    let (mut seconds, mut nanos) = (0_i64, 0_i32);
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => seconds = field.varint()? as i64,
            2 => nanos = field.varint()? as i32,
            _ => {}
        }
    }
    Ok(seconds.saturating_mul(1_000).saturating_add(i64::from(nanos / 1_000_000)))
}
