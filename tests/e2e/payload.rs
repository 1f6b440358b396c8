//! Native histograms, exemplars, metadata and staleness at real receivers at once: what each has stored is what was
//! exposed, as far as it stores such things.

use std::collections::{BTreeMap, BTreeSet};

use promring_proto::exposition::{BucketSpan, Exemplar, Histogram, LabelPair, MetricFamily, MetricType};
use promring_proto::remote_write::v1::MetricType as Told;
use promring_testkit::exporter::RichExporter;
use promring_testkit::receiver::Receiver;
use serde_json::Value;

use crate::servers::Store;
use crate::support::{Process, eventually, metric, scaled};

const HISTOGRAMS: [&str; 3] = ["rich_whole_seconds", "rich_gauge_seconds", "rich_floats"];

/// A receiver, by which version of remote write, and whether it knows more than floats.
struct Stores {
    name: &'static str,
    store: Store,
    message: &'static str,
    is_prometheus: bool,
}

/// The histograms that were exposed under this name, scrape by scrape.
fn exposed(expositions: &[Vec<MetricFamily>], name: &str) -> Vec<Histogram> {
    let families = expositions.iter().flatten().filter(|family| family.name == name);
    families.filter_map(|family| family.metric[0].histogram.clone()).collect()
}

/// A histogram: count, sum, and its buckets that are not empty, from the lowest to the highest, with their bounds.
#[derive(Debug)]
struct Shown {
    count: f64,
    sum: f64,
    buckets: Vec<[f64; 3]>,
}

impl Shown {
    fn of_exposed(histogram: &Histogram) -> Self {
        let is_float = histogram.sample_count_float > 0.0;
        let absolute = |deltas: &[i64]| {
            let running = deltas.iter().scan(0, |count, delta| {
                *count += delta;
                Some(*count as f64)
            });
            running.collect::<Vec<f64>>()
        };
        let (positive, negative) = if is_float {
            (histogram.positive_count.clone(), histogram.negative_count.clone())
        } else {
            (absolute(&histogram.positive_delta), absolute(&histogram.negative_delta))
        };
        let zero = if is_float { histogram.zero_count_float } else { histogram.zero_count as f64 };
        let threshold = histogram.zero_threshold;
        let below = of_spans(histogram.schema, &histogram.negative_span, &negative);
        let mut buckets: Vec<[f64; 3]> =
            below.into_iter().map(|[lower, upper, count]| [-upper, -lower, count]).collect();
        buckets.reverse();
        buckets.push([-threshold, threshold, zero]);
        buckets.extend(of_spans(histogram.schema, &histogram.positive_span, &positive));
        buckets.retain(|bucket| bucket[2] != 0.0);
        let count = if is_float { histogram.sample_count_float } else { histogram.sample_count as f64 };
        Self { count, sum: histogram.sample_sum, buckets }
    }

    fn of_answer(answer: &Value) -> Self {
        let number = |value: &Value| value.as_str().unwrap().parse::<f64>().unwrap();
        let bucket = |bucket: &Value| [1, 2, 3].map(|at| number(&bucket[at]));
        let buckets = answer["buckets"].as_array().map(Vec::as_slice).unwrap_or_default();
        Self {
            count: number(&answer["count"]),
            sum: number(&answer["sum"]),
            buckets: buckets.iter().map(bucket).collect(),
        }
    }

    /// The same, but for the last digits of bounds, which are powers of a root of two.
    fn assert_same(&self, other: &Self, what: &str) {
        assert_eq!((self.count, self.sum), (other.count, other.sum), "{what}");
        let near = |(one, other): (&[f64; 3], &[f64; 3])| {
            let bounds = one[..2].iter().zip(&other[..2]);
            one[2] == other[2] && bounds.into_iter().all(|(one, other)| (one - other).abs() < 1e-9)
        };
        let same =
            self.buckets.len() == other.buckets.len() && self.buckets.iter().zip(&other.buckets).all(near);
        assert!(same, "{what}: {self:?} is not {other:?}");
    }
}

/// Buckets of positive observations: bucket `i` reaches up to the `2^(-schema)`-th power of two, to the `i`.
fn of_spans(schema: i32, spans: &[BucketSpan], counts: &[f64]) -> Vec<[f64; 3]> {
    let mut index = 0;
    let mut indices = Vec::new();
    for span in spans {
        index += span.offset;
        indices.extend(index..index + span.length as i32);
        index += span.length as i32;
    }
    let bound = |index: i32| (f64::from(index) * (-f64::from(schema)).exp2()).exp2();
    let bucket = |(index, count): (i32, &f64)| [bound(index - 1), bound(index), *count];
    indices.into_iter().zip(counts).map(bucket).collect()
}

/// Labels, value and time in milliseconds of exemplars, each once.
type Exemplars = BTreeSet<(String, String, i64)>;

fn exemplars<'e>(exposed: impl IntoIterator<Item = &'e Exemplar>) -> Exemplars {
    let entry = |exemplar: &Exemplar| {
        let pair = |label: &LabelPair| (label.name.clone(), label.value.clone());
        let labels: BTreeMap<String, String> = exemplar.label.iter().map(pair).collect();
        let time = exemplar.timestamp.unwrap();
        let time_ms = time.seconds * 1_000 + i64::from(time.nanos / 1_000_000);
        (format!("{labels:?}"), exemplar.value.to_string(), time_ms)
    };
    exposed.into_iter().map(entry).collect()
}

fn first_of_each_time(exemplars: Exemplars) -> Exemplars {
    let mut times = BTreeSet::new();
    exemplars.into_iter().filter(|(_, _, time_ms)| times.insert(*time_ms)).collect()
}

async fn stored_exemplars(store: &Store, selector: &str) -> Exemplars {
    let window = [("query", selector), ("start", "1699999000"), ("end", "1800000000")];
    let found = store.ask("query_exemplars", &window).await;
    let entry = |exemplar: &Value| {
        let labels: BTreeMap<String, String> = serde_json::from_value(exemplar["labels"].clone()).unwrap();
        let value: f64 = exemplar["value"].as_str().unwrap().parse().unwrap();
        let time_ms = (exemplar["timestamp"].as_f64().unwrap() * 1_000.0).round() as i64;
        (format!("{labels:?}"), value.to_string(), time_ms)
    };
    let all: Vec<_> = found
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|series| series["exemplars"].as_array().unwrap())
        .map(entry)
        .collect();
    let each_once: Exemplars = all.iter().cloned().collect();
    assert_eq!(all.len(), each_once.len(), "{selector}: each exemplar is stored once");
    each_once
}

#[tokio::test(flavor = "multi_thread")]
async fn real_receivers_at_once_store_histograms_exemplars_and_metadata_as_they_were_exposed() {
    let dir = tempfile::tempdir().unwrap();
    // Prometheus shows nobody what metadata it was sent, but passes them on as it has stored them.
    let behind = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let v2 = "io.prometheus.write.v2.Request";
    let v1 = "prometheus.WriteRequest";
    let mut stores = [
        ("v1", Store::prometheus_3(dir.path(), 1).await, v1, true),
        ("v2", Store::prometheus_3_before(dir.path(), &behind.write_url()).await, v2, true),
        ("debian", Store::prometheus(dir.path()).await, v1, true),
        ("victoria", Store::victoria_metrics(dir.path()).await, v1, false),
    ]
    .map(|(name, store, message, is_prometheus)| Stores { name, store, message, is_prometheus });
    let exporter = RichExporter::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let mut config = format!(
        "global: {{scrape_interval: 1s, scrape_native_histograms: true}}\nscrape_configs:\n- job_name: rich\n  always_scrape_classic_histograms: true\n  static_configs: [{{targets: ['{}']}}]\nremote_write:\n",
        exporter.address()
    );
    for Stores { name, store, message, .. } in &stores {
        config.push_str(&format!(
            "- {{name: {name}, url: '{}', protobuf_message: {message}, send_exemplars: true, send_native_histograms: true, metadata_config: {{send_interval: 1s}}}}\n",
            store.write_url()
        ));
    }
    let path = dir.path().join("promring.yml");
    std::fs::write(&path, config).unwrap();
    let (mut promring, base) = Process::standalone("promring", &path, dir.path());
    let scrapes = scaled(8, 60);
    eventually("scrapes", async || (exporter.exposed().len() >= scrapes).then_some(())).await;
    exporter.hide(&["rich_floats", "rich_gauge_seconds", "rich_temperature_celsius"]);
    let hidden_from = exporter.exposed().len();
    eventually("scrapes without them", async || (exporter.exposed().len() > hidden_from + 1).then_some(()))
        .await;
    assert!(metric(&base, "prometheus_remote_storage_histograms_in_total").await > Some(0.0));
    assert!(metric(&base, "prometheus_remote_storage_exemplars_in_total").await > Some(0.0));
    for name in
        ["samples_failed_total", "histograms_failed_total", "exemplars_failed_total", "metadata_failed_total"]
    {
        let name = format!("prometheus_remote_storage_{name}");
        assert_eq!(metric(&base, &name).await, Some(0.0), "{name}\n{}", promring.log());
    }
    // A scrape in flight ends before the process does, so that all that was exposed is stored.
    assert!(promring.terminate().success(), "{}", promring.log());
    let expositions = exporter.exposed();

    for Stores { name: receiver, store, is_prometheus, .. } in &mut stores {
        assert!(store.runs(), "{receiver}");
        check_floats(receiver, store, &expositions).await;
        if *is_prometheus {
            check_histograms(receiver, store, &expositions).await;
            check_exemplars(receiver, store, &expositions).await;
        }
    }
    check_metadata(&behind, &expositions).await;
}

async fn check_floats(receiver: &str, store: &Store, expositions: &[Vec<MetricFamily>]) {
    let families =
        |name: &'static str| expositions.iter().flatten().filter(move |family| family.name == name);
    let counted = families("rich_requests").map(|family| family.metric[0].counter.as_ref().unwrap().value);
    let warmth =
        families("rich_temperature_celsius").map(|family| family.metric[0].gauge.as_ref().unwrap().value);
    let classic = exposed(expositions, "rich_classic_seconds");
    let bucket = |at: usize| classic.iter().map(move |classic| classic.bucket[at].cumulative_count as f64);
    let expected: [(&str, Vec<f64>); 6] = [
        ("rich_requests", counted.collect()),
        ("rich_temperature_celsius", warmth.collect()),
        ("rich_classic_seconds_bucket{le=\"0.5\"}", bucket(0).collect()),
        ("rich_classic_seconds_bucket{le=\"2.0\"}", bucket(1).collect()),
        ("rich_classic_seconds_count", classic.iter().map(|classic| classic.sample_count as f64).collect()),
        ("rich_classic_seconds_sum", classic.iter().map(|classic| classic.sample_sum).collect()),
    ];
    for (selector, expected) in expected {
        // VictoriaMetrics shows what it has taken a second later.
        let stored = eventually(&format!("all of {selector} at {receiver}"), async || {
            let stored = store.samples(selector).await;
            assert!(stored.len() <= 1, "{selector} at {receiver}");
            let stored = stored.into_values().flatten().map(|(_, value)| value);
            // VictoriaMetrics shows markers.
            let stored: Vec<f64> = stored.filter(|value| !value.is_nan()).collect();
            (stored.len() >= expected.len()).then_some(stored)
        })
        .await;
        assert_eq!(stored, expected, "{selector} at {receiver}");
    }
    let left = store.ask("query", &[("query", "rich_temperature_celsius"), ("nocache", "1")]).await;
    assert_eq!(left["result"].as_array().map(Vec::len), Some(0), "{receiver}: {left}");
}

async fn check_histograms(receiver: &str, store: &Store, expositions: &[Vec<MetricFamily>]) {
    for name in HISTOGRAMS {
        let expected = exposed(expositions, name);
        let stored = store.ask("query", &[("query", &format!("{name}[1h]"))]).await;
        let histograms = stored["result"][0]["histograms"].as_array();
        let histograms = histograms.unwrap_or_else(|| panic!("{name} at {receiver}: {stored}"));
        let mut shown: Vec<Shown> = histograms.iter().map(|stored| Shown::of_answer(&stored[1])).collect();
        if receiver == "debian" && name == "rich_floats" {
            // 2.42 does not know the marker of a histogram of floats as one.
            shown.truncate(expected.len());
        }
        assert_eq!(shown.len(), expected.len(), "{name} at {receiver}: {stored}");
        for (stored, exposed) in shown.iter().zip(&expected) {
            stored.assert_same(&Shown::of_exposed(exposed), &format!("{name} at {receiver}"));
        }
    }
    // A series that is gone has no value, though it had one a moment ago.
    let gone: &[&str] =
        if receiver == "debian" { &["rich_gauge_seconds"] } else { &["rich_floats", "rich_gauge_seconds"] };
    for name in gone {
        let left = store.ask("query", &[("query", name)]).await;
        assert_eq!(left["result"].as_array().map(Vec::len), Some(0), "{receiver}: {left}");
    }
}

async fn check_exemplars(receiver: &str, store: &Store, expositions: &[Vec<MetricFamily>]) {
    let counters = expositions.iter().flatten().filter_map(|family| family.metric[0].counter.as_ref());
    let whole = exposed(expositions, "rich_whole_seconds");
    let classic = exposed(expositions, "rich_classic_seconds");
    let buckets = |at: usize| classic.iter().filter_map(move |classic| classic.bucket[at].exemplar.as_ref());
    for (selector, expected) in [
        ("rich_requests", exemplars(counters.filter_map(|counter| counter.exemplar.as_ref()))),
        ("rich_whole_seconds", exemplars(whole.iter().flat_map(|histogram| &histogram.exemplars))),
        ("rich_classic_seconds_bucket{le=\"0.5\"}", exemplars(buckets(0))),
        ("rich_classic_seconds_bucket{le=\"2.0\"}", exemplars(buckets(1))),
    ] {
        // Of exemplars of one time, 2.42 keeps the first.
        let expected = if receiver == "debian" { first_of_each_time(expected) } else { expected };
        assert_eq!(stored_exemplars(store, selector).await, expected, "{selector} at {receiver}");
    }
}

/// What Prometheus has passed on of what it was sent by 2.0.
async fn check_metadata(behind: &Receiver, expositions: &[Vec<MetricFamily>]) {
    let mut expected: BTreeMap<String, (Told, String, String)> = BTreeMap::new();
    for family in expositions.iter().flatten() {
        let kind = match family.r#type() {
            MetricType::Counter => Told::Counter,
            MetricType::Gauge => Told::Gauge,
            MetricType::Histogram => Told::Histogram,
            MetricType::GaugeHistogram => Told::GaugeHistogram,
            other @ (MetricType::Summary | MetricType::Untyped) => panic!("nothing exposes {other:?}"),
        };
        let told = (kind, family.help.clone(), family.unit.clone());
        let is_classic =
            family.metric[0].histogram.as_ref().is_some_and(|histogram| !histogram.bucket.is_empty());
        let suffixes: &[&str] = if is_classic { &["_bucket", "_count", "_sum"] } else { &[""] };
        for suffix in suffixes {
            expected.insert(format!("{}{suffix}", family.name), told.clone());
        }
    }
    eventually("Prometheus has passed all of it on", async || {
        let entry = |metadata: &promring_testkit::receiver::ReceivedMetadata| {
            let told = (metadata.kind, metadata.help.clone(), metadata.unit.clone());
            (metadata.name.clone(), told)
        };
        let told: Vec<_> = behind.payload().metadata.iter().map(entry).collect();
        // Each series of ours is told of in one way only, sooner or later.
        let ours = told.iter().filter(|(name, _)| name.starts_with("rich_"));
        let ours: Vec<_> = ours.filter(|(_, told)| told.0 != Told::Unknown).cloned().collect();
        (ours == expected.clone().into_iter().collect::<Vec<_>>()).then_some(())
    })
    .await;
}
