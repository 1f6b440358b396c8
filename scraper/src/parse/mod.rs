//! Parsing: from a scraped body to samples, borrowing from the body.
//!
//! A parser splits each sample's line into the text of its series and its value. The text of the series is taken
//! apart only where it was not seen before ([`SeriesText`]): in a steady scrape that is never. Exemplars are treated
//! likewise.

mod exemplar;
mod lex;
mod metadata;
pub mod number;
pub mod openmetrics;
mod series;
pub mod text;

pub use exemplar::{EXEMPLAR_LABEL_RUNES_MAX, Exemplar, ExemplarIter, Exemplars};
pub use metadata::Metadata;
pub use series::{Pairs, SeriesText};

/// What a parser finds next.
#[derive(Clone, Debug, PartialEq)]
pub enum Item<'b> {
    /// A sample whose value is a float.
    Sample(Sample<'b>),
    /// What a line of metadata says.
    Metadata(Metadata<'b>),
}

/// One sample as it stands in the body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'b> {
    /// Name and labels, as written.
    pub series: SeriesText<'b>,
    /// The value's bits; NaNs are normalised.
    pub value: f64,
    /// The exposed timestamp in Unix milliseconds.
    pub timestamp_ms: Option<i64>,
    /// Exemplars, as written.
    pub exemplars: Exemplars<'b>,
}

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

#[cfg(test)]
mod printed_tests;
