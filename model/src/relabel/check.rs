//! Which rules are refused, and what to write instead. The checks and their order are Prometheus's.

use super::RuleSpec;
use super::by_name::only_regex;
use super::rule::{DEFAULT_REPLACEMENT, DEFAULT_SEPARATOR, is_valid_name};
use super::spec::{RuleError, RuleField};
use crate::config::NameValidation;
use crate::nearest::nearest;

/// An action of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

const ACTIONS: &[(&str, Action)] = &[
    ("replace", Action::Replace),
    ("keep", Action::Keep),
    ("drop", Action::Drop),
    ("keepequal", Action::KeepEqual),
    ("dropequal", Action::DropEqual),
    ("hashmod", Action::HashMod),
    ("labelmap", Action::LabelMap),
    ("labeldrop", Action::LabelDrop),
    ("labelkeep", Action::LabelKeep),
    ("lowercase", Action::Lowercase),
    ("uppercase", Action::Uppercase),
];

/// What people write for an action that has another name, or is none; without `_` and `-`.
const MISTAKEN: &[(&str, &str)] = &[
    (
        "rename",
        "copy the label with `replace`, then remove the old one with `{regex: OLD, action: labeldrop}`",
    ),
    ("labelrename", "use `labelmap`, then remove the old label with `labeldrop`"),
    ("copy", "use `replace`"),
    ("set", "use `replace`"),
    ("add", "use `replace`"),
    ("addlabel", "use `replace`"),
    ("relabel", "use `replace`"),
    ("replaceall", "use `replace`: it has no way to replace several matches in one value"),
    ("labelmapall", "use `labelmap`: it has no way to replace several matches in one name"),
    ("delete", "use `labeldrop` to remove a label, `drop` to drop the target or series"),
    ("remove", "use `labeldrop` to remove a label, `drop` to drop the target or series"),
    ("labelremove", "use `labeldrop`"),
    ("droplabel", "use `labeldrop`"),
    ("droplabels", "use `labeldrop`"),
    ("keeplabel", "use `labelkeep`"),
    ("keeplabels", "use `labelkeep`"),
    ("keepifequal", "use `keepequal`"),
    ("dropifequal", "use `dropequal`"),
    ("keepifcontains", "use `keep` with a regex of the values"),
    ("dropifcontains", "use `drop` with a regex of the values"),
    (
        "graphite",
        "use `replace` with groups: `{source_labels: [__name__], regex: 'foo\\.(.*)', target_label: x}`",
    ),
    ("keepmetrics", "use `{source_labels: [__name__], regex: …, action: keep}`"),
    ("dropmetrics", "use `{source_labels: [__name__], regex: …, action: drop}`"),
    ("include", "use `keep`"),
    ("allow", "use `keep`"),
    ("exclude", "use `drop`"),
    ("ignore", "use `drop`"),
    ("deny", "use `drop`"),
    ("lower", "use `lowercase`"),
    ("tolower", "use `lowercase`"),
    ("upper", "use `uppercase`"),
    ("toupper", "use `uppercase`"),
    ("hash", "use `hashmod`"),
    ("shard", "remove the rule: promring shares targets out by itself"),
];

/// What the rule does; the first thing to check.
pub(super) fn action_of(spec: &RuleSpec) -> Result<Action, RuleError> {
    let action = action(spec)?;
    if spec.source_labels.iter().flatten().any(String::is_empty) {
        return Err(error(
            RuleField::SourceLabels,
            "\"\" is not a valid label name",
            "remove the empty name from `source_labels`",
        ));
    }
    Ok(action)
}

/// Checks which keys the action needs and bears, and what they may hold.
pub(super) fn check(spec: &RuleSpec, action: Action, names: NameValidation) -> Result<(), RuleError> {
    match action {
        Action::Replace => target(spec, names, action, is_valid_name_template)?,
        Action::HashMod => {
            if spec.modulus.unwrap_or_default() == 0 {
                let hint = "add `modulus`, the number of parts, for example `modulus: 4`";
                return Err(error(
                    RuleField::Modulus,
                    "relabel configuration for hashmod requires non-zero modulus",
                    hint,
                ));
            }
            target(spec, names, action, is_valid_name)?;
        }
        Action::Lowercase | Action::Uppercase | Action::KeepEqual | Action::DropEqual => {
            target(spec, names, action, is_valid_name)?;
            no_replacement(spec, action)?;
            if matches!(action, Action::KeepEqual | Action::DropEqual) {
                only_labels(spec, action)?;
            }
        }
        Action::LabelMap => {
            let replacement = spec.replacement.as_deref().unwrap_or(DEFAULT_REPLACEMENT);
            if !is_valid_name_template(replacement, names) {
                let hint =
                    "it makes the new label name: write a name, or a template such as `$1` or `prefix_$1`";
                return Err(error(
                    RuleField::Replacement,
                    format!("{replacement:?} is invalid 'replacement' for labelmap action"),
                    hint,
                ));
            }
        }
        Action::LabelDrop | Action::LabelKeep => only_regex(spec, action)?,
        Action::Keep | Action::Drop => {}
    }
    Ok(())
}

impl Action {
    pub(super) fn as_str(self) -> &'static str {
        ACTIONS.iter().find(|(_, action)| *action == self).map_or("", |(name, _)| name)
    }
}

pub(super) fn error(field: RuleField, message: impl Into<String>, hint: impl Into<String>) -> RuleError {
    RuleError { field, message: message.into(), hint: Some(hint.into()) }
}

/// A hint that shows the whole rule as it should be.
pub(super) fn write(spec: &RuleSpec) -> String {
    format!("write `{spec}`")
}

fn action(spec: &RuleSpec) -> Result<Action, RuleError> {
    let Some(written) = spec.action.as_deref() else { return Ok(Action::Replace) };
    if written.is_empty() {
        let hint = "name one, or leave the key out for `replace`";
        return Err(error(RuleField::Action, "relabel action cannot be empty", hint));
    }
    let lower = written.to_lowercase();
    if let Some((_, action)) = ACTIONS.iter().find(|(name, _)| *name == lower) {
        return Ok(*action);
    }
    let plain: String = lower.chars().filter(|char| char.is_alphanumeric()).collect();
    let names: Vec<&str> = ACTIONS.iter().map(|(name, _)| *name).collect();
    let hint = if let Some((_, hint)) = MISTAKEN.iter().find(|(word, _)| *word == plain) {
        (*hint).to_owned()
    } else if let Some(name) = nearest(&plain, &names) {
        format!("write `{name}`")
    } else {
        format!("the actions are {}", names.join(", "))
    };
    Err(error(RuleField::Action, format!("unknown relabel action {written:?}"), hint))
}

fn target(
    spec: &RuleSpec,
    names: NameValidation,
    action: Action,
    valid: fn(&str, NameValidation) -> bool,
) -> Result<(), RuleError> {
    let name = action.as_str();
    let target = spec.target_label.as_deref().unwrap_or_default();
    if target.is_empty() {
        let message = format!("relabel configuration for {name} action requires 'target_label' value");
        return Err(error(RuleField::TargetLabel, message, missing_target_hint(spec, action)));
    }
    if valid(target, names) {
        return Ok(());
    }
    let legacy: String =
        target.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '_' }).collect();
    let legacy =
        if legacy.starts_with(|char: char| char.is_ascii_digit()) { format!("_{legacy}") } else { legacy };
    let hint = if target.contains('$') && action != Action::Replace {
        format!("{name} takes the name as it is, without groups: write a label name")
    } else if target.contains('$') {
        "with `metric_name_validation_scheme: legacy` it may have letters, digits, `_` and groups such as `${1}`".to_owned()
    } else {
        format!("write `{legacy}`, or allow such names with `metric_name_validation_scheme: utf8`")
    };
    let message = format!("{target:?} is invalid 'target_label' for {name} action");
    Err(error(RuleField::TargetLabel, message, hint))
}

fn missing_target_hint(spec: &RuleSpec, action: Action) -> String {
    let with_target = |target: &str| {
        // It is refused next where the action has none.
        let has_replacement = !matches!(action, Action::Lowercase | Action::Uppercase);
        let replacement = spec.replacement.clone().filter(|_| has_replacement);
        write(&RuleSpec { target_label: Some(target.to_owned()), replacement, ..spec.clone() })
    };
    let first_source = spec.source_labels.iter().flatten().next();
    match action {
        Action::Replace if spec.action.is_none() && spec.replacement.is_none() && spec.regex.is_some() => {
            "name the label to write in `target_label`; to keep or drop what matches, add `action: keep` or `action: drop`"
                .to_owned()
        }
        Action::Lowercase | Action::Uppercase => {
            with_target(first_source.map_or("LABEL", String::as_str))
        }
        Action::HashMod => with_target("__tmp_hash"),
        Action::KeepEqual | Action::DropEqual => {
            "name the label to compare with `source_labels` in `target_label`".to_owned()
        }
        _ => "name the label to write in `target_label`".to_owned(),
    }
}

/// Whether a template makes valid names, as far as can be told before it is expanded.
fn is_valid_name_template(template: &str, names: NameValidation) -> bool {
    match names {
        NameValidation::Utf8 => !template.is_empty(),
        NameValidation::Legacy => is_legacy_template(template),
    }
}

/// Letters, digits, `_`, `$name` and `${name}`, and no digit first.
fn is_legacy_template(template: &str) -> bool {
    let is_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let mut rest = template.as_bytes();
    if rest.first().is_none_or(u8::is_ascii_digit) {
        return false;
    }
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after.split_first()) {
            (b'$', Some((b'{', name))) => {
                let len = name.iter().take_while(|b| is_word(b)).count();
                match name[len..].split_first() {
                    Some((b'}', after)) if len > 0 => after,
                    _ => return false,
                }
            }
            (b'$', Some((next, after))) if is_word(next) => after,
            (first, _) if is_word(first) => after,
            _ => return false,
        };
    }
    true
}

fn no_replacement(spec: &RuleSpec, action: Action) -> Result<(), RuleError> {
    match spec.replacement.as_deref() {
        None | Some(DEFAULT_REPLACEMENT) => Ok(()),
        Some(_) => {
            let message = format!("'replacement' can not be set for {} action", action.as_str());
            let repaired = match action {
                Action::KeepEqual | Action::DropEqual => labels_only(spec),
                _ => RuleSpec { replacement: None, ..spec.clone() },
            };
            Err(error(RuleField::Replacement, message, write(&repaired)))
        }
    }
}

/// `keepequal` and `dropequal` have `source_labels` and `target_label` only. A regex may not even repeat the default.
fn only_labels(spec: &RuleSpec, action: Action) -> Result<(), RuleError> {
    let extra = [
        (spec.regex.is_some(), RuleField::Regex),
        (spec.modulus.is_some_and(|modulus| modulus != 0), RuleField::Modulus),
        (
            spec.separator.as_deref().is_some_and(|separator| separator != DEFAULT_SEPARATOR),
            RuleField::Separator,
        ),
    ];
    let Some((_, field)) = extra.into_iter().find(|(set, _)| *set) else { return Ok(()) };
    let message = format!(
        "{} action requires only 'source_labels' and 'target_label', and no other fields",
        action.as_str()
    );
    Err(error(field, message, write(&labels_only(spec))))
}

/// A rule without the keys that `keepequal` and `dropequal` do not have.
fn labels_only(spec: &RuleSpec) -> RuleSpec {
    RuleSpec {
        source_labels: spec.source_labels.clone(),
        target_label: spec.target_label.clone(),
        action: spec.action.clone(),
        ..RuleSpec::default()
    }
}
