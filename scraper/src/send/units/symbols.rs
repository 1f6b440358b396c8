//! The table of symbols of a remote write 2.0 request, and series that move from one table to another.

use std::collections::HashMap;

use bytes::Bytes;
use promring_proto::varint::push_varint;

use super::Undecodable;
use super::fields::{Field, Value, fields, push_bytes, take_varint};

/// Fields of `TimeSeries` and `Exemplar`.
pub(super) const LABELS_REFS: u64 = 1;
/// Field of `TimeSeries`.
pub(super) const EXEMPLARS: u64 = 4;
const METADATA: u64 = 5;

/// A request's table of symbols, as places in its decompressed bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Symbols {
    decoded: Bytes,
    places: Vec<(u32, u32)>,
}

impl Symbols {
    /// The symbols of a request, wherever in it they stand.
    pub(super) fn of(decoded: &Bytes) -> Result<Self, Undecodable> {
        let mut places = Vec::new();
        for field in fields(decoded) {
            let field = field?;
            if field.number == 4 {
                let place = |at: usize| u32::try_from(at).map_err(|_| Undecodable);
                places.push((place(field.end - field.content()?.len())?, place(field.end)?));
            }
        }
        Ok(Self { decoded: decoded.clone(), places })
    }

    pub(super) fn get(&self, reference: u64) -> Option<&[u8]> {
        let (start, end) = *self.places.get(usize::try_from(reference).ok()?)?;
        self.decoded.get(start as usize..end as usize)
    }

    /// Whether every reference of a series means something, so that no one need ask later.
    pub(super) fn check(&self, series: &[u8]) -> Result<(), Undecodable> {
        self.check_labels(series)?;
        for field in fields(series) {
            let field = field?;
            match field.number {
                EXEMPLARS => self.check_labels(field.content()?)?,
                METADATA => {
                    for inner in fields(field.content()?) {
                        let inner = inner?;
                        if is_metadata_ref(&inner) {
                            self.get(inner.varint()).ok_or(Undecodable)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_labels(&self, message: &[u8]) -> Result<(), Undecodable> {
        let mut refs = 0_usize;
        for reference in label_refs(message) {
            self.get(reference?).ok_or(Undecodable)?;
            refs += 1;
        }
        // Names and values in turn.
        if refs.is_multiple_of(2) { Ok(()) } else { Err(Undecodable) }
    }
}

/// The references to labels in a `TimeSeries` or `Exemplar`.
pub(super) fn label_refs(message: &[u8]) -> impl Iterator<Item = Result<u64, Undecodable>> {
    let mut fields = fields(message);
    let mut packed: &[u8] = &[];
    std::iter::from_fn(move || {
        loop {
            if !packed.is_empty() {
                let reference = take_varint(&mut packed).ok_or(Undecodable);
                if reference.is_err() {
                    packed = &[];
                }
                return Some(reference);
            }
            let field = match fields.next()? {
                Ok(field) => field,
                Err(error) => return Some(Err(error)),
            };
            if field.number == LABELS_REFS {
                match field.value {
                    Value::Bytes(content) => packed = content,
                    // A repeated number may stand alone as well.
                    Value::Varint(reference) => return Some(Ok(reference)),
                    Value::Fixed => return Some(Err(Undecodable)),
                }
            }
        }
    })
}

fn is_metadata_ref(field: &Field<'_>) -> bool {
    // Metadata.help_ref and .unit_ref.
    field.number == 3 || field.number == 4
}

/// Puts series, each a field of a request with that request's table, together to one request with one table, which has
/// what they use and no more, in the order of its first use.
pub(super) fn put_together<'u>(units: impl Iterator<Item = (&'u [u8], &'u Symbols)>, out: &mut Vec<u8>) {
    let mut table = Table::default();
    table.add(b"");
    let mut moved = Vec::new();
    let mut translation: Option<Translation<'u>> = None;
    for (bytes, symbols) in units {
        let translation = match &mut translation {
            Some(translation) if std::ptr::eq(translation.from, symbols) => translation,
            other => other.insert(Translation { from: symbols, known: vec![None; symbols.places.len()] }),
        };
        // It was checked when its request was taken apart.
        for field in fields(bytes).flatten() {
            move_series(field.content().unwrap_or_default(), translation, &mut table, &mut moved);
        }
    }
    out.extend_from_slice(&table.encoded);
    out.extend_from_slice(&moved);
}

/// A table of symbols in the making.
#[derive(Default)]
struct Table<'u> {
    by_text: HashMap<&'u [u8], u32>,
    encoded: Vec<u8>,
}

impl<'u> Table<'u> {
    fn add(&mut self, text: &'u [u8]) -> u32 {
        let next = self.by_text.len() as u32;
        *self.by_text.entry(text).or_insert_with(|| {
            push_bytes(4, text, &mut self.encoded);
            next
        })
    }
}

/// What references to one table are in another.
struct Translation<'u> {
    from: &'u Symbols,
    known: Vec<Option<u32>>,
}

impl<'u> Translation<'u> {
    fn of(&mut self, reference: u64, table: &mut Table<'u>) -> u64 {
        let from = self.from;
        // What means nothing was refused by `Symbols::check`.
        let place = usize::try_from(reference).ok().and_then(|at| self.known.get_mut(at));
        let Some(known) = place else { return 0 };
        let translated = known.get_or_insert_with(|| table.add(from.get(reference).unwrap_or_default()));
        (*translated).into()
    }
}

fn move_series<'u>(
    series: &[u8],
    translation: &mut Translation<'u>,
    table: &mut Table<'u>,
    out: &mut Vec<u8>,
) {
    let mut moved = Vec::with_capacity(series.len() + 16);
    move_label_refs(series, translation, table, &mut moved);
    for field in fields(series).flatten() {
        let content = field.content().unwrap_or_default();
        match field.number {
            LABELS_REFS => {}
            EXEMPLARS => {
                let mut exemplar = Vec::with_capacity(content.len() + 8);
                move_label_refs(content, translation, table, &mut exemplar);
                for inner in fields(content).flatten().filter(|inner| inner.number != LABELS_REFS) {
                    exemplar.extend_from_slice(inner.bytes);
                }
                push_bytes(EXEMPLARS as u8, &exemplar, &mut moved);
            }
            METADATA => {
                let mut metadata = Vec::with_capacity(content.len() + 8);
                for inner in fields(content).flatten() {
                    if is_metadata_ref(&inner) {
                        push_varint(&mut metadata, inner.number << 3);
                        push_varint(&mut metadata, translation.of(inner.varint(), table));
                    } else {
                        metadata.extend_from_slice(inner.bytes);
                    }
                }
                push_bytes(METADATA as u8, &metadata, &mut moved);
            }
            _ => moved.extend_from_slice(field.bytes),
        }
    }
    push_bytes(5, &moved, out);
}

fn move_label_refs<'u>(
    message: &[u8],
    translation: &mut Translation<'u>,
    table: &mut Table<'u>,
    out: &mut Vec<u8>,
) {
    let mut packed = Vec::new();
    for reference in label_refs(message).flatten() {
        push_varint(&mut packed, translation.of(reference, table));
    }
    if !packed.is_empty() {
        push_bytes(LABELS_REFS as u8, &packed, out);
    }
}
