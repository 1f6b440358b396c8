//! One target's series: what parsing and relabelling found out about each, kept from scrape to scrape.
//!
//! A series is known by the hash of its text in the body. Entries stand in the order of the last scrape, and the text stands in
//! the same place in nearly every scrape, so the entry after the last one is tried first; a table by hash is made only
//! where that fails, and only for the rest of the scrape. A steady scrape therefore takes no label set apart, relabels
//! nothing, sorts nothing and allocates nothing, and a dropped series costs one comparison.
//!
//! A scrape is staged first ([`SeriesCache::stage`]) and takes effect as a whole ([`SeriesCache::commit`]) or not at
//! all ([`SeriesCache::fail`]). What is needed only meanwhile stands in [`Scratch`], which scrapes share.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use promring_model::hash::hash64;
use promring_proto::remote_write::STALE_NAN_BITS;

use crate::labelsets::{LabelSet, LabelSets, Shared};
use crate::parse::{Sample, is_well_formed};
use crate::rules::{Refusal, SeriesRules};

/// A sample that is ready to be encoded.
#[derive(Clone, Copy, Debug)]
struct Staged {
    entry: u32,
    /// The value's bits: they are moved, never computed on, so that a NaN keeps its payload.
    value_bits: u64,
    timestamp_ms: i64,
}

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
    #[must_use]
    pub fn class(&self, class: usize) -> Option<LabelSet<'s>> {
        self.sets.class(self.bytes, class)
    }
}

/// The entry's disappearance is to be marked: it came without a timestamp of its own.
const TRACKED: u16 = 1;
/// Metric relabelling drops the series.
const DROPPED: u16 = 2;
/// Another text leads, or led, to the same labels.
const SHARED: u16 = 4;

/// What is kept of a series: 24 bytes, and its label sets' in the arena.
#[derive(Clone, Copy, Debug)]
struct Entry {
    text_hash: u64,
    /// Where its label sets begin in the arena.
    at: u32,
    /// The scrape that it was last met in.
    met: u32,
    /// Bytes of its label sets.
    len: u16,
    flags: u16,
}

/// The series of one target.
#[derive(Debug)]
pub struct SeriesCache {
    labels: LabelSets,
    classes: usize,
    /// In the order of the last successful scrape; after them, while a scrape is staged, those that it brought.
    entries: Vec<Entry>,
    /// Label sets of the entries.
    arena: Vec<u8>,
    /// Bytes of the arena that no entry uses.
    garbage: usize,
    /// Entries of the last successful scrape.
    settled: usize,
    /// For label sets that several texts lead to: the scrape in which a sample of them was last staged.
    shared: HashMap<u64, u32, BuildHasherDefault<HashIsKey>>,
    /// For series whose last sample had a time of its own: that time, by the hash of their text.
    timed: HashMap<u64, i64, BuildHasherDefault<HashIsKey>>,
    scrape: u32,
    /// Whether the series are live: their last sample was no staleness marker.
    live: bool,
    tally: Tally,
    /// Label sets of the series about the scrape itself.
    report: Box<[Box<[u8]>]>,
    /// What was known under other rules, until the first scrape under these tells what is left of it.
    predecessor: Option<Box<SeriesCache>>,
}

/// What is needed while a scrape is staged.
#[derive(Debug, Default)]
pub struct Scratch {
    staged: Vec<Staged>,
    /// Entries in the order of this scrape, once it is another than the last one's.
    current: Vec<u32>,
    /// Whether every entry so far stood where it was expected.
    differs: bool,
    expected: usize,
    by_text: HashMap<u64, u32, BuildHasherDefault<HashIsKey>>,
    by_labels: HashMap<u64, u32, BuildHasherDefault<HashIsKey>>,
    new_bytes: Vec<u8>,
}

/// What promring writes about each scrape.
pub const REPORT_SERIES: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

/// Timestamps further in the future than this are left out, as Prometheus does.
const FUTURE_MS_MAX: i64 = 10 * 60 * 1_000;

/// An arena is rewritten when more of it than this is garbage, in bytes, and more than half of it.
const GARBAGE_BYTES_MIN: usize = 4 << 10;

/// Label sets of a series may take this many bytes: more cannot be, as labels and classes are limited.
const SETS_BYTES_MAX: usize = u16::MAX as usize;

impl SeriesCache {
    /// A cache that knows no series of the target with these rules yet.
    #[must_use]
    pub fn new(rules: &SeriesRules, shared: &Arc<Shared>) -> Self {
        let mut labels = LabelSets::new(shared, rules.base().iter());
        let mut report_series = |name: &&str| {
            let mut bytes = Vec::new();
            labels.add(&rules.report_series(name), &mut bytes);
            bytes.into_boxed_slice()
        };
        let report = REPORT_SERIES.iter().map(&mut report_series).collect();
        Self {
            labels,
            report,
            classes: rules.classes(),
            entries: Vec::new(),
            arena: Vec::new(),
            garbage: 0,
            settled: 0,
            shared: HashMap::default(),
            timed: HashMap::default(),
            scrape: 0,
            live: false,
            tally: Tally::default(),
            predecessor: None,
        }
    }

    /// The same for a target that had other rules before. Live series of `before` that the first successful scrape does not
    /// bring again get their marker then.
    #[must_use]
    pub fn succeeding(mut self, before: Self) -> Self {
        self.predecessor = before.live.then(|| Box::new(before));
        self
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

    /// A series about the scrape itself, by its place in [`REPORT_SERIES`].
    #[must_use]
    pub fn report_series(&self, place: usize) -> Series<'_> {
        Series::new(&self.labels, &self.report[place])
    }

    /// Begins a scrape.
    pub fn begin(&mut self, scratch: &mut Scratch) {
        // Zero means never.
        self.scrape = self.scrape.wrapping_add(1).max(1);
        self.tally = Tally::default();
        scratch.clear();
    }

    /// Takes one sample of the scrape at hand, whose time is `time_ms`.
    ///
    /// # Errors
    /// Where the series cannot be, which fails the whole scrape.
    pub fn stage(
        &mut self,
        sample: &Sample<'_>,
        time_ms: i64,
        rules: &SeriesRules,
        scratch: &mut Scratch,
    ) -> Result<(), Refusal> {
        self.tally.scraped += 1;
        let text_hash = sample.series.identity();
        let index = match self.entries.get(scratch.expected) {
            Some(entry) if entry.text_hash == text_hash && scratch.expected < self.settled => {
                scratch.expected
            }
            _ => self.find(sample, text_hash, rules, scratch).inspect_err(|refusal| {
                // What is malformed is no sample.
                let is_sample =
                    !matches!(refusal, Refusal::Malformed { reason, .. } if !is_well_formed(reason));
                self.tally.scraped -= u64::from(!is_sample);
            })?,
        };
        scratch.expected = index + 1;
        let entry = &mut self.entries[index];
        let first = entry.met != self.scrape;
        entry.met = self.scrape;
        if first && scratch.differs {
            scratch.current.push(index as u32);
        }
        if entry.flags & DROPPED != 0 {
            return Ok(());
        }
        let own_time = if rules.honor_timestamps { sample.timestamp_ms } else { None };
        let tracked = own_time.is_none() || rules.track_timestamps_staleness;
        entry.flags = if tracked { entry.flags | TRACKED } else { entry.flags & !TRACKED };
        self.tally.kept += 1;
        let timestamp_ms = own_time.unwrap_or(time_ms);
        if timestamp_ms.saturating_sub(time_ms) > FUTURE_MS_MAX {
            self.tally.out_of_bounds += 1;
            entry.flags &= !TRACKED;
            return Ok(());
        }
        let first = first && (entry.flags & SHARED == 0 || self.is_first_of_its_labels(index));
        if !first && own_time.is_none() {
            self.tally.duplicates += 1;
            return Ok(());
        }
        scratch.staged.push(Staged { entry: index as u32, value_bits: sample.value.to_bits(), timestamp_ms });
        Ok(())
    }

    /// The entry of a series that does not stand where it is expected.
    fn find(
        &mut self,
        sample: &Sample<'_>,
        text_hash: u64,
        rules: &SeriesRules,
        scratch: &mut Scratch,
    ) -> Result<usize, Refusal> {
        if !scratch.differs {
            scratch.differs = true;
            scratch.current.extend(0..scratch.expected as u32);
            scratch.by_text.extend((0..).zip(&self.entries).map(|(at, entry)| (entry.text_hash, at)));
        }
        if let Some(&index) = scratch.by_text.get(&text_hash) {
            return Ok(index as usize);
        }
        let series = rules.resolve(&sample.series)?;
        let (at, mut flags) = (self.arena.len() as u32, DROPPED);
        if let Some(sets) = series {
            scratch.new_bytes.clear();
            self.labels.add(&sets, &mut scratch.new_bytes);
            if scratch.new_bytes.len() > SETS_BYTES_MAX {
                self.labels.remove(&scratch.new_bytes, self.classes);
                return Err(Refusal::Limit(format!(
                    "the labels of a series are too many: {} bytes",
                    scratch.new_bytes.len()
                )));
            }
            self.arena.extend_from_slice(&scratch.new_bytes);
            self.tally.added += 1;
            flags = 0;
        }
        let index = self.entries.len();
        let len = (self.arena.len() - at as usize) as u16;
        self.entries.push(Entry { text_hash, at, met: 0, len, flags });
        scratch.by_text.insert(text_hash, index as u32);
        self.note_shared_labels(index, scratch);
        Ok(index)
    }

    /// Finds out whether another text leads to the labels of a new entry.
    fn note_shared_labels(&mut self, index: usize, scratch: &mut Scratch) {
        if scratch.by_labels.is_empty() {
            for (at, entry) in (0..).zip(&self.entries[..index]) {
                if let Some(hash) = self.labels_hash(entry) {
                    scratch.by_labels.insert(hash, at);
                }
            }
        }
        let Some(hash) = self.labels_hash(&self.entries[index]) else { return };
        if let Some(&other) = scratch.by_labels.get(&hash) {
            let other = &mut self.entries[other as usize];
            other.flags |= SHARED;
            // What the other text has already brought in this scrape counts.
            let staged = if other.met == self.scrape { self.scrape } else { 0 };
            self.entries[index].flags |= SHARED;
            self.shared.entry(hash).or_insert(staged);
        } else {
            scratch.by_labels.insert(hash, index as u32);
        }
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

    fn sets(&self, entry: &Entry) -> &[u8] {
        let at = entry.at as usize;
        &self.arena[at..at + entry.len as usize]
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
        mut sample: impl FnMut(Series<'_>, u64, i64),
    ) -> Tally {
        for staged in &scratch.staged {
            if (staged.timestamp_ms != time_ms || !self.timed.is_empty()) && !self.is_next(staged, time_ms) {
                self.tally.out_of_order += 1;
                continue;
            }
            let bytes = self.sets(&self.entries[staged.entry as usize]);
            sample(Series::new(&self.labels, bytes), staged.value_bits, staged.timestamp_ms);
        }
        if let Some(mut predecessor) = self.predecessor.take() {
            let going_on: HashSet<u64> =
                self.entries.iter().filter_map(|entry| self.identity(entry)).collect();
            predecessor.mark_live(time_ms, Some(&going_on), &mut sample);
        }
        let met_all = !scratch.differs && scratch.expected == self.settled;
        if !met_all {
            self.settle(time_ms, scratch, &mut sample);
        }
        self.live = true;
        self.tally
    }

    /// Whether a sample is newer than its series' last one, as far as that came with a time of its own; from now on it is
    /// the last one.
    fn is_next(&mut self, staged: &Staged, time_ms: i64) -> bool {
        let key = self.entries[staged.entry as usize].text_hash;
        match self.timed.get_mut(&key) {
            Some(last) if staged.timestamp_ms <= *last => return false,
            Some(last) => *last = staged.timestamp_ms,
            None if staged.timestamp_ms != time_ms => drop(self.timed.insert(key, staged.timestamp_ms)),
            None => {}
        }
        true
    }

    /// Whether a marker at `time_ms` would come after what was sent of a series.
    fn ends_by(&self, entry: &Entry, time_ms: i64) -> bool {
        self.timed.is_empty() || self.timed.get(&entry.text_hash).is_none_or(|last| *last < time_ms)
    }

    /// Puts the entries into the order of this scrape, and marks and forgets those that it lacks.
    fn settle(&mut self, time_ms: i64, scratch: &mut Scratch, sample: &mut impl FnMut(Series<'_>, u64, i64)) {
        for index in 0..self.entries.len() {
            let entry = self.entries[index];
            if entry.met == self.scrape {
                continue;
            }
            if self.live
                && entry.flags & (TRACKED | DROPPED) == TRACKED
                && self.ends_by(&entry, time_ms)
                // Another text may have led to the same labels this time, or to the same marker.
                && (entry.flags & SHARED == 0 || self.is_first_of_its_labels(index))
            {
                sample(Series::new(&self.labels, self.sets(&entry)), STALE_NAN_BITS, time_ms);
            }
            self.labels.remove(self.sets(&entry), self.classes);
            self.timed.remove(&entry.text_hash);
        }
        let forgotten = self.entries.iter().filter(|entry| entry.met != self.scrape);
        self.garbage += forgotten.map(|entry| entry.len as usize).sum::<usize>();
        if scratch.differs {
            self.entries = scratch.current.iter().map(|&at| self.entries[at as usize]).collect();
        } else {
            self.entries.truncate(scratch.expected);
        }
        self.settled = self.entries.len();
        let scrape = self.scrape;
        self.shared.retain(|_, staged| *staged == scrape);
        self.compact();
    }

    /// Rewrites the arena where more than half of it is garbage.
    fn compact(&mut self) {
        if self.garbage < GARBAGE_BYTES_MIN || self.garbage * 2 < self.arena.len() {
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

    /// What the scrape at hand had yielded when it failed: what it brought is rolled back, so nothing was added.
    #[must_use]
    pub fn failed_tally(&self) -> Tally {
        Tally { added: 0, ..self.tally }
    }

    /// The scrape failed: forgets what it brought, and hands a staleness marker to `sample` for every series that
    /// was live. What is known of them stays, for when the target is back.
    pub fn fail(&mut self, time_ms: i64, sample: impl FnMut(Series<'_>, u64, i64)) {
        for entry in &self.entries[self.settled..] {
            self.labels.remove(self.sets(entry), self.classes);
            self.garbage += entry.len as usize;
        }
        self.entries.truncate(self.settled);
        self.compact();
        self.end(time_ms, sample);
    }

    /// The target ends: hands a staleness marker to `sample` for every live series. A second call hands nothing.
    pub fn end(&mut self, time_ms: i64, mut sample: impl FnMut(Series<'_>, u64, i64)) {
        if let Some(mut predecessor) = self.predecessor.take() {
            predecessor.mark_live(time_ms, None, &mut sample);
        }
        self.mark_live(time_ms, None, &mut sample);
    }

    /// Hands a staleness marker to `sample` for every live series that does not go on, by its identity.
    fn mark_live(
        &mut self,
        time_ms: i64,
        going_on: Option<&HashSet<u64>>,
        sample: &mut impl FnMut(Series<'_>, u64, i64),
    ) {
        if !std::mem::take(&mut self.live) {
            return;
        }
        self.scrape = self.scrape.wrapping_add(1).max(1);
        for index in 0..self.settled {
            let entry = self.entries[index];
            // A series may stand under two texts: one marker is enough.
            if entry.flags & (TRACKED | DROPPED) == TRACKED
                && self.ends_by(&entry, time_ms)
                && (entry.flags & SHARED == 0 || self.is_first_of_its_labels(index))
                && !going_on
                    .is_some_and(|set| self.identity(&entry).is_some_and(|identity| set.contains(&identity)))
            {
                sample(Series::new(&self.labels, self.sets(&entry)), STALE_NAN_BITS, time_ms);
            }
        }
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
        let sets = self.entries.iter().map(|entry| self.sets(entry));
        for sets in sets.chain(self.report.iter().map(|sets| &**sets)) {
            self.labels.remove(sets, self.classes);
        }
    }
}

impl Scratch {
    fn clear(&mut self) {
        self.staged.clear();
        self.current.clear();
        self.by_text.clear();
        self.by_labels.clear();
        (self.differs, self.expected) = (false, 0);
    }

    /// Memory held, in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.staged.capacity() * size_of::<Staged>()
            + self.current.capacity() * 4
            + (self.by_text.capacity() + self.by_labels.capacity()) * 16
    }
}

/// The keys are hashes already.
#[derive(Debug, Default)]
struct HashIsKey(u64);

impl Hasher for HashIsKey {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only u64 keys are used; anything else still hashes well.
        self.0 = hash64(bytes);
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[cfg(test)]
#[path = "series_tests.rs"]
mod tests;
