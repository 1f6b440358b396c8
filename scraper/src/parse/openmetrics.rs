//! OpenMetrics as text, 0.0.1 and 1.0.0.
//!
//! The rules are those of Prometheus's `model/textparse`, which are fewer than the specification's: `# EOF` comes last
//! and must come, there is one space between tokens and no blank line, a unit ends its family's name. What the samples
//! mean (order of buckets, counters that go down, interleaved families, `_created`) is not looked at.

use memchr::{memchr, memchr_iter, memchr2, memmem};
use promring_proto::remote_write::v1::MetricType;

use super::exemplar::Exemplars;
use super::expected::{Expected, Found};
use super::lex::{Dialect, series_end, unescape};
use super::metadata::{Metadata, family_name, number_label};
use super::near::rfind;
use super::number::{leading_decimal, parse_float, parse_timestamp_seconds};
use super::pieces::Mark;
use super::series::{NumberLabel, SeriesText};
use super::{Item, ParseError, Sample};

/// Reads a body line by line.
#[derive(Debug)]
pub struct OpenMetricsParser<'b> {
    body: &'b [u8],
    at: usize,
    line: usize,
    number: NumberLabel,
}

impl<'b> OpenMetricsParser<'b> {
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

    /// The next sample or line of metadata; None after `# EOF`.
    ///
    /// # Errors
    /// Where the body is malformed. The parser must not be asked again then.
    pub fn next_item(&mut self) -> Result<Option<Item<'b>>, ParseError> {
        self.line += 1;
        let rest = &self.body[self.at..];
        match rest.first() {
            None => Err(self.fail("the data does not end with # EOF", rest)),
            Some(b'#') => self.descriptor(rest),
            // Most lines have no exemplar, so no `#`.
            Some(_) => match memchr2(b'\n', b'#', rest) {
                Some(end) if rest[end] == b'\n' => self.line_of_sample(&rest[..end]).map(Some),
                end => match end.and_then(|hash| self.exemplified(rest, hash)) {
                    Some(item) => Ok(Some(item)),
                    None => self.any_sample(rest).map(Some),
                },
            },
        }
    }

    /// The same; a sample of the series that is expected, without exemplars, comes as such.
    ///
    /// # Errors
    /// As [`OpenMetricsParser::next_item`].
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
        let after = expected.after(self.body.get(self.at..)?, Dialect::OpenMetrics, self.number)?;
        let (value, timestamp_ms, len) = match leading_decimal(&after[1..]) {
            Some((value, len)) if after.get(1 + len) == Some(&b'\n') => (value, None, 1 + len),
            _ => {
                let len = memchr(b'\n', after)?;
                let (value, timestamp_ms) = value_and_time(&after[..len]).ok()?;
                (value, timestamp_ms, len)
            }
        };
        self.at += expected.len() + len + 1;
        self.line += 1;
        Some(Found::Expected { value, timestamp_ms })
    }

    fn fail(&self, reason: &'static str, text: &[u8]) -> ParseError {
        let line = memchr(b'\n', text).map_or(text, |end| &text[..end]);
        ParseError::new("line", self.line, reason, line)
    }

    fn line_of_sample(&mut self, line: &'b [u8]) -> Result<Item<'b>, ParseError> {
        // Neither value nor timestamp can hold a brace, so the last one in the line ends the labels, whatever
        // the label values hold. Whether what is before it is well-formed is looked at once a series.
        let end = match rfind(b'}', line) {
            Some(brace) => Some(brace + 1),
            None => memchr2(b' ', b'{', line).filter(|&at| line[at] == b' '),
        };
        if let Some(end) = end
            && let Ok((value, timestamp_ms)) = value_and_time(&line[end..])
        {
            self.at += line.len() + 1;
            let series = SeriesText::text(&line[..end], Dialect::OpenMetrics, self.number);
            return Ok(Item::Sample(Sample {
                series,
                value,
                timestamp_ms,
                start_ms: 0,
                exemplars: Exemplars::default(),
            }));
        }
        self.any_sample(&self.body[self.at..])
    }

    /// A sample with an exemplar, in a line as nearly all are: without a backslash, and with as many quotes as there must be
    /// before the exemplar, so that its `#`, the first one of the line, stands in none. None: it is another line, or malformed,
    /// and nothing was read.
    fn exemplified(&mut self, rest: &'b [u8], hash: usize) -> Option<Item<'b>> {
        let (numbers, exemplar) = rest.split_at(hash.checked_sub(1)?);
        let text = exemplar.strip_prefix(EXEMPLAR)?;
        let text = &text[..memchr(b'\n', text)?];
        let (series, numbers) = numbers.split_at(rfind(b'}', numbers)? + 1);
        if memchr(b'\\', series).is_some() || !memchr_iter(b'"', series).count().is_multiple_of(2) {
            return None;
        }
        let (value, timestamp_ms) = value_and_time(numbers).ok()?;
        let exemplars = Exemplars::text(text).ok()?;
        self.at += hash + EXEMPLAR.len() + text.len();
        let series = SeriesText::text(series, Dialect::OpenMetrics, self.number);
        Some(Item::Sample(Sample { series, value, timestamp_ms, start_ms: 0, exemplars }))
    }

    /// A sample at the beginning of `rest`, token by token: it may have an exemplar, and a quoted name with a newline.
    fn any_sample(&mut self, rest: &'b [u8]) -> Result<Item<'b>, ParseError> {
        let end = series_end(rest, Dialect::OpenMetrics).map_err(|reason| self.fail(reason, rest))?;
        let (series, after) = rest.split_at(end);
        let newline =
            memchr(b'\n', after).ok_or_else(|| self.fail("the data does not end with # EOF", rest))?;
        let line = &after[..newline];
        let (numbers, exemplar) = match memmem::find(line, EXEMPLAR) {
            Some(hash) => (&line[..hash], Some(&line[hash + EXEMPLAR.len()..])),
            None => (line, None),
        };
        let (value, timestamp_ms) = value_and_time(numbers).map_err(|reason| self.fail(reason, rest))?;
        let exemplars = match exemplar {
            Some(text) => Exemplars::text(text).map_err(|reason| self.fail(reason, rest))?,
            None => Exemplars::default(),
        };
        self.at += end + newline + 1;
        self.line += memchr::memchr_iter(b'\n', series).count();
        let series = SeriesText::text(series, Dialect::OpenMetrics, self.number);
        Ok(Item::Sample(Sample { series, value, timestamp_ms, start_ms: 0, exemplars }))
    }

    /// A line that begins with `#`.
    fn descriptor(&mut self, rest: &'b [u8]) -> Result<Option<Item<'b>>, ParseError> {
        if let Some(after) = rest.strip_prefix(b"# EOF") {
            return match after {
                b"" | b"\n" => {
                    // Whoever asks again gets the same answer.
                    self.line -= 1;
                    Ok(None)
                }
                _ => Err(self.fail("unexpected data after # EOF", rest)),
            };
        }
        let Some((keyword, after)) = rest.split_at_checked(7) else {
            return Err(self.fail("expected # TYPE, # HELP, # UNIT or # EOF", rest));
        };
        let read = match keyword {
            b"# TYPE " => self.kind(after),
            b"# HELP " => self.help(after),
            b"# UNIT " => self.unit(after),
            _ => Err("expected # TYPE, # HELP, # UNIT or # EOF"),
        };
        let (metadata, length) = read.map_err(|reason| self.fail(reason, rest))?;
        let length = keyword.len() + length;
        self.at += length;
        self.line += memchr::memchr_iter(b'\n', &rest[..length - 1]).count();
        Ok(Some(Item::Metadata(metadata)))
    }

    fn kind(&mut self, after: &'b [u8]) -> Result<(Metadata<'b>, usize), &'static str> {
        let (family, text, length) = name_and_text(after)?;
        let kind = match text {
            b"counter" => MetricType::Counter,
            b"gauge" => MetricType::Gauge,
            b"histogram" => MetricType::Histogram,
            b"gaugehistogram" => MetricType::GaugeHistogram,
            b"summary" => MetricType::Summary,
            b"info" => MetricType::Info,
            b"stateset" => MetricType::StateSet,
            b"unknown" => MetricType::Unknown,
            _ => return Err("invalid metric type"),
        };
        self.number = number_label(kind);
        Ok((Metadata { kind: Some(kind), ..family }, length))
    }

    fn help(&self, after: &'b [u8]) -> Result<(Metadata<'b>, usize), &'static str> {
        let (family, text, length) = name_and_text(after)?;
        let text = std::str::from_utf8(text).map_err(|_| "the help text is not UTF-8")?;
        Ok((Metadata { help: Some(unescape(text)), ..family }, length))
    }

    fn unit(&self, after: &'b [u8]) -> Result<(Metadata<'b>, usize), &'static str> {
        let (family, text, length) = name_and_text(after)?;
        let unit = std::str::from_utf8(text).map_err(|_| "the unit is not UTF-8")?;
        let before = family.family.strip_suffix(unit);
        if unit.is_empty() || before.is_some_and(|before| before.ends_with('_')) {
            Ok((Metadata { unit: Some(unit), ..family }, length))
        } else {
            Err("the unit is not a suffix of the metric name")
        }
    }
}

/// What stands before an exemplar's labels.
const EXEMPLAR: &[u8] = b" # {";

/// Reads `name text\n` and tells how many bytes that takes.
fn name_and_text(after: &[u8]) -> Result<(Metadata<'_>, &[u8], usize), &'static str> {
    let (family, end) = family_name(after)?;
    let rest = after[end..].strip_prefix(b" ").ok_or("expected a text after the metric name")?;
    let newline = memchr(b'\n', rest).ok_or("the data does not end with # EOF")?;
    Ok((Metadata::of(family), &rest[..newline], end + 1 + newline + 1))
}

/// Reads ` value` or ` value timestamp`.
fn value_and_time(text: &[u8]) -> Result<(f64, Option<i64>), &'static str> {
    let text = text.strip_prefix(b" ").ok_or("expected a space and a value after the metric")?;
    let (value, time) = match memchr(b' ', text) {
        None => (text, None),
        Some(space) => (&text[..space], Some(&text[space + 1..])),
    };
    let value = parse_float(value).ok_or("expected a number as the value")?;
    let timestamp_ms = match time {
        None => None,
        Some(time) => Some(parse_timestamp_seconds(time).ok_or("expected a timestamp in seconds")?),
    };
    Ok((value, timestamp_ms))
}

#[cfg(test)]
#[path = "openmetrics_tests.rs"]
mod tests;
