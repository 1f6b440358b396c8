//! The cases in testdata/relabel. What they want was compared, label for label, with Prometheus 3.15.

use std::collections::BTreeMap;
use std::path::Path;

use promring_model::config::NameValidation;
use promring_model::labels::Labels;
use promring_model::relabel::{Rule, RuleError, RuleSpec, Rules};
use serde::Deserialize;

use crate::{RuleYaml, apply};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// Under legacy validation of names.
    #[serde(default)]
    legacy: bool,
    rules: Vec<RuleYaml>,
    labels: BTreeMap<String, String>,
    /// The labels afterwards.
    want: Option<BTreeMap<String, String>>,
    /// The rule that drops them.
    dropped: Option<usize>,
}

type Compile = fn(&RuleSpec, NameValidation) -> Result<Rule, RuleError>;

fn check(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/relabel").join(file);
    let text = std::fs::read_to_string(path).expect("the file of cases");
    let cases: Vec<Case> = serde_saphyr::from_str(&text).expect("cases");
    for case in cases {
        let names = if case.legacy { NameValidation::Legacy } else { NameValidation::Utf8 };
        let specs: Vec<RuleSpec> = case.rules.into_iter().map(Into::into).collect();
        let labels = Labels::from_pairs(&case.labels);
        assert!(case.want.is_some() != case.dropped.is_some(), "{}: either want or dropped", case.name);
        let want = match case.want {
            Some(want) => Ok(Labels::from_pairs(&want)),
            None => Err(case.dropped.unwrap_or_default()),
        };
        for compile in [Rule::compile as Compile, Rule::compile_engine_only] {
            let compiled = specs.iter().map(|spec| compile(spec, names).expect(&case.name)).collect();
            assert_eq!(apply(&Rules::new(compiled), &labels), want, "{}", case.name);
        }
    }
}

#[test]
fn every_action_does_what_it_does_in_prometheus() {
    check("actions.yml");
}

#[test]
fn templates_expand_as_in_prometheus() {
    check("templates.yml");
}

#[test]
fn labels_are_mapped_and_dropped_as_in_prometheus() {
    check("labelmap.yml");
}

#[test]
fn patterns_match_as_in_prometheus() {
    check("regex.yml");
}
