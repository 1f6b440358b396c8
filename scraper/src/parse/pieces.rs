//! Reading a body in pieces, as it arrives: the same items as from the whole body, wherever it is cut.
//!
//! A piece is read as far as its last whole item. What is left is carried: the caller puts it before the next piece. A line,
//! or a metric of protobuf, is carried however long it is: only the body's own limit bounds it, as where the body comes as a
//! whole. What cannot be read may only be incomplete (a label value may hold a newline), so it is carried too, up to
//! [`CARRY_BYTES_MAX`]; what is malformed fails then, or at the end of the body.

use memchr::memrchr;

use super::converter::Converter;
use super::openmetrics::OpenMetricsParser;
use super::protobuf::{FamilyPieces, HistogramOptions};
use super::series::NumberLabel;
use super::text::TextParser;
use super::{Expected, Format, Found, Item, ParseError, Parser};

/// How many bytes of whole lines that cannot be read are carried from piece to piece, and of how many bytes on a family of
/// protobuf is read metric by metric.
pub const CARRY_BYTES_MAX: usize = 1 << 20;

/// Where a parser of lines stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Bytes of the body that were read.
    pub(super) at: usize,
    /// Lines that were read.
    pub(super) line: usize,
    /// What the newest TYPE means for labels.
    pub(super) number: NumberLabel,
}

/// Reads the pieces of one body.
#[derive(Debug)]
pub struct PieceParser {
    format: Format,
    /// Of lines.
    mark: Mark,
    /// Of protobuf.
    families: FamilyPieces,
    options: HistogramOptions,
    /// Where classic histograms are converted, the one that the newest TYPE line names.
    family: Option<String>,
}

impl PieceParser {
    /// A parser at the beginning of a body.
    #[must_use]
    pub fn new(format: Format, options: HistogramOptions) -> Self {
        let families = FamilyPieces::new(options);
        Self { format, mark: Mark::default(), families, options, family: None }
    }

    /// Hands each item of `piece` to `each`, which says what series it expects next, and tells how many bytes it has read; the
    /// others have to stand at the front of the next piece. `last`: nothing follows this piece. Then all is read.
    ///
    /// # Errors
    /// Where the body is malformed, or as `each` gives them. The parser must not be asked again then.
    pub fn read<E: From<ParseError>>(
        &mut self,
        piece: &[u8],
        last: bool,
        mut each: impl FnMut(Found<'_>) -> Result<Option<Expected>, E>,
    ) -> Result<usize, E> {
        match self.format {
            Format::Text | Format::OpenMetrics if self.options.convert_classic => {
                self.converted(piece, last, &mut |item| each(Found::Item(item)).map(drop))
            }
            Format::Text => self.lines(
                piece,
                last,
                TextParser::resume,
                TextParser::next_expecting,
                TextParser::mark,
                &mut each,
            ),
            Format::OpenMetrics => self.lines(
                piece,
                last,
                OpenMetricsParser::resume,
                OpenMetricsParser::next_expecting,
                OpenMetricsParser::mark,
                &mut each,
            ),
            Format::Protobuf => {
                self.families.read(piece, last, &mut |item| each(Found::Item(item)).map(drop))
            }
        }
    }

    fn lines<'b, P, E: From<ParseError>>(
        &mut self,
        piece: &'b [u8],
        last: bool,
        resume: impl FnOnce(&'b [u8], Mark) -> P,
        next: impl Fn(&mut P, Option<Expected>) -> Result<Option<Found<'b>>, ParseError>,
        mark_of: impl Fn(&P) -> Mark,
        each: &mut impl FnMut(Found<'_>) -> Result<Option<Expected>, E>,
    ) -> Result<usize, E> {
        let whole = whole_lines(piece, last);
        if whole == 0 && !last {
            return Ok(0);
        }
        let mut parser = resume(&piece[..whole], self.mark);
        let mut expected = None;
        let mark = loop {
            let mark = mark_of(&parser);
            match next(&mut parser, expected) {
                Ok(Some(found)) => expected = each(found)?,
                // `# EOF` is the end only where nothing follows it, which the next piece tells.
                Ok(None) if self.format == Format::OpenMetrics => break mark,
                Ok(None) => break mark_of(&parser),
                Err(_) if !last && whole - mark.at < CARRY_BYTES_MAX => break mark,
                Err(error) => return Err(error.into()),
            }
        };
        self.mark = Mark { at: 0, ..mark };
        Ok(if last { piece.len() } else { mark.at })
    }

    /// The same where classic histograms become native ones: their series may not be cut apart, so a first look tells
    /// how far the piece can be read.
    fn converted<E: From<ParseError>>(
        &mut self,
        piece: &[u8],
        last: bool,
        each: &mut impl FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let whole = whole_lines(piece, last);
        let mut cut = Mark { at: piece.len(), ..self.mark };
        if !last {
            let mut ahead = self.converter(&piece[..whole]);
            let error = loop {
                match ahead.next_item() {
                    Ok(Some(_)) => {}
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            cut = ahead.safe();
            if whole.saturating_sub(cut.at) >= CARRY_BYTES_MAX {
                let too_long =
                    || ParseError::new("line", cut.line + 1, "the histogram is too long", &piece[cut.at..]);
                return Err(error.unwrap_or_else(too_long).into());
            }
        }
        let mut parser = self.converter(&piece[..cut.at]);
        loop {
            match parser.next_item() {
                Ok(Some(item)) => each(item)?,
                Ok(None) => break,
                Err(error) if last => return Err(error.into()),
                // OpenMetrics misses its end where the piece is cut.
                Err(_) => break,
            }
        }
        let (converted, family) = parser.finish();
        if let Some(item) = converted {
            each(item)?;
        }
        self.family = family;
        self.mark = Mark { at: 0, ..cut };
        Ok(cut.at)
    }

    fn converter<'b>(&self, piece: &'b [u8]) -> Converter<'b> {
        let parser = match self.format {
            Format::OpenMetrics => Parser::OpenMetrics(OpenMetricsParser::resume(piece, self.mark)),
            Format::Text | Format::Protobuf => Parser::Text(TextParser::resume(piece, self.mark)),
        };
        Converter::resume(parser, self.options.always_classic, self.family.clone())
    }
}

/// How many bytes of the piece are whole lines.
fn whole_lines(piece: &[u8], last: bool) -> usize {
    if last { piece.len() } else { memrchr(b'\n', piece).map_or(0, |end| end + 1) }
}

#[cfg(test)]
#[path = "pieces_tests.rs"]
mod tests;
