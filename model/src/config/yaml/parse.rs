//! From bytes to a tree.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span, StructureStyle, Tag};

use super::dialect::{Gaps, Loosened};
use super::scalar::{self, Core};
use super::syntax;
use super::{DEPTH_MAX, Document, Kind, NODES_MAX, Node, NodeId, Problem, Scalar, Tree};
use crate::config::source::FILE_BYTES_MAX;

/// Reads the first YAML document of a file, as Prometheus does.
pub(crate) fn parse(bytes: &[u8]) -> Document {
    parse_bounded(bytes, NODES_MAX)
}

fn parse_bounded(bytes: &[u8], nodes_max: usize) -> Document {
    let builder = Builder { nodes_max, ..Builder::default() };
    let text = match text_of(bytes) {
        Ok(text) => text,
        Err(problem) => return builder.fail(problem),
    };
    let original = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if let Some(problem) = control_character(original) {
        return builder.fail(problem);
    }
    let mut loosened = None::<Loosened>;
    loop {
        let text = loosened.as_ref().map_or(original, |loosened| &*loosened.text);
        let mut builder = Builder { nodes_max, ..Builder::default() };
        match builder.read(text, loosened.as_ref()) {
            Ok(()) => match loosened.and_then(|loosened| loosened.misplaced_tab(&builder.gaps.flows)) {
                Some(problem) => return builder.fail(problem),
                None => return builder.finish(),
            },
            Err(Stop::Problem(problem)) => return builder.fail(problem),
            Err(Stop::Syntax(error)) => {
                let problem = syntax::explain(text, &error, builder.flow_start());
                let mut next = loosened.take().unwrap_or_else(|| Loosened::new(original.to_owned()));
                if !next.loosen(&error) {
                    return builder.fail(problem);
                }
                loosened = Some(next);
            }
        }
    }
}

/// The text of a file, or why it is none. UTF-16 is told by its byte order mark.
fn text_of(bytes: &[u8]) -> Result<Cow<'_, str>, Problem> {
    if bytes.len() > FILE_BYTES_MAX {
        let mib = FILE_BYTES_MAX >> 20;
        return Err(Problem {
            line: 1,
            column: 1,
            message: format!("the file is larger than {mib} MiB"),
            hint: Some("keep long lists of targets in files of their own: file_sd_configs".to_owned()),
        });
    }
    if let Some(text) = utf16(bytes) {
        return text.map(Cow::Owned);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let (before, rest) = bytes.split_at(error.valid_up_to());
        // What lies before the first bad byte is valid by definition.
        let before = std::str::from_utf8(before).unwrap_or_default();
        let (line, column) = place(before);
        Problem {
            line,
            column,
            message: format!("byte 0x{:02x} is not UTF-8", rest.first().copied().unwrap_or_default()),
            hint: Some("save the file as UTF-8".to_owned()),
        }
    })?;
    Ok(Cow::Borrowed(text))
}

/// The first character that YAML does not allow, if there is one.
fn control_character(text: &str) -> Option<Problem> {
    let is_allowed = |c: char| match c {
        '\t' | '\n' | '\r' | '\u{85}' => true,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => false,
        _ => true,
    };
    let (at, character) = text.char_indices().find(|(_, c)| !is_allowed(*c))?;
    let (line, column) = place(&text[..at]);
    let code = u32::from(character);
    Some(Problem {
        line,
        column,
        message: format!("the control character U+{code:04X} is not allowed"),
        hint: Some(
            "remove it; in double quotes it can be written as an escape, such as \"\\x07\"".to_owned(),
        ),
    })
}

/// The 1-based line and column that come after this text.
pub(super) fn place(before: &str) -> (u32, u32) {
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() as u32 + 1, before[line_start..].chars().count() as u32 + 1)
}

/// The text of a file that begins with a byte order mark of UTF-16.
fn utf16(bytes: &[u8]) -> Option<Result<String, Problem>> {
    let read = match bytes.get(..2)? {
        [0xff, 0xfe] => u16::from_le_bytes,
        [0xfe, 0xff] => u16::from_be_bytes,
        _ => return None,
    };
    let pairs = bytes.chunks_exact(2);
    let is_whole = pairs.remainder().is_empty();
    let mut text = String::with_capacity(bytes.len() / 2);
    let broken = char::decode_utf16(pairs.map(|pair| read([pair[0], pair[1]])))
        .any(|decoded| decoded.map(|c| text.push(c)).is_err());
    if !broken && is_whole {
        return Some(Ok(text));
    }
    let (line, column) = place(text.trim_start_matches('\u{feff}'));
    let message = "half of a character of UTF-16".to_owned();
    Some(Err(Problem { line, column, message, hint: Some("save the file as UTF-8".to_owned()) }))
}

enum Step {
    Go,
    Stop,
}

/// Why reading ended before the end.
enum Stop {
    /// What the parser refuses, and Prometheus may take.
    Syntax(ScanError),
    Problem(Problem),
}

/// A collection whose end has not come yet.
struct Open {
    id: NodeId,
    anchor: usize,
    children: Vec<NodeId>,
    mapping: bool,
    /// In brackets.
    flow: bool,
    /// 0-based.
    column: usize,
    line: u32,
}

#[derive(Default)]
struct Builder {
    nodes_max: usize,
    tree: Tree,
    open: Vec<Open>,
    /// Finished nodes by the parser's number of their anchor.
    anchors: HashMap<usize, NodeId>,
    root: Option<NodeId>,
    problems: Vec<Problem>,
    /// The first document is complete.
    done: bool,
    unread: Option<u32>,
    gaps: Gaps,
}

impl Builder {
    /// Reads the first document of this text.
    fn read(&mut self, text: &str, loosened: Option<&Loosened>) -> Result<(), Stop> {
        let mut options = Options::default();
        options.set_emit_comments(false);
        options.emit_unresolved_aliases = true;
        // Real depth is bounded below with a message of its own; these bound the scanner's own stacks.
        options.flow_nesting_limit = DEPTH_MAX + 1;
        options.block_nesting_limit = DEPTH_MAX + 1;
        for event in Parser::new_from_str_with_options(text, options) {
            let (event, span) = match event {
                Ok(found) => found,
                // What follows the first document is not read, so it is not refused either.
                Err(error) if self.done => {
                    self.unread = Some(error.marker().line() as u32);
                    return Ok(());
                }
                Err(error) => return Err(Stop::Syntax(error)),
            };
            self.gap(text, &event, &span).map_err(Stop::Problem)?;
            match self.event(&event, &span, loosened).map_err(Stop::Problem)? {
                Step::Go => {}
                Step::Stop => return Ok(()),
            }
        }
        Ok(())
    }

    /// The line of the outermost bracket that is still open.
    fn flow_start(&self) -> Option<u32> {
        self.open.iter().find(|open| open.flow).map(|open| open.line)
    }

    /// Looks at what lies before a value.
    fn gap(&mut self, text: &str, event: &Event<'_>, span: &Span) -> Result<(), Problem> {
        let (Some(start), Some(end)) = (span.start.byte_offset(), span.end.byte_offset()) else {
            return Ok(());
        };
        if self.done {
            return Ok(());
        }
        let span = start..end.max(start);
        match event {
            // A value that is not there has no place.
            Event::Scalar(text, ScalarStyle::Plain, ..) if text.is_empty() => Ok(()),
            Event::Scalar(_, ScalarStyle::Plain, ..) => {
                let indent = self.open.iter().rev().find(|open| !open.flow).map(|open| open.column);
                self.gaps.plain(text, span, indent)
            }
            Event::Scalar(_, ScalarStyle::Literal | ScalarStyle::Folded, ..) => self.gaps.lines(text, span),
            Event::Scalar(..) | Event::Alias(_) => self.gaps.other(text, span),
            // Reported for what it is, whatever its name.
            Event::UnresolvedAlias(_) => self.gaps.unresolved(text, span),
            Event::SequenceStart(StructureStyle::Flow, ..)
            | Event::MappingStart(StructureStyle::Flow, ..) => self.gaps.other(text, start..start),
            Event::DocumentEnd | Event::StreamEnd => self.gaps.end(text),
            _ => Ok(()),
        }
    }

    fn event(
        &mut self,
        event: &Event<'_>,
        span: &Span,
        loosened: Option<&Loosened>,
    ) -> Result<Step, Problem> {
        let (line, column) = (span.start.line() as u32, span.start.col() as u32 + 1);
        if self.done {
            if let Event::DocumentStart(..) = event {
                self.unread = Some(line);
            }
            return Ok(if matches!(event, Event::StreamStart) { Step::Go } else { Step::Stop });
        }
        let adds_a_value = !matches!(event, Event::SequenceEnd | Event::MappingEnd | Event::DocumentEnd);
        if adds_a_value && self.tree.len() >= self.nodes_max {
            let message = format!("the file has more than {} values", self.nodes_max);
            let hint = "keep long lists of targets in files of their own: file_sd_configs".to_owned();
            return Err(Problem { line, column, message, hint: Some(hint) });
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = *style == ScalarStyle::Plain;
                let restored = loosened.and_then(|loosened| loosened.restored(text));
                let text = restored.as_deref().unwrap_or(text).into();
                let scalar = Scalar { text, plain, tag: core(tag.as_deref()) };
                if let Some((message, hint)) = scalar::mistagged(&scalar) {
                    return Err(Problem { line, column, message, hint: Some(hint.to_owned()) });
                }
                let id = self.tree.push(Node { line, column, kind: Kind::Scalar(scalar) });
                self.add(id, *anchor);
            }
            Event::SequenceStart(style, anchor, _) => self.start(false, *style, *anchor, line, column)?,
            Event::MappingStart(style, anchor, _) => self.start(true, *style, *anchor, line, column)?,
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let id = match self.anchors.get(anchor) {
                    Some(id) => *id,
                    None => {
                        let hint = "an alias stands for all that its anchor does, so it cannot stand within; write the values out";
                        self.broken(line, column, "an anchor that contains itself", Some(hint.to_owned()))
                    }
                };
                self.add(id, 0);
            }
            // Its name is not shown: it may be a password that lacks quotes.
            Event::UnresolvedAlias(_) => {
                let hint = "put quotes around a value that begins with an asterisk: '*…'";
                let message = "there is no anchor of this name before the alias";
                let id = self.broken(line, column, message, Some(hint.to_owned()));
                self.add(id, 0);
            }
            Event::DocumentEnd => self.done = true,
            _ => {}
        }
        Ok(Step::Go)
    }

    fn broken(&mut self, line: u32, column: u32, message: &str, hint: Option<String>) -> NodeId {
        self.problems.push(Problem { line, column, message: message.to_owned(), hint });
        self.tree.push(Node { line, column, kind: Kind::Broken })
    }

    fn start(
        &mut self,
        mapping: bool,
        style: StructureStyle,
        anchor: usize,
        line: u32,
        column: u32,
    ) -> Result<(), Problem> {
        if self.open.len() >= DEPTH_MAX {
            return Err(syntax::too_deep(line, column));
        }
        // Its children are put in when they are known; until then an alias to it leads into itself.
        let id = self.tree.push(Node { line, column, kind: Kind::Broken });
        let flow = style == StructureStyle::Flow;
        let column = column as usize - 1;
        self.open.push(Open { id, anchor, children: Vec::new(), mapping, flow, column, line });
        Ok(())
    }

    fn end(&mut self) {
        let Some(Open { id, anchor, children, mapping, .. }) = self.open.pop() else { return };
        self.tree.nodes[id.0 as usize].kind = if mapping {
            Kind::Mapping(children.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
        } else {
            Kind::Sequence(children)
        };
        self.add(id, anchor);
    }

    /// Puts a finished node where it belongs.
    fn add(&mut self, id: NodeId, anchor: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        match self.open.last_mut() {
            Some(open) => open.children.push(id),
            None => self.root = Some(id),
        }
    }

    fn fail(mut self, problem: Problem) -> Document {
        self.problems.push(problem);
        self.root = None;
        self.finish()
    }

    fn finish(self) -> Document {
        Document { tree: self.tree, root: self.root, problems: self.problems, unread: self.unread }
    }
}

/// The known type that a tag names.
fn core(tag: Option<&Tag>) -> Option<Core> {
    match &*tag?.suffix_in_namespace("tag:yaml.org,2002:")? {
        "str" => Some(Core::Text),
        "int" => Some(Core::Int),
        "float" => Some(Core::Float),
        "bool" => Some(Core::Bool),
        "null" => Some(Core::Null),
        "binary" => Some(Core::Binary),
        _ => None,
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
