//! What the text parser takes and what it refuses.

use super::*;

type Parsed = Vec<(Vec<(String, String)>, f64, Option<i64>)>;

fn parse(body: &str) -> Result<Parsed, String> {
    parse_bytes(body.as_bytes())
}

fn parse_bytes(body: &[u8]) -> Result<Parsed, String> {
    let mut parser = TextParser::new(body);
    let mut out = Vec::new();
    while let Some(sample) = parser.next_sample().map_err(|error| error.to_string())? {
        let pairs = sample.series.pairs().map_err(str::to_owned)?;
        let owned = pairs.into_iter().map(|(n, v)| (n.into_owned(), v.into_owned())).collect();
        out.push((owned, sample.value, sample.timestamp_ms));
    }
    Ok(out)
}

fn one(line: &str) -> (String, f64, Option<i64>) {
    let parsed = parse(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
    assert_eq!(parsed.len(), 1, "{line:?}");
    let (pairs, value, timestamp) = &parsed[0];
    let labels: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
    (labels.join(","), *value, *timestamp)
}

/// What TYPE and HELP lines say.
fn metadata(body: &str) -> Vec<String> {
    let mut parser = TextParser::new(body.as_bytes());
    let mut out = Vec::new();
    while let Some(item) = parser.next_item().unwrap() {
        if let Item::Metadata(Metadata { family, kind, help, .. }) = item {
            let kind = kind.map(|kind| format!("type {kind:?}"));
            let help = help.map(|help| format!("help {help}"));
            out.push(format!("{family}: {}", kind.or(help).unwrap_or_default()));
        }
    }
    out
}

fn refused(body: &str) -> String {
    match parse(body) {
        Err(error) => error,
        Ok(parsed) => panic!("{body:?} was taken as {parsed:?}"),
    }
}

#[test]
fn names_labels_values_and_timestamps_are_read() {
    assert_eq!(one("up 1"), ("__name__=up".into(), 1.0, None));
    assert_eq!(
        one("a:b{x=\"1\",y=\"2\"} 3.5 1700000000000\n"),
        ("__name__=a:b,x=1,y=2".into(), 3.5, Some(1_700_000_000_000))
    );
}

#[test]
fn the_final_newline_may_be_missing() {
    assert_eq!(parse("a 1\nb 2").unwrap().len(), 2);
}

#[test]
fn blank_lines_and_white_space_between_tokens_are_free() {
    assert_eq!(parse("\n  \t \na 1\n\n").unwrap().len(), 1);
    assert_eq!(one(" \ta { x = \"1\" , y\t=\t\"2\" , } \t 3  4 ").0, "__name__=a,x=1,y=2");
}

#[test]
fn tabs_and_spaces_between_tokens_are_free() {
    assert_eq!(one("\t a \t {\tx\t=\t\"1\"\t,\ty = \"2\" }\t \t3\t\t4\t").0, "__name__=a,x=1,y=2");
    assert_eq!(one("a{x=\"1\"}2").1, 2.0);
}

#[test]
fn a_trailing_comma_in_labels_is_free() {
    assert_eq!(one("a{x=\"1\",} 1").0, "__name__=a,x=1");
    assert_eq!(one("{\"a\",} 1").0, "__name__=a");
    refused("a{,} 1");
    refused("a{x=\"1\",,} 1");
}

#[test]
fn the_comma_between_labels_may_be_missing_as_prometheus_does_not_miss_it() {
    assert_eq!(one("a{x=\"1\" y=\"2\"z=\"3\"} 1").0, "__name__=a,x=1,y=2,z=3");
    refused("{\"a\" x=\"1\"} 1");
}

#[test]
fn comments_are_skipped() {
    let body = "# anything }\n#\n#\t\n#HELP\n# HELP\n# TYPE\n# TYPES of a thing\n#TYPE a thing\n# EOF\na 1\n";
    assert_eq!(parse(body).unwrap().len(), 1);
    assert_eq!(metadata(body), [] as [String; 0]);
}

#[test]
fn help_without_a_text_is_fine() {
    assert_eq!(metadata("# HELP a\n# HELP b \n#\t HELP \t c\t\n"), ["a: help ", "b: help ", "c: help "]);
    refused("# HELP \n");
    refused("# HELP 1a text\n");
}

#[test]
fn help_has_two_escapes() {
    assert_eq!(metadata("# HELP a \\\\ \\n \\\" \\d\n"), ["a: help \\ \n \\\" \\d"]);
}

#[test]
fn type_and_help_come_in_any_order_and_anywhere() {
    let body = "a 1\n# HELP a One.\n# TYPE a counter\na 2\n# TYPE b gauge\n# HELP b Two.\n# TYPE a gauge\n";
    assert_eq!(parse(body).unwrap().len(), 2);
    assert_eq!(
        metadata(body),
        ["a: help One.", "a: type Counter", "b: type Gauge", "b: help Two.", "a: type Gauge"]
    );
}

#[test]
fn an_unknown_type_is_an_error() {
    for body in [
        "# TYPE a counterr\n",
        "# TYPE a\n",
        "# TYPE a \n",
        "# TYPE a  counter\n",
        "# TYPE a counter \n",
        "# TYPE a counter\r\n",
        "# TYPE a Counter\n",
        "# TYPE a unknown\n",
        "# TYPE a info\n",
    ] {
        assert!(refused(body).contains("invalid metric type"), "{body:?}");
    }
    refused("# TYPE \n");
    assert_eq!(
        metadata("# TYPE a untyped\n# TYPE \"a b\" histogram\n# TYPE c summary"),
        ["a: type Unknown", "a b: type Histogram", "c: type Summary"]
    );
}

#[test]
fn braces_commas_and_spaces_in_values_belong_to_the_value() {
    assert_eq!(one(r#"a{x="}",y="a, b",z="} 1 {"} 1"#).0, "__name__=a,x=},y=a, b,z=} 1 {");
}

#[test]
fn label_escapes_are_backslash_quote_and_n_and_other_backslashes_are_literal() {
    assert_eq!(one(r#"a{x="\\ \" \n \d \\n \\\""} 1"#).0, "__name__=a,x=\\ \" \n \\d \\n \\\"");
}

#[test]
fn a_label_value_may_hold_a_newline() {
    let body = "ok 1\na{x=\"one\ntwo 2\nthree\",y=\"}\"} 3 4\nbad";
    let mut parser = TextParser::new(body.as_bytes());
    parser.next_sample().unwrap();
    let sample = parser.next_sample().unwrap().unwrap();
    assert_eq!((sample.value, sample.timestamp_ms), (3.0, Some(4)));
    assert_eq!(sample.series.pairs().unwrap()[1].1, "one\ntwo 2\nthree");
    assert_eq!(parser.next_sample().unwrap_err().line, 5);
    refused("a{x=\"one\\\ntwo\"} 1");
}

#[test]
fn an_empty_label_value_is_an_absent_label() {
    assert_eq!(one(r#"a{x="",y="1"} 1"#).0, "__name__=a,y=1");
}

#[test]
fn colons_are_legal_in_metric_names_and_not_in_label_names() {
    assert_eq!(one(":a:b: 1").0, "__name__=:a:b:");
    refused("a{b:c=\"1\"} 1");
}

#[test]
fn names_in_utf8_are_quoted_inside_the_braces() {
    assert_eq!(one(r#"{"my.name","label.x"="v",y="1"} 1"#).0, "__name__=my.name,label.x=v,y=1");
    assert_eq!(one(r#"{x="1","mé\"tric"} 1"#).0, "x=1,__name__=mé\"tric");
    refused(r#"{""} 1"#);
}

#[test]
fn a_metric_name_given_twice_is_an_error() {
    for body in [r#"a{"b"} 1"#, r#"{"a","b"} 1"#, r#"a{__name__="b"} 1"#, r#"{"a",__name__="b"} 1"#] {
        assert!(refused(body).contains("twice"), "{body}");
    }
}

#[test]
fn a_series_without_a_name_is_an_error() {
    assert!(refused(r#"{a="x"} 1"#).contains("missing metric name"));
    refused("{} 1");
}

#[test]
fn a_label_name_given_twice_is_an_error_however_many_labels_there_are() {
    refused("a{x=\"1\",x=\"2\"} 1");
    let labels: String = (0..100).map(|at| format!("l{at}=\"1\",")).collect();
    assert_eq!(parse(&format!("a{{{labels}}} 1")).unwrap()[0].0.len(), 101);
    refused(&format!("a{{{labels}l7=\"1\"}} 1"));
}

#[test]
fn bounds_and_quantiles_are_normalised_under_their_type_only() {
    let body = "a{le=\"1\"} 1\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh{quantile=\"1\"} 1\nh{le=\"x\"} 1\n\
                # TYPE s summary\ns{quantile=\"1\"} 1\n# TYPE g gauge\ng{le=\"1\"} 1\n";
    let labels: Vec<String> = parse(body).unwrap().iter().map(|(pairs, ..)| pairs[1].1.clone()).collect();
    assert_eq!(labels, ["1", "1.0", "1", "x", "1.0", "1"]);
}

#[test]
fn a_type_holds_until_the_next_one_whatever_the_names_are() {
    let body = "# TYPE h histogram\nother{le=\"1\"} 1\n# HELP other Text.\nother{le=\"1\"} 1\n";
    assert!(parse(body).unwrap().iter().all(|(pairs, ..)| pairs[1].1 == "1.0"));
}

#[test]
fn one_text_under_two_types_is_two_series() {
    let mut parser = TextParser::new(b"a{le=\"1\"} 1\na{le=\"1\"} 1\n# TYPE a histogram\na{le=\"1\"} 1\n");
    let mut next = || parser.next_sample().unwrap().unwrap().series.identity();
    let (plain, again, bound) = (next(), next(), next());
    assert!(plain == again && plain != bound);
}

#[test]
fn a_carriage_return_before_the_newline_fails() {
    refused("a 1\r\n");
    refused("a 1 2\r\n");
    refused("\r\n");
    assert_eq!(metadata("# HELP a Text.\r\n"), ["a: help Text.\r"]);
}

#[test]
fn timestamps_are_whole_milliseconds_and_never_negative() {
    assert_eq!(one("a 1 0").2, Some(0));
    for line in ["a 1 -5", "a 1 1.5", "a 1 1e3", "a 1 9223372036854775808", "a 1 2 3"] {
        refused(line);
    }
}

#[test]
fn a_comment_after_a_value_is_an_error() {
    refused("a 1 # comment");
    refused("a 1 2 # {x=\"1\"} 1");
    refused("a 1#");
}

#[test]
fn infinities_and_nan_are_taken_in_any_case_and_a_signed_nan_is_not() {
    for (text, value) in [("iNf", f64::INFINITY), ("-Infinity", f64::NEG_INFINITY), ("+INF", f64::INFINITY)] {
        assert_eq!(one(&format!("a {text}")).1, value);
    }
    assert!(one("a nAN").1.is_nan());
    refused("a -NaN");
    refused("a +NaN");
}

#[test]
fn floats_refuse_underscores_and_hexadecimal_and_what_is_too_large() {
    for value in ["1_0", "0x1p-2", "0x10", "1e400", "-1e400", "1p3"] {
        refused(&format!("a {value}"));
    }
    assert_eq!(one("a 1e-400").1, 0.0);
}

#[test]
fn malformed_lines_are_refused() {
    for body in [
        "a",
        "a ",
        "a{} ",
        "a{ 1",
        "a} 1",
        "a{x} 1",
        "a{x=} 1",
        "a{x=1} 1",
        "a{x=\"1} 1",
        "a{x=\"1\"",
        "a{,} 1",
        "a{x=\"1\",,} 1",
        "a{1x=\"1\"} 1",
        "a{a:b=\"1\"} 1",
        "1a 1",
        "a-b 1",
        "é 1",
        "a 1 2 3",
        "a.5 7",
        "a 1 -5",
        "a 1 1.5",
        "a 1 # comment",
        "a 1_0",
        "a 0x1p-2",
        "a 1e400",
        "a +NaN",
        "a 1\r\n",
        "a{x=\"1\",x=\"2\"} 1",
        "a{x=\"1\"} 1 }",
        "{} 1",
        "a{x=\"1\"}b{y=\"1\"} 1",
        "# TYPE a\n",
        "# HELP \n",
        "# HELP \"a\n",
        "a{\"x\0\"=\"1\"} 1",
        "a{x=\"1\" 2\n",
        "a{x=\"1\"\n} 2\n",
    ] {
        refused(body);
    }
}

#[test]
fn what_is_not_utf8_is_refused() {
    assert!(parse_bytes(b"a{x=\"\xff\"} 1\n").is_err());
    assert!(parse_bytes(b"# HELP a \xff\na 1\n").is_err());
}

#[test]
fn an_error_names_the_line_and_shows_it() {
    let error = TextParser::new(b"ok 1\n\nbad line here\n");
    let mut parser = error;
    parser.next_sample().unwrap();
    let error = parser.next_sample().unwrap_err();
    assert_eq!((error.line, error.excerpt.as_str()), (3, "bad line here"));
}
