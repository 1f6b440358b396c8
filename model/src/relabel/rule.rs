//! A compiled rule.

use std::fmt;
use std::sync::Arc;

use super::RuleSpec;
use super::check::{Action, action_of, check};
use super::expand::{TEMPLATE_BYTES_MAX, Template};
use super::matcher::{Matcher, Paths};
use super::regexes::Regexes;
use super::spec::{RuleError, RuleField};
use crate::config::NameValidation;
use crate::labels::is_legacy_label_name;

/// `regex`, where it is absent.
pub(super) const DEFAULT_REGEX: &str = "(.*)";
/// `replacement`, where it is absent.
pub(super) const DEFAULT_REPLACEMENT: &str = "$1";
/// `separator`, where it is absent.
pub(super) const DEFAULT_SEPARATOR: &str = ";";

/// A compiled rule. Two rules are equal when they were written alike, and under the same validation of names.
#[derive(Clone, Debug)]
pub struct Rule {
    spec: Arc<RuleSpec>,
    pub(super) names: NameValidation,
    pub(super) sources: Box<[String]>,
    pub(super) separator: Box<str>,
    pub(super) operation: Operation,
}

/// What a rule does, with what it needs for that.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Replace { matcher: Arc<Matcher>, target: Arc<Template>, replacement: Arc<Template> },
    Keep(Arc<Matcher>),
    Drop(Arc<Matcher>),
    KeepEqual { target: Box<str> },
    DropEqual { target: Box<str> },
    HashMod { target: Box<str>, modulus: u64 },
    LabelMap { matcher: Arc<Matcher>, replacement: Arc<Template> },
    LabelDrop(Arc<Matcher>),
    LabelKeep(Arc<Matcher>),
    Lowercase { target: Box<str> },
    Uppercase { target: Box<str> },
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec && self.names == other.names
    }
}

impl Rule {
    /// Compiles a rule. `names` says which label names `target_label` and what it expands to may have.
    ///
    /// # Errors
    /// What Prometheus 3.15 refuses is refused here, with the key that is wrong and a repair. Beyond that, a regex of
    /// more than 1 MiB, nested deeper than 100 levels, or compiled to more than 8 MiB is refused, one with so many groups
    /// that an engine takes more than 32 MiB for what they catch, and a `target_label` or
    /// `replacement` of more than 1 MiB.
    pub fn compile(spec: &RuleSpec, names: NameValidation) -> Result<Self, RuleError> {
        Self::compile_with(&Arc::new(spec.clone()), names, &mut Regexes::default())
    }

    /// Compiles a rule that asks the regex engine each time: the baseline of benchmarks and tests.
    ///
    /// # Errors
    /// Those of [`Rule::compile`].
    #[doc(hidden)]
    pub fn compile_engine_only(spec: &RuleSpec, names: NameValidation) -> Result<Self, RuleError> {
        Self::compile_with(&Arc::new(spec.clone()), names, &mut Regexes::new(Paths::EngineOnly))
    }

    /// Compiles one of many rules, which shares with the others what `regexes` has already.
    ///
    /// # Errors
    /// Those of [`Rule::compile`].
    pub fn compile_with(
        spec: &Arc<RuleSpec>,
        names: NameValidation,
        regexes: &mut Regexes,
    ) -> Result<Self, RuleError> {
        let action = action_of(spec)?;
        let refuse = |error: super::re2::Error| RuleError {
            field: RuleField::Regex,
            message: error.message,
            hint: error.hint.map(str::to_owned),
        };
        // A regex that the action does not use must still be one.
        let mut regex = regexes.parse(spec.regex.as_deref().unwrap_or(DEFAULT_REGEX)).map_err(refuse)?;
        check(spec, action, names)?;
        for (field, text) in
            [(RuleField::TargetLabel, &spec.target_label), (RuleField::Replacement, &spec.replacement)]
        {
            if text.as_ref().is_some_and(|text| text.len() > TEMPLATE_BYTES_MAX) {
                return Err(RuleError { field, message: "longer than 1 MiB".to_owned(), hint: None });
            }
        }
        let mut template =
            |text: &Option<String>, default: &str| regex.template(text.as_deref().unwrap_or(default));
        let target = || spec.target_label.as_deref().unwrap_or_default().into();
        let operation = match action {
            Action::Replace => {
                let target = template(&spec.target_label, "");
                let replacement = template(&spec.replacement, DEFAULT_REPLACEMENT);
                let groups = target.has_groups() || replacement.has_groups();
                let matcher = regex.matcher(groups).map_err(refuse)?;
                Operation::Replace { matcher, target, replacement }
            }
            Action::LabelMap => {
                let replacement = template(&spec.replacement, DEFAULT_REPLACEMENT);
                let matcher = regex.matcher(replacement.has_groups()).map_err(refuse)?;
                Operation::LabelMap { matcher, replacement }
            }
            Action::Keep => Operation::Keep(regex.matcher(false).map_err(refuse)?),
            Action::Drop => Operation::Drop(regex.matcher(false).map_err(refuse)?),
            Action::KeepEqual => Operation::KeepEqual { target: target() },
            Action::DropEqual => Operation::DropEqual { target: target() },
            Action::HashMod => {
                Operation::HashMod { target: target(), modulus: spec.modulus.unwrap_or_default().max(1) }
            }
            Action::LabelDrop => Operation::LabelDrop(regex.matcher(false).map_err(refuse)?),
            Action::LabelKeep => Operation::LabelKeep(regex.matcher(false).map_err(refuse)?),
            Action::Lowercase => Operation::Lowercase { target: target() },
            Action::Uppercase => Operation::Uppercase { target: target() },
        };
        Ok(Self {
            spec: Arc::clone(spec),
            names,
            sources: spec.source_labels.clone().unwrap_or_default().into_boxed_slice(),
            separator: spec.separator.as_deref().unwrap_or(DEFAULT_SEPARATOR).into(),
            operation,
        })
    }

    /// The rule as it was written.
    #[must_use]
    pub fn spec(&self) -> &RuleSpec {
        &self.spec
    }

    /// About how many steps it takes to apply it, where the longest label has so many bytes: one for a short one.
    pub(super) fn steps(&self, longest: usize) -> usize {
        const BYTES_A_STEP: usize = 256;
        let matcher = match &self.operation {
            Operation::Replace { matcher, .. } | Operation::LabelMap { matcher, .. } => matcher,
            Operation::Keep(matcher) | Operation::Drop(matcher) => matcher,
            Operation::LabelDrop(matcher) | Operation::LabelKeep(matcher) => matcher,
            Operation::KeepEqual { .. }
            | Operation::DropEqual { .. }
            | Operation::HashMod { .. }
            | Operation::Lowercase { .. }
            | Operation::Uppercase { .. } => return 1 + longest / BYTES_A_STEP,
        };
        1 + (longest / BYTES_A_STEP).saturating_mul(matcher.steps_a_byte())
    }

    /// Whether it goes through all labels and may set one twice, so that their order matters.
    pub(super) fn asks_for_order(&self) -> bool {
        matches!(self.operation, Operation::LabelMap { .. })
    }

    /// Whether it may set labels.
    pub(super) fn writes(&self) -> bool {
        match self.operation {
            Operation::Replace { .. }
            | Operation::HashMod { .. }
            | Operation::LabelMap { .. }
            | Operation::Lowercase { .. }
            | Operation::Uppercase { .. } => true,
            Operation::Keep(_)
            | Operation::Drop(_)
            | Operation::KeepEqual { .. }
            | Operation::DropEqual { .. }
            | Operation::LabelDrop(_)
            | Operation::LabelKeep(_) => false,
        }
    }
}

/// As a one-line YAML flow map, as it was written.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.spec, f)
    }
}

/// Whether a label may have this name.
pub(super) fn is_valid_name(name: &str, names: NameValidation) -> bool {
    match names {
        NameValidation::Utf8 => !name.is_empty(),
        NameValidation::Legacy => is_legacy_label_name(name),
    }
}
