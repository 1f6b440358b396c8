//! Parsing: from a scraped body to samples, borrowing from the body.
//!
//! A parser splits each sample's line into the text of its series and its value. The text of the series is taken
//! apart only where it was not seen before ([`SeriesText`]): in a steady scrape that is never.

pub mod number;
pub mod text;

use std::borrow::Cow;

/// One sample as it stands in the body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'b> {
    /// Name and labels, as written.
    pub series: SeriesText<'b>,
    /// The value's bits; NaNs are normalised.
    pub value: f64,
    /// The exposed timestamp in Unix milliseconds.
    pub timestamp_ms: Option<i64>,
}

/// Name and labels of a series as the body has them: `name{a="b"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesText<'b> {
    /// The bytes, without the white space around them.
    pub bytes: &'b [u8],
    /// The family's type said that `le` or `quantile` is a number, which is written in one way.
    pub normalise: Option<&'static str>,
}

/// Name (as the label `__name__`) and labels of a series, taken apart.
pub type Pairs<'b> = Vec<(Cow<'b, str>, Cow<'b, str>)>;

/// Why a body is refused. The whole scrape fails, as in Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}: {excerpt:?}")]
pub struct ParseError {
    /// 1-based.
    pub line: usize,
    /// What is wrong.
    pub reason: &'static str,
    /// The beginning of the line.
    pub excerpt: String,
}

/// Bytes of a line that an error shows.
const EXCERPT_BYTES_MAX: usize = 80;

impl ParseError {
    pub(crate) fn new(line: usize, reason: &'static str, text: &[u8]) -> Self {
        let excerpt = String::from_utf8_lossy(&text[..text.len().min(EXCERPT_BYTES_MAX)]).into_owned();
        Self { line, reason, excerpt }
    }
}
