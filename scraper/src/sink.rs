//! The sink: where the samples of a scrape go. For each destination, lanes; for each lane, the request that is being
//! filled. A full or old enough request is compressed and becomes a record of the destination's queue.
//!
//! A target always uses the same lane, by its key, so that its samples stay in order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use promring_model::config::RemoteWrite;
use promring_model::target::TargetKey;
use promring_proto::remote_write::v1;

use crate::queue::{Encoding, Queue, RecordMeta};
use crate::series::Encoded;

/// A request is cut at this many bytes before compression, whatever its number of samples: receivers limit bodies.
const REQUEST_BYTES_MAX: usize = 4 << 20;

/// A sample waits at most this long for its request to fill, even where batch_send_deadline allows more: what is
/// not in the queue is lost with the process.
const BATCH_AGE_MAX: Duration = Duration::from_secs(1);

/// How often requests are looked at for their age.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// One destination, with its queue on disk.
#[derive(Debug)]
pub struct Destination {
    /// Its configuration.
    pub config: Arc<RemoteWrite>,
    /// Its queue.
    pub queue: Arc<Queue>,
    /// Which of a series' encodings it gets.
    class: usize,
    lanes: Vec<Mutex<Batch>>,
}

/// All destinations.
#[derive(Debug, Default)]
pub struct Sink {
    destinations: Vec<Destination>,
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
    /// A sink for these destinations; each comes with its queue and its class.
    #[must_use]
    pub fn new(destinations: impl IntoIterator<Item = (Arc<RemoteWrite>, Arc<Queue>, usize)>) -> Self {
        let destinations = destinations
            .into_iter()
            .map(|(config, queue, class)| {
                let lanes = (0..queue.lane_count()).map(|_| Mutex::default()).collect();
                Destination { config, queue, class, lanes }
            })
            .collect();
        Self { destinations }
    }

    /// The destinations.
    #[must_use]
    pub fn destinations(&self) -> &[Destination] {
        &self.destinations
    }

    /// Opens the lanes of the target with this key, so that all samples of a scrape go in one after the other.
    /// Other targets of the same lanes wait until it is dropped: do nothing slow meanwhile.
    #[must_use]
    pub fn lanes(&self, key: TargetKey) -> Lanes<'_> {
        let open = |destination| Destination::open(destination, key);
        Lanes { open: self.destinations.iter().map(open).collect() }
    }

    /// Puts every request that has waited long enough into its queue.
    pub fn flush_aged(&self) {
        self.flush_if(|destination, batch| {
            let age_max = destination.config.queue.batch_send_deadline.min(BATCH_AGE_MAX);
            batch.since.is_some_and(|since| since.elapsed() >= age_max)
        });
    }

    /// Puts every request into its queue, full or not.
    pub fn flush(&self) {
        self.flush_if(|_, _| true);
    }

    fn flush_if(&self, due: impl Fn(&Destination, &Batch) -> bool) {
        for destination in &self.destinations {
            for (lane, batch) in destination.lanes.iter().enumerate() {
                let mut batch = lock(batch);
                if due(destination, &batch) {
                    batch.cut(destination, lane);
                }
            }
        }
    }

    /// Cuts aged requests for as long as it is polled.
    pub async fn run(&self) {
        let mut tick = tokio::time::interval(FLUSH_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.flush_aged();
        }
    }
}

impl Destination {
    fn open(&self, key: TargetKey) -> OpenLane<'_> {
        let lane = (key.0 % self.lanes.len().max(1) as u64) as usize;
        OpenLane { destination: self, lane, batch: self.lanes.get(lane).map(lock) }
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
    lane: usize,
    batch: Option<MutexGuard<'s, Batch>>,
}

impl Lanes<'_> {
    /// Adds a sample to the request of each destination that takes the series.
    pub fn push(&mut self, sample: &Outgoing<'_>) {
        for open in &mut self.open {
            if let Some(labels) = sample.series.class(open.destination.class)
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
            Ok(len) => destination.queue.append(lane, meta, &self.compressed[..len]).map_err(|error| error.to_string()),
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
