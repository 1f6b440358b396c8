//! Parsing: from a scraped body to samples, borrowing from the body.
//!
//! A parser splits each sample's line into the text of its series and its value. The text of the series is taken
//! apart only where it was not seen before ([`SeriesText`]): in a steady scrape that is never. Exemplars are treated
//! likewise.

mod classic;
mod converter;
mod exemplar;
mod expected;
mod format;
mod lex;
mod metadata;
mod near;
pub mod number;
pub mod openmetrics;
mod pieces;
pub mod protobuf;
mod series;
pub mod text;

use promring_proto::histogram::NativeHistogram;

use self::converter::Converter;
use self::openmetrics::OpenMetricsParser;
use self::pieces::Mark;
use self::protobuf::{HistogramOptions, HistogramText, ProtobufParser};
use self::text::TextParser;

pub use exemplar::{EXEMPLAR_LABEL_RUNES_MAX, Exemplar, ExemplarIter, Exemplars};
pub use expected::{Expected, Found};
pub use format::{Format, UnsupportedContentType};
pub use metadata::Metadata;
pub use pieces::{CARRY_BYTES_MAX, PieceParser};
pub(crate) use series::{LABEL_TWICE, NAME_EMPTY};
pub use series::{Odd, Pairs, SeriesText, is_well_formed};

/// A parser of any format.
#[derive(Debug)]
pub enum Parser<'b> {
    /// Of the Prometheus text format.
    Text(TextParser<'b>),
    /// Of OpenMetrics.
    OpenMetrics(OpenMetricsParser<'b>),
    /// Of protobuf.
    Protobuf(ProtobufParser<'b>),
    /// Of a text format whose classic histograms become native ones.
    Converting(Box<Converter<'b>>),
}

impl<'b> Parser<'b> {
    /// The parser for a body of this `Content-Type` (empty where there is none), or else of the fallback's format.
    /// An empty body is good whatever its type, as in Prometheus.
    ///
    /// # Errors
    /// Where the type names no known format and there is no fallback.
    pub fn new(
        content_type: &str,
        fallback: Option<Format>,
        options: HistogramOptions,
        body: &'b [u8],
    ) -> Result<Self, UnsupportedContentType> {
        if body.is_empty() {
            return Ok(Self::Text(TextParser::new(body)));
        }
        Ok(Self::of(Format::choose(content_type, fallback)?, options, body))
    }

    /// The parser for a format.
    #[must_use]
    pub fn of(format: Format, options: HistogramOptions, body: &'b [u8]) -> Self {
        let parser = match format {
            Format::Text => Self::Text(TextParser::new(body)),
            Format::OpenMetrics => Self::OpenMetrics(OpenMetricsParser::new(body)),
            Format::Protobuf => return Self::Protobuf(ProtobufParser::new(body, options)),
        };
        if options.convert_classic {
            return Self::Converting(Box::new(Converter::new(parser, options.always_classic)));
        }
        parser
    }

    /// Where a parser of lines stands, between items.
    fn mark(&self) -> Mark {
        match self {
            Self::Text(parser) => parser.mark(),
            Self::OpenMetrics(parser) => parser.mark(),
            Self::Converting(parser) => parser.safe(),
            Self::Protobuf(_) => Mark::default(),
        }
    }

    /// The next sample, or what is said of a metric family; None at the end of the body.
    ///
    /// # Errors
    /// Where the body is malformed: the whole scrape fails. The parser must not be asked again then.
    #[inline]
    pub fn next_item(&mut self) -> Result<Option<Item<'b>>, ParseError> {
        match self {
            Self::Text(parser) => parser.next_item(),
            Self::OpenMetrics(parser) => parser.next_item(),
            Self::Protobuf(parser) => parser.next_item(),
            Self::Converting(parser) => parser.next_item(),
        }
    }

    /// The same; a sample of the series that is expected comes as such, where the format makes use of it.
    ///
    /// # Errors
    /// As [`Parser::next_item`].
    #[inline]
    pub fn next_expecting(&mut self, expected: Option<Expected>) -> Result<Option<Found<'b>>, ParseError> {
        match self {
            Self::Text(parser) => parser.next_expecting(expected),
            Self::OpenMetrics(parser) => parser.next_expecting(expected),
            Self::Protobuf(parser) => Ok(parser.next_item()?.map(Found::Item)),
            Self::Converting(parser) => Ok(parser.next_item()?.map(Found::Item)),
        }
    }
}

/// What a parser finds next.
#[derive(Clone, Debug, PartialEq)]
pub enum Item<'b> {
    /// A sample whose value is a float.
    Sample(Sample<'b>),
    /// A sample whose value is a native histogram.
    Histogram(HistogramSample<'b>),
    /// A classic histogram that was made a native one.
    Converted(Box<ConvertedHistogram<'b>>),
    /// What is said of a metric family.
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
    /// When counting began, in Unix milliseconds; 0: not known.
    pub start_ms: i64,
    /// Exemplars, as written.
    pub exemplars: Exemplars<'b>,
}

/// One native histogram as it stands in the body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HistogramSample<'b> {
    /// Name and labels, as written.
    pub series: SeriesText<'b>,
    /// The histogram, as written.
    pub histogram: HistogramText<'b>,
    /// The exposed timestamp in Unix milliseconds.
    pub timestamp_ms: Option<i64>,
    /// When counting began, in Unix milliseconds; 0: not known.
    pub start_ms: i64,
    /// Exemplars with timestamps, as written.
    pub exemplars: Exemplars<'b>,
}

/// A native histogram with custom bounds, made of a classic one (`convert_classic_histograms_to_nhcb`).
#[derive(Clone, Debug, PartialEq)]
pub struct ConvertedHistogram<'b> {
    /// Name and labels: those of the classic histogram, without suffix and `le`.
    pub series: SeriesText<'b>,
    /// The histogram.
    pub histogram: NativeHistogram,
    /// The exposed timestamp in Unix milliseconds.
    pub timestamp_ms: Option<i64>,
    /// When counting began, in Unix milliseconds; 0: not known.
    pub start_ms: i64,
    /// Exemplars of the classic series, as written.
    pub exemplars: Vec<Exemplars<'b>>,
}

/// Why a body is refused. The whole scrape fails, as in Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{unit} {line}: {reason}: {excerpt:?}")]
pub struct ParseError {
    /// What is counted: lines, or metric families in protobuf.
    pub unit: &'static str,
    /// Where it is, 1-based.
    pub line: usize,
    /// What is wrong.
    pub reason: &'static str,
    /// The beginning of the line, or of the family's name.
    pub excerpt: String,
}

/// Bytes of a line that an error shows.
const EXCERPT_BYTES_MAX: usize = 80;

impl ParseError {
    pub(crate) fn new(unit: &'static str, line: usize, reason: &'static str, text: &[u8]) -> Self {
        let excerpt = String::from_utf8_lossy(&text[..text.len().min(EXCERPT_BYTES_MAX)]).into_owned();
        Self { unit, line, reason, excerpt }
    }
}

#[cfg(test)]
mod compared_tests;
#[cfg(test)]
mod parser_tests;
#[cfg(test)]
mod printed_tests;
