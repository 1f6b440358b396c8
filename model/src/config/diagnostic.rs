//! What is wrong in a configuration file, where, and what to write instead.

use std::fmt;
use std::path::PathBuf;

use super::masked;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file can be used, and probably means what was meant; there is a better way.
    Remark,
    /// The file can be used, but part of it has no effect or not the likely one.
    Warning,
    /// The file cannot be used.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Remark => "remark",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One finding. Its `Display` is two lines at most: where and what, then the hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The file as it was named to us.
    pub file: PathBuf,
    /// 1-based; 0 where it concerns the whole file.
    pub line: usize,
    /// 1-based, in characters; 0 where it concerns the whole file.
    pub column: usize,
    /// The key's path, such as `scrape_configs[2].relabel_configs[0].regex`; empty for the file itself.
    pub path: String,
    /// The offending value as it stands in the file, shortened. Never a secret.
    pub value: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

/// Characters of an offending value that are shown.
const VALUE_CHARS_MAX: usize = 80;

/// Characters of a message or a hint: values stand in them, too, which may be as long as a file.
const TEXT_CHARS_MAX: usize = 1_000;

impl Diagnostic {
    /// Adds the offending value, without passwords and shortened to what fits on a line.
    pub(crate) fn value(&mut self, value: &str) -> &mut Self {
        // A colon and an `@` are nothing special in a regex.
        let shown = match self.path.contains("relabel_configs") {
            true => masked::text(value),
            false => masked::value(value),
        };
        self.value = Some(shortened(shown, VALUE_CHARS_MAX));
        self
    }

    /// Adds what to write instead.
    pub(crate) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(text(&hint.into()));
        self
    }
}

/// A message or a hint as it is shown.
pub(super) fn text(text: &str) -> String {
    shortened(masked::text(text), TEXT_CHARS_MAX)
}

/// On one line, and nothing that a terminal would take for a command: what stands in quotes can hold any character.
fn shortened(mut text: String, chars_max: usize) -> String {
    if text.contains(|c: char| c.is_control() && c != '\n') {
        text =
            text.chars().take(chars_max + 1).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    }
    if let Some((end, _)) = text.char_indices().nth(chars_max) {
        text.truncate(end);
        text.push('…');
        text.shrink_to_fit();
    }
    text
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        write!(f, " {}: ", self.severity)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if let Some(value) = &self.value {
            write!(f, " (value {value:?})")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnostic() -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            file: "a.yml".into(),
            line: 3,
            column: 5,
            path: "global.scrape_interval".into(),
            value: None,
            message: "not a duration".into(),
            hint: None,
        }
    }

    #[test]
    fn a_finding_reads_as_compilers_write_theirs() {
        let mut finding = diagnostic();
        finding.value("15").hint("write 15s");
        assert_eq!(
            finding.to_string(),
            "a.yml:3:5: error: global.scrape_interval: not a duration (value \"15\")\n  hint: write 15s"
        );
    }

    #[test]
    fn a_long_value_is_shortened() {
        let mut finding = diagnostic();
        finding.value(&"ä".repeat(1_000));
        assert_eq!(finding.value.unwrap().chars().count(), VALUE_CHARS_MAX + 1);
        let mut finding = diagnostic();
        finding.hint(format!("write {}", "ä".repeat(1_000_000)));
        assert_eq!(finding.hint.unwrap().chars().count(), TEXT_CHARS_MAX + 1);
        assert_eq!(text(&"x".repeat(TEXT_CHARS_MAX)).len(), TEXT_CHARS_MAX);
    }
}
