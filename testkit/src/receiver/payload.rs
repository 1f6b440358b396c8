//! What requests held beside floats, kept so that a test can compare it with what was exposed.

use std::collections::BTreeSet;

use promring_model::labels::{Labels, METRIC_NAME};
use promring_proto::histogram::NativeHistogram;
use promring_proto::remote_write::v1::{MetricType, WriteRequest};
use promring_proto::remote_write::v2::{Histogram, Request};
use prost::Message as _;

use crate::wire::Contents;

/// Most entries of each kind that are kept; further ones are counted.
pub const PAYLOAD_MAX: usize = 100_000;

/// Requests with nothing but metadata beside floats are looked into so often: with 2.0 all of them are such.
const METADATA_REQUESTS_MAX: u64 = 1_000;

/// What came, in the order of arrival.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Payload {
    /// Native histograms, staleness markers included.
    pub histograms: Vec<ReceivedHistogram>,
    /// Exemplars.
    pub exemplars: Vec<ReceivedExemplar>,
    /// Metadata, each once.
    pub metadata: BTreeSet<ReceivedMetadata>,
    /// Times at which counting of floats began, each once a series.
    pub starts: BTreeSet<ReceivedStart>,
    /// What was not kept, as there was too much.
    pub left_out: u64,
    metadata_requests: u64,
}

/// A native histogram.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedHistogram {
    /// Its series.
    pub series: Labels,
    /// Unix milliseconds.
    pub timestamp_ms: i64,
    /// When counting began, in Unix milliseconds; 0: not said.
    pub start_ms: i64,
    /// The histogram.
    pub histogram: NativeHistogram,
}

/// An exemplar.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedExemplar {
    /// The series that it stood with.
    pub series: Labels,
    /// Its own labels.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
    /// Unix milliseconds.
    pub timestamp_ms: i64,
}

/// What was said of a metric.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReceivedMetadata {
    /// Name of the family in 1.0, of the series in 2.0.
    pub name: String,
    /// Type.
    pub kind: MetricType,
    /// Help text.
    pub help: String,
    /// Unit.
    pub unit: String,
}

/// When counting of a series began.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReceivedStart {
    /// The series.
    pub series: Labels,
    /// Unix milliseconds.
    pub start_ms: i64,
}

impl Payload {
    /// The histograms of a metric name, in order of arrival.
    pub fn histograms_of<'p>(&'p self, name: &'p str) -> impl Iterator<Item = &'p ReceivedHistogram> {
        self.histograms.iter().filter(move |histogram| histogram.series.get(METRIC_NAME) == Some(name))
    }

    /// The exemplars of a metric name, in order of arrival.
    pub fn exemplars_of<'p>(&'p self, name: &'p str) -> impl Iterator<Item = &'p ReceivedExemplar> {
        self.exemplars.iter().filter(move |exemplar| exemplar.series.get(METRIC_NAME) == Some(name))
    }

    /// Takes what a request of 1.0 holds; it has been read without an error.
    pub(super) fn take_v1(&mut self, message: &[u8], contents: &Contents) {
        if !self.wants(contents) {
            return;
        }
        let Ok(request) = WriteRequest::decode(message) else { return };
        for series in &request.timeseries {
            let labels = |labels: &[promring_proto::remote_write::v1::Label]| {
                Labels::from_pairs(labels.iter().map(|label| (label.name.as_str(), label.value.as_str())))
            };
            let name = labels(&series.labels);
            series.histograms.iter().for_each(|histogram| self.histogram(&name, histogram));
            for exemplar in &series.exemplars {
                self.exemplar(&name, labels(&exemplar.labels), exemplar.value, exemplar.timestamp);
            }
        }
        for metadata in request.metadata {
            self.metadata(ReceivedMetadata {
                kind: metadata.metric_type(),
                name: metadata.metric_family_name,
                help: metadata.help,
                unit: metadata.unit,
            });
        }
    }

    /// Takes what a request of 2.0 holds; it has been read without an error.
    pub(super) fn take_v2(&mut self, message: &[u8], contents: &Contents) {
        if !self.wants(contents) {
            return;
        }
        let Ok(request) = Request::decode(message) else { return };
        let text = |reference: u32| request.symbols.get(reference as usize).map_or("", String::as_str);
        for series in &request.timeseries {
            let labels = |refs: &[u32]| {
                Labels::from_pairs(refs.chunks_exact(2).map(|pair| (text(pair[0]), text(pair[1]))))
            };
            let name = labels(&series.labels_refs);
            series.histograms.iter().for_each(|histogram| self.histogram(&name, histogram));
            for exemplar in &series.exemplars {
                self.exemplar(&name, labels(&exemplar.labels_refs), exemplar.value, exemplar.timestamp);
            }
            for sample in series.samples.iter().filter(|sample| sample.start_timestamp != 0) {
                let start = ReceivedStart { series: name.clone(), start_ms: sample.start_timestamp };
                if self.starts.len() < PAYLOAD_MAX || self.starts.contains(&start) {
                    self.starts.insert(start);
                } else {
                    self.left_out += 1;
                }
            }
            if let Some(metadata) = &series.metadata {
                self.metadata(ReceivedMetadata {
                    kind: MetricType::try_from(metadata.metric_type).unwrap_or_default(),
                    name: name.get(METRIC_NAME).unwrap_or_default().to_owned(),
                    help: text(metadata.help_ref).to_owned(),
                    unit: text(metadata.unit_ref).to_owned(),
                });
            }
        }
    }

    fn wants(&mut self, contents: &Contents) -> bool {
        if contents.histograms + contents.exemplars > 0 {
            return true;
        }
        self.metadata_requests += u64::from(contents.metadata > 0);
        contents.metadata > 0 && self.metadata_requests <= METADATA_REQUESTS_MAX
    }

    fn histogram(&mut self, series: &Labels, message: &Histogram) {
        if self.histograms.len() >= PAYLOAD_MAX {
            self.left_out += 1;
            return;
        }
        self.histograms.push(ReceivedHistogram {
            series: series.clone(),
            timestamp_ms: message.timestamp,
            start_ms: message.start_timestamp,
            histogram: message.to_native(),
        });
    }

    fn exemplar(&mut self, series: &Labels, labels: Labels, value: f64, timestamp_ms: i64) {
        if self.exemplars.len() >= PAYLOAD_MAX {
            self.left_out += 1;
            return;
        }
        self.exemplars.push(ReceivedExemplar { series: series.clone(), labels, value, timestamp_ms });
    }

    fn metadata(&mut self, metadata: ReceivedMetadata) {
        if self.metadata.len() < PAYLOAD_MAX || self.metadata.contains(&metadata) {
            self.metadata.insert(metadata);
        } else {
            self.left_out += 1;
        }
    }
}
