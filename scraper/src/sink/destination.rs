//! One destination: its queue on disk, and the requests that are being filled for its lanes and fences.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use metrics::Counter;
use promring_model::config::RemoteWrite;
use promring_model::handover::MoveId;
use promring_model::target::TargetKey;

use super::batch::{Batch, Content};
use super::block::Blocks;
use super::fences::{Behind, Fences, WantedFence};
use super::{BATCH_AGE_MAX, Way};
use crate::filling::Filling;
use crate::labelsets::Shared;
use crate::news::News;
use crate::payload::{Outgoing, Value};
use crate::queue::{AppendError, Encoding, LaneId, Queue, QueueError, RecordMeta, SetKind};
use crate::send;
use crate::spread::Passed;
use crate::symbols::Reading;

/// One destination: its queue on disk, and the request that each lane of it is filling.
#[derive(Debug)]
pub struct Destination {
    /// Its configuration.
    pub config: Arc<RemoteWrite>,
    /// Its queue.
    pub queue: Arc<Queue>,
    pub(super) content: Content,
    /// Native histograms that its version of remote write cannot carry.
    dropped_custom: Counter,
    /// What is logged about them.
    not_carried: News,
    filling: Arc<Filling<Batch>>,
    fences: Arc<Fences>,
    /// What an earlier process has left in the queue; None: that could not be read yet.
    left: Arc<Option<Passed>>,
    /// What requests are compressed into.
    pub(super) blocks: Blocks,
}

/// Where a request becomes a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// A fence's set of lanes; None: the normal lanes.
    pub(super) set: Option<u32>,
    pub(super) lane: usize,
}

/// A place in the lanes of a queue that may hold samples of some keys: whatever stood before it is sent once all of these
/// records are.
pub(crate) type Barrier = Vec<(LaneId, u64)>;

impl Destination {
    /// A destination whose requests are all empty. Fences that an earlier process has left are kept.
    #[must_use]
    pub fn new(config: Arc<RemoteWrite>, queue: Arc<Queue>) -> Self {
        let filling = Arc::new(Filling::new(queue.lane_count()));
        let fences = Arc::new(Fences::of_earlier_process(&queue));
        let left = (!queue.is_unread()).then(|| Passed::new(std::iter::once(&queue)));
        Self::sharing(config, queue, filling, fences, Arc::new(left))
    }

    /// Whether nothing is in the queue that an earlier process has left.
    pub(super) fn is_past_earlier(&self) -> bool {
        self.left.as_ref().as_ref().is_some_and(Passed::is_past)
    }

    fn sharing(
        config: Arc<RemoteWrite>,
        queue: Arc<Queue>,
        filling: Arc<Filling<Batch>>,
        fences: Arc<Fences>,
        left: Arc<Option<Passed>>,
    ) -> Self {
        let dropped_custom = send::dropped_custom(&config);
        let not_carried = News::default();
        let (content, blocks) = (Content::of(&config), Blocks::default());
        Self { content, dropped_custom, not_carried, config, queue, filling, fences, left, blocks }
    }

    /// Whether a sample is sent there.
    #[inline]
    pub(super) fn takes(&self, sample: &Outgoing<'_>) -> bool {
        match sample.value {
            Value::Float(_) => true,
            Value::Histogram { is_custom, is_stale, .. } => self.takes_histogram(is_custom, is_stale),
        }
    }

    fn takes_histogram(&self, is_custom: bool, is_stale: bool) -> bool {
        let carried = !(is_custom && self.content.encoding == Encoding::V1);
        if self.config.send_native_histograms && !carried && !is_stale {
            self.dropped_custom.increment(1);
            if let Some(untold) = self.not_carried.tell(Instant::now()) {
                tracing::warn!(
                    destination = self.config.name,
                    untold,
                    "native histograms with bounds of their own are not queued: remote write 1.0 cannot carry them"
                );
            }
        }
        self.config.send_native_histograms && carried
    }

    /// The same destination under another configuration: queue and half-filled requests are shared, so that what is
    /// still being appended by the old one is not left behind.
    #[must_use]
    pub fn with_config(&self, config: Arc<RemoteWrite>) -> Self {
        let (queue, filling) = (Arc::clone(&self.queue), Arc::clone(&self.filling));
        Self::sharing(config, queue, filling, Arc::clone(&self.fences), Arc::clone(&self.left))
    }

    /// Puts every request that has waited long enough into the queue, and gives up fences that are open and empty.
    pub fn flush_aged(&self, labels: &Shared) {
        let age_max = self.config.queue.batch_send_deadline.min(BATCH_AGE_MAX);
        self.flush_if(labels, |batch| batch.since.is_some_and(|since| since.elapsed() >= age_max));
        self.fences.close_empty(&self.queue);
    }

    /// Puts every request into the queue, full or not.
    pub fn flush(&self, labels: &Shared) {
        self.flush_if(labels, |_| true);
    }

    fn flush_if(&self, labels: &Shared, due: impl Fn(&Batch) -> bool) {
        let cut = |filling: &Filling<Batch>, set: Option<u32>| {
            for lane in 0..filling.count() {
                // One at a time, so that nobody waits for long; a lane that is gone meanwhile was flushed then.
                for mut batch in filling.lock(|count| lane..(lane + 1).min(count)) {
                    if due(&batch) {
                        batch.cut(self, Place { set, lane }, &labels.symbols.reading(), &labels.symbols);
                    }
                }
            }
        };
        cut(&self.filling, None);
        self.fences.for_each(|set, filling| cut(filling, Some(set)));
    }

    /// From now on samples go to this many lanes. What was being filled goes to the old ones, which are sent before the
    /// new ones as far as they may hold the same series.
    ///
    /// # Errors
    /// Where the queue cannot have so many, or the disk takes no new directories; nothing has changed then.
    pub fn set_lanes(&self, lanes: usize, labels: &Shared) -> Result<(), QueueError> {
        if self.filling.count() == lanes {
            return Ok(());
        }
        self.filling.change(|batches| {
            for (lane, batch) in batches.iter_mut().enumerate() {
                let place = Place { set: None, lane };
                batch.cut(self, place, &labels.symbols.reading(), &labels.symbols);
            }
            self.queue.set_lanes(lanes)?;
            Ok(lanes)
        })
    }

    /// Has a fence for each of these moves, and opens all others. Gives those that it cannot have.
    pub(crate) fn keep_fences(&self, wanted: &BTreeMap<MoveId, WantedFence>) -> BTreeSet<MoveId> {
        self.fences.keep(wanted, &self.config.name, &self.queue)
    }

    /// How many fences there are.
    #[cfg(test)]
    pub(crate) fn fences(&self) -> usize {
        self.fences.count()
    }

    /// Puts into the queue what is being filled, and remembers how far the lanes are that may hold samples of these
    /// keys from before the T of the move by which they went; `of_keys`: their lanes, where not all may. What came here by a later
    /// move is of after it, and waits for whoever waits for this.
    pub(crate) fn barrier(
        &self,
        id: MoveId,
        keys: &BTreeSet<TargetKey>,
        of_keys: Option<&HashSet<u64>>,
        labels: &Shared,
    ) -> Barrier {
        self.flush(labels);
        let mut of_set: Option<(u32, bool, BTreeSet<usize>)> = None;
        self.queue.newest_records_where(|lane, kind, lanes| {
            let known = of_set.as_ref().is_some_and(|(set, ..)| *set == lane.set);
            if !known {
                let fenced = kind == SetKind::Fence && self.fences.may_hold(lane.set, keys, id);
                let of_keys = of_keys.filter(|_| kind == SetKind::Normal);
                let all = fenced || of_keys.is_none() && kind == SetKind::Normal;
                let numbers = of_keys.into_iter().flatten().map(|of_key| lane_of(*of_key, lanes));
                of_set = Some((lane.set, all, numbers.collect()));
            }
            of_set.as_ref().is_some_and(|(_, all, numbers)| *all || numbers.contains(&lane.index))
        })
    }

    /// Whether all that stood before a barrier is sent or dropped.
    pub(crate) fn is_past(&self, barrier: &Barrier) -> bool {
        barrier.iter().all(|(lane, sequence)| self.queue.is_past(*lane, *sequence))
    }

    pub(super) fn append(&self, place: Place, meta: RecordMeta, body: &[u8]) -> Result<(), AppendError> {
        match place.set {
            Some(set) => self.queue.append_to(set, place.lane, meta, body),
            None => self.queue.append(place.lane, meta, body),
        }
    }

    pub(super) fn open(&self, way: Way, class: usize) -> OpenLanes<'_> {
        loop {
            let behind = self.fences.way(way.key, way.fence, &self.queue);
            let filling = behind.as_ref().map_or(&*self.filling, |behind| behind.filling);
            let batches = filling.lock(|count| match way.spread {
                true => 0..count,
                false => lane_of(way.lane, count)..lane_of(way.lane, count) + 1,
            });
            // Held, so it is the same number as when they were chosen.
            let lane = lane_of(way.lane, filling.count());
            let (first, own) = if way.spread { (0, lane) } else { (lane, 0) };
            if behind.as_ref().is_none_or(|behind| behind.is_there()) {
                return OpenLanes { destination: self, class, behind, key: way.key, first, own, batches };
            }
            // Opened, emptied and given up since it was chosen.
        }
    }
}

/// The lanes of one target at one destination, open for its samples.
#[derive(Debug)]
pub(super) struct OpenLanes<'s> {
    pub(super) destination: &'s Destination,
    pub(super) class: usize,
    behind: Option<Behind<'s>>,
    key: TargetKey,
    /// The number of the first of them.
    first: usize,
    /// Which of them is that of the target's key.
    pub(super) own: usize,
    /// One, or all of the destination where the target is spread.
    pub(super) batches: Vec<MutexGuard<'s, Batch>>,
}

impl OpenLanes<'_> {
    /// Where the request of one of them goes.
    pub(super) fn place(&self, at: usize) -> Place {
        Place { set: self.behind.as_ref().map(|behind| behind.set), lane: self.first + at }
    }

    /// Puts what has gathered into the queue.
    pub(super) fn flush(&mut self, symbols: &Reading<'_>, labels: &Shared) {
        for at in 0..self.batches.len() {
            let place = self.place(at);
            if let Some(batch) = self.batches.get_mut(at) {
                batch.cut(self.destination, place, symbols, &labels.symbols);
            }
        }
    }

    /// Nothing more is pushed for now. Behind a fence that has opened, what was pushed goes into the queue, so that the
    /// next samples can go the normal way once it is sent.
    pub(super) fn settle(&mut self, symbols: &Reading<'_>, labels: &Shared) {
        if self.behind.as_ref().is_some_and(|behind| behind.is_open()) {
            self.flush(symbols, labels);
            let lanes = self.first..self.first + self.batches.len();
            if let Some(behind) = &self.behind {
                behind.settle(self.key, lanes, &self.destination.queue);
            }
        }
    }
}

fn lane_of(lane: u64, lanes: usize) -> usize {
    (lane % lanes.max(1) as u64) as usize
}
