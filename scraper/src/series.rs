//! One target's series: what parsing and relabelling found out about each, kept from scrape to scrape.
//!
//! A series is known by the hash of its text in the body. The text stands in the same place in nearly every scrape,
//! so the entry that followed the last one last time is tried first; the hash map is for the rest. A steady scrape
//! therefore takes no label set apart, relabels nothing and allocates nothing, and a dropped series costs one
//! comparison.
//!
//! A scrape is staged first ([`SeriesCache::stage`]) and takes effect as a whole ([`SeriesCache::commit`]) or not at
//! all ([`SeriesCache::fail`]).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use promring_model::hash::hash64;
use promring_proto::remote_write::STALE_NAN_BITS;

use crate::encoded::Encoded;
use crate::parse::Sample;
use crate::rules::{Refusal, SeriesRules};

/// A sample that is ready to be encoded.
#[derive(Clone, Copy, Debug)]
pub struct Staged {
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
}

#[derive(Debug)]
struct Entry {
    text_hash: u64,
    /// Hash of the final labels; zero for a dropped series.
    labels_hash: u64,
    /// The entry that stands for these final labels: itself, unless two texts lead to the same labels.
    canonical: u32,
    /// How many other entries have this one as their canonical entry.
    aliases: u32,
    /// Where it stood in the last scrape.
    position: u32,
    /// The scrape that it was last met in.
    met: u32,
    /// The scrape in which a sample of these labels was last staged (kept on the canonical entry).
    staged: u32,
    /// Its disappearance is to be marked: it came without a timestamp of its own.
    tracked: bool,
    /// None: metric relabelling drops it.
    encoded: Option<Encoded>,
}

/// The series of one target.
#[derive(Debug, Default)]
pub struct SeriesCache {
    entries: Vec<Entry>,
    free: Vec<u32>,
    by_text: HashMap<u64, u32, BuildHasherDefault<HashIsKey>>,
    by_labels: HashMap<u64, u32, BuildHasherDefault<HashIsKey>>,
    /// Entries in the order of the last successful scrape.
    order: Vec<u32>,
    /// Entries in the order of the scrape at hand.
    current: Vec<u32>,
    staged: Vec<Staged>,
    created: Vec<u32>,
    scrape: u32,
    /// Whether the series of `order` are live: their last sample was no staleness marker.
    live: bool,
    expected: usize,
    tally: Tally,
    /// What was known under other rules, until the first scrape under these tells what is left of it.
    predecessor: Option<Box<SeriesCache>>,
}

/// Timestamps further in the future than this are left out, as Prometheus does.
const FUTURE_MS_MAX: i64 = 10 * 60 * 1_000;

impl SeriesCache {
    /// An empty cache for the same target under other rules. Live series of `before` that the first successful
    /// scrape does not bring again get their marker then.
    #[must_use]
    pub fn succeeding(before: Self) -> Self {
        Self { predecessor: before.live.then(|| Box::new(before)), ..Self::default() }
    }

    /// How many series are held, dropped ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Begins a scrape.
    pub fn begin(&mut self) {
        // Zero means never.
        self.scrape = self.scrape.wrapping_add(1).max(1);
        self.current.clear();
        self.staged.clear();
        self.created.clear();
        self.expected = 0;
        self.tally = Tally::default();
    }

    /// Takes one sample of the scrape at hand, whose time is `time_ms`.
    ///
    /// # Errors
    /// Where the series cannot be, which fails the whole scrape.
    pub fn stage(&mut self, sample: &Sample<'_>, time_ms: i64, rules: &SeriesRules) -> Result<(), Refusal> {
        self.tally.scraped += 1;
        let entry = self.find(sample, rules)?;
        let held = &mut self.entries[entry as usize];
        if held.met != self.scrape {
            held.met = self.scrape;
            self.current.push(entry);
        }
        if held.encoded.is_none() {
            return Ok(());
        }
        let own_time = if rules.honor_timestamps { sample.timestamp_ms } else { None };
        held.tracked = own_time.is_none() || rules.track_timestamps_staleness;
        self.tally.kept += 1;
        let timestamp_ms = own_time.unwrap_or(time_ms);
        if timestamp_ms.saturating_sub(time_ms) > FUTURE_MS_MAX {
            self.tally.out_of_bounds += 1;
            return Ok(());
        }
        let canonical = held.canonical as usize;
        let first = self.entries[canonical].staged != self.scrape;
        self.entries[canonical].staged = self.scrape;
        if !first && own_time.is_none() {
            self.tally.duplicates += 1;
            return Ok(());
        }
        self.staged.push(Staged { entry, value_bits: sample.value.to_bits(), timestamp_ms });
        Ok(())
    }

    fn find(&mut self, sample: &Sample<'_>, rules: &SeriesRules) -> Result<u32, Refusal> {
        let text_hash = sample.series.identity();
        if let Some(&entry) = self.order.get(self.expected)
            && self.entries[entry as usize].text_hash == text_hash
        {
            self.expected += 1;
            return Ok(entry);
        }
        if let Some(&entry) = self.by_text.get(&text_hash) {
            self.expected = self.entries[entry as usize].position as usize + 1;
            return Ok(entry);
        }
        let series = rules.resolve(&sample.series)?;
        self.tally.added += u64::from(series.is_some());
        let (labels_hash, encoded) =
            series.map_or((0, None), |series| (series.labels_hash, Some(series.encoded)));
        let entry = self.free.pop().unwrap_or(self.entries.len() as u32);
        let canonical =
            if labels_hash == 0 { entry } else { *self.by_labels.entry(labels_hash).or_insert(entry) };
        if canonical != entry {
            self.entries[canonical as usize].aliases += 1;
        }
        let fresh = Entry {
            text_hash,
            labels_hash,
            canonical,
            aliases: 0,
            position: u32::MAX - 1,
            met: 0,
            staged: 0,
            tracked: false,
            encoded,
        };
        match self.entries.get_mut(entry as usize) {
            Some(slot) => *slot = fresh,
            None => self.entries.push(fresh),
        }
        self.by_text.insert(text_hash, entry);
        self.created.push(entry);
        Ok(entry)
    }

    /// What the scrape at hand has yielded so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The scrape succeeded: hands every staged sample to `sample`, and a staleness marker at `time_ms` for every
    /// series of the last scrape that this one lacks.
    pub fn commit(&mut self, time_ms: i64, mut sample: impl FnMut(&Encoded, u64, i64)) -> Tally {
        for staged in &self.staged {
            if let Some(encoded) = &self.entries[staged.entry as usize].encoded {
                sample(encoded, staged.value_bits, staged.timestamp_ms);
            }
        }
        if let Some(mut predecessor) = self.predecessor.take() {
            let goes_on = |labels_hash| self.by_labels.contains_key(&labels_hash);
            predecessor.mark_live(time_ms, goes_on, &mut sample);
        }
        let before = std::mem::take(&mut self.order);
        for &entry in &before {
            let held = &self.entries[entry as usize];
            if held.met == self.scrape {
                continue;
            }
            // Another text may have led to the same labels this time.
            let replaced = self.entries[held.canonical as usize].staged == self.scrape;
            if let Some(encoded) = &held.encoded
                && self.live
                && held.tracked
                && !replaced
            {
                sample(encoded, STALE_NAN_BITS, time_ms);
            }
            self.forget(entry);
        }
        self.order = before;
        std::mem::swap(&mut self.order, &mut self.current);
        for (position, &entry) in self.order.iter().enumerate() {
            self.entries[entry as usize].position = position as u32;
        }
        self.live = true;
        self.tally
    }

    /// What the scrape at hand had yielded when it failed: what it brought is rolled back, so nothing was added.
    #[must_use]
    pub fn failed_tally(&self) -> Tally {
        Tally { added: 0, ..self.tally }
    }

    /// The scrape failed: forgets what it brought, and hands a staleness marker to `sample` for every series that
    /// was live. What is known of them stays, for when the target is back.
    pub fn fail(&mut self, time_ms: i64, sample: impl FnMut(&Encoded, u64, i64)) {
        for entry in std::mem::take(&mut self.created) {
            self.forget(entry);
        }
        self.current.clear();
        self.staged.clear();
        self.end(time_ms, sample);
    }

    /// The target ends: hands a staleness marker to `sample` for every live series. A second call hands nothing.
    pub fn end(&mut self, time_ms: i64, mut sample: impl FnMut(&Encoded, u64, i64)) {
        if let Some(mut predecessor) = self.predecessor.take() {
            predecessor.mark_live(time_ms, |_| false, &mut sample);
        }
        self.mark_live(time_ms, |_| false, &mut sample);
    }

    /// Hands a staleness marker to `sample` for every live series whose labels do not go on.
    fn mark_live(
        &mut self,
        time_ms: i64,
        goes_on: impl Fn(u64) -> bool,
        sample: &mut impl FnMut(&Encoded, u64, i64),
    ) {
        if !std::mem::take(&mut self.live) {
            return;
        }
        // A series may have stood twice in the body, or under two texts: one marker is enough.
        self.scrape = self.scrape.wrapping_add(1).max(1);
        for &entry in &self.order {
            let held = &self.entries[entry as usize];
            let canonical = held.canonical as usize;
            if held.tracked && !goes_on(held.labels_hash) && self.entries[canonical].staged != self.scrape {
                self.entries[canonical].staged = self.scrape;
                if let Some(encoded) = &self.entries[entry as usize].encoded {
                    sample(encoded, STALE_NAN_BITS, time_ms);
                }
            }
        }
    }

    /// Frees an entry. Entries for which it stood get another one to stand for them.
    fn forget(&mut self, entry: u32) {
        let held = &mut self.entries[entry as usize];
        held.encoded = None;
        let (text_hash, labels_hash, canonical) = (held.text_hash, held.labels_hash, held.canonical);
        let (aliases, staged) = (std::mem::take(&mut held.aliases), held.staged);
        held.labels_hash = 0;
        self.by_text.remove(&text_hash);
        self.free.push(entry);
        if canonical != entry {
            self.entries[canonical as usize].aliases -= 1;
        } else if labels_hash != 0 {
            self.by_labels.remove(&labels_hash);
            if aliases > 0 {
                self.inherit(entry, labels_hash, aliases, staged);
            }
        }
    }

    /// Two texts that lead to the same labels are rare, so looking at every entry for them is cheap enough.
    fn inherit(&mut self, entry: u32, labels_hash: u64, aliases: u32, staged: u32) {
        let is_alias = |other: &Entry| other.labels_hash == labels_hash && other.canonical == entry;
        let Some(heir) = self.entries.iter().position(is_alias) else { return };
        for other in self.entries.iter_mut().filter(|other| is_alias(other)) {
            other.canonical = heir as u32;
        }
        self.entries[heir].aliases = aliases - 1;
        self.entries[heir].staged = staged;
        self.by_labels.insert(labels_hash, heir as u32);
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
