//! The sink: where the samples of a scrape go. For each destination, lanes; for each lane, the request that is being
//! filled. A full or old enough request is compressed and becomes a record of the destination's queue.
//!
//! A target always uses the same lane, by its key, so that its samples stay in order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use promring_model::config::RemoteWrite;
use promring_model::target::TargetKey;
use promring_proto::remote_write::v1;

use crate::encoded::Encoded;
use crate::queue::{Encoding, Queue, RecordMeta};

/// A request is cut at this many bytes before compression, whatever its number of samples: receivers limit bodies.
const REQUEST_BYTES_MAX: usize = 4 << 20;

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
    lanes: Arc<[Mutex<Batch>]>,
}

/// The destinations of a configuration, each with the class of encodings that it gets.
#[derive(Debug, Default)]
pub struct Sink {
    destinations: Vec<(Arc<Destination>, usize)>,
}

/// The request that a lane is filling.
#[derive(Debug, Default)]
struct Batch {
    body: Vec<u8>,
    samples: u32,
    first_ms: i64,
    last_ms: i64,
    since: Option<Instant>,
    compressed: Vec<u8>,
}

/// One sample on its way to the sink.
#[derive(Debug)]
pub struct Outgoing<'s> {
    /// Labels.
    pub series: &'s Encoded,
    /// The value's bits.
    pub value_bits: u64,
    /// Unix milliseconds.
    pub timestamp_ms: i64,
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

    /// Opens the lanes of the target with this key, so that all samples of a scrape go in one after the other.
    /// Other targets of the same lanes wait until it is dropped: do nothing slow meanwhile.
    #[must_use]
    pub fn lanes(&self, key: TargetKey) -> Lanes<'_> {
        let destinations = self.destinations.iter();
        Lanes { open: destinations.map(|(destination, class)| destination.lane_of(key, *class)).collect() }
    }
}

impl Destination {
    /// A destination whose requests are all empty.
    #[must_use]
    pub fn new(config: Arc<RemoteWrite>, queue: Arc<Queue>) -> Self {
        let lanes = (0..queue.lane_count()).map(|_| Mutex::default()).collect();
        Self { config, queue, lanes }
    }

    /// The same destination under another configuration: queue and half-filled requests are shared, so that what is
    /// still being appended by the old one is not left behind.
    #[must_use]
    pub fn with_config(&self, config: Arc<RemoteWrite>) -> Self {
        Self { config, queue: Arc::clone(&self.queue), lanes: Arc::clone(&self.lanes) }
    }

    /// Puts every request that has waited long enough into the queue.
    pub fn flush_aged(&self) {
        let age_max = self.config.queue.batch_send_deadline.min(BATCH_AGE_MAX);
        self.flush_if(|batch| batch.since.is_some_and(|since| since.elapsed() >= age_max));
    }

    /// Puts every request into the queue, full or not.
    pub fn flush(&self) {
        self.flush_if(|_| true);
    }

    fn flush_if(&self, due: impl Fn(&Batch) -> bool) {
        for (lane, batch) in self.lanes.iter().enumerate() {
            let mut batch = lock(batch);
            if due(&batch) {
                batch.cut(self, lane);
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
}

#[derive(Debug)]
struct OpenLane<'s> {
    destination: &'s Destination,
    class: usize,
    lane: usize,
    batch: Option<MutexGuard<'s, Batch>>,
}

impl Lanes<'_> {
    /// Adds a sample to the request of each destination that takes the series.
    pub fn push(&mut self, sample: &Outgoing<'_>) {
        for open in &mut self.open {
            if let Some(labels) = sample.series.class(open.class)
                && let Some(batch) = &mut open.batch
            {
                batch.push(labels, sample, open.destination, open.lane);
            }
        }
    }
}

impl Batch {
    fn push(&mut self, labels: &[u8], sample: &Outgoing<'_>, destination: &Destination, lane: usize) {
        if self.samples == 0 {
            self.since = Some(Instant::now());
            (self.first_ms, self.last_ms) = (sample.timestamp_ms, sample.timestamp_ms);
        }
        v1::push_series(labels, f64::from_bits(sample.value_bits), sample.timestamp_ms, &mut self.body);
        self.samples += 1;
        self.first_ms = self.first_ms.min(sample.timestamp_ms);
        self.last_ms = self.last_ms.max(sample.timestamp_ms);
        if self.samples as usize >= destination.config.queue.max_samples_per_send
            || self.body.len() >= REQUEST_BYTES_MAX
        {
            self.cut(destination, lane);
        }
    }

    /// Makes a record of what has gathered.
    fn cut(&mut self, destination: &Destination, lane: usize) {
        let samples = std::mem::take(&mut self.samples);
        self.since = None;
        if samples == 0 {
            return;
        }
        self.compressed.resize(snap::raw::max_compress_len(self.body.len()), 0);
        let compressed = snap::raw::Encoder::new().compress(&self.body, &mut self.compressed);
        self.body.clear();
        let meta = RecordMeta {
            samples,
            first_ms: self.first_ms,
            last_ms: self.last_ms,
            encoding: Encoding::V1,
            ..RecordMeta::default()
        };
        let result = match compressed {
            Ok(len) => destination
                .queue
                .append(lane, meta, &self.compressed[..len])
                .map_err(|error| error.to_string()),
            // Only inputs of 4 GiB and more cannot be compressed, and requests are cut long before.
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = result {
            let name = &destination.config.name;
            metrics::counter!("promring_queue_append_failed_samples_total", "remote_name" => name.clone())
                .increment(u64::from(samples));
            tracing::error!(destination = name, samples, error, "samples could not be queued and are lost");
        }
    }
}

fn lock(batch: &Mutex<Batch>) -> MutexGuard<'_, Batch> {
    // A batch is whole between pushes, whatever panicked elsewhere.
    batch.lock().unwrap_or_else(PoisonError::into_inner)
}
