//! A receiver of remote write that keeps everything that it gets, in the order in which it came. It reads the messages
//! with prost and knows nothing of promring's encoder.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use promring_proto::remote_write::v1::{Label, MetricMetadata, Sample};
use promring_proto::remote_write::v2;
use prost::Message;

/// `prometheus.WriteRequest` with all that a series may hold.
#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<MetricMetadata>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    exemplars: Vec<Exemplar>,
    // The fields are the same ones as in 2.0.
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<v2::Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
}

/// Names and values in the order in which they came.
pub type Pairs = Vec<(String, String)>;

/// One thing that was received.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub labels: Pairs,
    /// Unix milliseconds.
    pub time_ms: i64,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Bits of a float.
    Sample(u64),
    Histogram(Box<v2::Histogram>),
    Exemplar {
        labels: Pairs,
        value: f64,
    },
}

/// What was said of a family (1.0, where a name is all that it goes by) or of a series (2.0).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Description {
    pub of: Pairs,
    pub kind: i32,
    pub help: String,
    pub unit: String,
}

/// Everything that was received.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    pub records: Vec<Record>,
    pub metadata: Vec<Description>,
    /// What no receiver may be sent.
    pub faults: Vec<String>,
    pub requests: usize,
}

/// The receiver.
#[derive(Clone, Debug)]
pub struct Recorder {
    recorded: Arc<Mutex<Recorded>>,
    address: SocketAddr,
}

impl Recorder {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let recorder = Self { recorded: Arc::default(), address: listener.local_addr().unwrap() };
        let router = Router::new()
            .route("/v1", post(|State(recorder): State<Self>, head, body| recorder.take(head, body, read_v1)))
            .route("/v2", post(|State(recorder): State<Self>, head, body| recorder.take(head, body, read_v2)))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(recorder.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        recorder
    }

    /// Where it takes remote write 1.0 or 2.0, by number.
    pub fn url(&self, version: u8) -> String {
        format!("http://{}/v{version}", self.address)
    }

    pub fn recorded(&self) -> Recorded {
        self.recorded.lock().unwrap().clone()
    }

    /// Looks at what there is so far without a copy.
    pub fn look<T>(&self, look: impl FnOnce(&Recorded) -> T) -> T {
        look(&self.recorded.lock().unwrap())
    }

    async fn take(self, head: HeaderMap, body: Bytes, read: fn(&[u8], &mut Recorded) -> Counts) -> Response {
        assert_eq!(head.get("content-encoding").map(|value| value.as_bytes()), Some(&b"snappy"[..]));
        let message = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
        let mut recorded = self.recorded.lock().unwrap();
        recorded.requests += 1;
        let (samples, histograms, exemplars) = read(&message, &mut recorded);
        let written = [
            ("x-prometheus-remote-write-samples-written", samples.to_string()),
            ("x-prometheus-remote-write-histograms-written", histograms.to_string()),
            ("x-prometheus-remote-write-exemplars-written", exemplars.to_string()),
        ];
        (StatusCode::NO_CONTENT, written).into_response()
    }
}

/// What a request holds, by the version of remote write that it is of.
pub fn read(version: u8, message: &[u8]) -> Recorded {
    let mut recorded = Recorded::default();
    let _ = if version == 1 { read_v1(message, &mut recorded) } else { read_v2(message, &mut recorded) };
    recorded
}

/// Samples, histograms and exemplars of a request.
type Counts = (usize, usize, usize);

fn read_v1(message: &[u8], recorded: &mut Recorded) -> Counts {
    let request = WriteRequest::decode(message).unwrap();
    let mut counts = (0, 0, 0);
    let pairs =
        |labels: &[Label]| labels.iter().map(|l| (l.name.clone(), l.value.clone())).collect::<Pairs>();
    for series in request.timeseries {
        let labels = pairs(&series.labels);
        let exemplar = |exemplar: Exemplar| v1_exemplar(&exemplar, pairs(&exemplar.labels));
        let exemplars = series.exemplars.into_iter().map(exemplar).collect();
        let samples =
            series.samples.iter().map(|sample| (sample.timestamp, sample.value.to_bits())).collect();
        recorded.keep(&labels, samples, series.histograms, exemplars, &mut counts);
    }
    for entry in request.metadata {
        recorded.metadata.push(Description {
            of: vec![("__name__".to_owned(), entry.metric_family_name)],
            kind: entry.metric_type,
            help: entry.help,
            unit: entry.unit,
        });
    }
    counts
}

fn v1_exemplar(exemplar: &Exemplar, labels: Pairs) -> (i64, What) {
    (exemplar.timestamp, What::Exemplar { labels, value: exemplar.value })
}

fn read_v2(message: &[u8], recorded: &mut Recorded) -> Counts {
    let request = v2::Request::decode(message).unwrap();
    let mut counts = (0, 0, 0);
    let symbol = |at: u32| request.symbols[at as usize].clone();
    let pairs =
        |refs: &[u32]| refs.chunks_exact(2).map(|two| (symbol(two[0]), symbol(two[1]))).collect::<Pairs>();
    for series in &request.timeseries {
        let labels = pairs(&series.labels_refs);
        if let Some(metadata) = series.metadata {
            recorded.metadata.push(Description {
                of: labels.clone(),
                kind: metadata.metric_type,
                help: symbol(metadata.help_ref),
                unit: symbol(metadata.unit_ref),
            });
        }
        let exemplar = |exemplar: &v2::Exemplar| {
            let labels = pairs(&exemplar.labels_refs);
            (exemplar.timestamp, What::Exemplar { labels, value: exemplar.value })
        };
        let exemplars = series.exemplars.iter().map(exemplar).collect();
        let samples =
            series.samples.iter().map(|sample| (sample.timestamp, sample.value.to_bits())).collect();
        recorded.keep(&labels, samples, series.histograms.clone(), exemplars, &mut counts);
    }
    counts
}

impl Recorded {
    fn keep(
        &mut self,
        labels: &Pairs,
        samples: Vec<(i64, u64)>,
        histograms: Vec<v2::Histogram>,
        exemplars: Vec<(i64, What)>,
        counts: &mut Counts,
    ) {
        if !labels.is_sorted_by(|a, b| a.0 < b.0) {
            self.faults.push(format!("labels are not sorted, or one is there twice: {labels:?}"));
        }
        if let Some(empty) = labels.iter().find(|(name, value)| name.is_empty() || value.is_empty()) {
            self.faults.push(format!("{empty:?} is empty: {labels:?}"));
        }
        counts.0 += samples.len();
        counts.1 += histograms.len();
        counts.2 += exemplars.len();
        let samples = samples.into_iter().map(|(time_ms, bits)| (time_ms, What::Sample(bits)));
        let histograms = histograms
            .into_iter()
            .map(|histogram| (histogram.timestamp, What::Histogram(Box::new(histogram))));
        for (time_ms, what) in samples.chain(histograms).chain(exemplars) {
            self.records.push(Record { labels: labels.clone(), time_ms, what });
        }
    }
}
