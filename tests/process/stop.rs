//! What happens to samples when a process is asked to stop.

use std::path::PathBuf;

use promring_net::clock::now_ms;
use promring_testkit::exporter::{Behaviour, Fleet, FleetOptions};
use promring_testkit::receiver::{Fault, Receiver};

use crate::support::{Process, client, eventually, metric_of, run};

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
        let world = Self { dir, fleet, config };
        world.write(&format!("{{url: '{write_url}', name: audit}}"), keys);
        world
    }

    /// Writes its configuration.
    fn write(&self, destinations: &str, keys: &str) {
        let text = format!(
            "
global: {{scrape_interval: 3s, scrape_timeout: 3s}}
scrape_configs: [{{job_name: sample, file_sd_configs: [{{files: [targets.json]}}]}}]
remote_write: [{destinations}]
{keys}
"
        );
        std::fs::write(&self.config, text).unwrap();
    }

    /// What `promring queue` says of its queues.
    fn queues(&self) -> String {
        let (code, shown, _) = run(&["queue", self.dir.path().join("data").to_str().unwrap()]);
        assert_eq!(code, Some(0), "{shown}");
        shown
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
    world.queues();
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

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_under_way_is_answered_before_the_end() {
    let receiver = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    receiver.add_fault(Fault::Slow { delay_ms: 1_500 }).unwrap();
    let world = World::new(&receiver.write_url(), "scraper: {flush_timeout: 100ms}").await;
    let mut promring = world.start("promring");
    eventually("a scrape", async || (world.fleet.exporters()[0].scrapes() > 0).then_some(())).await;
    // Whatever is in the queue goes out at once.
    eventually("a request is under way", async || {
        let shown = run(&["queue", world.dir.path().join("data").to_str().unwrap()]).1;
        shown.contains("was in flight").then_some(())
    })
    .await;
    assert!(promring.terminate().success(), "{}", promring.log());
    let shown = world.queues();
    assert!(!shown.contains("was in flight"), "{shown}");
    assert!(receiver.summary().samples > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_removed_destination_has_not_got_is_told_of_until_it_is_sent_and_then_its_queue_goes() {
    const PARKED: &str = "promring_queue_parked_samples";
    let receiver = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    // Nobody is there.
    let nowhere = "url: 'http://127.0.0.1:1/'";
    let world = World::new(&receiver.write_url(), "").await;
    let keys = "scraper: {flush_timeout: 100ms}";
    world.write(&format!("{{{nowhere}, name: stays}}, {{{nowhere}, name: goes}}"), keys);
    let start = |name: &str| Process::standalone(name, &world.config, world.dir.path());
    let reload = async |base: &str| {
        let answer = client().post(format!("{base}/-/reload")).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    };
    let (mut promring, base) = start("promring");
    eventually("both have a backlog", async || {
        let pending = async |name: &str| {
            metric_of(&base, "prometheus_remote_storage_samples_pending", &format!("\"{name}\"")).await
        };
        (pending("stays").await? > 0.0 && pending("goes").await? > 0.0).then_some(())
    })
    .await;
    world.write(&format!("{{{nowhere}, name: stays}}"), keys);
    reload(&base).await;
    assert!(promring.terminate().success(), "{}", promring.log());
    let log = promring.log();
    let line_of = |name: &str| {
        log.lines()
            .find(|line| line.contains("not sent") && line.contains(name))
            .unwrap_or_else(|| panic!("{log}"))
    };
    assert!(line_of("stays").contains("sent after the next start"), "{log}");
    assert!(line_of("goes").contains("until remote_write has an entry of this name again"), "{log}");
    assert!(!line_of("goes").contains("are sent after the next start"), "{log}");

    let (mut promring, base) = start("promring-again");
    let parked = async || metric_of(&base, PARKED, "goes").await;
    eventually("it is shown as parked", async || parked().await.filter(|samples| *samples > 0.0)).await;
    assert!(
        promring.log().contains("has no destination in the configuration any more"),
        "{}",
        promring.log()
    );
    assert!(world.queues().contains("queue of goes"));
    world.write(&format!("{{url: '{}', name: goes}}", receiver.write_url()), keys);
    reload(&base).await;
    eventually("it is sent", async || (receiver.summary().samples > 0).then_some(())).await;
    assert_eq!(parked().await, Some(0.0));
    world.write("", keys);
    reload(&base).await;
    let dir = world.dir.path().join("data/queue/goes");
    eventually("its queue is gone", async || (!dir.exists()).then_some(())).await;
    assert!(promring.terminate().success(), "{}", promring.log());
}
