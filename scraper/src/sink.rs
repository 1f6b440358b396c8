//! The sink: where the samples of a scrape go. For each destination, lanes; for each lane, the request that is being
//! filled. A full or old enough request is compressed and becomes a record of the destination's queue.
//!
//! A target always uses the same lane, by its key, so that its samples stay in order.

mod batch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::Counter;
use promring_model::config::RemoteWrite;
use promring_model::target::TargetKey;

use crate::labelsets::Shared;
use crate::payload::{Outgoing, Value};
use crate::queue::{Encoding, Queue};
use crate::send;
use crate::symbols::Reading;
use batch::{Batch, Content};

/// A sample waits at most this long for its request to fill, even where batch_send_deadline allows more: what is
/// not in the queue is lost with the process.
const BATCH_AGE_MAX: Duration = Duration::from_secs(1);

/// One destination: its queue on disk, and the request that each lane of it is filling.
#[derive(Debug)]
pub struct Destination {
    /// Its configuration.
    pub config: Arc<RemoteWrite>,
    /// Its queue.
    pub queue: Arc<Queue>,
    content: Content,
    /// Native histograms that its version of remote write cannot carry.
    dropped_custom: Counter,
    lanes: Arc<[Mutex<Batch>]>,
}

/// The destinations of a configuration, each with the class of encodings that it gets.
#[derive(Debug, Default)]
pub struct Sink {
    destinations: Vec<(Arc<Destination>, usize)>,
}

impl Sink {
    /// A sink for these destinations; each comes with its class.
    #[must_use]
    pub fn new(destinations: Vec<(Arc<Destination>, usize)>) -> Self {
        Self { destinations }
    }

    /// Whether samples take the same way through both.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.destinations.len() == other.destinations.len()
            && self
                .destinations
                .iter()
                .zip(&other.destinations)
                .all(|((one, class), (other, other_class))| Arc::ptr_eq(one, other) && class == other_class)
    }

    /// Opens the lanes of the target with this key, whose series have their strings in `labels`, so that all samples of a scrape go in one after the other.
    /// Other targets of the same lanes wait until it is dropped: do nothing slow meanwhile.
    #[must_use]
    pub fn lanes<'s>(&'s self, key: TargetKey, labels: &'s Shared) -> Lanes<'s> {
        let destinations = self.destinations.iter();
        Lanes {
            open: destinations.map(|(destination, class)| destination.lane_of(key, *class)).collect(),
            symbols: labels.symbols.reading(),
            labels,
        }
    }
}

impl Destination {
    /// A destination whose requests are all empty.
    #[must_use]
    pub fn new(config: Arc<RemoteWrite>, queue: Arc<Queue>) -> Self {
        let lanes = (0..queue.lane_count()).map(|_| Mutex::default()).collect();
        Self::sharing(config, queue, lanes)
    }

    fn sharing(config: Arc<RemoteWrite>, queue: Arc<Queue>, lanes: Arc<[Mutex<Batch>]>) -> Self {
        let dropped_custom = send::dropped_histograms(&config, "nhcb_in_rw1_not_supported");
        Self { content: Content::of(&config), dropped_custom, config, queue, lanes }
    }

    /// Whether a sample is sent there.
    #[inline]
    fn takes(&self, sample: &Outgoing<'_>) -> bool {
        match sample.value {
            Value::Float(_) => true,
            Value::Histogram { is_custom, is_stale, .. } => self.takes_histogram(is_custom, is_stale),
        }
    }

    fn takes_histogram(&self, is_custom: bool, is_stale: bool) -> bool {
        let carried = !(is_custom && self.content.encoding == Encoding::V1);
        if self.config.send_native_histograms && !carried && !is_stale {
            self.dropped_custom.increment(1);
        }
        self.config.send_native_histograms && carried
    }

    /// The same destination under another configuration: queue and half-filled requests are shared, so that what is
    /// still being appended by the old one is not left behind.
    #[must_use]
    pub fn with_config(&self, config: Arc<RemoteWrite>) -> Self {
        Self::sharing(config, Arc::clone(&self.queue), Arc::clone(&self.lanes))
    }

    /// Puts every request that has waited long enough into the queue.
    pub fn flush_aged(&self, labels: &Shared) {
        let age_max = self.config.queue.batch_send_deadline.min(BATCH_AGE_MAX);
        self.flush_if(labels, |batch| batch.since.is_some_and(|since| since.elapsed() >= age_max));
    }

    /// Puts every request into the queue, full or not.
    pub fn flush(&self, labels: &Shared) {
        self.flush_if(labels, |_| true);
    }

    fn flush_if(&self, labels: &Shared, due: impl Fn(&Batch) -> bool) {
        for (lane, batch) in self.lanes.iter().enumerate() {
            let mut batch = lock(batch);
            if due(&batch) {
                batch.cut(self, lane, &labels.symbols.reading(), &labels.symbols);
            }
        }
    }

    fn lane_of(&self, key: TargetKey, class: usize) -> OpenLane<'_> {
        let lane = (key.0 % self.lanes.len().max(1) as u64) as usize;
        OpenLane { destination: self, class, lane, batch: self.lanes.get(lane).map(lock) }
    }
}

/// The lanes of one target, open for its samples.
#[derive(Debug)]
pub struct Lanes<'s> {
    open: Vec<OpenLane<'s>>,
    symbols: Reading<'s>,
    labels: &'s Shared,
}

#[derive(Debug)]
struct OpenLane<'s> {
    destination: &'s Destination,
    class: usize,
    lane: usize,
    batch: Option<MutexGuard<'s, Batch>>,
}

impl Lanes<'_> {
    /// Adds a sample to the request of each destination that takes it.
    #[inline]
    pub fn push(&mut self, sample: &Outgoing<'_>) {
        for open in &mut self.open {
            if let Some(labels) = sample.series.class(open.class)
                && let Some(batch) = &mut open.batch
                && open.destination.takes(sample)
            {
                batch.push(labels, sample, &self.symbols, &open.destination.content);
                if batch.is_full(&open.destination.config) {
                    batch.cut(open.destination, open.lane, &self.symbols, &self.labels.symbols);
                }
            }
        }
    }
}

fn lock(batch: &Mutex<Batch>) -> MutexGuard<'_, Batch> {
    // A batch is whole between pushes, whatever panicked elsewhere.
    batch.lock().unwrap_or_else(PoisonError::into_inner)
}
