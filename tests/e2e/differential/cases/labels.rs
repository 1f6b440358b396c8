//! Labels of targets and of expositions, and metric relabelling.

use super::{Case, TEXT, bodies};

pub(super) fn cases() -> Vec<Case> {
    let conflicts: &[(&str, &str)] = &[
        ("none", "a{x=\"1\"} 1\n"),
        ("with-a-target-label", "a{zone=\"mine\"} 1\nb 1\n"),
        ("with-job-and-instance", "a{job=\"mine\",instance=\"me\"} 1\n"),
        ("with-an-exported-label-too", "a{zone=\"mine\",exported_zone=\"other\"} 1\n"),
        ("with-two-exported-labels", "a{zone=\"1\",exported_zone=\"2\",exported_exported_zone=\"3\"} 1\n"),
        ("with-an-exported-label-only", "a{exported_zone=\"2\"} 1\n"),
        ("with-a-target-s-exported-label", "a{taken=\"1\"} 1\n"),
        ("with-an-empty-label", "a{zone=\"\"} 1\n"),
        ("with-a-label-that-is-also-empty", "a{x=\"1\",x=\"\",y=\"2\"} 1\nb{y=\"\",y=\"2\"} 2\n"),
        ("with-a-label-of-nothing", "a{\"\"=\"\",x=\"1\"} 1\n"),
        ("with-an-empty-job", "a{job=\"\",instance=\"\"} 1\n"),
        ("that-makes-one-series-of-two", "a{zone=\"1\"} 1\na{exported_zone=\"1\"} 2\n"),
        ("with-labels-of-two-underscores", "a{__x=\"1\",__address__=\"2\",__meta_y=\"3\"} 1\n"),
    ];
    let target = "\
static_configs: [{targets: ['ADDRESS'], labels: {case: 'JOB', zone: target, taken: t}}]";
    let mut cases = bodies("honor-labels-off", target, TEXT, conflicts);
    cases.extend(bodies("honor-labels-on", &format!("{target}\nhonor_labels: true"), TEXT, conflicts));
    cases.extend(bodies(
        "target-label-called-exported",
        "static_configs: [{targets: ['ADDRESS'], labels: {case: 'JOB', taken: 't', exported_taken: 'e'}}]",
        TEXT,
        &[("none", "a{x=\"1\"} 1\n"), ("taken", "a{taken=\"1\"} 1\n")],
    ));
    let into_one = "\
static_configs: [{targets: ['ADDRESS'], labels: {case: 'JOB', zone: target}}]
metric_relabel_configs: [{regex: 'zz|zone|exported_zone', replacement: to, action: labelmap}]";
    let makes_one: &[(&str, &str)] = &[
        ("of-an-exposed-and-a-target-s", "a{zz=\"1\"} 1\n"),
        ("of-an-exposed-and-an-exported", "a{zz=\"1\",zone=\"mine\"} 1\n"),
    ];
    cases.extend(bodies("labelmap-makes-one", into_one, TEXT, makes_one));
    cases.extend(bodies("labelmap-honors", &format!("{into_one}\nhonor_labels: true"), TEXT, makes_one));
    let plain =
        "a{x=\"1\",secret=\"s\",host=\"h-1.example\"} 1\nb{x=\"2\"} 2\ndropped_a 3\ngo_b{x=\"1\"} 4\n";
    cases.extend(rules(
        "relabel-keep",
        "[{source_labels: [__name__], regex: 'a|b', action: keep}, {regex: secret, action: labeldrop}]",
        plain,
    ));
    cases.extend(rules(
        "relabel-drop",
        "[{source_labels: [__name__, x], regex: 'dropped_.*|go_.;1', action: drop}, {source_labels: [x], regex: 2, target_label: x, replacement: ''}]",
        plain,
    ));
    cases.extend(rules(
        "relabel-rename",
        "[{source_labels: [host], regex: '([a-z]+)-(\\d+)\\..*', target_label: '${1}_number', replacement: '$2'}, {source_labels: [__name__], regex: 'go_(.*)', target_label: __name__, replacement: 'golang_$1'}, {regex: 'x', replacement: 'y', action: labelmap}, {source_labels: [x], modulus: 7, target_label: shard, action: hashmod}, {source_labels: [secret], target_label: secret, action: uppercase}]",
        plain,
    ));
    cases.extend(rules("relabel-name-away", "[{regex: __name__, action: labeldrop}]", plain));
    cases.extend(rules("relabel-name-empty", "[{target_label: __name__, replacement: ''}]", plain));
    cases.extend(rules(
        "relabel-name-in-utf8",
        "[{target_label: __name__, replacement: 'a b', source_labels: [__name__], regex: a}]",
        plain,
    ));
    cases.extend(rules(
        "relabel-into-one",
        "[{regex: x, action: labeldrop}]",
        "a{x=\"1\"} 1\na{x=\"2\"} 2\na 3\nb 4\n",
    ));
    cases.extend(rules(
        "relabel-target-labels",
        "[{regex: 'instance|job', action: labeldrop}, {source_labels: [case], target_label: copy}]",
        plain,
    ));
    cases.extend(rules("relabel-temporary", "[{source_labels: [x], target_label: __tmp}]", plain));
    cases.extend(rules("relabel-everything-away", "[{regex: '.*', action: drop}]", plain));
    let odd: &[(&str, &str)] = &[
        ("twice", "go_ok 1\nweird{x=\"1\",x=\"2\"} 1\n"),
        ("twice-the-same", "go_ok 1\nweird{x=\"1\",y=\"2\",x=\"1\"} 1\n"),
        ("thrice", "go_ok 1\nweird{z=\"0\",x=\"3\",x=\"2\",x=\"1\"} 1\n"),
        ("twice-of-the-target", "go_ok 1\nweird{zone=\"1\",zone=\"2\"} 1\n"),
        ("name-as-a-label", "go_ok 1\nweird{__name__=\"b\"} 1\n"),
        ("a-label-of-no-name", "go_ok 1\nweird{\"\"=\"v\",x=\"1\"} 1\n"),
        ("name-as-an-empty-label", "go_ok 1\nweird{__name__=\"\",x=\"2\"} 1\n"),
    ];
    for (name, rules) in [
        ("odd-without-rules", "[]"),
        ("odd-dropped", "[{source_labels: [__name__], regex: '(weird|b|)', action: drop}]"),
        ("odd-dropped-by-the-first-value", "[{source_labels: [x], regex: 1, action: drop}]"),
        ("odd-labels-dropped", "[{regex: x, action: labeldrop}]"),
        ("odd-names-of-labels-dropped", "[{regex: '', action: labeldrop}]"),
        ("odd-labels-kept", "[{regex: '__name__|zone|case|job|instance', action: labelkeep}]"),
        ("odd-labels-set", "[{source_labels: [x], target_label: x, replacement: 'new $1', regex: '(.+)'}]"),
        (
            "odd-names-set",
            "[{source_labels: [__name__], target_label: __name__, replacement: new, regex: '(weird|b|)'}]",
        ),
    ] {
        let settings = format!(
            "static_configs: [{{targets: ['ADDRESS'], labels: {{case: 'JOB', zone: target}}}}]\nmetric_relabel_configs: {rules}"
        );
        cases.extend(bodies(name, &settings, TEXT, odd));
        cases.extend(bodies(
            &format!("{name}-honors"),
            &format!("{settings}\nhonor_labels: true"),
            TEXT,
            odd,
        ));
    }
    let legacy = "metric_name_validation_scheme: legacy\nmetric_name_escaping_scheme: underscores";
    cases.extend(bodies(
        "legacy-names",
        legacy,
        TEXT,
        &[
            ("plain", "a{x=\"1\"} 1\n"),
            ("utf8-name", "{\"my.name\",x=\"1\"} 1\n"),
            ("utf8-label", "{\"a\",\"label.x\"=\"1\"} 1\n"),
            ("utf8-value", "a{x=\"é\"} 1\n"),
        ],
    ));
    cases
}

/// A body before and after a change, under rules.
fn rules(name: &str, rules: &str, body: &str) -> Vec<Case> {
    let settings = format!("metric_relabel_configs: {rules}");
    let without_the_first = body.split_once('\n').map(|(_, rest)| rest).unwrap_or_default();
    let more = format!("{body}new_one{{x=\"9\"}} 9\n");
    let steps = [("first", body), ("again", body), ("fewer", without_the_first), ("more", &more)];
    bodies(name, &settings, TEXT, &steps)
}
