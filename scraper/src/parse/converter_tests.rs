//! Classic histograms that become native ones, in every format.

use promring_proto::exposition::{
    Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType as Type, encode_delimited,
};
use promring_proto::histogram::ResetHint;

use crate::parse::protobuf::HistogramOptions;
use crate::parse::{Format, Item, Parser};

/// Each item as a line: the series, and its value or how many observations it has by bound.
fn items(format: Format, always_classic: bool, body: &[u8]) -> Vec<String> {
    let options = HistogramOptions { convert_classic: true, always_classic, ..HistogramOptions::default() };
    let mut parser = Parser::of(format, options, body);
    let mut out = Vec::new();
    while let Some(item) = parser.next_item().unwrap() {
        let text = |series: crate::parse::SeriesText<'_>| {
            let mut pairs = series.pairs().unwrap();
            pairs.sort();
            let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            pairs.join(",").replace("__name__=", "")
        };
        match item {
            Item::Sample(sample) => out.push(format!("{} {}", text(sample.series), sample.value)),
            Item::Converted(converted) => {
                let histogram = &converted.histogram;
                let gauge = if histogram.reset_hint == ResetHint::Gauge { " gauge" } else { "" };
                out.push(format!(
                    "{}{gauge} {:?} sum {} at {:?} with {} exemplars",
                    text(converted.series),
                    histogram.custom_values,
                    histogram.sum,
                    converted.timestamp_ms,
                    converted.exemplars.iter().flat_map(|exemplars| *exemplars).count(),
                ));
            }
            Item::Histogram(_) | Item::Metadata(_) => {}
        }
    }
    out
}

const TEXT: &[u8] = b"# TYPE h histogram
h_bucket{a=\"x\",le=\"1\"} 2
h_bucket{a=\"x\",le=\"+Inf\"} 3
h_sum{a=\"x\"} 4
h_count{a=\"x\"} 3
h_bucket{a=\"y\",le=\"2\"} 1 7
h_count{a=\"y\"} 5 7
# TYPE g gauge
g 1
g_bucket{le=\"1\"} 9
";

#[test]
fn the_series_of_a_classic_histogram_come_as_one() {
    let expected = [
        "h,a=x [1.0] sum 4 at None with 0 exemplars",
        "h,a=y [2.0] sum 0 at Some(7) with 0 exemplars",
        "g 1",
        "g_bucket,le=1 9",
    ];
    assert_eq!(items(Format::Text, false, TEXT), expected);
}

#[test]
fn of_a_bound_and_a_name_that_stand_there_twice_the_first_counts_and_none_is_left() {
    let body = b"# TYPE h histogram
h_bucket{le=\"1\",a=\"x\",le=\"2\",__name__=\"h\"} 2
h_bucket{a=\"x\",le=\"+Inf\",__name__=\"other\"} 3
h_sum{__name__=\"\",a=\"x\"} 4
h_count{a=\"x\",le=\"\"} 3
h_bucket{le=\"\",le=\"1\"} 3
";
    assert_eq!(
        items(Format::Text, false, body),
        ["h,a=x [1.0] sum 4 at None with 0 exemplars", "h_bucket 3"]
    );
}

#[test]
fn what_is_no_part_of_a_histogram_and_has_its_name_and_labels_does_not_end_it() {
    let body = b"# TYPE h histogram
h_bucket{le=\"1\"} 2
h 7
h_bucket{le=\"NaN\"} 8
h_bucket{le=\"2\"} 3
h_count 3
h_sum{a=\"\"} 5
";
    let expected = ["h 7", "h_bucket,le=NaN 8", "h [1.0, 2.0] sum 0 at None with 0 exemplars"];
    assert_eq!(items(Format::Text, false, body)[..3], expected);
    assert_eq!(items(Format::Text, false, body).len(), 4, "an empty label makes it another one");
}

#[test]
fn the_classic_series_are_kept_where_they_are_always_wanted() {
    let all = items(Format::Text, true, TEXT);
    assert_eq!(all.len(), 10);
    assert_eq!(all[0], "h_bucket,a=x,le=1.0 2");
    assert_eq!(all[4], "h,a=x [1.0] sum 4 at None with 0 exemplars");
}

#[test]
fn exemplars_of_the_buckets_go_with_the_histogram_and_the_last_one_ends_with_the_body() {
    let body = b"# TYPE h histogram
h_bucket{le=\"1.0\"} 2 # {id=\"1\"} 0.5 1.5
h_bucket{le=\"+Inf\"} 3 # {id=\"2\"} 1.5
h_count 3
# EOF
";
    assert_eq!(items(Format::OpenMetrics, false, body), ["h [1.0] sum 0 at None with 2 exemplars"]);
}

#[test]
fn a_histogram_that_cannot_be_converted_is_left_out() {
    let body = b"# TYPE h histogram\nh_bucket{le=\"1\"} 5\nh_bucket{le=\"2\"} 3\nh_count 3\nother 1\n";
    assert_eq!(items(Format::Text, false, body), ["other 1"]);
}

#[test]
fn the_same_histogram_is_known_again_whichever_of_its_lines_comes_first() {
    let identity = |body: &str| {
        let options = HistogramOptions { convert_classic: true, ..HistogramOptions::default() };
        let mut parser = Parser::of(Format::Text, options, body.as_bytes());
        loop {
            if let Item::Converted(converted) = parser.next_item().unwrap().unwrap() {
                return converted.series.identity();
            }
        }
    };
    let text = str::from_utf8(TEXT).unwrap();
    let known = identity(text);
    let sum = "h_sum{a=\"x\"} 4\n";
    assert_eq!(identity(&text.replace("} 2\n", "} 1\n")), known);
    assert_eq!(
        identity(
            &text
                .replace(sum, "")
                .replace("h_bucket{a=\"x\",le=\"1\"}", &format!("{sum}h_bucket{{le=\"1\",a=\"x\"}}"))
        ),
        known
    );
    assert_ne!(identity(&text.replace("\"x\"", "\"z\"")), known);
    assert_ne!(identity(&text.replace("h_", "i_").replace("# TYPE h ", "# TYPE i ")), known);
}

fn classic(r#type: Type, counts: &[(f64, u64)], count: u64) -> Vec<u8> {
    let bucket = |(upper_bound, cumulative_count): &(f64, u64)| Bucket {
        upper_bound: *upper_bound,
        cumulative_count: *cumulative_count,
        ..Bucket::default()
    };
    let histogram = Histogram {
        sample_count: count,
        sample_sum: 4.0,
        bucket: counts.iter().map(bucket).collect(),
        ..Histogram::default()
    };
    let label = vec![LabelPair { name: "a".into(), value: "x".into() }];
    let metric = vec![Metric { label, histogram: Some(histogram), ..Metric::default() }];
    let family = MetricFamily { name: "h".into(), r#type: r#type.into(), metric, ..MetricFamily::default() };
    encode_delimited(&[family])
}

#[test]
fn classic_histograms_in_protobuf_are_converted_too() {
    let body = classic(Type::Histogram, &[(1.0, 2)], 3);
    let converted = "h,a=x [1.0] sum 4 at None with 0 exemplars";
    assert_eq!(items(Format::Protobuf, false, &body), [converted]);
    let all = items(Format::Protobuf, true, &body);
    assert_eq!((all.len(), all[4].as_str()), (5, converted));
    let body = classic(Type::GaugeHistogram, &[(1.0, 2)], 3);
    let converted = "h,a=x gauge [1.0] sum 4 at None with 0 exemplars";
    assert_eq!(items(Format::Protobuf, false, &body), [converted]);
}

#[test]
fn a_classic_histogram_in_protobuf_that_cannot_be_converted_fails_the_scrape() {
    let body = classic(Type::Histogram, &[(1.0, 5), (2.0, 3)], 5);
    let options = HistogramOptions { convert_classic: true, ..HistogramOptions::default() };
    let mut parser = Parser::of(Format::Protobuf, options, &body);
    assert!(matches!(parser.next_item(), Ok(Some(Item::Metadata(_)))));
    assert!(parser.next_item().unwrap_err().to_string().contains("cumulative"));
}

#[test]
fn a_comment_within_a_histogram_does_not_cut_it() {
    let body =
        b"# TYPE h histogram\nh_bucket{le=\"1\"} 1\n# comment\nh_bucket{le=\"+Inf\"} 3\nh_sum 2\nh_count 3\n";
    assert_eq!(items(Format::Text, false, body), ["h [1.0] sum 2 at None with 0 exemplars"]);
}
