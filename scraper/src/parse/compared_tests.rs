//! What prometheus-parse loses, which is why it is a baseline in the benchmark and not in the product.

use super::text::TextParser;

/// Name, labels and value of the one sample, as we read it.
fn ours(body: &str) -> Option<(Vec<(String, String)>, f64)> {
    let sample = TextParser::new(body.as_bytes()).next_sample().ok()??;
    let mut pairs: Vec<(String, String)> =
        sample.series.pairs().ok()?.into_iter().map(|(n, v)| (n.into_owned(), v.into_owned())).collect();
    pairs.sort();
    Some((pairs, sample.value))
}

/// The same, as prometheus-parse reads it.
fn theirs(body: &str) -> Option<(Vec<(String, String)>, f64)> {
    let lines = body.lines().map(|line| Ok(line.to_owned()));
    let scrape = prometheus_parse::Scrape::parse(lines).ok()?;
    let sample = scrape.samples.into_iter().next()?;
    let value = match sample.value {
        prometheus_parse::Value::Counter(value)
        | prometheus_parse::Value::Gauge(value)
        | prometheus_parse::Value::Untyped(value) => value,
        prometheus_parse::Value::Histogram(_) | prometheus_parse::Value::Summary(_) => return None,
    };
    let labels = sample.labels.iter().map(|(name, value)| (name.clone(), value.clone()));
    let mut pairs: Vec<(String, String)> = labels.collect();
    pairs.push(("__name__".into(), sample.metric));
    pairs.sort();
    Some((pairs, value))
}

#[test]
fn both_read_plain_lines_alike() {
    for body in ["up 1", "# TYPE a counter\na{x=\"1\",y=\"2\"} 3.5\n", "a{x=\"b c\"} 1e9 1700000000000"] {
        assert!(ours(body).is_some());
        assert_eq!(theirs(body), ours(body), "{body}");
    }
}

#[test]
fn it_loses_what_we_read() {
    for (what, body) in [
        ("names with colons", "job:a:rate5m 1"),
        ("braces in values", "a{x=\"}\"} 1"),
        ("commas in values", "a{x=\"1,2\"} 1"),
        ("escaped quotes", "a{x=\"\\\"\"} 1"),
        ("names in UTF-8", "{\"a.b\"} 1"),
        ("no blank before the value", "a{x=\"1\"}1"),
        ("empty labels as absent ones", "a{x=\"\"} 1"),
        ("spaces around =", "a{x = \"1\"} 1"),
    ] {
        assert!(ours(body).is_some(), "{what}");
        assert_ne!(theirs(body), ours(body), "{what}");
    }
}

#[test]
fn it_takes_what_prometheus_refuses() {
    for body in ["a 1e400", "a{x=\"1\",x=\"2\"} 1", "a 1 # comment", "a 1 2 3", "# TYPE a strange\na 1"] {
        assert_eq!(ours(body), None, "{body}");
        assert!(theirs(body).is_some(), "{body}");
    }
}
