//! The order of a series' samples: what is not after the last thing that was sent of it, sample or marker, is not sent.
//!
//! What has the time of its scrape is in order by itself, so one time is kept for all of it. A series whose last sample had
//! a time of its own has one of its own here, by its labels, as several texts may lead to them; and for some minutes after its
//! end, as times of their own lag behind the marker.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque, hash_map};
use std::hash::BuildHasherDefault;

use promring_model::hash::hash64;

use super::scratch::{HashIsKey, Staged};
use super::{Entry, SENT, SHARED, SeriesCache, TIMED};

/// How long the last time of a series that ended is known: as long as Prometheus looks for a series' last sample. Exporters
/// that tell times lag by less.
const ENDED_MS: i64 = 5 * 60 * 1_000;

/// So many such series are known however few the target has.
const ENDED_LEN: usize = 1_024;

/// When something was sent last.
#[derive(Debug)]
pub(super) struct Order {
    /// Of all that had the time of its scrape, markers included.
    newest_ms: i64,
    /// Of series whose last sample had a time of its own, by the hash of their labels.
    timed: HashMap<u64, Last, BuildHasherDefault<HashIsKey>>,
    /// Of these, those that ended, the longest ago first.
    ended: VecDeque<Ended>,
    /// What their label sets take.
    ended_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    time_ms: i64,
    /// When the series ended; [`i64::MIN`]: it has not.
    ended_ms: i64,
}

/// Holds the strings of a series' labels, by which it is known again.
#[derive(Debug)]
struct Ended {
    at_ms: i64,
    sets: Box<[u8]>,
}

impl Default for Order {
    fn default() -> Self {
        Self { newest_ms: i64::MIN, timed: HashMap::default(), ended: VecDeque::new(), ended_bytes: 0 }
    }
}

impl Order {
    /// Something was sent at the time of a scrape.
    pub(super) fn sent_at(&mut self, time_ms: i64) {
        self.newest_ms = self.newest_ms.max(time_ms);
    }

    /// Memory held, in bytes, about.
    pub(super) fn memory(&self) -> usize {
        self.timed.capacity() * (size_of::<(u64, Last)>() + 2)
            + self.ended.capacity() * size_of::<Ended>()
            + self.ended_bytes
    }

    /// Label sets that are held.
    pub(super) fn held(&self) -> impl Iterator<Item = &[u8]> {
        self.ended.iter().map(|ended| &*ended.sets)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.timed.is_empty() && self.ended.is_empty()
    }
}

impl SeriesCache {
    /// How a sample's time compares with that of the last thing that was sent of its series; one that is greater is the last one from now on.
    /// `again`: the scrape has brought one of the series before. What only has times of scrapes need not ask.
    pub(super) fn take_in_order(&mut self, staged: &Staged, time_ms: i64, again: bool) -> Ordering {
        let (index, sample_ms) = (staged.entry as usize, staged.timestamp_ms);
        let entry = self.entries[index];
        let is_own = sample_ms != time_ms || again;
        if !is_own && self.order.timed.is_empty() {
            self.entries[index].flags |= SENT;
            return Ordering::Greater;
        }
        let Some(key) = self.labels_hash(&entry) else { return Ordering::Greater };
        let otherwise = match again {
            true => time_ms,
            false if self.was_sent(index) => self.order.newest_ms,
            false => i64::MIN,
        };
        let flags = &mut self.entries[index].flags;
        match self.order.timed.entry(key) {
            hash_map::Entry::Occupied(known) if !is_own && known.get().time_ms < sample_ms => {
                known.remove();
                *flags = *flags & !TIMED | SENT;
                Ordering::Greater
            }
            hash_map::Entry::Vacant(_) if !is_own && otherwise < sample_ms => {
                *flags |= SENT;
                Ordering::Greater
            }
            known => {
                let last = known.or_insert(Last { time_ms: otherwise, ended_ms: i64::MIN });
                let order = sample_ms.cmp(&last.time_ms);
                *last = Last { time_ms: last.time_ms.max(sample_ms), ended_ms: i64::MIN };
                *flags |= TIMED;
                order
            }
        }
    }

    /// Nothing is sent of this series in this scrape, which others have the time of: what it had last is known apart from now on.
    pub(super) fn keep_last(&mut self, index: usize, labels: u64) {
        let time_ms = if self.was_sent(index) { self.order.newest_ms } else { i64::MIN };
        self.order.timed.entry(labels).or_insert(Last { time_ms, ended_ms: i64::MIN });
        self.entries[index].flags |= TIMED;
    }

    /// Whether something of a series was sent at the time of a scrape. Of texts that share it, any one may have brought it.
    pub(super) fn was_sent(&self, index: usize) -> bool {
        let flags = self.entries[index].flags;
        flags & SENT != 0 || flags & SHARED != 0 && index < self.settled
    }

    /// Whether a marker at `time_ms` would come after what was sent of a series.
    pub(super) fn ends_by(&self, entry: &Entry, time_ms: i64) -> bool {
        self.timed_key(entry).is_none_or(|key| self.order.timed[&key].time_ms < time_ms)
    }

    /// Where the last time of a series is kept.
    fn timed_key(&self, entry: &Entry) -> Option<u64> {
        if entry.flags & (TIMED | SHARED) == 0 || self.order.timed.is_empty() {
            return None;
        }
        self.labels_hash(entry).filter(|key| self.order.timed.contains_key(key))
    }

    /// A series that may go on was marked.
    pub(super) fn note_marker(&mut self, entry: &Entry, time_ms: i64) {
        if let Some(last) = self.timed_key(entry).and_then(|key| self.order.timed.get_mut(&key)) {
            last.time_ms = time_ms;
        }
    }

    /// A series is no more: gives its labels back, at once or, where it has a time, when that is forgotten.
    pub(super) fn let_go(&mut self, entry: &Entry, time_ms: i64, marked: bool) {
        // Another text of the series may go on, or may have ended in this scrape as well.
        let goes_on = entry.flags & SHARED != 0
            && !marked
            && self.labels_hash(entry).and_then(|key| self.shared.get(&key)) == Some(&self.scrape);
        let mut last = self.timed_key(entry).and_then(|key| self.order.timed.get_mut(&key));
        // Whether or not another text of it has ended before in this scrape.
        if let (true, Some(last)) = (marked, &mut last) {
            last.time_ms = time_ms;
        }
        let Some(last) = last.filter(|last| !goes_on && last.ended_ms == i64::MIN) else {
            self.labels.remove(self.sets(entry), self.classes);
            return;
        };
        last.ended_ms = time_ms;
        let sets: Box<[u8]> = self.sets(entry).into();
        self.order.ended_bytes += sets.len();
        self.order.ended.push_back(Ended { at_ms: time_ms, sets });
    }

    /// Forgets series that ended long ago, or before too many others.
    pub(super) fn forget_ended(&mut self, time_ms: i64) {
        let most = self.settled.max(ENDED_LEN);
        while let Some(first) = self.order.ended.front()
            && (first.at_ms <= time_ms - ENDED_MS || self.order.ended.len() > most)
            && let Some(Ended { at_ms, sets }) = self.order.ended.pop_front()
        {
            let key = hash64(&sets);
            if self.order.timed.get(&key).is_some_and(|last| last.ended_ms == at_ms) {
                self.order.timed.remove(&key);
            }
            self.order.ended_bytes -= sets.len();
            self.labels.remove(&sets, self.classes);
        }
        if self.order.ended.is_empty() && self.order.ended.capacity() > 0 {
            self.order.ended = VecDeque::new();
            self.order.timed.shrink_to_fit();
        }
    }
}
