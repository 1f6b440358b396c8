//! Disks that are full, fail or are read-only, for real: the oldest samples of the largest backlog give way, never the process,
//! and all goes on by itself when the disk is back. As root.

use std::path::PathBuf;

use promring_testkit::exporter::{Fleet, FleetOptions};
use promring_testkit::receiver::{Fault, Receiver};

use crate::host::Disk;
use crate::support::{Process, client, eventually, get, metric, metric_of, run};

const DROPPED: &str = "promring_queue_dropped_samples_total";
const UNREAD: &str = "promring_queue_unread";
const MEMORY: &str = "promring_queue_memory_bytes";

struct World {
    dir: tempfile::TempDir,
    fleet: Fleet,
    /// Gets everything.
    large: Receiver,
    /// Gets `up` only.
    small: Receiver,
    /// The same, once it is configured.
    added: Receiver,
    config: PathBuf,
}

/// Nobody waits for a part that tells nothing: a test that needs that to end would take longer than it may.
const LAPSE: &str = "10m";

impl World {
    /// Both receivers are away.
    async fn new(targets: usize, series: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = FleetOptions { targets, series: Some(series), ..FleetOptions::default() };
        let fleet = Fleet::start(options).await.unwrap();
        let large = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let small = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let added = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        std::fs::write(dir.path().join("targets.json"), fleet.file_sd_json()).unwrap();
        let config = dir.path().join("prometheus.yml");
        let text = format!(
            "
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
allocator: {{lapse: {LAPSE}}}
scrape_configs: [{{job_name: sample, file_sd_configs: [{{files: [targets.json]}}]}}]
remote_write:
- {{url: '{}', name: large, queue_config: {{max_backoff: 500ms}}}}
- url: '{}'
  name: small
  queue_config: {{max_backoff: 500ms}}
  write_relabel_configs: [{{source_labels: [__name__], regex: up, action: keep}}]
",
            large.write_url(),
            small.write_url()
        );
        std::fs::write(&config, text).unwrap();
        large.add_fault(Fault::Reset).unwrap();
        small.add_fault(Fault::Reset).unwrap();
        Self { dir, fleet, large, small, added, config }
    }

    /// Configures another destination, which is there.
    fn add_destination(&self) {
        let mut text = std::fs::read_to_string(&self.config).unwrap();
        text.push_str(&format!(
            "- {{url: '{}', name: added, write_relabel_configs: [{{source_labels: [__name__], regex: up, action: keep}}]}}\n",
            self.added.write_url()
        ));
        std::fs::write(&self.config, text).unwrap();
    }

    /// A process whose queues are on the disk.
    fn start(&self, name: &str) -> (Process, String) {
        Process::standalone(name, &self.config, self.dir.path())
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Samples of `up` that the small destination has.
    fn ups(&self) -> u64 {
        ups(&self.small)
    }

    /// The small destination has one sample for each scrape, in order: it lost nothing.
    fn assert_small_is_whole(&self) {
        assert_eq!(self.ups(), self.fleet.scrapes());
        let summary = self.small.summary();
        assert_eq!((summary.duplicates, summary.out_of_order), (0, 0));
    }
}

fn ups(receiver: &Receiver) -> u64 {
    receiver.audit().last_samples("up").iter().map(|up| up.samples).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_the_oldest_samples_of_the_largest_backlog_and_nothing_else() {
    let world = World::new(10, 800).await;
    let disk = Disk::tmpfs(&world.data(), 2);
    let (mut promring, base) = world.start("promring");
    let gone = eventually("the largest backlog has given way", async || {
        metric_of(&base, DROPPED, "disk_full").await.filter(|samples| *samples > 5_000.0)
    })
    .await;
    assert!(promring.log().contains("the queue has dropped samples: the disk is full"), "{}", promring.log());
    // It goes on like this for a while.
    eventually("more of it", async || {
        metric_of(&base, DROPPED, "disk_full").await.filter(|samples| *samples > gone + 30_000.0)
    })
    .await;
    // A destination that comes now has its queue there all the same.
    world.add_destination();
    let answer = client().post(format!("{base}/-/reload")).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    eventually("the new destination is sent to", async || (ups(&world.added) > 20).then_some(())).await;
    let (code, shown, _) = run(&["queue", world.data().to_str().unwrap()]);
    assert!(shown.contains("queue of large") && code.is_some(), "{shown}");

    world.large.clear_faults();
    world.small.clear_faults();
    eventually("the backlogs are sent", async || {
        metric(&base, "prometheus_remote_storage_samples_pending").await.filter(|samples| *samples < 25_000.0)
    })
    .await;
    let lost = async |name: &str| {
        let labels = format!("remote_name=\"{name}\"");
        let text = get(&format!("{base}/metrics")).await.unwrap();
        let lines = text.lines().filter(|line| line.starts_with(DROPPED) && line.contains(&labels));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>()
    };
    assert_eq!(lost("small").await, 0.0, "the small backlog was never in the way");
    assert_eq!(lost("added").await, 0.0, "neither was one that is sent at once");
    let before = lost("large").await;
    let next = world.fleet.scrapes() + 30;
    eventually("three rounds of scrapes", async || (world.fleet.scrapes() >= next).then_some(())).await;
    assert_eq!(lost("large").await, before, "nothing more is lost");
    assert_eq!(metric(&base, MEMORY).await, Some(0.0));
    assert!(promring.terminate().success(), "{}", promring.log());
    world.assert_small_is_whole();
    let summary = world.large.summary();
    assert_eq!((summary.duplicates, summary.out_of_order), (0, 0));
    drop(disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_disk_that_others_have_filled_the_oldest_gives_way_until_there_is_room_again() {
    let world = World::new(2, 300).await;
    let disk = Disk::ext4(&world.data(), 24);
    let (mut promring, base) = world.start("promring");
    eventually("a backlog", async || {
        metric(&base, "prometheus_remote_storage_samples_pending").await.filter(|samples| *samples > 1_000.0)
    })
    .await;
    let filler = disk.path().join("of-somebody-else");
    // Whatever it says at the end of the disk.
    let _ = std::fs::write(&filler, vec![7; 64 << 20]);
    eventually("the oldest has given way, and the failed writes are counted", async || {
        let dropped = metric_of(&base, DROPPED, "disk_full").await?;
        (dropped > 0.0 && metric(&base, MEMORY).await? == 0.0).then_some(())
    })
    .await;
    assert!(promring.runs());
    std::fs::remove_file(&filler).unwrap();
    let after = world.fleet.scrapes() + 4;
    eventually("scrapes after that", async || (world.fleet.scrapes() >= after).then_some(())).await;
    let dropped = metric(&base, DROPPED).await;
    let after = world.fleet.scrapes() + 8;
    eventually("and more of them", async || (world.fleet.scrapes() >= after).then_some(())).await;
    assert_eq!(metric(&base, DROPPED).await, dropped, "there is room again");
    world.large.clear_faults();
    world.small.clear_faults();
    eventually("all is sent", async || {
        metric(&base, "prometheus_remote_storage_samples_pending").await.filter(|samples| *samples < 2_000.0)
    })
    .await;
    assert!(promring.terminate().success(), "{}", promring.log());
    world.assert_small_is_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_disk_is_sent_from_and_used_again_when_it_takes_writes() {
    let world = World::new(2, 200).await;
    let disk = Disk::ext4(&world.data(), 24);
    let (mut promring, base) = world.start("promring");
    eventually("a backlog", async || {
        metric(&base, "prometheus_remote_storage_samples_pending").await.filter(|samples| *samples > 1_000.0)
    })
    .await;
    assert!(promring.terminate().success(), "{}", promring.log());

    disk.remount("ro");
    // One that has nothing on this disk yet.
    world.add_destination();
    let scrapes = world.fleet.scrapes();
    let (mut promring, base) = world.start("promring-read-only");
    eventually("scrapes go on", async || (world.fleet.scrapes() > scrapes + 4).then_some(())).await;
    assert!(metric(&base, "promring_assignment_save_failures_total").await.unwrap() > 0.0);
    eventually("records wait in memory", async || {
        metric(&base, MEMORY).await.filter(|bytes| *bytes > 20_000.0)
    })
    .await;
    world.small.clear_faults();
    // From the disk, and then from memory.
    let sent = world.fleet.scrapes();
    eventually("the small destination has all of it", async || (world.ups() >= sent).then_some(())).await;
    eventually("the new one has what is its", async || (ups(&world.added) >= sent - scrapes).then_some(()))
        .await;
    disk.remount("rw");
    eventually("all is on the disk", async || (metric(&base, MEMORY).await? == 0.0).then_some(())).await;
    eventually("and the queue of the new destination", async || {
        world.data().join("queue/added/set-00000001/meta").exists().then_some(())
    })
    .await;
    world.large.clear_faults();
    eventually("all is sent", async || {
        metric(&base, "prometheus_remote_storage_samples_pending").await.filter(|samples| *samples < 2_000.0)
    })
    .await;
    assert_eq!(metric(&base, DROPPED).await, Some(0.0));
    assert!(promring.terminate().success(), "{}", promring.log());
    world.assert_small_is_whole();
    let summary = world.large.summary();
    assert_eq!((summary.duplicates, summary.out_of_order), (0, 0));
    assert_eq!(world.large.audit().last_samples("up").iter().map(|up| up.samples).sum::<u64>(), world.ups());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_the_disk_does_not_give_is_waited_for_and_costs_nobody_anything() {
    let world = World::new(2, 200).await;
    let disk = Disk::ext4(&world.data(), 24);
    let (mut promring, base) = world.start("promring");
    eventually("a backlog", async || {
        metric(&base, "prometheus_remote_storage_samples_pending").await.filter(|samples| *samples > 1_000.0)
    })
    .await;
    assert!(promring.terminate().success(), "{}", promring.log());

    let damage = disk.damage("queue/large");
    world.small.clear_faults();
    let scrapes = world.fleet.scrapes();
    let (mut promring, base) = world.start("promring-unread");
    eventually("scrapes go on", async || (world.fleet.scrapes() > scrapes + 4).then_some(())).await;
    let sent = world.fleet.scrapes();
    eventually("the other destination has all of it", async || (world.ups() >= sent).then_some(())).await;
    assert_eq!(metric(&base, UNREAD).await, Some(1.0));
    assert!(promring.log().contains("the directory of a queue cannot be read"), "{}", promring.log());
    world.large.clear_faults();
    eventually("records wait in memory", async || {
        metric(&base, MEMORY).await.filter(|bytes| *bytes > 10_000.0)
    })
    .await;
    assert_eq!(ups(&world.large), 0, "what is on the disk is older");

    damage.mend();
    eventually("it is taken up", async || (metric(&base, UNREAD).await? == 0.0).then_some(())).await;
    eventually("all is on the disk", async || (metric(&base, MEMORY).await? == 0.0).then_some(())).await;
    eventually("all is sent", async || {
        metric(&base, "prometheus_remote_storage_samples_pending").await.filter(|samples| *samples < 2_000.0)
    })
    .await;
    assert_eq!(metric(&base, DROPPED).await, Some(0.0));
    assert!(promring.terminate().success(), "{}", promring.log());
    world.assert_small_is_whole();
    assert_eq!(ups(&world.large), world.ups());
    let summary = world.large.summary();
    assert_eq!((summary.duplicates, summary.out_of_order), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_gives_up_under_the_queue_stops_nobody() {
    let world = World::new(2, 200).await;
    let disk = Disk::ext4(&world.data(), 24);
    let (mut promring, base) = world.start("promring");
    eventually("a backlog", async || {
        metric(&base, "prometheus_remote_storage_samples_pending").await.filter(|samples| *samples > 1_000.0)
    })
    .await;
    // As at an input/output error of the device: from now on every write fails, for files that are open too.
    disk.remount("abort");
    eventually("records wait in memory, and the errors are counted", async || {
        let memory = metric(&base, MEMORY).await?;
        let errors = metric(&base, "promring_queue_write_errors_total").await?;
        (memory > 20_000.0 && errors > 0.0).then_some(())
    })
    .await;
    world.large.clear_faults();
    world.small.clear_faults();
    eventually("all is sent, from the disk and from memory", async || {
        metric(&base, "prometheus_remote_storage_samples_pending").await.filter(|samples| *samples < 2_000.0)
    })
    .await;
    assert_eq!(metric(&base, DROPPED).await, Some(0.0));
    assert!(promring.terminate().success(), "{}", promring.log());
    world.assert_small_is_whole();
}
