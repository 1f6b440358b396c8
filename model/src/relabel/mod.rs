//! Relabelling: rules that change, keep or drop label sets.

mod action;
mod rule;
mod trace;

pub use rule::{Rule, RuleError, RuleField, RuleSpec};
pub use trace::{Change, Step};

use crate::labels::{Labels, LabelsBuilder};

/// What a list of rules made of a label set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It stays, with the labels that the builder now holds.
    Kept,
    /// A rule dropped it.
    Dropped {
        /// 0-based index of the rule in its list.
        rule: usize,
    },
}

/// Compiled rules, in order. Two lists are equal when their rules were written alike.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    rules: Vec<Rule>,
}

impl Rules {
    /// These rules, in this order.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Rule> {
        self.rules.iter()
    }

    /// Applies the rules one after the other.
    pub fn apply(&self, labels: &mut LabelsBuilder<'_>) -> Outcome {
        for (at, rule) in self.rules.iter().enumerate() {
            if !action::apply(rule, labels) {
                return Outcome::Dropped { rule: at };
            }
        }
        Outcome::Kept
    }

    /// Applies the rules to `labels` and tells what each of them did. It ends with the rule that dropped
    /// the set, where one did.
    #[must_use]
    pub fn trace(&self, labels: &Labels) -> Vec<Step> {
        trace::trace(self, labels)
    }
}
