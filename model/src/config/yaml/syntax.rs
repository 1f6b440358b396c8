//! YAML's syntax errors, each with the mistake that is most often behind it.

use granit_parser::{ErrorKind, ScanError};

use super::{DEPTH_MAX, Problem};
use crate::config::hints;

/// A syntax error for a person: where, what, and what to write instead. `open`: the line of a bracket that is still open.
pub(super) fn explain(text: &str, error: &ScanError, open: Option<u32>) -> Problem {
    let marker = error.marker();
    let (line, column) = (marker.line() as u32, marker.col() as u32 + 1);
    if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
        return too_deep(line, column);
    }
    let mut lines = text.lines().skip(marker.line().saturating_sub(2));
    let before = if marker.line() > 1 { lines.next().unwrap_or_default() } else { "" };
    let line_text = lines.next().unwrap_or_default();
    let message = format!("not valid YAML: {}", error.kind());
    Problem { line, column, message, hint: Some(hint(error.kind(), before, line_text, marker.col(), open)) }
}

/// Collections inside each other beyond the bound.
pub(super) fn too_deep(line: u32, column: u32) -> Problem {
    let message = format!("more than {DEPTH_MAX} lists and maps inside each other");
    let hint = "no key needs more than eight of them: look for brackets that are never closed, or for one that is repeated";
    Problem { line, column, message, hint: Some(hint.to_owned()) }
}

fn hint(kind: &ErrorKind, before: &str, line: &str, column: usize, open: Option<u32>) -> String {
    let indent_has_tab = line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    if is_of_structure(kind)
        && !indent_has_tab
        && let Some(hint) = joined_or_unquoted(kind, before, line, column, open.is_some())
    {
        return hint;
    }
    let template = [("{{", "{{ … }}"), ("{%", "{% … %}")].iter().find(|(mark, _)| line.contains(mark));
    let hint = match kind {
        _ if indent_has_tab => "YAML is indented by spaces; replace each tab",
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInPlainScalar => "YAML is indented by spaces; replace each tab",
        ErrorKind::UnknownQuotedScalarEscape
        | ErrorKind::InvalidQuotedScalarHexEscape
        | ErrorKind::InvalidLowSurrogateHexEscape
        | ErrorKind::InvalidLowSurrogate
        | ErrorKind::MissingLowSurrogate
        | ErrorKind::UnpairedLowSurrogate
        | ErrorKind::InvalidUnicodeEscape => {
            "in double quotes a backslash begins an escape; put regular expressions into single quotes: '\\d+'"
        }
        _ if template.is_some() => {
            let shown = template.map_or("", |(_, shown)| shown);
            return format!(
                "this looks like an unrendered template ({shown}); render it first, or quote the value"
            );
        }
        ErrorKind::UnexpectedCharacter { character } => {
            return format!("put quotes around a value that begins with {character}");
        }
        ErrorKind::CommentNotSeparated | ErrorKind::CommentInterceptedScalar => {
            "put a space before the # of a comment, and no comment into the middle of a value; quote a value that holds #"
        }
        ErrorKind::BomInsideDocument => {
            "remove the byte order mark (U+FEFF) here; it stays invisible where files are joined"
        }
        ErrorKind::UnclosedQuotedScalar | ErrorKind::DocumentIndicatorInQuotedScalar => {
            "the closing quote is missing; an apostrophe within single quotes is written twice: 'it''s'"
        }
        ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar => {
            "nothing may follow a closing quote; put the whole value into quotes, and write an apostrophe within single quotes twice; or look further up for a quote that is not closed"
        }
        ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator
        | ErrorKind::BlockEntryInFlowCollection
        | ErrorKind::MisplacedFlowCollectionEnd
        | ErrorKind::MismatchedFlowCollectionEnd { .. } => {
            let from = open.map(|line| format!(" (one on line {line} is open)")).unwrap_or_default();
            return format!(
                "a bracket, a brace or a comma is missing or too many{from}; a value with one of [ ] {{ }} , in it needs quotes"
            );
        }
        ErrorKind::InvalidColonPlacement if open.is_some() => {
            let line = open.unwrap_or_default();
            return format!("close the bracket or brace that line {line} opens");
        }
        ErrorKind::MappingValueNotAllowed if holds_second_colon(line, column) => {
            "a value that holds a colon and a space needs quotes"
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::ExpectedBlockMappingKey
            if before.trim_start().starts_with('#') =>
        {
            "a comment ends a value that goes on over several lines; move the comment above the value, or put quotes around it"
        }
        ErrorKind::SimpleKeyExpected if line.trim_start().starts_with(['|', '>']) => {
            "put the | or > on the line of its key"
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::ExpectedBlockMappingKey => {
            "a key needs a colon and a space after it, and keys of one map the same indentation"
        }
        ErrorKind::MissingAnchorOrAliasName => {
            "put quotes around a value that begins with & or *: & names an anchor, * stands for one"
        }
        ErrorKind::UndeclaredTagHandle
        | ErrorKind::InvalidTagTerminator
        | ErrorKind::ExpectedTagBang
        | ErrorKind::UnclosedVerbatimTag
        | ErrorKind::InvalidTagEscape => "put quotes around a value that begins with an exclamation mark",
        ErrorKind::ZeroBlockScalarIndent
        | ErrorKind::InvalidBlockScalarHeader
        | ErrorKind::InvalidBlockScalarIndent => {
            "a text of several lines begins on the line after its | or >, indented deeper than its key"
        }
        ErrorKind::MissingDocumentEndBeforeDirective
        | ErrorKind::InvalidDirectiveTerminator
        | ErrorKind::UnsupportedYamlMajorVersion
        | ErrorKind::DuplicateVersionDirective
        | ErrorKind::ExpectedDocumentStart => {
            "put quotes around a value that begins with %; lines that begin with % or --- stand at the top only"
        }
        _ => {
            "compare the indentation with the lines above: keys of one map, and dashes of one list, stand in one column"
        }
    };
    hint.to_owned()
}

/// Whether an error is about what stands where, and not about a single character.
fn is_of_structure(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::SimpleKeyExpected
            | ErrorKind::ExpectedBlockMappingKey
            | ErrorKind::MappingValueNotAllowed
            | ErrorKind::MisplacedFlowCollectionEnd
            | ErrorKind::MismatchedFlowCollectionEnd { .. }
            | ErrorKind::UnclosedFlowCollection { .. }
            | ErrorKind::UnexpectedEofFlowSequence
            | ErrorKind::UnexpectedEofFlowMapping
            | ErrorKind::ExpectedFlowMappingSeparator
            | ErrorKind::ExpectedFlowSequenceSeparator
            | ErrorKind::FlowMappingValueAdjacentCollection
    )
}

fn joined_or_unquoted(
    kind: &ErrorKind,
    before: &str,
    line: &str,
    column: usize,
    in_brackets: bool,
) -> Option<String> {
    let in_braces = || match kind {
        ErrorKind::FlowMappingValueAdjacentCollection => hints::in_braces(line, column),
        _ => None,
    };
    // Where a key should be, any name may stand; where a value goes on in the next line, that is what it began with.
    let begins_line = line.chars().take(column).all(|c| c == ' ');
    let any_here = matches!(kind, ErrorKind::SimpleKeyExpected) && begins_line;
    let any_before = matches!(kind, ErrorKind::MappingValueNotAllowed) && !holds_second_colon(line, column);
    if let Some(text) = [before, line].into_iter().find_map(against_its_dash) {
        return Some(format!("put a blank after the dash: - {text}: …"));
    }
    hints::in_line(before, any_before)
        .or_else(|| hints::in_line(line, any_here))
        .or_else(in_braces)
        .or_else(|| text_that_begins_with_a_bracket(line, in_brackets))
}

/// The key of a line such as `-job_name: a`.
fn against_its_dash(line: &str) -> Option<&str> {
    let (key, _) = line.trim_start().strip_prefix('-')?.split_once(": ")?;
    (!key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')).then_some(key)
}

/// The hint for a text such as `[a-z]+` without quotes, of which YAML makes a list and something behind it.
fn text_that_begins_with_a_bracket(line: &str, in_brackets: bool) -> Option<String> {
    let (key, value, in_brackets) = line.match_indices(": [").find_map(|(colon, _)| {
        let in_brackets = in_brackets || line[..colon].contains(['{', '[']);
        let key = line[..colon].rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next()?;
        let value = &line[colon + 2..];
        let mut depth = 0_usize;
        let end = value.find(|c: char| {
            depth = match c {
                '[' => depth + 1,
                ']' => depth.saturating_sub(1),
                _ => depth,
            };
            depth == 0
        })?;
        let rest = value[end + 1..].trim_start();
        let is_behind = |c: char| c != '#' && !(in_brackets && ",]}".contains(c));
        rest.starts_with(is_behind).then_some((key, value, in_brackets))
    })?;
    let ends: &[&str] = if in_brackets { &[", ", "}"] } else { &[" #"] };
    let end = ends.iter().filter_map(|end| value.find(end)).min().unwrap_or(value.len());
    hints::in_quotes(key, value[..end].trim_end())
}

/// Whether a value before this column has a colon of its own.
fn holds_second_colon(line: &str, column: usize) -> bool {
    line.chars().take(column + 1).collect::<String>().matches(':').count() > 1
}
