//! The sink: where the samples of a scrape go. For each destination, lanes; for each lane, the request that is being
//! filled. A full or old enough request is compressed and becomes a record of the destination's queue.
//!
//! A series always uses the same lane, so that its samples stay in order: that of its target, or, where the target
//! is spread over all lanes (`spread.rs`), that of its labels' hash.

mod batch;
mod block;
mod destination;
mod fences;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use promring_model::handover::MoveId;
use promring_model::hash::FieldHasher;
use promring_model::target::TargetKey;

use crate::labelsets::{LabelSet, Shared};
use crate::payload::{Outgoing, Value};
use crate::spread::Passed;
use crate::symbols::Reading;
pub(crate) use destination::Barrier;
pub use destination::Destination;
use destination::OpenLanes;
pub(crate) use fences::WantedFence;

/// How often requests are looked at for their age.
pub(crate) const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// A sample waits at most this long for its request to fill, even where batch_send_deadline allows more: what is
/// not in the queue is lost with the process. With the pause between two looks and the writing it is in the
/// segment's file within a second.
const BATCH_AGE_MAX: Duration = Duration::from_millis(800);

/// The destinations of a configuration, each with the class of encodings that it gets.
#[derive(Debug)]
pub struct Sink {
    destinations: Vec<(Arc<Destination>, usize)>,
    incoming: Arc<Incoming>,
}

/// Which way the samples of a target's scrape go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The target's key.
    pub key: TargetKey,
    /// Which lane it has: this number modulo theirs.
    pub lane: u64,
    /// Its series go to all lanes, by the hash of their labels.
    pub spread: bool,
    /// The move whose fence they go behind, as long as that is closed.
    pub fence: Option<MoveId>,
}

impl Way {
    /// The normal way of a target with this key.
    #[must_use]
    pub fn of(key: TargetKey) -> Self {
        Self { key, lane: key.0, spread: false, fence: None }
    }
}

/// What scrapes hand in, however many destinations there are: Prometheus's metrics without labels.
pub struct Incoming {
    samples: Counter,
    histograms: Counter,
    exemplars: Counter,
    highest_seconds: Gauge,
    highest_ms: AtomicI64,
}

impl Sink {
    /// A sink for these destinations; each comes with its class.
    #[must_use]
    pub fn new(destinations: Vec<(Arc<Destination>, usize)>, incoming: Arc<Incoming>) -> Self {
        Self { destinations, incoming }
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

    /// Opens the lanes of a target, whose series have their strings in `labels`, so that all samples of a scrape go in one after the other.
    /// Other targets of the same lanes wait until it is dropped: do nothing slow meanwhile.
    #[must_use]
    pub fn lanes<'s>(&'s self, way: Way, labels: &'s Shared) -> Lanes<'s> {
        let destinations = self.destinations.iter();
        Lanes {
            open: destinations.map(|(destination, class)| destination.open(way, *class)).collect(),
            together: false,
            incoming: &self.incoming,
            pushed: Pushed { highest_ms: i64::MIN, ..Pushed::default() },
            symbols: labels.symbols.reading(),
            labels,
        }
    }

    /// Whether the queues have room for another scrape.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.destinations.iter().all(|(destination, _)| destination.queue.has_room())
    }

    /// Whether nothing is in the queues that an earlier process has left.
    #[must_use]
    pub fn is_past_earlier(&self) -> bool {
        self.destinations.iter().all(|(destination, _)| destination.is_past_earlier())
    }

    /// The series of some target go to other lanes from now on, while some of theirs may lie aside.
    pub(crate) fn mix_aside(&self) {
        self.destinations.iter().for_each(|(destination, _)| destination.queue.mix_aside());
    }

    /// Remembers what the queues hold now, to tell later when all of it has been sent.
    #[must_use]
    pub fn passed(&self) -> Passed {
        Passed::new(self.destinations.iter().map(|(destination, _)| &destination.queue))
    }
}

/// The lanes of one target, open for its samples.
#[derive(Debug)]
pub struct Lanes<'s> {
    open: Vec<OpenLanes<'s>>,
    /// What is pushed goes to the target's lane, spread or not.
    together: bool,
    incoming: &'s Incoming,
    pushed: Pushed,
    symbols: Reading<'s>,
    labels: &'s Shared,
}

/// How much was pushed, and the newest time of it.
#[derive(Clone, Copy, Debug, Default)]
struct Pushed {
    floats: u64,
    histograms: u64,
    exemplars: u64,
    highest_ms: i64,
}

impl Lanes<'_> {
    /// Adds a sample to the request of each destination that takes it.
    #[inline]
    pub fn push(&mut self, sample: &Outgoing<'_>) {
        self.pushed.add(sample);
        for open in &mut self.open {
            let Some(labels) = sample.series.class(open.class) else { continue };
            if !open.destination.takes(sample) {
                continue;
            }
            let at = match open.batches.len() {
                lanes @ 2.. if !self.together => {
                    (series_hash(&labels, &self.symbols) % lanes as u64) as usize
                }
                _ => open.own,
            };
            let (destination, place) = (open.destination, open.place(at));
            let Some(batch) = open.batches.get_mut(at) else { continue };
            if batch.is_of_another(destination.content.encoding) {
                // An older configuration of the destination has begun it.
                batch.cut(destination, place, &self.symbols, &self.labels.symbols);
            }
            batch.push(&labels, sample, &self.symbols, &destination.content);
            if batch.is_full(&destination.config) {
                batch.cut(destination, place, &self.symbols, &self.labels.symbols);
            }
        }
    }

    /// What follows is about the target itself: it goes to its lane, spread or not.
    pub fn keep_together(&mut self) {
        self.together = true;
    }

    /// Puts what the target's own lanes have gathered into the queues.
    pub fn flush(&mut self) {
        for open in &mut self.open {
            open.flush(&self.symbols, self.labels);
        }
    }
}

impl Drop for Lanes<'_> {
    fn drop(&mut self) {
        for open in &mut self.open {
            open.settle(&self.symbols, self.labels);
        }
        self.incoming.add(&self.pushed);
    }
}

impl Pushed {
    #[inline]
    fn add(&mut self, sample: &Outgoing<'_>) {
        match sample.value {
            Value::Float(_) => self.floats += 1,
            Value::Histogram { .. } => self.histograms += 1,
        }
        self.exemplars += sample.exemplars.len() as u64;
        self.highest_ms = self.highest_ms.max(sample.timestamp_ms);
    }
}

impl Incoming {
    /// Takes the handles. The recorder must be installed before.
    #[must_use]
    pub fn new() -> Self {
        describe_counter!(
            "prometheus_remote_storage_samples_in_total",
            "Float samples that scrapes handed in, to be sent to each destination that takes their series."
        );
        describe_counter!(
            "prometheus_remote_storage_histograms_in_total",
            "Native histograms that scrapes handed in."
        );
        describe_counter!(
            "prometheus_remote_storage_exemplars_in_total",
            "Exemplars that scrapes handed in."
        );
        describe_gauge!(
            "prometheus_remote_storage_highest_timestamp_in_seconds",
            "The newest time of a sample that scrapes handed in."
        );
        Self {
            samples: counter!("prometheus_remote_storage_samples_in_total"),
            histograms: counter!("prometheus_remote_storage_histograms_in_total"),
            exemplars: counter!("prometheus_remote_storage_exemplars_in_total"),
            highest_seconds: gauge!("prometheus_remote_storage_highest_timestamp_in_seconds"),
            highest_ms: AtomicI64::new(i64::MIN),
        }
    }

    fn add(&self, pushed: &Pushed) {
        let Pushed { floats, histograms, exemplars, highest_ms } = *pushed;
        self.samples.increment(floats);
        self.histograms.increment(histograms);
        self.exemplars.increment(exemplars);
        if floats + histograms > 0 && self.highest_ms.fetch_max(highest_ms, Ordering::Relaxed) < highest_ms {
            self.highest_seconds.set(highest_ms as f64 / 1_000.0);
        }
    }
}

impl Default for Incoming {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Incoming")
    }
}

/// The same for the same labels in every process.
fn series_hash(labels: &LabelSet<'_>, symbols: &Reading<'_>) -> u64 {
    let mut hasher = FieldHasher::new();
    labels.for_each_symbol(|symbol| {
        hasher.field(symbols.text(symbol).as_bytes());
    });
    hasher.finish64()
}
