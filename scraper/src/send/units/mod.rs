//! Requests taken apart and put together again, as bytes: each series is moved as it was encoded, so whatever it holds
//! (exemplars, native histograms, fields that are not known here) survives.
//!
//! A series of remote write 2.0 means something only with its request's table of symbols, so that it gets new references
//! where it moves to another request (`symbols`), or is written out for remote write 1.0 (`downgrade`).

mod downgrade;
mod fields;
mod symbols;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use promring_model::hash::FieldHasher;

use crate::queue::Encoding;
pub(super) use downgrade::to_v1;
use fields::{Field, fields, push_bytes};
pub(super) use fields::{SNAPPY_LENGTH_BYTES_MAX, snappy_parts};
use symbols::{Symbols, label_refs};

/// Most bytes of a request after decompression. A queue's record comes from ourselves; this bounds a damaged length.
const DECODED_BYTES_MAX: usize = 64 << 20;

/// How much a request holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) samples: u64,
    pub(super) histograms: u64,
    pub(super) exemplars: u64,
    pub(super) metadata: u64,
}

impl Counts {
    pub(super) fn points(&self) -> u64 {
        self.samples + self.histograms
    }

    pub(super) fn add(&mut self, other: Self) {
        self.samples += other.samples;
        self.histograms += other.histograms;
        self.exemplars += other.exemplars;
        self.metadata += other.metadata;
    }
}

/// What can be sent alone: a series with its samples, or an entry of 1.0's metadata, as a field of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// From the field's tag on.
    bytes: Bytes,
    /// What its references mean; None: it is one of remote write 1.0, which has none.
    symbols: Option<Arc<Symbols>>,
    pub(super) counts: Counts,
    /// Newest time of its samples, Unix milliseconds; None: it has none.
    pub(super) newest_ms: Option<i64>,
}

impl Unit {
    pub(super) fn encoding(&self) -> Encoding {
        if self.symbols.is_none() { Encoding::V1 } else { Encoding::V2 }
    }

    /// A hash of its labels, the same in every request, of 1.0 and of 2.0. None: it is no series.
    pub(super) fn series_hash(&self) -> Option<u64> {
        let field = fields(&self.bytes).next()?.ok()?;
        let series = field.content().ok()?;
        let mut hasher = FieldHasher::new();
        match &self.symbols {
            Some(symbols) => {
                for reference in label_refs(series).flatten() {
                    hasher.field(symbols.get(reference).unwrap_or_default());
                }
            }
            None if field.number == 1 => {
                for label in fields(series).flatten().filter(|inner| inner.number == 1) {
                    let label = label.content().ok()?;
                    for number in [1, 2] {
                        let text = fields(label).flatten().find(|inner| inner.number == number);
                        hasher.field(text.map_or(Ok(&[][..]), |text| text.content()).ok()?);
                    }
                }
            }
            None => return None,
        }
        Some(hasher.finish64())
    }

    /// Bytes that it takes in a request, before compression and without symbols.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// The bytes are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request cannot be decoded")]
pub(super) struct Undecodable;

/// Takes a request in snappy's block format apart.
pub(super) fn take_apart(encoding: Encoding, body: &[u8]) -> Result<Vec<Unit>, Undecodable> {
    let len = snap::raw::decompress_len(body).map_err(|_| Undecodable)?;
    if len > DECODED_BYTES_MAX {
        return Err(Undecodable);
    }
    let decoded = Bytes::from(snap::raw::Decoder::new().decompress_vec(body).map_err(|_| Undecodable)?);
    match encoding {
        Encoding::V1 => take_apart_v1(&decoded),
        Encoding::V2 => take_apart_v2(&decoded),
    }
}

/// `prometheus.WriteRequest`.
fn take_apart_v1(decoded: &Bytes) -> Result<Vec<Unit>, Undecodable> {
    let mut units = Vec::new();
    for field in fields(decoded) {
        let field = field?;
        let bytes = decoded.slice(field.start..field.end);
        match field.number {
            1 => {
                let (counts, newest_ms) = describe_series(field.content()?, &Shape::V1)?;
                units.push(Unit { bytes, symbols: None, counts, newest_ms });
            }
            3 => {
                let counts = Counts { metadata: 1, ..Counts::default() };
                units.push(Unit { bytes, symbols: None, counts, newest_ms: None });
            }
            _ => {}
        }
    }
    Ok(units)
}

/// `io.prometheus.write.v2.Request`.
fn take_apart_v2(decoded: &Bytes) -> Result<Vec<Unit>, Undecodable> {
    let symbols = Arc::new(Symbols::of(decoded)?);
    let mut units = Vec::new();
    for field in fields(decoded) {
        let field = field?;
        if field.number == 5 {
            let series = field.content()?;
            symbols.check(series)?;
            let (counts, newest_ms) = describe_series(series, &Shape::V2)?;
            let bytes = decoded.slice(field.start..field.end);
            units.push(Unit { bytes, symbols: Some(Arc::clone(&symbols)), counts, newest_ms });
        }
    }
    Ok(units)
}

/// Puts units of one encoding together to a request body in snappy's block format. The same units always give the same bytes.
pub(super) fn put_together(units: &[Unit]) -> Bytes {
    let mut decoded = Vec::with_capacity(units.iter().map(Unit::len).sum());
    match units.first().map_or(Encoding::V1, Unit::encoding) {
        Encoding::V1 => units.iter().for_each(|unit| decoded.extend_from_slice(&unit.bytes)),
        Encoding::V2 => {
            let parts = units.iter().filter_map(|unit| Some((&*unit.bytes, unit.symbols.as_deref()?)));
            symbols::put_together(parts, &mut decoded);
        }
    }
    let mut body = vec![0; snap::raw::max_compress_len(decoded.len())];
    // It fails for inputs of 4 GiB only, and the units come out of a request that was bounded.
    let len = snap::raw::Encoder::new().compress(&decoded, &mut body).unwrap_or(0);
    body.truncate(len);
    Bytes::from(body)
}

/// A series of several samples as several series of one each. None: it has one or none.
pub(super) fn one_sample_each(unit: &Unit) -> Option<Vec<Unit>> {
    if unit.counts.points() < 2 {
        return None;
    }
    let (shape, number) = match unit.encoding() {
        Encoding::V1 => (&Shape::V1, 1),
        Encoding::V2 => (&Shape::V2, 5),
    };
    let series = fields(&unit.bytes).next()?.ok()?.content().ok()?;
    let mut common = Vec::new();
    let mut points = Vec::new();
    let mut exemplars = Vec::new();
    for field in fields(series) {
        let field = field.ok()?;
        if shape.is_point(&field) {
            points.push(field.bytes);
        } else if field.number == shape.exemplars {
            exemplars.extend_from_slice(field.bytes);
        } else {
            common.extend_from_slice(field.bytes);
        }
    }
    let last = points.len() - 1;
    let units = points.into_iter().enumerate().map(|(at, point)| {
        let exemplars = if at == last { &*exemplars } else { &[] };
        let content = [&*common, point, exemplars].concat();
        unit_of(number, &content, unit.symbols.clone()).ok()
    });
    units.collect()
}

/// A unit of a series' content.
fn unit_of(number: u8, content: &[u8], symbols: Option<Arc<Symbols>>) -> Result<Unit, Undecodable> {
    let shape = if symbols.is_none() { &Shape::V1 } else { &Shape::V2 };
    let (counts, newest_ms) = describe_series(content, shape)?;
    let mut bytes = Vec::with_capacity(content.len() + 6);
    push_bytes(number, content, &mut bytes);
    Ok(Unit { bytes: Bytes::from(bytes), symbols, counts, newest_ms })
}

/// Numbers of a `TimeSeries`' fields.
struct Shape {
    samples: u64,
    histograms: u64,
    exemplars: u64,
    /// None: it stands elsewhere.
    metadata: Option<u64>,
}

impl Shape {
    const V1: Self = Self { samples: 2, histograms: 4, exemplars: 3, metadata: None };
    const V2: Self = Self { samples: 2, histograms: 3, exemplars: 4, metadata: Some(5) };

    fn is_point(&self, field: &Field<'_>) -> bool {
        field.number == self.samples || field.number == self.histograms
    }
}

/// Counts what a `TimeSeries` holds, and finds its newest time.
fn describe_series(series: &[u8], shape: &Shape) -> Result<(Counts, Option<i64>), Undecodable> {
    let mut counts = Counts::default();
    let mut newest_ms = None;
    for field in fields(series) {
        let field = field?;
        counts.exemplars += u64::from(field.number == shape.exemplars);
        counts.metadata += u64::from(Some(field.number) == shape.metadata);
        if !shape.is_point(&field) {
            continue;
        }
        let is_sample = field.number == shape.samples;
        counts.samples += u64::from(is_sample);
        counts.histograms += u64::from(!is_sample);
        // Sample.timestamp is field 2, Histogram.timestamp field 15, in both versions.
        let timestamp = if is_sample { 2 } else { 15 };
        let mut at_ms = 0;
        for inner in fields(field.content()?) {
            let inner = inner?;
            if inner.number == timestamp {
                at_ms = inner.varint() as i64;
            }
        }
        newest_ms = newest_ms.max(Some(at_ms));
    }
    Ok((counts, newest_ms))
}
