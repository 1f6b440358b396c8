//! Which format a body is taken for.

use super::{Case, OPENMETRICS, PROTOBUF, Step, TEXT, family};

pub(super) fn cases() -> Vec<Case> {
    let text = "a 1\n\nb{x=\"1\"} 2\n";
    let open = "a 1\nb{x=\"1\"} 2\n# EOF\n";
    let steps = |types: &[(&str, &str)], body: &str| -> Vec<Step> {
        types.iter().map(|(name, content_type)| Step::new(name, content_type, body)).collect()
    };
    let mut cases = family(
        "content-type",
        "",
        steps(
            &[
                ("text", TEXT),
                ("none", ""),
                ("text-without-version", "text/plain"),
                ("text-of-1.0.0", "text/plain; version=1.0.0"),
                ("text-of-an-unknown-version", "text/plain; version=9"),
                ("in-capitals", "TEXT/PLAIN"),
                ("html", "text/html"),
                ("json", "application/json"),
                ("nonsense", "nonsense"),
                ("slash-alone", "/"),
                ("parameter-broken", "text/plain; version"),
                ("parameter-twice", "text/plain; version=1; version=2"),
                ("semicolon-at-the-end", "text/plain;"),
                ("quoted-version", "text/plain; version=\"0.0.4\""),
                ("list", "text/plain, application/json"),
                ("escaping", "text/plain; version=1.0.0; escaping=allow-utf-8"),
                ("escaping-underscores", "text/plain; version=1.0.0; escaping=underscores"),
            ],
            text,
        ),
    );
    cases.extend(family(
        "content-type-openmetrics",
        "",
        steps(
            &[
                ("openmetrics", OPENMETRICS),
                ("openmetrics-0.0.1", "application/openmetrics-text; version=0.0.1"),
                ("openmetrics-without-version", "application/openmetrics-text"),
                ("openmetrics-2.0.0", "application/openmetrics-text; version=2.0.0"),
                ("openmetrics-9", "application/openmetrics-text; version=9.0.0"),
            ],
            open,
        ),
    ));
    let mut two = Step::new("two-content-types", TEXT, text);
    two = two.head("Content-Type: text/html");
    cases.extend(family("content-type-twice", "", vec![two]));
    cases.extend(family(
        "fallback",
        "fallback_scrape_protocol: OpenMetricsText1.0.0",
        [
            ("none", ""),
            ("html", "text/html"),
            ("text", TEXT),
            ("nonsense", "nonsense"),
            ("protobuf", PROTOBUF),
        ]
        .iter()
        .map(|(name, content_type)| Step::new(name, content_type, open))
        .collect(),
    ));
    cases.extend(family(
        "protocols",
        "scrape_protocols: [PrometheusText0.0.4, OpenMetricsText0.0.1]\nparams: {a: [b, 'c d'], e: ['']}\nscrape_timeout: 700ms",
        vec![Step::new("text", TEXT, text), Step::new("openmetrics", OPENMETRICS, open)],
    ));
    cases
}
