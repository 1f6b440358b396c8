//! What each rule of a list does to a label set, for people to look at.

use std::cmp::Ordering;

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

/// Both sets are in order of their names, so they are gone through side by side.
fn changes(before: &Labels, after: &Labels) -> Vec<Change> {
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    let mut changes = Vec::new();
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((one, _)), Some((other, _))) => one.cmp(other),
        };
        let was = if order.is_le() { before.next() } else { None };
        let is = if order.is_ge() { after.next() } else { None };
        if let Some((name, _)) = was.or(is)
            && was != is
        {
            let value = |pair: Option<(&str, &str)>| pair.map(|(_, value)| value.to_owned());
            changes.push(Change { name: name.to_owned(), before: value(was), after: value(is) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_in_order_whichever_side_has_it() {
        let before = Labels::from_pairs([("a", "1"), ("c", "2"), ("d", "3"), ("f", "4")]);
        let after = Labels::from_pairs([("b", "1"), ("c", "2"), ("d", "4"), ("e", "5"), ("g", "6")]);
        let changed: Vec<_> = changes(&before, &after)
            .into_iter()
            .map(|change| format!("{} {:?} {:?}", change.name, change.before, change.after))
            .collect();
        assert_eq!(
            changed,
            [
                r#"a Some("1") None"#,
                r#"b None Some("1")"#,
                r#"d Some("3") Some("4")"#,
                r#"e None Some("5")"#,
                r#"f Some("4") None"#,
                r#"g None Some("6")"#,
            ]
        );
        assert_eq!(changes(&after, &after), []);
        assert_eq!(changes(&Labels::default(), &before).len(), 4);
    }
}
