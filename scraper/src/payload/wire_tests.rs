//! From a body to the requests in the queue, by both versions of remote write: what was exposed is what is sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use promring_model::config::{Config, QueueSettings};
use promring_model::target::TargetKey;
use promring_proto::exposition::{
    Bucket, BucketSpan, Counter, Exemplar, Histogram, LabelPair, Metric, MetricFamily, MetricType, Timestamp,
    Value as Plain, encode_delimited,
};
use promring_proto::histogram::{Counts, NativeHistogram, ResetHint};
use promring_proto::remote_write::{STALE_NAN_BITS, is_stale_marker, v1, v2};
use prost::Message as _;

use crate::labelsets::Shared;
use crate::parse::Format;
use crate::queue::{Encoding, LaneReader, RecordInfo, Volume};
use crate::rules::{Classes, SeriesRules};
use crate::scrape::{BodyRules, Staging};
use crate::send::open_queue;
use crate::series::{Scratch, SeriesCache};
use crate::sink::{self, Destination, Sink};
use crate::testing::{config_of, target_of};

const PROTOBUF: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0";
const TEXT: &str = "text/plain;version=0.0.4";
const MINUTE_MS: i64 = 60_000;

/// A target with two destinations: 1.0 and 2.0.
struct Way {
    rules: SeriesRules,
    body_rules: BodyRules,
    labels: Arc<Shared>,
    cache: SeriesCache,
    scratch: Scratch,
    sink: Sink,
    destinations: Vec<Arc<Destination>>,
    readers: Vec<LaneReader>,
    now_ms: i64,
    _dir: tempfile::TempDir,
}

/// One series of a request; labels as text, without instance and job.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sent {
    series: String,
    values: Vec<f64>,
    histograms: Vec<NativeHistogram>,
    exemplars: Vec<(String, f64, i64)>,
    start_ms: i64,
    metadata: Option<(i32, String, String)>,
}

impl Way {
    fn new(job: &str, remote_write: &str) -> Self {
        let config: Config = config_of(job, &[remote_write, &format!("{remote_write}, {V2}")]);
        let job = Arc::clone(&config.scrape_configs[0]);
        let target = target_of(&job);
        let (classes, class_of) = Classes::of(&config.remote_write);
        let dir = tempfile::tempdir().unwrap();
        let open = |entry: &Arc<_>| {
            let queue = open_queue(&Volume::new(), entry, &QueueSettings::default(), dir.path()).unwrap();
            Arc::new(Destination::new(Arc::clone(entry), Arc::new(queue)))
        };
        let destinations: Vec<Arc<Destination>> = config.remote_write.iter().map(open).collect();
        let rules = SeriesRules::new(&job, &target, &config.external_labels, &classes);
        let labels = Arc::default();
        let reader = |destination: &Arc<Destination>| {
            let lanes = destination.queue.lanes().borrow().clone();
            // That of the key 0.
            destination.queue.reader(lanes[0]).unwrap()
        };
        Self {
            body_rules: BodyRules::new(&job, &target),
            cache: SeriesCache::new(&rules, &labels),
            rules,
            labels,
            scratch: Scratch::default(),
            sink: Sink::new(destinations.iter().cloned().zip(class_of).collect(), Arc::default()),
            readers: destinations.iter().map(reader).collect(),
            destinations,
            now_ms: 1_800_000_000_000,
            _dir: dir,
        }
    }

    /// One scrape; what is sent of it by 1.0 and by 2.0.
    fn scrape(&mut self, content_type: &str, body: &[u8]) -> [Vec<Sent>; 2] {
        self.try_scrape(content_type, body).unwrap()
    }

    fn try_scrape(&mut self, content_type: &str, body: &[u8]) -> Result<[Vec<Sent>; 2], String> {
        self.now_ms += MINUTE_MS;
        self.cache.begin(&mut self.scratch);
        let Self { body_rules, rules, cache, scratch, now_ms, .. } = self;
        let mut staging =
            Staging { body_rules, rules, cache, scratch, time_ms: *now_ms, over_buckets: false };
        let result = staging.whole(content_type, body).map_err(|failure| failure.to_string());
        let mut lanes = self.sink.lanes(sink::Way::of(TargetKey(0)), &self.labels);
        match &result {
            Ok(()) => {
                self.cache.commit(self.now_ms, &mut self.scratch, |outgoing| lanes.push(outgoing));
            }
            Err(_) => self.cache.fail(self.now_ms, &mut self.scratch, |outgoing| lanes.push(outgoing)),
        }
        drop(lanes);
        result.map(|()| self.sent())
    }

    /// What went into the queues since it was asked last.
    fn sent(&mut self) -> [Vec<Sent>; 2] {
        self.destinations.iter().for_each(|destination| destination.flush(&self.labels));
        let mut out = [Vec::new(), Vec::new()];
        for (reader, out) in self.readers.iter_mut().zip(&mut out) {
            let mut body = Vec::new();
            while let Some(info) = reader.peek(&mut body) {
                let decoded = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
                let sent = match info.encoding() {
                    Encoding::V1 => of_v1(&v1::WriteRequest::decode(&*decoded).unwrap()),
                    Encoding::V2 => of_v2(&v2::Request::decode(&*decoded).unwrap()),
                };
                check_meta(&info, &sent);
                out.extend(sent);
                reader.ack(info.sequence);
            }
        }
        out
    }
}

const V2: &str = "protobuf_message: io.prometheus.write.v2.Request";
const EVERYTHING: &str = "send_exemplars: true, send_native_histograms: true";

/// What the record says of itself is what it holds.
fn check_meta(info: &RecordInfo, sent: &[Sent]) {
    let count = |of: fn(&Sent) -> usize| sent.iter().map(of).sum::<usize>() as u32;
    let meta = &info.meta;
    let counts = (meta.samples, meta.histograms, meta.exemplars, meta.metadata);
    let expected = (
        count(|sent| sent.values.len()),
        count(|sent| sent.histograms.len()),
        count(|sent| sent.exemplars.len()),
        count(|sent| usize::from(sent.metadata.is_some())),
    );
    assert_eq!(counts, expected);
}

fn shown<'l>(labels: impl Iterator<Item = (&'l str, &'l str)>) -> String {
    let shown = labels.filter(|(name, _)| !["instance", "job"].contains(name));
    shown
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join(",")
        .replace("__name__=", "")
}

fn of_v1(request: &v1::WriteRequest) -> Vec<Sent> {
    let labels = |labels: &[v1::Label]| shown(labels.iter().map(|label| (&*label.name, &*label.value)));
    let series = request.timeseries.iter().map(|series| Sent {
        series: labels(&series.labels),
        values: series.samples.iter().map(|sample| sample.value).collect(),
        histograms: series.histograms.iter().map(v2::Histogram::to_native).collect(),
        exemplars: series.exemplars.iter().map(|e| (labels(&e.labels), e.value, e.timestamp)).collect(),
        start_ms: series.histograms.iter().map(|histogram| histogram.start_timestamp).sum(),
        metadata: None,
    });
    let mut sent: Vec<Sent> = Vec::new();
    for series in series {
        match sent.last_mut() {
            // Exemplars of a histogram, behind it.
            Some(last) if series.values.is_empty() && series.histograms.is_empty() => {
                assert!(last.series == series.series && !last.histograms.is_empty());
                last.exemplars.extend(series.exemplars);
            }
            _ => sent.push(series),
        }
    }
    sent
}

fn of_v2(request: &v2::Request) -> Vec<Sent> {
    let text = |reference: u32| request.symbols[reference as usize].as_str();
    let labels = |refs: &[u32]| shown(refs.chunks(2).map(|pair| (text(pair[0]), text(pair[1]))));
    let series = request.timeseries.iter().map(|series| Sent {
        series: labels(&series.labels_refs),
        values: series.samples.iter().map(|sample| sample.value).collect(),
        histograms: series.histograms.iter().map(v2::Histogram::to_native).collect(),
        exemplars: series.exemplars.iter().map(|e| (labels(&e.labels_refs), e.value, e.timestamp)).collect(),
        start_ms: series.samples.iter().map(|sample| sample.start_timestamp).sum::<i64>()
            + series.histograms.iter().map(|histogram| histogram.start_timestamp).sum::<i64>(),
        metadata: series.metadata.map(|metadata| {
            (metadata.metric_type, text(metadata.help_ref).to_owned(), text(metadata.unit_ref).to_owned())
        }),
    });
    series.collect()
}

/// Values by series; a staleness marker as `stale`.
fn values(sent: &[Sent]) -> BTreeMap<String, String> {
    let value = |sent: &Sent| {
        let stale = |value: f64, kind: &str| {
            if is_stale_marker(value) { format!("stale {kind}") } else { value.to_string() }
        };
        let floats = sent.values.iter().map(|value| stale(*value, "float"));
        let histograms = sent.histograms.iter().map(|histogram| {
            let kind = if histogram.is_float() { "histogram of floats" } else { "histogram" };
            if is_stale_marker(histogram.sum) { stale(histogram.sum, kind) } else { kind.to_owned() }
        });
        floats.chain(histograms).collect::<Vec<_>>().join(" and ")
    };
    sent.iter().map(|sent| (sent.series.clone(), value(sent))).collect()
}

fn series<'s>(sent: &'s [Sent], name: &str) -> &'s Sent {
    sent.iter().find(|sent| sent.series == name).unwrap_or_else(|| panic!("no {name} in {sent:?}"))
}

fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    pairs.iter().map(|(name, value)| LabelPair { name: (*name).into(), value: (*value).into() }).collect()
}

fn family(name: &str, kind: MetricType, metric: Vec<Metric>) -> MetricFamily {
    let help = format!("What {name} means.");
    MetricFamily { name: name.into(), help, r#type: kind.into(), metric, unit: String::new() }
}

fn histogram_family(name: &str, kind: MetricType, histogram: Histogram) -> MetricFamily {
    family(name, kind, vec![Metric { histogram: Some(histogram), ..Metric::default() }])
}

/// A histogram of whole numbers with native and classic buckets.
fn whole() -> Histogram {
    Histogram {
        sample_count: 6,
        sample_sum: 12.5,
        schema: 3,
        zero_threshold: 0.001,
        zero_count: 1,
        positive_span: vec![BucketSpan { offset: 1, length: 2 }],
        positive_delta: vec![2, 1],
        bucket: vec![Bucket { cumulative_count: 4, upper_bound: 2.0, ..Bucket::default() }],
        ..Histogram::default()
    }
}

fn floats() -> Histogram {
    Histogram {
        sample_count_float: 4.5,
        sample_sum: 1.5,
        zero_threshold: 0.25,
        negative_span: vec![BucketSpan { offset: -1, length: 1 }],
        negative_count: vec![4.5],
        ..Histogram::default()
    }
}

fn exemplar(id: &str, value: f64, seconds: i64) -> Exemplar {
    let timestamp = (seconds > 0).then_some(Timestamp { seconds, nanos: 0 });
    Exemplar { label: labels(&[("trace_id", id)]), value, timestamp }
}

const NATIVE: &str = "scrape_native_histograms: true";

#[test]
fn native_histograms_of_every_type_are_sent_as_they_were_exposed() {
    let mut way = Way::new(NATIVE, EVERYTHING);
    let body = encode_delimited(&[
        histogram_family("whole", MetricType::Histogram, whole()),
        histogram_family("floats", MetricType::Histogram, floats()),
        histogram_family("gauge", MetricType::GaugeHistogram, whole()),
    ]);
    for sent in way.scrape(PROTOBUF, &body) {
        assert_eq!(sent.len(), 3, "a histogram is one sample");
        let whole = &series(&sent, "whole").histograms[0];
        assert_eq!((whole.schema, whole.sum, whole.zero_threshold), (3, 12.5, 0.001));
        assert_eq!((whole.reset_hint, whole.validate()), (ResetHint::Unknown, Ok(())));
        let counts = Counts::Integer {
            count: 6,
            zero_count: 1,
            positive_deltas: vec![2, 1],
            negative_deltas: Vec::new(),
        };
        assert_eq!(whole.counts, counts);
        let floats = &series(&sent, "floats").histograms[0];
        assert!(floats.is_float() && floats.validate() == Ok(()));
        let gauge = &series(&sent, "gauge").histograms[0];
        assert_eq!((gauge.reset_hint, &gauge.counts), (ResetHint::Gauge, &counts));
    }
    assert_eq!(way.cache.tally().histograms, 3);
}

#[test]
fn native_histograms_go_only_where_they_are_wanted() {
    let mut way = Way::new(NATIVE, "send_exemplars: true");
    let body = encode_delimited(&[
        histogram_family("h", MetricType::Histogram, whole()),
        family(
            "g",
            MetricType::Gauge,
            vec![Metric { gauge: Some(Plain { value: 1.0 }), ..Metric::default() }],
        ),
    ]);
    for sent in way.scrape(PROTOBUF, &body) {
        assert_eq!(values(&sent), BTreeMap::from([("g".to_owned(), "1".to_owned())]));
    }
    assert!(way.try_scrape(PROTOBUF, b"\x01").is_err());
    for sent in way.sent() {
        assert_eq!(values(&sent), BTreeMap::from([("g".to_owned(), "stale float".to_owned())]));
    }
}

#[test]
fn without_scrape_native_histograms_they_are_classic() {
    let mut way = Way::new("", EVERYTHING);
    let body = encode_delimited(&[histogram_family("h", MetricType::Histogram, whole())]);
    for sent in way.scrape(PROTOBUF, &body) {
        assert_eq!(
            values(&sent).into_keys().collect::<Vec<_>>(),
            ["h_bucket,le=+Inf", "h_bucket,le=2.0", "h_count", "h_sum"]
        );
    }
}

#[test]
fn classic_buckets_are_kept_beside_native_ones_where_they_are_always_wanted() {
    let mut way = Way::new(&format!("{NATIVE}\nalways_scrape_classic_histograms: true"), EVERYTHING);
    let body = encode_delimited(&[histogram_family("h", MetricType::Histogram, whole())]);
    for sent in way.scrape(PROTOBUF, &body) {
        let values = values(&sent);
        assert_eq!((values.len(), &*values["h"]), (5, "histogram"));
    }
}

#[test]
fn a_stale_histogram_is_marked_by_an_empty_one_whose_sum_is_the_marker() {
    let mut way = Way::new(NATIVE, EVERYTHING);
    let families = [
        histogram_family("whole", MetricType::Histogram, whole()),
        histogram_family("floats", MetricType::Histogram, floats()),
        family(
            "g",
            MetricType::Gauge,
            vec![Metric { gauge: Some(Plain { value: 1.0 }), ..Metric::default() }],
        ),
    ];
    way.scrape(PROTOBUF, &encode_delimited(&families));
    for sent in way.scrape(PROTOBUF, &encode_delimited(&families[2..])) {
        let stale = series(&sent, "whole").histograms[0].clone();
        assert_eq!(stale.sum.to_bits(), STALE_NAN_BITS);
        assert_eq!((stale.schema, stale.buckets(), stale.reset_hint), (0, 0, ResetHint::Unknown));
        assert_eq!(values(&sent)["floats"], "stale histogram of floats");
    }
    way.scrape(PROTOBUF, &encode_delimited(&families));
    assert!(way.try_scrape(PROTOBUF, b"\x01").is_err());
    for sent in way.sent() {
        let values: Vec<String> = values(&sent).into_values().collect();
        assert_eq!(values, ["stale histogram of floats", "stale float", "stale histogram"]);
    }
}

#[test]
fn a_series_that_becomes_a_float_is_marked_as_one() {
    let mut way = Way::new(NATIVE, EVERYTHING);
    way.scrape(PROTOBUF, &encode_delimited(&[histogram_family("x", MetricType::Histogram, whole())]));
    let gauge = Metric { gauge: Some(Plain { value: 1.0 }), ..Metric::default() };
    way.scrape(PROTOBUF, &encode_delimited(&[family("x", MetricType::Gauge, vec![gauge])]));
    for sent in way.scrape(PROTOBUF, b"") {
        assert_eq!(values(&sent)["x"], "stale float");
    }
}

#[test]
fn the_second_of_two_equal_histograms_is_a_duplicate() {
    let mut way = Way::new(NATIVE, EVERYTHING);
    let body = encode_delimited(&[
        histogram_family("h", MetricType::Histogram, whole()),
        histogram_family("h", MetricType::Histogram, floats()),
    ]);
    for sent in way.scrape(PROTOBUF, &body) {
        assert_eq!(values(&sent)["h"], "histogram");
    }
    assert_eq!(way.cache.tally().duplicates, 1);
}

#[test]
fn nothing_of_a_failed_scrape_is_sent_whatever_it_held() {
    let mut way = Way::new(NATIVE, EVERYTHING);
    let mut bad = whole();
    bad.sample_count = 99;
    let counter = Counter { value: 1.0, exemplar: Some(exemplar("a", 1.0, 5)), start_timestamp: None };
    let body = encode_delimited(&[
        histogram_family("good", MetricType::Histogram, whole()),
        family("c", MetricType::Counter, vec![Metric { counter: Some(counter), ..Metric::default() }]),
        histogram_family("bad", MetricType::Histogram, bad),
    ]);
    let error = way.try_scrape(PROTOBUF, &body).unwrap_err();
    assert!(error.contains("count does not match"), "{error}");
    assert_eq!(way.sent(), [Vec::new(), Vec::new()]);
    // Nor does its exemplar count as the last one.
    let good = &body[..];
    let end = good.len()
        - encode_delimited(&[histogram_family(
            "bad",
            MetricType::Histogram,
            Histogram { sample_count: 99, ..whole() },
        )])
        .len();
    for sent in way.scrape(PROTOBUF, &good[..end]) {
        assert_eq!(series(&sent, "c").exemplars.len(), 1);
    }
}

#[test]
fn what_stands_behind_a_histogram_with_too_many_buckets_is_counted() {
    let mut wide = whole();
    wide.positive_span[0].length = 1;
    wide.positive_span.push(BucketSpan { offset: 10_000, length: 1 });
    let gauge = Metric { label: labels(&[("a", "1")]), gauge: Some(Default::default()), ..Metric::default() };
    let body = encode_delimited(&[
        histogram_family("h", MetricType::Histogram, wide),
        family("g", MetricType::Gauge, vec![gauge]),
    ]);
    let mut way = Way::new(&format!("{NATIVE}\nnative_histogram_bucket_limit: 1"), EVERYTHING);
    way.cache.begin(&mut way.scratch);
    let Way { body_rules, rules, cache, scratch, now_ms, .. } = &mut way;
    let mut staging = Staging { body_rules, rules, cache, scratch, time_ms: *now_ms, over_buckets: false };
    let failure = staging.whole(PROTOBUF, &body).unwrap_err();
    assert!(failure.to_string().contains("histogram bucket limit exceeded"), "{failure}");
    assert_eq!(way.cache.failed_tally().scraped, 2);
}

#[test]
fn too_many_buckets_reduce_the_resolution_or_fail_the_scrape() {
    let body = encode_delimited(&[histogram_family("h", MetricType::Histogram, whole())]);
    let mut way = Way::new(&format!("{NATIVE}\nnative_histogram_bucket_limit: 1"), EVERYTHING);
    for sent in way.scrape(PROTOBUF, &body) {
        let histogram = &series(&sent, "h").histograms[0];
        assert_eq!((histogram.schema, histogram.buckets(), histogram.validate()), (2, 1, Ok(())));
    }
    let mut wide = whole();
    wide.positive_span[0].length = 1;
    wide.positive_span.push(BucketSpan { offset: 10_000, length: 1 });
    let body = encode_delimited(&[histogram_family("h", MetricType::Histogram, wide)]);
    assert_eq!(way.try_scrape(PROTOBUF, &body), Err("histogram bucket limit exceeded".to_owned()));

    let mut way = Way::new(&format!("{NATIVE}\nnative_histogram_min_bucket_factor: 2"), EVERYTHING);
    for sent in
        way.scrape(PROTOBUF, &encode_delimited(&[histogram_family("h", MetricType::Histogram, whole())]))
    {
        assert_eq!(series(&sent, "h").histograms[0].schema, 0);
    }
}

#[test]
fn a_native_histogram_is_one_sample_for_the_sample_limit() {
    let body = encode_delimited(&[
        histogram_family("a", MetricType::Histogram, whole()),
        histogram_family("b", MetricType::Histogram, floats()),
    ]);
    let mut way = Way::new(&format!("{NATIVE}\nsample_limit: 2"), EVERYTHING);
    way.scrape(PROTOBUF, &body);
    let mut way = Way::new(&format!("{NATIVE}\nsample_limit: 1"), EVERYTHING);
    assert_eq!(way.try_scrape(PROTOBUF, &body), Err("sample limit exceeded".to_owned()));
}

const CLASSIC: &str = "# TYPE h histogram
h_bucket{le=\"1\"} 2
h_bucket{le=\"+Inf\"} 3
h_sum 4.5
h_count 3
";

#[test]
fn converted_classic_histograms_go_by_2_0_and_have_no_place_in_1_0() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let mut way = ::metrics::with_local_recorder(&recorder, || {
        Way::new("convert_classic_histograms_to_nhcb: true", EVERYTHING)
    });
    let bucket = vec![Bucket { cumulative_count: 2, upper_bound: 1.0, ..Bucket::default() }];
    let classic = Histogram { sample_count: 3, sample_sum: 4.5, bucket, ..Histogram::default() };
    let protobuf = encode_delimited(&[histogram_family("h", MetricType::Histogram, classic)]);
    let bodies = [
        (TEXT, CLASSIC.to_owned().into_bytes()),
        (OPENMETRICS, format!("{CLASSIC}# EOF\n").into_bytes()),
        (PROTOBUF, protobuf),
    ];
    for (content_type, body) in bodies {
        let [v1, v2] = way.scrape(content_type, &body);
        assert_eq!(v1, []);
        let histogram = &series(&v2, "h").histograms[0];
        assert_eq!((histogram.schema, &histogram.custom_values[..]), (-53, &[1.0][..]));
        assert_eq!((histogram.sum, histogram.validate()), (4.5, Ok(())));
    }
    let metrics = recorder.handle().render();
    let dropped = "prometheus_remote_storage_histograms_dropped_total{remote_name=\"one\"";
    let line =
        metrics.lines().find(|line| line.starts_with(dropped) && line.contains("nhcb_in_rw1_not_supported"));
    assert!(line.is_some_and(|line| line.ends_with(" 3")), "{metrics}");
}

#[test]
fn exemplars_are_sent_once_and_in_order() {
    let mut way = Way::new("", EVERYTHING);
    let body = |exemplar: &str| format!("# TYPE a counter\na_total 1{exemplar}\n# EOF\n").into_bytes();
    let exemplars = |way: &mut Way, text: &str| {
        let [v1, v2] = way.scrape(OPENMETRICS, &body(text));
        assert_eq!(v1[0].exemplars, v2[0].exemplars);
        v2[0].exemplars.clone()
    };
    let first = exemplars(&mut way, " # {trace_id=\"x\",span_id=\"y\"} 0.5 1700000000.5");
    assert_eq!(first, [("span_id=y,trace_id=x".to_owned(), 0.5, 1_700_000_000_500)]);
    // The same again, and the same written otherwise.
    assert_eq!(exemplars(&mut way, " # {trace_id=\"x\",span_id=\"y\"} 0.5 1700000000.5"), []);
    assert_eq!(exemplars(&mut way, " # {span_id=\"y\",trace_id=\"x\"} 0.50 1700000000.5"), []);
    // Older than the last one.
    assert_eq!(exemplars(&mut way, " # {trace_id=\"z\"} 0.5 1600000000"), []);
    assert_eq!(way.cache.tally().exemplars_out_of_order, 1);
    let new = exemplars(&mut way, " # {trace_id=\"z\"} 0.5 1700000001");
    assert_eq!(new, [("trace_id=z".to_owned(), 0.5, 1_700_000_001_000)]);
    // Without a time of its own it has the scrape's, and is known by the rest.
    let timeless = exemplars(&mut way, " # {trace_id=\"t\"} 0.25");
    assert_eq!(timeless, [("trace_id=t".to_owned(), 0.25, way.now_ms)]);
    assert_eq!(exemplars(&mut way, " # {trace_id=\"t\"} 0.25"), []);
    // Of a series that went and came back it may be news.
    way.scrape(OPENMETRICS, b"# EOF\n");
    assert_eq!(exemplars(&mut way, " # {trace_id=\"t\"} 0.25").len(), 1);
}

#[test]
fn exemplars_go_only_where_they_are_wanted_and_not_with_a_dropped_series() {
    let relabel = "metric_relabel_configs: [{action: drop, source_labels: [__name__], regex: dropped_total}]";
    let body = b"a_total 1 # {id=\"1\"} 1 1\ndropped_total 1 # {id=\"2\"} 1 1\n# EOF\n";
    let mut way = Way::new(relabel, "send_native_histograms: true");
    for sent in way.scrape(OPENMETRICS, body) {
        assert_eq!((sent.len(), sent[0].exemplars.len()), (1, 0));
    }
    let mut way = Way::new(relabel, EVERYTHING);
    for sent in way.scrape(OPENMETRICS, body) {
        assert_eq!((sent.len(), sent[0].exemplars.len()), (1, 1));
    }
}

#[test]
fn exemplar_labels_are_as_exposed_and_too_long_ones_are_left_out() {
    let relabel = "metric_relabel_configs: [{action: labeldrop, regex: id}]";
    let mut way = Way::new(relabel, EVERYTHING);
    let long = "x".repeat(127);
    let body =
        format!("a_total{{id=\"1\"}} 1 # {{id=\"2\"}} 1 1\nb_total 1 # {{id=\"{long}\"}} 1 1\n# EOF\n");
    for sent in way.scrape(OPENMETRICS, body.as_bytes()) {
        assert_eq!(series(&sent, "a_total").exemplars, [("id=2".to_owned(), 1.0, 1_000)]);
        assert_eq!(series(&sent, "b_total").exemplars, []);
    }
}

#[test]
fn exemplars_in_protobuf_are_those_of_counters_buckets_and_native_histograms() {
    let mut way = Way::new(NATIVE, EVERYTHING);
    let counter = Counter { value: 1.0, exemplar: Some(exemplar("c", 1.0, 5)), start_timestamp: None };
    // In no order, one without a time, which native histograms want.
    let native = Histogram {
        exemplars: vec![exemplar("late", 2.0, 9), exemplar("timeless", 3.0, 0), exemplar("early", 1.0, 8)],
        ..whole()
    };
    let bucket = Bucket { upper_bound: 1.0, exemplar: Some(exemplar("b", 0.5, 0)), ..Bucket::default() };
    let classic = Histogram { bucket: vec![bucket], ..Histogram::default() };
    let body = encode_delimited(&[
        family("c", MetricType::Counter, vec![Metric { counter: Some(counter), ..Metric::default() }]),
        histogram_family("native", MetricType::Histogram, native),
        histogram_family("classic", MetricType::Histogram, classic),
    ]);
    for sent in way.scrape(PROTOBUF, &body) {
        assert_eq!(series(&sent, "c").exemplars, [("trace_id=c".to_owned(), 1.0, 5_000)]);
        let expected = [("trace_id=early".to_owned(), 1.0, 8_000), ("trace_id=late".to_owned(), 2.0, 9_000)];
        assert_eq!(series(&sent, "native").exemplars, expected);
        let of_bucket = &series(&sent, "classic_bucket,le=1.0").exemplars;
        assert_eq!(of_bucket, &[("trace_id=b".to_owned(), 0.5, way.now_ms)]);
    }
    for sent in way.scrape(PROTOBUF, &body) {
        assert!(sent.iter().all(|sent| sent.exemplars.is_empty()), "{sent:?}");
    }
    assert_eq!(way.cache.tally().exemplars_out_of_order, 0, "some of them were known");
}

#[test]
fn the_time_at_which_counting_began_goes_by_2_0() {
    let mut way = Way::new(NATIVE, EVERYTHING);
    let start_timestamp = Some(Timestamp { seconds: 1_700_000_000, nanos: 7_000_000 });
    let counter = |start_timestamp| {
        let counter = Counter { value: 1.0, exemplar: None, start_timestamp };
        vec![Metric { counter: Some(counter), ..Metric::default() }]
    };
    let future = Some(Timestamp { seconds: 1 << 40, nanos: 0 });
    let body = encode_delimited(&[
        family("c", MetricType::Counter, counter(start_timestamp)),
        family("future", MetricType::Counter, counter(future)),
        histogram_family("h", MetricType::Histogram, Histogram { start_timestamp, ..whole() }),
    ]);
    let [v1, v2] = way.scrape(PROTOBUF, &body);
    assert!(v1.iter().all(|sent| sent.start_ms == 0));
    assert_eq!(series(&v2, "c").start_ms, 1_700_000_000_007);
    assert_eq!(series(&v2, "h").start_ms, 1_700_000_000_007);
    assert_eq!(series(&v2, "future").start_ms, 0, "it cannot have begun after the sample");
}

#[test]
fn created_series_in_openmetrics_are_ordinary_ones() {
    let mut way = Way::new("", EVERYTHING);
    let body = b"# TYPE a counter\na_total 1\na_created 1700000000\n# EOF\n";
    for sent in way.scrape(OPENMETRICS, body) {
        assert_eq!(series(&sent, "a_created").values, [1_700_000_000.0]);
        assert_eq!(series(&sent, "a_total").start_ms, 0);
    }
}

#[test]
fn metadata_stand_beside_each_series_of_2_0() {
    let mut way = Way::new("", EVERYTHING);
    let body = "# HELP a_seconds What a means.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds
a_seconds_bucket{le=\"+Inf\"} 1\na_seconds_count 1\nother 1\n# TYPE b gauge\nb 1\n# EOF\n";
    for _ in 0..2 {
        let [v1, v2] = way.scrape(OPENMETRICS, body.as_bytes());
        assert!(v1.iter().all(|sent| sent.metadata.is_none()));
        let histogram = v1::MetricType::Histogram.into();
        let of_a = Some((histogram, "What a means.".to_owned(), "seconds".to_owned()));
        assert_eq!(series(&v2, "a_seconds_bucket,le=+Inf").metadata, of_a);
        assert_eq!(series(&v2, "a_seconds_count").metadata, of_a);
        assert_eq!(series(&v2, "other").metadata, None, "it is of no family");
        let of_b = Some((v1::MetricType::Gauge.into(), String::new(), String::new()));
        assert_eq!(series(&v2, "b").metadata, of_b);
    }
    // Its words change, and it comes with another type.
    let body = body.replace("What a means", "What a is").replace("# TYPE b gauge", "# TYPE b unknown");
    let [_, v2] = way.scrape(OPENMETRICS, body.as_bytes());
    assert_eq!(series(&v2, "a_seconds_count").metadata.clone().unwrap().1, "What a is.");
    assert_eq!(series(&v2, "b").metadata.clone().unwrap().0, 0);
}

#[test]
fn what_is_said_of_a_family_later_is_known_of_its_series() {
    let mut way = Way::new("", EVERYTHING);
    let [_, v2] = way.scrape(TEXT, b"a 1\nb 2\n");
    assert!(v2.iter().all(|sent| sent.metadata.is_none()));
    for _ in 0..2 {
        let [_, v2] = way.scrape(TEXT, b"# HELP a What a means.\n# TYPE a gauge\na 1\nb 2\n");
        let of_a = Some((v1::MetricType::Gauge.into(), "What a means.".to_owned(), String::new()));
        assert_eq!(series(&v2, "a").metadata, of_a);
        assert_eq!(series(&v2, "b").metadata, None);
    }
}

#[test]
fn metadata_are_not_sent_where_they_are_not_wanted() {
    let mut way = Way::new("", &format!("{EVERYTHING}, metadata_config: {{send: false}}"));
    let [_, v2] = way.scrape(TEXT, b"# TYPE a gauge\na 1\n");
    assert_eq!(v2[0].metadata, None);
}

#[test]
fn in_protobuf_metadata_exemplars_and_start_times_are_sent_together() {
    let mut way = Way::new(NATIVE, EVERYTHING);
    let start_timestamp = Some(Timestamp { seconds: 1_700_000_000, nanos: 0 });
    let exemplars = vec![exemplar("x", 1.0, 1_700_000_001)];
    let mut family = histogram_family(
        "h_bytes",
        MetricType::Histogram,
        Histogram { start_timestamp, exemplars, ..whole() },
    );
    family.unit = "bytes".into();
    let [v1, v2] = way.scrape(PROTOBUF, &encode_delimited(&[family]));
    assert_eq!(v1[0].exemplars, v2[0].exemplars);
    let expected = Sent {
        series: "h_bytes".into(),
        values: Vec::new(),
        histograms: v1[0].histograms.clone(),
        exemplars: vec![("trace_id=x".into(), 1.0, 1_700_000_001_000)],
        start_ms: 1_700_000_000_000,
        metadata: Some((v1::MetricType::Histogram.into(), "What h_bytes means.".into(), "bytes".into())),
    };
    assert_eq!(v2, [expected]);
}

#[test]
fn the_series_about_a_scrape_have_metadata_and_three_more_where_they_are_wanted() {
    for (job, count) in [("", 5), ("extra_scrape_metrics: true", 8)] {
        let mut way = Way::new(job, EVERYTHING);
        let mut lanes = way.sink.lanes(sink::Way::of(TargetKey(0)), &way.labels);
        let report = way.cache.report(std::iter::repeat(1.0_f64.to_bits()), 7);
        report.for_each(|outgoing| lanes.push(&outgoing));
        drop(lanes);
        let [v1, v2] = way.sent();
        assert_eq!((v1.len(), v2.len()), (count, count));
        let of_up = &series(&v2, "up").metadata;
        assert!(
            of_up.as_ref().is_some_and(|(_, help, unit)| help.starts_with("Health") && unit == "targets")
        );
        let extra = ["scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes"];
        assert_eq!(extra.iter().all(|name| v1.iter().any(|sent| sent.series == *name)), count == 8);
    }
}

#[test]
fn a_steady_scrape_of_plain_floats_allocates_nothing() {
    let mut way = Way::new("", EVERYTHING);
    let body =
        "# HELP a What a means.\n# TYPE a gauge\na{x=\"1\"} 1\na{x=\"2\"} 2\n# TYPE b counter\nb_total 3\n";
    way.scrape(TEXT, body.as_bytes());
    // A Content-Type is taken apart with some, once a scrape.
    way.body_rules.fallback = Some(Format::Text);
    let allocated = allocation_counter::measure(|| {
        way.cache.begin(&mut way.scratch);
        let Way { body_rules, rules, cache, scratch, now_ms, .. } = &mut way;
        let mut staging =
            Staging { body_rules, rules, cache, scratch, time_ms: *now_ms, over_buckets: false };
        staging.whole("", body.as_bytes()).unwrap();
        way.cache.commit(way.now_ms, &mut way.scratch, |_| {});
    });
    assert_eq!(allocated.count_total, 0);
}
