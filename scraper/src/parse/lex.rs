//! What the two text formats have in common below the level of lines: quotes, escapes, labels.
//!
//! The formats differ in white space, commas and newlines ([`Dialect`]). Offsets and errors are as small as they
//! can be: whoever calls knows the line.

use std::borrow::Cow;

use promring_model::labels::legacy_label_name_len;

use super::near::{find2, find3};

/// Which text format a series is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Blanks are free between tokens, the comma between labels may be missing, a label value may hold a newline.
    Prometheus,
    /// No blanks, commas, no newline in a label value.
    OpenMetrics,
}

/// One piece of what stands in braces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'b> {
    /// A quoted text alone: the metric's name.
    Name(Quoted<'b>),
    /// A label's name and value.
    Label(LabelName<'b>, Quoted<'b>),
}

/// A text that stands in quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quoted<'b> {
    /// As it stands there, still escaped.
    pub(super) raw: &'b str,
    has_escapes: bool,
}

/// The name of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LabelName<'b> {
    /// As label names were before UTF-8 names.
    Plain(&'b str),
    Quoted(Quoted<'b>),
}

impl<'b> Quoted<'b> {
    pub(super) fn unescaped(self) -> Cow<'b, str> {
        if self.has_escapes { unescape(self.raw) } else { Cow::Borrowed(self.raw) }
    }
}

impl<'b> LabelName<'b> {
    /// As it stands there, still escaped.
    pub(super) fn raw(self) -> &'b str {
        match self {
            Self::Plain(name) => name,
            Self::Quoted(name) => name.raw,
        }
    }
}

/// Reads what stands in braces, piece by piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pieces<'b> {
    rest: &'b str,
    dialect: Dialect,
}

impl<'b> Pieces<'b> {
    /// `text` follows the opening brace.
    pub(super) fn new(text: &'b str, dialect: Dialect) -> Self {
        let mut pieces = Self { rest: text, dialect };
        pieces.skip_blank();
        pieces
    }

    /// What follows the closing brace; to be asked for once `next` has given None.
    pub(super) fn rest(&self) -> &'b str {
        self.rest
    }

    /// A label as nearly all are: a plain name and a value without escapes, and no blanks. None: nothing was read, and
    /// [`Pieces::next`] tells what follows.
    #[inline]
    pub(super) fn simple_label(&mut self) -> Option<(&'b str, &'b str)> {
        // A prefix that is stripped needs no look at where characters begin, unlike a range.
        let (name, rest) = self.rest.split_at_checked(legacy_label_name_len(self.rest.as_bytes()))?;
        let rest = rest.strip_prefix("=\"")?;
        let (value, rest) =
            rest.split_at_checked(simple_end(rest.as_bytes(), self.dialect == Dialect::Prometheus)?)?;
        let rest = match rest.strip_prefix("\",") {
            Some(rest) if rest.as_bytes().first().copied().is_some_and(is_blank) => return None,
            Some(rest) => rest,
            None => rest.strip_prefix('"').filter(|rest| rest.starts_with('}'))?,
        };
        if name.is_empty() {
            return None;
        }
        self.rest = rest;
        Some((name, value))
    }

    /// The next piece; None where the brace closes.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Piece<'b>>, &'static str> {
        if let Some(after) = self.rest.strip_prefix('}') {
            self.rest = after;
            return Ok(None);
        }
        let name = if self.rest.starts_with('"') {
            LabelName::Quoted(self.quoted(true)?)
        } else {
            LabelName::Plain(self.plain_name()?)
        };
        self.skip_blank();
        if let Some(after) = self.rest.strip_prefix('=') {
            self.rest = after;
            self.skip_blank();
            let value = self.quoted(self.dialect == Dialect::Prometheus)?;
            self.skip_blank();
            // Prometheus's text parser does not miss a comma here.
            self.comma(self.dialect == Dialect::Prometheus)?;
            return Ok(Some(Piece::Label(name, value)));
        }
        let LabelName::Quoted(name) = name else { return Err("expected = after a label name") };
        self.comma(false)?;
        Ok(Some(Piece::Name(name)))
    }

    #[inline]
    fn comma(&mut self, optional: bool) -> Result<(), &'static str> {
        if let Some(after) = self.rest.strip_prefix(',') {
            self.rest = after;
            self.skip_blank();
        } else if !optional && !self.rest.starts_with('}') {
            return Err("expected a comma or } after a label");
        }
        Ok(())
    }

    #[inline]
    fn plain_name(&mut self) -> Result<&'b str, &'static str> {
        let (name, rest) = self.rest.split_at(legacy_label_name_len(self.rest.as_bytes()));
        if name.is_empty() {
            return Err("expected a label name");
        }
        self.rest = rest;
        Ok(name)
    }

    #[inline]
    fn quoted(&mut self, newlines: bool) -> Result<Quoted<'b>, &'static str> {
        if !self.rest.starts_with('"') {
            return Err("expected a quoted text");
        }
        let (end, has_escapes) =
            quoted_end(self.rest.as_bytes(), newlines).ok_or("a quoted text does not end")?;
        let raw = &self.rest[1..end];
        self.rest = &self.rest[end + 1..];
        Ok(Quoted { raw, has_escapes })
    }

    #[inline]
    fn skip_blank(&mut self) {
        if self.dialect == Dialect::Prometheus && self.rest.bytes().next().is_some_and(is_blank) {
            self.rest = self.rest.trim_start_matches([' ', '\t']);
        }
    }
}

/// `\\`, `\"` and `\n` are the only escapes; another backslash stands for itself.
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    unescape_but(text, None)
}

/// The same for help texts of the Prometheus format, where `\"` is no escape.
pub(super) fn unescape_help(text: &str) -> Cow<'_, str> {
    unescape_but(text, Some('"'))
}

fn unescape_but(text: &str, literal: Option<char>) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => plain.push('\n'),
            Some(c @ ('\\' | '"')) if Some(c) != literal => plain.push(c),
            Some(c) => plain.extend(['\\', c]),
            None => plain.push('\\'),
        }
    }
    Cow::Owned(plain)
}

/// Where the quote that opens `text` is closed. A newline after a backslash is never part of a quoted text.
pub(super) fn closing_quote(text: &[u8], newlines: bool) -> Option<usize> {
    quoted_end(text, newlines).map(|(end, _)| end)
}

/// The same, if nothing before it needs a second look.
#[inline]
fn simple_end(text: &[u8], newlines: bool) -> Option<usize> {
    let at = if newlines { find2(b'"', b'\\', text)? } else { find3(b'"', b'\\', b'\n', text)? };
    (text[at] == b'"').then_some(at)
}

/// The same, and whether there is a backslash before it.
fn quoted_end(text: &[u8], newlines: bool) -> Option<(usize, bool)> {
    let (mut at, mut has_escapes) = (1, false);
    loop {
        let rest = text.get(at..)?;
        at += if newlines { find2(b'"', b'\\', rest)? } else { find3(b'"', b'\\', b'\n', rest)? };
        match text[at] {
            b'"' => return Some((at, has_escapes)),
            b'\\' if text.get(at + 1) != Some(&b'\n') => (at, has_escapes) = (at + 2, true),
            _ => return None,
        }
    }
}

/// Where the series at the beginning of `text` ends, found token by token: for the lines that are not as simple as
/// nearly all are. Whether the series is well-formed is not looked at.
pub(super) fn series_end(text: &[u8], dialect: Dialect) -> Result<usize, &'static str> {
    let name = name_end(text);
    let mut at = name;
    if dialect == Dialect::Prometheus {
        at += text[at..].iter().take_while(|&&byte| is_blank(byte)).count();
    }
    if text.get(at) != Some(&b'{') {
        return if name == 0 { Err("expected a metric name or {") } else { Ok(name) };
    }
    loop {
        at += 1;
        match text.get(at) {
            Some(b'}') => return Ok(at + 1),
            Some(b'"') => at += closing_quote(&text[at..], true).ok_or("a quoted text does not end")?,
            Some(b'\n') | None => return Err("expected } after the labels"),
            Some(_) => {}
        }
    }
}

/// Where the metric name at the beginning of `text` ends; 0 where there is none.
pub(super) fn name_end(text: &[u8]) -> usize {
    if text.first().is_some_and(u8::is_ascii_digit) {
        return 0;
    }
    text.iter().take_while(|&&byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':').count()
}

pub(super) fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

pub(super) fn trim_start(text: &[u8]) -> &[u8] {
    let blank = text.iter().take_while(|&&byte| is_blank(byte)).count();
    &text[blank..]
}

pub(super) fn trim(text: &[u8]) -> &[u8] {
    let text = trim_start(text);
    let blank = text.iter().rev().take_while(|&&byte| is_blank(byte)).count();
    &text[..text.len() - blank]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Listed = Result<(Vec<String>, String), &'static str>;

    fn listed(text: &str, dialect: Dialect, simple_first: bool) -> Listed {
        let (mut pieces, mut list) = (Pieces::new(text, dialect), Vec::new());
        loop {
            while simple_first && let Some((name, value)) = pieces.simple_label() {
                list.push(format!("{name} is {value:?}"));
            }
            match pieces.next()? {
                Some(Piece::Name(name)) => list.push(format!("{:?}", name.unescaped())),
                Some(Piece::Label(name, value)) => {
                    list.push(format!("{} is {:?}", name.raw(), value.unescaped()));
                }
                None => return Ok((list, pieces.rest().to_owned())),
            }
        }
    }

    proptest! {
        #[test]
        fn a_simple_label_is_read_as_any_other(
            text in "([aé1]{0,2}[ ]?=?[ ]?\"[b\\\\\nn,}é]{0,2}\"?[,} ]{0,2}|[a_][a1]{0,9}=\"[a-z]{0,40}\"[,}]){0,4}}?",
        ) {
            for dialect in [Dialect::Prometheus, Dialect::OpenMetrics] {
                prop_assert_eq!(listed(&text, dialect, true), listed(&text, dialect, false));
            }
        }
    }

    #[test]
    fn only_what_needs_no_second_look_is_simple() {
        for (text, label) in [
            ("le=\"1\"}", Some(("le", "1"))),
            ("le=\"\",a=\"b\"}", Some(("le", ""))),
            ("le=\"\\n\"}", None),
            ("le =\"1\"}", None),
            ("le=\"1\", a=\"b\"}", None),
            ("\"le\"=\"1\"}", None),
            ("le=\"1\"", None),
            ("}", None),
        ] {
            assert_eq!(Pieces::new(text, Dialect::Prometheus).simple_label(), label, "{text}");
        }
    }
}
