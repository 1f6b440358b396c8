//! A rule of any texts is compiled or refused, and what it does to labels is the same with the fast paths and without.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promring_model::config::NameValidation;
use promring_model::labels::{Labels, LabelsBuilder};
use promring_model::relabel::{Rule, RuleSpec, Rules};

const ACTIONS: [&str; 11] = [
    "replace", "keep", "drop", "keepequal", "dropequal", "hashmod", "labelmap", "labeldrop", "labelkeep", "lowercase",
    "uppercase",
];

fuzz_target!(|input: (u8, u8, Vec<String>, Option<String>, Option<String>, Option<String>, Option<String>, u64, Vec<(String, String)>)| {
    let (action, options, sources, separator, target, regex, replacement, modulus, labels) = input;
    let spec = RuleSpec {
        source_labels: (options & 1 == 0).then_some(sources),
        separator,
        target_label: target,
        regex,
        modulus: (options & 2 == 0).then_some(modulus),
        replacement,
        action: Some(ACTIONS[usize::from(action) % ACTIONS.len()].to_owned()),
    };
    let names = if options & 4 == 0 { NameValidation::Utf8 } else { NameValidation::Legacy };
    let fast = Rule::compile(&spec, names);
    let slow = Rule::compile_engine_only(&spec, names);
    let (Ok(fast), Ok(slow)) = (&fast, &slow) else {
        assert_eq!(fast.is_ok(), slow.is_ok());
        return;
    };
    let labels = Labels::from_pairs(labels);
    let result = |rule: &Rule| {
        let mut builder = LabelsBuilder::from_labels(&labels);
        let outcome = Rules::new(vec![rule.clone()]).apply(&mut builder);
        (outcome, builder.build())
    };
    assert_eq!(result(fast), result(slow));
    let _ = fast.remarks();
});
