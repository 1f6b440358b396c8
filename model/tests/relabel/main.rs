//! Relabelling as its users see it: rules and labels in, labels out.

mod golden;
mod properties;
mod refused;
mod trace;

use promring_model::config::NameValidation;
use promring_model::labels::{Labels, LabelsBuilder};
use promring_model::relabel::{Outcome, Rule, RuleError, RuleSpec, Rules};
use serde::{Deserialize, Deserializer};

/// A rule as it stands in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleYaml {
    source_labels: Option<Vec<String>>,
    #[serde(default, deserialize_with = "null_is_empty")]
    separator: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    target_label: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    regex: Option<String>,
    modulus: Option<u64>,
    #[serde(default, deserialize_with = "null_is_empty")]
    replacement: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    action: Option<String>,
}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::<String>::deserialize(deserializer).map(|text| Some(text.unwrap_or_default()))
}

impl From<RuleYaml> for RuleSpec {
    fn from(yaml: RuleYaml) -> Self {
        let RuleYaml { source_labels, separator, target_label, regex, modulus, replacement, action } = yaml;
        Self { source_labels, separator, target_label, regex, modulus, replacement, action }
    }
}

fn spec(yaml: &str) -> RuleSpec {
    serde_saphyr::from_str::<RuleYaml>(yaml).expect(yaml).into()
}

fn compile(yaml: &str, names: NameValidation) -> Result<Rule, RuleError> {
    Rule::compile(&spec(yaml), names)
}

fn rules(yaml: &[&str]) -> Rules {
    Rules::new(yaml.iter().map(|rule| compile(rule, NameValidation::Utf8).expect("a good rule")).collect())
}

/// The labels afterwards, or the index of the rule that dropped them.
fn apply(rules: &Rules, labels: &Labels) -> Result<Labels, usize> {
    let mut builder = LabelsBuilder::from_labels(labels);
    match rules.apply(&mut builder) {
        Outcome::Kept => Ok(builder.build()),
        Outcome::Dropped { rule } => Err(rule),
    }
}
