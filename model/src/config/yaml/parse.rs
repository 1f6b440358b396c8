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
pub(super) fn place(before: &str) -> (u32, u32) {
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
    second_document: Option<u32>,
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
                Err(_) if self.done => return Ok(()),
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
        Document {
            tree: self.tree,
            root: self.root,
            problems: self.problems,
            second_document: self.second_document,
        }
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

    fn value(text: &str) -> String {
        let document = parse(text.as_bytes());
        assert!(document.problems.is_empty(), "{text:?}: {:?}", document.problems);
        let Kind::Mapping(pairs) = &document.tree.node(document.root.unwrap()).kind else { panic!() };
        let Kind::Scalar(scalar) = &document.tree.node(pairs[0].1).kind else { panic!() };
        scalar.text.to_string()
    }

    #[test]
    fn what_only_prometheus_takes_means_what_it_means_there() {
        for (text, meaning) in [
            ("a: \"it\\'s ~ \\\"it\\'s\\\" \\\\'\"\n", "it's ~ \"it's\" \\'"),
            ("a: 'b'#c\n", "b"),
            ("{a: b#c\n}", "b#c"),
            ("{\n\t'a':\n\t'b\n\t\tc'\n\t}", "b c"),
            ("{'a': 'b'}#ä\n#c", "b"),
            ("a: b\n... c\n", "b"),
            ("{'a': 'b',#c\n\t'd': e}#f\n", "b"),
        ] {
            assert_eq!(value(text), meaning, "{text:?}");
        }
    }

    #[test]
    fn what_only_prometheus_refuses_is_refused_at_its_place() {
        for (text, place) in [
            ("a: b\n\t\n", "2:1 "),
            ("a:\n  b: c\n  \t# d\n", "3:3 "),
            ("a: 'b'\n\n \t\n", "3:2 "),
            ("a: |\n  b\n\t\nc: d\n", "3:1 "),
            ("a: [b]\n\t# c\n", "2:1 "),
            ("{a: [b\n]}\n\t# c\n", "3:1 "),
            ("-\ta: b\n", "1:2 "),
            ("a: &b.c d\n", "1:4 "),
            ("a: \"b\\/c\"\n", "1:6 "),
            ("{'a'\n: b}\n", "2:1 "),
            ("{a b\n c: d}\n", "2:3 "),
            ("%YAML 1.2\n---\na: b\n", "1:1 "),
            ("#\n...\na: b\n", "2:1 "),
        ] {
            let problem = problem(text);
            assert!(problem.starts_with(place), "{text:?}: {problem}");
        }
    }

    #[test]
    fn what_both_take_is_taken() {
        for text in [
            "a: b\t# c\n",
            "a:\tb\n",
            "a:\n  b\n    \tc\n",
            "a:\n  b: c\n     \t\n  d: e\n",
            "a: |\n  \tb\n \n",
            "? a\n: b\n",
            "{? a\n : b}\n",
            "a: {b: c}\t\n",
            "a: '\n\tb'\n",
            "%YAML 1.1\n%TAG !e! x\n--- \ta\n",
            "---\n...\n",
            "a: &b-_1 c\nd: *b-_1\n",
        ] {
            let document = parse(text.as_bytes());
            assert!(document.problems.is_empty(), "{text:?}: {:?}", document.problems);
        }
    }

    #[test]
    fn a_file_with_too_much_to_rewrite_is_refused_in_bounded_time() {
        let text = "- {a: b}#c\n".repeat(100_000);
        assert!(problem(&text).contains("comments must be separated"));
        let tabs = format!("[\n{}]\n", "\t'a',\n".repeat(100_000));
        assert!(parse(tabs.as_bytes()).problems.is_empty());
    }

    #[test]
    fn every_problem_has_a_hint() {
        for text in [
            "a: [b\n",
            "a: 'b\n",
            "a: \"b\n",
            "\ta: b\n",
            "a: b: c\n",
            "a\nb: c\n",
            "a: }\n",
            "a: @b\n",
            "a: *b\n",
            "a: &\n",
            "a: !<x\n",
            "a: !x!y z\n",
            "a: |0\n b\n",
            "a: | b\n",
            "a: b\n c: d\n",
            "- a\nb: c\n",
            "a:\n- b\n c\n- d: e\n f\n",
            "%\n---\na: b\n",
            "a: b\n%YAML 1.1\n---\n",
            "{a: b]\n",
            "[a, - b]\n",
            "a: 'b' c\n",
            "a: \"\\q\"\n",
            "a: b\n  # c\n  d\n",
            "a: &x [*x]\n",
            "a: \u{7}\n",
            "a: !!int b\n",
            "a: {{ b }}c\n",
            "--- a\n--- b: c: d\n",
            "a: >\n\tb\n",
            "{a: b\n",
        ] {
            for problem in parse(text.as_bytes()).problems {
                assert!(problem.hint.is_some(), "{text:?}: {problem:?}");
            }
        }
        assert!(parse("[".repeat(100).as_bytes()).problems[0].hint.is_some());
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
