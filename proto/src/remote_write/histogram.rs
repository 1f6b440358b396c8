//! Native histograms as remote write sends them: the same message in 1.0 and 2.0, but for the start time that only
//! 2.0 has.

use prost::Message;

use crate::histogram::{Counts, NativeHistogram, ResetHint, Span};

/// `prometheus.Histogram` and `io.prometheus.write.v2.Histogram`.
#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    /// Number of observations.
    #[prost(oneof = "Count", tags = "1, 2")]
    pub count: Option<Count>,
    /// Sum of observations; the staleness marker where the series is stale.
    #[prost(double, tag = "3")]
    pub sum: f64,
    /// The resolution.
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    /// Width of the zero bucket.
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    #[prost(oneof = "ZeroCount", tags = "6, 7")]
    pub zero_count: Option<ZeroCount>,
    /// Buckets of negative observations.
    #[prost(message, repeated, tag = "8")]
    pub negative_spans: Vec<BucketSpan>,
    /// Whole numbers, as differences.
    #[prost(sint64, repeated, tag = "9")]
    pub negative_deltas: Vec<i64>,
    /// Floats, absolute.
    #[prost(double, repeated, tag = "10")]
    pub negative_counts: Vec<f64>,
    /// Buckets of positive observations.
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<BucketSpan>,
    /// Whole numbers, as differences.
    #[prost(sint64, repeated, tag = "12")]
    pub positive_deltas: Vec<i64>,
    /// Floats, absolute.
    #[prost(double, repeated, tag = "13")]
    pub positive_counts: Vec<f64>,
    /// What is known of counter resets.
    #[prost(enumeration = "ResetHint", tag = "14")]
    pub reset_hint: i32,
    /// Unix milliseconds.
    #[prost(int64, tag = "15")]
    pub timestamp: i64,
    /// Upper bounds of custom buckets; 1.0 asks senders not to use it.
    #[prost(double, repeated, tag = "16")]
    pub custom_values: Vec<f64>,
    /// When counting began, in Unix milliseconds; 0 where that is unknown. 2.0 only.
    #[prost(int64, tag = "17")]
    pub start_timestamp: i64,
}

/// Number of observations.
#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub enum Count {
    /// Whole.
    #[prost(uint64, tag = "1")]
    Int(u64),
    /// Float.
    #[prost(double, tag = "2")]
    Float(f64),
}

/// Observations in the zero bucket.
#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub enum ZeroCount {
    /// Whole.
    #[prost(uint64, tag = "6")]
    Int(u64),
    /// Float.
    #[prost(double, tag = "7")]
    Float(f64),
}

/// Consecutive buckets.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct BucketSpan {
    /// Buckets since the span before.
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    /// Number of buckets.
    #[prost(uint32, tag = "2")]
    pub length: u32,
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

    #[test]
    fn a_count_of_zero_is_written_since_its_type_says_what_the_buckets_are() {
        let message = Histogram::new(&all()[0], 1);
        assert_eq!((message.count, message.zero_count), (Some(Count::Int(0)), Some(ZeroCount::Int(0))));
        assert!(message.encode_to_vec().starts_with(&[0x08, 0x00]), "count_int = 1 as a varint");
    }

    #[test]
    fn a_stale_histogram_keeps_the_bits_of_its_sum() {
        let stale =
            NativeHistogram { sum: crate::remote_write::stale_marker(), ..NativeHistogram::default() };
        let bytes = Histogram::new(&stale, 1).encode_to_vec();
        let sum = Histogram::decode(&*bytes).unwrap().to_native().sum;
        assert_eq!(sum.to_bits(), crate::remote_write::STALE_NAN_BITS);
    }
}
