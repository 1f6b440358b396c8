//! One `Metric` message: what is read at once, and what is read when it is asked for.

use promring_proto::histogram::NativeHistogram;

use super::exemplar::read_timestamp;
use super::wire::{Field, Fields, WireResult};
use crate::parse::classic::ClassicHistogram;
use crate::parse::number::normalise_nan;

/// A metric, of which only the field that its family's type names has been looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Metric<'b> {
    /// From the first label field to the last one; whatever else lies between is skipped.
    pub(super) labels: &'b [u8],
    /// The message of the field that the type names; empty where it is missing.
    pub(super) value: &'b [u8],
    /// 0 is none.
    pub(super) timestamp_ms: Option<i64>,
}

impl<'b> Metric<'b> {
    /// Reads the message; `number` is the field that the family's type names.
    pub(super) fn read(message: &'b [u8], number: u32) -> WireResult<Self> {
        let mut metric = Self::default();
        let mut fields = Fields::new(message);
        let mut labels = None;
        loop {
            let start = message.len() - fields.rest().len();
            let Some((found, field)) = fields.next()? else { break };
            match found {
                1 => {
                    field.bytes()?;
                    let end = message.len() - fields.rest().len();
                    labels = Some((labels.map_or(start, |(first, _)| first), end));
                }
                6 => metric.timestamp_ms = Some(field.varint()? as i64).filter(|&ms| ms != 0),
                2..=5 | 7 => {
                    let bytes = field.bytes()?;
                    if found == number {
                        metric.value = bytes;
                    }
                }
                _ => {}
            }
        }
        if let Some((start, end)) = labels {
            metric.labels = &message[start..end];
        }
        Ok(metric)
    }
}

/// What `Gauge`, `Untyped` and `Counter` hold; only a counter has more than the value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PlainValue<'b> {
    pub(super) value: f64,
    /// Message of the exemplar.
    pub(super) exemplar: Option<&'b [u8]>,
    /// Message of the time at which counting began.
    pub(super) start: Option<&'b [u8]>,
}

/// Reads a `Gauge`, `Untyped` or `Counter`.
pub(super) fn read_value(message: &[u8]) -> WireResult<PlainValue<'_>> {
    let mut read = PlainValue::default();
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => read.value = normalise_nan(field.double()?),
            2 => read.exemplar = Some(field.bytes()?),
            3 => read.start = Some(field.bytes()?),
            _ => {}
        }
    }
    Ok(read)
}

/// Count, sum and the time at which counting began (0: not known) of a `Summary`.
pub(super) fn read_summary(message: &[u8]) -> WireResult<(f64, f64, i64)> {
    let (mut count, mut sum, mut start_ms) = (0, 0.0, 0);
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => count = field.varint()?,
            2 => sum = field.double()?,
            4 => start_ms = read_timestamp(field.bytes()?)?,
            _ => {}
        }
    }
    Ok((count as f64, normalise_nan(sum), start_ms))
}

/// Quantile and value.
pub(super) fn read_quantile(message: &[u8]) -> WireResult<(f64, f64)> {
    let (mut quantile, mut value) = (0.0, 0.0);
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => quantile = field.double()?,
            2 => value = field.double()?,
            _ => {}
        }
    }
    Ok((quantile, normalise_nan(value)))
}

/// What is asked of a `Histogram` first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HistogramHead {
    pub(super) count: f64,
    pub(super) sum: f64,
    /// It has spans, a zero threshold or a zero count.
    pub(super) is_native: bool,
    pub(super) has_buckets: bool,
    /// When counting began, in Unix milliseconds; 0: not known.
    pub(super) start_ms: i64,
}

impl HistogramHead {
    pub(super) fn read(message: &[u8]) -> WireResult<Self> {
        let mut head = Self::default();
        let (mut count, mut count_float) = (0, 0.0);
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => count = field.varint()?,
                2 => head.sum = normalise_nan(field.double()?),
                3 => head.has_buckets = field.bytes().map(|_| true)?,
                4 => count_float = field.double()?,
                6 => head.is_native |= field.double()? > 0.0,
                7 => head.is_native |= field.varint()? > 0,
                9 | 12 => head.is_native |= field.bytes().map(|_| true)?,
                15 => head.start_ms = read_timestamp(field.bytes()?)?,
                _ => {}
            }
        }
        head.count = either_count(count, count_float);
        Ok(head)
    }

    /// Its classic part as a native histogram with custom bounds.
    pub(super) fn convert(&self, message: &[u8], is_gauge: bool) -> WireResult<NativeHistogram> {
        let mut classic = ClassicHistogram::default();
        classic.count(self.count);
        classic.sum(self.sum);
        let mut fields = Fields::new(message);
        while let Some(message) = next_message(&mut fields, 3)? {
            let bucket = Bucket::read(message)?;
            classic.bucket(bucket.upper_bound, bucket.count);
        }
        classic.convert(is_gauge)
    }
}

/// A classic `Bucket`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket<'b> {
    pub(super) upper_bound: f64,
    pub(super) count: f64,
    pub(super) exemplar: Option<&'b [u8]>,
}

impl<'b> Bucket<'b> {
    pub(super) fn read(message: &'b [u8]) -> WireResult<Self> {
        let mut bucket = Self { upper_bound: 0.0, count: 0.0, exemplar: None };
        let (mut count, mut count_float) = (0, 0.0);
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => count = field.varint()?,
                2 => bucket.upper_bound = field.double()?,
                3 => bucket.exemplar = Some(field.bytes()?),
                4 => count_float = field.double()?,
                _ => {}
            }
        }
        bucket.count = either_count(count, count_float);
        Ok(bucket)
    }
}

/// The float goes before the whole number, unless it is 0.
fn either_count(count: u64, count_float: f64) -> f64 {
    if count_float == 0.0 { count as f64 } else { normalise_nan(count_float) }
}

/// The next message in field `wanted`.
pub(super) fn next_message<'b>(fields: &mut Fields<'b>, wanted: u32) -> WireResult<Option<&'b [u8]>> {
    while let Some((number, field)) = fields.next()? {
        if number == wanted {
            return field.bytes().map(Some);
        }
    }
    Ok(None)
}

/// A `LabelPair`.
pub(in crate::parse) fn read_label(field: Field<'_>) -> WireResult<(&str, &str)> {
    let (mut name, mut value) = ("", "");
    let mut fields = Fields::new(field.bytes()?);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => name = field.text()?,
            2 => value = field.text()?,
            _ => {}
        }
    }
    Ok((name, value))
}

/// The same, whether it is UTF-8 or not.
pub(super) fn read_label_bytes(field: Field<'_>) -> WireResult<(&[u8], &[u8])> {
    let (mut name, mut value) = (&[][..], &[][..]);
    let mut fields = Fields::new(field.bytes()?);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => name = field.bytes()?,
            2 => value = field.bytes()?,
            _ => {}
        }
    }
    Ok((name, value))
}
