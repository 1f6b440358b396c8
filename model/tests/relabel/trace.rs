//! What a trace tells.

use promring_model::labels::Labels;
use promring_model::relabel::Change;

use crate::rules;

fn change(name: &str, before: Option<&str>, after: Option<&str>) -> Change {
    Change { name: name.into(), before: before.map(Into::into), after: after.map(Into::into) }
}

#[test]
fn each_step_tells_what_the_rule_read_and_changed() {
    let rules = rules(&[
        "{source_labels: [service, port], target_label: svc, separator: ':'}",
        "{regex: service, action: labeldrop}",
        "{source_labels: [svc], target_label: job}",
        "{source_labels: [absent], target_label: other}",
    ]);
    let labels = Labels::from_pairs([("service", "web"), ("job", "pods")]);
    let steps = rules.trace(&labels);
    assert_eq!(steps.iter().map(|step| step.rule).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(steps[0].input.as_deref(), Some("web:"));
    assert_eq!(steps[0].changes, [change("svc", None, Some("web:"))]);
    assert_eq!(steps[1].input, None);
    assert_eq!(steps[1].changes, [change("service", Some("web"), None)]);
    assert_eq!(steps[2].changes, [change("job", Some("pods"), Some("web:"))]);
    assert_eq!(steps[3].input.as_deref(), Some(""));
    assert_eq!(steps[3].changes, []);
    assert_eq!(steps[3].after.to_string(), r#"{job="web:", svc="web:"}"#);
}

#[test]
fn a_trace_ends_with_the_rule_that_dropped_the_set() {
    let rules = rules(&[
        "{source_labels: [a], regex: x, action: keep}",
        "{source_labels: [a], regex: x, action: drop}",
        "{target_label: never, replacement: reached}",
    ]);
    let steps = rules.trace(&Labels::from_pairs([("a", "x")]));
    assert_eq!(steps.iter().map(|step| step.dropped).collect::<Vec<_>>(), [false, true]);
    assert_eq!(steps[1].after.to_string(), r#"{a="x"}"#);
}

#[test]
fn a_step_is_json_that_a_page_can_show() {
    let steps = rules(&["{source_labels: [a], target_label: b}"]).trace(&Labels::from_pairs([("a", "x")]));
    let want = serde_json::json!([{
        "rule": 0,
        "input": "x",
        "changes": [{"name": "b", "before": null, "after": "x"}],
        "after": {"a": "x", "b": "x"},
        "dropped": false,
    }]);
    assert_eq!(serde_json::to_value(steps).expect("JSON"), want);
}
