//! `labeldrop` and `labelkeep`, which match the names of labels and take a regex only: what to write instead of a rule that
//! says more.

use super::RuleSpec;
use super::check::{Action, error, write};
use super::rule::{DEFAULT_REGEX, DEFAULT_REPLACEMENT, DEFAULT_SEPARATOR};
use super::spec::{RuleError, RuleField};

/// Refuses every key but `regex`.
pub(super) fn only_regex(spec: &RuleSpec, action: Action) -> Result<(), RuleError> {
    let set = |value: &Option<String>, default: &str| value.as_deref().is_some_and(|value| value != default);
    let extra = [
        (spec.source_labels.is_some(), RuleField::SourceLabels),
        (set(&spec.target_label, ""), RuleField::TargetLabel),
        (spec.modulus.is_some_and(|modulus| modulus != 0), RuleField::Modulus),
        (set(&spec.separator, DEFAULT_SEPARATOR), RuleField::Separator),
        (set(&spec.replacement, DEFAULT_REPLACEMENT), RuleField::Replacement),
    ];
    let Some((_, field)) = extra.into_iter().find(|(set, _)| *set) else { return Ok(()) };
    let message = format!("{} action requires only 'regex', and no other fields", action.as_str());
    Err(error(field, message, hint(spec, action)))
}

fn hint(spec: &RuleSpec, action: Action) -> String {
    let keeps = action == Action::LabelKeep;
    let by_name = |regex: &str| RuleSpec {
        regex: Some(regex.to_owned()),
        action: spec.action.clone(),
        ..RuleSpec::default()
    };
    let names = |regex: &str| {
        let rest = if keeps { ", removes all labels but those," } else { "" };
        format!(
            "{} matches the names of labels{rest} and takes regex only: {}",
            action.as_str(),
            by_name(regex)
        )
    };
    let regex = spec.regex.as_deref().unwrap_or(DEFAULT_REGEX);
    let sources = spec.source_labels.as_deref().unwrap_or_default();
    let target = spec.target_label.as_deref().filter(|target| !target.is_empty());
    if matches!(regex, DEFAULT_REGEX | ".*" | "(.+)" | ".+" | "") {
        // Such a regex would take every label: others name it.
        let escaped = |names: &[String]| names.iter().map(|name| regex::escape(name)).collect::<Vec<_>>();
        return match (target, sources) {
            (Some(target), _) => names(&regex::escape(target)),
            (None, []) => names("NAME"),
            (None, sources) => names(&escaped(sources).join("|")),
        };
    }
    let named = sources.iter().map(String::as_str).chain(target);
    if regex.starts_with("__") || names_one_of(regex, named) {
        return names(regex);
    }
    match (target, sources) {
        (None, []) => names(regex),
        (Some(target), []) => format!(
            "`regex` matches label names here: write `{}` or `{}`, by which label is meant",
            by_name(&regex::escape(target)),
            by_name(regex)
        ),
        (target, sources) => values(spec, regex, target, sources, keeps),
    }
}

/// The hint for a rule whose regex is probably for values, as labels are named beside it.
fn values(spec: &RuleSpec, regex: &str, target: Option<&str>, sources: &[String], keeps: bool) -> String {
    let of = RuleSpec {
        source_labels: Some(sources.to_vec()),
        separator: spec.separator.clone(),
        regex: Some(regex.to_owned()),
        ..RuleSpec::default()
    };
    let dropped = RuleSpec { action: Some(if keeps { "keep" } else { "drop" }.to_owned()), ..of.clone() };
    let emptied = |target: &str| {
        write(&RuleSpec {
            target_label: Some(target.to_owned()),
            replacement: Some(String::new()),
            ..of.clone()
        })
    };
    let whose = sources.join(" and ");
    let begin = format!("`regex` matches label names here, and is probably meant for the values of {whose}");
    let what = if sources == ["__name__"] { "series that match" } else { "what matches" };
    match (target, sources) {
        (Some(target), _) if !keeps => format!(
            "`regex` matches label names here; to remove `{target}` only where {whose} matches, {}",
            emptied(target)
        ),
        (_, [source]) if !keeps && source != "__name__" => format!(
            "{begin}: to drop what matches, {}; to remove `{source}` from it, {}",
            write(&dropped),
            emptied(source)
        ),
        _ => {
            let does = if keeps { "keep only" } else { "drop" };
            format!("{begin}: to {does} {what}, {}", write(&dropped))
        }
    }
}

/// So many names, and so many texts of a regex, are looked at for a hint.
const LOOKED_AT_MAX: usize = 100;

/// Whether a regex of texts, of which each may have one gap, matches one of these names. Another kind of regex does not: it
/// is not worth compiling for a hint.
fn names_one_of<'n>(regex: &str, names: impl Iterator<Item = &'n str>) -> bool {
    let inner = regex.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(regex);
    let matches =
        |pattern: &str, name: &str| match pattern.split_once(".*").or_else(|| pattern.split_once(".+")) {
            Some((begin, end)) => {
                name.len() >= begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end)
            }
            None => name == pattern,
        };
    let patterns: Vec<&str> = inner.split('|').take(LOOKED_AT_MAX).collect();
    names.take(LOOKED_AT_MAX).any(|name| patterns.iter().any(|pattern| matches(pattern, name)))
}

#[cfg(test)]
mod tests {
    use super::super::Rule;
    use super::*;
    use crate::config::NameValidation;

    /// The hint for a rule of these keys; an empty text or list is a key that is not there.
    fn hint_of(action: &str, sources: &[&str], target: &str, regex: &str) -> String {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let spec = RuleSpec {
            source_labels: Some(sources.iter().map(ToString::to_string).collect())
                .filter(|_| !sources.is_empty()),
            target_label: text(target),
            regex: text(regex),
            action: text(action),
            ..RuleSpec::default()
        };
        Rule::compile(&spec, NameValidation::Utf8).unwrap_err().hint.unwrap_or_default()
    }

    #[test]
    fn the_hint_is_of_what_was_probably_meant() {
        for (action, sources, target, regex, hint) in [
            // The label is named elsewhere.
            (
                "labeldrop",
                &["__name__"][..],
                "pod_ip",
                ".*",
                "labeldrop matches the names of labels and takes regex only: {regex: pod_ip, action: labeldrop}",
            ),
            (
                "labeldrop",
                &["a", "b"],
                "",
                "",
                "labeldrop matches the names of labels and takes regex only: {regex: a|b, action: labeldrop}",
            ),
            (
                "labelkeep",
                &[],
                "pod",
                "",
                "labelkeep matches the names of labels, removes all labels but those, and takes regex only: {regex: pod, action: labelkeep}",
            ),
            // It is named twice.
            (
                "labeldrop",
                &["pod_ip"],
                "",
                "pod_.*",
                "labeldrop matches the names of labels and takes regex only: {regex: pod_.*, action: labeldrop}",
            ),
            (
                "labeldrop",
                &["x"],
                "",
                "__meta_.+",
                "labeldrop matches the names of labels and takes regex only: {regex: __meta_.+, action: labeldrop}",
            ),
            (
                "labeldrop",
                &[],
                "a",
                "b",
                "`regex` matches label names here: write `{regex: a, action: labeldrop}` or `{regex: b, action: labeldrop}`, by which label is meant",
            ),
            // Values are meant.
            (
                "labeldrop",
                &["env"],
                "",
                "dev|test",
                "`regex` matches label names here, and is probably meant for the values of env: to drop what matches, write `{source_labels: [env], regex: dev|test, action: drop}`; to remove `env` from it, write `{source_labels: [env], target_label: env, regex: dev|test, replacement: ''}`",
            ),
            (
                "labeldrop",
                &["a", "b"],
                "",
                "x;y",
                "`regex` matches label names here, and is probably meant for the values of a and b: to drop what matches, write `{source_labels: [a, b], regex: 'x;y', action: drop}`",
            ),
            (
                "labeldrop",
                &["__name__"],
                "",
                "go_.*",
                "`regex` matches label names here, and is probably meant for the values of __name__: to drop series that match, write `{source_labels: [__name__], regex: go_.*, action: drop}`",
            ),
            (
                "labeldrop",
                &["env"],
                "zone",
                "dev",
                "`regex` matches label names here; to remove `zone` only where env matches, write `{source_labels: [env], target_label: zone, regex: dev, replacement: ''}`",
            ),
            (
                "labelkeep",
                &["env"],
                "",
                "live",
                "`regex` matches label names here, and is probably meant for the values of env: to keep only what matches, write `{source_labels: [env], regex: live, action: keep}`",
            ),
            (
                "labelkeep",
                &["env"],
                "zone",
                "live",
                "`regex` matches label names here, and is probably meant for the values of env: to keep only what matches, write `{source_labels: [env], regex: live, action: keep}`",
            ),
            (
                "LabelKeep",
                &["__name__"],
                "",
                "up",
                "`regex` matches label names here, and is probably meant for the values of __name__: to keep only series that match, write `{source_labels: [__name__], regex: up, action: keep}`",
            ),
        ] {
            assert_eq!(
                hint_of(action, sources, target, regex),
                hint,
                "{action} {sources:?} {target} {regex}"
            );
        }
    }
}
