//! Remarks on relabelling rules.

use std::collections::HashMap;
use std::sync::Arc;

use super::{names, sources};
use crate::config::raw::{Given, RawRule};
use crate::config::report::{Report, Spot};
use crate::labels::{Labels, LabelsBuilder};
use crate::relabel::{Rule, RuleField, RuleSpec, Rules};

/// What a list of rules works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Targets: `relabel_configs`.
    Target {
        /// Whether a target may come with a label `instance` of its own.
        with_instance: bool,
    },
    /// Samples of a scrape: `metric_relabel_configs`.
    Metric,
    /// Samples on their way out: `write_relabel_configs`.
    Write,
}

/// Rules before and after one that are looked at for it: a longer list gets fewer remarks, not more time.
pub(super) const NEIGHBOURS_MAX: usize = 200;

/// A rule as it is written and as it is compiled. `None`: it is refused, which is reported.
pub(crate) struct Written<'r> {
    pub(crate) raw: &'r RawRule,
    pub(crate) spot: Spot,
    pub(crate) rule: Option<Rule>,
}

/// Remarks on one list of rules.
pub(crate) fn on_rules(report: &mut Report, rules: &[Written<'_>], stage: Stage) {
    for (at, written) in rules.iter().enumerate() {
        // What is wrong with a rule comes first; remarks on it would most often be wrong.
        if report.has_error_below(written.spot.path) {
            continue;
        }
        alone(report, written);
        let later = &rules[at + 1..rules.len().min(at + 1 + NEIGHBOURS_MAX)];
        let earlier = &rules[at.saturating_sub(NEIGHBOURS_MAX)..at];
        copies(report, written, later);
        names::lost_name(report, written, stage, later);
        sources::labels_of_another_stage(report, written.raw, stage, earlier);
        empty_regex(report, written.raw);
        eaten_references(report, written.raw);
        backslash_references(report, written.raw);
        asterisk_of_a_glob(report, written.raw);
    }
    if matches!(stage, Stage::Target { .. }) {
        sharding(report, rules);
    }
}

/// What is strange about a rule whatever stands around it.
fn alone(report: &mut Report, written: &Written<'_>) {
    let Some(rule) = &written.rule else { return };
    for remark in rule.remarks() {
        let (spot, value) = place(written.raw, remark.field, written.spot);
        let finding = report.warning(spot, remark.message);
        if let Some(value) = value {
            finding.value(&value);
        }
        if let Some(hint) = remark.hint {
            finding.hint(hint);
        }
    }
}

/// Where a key of a rule stands, and what it says; the rule itself where the key is missing.
pub(crate) fn place(raw: &RawRule, field: RuleField, rule: Spot) -> (Spot, Option<String>) {
    let text = |given: &Given<Arc<str>>| (given.spot(), given.get().map(ToString::to_string));
    let (spot, value) = match field {
        RuleField::SourceLabels => {
            let names = raw.source_labels.get().map(|list| {
                let name = |name: &Given<Arc<str>>| name.get().map(ToString::to_string).unwrap_or_default();
                format!("[{}]", list.iter().map(name).collect::<Vec<_>>().join(", "))
            });
            (raw.source_labels.spot(), names)
        }
        RuleField::Separator => text(&raw.separator),
        RuleField::TargetLabel => text(&raw.target_label),
        RuleField::Regex => text(&raw.regex),
        RuleField::Modulus => (raw.modulus.spot(), raw.modulus.get().map(ToString::to_string)),
        RuleField::Replacement => text(&raw.replacement),
        RuleField::Action => text(&raw.action),
    };
    (spot.unwrap_or(rule), value)
}

/// Labels that tell series of targets and buckets apart, which would collide without them: a copy is what was meant.
const TELLING_APART: [&str; 4] = ["job", "instance", "le", "quantile"];

/// A rule that copies one whole label to another name, where no later rule removes the first one. Labels that
/// begin with `__` go by themselves, and a copy of one is the usual way to keep it.
fn copies(report: &mut Report, written: &Written<'_>, later: &[Written<'_>]) {
    let Some((from, to)) = copied(written.raw) else { return };
    if TELLING_APART.contains(&from) {
        return;
    }
    let removed = later.iter().any(|later| removes(later, from));
    if !from.starts_with("__") && !to.starts_with("__") && from != to && !removed {
        let removal = RuleSpec {
            regex: Some(regex::escape(from)),
            action: Some("labeldrop".to_owned()),
            ..RuleSpec::default()
        };
        report
            .remark(written.spot, format!("this copies {from} to {to}: both labels are there afterwards"))
            .hint(format!("to rename it, add this rule after it: {removal}"));
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
fn removes(written: &Written<'_>, label: &str) -> bool {
    let sets = || written.raw.target_label.get().is_some_and(|target| &**target == label);
    drops(written, label) || (action(written.raw) == "replace" && sets())
}

/// Names of labels up to so many bytes are looked for in regexes, for each pair of a name and a rule.
const NAME_BYTES_MAX: usize = 200;

/// Whether this is a `labeldrop` or `labelkeep` that removes this label.
pub(super) fn drops(written: &Written<'_>, label: &str) -> bool {
    let by_name = matches!(&*action(written.raw), "labeldrop" | "labelkeep");
    let is_short = label.len() <= NAME_BYTES_MAX;
    let Some(rule) = written.rule.as_ref().filter(|_| by_name && is_short) else { return false };
    let labels = Labels::from_pairs([(label, "x")]);
    let mut labels = LabelsBuilder::from_labels(&labels);
    Rules::new(vec![rule.clone()]).apply(&mut labels);
    labels.is_empty()
}

/// `regex:` without a value is the empty regex, not the default.
fn empty_regex(report: &mut Report, rule: &RawRule) {
    if let Given::Null(spot) = &rule.regex {
        report
            .warning(*spot, "a regex without a value matches the empty text only")
            .hint("write the regex, or remove the key for the default, (.*)");
    }
}

/// A replacement that lost its references, most often to a shell that took `$1` for a variable.
fn eaten_references(report: &mut Report, rule: &RawRule) {
    let (Given::Is(regex, _), Given::Is(text, spot)) = (&rule.regex, &rule.replacement) else { return };
    let has_group = regex.replace("\\(", "").replace("(?:", "").contains('(');
    let only_marks = !text.is_empty() && !text.chars().any(char::is_alphanumeric);
    if has_group && !text.contains('$') && (only_marks || text.starts_with(':')) {
        report
            .warning(*spot, "the regex has groups, and the replacement uses none of them")
            .value(text)
            .hint("if a shell or envsubst wrote this file, it took $1 for a variable; quote the dollar sign there");
    }
}

/// `go_*` where `go_.*` was meant: names with an asterisk as in a file's name.
fn asterisk_of_a_glob(report: &mut Report, rule: &RawRule) {
    const NAME_BYTES_MIN: usize = 3;
    let Given::Is(regex, spot) = &rule.regex else { return };
    let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:".contains(&b));
    let inner = regex.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(regex);
    let glob = inner
        .split('|')
        .filter_map(|pattern| pattern.strip_suffix('*'))
        .find(|name| name.len() >= NAME_BYTES_MIN && is_name(name));
    if let Some(name) = glob {
        let last = name.chars().next_back().unwrap_or_default();
        report
            .warning(
                *spot,
                format!(
                    "an asterisk repeats the {last} before it, so this does not match what begins with {name}"
                ),
            )
            .value(regex)
            .hint(format!("write {name}.*"));
    }
}

/// `\1` in a replacement, as other tools write a group.
fn backslash_references(report: &mut Report, rule: &RawRule) {
    let Given::Is(text, spot) = &rule.replacement else { return };
    let repaired = with_dollar_signs(text);
    if repaired != **text && matches!(&*action(rule), "replace" | "labelmap") {
        report
            .warning(
                *spot,
                "a backslash and a number stand for themselves; what a group matched is $1, $2 and so on",
            )
            .value(text)
            .hint(format!("write {repaired}"));
    }
}

/// The text with `${1}` for `\1`.
fn with_dollar_signs(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut repaired = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        match part.split_at(digits) {
            ("", rest) => repaired.extend(["\\", rest]),
            (number, rest) => repaired.extend(["${", number, "}", rest]),
        }
    }
    repaired
}

/// `hashmod` into a label, and then `keep` of one value of it, or `drop` of others: a shard of a Prometheus that was split
/// by hand.
fn sharding(report: &mut Report, rules: &[Written<'_>]) {
    let mut hashed: HashMap<&str, Spot> = HashMap::new();
    for Written { raw: rule, spot, .. } in rules {
        match &*action(rule) {
            "hashmod" => {
                if let Some(target) = rule.target_label.get() {
                    hashed.insert(target, *spot);
                }
            }
            action @ ("keep" | "drop") => {
                let sources = rule.source_labels.get().map_or(&[][..], |list| &**list);
                let hash = sources.iter().find_map(|source| hashed.get(&**source.get()?));
                if let Some(hash) = hash {
                    let line = spot.line;
                    let what = if action == "keep" { "one shard" } else { "a part" };
                    report
                        .warning(*hash, format!("hashmod here and {action} on line {line} leave {what} of the targets, and nobody scrapes the others"))
                        .hint("remove both rules: promring spreads targets over its scrapers by itself");
                }
            }
            _ => {}
        }
    }
}

pub(super) fn action(rule: &RawRule) -> String {
    match &rule.action {
        Given::Absent => "replace".to_owned(),
        Given::Is(action, _) => action.to_ascii_lowercase(),
        Given::Null(_) | Given::Broken(_) => String::new(),
    }
}
