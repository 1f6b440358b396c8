//! The Prometheus text format, 0.0.4 and 1.0.0 (which adds quoted UTF-8 names).
//!
//! The rules are those of Prometheus's `model/textparse`: the final newline may be missing, white space between
//! tokens is free, `#` begins a comment unless TYPE or HELP follows, a malformed line fails the whole body.
//!
//! What differs on purpose, all in bodies that no exporter means, stands in docs/configuration.md (Divergences, 27 and 38).

use std::borrow::Cow;

use memchr::{memchr, memchr_iter, memchr3};
use promring_proto::remote_write::v1::MetricType;

use super::exemplar::Exemplars;
use super::expected::{Expected, Found};
use super::lex::{Dialect, is_blank, series_end, trim, trim_start, unescape_help};
use super::metadata::{Metadata, family_name, number_label};
use super::near::rfind;
use super::number::{decimal, leading_decimal, parse_float, parse_timestamp_ms};
use super::pieces::Mark;
pub use super::series::label_set;
use super::series::{NumberLabel, SeriesText};
use super::{Item, ParseError, Sample};

/// Reads a body line by line.
#[derive(Debug)]
pub struct TextParser<'b> {
    body: &'b [u8],
    at: usize,
    line: usize,
    /// As in Prometheus, a TYPE line holds until the next one, whatever the names of the series between them.
    number: NumberLabel,
}

impl<'b> TextParser<'b> {
    /// A parser at the beginning of `body`.
    #[must_use]
    pub fn new(body: &'b [u8]) -> Self {
        Self::resume(body, Mark::default())
    }

    /// A parser at a mark in `body`, where another one stood that had read what is before it.
    pub(super) fn resume(body: &'b [u8], Mark { at, line, number }: Mark) -> Self {
        Self { body, at, line, number }
    }

    /// Where the next item begins, to be asked for between items.
    #[inline]
    pub(super) fn mark(&self) -> Mark {
        Mark { at: self.at.min(self.body.len()), line: self.line, number: self.number }
    }

    /// The next sample; None at the end of the body.
    ///
    /// # Errors
    /// Where a line is malformed. The parser must not be asked again then.
    pub fn next_sample(&mut self) -> Result<Option<Sample<'b>>, ParseError> {
        while let Some((line, start)) = self.next_line() {
            if line[0] != b'#' {
                return match self.simple_sample(line) {
                    Some(sample) => Ok(Some(sample)),
                    None => self.any_sample(start).map(Some),
                };
            }
            self.comment(line, start)?;
        }
        Ok(None)
    }

    /// The next sample or line of metadata; None at the end of the body.
    ///
    /// # Errors
    /// Where a line is malformed. The parser must not be asked again then.
    #[inline]
    pub fn next_item(&mut self) -> Result<Option<Item<'b>>, ParseError> {
        while let Some((line, start)) = self.next_line() {
            if line[0] != b'#' {
                // Each way out writes the item where it stays: moving one takes longer than reading a short value.
                return match self.simple_sample(line) {
                    Some(sample) => Ok(Some(Item::Sample(sample))),
                    None => self.any_item(start),
                };
            }
            if let Some(metadata) = self.comment(line, start)? {
                return Ok(Some(Item::Metadata(metadata)));
            }
        }
        Ok(None)
    }

    /// The same; a sample of the series that is expected comes as such.
    ///
    /// # Errors
    /// As [`TextParser::next_item`].
    #[inline]
    pub fn next_expecting(&mut self, expected: Option<Expected>) -> Result<Option<Found<'b>>, ParseError> {
        if let Some(found) = expected.and_then(|expected| self.expected(expected)) {
            return Ok(Some(found));
        }
        Ok(self.next_item()?.map(Found::Item))
    }

    /// None: something else follows, or what may be malformed, and nothing was read.
    #[inline]
    fn expected(&mut self, expected: Expected) -> Option<Found<'b>> {
        let after = expected.after(self.body.get(self.at..)?, Dialect::Prometheus, self.number)?;
        let (value, timestamp_ms, len) = match leading_decimal(&after[1..]) {
            Some((value, len)) if matches!(after.get(1 + len), None | Some(b'\n')) => (value, None, 1 + len),
            _ => {
                let len = memchr(b'\n', after).unwrap_or(after.len());
                let (value, timestamp_ms) = value_and_time(&after[..len]).ok()?;
                (value, timestamp_ms, len)
            }
        };
        self.at += expected.len() + len + 1;
        self.line += 1;
        Some(Found::Expected { value, timestamp_ms })
    }

    /// The next line that is not blank, without the white space before it, and where it begins.
    #[inline]
    fn next_line(&mut self) -> Option<(&'b [u8], usize)> {
        while self.at < self.body.len() {
            let rest = &self.body[self.at..];
            let end = memchr(b'\n', rest).unwrap_or(rest.len());
            let text = trim_start(&rest[..end]);
            let start = self.at + end - text.len();
            self.at += end + 1;
            self.line += 1;
            if !text.is_empty() {
                return Some((text, start));
            }
        }
        None
    }

    fn fail(&self, reason: &'static str, text: &[u8]) -> ParseError {
        let line = memchr(b'\n', text).map_or(text, |end| &text[..end]);
        ParseError::new("line", self.line, reason, line)
    }

    /// A sample as nearly all are. `line` begins with neither white space nor `#`.
    #[inline]
    fn simple_sample(&self, line: &'b [u8]) -> Option<Sample<'b>> {
        // Neither value nor timestamp can hold a brace, so the last one in the line ends the labels, whatever
        // the label values hold. Whether what is before it is well-formed is looked at once a series.
        let end = match rfind(b'}', line) {
            Some(brace) => Some(brace + 1),
            None => memchr3(b' ', b'\t', b'{', line).filter(|&at| line[at] != b'{'),
        }?;
        let (value, timestamp_ms) = value_and_time(&line[end..]).ok()?;
        let series = SeriesText::text(&line[..end], Dialect::Prometheus, self.number);
        Some(Sample { series, value, timestamp_ms, start_ms: 0, exemplars: Exemplars::default() })
    }

    #[cold]
    fn any_item(&mut self, start: usize) -> Result<Option<Item<'b>>, ParseError> {
        self.any_sample(start).map(|sample| Some(Item::Sample(sample)))
    }

    /// A sample at `start`, token by token: a label value may hold newlines.
    #[cold]
    fn any_sample(&mut self, start: usize) -> Result<Sample<'b>, ParseError> {
        let rest = &self.body[start..];
        let end = series_end(rest, Dialect::Prometheus).map_err(|reason| self.fail(reason, rest))?;
        let (series, after) = rest.split_at(end);
        let newline = memchr(b'\n', after).unwrap_or(after.len());
        let (value, timestamp_ms) =
            value_and_time(&after[..newline]).map_err(|reason| self.fail(reason, rest))?;
        self.at = start + end + newline + 1;
        self.line += memchr_iter(b'\n', series).count();
        let series = SeriesText::text(series, Dialect::Prometheus, self.number);
        Ok(Sample { series, value, timestamp_ms, start_ms: 0, exemplars: Exemplars::default() })
    }

    /// `line` begins with `#`.
    fn comment(&mut self, line: &'b [u8], start: usize) -> Result<Option<Metadata<'b>>, ParseError> {
        let text = trim_start(&line[1..]);
        let keyword = text.len() < line.len() - 1;
        let is_kind = match text.get(..4) {
            Some(b"TYPE") => true,
            Some(b"HELP") => false,
            _ => return Ok(None),
        };
        // Without a blank after it, it is a comment like any other.
        if !keyword || !text.get(4).copied().is_some_and(is_blank) {
            return Ok(None);
        }
        let name = trim_start(&text[4..]);
        // A quoted name may hold newlines, so the line may be longer than it seemed.
        let rest = &self.body[start + line.len() - name.len()..];
        let (family, end) = match name {
            b"" => Err("expected a metric name"),
            _ => family_name(rest),
        }
        .map_err(|reason| self.fail(reason, line))?;
        let after = &rest[end..];
        let newline = memchr(b'\n', after).unwrap_or(after.len());
        // One byte separates name and text, and it is not looked at.
        let text = after[..newline].get(1..).unwrap_or_default();
        let read = if is_kind { self.kind(family, text) } else { help(family, text) };
        let metadata = read.map_err(|reason| self.fail(reason, line))?;
        self.at = start + line.len() - name.len() + end + newline + 1;
        self.line += memchr_iter(b'\n', &rest[..end]).count();
        Ok(Some(metadata))
    }

    fn kind(&mut self, family: Cow<'b, str>, text: &[u8]) -> Result<Metadata<'b>, &'static str> {
        let kind = match text {
            b"counter" => MetricType::Counter,
            b"gauge" => MetricType::Gauge,
            b"histogram" => MetricType::Histogram,
            b"summary" => MetricType::Summary,
            b"untyped" => MetricType::Unknown,
            _ => return Err("invalid metric type"),
        };
        self.number = number_label(kind);
        Ok(Metadata { kind: Some(kind), ..Metadata::of(family) })
    }
}

fn help<'b>(family: Cow<'b, str>, text: &'b [u8]) -> Result<Metadata<'b>, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "the help text is not UTF-8")?;
    Ok(Metadata { help: Some(unescape_help(text)), ..Metadata::of(family) })
}

/// Reads `value` or `value timestamp`, with any blanks around them.
#[inline]
fn value_and_time(text: &[u8]) -> Result<(f64, Option<i64>), &'static str> {
    // Nearly all lines have one blank, and a number up to the end.
    if let Some((b' ', number)) = text.split_first()
        && let Some(value) = decimal(number)
    {
        return Ok((value, None));
    }
    let text = trim(text);
    let (value, time) = match memchr::memchr2(b' ', b'\t', text) {
        None => (text, None),
        Some(blank) => (&text[..blank], Some(trim_start(&text[blank..]))),
    };
    let value = parse_float(value).ok_or("expected a number as the value")?;
    let timestamp_ms = match time {
        None => None,
        Some(time) => {
            let time = parse_timestamp_ms(time);
            Some(time.ok_or("expected a timestamp in milliseconds or the end of the line")?)
        }
    };
    Ok((value, timestamp_ms))
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
