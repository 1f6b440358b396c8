//! Any rules over any labels: fast paths do what the regex engine does, and a trace ends where applying ends.
//!
//! The input is lines, so that its seeds can be read and its finds be changed by hand. The first letter says what the
//! rest of the line is: of a rule a(ction), s(ource label), p (separator), t(arget), r(egex), m(odulus),
//! x (replacement); `-` ends a rule. `l` is a label of a set, `name=value`; `+` ends a set. `v` is for legacy names. A
//! carriage return stands for a newline in a text.
#![no_main]

use std::str::Lines;

use libfuzzer_sys::fuzz_target;
use promring_model::config::NameValidation;
use promring_model::labels::{Labels, LabelsBuilder};
use promring_model::relabel::{Outcome, Rule, RuleSpec, Rules};

/// More of them show nothing new, and take long.
const RULES_MAX: usize = 12;
const SETS_MAX: usize = 8;

#[derive(Default)]
struct Input {
    rules: Vec<RuleSpec>,
    sets: Vec<Labels>,
    legacy: bool,
}

fuzz_target!(|text: &str| {
    let Input { rules, sets, legacy } = Input::read(text.lines());
    let names = if legacy { NameValidation::Legacy } else { NameValidation::Utf8 };
    let (mut fast, mut engine) = (Vec::new(), Vec::new());
    for spec in rules.iter().take(RULES_MAX) {
        match (Rule::compile(spec, names), Rule::compile_engine_only(spec, names)) {
            (Ok(one), Ok(other)) => {
                assert!(one.remarks().iter().all(|remark| !format!("{remark:?}").is_empty()));
                fast.push(one);
                engine.push(other);
            }
            // The engine has limits for what is compiled that a fast path does not need.
            (Ok(_), Err(error)) => assert!(error.message.contains("the regex"), "{spec}: {error}"),
            (Err(one), other) => assert_eq!(Some(one), other.err(), "{spec}"),
        }
        assert!(spec.to_string().starts_with('{'));
    }
    let (fast, engine) = (Rules::new(fast), Rules::new(engine));
    for set in sets.iter().take(SETS_MAX) {
        let found = apply(&fast, set);
        assert_eq!(found, apply(&engine, set), "{set}");
        let steps = fast.trace(set);
        let last = steps.last();
        let traced = match last {
            Some(step) if step.dropped => (Outcome::Dropped { rule: step.rule }, step.after.clone()),
            Some(step) => (Outcome::Kept, step.after.clone()),
            None => (Outcome::Kept, set.clone()),
        };
        assert_eq!(found, traced, "{set}");
    }
});

fn apply(rules: &Rules, set: &Labels) -> (Outcome, Labels) {
    let mut builder = LabelsBuilder::from_labels(set);
    let outcome = rules.apply(&mut builder);
    let in_order = builder.iter().zip(builder.iter().skip(1)).all(|(one, next)| one.0 < next.0);
    assert!(in_order && builder.iter().all(|(_, value)| !value.is_empty()), "{builder:?}");
    (outcome, builder.build())
}

impl Input {
    fn read(lines: Lines<'_>) -> Self {
        let mut input = Self::default();
        let mut rule: Option<RuleSpec> = None;
        let mut pairs: Vec<(String, String)> = Vec::new();
        for line in lines.chain(["-", "+"]) {
            let Some(key) = line.chars().next() else { continue };
            let text = line[key.len_utf8()..].replace('\r', "\n");
            let spec = || RuleSpec::default();
            match key {
                'a' => rule.get_or_insert_with(spec).action = Some(text),
                's' => rule.get_or_insert_with(spec).source_labels.get_or_insert_default().push(text),
                'p' => rule.get_or_insert_with(spec).separator = Some(text),
                't' => rule.get_or_insert_with(spec).target_label = Some(text),
                'r' => rule.get_or_insert_with(spec).regex = Some(text),
                'm' => rule.get_or_insert_with(spec).modulus = text.parse().ok(),
                'x' => rule.get_or_insert_with(spec).replacement = Some(text),
                'l' => pairs.extend(text.split_once('=').map(|(name, value)| (name.into(), value.into()))),
                'v' => input.legacy = true,
                '-' => input.rules.extend(rule.take()),
                '+' => input.sets.push(Labels::from_pairs(std::mem::take(&mut pairs))),
                _ => {}
            }
        }
        input
    }
}
