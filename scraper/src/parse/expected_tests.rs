//! Whatever is expected, a parser finds the same.

use proptest::prelude::*;

use super::*;
use crate::parse::openmetrics::OpenMetricsParser;
use crate::parse::protobuf::HistogramOptions;
use crate::parse::text::TextParser;
use crate::parse::{Format, Parser};

/// Lines that series begin in all sorts of ways, and what is not one.
const TEXT: &[&str] = &[
    "a 1\n",
    "a  8\n",
    "a\t3\n",
    "a 9 \n",
    " a 1\n",
    "\n",
    "a{x=\"1\"} 2\n",
    "a{x=\"1\"}7\n",
    "a {x=\"1\"} 2\n",
    "a{x=\"} 1\"} 4 5\n",
    "a{x=\"one\ntwo\"} 6\n",
    "# TYPE a histogram\n",
    "# TYPE a gauge\n",
    "a{le=\"1\"} NaN\n",
    "a 0.12345678901234567\n",
    "a 1e3 17\n",
    "a +Inf\n",
    "a x\n",
    "a 1 2 3\n",
];

const OPENMETRICS: &[&str] = &[
    "a 1\n",
    "a 1 x\n",
    "a  1\n",
    "a{x=\"1\"} 2 1.5\n",
    "a{x=\"#\"} 3\n",
    "a{x=\"1\"} 2 # {t=\"1\"} 2\n",
    "a{x=\"} 1\"} 1.25\n",
    "# TYPE a histogram\n",
    "# TYPE a gauge\n",
    "a{le=\"1\"} 0.12345678901234567\n",
    "# EOF\n",
];

fn parser(format: Format, body: &str) -> Parser<'_> {
    Parser::of(format, HistogramOptions::default(), body.as_bytes())
}

/// What is found, until the end or an error, where `expected` says what is expected in this place.
fn found(format: Format, body: &str, mut expected: impl FnMut(usize) -> Option<Expected>) -> Vec<String> {
    let (mut parser, mut all) = (parser(format, body), Vec::new());
    loop {
        let expected = expected(all.len());
        let item = match parser.next_expecting(expected) {
            Err(error) => error.to_string(),
            Ok(None) => return all,
            Ok(Some(Found::Expected { value, timestamp_ms })) => {
                format!("{} {} {timestamp_ms:?}", expected.unwrap().identity, value.to_bits())
            }
            Ok(Some(Found::Item(Item::Sample(sample)))) if sample.exemplars.is_empty() => {
                let (value, timestamp_ms) = (sample.value.to_bits(), sample.timestamp_ms);
                format!("{} {value} {timestamp_ms:?}", sample.series.identity())
            }
            Ok(Some(Found::Item(item))) => format!("{item:?}"),
        };
        let failed = item.starts_with("line ");
        all.push(item);
        if failed {
            return all;
        }
    }
}

/// What can be expected of the series of these lines.
fn known(format: Format, lines: &[&str]) -> Vec<Option<Expected>> {
    let mut all = vec![None];
    for kind in ["", "# TYPE a histogram\n"] {
        for line in lines {
            let body = format!("{kind}{line}");
            let mut parser = parser(format, &body);
            while let Ok(Some(item)) = parser.next_item() {
                if let Item::Sample(sample) = item {
                    all.push(Expected::new(sample.series.line_bytes(), sample.series.identity()));
                }
            }
        }
    }
    all
}

proptest! {
    #[test]
    fn what_is_found_does_not_depend_on_what_is_expected(
        is_text: bool,
        lines in proptest::collection::vec(any::<prop::sample::Index>(), 1..12),
        expected in proptest::collection::vec(any::<prop::sample::Index>(), 12),
        ends_with_newline: bool,
    ) {
        let (format, all) =
            if is_text { (Format::Text, TEXT) } else { (Format::OpenMetrics, OPENMETRICS) };
        let mut body: String = lines.iter().map(|line| *line.get(all)).collect();
        if !ends_with_newline {
            body.pop();
        }
        let known = known(format, all);
        let as_expected = found(format, &body, |nth| *expected.get(nth)?.get(&known));
        prop_assert_eq!(as_expected, found(format, &body, |_| None));
    }
}

#[test]
fn a_line_that_begins_as_expected_comes_as_expected() {
    let of = |text: &str| {
        let mut parser = TextParser::new(text.as_bytes());
        let sample = parser.next_sample().unwrap().unwrap();
        Expected::new(sample.series.line_bytes(), sample.series.identity())
    };
    let known = of("a{x=\"1\"} 0");
    for (line, value, timestamp_ms) in [
        ("a{x=\"1\"} 12.5\n", 12.5, None),
        ("a{x=\"1\"} -3", -3.0, None),
        ("a{x=\"1\"} 1e3 17\n", 1e3, Some(17)),
        ("a{x=\"1\"}  +Inf \n", f64::INFINITY, None),
    ] {
        let mut parser = TextParser::new(line.as_bytes());
        let found = parser.next_expecting(known).unwrap();
        assert_eq!(found, Some(Found::Expected { value, timestamp_ms }), "{line:?}");
        assert_eq!(parser.next_expecting(known), Ok(None), "the line was read");
    }
    let mut parser = OpenMetricsParser::new(b"a{x=\"1\"} 12.5\na{x=\"1\"} 7 1.5\n# EOF\n");
    assert!(
        matches!(parser.next_expecting(known), Ok(Some(Found::Item(_)))),
        "it was checked in the other dialect"
    );
    let mut parser = OpenMetricsParser::new(b"a{x=\"1\"} 12.5\na{x=\"1\"} 7 1.5\n# EOF\n");
    let Some(Item::Sample(first)) = parser.next_item().unwrap() else { panic!("no sample") };
    let known = Expected::new(8, first.series.identity());
    let found = parser.next_expecting(known).unwrap();
    assert_eq!(found, Some(Found::Expected { value: 7.0, timestamp_ms: Some(1_500) }));
    assert_eq!(parser.next_expecting(known), Ok(None));
    assert_eq!(of("a{x=\"1\n2\"} 0"), None, "a text of two lines is searched for each time");
}
