//! The protobuf format.

use promring_proto::exposition::{
    Bucket, BucketSpan, Counter, Exemplar, Histogram, LabelPair, Metric, MetricFamily, MetricType, Quantile,
    Summary, Timestamp, Value, encode_delimited,
};

use super::{Case, PROTOBUF, bodies};

pub(super) fn cases(now_ms: i64) -> Vec<Case> {
    let mut cases = bodies("protobuf", "", PROTOBUF, &floats(now_ms));
    cases.extend(bodies("protobuf-bytes", "", PROTOBUF, &bytes()));
    cases.extend(bodies("native-off", "", PROTOBUF, &histograms(now_ms)));
    let native = "scrape_native_histograms: true";
    cases.extend(bodies("native", native, PROTOBUF, &histograms(now_ms)));
    let both = format!("{native}\nalways_scrape_classic_histograms: true");
    cases.extend(bodies("native-and-classic", &both, PROTOBUF, &histograms(now_ms)));
    let limit =
        format!("{native}\nnative_histogram_bucket_limit: 4\nnative_histogram_min_bucket_factor: 1.2");
    cases.extend(bodies("native-limited", &limit, PROTOBUF, &histograms(now_ms)));
    cases
}

fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    pairs.iter().map(|(name, value)| LabelPair { name: (*name).into(), value: (*value).into() }).collect()
}

fn family(name: &str, kind: MetricType, metric: Vec<Metric>) -> MetricFamily {
    MetricFamily {
        name: name.into(),
        help: format!("What {name} is."),
        r#type: kind as i32,
        metric,
        unit: String::new(),
    }
}

fn gauge(pairs: &[(&str, &str)], value: f64) -> Metric {
    Metric { label: labels(pairs), gauge: Some(Value { value }), ..Metric::default() }
}

fn counter(value: f64) -> Metric {
    Metric { counter: Some(Counter { value, ..Counter::default() }), ..Metric::default() }
}

fn one(name: &str, kind: MetricType, metric: Metric) -> Vec<u8> {
    encode_delimited(&[family(name, kind, vec![metric])])
}

fn bucket(upper_bound: f64, cumulative_count: u64) -> Bucket {
    Bucket { upper_bound, cumulative_count, ..Bucket::default() }
}

fn classic(bounds: &[(f64, u64)]) -> Histogram {
    Histogram {
        sample_count: 9,
        sample_sum: 4.5,
        bucket: bounds.iter().map(|(bound, count)| bucket(*bound, *count)).collect(),
        ..Histogram::default()
    }
}

fn of(histogram: Histogram) -> Metric {
    Metric { histogram: Some(histogram), ..Metric::default() }
}

fn exemplar(trace: &str, time_ms: Option<i64>) -> Exemplar {
    let timestamp = time_ms.map(|ms| Timestamp {
        seconds: ms.div_euclid(1_000),
        nanos: (ms.rem_euclid(1_000) * 1_000_000) as i32,
    });
    Exemplar { label: labels(&[("trace", trace)]), value: 0.5, timestamp }
}

fn untyped_without_value() -> Vec<u8> {
    let of = |x, untyped| Metric { label: labels(&[("x", x)]), untyped, ..Metric::default() };
    let metrics = vec![of("1", Some(Value { value: 7.0 })), of("2", None)];
    encode_delimited(&[family("u", MetricType::Untyped, metrics)])
}

fn floats(now_ms: i64) -> Vec<(&'static str, Vec<u8>)> {
    use MetricType::{Counter as CounterType, Gauge, GaugeHistogram, Histogram as HistogramType, Untyped};
    let summary = Summary {
        sample_count: 3,
        sample_sum: 1.5,
        quantile: vec![
            Quantile { quantile: 0.5, value: 1.0 },
            Quantile { quantile: 1.0, value: 2.0 },
            Quantile { quantile: 0.99, value: f64::NAN },
        ],
        ..Summary::default()
    };
    vec![
        ("counter", one("a_total", CounterType, counter(1.5))),
        ("gauge", one("g", Gauge, gauge(&[("x", "1")], -2.5))),
        ("gauge-nan", one("g", Gauge, gauge(&[("x", "1")], f64::NAN))),
        ("untyped", one("u", Untyped, Metric { untyped: Some(Value { value: 3.0 }), ..Metric::default() })),
        ("untyped-without-value", untyped_without_value()),
        ("summary", one("s", MetricType::Summary, Metric { summary: Some(summary), ..Metric::default() })),
        ("histogram", one("h", HistogramType, of(classic(&[(0.5, 1), (1.0, 3), (10.0, 8)])))),
        ("histogram-with-inf", one("h", HistogramType, of(classic(&[(0.5, 1), (f64::INFINITY, 9)])))),
        ("histogram-without-buckets", one("h", HistogramType, of(classic(&[])))),
        ("gauge-histogram", one("h", GaugeHistogram, of(classic(&[(0.5, 1), (1e21, 3)])))),
        (
            "float-histogram",
            one(
                "h",
                HistogramType,
                of(Histogram {
                    sample_count_float: 2.5,
                    sample_sum: 1.0,
                    bucket: vec![Bucket {
                        upper_bound: 1.0,
                        cumulative_count_float: 1.5,
                        ..Bucket::default()
                    }],
                    ..Histogram::default()
                }),
            ),
        ),
        (
            "bounds-in-odd-forms",
            one(
                "h",
                HistogramType,
                of(classic(&[(-0.0, 0), (1e-7, 1), (1e5, 2), (1e20, 3), (1e21, 4), (0.1, 5)])),
            ),
        ),
        ("with-a-time", one("t", Gauge, Metric { timestamp_ms: now_ms, ..gauge(&[], 1.0) })),
        ("with-a-negative-time", one("n", Gauge, Metric { timestamp_ms: -5, ..gauge(&[], 1.0) })),
        ("labels-not-sorted", one("g", Gauge, gauge(&[("z", "1"), ("b", "2"), ("A", "3")], 1.0))),
        ("label-twice", one("g", Gauge, gauge(&[("x", "1"), ("x", "2")], 1.0))),
        ("label-empty", one("g", Gauge, gauge(&[("x", ""), ("y", "1")], 1.0))),
        ("label-name-empty", one("g", Gauge, gauge(&[("", "1")], 1.0))),
        ("name-as-a-label", one("g", Gauge, gauge(&[("__name__", "other")], 1.0))),
        ("utf8-names", one("my gauge", Gauge, gauge(&[("my.label", "é")], 1.0))),
        ("no-name", one("", Gauge, gauge(&[], 1.0))),
        ("digit-first", one("1g", Gauge, gauge(&[], 1.0))),
        (
            "le-of-its-own",
            one("h", HistogramType, Metric { label: labels(&[("le", "x")]), ..of(classic(&[(1.0, 1)])) }),
        ),
        ("no-metrics", encode_delimited(&[family("e", Gauge, vec![])])),
        ("type-without-its-value", one("g", Gauge, counter(1.0))),
        ("no-value-at-all", one("g", Gauge, Metric::default())),
        (
            "same-series-twice",
            encode_delimited(&[family("g", Gauge, vec![gauge(&[], 1.0), gauge(&[], 2.0)])]),
        ),
        (
            "same-family-twice",
            encode_delimited(&[
                family("g", Gauge, vec![gauge(&[], 1.0)]),
                family("g", Gauge, vec![gauge(&[], 2.0)]),
            ]),
        ),
        (
            "unknown-type",
            encode_delimited(&[MetricFamily { r#type: 17, ..family("g", Gauge, vec![gauge(&[], 1.0)]) }]),
        ),
        (
            "exemplar-on-a-counter",
            one(
                "a_total",
                CounterType,
                Metric {
                    counter: Some(Counter {
                        value: 1.0,
                        exemplar: Some(exemplar("x", Some(now_ms))),
                        ..Counter::default()
                    }),
                    ..Metric::default()
                },
            ),
        ),
        (
            "exemplars-on-buckets",
            one(
                "h",
                HistogramType,
                of(Histogram {
                    bucket: vec![
                        Bucket { exemplar: Some(exemplar("x", Some(now_ms))), ..bucket(1.0, 1) },
                        Bucket { exemplar: Some(exemplar("y", None)), ..bucket(2.0, 2) },
                    ],
                    ..classic(&[])
                }),
            ),
        ),
        (
            "unit",
            encode_delimited(&[MetricFamily {
                unit: "seconds".into(),
                ..family("g_seconds", Gauge, vec![gauge(&[], 1.0)])
            }]),
        ),
    ]
}

fn bytes() -> Vec<(&'static str, Vec<u8>)> {
    let good = one("g", MetricType::Gauge, gauge(&[("x", "1")], 1.0));
    let cut = good[..good.len() - 2].to_vec();
    let mut long = good.clone();
    long[0] += 9;
    let mut short = good.clone();
    short[0] -= 1;
    let invalid_label = {
        let mut bytes = one("g", MetricType::Gauge, gauge(&[("x", "~")], 1.0));
        for byte in &mut bytes {
            if *byte == b'~' {
                *byte = 0xff;
            }
        }
        bytes
    };
    let unknown_field = {
        let mut family = family("g", MetricType::Gauge, vec![gauge(&[], 1.0)]);
        family.help = String::new();
        let mut bytes = prost::Message::encode_to_vec(&family);
        bytes.extend_from_slice(&[0xfa, 0x01, 2, 7, 7]);
        let mut out = vec![bytes.len() as u8];
        out.extend(bytes);
        out
    };
    vec![
        ("good", good.clone()),
        ("empty", Vec::new()),
        ("cut-off", cut),
        ("length-too-long", long),
        ("length-too-short", short),
        ("not-utf8-value", invalid_label),
        ("unknown-field", unknown_field),
        ("text", b"a 1\n".to_vec()),
        ("good-then-cut", [good.clone(), good[..5].to_vec()].concat()),
        ("length-nought", vec![0]),
        ("length-without-end", vec![0xff; 12]),
    ]
}

fn span(offset: i32, length: u32) -> BucketSpan {
    BucketSpan { offset, length }
}

fn native(schema: i32) -> Histogram {
    Histogram {
        sample_count: 12,
        sample_sum: 18.4,
        schema,
        zero_threshold: 0.001,
        zero_count: 2,
        positive_span: vec![span(0, 2), span(1, 2)],
        positive_delta: vec![1, 1, -1, 0],
        negative_span: vec![span(0, 2)],
        negative_delta: vec![2, 1],
        ..Histogram::default()
    }
}

fn histograms(now_ms: i64) -> Vec<(&'static str, Vec<u8>)> {
    use MetricType::{GaugeHistogram, Histogram as HistogramType};
    let one = |kind, histogram| self::one("n", kind, of(histogram));
    let float = Histogram {
        sample_count: 0,
        sample_count_float: 12.5,
        zero_count: 0,
        zero_count_float: 2.5,
        positive_delta: vec![],
        positive_count: vec![1.0, 2.5, 1.0, 1.0],
        negative_delta: vec![],
        negative_count: vec![2.0, 2.5],
        ..native(1)
    };
    let with_classic = Histogram { bucket: classic(&[(1.0, 3), (2.0, 9)]).bucket, ..native(1) };
    vec![
        ("integer", one(HistogramType, native(1))),
        ("integer-grown", one(HistogramType, Histogram { sample_count: 13, zero_count: 3, ..native(1) })),
        ("gauge", one(GaugeHistogram, native(1))),
        ("float", one(HistogramType, float.clone())),
        ("float-gauge", one(GaugeHistogram, float)),
        ("with-classic-buckets", one(HistogramType, with_classic.clone())),
        (
            "only-zero-threshold",
            one(HistogramType, Histogram { zero_threshold: 1e-9, ..classic(&[(1.0, 9)]) }),
        ),
        (
            "only-an-empty-span",
            one(HistogramType, Histogram { positive_span: vec![span(0, 0)], ..classic(&[(1.0, 9)]) }),
        ),
        ("schema-of-minus-4", one(HistogramType, native(-4))),
        ("schema-of-8", one(HistogramType, native(8))),
        ("gone", encode_delimited(&[])),
        ("schema-of-9", one(HistogramType, native(9))),
        ("schema-of-custom-buckets", one(HistogramType, native(-53))),
        ("count-does-not-match", one(HistogramType, Histogram { sample_count: 1, ..native(1) })),
        (
            "spans-and-deltas-do-not-match",
            one(HistogramType, Histogram { positive_delta: vec![1], ..native(1) }),
        ),
        (
            "second-of-the-same-labels-does-not-match",
            encode_delimited(&[family(
                "n",
                HistogramType,
                vec![of(native(1)), of(Histogram { positive_delta: vec![1], ..native(1) })],
            )]),
        ),
        (
            "second-of-other-labels-does-not-match",
            encode_delimited(&[family(
                "n",
                HistogramType,
                vec![
                    of(native(1)),
                    Metric {
                        label: labels(&[("a", "x")]),
                        ..of(Histogram { positive_delta: vec![1], ..native(1) })
                    },
                ],
            )]),
        ),
        (
            "second-behind-classic-series-does-not-match",
            encode_delimited(&[family(
                "n",
                HistogramType,
                vec![of(with_classic.clone()), of(Histogram { positive_delta: vec![1], ..native(1) })],
            )]),
        ),
        ("negative-bucket", one(HistogramType, Histogram { positive_delta: vec![1, -5, 3, 1], ..native(1) })),
        ("sum-nan", one(HistogramType, Histogram { sample_sum: f64::NAN, ..native(1) })),
        ("with-a-time", self::one("t", HistogramType, Metric { timestamp_ms: now_ms, ..of(native(1)) })),
        (
            "with-exemplars",
            one(
                HistogramType,
                Histogram {
                    exemplars: vec![exemplar("x", Some(now_ms)), exemplar("y", Some(now_ms - 500))],
                    ..native(1)
                },
            ),
        ),
        ("as-classic-only", one(HistogramType, classic(&[(1.0, 3), (2.0, 9)]))),
        ("as-native-again", one(HistogramType, with_classic)),
        ("target-fails", b"not protobuf".to_vec()),
    ]
}
