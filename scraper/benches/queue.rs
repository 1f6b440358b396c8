//! What the queue and the sender cost. `benches/queue.sh` runs it, with this process on one core and the receiver on the other.
//!
//!   queue enqueue DIR [MIB]              how fast blocks are enqueued, and how much is written for them
//!   queue deliver DIR URL 1|2 [MSAMPLES] samples a second through queue and sender, to a receiver that audits
//!   queue backlog DIR [MIB]              how long a start takes with a backlog, and its memory

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and ends where it cannot go on"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use promring_model::config::{ConfigSource, QueueSettings, RemoteWrite, load};
use promring_proto::remote_write::{v1, v2};
use promring_scraper::queue::{Encoding, Queue, RecordMeta, Volume};
use promring_scraper::send::{LANES, Senders, open_queue, queue_dir};

/// A block as requests are: 2,000 samples of 1.0.
const BLOCK_BYTES: usize = 36_000;

/// Samples of a record: the default of max_samples_per_send.
const RECORD_SAMPLES: usize = 2_000;

fn main() {
    // `cargo bench` adds flags of its own.
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments {
        ["enqueue", dir] => enqueue(Path::new(dir), 4_096),
        ["enqueue", dir, mib] => enqueue(Path::new(dir), mib.parse().unwrap()),
        ["backlog", dir] => backlog(Path::new(dir), 10_240),
        ["backlog", dir, mib] => backlog(Path::new(dir), mib.parse().unwrap()),
        ["deliver", dir, url, version] => deliver(Path::new(dir), url, version, 20),
        ["deliver", dir, url, version, samples] => {
            deliver(Path::new(dir), url, version, samples.parse().unwrap());
        }
        // Run without arguments by `cargo bench`: benches/queue.sh says what is needed.
        _ => println!("benches/queue.sh runs this"),
    }
}

/// Blocks that do not compress, one after the other, to all lanes in turn.
fn enqueue(dir: &Path, mib: u64) {
    let settings = QueueSettings { max_bytes: u64::MAX / 2, ..QueueSettings::default() };
    let queue = Queue::open(dir, "bench", LANES, &settings).unwrap();
    let block: Vec<u8> = (0..BLOCK_BYTES as u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .take(BLOCK_BYTES)
        .collect();
    let meta = RecordMeta { samples: RECORD_SAMPLES as u32, ..RecordMeta::default() };
    let written_before = written();
    let begun = Instant::now();
    let count = (mib << 20) / BLOCK_BYTES as u64;
    for number in 0..count {
        queue.append(number as usize % LANES, meta, &block).unwrap();
    }
    let appended = begun.elapsed();
    assert!(queue.sync(), "the disk takes it");
    let synced = begun.elapsed();
    let stats = queue.stats();
    let bytes = stats.enqueued_bytes as f64;
    drop(queue);
    let amplification = (written() - written_before) as f64 / stats.pending.bytes as f64;
    println!(
        "enqueue: {:.0} MB/s ({:.0} MB in {:.2} s; all of it on the disk after {:.2} s); written {amplification:.4} of the records' bytes; {} syncs",
        bytes / 1e6 / appended.as_secs_f64(),
        bytes / 1e6,
        appended.as_secs_f64(),
        synced.as_secs_f64(),
        stats.syncs,
    );
}

fn backlog(dir: &Path, mib: u64) {
    if !dir.exists() {
        enqueue(dir, mib);
    }
    let settings = QueueSettings { max_bytes: u64::MAX / 2, ..QueueSettings::default() };
    let begun = Instant::now();
    let queue = Queue::open(dir, "bench", LANES, &settings).unwrap();
    let opened = begun.elapsed();
    let memory = field("/proc/self/status", "VmHWM:") as f64 * 1_024.0;
    let bytes = queue.stats().pending.bytes as f64;
    println!(
        "backlog: {:.1} GB opened in {:.1} ms, {:.1} MB RSS at most",
        bytes / 1e9,
        opened.as_secs_f64() * 1e3,
        memory / 1e6
    );
}

/// All of it is enqueued as fast as it goes, while the sender sends.
fn deliver(dir: &Path, url: &str, version: &str, million_samples: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let config = destination(url, version);
        let queue = Arc::new(open_queue(&Volume::new(), &config, &QueueSettings::default(), dir).unwrap());
        let records = million_samples * 1_000_000 / RECORD_SAMPLES;
        let first_ms = 1_800_000_000_000;
        let bodies = Bodies::new(version);
        // Made before the clock runs: encoding is not what is measured.
        let bodies: Vec<(usize, RecordMeta, Vec<u8>)> = (0..records)
            .map(|number| {
                let (lane, time) = (number % LANES, first_ms + (number / LANES) as i64 * 1_000);
                let (meta, body) = bodies.make(lane, time);
                (lane, meta, body)
            })
            .collect();
        let senders = Senders::new(&config, &queue).unwrap();
        let (cpu_before, written_before, begun) = (cpu_seconds(), written(), Instant::now());
        senders.start();
        for (lane, meta, body) in &bodies {
            queue.append(*lane, *meta, body).unwrap();
            tokio::task::consume_budget().await;
        }
        let enqueued = begun.elapsed();
        senders.finish(Duration::from_secs(600)).await;
        let (wall, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - cpu_before);
        let stats = queue.stats();
        assert_eq!(stats.pending.records, 0, "all of it is acknowledged");
        let samples = stats.enqueued_samples as f64;
        println!(
            "deliver {version}.0: {:.2}M samples/s on the clock, {:.2}M a CPU-second ({samples:.0} samples in {wall:.2} s, {cpu:.2} CPU-seconds; enqueued in {:.2} s; {:.2} bytes a sample; written {:.3} of the bodies' bytes)",
            samples / wall / 1e6,
            samples / cpu / 1e6,
            enqueued.as_secs_f64(),
            stats.enqueued_bytes as f64 / samples,
            (written() - written_before) as f64 / stats.enqueued_bytes as f64,
        );
        assert!(queue_dir(dir, "bench").exists());
    });
}

/// Request bodies of realistic series.
struct Bodies {
    version: Encoding,
}

impl Bodies {
    fn new(version: &str) -> Self {
        Self { version: if version == "2" { Encoding::V2 } else { Encoding::V1 } }
    }

    fn make(&self, lane: usize, time: i64) -> (RecordMeta, Vec<u8>) {
        let mut bytes = Vec::new();
        let value = |series: usize| (series as f64) * 1.5 + (time / 1_000 % 1_000) as f64;
        match self.version {
            Encoding::V1 => {
                for series in 0..RECORD_SAMPLES {
                    let (texts, mut labels) = (texts(lane, series), Vec::new());
                    v1::encode_labels(texts.iter().map(|(name, value)| (*name, value.as_str())), &mut labels);
                    v1::push_series(&labels, value(series), time, &mut bytes);
                }
            }
            Encoding::V2 => {
                let mut table = std::collections::HashMap::from([(String::new(), 0_u32)]);
                let mut symbols = vec![String::new()];
                let mut place = |text: &str| {
                    *table.entry(text.to_owned()).or_insert_with(|| {
                        symbols.push(text.to_owned());
                        symbols.len() as u32 - 1
                    })
                };
                let mut series_bytes = Vec::new();
                for series in 0..RECORD_SAMPLES {
                    let texts = texts(lane, series);
                    let refs: Vec<u32> =
                        texts.iter().flat_map(|(name, value)| [place(name), place(value)]).collect();
                    let mut encoded = Vec::new();
                    v2::push_refs(refs, &mut encoded);
                    v2::push_series(&encoded, value(series).to_bits(), time, &mut series_bytes);
                }
                symbols.iter().for_each(|symbol| v2::push_symbol(symbol, &mut bytes));
                bytes.extend(series_bytes);
            }
        }
        let body = snap::raw::Encoder::new().compress_vec(&bytes).unwrap();
        let meta = RecordMeta {
            samples: RECORD_SAMPLES as u32,
            first_ms: time,
            last_ms: time,
            encoding: self.version,
            ..RecordMeta::default()
        };
        (meta, body)
    }
}

/// Labels of a series, sorted.
fn texts(lane: usize, series: usize) -> Vec<(&'static str, String)> {
    vec![
        ("__name__", format!("http_server_requests_seconds_{}_bucket", series / 100)),
        ("cluster", "north".to_owned()),
        ("instance", format!("10.0.{lane}.17:8080")),
        ("job", "kubernetes-pods".to_owned()),
        ("le", format!("{}", series % 10)),
        ("method", ["GET", "POST", "PUT", "DELETE"][series % 4].to_owned()),
        ("namespace", "production".to_owned()),
        ("pod", format!("checkout-7d9fb8c5d-{lane:05}")),
        ("uri", format!("/api/v1/resource/{}", series % 100)),
    ]
}

fn destination(url: &str, version: &str) -> Arc<RemoteWrite> {
    let message = if version == "2" { "io.prometheus.write.v2.Request" } else { "prometheus.WriteRequest" };
    let text = format!("remote_write: [{{name: bench, url: '{url}', protobuf_message: {message}}}]\n");
    let loaded = load(Path::new("bench.yml"), &Text(text));
    Arc::clone(&loaded.config.unwrap().remote_write[0])
}

struct Text(String);

impl ConfigSource for Text {
    fn read(&self, _path: &Path) -> Result<Vec<u8>, String> {
        Ok(self.0.clone().into_bytes())
    }

    fn glob(&self, _pattern: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    fn env(&self, _name: &str) -> Option<String> {
        None
    }
}

/// Bytes that this process has had written to disks, less what was deleted before it got there.
fn written() -> u64 {
    field("/proc/self/io", "write_bytes:").saturating_sub(field("/proc/self/io", "cancelled_write_bytes:"))
}

fn field(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    value.split_whitespace().next().and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    // Ticks are hundredths of a second on every Linux of today.
    (ticks(11) + ticks(12)) / 100.0
}
