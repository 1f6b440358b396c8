//! What each rule of a list does to a label set, for people to look at.

use serde::Serialize;

use super::Rules;
use super::action::{self, Order, Scratch};
use crate::labels::{Labels, LabelsBuilder};

/// What one rule did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// 0-based index of the rule in its list.
    pub rule: usize,
    /// What it read: the values of its source labels, joined. None for rules that go by label names.
    pub input: Option<String>,
    /// Labels that differ afterwards, in order of their names.
    pub changes: Vec<Change>,
    /// The labels after the rule; what they were before it, where it dropped them.
    pub after: Labels,
    /// Whether the rule dropped the set. No later rule has a step then.
    pub dropped: bool,
}

/// A label that a rule changed. `before` is None where the rule added it, `after` where the rule removed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The label's name.
    pub name: String,
    /// Its value before.
    pub before: Option<String>,
    /// Its value after.
    pub after: Option<String>,
}

pub(super) fn trace(rules: &Rules, labels: &Labels, scratch: &mut Scratch, order: Order) -> Vec<Step> {
    let mut builder = LabelsBuilder::from_labels(labels);
    let mut before = labels.clone();
    let mut steps = Vec::with_capacity(rules.len());
    for (at, rule) in rules.iter().enumerate() {
        let input = action::input(rule, &builder);
        let kept = action::apply(rule, &mut builder, scratch, order);
        let after = builder.build();
        let changes = changes(&before, &after);
        before.clone_from(&after);
        steps.push(Step { rule: at, input, changes, after, dropped: !kept });
        if !kept {
            break;
        }
    }
    steps
}

fn changes(before: &Labels, after: &Labels) -> Vec<Change> {
    let mut names: Vec<&str> = before.iter().chain(after.iter()).map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .filter(|name| before.get(name) != after.get(name))
        .map(|name| Change {
            name: name.to_owned(),
            before: before.get(name).map(str::to_owned),
            after: after.get(name).map(str::to_owned),
        })
        .collect()
}
