//! One target's series: what parsing and relabelling found out about each, kept from scrape to scrape.
//!
//! A series is known by the hash of its text in the body. Entries stand in the order of the last scrape, and the text stands in
//! the same place in nearly every scrape, so the entry after the last one is tried first; a table by hash is made only
//! where that fails, and only for the rest of the scrape. A steady scrape therefore takes no label set apart, relabels
//! nothing, sorts nothing and allocates nothing, and a dropped series costs one comparison.
//!
//! A scrape is staged first ([`SeriesCache::stage`]) and takes effect as a whole ([`SeriesCache::commit`]) or not at
//! all ([`SeriesCache::fail`]). What is needed only meanwhile stands in [`Scratch`], which scrapes share.

mod handed;
mod order;
pub mod report;
mod scratch;
mod stale;
mod with_extras;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use promring_model::hash::hash64;
use promring_model::labels::METRIC_NAME;
use promring_proto::varint::{self, push_varint};

use crate::families::Families;
use crate::labelsets::{LabelSet, LabelSets, Shared};
use crate::parse::{Expected, Metadata, Sample, SeriesText, is_well_formed};
use crate::payload::{Exemplars, LastExemplars, Outgoing, Value};
use crate::rules::{Refusal, SeriesRules, Sets};
pub(crate) use handed::HandedSeries;
use order::Order;
use report::REPORT_SERIES;
use scratch::Staged;
pub use scratch::{HashIsKey, Scratch};

/// What a scrape yielded, for the report series and the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Samples in the body.
    pub scraped: u64,
    /// Samples that metric relabelling kept.
    pub kept: u64,
    /// Series that the cache did not hold before.
    pub added: u64,
    /// Second samples of a series, which were left out.
    pub duplicates: u64,
    /// Samples too far in the future, which were left out.
    pub out_of_bounds: u64,
    /// Samples that are not newer than the last one of their series, which were left out when the scrape took effect.
    pub out_of_order: u64,
    /// Native histograms among the samples that were kept.
    pub histograms: u64,
    /// Exemplars that came before the last one of their series, which were left out.
    pub exemplars_out_of_order: u64,
}

impl Tally {
    /// Samples that count against sample_limit.
    #[must_use]
    pub fn to_store(&self) -> u64 {
        self.kept - self.duplicates
    }
}

/// A label set for each class of destinations, as `SeriesCache` hands them out.
#[derive(Clone, Copy, Debug)]
pub struct Series<'s> {
    sets: &'s LabelSets,
    bytes: &'s [u8],
}

impl<'s> Series<'s> {
    /// The series of these label sets.
    #[must_use]
    pub fn new(sets: &'s LabelSets, bytes: &'s [u8]) -> Self {
        Self { sets, bytes }
    }

    /// The label set of a class; None where the class drops the series.
    #[inline]
    #[must_use]
    pub fn class(&self, class: usize) -> Option<LabelSet<'s>> {
        self.sets.class(self.bytes, class)
    }
}

/// The entry's disappearance is to be marked: it came without a timestamp of its own.
const TRACKED: u8 = 1;
/// Metric relabelling drops the series.
const DROPPED: u8 = 2;
/// Another text leads, or led, to the same labels.
const SHARED: u8 = 4;
/// The last sample was a native histogram.
const HISTOGRAM: u8 = 8;
/// It was one of floats.
const FLOATS: u8 = 16;
/// It had bounds of its own.
const CUSTOM: u8 = 32;
/// Something of it was sent at the time of a scrape.
const SENT: u8 = 64;
/// Its last sample had a time of its own, which `Order` knows.
const TIMED: u8 = 128;
/// All that a sample says anew.
const OF_LAST: u8 = TRACKED | HISTOGRAM | FLOATS | CUSTOM;

/// What is kept of a series: 16 bytes, and in the arena how long its text is, the number of its metric family and its label
/// sets.
#[derive(Clone, Copy, Debug)]
struct Entry {
    text_hash: u64,
    /// Where that begins in the arena.
    at: u32,
    /// Bytes of it.
    len: u16,
    /// The turn that it was last met in; 0: in none of the last ones.
    met: u8,
    flags: u8,
}

/// The series of one target.
#[derive(Debug)]
pub struct SeriesCache {
    labels: LabelSets,
    classes: usize,
    /// In the order of the last successful scrape; after them, while a scrape is staged, those that it brought.
    entries: Vec<Entry>,
    /// Of the entries, lengths of their texts, numbers of families (0: none) and label sets.
    arena: Vec<u8>,
    families: Families,
    exemplars: LastExemplars,
    /// Bytes of the arena that no entry uses.
    garbage: usize,
    /// Entries of the last successful scrape.
    settled: usize,
    /// For label sets that several texts lead to: the scrape in which a sample of them was last staged.
    shared: HashMap<u64, u32, BuildHasherDefault<HashIsKey>>,
    order: Order,
    scrape: u32,
    /// Counts scrapes as far as a byte does, from 1; when it begins anew, no entry knows an older one.
    turn: u8,
    /// Whether the series are live: their last sample was no staleness marker.
    live: bool,
    tally: Tally,
    /// Label sets of the series about the scrape itself.
    report: Box<[Box<[u8]>]>,
    /// What was known under other rules, until the first scrape under these tells what is left of it.
    predecessor: Option<Box<SeriesCache>>,
}

/// Timestamps further in the future than this are left out, as Prometheus does.
const FUTURE_MS_MAX: i64 = 10 * 60 * 1_000;

/// An arena is rewritten when more of it than this is garbage, in bytes, and more than a third of it: what replaces a whole body
/// may have longer numbers than that had.
const GARBAGE_BYTES_MIN: usize = 4 << 10;

/// Label sets of a series may take this many bytes: more cannot be, as labels and classes are limited.
const SETS_BYTES_MAX: usize = u16::MAX as usize;

impl SeriesCache {
    /// A cache that knows no series of the target with these rules yet.
    #[must_use]
    pub fn new(rules: &SeriesRules, shared: &Arc<Shared>) -> Self {
        let mut labels = LabelSets::new(shared, rules.base().iter());
        let mut report_series = |report: &report::ReportSeries| {
            let mut bytes = Vec::new();
            labels.add(&rules.report_series(report.name), &mut bytes);
            bytes.into_boxed_slice()
        };
        let report = REPORT_SERIES.iter().take(rules.report_series).map(&mut report_series).collect();
        Self {
            families: Families::new(shared),
            exemplars: LastExemplars::default(),
            labels,
            report,
            classes: rules.classes(),
            entries: Vec::new(),
            arena: Vec::new(),
            garbage: 0,
            settled: 0,
            shared: HashMap::default(),
            order: Order::default(),
            scrape: 0,
            turn: 0,
            live: false,
            tally: Tally::default(),
            predecessor: None,
        }
    }

    /// The target had other rules before: live series of `before` that the first successful scrape does not bring again get
    /// their marker then.
    pub fn supersede(&mut self, before: Self) {
        self.predecessor = before.live.then(|| Box::new(before));
    }

    /// How many series are held, dropped ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.settled
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.settled == 0
    }

    /// The series about the scrape itself, in the order of [`REPORT_SERIES`], each with this value.
    pub fn report(
        &self,
        values: impl IntoIterator<Item = u64>,
        timestamp_ms: i64,
    ) -> impl Iterator<Item = Outgoing<'_>> {
        // Their families have the numbers from 1.
        (1..).zip(&self.report).zip(values).map(move |((number, bytes), value_bits)| Outgoing {
            family: self.families.get(number),
            ..Outgoing::float(Series::new(&self.labels, bytes), value_bits, timestamp_ms)
        })
    }

    /// Begins a scrape.
    pub fn begin(&mut self, scratch: &mut Scratch) {
        // Zero means never.
        self.scrape = self.scrape.wrapping_add(1).max(1);
        self.turn = self.turn.wrapping_add(1);
        if self.turn == 0 {
            self.entries.iter_mut().for_each(|entry| entry.met = 0);
            self.turn = 1;
        }
        self.tally = Tally::default();
        self.labels.begin_count();
        self.exemplars.begin();
        scratch.clear();
    }

    /// Takes in what the body says of a metric family.
    pub fn describe(&mut self, metadata: &Metadata<'_>, scratch: &mut Scratch) {
        self.families.describe(metadata, &mut scratch.family);
    }

    /// Takes one sample of the scrape at hand, whose time is `time_ms`.
    ///
    /// # Errors
    /// Where the series cannot be, which fails the whole scrape.
    #[inline]
    pub fn stage(
        &mut self,
        sample: &Sample<'_>,
        time_ms: i64,
        rules: &SeriesRules,
        scratch: &mut Scratch,
    ) -> Result<(), Refusal> {
        let Some(met) = self.meet(&sample.series, sample.timestamp_ms, 0, time_ms, rules, scratch)? else {
            return Ok(());
        };
        let Met { index, timestamp_ms } = met;
        let mut extra = 0;
        if sample.start_ms != 0 || !sample.exemplars.is_empty() {
            extra = self.stage_extra(index, sample, timestamp_ms, rules, scratch);
        }
        let entry = index as u32;
        scratch.staged.push(Staged { entry, extra, value_bits: sample.value.to_bits(), timestamp_ms });
        Ok(())
    }

    /// The series that the next line of text most likely has.
    #[inline]
    #[must_use]
    pub fn expected(&self, scratch: &Scratch) -> Option<Expected> {
        // Where something new is said of a family, the series must be seen.
        if scratch.expected >= self.settled || scratch.family.unsettled {
            return None;
        }
        let entry = &self.entries[scratch.expected];
        Expected::new(split(self.bytes(entry)).line_bytes, entry.text_hash)
    }

    /// Takes one sample of the series that is expected: what [`SeriesCache::stage`] does with it.
    #[inline]
    pub fn stage_expected(
        &mut self,
        value: f64,
        own_time: Option<i64>,
        time_ms: i64,
        rules: &SeriesRules,
        scratch: &mut Scratch,
    ) {
        self.tally.scraped += 1;
        if let Some(met) = self.note(scratch.expected, own_time, 0, time_ms, rules, scratch) {
            let Met { index, timestamp_ms } = met;
            let (entry, value_bits) = (index as u32, value.to_bits());
            scratch.staged.push(Staged { entry, extra: 0, value_bits, timestamp_ms });
        }
    }

    /// Finds the series of a sample of type `kind`, which is noted. None: the sample is left out.
    #[inline]
    fn meet(
        &mut self,
        series: &SeriesText<'_>,
        own_time: Option<i64>,
        kind: u8,
        time_ms: i64,
        rules: &SeriesRules,
        scratch: &mut Scratch,
    ) -> Result<Option<Met>, Refusal> {
        self.tally.scraped += 1;
        let text_hash = series.identity();
        let index = match self.entries.get(scratch.expected) {
            Some(entry) if entry.text_hash == text_hash && scratch.expected < self.settled => {
                scratch.expected
            }
            _ => self.find(series, text_hash, rules, scratch).inspect_err(|refusal| {
                // What is malformed is no sample.
                let is_sample =
                    !matches!(refusal, Refusal::Malformed { reason, .. } if !is_well_formed(reason));
                self.tally.scraped -= u64::from(!is_sample);
            })?,
        };
        if scratch.family.unsettled && index < self.settled {
            self.settle_family(index, series, scratch);
        }
        Ok(self.note(index, own_time, kind, time_ms, rules, scratch))
    }

    /// Notes a sample of a series. None: it is left out.
    #[inline]
    fn note(
        &mut self,
        index: usize,
        own_time: Option<i64>,
        kind: u8,
        time_ms: i64,
        rules: &SeriesRules,
        scratch: &mut Scratch,
    ) -> Option<Met> {
        scratch.expected = index + 1;
        let entry = &mut self.entries[index];
        let first = entry.met != self.turn;
        entry.met = self.turn;
        if first && scratch.differs {
            scratch.reordered |= index != scratch.current.len();
            scratch.current.push(index as u32);
        }
        if entry.flags & DROPPED != 0 {
            return None;
        }
        let own_time = if rules.honor_timestamps { own_time } else { None };
        let tracked = own_time.is_none() || rules.track_timestamps_staleness;
        self.tally.kept += 1;
        let timestamp_ms = own_time.unwrap_or(time_ms);
        if timestamp_ms.saturating_sub(time_ms) > FUTURE_MS_MAX {
            self.tally.out_of_bounds += 1;
            if first && !self.was_brought(index) {
                scratch.refused.insert(index as u32);
                self.say_anew(index, self.entries[index].flags & !TRACKED, scratch);
            }
            return None;
        }
        let flags = entry.flags;
        // As long as all before were refused, it is the first one that has a time of its own.
        let mut all_refused =
            || own_time.is_some() && !scratch.refused.is_empty() && scratch.refused.remove(&(index as u32));
        let first = (first || all_refused()) && (flags & SHARED == 0 || self.is_first_of_its_labels(index));
        if !first {
            if own_time.is_none() {
                self.tally.duplicates += 1;
                return None;
            }
            scratch.again.push(scratch.staged.len() as u32);
        }
        self.say_anew(index, flags & !OF_LAST | kind | if tracked { TRACKED } else { 0 }, scratch);
        Some(Met { index, timestamp_ms })
    }

    /// What a sample says of its series holds if the scrape succeeds.
    #[inline]
    fn say_anew(&mut self, index: usize, flags: u8, scratch: &mut Scratch) {
        let known = &mut self.entries[index].flags;
        if *known != flags {
            if index < self.settled {
                scratch.said.push((index as u32, *known));
            }
            *known = flags;
        }
    }

    /// The entry of a series that does not stand where it is expected.
    fn find(
        &mut self,
        series: &SeriesText<'_>,
        text_hash: u64,
        rules: &SeriesRules,
        scratch: &mut Scratch,
    ) -> Result<usize, Refusal> {
        if !scratch.differs {
            scratch.differs = true;
            (0..scratch.expected as u32).for_each(|at| scratch.current.push(at));
            let text_hash = |&at: &u32| self.entries[at as usize].text_hash;
            scratch.by_text.reserve(self.entries.len(), text_hash);
            for (at, entry) in (0..).zip(&self.entries) {
                scratch.by_text.insert_unique(entry.text_hash, at, text_hash);
            }
        }
        let is_same = |&at: &u32| self.entries[at as usize].text_hash == text_hash;
        if let Some(&index) = scratch.by_text.find(text_hash, is_same) {
            return Ok(index as usize);
        }
        let sets = rules.resolve(series, &mut scratch.spare)?;
        let (at, mut flags) = (self.arena.len() as u32, DROPPED);
        let interned_before = self.labels.interned_bytes();
        scratch.new_bytes.clear();
        let family = sets.as_ref().filter(|sets| self.is_of_family(scratch.family.number, sets));
        let family = family.map_or(0, |_| scratch.family.number);
        write_kept(series.line_bytes(), family, &mut scratch.new_bytes);
        if let Some(sets) = sets {
            let sets_at = scratch.new_bytes.len();
            self.labels.add(&sets, &mut scratch.new_bytes);
            if scratch.new_bytes.len() > SETS_BYTES_MAX {
                self.labels.remove(&scratch.new_bytes[sets_at..], self.classes);
                return Err(Refusal::Limit(format!(
                    "the labels of a series are too many: {} bytes",
                    scratch.new_bytes.len()
                )));
            }
            // As in Prometheus, which knows a text whatever its TYPE and its format.
            let is_known = |hash: u64| {
                scratch.by_text.find(hash, |&at| self.entries[at as usize].text_hash == hash).is_some()
            };
            self.tally.added += u64::from(!series.under_other_meanings().any(is_known));
            flags = 0;
            sets.into_iter().flatten().for_each(|set| scratch.spare.keep(set));
        }
        self.arena.extend_from_slice(&scratch.new_bytes);
        let index = self.entries.len();
        let len = (self.arena.len() - at as usize) as u16;
        self.entries.push(Entry { text_hash, at, met: 0, len, flags });
        scratch.by_text.insert_unique(text_hash, index as u32, |&at| self.entries[at as usize].text_hash);
        // Nobody else can have the labels where one of their strings is new.
        if scratch.has_labels || self.labels.interned_bytes() == interned_before {
            self.note_shared_labels(index, scratch);
        }
        Ok(index)
    }

    /// Whether a new series belongs to a family, by its name for any destination.
    fn is_of_family(&self, number: u32, sets: &Sets<'_>) -> bool {
        number != 0 && sets.iter().flatten().any(|set| self.families.holds(number, set.get(METRIC_NAME)))
    }

    /// What is said of a family is new: its series may be known already.
    #[cold]
    fn settle_family(&mut self, index: usize, series: &SeriesText<'_>, scratch: &mut Scratch) {
        let (entry, number) = (self.entries[index], scratch.family.number);
        let Kept { line_bytes, family: known, sets } = split(self.bytes(&entry));
        let Ok(pairs) = series.pairs() else { return };
        let name = pairs.iter().find(|(name, _)| name == METRIC_NAME).map_or("", |(_, name)| name);
        if entry.flags & DROPPED != 0 || known == number || !self.families.holds(number, name) {
            return;
        }
        scratch.new_bytes.clear();
        write_kept(line_bytes, number, &mut scratch.new_bytes);
        scratch.new_bytes.extend_from_slice(sets);
        let Ok(len) = u16::try_from(scratch.new_bytes.len()) else { return };
        self.garbage += entry.len as usize;
        self.entries[index] = Entry { at: self.arena.len() as u32, len, ..entry };
        self.arena.extend_from_slice(&scratch.new_bytes);
    }

    /// Finds out whether another text leads to the labels of a new entry.
    fn note_shared_labels(&mut self, index: usize, scratch: &mut Scratch) {
        let entry = &self.entries[index];
        let Some(hash) = self.labels_hash(entry) else { return };
        let hash_of = |&at: &u32| self.labels_hash(&self.entries[at as usize]).unwrap_or_default();
        if !std::mem::replace(&mut scratch.has_labels, true) {
            scratch.by_labels.reserve(index, hash_of);
            for at in 0..index as u32 {
                let entry = &self.entries[at as usize];
                if let Some(hash) = self.labels_hash(entry)
                    && scratch.by_labels.find(hash, |&known| self.has_labels_of(known, entry)).is_none()
                {
                    scratch.by_labels.insert_unique(hash, at, hash_of);
                }
            }
        }
        if let Some(&other) = scratch.by_labels.find(hash, |&known| self.has_labels_of(known, entry)) {
            let was_refused = scratch.refused.contains(&other);
            let other = other as usize;
            let flags = SHARED | if self.was_sent(other) { SENT } else { 0 };
            self.entries[index].flags |= flags;
            let other = &mut self.entries[other];
            let was_alone = other.flags & SHARED == 0;
            other.flags |= SHARED;
            // What the other text has already brought in this scrape counts, whatever was known of the labels before: as long as
            // it was the only one, nobody noted it.
            if was_alone && other.met == self.turn && !was_refused {
                self.shared.insert(hash, self.scrape);
            }
        } else {
            scratch.by_labels.insert_unique(hash, index as u32, hash_of);
        }
    }

    fn has_labels_of(&self, known: u32, entry: &Entry) -> bool {
        self.sets(&self.entries[known as usize]) == self.sets(entry)
    }

    /// Equal label sets are written as equal bytes. None where no class has any.
    fn labels_hash(&self, entry: &Entry) -> Option<u64> {
        let bytes = self.sets(entry);
        bytes.iter().any(|&byte| byte != 0).then(|| hash64(bytes))
    }

    fn is_first_of_its_labels(&mut self, index: usize) -> bool {
        let Some(hash) = self.labels_hash(&self.entries[index]) else { return true };
        self.shared.insert(hash, self.scrape) != Some(self.scrape)
    }

    /// Whether another text has brought a sample of the labels in this scrape.
    fn was_brought(&self, index: usize) -> bool {
        let entry = &self.entries[index];
        let known = |hash| self.shared.get(&hash) == Some(&self.scrape);
        entry.flags & SHARED != 0 && self.labels_hash(entry).is_some_and(known)
    }

    /// What [`split`] takes apart.
    #[inline]
    fn bytes(&self, entry: &Entry) -> &[u8] {
        let at = entry.at as usize;
        &self.arena[at..at + entry.len as usize]
    }

    #[inline]
    fn sets(&self, entry: &Entry) -> &[u8] {
        split(self.bytes(entry)).sets
    }

    /// What the scrape at hand has yielded so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The scrape succeeded: hands every staged sample to `sample`, and a staleness marker at `time_ms` for every
    /// series of the last scrape that this one lacks.
    pub fn commit(
        &mut self,
        time_ms: i64,
        scratch: &mut Scratch,
        mut sample: impl FnMut(&Outgoing<'_>),
    ) -> Tally {
        scratch.forget_tables();
        let mut again = scratch.again.iter();
        let mut next_again = again.next();
        for (at, staged) in (0..).zip(scratch.staged.iter()) {
            let is_again = next_again == Some(&at);
            let flags = self.entries[staged.entry as usize].flags & (TIMED | SENT | SHARED);
            if flags != SENT || staged.timestamp_ms != time_ms || is_again {
                if is_again {
                    next_again = again.next();
                }
                let order = self.take_in_order(staged, time_ms, is_again);
                if order == Ordering::Less {
                    if !is_again {
                        scratch.refused.insert(staged.entry);
                    }
                } else if (is_again || flags & SHARED != 0) && !scratch.refused.is_empty() {
                    scratch.alive.push(staged.entry);
                }
                if order != Ordering::Greater {
                    self.tally.out_of_order += 1;
                    continue;
                }
            }
            // What follows the label sets does no harm, and numbers are read faster where something follows them.
            let Kept { family, sets, .. } =
                split(&self.arena[self.entries[staged.entry as usize].at as usize..]);
            let mut outgoing = Outgoing {
                series: Series::new(&self.labels, sets),
                value: Value::Float(staged.value_bits),
                timestamp_ms: staged.timestamp_ms,
                start_ms: 0,
                exemplars: Exemplars::default(),
                family: self.families.get(family),
            };
            if staged.extra != 0 {
                scratch.extras.complete(staged.extra, &mut outgoing);
            }
            sample(&outgoing);
        }
        drop(again);
        scratch.staged.clear();
        scratch.extras.release(self.labels.shared());
        self.exemplars.commit();
        self.families.settle();
        let ended = self.end_refused(time_ms, scratch, &mut sample);
        self.succeed(time_ms, &ended, &mut sample);
        let met_all = !scratch.differs && scratch.expected == self.settled;
        if !met_all {
            self.settle(time_ms, scratch, &mut sample);
        }
        self.order.sent_at(time_ms);
        self.forget_ended(time_ms);
        self.labels.forget_unused();
        self.live = true;
        self.tally
    }

    /// Gives back what grew by doubling: what is scraped anew and anew has as many series each time.
    fn shrink(&mut self) {
        let is_wide = |len: usize, capacity: usize| capacity > len + len / 8;
        if is_wide(self.entries.len(), self.entries.capacity()) {
            self.entries.shrink_to_fit();
        }
        if is_wide(self.arena.len(), self.arena.capacity()) {
            self.arena.shrink_to_fit();
        }
    }

    /// Rewrites the arena where much of it is garbage.
    fn compact(&mut self) {
        self.shrink();
        if self.garbage < GARBAGE_BYTES_MIN || self.garbage * 3 < self.arena.len() {
            return;
        }
        let mut arena = Vec::with_capacity(self.arena.len() - self.garbage);
        for entry in &mut self.entries {
            let at = entry.at as usize;
            entry.at = arena.len() as u32;
            arena.extend_from_slice(&self.arena[at..at + entry.len as usize]);
        }
        (self.arena, self.garbage) = (arena, 0);
    }

    /// Memory held for series, in bytes, about, without the strings that they share.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
            + self.arena.capacity()
            + self.shared.capacity() * 20
            + self.order.memory()
    }

    /// What the strings take that the scrape at hand has brought into the world, in bytes, about.
    #[must_use]
    pub fn interned_bytes(&self) -> usize {
        self.labels.interned_bytes()
    }

    /// A hash of an entry's labels that is the same in every cache of the process; None where no class has any.
    fn identity(&self, entry: &Entry) -> Option<u64> {
        self.labels_hash(entry)?;
        let mut bytes = Vec::new();
        for class in 0..self.classes {
            bytes.push(class as u8);
            if let Some(set) = self.labels.class(self.sets(entry), class) {
                set.for_each_symbol(|symbol| bytes.extend_from_slice(&symbol.to_le_bytes()));
            }
        }
        Some(hash64(&bytes))
    }
}

impl Drop for SeriesCache {
    fn drop(&mut self) {
        let sets = self.entries.iter().map(|entry| self.sets(entry)).chain(self.order.held());
        for sets in sets.chain(self.report.iter().map(|sets| &**sets)) {
            self.labels.remove(sets, self.classes);
        }
    }
}

/// A series of the scrape at hand.
#[derive(Clone, Copy)]
struct Met {
    index: usize,
    timestamp_ms: i64,
}

/// What stands in the arena of one entry.
struct Kept<'s> {
    /// Bytes of its text where that can be expected in a line of text, otherwise 0.
    line_bytes: u16,
    /// The number of its family; 0: none.
    family: u32,
    sets: &'s [u8],
}

/// Writes what stands before the label sets.
fn write_kept(line_bytes: u16, family: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&line_bytes.to_le_bytes());
    push_varint(out, family.into());
}

#[inline]
fn split(bytes: &[u8]) -> Kept<'_> {
    let Some((line_bytes, rest)) = bytes.split_first_chunk() else {
        return Kept { line_bytes: 0, family: 0, sets: &[] };
    };
    let line_bytes = u16::from_le_bytes(*line_bytes);
    match rest.split_first() {
        // Nearly all targets have fewer families.
        Some((&family, sets)) if family < 0x80 => Kept { line_bytes, family: family.into(), sets },
        _ => {
            let mut rest = rest;
            let family = varint::take(&mut rest).unwrap_or_default() as u32;
            Kept { line_bytes, family, sets: rest }
        }
    }
}

#[cfg(test)]
#[path = "series_tests.rs"]
mod tests;
