//! From bytes to a tree.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{Event, Options, Parser, ScalarStyle, Span};

use super::syntax;
use super::{DEPTH_MAX, Document, Kind, NODES_MAX, Node, NodeId, Problem, Scalar, Tree};
use crate::config::source::FILE_BYTES_MAX;

/// Reads the first YAML document of a file, as Prometheus does.
pub(crate) fn parse(bytes: &[u8]) -> Document {
    parse_bounded(bytes, NODES_MAX)
}

fn parse_bounded(bytes: &[u8], nodes_max: usize) -> Document {
    let mut builder = Builder { nodes_max, ..Builder::default() };
    let text = match text_of(bytes) {
        Ok(text) => text,
        Err(problem) => return builder.fail(problem),
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if let Some(problem) = control_character(text) {
        return builder.fail(problem);
    }
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.emit_unresolved_aliases = true;
    // Real depth is bounded below with a message of its own; these bound the scanner's own stacks.
    options.flow_nesting_limit = DEPTH_MAX + 1;
    options.block_nesting_limit = DEPTH_MAX + 1;
    for event in Parser::new_from_str_with_options(text, options) {
        let step = match event {
            Ok((event, span)) => builder.event(&event, &span),
            // What follows the first document is not read, so it is not refused either.
            Err(_) if builder.done => break,
            Err(error) => Err(syntax::explain(text, &error)),
        };
        match step {
            Ok(Step::Go) => {}
            Ok(Step::Stop) => break,
            Err(problem) => return builder.fail(problem),
        }
    }
    builder.finish()
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
        return Ok(Cow::Owned(text));
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
fn place(before: &str) -> (u32, u32) {
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() as u32 + 1, before[line_start..].chars().count() as u32 + 1)
}

fn utf16(bytes: &[u8]) -> Option<String> {
    let read = match bytes.get(..2)? {
        [0xff, 0xfe] => u16::from_le_bytes,
        [0xfe, 0xff] => u16::from_be_bytes,
        _ => return None,
    };
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| read([pair[0], pair[1]])).collect();
    Some(String::from_utf16_lossy(&units))
}

enum Step {
    Go,
    Stop,
}

/// A collection whose end has not come yet.
struct Open {
    id: NodeId,
    anchor: usize,
    children: Vec<NodeId>,
    mapping: bool,
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
    second_document: Option<u32>,
}

impl Builder {
    fn event(&mut self, event: &Event<'_>, span: &Span) -> Result<Step, Problem> {
        let (line, column) = (span.start.line() as u32, span.start.col() as u32 + 1);
        if self.done {
            if let Event::DocumentStart(..) = event {
                self.second_document = Some(line);
            }
            return Ok(if matches!(event, Event::StreamStart) { Step::Go } else { Step::Stop });
        }
        let adds_a_value = !matches!(event, Event::SequenceEnd | Event::MappingEnd | Event::DocumentEnd);
        if adds_a_value && self.tree.len() >= self.nodes_max {
            let message = format!("the file has more than {} values", self.nodes_max);
            return Err(Problem { line, column, message, hint: None });
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = *style == ScalarStyle::Plain;
                let tagged_text = tag.as_ref().is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                let scalar = Scalar { text: text.as_ref().into(), plain, tagged_text };
                let id = self.tree.push(Node { line, column, kind: Kind::Scalar(scalar) });
                self.add(id, *anchor);
            }
            Event::SequenceStart(_, anchor, _) => self.start(false, *anchor, line, column)?,
            Event::MappingStart(_, anchor, _) => self.start(true, *anchor, line, column)?,
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let id = match self.anchors.get(anchor) {
                    Some(id) => *id,
                    None => self.broken(line, column, "an anchor that contains itself", None),
                };
                self.add(id, 0);
            }
            Event::UnresolvedAlias(name) => {
                let message = format!("there is no anchor &{name} before this alias");
                let hint = format!("put quotes around a value that begins with an asterisk: '*{name}'");
                let id = self.broken(line, column, &message, Some(hint));
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

    fn start(&mut self, mapping: bool, anchor: usize, line: u32, column: u32) -> Result<(), Problem> {
        if self.open.len() >= DEPTH_MAX {
            let message = format!("more than {DEPTH_MAX} lists and maps inside each other");
            return Err(Problem { line, column, message, hint: None });
        }
        // Its children are put in when they are known; until then an alias to it leads into itself.
        let id = self.tree.push(Node { line, column, kind: Kind::Broken });
        self.open.push(Open { id, anchor, children: Vec::new(), mapping });
        Ok(())
    }

    fn end(&mut self) {
        let Some(Open { id, anchor, children, mapping }) = self.open.pop() else { return };
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
        Document {
            tree: self.tree,
            root: self.root,
            problems: self.problems,
            second_document: self.second_document,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        let document = parse(text.as_bytes());
        let problem = document.problems.first().expect("a problem");
        format!("{}:{} {}", problem.line, problem.column, problem.message)
    }

    #[test]
    fn an_empty_file_has_no_root() {
        for empty in ["", "# only a comment\n", "\u{feff}", "---\n"] {
            let document = parse(empty.as_bytes());
            assert!(document.problems.is_empty(), "{:?}", document.problems);
        }
    }

    #[test]
    fn positions_count_from_one() {
        let document = parse(b"a:\n  b: [1, x]\n");
        let Kind::Mapping(pairs) = &document.tree.node(document.root.unwrap()).kind else { panic!() };
        let Kind::Mapping(pairs) = &document.tree.node(pairs[0].1).kind else { panic!() };
        let Kind::Sequence(items) = &document.tree.node(pairs[0].1).kind else { panic!() };
        let node = document.tree.node(items[1]);
        assert_eq!((node.line, node.column), (2, 10));
    }

    #[test]
    fn an_anchor_that_contains_itself_is_refused() {
        assert_eq!(problem("a: &x [1, *x]\n"), "1:11 an anchor that contains itself");
        assert_eq!(problem("a: &x {b: *x}\n"), "1:11 an anchor that contains itself");
    }

    #[test]
    fn an_alias_without_an_anchor_is_refused() {
        assert!(problem("a: *.example.com\n").contains("no anchor &.example.com"));
    }

    #[test]
    fn aliases_that_multiply_cost_no_nodes() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..40 {
            let list = vec![format!("*a{}", level - 1); 9].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{list}]\n"));
        }
        let document = parse(text.as_bytes());
        assert!(document.problems.is_empty());
        assert!(document.tree.len() < 200);
    }

    #[test]
    fn deep_nesting_is_refused() {
        for text in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(100_000)] {
            let message = problem(&text);
            assert!(message.contains("64 lists and maps"), "{message}");
        }
    }

    #[test]
    fn text_that_is_not_utf8_is_refused_with_its_place() {
        let document = parse(b"a: b\nc: \xff\n");
        assert_eq!((document.problems[0].line, document.problems[0].column), (2, 4));
    }

    #[test]
    fn utf_16_is_read_as_prometheus_reads_it() {
        for bytes in [[0xff, 0xfe, b'a', 0], [0xfe, 0xff, 0, b'a']] {
            let document = parse(&bytes);
            let Kind::Scalar(scalar) = &document.tree.node(document.root.unwrap()).kind else { panic!() };
            assert_eq!(&*scalar.text, "a");
        }
    }

    #[test]
    fn too_many_values_are_refused() {
        let message =
            |text: &str| parse_bounded(text.as_bytes(), 10).problems.pop().map(|found| found.message);
        assert_eq!(message("[a, b, c, d, e, f, g, h, i]"), None);
        let refused = Some("the file has more than 10 values".to_owned());
        assert_eq!(message("[a, b, c, d, e, f, g, h, i, j]"), refused);
        assert_eq!(message("{a: b, c: d, e: f, g: h, i: [j]}"), refused);
    }

    #[test]
    fn control_characters_are_refused_with_their_place() {
        assert_eq!(problem("a: b\nc: \u{7}\n"), "2:4 the control character U+0007 is not allowed");
        assert!(parse("a: \u{85}\tü\u{1f600}".as_bytes()).problems.is_empty());
    }

    #[test]
    fn a_second_document_is_not_read() {
        let document = parse(b"a: 1\n---\nb: [\n");
        assert!(document.problems.is_empty());
        assert_eq!(document.second_document, Some(2));
    }

    #[test]
    fn a_file_that_is_too_large_is_refused_before_it_is_read() {
        let document = parse(&vec![b' '; FILE_BYTES_MAX + 1]);
        assert!(document.problems[0].message.contains("larger than 32 MiB"));
    }
}
