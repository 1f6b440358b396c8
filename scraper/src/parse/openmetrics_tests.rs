//! What the OpenMetrics parser takes and what it refuses.

use proptest::prelude::*;

use super::*;

/// Samples and metadata as lines that are easy to compare.
fn read(body: &str) -> Result<Vec<String>, String> {
    read_bytes(body.as_bytes())
}

fn read_bytes(body: &[u8]) -> Result<Vec<String>, String> {
    let mut parser = OpenMetricsParser::new(body);
    let mut out = Vec::new();
    while let Some(item) = parser.next_item().map_err(|error| error.to_string())? {
        out.push(match &item {
            Item::Sample(sample) => {
                let pairs = sample.series.pairs().map_err(str::to_owned)?;
                let mut line: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
                line.push(sample.value.to_string());
                line.extend(sample.timestamp_ms.map(|ms| format!("@{ms}")));
                for exemplar in sample.exemplars {
                    let labels: Vec<String> =
                        exemplar.labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
                    line.push(format!(
                        "# {} {} {:?}",
                        labels.join(","),
                        exemplar.value,
                        exemplar.timestamp_ms
                    ));
                }
                line.join(" ")
            }
            Item::Histogram(_) | Item::Converted(_) => panic!("OpenMetrics has none: {item:?}"),
            Item::Metadata(Metadata { family, kind, help, unit }) => {
                let kind = kind.map(|kind| format!("{family} is {kind:?}"));
                let help = help.as_ref().map(|help| format!("{family} means {help}"));
                let unit = unit.map(|unit| format!("{family} in {unit}"));
                kind.or(help).or(unit).unwrap_or_default()
            }
        });
    }
    Ok(out)
}

/// What one line is read as, with `# EOF` after it.
fn one(line: &str) -> String {
    let read = read(&format!("{line}\n# EOF\n")).unwrap_or_else(|error| panic!("{line:?}: {error}"));
    assert_eq!(read.len(), 1, "{line:?}");
    read[0].clone()
}

#[track_caller]
fn refused(line: &str) -> String {
    refused_body(&format!("{line}\n# EOF\n"))
}

#[track_caller]
fn refused_body(body: &str) -> String {
    match read(body) {
        Err(error) => error,
        Ok(read) => panic!("{body:?} was read as {read:?}"),
    }
}

#[test]
fn names_labels_values_and_timestamps_are_read() {
    assert_eq!(one("a_total 1"), "__name__=a_total 1");
    assert_eq!(one("a:b{x=\"1\",y=\"2\"} 3.5 1700000000.123"), "__name__=a:b x=1 y=2 3.5 @1700000000123");
    assert_eq!(one("a{} 1"), "__name__=a 1");
}

#[test]
fn eof_is_mandatory() {
    for body in
        ["", "a 1\n", "a 1", "# TYPE a counter\n", "# TYPE a counter", "a 1 # {x=\"1\"} 1", "# HELP a"]
    {
        assert!(refused_body(body).contains("# EOF") || body == "# HELP a", "{body:?}");
    }
    assert_eq!(read("# EOF").unwrap(), [] as [&str; 0]);
    assert_eq!(read("# EOF\n").unwrap(), [] as [&str; 0]);
}

#[test]
fn eof_is_last() {
    for body in ["# EOF\n\n", "# EOF \n", "# EOF\na 1\n", "# EOF\n# EOF\n", "# EOFa"] {
        assert!(refused_body(body).contains("after # EOF"), "{body:?}");
    }
}

#[test]
fn the_end_stays_the_end() {
    let mut parser = OpenMetricsParser::new(b"a 1\n# EOF\n");
    parser.next_item().unwrap();
    assert_eq!(parser.next_item().unwrap(), None);
    assert_eq!(parser.next_item().unwrap(), None);
}

#[test]
fn tokens_are_separated_by_single_spaces() {
    for line in [
        " a 1",
        "a  1",
        "a 1 ",
        "a 1  2",
        "a 1 2 ",
        "a\t1",
        "a 1\t2",
        "a {x=\"1\"} 1",
        "a{ x=\"1\"} 1",
        "a{x =\"1\"} 1",
        "a{x= \"1\"} 1",
        "a{x=\"1\" } 1",
        "a{x=\"1\", y=\"2\"} 1",
        "a{x=\"1\"}1",
        "a{x=\"1\"}  1",
        "#  TYPE a counter",
        "# TYPE  a counter",
        "# TYPE a  counter",
        "# TYPE a counter ",
        "#TYPE a counter",
        "a 1  # {x=\"1\"} 1",
        "a 1 #  {x=\"1\"} 1",
        "a 1 # {x=\"1\"}  1",
        "a 1 # {x=\"1\"} 1 ",
        "a 1 # { x=\"1\"} 1",
        "a 1\r",
    ] {
        refused(line);
    }
}

#[test]
fn blank_lines_and_comments_are_refused() {
    for line in ["", " ", "#", "# comment", "#comment", "# EO"] {
        refused(line);
    }
}

#[test]
fn labels_need_commas_and_may_end_with_one() {
    assert_eq!(one("a{x=\"1\",} 1"), "__name__=a x=1 1");
    assert_eq!(one("{\"a\",} 1"), "__name__=a 1");
    for line in ["a{x=\"1\"y=\"2\"} 1", "a{,} 1", "a{x=\"1\",,} 1"] {
        refused(line);
    }
}

#[test]
fn a_unit_must_be_a_suffix_of_its_family() {
    assert_eq!(one("# UNIT a_seconds seconds"), "a_seconds in seconds");
    assert_eq!(one("# UNIT \"a.b_seconds\" seconds"), "a.b_seconds in seconds");
    assert_eq!(one("# UNIT a "), "a in ");
    for line in
        ["# UNIT a seconds", "# UNIT aseconds seconds", "# UNIT seconds seconds", "# UNIT a", "# UNIT "]
    {
        refused(line);
    }
}

#[test]
fn timestamps_are_seconds_as_floats() {
    for (text, ms) in [("1", 1_000), ("1.5e3", 1_500_000), ("-1.25", -1_250), ("0.0019", 1), ("-0.0019", -1)]
    {
        assert_eq!(one(&format!("a 1 {text}")), format!("__name__=a 1 @{ms}"));
    }
    for text in ["NaN", "+Inf", "-Inf", "x", "1_0", "", "1e400"] {
        refused(&format!("a 1 {text}"));
    }
}

#[test]
fn exemplars_may_stand_on_any_sample() {
    for (line, read) in [
        ("a_total 1 # {x=\"1\"} 2", "__name__=a_total 1 # x=1 2 None"),
        ("g 1 3 # {x=\"1\",y=\"\"} 2 4.5", "__name__=g 1 @3000 # x=1,y= 2 Some(4500)"),
        ("h{le=\"1\"} 1 # {} 2 -1", "__name__=h le=1 1 #  2 Some(-1000)"),
        ("{\"a b\"} 1 # {\"x y\"=\"1\",} NaN", "__name__=a b 1 # x y=1 NaN None"),
        ("a{x=\"} 1 # {\"} 1 # {x=\"# {}\"} 2", "__name__=a x=} 1 # { 1 # x=# {} 2 None"),
    ] {
        assert_eq!(one(line), read, "{line}");
    }
}

#[test]
fn escapes_in_exemplars_are_left_as_prometheus_leaves_them() {
    assert_eq!(one(r#"a 1 # {x="\\ \""} 2"#), r#"__name__=a 1 # x=\\ \" 2 None"#);
}

#[test]
fn a_malformed_exemplar_fails_the_scrape() {
    for exemplar in [
        "# {x=\"1\"}",
        "# {x=\"1\"} ",
        "# {x=\"1\"} x",
        "# {x=\"1\"} 1 x",
        "# {x=\"1\"} 1 NaN",
        "# {x=\"1\"} 1 2 3",
        "# {x=\"1} 1",
        "# {x} 1",
        "# {\"x\"} 1",
        "# {\"x\",y=\"1\"} 1",
        "# {x=\"1\"",
        "# x",
        "#",
        "# {x=\"1\"} 1 # {y=\"1\"} 1",
    ] {
        refused(&format!("a 1 {exemplar}"));
    }
    assert!(read_bytes(b"a 1 # {x=\"\xff\"} 1\n# EOF\n").is_err());
}

#[test]
fn an_exemplar_has_at_most_128_runes_of_labels() {
    let storable = |name: &str, value: &str| {
        let body = format!("a 1 # {{{name}=\"{value}\"}} 1\n# EOF\n");
        let item = OpenMetricsParser::new(body.as_bytes()).next_item().unwrap();
        let Some(Item::Sample(sample)) = item else { panic!("{item:?}") };
        sample.exemplars.into_iter().next().unwrap().is_storable()
    };
    assert!(storable("abc", &"é".repeat(125)));
    assert!(!storable("abc", &"é".repeat(126)));
    assert!(!storable("a", "1\",a=\"2"), "a name that is given twice");
}

#[test]
fn an_exemplars_label_with_an_empty_value_is_none() {
    let storable = |labels: &str| {
        let body = format!("a 1 # {{{labels}}} 1\n# EOF\n");
        let item = OpenMetricsParser::new(body.as_bytes()).next_item().unwrap();
        let Some(Item::Sample(sample)) = item else { panic!("{item:?}") };
        sample.exemplars.into_iter().next().unwrap().is_storable()
    };
    let full = format!("t=\"{}\"", "x".repeat(127));
    for labels in ["a=\"\"", "a=\"1\",a=\"\"", "a=\"\",a=\"1\"", "a=\"\",a=\"\"", "\"\"=\"\",a=\"1\""] {
        assert!(storable(labels), "{labels}");
    }
    assert!(storable(&format!("{full},longer=\"\"")), "a name that counts");
    for labels in ["a=\"1\",a=\"\",a=\"2\"", "\"\"=\"x\",a=\"1\"", &format!("{full},l=\"1\"")] {
        assert!(!storable(labels), "{labels}");
    }
}

#[test]
fn every_type_of_openmetrics_is_known_and_no_other() {
    for (text, kind) in [
        ("counter", "Counter"),
        ("gauge", "Gauge"),
        ("histogram", "Histogram"),
        ("gaugehistogram", "GaugeHistogram"),
        ("summary", "Summary"),
        ("info", "Info"),
        ("stateset", "StateSet"),
        ("unknown", "Unknown"),
    ] {
        assert_eq!(one(&format!("# TYPE a {text}")), format!("a is {kind}"));
    }
    for text in ["untyped", "Counter", "", "counter\r"] {
        assert!(refused(&format!("# TYPE a {text}")).contains("type"));
    }
}

#[test]
fn help_is_unescaped_and_may_be_empty() {
    assert_eq!(one(r#"# HELP a \\ \n \" \d"#), "a means \\ \n \" \\d");
    assert_eq!(one("# HELP a "), "a means ");
    refused("# HELP a");
    assert!(read_bytes(b"# HELP a \xff\n# EOF\n").is_err());
}

#[test]
fn names_in_utf8_are_quoted() {
    assert_eq!(one(r#"{"my.name","label.x"="v",y="1"} 1"#), "__name__=my.name label.x=v y=1 1");
    assert_eq!(one("# TYPE \"my.name\" gauge"), "my.name is Gauge");
    assert!(refused(r#"{a="x"} 1"#).contains("missing metric name"));
    assert!(refused(r#"a{"b"} 1"#).contains("twice"));
}

#[test]
fn a_quoted_name_may_hold_a_newline_and_a_value_may_not() {
    assert_eq!(one("{\"a\nb\"} 1"), "__name__=a\nb 1");
    assert_eq!(one("# TYPE \"a\nb\" gauge"), "a\nb is Gauge");
    refused("a{x=\"1\n2\"} 1");
    let mut parser = OpenMetricsParser::new(b"# TYPE \"a\nb\" gauge\n{\"a\nb\"} 1\nbad\n# EOF\n");
    parser.next_item().unwrap();
    parser.next_item().unwrap();
    assert_eq!(parser.next_item().unwrap_err().line, 5);
}

#[test]
fn bounds_and_quantiles_are_normalised_under_their_type_only() {
    let body = "# TYPE a histogram\na{le=\"1\"} 1\n# TYPE a summary\na{quantile=\"1\"} 1\n\
                # TYPE a gaugehistogram\na{le=\"1\"} 1\n# EOF\n";
    let read = read(body).unwrap();
    assert_eq!((read[1].as_str(), read[3].as_str()), ("__name__=a le=1.0 1", "__name__=a quantile=1.0 1"));
    assert_eq!(read[5], "__name__=a le=1 1");
}

#[test]
fn created_series_are_ordinary_ones() {
    let body = "# TYPE a counter\na_total 1\na_created 1.5e9\n# EOF\n";
    assert_eq!(read(body).unwrap()[2], "__name__=a_created 1500000000");
}

#[test]
fn what_samples_mean_is_not_looked_at() {
    let body = "# TYPE a counter\na_total -1\nb 1\na_total 2\n# TYPE h histogram\nh_bucket{le=\"2\"} 5\n\
                h_bucket{le=\"1\"} 9\na_total{x=\"1\"} 1\n# EOF\n";
    assert_eq!(read(body).unwrap().len(), 8);
}

#[test]
fn malformed_lines_are_refused() {
    for line in [
        "a",
        "a{",
        "a{x=\"1\"",
        "a{x=\"1} 1",
        "a{x} 1",
        "a{x=1} 1",
        "1a 1",
        "a-b 1",
        "a{a:b=\"1\"} 1",
        "a{x=\"1\",x=\"2\"} 1",
        "a 1 2 3",
        "a 1_0",
        "a 1e400",
        "a +NaN",
        "{} 1",
        "a{x=\"1\"}b 1",
        "# TYPE 1a counter",
        "# HELP \"a text",
    ] {
        refused(line);
    }
    assert!(read_bytes(b"a{x=\"\xff\"} 1\n# EOF\n").is_err());
}

#[test]
fn an_error_names_the_line_and_shows_it() {
    let mut parser = OpenMetricsParser::new(b"# TYPE a gauge\na 1\nbad line here\n# EOF\n");
    parser.next_item().unwrap();
    parser.next_item().unwrap();
    let error = parser.next_item().unwrap_err();
    assert_eq!((error.line, error.excerpt.as_str()), (3, "bad line here"));
}

proptest! {
    #[test]
    fn a_line_with_an_exemplar_is_read_as_token_by_token(
        line in "a?\\{?(b=\"[x#}\\\\]{0,2}( # \\{)?\"?,?){0,3}\\}{0,2} [1x](\"| # \\{(t=\"[x}\"\\\\]{0,2}\",?){0,2}\\} 1( 2)?)?( # \\{)?",
    ) {
        let body = line + "\n# EOF\n";
        let expected = OpenMetricsParser::new(body.as_bytes()).any_sample(body.as_bytes());
        match OpenMetricsParser::new(body.as_bytes()).next_item() {
            Ok(Some(Item::Sample(sample))) if sample.series.pairs().is_ok() => {
                prop_assert_eq!(Ok(Item::Sample(sample)), expected);
            }
            // It may be told later that a series is malformed.
            Ok(Some(Item::Sample(sample))) => match expected {
                Ok(Item::Sample(expected)) => prop_assert_eq!(expected.series.pairs(), sample.series.pairs()),
                _ => prop_assert!(expected.is_err()),
            },
            Ok(_) => prop_assert!(body.starts_with('#')),
            Err(_) => prop_assert!(expected.is_err()),
        }
    }
}
