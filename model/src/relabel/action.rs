//! What the actions do to a label set.

use super::Rule;
use crate::labels::LabelsBuilder;

/// Applies `rule`; false: it drops the set.
pub(super) fn apply(rule: &Rule, labels: &mut LabelsBuilder<'_>) -> bool {
    match rule.spec().action.as_deref() {
        Some("labeldrop") => labels.retain(|name, _| !rule.regex.is_match(name)),
        Some("labelkeep") => labels.retain(|name, _| rule.regex.is_match(name)),
        _ => {}
    }
    true
}
