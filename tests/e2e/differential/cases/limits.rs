//! Limits.

use super::{Case, Step, TEXT, bodies, family};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = bodies(
        "sample-limit",
        "sample_limit: 3\nmetric_relabel_configs: [{source_labels: [__name__], regex: 'no_.*', action: drop}]",
        TEXT,
        &[
            ("below", "a 1\nb 2\n"),
            ("at", "a 1\nb 2\nc 3\n"),
            ("above", "a 1\nb 2\nc 3\nd 4\n"),
            ("below-again", "a 1\nb 2\n"),
            ("dropped-ones-do-not-count", "a 1\nno_b 2\nno_c 3\nno_d 4\ne 5\n"),
            ("duplicates", "a 1\na 2\na 3\na 4\nb 5\n"),
            ("above-then-malformed", "a 1\nb 2\nc 3\nd 4\nnot a line\n"),
            ("empty", ""),
        ],
    );
    cases.extend(bodies(
        // case, instance and job are the target's, and the name counts.
        "label-limit",
        "label_limit: 6",
        TEXT,
        &[
            ("below", "a{x=\"1\"} 1\n"),
            ("at", "a{x=\"1\",y=\"2\"} 1\n"),
            ("above", "a 1\nb{x=\"1\",y=\"2\",z=\"3\"} 1\n"),
            ("an-empty-label-does-not-count", "a{x=\"1\",y=\"2\",z=\"\"} 1\n"),
            ("below-again", "a 1\n"),
        ],
    ));
    cases.extend(bodies(
        "label-name-length-limit",
        "label_name_length_limit: 12",
        TEXT,
        &[
            ("at", "a{twelve_bytes=\"1\"} 1\n"),
            ("above", "a{thirteen_byte=\"1\"} 1\n"),
            ("bytes-not-runes", "{\"a\",\"éééééé\"=\"1\"} 1\n"),
            ("bytes-above", "{\"a\",\"ééééééé\"=\"1\"} 1\n"),
        ],
    ));
    cases.extend(bodies(
        "label-value-length-limit",
        "label_value_length_limit: 40",
        TEXT,
        &[
            ("at", format!("a{{x=\"{}\"}} 1\n", "v".repeat(40))),
            ("above", format!("a{{x=\"{}\"}} 1\n", "v".repeat(41))),
            ("bytes-above", format!("a{{x=\"{}\"}} 1\n", "é".repeat(21))),
            ("a-long-name", format!("{} 1\n", "n".repeat(41))),
        ],
    ));
    let body = "a 1\nb 2\nc 3\n";
    cases.extend(bodies(
        "body-size-limit",
        "body_size_limit: 12B",
        TEXT,
        &[
            ("at", body),
            ("above", "a 1\nb 2\nc 33\n"),
            ("below", "a 1\n"),
            ("far-above", &body.repeat(1_000)),
        ],
    ));
    cases.extend(family(
        "target-limit",
        "static_configs: [{targets: ['ADDRESS', '127.0.0.1:1'], labels: {case: 'JOB'}}]\ntarget_limit: 1",
        vec![Step::new("never-asked-for", TEXT, body); 3],
    ));
    cases.extend(bodies(
        "keep-dropped-targets",
        "keep_dropped_targets: 1\nrelabel_configs: [{source_labels: [case], target_label: zone}]",
        TEXT,
        &[("plain", body)],
    ));
    cases
}
