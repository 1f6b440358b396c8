//! Relabelling: rules that change, keep or drop label sets.

use crate::labels::LabelsBuilder;

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

/// Compiled rules, in order.
#[derive(Clone, Debug, Default)]
pub struct Rules {}

impl Rules {
    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        0
    }

    /// Whether there is no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        true
    }

    /// Applies the rules one after the other.
    pub fn apply(&self, _labels: &mut LabelsBuilder<'_>) -> Outcome {
        Outcome::Kept
    }
}
