//! A scraper that is stopped for good sends its queue first; one that restarts leaves it to its successor.

use std::path::{Path, PathBuf};

use promring_testkit::exporter::{Fleet, FleetOptions};
use promring_testkit::receiver::{Fault, Receiver};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Process, eventually, free_port, get_json, metric};

const REFUSED: Fault = Fault::Status { code: 503, retry_after_s: None };

struct World {
    dir: tempfile::TempDir,
    _fleet: Fleet,
    receiver: Receiver,
    _allocator: Process,
    allocator_url: String,
    listen: String,
    config: PathBuf,
}

impl World {
    /// An allocator that wants `replicas` scrapers, and a receiver that is away.
    async fn start(replicas: u32, keys: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fleet = Fleet::start(FleetOptions { targets: 2, ..FleetOptions::default() }).await.unwrap();
        let receiver = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        receiver.add_fault(REFUSED).unwrap();
        std::fs::write(dir.path().join("targets.json"), fleet.file_sd_json()).unwrap();
        let config = dir.path().join("prometheus.yml");
        let text = format!(
            "
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs: [{{job_name: sample, file_sd_configs: [{{files: [targets.json]}}]}}]
remote_write: [{{url: '{}', name: audit, queue_config: {{max_backoff: 200ms}}}}]
allocator: {{settle: 1s, lapse: 3s, replicas: {replicas}}}
scraper: {{heartbeat: 300ms, flush_timeout: 300ms, {keys}}}
",
            receiver.write_url()
        );
        std::fs::write(&config, text).unwrap();
        let listen = format!("127.0.0.1:{}", free_port());
        let arguments = ["allocator", "--config", config.to_str().unwrap(), "--listen", &listen];
        let allocator = Process::promring("allocator", &arguments, dir.path());
        let (allocator_url, listen) = (format!("http://{listen}"), format!("127.0.0.1:{}", free_port()));
        Self { dir, _fleet: fleet, receiver, _allocator: allocator, allocator_url, listen, config }
    }

    /// Starts `scraper-1`, whose queue is on the same disk each time.
    fn scraper(&self, log: &str) -> Process {
        let data = self.data();
        let arguments = [
            "scraper",
            "--config",
            self.config.to_str().unwrap(),
            "--name",
            "scraper-1",
            "--allocator",
            &self.allocator_url,
            "--listen",
            &self.listen,
            "--data-dir",
            data.to_str().unwrap(),
        ];
        Process::promring(log, &arguments, self.dir.path())
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// What the allocator says of it.
    async fn seen(&self) -> Option<Value> {
        let answer = get_json(&format!("{}/api/v1/scrapers", self.allocator_url)).await?;
        answer["data"]["scrapers"].as_array()?.iter().find(|scraper| scraper["name"] == "scraper-1").cloned()
    }

    /// Lets it fill its queue, and then be one too many.
    async fn fill_and_scale_in(&self) -> u64 {
        let queued = eventually("a backlog that the allocator knows of", async || {
            self.seen().await?["queues"][0]["samples"].as_u64().filter(|samples| *samples > 500)
        })
        .await;
        let text = std::fs::read_to_string(&self.config).unwrap().replace("replicas: 2", "replicas: 1");
        std::fs::write(&self.config, text).unwrap();
        eventually("it is known to leave", async || (self.seen().await?["leaving"] == true).then_some(()))
            .await;
        queued
    }
}

fn queued(data: &Path) -> u64 {
    let inspection = promring_scraper::queue::Inspection::of(&data.join("queue/audit")).unwrap();
    assert!(inspection.is_sound());
    inspection.pending().samples
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scraper_that_leaves_sends_its_queue_however_long_a_receiver_takes_it() {
    let world = World::start(2, "fence_max: 60s").await;
    let mut scraper = world.scraper("scraper");
    let queued_before = world.fill_and_scale_in().await;
    scraper.signal(Signal::TERM);
    // Longer than a restart would wait.
    eventually("its drain is seen", async || (world.seen().await?["state"] == "draining").then_some(()))
        .await;
    assert!(scraper.runs(), "{}", scraper.log());
    world.receiver.clear_faults();
    assert!(scraper.wait().success(), "{}", scraper.log());
    assert_eq!(queued(&world.data()), 0, "{}", scraper.log());
    let summary = world.receiver.summary();
    assert!(summary.samples >= queued_before, "{} of {queued_before}", summary.samples);
    assert_eq!((summary.duplicates, summary.out_of_order), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scraper_that_restarts_leaves_its_queue_to_its_successor() {
    let world = World::start(2, "fence_max: 60s").await;
    let mut scraper = world.scraper("scraper");
    eventually("a backlog", async || {
        world.seen().await?["queues"][0]["samples"].as_u64().filter(|samples| *samples > 500)
    })
    .await;
    assert!(scraper.terminate().success(), "{}", scraper.log());
    let left = queued(&world.data());
    assert!(left > 500 && scraper.log().contains("stay on disk"), "{left}: {}", scraper.log());
    world.receiver.clear_faults();
    let _again = world.scraper("scraper-again");
    eventually("what was left arrives", async || (world.receiver.summary().samples >= left).then_some(()))
        .await;
    assert_eq!(world.receiver.summary().duplicates, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_leaving_scraper_cannot_send_stays_is_shown_and_is_sent_when_the_ordinal_returns() {
    let world = World::start(2, "fence_max: 1s").await;
    let mut scraper = world.scraper("scraper");
    world.fill_and_scale_in().await;
    assert!(scraper.terminate().success(), "{}", scraper.log());
    let left = queued(&world.data());
    assert!(left > 500 && scraper.log().contains("this scraper is leaving"), "{}", scraper.log());
    let gone =
        eventually("it is gone", async || world.seen().await.filter(|scraper| scraper["state"] == "lost"))
            .await;
    assert_eq!(gone["queues"][0]["destination"], "audit");
    assert_eq!(gone["queues"][0]["samples"], left, "the allocator says what lies there");

    let text = std::fs::read_to_string(&world.config).unwrap().replace("replicas: 1", "replicas: 2");
    std::fs::write(&world.config, text).unwrap();
    world.receiver.clear_faults();
    let _again = world.scraper("scraper-again");
    eventually("what was left arrives", async || (world.receiver.summary().samples >= left).then_some(()))
        .await;
    assert_eq!((world.receiver.summary().duplicates, world.receiver.summary().out_of_order), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_drain_at_once() {
    let world = World::start(2, "fence_max: 1h").await;
    let mut scraper = world.scraper("scraper");
    world.fill_and_scale_in().await;
    scraper.signal(Signal::TERM);
    eventually("its drain is seen", async || (world.seen().await?["state"] == "draining").then_some(()))
        .await;
    // Its metrics are there until the end.
    let base = format!("http://{}", world.listen);
    let pending = metric(&base, "prometheus_remote_storage_samples_pending").await.unwrap();
    assert!(pending > 500.0, "{pending}");
    // An hour was allowed.
    assert!(scraper.terminate().success(), "{}", scraper.log());
    assert!(queued(&world.data()) > 500);
}
