//! What the protobuf parser makes of messages that prost wrote.

use promring_proto::exposition::MetricType as Type;
use promring_proto::exposition::{
    Bucket, BucketSpan, Counter, Exemplar, Histogram, LabelPair, Metric, MetricFamily, Quantile, Summary,
    Timestamp, Value, encode_delimited,
};
use promring_proto::histogram::{Counts, NativeHistogram, ResetHint, Span};
use prost::Message;

use super::*;

mod against_prost;

/// What stands in a body, as lines that are easy to compare.
fn read(body: &[u8], options: HistogramOptions) -> Result<Vec<String>, String> {
    let mut parser = ProtobufParser::new(body, options);
    let mut out = Vec::new();
    while let Some(item) = parser.next_item().map_err(|error| error.to_string())? {
        out.push(match item {
            Item::Sample(Sample { series, value, timestamp_ms, start_ms, exemplars }) => {
                line(series, &value.to_string(), timestamp_ms, start_ms, exemplars)?
            }
            Item::Histogram(HistogramSample { series, histogram, timestamp_ms, start_ms, exemplars }) => {
                let buckets = format!("{} buckets", histogram.read()?.buckets());
                line(series, &buckets, timestamp_ms, start_ms, exemplars)?
            }
            Item::Converted(converted) => panic!("nobody asked for it: {converted:?}"),
            Item::Metadata(Metadata { family, kind, help, unit }) => {
                format!(
                    "{family}: {:?}, {:?}, {unit:?}",
                    kind.unwrap_or(MetricType::Info),
                    help.unwrap_or_default()
                )
            }
        });
    }
    Ok(out)
}

fn line(
    series: SeriesText<'_>,
    value: &str,
    timestamp_ms: Option<i64>,
    start_ms: i64,
    exemplars: Exemplars<'_>,
) -> Result<String, &'static str> {
    let pairs = series.pairs()?;
    let labels: Vec<String> = pairs[1..].iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut line = format!("{}{{{}}} {value}", pairs[0].1, labels.join(","));
    line.extend(timestamp_ms.map(|ms| format!(" @{ms}")));
    line.extend((start_ms != 0).then(|| format!(" since {start_ms}")));
    for exemplar in exemplars {
        let labels: Vec<String> =
            exemplar.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        line += &format!(" # {} {} {:?}", labels.join(","), exemplar.value, exemplar.timestamp_ms);
    }
    Ok(line)
}

fn family(name: &str, kind: Type, metrics: &[Metric]) -> MetricFamily {
    let mut family = MetricFamily { name: name.into(), metric: metrics.to_vec(), ..MetricFamily::default() };
    family.set_type(kind);
    family
}

/// The samples of one family.
fn samples(kind: Type, metrics: &[Metric], options: HistogramOptions) -> Vec<String> {
    let lines = read(&encode_delimited(&[family("f", kind, metrics)]), options).unwrap();
    lines[1..].to_vec()
}

fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |&(name, value): &(&str, &str)| LabelPair { name: name.into(), value: value.into() };
    pairs.iter().map(pair).collect()
}

fn gauge(value: f64) -> Metric {
    Metric { gauge: Some(Value { value }), ..Metric::default() }
}

fn of_histogram(histogram: Histogram) -> Metric {
    Metric { histogram: Some(histogram), ..Metric::default() }
}

fn bucket(upper_bound: f64, cumulative_count: u64) -> Bucket {
    Bucket { upper_bound, cumulative_count, ..Bucket::default() }
}

fn example(value: f64, timestamp: Option<Timestamp>) -> Exemplar {
    Exemplar { label: labels(&[("trace_id", "x")]), value, timestamp }
}

fn at(seconds: i64, nanos: i32) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos })
}

fn native() -> Histogram {
    Histogram {
        sample_count: 4,
        sample_sum: 1.5,
        schema: 2,
        zero_count: 1,
        positive_span: vec![BucketSpan { offset: -1, length: 3 }],
        positive_delta: vec![2, -2, 1],
        ..Histogram::default()
    }
}

const CLASSIC: HistogramOptions =
    HistogramOptions { native: false, always_classic: false, convert_classic: false };
const NATIVE: HistogramOptions =
    HistogramOptions { native: true, always_classic: false, convert_classic: false };
const BOTH: HistogramOptions =
    HistogramOptions { native: true, always_classic: true, convert_classic: false };

#[test]
fn simple_types_are_one_sample_a_metric() {
    let counter = Counter { value: 2.5, ..Counter::default() };
    let counter =
        Metric { counter: Some(counter), label: labels(&[("a", "1"), ("b", "é")]), ..Metric::default() };
    let untyped = Metric { untyped: Some(Value { value: 3.0 }), ..Metric::default() };
    assert_eq!(samples(Type::Counter, &[counter], CLASSIC), ["f{a=1,b=é} 2.5"]);
    assert_eq!(samples(Type::Gauge, &[gauge(1.0), gauge(-2.0)], CLASSIC), ["f{} 1", "f{} -2"]);
    assert_eq!(samples(Type::Untyped, &[untyped], CLASSIC), ["f{} 3"]);
}

#[test]
fn the_type_decides_which_value_is_read() {
    assert_eq!(samples(Type::Counter, &[gauge(5.0)], CLASSIC), ["f{} 0"]);
    assert_eq!(samples(Type::Summary, &[gauge(5.0)], CLASSIC), ["f_count{} 0", "f_sum{} 0"]);
}

#[test]
fn a_family_says_type_help_and_unit_at_once() {
    let mut seconds = family("f_seconds", Type::Gauge, &[gauge(1.0)]);
    (seconds.help, seconds.unit) = ("Time\n\"spent\".".into(), "seconds".into());
    let bare = family("g", Type::Untyped, &[gauge(1.0)]);
    let read = read(&encode_delimited(&[seconds, bare]), CLASSIC).unwrap();
    assert_eq!(read[0], "f_seconds: Gauge, \"Time\\n\\\"spent\\\".\", Some(\"seconds\")");
    assert_eq!(read[2], "g: Unknown, \"\", None");
}

#[test]
fn a_family_without_metrics_is_skipped() {
    let body = encode_delimited(&[family("", Type::Gauge, &[]), family("g", Type::Gauge, &[gauge(1.0)])]);
    assert_eq!(read(&body, CLASSIC).unwrap().len(), 2);
}

#[test]
fn a_timestamp_of_0_is_none() {
    let stamped = |timestamp_ms| Metric { timestamp_ms, ..gauge(1.0) };
    let read = samples(Type::Gauge, &[stamped(0), stamped(1_700_000_000_123), stamped(-5)], CLASSIC);
    assert_eq!(read, ["f{} 1", "f{} 1 @1700000000123", "f{} 1 @-5"]);
}

#[test]
fn a_summary_is_count_sum_and_quantiles() {
    let quantile = vec![Quantile { quantile: 0.5, value: 1.0 }, Quantile { quantile: 1.0, value: f64::NAN }];
    let summary = Summary { sample_count: 3, sample_sum: 4.5, quantile, ..Summary::default() };
    let metric =
        Metric { summary: Some(summary), label: labels(&[("a", "1")]), timestamp_ms: 7, ..Metric::default() };
    assert_eq!(
        samples(Type::Summary, &[metric], CLASSIC),
        ["f_count{a=1} 3 @7", "f_sum{a=1} 4.5 @7", "f{a=1,quantile=0.5} 1 @7", "f{a=1,quantile=1.0} NaN @7"]
    );
}

#[test]
fn a_classic_histogram_is_count_sum_and_buckets_with_infinity_made_up() {
    let histogram = Histogram {
        sample_count: 9,
        sample_sum: 4.5,
        bucket: vec![bucket(0.5, 1), bucket(1.0, 2), bucket(1e6, 3)],
        ..Histogram::default()
    };
    for kind in [Type::Histogram, Type::GaugeHistogram] {
        assert_eq!(
            samples(kind, &[of_histogram(histogram.clone())], NATIVE),
            [
                "f_count{} 9",
                "f_sum{} 4.5",
                "f_bucket{le=0.5} 1",
                "f_bucket{le=1.0} 2",
                "f_bucket{le=1e+06} 3",
                "f_bucket{le=+Inf} 9",
            ]
        );
    }
}

#[test]
fn a_bucket_of_infinity_is_not_made_up_twice_and_ends_the_buckets() {
    let bucket = vec![bucket(1.0, 1), bucket(f64::INFINITY, 2), bucket(3.0, 3)];
    let histogram = Histogram { sample_count: 9, bucket, ..Histogram::default() };
    let read = samples(Type::Histogram, &[of_histogram(histogram)], CLASSIC);
    assert_eq!(read[2..], ["f_bucket{le=1.0} 1", "f_bucket{le=+Inf} 2"]);
}

#[test]
fn counts_as_floats_go_before_whole_numbers() {
    let bucket =
        Bucket { cumulative_count: 7, cumulative_count_float: 1.5, upper_bound: 1.0, exemplar: None };
    let histogram =
        Histogram { sample_count: 9, sample_count_float: 2.5, bucket: vec![bucket], ..Histogram::default() };
    assert_eq!(
        samples(Type::Histogram, &[of_histogram(histogram)], NATIVE),
        ["f_count{} 2.5", "f_sum{} 0", "f_bucket{le=1.0} 1.5", "f_bucket{le=+Inf} 2.5"]
    );
}

#[test]
fn a_histogram_is_native_by_spans_zero_threshold_or_zero_count() {
    let span = vec![BucketSpan::default()];
    for histogram in [
        Histogram { positive_span: span.clone(), ..Histogram::default() },
        Histogram { negative_span: span, ..Histogram::default() },
        Histogram { zero_threshold: 0.1, ..Histogram::default() },
        Histogram { zero_count: 1, sample_count: 1, ..Histogram::default() },
    ] {
        assert_eq!(samples(Type::Histogram, &[of_histogram(histogram.clone())], NATIVE), ["f{} 0 buckets"]);
        assert_eq!(
            samples(Type::Histogram, &[of_histogram(histogram)], CLASSIC).len(),
            3,
            "with the option off"
        );
    }
    for histogram in
        [Histogram::default(), Histogram { zero_count_float: 1.0, schema: 3, ..Histogram::default() }]
    {
        assert_eq!(samples(Type::Histogram, &[of_histogram(histogram)], NATIVE).len(), 3);
    }
}

#[test]
fn the_classic_part_of_a_native_histogram_is_left_out_unless_it_is_asked_for() {
    let both = of_histogram(Histogram { bucket: vec![bucket(1.0, 1)], ..native() });
    assert_eq!(samples(Type::Histogram, std::slice::from_ref(&both), NATIVE), ["f{} 2 buckets"]);
    assert_eq!(
        samples(Type::Histogram, &[both, of_histogram(native())], BOTH),
        [
            "f{} 2 buckets",
            "f_count{} 4",
            "f_sum{} 1.5",
            "f_bucket{le=1.0} 1",
            "f_bucket{le=+Inf} 4",
            // Without buckets there is no classic part.
            "f{} 2 buckets",
        ]
    );
}

/// The native histogram in one metric.
fn histogram_of(kind: Type, histogram: Histogram) -> Result<NativeHistogram, &'static str> {
    let body = encode_delimited(&[family("f", kind, &[of_histogram(histogram)])]);
    let mut parser = ProtobufParser::new(&body, NATIVE);
    parser.next_item().unwrap();
    match parser.next_item() {
        Ok(Some(Item::Histogram(sample))) => sample.histogram.read(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_integer_histogram_is_read_without_its_empty_buckets() {
    let read = histogram_of(Type::Histogram, native()).unwrap();
    let span = |offset| Span { offset, length: 1 };
    let counts =
        Counts::Integer { count: 4, zero_count: 1, positive_deltas: vec![2, -1], negative_deltas: vec![] };
    let expected = NativeHistogram {
        schema: 2,
        sum: 1.5,
        positive_spans: vec![span(-1), span(1)],
        counts,
        ..NativeHistogram::default()
    };
    assert_eq!(read, expected);
    assert_eq!(read.validate(), Ok(()));
}

#[test]
fn a_float_histogram_is_known_by_its_counts() {
    let histogram = Histogram {
        sample_count_float: 4.5,
        zero_count_float: 0.5,
        zero_threshold: 0.25,
        negative_span: vec![BucketSpan { offset: 1, length: 2 }],
        negative_count: vec![1.5, 2.5],
        schema: -3,
        ..Histogram::default()
    };
    let read = histogram_of(Type::GaugeHistogram, Histogram { zero_count: 1, ..histogram }).unwrap();
    let counts = Counts::Float {
        count: 4.5,
        zero_count: 0.5,
        positive_counts: vec![],
        negative_counts: vec![1.5, 2.5],
    };
    assert_eq!((&read.counts, read.schema, read.zero_threshold), (&counts, -3, 0.25));
    assert_eq!(read.reset_hint, ResetHint::Gauge);
}

#[test]
fn memory_of_a_histogram_is_used_again_and_nothing_of_the_one_before_stays() {
    let float = Histogram {
        sample_count_float: 1.0,
        positive_delta: vec![9],
        positive_count: vec![1.0, 2.0, 3.0],
        ..native()
    };
    let messages =
        [native(), float.clone(), float, native(), native()].map(|histogram| histogram.encode_to_vec());
    let mut reused = NativeHistogram { custom_values: vec![1.0], ..NativeHistogram::default() };
    for message in &messages {
        let text = HistogramText::new(message, false, true);
        text.read_into(&mut reused).unwrap();
        assert_eq!(reused, text.read().unwrap());
    }
}

#[test]
fn spans_that_do_not_match_their_buckets_are_an_error() {
    for length in [0, 2, 4, u32::MAX] {
        let positive_span = vec![BucketSpan { offset: 0, length }];
        let error = histogram_of(Type::Histogram, Histogram { positive_span, ..native() }).unwrap_err();
        assert!(error.contains("spans"), "{error}");
    }
}

#[test]
fn exemplars_of_counters_and_buckets_are_read() {
    let counter =
        Counter { value: 1.0, exemplar: Some(example(2.5, at(1, 2_999_999))), ..Counter::default() };
    let counter = Metric { counter: Some(counter), ..Metric::default() };
    assert_eq!(samples(Type::Counter, &[counter], CLASSIC), ["f{} 1 # trace_id=x 2.5 Some(1002)"]);
    let bucket = Bucket { exemplar: Some(example(0.5, None)), ..bucket(1.0, 1) };
    let histogram = Histogram { bucket: vec![bucket], ..Histogram::default() };
    assert_eq!(
        samples(Type::Histogram, &[of_histogram(histogram)], CLASSIC)[2],
        "f_bucket{le=1.0} 1 # trace_id=x 0.5 None"
    );
}

#[test]
fn an_exemplar_that_is_not_utf8_is_left_out_and_its_sample_taken() {
    let exemplar = |name, value| Exemplar { label: labels(&[(name, value)]), ..example(0.5, at(1, 0)) };
    // Bytes of the same number, of which no UTF-8 has any.
    let spoilt = |kind, metric: Metric, options| {
        let mut body = encode_delimited(&[family("f", kind, &[metric])]);
        for at in memchr::memmem::find_iter(&body.clone(), b"SPOILT") {
            body[at..at + 6].fill(0xff);
        }
        read(&body, options).unwrap()[1..].to_vec()
    };
    for (name, value) in [("SPOILT", "1"), ("t", "SPOILT")] {
        let bad = || Some(exemplar(name, value));
        let counter = Counter { value: 1.0, exemplar: bad(), ..Counter::default() };
        let counter = Metric { counter: Some(counter), ..Metric::default() };
        assert_eq!(spoilt(Type::Counter, counter, CLASSIC), ["f{} 1"]);
        let bucket = vec![
            Bucket { exemplar: bad(), ..bucket(1.0, 1) },
            Bucket { exemplar: Some(exemplar("t", "1")), ..bucket(2.0, 2) },
        ];
        let classic = Histogram { bucket: bucket.clone(), ..Histogram::default() };
        let lines = spoilt(Type::Histogram, of_histogram(classic), CLASSIC);
        assert!(lines.contains(&"f_bucket{le=1.0} 1".to_owned()), "{lines:?}");
        assert!(lines.contains(&"f_bucket{le=2.0} 2 # t=1 0.5 Some(1000)".to_owned()), "{lines:?}");
        let in_buckets = of_histogram(Histogram { bucket, ..native() });
        assert_eq!(spoilt(Type::Histogram, in_buckets, NATIVE), ["f{} 2 buckets # t=1 0.5 Some(1000)"]);
        let own = vec![exemplar(name, value), exemplar("t", "1")];
        let own = of_histogram(Histogram { exemplars: own, ..native() });
        assert_eq!(spoilt(Type::Histogram, own, NATIVE), ["f{} 2 buckets # t=1 0.5 Some(1000)"]);
    }
}

#[test]
fn exemplars_of_a_native_histogram_need_a_timestamp_and_may_stand_in_its_buckets() {
    let own = vec![example(1.0, at(1, 0)), example(2.0, None), example(3.0, at(3, 0))];
    let bucket = |exemplar| Bucket { exemplar, ..bucket(1.0, 1) };
    let bucket = vec![bucket(Some(example(4.0, at(4, 0)))), bucket(None), bucket(Some(example(5.0, None)))];
    let with_own = Histogram { exemplars: own, bucket: bucket.clone(), ..native() };
    let without = Histogram { bucket, ..native() };
    assert_eq!(
        samples(
            Type::Histogram,
            &[of_histogram(with_own), of_histogram(without), of_histogram(native())],
            NATIVE
        ),
        [
            "f{} 2 buckets # trace_id=x 1 Some(1000) # trace_id=x 3 Some(3000)",
            "f{} 2 buckets # trace_id=x 4 Some(4000)",
            "f{} 2 buckets",
        ]
    );
}

#[test]
fn an_empty_label_value_is_an_absent_label() {
    let metric = Metric { label: labels(&[("a", ""), ("b", "1")]), ..gauge(1.0) };
    assert_eq!(samples(Type::Gauge, &[metric], CLASSIC), ["f{b=1} 1"]);
}

#[test]
fn an_exposed_staleness_marker_is_an_ordinary_nan() {
    let body =
        encode_delimited(&[family("f", Type::Gauge, &[gauge(promring_proto::remote_write::stale_marker())])]);
    let mut parser = ProtobufParser::new(&body, CLASSIC);
    parser.next_item().unwrap();
    let Ok(Some(Item::Sample(sample))) = parser.next_item() else { panic!("no sample") };
    assert_eq!(sample.value.to_bits(), promring_proto::remote_write::NORMAL_NAN_BITS);
}

#[test]
fn what_is_malformed_fails_the_scrape() {
    let good = || family("f", Type::Gauge, &[gauge(1.0)]);
    let metric = |label| Metric { label, ..gauge(1.0) };
    let mut unknown = good();
    unknown.r#type = 6;
    for (family, reason) in [
        (family("", Type::Gauge, &[gauge(1.0)]), "invalid metric name"),
        (unknown, "unknown metric type"),
        (family("f", Type::Gauge, &[metric(labels(&[("a", "1"), ("a", "2")]))]), "twice"),
        (family("f", Type::Gauge, &[metric(labels(&[("__name__", "g")]))]), "twice"),
        (family("f", Type::Gauge, &[metric(labels(&[("", "1")]))]), "empty"),
        (family("f", Type::Gauge, &[metric(labels(&[("", ""), ("b", "1")]))]), "empty"),
    ] {
        let error = read(&encode_delimited(&[family]), CLASSIC).unwrap_err();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    let bucket_label = Metric { label: labels(&[("le", "1")]), ..of_histogram(Histogram::default()) };
    let body = encode_delimited(&[family("f", Type::Histogram, &[bucket_label])]);
    assert!(read(&body, CLASSIC).unwrap_err().contains("twice"));
}

#[test]
fn an_error_names_the_family() {
    let mut bad = family("bad", Type::Gauge, &[gauge(1.0)]);
    bad.r#type = 9;
    let error =
        read(&encode_delimited(&[family("f", Type::Gauge, &[gauge(1.0)]), bad]), CLASSIC).unwrap_err();
    assert_eq!(error, "metric family 2: unknown metric type: \"\"");
}

#[test]
fn a_body_that_is_cut_off_anywhere_is_an_error_or_a_shorter_body() {
    let families = [
        family("f", Type::Gauge, &[gauge(1.0)]),
        family("h", Type::Histogram, &[of_histogram(Histogram { bucket: vec![bucket(1.0, 1)], ..native() })]),
    ];
    let body = encode_delimited(&families);
    let borders = [0, encode_delimited(&families[..1]).len(), body.len()];
    for end in 0..=body.len() {
        assert_eq!(read(&body[..end], BOTH).is_ok(), borders.contains(&end), "{end}");
    }
}

#[test]
fn a_claimed_length_is_not_believed() {
    for body in [
        &b"\xff\xff\xff\xff\x0f"[..],
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x06\x22\xff\xff\xff\xff\x0f",
        b"\x80\x80\x80\x80\x80\x00",
    ] {
        assert!(read(body, CLASSIC).is_err(), "{body:?}");
    }
}

#[test]
fn wrong_wire_types_and_groups_are_errors() {
    // name as a varint; metric as a varint; a group; field number 0.
    for body in [&b"\x02\x08\x01"[..], b"\x02\x20\x01", b"\x02\x33\x34", b"\x02\x00\x01"] {
        assert!(read(body, CLASSIC).is_err(), "{body:?}");
    }
}

#[test]
fn unknown_fields_are_skipped_and_may_stand_between_labels() {
    let pair = |name: &str| LabelPair { name: name.into(), value: "1".into() }.encode_to_vec();
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
    let value = Value { value: 1.0 }.encode_to_vec();
    let metric = [field(1, &pair("a")), field(2, &value), field(15, b"x"), field(1, &pair("b"))].concat();
    let family = [field(4, &metric), vec![0x18, 1], field(1, b"f"), field(14, b"y")].concat();
    let body = [vec![family.len() as u8], family].concat();
    assert_eq!(read(&body, CLASSIC).unwrap()[1], "f{a=1,b=1} 1");
}

#[test]
fn each_series_of_a_body_has_an_identity_of_its_own_which_stays() {
    let quantile = [0.0, 0.5, 1.0].map(|quantile| Quantile { quantile, value: 1.0 }).to_vec();
    let summary = |label| Metric {
        summary: Some(Summary { quantile: quantile.clone(), ..Summary::default() }),
        label,
        ..Metric::default()
    };
    let histogram = |label| Metric {
        label,
        ..of_histogram(Histogram { bucket: vec![bucket(0.0, 1), bucket(1.0, 2)], ..native() })
    };
    let families = |value: f64| {
        let metrics: Vec<Metric> =
            (0..50).map(|at| Metric { label: labels(&[("a", &at.to_string())]), ..gauge(value) }).collect();
        let pair = [labels(&[]), labels(&[("a", "1")])];
        [
            family("g", Type::Gauge, &metrics),
            family("s", Type::Summary, &pair.clone().map(summary)),
            family("h", Type::Histogram, &pair.map(histogram)),
        ]
    };
    let identities = |value| {
        let body = encode_delimited(&families(value));
        let mut parser = ProtobufParser::new(&body, BOTH);
        let mut out = Vec::new();
        while let Some(item) = parser.next_item().unwrap() {
            match item {
                Item::Sample(sample) => out.push(sample.series.identity()),
                Item::Histogram(sample) => out.push(sample.series.identity()),
                Item::Converted(_) | Item::Metadata(_) => {}
            }
        }
        out
    };
    let first = identities(1.0);
    assert_eq!(first, identities(2.5));
    let distinct: std::collections::HashSet<u64> = first.iter().copied().collect();
    assert_eq!(distinct.len(), first.len());
}

#[test]
fn the_time_at_which_counting_began_is_read_of_counters_summaries_and_histograms() {
    let start_timestamp = Some(Timestamp { seconds: 1_700_000_000, nanos: 5_999_999 });
    let counter = Counter { value: 1.0, start_timestamp, ..Counter::default() };
    let counter = Metric { counter: Some(counter), ..Metric::default() };
    assert_eq!(samples(Type::Counter, &[counter], NATIVE), ["f{} 1 since 1700000000005"]);
    let summary = Summary { sample_count: 1, start_timestamp, ..Summary::default() };
    let summary = Metric { summary: Some(summary), ..Metric::default() };
    let expected = ["f_count{} 1 since 1700000000005", "f_sum{} 0 since 1700000000005"];
    assert_eq!(samples(Type::Summary, &[summary], NATIVE), expected);
    let histogram = Histogram { sample_count: 1, zero_count: 1, start_timestamp, ..Histogram::default() };
    let histogram = Metric { histogram: Some(histogram), ..Metric::default() };
    let native = samples(Type::Histogram, std::slice::from_ref(&histogram), NATIVE);
    assert_eq!(native, ["f{} 0 buckets since 1700000000005"]);
    let classic = samples(Type::Histogram, &[histogram], CLASSIC);
    assert!(classic.len() == 3 && classic.iter().all(|line| line.ends_with(" since 1700000000005")));
}
