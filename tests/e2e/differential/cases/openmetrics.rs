//! OpenMetrics.

use super::{Case, OPENMETRICS, bodies};

pub(super) fn cases(now_ms: i64) -> Vec<Case> {
    let mut cases = bodies("openmetrics", "", OPENMETRICS, LINES);
    cases.extend(bodies("openmetrics-bytes", "", OPENMETRICS, BYTES));
    cases.extend(bodies("exemplars", "", OPENMETRICS, &exemplars(now_ms)));
    let seconds = now_ms / 1_000;
    let times: Vec<(String, String)> = [
        ("whole", format!("a 1 {seconds}\nb 2\n")),
        ("fraction", format!("a 1 {}.123\nb 2\n", seconds + 1)),
        ("many-digits", format!("a 1 {}.1239999999\nb 2\n", seconds + 2)),
        ("exponent", format!("a 1 {}e3\nb 2\n", (seconds + 1_000) / 1_000)),
        ("nan", "a 1 NaN\n".to_owned()),
        ("infinite", "a 1 Inf\n".to_owned()),
        ("word", "a 1 now\n".to_owned()),
        ("negative", "c 1 -1\nb 2\n".to_owned()),
        ("nought", "d 1 0\nb 2\n".to_owned()),
    ]
    .map(|(name, body)| (name.to_owned(), format!("{body}# EOF\n")))
    .to_vec();
    let times: Vec<(&str, &str)> = times.iter().map(|(name, body)| (&**name, &**body)).collect();
    cases.extend(bodies("openmetrics-times", "", OPENMETRICS, &times));
    let converted = "convert_classic_histograms_to_nhcb: true";
    cases.extend(bodies("converted", converted, OPENMETRICS, CLASSIC));
    let both = format!("{converted}\nalways_scrape_classic_histograms: true");
    cases.extend(bodies("converted-and-classic", &both, OPENMETRICS, CLASSIC));
    cases
}

/// Classic histograms.
const CLASSIC: &[(&str, &str)] = &[
    (
        "whole",
        "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_count 3\nh_sum 4\n# EOF\n",
    ),
    (
        "in-another-order",
        "# TYPE h histogram\nh_sum 5\nh_count 4\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 4\n# EOF\n",
    ),
    (
        "with-labels",
        "# TYPE h histogram\nh_bucket{a=\"x\",le=\"1\"} 1\nh_bucket{le=\"+Inf\",a=\"x\"} 4\nh_count{a=\"x\"} 4\nh_sum{a=\"x\"} 5\n# EOF\n",
    ),
    (
        "cut-in-two",
        "# TYPE h histogram\nh_sum 0\nh_created 1.5\nh_count 1\nh_bucket{le=\"+Inf\"} 1\nother 1\n# EOF\n",
    ),
    (
        "with-exemplars",
        "# TYPE h histogram\nh_bucket{le=\"1\"} 1 # {t=\"a\"} 0.5\nh_bucket{le=\"+Inf\"} 3 # {t=\"b\"} 2.5\nh_count 3\nh_sum 4\n# TYPE c counter\nc_total 1 # {t=\"c\"} 1\n# EOF\n",
    ),
    ("gone", "other 1\n# EOF\n"),
];

const LINES: &[(&str, &str)] = &[
    ("plain", "# TYPE a counter\n# HELP a A thing.\na_total 1\n# EOF\n"),
    ("no-eof", "a 1\n"),
    ("no-newline-after-eof", "a 1\n# EOF"),
    ("nothing-but-eof", "# EOF\n"),
    ("empty", ""),
    ("line-after-eof", "a 1\n# EOF\nb 1\n"),
    ("newline-after-eof", "a 1\n# EOF\n\n"),
    ("space-after-eof", "a 1\n# EOF \n"),
    ("eof-twice", "a 1\n# EOF\n# EOF\n"),
    ("blank-line", "a 1\n\nb 1\n# EOF\n"),
    ("comment", "# a comment\na 1\n# EOF\n"),
    ("two-spaces", "a  1\n# EOF\n"),
    ("tab", "a\t1\n# EOF\n"),
    ("space-at-the-beginning", " a 1\n# EOF\n"),
    ("space-at-the-end", "a 1 \n# EOF\n"),
    ("spaces-in-labels", "a{x=\"1\", y=\"2\"} 1\n# EOF\n"),
    ("comma-at-the-end-of-labels", "a{x=\"1\",} 1\n# EOF\n"),
    ("comma-missing", "a{x=\"1\"y=\"2\"} 1\n# EOF\n"),
    ("empty-braces", "a{} 1\n# EOF\n"),
    ("no-space-before-the-value", "a{x=\"1\"}1\n# EOF\n"),
    ("carriage-return", "a 1\r\n# EOF\r\n"),
    ("unit", "# TYPE a_seconds gauge\n# UNIT a_seconds seconds\na_seconds 1\n# EOF\n"),
    ("unit-without-underscore", "# TYPE aseconds gauge\n# UNIT aseconds seconds\naseconds 1\n# EOF\n"),
    ("unit-that-is-no-suffix", "# TYPE a gauge\n# UNIT a seconds\na 1\n# EOF\n"),
    ("unit-empty", "# TYPE a gauge\n# UNIT a \na 1\n# EOF\n"),
    ("unit-is-the-name", "# TYPE seconds gauge\n# UNIT seconds seconds\nseconds 1\n# EOF\n"),
    (
        "types",
        "# TYPE a counter\n# TYPE b gauge\n# TYPE c histogram\n# TYPE d gaugehistogram\n# TYPE e summary\n# TYPE f info\n# TYPE g stateset\n# TYPE h unknown\nh 1\n# EOF\n",
    ),
    ("type-untyped", "# TYPE a untyped\na 1\n# EOF\n"),
    ("type-in-capitals", "# TYPE a GAUGE\na 1\n# EOF\n"),
    ("help-without-text", "# HELP a\na 1\n# EOF\n"),
    ("help-empty", "# HELP a \na 1\n# EOF\n"),
    ("help-with-escapes", "# HELP a \\\\ \\n \\\" \\d\na 1\n# EOF\n"),
    ("created", "# TYPE a counter\na_total 1\na_created 1500000000.5\n# EOF\n"),
    ("counter-without-total", "# TYPE a counter\na 1\n# EOF\n"),
    ("counter-negative", "# TYPE a counter\na_total -1\n# EOF\n"),
    ("families-that-interleave", "# TYPE a gauge\na 1\n# TYPE b gauge\nb 1\na{x=\"1\"} 2\n# EOF\n"),
    ("info", "# TYPE a info\na_info{v=\"1\"} 1\n# EOF\n"),
    ("stateset", "# TYPE a stateset\na{a=\"on\"} 1\na{a=\"off\"} 0\n# EOF\n"),
    (
        "histogram",
        "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum 1.5\n# EOF\n",
    ),
    (
        "gaugehistogram",
        "# TYPE gh gaugehistogram\ngh_bucket{le=\"1\"} 1\ngh_bucket{le=\"+Inf\"} 2\ngh_gcount 2\ngh_gsum 1.5\n# EOF\n",
    ),
    ("summary", "# TYPE s summary\ns{quantile=\"1\"} 1\ns_count 2\ns_sum 1.5\n# EOF\n"),
    ("utf8-name", "# TYPE \"my.name\" gauge\n{\"my.name\",\"label.x\"=\"v\"} 1\n# EOF\n"),
    ("value-nan", "a NaN\nb nan\nc -Inf\nd +Inf\n# EOF\n"),
    ("value-with-signed-nan", "a -NaN\n# EOF\n"),
    ("value-too-large", "a 1e999\n# EOF\n"),
    ("value-hexadecimal", "a 0x1\n# EOF\n"),
    ("no-value", "a\n# EOF\n"),
    ("same-series-twice", "a 1\na 2\n# EOF\n"),
    ("label-twice", "a{x=\"1\",x=\"2\"} 1\n# EOF\n"),
    ("value-empty", "a{x=\"\"} 1\n# EOF\n"),
    ("escapes", "a{x=\"\\\\ \\\" \\n\"} 1\n# EOF\n"),
    ("other-backslashes", "a{x=\"\\d\"} 1\n# EOF\n"),
    ("newline-in-a-value", "a{x=\"1\n2\"} 1\n# EOF\n"),
];

const BYTES: &[(&str, &[u8])] = &[
    ("not-utf8-value", b"a{x=\"\xff\"} 1\n# EOF\n"),
    ("not-utf8-help", b"# HELP a \xff\na 1\n# EOF\n"),
    ("zero-in-a-value", b"a{x=\"\0\"} 1\n# EOF\n"),
    ("zero-in-a-name", b"a\0 1\n# EOF\n"),
    ("zero-after-eof", b"a 1\n# EOF\n\0"),
    ("byte-order-mark", b"\xef\xbb\xbfa 1\n# EOF\n"),
];

fn exemplars(now_ms: i64) -> Vec<(&'static str, String)> {
    let seconds = now_ms / 1_000;
    let long = "é".repeat(125);
    let too_long = "é".repeat(126);
    [
        ("on-a-counter", "a_total 1 # {trace=\"x\"} 0.5\n".to_owned()),
        ("with-a-time", format!("a_total 2 # {{trace=\"y\"}} 0.5 {seconds}.5\n")),
        ("the-same-again", format!("a_total 3 # {{trace=\"y\"}} 0.5 {seconds}.5\n")),
        ("an-older-one", format!("a_total 4 # {{trace=\"z\"}} 0.5 {}\n", seconds - 10)),
        ("on-a-gauge", "# TYPE g gauge\ng 1 # {trace=\"x\"} 0.5\n".to_owned()),
        ("on-buckets", "# TYPE h histogram\nh_bucket{le=\"1\"} 1 # {trace=\"x\"} 0.5\nh_bucket{le=\"+Inf\"} 2 # {trace=\"y\"} 5\nh_count 2\nh_sum 5.5\n".to_owned()),
        ("without-labels", "a_total 5 # {} 0.5\n".to_owned()),
        ("with-several-labels", "a_total 6 # {b=\"1\",a=\"2\"} 0.5\n".to_owned()),
        ("with-an-empty-label", "a_total 7 # {a=\"\",b=\"1\"} 0.5\n".to_owned()),
        ("with-a-label-twice", "a_total 8 # {a=\"1\",a=\"2\"} 0.5\n".to_owned()),
        ("as-long-as-can-be", format!("a_total 9 # {{abc=\"{long}\"}} 0.5\n")),
        ("too-long", format!("a_total 10 # {{abc=\"{too_long}\"}} 0.5\n")),
        ("value-nan", "a_total 11 # {a=\"1\"} NaN\n".to_owned()),
        ("time-nan", "a_total 12 # {a=\"1\"} 1 NaN\n".to_owned()),
        ("after-a-timestamp", format!("b_total 13 {} # {{a=\"1\"}} 1\n", seconds + 30)),
        ("without-a-value", "a_total 14 # {a=\"1\"}\n".to_owned()),
        ("without-braces", "a_total 15 # a=\"1\" 1\n".to_owned()),
        ("twice", "a_total 16 # {a=\"1\"} 1 # {a=\"2\"} 2\n".to_owned()),
        ("with-an-escape", "a_total 17 # {a=\"\\\\ \\\"\"} 1\n".to_owned()),
        ("with-a-quoted-name", "a_total 18 # {\"a.b\"=\"1\"} 1\n".to_owned()),
        ("with-a-zero", "a_total 20 # {a=\"b\0c\"} 1\n".to_owned()),
        ("with-a-zero-in-a-name", "a_total 21 # {\"a\0\"=\"b\"} 1\n".to_owned()),
        ("with-a-zero-behind-a-backslash", "a_total 22 # {a=\"b\\\0\"} 1\n".to_owned()),
        ("in-the-future", format!("a_total 19 # {{a=\"9\"}} 1 {}\n", seconds + 10_000)),
    ]
    .map(|(name, body)| (name, format!("{body}# EOF\n")))
    .to_vec()
}
