//! A rule as it is written, and why one is refused.

use std::fmt;

/// A rule as it stands in a file. None: the key is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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

/// As a one-line YAML flow map of the keys that are there: `{source_labels: [a], regex: b.*, action: keep}`.
impl fmt::Display for RuleSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source_labels, separator, target_label, regex, modulus, replacement, action } = self;
        let sources = source_labels.as_ref().map(|labels| {
            let labels: Vec<String> = labels.iter().map(|label| scalar(label)).collect();
            format!("[{}]", labels.join(", "))
        });
        let text = |text: &Option<String>| text.as_deref().map(scalar);
        let pairs = [
            (RuleField::SourceLabels, sources),
            (RuleField::Separator, text(separator)),
            (RuleField::TargetLabel, text(target_label)),
            (RuleField::Regex, text(regex)),
            (RuleField::Modulus, modulus.map(|modulus| modulus.to_string())),
            (RuleField::Replacement, text(replacement)),
            (RuleField::Action, text(action)),
        ];
        f.write_str("{")?;
        let mut comma = "";
        for (field, value) in pairs {
            if let Some(value) = value {
                write!(f, "{comma}{}: {value}", field.as_str())?;
                comma = ", ";
            }
        }
        f.write_str("}")
    }
}

/// `text` as a YAML scalar in flow style, plain where no reader could take it for something else.
fn scalar(text: &str) -> String {
    let plain_start = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '$' | '(' | '/' | '^');
    let plain = |c: char| {
        plain_start(c) || c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | '*' | '|' | ')' | '\\')
    };
    let word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if text.starts_with(plain_start)
        && text.chars().all(plain)
        && !word.contains(&text.to_ascii_lowercase().as_str())
    {
        return text.to_owned();
    }
    if text.chars().any(char::is_control) {
        return serde_json::Value::from(text).to_string();
    }
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_prints_as_yaml_that_reads_back() {
        let spec = RuleSpec {
            source_labels: Some(vec!["__name__".into(), "my.label, really".into()]),
            separator: Some("\n".into()),
            target_label: Some("it's".into()),
            regex: Some("true".into()),
            modulus: Some(8),
            replacement: Some("${1}:$2".into()),
            action: Some("replace".into()),
        };
        let text = spec.to_string();
        assert_eq!(
            text,
            r#"{source_labels: [__name__, 'my.label, really'], separator: "\n", target_label: 'it''s', regex: 'true', modulus: 8, replacement: '${1}:$2', action: replace}"#
        );
        let read: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");
        let want = serde_json::json!({
            "source_labels": ["__name__", "my.label, really"], "separator": "\n", "target_label": "it's",
            "regex": "true", "modulus": 8, "replacement": "${1}:$2", "action": "replace",
        });
        assert_eq!(read, want);
        assert_eq!(RuleSpec::default().to_string(), "{}");
    }
}
