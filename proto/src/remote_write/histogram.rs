//! Native histograms to and from the message that remote write has for them: the same in 1.0 and 2.0, but for the start
//! time that only 2.0 has.

use super::v2::{BucketSpan, Count, Histogram, ZeroCount};
use crate::histogram::{Counts, NativeHistogram, ResetHint, Span};

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
