//! What happens to samples when a process is asked to stop.

use std::path::PathBuf;

use promring_net::clock::now_ms;
use promring_testkit::exporter::{Behaviour, Fleet, FleetOptions};
use promring_testkit::receiver::Receiver;

use crate::support::{Process, eventually, run};

struct World {
    dir: tempfile::TempDir,
    fleet: Fleet,
    config: PathBuf,
}

impl World {
    async fn new(write_url: &str, keys: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fleet = Fleet::start(FleetOptions { targets: 1, ..FleetOptions::default() }).await.unwrap();
        std::fs::write(dir.path().join("targets.json"), fleet.file_sd_json()).unwrap();
        let config = dir.path().join("prometheus.yml");
        let text = format!(
            "
global: {{scrape_interval: 3s, scrape_timeout: 3s}}
scrape_configs: [{{job_name: sample, file_sd_configs: [{{files: [targets.json]}}]}}]
remote_write: [{{url: '{write_url}', name: audit}}]
{keys}
"
        );
        std::fs::write(&config, text).unwrap();
        Self { dir, fleet, config }
    }

    /// A process with the same queues as the one before it.
    fn start(&self, name: &str) -> Process {
        Process::standalone(name, &self.config, self.dir.path()).0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_that_is_in_flight_ends_and_arrives() {
    let receiver = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let world = World::new(&receiver.write_url(), "").await;
    let exporter = &world.fleet.exporters()[0];
    exporter.set(Behaviour::Slow { delay_ms: 1_500 });
    let mut promring = world.start("promring");
    eventually("a scrape is in flight", async || (exporter.scrapes() > 0).then_some(())).await;
    let asked_ms = now_ms();
    assert!(promring.terminate().success(), "{}", promring.log());
    let up = receiver.audit().last_samples("up");
    assert_eq!((up.len(), up[0].value.as_str(), up[0].stale), (1, "1", false));
    assert!(up[0].samples == 1 && up[0].timestamp_ms <= asked_ms, "the slot that was being scraped");
    assert_eq!(receiver.summary().markers, 0, "a stop marks nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_stays_on_disk_and_is_sent_by_the_next_start() {
    let mut receiver = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let write_url = receiver.write_url();
    receiver.close().await;
    let world = World::new(&write_url, "scraper: {flush_timeout: 200ms}").await;
    let exporter = &world.fleet.exporters()[0];
    let mut promring = world.start("promring");
    eventually("two scrapes", async || (exporter.scrapes() >= 2).then_some(())).await;
    assert!(promring.terminate().success(), "{}", promring.log());
    assert!(promring.log().contains("stay on disk"), "{}", promring.log());
    let (code, shown, _) = run(&["queue", world.dir.path().join("data").to_str().unwrap()]);
    assert_eq!(code, Some(0), "{shown}");
    let series = exporter.series().len() as u64 + 5;

    receiver.reopen().await.unwrap();
    let _again = world.start("promring-again");
    eventually("what was left arrives", async || {
        let up = receiver.audit().last_samples("up");
        up.first().filter(|up| up.samples >= 2).map(|_| ())
    })
    .await;
    let summary = receiver.summary();
    assert!(summary.samples >= 2 * series, "{} of {series} twice", summary.samples);
    assert_eq!((summary.duplicates, summary.out_of_order), (0, 0));
}
