//! Relabelling rules: from raw to compiled.

use std::sync::Arc;

use super::{Builder, REGEX_BYTES_MAX};
use crate::config::NameValidation;
use crate::config::raw::{Given, List, RawRule, Text};
use crate::config::remarks::{self, Stage, Written};
use crate::config::report::Spot;
use crate::relabel::{Rule, RuleError, RuleField, RuleSpec, Rules};

impl Builder<'_> {
    /// Compiles a list of rules.
    pub(super) fn rules(&mut self, raw: &Given<List<RawRule>>, names: NameValidation, stage: Stage) -> Rules {
        let mut written = Vec::new();
        for (raw, spot) in self.filled_items(raw) {
            written.push(Written { raw, spot, rule: self.rule(raw, spot, names) });
        }
        remarks::on_rules(self.report, &written, stage);
        Rules::new(written.into_iter().filter_map(|written| written.rule).collect())
    }

    fn rule(&mut self, raw: &RawRule, spot: Spot, names: NameValidation) -> Option<Rule> {
        let written = (Arc::new(self.spec(raw)?), names);
        if let Some(rule) = self.compiled.get(&written) {
            return Some(rule.clone());
        }
        // One error says that there are too many; what the rest of them holds is then no more of interest.
        if !self.regexes_fit() {
            return None;
        }
        let compiled = Rule::compile_with(&written.0, names, &mut self.regexes);
        if let Err(RuleError { field, message, hint }) = &compiled {
            let (at, value) = remarks::place(raw, *field, spot);
            let finding = self.report.error(at, message);
            if let Some(value) = value {
                finding.value(&value);
            }
            if let Some(hint) = hint {
                finding.hint(hint);
            }
        }
        // Finding out that a regex is too large takes as long as compiling one, and counts.
        if !self.regexes_fit() {
            let mib = REGEX_BYTES_MAX >> 20;
            let (at, _) = remarks::place(raw, RuleField::Regex, spot);
            let message = format!(
                "up to here the regexes of this configuration take more than {mib} MiB when they are compiled"
            );
            let hint = "a regex that is written alike in several rules counts once; texts with | between them take little more than their length where no rule asks for a group";
            self.report.error(at, message).hint(hint);
            return None;
        }
        let rule = compiled.ok()?;
        self.compiled.insert(written, rule.clone());
        Some(rule)
    }

    /// Whether the regexes so far take no more than all may.
    fn regexes_fit(&self) -> bool {
        self.regexes.bytes() <= REGEX_BYTES_MAX
    }

    /// The rule as it is written. `None` where a part of it could not be read.
    fn spec(&mut self, raw: &RawRule) -> Option<RuleSpec> {
        let mut broken = raw.modulus.is_broken();
        let mut text = |given: &Given<Text>| match given {
            Given::Absent => None,
            Given::Null(_) => Some(String::new()),
            Given::Is(text, _) => Some(text.to_string()),
            Given::Broken(_) => {
                broken = true;
                None
            }
        };
        let (separator, target_label) = (text(&raw.separator), text(&raw.target_label));
        let (regex, replacement, action) = (text(&raw.regex), text(&raw.replacement), text(&raw.action));
        let source_labels = match &raw.source_labels {
            Given::Absent | Given::Null(_) => None,
            Given::Broken(_) => return None,
            Given::Is(list, _) => {
                let mut names = Vec::with_capacity(list.len());
                for item in list.iter() {
                    match item {
                        Given::Is(name, spot) => {
                            // Prometheus allows any UTF-8 here, whatever the validation scheme.
                            broken |= !self.label_name_fits(name, NameValidation::Utf8, *spot);
                            names.push(name.to_string());
                        }
                        Given::Null(spot) => self.empty_item(*spot, "label name"),
                        Given::Absent | Given::Broken(_) => broken = true,
                    }
                }
                Some(names)
            }
        };
        let modulus = match &raw.modulus {
            Given::Is(modulus, _) => Some(*modulus),
            Given::Null(_) => Some(0),
            Given::Absent | Given::Broken(_) => None,
        };
        let spec = RuleSpec { source_labels, separator, target_label, regex, modulus, replacement, action };
        (!broken).then_some(spec)
    }
}
