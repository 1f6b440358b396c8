//! The parser: what Go's `regexp/syntax` accepts with its Perl flags, and nothing else.
//!
//! It keeps its open groups on a stack of its own, so that deep nesting costs no call stack.

use super::{DEPTH_MAX, Error, Look, Node, PATTERN_BYTES_MAX, Pattern, REPEAT_MAX, class};

/// Most characters of a pattern that an error shows.
const SHOWN_CHARACTERS_MAX: usize = 120;

/// Parses `before + regex + after`; errors show only what lies in `regex`.
pub(super) fn parse(before: &str, regex: &str, after: &str) -> Result<Pattern, Error> {
    if regex.len() > PATTERN_BYTES_MAX {
        return Err(Error {
            message: format!("the regex has {} bytes, more than {PATTERN_BYTES_MAX}", regex.len()),
            hint: Some(
                "split it: a drop into several drops, a keep into rules that all set __tmp_keep, and one that keeps by it",
            ),
        });
    }
    let text = [before, regex, after].concat();
    let mut parser = Parser {
        text: &text,
        shown: before.len()..before.len() + regex.len(),
        at: 0,
        flags: Flags::default(),
        open: Vec::new(),
        level: Level::default(),
        groups: vec![None],
        last_repeat: None,
        last_named_class: text.rfind(":]"),
    };
    while parser.at < text.len() {
        parser.step()?;
    }
    if !parser.open.is_empty() {
        return Err(missing_parenthesis(&parser, regex));
    }
    let Tree { node, .. } = parser.level.finish();
    Ok(Pattern { node, groups: parser.groups.into() })
}

/// A group is still open at the end: one of the user's, or the one around the regex, whose end the regex took.
fn missing_parenthesis(parser: &Parser<'_>, regex: &str) -> Error {
    let backslashes = regex.len() - regex.trim_end_matches('\\').len();
    if backslashes % 2 == 1 {
        return class::trailing_backslash();
    }
    let unended = regex.rfind("\\Q").is_some_and(|quote| !regex[quote..].contains("\\E"));
    let hint = if unended { "end the quotation with `\\E`" } else { "write `\\(` for a literal parenthesis" };
    parser.error("missing closing )", 0..parser.text.len(), Some(hint))
}

#[derive(Clone, Copy, Default)]
pub(super) struct Flags {
    /// `i`
    pub(super) fold: bool,
    /// `m`
    multi_line: bool,
    /// `s`
    dot_newline: bool,
    /// `U`
    ungreedy: bool,
}

/// A node, and how many levels of groups and repeats it has.
struct Tree {
    node: Node,
    depth: usize,
}

/// What has been read of the innermost open group.
#[derive(Default)]
struct Level {
    /// Finished alternatives.
    branches: Vec<Tree>,
    /// Items of the alternative that is being read.
    items: Vec<Tree>,
}

impl Level {
    fn next_branch(&mut self) {
        let branch = combine(std::mem::take(&mut self.items), Node::Concat);
        self.branches.push(branch);
    }

    fn finish(mut self) -> Tree {
        self.next_branch();
        combine(self.branches, Node::Alternate)
    }
}

fn combine(mut trees: Vec<Tree>, all: fn(Vec<Node>) -> Node) -> Tree {
    match trees.pop() {
        None => Tree { node: Node::Empty, depth: 0 },
        Some(only) if trees.is_empty() => only,
        Some(last) => {
            trees.push(last);
            let depth = trees.iter().map(|tree| tree.depth).max().unwrap_or(0);
            Tree { node: all(trees.into_iter().map(|tree| tree.node).collect()), depth }
        }
    }
}

/// A group that is not closed yet, and what to go back to when it is.
struct Open {
    /// Its number, if it captures.
    index: Option<usize>,
    flags: Flags,
    outer: Level,
}

pub(super) struct Parser<'t> {
    pub(super) text: &'t str,
    /// The part of `text` that the user wrote.
    shown: std::ops::Range<usize>,
    pub(super) at: usize,
    pub(super) flags: Flags,
    open: Vec<Open>,
    level: Level,
    groups: Vec<Option<String>>,
    /// Where the repetition operator began that was read just before.
    last_repeat: Option<usize>,
    /// Where the last `:]` stands, so that no `[:` looks for one in vain.
    pub(super) last_named_class: Option<usize>,
}

impl<'t> Parser<'t> {
    pub(super) fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    pub(super) fn error(
        &self,
        what: &str,
        range: std::ops::Range<usize>,
        hint: Option<&'static str>,
    ) -> Error {
        let clip = |at: usize| at.clamp(self.shown.start, self.shown.end);
        let part = &self.text[clip(range.start)..clip(range.end)];
        let (part, more) = match part.char_indices().nth(SHOWN_CHARACTERS_MAX) {
            Some((end, _)) => (&part[..end], "…"),
            None => (part, ""),
        };
        Error { message: format!("error parsing regexp: {what}: `{part}{more}`"), hint }
    }

    fn push(&mut self, node: Node) {
        self.level.items.push(Tree { node, depth: 0 });
    }

    pub(super) fn literal(&mut self, char: char) {
        self.push(Node::Literal { char, fold: self.flags.fold });
    }

    /// Reads one item, operator or bracket.
    fn step(&mut self) -> Result<(), Error> {
        let last_repeat = self.last_repeat.take();
        let start = self.at;
        let rest = self.rest();
        let Some(char) = rest.chars().next() else { return Ok(()) };
        match char {
            '(' if rest.starts_with("(?") => return self.group_or_flags(),
            '[' => return class::bracket(self).map(|class| self.push(Node::Class(class))),
            '\\' => return self.backslash(),
            '{' => {
                if let Some((counts, len)) = counts(rest) {
                    self.at += len;
                    let Some((min, max)) = counts else {
                        return Err(self.too_many_repeats(start));
                    };
                    return self.repeat(start, min, max, true, last_repeat);
                }
                self.literal('{');
            }
            _ => {}
        }
        self.at += char.len_utf8();
        match char {
            '(' => {
                self.groups.push(None);
                self.open_group(Some(self.groups.len() - 1), self.flags, start)?;
            }
            ')' => self.close_group()?,
            '|' => self.level.next_branch(),
            '^' if self.flags.multi_line => self.push(Node::Look(Look::LineStart)),
            '^' => self.push(Node::Look(Look::TextStart)),
            '$' if self.flags.multi_line => self.push(Node::Look(Look::LineEnd)),
            '$' => self.push(Node::Look(Look::TextEnd)),
            '.' => self.push(Node::Any { newline: self.flags.dot_newline }),
            '*' => self.repeat(start, 0, None, false, last_repeat)?,
            '+' => self.repeat(start, 1, None, false, last_repeat)?,
            '?' => self.repeat(start, 0, Some(1), false, last_repeat)?,
            '{' => {}
            _ => self.literal(char),
        }
        Ok(())
    }

    fn open_group(&mut self, index: Option<usize>, inner: Flags, start: usize) -> Result<(), Error> {
        if self.open.len() >= DEPTH_MAX {
            return Err(self.too_deep(start));
        }
        let outer = std::mem::take(&mut self.level);
        self.open.push(Open { index, flags: self.flags, outer });
        self.flags = inner;
        Ok(())
    }

    fn close_group(&mut self) -> Result<(), Error> {
        let Some(open) = self.open.pop() else {
            let hint = Some("write `\\)` for a literal parenthesis");
            return Err(self.error("unexpected )", 0..self.text.len(), hint));
        };
        self.flags = open.flags;
        let mut tree = std::mem::replace(&mut self.level, open.outer).finish();
        if let Some(index) = open.index {
            tree.node = Node::Group { index, node: Box::new(tree.node) };
        }
        tree.depth += 1;
        self.push_deeper(tree)
    }

    fn push_deeper(&mut self, tree: Tree) -> Result<(), Error> {
        if tree.depth > DEPTH_MAX {
            return Err(self.too_deep(0));
        }
        self.level.items.push(tree);
        Ok(())
    }

    fn too_deep(&self, start: usize) -> Error {
        let mut error =
            self.error("expression nests too deeply", start..start, Some("write it with fewer parentheses"));
        error.message = format!("error parsing regexp: expression nests deeper than {DEPTH_MAX} levels");
        error
    }

    fn too_many_repeats(&self, start: usize) -> Error {
        let bounds = self.text[start..self.at].trim_matches(['{', '}']).split_once(',');
        let is_turned = bounds.is_some_and(|(min, max)| {
            max.parse::<u32>()
                .is_ok_and(|max| max <= REPEAT_MAX && min.parse::<u32>().is_ok_and(|min| min > max))
        });
        let hint = if is_turned {
            "the lower count goes first"
        } else {
            "RE2 repeats at most 1000 times, nested counts multiplied"
        };
        self.error("invalid repeat count", start..self.at, Some(hint))
    }

    /// Applies a repetition operator, which begins at `start` and ends here, to the last item.
    fn repeat(
        &mut self,
        start: usize,
        min: u32,
        max: Option<u32>,
        counted: bool,
        last: Option<usize>,
    ) -> Result<(), Error> {
        let lazy = self.rest().starts_with('?');
        if lazy {
            self.at += 1;
        }
        if let Some(last) = last {
            let hint = Some("RE2 has no possessive or stacked repetition; use one operator, or a group");
            return Err(self.error("invalid nested repetition operator", last..self.at, hint));
        }
        let Some(Tree { node, depth }) = self.level.items.pop() else {
            let hint = match self.text.as_bytes()[start] {
                b'*' => "`*` repeats what stands before it: write `.*` for any text, `\\*` for an asterisk",
                _ => {
                    "it repeats what stands before it, and nothing does; escape it with `\\` for the character itself"
                }
            };
            return Err(self.error("missing argument to repetition operator", start..self.at, Some(hint)));
        };
        let node =
            Node::Repeat { min, max, greedy: lazy == self.flags.ungreedy, counted, node: Box::new(node) };
        if counted && (min >= 2 || max.is_some_and(|max| max >= 2)) && !repeats_at_most(&node, REPEAT_MAX) {
            return Err(self.too_many_repeats(start));
        }
        self.last_repeat = Some(start);
        self.push_deeper(Tree { node, depth: depth + 1 })
    }

    /// `(?flags)`, `(?flags:`, `(?P<name>`, `(?<name>`.
    fn group_or_flags(&mut self) -> Result<(), Error> {
        let start = self.at;
        let rest = self.rest();
        let name_at = if rest.starts_with("(?P<") && rest.len() > 4 {
            Some(4)
        } else if rest.starts_with("(?<") && rest.len() > 3 {
            Some(3)
        } else {
            None
        };
        if let Some(name_at) = name_at {
            let end = rest.find('>');
            let name = end.map(|end| &rest[name_at..end]).filter(|name| is_group_name(name));
            let (Some(name), Some(end)) = (name, end) else {
                let shown = start..end.map_or(self.text.len(), |end| start + end + 1);
                return Err(self.error("invalid named capture", shown, perl_hint(rest)));
            };
            self.at += end + 1;
            self.groups.push(Some(name.to_owned()));
            return self.open_group(Some(self.groups.len() - 1), self.flags, start);
        }
        self.at += 2;
        let mut flags = self.flags;
        let (mut on, mut needs_flag) = (true, false);
        while let Some(char) = self.rest().chars().next() {
            self.at += char.len_utf8();
            match char {
                'i' => flags.fold = on,
                'm' => flags.multi_line = on,
                's' => flags.dot_newline = on,
                'U' => flags.ungreedy = on,
                '-' if on => (on, needs_flag) = (false, true),
                ':' if !needs_flag => return self.open_group(None, flags, start),
                ')' if !needs_flag => {
                    self.flags = flags;
                    return Ok(());
                }
                _ => break,
            }
            needs_flag &= char == '-';
        }
        Err(self.error("invalid or unsupported Perl syntax", start..self.at, perl_hint(rest)))
    }

    fn backslash(&mut self) -> Result<(), Error> {
        let rest = self.rest();
        let look = match rest.as_bytes().get(1) {
            Some(b'A') => Look::TextStart,
            Some(b'b') => Look::WordBoundary,
            Some(b'B') => Look::NotWordBoundary,
            Some(b'z') => Look::TextEnd,
            Some(b'Q') => {
                let quoted = &rest[2..];
                let (quoted, len) = match quoted.find("\\E") {
                    Some(end) => (&quoted[..end], end + 4),
                    None => (quoted, rest.len()),
                };
                quoted.chars().for_each(|char| self.literal(char));
                self.at += len;
                return Ok(());
            }
            _ => {
                let node = class::escape(self)?;
                self.push(node);
                return Ok(());
            }
        };
        self.at += 2;
        self.push(Node::Look(look));
        Ok(())
    }
}

fn is_group_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric())
}

fn perl_hint(rest: &str) -> Option<&'static str> {
    if rest.starts_with("(?=")
        || rest.starts_with("(?!")
        || rest.starts_with("(?<=")
        || rest.starts_with("(?<!")
    {
        return Some(
            "RE2 has no lookaround: exclude with a `drop` rule before this one, or list what may match",
        );
    }
    if rest.starts_with("(?>") {
        return Some("RE2 has no atomic groups, and never backtracks: write `(?:…)`");
    }
    if rest.starts_with("(?#") {
        return Some("RE2 has no comments in patterns: use a YAML comment");
    }
    if rest.starts_with("(?P=") || rest.starts_with("(?P>") {
        return Some(
            "RE2 has no backreferences: compare two labels with the actions `keepequal` and `dropequal`",
        );
    }
    if rest.starts_with("(?P<") || rest.starts_with("(?<") {
        return Some("a group's name has letters, digits and `_` only: `(?P<name>…)`");
    }
    Some("RE2's flags are `i`, `m`, `s` and `U`, as in `(?i)` or `(?i:…)`")
}

/// Reads `{min}`, `{min,}` or `{min,max}` at the start of `text`: the counts and their length. The counts are None
/// where they are too big or the wrong way round; all is None where this is no repetition but literal text.
#[expect(clippy::type_complexity, reason = "used once, just above")]
fn counts(text: &str) -> Option<(Option<(u32, Option<u32>)>, usize)> {
    // The search ends where it is clear that this is no repetition: a text may be full of `{`.
    let rest = text.strip_prefix('{')?;
    let (body, rest) = rest.split_at(rest.find(|char: char| !matches!(char, ',' | '0'..='9'))?);
    if !rest.starts_with('}') {
        return None;
    }
    let len = body.len() + 2;
    let (min, max) = match body.split_once(',') {
        None => {
            let count = count(body)?;
            (count, Some(count))
        }
        Some((min, "")) => (count(min)?, None),
        Some((min, max)) => (count(min)?, Some(count(max)?)),
    };
    let in_bounds = min <= REPEAT_MAX && max.is_none_or(|max| max <= REPEAT_MAX && min <= max);
    Some((in_bounds.then_some((min, max)), len))
}

/// A decimal number without leading zeros; one that does not fit reads as the greatest.
fn count(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    Some(text.parse().unwrap_or(u32::MAX))
}

/// Whether nested counts multiply to no more than `max`.
fn repeats_at_most(node: &Node, max: u32) -> bool {
    match node {
        Node::Repeat { min, max: most, counted: true, node, .. } => {
            let times = most.unwrap_or(*min);
            if *most == Some(0) {
                return true;
            }
            times <= max && repeats_at_most(node, max.checked_div(times).unwrap_or(max))
        }
        Node::Repeat { node, .. } | Node::Group { node, .. } => repeats_at_most(node, max),
        Node::Concat(nodes) | Node::Alternate(nodes) => nodes.iter().all(|node| repeats_at_most(node, max)),
        Node::Empty | Node::Literal { .. } | Node::Class(_) | Node::Any { .. } | Node::Look(_) => true,
    }
}
