//! Rules that change nothing allocate nothing, and what a rule takes over from a label stays where it was.

use allocation_counter::measure;
use promring_model::config::NameValidation;
use promring_model::labels::{Labels, LabelsBuilder};
use promring_model::relabel::{Outcome, Rule, RuleSpec, Rules};

fn rule(
    action: &str,
    sources: &[&str],
    target: &str,
    regex: Option<&str>,
    replacement: Option<&str>,
) -> Rule {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let spec = RuleSpec {
        source_labels: (!sources.is_empty()).then(|| sources.iter().map(|&label| label.to_owned()).collect()),
        target_label: text(target),
        regex: regex.map(str::to_owned),
        replacement: replacement.map(str::to_owned),
        modulus: (action == "hashmod").then_some(4),
        action: Some(action.to_owned()),
        ..RuleSpec::default()
    };
    Rule::compile(&spec, NameValidation::Utf8).expect("a good rule")
}

fn labels() -> Labels {
    Labels::from_pairs([
        ("__name__", "http_requests_total"),
        ("instance", "10.0.0.1:9100"),
        ("job", "pods"),
        ("pod", "web-0"),
        ("pod_copy", "web-0"),
        ("upper", "PODS"),
    ])
}

/// How often `rules` allocate for `labels()`, once the thread's buffers have grown.
fn allocations(rules: Vec<Rule>, outcome: Outcome) -> u64 {
    let rules = Rules::new(rules);
    let labels = labels();
    let mut builder = LabelsBuilder::from_labels(&labels);
    rules.apply(&mut builder);
    let mut builder = LabelsBuilder::from_labels(&labels);
    let counted = measure(|| assert_eq!(rules.apply(&mut builder), outcome));
    counted.count_total
}

#[test]
fn a_rule_that_changes_nothing_allocates_nothing() {
    let names: Vec<String> = (0..40).map(|n| format!("metric_{n}")).collect();
    let list = names.join("|");
    let rules = [
        rule("keep", &["__name__"], "", Some("go_.*|http_requests_total|.*_bucket"), None),
        rule("drop", &["__name__"], "", Some(&list), None),
        rule("drop", &["__name__", "job"], "", Some("(go|process)_.*;pods"), None),
        rule("keep", &["pod"], "", Some(r"[a-z]+-\d+"), None),
        rule("dropequal", &["job", "pod"], "instance", None, None),
        rule("keepequal", &["pod"], "pod_copy", None, None),
        rule("replace", &["pod"], "pod_copy", None, None),
        rule("replace", &["pod", "absent"], "other", Some("(.+);(.+)"), Some("$1-$2")),
        rule("replace", &[], "job", None, Some("pods")),
        rule("replace", &["instance"], "instance", Some(r"([^:]+):(\d+)"), Some("$1:$2")),
        rule("replace", &["absent"], "also_absent", None, None),
        rule("uppercase", &["job"], "upper", None, None),
        rule("labelmap", &[], "", Some("(po)(d)"), Some("${1}d")),
        rule("labelmap", &[], "", Some("__meta_(.+)"), None),
        rule("labeldrop", &[], "", Some("pod_ip|instance_id"), None),
        rule("labelkeep", &[], "", Some("__.*|instance|job|pod.*|upper"), None),
    ];
    for rule in &rules {
        assert_eq!(allocations(vec![rule.clone()], Outcome::Kept), 0, "{rule}");
    }
    assert_eq!(allocations(rules.to_vec(), Outcome::Kept), 0, "all in turn");
    let writer = rule("replace", &["pod"], "pod_copy", None, None);
    for mapping in [("__nothing_(.+)", None), ("(po)(d)", Some("${1}d"))] {
        let labelmap = rule("labelmap", &[], "", Some(mapping.0), mapping.1);
        let behind = [vec![writer.clone()], vec![labelmap; 5]].concat();
        assert_eq!(allocations(behind, Outcome::Kept), 0, "labelmap {mapping:?} behind a rule that sets");
    }
}

#[test]
fn a_dropped_set_allocates_nothing() {
    let drop = rule("drop", &["job", "pod"], "", Some("pods;web-.*"), None);
    assert_eq!(allocations(vec![drop], Outcome::Dropped { rule: 0 }), 0);
}

#[test]
fn a_new_label_costs_its_name_and_nothing_for_a_value_taken_over() {
    // The name, and room in the list of labels.
    let copied = rule("replace", &["instance"], "host", Some("(.+):.*"), None);
    assert_eq!(allocations(vec![copied], Outcome::Kept), 2);
    let overwritten = rule("replace", &["instance"], "pod", Some("(.+):.*"), None);
    assert_eq!(allocations(vec![overwritten], Outcome::Kept), 0);
    // The list of what is mapped, and room in the list of labels: names and values are parts of what is there.
    let mapped = rule("labelmap", &[], "", Some("pod_(.+)"), None);
    assert_eq!(allocations(vec![mapped], Outcome::Kept), 2);
}
