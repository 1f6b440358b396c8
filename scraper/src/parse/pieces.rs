//! Reading a body in pieces, as it arrives: the same items as from the whole body, wherever it is cut.
//!
//! A piece is read as far as its last whole item. What is left is carried: the caller puts it before the next piece. What
//! cannot be read may only be incomplete (a label value may hold a newline), so it is carried too, up to
//! [`CARRY_BYTES_MAX`]; what is malformed fails then, or at the end of the body.

use memchr::memrchr;

use super::openmetrics::OpenMetricsParser;
use super::protobuf::{FamilyPieces, HistogramOptions};
use super::series::NumberLabel;
use super::text::TextParser;
use super::{Format, Item, ParseError};

/// What is carried from piece to piece may have this many bytes. A longer line, or a metric of protobuf that is larger,
/// fails the scrape where its body does not come as a whole.
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
}

impl PieceParser {
    /// A parser at the beginning of a body.
    #[must_use]
    pub fn new(format: Format, options: HistogramOptions) -> Self {
        Self { format, mark: Mark::default(), families: FamilyPieces::new(options) }
    }

    /// Hands each item of `piece` to `each` and tells how many bytes it has read; the others have to stand at the
    /// front of the next piece. `last`: nothing follows this piece. Then all is read.
    ///
    /// # Errors
    /// Where the body is malformed, or as `each` gives them. The parser must not be asked again then.
    pub fn read<E: From<ParseError>>(
        &mut self,
        piece: &[u8],
        last: bool,
        mut each: impl FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        match self.format {
            Format::Text => self.lines(
                piece,
                last,
                TextParser::resume,
                |parser| parser.next_item(),
                TextParser::mark,
                &mut each,
            ),
            Format::OpenMetrics => self.lines(
                piece,
                last,
                OpenMetricsParser::resume,
                |parser| parser.next_item(),
                OpenMetricsParser::mark,
                &mut each,
            ),
            Format::Protobuf => self.families.read(piece, last, &mut each),
        }
    }

    fn lines<'b, P, E: From<ParseError>>(
        &mut self,
        piece: &'b [u8],
        last: bool,
        resume: impl FnOnce(&'b [u8], Mark) -> P,
        next: impl Fn(&mut P) -> Result<Option<Item<'b>>, ParseError>,
        mark_of: impl Fn(&P) -> Mark,
        each: &mut impl FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let whole = if last { piece.len() } else { memrchr(b'\n', piece).map_or(0, |end| end + 1) };
        if whole == 0 && !last {
            return match piece.len() < CARRY_BYTES_MAX {
                true => Ok(0),
                false => {
                    Err(ParseError::new("line", self.mark.line + 1, "the line is too long", piece).into())
                }
            };
        }
        let mut parser = resume(&piece[..whole], self.mark);
        let mark = loop {
            let mark = mark_of(&parser);
            match next(&mut parser) {
                Ok(Some(item)) => each(item)?,
                // `# EOF` is the end only where nothing follows it, which the next piece tells.
                Ok(None) if self.format == Format::OpenMetrics => break mark,
                Ok(None) => break mark_of(&parser),
                Err(_) if !last && piece.len() - mark.at < CARRY_BYTES_MAX => break mark,
                Err(error) => return Err(error.into()),
            }
        };
        self.mark = Mark { at: 0, ..mark };
        Ok(if last { piece.len() } else { mark.at })
    }
}

#[cfg(test)]
#[path = "pieces_tests.rs"]
mod tests;
