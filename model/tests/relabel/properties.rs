//! What holds for every rule and every label set.

use std::collections::BTreeMap;

use promring_model::config::NameValidation;
use promring_model::labels::{Labels, LabelsBuilder};
use promring_model::relabel::{Outcome, Rule, RuleSpec, Rules};
use proptest::prelude::*;
use proptest::sample::select;

use crate::apply;

/// Pieces of patterns: those with fast paths, those close to them, and those that only the engine knows.
fn pattern() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "a",
        "b",
        "ab",
        "foo",
        "_",
        "é",
        "1",
        "\\.",
        ".*",
        ".+",
        "(.*)",
        "(.+)",
        ".*?",
        "(a|b)",
        "(foo|bar)",
        "(?:a|ab)",
        "[ab]",
        "a?",
        "(b)?",
        "b??",
        "(?:foo)?",
        "|",
        "(a*)",
        "\\d",
        "(?i)A",
        ".",
        "^",
        "$",
        "\\b",
        "(",
        ")",
        "[^a]",
        "(?P<n>a)",
        "a{2}",
    ]);
    proptest::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat())
}

fn template() -> impl Strategy<Value = String> {
    let piece = select(vec!["$1", "${1}", "$2", "$0", "${n}", "$$", "$", "x", "_", "é", "${", ""]);
    proptest::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn name() -> impl Strategy<Value = String> {
    select(vec!["a", "b", "ab", "foo", "foo_a", "foob", "é", "absent"]).prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = String> {
    let piece = select(vec!["a", "b", "A", "foo", "bar", "_", "é", "1", ".", "\n", ";", "K", "ß"]);
    proptest::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat())
}

fn labels() -> impl Strategy<Value = Labels> {
    proptest::collection::vec((name(), value()), 0..6).prop_map(Labels::from_pairs)
}

fn rule() -> impl Strategy<Value = RuleSpec> {
    let actions = [
        "replace",
        "keep",
        "drop",
        "keepequal",
        "dropequal",
        "hashmod",
        "labelmap",
        "labeldrop",
        "labelkeep",
        "lowercase",
        "uppercase",
    ];
    let some = proptest::option::weighted::<BoxedStrategy<String>>;
    (
        select(actions.to_vec()),
        proptest::collection::vec(name(), 0..3),
        some(0.2, select(vec!["", ":", ";"]).prop_map(str::to_owned).boxed()),
        prop_oneof![name(), template(), template().prop_map(|text| format!("x{text}"))],
        some(0.8, pattern().boxed()),
        1..9_u64,
        some(0.6, template().boxed()),
    )
        .prop_map(|(action, sources, separator, target, regex, modulus, replacement)| {
            let reads_names = matches!(action, "labelmap" | "labeldrop" | "labelkeep");
            let compares = matches!(action, "keepequal" | "dropequal");
            let expands = matches!(action, "replace" | "labelmap");
            RuleSpec {
                source_labels: (!reads_names).then_some(sources),
                separator: separator.filter(|_| !reads_names && !compares),
                target_label: (!reads_names && !matches!(action, "keep" | "drop")).then_some(target),
                regex: regex.filter(|_| !compares),
                modulus: (action == "hashmod").then_some(modulus),
                replacement: replacement.filter(|_| expands),
                action: Some(action.to_owned()),
            }
        })
}

fn names() -> impl Strategy<Value = NameValidation> {
    select(vec![NameValidation::Utf8, NameValidation::Legacy])
}

/// The rules of `specs` that compile, with and without fast paths.
fn both_ways(specs: &[RuleSpec], names: NameValidation) -> (Rules, Rules) {
    let (fast, engine) = specs
        .iter()
        .filter_map(|spec| {
            let fast = Rule::compile(spec, names);
            let engine = Rule::compile_engine_only(spec, names);
            assert_eq!(fast.as_ref().err(), engine.as_ref().err(), "{spec}");
            fast.ok().zip(engine.ok())
        })
        .unzip();
    (Rules::new(fast), Rules::new(engine))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn fast_paths_do_what_the_engine_does(
        specs in proptest::collection::vec(rule(), 1..5),
        sets in proptest::collection::vec(labels(), 1..4),
        names in names(),
    ) {
        let (fast, engine) = both_ways(&specs, names);
        for set in &sets {
            prop_assert_eq!(apply(&fast, set), apply(&engine, set), "{}", set);
        }
    }

    #[test]
    fn a_trace_ends_where_applying_ends(specs in proptest::collection::vec(rule(), 1..5), set in labels()) {
        let (rules, _) = both_ways(&specs, NameValidation::Utf8);
        let steps = rules.trace(&set);
        let last = steps.last().map_or(&set, |step| &step.after);
        match apply(&rules, &set) {
            Ok(after) => {
                prop_assert_eq!(steps.len(), rules.len());
                prop_assert_eq!(&after, last);
            }
            Err(rule) => {
                prop_assert_eq!(steps.len(), rule + 1);
                prop_assert!(steps[rule].dropped);
            }
        }
        // The changes tell the whole difference.
        let mut replayed: BTreeMap<String, String> = set.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        for change in steps.iter().flat_map(|step| &step.changes) {
            prop_assert_eq!(replayed.get(&change.name), change.before.as_ref());
            match &change.after {
                Some(after) => drop(replayed.insert(change.name.clone(), after.clone())),
                None => drop(replayed.remove(&change.name)),
            }
        }
        prop_assert_eq!(Labels::from_pairs(&replayed), last.clone());
    }

    #[test]
    fn literals_and_gaps_match_as_written_by_hand(
        prefix in "[ab]{0,2}", suffix in "[ab]{0,2}", not_empty: bool, text in "[ab]{0,6}",
    ) {
        let gap = if not_empty { ".+" } else { ".*" };
        let rules = keep(format!("{prefix}({gap}){suffix}"));
        let least = prefix.len() + suffix.len() + usize::from(not_empty);
        let want = text.len() >= least && text.starts_with(&prefix) && text.ends_with(&suffix);
        prop_assert_eq!(apply(&rules, &Labels::from_pairs([("v", &text)])).is_ok(), want);
    }

    #[test]
    fn a_literal_alternation_is_a_list(words in proptest::collection::vec("[ab_.]{1,3}", 1..12), text in "[ab_.]{1,3}") {
        let rules = keep(words.iter().map(|word| word.replace('.', "\\.")).collect::<Vec<_>>().join("|"));
        prop_assert_eq!(apply(&rules, &Labels::from_pairs([("v", &text)])).is_ok(), words.contains(&text));
    }

    #[test]
    fn any_text_is_a_pattern_or_an_error(regex in any::<String>(), template in any::<String>(), set in labels()) {
        let sources = Some(vec!["a".to_owned(), "b".to_owned()]);
        for action in ["replace", "labelmap", "labeldrop"] {
            let by_names = action != "replace";
            let spec = RuleSpec {
                source_labels: sources.clone().filter(|_| !by_names),
                target_label: Some(template.clone()).filter(|_| !by_names),
                regex: Some(regex.clone()),
                replacement: Some(template.clone()).filter(|_| action != "labeldrop"),
                action: Some(action.to_owned()),
                ..RuleSpec::default()
            };
            if let Ok(rule) = Rule::compile(&spec, NameValidation::Utf8) {
                prop_assert_eq!(&spec, rule.spec());
                let _ = apply(&Rules::new(vec![rule]), &set);
            }
        }
    }
}

fn keep(regex: String) -> Rules {
    let spec = RuleSpec {
        source_labels: Some(vec!["v".into()]),
        regex: Some(regex),
        action: Some("keep".into()),
        ..RuleSpec::default()
    };
    Rules::new(vec![Rule::compile(&spec, NameValidation::Utf8).expect("a good rule")])
}

#[test]
fn values_that_would_fill_the_memory_are_not_made() {
    let double = RuleSpec {
        source_labels: Some(vec!["a".into()]),
        target_label: Some("a".into()),
        replacement: Some("$1$1".into()),
        ..RuleSpec::default()
    };
    let join = RuleSpec {
        source_labels: Some(vec!["a".into(); 40]),
        target_label: Some("b".into()),
        ..RuleSpec::default()
    };
    let compile = |spec: &RuleSpec| Rule::compile(spec, NameValidation::Utf8).expect("a good rule");
    let mut rules = vec![compile(&double); 40];
    rules.push(compile(&join));
    let labels = Labels::from_pairs([("a", "x")]);
    let mut builder = LabelsBuilder::from_labels(&labels);
    assert_eq!(Rules::new(rules).apply(&mut builder), Outcome::Kept);
    assert_eq!(builder.get("a").len(), 16 << 20, "the last value that stays within the limit");
    assert!(!builder.contains("b"), "the joined value would be too long, so the rule does nothing");
}

fn map(regex: &str, replacement: &str) -> Rule {
    let spec = RuleSpec {
        regex: Some(regex.into()),
        replacement: Some(replacement.into()),
        action: Some("labelmap".into()),
        ..RuleSpec::default()
    };
    Rule::compile(&spec, NameValidation::Utf8).expect("a good rule")
}

/// What is set lies behind the labels that were there, in the order in which it was set first, and a labelmap goes through both.
fn map_naively(labels: &Labels, maps: &[(char, char)]) -> Labels {
    let mut set: Vec<(String, String)> = Vec::new();
    for (from, to) in maps {
        let before = set.clone();
        let is_set = |name: &str| before.iter().any(|(known, _)| known == name);
        let base = labels.iter().filter(|(name, _)| !is_set(name));
        let base = base.map(|(name, value)| (name.to_owned(), value.to_owned()));
        for (name, value) in base.chain(before.clone()) {
            if !name.starts_with(*from) {
                continue;
            }
            // The second letter stays.
            let new: String = [*to].into_iter().chain(name.chars().nth(1)).collect();
            match set.iter_mut().find(|(known, _)| *known == new) {
                Some((_, known)) => *known = value,
                None => set.push((new, value)),
            }
        }
    }
    let base = labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    Labels::from_pairs(base.chain(set))
}

proptest! {
    #[test]
    fn however_many_labels_are_mapped_the_last_of_a_name_counts(
        pairs in proptest::collection::vec(("[a-c][a-h][a-z]?", "[x-z]{1,2}"), 0..300),
        maps in proptest::collection::vec((select(&['a', 'b', 'c'][..]), select(&['a', 'b', 'c', 'd'][..])), 1..4),
    ) {
        let labels = Labels::from_pairs(pairs);
        let rules = maps.iter().map(|(from, to)| map(&format!("{from}(.).*"), &format!("{to}$1")));
        let mut builder = LabelsBuilder::from_labels(&labels);
        Rules::new(rules.collect()).apply(&mut builder);
        prop_assert_eq!(builder.build(), map_naively(&labels, &maps));
    }
}

#[test]
fn hundreds_of_thousands_of_labels_are_mapped_in_front_of_all_others() {
    // With the square of their number this would not come to an end.
    let labels = Labels::from_pairs((0..200_000).map(|at| (format!("z{at}"), "x")));
    let mut rules = vec![map("z(.*)", "a$1"), map("a(.*)", "b$1")];
    let drop =
        RuleSpec { regex: Some("a.*[0-4]".into()), action: Some("labeldrop".into()), ..RuleSpec::default() };
    rules.push(Rule::compile(&drop, NameValidation::Utf8).expect("a good rule"));
    rules.push(map("a(.*)", "c$1"));
    let mut builder = LabelsBuilder::from_labels(&labels);
    assert_eq!(Rules::new(rules).apply(&mut builder), Outcome::Kept);
    assert_eq!(builder.len(), 200_000 * 3);
}
