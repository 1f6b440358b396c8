//! A series of remote write 2.0 written out for 1.0.

use promring_proto::histogram::CUSTOM_BUCKETS_SCHEMA;

use super::fields::{fields, push_bytes};
use super::symbols::{EXEMPLARS, LABELS_REFS, Symbols, label_refs};
use super::{Unit, unit_of};

/// Fields of 2.0's `TimeSeries`.
const SAMPLES: u64 = 2;
const HISTOGRAMS: u64 = 3;
/// Field of a native histogram, and its value (as sint32) where the bounds are the histogram's own.
const SCHEMA: u64 = 4;
const CUSTOM_SCHEMA: u64 = 2 * CUSTOM_BUCKETS_SCHEMA.unsigned_abs() as u64 - 1;
/// Fields that 1.0's messages do not have.
const SAMPLE_START: u64 = 3;
const HISTOGRAM_START: u64 = 17;

/// The unit as remote write 1.0 has it: without start timestamps and native histograms with bounds of their own, which 1.0
/// does not know, and without metadata, which have requests of their own there. Exemplars of histograms come as a unit
/// behind it, as [`push_histogram_series`](promring_proto::remote_write::v1::push_histogram_series) has them. Empty:
/// there is nothing left of it.
pub(in crate::send) fn to_v1(unit: &Unit) -> Vec<Unit> {
    let Some(symbols) = unit.symbols.as_deref() else { return vec![unit.clone()] };
    let series = fields(&unit.bytes).next().and_then(|field| field.ok()?.content().ok());
    let Some(series) = series.filter(|_| unit.counts.points() > 0) else { return Vec::new() };
    let mut content = Vec::with_capacity(series.len() * 4);
    push_labels(series, symbols, &mut content);
    let labels_len = content.len();
    let (mut exemplars, mut histograms) = (Vec::new(), Vec::new());
    for field in fields(series).flatten() {
        let message = field.content().unwrap_or_default();
        match field.number {
            SAMPLES => push_without(2, message, SAMPLE_START, &mut content),
            HISTOGRAMS if is_custom(message) => {}
            HISTOGRAMS => push_without(4, message, HISTOGRAM_START, &mut histograms),
            EXEMPLARS => {
                let mut exemplar = Vec::new();
                push_labels(message, symbols, &mut exemplar);
                for inner in fields(message).flatten().filter(|inner| inner.number != LABELS_REFS) {
                    exemplar.extend_from_slice(inner.bytes);
                }
                push_bytes(3, &exemplar, &mut exemplars);
            }
            _ => {}
        }
    }
    let behind = if histograms.is_empty() {
        content.extend_from_slice(&exemplars);
        None
    } else {
        let labels = content.get(..labels_len).unwrap_or_default();
        (!exemplars.is_empty()).then(|| [labels, &*exemplars].concat())
    };
    content.extend_from_slice(&histograms);
    let of = |content: Vec<u8>| unit_of(1, &content, None).ok();
    match of(content).filter(|unit| unit.counts.points() > 0) {
        Some(unit) => [Some(unit), behind.and_then(of)].into_iter().flatten().collect(),
        None => Vec::new(),
    }
}

fn is_custom(histogram: &[u8]) -> bool {
    fields(histogram).flatten().any(|field| field.number == SCHEMA && field.varint() == CUSTOM_SCHEMA)
}

/// The labels that a `TimeSeries` or `Exemplar` refers to, as 1.0's `Label`s.
fn push_labels(message: &[u8], symbols: &Symbols, out: &mut Vec<u8>) {
    // Every reference was checked when the request was taken apart.
    let mut texts = label_refs(message).flatten().map(|reference| symbols.get(reference).unwrap_or_default());
    let mut label = Vec::new();
    while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
        label.clear();
        push_bytes(1, name, &mut label);
        push_bytes(2, value, &mut label);
        push_bytes(1, &label, out);
    }
}

fn push_without(number: u8, message: &[u8], left_out: u64, out: &mut Vec<u8>) {
    let mut kept = Vec::with_capacity(message.len());
    for field in fields(message).flatten().filter(|field| field.number != left_out) {
        kept.extend_from_slice(field.bytes);
    }
    push_bytes(number, &kept, out);
}
