//! What Prometheus's YAML reader takes or refuses in another way than the parser here.
//!
//! Where Prometheus is looser, [`loosen`] rewrites what the parser stumbled over, in place, so that lines and columns
//! stay as they are in the file. Where it is stricter, [`Gaps`] looks at what lies between values: tabs, directives,
//! the names of anchors.

use std::ops::Range;

use granit_parser::{ErrorKind, ScanError};

use super::Problem;

/// Most bytes that are parsed again because something was rewritten; a file with more to rewrite is refused.
const PARSED_AGAIN_BYTES_MAX: usize = 64 << 20;

/// One of these that the file does not have stands in for the backslash of `\'`, and is taken out again.
const STAND_INS: &[u8] = b"~^`@%!&;|";

/// A text that is rewritten step by step until the parser takes it.
#[derive(Debug)]
pub(super) struct Loosened {
    pub(super) text: String,
    bytes_left: usize,
    /// Where tabs became spaces. That is right within brackets only, which is known once the text is parsed.
    tabs: Vec<usize>,
    /// To be taken out of every value.
    stand_in: Option<u8>,
}

impl Loosened {
    pub(super) fn new(text: String) -> Self {
        Self { text, bytes_left: PARSED_AGAIN_BYTES_MAX, tabs: Vec::new(), stand_in: None }
    }

    /// Rewrites what this error is about. False: Prometheus refuses it, too, or there is too much of it.
    pub(super) fn loosen(&mut self, error: &ScanError) -> bool {
        let Some(at) = error.marker().byte_offset().filter(|at| self.text.is_char_boundary(*at)) else {
            return false;
        };
        let Some(left) = self.bytes_left.checked_sub(self.text.len()) else { return false };
        self.bytes_left = left;
        match error.kind() {
            ErrorKind::CommentNotSeparated if self.text[at..].starts_with('#') => self.blank_line(at),
            ErrorKind::InvalidDocumentEnd => self.blank_line(at),
            ErrorKind::UnknownQuotedScalarEscape => self.mark_escaped_quotes(at),
            ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation
            | ErrorKind::InvalidFlowScalarIndent => self.replace_tabs(at),
            _ => false,
        }
    }

    /// The rest of a line: a comment needs no space before it (`]#text`), and nobody reads what follows `...`.
    fn blank_line(&mut self, at: usize) -> bool {
        let end = self.text[at..].find(['\n', '\r']).map_or(self.text.len(), |len| at + len);
        // A space for each byte keeps what follows where it is.
        self.text.replace_range(at..end, &" ".repeat(end - at));
        end > at
    }

    /// `\'` in a text in double quotes is an apostrophe.
    fn mark_escaped_quotes(&mut self, start: usize) -> bool {
        let has = |byte: &&u8| self.text.contains(char::from(**byte));
        let unused = self.stand_in.or_else(|| STAND_INS.iter().find(|byte| !has(byte)).copied());
        let Some(stand_in) = unused.filter(|_| self.text[start..].starts_with('"')) else { return false };
        self.stand_in = Some(stand_in);
        let mut found = Vec::new();
        let mut bytes = self.text.bytes().enumerate().skip(start + 1);
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'"' => break,
                b'\\' if bytes.next().is_some_and(|(_, escaped)| escaped == b'\'') => found.push(at),
                _ => {}
            }
        }
        self.overwrite(&found, stand_in);
        !found.is_empty()
    }

    /// Tabs at the beginning of this line, and of the lines after it that begin with tabs as well.
    fn replace_tabs(&mut self, at: usize) -> bool {
        let mut start = self.text[..at].rfind(['\n', '\r']).map_or(0, |end| end + 1);
        let before = self.tabs.len();
        loop {
            let line = &self.text[start..];
            let indent = line.bytes().take_while(|b| matches!(b, b' ' | b'\t')).count();
            let tabs = line[..indent].match_indices('\t').map(|(tab, _)| start + tab);
            let found = self.tabs.len();
            self.tabs.extend(tabs);
            if self.tabs.len() == found {
                break;
            }
            let Some(len) = line.find(['\n', '\r']) else { break };
            start += len + 1;
        }
        let tabs = self.tabs[before..].to_vec();
        self.overwrite(&tabs, b' ');
        !tabs.is_empty()
    }

    /// Puts an ASCII character in the place of others.
    fn overwrite(&mut self, places: &[usize], byte: u8) {
        let mut bytes = std::mem::take(&mut self.text).into_bytes();
        for &at in places {
            bytes[at] = byte;
        }
        self.text = String::from_utf8(bytes).unwrap_or_default();
    }

    /// A value of the text as it was before it was rewritten.
    pub(super) fn restored(&self, value: &str) -> Option<String> {
        let stand_in = char::from(self.stand_in?);
        value.contains(stand_in).then(|| value.replace(stand_in, ""))
    }

    /// The first tab that was replaced outside of all brackets, where it is refused. `flows`: what lies in brackets.
    pub(super) fn misplaced_tab(&self, flows: &[Range<usize>]) -> Option<Problem> {
        let outside = |tab: &&usize| {
            let before = flows.partition_point(|flow| flow.start <= **tab);
            before.checked_sub(1).is_none_or(|at| !flows[at].contains(tab))
        };
        self.tabs.iter().find(outside).map(|&tab| tab_problem(&self.text, tab))
    }
}

/// What the last value was, and what that means for the white space after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum After {
    /// A text without quotes, in collections that begin in this 0-based column; none: the whole document.
    Plain { indent: Option<usize> },
    /// A list or map in brackets, a text in quotes or an alias.
    Other,
    /// A block of lines.
    Lines,
    /// The beginning of the file.
    #[default]
    Nothing,
}

/// Looks at what lies between values: white space, comments, and the characters that are YAML's own.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// What lies before this is done with.
    done: usize,
    after: After,
    depth: usize,
    started: bool,
    /// The value before is a key in brackets.
    after_key: bool,
    /// It has several lines.
    long_key: bool,
    explicit_key: bool,
    flow_start: usize,
    /// What lies in brackets.
    pub(super) flows: Vec<Range<usize>>,
}

impl Gaps {
    /// A text without quotes was found here; `indent` is the column of the innermost list or map without brackets.
    pub(super) fn plain(
        &mut self,
        text: &str,
        span: Range<usize>,
        indent: Option<usize>,
    ) -> Result<(), Problem> {
        self.value(text, span.clone(), After::Plain { indent })?;
        indented_tabs(text, span, indent)
    }

    /// A text in quotes or an alias.
    pub(super) fn other(&mut self, text: &str, span: Range<usize>) -> Result<(), Problem> {
        self.value(text, span.clone(), After::Other)?;
        match text.as_bytes().get(span.start) {
            Some(b'"') => escapes(text, span),
            Some(b'*') => name(text, span.start).map(drop),
            _ => Ok(()),
        }
    }

    /// What looks like an alias and is none.
    pub(super) fn unresolved(&mut self, text: &str, span: Range<usize>) -> Result<(), Problem> {
        self.value(text, span, After::Other)
    }

    /// A block of lines, which begins with `|` or `>`.
    pub(super) fn lines(&mut self, text: &str, span: Range<usize>) -> Result<(), Problem> {
        self.value(text, span, After::Lines)
    }

    /// The document ends; what comes before the next token is looked at.
    pub(super) fn end(&mut self, text: &str) -> Result<(), Problem> {
        self.gap(text, self.done..text.len(), true)
    }

    fn value(&mut self, text: &str, span: Range<usize>, after: After) -> Result<(), Problem> {
        if span.start < self.done || !text.is_char_boundary(span.start) || !text.is_char_boundary(span.end) {
            return Ok(());
        }
        self.gap(text, self.done..span.start, false)?;
        (self.done, self.after, self.started) = (span.end, after, true);
        self.after_key = self.depth > 0;
        self.long_key = text[span].contains(['\n', '\r']);
        Ok(())
    }

    /// `last`: what lies after the document belongs to nobody.
    fn gap(&mut self, text: &str, span: Range<usize>, last: bool) -> Result<(), Problem> {
        let mut at = span.start;
        // Whether a key could begin here, which is where a tab would count as indentation.
        let mut key_fits = matches!(self.after, After::Nothing | After::Lines);
        let mut line_start = at == 0 || self.after == After::Lines;
        let mut crossed_line = false;
        if let After::Plain { indent } = self.after {
            let blank = text[at..span.end].bytes().take_while(|b| b" \t\r\n".contains(b)).count();
            indented_tabs(text, at..at + blank, indent)?;
            crossed_line = text[at..at + blank].contains(['\n', '\r']);
            key_fits = crossed_line;
            line_start = text[at..at + blank].ends_with(['\n', '\r']);
            at += blank;
        }
        while at < span.end {
            let rest = &text[at..span.end];
            let Some(c) = rest.chars().next() else { break };
            let mut len = c.len_utf8();
            match c {
                '\n' | '\r' => {
                    crossed_line = true;
                    key_fits |= self.depth == 0;
                }
                '\t' if self.depth == 0 && key_fits => return Err(tab_problem(text, at)),
                '#' => len = rest.find(['\n', '\r']).unwrap_or(rest.len()),
                '%' if line_start && !self.started => {
                    len = rest.find(['\n', '\r']).unwrap_or(rest.len());
                    directive(text, at, &rest[..len])?;
                }
                '.' if line_start && rest.starts_with("...") && !self.started => {
                    let hint = "remove this line: it ends a document, and none has begun";
                    return Err(problem(text, at, "not valid YAML: an end without a beginning", hint));
                }
                '.' | '-' if last && line_start && (rest.starts_with("...") || rest.starts_with("---")) => {
                    return Ok(());
                }
                '-' if line_start && rest.starts_with("---") => {
                    (len, key_fits, self.started) = (3, false, true);
                }
                '-' | '?' => {
                    self.explicit_key |= c == '?' && self.depth > 0;
                    key_fits = true;
                }
                ',' => (key_fits, self.after_key, self.explicit_key) = (true, false, false),
                '[' | '{' => {
                    if self.depth == 0 {
                        self.flow_start = at;
                    }
                    self.depth += 1;
                    (key_fits, self.after_key, self.explicit_key) = (true, false, false);
                }
                ']' | '}' => {
                    self.depth = self.depth.saturating_sub(1);
                    (key_fits, self.after_key) = (false, false);
                    if self.depth == 0 {
                        self.flows.push(self.flow_start..at);
                    }
                }
                ':' => {
                    if self.after_key && (crossed_line || self.long_key) && !self.explicit_key {
                        let hint = "write the key and its colon on one line";
                        return Err(problem(
                            text,
                            at,
                            "not valid YAML: a key and its colon on different lines",
                            hint,
                        ));
                    }
                    (key_fits, self.after_key, self.explicit_key) = (line_start, false, false);
                }
                '&' => {
                    len = name(text, at)?;
                    key_fits = false;
                }
                '!' => {
                    len = rest.find([' ', '\t', '\n', '\r']).unwrap_or(rest.len());
                    key_fits = false;
                }
                // Something else begins, which nobody reads.
                c if last && self.depth == 0 && !c.is_whitespace() => return Ok(()),
                _ => {}
            }
            line_start = matches!(c, '\n' | '\r');
            at += len;
        }
        Ok(())
    }
}

/// A tab that stands at the beginning of a line, no further in than its list or map.
fn indented_tabs(text: &str, span: Range<usize>, indent: Option<usize>) -> Result<(), Problem> {
    let Some(indent) = indent else { return Ok(()) };
    let mut column = None;
    for (at, c) in text[span.clone()].char_indices() {
        column = match (c, column) {
            ('\n' | '\r', _) => Some(0),
            ('\t', Some(column)) if column <= indent => return Err(tab_problem(text, span.start + at)),
            (' ' | '\t', Some(column)) => Some(column + 1),
            _ => None,
        };
    }
    Ok(())
}

/// Escapes that Prometheus's reader does not know, in a text in double quotes.
fn escapes(text: &str, span: Range<usize>) -> Result<(), Problem> {
    let mut at = span.start;
    while let Some(found) = text[at..span.end].find('\\') {
        at += found;
        let escape = &text[at + 1..span.end];
        if escape.starts_with('/') {
            let hint = "a slash needs no backslash";
            return Err(problem(text, at, "not valid YAML: found unknown escape character", hint));
        }
        let unicode = escape.strip_prefix('u').and_then(|digits| digits.get(..4));
        let is_surrogate = |code| (0xd800..0xe000).contains(&code);
        if unicode.and_then(|digits| u32::from_str_radix(digits, 16).ok()).is_some_and(is_surrogate) {
            let hint = "write the character itself, or \\U and eight digits";
            return Err(problem(text, at, "not valid YAML: half of a character", hint));
        }
        at += 1 + escape.chars().next().map_or(0, char::len_utf8);
    }
    Ok(())
}

/// Bytes of an anchor or alias with its sign.
fn name(text: &str, at: usize) -> Result<usize, Problem> {
    let rest = &text[at + 1..];
    let len = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || b"_-".contains(b)).count();
    let ends = rest[len..].chars().next().is_none_or(|c| " \t\n\r?:,]}%@`".contains(c));
    if len > 0 && ends {
        return Ok(1 + len);
    }
    let hint = "names of anchors hold letters, digits, _ and -; quote a value that begins with & or *";
    Err(problem(text, at, "not valid YAML: not the name of an anchor", hint))
}

fn directive(text: &str, at: usize, line: &str) -> Result<(), Problem> {
    let mut words = line.split_whitespace();
    let (message, hint) = match (words.next().unwrap_or_default(), words.next()) {
        ("%YAML", Some("1.1")) | ("%TAG", _) => return Ok(()),
        ("%YAML", _) => {
            ("not valid YAML: Prometheus reads version 1.1 only", "remove the line, or write %YAML 1.1")
        }
        _ => ("not valid YAML: an unknown directive", "remove the line, or quote a value that begins with %"),
    };
    Err(problem(text, at, message, hint))
}

fn tab_problem(text: &str, at: usize) -> Problem {
    let hint = "YAML is indented by spaces; replace each tab, on empty lines and before comments, too";
    problem(text, at, "not valid YAML: a tab where only spaces may stand", hint)
}

fn problem(text: &str, at: usize, message: &str, hint: &str) -> Problem {
    let (line, column) = super::parse::place(&text[..at]);
    Problem { line, column, message: message.to_owned(), hint: Some(hint.to_owned()) }
}
