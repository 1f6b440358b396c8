//! Rules that are allowed, and that probably do not do what was meant.

use std::collections::HashMap;

use super::raw::{Given, List, RawRule, RawScrapeConfig};
use super::report::{Report, Spot};

/// Remarks on the rules of a job.
pub(crate) fn on_job(report: &mut Report, job: &RawScrapeConfig, _spot: Spot) {
    on_rules(report, &job.relabel_configs);
    on_rules(report, &job.metric_relabel_configs);
    sharding(report, &job.relabel_configs);
}

/// Remarks on one list of rules.
pub(crate) fn on_rules(report: &mut Report, rules: &Given<List<RawRule>>) {
    copies(report, rules);
}

fn action(rule: &RawRule) -> String {
    rule.action.get().map_or_else(|| "replace".to_owned(), |action| action.to_ascii_lowercase())
}

fn rules_of(rules: &Given<List<RawRule>>) -> impl Iterator<Item = (&RawRule, Spot)> {
    let items = rules.get().map_or(&[][..], |list| &**list);
    items.iter().filter_map(|item| match item {
        Given::Is(rule, spot) => Some((rule, *spot)),
        _ => None,
    })
}

/// A rule that copies one whole label to another name, where no later rule removes the first one. Labels that
/// begin with `__` go by themselves, and a copy from `__meta_*` is the usual way to keep one.
fn copies(report: &mut Report, rules: &Given<List<RawRule>>) {
    let all: Vec<(&RawRule, Spot)> = rules_of(rules).collect();
    for (at, (rule, spot)) in all.iter().enumerate() {
        let Some((from, to)) = copied(rule) else { continue };
        if from.starts_with("__") || from == to || to.starts_with("__") {
            continue;
        }
        let removed = all[at + 1..].iter().any(|(later, _)| removes(later, from));
        if !removed {
            report
                .remark(*spot, format!("this copies {from} to {to}; both labels are there afterwards"))
                .hint(format!("to rename, add after it: {{regex: {from}, action: labeldrop}}"));
        }
    }
}

/// Source and target of a rule that copies a label as it is.
fn copied(rule: &RawRule) -> Option<(&str, &str)> {
    let sources = rule.source_labels.get()?;
    let [Given::Is(from, _)] = &**sources else { return None };
    let whole = matches!(rule.regex.get().map(|regex| &**regex), None | Some("(.*)" | "(.+)"))
        && !matches!(rule.regex, Given::Null(_));
    let as_it_is = matches!(rule.replacement.get().map(|text| &**text), None | Some("$1" | "${1}"))
        && !matches!(rule.replacement, Given::Null(_));
    let to = rule.target_label.get()?;
    (action(rule) == "replace" && whole && as_it_is && !to.contains('$')).then_some((&**from, &**to))
}

/// Whether a rule removes this label, or sets it to something else.
fn removes(rule: &RawRule, label: &str) -> bool {
    let matches_name = |given: &Given<_>| {
        given.get().is_some_and(|regex: &std::sync::Arc<str>| {
            regex::Regex::new(&format!("^(?:{regex})$")).is_ok_and(|regex| regex.is_match(label))
        })
    };
    match &*action(rule) {
        "labeldrop" => matches_name(&rule.regex),
        "labelkeep" => !matches_name(&rule.regex),
        "replace" => rule.target_label.get().is_some_and(|target| &**target == label),
        _ => false,
    }
}

/// `hashmod` into a label, and then `keep` of one value of it: a shard of a Prometheus that was split by hand.
fn sharding(report: &mut Report, rules: &Given<List<RawRule>>) {
    let mut hashed: HashMap<&str, Spot> = HashMap::new();
    for (rule, spot) in rules_of(rules) {
        match &*action(rule) {
            "hashmod" => {
                if let Some(target) = rule.target_label.get() {
                    hashed.insert(target, spot);
                }
            }
            "keep" => {
                let sources = rule.source_labels.get().map_or(&[][..], |list| &**list);
                let hash = sources.iter().find_map(|source| hashed.get(&**source.get()?));
                if let Some(hash) = hash {
                    report
                        .warning(*hash, format!("hashmod and keep (line {}) leave one shard of the targets; the others are scraped by nobody", spot.line))
                        .hint("remove both rules: promring spreads the targets over its scrapers by itself");
                }
            }
            _ => {}
        }
    }
}
