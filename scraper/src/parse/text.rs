//! The Prometheus text format, 0.0.4 and 1.0.0 (which adds quoted UTF-8 names).
//!
//! The rules are those of Prometheus's `model/textparse`: the final newline may be missing, white space between
//! tokens is free, `#` begins a comment unless TYPE or HELP follows, a malformed line fails the whole body.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memchr3, memrchr};
use promring_model::labels::METRIC_NAME;

use super::number::{normalise_float, parse_float, parse_timestamp_ms};
use super::{Pairs, ParseError, Sample, SeriesText};

/// Reads a body line by line.
#[derive(Debug)]
pub struct TextParser<'b> {
    body: &'b [u8],
    at: usize,
    line: usize,
    family: &'b [u8],
    kind: Kind,
}

/// What the newest TYPE line said, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Histogram,
    Summary,
    Other,
}

impl<'b> TextParser<'b> {
    /// A parser at the beginning of `body`.
    #[must_use]
    pub fn new(body: &'b [u8]) -> Self {
        Self { body, at: 0, line: 0, family: b"", kind: Kind::Other }
    }

    /// The next sample; None at the end of the body.
    ///
    /// # Errors
    /// Where a line is malformed. The parser must not be asked again then.
    pub fn next_sample(&mut self) -> Result<Option<Sample<'b>>, ParseError> {
        while self.at < self.body.len() {
            let rest = &self.body[self.at..];
            let end = memchr(b'\n', rest).unwrap_or(rest.len());
            let line = &rest[..end];
            self.at += end + 1;
            self.line += 1;
            let text = trim_start(line);
            match text.first() {
                None => {}
                Some(b'#') => self.comment(text)?,
                Some(_) => return self.sample(text).map(Some),
            }
        }
        Ok(None)
    }

    fn fail(&self, reason: &'static str, text: &[u8]) -> ParseError {
        ParseError::new(self.line, reason, text)
    }

    /// `text` begins with neither white space nor `#`.
    fn sample(&self, text: &'b [u8]) -> Result<Sample<'b>, ParseError> {
        // Neither value nor timestamp can hold a brace, so the last one in the line ends the labels, whatever
        // the label values hold. Whether what is before it is well-formed is looked at once a series.
        let end = match memrchr(b'}', text) {
            Some(brace) => brace + 1,
            None => memchr2(b' ', b'\t', text)
                .ok_or_else(|| self.fail("expected a value after the name", text))?,
        };
        let (series, rest) = text.split_at(end);
        let rest = trim(rest);
        let (value, timestamp) = match memchr2(b' ', b'\t', rest) {
            None => (rest, None),
            Some(space) => (&rest[..space], Some(trim_start(&rest[space..]))),
        };
        let value = parse_float(value).ok_or_else(|| self.fail("expected a number as the value", text))?;
        let timestamp_ms = match timestamp {
            None => None,
            Some(digits) => Some(parse_timestamp_ms(digits).ok_or_else(|| {
                self.fail("expected a timestamp in milliseconds or the end of the line", text)
            })?),
        };
        Ok(Sample {
            series: SeriesText { bytes: series, normalise: self.normalised_label(series) },
            value,
            timestamp_ms,
        })
    }

    /// Which label of this series is a number in the family at hand.
    fn normalised_label(&self, series: &[u8]) -> Option<&'static str> {
        let label = match self.kind {
            Kind::Other => return None,
            Kind::Histogram => "le",
            Kind::Summary => "quantile",
        };
        series.starts_with(self.family).then_some(label)
    }

    fn comment(&mut self, text: &'b [u8]) -> Result<(), ParseError> {
        let (keyword, rest) = split_token(trim_start(&text[1..]));
        match keyword {
            b"TYPE" => {
                let (name, rest) = self.family_name(rest, text)?;
                let kind = trim(rest);
                self.kind = match kind {
                    b"histogram" => Kind::Histogram,
                    b"summary" => Kind::Summary,
                    b"counter" | b"gauge" | b"untyped" => Kind::Other,
                    _ => return Err(self.fail("invalid metric type", text)),
                };
                self.family = name;
            }
            b"HELP" => {
                let (_, rest) = self.family_name(rest, text)?;
                if std::str::from_utf8(rest).is_err() {
                    return Err(self.fail("the help text is not UTF-8", text));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The name after TYPE or HELP, which may be quoted.
    fn family_name(&self, rest: &'b [u8], line: &'b [u8]) -> Result<(&'b [u8], &'b [u8]), ParseError> {
        let rest = trim_start(rest);
        if rest.first() == Some(&b'"') {
            let end = closing_quote(rest).ok_or_else(|| self.fail("a quoted name does not end", line))?;
            return Ok((&rest[1..end], &rest[end + 1..]));
        }
        let (name, rest) = split_token(rest);
        if name.is_empty() { Err(self.fail("expected a metric name", line)) } else { Ok((name, rest)) }
    }
}

/// Name, if there is one, and labels of a label set as people write it: `name{a="b"}`, `{a="b"}` or `name`.
///
/// # Errors
/// What is malformed.
pub fn label_set(text: &str) -> Result<Pairs<'_>, &'static str> {
    SeriesText { bytes: text.as_bytes(), normalise: None }.any_pairs(true)
}

impl<'b> SeriesText<'b> {
    /// Name and labels, with the name as `__name__`; labels with an empty value are left out, since that is what
    /// an absent label is.
    ///
    /// # Errors
    /// What is malformed.
    pub fn pairs(&self) -> Result<Pairs<'b>, &'static str> {
        let pairs = self.any_pairs(false)?;
        if pairs.iter().any(|(name, _)| name == METRIC_NAME) {
            Ok(pairs)
        } else {
            Err("the series has no metric name")
        }
    }

    /// The same without asking for a name. An exposition cannot give the name as a label; people do.
    fn any_pairs(&self, name_as_label: bool) -> Result<Pairs<'b>, &'static str> {
        let text = std::str::from_utf8(self.bytes).map_err(|_| "the line is not UTF-8")?;
        let mut pairs = Pairs::new();
        let Some(brace) = text.find('{') else {
            check_metric_name(text)?;
            pairs.push((METRIC_NAME.into(), text.into()));
            return Ok(pairs);
        };
        let name = text[..brace].trim_end_matches([' ', '\t']);
        if !name.is_empty() {
            check_metric_name(name)?;
            pairs.push((METRIC_NAME.into(), name.into()));
        }
        self.labels(&text[brace + 1..], name_as_label, &mut pairs)?;
        Ok(pairs)
    }

    /// Reads `a="b", c="d"}`; a quoted text without `=` is the metric name.
    fn labels(&self, text: &'b str, name_as_label: bool, pairs: &mut Pairs<'b>) -> Result<(), &'static str> {
        let mut rest = skip_blank(text);
        loop {
            if let Some(after) = rest.strip_prefix('}') {
                return if after.is_empty() { Ok(()) } else { Err("unexpected text after the labels") };
            }
            let name: Cow<'b, str>;
            let quoted = rest.starts_with('"');
            if quoted {
                (name, rest) = quoted_text(rest)?;
            } else {
                let end = rest.find(['=', ' ', '\t', ',', '}']).ok_or("expected a label name")?;
                let plain = &rest[..end];
                if !promring_model::labels::is_legacy_label_name(plain) {
                    return Err("expected a label name");
                }
                (name, rest) = (Cow::Borrowed(plain), &rest[end..]);
            }
            rest = skip_blank(rest);
            if let Some(after) = rest.strip_prefix('=') {
                let (value, after) = quoted_text(skip_blank(after))?;
                if (name == METRIC_NAME && !name_as_label) || pairs.iter().any(|(known, _)| *known == name) {
                    return Err("a label name is given twice");
                }
                if !value.is_empty() {
                    let value = self.normalised(&name, value);
                    pairs.push((name, value));
                }
                rest = skip_blank(after);
            } else if quoted {
                if pairs.iter().any(|(known, _)| known == METRIC_NAME) {
                    return Err("the metric name is given twice");
                }
                if name.is_empty() {
                    return Err("the metric name is empty");
                }
                pairs.push((METRIC_NAME.into(), name));
            } else {
                return Err("expected = after a label name");
            }
            match rest.strip_prefix(',') {
                Some(after) => rest = skip_blank(after),
                None if rest.starts_with('}') => {}
                None => return Err("expected a comma or } after a label"),
            }
        }
    }

    fn normalised(&self, name: &str, value: Cow<'b, str>) -> Cow<'b, str> {
        match self.normalise {
            Some(label) if label == name => normalise_float(&value).map_or(value, Cow::Owned),
            Some(_) | None => value,
        }
    }
}

fn check_metric_name(name: &str) -> Result<(), &'static str> {
    if promring_model::labels::is_legacy_metric_name(name) { Ok(()) } else { Err("invalid metric name") }
}

/// A quoted text at the beginning of `text`, and what follows it. `\\`, `\"` and `\n` are the only escapes; another
/// backslash stands for itself.
fn quoted_text(text: &str) -> Result<(Cow<'_, str>, &str), &'static str> {
    if !text.starts_with('"') {
        return Err("expected a quoted text");
    }
    let end = closing_quote(text.as_bytes()).ok_or("a quoted text does not end")?;
    let (inner, rest) = (&text[1..end], &text[end + 1..]);
    if !inner.contains('\\') {
        return Ok((Cow::Borrowed(inner), rest));
    }
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => plain.push('\n'),
            Some(c @ ('\\' | '"')) => plain.push(c),
            Some(c) => plain.extend(['\\', c]),
            None => plain.push('\\'),
        }
    }
    Ok((Cow::Owned(plain), rest))
}

/// Where the quote that opens `text` is closed.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr3(b'"', b'\\', b'\n', text.get(at..)?)?;
        match text[at] {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => return None,
        }
    }
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn trim_start(text: &[u8]) -> &[u8] {
    let blank = text.iter().take_while(|&&byte| is_blank(byte)).count();
    &text[blank..]
}

fn trim(text: &[u8]) -> &[u8] {
    let text = trim_start(text);
    let blank = text.iter().rev().take_while(|&&byte| is_blank(byte)).count();
    &text[..text.len() - blank]
}

fn skip_blank(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

fn split_token(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(memchr2(b' ', b'\t', text).unwrap_or(text.len()))
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
