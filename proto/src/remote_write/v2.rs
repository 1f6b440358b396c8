//! Remote write 2.0: `io.prometheus.write.v2.Request`.
//!
//! Every text stands once in the request's table of symbols, and everything else refers to it by its index. The message
//! types are what receivers and tests decode with. The sender writes by hand: [`push_refs`] once a series and request,
//! [`push_series`] for every sample, [`push_symbol`] for every text; or, where references are put together anew for each sample,
//! [`begin_series`] and what goes with it.

use prost::Message;

use super::TimeField;
use super::v1::MetricType;
use crate::histogram::ResetHint;
use crate::pen::{self, Length, Pen};
use crate::varint::{push_varint, varint_len};

/// A request. Its fields can stand in any order: the table of symbols may follow what refers to it.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// Texts without duplicates; the first one is empty.
    #[prost(string, repeated, tag = "4")]
    pub symbols: Vec<String>,
    /// Series, in any order.
    #[prost(message, repeated, tag = "5")]
    pub timeseries: Vec<TimeSeries>,
}

/// One series: either samples or histograms.
#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    /// Names and values of labels in turn, sorted by name.
    #[prost(uint32, repeated, tag = "1")]
    pub labels_refs: Vec<u32>,
    /// Samples in order of time.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    /// Native histograms in order of time.
    #[prost(message, repeated, tag = "3")]
    pub histograms: Vec<Histogram>,
    /// Exemplars in order of time.
    #[prost(message, repeated, tag = "4")]
    pub exemplars: Vec<Exemplar>,
    /// What is known of the metric.
    #[prost(message, optional, tag = "5")]
    pub metadata: Option<Metadata>,
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
    /// When counting began, Unix milliseconds; 0: not known.
    #[prost(int64, tag = "3")]
    pub start_timestamp: i64,
}

/// An example of what was counted.
#[derive(Clone, PartialEq, Message)]
pub struct Exemplar {
    /// Names and values of labels in turn.
    #[prost(uint32, repeated, tag = "1")]
    pub labels_refs: Vec<u32>,
    /// The value that was observed.
    #[prost(double, tag = "2")]
    pub value: f64,
    /// Unix milliseconds.
    #[prost(int64, tag = "3")]
    pub timestamp: i64,
}

/// What is known of a metric.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Metadata {
    /// Its type.
    #[prost(enumeration = "super::v1::MetricType", tag = "1")]
    pub metric_type: i32,
    /// Symbol of its help text.
    #[prost(uint32, tag = "3")]
    pub help_ref: u32,
    /// Symbol of its unit.
    #[prost(uint32, tag = "4")]
    pub unit_ref: u32,
}

/// One native histogram, of integers or of floats. Remote write 1.0 has the same fields under the same numbers, but the last.
#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    /// Observations.
    #[prost(oneof = "Count", tags = "1, 2")]
    pub count: Option<Count>,
    /// Sum of what was observed.
    #[prost(double, tag = "3")]
    pub sum: f64,
    /// Resolution of the buckets; -53 for bounds of its own.
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    /// Breadth of the bucket around zero.
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    /// Observations around zero.
    #[prost(oneof = "ZeroCount", tags = "6, 7")]
    pub zero_count: Option<ZeroCount>,
    /// Runs of buckets below zero.
    #[prost(message, repeated, tag = "8")]
    pub negative_spans: Vec<BucketSpan>,
    /// Integers only: what a bucket has more than the one before it.
    #[prost(sint64, repeated, tag = "9")]
    pub negative_deltas: Vec<i64>,
    /// Floats only: what a bucket has.
    #[prost(double, repeated, tag = "10")]
    pub negative_counts: Vec<f64>,
    /// Runs of buckets above zero.
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<BucketSpan>,
    /// Integers only: what a bucket has more than the one before it.
    #[prost(sint64, repeated, tag = "12")]
    pub positive_deltas: Vec<i64>,
    /// Floats only: what a bucket has.
    #[prost(double, repeated, tag = "13")]
    pub positive_counts: Vec<f64>,
    /// Whether counting began anew before it.
    #[prost(enumeration = "ResetHint", tag = "14")]
    pub reset_hint: i32,
    /// Unix milliseconds.
    #[prost(int64, tag = "15")]
    pub timestamp: i64,
    /// Upper bounds of the buckets where `schema` is -53.
    #[prost(double, repeated, tag = "16")]
    pub custom_values: Vec<f64>,
    /// When counting began, Unix milliseconds; 0: not known.
    #[prost(int64, tag = "17")]
    pub start_timestamp: i64,
}

/// Observations of a histogram.
#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub enum Count {
    /// Of a histogram of integers.
    #[prost(uint64, tag = "1")]
    Int(u64),
    /// Of a histogram of floats.
    #[prost(double, tag = "2")]
    Float(f64),
}

/// Observations around zero.
#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub enum ZeroCount {
    /// Of a histogram of integers.
    #[prost(uint64, tag = "6")]
    Int(u64),
    /// Of a histogram of floats.
    #[prost(double, tag = "7")]
    Float(f64),
}

/// A run of buckets.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct BucketSpan {
    /// Buckets left out since the run before, or the index of the first bucket.
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    /// Buckets in the run.
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

/// Appends one text to the request's table of symbols. The first one of a request must be empty.
#[inline]
pub fn push_symbol(text: &str, out: &mut Vec<u8>) {
    out.push(0x22); // Request.symbols = 4, length-delimited
    push_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Appends references to symbols as [`push_series`] takes them: varints, packed.
#[inline]
pub fn push_refs(refs: impl IntoIterator<Item = u32>, out: &mut Vec<u8>) {
    for symbol in refs {
        push_varint(out, symbol.into());
    }
}

/// One sample to be encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// The value's bits.
    pub value_bits: u64,
    /// Unix milliseconds.
    pub timestamp_ms: i64,
    /// When counting began, Unix milliseconds; 0: not known.
    pub start_ms: i64,
}

/// Appends one series with one sample to a request. `refs` are the packed references of its labels ([`push_refs`]).
#[inline]
pub fn push_series(refs: &[u8], value_bits: u64, timestamp_ms: i64, out: &mut Vec<u8>) {
    push_sample_series(refs, Point { value_bits, timestamp_ms, start_ms: 0 }, &[], out);
}

/// The same with the rest of a series: `tail` is what [`push_exemplar`] and then [`push_metadata`] made.
#[inline]
pub fn push_sample_series(refs: &[u8], point: Point, tail: &[u8], out: &mut Vec<u8>) {
    let time = TimeField::from(point.timestamp_ms);
    pen::append(out, |pen| {
        let begun = begin_series(pen)?;
        pen.bytes(refs)?;
        put_sample(&begun, point.value_bits, &time, point.start_ms, pen)?;
        pen.bytes(tail)?;
        end_series(&begun, pen)
    });
}

/// A series that is being written.
#[derive(Debug)]
pub struct Begun {
    series: Length<1>,
    refs: Length<1>,
}

/// Begins a series. What is written next are the packed references of its labels, then [`put_sample`], what
/// [`push_exemplar`] and then [`push_metadata`] made, and [`end_series`]. None: there is no room.
#[inline]
pub fn begin_series(pen: &mut Pen<'_>) -> Option<Begun> {
    pen.byte(0x2a)?; // Request.timeseries = 5, length-delimited
    let series = pen.length()?;
    pen.byte(0x0a)?; // TimeSeries.labels_refs = 1, packed
    Some(Begun { series, refs: pen.length()? })
}

/// Writes the sample of a series whose references are written.
#[inline]
pub fn put_sample(
    begun: &Begun,
    value_bits: u64,
    time: &TimeField,
    start_ms: i64,
    pen: &mut Pen<'_>,
) -> Option<()> {
    if pen.set_length(begun.refs)? == 0 {
        pen.take_back(begun.refs);
    }
    let start_len = if start_ms == 0 { 0 } else { 1 + varint_len(start_ms as u64) };
    let times_len = (time.bytes.len() + start_len) as u8;
    pen.byte(0x12)?; // TimeSeries.samples = 2, length-delimited
    // proto3 leaves out fields of value zero; a negative zero has bits, so it stays.
    if value_bits == 0 {
        pen.byte(times_len)?;
    } else {
        pen.array([9 + times_len, 0x09])?; // Sample.value = 1, fixed64
        pen.array(value_bits.to_le_bytes())?;
    }
    pen.padded(&time.bytes)?;
    if start_len > 0 {
        pen.byte(0x18)?; // Sample.start_timestamp = 3, varint
        pen.varint(start_ms as u64)?;
    }
    Some(())
}

/// Ends a series.
#[inline]
pub fn end_series(begun: &Begun, pen: &mut Pen<'_>) -> Option<()> {
    pen.set_length(begun.series).map(drop)
}

/// Appends one series with one native histogram to a request; `histogram` is what
/// [`push_content`](super::histogram::push_content) made, and counting began at `start_ms` (0: not known).
pub fn push_histogram_series(refs: &[u8], histogram: &[u8], start_ms: i64, tail: &[u8], out: &mut Vec<u8>) {
    let histogram_len = histogram.len() + super::histogram::start_len(start_ms);
    let refs_len = if refs.is_empty() { 0 } else { 1 + varint_len(refs.len() as u64) + refs.len() };
    let series_len = refs_len + 1 + varint_len(histogram_len as u64) + histogram_len + tail.len();
    push_head(refs, series_len, out);
    out.push(0x1a); // TimeSeries.histograms = 3, length-delimited
    push_varint(out, histogram_len as u64);
    out.extend_from_slice(histogram);
    super::histogram::push_start(start_ms, out);
    out.extend_from_slice(tail);
}

#[inline]
fn push_head(refs: &[u8], series_len: usize, out: &mut Vec<u8>) {
    out.push(0x2a); // Request.timeseries = 5, length-delimited
    push_varint(out, series_len as u64);
    if !refs.is_empty() {
        out.push(0x0a); // TimeSeries.labels_refs = 1, packed
        push_varint(out, refs.len() as u64);
        out.extend_from_slice(refs);
    }
}

/// Appends an exemplar as a field of a `TimeSeries`. `refs` are the packed references of its labels.
pub fn push_exemplar(refs: &[u8], value_bits: u64, timestamp_ms: i64, out: &mut Vec<u8>) {
    let refs_len = if refs.is_empty() { 0 } else { 1 + varint_len(refs.len() as u64) + refs.len() };
    let value_len = if value_bits == 0 { 0 } else { 9 };
    let time_len = if timestamp_ms == 0 { 0 } else { 1 + varint_len(timestamp_ms as u64) };
    out.push(0x22); // TimeSeries.exemplars = 4
    push_varint(out, (refs_len + value_len + time_len) as u64);
    if refs_len > 0 {
        out.push(0x0a); // Exemplar.labels_refs = 1, packed
        push_varint(out, refs.len() as u64);
        out.extend_from_slice(refs);
    }
    if value_len > 0 {
        out.push(0x11); // Exemplar.value = 2
        out.extend_from_slice(&value_bits.to_le_bytes());
    }
    if time_len > 0 {
        out.push(0x18); // Exemplar.timestamp = 3
        push_varint(out, timestamp_ms as u64);
    }
}

/// Appends what is known of the metric as a field of a `TimeSeries`. References of 0 are the empty text.
pub fn push_metadata(kind: MetricType, help_ref: u32, unit_ref: u32, out: &mut Vec<u8>) {
    let len = |value: u32| if value == 0 { 0 } else { 1 + varint_len(value.into()) };
    out.push(0x2a); // TimeSeries.metadata = 5
    push_varint(out, (len(kind as u32) + len(help_ref) + len(unit_ref)) as u64);
    // type = 1, help_ref = 3, unit_ref = 4
    for (tag, value) in [(0x08, kind as u32), (0x18, help_ref), (0x20, unit_ref)] {
        if value != 0 {
            out.push(tag);
            push_varint(out, value.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Series = (Vec<u32>, u64, i64);

    fn by_hand(symbols: &[String], series: &[Series]) -> Vec<u8> {
        let mut out = Vec::new();
        for text in symbols {
            push_symbol(text, &mut out);
        }
        for (refs, value_bits, time) in series {
            let mut packed = Vec::new();
            push_refs(refs.iter().copied(), &mut packed);
            push_series(&packed, *value_bits, *time, &mut out);
        }
        out
    }

    fn by_prost(symbols: &[String], series: &[Series]) -> Vec<u8> {
        let timeseries = series
            .iter()
            .map(|(refs, value_bits, timestamp)| TimeSeries {
                labels_refs: refs.clone(),
                samples: vec![Sample {
                    value: f64::from_bits(*value_bits),
                    timestamp: *timestamp,
                    start_timestamp: 0,
                }],
                ..TimeSeries::default()
            })
            .collect();
        Request { symbols: symbols.to_vec(), timeseries }.encode_to_vec()
    }

    #[test]
    fn a_staleness_marker_and_a_negative_zero_keep_their_bits() {
        for bits in [super::super::STALE_NAN_BITS, (-0.0_f64).to_bits()] {
            let request = Request::decode(&*by_hand(&[], &[(vec![1, 2], bits, 1)])).unwrap();
            assert_eq!(request.timeseries[0].samples[0].value.to_bits(), bits);
        }
    }

    /// Bytes written down by hand from the specification's message definition.
    #[test]
    fn fields_have_the_numbers_of_the_specification() {
        let histogram = Histogram {
            count: Some(Count::Int(3)),
            sum: 1.0,
            schema: -1,
            zero_threshold: 1.0,
            zero_count: Some(ZeroCount::Float(1.0)),
            negative_spans: vec![BucketSpan { offset: -2, length: 1 }],
            negative_deltas: vec![-1],
            negative_counts: vec![1.0],
            positive_spans: vec![BucketSpan { offset: 1, length: 2 }],
            positive_deltas: vec![1, -2],
            positive_counts: vec![1.0],
            reset_hint: ResetHint::Gauge.into(),
            timestamp: 5,
            custom_values: vec![1.0],
            start_timestamp: 6,
        };
        let one = 1.0_f64.to_le_bytes();
        let expected = [
            &[0x08, 3, 0x19][..],
            &one,
            &[0x20, 1, 0x29],
            &one,
            &[0x39],
            &one,
            &[0x42, 4, 0x08, 3, 0x10, 1, 0x4a, 1, 1, 0x52, 8],
            &one,
            &[0x5a, 4, 0x08, 2, 0x10, 2, 0x62, 2, 2, 3, 0x6a, 8],
            &one,
            &[0x70, 3, 0x78, 5, 0x82, 1, 8],
            &one,
            &[0x88, 1, 6],
        ]
        .concat();
        assert_eq!(histogram.encode_to_vec(), expected);
        let series = TimeSeries {
            labels_refs: vec![1, 300],
            samples: vec![Sample { value: 0.0, timestamp: 7, start_timestamp: 8 }],
            histograms: vec![Histogram { timestamp: 5, ..Histogram::default() }],
            exemplars: vec![Exemplar { labels_refs: vec![2, 3], value: 1.0, timestamp: 9 }],
            metadata: Some(Metadata { metric_type: 1, help_ref: 4, unit_ref: 5 }),
        };
        let expected = [
            &[0x0a, 3, 1, 0xac, 2, 0x12, 4, 0x10, 7, 0x18, 8, 0x1a, 2, 0x78, 5][..],
            &[0x22, 15, 0x0a, 2, 2, 3, 0x11],
            &one,
            &[0x18, 9, 0x2a, 6, 0x08, 1, 0x18, 4, 0x20, 5],
        ]
        .concat();
        assert_eq!(series.encode_to_vec(), expected);
        let request = Request { symbols: vec![String::new(), "a".into()], timeseries: vec![series] };
        assert_eq!(request.encode_to_vec(), [&[0x22, 0, 0x22, 1, b'a', 0x2a, 40][..], &expected].concat());
    }

    proptest! {
        #[test]
        fn everything_of_a_series_by_hand_gives_the_bytes_that_prost_gives(
            labels_refs in proptest::collection::vec(any::<u32>(), 0..9),
            exemplars in proptest::collection::vec(
                (proptest::collection::vec(any::<u32>(), 0..5), prop_oneof![Just(0.0), 0.1..1e9_f64], any::<i64>()),
                0..3,
            ),
            metadata in proptest::option::of((0..8, any::<u32>(), prop_oneof![Just(0), any::<u32>()])),
            value in 0.1..1e9_f64,
            start_timestamp in prop_oneof![Just(0_i64), any::<i64>()],
            histogram: Option<u64>,
        ) {
            let packed = |refs: &[u32]| {
                let mut packed = Vec::new();
                push_refs(refs.iter().copied(), &mut packed);
                packed
            };
            let (mut tail, mut by_hand) = (Vec::new(), Vec::new());
            for (refs, value, timestamp) in &exemplars {
                push_exemplar(&packed(refs), value.to_bits(), *timestamp, &mut tail);
            }
            if let Some((kind, help_ref, unit_ref)) = metadata {
                push_metadata(MetricType::try_from(kind).unwrap(), help_ref, unit_ref, &mut tail);
            }
            let exemplar = |(refs, value, timestamp): &(Vec<u32>, f64, i64)| Exemplar {
                labels_refs: refs.clone(),
                value: *value,
                timestamp: *timestamp,
            };
            let mut series = TimeSeries {
                labels_refs: labels_refs.clone(),
                exemplars: exemplars.iter().map(exemplar).collect(),
                metadata: metadata.map(|(metric_type, help_ref, unit_ref)| Metadata { metric_type, help_ref, unit_ref }),
                ..TimeSeries::default()
            };
            match histogram {
                None => {
                    let point = Point { value_bits: value.to_bits(), timestamp_ms: 7, start_ms: start_timestamp };
                    push_sample_series(&packed(&labels_refs), point, &tail, &mut by_hand);
                    series.samples.push(Sample { value, timestamp: 7, start_timestamp });
                }
                Some(count) => {
                    use crate::histogram::{Counts, NativeHistogram};
                    let (zero_count, positive_deltas, negative_deltas) = (0, Vec::new(), Vec::new());
                    let counts = Counts::Integer { count, zero_count, positive_deltas, negative_deltas };
                    let histogram = NativeHistogram { counts, ..NativeHistogram::default() };
                    let mut content = Vec::new();
                    super::super::histogram::push_content(&histogram, 7, &mut content);
                    push_histogram_series(&packed(&labels_refs), &content, start_timestamp, &tail, &mut by_hand);
                    series.histograms.push(Histogram { start_timestamp, ..Histogram::new(&histogram, 7) });
                }
            }
            let request = Request { symbols: Vec::new(), timeseries: vec![series] };
            prop_assert_eq!(by_hand, request.encode_to_vec());
        }

        #[test]
        fn encoding_by_hand_gives_the_bytes_that_prost_gives(
            symbols in proptest::collection::vec(".{0,200}", 0..20),
            series in proptest::collection::vec(
                (
                    proptest::collection::vec(any::<u32>().prop_flat_map(|most| 0..=most), 0..40),
                    prop_oneof![Just(0), any::<u64>()]
                        .prop_filter("prost leaves out -0.0", |bits| *bits != (-0.0_f64).to_bits()),
                    prop_oneof![Just(0_i64), any::<i64>()],
                ),
                0..20,
            )
        ) {
            prop_assert_eq!(by_hand(&symbols, &series), by_prost(&symbols, &series));
        }
    }
}
