//! Rules that are allowed, and surely not what was meant.

use super::expand::Template;
use super::matcher::Matcher;
use super::rule::{DEFAULT_REPLACEMENT, Operation, Rule};
use super::spec::RuleField;

/// Something about a rule that its author should know. Prometheus says nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The key that it is about.
    pub field: RuleField,
    /// What is strange about it.
    pub message: String,
    /// What to write instead, where that is known.
    pub hint: Option<String>,
}

impl Rule {
    /// What is strange about the rule, looked at alone: groups that the regex does not have, keys that
    /// its action does not read, and no source labels where their value decides.
    #[must_use]
    pub fn remarks(&self) -> Vec<Remark> {
        let mut remarks = Vec::new();
        match &self.operation {
            Operation::Replace { target, replacement, .. } => {
                self.missing_group(RuleField::TargetLabel, target, &mut remarks);
                self.missing_group(RuleField::Replacement, replacement, &mut remarks);
            }
            Operation::LabelMap { replacement, .. } => {
                self.missing_group(RuleField::Replacement, replacement, &mut remarks);
            }
            _ => {}
        }
        self.unread_keys(&mut remarks);
        self.no_sources(&mut remarks);
        remarks
    }

    fn missing_group(&self, field: RuleField, template: &Template, remarks: &mut Vec<Remark>) {
        let Some(name) = &template.unknown else { return };
        let digits = name.len() - name.trim_start_matches(|char: char| char.is_ascii_digit()).len();
        let hint = if digits == name.len() {
            format!("put parentheses into `regex` around what `${name}` shall stand for")
        } else if digits > 0 {
            let (number, text) = name.split_at(digits);
            format!(
                "write `${{{number}}}{text}`: letters, digits and `_` behind a `$` all belong to the name"
            )
        } else {
            format!("name the group in `regex`: `(?P<{name}>…)`, or write `$$` for a dollar sign")
        };
        let mut message = format!("the regex has no group `{name}`, so `${name}` stands for nothing");
        if field == RuleField::Replacement && self.spec().replacement.is_none() {
            message = format!(
                "the regex has no group, so the default replacement `{DEFAULT_REPLACEMENT}` stands for nothing"
            );
        }
        remarks.push(Remark { field, message, hint: Some(hint) });
    }

    fn unread_keys(&self, remarks: &mut Vec<Remark>) {
        use RuleField::{Modulus, Regex, Replacement, Separator, SourceLabels, TargetLabel};
        let unread: &[RuleField] = match &self.operation {
            Operation::Replace { .. } => &[Modulus],
            Operation::Keep(_) | Operation::Drop(_) => &[TargetLabel, Modulus, Replacement],
            Operation::HashMod { .. } => &[Regex, Replacement],
            Operation::Lowercase { .. } | Operation::Uppercase { .. } => &[Regex, Modulus],
            Operation::LabelMap { .. } => &[SourceLabels, Separator, TargetLabel, Modulus],
            // What these do not read they refuse.
            Operation::KeepEqual { .. }
            | Operation::DropEqual { .. }
            | Operation::LabelDrop(_)
            | Operation::LabelKeep(_) => &[],
        };
        let spec = self.spec();
        for &field in unread {
            let is_set = match field {
                SourceLabels => spec.source_labels.is_some(),
                Separator => spec.separator.is_some(),
                TargetLabel => spec.target_label.is_some(),
                Regex => spec.regex.is_some(),
                Modulus => spec.modulus.is_some(),
                Replacement => spec.replacement.is_some(),
                RuleField::Action => false,
            };
            if is_set {
                let (key, action) = (field.as_str(), spec.action.as_deref().unwrap_or("replace"));
                remarks.push(Remark {
                    field,
                    message: format!("`{key}` means nothing to the action `{action}`"),
                    hint: Some(format!("remove `{key}`")),
                });
            }
        }
    }

    fn no_sources(&self, remarks: &mut Vec<Remark>) {
        if !self.sources.is_empty() {
            return;
        }
        let either = |matcher: &Matcher, yes, no| Some(if matcher.is_match("") { yes } else { no });
        let effect = match &self.operation {
            Operation::Replace { matcher, .. } if matcher.is_match("") => None,
            Operation::Replace { .. } => Some("it never changes anything"),
            Operation::Keep(matcher) => either(matcher, "it keeps everything", "it drops everything"),
            Operation::Drop(matcher) => either(matcher, "it drops everything", "it never drops anything"),
            Operation::HashMod { .. } => Some("it always sets the same value"),
            Operation::Lowercase { .. } | Operation::Uppercase { .. } => Some("it removes the target label"),
            Operation::KeepEqual { .. }
            | Operation::DropEqual { .. }
            | Operation::LabelMap { .. }
            | Operation::LabelDrop(_)
            | Operation::LabelKeep(_) => None,
        };
        if let Some(effect) = effect {
            remarks.push(Remark {
                field: RuleField::SourceLabels,
                message: format!("without source_labels the rule reads an empty value, so {effect}"),
                hint: Some("add `source_labels`".to_owned()),
            });
        }
    }
}
