//! Senders against real receivers on loopback.

mod aside_restarts;
mod delivery;
mod in_part;
mod links;
mod losses;
mod metadata;
mod new_series;
mod overtaken;
mod payload;
pub(crate) mod receiver;
mod refusals;
mod refused_series;
mod reloads;
mod restarts;
mod v2_delivery;

use std::path::{Path, PathBuf};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use promring_model::config::QueueSettings;
use promring_proto::remote_write::{v1, v2};

use super::*;
use crate::queue::{Encoding, RecordMeta};
use receiver::{Action, Receiver};

/// Senders with their queues, on a directory that vanishes.
struct Sending {
    senders: Vec<Senders>,
    queues: Vec<Arc<Queue>>,
    metrics: PrometheusHandle,
}

/// A destination of one lane with short pauses; `keys` are added to its `queue_config`.
fn destination(name: &str, url: &str, keys: &str) -> Arc<RemoteWrite> {
    let text = format!(
        "remote_write:\n- name: {name}\n  url: {url}\n  headers: {{X-Tenant: a}}\n  \
         queue_config: {{max_shards: 1, min_backoff: 1ms, max_backoff: 5ms{keys}}}\n"
    );
    let config = crate::testing::config_in(&text);
    Arc::clone(&config.remote_write[0])
}

impl Sending {
    /// Opens queues in `dir` and starts nothing yet.
    fn open(dir: &Path, configs: &[Arc<RemoteWrite>], settings: &QueueSettings) -> Self {
        Self::open_with(dir, configs, settings, &PrometheusBuilder::new().build_recorder())
    }

    /// The same of a scraper among others.
    fn open_behind(gate: &Arc<Gate>, dir: &Path, config: Arc<RemoteWrite>) -> Self {
        let (settings, recorder) = (QueueSettings::default(), PrometheusBuilder::new().build_recorder());
        Self::open_all(Some(gate), dir, &[config], &settings, &recorder)
    }

    fn open_with(
        dir: &Path,
        configs: &[Arc<RemoteWrite>],
        settings: &QueueSettings,
        recorder: &PrometheusRecorder,
    ) -> Self {
        Self::open_all(None, dir, configs, settings, recorder)
    }

    fn open_all(
        gate: Option<&Arc<Gate>>,
        dir: &Path,
        configs: &[Arc<RemoteWrite>],
        settings: &QueueSettings,
        recorder: &PrometheusRecorder,
    ) -> Self {
        let open = |config: &Arc<RemoteWrite>| {
            Arc::new(
                Queue::open(&queue_dir(dir, &config.name), &config.name, lanes(config), settings).unwrap(),
            )
        };
        let queues: Vec<Arc<Queue>> = configs.iter().map(open).collect();
        let metrics = recorder.handle();
        let senders = ::metrics::with_local_recorder(recorder, || {
            let parts = configs.iter().zip(&queues);
            parts.map(|(config, queue)| Senders::behind(gate.cloned(), config, queue).unwrap()).collect()
        });
        Self { senders, queues, metrics }
    }

    fn start(&self) {
        self.senders.iter().for_each(Senders::start);
    }

    /// A record of these samples for the first destination.
    fn append(&self, samples: &[(&str, i64)]) {
        append(&self.queues[0], 0, samples);
    }

    /// The same of remote write 2.0.
    fn append_v2(&self, samples: &[(&str, i64)]) {
        append_as(Encoding::V2, &self.queues[0], 0, samples);
    }

    /// Waits until the first queue is empty.
    async fn drained(&self) {
        // Nobody tells when an acknowledgement is through, so this asks now and then.
        while self.queues[0].stats().pending.records > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The same, and until nothing lies aside of it either.
    async fn settled(&self) {
        self.drained().await;
        while self.queues[0].stats().aside.records > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The value of a metric of the first destination, 0 if it is not there; `labels` as they are written.
    fn metric(&self, name: &str, labels: &str) -> u64 {
        let text = self.metrics.render();
        let lines =
            text.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(labels));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap() as u64).next().unwrap_or(0)
    }

    fn refused(&self, reason: &str) -> u64 {
        self.metric("promring_remote_write_refused_samples_total", &format!("reason=\"{reason}\""))
    }

    /// Ends without an answer to anything that is under way.
    async fn kill(self) {
        for senders in &self.senders {
            senders.finish(Duration::ZERO).await;
        }
    }
}

fn body(samples: &[(&str, i64)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, time) in samples {
        let mut labels = Vec::new();
        v1::encode_labels([("__name__", *name)], &mut labels);
        v1::push_series(&labels, *time as f64, *time, &mut bytes);
    }
    snap::raw::Encoder::new().compress_vec(&bytes).unwrap()
}

/// As the scraper writes 2.0: a table of symbols of its own in each record.
fn body_v2(samples: &[(&str, i64)]) -> Vec<u8> {
    let mut symbols = vec!["", "__name__"];
    let mut series = Vec::new();
    for (name, time) in samples {
        let at = symbols.iter().position(|symbol| symbol == name).unwrap_or_else(|| {
            symbols.push(name);
            symbols.len() - 1
        });
        let mut refs = Vec::new();
        v2::push_refs([1, at as u32], &mut refs);
        v2::push_series(&refs, (*time as f64).to_bits(), *time, &mut series);
    }
    let mut bytes = Vec::new();
    symbols.iter().for_each(|symbol| v2::push_symbol(symbol, &mut bytes));
    bytes.extend(series);
    snap::raw::Encoder::new().compress_vec(&bytes).unwrap()
}

/// Text that does not compress.
fn noise(len: usize) -> String {
    let mut state = 1_u64;
    let mut next = || {
        // xorshift64 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'!' + (state % 90) as u8)
    };
    (0..len).map(|_| next()).collect()
}

fn append(queue: &Queue, lane: usize, samples: &[(&str, i64)]) {
    append_as(Encoding::V1, queue, lane, samples);
}

fn append_as(encoding: Encoding, queue: &Queue, lane: usize, samples: &[(&str, i64)]) {
    let times = || samples.iter().map(|(_, time)| *time);
    let meta = RecordMeta {
        samples: u32::try_from(samples.len()).unwrap(),
        first_ms: times().min().unwrap_or(0),
        last_ms: times().max().unwrap_or(0),
        encoding,
        ..RecordMeta::default()
    };
    let body = match encoding {
        Encoding::V1 => body(samples),
        Encoding::V2 => body_v2(samples),
    };
    queue.append(lane, meta, &body).unwrap();
}

/// One destination with one receiver, not started: what is appended before it is finds each other in one request.
fn queueing_for(receiver: &Receiver, keys: &str) -> (Sending, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let config = destination("prod", &receiver.url, keys);
    (Sending::open(dir.path(), &[config], &QueueSettings::default()), dir)
}

/// The same, started.
async fn sending_to(receiver: &Receiver, keys: &str) -> (Sending, tempfile::TempDir) {
    let (sending, dir) = queueing_for(receiver, keys);
    sending.start();
    (sending, dir)
}
