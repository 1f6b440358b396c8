//! Staleness: which series get a marker, and which one: a float's, or for a series of native histograms a histogram's.

use std::collections::{HashMap, HashSet};

use promring_proto::histogram::NativeHistogram;
use promring_proto::remote_write::STALE_NAN_BITS;
use promring_proto::remote_write::histogram::push_content;

use super::{
    CUSTOM, DROPPED, Entry, FLOATS, HISTOGRAM, OF_LAST, SHARED, Scratch, Series, SeriesCache, TRACKED, Tally,
};
use crate::payload::{Outgoing, Value};

/// The markers of one moment.
struct Markers {
    time_ms: i64,
    /// Messages of histograms of whole numbers and of floats; made when the first one is wanted.
    messages: [Vec<u8>; 2],
}

impl Markers {
    fn at(time_ms: i64) -> Self {
        Self { time_ms, messages: Default::default() }
    }

    /// The marker for a series whose last sample these flags tell of.
    fn of<'m>(&'m mut self, series: Series<'m>, flags: u8) -> Outgoing<'m> {
        let mut outgoing = Outgoing::float(series, STALE_NAN_BITS, self.time_ms);
        if flags & HISTOGRAM != 0 {
            let is_float = flags & FLOATS != 0;
            let message = &mut self.messages[usize::from(is_float)];
            if message.is_empty() {
                push_content(&NativeHistogram::stale(is_float), self.time_ms, message);
            }
            let is_custom = flags & CUSTOM != 0;
            outgoing.value = Value::Histogram { content: message, is_custom, is_stale: true };
        }
        outgoing
    }
}

impl SeriesCache {
    /// Puts the entries into the order of this scrape, and marks and forgets those that it lacks.
    pub(super) fn settle(
        &mut self,
        time_ms: i64,
        scratch: &mut Scratch,
        sample: &mut impl FnMut(&Outgoing<'_>),
    ) {
        let mut markers = Markers::at(time_ms);
        for index in 0..self.entries.len() {
            let entry = self.entries[index];
            if entry.met == self.turn {
                continue;
            }
            let marked = self.live
                && entry.flags & (TRACKED | DROPPED) == TRACKED
                && self.ends_by(&entry, time_ms)
                // Another text may have led to the same labels this time, or to the same marker.
                && (entry.flags & SHARED == 0 || self.is_first_of_its_labels(index));
            if marked {
                sample(&markers.of(Series::new(&self.labels, self.sets(&entry)), entry.flags));
            }
            self.let_go(&entry, time_ms, marked);
            if !self.exemplars.is_empty() {
                self.exemplars.forget(entry.text_hash);
            }
        }
        let forgotten = self.entries.iter().filter(|entry| entry.met != self.turn);
        self.garbage += forgotten.map(|entry| entry.len as usize).sum::<usize>();
        if scratch.differs && scratch.reordered {
            self.entries = scratch.current.iter().map(|&at| self.entries[at as usize]).collect();
        } else {
            self.entries.truncate(if scratch.differs { scratch.current.len() } else { scratch.expected });
        }
        self.settled = self.entries.len();
        let scrape = self.scrape;
        self.shared.retain(|_, staged| *staged == scrape);
        self.compact();
    }

    /// What the scrape at hand had yielded when it failed: what it brought is rolled back, so nothing was added.
    #[must_use]
    pub fn failed_tally(&self) -> Tally {
        Tally { added: 0, ..self.tally }
    }

    /// The scrape failed: forgets what it brought, and hands a staleness marker to `sample` for every series that
    /// was live. What is known of them stays, for when the target is back.
    pub fn fail(&mut self, time_ms: i64, scratch: &mut Scratch, sample: impl FnMut(&Outgoing<'_>)) {
        self.roll_back(scratch);
        self.end(time_ms, sample);
    }

    /// The scrape succeeded with a body of no bytes at all: hands markers as [`SeriesCache::commit`] does. As in Prometheus, what
    /// is known of the series stays as after a failure, and none that comes back counts as added.
    pub fn commit_nothing(
        &mut self,
        time_ms: i64,
        scratch: &mut Scratch,
        mut sample: impl FnMut(&Outgoing<'_>),
    ) -> Tally {
        self.roll_back(scratch);
        if let Some(mut predecessor) = self.predecessor.take() {
            self.end_before(&mut predecessor, &HashSet::new(), time_ms, &mut sample);
        }
        self.mark_live(time_ms, None, &mut sample);
        self.tally
    }

    /// Forgets what the scrape at hand brought.
    pub fn roll_back(&mut self, scratch: &mut Scratch) {
        scratch.staged.clear();
        scratch.forget_tables();
        for entry in &self.entries[self.settled..] {
            self.labels.remove(self.sets(entry), self.classes);
            self.garbage += entry.len as usize;
        }
        for (index, flags) in scratch.said.drain(..).rev() {
            let entry = &mut self.entries[index as usize];
            entry.flags = entry.flags & !OF_LAST | flags & OF_LAST;
        }
        scratch.extras.release(self.labels.shared());
        self.entries.truncate(self.settled);
        self.labels.forget_unused();
        self.compact();
    }

    /// The target ends: hands a staleness marker to `sample` for every live series. A second call hands nothing.
    pub fn end(&mut self, time_ms: i64, mut sample: impl FnMut(&Outgoing<'_>)) {
        if let Some(mut predecessor) = self.predecessor.take() {
            predecessor.mark_live(time_ms, None, &mut sample);
        }
        self.mark_live(time_ms, None, &mut sample);
    }

    /// A sample that was refused for its time is no sign of life, as in Prometheus: hands a staleness marker to `sample` for every series
    /// that was live and brought nothing else, which has no other one until a sample of it is taken. One of the last one's time is: it may be the same.
    /// Gives the series that brought nothing else, by the hashes of their labels.
    pub(super) fn end_refused(
        &mut self,
        time_ms: i64,
        scratch: &Scratch,
        sample: &mut impl FnMut(&Outgoing<'_>),
    ) -> HashSet<u64> {
        if scratch.refused.is_empty() {
            return HashSet::new();
        }
        let labels = |at: &u32| Some((*at, self.labels_hash(&self.entries[*at as usize])?));
        let alive: HashSet<u64> = scratch.alive.iter().filter_map(labels).map(|(_, labels)| labels).collect();
        let mut refused: Vec<(u32, u64)> = scratch.refused.iter().filter_map(labels).collect();
        refused.retain(|(_, labels)| !alive.contains(labels));
        refused.iter().for_each(|(at, labels)| self.keep_last(*at as usize, *labels));
        let ended: HashSet<u64> = refused.into_iter().map(|(_, labels)| labels).collect();
        // What was known before the scrape.
        let before: HashMap<u32, u8> = scratch.said.iter().rev().copied().collect();
        let (mut markers, mut marked) = (Markers::at(time_ms), HashSet::new());
        for index in 0..self.entries.len() {
            let entry = self.entries[index];
            // Other texts of a series end with it, whether or not they came.
            if entry.flags & SHARED == 0 && !scratch.refused.contains(&(index as u32)) {
                continue;
            }
            let Some(labels) = self.labels_hash(&entry).filter(|labels| ended.contains(labels)) else {
                continue;
            };
            let flags = before.get(&(index as u32)).copied().unwrap_or(entry.flags);
            let was_live = self.live && index < self.settled && flags & (TRACKED | DROPPED) == TRACKED;
            if was_live && self.ends_by(&entry, time_ms) && marked.insert(labels) {
                sample(&markers.of(Series::new(&self.labels, self.sets(&entry)), flags));
                self.note_marker(&entry, time_ms);
            }
            self.entries[index].flags &= !TRACKED;
        }
        ended
    }

    /// What was known under other rules gives way: hands a staleness marker to `sample` for what does not go on. `ended`: series that do not,
    /// though there is a sample of them, by the hashes of their labels.
    pub(super) fn succeed(
        &mut self,
        time_ms: i64,
        ended: &HashSet<u64>,
        sample: &mut impl FnMut(&Outgoing<'_>),
    ) {
        let Some(mut predecessor) = self.predecessor.take() else { return };
        let goes_on = |entry: &&Entry| {
            ended.is_empty() || self.labels_hash(entry).is_none_or(|labels| !ended.contains(&labels))
        };
        let entries = self.entries.iter().filter(goes_on);
        let going_on: HashSet<u64> = entries.filter_map(|entry| self.identity(entry)).collect();
        self.end_before(&mut predecessor, &going_on, time_ms, sample);
    }

    fn end_before(
        &self,
        predecessor: &mut Self,
        going_on: &HashSet<u64>,
        time_ms: i64,
        sample: &mut impl FnMut(&Outgoing<'_>),
    ) {
        predecessor.mark_live(time_ms, Some(going_on), sample);
        // With fewer series about the scrape than before.
        let stale = std::iter::repeat(STALE_NAN_BITS);
        predecessor.report(stale, time_ms).skip(self.report.len()).for_each(|outgoing| sample(&outgoing));
    }

    /// Hands a staleness marker to `sample` for every live series that does not go on, by its identity.
    fn mark_live(
        &mut self,
        time_ms: i64,
        going_on: Option<&HashSet<u64>>,
        sample: &mut impl FnMut(&Outgoing<'_>),
    ) {
        if !std::mem::take(&mut self.live) {
            return;
        }
        let mut markers = Markers::at(time_ms);
        self.scrape = self.scrape.wrapping_add(1).max(1);
        for index in 0..self.settled {
            let entry = self.entries[index];
            // A series may stand under two texts: one marker is enough.
            if entry.flags & (TRACKED | DROPPED) == TRACKED
                && self.ends_by(&entry, time_ms)
                && (entry.flags & SHARED == 0 || self.is_first_of_its_labels(index))
                && !going_on.is_some_and(|set| self.goes_on(&entry, set))
            {
                sample(&markers.of(Series::new(&self.labels, self.sets(&entry)), entry.flags));
                self.note_marker(&entry, time_ms);
            }
        }
        self.order.sent_at(time_ms);
    }

    fn goes_on(&self, entry: &Entry, going_on: &HashSet<u64>) -> bool {
        self.identity(entry).is_some_and(|identity| going_on.contains(&identity))
    }
}
