//! promring is killed again and again (SIGKILL) while it scrapes and sends by remote write 1.0 and 2.0, over a network that
//! fails at random, to two receivers that take everything and to two real Prometheus 3.15 that take nothing out of order:
//! every sample that was enqueued is stored, in order, nothing comes again that was acknowledged, and nothing is refused
//! but what was stored already.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use promring_model::config::load;
use promring_net::files::Disk;
use promring_scraper::queue::{Encoding, Volume};
use promring_scraper::send::{LANES, open_queue, queue_dir};
use promring_testkit::exporter::{Fleet, FleetOptions};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::chance::seed;
use crate::passage::{self, Samples, add, check};
use crate::proxy::{PROCESS, Proxy, Temper};
use crate::recorder::read;
use crate::servers::Store;
use crate::support::{Process, eventually, get, scaled};

const TARGETS: usize = 12;

/// Samples of a request at most.
const REQUEST_SAMPLES_MAX: usize = 500;

/// The destinations: name, version of remote write, and whether a real Prometheus is behind it.
const DESTINATIONS: [(&str, u8, bool); 4] =
    [("v1", 1, true), ("v2", 2, true), ("takes-all-1", 1, false), ("takes-all-2", 2, false)];

/// What lies in the queue of a process that is dead, read from a copy, as opening it would tidy it up.
fn enqueued(config: &Path, data: &Path, scratch: &Path, destination: usize, samples: &mut Samples) {
    let config = load(config, &Disk).config.unwrap();
    let entry = &config.remote_write[destination];
    let version = DESTINATIONS[destination].1;
    let Some(dir) = Some(queue_dir(data, &entry.name)).filter(|dir| dir.is_dir()) else { return };
    let copy = tempfile::tempdir_in(scratch).unwrap();
    copy_dir(&dir, &queue_dir(copy.path(), &entry.name));
    let queue = match open_queue(&Volume::new(), entry, &config.scraper.queue, copy.path()) {
        Ok(queue) => queue,
        Err(error) => panic!("the queue of a killed process: {error}"),
    };
    let lanes = queue.lanes().borrow().clone();
    let mut body = Vec::new();
    for lane in lanes {
        let Some(mut reader) = queue.reader(lane) else { continue };
        while let Some(record) = reader.peek(&mut body) {
            assert_eq!(record.encoding() == Encoding::V1, version == 1);
            let message = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
            add(&passage::samples(&read(version, &message)), samples);
            reader.ack(record.sequence);
        }
    }
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Refused samples by reason, as promring counts them; nothing where it does not answer.
async fn refused(base: &str) -> HashMap<String, f64> {
    let text = get(&format!("{base}/metrics")).await.unwrap_or_default();
    let mut refused = HashMap::new();
    for line in text.lines().filter(|line| line.starts_with("promring_remote_write_refused_samples_total{")) {
        let reason = line.split("reason=\"").nth(1).unwrap().split('"').next().unwrap();
        let value: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        *refused.entry(reason.to_owned()).or_default() += value;
    }
    refused
}

fn only_stored_already(refused: &HashMap<String, f64>) -> f64 {
    for (reason, samples) in refused {
        assert!(reason == "already_stored" || *samples == 0.0, "{samples} samples refused: {reason}");
    }
    refused.get("already_stored").copied().unwrap_or_default()
}

/// Whether receivers are taken for such of 1.0, by destination; nothing where the process does not answer yet.
async fn fallbacks(base: &str) -> Vec<String> {
    let text = get(&format!("{base}/metrics")).await.unwrap_or_default();
    let lines = text.lines().filter(|line| line.starts_with("promring_remote_write_fallback{"));
    lines.map(str::to_owned).collect()
}

fn assert_no_fallback(fallbacks: &[String]) {
    assert!(
        fallbacks.iter().all(|line| line.ends_with(" 0")),
        "a fault was taken for a receiver of 1.0: {fallbacks:?}"
    );
}

/// `process`: which process reads it.
fn write_config(path: &Path, jobs: &str, proxies: &[Proxy], process: usize) {
    let mut text =
        format!("global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n{jobs}remote_write:\n");
    for (proxy, (name, version, _)) in proxies.iter().zip(DESTINATIONS) {
        let message = if version == 1 { "prometheus.WriteRequest" } else { "io.prometheus.write.v2.Request" };
        text.push_str(&format!(
            "- {{name: {name}, url: '{}', protobuf_message: {message}, headers: {{{PROCESS}: '{process}'}}, remote_timeout: 500ms, queue_config: {{max_samples_per_send: {REQUEST_SAMPLES_MAX}, min_backoff: 5ms, max_backoff: 100ms}}}}\n",
            proxy.url()
        ));
    }
    std::fs::write(path, text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_enqueued_is_lost_however_often_promring_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let seed = seed();
    let mut random = SmallRng::seed_from_u64(seed);
    let mut stores = Vec::new();
    let mut proxies = Vec::new();
    for (number, (_, version, is_real)) in DESTINATIONS.into_iter().enumerate() {
        let store = if is_real { Some(Store::prometheus_3(dir.path(), version).await) } else { None };
        let url = store.as_ref().map(Store::write_url);
        proxies.push(Proxy::start(url, version, seed + number as u64 + 1).await);
        stores.push(store);
    }
    let fleet = Fleet::start(FleetOptions { targets: TARGETS, ..FleetOptions::default() }).await.unwrap();
    std::fs::write(dir.path().join("targets.json"), fleet.file_sd_json()).unwrap();
    let config: PathBuf = dir.path().join("promring.yml");
    let jobs = "scrape_configs:\n- {job_name: kill, file_sd_configs: [{files: [targets.json]}]}\n";
    let data = dir.path().join("data");

    let kills = scaled(5, 100);
    let mut on_disk = DESTINATIONS.map(|_| Samples::new());
    let mut already_stored = 0.0;
    for process in 0..kills {
        write_config(&config, jobs, &proxies, process);
        let (mut promring, base) = Process::standalone("promring", &config, dir.path());
        // From before it is ready to long after.
        tokio::time::sleep(Duration::from_millis(random.random_range(50..4_000))).await;
        already_stored += only_stored_already(&refused(&base).await);
        assert_no_fallback(&fallbacks(&base).await);
        promring.kill();
        for (destination, samples) in on_disk.iter_mut().enumerate() {
            enqueued(&config, &data, dir.path(), destination, samples);
        }
    }
    // As long as it takes for everything to have happened; then no more targets and no more faults.
    write_config(&config, jobs, &proxies, kills);
    let (mut promring, base) = Process::standalone("promring", &config, dir.path());
    eventually("every fault has happened", async || {
        proxies.iter().all(Proxy::has_done_everything).then_some(())
    })
    .await;
    already_stored += only_stored_already(&refused(&base).await);
    promring.kill();
    for (destination, samples) in on_disk.iter_mut().enumerate() {
        enqueued(&config, &data, dir.path(), destination, samples);
    }
    proxies.iter().for_each(|proxy| proxy.set(Temper::Calm));
    write_config(&config, "", &proxies, kills + 1);
    let (mut promring, base) = Process::standalone("promring-last", &config, dir.path());
    eventually("everything is sent", async || {
        let text = get(&format!("{base}/metrics")).await?;
        let pending = |line: &&str| line.starts_with("prometheus_remote_storage_samples_pending{");
        let pending: Vec<&str> = text.lines().filter(pending).collect();
        (pending.len() == DESTINATIONS.len() && pending.iter().all(|line| line.ends_with(" 0"))).then_some(())
    })
    .await;
    already_stored += only_stored_already(&refused(&base).await);
    let fallbacks = fallbacks(&base).await;
    assert_eq!(fallbacks.len(), DESTINATIONS.len(), "{fallbacks:?}");
    assert_no_fallback(&fallbacks);
    assert!(promring.terminate().success(), "{}", promring.log());

    let counts = on_disk.each_ref().map(Samples::len);
    let mut again = 0;
    for (number, mut wanted) in on_disk.into_iter().enumerate() {
        let (name, proxy, store) = (DESTINATIONS[number].0, &proxies[number], &stores[number]);
        eprintln!("{name}: {}", proxy.summary());
        let seen = proxy.take_seen();
        again += check(&seen, LANES, REQUEST_SAMPLES_MAX);
        seen.iter().for_each(|passage| add(&passage.samples, &mut wanted));
        let mut stored = Samples::new();
        for passage in seen.iter().filter(|passage| passage.stored) {
            add(&passage.samples, &mut stored);
        }
        for exporter in fleet.exporters() {
            let Some(store) = store else { break };
            let selector = format!("{{instance=\"{}\"}}", exporter.address());
            for (labels, samples) in store.samples(&selector).await {
                let series = passage::series(labels.iter());
                stored.extend(samples.into_iter().map(|(time, value)| ((series, time), value.to_bits())));
            }
        }
        let missing: Vec<_> = wanted.iter().filter(|(at, bits)| stored.get(at) != Some(bits)).collect();
        assert!(
            missing.is_empty(),
            "{name}: {} of {} samples are not stored: {:?}",
            missing.len(),
            wanted.len(),
            &missing[..missing.len().min(5)]
        );
        assert_eq!(stored.len(), wanted.len(), "{name}: nothing else is stored");
        assert!(wanted.len() > 5_000 * kills / 5, "{name}: {} samples are few", wanted.len());
    }
    eprintln!(
        "{kills} kills, {counts:?} samples in queues of killed processes, {already_stored} refused as stored already, {again} sent again though they were acknowledged to a process that was killed then"
    );
}
