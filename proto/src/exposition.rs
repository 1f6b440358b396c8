//! The exposition format in protobuf: `io.prometheus.client`.
//!
//! A body is a sequence of [`MetricFamily`] messages, each after its length as a varint. The scraper reads it by
//! hand, borrowing from the body; these types are what exporters and tests write it with.

use prost::Message;

/// Metrics of one name and type.
#[derive(Clone, PartialEq, Message)]
pub struct MetricFamily {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What it means.
    #[prost(string, tag = "2")]
    pub help: String,
    /// The type, which decides which field of a metric is read.
    #[prost(enumeration = "MetricType", tag = "3")]
    pub r#type: i32,
    /// One a label set.
    #[prost(message, repeated, tag = "4")]
    pub metric: Vec<Metric>,
    /// The unit.
    #[prost(string, tag = "5")]
    pub unit: String,
}

/// Type of a metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum MetricType {
    /// Only goes up.
    Counter = 0,
    /// Goes up and down.
    Gauge = 1,
    /// Quantiles.
    Summary = 2,
    /// Nothing said.
    Untyped = 3,
    /// Counts in buckets.
    Histogram = 4,
    /// A histogram that can go down.
    GaugeHistogram = 5,
}

/// One label set with its value.
#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    /// Labels without the name.
    #[prost(message, repeated, tag = "1")]
    pub label: Vec<LabelPair>,
    /// Of a gauge.
    #[prost(message, optional, tag = "2")]
    pub gauge: Option<Value>,
    /// Of a counter.
    #[prost(message, optional, tag = "3")]
    pub counter: Option<Counter>,
    /// Of a summary.
    #[prost(message, optional, tag = "4")]
    pub summary: Option<Summary>,
    /// Where nothing is said.
    #[prost(message, optional, tag = "5")]
    pub untyped: Option<Value>,
    /// Of a histogram or a gauge histogram.
    #[prost(message, optional, tag = "7")]
    pub histogram: Option<Histogram>,
    /// Unix milliseconds; 0 is none.
    #[prost(int64, tag = "6")]
    pub timestamp_ms: i64,
}

/// One label.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LabelPair {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `Gauge` and `Untyped`, which are written the same.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Value {
    /// The value.
    #[prost(double, tag = "1")]
    pub value: f64,
}

/// A counter's value.
#[derive(Clone, PartialEq, Message)]
pub struct Counter {
    /// The value.
    #[prost(double, tag = "1")]
    pub value: f64,
    /// An example of what was counted.
    #[prost(message, optional, tag = "2")]
    pub exemplar: Option<Exemplar>,
    /// When counting began.
    #[prost(message, optional, tag = "3")]
    pub start_timestamp: Option<Timestamp>,
}

/// Quantiles with count and sum.
#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    /// Number of observations.
    #[prost(uint64, tag = "1")]
    pub sample_count: u64,
    /// Sum of observations.
    #[prost(double, tag = "2")]
    pub sample_sum: f64,
    /// The quantiles.
    #[prost(message, repeated, tag = "3")]
    pub quantile: Vec<Quantile>,
    /// When counting began.
    #[prost(message, optional, tag = "4")]
    pub start_timestamp: Option<Timestamp>,
}

/// One quantile.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Quantile {
    /// Which one, 0 to 1.
    #[prost(double, tag = "1")]
    pub quantile: f64,
    /// Its value.
    #[prost(double, tag = "2")]
    pub value: f64,
}

/// A histogram: classic by its buckets, native by its spans, or both.
#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    /// Number of observations.
    #[prost(uint64, tag = "1")]
    pub sample_count: u64,
    /// The same as a float, which goes before where it is above 0.
    #[prost(double, tag = "4")]
    pub sample_count_float: f64,
    /// Sum of observations.
    #[prost(double, tag = "2")]
    pub sample_sum: f64,
    /// Classic buckets; that of infinity may be missing.
    #[prost(message, repeated, tag = "3")]
    pub bucket: Vec<Bucket>,
    /// When counting began.
    #[prost(message, optional, tag = "15")]
    pub start_timestamp: Option<Timestamp>,
    /// Resolution of native buckets.
    #[prost(sint32, tag = "5")]
    pub schema: i32,
    /// Width of the zero bucket.
    #[prost(double, tag = "6")]
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    #[prost(uint64, tag = "7")]
    pub zero_count: u64,
    /// The same as a float, which goes before where it is above 0.
    #[prost(double, tag = "8")]
    pub zero_count_float: f64,
    /// Native buckets of negative observations.
    #[prost(message, repeated, tag = "9")]
    pub negative_span: Vec<BucketSpan>,
    /// Whole numbers, as differences.
    #[prost(sint64, repeated, tag = "10")]
    pub negative_delta: Vec<i64>,
    /// Floats, absolute.
    #[prost(double, repeated, tag = "11")]
    pub negative_count: Vec<f64>,
    /// Native buckets of positive observations.
    #[prost(message, repeated, tag = "12")]
    pub positive_span: Vec<BucketSpan>,
    /// Whole numbers, as differences.
    #[prost(sint64, repeated, tag = "13")]
    pub positive_delta: Vec<i64>,
    /// Floats, absolute.
    #[prost(double, repeated, tag = "14")]
    pub positive_count: Vec<f64>,
    /// Exemplars of a native histogram, which must have timestamps.
    #[prost(message, repeated, tag = "16")]
    pub exemplars: Vec<Exemplar>,
}

/// One classic bucket.
#[derive(Clone, PartialEq, Message)]
pub struct Bucket {
    /// Observations up to the bound.
    #[prost(uint64, tag = "1")]
    pub cumulative_count: u64,
    /// The same as a float, which goes before where it is above 0.
    #[prost(double, tag = "4")]
    pub cumulative_count_float: f64,
    /// The bound, inclusive.
    #[prost(double, tag = "2")]
    pub upper_bound: f64,
    /// An example of what was counted.
    #[prost(message, optional, tag = "3")]
    pub exemplar: Option<Exemplar>,
}

/// Consecutive native buckets.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct BucketSpan {
    /// Buckets since the span before.
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    /// Number of buckets.
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

/// An example of what was counted.
#[derive(Clone, PartialEq, Message)]
pub struct Exemplar {
    /// Labels of the example.
    #[prost(message, repeated, tag = "1")]
    pub label: Vec<LabelPair>,
    /// Its value.
    #[prost(double, tag = "2")]
    pub value: f64,
    /// Its time.
    #[prost(message, optional, tag = "3")]
    pub timestamp: Option<Timestamp>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Timestamp {
    /// Unix seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds of the second.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// A body of these families.
#[must_use]
pub fn encode_delimited(families: &[MetricFamily]) -> Vec<u8> {
    families.iter().flat_map(Message::encode_length_delimited_to_vec).collect()
}
