//! Native histograms to and from the message that remote write has for them: the same in 1.0 and 2.0, but for the start
//! time that only 2.0 has.

use super::v2::{BucketSpan, Count, Histogram, ZeroCount};
use crate::histogram::{Counts, NativeHistogram, ResetHint, Span};
use crate::varint::{push_varint, varint_len};

/// Appends the content of the message for `histogram` at `timestamp` in Unix milliseconds, by hand. A start time, which
/// only 2.0 has, may follow it ([`push_start`]).
pub fn push_content(histogram: &NativeHistogram, timestamp: i64, out: &mut Vec<u8>) {
    match &histogram.counts {
        Counts::Integer { count, .. } => {
            out.push(0x08); // count_int = 1
            push_varint(out, *count);
        }
        Counts::Float { count, .. } => {
            out.push(0x11); // count_float = 2
            out.extend_from_slice(&count.to_le_bytes());
        }
    }
    push_double(0x19, histogram.sum, out); // sum = 3
    if histogram.schema != 0 {
        out.push(0x20); // schema = 4, sint32
        push_varint(out, zigzag(histogram.schema.into()));
    }
    push_double(0x29, histogram.zero_threshold, out); // zero_threshold = 5
    match &histogram.counts {
        Counts::Integer { zero_count, .. } => {
            out.push(0x30); // zero_count_int = 6
            push_varint(out, *zero_count);
        }
        Counts::Float { zero_count, .. } => {
            out.push(0x39); // zero_count_float = 7
            out.extend_from_slice(&zero_count.to_le_bytes());
        }
    }
    // negative_spans = 8, _deltas = 9, _counts = 10; positive_spans = 11, _deltas = 12, _counts = 13
    push_spans(0x42, &histogram.negative_spans, out);
    match &histogram.counts {
        Counts::Integer { negative_deltas, .. } => push_deltas(0x4a, negative_deltas, out),
        Counts::Float { negative_counts, .. } => push_doubles(&[0x52], negative_counts, out),
    }
    push_spans(0x5a, &histogram.positive_spans, out);
    match &histogram.counts {
        Counts::Integer { positive_deltas, .. } => push_deltas(0x62, positive_deltas, out),
        Counts::Float { positive_counts, .. } => push_doubles(&[0x6a], positive_counts, out),
    }
    if histogram.reset_hint != ResetHint::Unknown {
        out.extend_from_slice(&[0x70, histogram.reset_hint as u8]); // reset_hint = 14
    }
    if timestamp != 0 {
        out.push(0x78); // timestamp = 15
        push_varint(out, timestamp as u64);
    }
    push_doubles(&[0x82, 0x01], &histogram.custom_values, out); // custom_values = 16
}

/// Bytes of what [`push_start`] appends.
#[must_use]
pub fn start_len(start_ms: i64) -> usize {
    if start_ms == 0 { 0 } else { 2 + varint_len(start_ms as u64) }
}

/// Appends the time at which counting began, in Unix milliseconds; nothing where it is not known, which is 0.
pub fn push_start(start_ms: i64, out: &mut Vec<u8>) {
    if start_ms != 0 {
        out.extend_from_slice(&[0x88, 0x01]); // start_timestamp = 17
        push_varint(out, start_ms as u64);
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn push_double(tag: u8, value: f64, out: &mut Vec<u8>) {
    // proto3 leaves out fields of value zero; a negative zero has bits, so it stays.
    if value.to_bits() != 0 {
        out.push(tag);
        out.extend_from_slice(&value.to_bits().to_le_bytes());
    }
}

fn push_doubles(tag: &[u8], values: &[f64], out: &mut Vec<u8>) {
    if !values.is_empty() {
        out.extend_from_slice(tag);
        push_varint(out, values.len() as u64 * 8);
        values.iter().for_each(|value| out.extend_from_slice(&value.to_bits().to_le_bytes()));
    }
}

fn push_deltas(tag: u8, deltas: &[i64], out: &mut Vec<u8>) {
    if !deltas.is_empty() {
        out.push(tag);
        push_varint(out, deltas.iter().map(|delta| varint_len(zigzag(*delta)) as u64).sum());
        deltas.iter().for_each(|delta| push_varint(out, zigzag(*delta)));
    }
}

fn push_spans(tag: u8, spans: &[Span], out: &mut Vec<u8>) {
    for span in spans {
        let (offset, length) = (zigzag(span.offset.into()), u64::from(span.length));
        let len = |value| if value == 0 { 0 } else { 1 + varint_len(value) };
        out.push(tag);
        push_varint(out, (len(offset) + len(length)) as u64);
        if offset != 0 {
            out.push(0x08); // offset = 1, sint32
            push_varint(out, offset);
        }
        if length != 0 {
            out.push(0x10); // length = 2
            push_varint(out, length);
        }
    }
}

impl Histogram {
    /// The message for `histogram` at `timestamp` in Unix milliseconds.
    #[must_use]
    pub fn new(histogram: &NativeHistogram, timestamp: i64) -> Self {
        let spans = |spans: &[Span]| {
            let message = |span: &Span| BucketSpan { offset: span.offset, length: span.length };
            spans.iter().map(message).collect()
        };
        let mut message = Self {
            sum: histogram.sum,
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            negative_spans: spans(&histogram.negative_spans),
            positive_spans: spans(&histogram.positive_spans),
            reset_hint: histogram.reset_hint as i32,
            timestamp,
            custom_values: histogram.custom_values.clone(),
            ..Self::default()
        };
        match &histogram.counts {
            Counts::Integer { count, zero_count, positive_deltas, negative_deltas } => {
                message.count = Some(Count::Int(*count));
                message.zero_count = Some(ZeroCount::Int(*zero_count));
                message.positive_deltas.clone_from(positive_deltas);
                message.negative_deltas.clone_from(negative_deltas);
            }
            Counts::Float { count, zero_count, positive_counts, negative_counts } => {
                message.count = Some(Count::Float(*count));
                message.zero_count = Some(ZeroCount::Float(*zero_count));
                message.positive_counts.clone_from(positive_counts);
                message.negative_counts.clone_from(negative_counts);
            }
        }
        message
    }

    /// The histogram in the message, as a receiver reads it: the type of the count decides between whole numbers
    /// and floats.
    #[must_use]
    pub fn to_native(&self) -> NativeHistogram {
        let spans = |spans: &[BucketSpan]| {
            let span = |span: &BucketSpan| Span { offset: span.offset, length: span.length };
            spans.iter().map(span).collect()
        };
        let counts = match self.count {
            Some(Count::Float(count)) => Counts::Float {
                count,
                zero_count: match self.zero_count {
                    Some(ZeroCount::Float(count)) => count,
                    Some(ZeroCount::Int(_)) | None => 0.0,
                },
                positive_counts: self.positive_counts.clone(),
                negative_counts: self.negative_counts.clone(),
            },
            Some(Count::Int(_)) | None => Counts::Integer {
                count: match self.count {
                    Some(Count::Int(count)) => count,
                    Some(Count::Float(_)) | None => 0,
                },
                zero_count: match self.zero_count {
                    Some(ZeroCount::Int(count)) => count,
                    Some(ZeroCount::Float(_)) | None => 0,
                },
                positive_deltas: self.positive_deltas.clone(),
                negative_deltas: self.negative_deltas.clone(),
            },
        };
        NativeHistogram {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            sum: self.sum,
            reset_hint: ResetHint::try_from(self.reset_hint).unwrap_or_default(),
            positive_spans: spans(&self.positive_spans),
            negative_spans: spans(&self.negative_spans),
            counts,
            custom_values: self.custom_values.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn histogram(counts: Counts) -> NativeHistogram {
        NativeHistogram {
            schema: -4,
            zero_threshold: 0.001,
            sum: -3.5,
            reset_hint: ResetHint::Gauge,
            positive_spans: vec![Span { offset: -7, length: 2 }],
            negative_spans: vec![Span { offset: 3, length: 1 }],
            counts,
            custom_values: vec![1.0, 2.0],
        }
    }

    fn all() -> [NativeHistogram; 2] {
        [
            histogram(Counts::Integer {
                count: 0,
                zero_count: 0,
                positive_deltas: vec![5, -3],
                negative_deltas: vec![1],
            }),
            histogram(Counts::Float {
                count: 9.5,
                zero_count: 0.0,
                positive_counts: vec![5.0, 2.0],
                negative_counts: vec![1.5],
            }),
        ]
    }

    #[test]
    fn what_is_sent_is_received_the_same() {
        for histogram in all() {
            let bytes = Histogram::new(&histogram, 1_700_000_000_000).encode_to_vec();
            let message = Histogram::decode(&*bytes).unwrap();
            assert_eq!(message.timestamp, 1_700_000_000_000);
            assert_eq!(message.to_native(), histogram);
        }
    }

    fn by_hand(histogram: &NativeHistogram, timestamp: i64, start_ms: i64) -> Vec<u8> {
        let mut out = Vec::new();
        push_content(histogram, timestamp, &mut out);
        let before = out.len();
        push_start(start_ms, &mut out);
        assert_eq!(out.len() - before, start_len(start_ms));
        out
    }

    fn any_histogram() -> impl Strategy<Value = NativeHistogram> {
        // prost leaves out -0.0.
        let double = || any::<f64>().prop_map(|value| if value == 0.0 { 0.0 } else { value });
        let doubles = move || proptest::collection::vec(any::<f64>(), 0..5);
        let spans = || {
            let span = (any::<i32>(), any::<u32>());
            proptest::collection::vec(span.prop_map(|(offset, length)| Span { offset, length }), 0..4)
        };
        let deltas = || proptest::collection::vec(any::<i64>(), 0..5);
        let integer = (any::<u64>(), any::<u64>(), deltas(), deltas()).prop_map(
            |(count, zero_count, positive_deltas, negative_deltas)| Counts::Integer {
                count,
                zero_count,
                positive_deltas,
                negative_deltas,
            },
        );
        let float = (any::<f64>(), any::<f64>(), doubles(), doubles()).prop_map(
            |(count, zero_count, positive_counts, negative_counts)| Counts::Float {
                count,
                zero_count,
                positive_counts,
                negative_counts,
            },
        );
        let head = (prop_oneof![Just(0), -60..60], double(), double(), 0..4);
        (head, spans(), spans(), prop_oneof![integer, float], doubles()).prop_map(
            |((schema, zero_threshold, sum, hint), positive_spans, negative_spans, counts, custom_values)| {
                NativeHistogram {
                    schema,
                    zero_threshold,
                    sum,
                    reset_hint: ResetHint::try_from(hint).unwrap(),
                    positive_spans,
                    negative_spans,
                    counts,
                    custom_values,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn encoding_by_hand_gives_the_bytes_that_prost_gives(
            histogram in any_histogram(),
            timestamp in prop_oneof![Just(0_i64), any::<i64>()],
            start_timestamp in prop_oneof![Just(0_i64), any::<i64>()],
        ) {
            let by_prost = Histogram { start_timestamp, ..Histogram::new(&histogram, timestamp) };
            prop_assert_eq!(by_hand(&histogram, timestamp, start_timestamp), by_prost.encode_to_vec());
        }
    }

    #[test]
    fn a_count_of_zero_is_written_since_its_type_says_what_the_buckets_are() {
        let message = Histogram::new(&all()[0], 1);
        assert_eq!((message.count, message.zero_count), (Some(Count::Int(0)), Some(ZeroCount::Int(0))));
        assert!(message.encode_to_vec().starts_with(&[0x08, 0x00]), "count_int = 1 as a varint");
    }

    #[test]
    fn a_stale_histogram_keeps_the_bits_of_its_sum() {
        for is_float in [false, true] {
            let message = Histogram::decode(&*by_hand(&NativeHistogram::stale(is_float), 1, 0)).unwrap();
            let received = message.to_native();
            assert_eq!(received.sum.to_bits(), crate::remote_write::STALE_NAN_BITS);
            assert_eq!((received.is_float(), received.buckets()), (is_float, 0));
        }
    }
}
