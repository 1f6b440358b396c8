//! Label sets as references: what a series costs in memory, and how it becomes part of a request.
//!
//! The names of a label set, in order, are its **shape**; a few dozen shapes serve a whole target, and targets share
//! them. Labels that every series of a target has (its own, and the external ones) stand in the target's **base**. What is
//! left of a series are the numbers of its own values: about a dozen bytes instead of two hundred.
//!
//! A shape that no series has any more is forgotten ([`LabelSets::forget_unused`]), so that label names that change from
//! scrape to scrape take no more than those of the last one.
//!
//! A series has one label set for each class of destinations, or none where the class drops it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use hashbrown::HashTable;
use promring_model::labels::LabelsBuilder;
use promring_proto::pen::{Padded, Pen};
use promring_proto::remote_write::v1;
use promring_proto::varint::{self, push_varint};

use crate::families::FamilyLists;
use crate::symbols::{Reading, Symbol, Symbols};

/// Where the label of a shape comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Slot {
    /// The base has it, at this place.
    Base(u16),
    /// The series has a value of its own for this name.
    Own(Symbol),
}

/// The names of a label set.
#[derive(Debug)]
struct Shape {
    slots: Box<[Slot]>,
    /// No other shape of the process ever has it.
    id: u64,
    /// For remote write 1.0, the heads of the labels that are the series' own.
    heads: Box<[Padded]>,
    /// Keeps the names.
    shared: Arc<Shared>,
}

/// What all targets of a scraper share of their labels.
#[derive(Debug, Default)]
pub struct Shared {
    /// Names and values.
    pub symbols: Symbols,
    /// What targets say of their metric families.
    pub families: FamilyLists,
    shapes: Mutex<HashMap<Box<[Slot]>, Weak<Shape>>>,
    /// Memory of all shapes, in bytes, about.
    shape_bytes: AtomicUsize,
    /// For tables of the shapes that a target has.
    hasher: RandomState,
}

impl Shared {
    /// Memory held for names, values and shapes, in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.symbols.bytes() + self.shape_bytes.load(Ordering::Relaxed)
    }

    fn hash_of(&self, slots: &[Slot]) -> u64 {
        self.hasher.hash_one(slots)
    }

    /// The hash of the shape with this number, which has to be the one that it was put in with.
    fn hash_at(&self, shapes: &[Option<Arc<Shape>>], number: u32) -> u64 {
        let slots = shapes[number as usize].as_ref().map_or(&[][..], |shape| &shape.slots);
        self.hash_of(slots)
    }
}

/// A label of the base.
#[derive(Debug)]
struct BaseLabel {
    name: Symbol,
    value: Symbol,
    /// The whole label, encoded for remote write 1.0.
    v1: Box<[u8]>,
}

/// The label sets of one target.
#[derive(Debug)]
pub struct LabelSets {
    shared: Arc<Shared>,
    base: Box<[BaseLabel]>,
    /// No other base of the process ever has it.
    base_id: u64,
    /// By number; None where the number is free.
    shapes: Vec<Option<Arc<Shape>>>,
    /// What is known of each of them.
    uses: Vec<Use>,
    /// Numbers of shapes, by their slots.
    numbers: HashTable<u32>,
    /// Numbers without a shape.
    free: Vec<u32>,
    /// Some shape may be one that no label set has.
    has_unused: AtomicBool,
    /// The shape of the newest label set: the next one most often has the same.
    newest: usize,
    /// Numbers of a label set's values, while it is written down.
    values: Vec<Symbol>,
    /// What new strings and shapes took since this was asked for last.
    interned_bytes: usize,
}

/// How a target uses a shape.
#[derive(Debug)]
struct Use {
    /// Label sets may be recognised by their names alone.
    is_plain: bool,
    /// How many label sets have it.
    count: AtomicUsize,
}

/// What a shape takes in the tables of the process and of a target.
const SHAPE_ENTRIES_BYTES: usize = 64;

/// What a head takes beside its bytes: they are padded, in an allocation of their own.
const HEAD_BYTES: usize = size_of::<Padded>() + 32;

/// So many shapes are compared before a label set's names are looked up.
const COMPARED_SHAPES_MAX: usize = 16;

impl LabelSets {
    /// The label sets of a target whose series have these labels in common, sorted by name.
    #[must_use]
    pub fn new<'l>(shared: &Arc<Shared>, base: impl Iterator<Item = (&'l str, &'l str)>) -> Self {
        let label = |(name, value): (&'l str, &'l str)| {
            let mut symbols = Vec::with_capacity(2);
            shared.symbols.intern([name, value], &mut symbols);
            let mut v1 = Vec::new();
            v1::encode_labels([(name, value)], &mut v1);
            BaseLabel { name: symbols[0], value: symbols[1], v1: v1.into_boxed_slice() }
        };
        Self {
            shared: Arc::clone(shared),
            base: base.map(label).collect(),
            base_id: next_id(),
            shapes: Vec::new(),
            uses: Vec::new(),
            numbers: HashTable::new(),
            free: Vec::new(),
            has_unused: AtomicBool::new(false),
            newest: 0,
            values: Vec::new(),
            interned_bytes: 0,
        }
    }

    /// Writes down the label sets of a series, one a class; None for a class that drops it.
    pub fn add(&mut self, sets: &[Option<LabelsBuilder<'_>>], out: &mut Vec<u8>) {
        for set in sets {
            match set {
                None => out.push(0),
                Some(labels) => self.add_set(labels, out),
            }
        }
    }

    fn add_set(&mut self, labels: &LabelsBuilder<'_>, out: &mut Vec<u8>) {
        let Some(known) = self.known_shape(labels) else { return self.add_any(labels, out) };
        let slots = labels.iter().zip(self.shapes[known].iter().flat_map(|shape| &shape.slots));
        let own = slots.filter(|(_, slot)| slot.own().is_some()).map(|((_, value), _)| value);
        self.values.clear();
        self.interned_bytes += self.shared.symbols.intern(own, &mut self.values);
        self.newest = known;
        self.begin_use(known, out);
        self.values.iter().for_each(|value| push_varint(out, u64::from(*value)));
    }

    /// The shape of a label set, found by comparing names, which costs less than looking each of them up.
    fn known_shape(&self, labels: &LabelsBuilder<'_>) -> Option<usize> {
        let reading = self.reading();
        let fits = |at: &usize| {
            let Some(shape) = self.shape_at(*at).filter(|shape| shape.slots.len() == labels.len()) else {
                return false;
            };
            self.uses[*at].is_plain
                && labels.iter().zip(&shape.slots).all(|((name, value), slot)| match slot {
                    Slot::Own(own) => reading.text(*own) == name,
                    Slot::Base(place) => {
                        let label = &self.base[*place as usize];
                        reading.text(label.name) == name && reading.text(label.value) == value
                    }
                })
        };
        let others = (0..self.shapes.len().min(COMPARED_SHAPES_MAX)).filter(|at| *at != self.newest);
        std::iter::once(self.newest).chain(others).find(fits)
    }

    fn shape_at(&self, number: usize) -> Option<&Arc<Shape>> {
        self.shapes.get(number)?.as_ref()
    }

    /// Writes down that a label set has this shape.
    fn begin_use(&self, shape: usize, out: &mut Vec<u8>) {
        self.uses[shape].count.fetch_add(1, Ordering::Relaxed);
        push_varint(out, shape as u64 + 1);
    }

    /// Writes down a label set of any shape.
    fn add_any(&mut self, labels: &LabelsBuilder<'_>, out: &mut Vec<u8>) {
        let mut symbols = Vec::with_capacity(labels.len() * 2);
        let texts = labels.iter().flat_map(|(name, value)| [name, value]);
        self.interned_bytes += self.shared.symbols.intern(texts, &mut symbols);
        let mut slots = Vec::with_capacity(labels.len());
        let mut values = Vec::with_capacity(labels.len());
        let mut spare = Vec::new();
        for pair in symbols.chunks_exact(2) {
            let (name, value) = (pair[0], pair[1]);
            match self.base.iter().position(|label| (label.name, label.value) == (name, value)) {
                Some(place) => {
                    slots.push(Slot::Base(place as u16));
                    // The base holds both already.
                    spare.extend([name, value]);
                }
                None => {
                    slots.push(Slot::Own(name));
                    values.push(value);
                }
            }
        }
        let (shape, known) = self.shape(&slots);
        if known {
            // The shape holds its names already.
            spare.extend(slots.iter().filter_map(Slot::own));
        }
        self.shared.symbols.release(spare);
        self.newest = shape;
        self.begin_use(shape, out);
        for value in values {
            push_varint(out, u64::from(value));
        }
    }

    /// The number of the shape with these slots, and whether it was there before; if not, it takes over the references to
    /// its names.
    fn shape(&mut self, slots: &[Slot]) -> (usize, bool) {
        let hash = self.shared.hash_of(slots);
        let has_slots =
            |number: &u32| self.shape_at(*number as usize).is_some_and(|shape| *shape.slots == *slots);
        if let Some(number) = self.numbers.find(hash, has_slots) {
            return (*number as usize, true);
        }
        let mut shapes = self.shared.shapes.lock().unwrap_or_else(PoisonError::into_inner);
        let (shape, known) = match shapes.get(slots).and_then(Weak::upgrade) {
            Some(shape) => (shape, true),
            None => {
                let shape = Arc::new(Shape::new(slots, &self.shared));
                shapes.insert(slots.into(), Arc::downgrade(&shape));
                self.interned_bytes += shape.bytes();
                (shape, false)
            }
        };
        drop(shapes);
        // A value of its own for a name of the base may also be the base's: then it has another shape.
        let in_base = |own: Symbol| self.base.iter().any(|label| label.name == own);
        let is_plain = !slots.iter().filter_map(Slot::own).any(in_base);
        (self.give_number(shape, is_plain, hash), known)
    }

    fn give_number(&mut self, shape: Arc<Shape>, is_plain: bool, hash: u64) -> usize {
        let used = Use { is_plain, count: AtomicUsize::new(0) };
        let number = match self.free.pop().map(|number| number as usize) {
            Some(number) => {
                (self.shapes[number], self.uses[number]) = (Some(shape), used);
                number
            }
            None => {
                self.shapes.push(Some(shape));
                self.uses.push(used);
                self.shapes.len() - 1
            }
        };
        let Self { shapes, shared, numbers, .. } = self;
        numbers.insert_unique(hash, number as u32, |&number| shared.hash_at(shapes, number));
        number
    }

    /// Gives back what the label sets that begin with `sets` hold: nothing, where there are none.
    pub fn remove(&self, sets: &[u8], classes: usize) {
        let mut symbols = Vec::new();
        let mut rest = sets;
        for _ in 0..classes {
            if let Some((number, shape, after)) = self.read_shape(rest) {
                rest = after;
                for slot in &shape.slots {
                    if slot.own().is_some() {
                        symbols.push(read(&mut rest));
                    }
                }
                self.end_use(number);
            } else {
                rest = rest.get(1..).unwrap_or_default();
            }
        }
        self.shared.symbols.release(symbols);
    }

    fn end_use(&self, shape: usize) {
        if self.uses[shape].count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.has_unused.store(true, Ordering::Relaxed);
        }
    }

    /// Forgets the shapes that no label set has any more.
    pub fn forget_unused(&mut self) {
        if !std::mem::take(self.has_unused.get_mut()) {
            return;
        }
        let Self { shapes, uses, numbers, free, shared, .. } = self;
        numbers.retain(|number| {
            let is_used = *uses[*number as usize].count.get_mut() > 0;
            if !is_used {
                shapes[*number as usize] = None;
                free.push(*number);
            }
            is_used
        });
        // What has grown by a scrape with many shapes is given back with the last numbers.
        let end = shapes.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        if end <= shapes.len() / 2 {
            shapes.truncate(end);
            uses.truncate(end);
            free.retain(|number| (*number as usize) < end);
            shapes.shrink_to_fit();
            uses.shrink_to_fit();
            free.shrink_to_fit();
            numbers.shrink_to_fit(|&number| shared.hash_at(shapes, number));
        }
    }

    /// The label set of a class; None where the class drops the series.
    #[inline]
    #[must_use]
    pub fn class<'s>(&'s self, sets: &'s [u8], class: usize) -> Option<LabelSet<'s>> {
        let own = if class == 0 { sets } else { self.skip(sets, class)? };
        let (_, shape, values) = self.read_shape(own)?;
        Some(LabelSet { base: &self.base, base_id: self.base_id, shape, values })
    }

    /// What stands behind the label sets of so many classes.
    fn skip<'s>(&self, sets: &'s [u8], classes: usize) -> Option<&'s [u8]> {
        let mut rest = sets;
        for _ in 0..classes {
            match self.read_shape(rest) {
                Some((_, shape, after)) => {
                    rest = after;
                    for slot in &shape.slots {
                        if slot.own().is_some() {
                            read(&mut rest);
                        }
                    }
                }
                None => rest = rest.get(1..)?,
            }
        }
        Some(rest)
    }

    #[inline]
    fn read_shape<'s, 'b>(&'s self, sets: &'b [u8]) -> Option<(usize, &'s Shape, &'b [u8])> {
        let mut rest = sets;
        let number = (read(&mut rest) as usize).checked_sub(1)?;
        Some((number, self.shape_at(number)?, rest))
    }

    /// Opens the strings for reading.
    #[must_use]
    pub fn reading(&self) -> Reading<'_> {
        self.shared.symbols.reading()
    }

    /// What strings that nobody had before took, in bytes, since [`LabelSets::begin_count`].
    #[must_use]
    pub fn interned_bytes(&self) -> usize {
        self.interned_bytes
    }

    /// Begins to count new strings anew.
    pub fn begin_count(&mut self) {
        self.interned_bytes = 0;
    }

    /// What all targets share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for LabelSets {
    fn drop(&mut self) {
        self.shared.symbols.release(self.base.iter().flat_map(|label| [label.name, label.value]));
    }
}

impl Slot {
    fn own(&self) -> Option<Symbol> {
        match self {
            Self::Own(name) => Some(*name),
            Self::Base(_) => None,
        }
    }
}

impl Shape {
    fn new(slots: &[Slot], shared: &Arc<Shared>) -> Self {
        let reading = shared.symbols.reading();
        let head = |name| v1::label_head(reading.text(name));
        let heads = slots.iter().filter_map(Slot::own).map(head).collect();
        drop(reading);
        let shape = Self { slots: slots.into(), id: next_id(), heads, shared: Arc::clone(shared) };
        shared.shape_bytes.fetch_add(shape.bytes(), Ordering::Relaxed);
        shape
    }

    /// Memory that it takes, in bytes, about, with its entries in tables.
    fn bytes(&self) -> usize {
        let heads: usize = self.heads.iter().map(|head| head.len() + HEAD_BYTES).sum();
        size_of::<Self>() + 2 * size_of_val(&*self.slots) + heads + SHAPE_ENTRIES_BYTES
    }
}

impl Drop for Shape {
    fn drop(&mut self) {
        let mut shapes = self.shared.shapes.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have made the shape anew meanwhile.
        if shapes.get(&self.slots).is_some_and(|shape| shape.strong_count() == 0) {
            shapes.remove(&self.slots);
        }
        drop(shapes);
        self.shared.shape_bytes.fetch_sub(self.bytes(), Ordering::Relaxed);
        self.shared.symbols.release(self.slots.iter().filter_map(Slot::own));
    }
}

/// One label set of one series.
#[derive(Clone, Copy, Debug)]
pub struct LabelSet<'s> {
    base: &'s [BaseLabel],
    base_id: u64,
    shape: &'s Shape,
    /// Numbers of the series' own values, and whatever follows them.
    values: &'s [u8],
}

impl LabelSet<'_> {
    /// Writes the label fields of a remote write 1.0 `TimeSeries`. None: there is no room.
    #[inline(always)]
    pub fn write_v1(&self, symbols: &Reading<'_>, pen: &mut Pen<'_>) -> Option<()> {
        let (mut heads, mut values) = (self.shape.heads.iter(), self.values);
        for slot in &self.shape.slots {
            match slot {
                Slot::Base(place) => pen.bytes(&self.base[*place as usize].v1)?,
                Slot::Own(_) => {
                    // There is a head for each.
                    let Some(head) = heads.next() else { continue };
                    v1::put_label(head, symbols.text(read(&mut values)), pen)?;
                }
            }
        }
        Some(())
    }

    /// Hands the symbols to `each`: name, value, name, value, …
    pub fn for_each_symbol(&self, mut each: impl FnMut(Symbol)) {
        let mut values = self.values;
        for slot in &self.shape.slots {
            match slot {
                Slot::Base(place) => {
                    let label = &self.base[*place as usize];
                    each(label.name);
                    each(label.value);
                }
                Slot::Own(name) => {
                    each(*name);
                    each(read(&mut values));
                }
            }
        }
    }
}

/// References to symbols of one request that are the same in all label sets of one shape and base: all but those of the
/// series' own values. The next series most often has the same shape as the one before.
#[derive(Debug, Default)]
pub struct KnownRefs {
    /// Base and shape that they are of.
    of: Option<(u64, u64)>,
    /// Packed, as they stand before and after the own values.
    bytes: Padded,
    /// Where each own value belongs.
    places: Vec<usize>,
}

impl KnownRefs {
    /// Forgets what it knows: the request is another one.
    pub fn forget(&mut self) {
        self.of = None;
    }
}

impl LabelSet<'_> {
    /// Writes the packed references of a remote write 2.0 `TimeSeries`. `reference` gives a symbol's place in the request.
    /// None: there is no room.
    #[inline(always)]
    pub fn write_refs(
        &self,
        known: &mut KnownRefs,
        mut reference: impl FnMut(Symbol) -> u32,
        pen: &mut Pen<'_>,
    ) -> Option<()> {
        if known.of != Some((self.base_id, self.shape.id)) {
            self.learn_refs(known, &mut reference);
        }
        let (mut values, mut start) = (self.values, 0);
        for &place in &known.places {
            pen.part(&known.bytes, start..place)?;
            pen.varint(reference(read(&mut values)).into())?;
            start = place;
        }
        pen.part(&known.bytes, start..known.bytes.len())
    }

    fn learn_refs(&self, known: &mut KnownRefs, reference: &mut impl FnMut(Symbol) -> u32) {
        known.of = Some((self.base_id, self.shape.id));
        let KnownRefs { bytes, places, .. } = known;
        places.clear();
        bytes.fill(|bytes| {
            for slot in &self.shape.slots {
                match slot {
                    Slot::Base(place) => {
                        let label = &self.base[*place as usize];
                        push_varint(bytes, reference(label.name).into());
                        push_varint(bytes, reference(label.value).into());
                    }
                    Slot::Own(name) => {
                        push_varint(bytes, reference(*name).into());
                        places.push(bytes.len());
                    }
                }
            }
        });
    }
}

/// A number that was never given before.
fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Reads a number from the front; zero where there is none.
#[inline]
fn read(bytes: &mut &[u8]) -> Symbol {
    varint::take(bytes).unwrap_or_default() as Symbol
}

#[cfg(test)]
#[path = "labelsets_tests.rs"]
mod tests;
