//! Native histograms, exemplars, metadata and start times through the real binary: what was exposed is what arrives, by
//! both versions of remote write.

use std::collections::BTreeMap;

use promring_model::labels::Labels;
use promring_proto::exposition::{Exemplar, Histogram, MetricFamily};
use promring_proto::histogram::{Counts, ResetHint};
use promring_proto::remote_write::is_stale_marker;
use promring_proto::remote_write::v1::MetricType;
use promring_testkit::exporter::RichExporter;
use promring_testkit::receiver::{Payload, ReceivedHistogram, Receiver};

use crate::support::{Process, eventually, metric};

/// Scrapes that are compared.
const SCRAPES: usize = 5;

struct Running {
    exporter: RichExporter,
    /// 1.0 and 2.0.
    receivers: [Receiver; 2],
    promring: Process,
    url: String,
    _dir: tempfile::TempDir,
}

async fn run(job: &str) -> Running {
    let loopback = "127.0.0.1:0".parse().unwrap();
    let exporter = RichExporter::start(loopback).await.unwrap();
    let receivers = [Receiver::start(loopback).await.unwrap(), Receiver::start(loopback).await.unwrap()];
    let text = format!(
        "
global: {{scrape_interval: 500ms, scrape_timeout: 500ms, external_labels: {{cluster: a}}}}
scrape_configs:
- job_name: rich
  static_configs: [{{targets: ['{}']}}]
{job}
remote_write:
- url: '{}'
  name: one
  send_exemplars: true
  send_native_histograms: true
  metadata_config: {{send_interval: 1s}}
- url: '{}'
  name: two
  send_exemplars: true
  send_native_histograms: true
  protobuf_message: io.prometheus.write.v2.Request
",
        exporter.address(),
        receivers[0].write_url(),
        receivers[1].write_url()
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("prometheus.yml");
    std::fs::write(&path, text).unwrap();
    let (promring, url) = Process::standalone("promring", &path, dir.path());
    Running { exporter, receivers, promring, url, _dir: dir }
}

impl Running {
    /// Lets it scrape some times, ends it, and gives what was exposed and what has arrived.
    async fn finish(mut self) -> (Vec<Vec<MetricFamily>>, [Payload; 2]) {
        eventually("scrapes", async || (self.exporter.exposed().len() > SCRAPES).then_some(())).await;
        // A scrape in flight ends before the process does, so that all that was exposed is sent.
        assert!(self.promring.terminate().success(), "{}", self.promring.log());
        let payloads = self.receivers.each_ref().map(Receiver::payload);
        (self.exporter.exposed(), payloads)
    }
}

/// The histograms that were exposed under this name, scrape by scrape.
fn exposed(expositions: &[Vec<MetricFamily>], name: &str) -> Vec<Histogram> {
    let families = expositions.iter().flatten().filter(|family| family.name == name);
    families.filter_map(|family| family.metric[0].histogram.clone()).collect()
}

/// A histogram as remote write has it.
fn check_histogram(received: &ReceivedHistogram, exposed: &Histogram) {
    let histogram = &received.histogram;
    assert_eq!((histogram.schema, histogram.sum), (exposed.schema, exposed.sample_sum));
    assert_eq!(histogram.zero_threshold, exposed.zero_threshold);
    match &histogram.counts {
        Counts::Integer { count, zero_count, positive_deltas, negative_deltas } => {
            assert_eq!((*count, *zero_count), (exposed.sample_count, exposed.zero_count));
            assert_eq!(
                (positive_deltas, negative_deltas),
                (&exposed.positive_delta, &exposed.negative_delta)
            );
        }
        Counts::Float { count, positive_counts, negative_counts, .. } => {
            assert_eq!(*count, exposed.sample_count_float);
            assert_eq!(
                (positive_counts, negative_counts),
                (&exposed.positive_count, &exposed.negative_count)
            );
        }
    }
    let spans = histogram.positive_spans.iter().map(|span| (span.offset, span.length));
    assert!(spans.eq(exposed.positive_span.iter().map(|span| (span.offset, span.length))));
    assert_eq!(received.series.get("cluster"), Some("a"));
    assert_eq!(received.series.get("handler"), Some("/"));
}

/// Each exemplar once, in order: labels as text, value, time.
fn exemplars<'e>(exposed: impl IntoIterator<Item = &'e Exemplar>) -> Vec<(String, f64, i64)> {
    let mut all: Vec<(String, f64, i64)> = Vec::new();
    for exemplar in exposed {
        let labels = exemplar.label.iter().map(|label| (label.name.as_str(), label.value.as_str()));
        let time = exemplar.timestamp.unwrap();
        let exemplar = (
            Labels::from_pairs(labels).to_string(),
            exemplar.value,
            time.seconds * 1_000 + i64::from(time.nanos / 1_000_000),
        );
        if !all.contains(&exemplar) {
            all.push(exemplar);
        }
    }
    all.sort_by(|one, other| one.2.cmp(&other.2).then(one.1.total_cmp(&other.1)));
    all
}

fn received_exemplars(payload: &Payload, name: &str, le: Option<&str>) -> Vec<(String, f64, i64)> {
    let of_name = payload.exemplars_of(name).filter(|exemplar| exemplar.series.get("le") == le);
    of_name.map(|exemplar| (exemplar.labels.to_string(), exemplar.value, exemplar.timestamp_ms)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn native_histograms_and_all_that_goes_with_them_arrive_by_both_versions() {
    let running = run("  scrape_native_histograms: true\n  extra_scrape_metrics: true").await;
    eventually("metadata by 1.0", async || {
        (!running.receivers[0].payload().metadata.is_empty()).then_some(())
    })
    .await;
    let sent = "prometheus_remote_storage_histograms_total";
    eventually("histograms", async || metric(&running.url, sent).await.filter(|sent| *sent > 0.0)).await;
    let extra = eventually("extra_scrape_metrics", async || {
        running.receivers[1].audit().last_samples("scrape_body_size_bytes").pop()
    })
    .await;
    let (expositions, payloads) = running.finish().await;

    assert!(extra.value.parse::<f64>().unwrap() > 100.0, "{extra:?}");
    for (payload, version) in payloads.iter().zip([1, 2]) {
        for name in ["rich_whole_seconds", "rich_floats", "rich_gauge_seconds"] {
            let expected = exposed(&expositions, name);
            let received: Vec<_> = payload.histograms_of(name).collect();
            assert_eq!(received.len(), expected.len(), "{name} by {version}.0");
            for (received, expected) in received.iter().zip(&expected) {
                check_histogram(received, expected);
                let hint = if name == "rich_gauge_seconds" { ResetHint::Gauge } else { ResetHint::Unknown };
                assert_eq!(received.histogram.reset_hint, hint);
                let start = if version == 2 && name != "rich_floats" { 1_700_000_000_000 } else { 0 };
                assert_eq!(received.start_ms, start, "{name} by {version}.0");
            }
        }
        let of_counter = expositions.iter().flatten().filter_map(|family| family.metric[0].counter.as_ref());
        let expected = exemplars(of_counter.filter_map(|counter| counter.exemplar.as_ref()));
        assert_eq!(received_exemplars(payload, "rich_requests", None), expected);
        let of_whole = exposed(&expositions, "rich_whole_seconds");
        let expected = exemplars(of_whole.iter().flat_map(|histogram| &histogram.exemplars));
        assert_eq!(received_exemplars(payload, "rich_whole_seconds", None), expected);
        let of_classic = exposed(&expositions, "rich_classic_seconds");
        let expected =
            exemplars(of_classic.iter().filter_map(|histogram| histogram.bucket[0].exemplar.as_ref()));
        assert_eq!(received_exemplars(payload, "rich_classic_seconds_bucket", Some("0.5")), expected);
    }
    check_metadata(&payloads);
    let starts: Vec<_> =
        payloads[1].starts.iter().map(|start| start.series.get("__name__").unwrap()).collect();
    assert!(starts.contains(&"rich_requests") && starts.contains(&"rich_classic_seconds_sum"), "{starts:?}");
    assert!(payloads[0].starts.is_empty());
}

/// 1.0 tells of families, 2.0 of series.
fn check_metadata(payloads: &[Payload; 2]) {
    let by_name = |payload: &Payload| -> BTreeMap<String, (MetricType, String, String)> {
        let entry = |m: &promring_testkit::receiver::ReceivedMetadata| {
            (m.name.clone(), (m.kind, m.help.clone(), m.unit.clone()))
        };
        payload.metadata.iter().map(entry).collect()
    };
    let [families, series] = payloads.each_ref().map(by_name);
    let counts = |name: &str| format!("What {name} counts.");
    let classic = (MetricType::Histogram, counts("rich_classic_seconds"), "seconds".to_owned());
    assert_eq!(families["rich_classic_seconds"], classic);
    assert_eq!(series["rich_classic_seconds_bucket"], classic);
    let gauge = (MetricType::Gauge, "How warm it is.".to_owned(), "celsius".to_owned());
    assert_eq!(families["rich_temperature_celsius"], gauge);
    assert_eq!(series["rich_temperature_celsius"], gauge);
    assert_eq!(families.len(), 6);
    assert_eq!(
        (series["rich_gauge_seconds"].0, series["up"].0),
        (MetricType::GaugeHistogram, MetricType::Gauge)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_family_that_goes_is_marked_as_the_histogram_that_it_was() {
    let running = run("  scrape_native_histograms: true").await;
    eventually("histograms", async || {
        let some = |receiver: &Receiver| receiver.payload().histograms_of("rich_floats").next().is_some();
        running.receivers.iter().all(some).then_some(())
    })
    .await;
    running.exporter.hide(&["rich_floats", "rich_whole_seconds"]);
    eventually("markers", async || {
        let stale = |payload: &Payload, name: &str, is_float: bool| {
            payload.histograms_of(name).last().is_some_and(|last| {
                is_stale_marker(last.histogram.sum) && last.histogram.is_float() == is_float
            })
        };
        let both = |receiver: &Receiver| {
            let payload = receiver.payload();
            stale(&payload, "rich_floats", true) && stale(&payload, "rich_whole_seconds", false)
        };
        running.receivers.iter().all(both).then_some(())
    })
    .await;
    let (_, payloads) = running.finish().await;
    for payload in &payloads {
        let markers = payload.histograms_of("rich_floats").filter(|h| is_stale_marker(h.histogram.sum));
        assert_eq!(markers.count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn classic_histograms_of_openmetrics_arrive_converted_by_2_0_alone() {
    let running = run("  convert_classic_histograms_to_nhcb: true").await;
    eventually("a histogram", async || {
        running.receivers[1].payload().histograms_of("rich_classic_seconds").nth(2).map(drop)
    })
    .await;
    eventually("what 1.0 cannot carry is counted", async || {
        metric(&running.url, "prometheus_remote_storage_histograms_dropped_total")
            .await
            .filter(|count| *count > 0.0)
    })
    .await;
    let (expositions, [v1, v2]) = running.finish().await;
    assert!(v1.histograms.is_empty());
    let expected = exposed(&expositions, "rich_classic_seconds");
    let received: Vec<_> = v2.histograms_of("rich_classic_seconds").collect();
    assert_eq!(received.len(), expected.len());
    for (received, expected) in received.iter().zip(&expected) {
        let histogram = &received.histogram;
        assert_eq!((histogram.schema, &histogram.custom_values[..]), (-53, &[0.5, 2.0][..]));
        assert_eq!(histogram.sum, expected.sample_sum);
        let Counts::Integer { count, .. } = histogram.counts else { panic!("{histogram:?}") };
        assert_eq!((count, histogram.validate()), (expected.sample_count, Ok(())));
    }
    let buckets = expected.iter().flat_map(|histogram| &histogram.bucket);
    let expected = exemplars(buckets.filter_map(|bucket| bucket.exemplar.as_ref()));
    assert_eq!(received_exemplars(&v2, "rich_classic_seconds", None), expected);
}
