//! Remote write 1.0: `prometheus.WriteRequest`.
//!
//! The message types are what receivers and tests decode with. The sender writes by hand: [`encode_labels`] once
//! a series, and [`push_series`] for every sample after that, which is two copies and a few varints.

use prost::Message;

use super::varint::{push_varint, varint_len};

/// A request: series with samples, and metadata of metric families.
#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    /// Series, in any order.
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
    /// Metadata.
    #[prost(message, repeated, tag = "3")]
    pub metadata: Vec<MetricMetadata>,
}

/// Labels and samples of one series.
#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    /// Sorted by name, unique, none empty.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// Samples in order of time.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
}

/// One label.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Label {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// One sample.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Sample {
    /// The value; staleness markers are a NaN with bits of its own.
    #[prost(double, tag = "1")]
    pub value: f64,
    /// Unix milliseconds.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// What is known of a metric family.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MetricMetadata {
    /// Type, as in Prometheus's `prompb`.
    #[prost(enumeration = "MetricType", tag = "1")]
    pub metric_type: i32,
    /// Name of the family.
    #[prost(string, tag = "2")]
    pub metric_family_name: String,
    /// Help text.
    #[prost(string, tag = "4")]
    pub help: String,
    /// Unit.
    #[prost(string, tag = "5")]
    pub unit: String,
}

/// Type of a metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum MetricType {
    /// Nothing said.
    Unknown = 0,
    /// Only goes up.
    Counter = 1,
    /// Goes up and down.
    Gauge = 2,
    /// Counts in buckets.
    Histogram = 3,
    /// A histogram that can go down.
    GaugeHistogram = 4,
    /// Quantiles.
    Summary = 5,
    /// A constant with labels.
    Info = 6,
    /// One of several states.
    StateSet = 7,
}

/// Appends the label fields of a `TimeSeries`: what stays the same for a series as long as it lives.
/// The labels must be sorted by name, unique, and none of them empty.
pub fn encode_labels<'l>(labels: impl IntoIterator<Item = (&'l str, &'l str)>, out: &mut Vec<u8>) {
    for (name, value) in labels {
        let inner =
            2 + varint_len(name.len() as u64) + name.len() + varint_len(value.len() as u64) + value.len();
        out.push(0x0a); // TimeSeries.labels = 1, length-delimited
        push_varint(out, inner as u64);
        out.push(0x0a); // Label.name = 1
        push_varint(out, name.len() as u64);
        out.extend_from_slice(name.as_bytes());
        out.push(0x12); // Label.value = 2
        push_varint(out, value.len() as u64);
        out.extend_from_slice(value.as_bytes());
    }
}

/// Appends one series with one sample to a `WriteRequest`. `labels` is what [`encode_labels`] made.
pub fn push_series(labels: &[u8], value: f64, timestamp_ms: i64, out: &mut Vec<u8>) {
    // proto3 leaves out fields of value zero; a negative zero has bits, so it stays.
    let value_len = if value.to_bits() == 0 { 0 } else { 9 };
    let time_len = if timestamp_ms == 0 { 0 } else { 1 + varint_len(timestamp_ms as u64) };
    let sample_len = value_len + time_len;
    let series_len = labels.len() + 1 + varint_len(sample_len as u64) + sample_len;
    out.push(0x0a); // WriteRequest.timeseries = 1
    push_varint(out, series_len as u64);
    out.extend_from_slice(labels);
    out.push(0x12); // TimeSeries.samples = 2
    push_varint(out, sample_len as u64);
    if value_len > 0 {
        out.push(0x09); // Sample.value = 1, fixed64
        out.extend_from_slice(&value.to_bits().to_le_bytes());
    }
    if time_len > 0 {
        out.push(0x10); // Sample.timestamp = 2, varint
        push_varint(out, timestamp_ms as u64);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Series = (Vec<(String, String)>, f64, i64);

    fn by_hand(series: &[Series]) -> Vec<u8> {
        let mut out = Vec::new();
        for (labels, value, time) in series {
            let mut encoded = Vec::new();
            encode_labels(labels.iter().map(|(n, v)| (n.as_str(), v.as_str())), &mut encoded);
            push_series(&encoded, *value, *time, &mut out);
        }
        out
    }

    fn by_prost(series: &[Series]) -> Vec<u8> {
        let timeseries = series
            .iter()
            .map(|(labels, value, timestamp)| TimeSeries {
                labels: labels
                    .iter()
                    .map(|(name, value)| Label { name: name.clone(), value: value.clone() })
                    .collect(),
                samples: vec![Sample { value: *value, timestamp: *timestamp }],
            })
            .collect();
        WriteRequest { timeseries, metadata: Vec::new() }.encode_to_vec()
    }

    #[test]
    fn a_staleness_marker_keeps_its_bits() {
        let bytes = by_hand(&[(vec![("a".into(), "b".into())], super::super::stale_marker(), 1)]);
        let request = WriteRequest::decode(&*bytes).unwrap();
        assert_eq!(request.timeseries[0].samples[0].value.to_bits(), super::super::STALE_NAN_BITS);
    }

    #[test]
    fn a_negative_zero_stays_negative() {
        let bytes = by_hand(&[(Vec::new(), -0.0, 1)]);
        let request = WriteRequest::decode(&*bytes).unwrap();
        assert!(request.timeseries[0].samples[0].value.is_sign_negative());
    }

    proptest! {
        #[test]
        fn encoding_by_hand_gives_the_bytes_that_prost_gives(
            series in proptest::collection::vec(
                (
                    proptest::collection::vec(("[a-z]{1,200}", ".{1,300}"), 0..8),
                    prop_oneof![Just(0.0), any::<f64>()].prop_filter("prost leaves out -0.0", |v| v.to_bits() != (-0.0_f64).to_bits()),
                    prop_oneof![Just(0_i64), any::<i64>()],
                ),
                0..20,
            )
        ) {
            prop_assert_eq!(by_hand(&series), by_prost(&series));
        }
    }
}
