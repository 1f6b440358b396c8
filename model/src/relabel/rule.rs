//! One rule: as it is written, and compiled.

use std::fmt;

use regex::Regex;

use crate::config::NameValidation;

/// A rule as it stands in a file. None: the key is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleSpec {
    /// `source_labels`.
    pub source_labels: Option<Vec<String>>,
    /// `separator`; absent: `;`.
    pub separator: Option<String>,
    /// `target_label`.
    pub target_label: Option<String>,
    /// `regex`; absent: `(.*)`. An explicit null is `Some("")`.
    pub regex: Option<String>,
    /// `modulus`.
    pub modulus: Option<u64>,
    /// `replacement`; absent: `$1`.
    pub replacement: Option<String>,
    /// `action`, in any case; absent: `replace`.
    pub action: Option<String>,
}

/// A key of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleField {
    /// `source_labels`
    SourceLabels,
    /// `separator`
    Separator,
    /// `target_label`
    TargetLabel,
    /// `regex`
    Regex,
    /// `modulus`
    Modulus,
    /// `replacement`
    Replacement,
    /// `action`
    Action,
}

impl RuleField {
    /// The key as it stands in a file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SourceLabels => "source_labels",
            Self::Separator => "separator",
            Self::TargetLabel => "target_label",
            Self::Regex => "regex",
            Self::Modulus => "modulus",
            Self::Replacement => "replacement",
            Self::Action => "action",
        }
    }
}

/// Why a rule is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RuleError {
    /// The key that is wrong, or that is missing.
    pub field: RuleField,
    /// What is wrong with it.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

/// A compiled rule. Two rules are equal when they were written alike.
#[derive(Clone, Debug)]
pub struct Rule {
    spec: RuleSpec,
    pub(super) regex: Regex,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl Rule {
    /// Compiles a rule.
    ///
    /// # Errors
    /// What Prometheus refuses is refused here, with the key that is wrong and a repair.
    pub fn compile(spec: &RuleSpec, _names: NameValidation) -> Result<Self, RuleError> {
        let text = spec.regex.as_deref().unwrap_or("(.*)");
        let regex = Regex::new(&format!("^(?s:{text})$")).map_err(|error| RuleError {
            field: RuleField::Regex,
            message: error.to_string(),
            hint: None,
        })?;
        Ok(Self { spec: spec.clone(), regex })
    }

    /// The rule as it was written.
    #[must_use]
    pub fn spec(&self) -> &RuleSpec {
        &self.spec
    }
}

/// As a one-line YAML flow map.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = self.spec.action.as_deref().unwrap_or("replace");
        write!(f, "{{regex: {:?}, action: {action}}}", self.regex.as_str())
    }
}
