//! YAML's syntax errors, each with the mistake that is most often behind it.

use granit_parser::{ErrorKind, ScanError};

use super::{DEPTH_MAX, Problem};

/// A syntax error for a person: where, what, and what to write instead.
pub(super) fn explain(text: &str, error: &ScanError) -> Problem {
    let marker = error.marker();
    let line_text = text.lines().nth(marker.line().saturating_sub(1)).unwrap_or_default();
    let (message, hint) = match error.kind() {
        ErrorKind::RecursionLimitExceeded => {
            (format!("more than {DEPTH_MAX} lists and maps inside each other"), None)
        }
        kind => (format!("not valid YAML: {kind}"), hint(kind, line_text, marker.col())),
    };
    Problem { line: marker.line() as u32, column: marker.col() as u32 + 1, message, hint }
}

fn hint(kind: &ErrorKind, line: &str, column: usize) -> Option<String> {
    let indent_has_tab = line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    let hint = if indent_has_tab
        || matches!(
            kind,
            ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation
        ) {
        "YAML is indented by spaces; replace each tab"
    } else if matches!(
        kind,
        ErrorKind::UnknownQuotedScalarEscape
            | ErrorKind::InvalidQuotedScalarHexEscape
            | ErrorKind::InvalidUnicodeEscape
    ) {
        "in double quotes a backslash begins an escape; put regular expressions into single quotes: '\\d+'"
    } else if line.contains("{{") {
        "this looks like an unrendered template ({{ … }}); render it first, or quote the value"
    } else if let ErrorKind::UnexpectedCharacter { character } = kind {
        return Some(format!("put quotes around a value that begins with {character}"));
    } else if matches!(kind, ErrorKind::UnclosedQuotedScalar | ErrorKind::DocumentIndicatorInQuotedScalar) {
        "the closing quote is missing"
    } else if matches!(
        kind,
        ErrorKind::UnclosedFlowCollection { .. }
            | ErrorKind::UnexpectedEofFlowSequence
            | ErrorKind::UnexpectedEofFlowMapping
            | ErrorKind::ExpectedFlowMappingSeparator
            | ErrorKind::ExpectedFlowSequenceSeparator
    ) {
        "a bracket, a brace or a comma is missing; a value with one of [ ] { } , in it needs quotes"
    } else if matches!(kind, ErrorKind::MappingValueNotAllowed) && holds_second_colon(line, column) {
        "a value that holds a colon and a space needs quotes"
    } else if matches!(kind, ErrorKind::SimpleKeyExpected | ErrorKind::ExpectedBlockMappingKey) {
        "a key needs a colon and a space after it, and keys of one map the same indentation"
    } else if matches!(
        kind,
        ErrorKind::InvalidIndentation
            | ErrorKind::ExpectedBlockSequenceEntry
            | ErrorKind::BlockSequenceEntryNotAllowed
            | ErrorKind::MappingValueNotAllowed
            | ErrorKind::MappingKeyNotAllowed
    ) {
        "compare the indentation with the lines above: keys of one map, and dashes of one list, stand in one column"
    } else {
        return None;
    };
    Some(hint.to_owned())
}

/// Whether a value before this column has a colon of its own.
fn holds_second_colon(line: &str, column: usize) -> bool {
    line.chars().take(column + 1).collect::<String>().matches(':').count() > 1
}
