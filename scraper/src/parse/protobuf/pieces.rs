//! Families of a body that comes in pieces. A family is read as a whole where it is small enough, and otherwise metric
//! by metric: exporters put all metrics of one name into one message.

use super::wire::{Fields, TRUNCATED, WireResult};
use super::{Family, HistogramOptions, Kind, LENGTH_BYTES_MAX, METRIC, ProtobufParser};
use crate::parse::metadata::Metadata;
use crate::parse::pieces::CARRY_BYTES_MAX;
use crate::parse::{Item, ParseError};

/// Reads the pieces of one body.
#[derive(Debug)]
pub(in crate::parse) struct FamilyPieces {
    options: HistogramOptions,
    /// Families so far, for errors.
    families: usize,
    open: Option<OpenFamily>,
    /// Where its first metric has not come, a family is looked into again once there is so much of it, in bytes.
    look_from: usize,
}

/// A family that is too large to be read as a whole.
#[derive(Debug)]
struct OpenFamily {
    name: String,
    kind: Kind,
    /// Bytes of its message that are still to come.
    left: u64,
    /// Whether the spans of its next native histogram are looked at ([`Family`]).
    checks_spans: bool,
}

const CUT_OFF: &str = "a metric family is cut off";

impl FamilyPieces {
    pub(in crate::parse) fn new(options: HistogramOptions) -> Self {
        Self { options, families: 0, open: None, look_from: 0 }
    }

    /// See [`crate::parse::PieceParser::read`].
    pub(in crate::parse) fn read<E: From<ParseError>>(
        &mut self,
        piece: &[u8],
        last: bool,
        each: &mut impl FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut used = 0;
        loop {
            let rest = &piece[used..];
            if let Some(open) = &mut self.open {
                let available = &rest[..usize::try_from(open.left).unwrap_or(usize::MAX).min(rest.len())];
                let fail =
                    |reason| ParseError::new("metric family", self.families, reason, open.name.as_bytes());
                let whole = whole_fields(available).map_err(fail)?;
                let OpenFamily { kind, checks_spans, .. } = *open;
                let fields = Fields::new(&available[..whole]);
                let family = Family { name: &open.name, kind, fields, checks_spans };
                let mut parser = ProtobufParser::new(&[], self.options);
                (parser.families, parser.family) = (self.families, family);
                while let Some(item) = parser.next_item()? {
                    each(item)?;
                }
                open.checks_spans = parser.family.checks_spans;
                used += whole;
                open.left -= whole as u64;
                if open.left > 0 {
                    // A field is whole unless it is longer than what there is.
                    let cut_off = last || available.len() as u64 - whole as u64 == open.left;
                    return if cut_off { Err(fail(CUT_OFF).into()) } else { Ok(used) };
                }
                self.open = None;
                continue;
            }
            let whole = if last { rest.len() } else { whole_families(rest) };
            let mut parser = ProtobufParser::new(&rest[..whole], self.options);
            parser.families = self.families;
            while let Some(item) = parser.next_item()? {
                each(item)?;
            }
            self.families = parser.families;
            used += whole;
            if whole > 0 {
                self.look_from = 0;
            }
            let rest = &rest[whole..];
            if rest.len() < CARRY_BYTES_MAX.max(self.look_from) {
                return Ok(used);
            }
            let fail = |reason| ParseError::new("metric family", self.families + 1, reason, b"");
            let Some((open, header, metadata)) = begin(rest).map_err(fail)? else {
                // With each piece that comes, the work would grow with the square of their number.
                self.look_from = 2 * rest.len();
                return Ok(used);
            };
            self.look_from = 0;
            self.families += 1;
            each(Item::Metadata(metadata))?;
            self.open = Some(open);
            used += header;
        }
    }
}

/// How many bytes whole families take. What is no family counts as one, so that the parser says what is wrong.
fn whole_families(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    loop {
        let mut fields = Fields::new(rest);
        let Ok(length) = fields.varint() else {
            let is_short = rest.len() <= 2 * LENGTH_BYTES_MAX;
            return if is_short { bytes.len() - rest.len() } else { bytes.len() };
        };
        if rest.len() - fields.rest().len() > LENGTH_BYTES_MAX {
            return bytes.len();
        }
        let message = usize::try_from(length).ok().and_then(|length| fields.rest().split_at_checked(length));
        match message {
            Some((_, after)) => rest = after,
            None => return bytes.len() - rest.len(),
        }
    }
}

/// How many bytes whole fields of a family's message take.
fn whole_fields(bytes: &[u8]) -> WireResult<usize> {
    let mut fields = Fields::new(bytes);
    loop {
        let whole = bytes.len() - fields.rest().len();
        match fields.next() {
            Ok(Some((1 | 3, _))) => {
                return Err("a large metric family has its name or type after its metrics");
            }
            Ok(Some(_)) => {}
            // Incomplete or malformed: the end of the message, or of the patience, tells.
            Ok(None) | Err(_) => return Ok(whole),
        }
    }
}

/// The family at the beginning of `bytes`, how many of them come before its first metric, and what is said of it. None: its first
/// metric has not come yet. What comes before that is carried like a metric, however long it is.
fn begin(bytes: &[u8]) -> WireResult<Option<(OpenFamily, usize, Metadata<'_>)>> {
    let mut fields = Fields::new(bytes);
    let length = fields.varint()?;
    let before = fields.rest().len();
    let (mut name, mut help, mut unit): (&[u8], &[u8], &[u8]) = (b"", b"", b"");
    let mut kind = 0;
    loop {
        let at = fields;
        let (number, field) = match fields.next() {
            Ok(Some(field)) => field,
            Ok(None) => return Ok(None),
            Err(TRUNCATED) => {
                // The first metric may be incomplete.
                let mut metric = at;
                if metric.varint() == Ok(u64::from(METRIC << 3 | 2)) {
                    fields = at;
                    break;
                }
                return Ok(None);
            }
            Err(reason) => return Err(reason),
        };
        match number {
            1 => name = field.bytes()?,
            2 => help = field.bytes()?,
            3 => kind = field.varint()?,
            METRIC => {
                fields = at;
                break;
            }
            5 => unit = field.bytes()?,
            _ => {}
        }
    }
    let (name, kind) = super::name_and_kind(name, kind)?;
    let left = length - (before - fields.rest().len()) as u64;
    let header = bytes.len() - fields.rest().len();
    let metadata = super::metadata_of(name, kind, help, unit)?;
    Ok(Some((OpenFamily { name: name.to_owned(), kind, left, checks_spans: true }, header, metadata)))
}
