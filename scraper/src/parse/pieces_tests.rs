//! Pieces give what the whole body gives, wherever it is cut.

use promring_proto::exposition::{
    Bucket, Counter, Histogram, LabelPair, Metric, MetricFamily, MetricType, Value, encode_delimited,
};

use super::*;
use crate::parse::Parser;

const OPTIONS: HistogramOptions =
    HistogramOptions { native: true, always_classic: true, convert_classic: false };

/// What there is to tell of an item.
fn shown(item: &Item<'_>) -> String {
    match item {
        Item::Sample(sample) => {
            let pairs = sample.series.pairs();
            let exemplars: Vec<_> = sample.exemplars.into_iter().collect();
            let (identity, bits) = (sample.series.identity(), sample.value.to_bits());
            format!("{pairs:?} {identity:x} {bits:x} {:?} {exemplars:?}", sample.timestamp_ms)
        }
        Item::Histogram(sample) => format!("{:?} {:?}", sample.series.pairs(), sample.timestamp_ms),
        Item::Converted(sample) => {
            format!("{:?} {:?} {:?}", sample.series.pairs(), sample.histogram, sample.timestamp_ms)
        }
        Item::Metadata(metadata) => format!("{metadata:?}"),
    }
}

fn whole(format: Format, body: &[u8]) -> Result<Vec<String>, String> {
    whole_with(OPTIONS, format, body)
}

fn whole_with(options: HistogramOptions, format: Format, body: &[u8]) -> Result<Vec<String>, String> {
    let mut parser = Parser::of(format, options, body);
    let mut out = Vec::new();
    while let Some(item) = parser.next_item().map_err(|error| error.to_string())? {
        out.push(shown(&item));
    }
    Ok(out)
}

/// Reads `body` as it would come in pieces of `step` bytes.
fn in_pieces(format: Format, body: &[u8], step: usize) -> Result<Vec<String>, String> {
    in_pieces_with(OPTIONS, format, body, step)
}

fn in_pieces_with(
    options: HistogramOptions,
    format: Format,
    body: &[u8],
    step: usize,
) -> Result<Vec<String>, String> {
    let mut parser = PieceParser::new(format, options);
    let (mut out, mut carried) = (Vec::new(), Vec::new());
    let mut pieces = body.chunks(step).peekable();
    while let Some(piece) = pieces.next() {
        carried.extend_from_slice(piece);
        let last = pieces.peek().is_none();
        let used = parser.read(&carried, last, |found| {
            let Found::Item(item) = found else { unreachable!("nothing is expected") };
            out.push(shown(&item));
            Ok::<_, ParseError>(None)
        });
        carried.drain(..used.map_err(|error| error.to_string())?);
    }
    assert!(carried.is_empty());
    Ok(out)
}

#[track_caller]
fn check(format: Format, body: &[u8]) {
    let expected = whole(format, body);
    for step in 1..=body.len() {
        assert_eq!(in_pieces(format, body, step), expected, "in pieces of {step} bytes");
    }
}

#[test]
fn text_may_be_cut_anywhere() {
    check(
        Format::Text,
        b"# HELP a of\\nit\n# TYPE a histogram\n\n# a comment\na_bucket{le=\"1\"} 1\na_bucket{le=\"+Inf\"} 2 1000\r\nb{x=\"one\ntwo } 1\n\",y=\"}\"} 3\n# TYPE \"c\nd\" gauge\n{\"c\nd\"} 4\n  \n# TYPE e summary\ne{quantile=\"1\"} 0.5",
    );
}

#[test]
fn a_classic_histogram_that_is_converted_is_not_cut_apart() {
    let series = "# TYPE a histogram\na_bucket{x=\"1\",le=\"1\"} 1\na_bucket{x=\"1\",le=\"+Inf\"} 2\na_count{x=\"1\"} 2\na_sum{x=\"1\"} 3\na_bucket{x=\"2\",le=\"+Inf\"} 4\nother 1\na_bucket{x=\"3\",le=\"+Inf\"} 5\n# TYPE b gauge\nb 1\n# TYPE c histogram\nc_bucket{le=\"+Inf\"} 6\nc_count 6\n";
    for always_classic in [false, true] {
        let options = HistogramOptions { native: true, always_classic, convert_classic: true };
        for (format, end) in [
            (Format::Text, ""),
            (Format::Text, "d{ 1\n"),
            (Format::OpenMetrics, "# EOF\n"),
            (Format::OpenMetrics, "# EOF\nd 1\n"),
        ] {
            let body = format!("{series}{end}");
            let expected = whole_with(options, format, body.as_bytes());
            assert!(expected.as_ref().map_or(!end.is_empty(), |items| items.len() > 8));
            for step in 1..=body.len() {
                let found = in_pieces_with(options, format, body.as_bytes(), step);
                assert_eq!(found, expected, "in pieces of {step} bytes");
            }
        }
    }
}

#[test]
fn malformed_text_fails_with_the_same_words() {
    for body in [
        &b"a 1\nb{x=\"1\" 2\nc 3\n"[..],
        b"a 1\nb{x=\"1\ny 2\nc 3\n",
        b"# TYPE a nonsense\na 1\n",
        b"a 1\n\n\nb\n",
        b"a 1\na{x=\"\xff\"} 1\nb",
    ] {
        assert!(whole(Format::Text, body).is_err() || body.contains(&0xff));
        check(Format::Text, body);
    }
}

#[test]
fn openmetrics_may_be_cut_anywhere() {
    check(
        Format::OpenMetrics,
        b"# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n# HELP a_seconds \\\"x\na_seconds_bucket{le=\"1\"} 1 5.5 # {id=\"#\"} 0.5 4\na_seconds_count 1\n{\"c\nd\",x=\"1\"} 4\n# EOF\n",
    );
    check(Format::OpenMetrics, b"a 1\n# EOF");
}

#[test]
fn openmetrics_ends_with_its_end_and_nothing_after_it() {
    for body in
        [&b"a 1\n"[..], b"a 1\n# EOF\nb 1\n", b"a 1\n# EOF\n\n", b"# EOF\n# EOF\n", b"a 1\n# EO", b"a 1"]
    {
        assert!(whole(Format::OpenMetrics, body).is_err());
        check(Format::OpenMetrics, body);
    }
}

fn label(name: &str, value: String) -> LabelPair {
    LabelPair { name: name.to_owned(), value }
}

fn families(metrics: u32) -> Vec<MetricFamily> {
    let counter = |number: u32| Metric {
        label: vec![label("n", number.to_string()), label("long", "x".repeat(100))],
        counter: Some(Counter { value: f64::from(number), ..Counter::default() }),
        ..Metric::default()
    };
    let histogram = Metric {
        histogram: Some(Histogram {
            sample_count: 5,
            bucket: vec![Bucket { cumulative_count: 3, upper_bound: 0.5, ..Bucket::default() }],
            ..Histogram::default()
        }),
        timestamp_ms: 1_000,
        ..Metric::default()
    };
    let gauge = Metric { gauge: Some(Value { value: 1.0 }), ..Metric::default() };
    let family = |name: &str, kind: MetricType, metric: Vec<Metric>| {
        let mut family =
            MetricFamily { name: name.into(), help: "what it is".into(), metric, ..MetricFamily::default() };
        family.set_type(kind);
        family
    };
    vec![
        family("before", MetricType::Gauge, vec![gauge.clone()]),
        family("many", MetricType::Counter, (0..metrics).map(counter).collect()),
        family("empty", MetricType::Counter, Vec::new()),
        family("after", MetricType::Histogram, vec![histogram]),
        family("end", MetricType::Gauge, vec![gauge]),
    ]
}

#[test]
fn protobuf_may_be_cut_anywhere() {
    let body = encode_delimited(&families(3));
    check(Format::Protobuf, &body);
    for cut in 1..body.len() {
        for step in [7, 50] {
            let cut = &body[..cut];
            assert_eq!(in_pieces(Format::Protobuf, cut, step), whole(Format::Protobuf, cut), "{step}");
        }
    }
}

#[test]
fn a_family_larger_than_what_may_be_carried_is_read_metric_by_metric() {
    let body = encode_delimited(&families(30_000));
    assert!(body.len() > 3 * CARRY_BYTES_MAX);
    let expected = whole(Format::Protobuf, &body).unwrap();
    for step in [100_000, 512 << 10, 3 << 20] {
        assert!(in_pieces(Format::Protobuf, &body, step) == Ok(expected.clone()), "{step}");
    }
    let cut_off = &body[..body.len() / 2];
    let error = in_pieces(Format::Protobuf, cut_off, 100_000).unwrap_err();
    assert!(error.contains("family 2: a metric family is cut off: \"many\""), "{error}");
}

#[test]
fn what_comes_before_the_first_metric_of_a_family_may_be_larger_than_what_may_be_carried_otherwise() {
    for metrics in [1, 30_000] {
        let mut families = families(metrics);
        families[1].help = "x".repeat(3 * CARRY_BYTES_MAX);
        families[2].help = families[1].help.clone();
        let body = encode_delimited(&families);
        let expected = whole(Format::Protobuf, &body).unwrap();
        for step in [100_000, 512 << 10, 3 << 20] {
            assert!(in_pieces(Format::Protobuf, &body, step) == Ok(expected.clone()), "{step}");
        }
        let cut_off = &body[..2 * CARRY_BYTES_MAX];
        let error = in_pieces(Format::Protobuf, cut_off, 100_000).unwrap_err();
        assert_eq!(Err(error), whole(Format::Protobuf, cut_off));
        // A field of a type that there is not, in the place of the help text.
        let mut broken = body.clone();
        let help = broken.windows(3).position(|bytes| bytes == b"xxx").unwrap();
        let tag = broken[..help].iter().rposition(|byte| *byte == 0x12).unwrap();
        broken[tag] = 0x17;
        let mut parser = PieceParser::new(Format::Protobuf, OPTIONS);
        let each = |_: Found<'_>| Ok::<_, ParseError>(None);
        let error = parser.read(&broken[..2 * CARRY_BYTES_MAX], false, each).unwrap_err();
        assert!(error.to_string().contains("family 2: a protobuf field has an unknown wire type"), "{error}");
    }
}

#[test]
fn a_long_line_is_taken_wherever_it_lies() {
    let long = [b"b{x=\"", &vec![b'x'; 2 * CARRY_BYTES_MAX][..], b"\"} 1\n"].concat();
    for body in [[b"a 1\n", &long[..]].concat(), [&long[..], b"a 1\n"].concat()] {
        for step in [100_000, 1 << 20, body.len()] {
            assert_eq!(in_pieces(Format::Text, &body, step).unwrap().len(), 2, "{step}");
        }
        let body = [&body[..], b"# EOF\n"].concat();
        assert_eq!(in_pieces(Format::OpenMetrics, &body, 100_000).unwrap().len(), 2);
    }
}

#[test]
fn what_cannot_be_read_ends_the_scrape_once_it_is_more_than_may_be_carried() {
    let body = [b"a 1\nb{x=\"1\" y\n", &b"c 1\n".repeat(CARRY_BYTES_MAX)[..]].concat();
    let mut parser = PieceParser::new(Format::Text, OPTIONS);
    let each = |_: Found<'_>| Ok::<_, ParseError>(None);
    assert_eq!(parser.read(&body[..100_000], false, each), Ok(4));
    let error = parser.read(&body[4..8 + CARRY_BYTES_MAX], false, each).unwrap_err();
    assert_eq!((error.line, error.excerpt.as_str()), (2, "b{x=\"1\" y"));
}

#[test]
fn however_much_a_family_tells_before_its_first_metric_it_is_looked_into_seldom() {
    // With each piece, this would not come to an end: fields of two bytes that nobody knows.
    let unknown = [0x78, 0].repeat(8 << 20);
    let mut message = b"\x0a\x01a\x18\x01".to_vec();
    message.extend(&unknown);
    message.extend(b"\x22\x0b\x12\x09\x09\0\0\0\0\0\0\0\0");
    let mut body = Vec::new();
    promring_proto::varint::push_varint(&mut body, message.len() as u64);
    body.extend(&message);
    let mut parser = PieceParser::new(Format::Protobuf, OPTIONS);
    let (mut used, mut samples) = (0, 0);
    for end in (1 << 10..body.len()).step_by(1 << 10).chain([body.len()]) {
        let read = parser.read(&body[used..end], end == body.len(), |found: Found<'_>| {
            samples += usize::from(matches!(found, Found::Item(Item::Sample(_))));
            Ok::<_, ParseError>(None)
        });
        used += read.unwrap();
    }
    assert_eq!((used, samples), (body.len(), 1));
}
