//! An exporter of everything that a format can carry: native histograms of each type, exemplars, metadata, the times at
//! which counting began. What it exposed it keeps, so that a test can compare it with what arrived.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use promring_proto::exposition::{
    Bucket, BucketSpan, Counter, Exemplar, Histogram, LabelPair, Metric, MetricFamily, MetricType, Timestamp,
    Value, encode_delimited,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::http::{begin_body, end_body, read_request};
use super::{FleetError, listen};

/// Most expositions that are kept; further ones are not.
pub const EXPOSITIONS_MAX: usize = 1_000;

const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// When all counting began, in Unix seconds.
const START_SECONDS: i64 = 1_700_000_000;

/// A running exporter. It speaks protobuf where that is accepted, and OpenMetrics otherwise. Dropping it ends it.
#[derive(Debug)]
pub struct RichExporter {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    scrapes: u64,
    hidden: Vec<String>,
    exposed: Vec<Vec<MetricFamily>>,
}

impl RichExporter {
    /// Starts one on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// Where it cannot listen.
    pub async fn start(address: SocketAddr) -> Result<Self, FleetError> {
        let listener = listen(address).await?;
        let address = listener.local_addr().map_err(|source| FleetError::Listen { address, source })?;
        let state = Arc::default();
        let task = tokio::spawn(serve(listener, Arc::clone(&state)));
        Ok(Self { address, state, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has exposed, scrape by scrape.
    #[must_use]
    pub fn exposed(&self) -> Vec<Vec<MetricFamily>> {
        lock(&self.state).exposed.clone()
    }

    /// Exposes all families but these from now on.
    pub fn hide(&self, families: &[&str]) {
        lock(&self.state).hidden = families.iter().map(|family| (*family).to_owned()).collect();
    }
}

impl Drop for RichExporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A panic elsewhere leaves nothing half done in these plain fields.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    // Connections end with the exporter.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(converse(stream, Arc::clone(&state)));
    }
}

async fn converse(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut buffer = Vec::new();
    while let Ok(request) = read_request(&mut stream, &mut buffer).await {
        let families = lock(&state).next();
        let protobuf = request.accept.contains("application/vnd.google.protobuf");
        let mut out = Vec::new();
        let start = begin_body(200, if protobuf { PROTOBUF } else { OPENMETRICS }, false, &mut out);
        if protobuf {
            out.extend(encode_delimited(&families));
        } else {
            out.extend_from_slice(openmetrics(&families).as_bytes());
        }
        end_body(start, &mut out);
        if stream.write_all(&out).await.is_err() || request.close {
            return;
        }
    }
}

impl State {
    fn next(&mut self) -> Vec<MetricFamily> {
        self.scrapes += 1;
        let mut families = families(self.scrapes);
        families.retain(|family| !self.hidden.contains(&family.name));
        if self.exposed.len() < EXPOSITIONS_MAX {
            self.exposed.push(families.clone());
        }
        families
    }
}

/// What the scrape with this number finds.
fn families(scrape: u64) -> Vec<MetricFamily> {
    let start_timestamp = Some(Timestamp { seconds: START_SECONDS, nanos: 0 });
    // New with every second scrape, so that known ones are met as well.
    let exemplar = |value: f64| Exemplar {
        label: labels(&[("trace_id", &format!("trace-{}", scrape / 2))]),
        value,
        timestamp: Some(Timestamp { seconds: START_SECONDS + (scrape / 2) as i64, nanos: 500_000_000 }),
    };
    let counter = Counter { value: scrape as f64 * 3.0, exemplar: Some(exemplar(1.5)), start_timestamp };
    let bucket = |(upper_bound, cumulative_count): (f64, u64)| Bucket {
        upper_bound,
        cumulative_count,
        exemplar: Some(exemplar(upper_bound / 2.0)),
        ..Bucket::default()
    };
    let classic = Histogram {
        sample_count: scrape * 4,
        sample_sum: scrape as f64 * 1.25,
        bucket: [(0.5, scrape), (2.0, scrape * 3)].map(bucket).to_vec(),
        start_timestamp,
        ..Histogram::default()
    };
    let whole = Histogram {
        schema: 3,
        zero_threshold: 0.001,
        zero_count: 1,
        sample_count: scrape * 3 + 1,
        positive_span: vec![BucketSpan { offset: -2, length: 1 }, BucketSpan { offset: 3, length: 1 }],
        positive_delta: vec![scrape as i64, scrape as i64],
        bucket: Vec::new(),
        exemplars: vec![exemplar(0.75), exemplar(0.25)],
        ..classic.clone()
    };
    let floats = Histogram {
        sample_count_float: scrape as f64 * 1.5,
        sample_sum: -2.5,
        zero_threshold: 0.5,
        negative_span: vec![BucketSpan { offset: 1, length: 2 }],
        negative_count: vec![scrape as f64, scrape as f64 * 0.5],
        ..Histogram::default()
    };
    let mut gauge = Metric { gauge: Some(Value { value: scrape as f64 * 0.5 }), ..Metric::default() };
    gauge.label = labels(&[("zone", "a")]);
    let counter = Metric { counter: Some(counter), label: labels(&[("code", "200")]), ..Metric::default() };
    vec![
        family("rich_requests", "Requests.", "", MetricType::Counter, counter),
        family("rich_temperature_celsius", "How warm it is.", "celsius", MetricType::Gauge, gauge),
        of_histogram("rich_classic_seconds", "seconds", MetricType::Histogram, classic),
        of_histogram("rich_whole_seconds", "seconds", MetricType::Histogram, whole.clone()),
        of_histogram("rich_floats", "", MetricType::Histogram, floats),
        of_histogram("rich_gauge_seconds", "seconds", MetricType::GaugeHistogram, whole),
    ]
}

fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    pairs.iter().map(|(name, value)| LabelPair { name: (*name).into(), value: (*value).into() }).collect()
}

fn family(name: &str, help: &str, unit: &str, kind: MetricType, metric: Metric) -> MetricFamily {
    let (name, help, unit) = (name.into(), help.into(), unit.into());
    MetricFamily { name, help, unit, r#type: kind.into(), metric: vec![metric] }
}

fn of_histogram(name: &str, unit: &str, kind: MetricType, histogram: Histogram) -> MetricFamily {
    let metric =
        Metric { histogram: Some(histogram), label: labels(&[("handler", "/")]), ..Metric::default() };
    family(name, &format!("What {name} counts."), unit, kind, metric)
}

/// What of it OpenMetrics can carry: no native histograms.
fn openmetrics(families: &[MetricFamily]) -> String {
    let mut out = String::new();
    for family in families {
        let kind = match family.r#type() {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
            MetricType::Summary | MetricType::Untyped | MetricType::GaugeHistogram => continue,
        };
        let name = &family.name;
        let _ = writeln!(out, "# TYPE {name} {kind}\n# HELP {name} {}", family.help);
        if !family.unit.is_empty() {
            let _ = writeln!(out, "# UNIT {name} {}", family.unit);
        }
        for metric in &family.metric {
            print_metric(name, metric, &mut out);
        }
    }
    out + "# EOF\n"
}

fn print_metric(name: &str, metric: &Metric, out: &mut String) {
    let label = |label: &LabelPair| format!("{}=\"{}\"", label.name, label.value);
    let labels: Vec<String> = metric.label.iter().map(label).collect();
    let labels = labels.join(",");
    let exemplar = |exemplar: &Option<Exemplar>| {
        exemplar.as_ref().map_or(String::new(), |exemplar| {
            let time = exemplar.timestamp.unwrap_or_default();
            let seconds = time.seconds as f64 + f64::from(time.nanos) / 1e9;
            let labels: Vec<String> = exemplar.label.iter().map(label).collect();
            format!(" # {{{}}} {} {seconds}", labels.join(","), exemplar.value)
        })
    };
    if let Some(gauge) = &metric.gauge {
        let _ = writeln!(out, "{name}{{{labels}}} {}", gauge.value);
    }
    if let Some(counter) = &metric.counter {
        let _ = writeln!(out, "{name}_total{{{labels}}} {}{}", counter.value, exemplar(&counter.exemplar));
    }
    if let Some(histogram) = &metric.histogram {
        for bucket in &histogram.bucket {
            let (bound, count) = (bucket.upper_bound, bucket.cumulative_count);
            let _ = writeln!(
                out,
                "{name}_bucket{{{labels},le=\"{bound:?}\"}} {count}{}",
                exemplar(&bucket.exemplar)
            );
        }
        let (count, sum) = (histogram.sample_count, histogram.sample_sum);
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{name}_count{{{labels}}} {count}\n{name}_sum{{{labels}}} {sum}");
    }
}
