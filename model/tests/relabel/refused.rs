//! Rules that are refused or remarked upon, and what is said of them.

use std::fmt::Write;

use promring_model::config::NameValidation::{Legacy, Utf8};
use promring_model::relabel::{Rule, RuleField, RuleSpec};

use crate::{compile, spec};

#[test]
fn a_refused_rule_names_its_key_and_a_repair() {
    let mut told = String::new();
    for (names, rule) in [
        // The rule that this project began from.
        (Utf8, "{source_labels: [__name__], regex: '.*', target_label: pod_ip, action: labeldrop}"),
        (Utf8, "{source_labels: [pod_ip, my.label], action: labeldrop}"),
        (Utf8, "{source_labels: [__name__], regex: 'go_.*', target_label: pod_ip, action: labeldrop}"),
        (Utf8, "{source_labels: [], regex: a, action: labelkeep}"),
        (Utf8, "{regex: a, replacement: b, action: labeldrop}"),
        (Utf8, "{regex: a, modulus: 1, action: labeldrop}"),
        (Utf8, "{regex: a, separator: '', action: labelkeep}"),
        (Utf8, "{action: ''}"),
        (Utf8, "{action: rename, source_labels: [a], target_label: b}"),
        (Utf8, "{action: label_drop, regex: a}"),
        (Utf8, "{action: keep_if_equal}"),
        (Utf8, "{action: hashmd}"),
        (Utf8, "{action: anything}"),
        (Utf8, "{source_labels: [''], target_label: a}"),
        (Utf8, "{source_labels: [a]}"),
        (Utf8, "{source_labels: [a], regex: b}"),
        (Utf8, "{source_labels: [a], regex: b, target_label: null}"),
        (Utf8, "{source_labels: [a], action: lowercase}"),
        (Utf8, "{source_labels: [a], modulus: 4, action: hashmod}"),
        (Utf8, "{source_labels: [a], action: dropequal}"),
        (Utf8, "{source_labels: [a], target_label: b, action: hashmod}"),
        (Utf8, "{source_labels: [a], target_label: b, modulus: 0, action: hashmod}"),
        (Utf8, "{source_labels: [a], target_label: b, replacement: c, action: uppercase}"),
        (Utf8, "{source_labels: [a], target_label: b, regex: (.*), action: keepequal}"),
        (Utf8, "{source_labels: [a], target_label: b, separator: ',', action: keepequal}"),
        (Utf8, "{source_labels: [a], target_label: b, replacement: x, action: dropequal}"),
        (Utf8, "{regex: a, replacement: '', action: labelmap}"),
        (Legacy, "{regex: a, replacement: 'a.$1', action: labelmap}"),
        (Legacy, "{source_labels: [a], target_label: 1.b}"),
        (Legacy, "{source_labels: [a], target_label: '${1}.b'}"),
        (Legacy, "{source_labels: [a], target_label: $1, action: lowercase}"),
    ] {
        let error = compile(rule, names).expect_err(rule);
        let hint = error.hint.as_deref().unwrap_or("-");
        let _ = writeln!(told, "{rule}\n  {}: {error}\n  {hint}", error.field.as_str());
    }
    insta::assert_snapshot!("refused_rules", told);
}

#[test]
fn a_refused_regex_shows_the_fragment_and_a_repair() {
    let mut told = String::new();
    for regex in [
        "*foo",
        "+",
        "a**",
        "a*+",
        "a{2}{3}",
        "a{1001}",
        "a{2,1}",
        "(a{40}){40}",
        "(a",
        "a)",
        "[a",
        "[z-a]",
        "[a-\\d]",
        "[[:foo:]]",
        "a\\",
        "\\Z",
        "\\1",
        "\\8",
        "\\C",
        "\\E",
        "\\Qa(b",
        "\\h",
        "\\u0041",
        "\\x1",
        "\\x{110000}",
        "\\é",
        "\\pX",
        "\\p{Grek}",
        "\\p{Alphabetic}",
        "\\p{",
        "(?=a)",
        "a(?!b)",
        "(?<=a)",
        "(?<!a)b",
        "(?>a)",
        "(?#a)",
        "(?P=n)",
        "(?P<n",
        "(?P<a-b>c)",
        "(?x)a",
        "(?u)a",
        "(?-)a",
        "(?i-:a)",
        "\\pL{1000}",
    ] {
        let rule =
            RuleSpec { regex: Some(regex.to_owned()), action: Some("drop".into()), ..RuleSpec::default() };
        let error = Rule::compile(&rule, Utf8).expect_err(regex);
        assert_eq!(error.field, RuleField::Regex);
        let hint = error.hint.as_deref().unwrap_or("-");
        let _ = writeln!(told, "{regex}\n  {error}\n  {hint}");
    }
    insta::assert_snapshot!("refused_patterns", told);
}

#[test]
fn patterns_out_of_all_bounds_are_refused_and_not_compiled() {
    let times = |text: &str, bytes: usize| text.repeat(bytes / text.len());
    for (regex, want) in [
        (times("a", (1 << 20) + 1), "more than 1048576"),
        (times("()", 1 << 20), "too long"),
        (times("\\pL", 100 << 10), "Unicode classes"),
        (times("(?i)ab", 1 << 20), "8 MiB"),
        (times("[ab]{999}", 10 << 10), "8 MiB"),
        (format!("[{}]", ('\u{4E00}'..).step_by(2).take(10_001).collect::<String>()), "10000 ranges"),
        (times("(", 1000), "deeper than 100"),
        (format!("a{}", times("*(?i)", 5000)), "deeper than 100"),
        (format!("{}a{}", "(?:".repeat(60), "){1}".repeat(60)), "deeper than 100"),
    ] {
        let rule = RuleSpec { regex: Some(regex), action: Some("drop".into()), ..RuleSpec::default() };
        let error = Rule::compile(&rule, Utf8).expect_err(want);
        assert!(error.message.contains(want), "{want}: {error}");
        assert!(error.message.len() < 1000);
    }
}

#[test]
fn what_lies_within_the_bounds_compiles() {
    let times = |text: &str, bytes: usize| text.repeat(bytes / text.len());
    for regex in [
        (0..50_000).map(|n| format!("metric_{n}")).collect::<Vec<_>>().join("|"),
        format!(
            "(?i){}",
            (0..5_000).map(|n| format!("metric_{n}_seconds_total")).collect::<Vec<_>>().join("|")
        ),
        times(".*a", 1 << 20),
        format!("{}a{}", "(b|".repeat(95), ")".repeat(95)),
        format!("{}a{}", "(?:".repeat(45), ")*".repeat(45)),
        r"\w{1000}".into(),
        ".{1000}".into(),
    ] {
        let rule =
            RuleSpec { regex: Some(regex.clone()), action: Some("drop".into()), ..RuleSpec::default() };
        let compiled = Rule::compile(&rule, Utf8);
        assert!(compiled.is_ok(), "{}: {:?}", regex.chars().take(50).collect::<String>(), compiled.err());
    }
}

#[test]
fn odd_rules_compile_and_are_remarked_upon() {
    let mut told = String::new();
    for rule in [
        "{source_labels: [a], regex: (.+), target_label: b, replacement: $1_total}",
        "{source_labels: [a], regex: (.+), target_label: b, replacement: $2}",
        "{source_labels: [a], regex: (.+), target_label: b, replacement: '${host}'}",
        "{source_labels: [a], regex: x.*, target_label: b}",
        "{source_labels: [a], regex: x.*, target_label: 'b_${1}', replacement: x}",
        "{regex: foo_.+, action: labelmap, source_labels: [a], target_label: b}",
        "{source_labels: [a], regex: x, target_label: b, replacement: y, action: keep}",
        "{source_labels: [a], target_label: b, modulus: 3, regex: x, action: hashmod}",
        "{source_labels: [a], target_label: b, regex: x, action: lowercase}",
        "{regex: x, target_label: b, replacement: c}",
        "{regex: x, action: keep}",
        "{regex: x, action: drop}",
        "{action: keep}",
        "{action: drop}",
        "{target_label: a, action: uppercase}",
        "{target_label: a, modulus: 2, action: hashmod}",
    ] {
        let _ = writeln!(told, "{rule}");
        for remark in compile(rule, Utf8).expect(rule).remarks() {
            let _ = writeln!(told, "  {}: {}", remark.field.as_str(), remark.message);
            let _ = writeln!(told, "    {}", remark.hint.as_deref().unwrap_or("-"));
        }
    }
    insta::assert_snapshot!("remarks", told);
}

#[test]
fn ordinary_rules_get_no_remark() {
    for rule in [
        "{source_labels: [a], regex: (.+), target_label: b, replacement: '${1}_total'}",
        "{target_label: cluster, replacement: eu}",
        "{regex: __meta_(.+), action: labelmap}",
        "{source_labels: [a], regex: x, action: keep}",
        "{source_labels: [a], target_label: b, action: keepequal}",
        "{regex: pod_ip, action: labeldrop}",
    ] {
        assert_eq!(compile(rule, Utf8).expect(rule).remarks(), [], "{rule}");
    }
}

#[test]
fn a_rule_prints_as_it_was_written() {
    let rule =
        "{source_labels: [a, b.c], target_label: x, regex: '(.*);(.+)', replacement: $2, action: Replace}";
    let compiled = compile(rule, Utf8).expect("a rule");
    assert_eq!(compiled.to_string(), rule);
    assert_eq!(spec(&compiled.to_string()), *compiled.spec());
}
