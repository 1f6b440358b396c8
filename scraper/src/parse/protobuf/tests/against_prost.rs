//! The parser against a plain expansion of the messages that prost decodes.

use proptest::prelude::*;

use super::*;

/// Series as pairs, bits of the value, timestamp.
type Flat = (Vec<(String, String)>, u64, Option<i64>);

fn flat(metric: &Metric, name: String, extra: Option<(&str, f64)>, value: f64) -> Flat {
    let mut pairs = vec![("__name__".to_owned(), name)];
    let labels = metric.label.iter().filter(|pair| !pair.value.is_empty());
    pairs.extend(labels.map(|pair| (pair.name.clone(), pair.value.clone())));
    pairs.extend(extra.map(|(name, value)| (name.to_owned(), crate::parse::number::format_float(value))));
    (pairs, normal(value), Some(metric.timestamp_ms).filter(|&ms| ms != 0))
}

fn normal(value: f64) -> u64 {
    crate::parse::number::normalise_nan(value).to_bits()
}

/// What Prometheus makes of a family when native histograms are off.
fn expand(family: &MetricFamily) -> Vec<Flat> {
    let mut out = Vec::new();
    for metric in &family.metric {
        let mut push = |suffix: &str, extra, value| {
            out.push(flat(metric, format!("{}{suffix}", family.name), extra, value));
        };
        match family.r#type() {
            Type::Counter => push("", None, metric.counter.as_ref().map_or(0.0, |counter| counter.value)),
            Type::Gauge => push("", None, metric.gauge.map_or(0.0, |gauge| gauge.value)),
            Type::Untyped => push("", None, metric.untyped.map_or(0.0, |untyped| untyped.value)),
            Type::Summary => {
                let summary = metric.summary.clone().unwrap_or_default();
                push("_count", None, summary.sample_count as f64);
                push("_sum", None, summary.sample_sum);
                for Quantile { quantile, value } in summary.quantile {
                    push("", Some(("quantile", quantile)), value);
                }
            }
            Type::Histogram | Type::GaugeHistogram => {
                let histogram = metric.histogram.clone().unwrap_or_default();
                let count = |int: u64, float: f64| if float == 0.0 { int as f64 } else { float };
                let all = count(histogram.sample_count, histogram.sample_count_float);
                push("_count", None, all);
                push("_sum", None, histogram.sample_sum);
                let mut infinite = false;
                for bucket in &histogram.bucket {
                    if infinite {
                        break;
                    }
                    let value = count(bucket.cumulative_count, bucket.cumulative_count_float);
                    push("_bucket", Some(("le", bucket.upper_bound)), value);
                    infinite = bucket.upper_bound == f64::INFINITY;
                }
                if !infinite {
                    push("_bucket", Some(("le", f64::INFINITY)), all);
                }
            }
        }
    }
    out
}

fn number() -> impl Strategy<Value = f64> {
    // prost leaves out a negative zero; adding makes it a positive one.
    prop_oneof![
        any::<f64>().prop_map(|value| value + 0.0),
        Just(0.0),
        Just(1.0),
        Just(f64::INFINITY),
        Just(f64::NAN)
    ]
}

fn exemplar() -> impl Strategy<Value = Exemplar> {
    let timestamp = prop::option::of((0..2_000_000_000_i64, 0..1_000_000_000_i32));
    (number(), timestamp).prop_map(|(value, time)| example(value, time.and_then(|(s, ns)| at(s, ns))))
}

fn spans() -> impl Strategy<Value = Vec<(i32, Vec<u8>)>> {
    prop::collection::vec((0..3_i32, prop::collection::vec(0..3_u8, 0..4)), 0..3)
}

fn bucket_spans(spans: &[(i32, Vec<u8>)]) -> Vec<BucketSpan> {
    spans.iter().map(|(offset, counts)| BucketSpan { offset: *offset, length: counts.len() as u32 }).collect()
}

fn histogram() -> impl Strategy<Value = Histogram> {
    let bucket = (any::<u64>(), number(), number(), prop::option::of(exemplar())).prop_map(
        |(cumulative_count, cumulative_count_float, upper_bound, exemplar)| Bucket {
            cumulative_count,
            cumulative_count_float,
            upper_bound,
            exemplar,
        },
    );
    (
        any::<u64>(),
        prop_oneof![Just(0.0), number()],
        number(),
        prop::collection::vec(bucket, 0..4),
        (-4..9_i32, 0..3_u64, spans(), spans()),
        prop::collection::vec(exemplar(), 0..3),
    )
        .prop_map(|(sample_count, sample_count_float, sample_sum, bucket, native, exemplars)| {
            let (schema, zero_count, positive, negative) = native;
            let absolute = |spans: &[(i32, Vec<u8>)]| -> Vec<i64> {
                spans.iter().flat_map(|(_, counts)| counts.iter().map(|&count| i64::from(count))).collect()
            };
            let deltas = |spans| {
                let mut last = 0;
                let delta = |count| count - std::mem::replace(&mut last, count);
                absolute(spans).into_iter().map(delta).collect::<Vec<i64>>()
            };
            let floats = |spans| absolute(spans).into_iter().map(|count| count as f64).collect::<Vec<f64>>();
            Histogram {
                sample_count,
                sample_count_float,
                sample_sum,
                bucket,
                schema,
                zero_count,
                positive_delta: deltas(&positive),
                negative_delta: deltas(&negative),
                positive_count: floats(&positive),
                negative_count: floats(&negative),
                positive_span: bucket_spans(&positive),
                negative_span: bucket_spans(&negative),
                exemplars,
                ..Histogram::default()
            }
        })
}

fn summary() -> impl Strategy<Value = Summary> {
    let quantile = (number(), number()).prop_map(|(quantile, value)| Quantile { quantile, value });
    (any::<u64>(), number(), prop::collection::vec(quantile, 0..4)).prop_map(
        |(sample_count, sample_sum, quantile)| Summary {
            sample_count,
            sample_sum,
            quantile,
            ..Summary::default()
        },
    )
}

fn metric() -> impl Strategy<Value = Metric> {
    let labels = prop::collection::btree_map("[a-z]{3,6}", "(?s).{0,6}", 0..4);
    let value = || prop::option::of(number().prop_map(|value| Value { value }));
    let counter = (number(), prop::option::of(exemplar())).prop_map(|(value, exemplar)| Counter {
        value,
        exemplar,
        ..Counter::default()
    });
    (
        labels,
        value(),
        value(),
        prop::option::of(counter),
        prop::option::of(summary()),
        prop::option::of(histogram()),
        prop_oneof![Just(0_i64), any::<i64>()],
    )
        .prop_map(|(labels, gauge, untyped, counter, summary, histogram, timestamp_ms)| Metric {
            label: labels.into_iter().map(|(name, value)| LabelPair { name, value }).collect(),
            gauge,
            counter,
            summary,
            untyped,
            histogram,
            timestamp_ms,
        })
}

fn families() -> impl Strategy<Value = Vec<MetricFamily>> {
    let family = ("[a-z]{1,5}", "(?s).{0,5}", 0..6_i32, prop::collection::vec(metric(), 0..4), "[a-z]{0,3}")
        .prop_map(|(name, help, kind, metric, unit)| MetricFamily { name, help, r#type: kind, metric, unit });
    prop::collection::vec(family, 0..4)
}

fn parsed(body: &[u8]) -> Result<Vec<Flat>, String> {
    let mut parser = ProtobufParser::new(body, CLASSIC);
    let mut out = Vec::new();
    while let Some(item) = parser.next_item().map_err(|error| error.to_string())? {
        if let Item::Sample(sample) = item {
            let pairs = sample.series.pairs()?.into_iter();
            let pairs = pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
            out.push((pairs, sample.value.to_bits(), sample.timestamp_ms));
        }
    }
    Ok(out)
}

proptest! {
    #[test]
    fn reading_by_hand_gives_what_prost_gives(families in families()) {
        let body = encode_delimited(&families);
        let expected: Vec<Flat> = families.iter().flat_map(expand).collect();
        prop_assert_eq!(parsed(&body), Ok(expected));
    }

    #[test]
    fn native_histograms_read_by_hand_are_what_prost_gives(message in histogram()) {
        let read = HistogramText::new(&message.encode_to_vec(), false, true).read().unwrap();
        let span = |span: &BucketSpan| Span { offset: span.offset, length: span.length };
        let is_float = message.sample_count_float > 0.0;
        let mut expected = NativeHistogram {
            schema: message.schema,
            sum: f64::from_bits(normal(message.sample_sum)),
            positive_spans: message.positive_span.iter().map(span).collect(),
            negative_spans: message.negative_span.iter().map(span).collect(),
            counts: if is_float {
                Counts::Float {
                    count: message.sample_count_float,
                    zero_count: 0.0,
                    positive_counts: message.positive_count,
                    negative_counts: message.negative_count,
                }
            } else {
                Counts::Integer {
                    count: message.sample_count,
                    zero_count: message.zero_count,
                    positive_deltas: message.positive_delta,
                    negative_deltas: message.negative_delta,
                }
            },
            ..NativeHistogram::default()
        };
        expected.compact();
        // A NaN equals nothing.
        prop_assert_eq!(format!("{read:?}"), format!("{expected:?}"));
    }

    #[test]
    fn no_bytes_make_the_parser_panic(body: Vec<u8>) {
        let _ = read(&body, BOTH);
    }

    #[test]
    fn no_broken_message_makes_the_parser_panic(
        families in families(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut body = encode_delimited(&families);
        for (at, byte) in damage {
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
            }
        }
        let _ = read(&body, BOTH);
    }
}
