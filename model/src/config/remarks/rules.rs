//! Remarks on relabelling rules.

use std::collections::HashMap;
use std::sync::Arc;

use regex::Regex;

use crate::config::raw::{Given, List, RawRule};
use crate::config::report::{Report, Spot};

/// What a list of rules works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Targets: `relabel_configs`.
    Target,
    /// Samples of a scrape: `metric_relabel_configs`.
    Metric,
    /// Samples on their way out: `write_relabel_configs`.
    Write,
}

/// Remarks on one list of rules.
pub(crate) fn on_rules(report: &mut Report, rules: &Given<List<RawRule>>, stage: Stage) {
    let items = rules.get().map_or(&[][..], |list| &**list);
    let rules: Vec<(&RawRule, Spot)> = items
        .iter()
        .filter_map(|item| match item {
            Given::Is(rule, spot) => Some((rule, *spot)),
            _ => None,
        })
        .collect();
    for (at, (rule, spot)) in rules.iter().enumerate() {
        // What is wrong with a rule comes first; remarks on it would most often be wrong.
        if report.has_error_below(spot.path) {
            continue;
        }
        copies(report, rule, *spot, &rules[at + 1..]);
        labels_of_another_stage(report, rule, stage, &rules[..at]);
        empty_regex(report, rule);
        no_source(report, rule, *spot);
        lost_references(report, rule, *spot);
    }
    if stage == Stage::Target {
        sharding(report, &rules);
    }
}

/// A rule that copies one whole label to another name, where no later rule removes the first one. Labels that
/// begin with `__` go by themselves, and a copy of one is the usual way to keep it.
fn copies(report: &mut Report, rule: &RawRule, spot: Spot, later: &[(&RawRule, Spot)]) {
    let Some((from, to)) = copied(rule) else { return };
    let removed = later.iter().any(|(later, _)| removes(later, from));
    if !from.starts_with("__") && !to.starts_with("__") && from != to && !removed {
        report
            .remark(spot, format!("this copies {from} to {to}: both labels are there afterwards"))
            .hint(format!("to rename it, add this rule after it: {{regex: {from}, action: labeldrop}}"));
    }
}

/// Source and target of a rule that copies a label as it is.
fn copied(rule: &RawRule) -> Option<(&str, &str)> {
    let [Given::Is(from, _)] = &**rule.source_labels.get()? else { return None };
    let as_default = |given: &Given<Arc<str>>, same: &[&str]| match given {
        Given::Absent => true,
        Given::Is(text, _) => same.contains(&&**text),
        Given::Null(_) | Given::Broken(_) => false,
    };
    let whole = as_default(&rule.regex, &["(.*)", "(.+)"]) && as_default(&rule.replacement, &["$1", "${1}"]);
    let to = rule.target_label.get()?;
    (action(rule) == "replace" && whole && !to.contains('$')).then_some((&**from, &**to))
}

/// Whether a rule removes this label, or sets it to something else.
fn removes(rule: &RawRule, label: &str) -> bool {
    let matches = || regex(rule).is_some_and(|regex| regex.is_match(label));
    match &*action(rule) {
        "labeldrop" => matches(),
        "labelkeep" => !matches(),
        "replace" => rule.target_label.get().is_some_and(|target| &**target == label),
        _ => false,
    }
}

/// Labels that are not there yet, or no more, when this rule runs.
fn labels_of_another_stage(report: &mut Report, rule: &RawRule, stage: Stage, earlier: &[(&RawRule, Spot)]) {
    if action(rule).starts_with("label") {
        return;
    }
    let sources = rule.source_labels.get().map_or(&[][..], |list| &**list);
    for source in sources {
        let Given::Is(name, spot) = source else { continue };
        let set_here =
            earlier.iter().any(|(rule, _)| rule.target_label.get().is_some_and(|target| **target == **name));
        if set_here {
            continue;
        }
        if stage == Stage::Target && &**name == "__name__" {
            report
                .warning(*spot, "targets have no metric name yet, so this is always empty")
                .value(name)
                .hint("move the rule to metric_relabel_configs, where samples are relabelled");
        }
        let of_targets = name.starts_with("__meta_")
            || name.starts_with("__param_")
            || matches!(&**name, "__address__" | "__scheme__" | "__metrics_path__");
        if stage != Stage::Target && of_targets {
            report
                .warning(
                    *spot,
                    "samples do not have the labels of discovery any more, so this is always empty",
                )
                .value(name)
                .hint("copy it to a label without __ in relabel_configs, and use that here");
        }
    }
}

/// `regex:` without a value is the empty regex, not the default.
fn empty_regex(report: &mut Report, rule: &RawRule) {
    if let Given::Null(spot) = &rule.regex {
        report
            .warning(*spot, "a regex without a value matches the empty text only")
            .hint("write the regex, or remove the key for the default, (.*)");
    }
}

/// A rule that decides by a value, without a label to take it from.
fn no_source(report: &mut Report, rule: &RawRule, spot: Spot) {
    let action = action(rule);
    let none = match &rule.source_labels {
        Given::Absent | Given::Null(_) => true,
        Given::Is(list, _) => list.is_empty(),
        Given::Broken(_) => false,
    };
    if !none || !matches!(&*action, "keep" | "drop") {
        return;
    }
    let Some(regex) = regex(rule) else { return };
    let effect = match (&*action, regex.is_match("")) {
        ("keep", false) | ("drop", true) => "so this rule drops everything",
        _ => "so this rule does nothing",
    };
    report
        .warning(spot, format!("{action} without source_labels looks at an empty text, {effect}"))
        .hint("add source_labels: [LABEL]");
}

/// References to groups that the regex does not have, and references that something else has eaten.
fn lost_references(report: &mut Report, rule: &RawRule, spot: Spot) {
    let action = action(rule);
    if !matches!(&*action, "replace" | "labelmap") {
        return;
    }
    let Some(regex) = regex(rule) else { return };
    let groups = regex.captures_len() - 1;
    let has = |name: &str| match name.parse::<usize>() {
        Ok(number) => number <= groups,
        Err(_) => regex.capture_names().flatten().any(|group| group == name),
    };
    let replacement = match &rule.replacement {
        Given::Is(text, at) => Some((&**text, *at)),
        Given::Absent => Some(("$1", rule.regex.spot().unwrap_or(spot))),
        Given::Null(_) | Given::Broken(_) => None,
    };
    let target = match &rule.target_label {
        Given::Is(text, at) if action == "replace" => Some((&**text, *at)),
        _ => None,
    };
    for (text, at) in replacement.into_iter().chain(target) {
        let Some(missing) = references(text).into_iter().find(|name| !has(name)) else { continue };
        let digits = missing.bytes().take_while(u8::is_ascii_digit).count();
        let hint = if digits > 0 && digits < missing.len() {
            let (number, rest) = missing.split_at(digits);
            format!("a name goes as far as letters, digits and _ do: write ${{{number}}}{rest}")
        } else if rule.replacement.spot().is_none() {
            "put what you want to keep of the value into parentheses, or add a replacement".to_owned()
        } else {
            format!("the regex has groups up to ${groups}; a group is what stands in parentheses")
        };
        report
            .warning(at, format!("the regex has no group {missing}, so ${missing} is always empty"))
            .value(text)
            .hint(hint);
    }
    if let (Given::Is(text, at), true) = (&rule.replacement, groups > 0 && !rule.regex.is_absent()) {
        let only_marks = !text.is_empty() && !text.chars().any(char::is_alphanumeric);
        if !text.contains('$') && (only_marks || text.starts_with(':')) {
            report
                .warning(*at, "the regex has groups, and the replacement uses none of them")
                .value(text)
                .hint("if a shell or envsubst wrote this file, it took $1 for a variable; quote the dollar sign there");
        }
    }
}

/// The names that a template refers to: `$1`, `${1}`, `$name`, `${name}`; `$$` is a dollar sign.
fn references(template: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = template;
    while let Some((_, after)) = rest.split_once('$') {
        rest = after;
        if let Some(next) = after.strip_prefix('$') {
            rest = next;
            continue;
        }
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let name = match after.strip_prefix('{') {
            Some(inner) => inner.split_once('}').map_or("", |(name, _)| name),
            None => &after[..after.find(|c| !is_word(c)).unwrap_or(after.len())],
        };
        if !name.is_empty() && name.chars().all(is_word) {
            names.push(name);
        }
    }
    names
}

/// `hashmod` into a label, and then `keep` of one value of it: a shard of a Prometheus that was split by hand.
fn sharding(report: &mut Report, rules: &[(&RawRule, Spot)]) {
    let mut hashed: HashMap<&str, Spot> = HashMap::new();
    for (rule, spot) in rules {
        match &*action(rule) {
            "hashmod" => {
                if let Some(target) = rule.target_label.get() {
                    hashed.insert(target, *spot);
                }
            }
            "keep" => {
                let sources = rule.source_labels.get().map_or(&[][..], |list| &**list);
                let hash = sources.iter().find_map(|source| hashed.get(&**source.get()?));
                if let Some(hash) = hash {
                    let line = spot.line;
                    report
                        .warning(*hash, format!("hashmod here and keep on line {line} leave one shard of the targets, and nobody scrapes the others"))
                        .hint("remove both rules: promring spreads targets over its scrapers by itself");
                }
            }
            _ => {}
        }
    }
}

fn action(rule: &RawRule) -> String {
    match &rule.action {
        Given::Absent => "replace".to_owned(),
        Given::Is(action, _) => action.to_ascii_lowercase(),
        Given::Null(_) | Given::Broken(_) => String::new(),
    }
}

/// The regex of a rule, as far as remarks need it; `None` where it does not compile, which is reported elsewhere.
fn regex(rule: &RawRule) -> Option<Regex> {
    /// Bytes of a compiled regex. A larger one gets no remarks.
    const COMPILED_BYTES_MAX: usize = 1 << 20;
    let text = match &rule.regex {
        Given::Is(text, _) => text,
        Given::Absent => "(.*)",
        Given::Null(_) => "",
        Given::Broken(_) => return None,
    };
    regex::RegexBuilder::new(&format!("^(?s:{text})$")).size_limit(COMPILED_BYTES_MAX).build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_names_its_groups() {
        assert_eq!(references("$1:$2"), ["1", "2"]);
        assert_eq!(references("${1}_x${name}"), ["1", "name"]);
        assert_eq!(references("$1_total"), ["1_total"]);
        assert_eq!(references("$$1 100$ ${ ${}"), Vec::<&str>::new());
    }
}
