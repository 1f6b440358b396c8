//! Remarks on rules that take the name of a metric away.

use std::sync::Arc;

use super::rules::{Stage, Written, action, drops, place};
use crate::config::raw::{Given, RawRule};
use crate::config::report::Report;
use crate::labels::METRIC_NAME;
use crate::relabel::{RuleField, RuleSpec};

/// What series of different metrics or targets would be one without.
const NEEDED: [&str; 3] = [METRIC_NAME, "job", "instance"];

/// A rule that leaves samples without a name, where no later rule gives them one.
pub(super) fn lost_name(report: &mut Report, written: &Written<'_>, stage: Stage, later: &[Written<'_>]) {
    let raw = written.raw;
    let message = match stage {
        // Targets have none.
        Stage::Target { .. } => return,
        Stage::Metric => {
            "this takes the metric's name from series, and one series without a name fails the whole scrape"
        }
        Stage::Write => "this takes the metric's name from series, and receivers refuse a series without one",
    };
    let is_emptied = sets_name(raw) && is_nothing(&raw.replacement) && action(raw) == "replace";
    if !(is_emptied || drops(written, METRIC_NAME)) || later.iter().any(|later| sets_name(later.raw)) {
        return;
    }
    let field = if is_emptied { RuleField::Replacement } else { RuleField::Regex };
    let (spot, value) = place(raw, field, written.spot);
    let hint = if action(raw) == "labelkeep" {
        let missing = NEEDED.into_iter().filter(|name| drops(written, name)).collect::<Vec<_>>().join("|");
        let regex = raw.regex.get().filter(|regex| !regex.is_empty());
        let regex = regex.map_or_else(|| missing.clone(), |regex| format!("{missing}|{regex}"));
        let action = Some("labelkeep".to_owned());
        let repaired = RuleSpec { regex: Some(regex), action, ..RuleSpec::default() };
        format!("keep the labels that tell series apart, too: {repaired}")
    } else {
        let others = if is_emptied { "" } else { "for labels, write a regex that does not match __name__; " };
        format!(
            "{others}to drop series by their names, write {{source_labels: [__name__], regex: NAME, action: drop}}"
        )
    };
    let finding = report.warning(spot, message).hint(hint);
    if let Some(value) = value {
        finding.value(&value);
    }
}

fn sets_name(rule: &RawRule) -> bool {
    rule.target_label.get().is_some_and(|target| &**target == METRIC_NAME)
}

/// Whether a key says that there is no text.
fn is_nothing(given: &Given<Arc<str>>) -> bool {
    match given {
        Given::Is(text, _) => text.is_empty(),
        Given::Null(_) => true,
        Given::Absent | Given::Broken(_) => false,
    }
}
