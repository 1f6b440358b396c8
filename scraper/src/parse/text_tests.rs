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
fn comments_help_and_types_are_skipped() {
    let body = "# anything }\n#\n# HELP a\n# HELP a some text\n# TYPE a counter\n#TYPE a gauge\na 1\n";
    assert_eq!(parse(body).unwrap().len(), 1);
}

#[test]
fn an_unknown_type_is_an_error() {
    assert!(refused("# TYPE a counterr\na 1\n").contains("invalid metric type"));
}

#[test]
fn braces_commas_and_escapes_in_values_belong_to_the_value() {
    assert_eq!(one(r#"a{x="}",y="a,b=\"c\"",z="\\ \n \d"} 1"#).0, "__name__=a,x=},y=a,b=\"c\",z=\\ \n \\d");
}

#[test]
fn an_empty_label_value_is_an_absent_label() {
    assert_eq!(one(r#"a{x="",y="1"} 1"#).0, "__name__=a,y=1");
}

#[test]
fn names_in_utf8_are_quoted_inside_the_braces() {
    assert_eq!(one(r#"{"my.name","label.x"="v",y="1"} 1"#).0, "__name__=my.name,label.x=v,y=1");
    assert!(refused(r#"{a="x"} 1"#).contains("no metric name"));
    assert!(refused(r#"a{"b"} 1"#).contains("twice"));
}

#[test]
fn bounds_and_quantiles_are_normalised_under_their_type_only() {
    let body = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nother{le=\"1\"} 1\n# TYPE s summary\ns{quantile=\"1\"} 1\n";
    let labels: Vec<String> = parse(body).unwrap().iter().map(|(pairs, ..)| pairs[1].1.clone()).collect();
    assert_eq!(labels, ["1.0", "1", "1.0"]);
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
        "a{x=\"1\" y=\"2\"} 1",
        "a{,} 1",
        "a{x=\"1\",,} 1",
        "a{1x=\"1\"} 1",
        "a{a:b=\"1\"} 1",
        "1a 1",
        "a-b 1",
        "a 1 2 3",
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
        "# HELP\n",
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
