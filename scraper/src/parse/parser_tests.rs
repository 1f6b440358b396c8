//! The interface that all formats have in common.

use promring_model::config::ScrapeProtocol;
use promring_proto::exposition::{
    Bucket, BucketSpan, Exemplar, Histogram, LabelPair, Metric, MetricFamily, MetricType, Value,
    encode_delimited,
};

use super::protobuf::HistogramOptions;
use super::{Format, Item, Parser, UnsupportedContentType};

fn names(content_type: &str, fallback: Option<ScrapeProtocol>, body: &[u8]) -> Result<Vec<String>, String> {
    let fallback = fallback.map(Format::from);
    let parser = Parser::new(content_type, fallback, HistogramOptions::default(), body);
    let mut parser = parser.map_err(|error| error.to_string())?;
    let mut names = Vec::new();
    while let Some(item) = parser.next_item().map_err(|error| error.to_string())? {
        if let Item::Sample(sample) = item {
            names.push(sample.series.pairs()?[0].1.clone().into_owned());
        }
    }
    Ok(names)
}

fn message() -> Vec<u8> {
    let metric = Metric { gauge: Some(Value { value: 1.0 }), ..Metric::default() };
    let mut family = MetricFamily { name: "a".into(), metric: vec![metric], ..MetricFamily::default() };
    family.set_type(MetricType::Gauge);
    encode_delimited(&[family])
}

#[test]
fn the_content_type_chooses_the_parser() {
    let (text, openmetrics) = (&b"a 1 5\n"[..], &b"a 1 5.5\n# EOF\n"[..]);
    assert_eq!(names("text/plain; version=0.0.4", None, text).unwrap(), ["a"]);
    assert_eq!(names("application/openmetrics-text; version=1.0.0", None, openmetrics).unwrap(), ["a"]);
    let protobuf =
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
    assert_eq!(names(protobuf, None, &message()).unwrap(), ["a"]);
    assert!(names("application/openmetrics-text", None, text).unwrap_err().contains("EOF"));
    assert!(names("text/plain", None, openmetrics).unwrap_err().contains("timestamp"));
}

#[test]
fn the_fallback_protocol_is_used_where_the_content_type_says_nothing() {
    let fallback = Some(ScrapeProtocol::PrometheusText0_0_4);
    assert_eq!(names("", fallback, b"a 1").unwrap(), ["a"]);
    assert_eq!(names("text/html", fallback, b"a 1").unwrap(), ["a"]);
    assert_eq!(names("", Some(ScrapeProtocol::PrometheusProto), &message()).unwrap(), ["a"]);
    assert_eq!(names("", Some(ScrapeProtocol::OpenMetricsText1_0_0), b"a 1\n# EOF").unwrap(), ["a"]);
}

#[test]
fn an_unsupported_content_type_fails_the_scrape() {
    let error = Parser::new("text/html", None, HistogramOptions::default(), b"a 1").unwrap_err();
    assert_eq!(error, UnsupportedContentType::Unsupported("text/html".into()));
}

#[test]
fn an_empty_body_succeeds_whatever_its_content_type() {
    for content_type in ["", "text/html", "application/openmetrics-text", "application/vnd.google.protobuf"] {
        assert_eq!(names(content_type, None, b"").unwrap(), [] as [&str; 0]);
    }
}

/// A body of every format, with an exemplar where the format has them.
fn bodies() -> [(Format, Vec<u8>); 3] {
    let text =
        "# HELP h Text.\n# TYPE h histogram\nh_bucket{le=\"1\",x=\"\\\\\"} 1 5\nh_count 1e9\n".repeat(50);
    let openmetrics = "# TYPE h histogram\nh_bucket{le=\"1\"} 1 # {x=\"y\"} 1 5\nh_count 2 5.5\n".repeat(50);
    let bucket = Bucket {
        upper_bound: 1.0,
        exemplar: Some(Exemplar { label: vec![LabelPair::default()], ..Exemplar::default() }),
        ..Bucket::default()
    };
    let histogram = Histogram {
        bucket: vec![bucket],
        positive_span: vec![BucketSpan { offset: 0, length: 1 }],
        positive_delta: vec![1],
        ..Histogram::default()
    };
    let metric =
        Metric { label: vec![LabelPair::default()], histogram: Some(histogram), ..Metric::default() };
    let mut family = MetricFamily { name: "a".into(), metric: vec![metric; 50], ..MetricFamily::default() };
    family.set_type(MetricType::Histogram);
    [
        (Format::Text, text.into_bytes()),
        (Format::OpenMetrics, (openmetrics + "# EOF\n").into_bytes()),
        (Format::Protobuf, encode_delimited(&[family])),
    ]
}

#[test]
fn a_steady_scrape_allocates_nothing() {
    let options = HistogramOptions { native: true, always_classic: true, convert_classic: false };
    for (format, body) in bodies() {
        let mut items = 0;
        let allocated = allocation_counter::measure(|| {
            let mut parser = Parser::of(format, options, &body);
            while let Ok(Some(item)) = parser.next_item() {
                items += 1;
                match item {
                    Item::Sample(sample) => items += usize::from(sample.series.identity() == 0),
                    Item::Histogram(sample) => items += usize::from(sample.series.identity() == 0),
                    Item::Converted(_) | Item::Metadata(_) => {}
                }
            }
        });
        assert_eq!((allocated.count_total, items > 100), (0, true), "{format:?}");
    }
}
