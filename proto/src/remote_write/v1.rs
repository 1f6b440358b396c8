//! Remote write 1.0: `prometheus.WriteRequest`.
//!
//! The message types are what receivers and tests decode with. The sender writes by hand: [`encode_labels`] once
//! a series, and [`push_series`] for every sample after that, which is two copies and a few varints; or, where labels are
//! put together anew for each sample, [`put_label`] and [`put_sample_series`].

use prost::Message;

use super::TimeField;
use crate::pen::{self, Padded, Pen};
use crate::varint::{push_varint, varint_len};

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
    /// Exemplars in order of time.
    #[prost(message, repeated, tag = "3")]
    pub exemplars: Vec<Exemplar>,
    /// Native histograms in order of time; `start_timestamp` is not of this version.
    #[prost(message, repeated, tag = "4")]
    pub histograms: Vec<super::v2::Histogram>,
}

/// An example of what was counted.
#[derive(Clone, PartialEq, Message)]
pub struct Exemplar {
    /// Its labels.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// The value that was observed.
    #[prost(double, tag = "2")]
    pub value: f64,
    /// Unix milliseconds.
    #[prost(int64, tag = "3")]
    pub timestamp: i64,
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

/// What stands before a label's value, but for the label's length: the same for all its values. [`put_label`] takes it.
#[must_use]
pub fn label_head(name: &str) -> Padded {
    let mut padded = Padded::default();
    padded.fill(|head| {
        head.push(0x0a); // Label.name = 1
        push_varint(head, name.len() as u64);
        head.extend_from_slice(name.as_bytes());
        head.push(0x12); // Label.value = 2
    });
    padded
}

/// Writes a label of a `TimeSeries`; `head` is what [`label_head`] made.
#[inline(always)]
pub fn put_label(head: &Padded, value: &str, pen: &mut Pen<'_>) -> Option<()> {
    let inner = head.len() + 1 + value.len();
    if inner < 0x80 {
        // As nearly all labels: both lengths take one byte.
        pen.array([0x0a, inner as u8])?;
        pen.padded(head)?;
        pen.byte(value.len() as u8)?;
        return pen.bytes(value.as_bytes());
    }
    let inner = head.len() + varint_len(value.len() as u64) + value.len();
    pen.byte(0x0a)?; // TimeSeries.labels = 1, length-delimited
    pen.varint(inner as u64)?;
    pen.padded(head)?;
    pen.varint(value.len() as u64)?;
    pen.bytes(value.as_bytes())
}

/// Appends one series with one sample to a `WriteRequest`. `labels` is what [`encode_labels`] made.
#[inline]
pub fn push_series(labels: &[u8], value: f64, timestamp_ms: i64, out: &mut Vec<u8>) {
    push_sample_series(labels, value, timestamp_ms, &[], out);
}

/// The same with exemplars, which [`push_exemplar`] made.
#[inline]
pub fn push_sample_series(labels: &[u8], value: f64, timestamp_ms: i64, exemplars: &[u8], out: &mut Vec<u8>) {
    let time = TimeField::from(timestamp_ms);
    pen::append(out, |pen| put_sample_series(|pen| pen.bytes(labels), value, &time, exemplars, pen));
}

/// The same where `labels` writes what [`encode_labels`] makes. None: there is no room.
#[inline]
pub fn put_sample_series(
    labels: impl FnOnce(&mut Pen<'_>) -> Option<()>,
    value: f64,
    time: &TimeField,
    exemplars: &[u8],
    pen: &mut Pen<'_>,
) -> Option<()> {
    pen.byte(0x0a)?; // WriteRequest.timeseries = 1
    let series = pen.length::<2>()?;
    labels(pen)?;
    pen.byte(0x12)?; // TimeSeries.samples = 2
    // proto3 leaves out fields of value zero; a negative zero has bits, so it stays.
    if value.to_bits() == 0 {
        pen.byte(time.bytes.len() as u8)?;
    } else {
        pen.array([9 + time.bytes.len() as u8, 0x09])?; // Sample.value = 1, fixed64
        pen.array(value.to_bits().to_le_bytes())?;
    }
    pen.padded(&time.bytes)?;
    pen.bytes(exemplars)?;
    pen.set_length(series).map(drop)
}

/// Appends one series with one native histogram to a `WriteRequest`; `histogram` is what
/// [`push_content`](super::histogram::push_content) made. Its exemplars go as a series of their own behind it: Prometheus
/// takes the exemplars of a series before its histograms (`storage/remote/write_handler.go`), and drops those of a series
/// that it does not know yet.
pub fn push_histogram_series(labels: &[u8], histogram: &[u8], exemplars: &[u8], out: &mut Vec<u8>) {
    let histogram_len = 1 + varint_len(histogram.len() as u64) + histogram.len();
    out.push(0x0a); // WriteRequest.timeseries = 1
    push_varint(out, (labels.len() + histogram_len) as u64);
    out.extend_from_slice(labels);
    out.push(0x22); // TimeSeries.histograms = 4
    push_varint(out, histogram.len() as u64);
    out.extend_from_slice(histogram);
    if !exemplars.is_empty() {
        out.push(0x0a); // WriteRequest.timeseries = 1
        push_varint(out, (labels.len() + exemplars.len()) as u64);
        out.extend_from_slice(labels);
        out.extend_from_slice(exemplars);
    }
}

/// Appends an exemplar as a field of a `TimeSeries`. `labels` is what [`encode_labels`] made.
pub fn push_exemplar(labels: &[u8], value: f64, timestamp_ms: i64, out: &mut Vec<u8>) {
    let value_len = if value.to_bits() == 0 { 0 } else { 9 };
    let time_len = if timestamp_ms == 0 { 0 } else { 1 + varint_len(timestamp_ms as u64) };
    out.push(0x1a); // TimeSeries.exemplars = 3
    push_varint(out, (labels.len() + value_len + time_len) as u64);
    out.extend_from_slice(labels);
    if value_len > 0 {
        out.push(0x11); // Exemplar.value = 2
        out.extend_from_slice(&value.to_bits().to_le_bytes());
    }
    if time_len > 0 {
        out.push(0x18); // Exemplar.timestamp = 3
        push_varint(out, timestamp_ms as u64);
    }
}

/// Appends what is known of a metric family to a `WriteRequest`.
pub fn push_metadata(kind: MetricType, family: &str, help: &str, unit: &str, out: &mut Vec<u8>) {
    let text_len =
        |text: &str| if text.is_empty() { 0 } else { 1 + varint_len(text.len() as u64) + text.len() };
    let kind_len = if kind == MetricType::Unknown { 0 } else { 2 };
    out.push(0x1a); // WriteRequest.metadata = 3
    push_varint(out, (kind_len + text_len(family) + text_len(help) + text_len(unit)) as u64);
    if kind_len > 0 {
        out.extend_from_slice(&[0x08, kind as u8]); // type = 1
    }
    // metric_family_name = 2, help = 4, unit = 5
    for (tag, text) in [(0x12, family), (0x22, help), (0x2a, unit)] {
        if !text.is_empty() {
            out.push(tag);
            push_varint(out, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
        }
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
                ..TimeSeries::default()
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

    fn label_of((name, value): &(String, String)) -> Label {
        Label { name: name.clone(), value: value.clone() }
    }

    fn encoded(labels: &[(String, String)]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_labels(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())), &mut out);
        out
    }

    proptest! {
        #[test]
        fn exemplars_and_histograms_by_hand_give_the_bytes_that_prost_gives(
            labels in proptest::collection::vec(("[a-z]{1,9}", ".{1,99}"), 0..4),
            exemplars in proptest::collection::vec(
                (
                    proptest::collection::vec(("[a-z]{1,9}", ".{1,99}"), 0..3),
                    prop_oneof![Just(0.0), 0.1..1e9_f64],
                    prop_oneof![Just(0_i64), any::<i64>()],
                ),
                0..4,
            ),
            value in 0.1..1e9_f64,
            histogram: Option<u64>,
        ) {
            let (mut fields, mut by_hand) = (Vec::new(), Vec::new());
            for (labels, value, timestamp) in &exemplars {
                push_exemplar(&encoded(labels), *value, *timestamp, &mut fields);
            }
            let exemplar = |(labels, value, timestamp): &(Vec<(String, String)>, f64, i64)| Exemplar {
                labels: labels.iter().map(label_of).collect(),
                value: *value,
                timestamp: *timestamp,
            };
            let mut series = TimeSeries {
                labels: labels.iter().map(label_of).collect(),
                exemplars: exemplars.iter().map(exemplar).collect(),
                ..TimeSeries::default()
            };
            match histogram {
                None => {
                    push_sample_series(&encoded(&labels), value, 7, &fields, &mut by_hand);
                    series.samples.push(Sample { value, timestamp: 7 });
                }
                Some(count) => {
                    use crate::histogram::{Counts, NativeHistogram};
                    let (zero_count, positive_deltas, negative_deltas) = (0, Vec::new(), Vec::new());
                    let counts = Counts::Integer { count, zero_count, positive_deltas, negative_deltas };
                    let histogram = NativeHistogram { counts, ..NativeHistogram::default() };
                    let mut content = Vec::new();
                    super::super::histogram::push_content(&histogram, 7, &mut content);
                    push_histogram_series(&encoded(&labels), &content, &fields, &mut by_hand);
                    series.histograms.push(super::super::v2::Histogram::new(&histogram, 7));
                }
            }
            let mut timeseries = vec![series];
            if histogram.is_some() && !exemplars.is_empty() {
                let exemplars = std::mem::take(&mut timeseries[0].exemplars);
                let labels = timeseries[0].labels.clone();
                timeseries.push(TimeSeries { labels, exemplars, ..TimeSeries::default() });
            }
            let request = WriteRequest { timeseries, metadata: Vec::new() };
            prop_assert_eq!(by_hand, request.encode_to_vec());
        }

        #[test]
        fn metadata_by_hand_give_the_bytes_that_prost_gives(
            all in proptest::collection::vec((0..8, ".{0,200}", ".{0,200}", ".{0,9}"), 0..4),
        ) {
            let (mut by_hand, mut metadata) = (Vec::new(), Vec::new());
            for (kind, family, help, unit) in &all {
                push_metadata(MetricType::try_from(*kind).unwrap(), family, help, unit, &mut by_hand);
                metadata.push(MetricMetadata {
                    metric_type: *kind,
                    metric_family_name: family.clone(),
                    help: help.clone(),
                    unit: unit.clone(),
                });
            }
            prop_assert_eq!(by_hand, WriteRequest { timeseries: Vec::new(), metadata }.encode_to_vec());
        }

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

        #[test]
        fn labels_from_ready_heads_are_the_same(labels in proptest::collection::vec(("[a-z]{1,200}", ".{1,300}"), 0..8)) {
            let (mut out, mut expected) = (Vec::new(), Vec::new());
            for (name, value) in &labels {
                encode_labels([(name.as_str(), value.as_str())], &mut expected);
                pen::append(&mut out, |pen| put_label(&label_head(name), value, pen));
            }
            prop_assert_eq!(out, expected);
        }
    }
}
