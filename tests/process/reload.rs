//! Live reload: a good file takes over without losing a slot, a bad one is refused whole.

use std::path::{Path, PathBuf};

use promring_model::config::load;
use promring_model::labels::Labels;
use promring_net::clock::now_ms;
use promring_net::files::Disk;
use promring_testkit::audit::Absence;
use promring_testkit::exporter::{Fleet, FleetOptions};
use promring_testkit::receiver::Receiver;
use rustix::process::Signal;

use crate::support::{PATIENCE, Process, client, eventually, get, metric};

const SETTLED: &str = "prometheus_config_last_reload_success_timestamp_seconds";

struct World {
    dir: tempfile::TempDir,
    kept: Fleet,
    changing: Fleet,
    receiver: Receiver,
    promring: Process,
    base: String,
}

impl World {
    /// Two jobs, scraped every second; the file lies behind a symlink, as in a ConfigMap.
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = FleetOptions { targets: 2, ..FleetOptions::default() };
        let kept = Fleet::start(options.clone()).await.unwrap();
        let changing = Fleet::start(FleetOptions { seed: 2, ..options }).await.unwrap();
        let receiver = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        std::fs::write(dir.path().join("kept.json"), kept.file_sd_json()).unwrap();
        std::fs::write(dir.path().join("changing.json"), changing.file_sd_json()).unwrap();
        let config = publish(dir.path(), "v1", &configuration(dir.path(), &receiver, ""));
        let (promring, base) = Process::standalone("promring", &config, dir.path());
        let world = Self { dir, kept, changing, receiver, promring, base };
        eventually("every target was scraped", async || {
            let fleets = [&world.kept, &world.changing];
            let scraped = |fleet: &&Fleet| fleet.exporters().iter().all(|exporter| exporter.scrapes() > 0);
            fleets.iter().all(scraped).then_some(())
        })
        .await;
        world
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("prometheus.yml")
    }

    async fn reloaded_at(&self) -> f64 {
        metric(&self.base, SETTLED).await.unwrap()
    }

    async fn wait_for_reload(&self, before: f64) {
        eventually("the configuration is reloaded", async || {
            (self.reloaded_at().await > before).then_some(())
        })
        .await;
    }
}

fn configuration(dir: &Path, receiver: &Receiver, rules: &str) -> String {
    let dir = dir.display();
    format!(
        "
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
- job_name: kept
  file_sd_configs: [{{files: ['{dir}/kept.json']}}]
- job_name: changing
  file_sd_configs: [{{files: ['{dir}/changing.json']}}]
  metric_relabel_configs: [{rules}]
remote_write: [{{url: '{}', name: audit}}]
",
        receiver.write_url()
    )
}

/// Puts a file into force as a ConfigMap's volume does: a new directory, and a symlink that is swapped.
fn publish(dir: &Path, version: &str, text: &str) -> PathBuf {
    std::fs::create_dir(dir.join(version)).unwrap();
    std::fs::write(dir.join(version).join("prometheus.yml"), text).unwrap();
    std::os::unix::fs::symlink(version, dir.join("..data_new")).unwrap();
    std::fs::rename(dir.join("..data_new"), dir.join("..data")).unwrap();
    let link = dir.join("prometheus.yml");
    if !link.exists() {
        std::os::unix::fs::symlink("..data/prometheus.yml", &link).unwrap();
    }
    link
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_file_takes_over_without_losing_a_slot_of_any_job() {
    let world = World::start().await;
    let config = load(&world.config(), &Disk).config.unwrap();
    let [kept, changing] = &config.scrape_configs[..] else { panic!("two jobs") };
    {
        let mut audit = world.receiver.audit();
        world.kept.expect(&mut audit, kept, &Labels::default()).unwrap();
        world.changing.expect(&mut audit, changing, &Labels::default()).unwrap();
        audit.window(now_ms(), i64::MAX);
    }
    let from_ms = now_ms();
    let before = world.reloaded_at().await;

    // The new rule drops one series of the changing job, which has to end with a marker and everything else go on.
    let dropped = "process_open_fds";
    let rule = format!("{{source_labels: [__name__], regex: {dropped}, action: drop}}");
    let text = configuration(world.dir.path(), &world.receiver, &rule);
    publish(world.dir.path(), "v2", &text);
    world.wait_for_reload(before).await;
    let swapped_ms = now_ms();
    {
        let mut audit = world.receiver.audit();
        for exporter in world.changing.exporters() {
            let shown = |series: &Labels| series.get("__name__") == Some(dropped);
            assert!(exporter.series().iter().any(shown), "the exporter does not show {dropped}");
            let instance = exporter.address().to_string();
            let target = audit
                .find_target(&Labels::from_pairs([("job", "changing"), ("instance", &instance)]))
                .unwrap();
            let series = Labels::from_pairs([("__name__", dropped)]);
            // The swap was noticed up to a second before we heard of it.
            audit.expect_series_absence(target, &series, Absence::removed(swapped_ms - 2_000, 4_000));
        }
    }
    let until_ms = swapped_ms + 4_000;
    eventually("slots after the reload", async || (now_ms() > until_ms + 3_000).then_some(())).await;
    let report = world.receiver.audit().report(until_ms);
    let counts = report.counts;
    assert_eq!(
        (counts.gaps, counts.duplicates, counts.out_of_order, counts.stray_markers),
        (0, 0, 0, 0),
        "{report:#?}"
    );
    assert_eq!(counts.missing_markers, 0, "{report:#?}");
    assert!(report.slots > 1_000 && until_ms - from_ms > 4_000, "{} slots", report.slots);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_is_refused_whole_and_told_and_the_old_one_stays() {
    let world = World::start().await;
    let scraped = || world.kept.scrapes() + world.changing.scrapes();
    std::fs::write(world.config(), "scrape_configs: [{job_name: a, scrape_interval: 1}]\n").unwrap();
    let answer = client().post(format!("{}/-/reload", world.base)).send().await.unwrap();
    assert_eq!(answer.status(), 500);
    let message = answer.text().await.unwrap();
    assert!(message.contains("scrape_interval") && message.contains(":1:"), "{message}");
    let success = metric(&world.base, "prometheus_config_last_reload_successful").await;
    assert_eq!(success, Some(0.0));
    // Scraping goes on, for longer than a changed file takes to be noticed: what was read on request is not read again.
    let four_rounds = async || {
        let more = scraped() + 16;
        eventually("scraping goes on", async || (scraped() >= more).then_some(())).await;
    };
    four_rounds().await;
    let failures = metric(&world.base, "promring_config_reload_failures_total").await;
    assert_eq!(failures, Some(1.0), "{}", world.promring.log());
    assert_eq!(world.promring.log().matches("refused").count(), 1, "{}", world.promring.log());

    // A good one again, by SIGHUP.
    let before = world.reloaded_at().await;
    std::fs::write(world.config(), configuration(world.dir.path(), &world.receiver, "")).unwrap();
    world.promring.signal(Signal::HUP);
    world.wait_for_reload(before).await;
    assert_eq!(metric(&world.base, "prometheus_config_last_reload_successful").await, Some(1.0));
    four_rounds().await;
    let reloads = || world.promring.log().matches("configuration reloaded").count();
    assert_eq!(reloads(), 1, "{}", world.promring.log());
    let answer = client().put(format!("{}/-/reload", world.base)).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), reloads()), (200, 2), "PUT is as good as POST");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_added_or_removed_comes_and_goes_with_the_file() {
    let world = World::start().await;
    let one_job = configuration(world.dir.path(), &world.receiver, "")
        .replace("job_name: changing", "job_name: renamed");
    std::fs::write(world.config(), one_job).unwrap();
    let pools = async || {
        let text = get(&format!("{}/api/v1/targets", world.base)).await?;
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        let targets = answer["data"]["activeTargets"].as_array().unwrap();
        let up = |target: &&serde_json::Value| target["health"] == "up";
        Some(
            targets
                .iter()
                .filter(up)
                .map(|target| target["scrapePool"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>(),
        )
    };
    eventually("the renamed job's targets are up and the old one's gone", async || {
        let pools = pools().await?;
        let count = |name: &str| pools.iter().filter(|pool| *pool == name).count();
        (count("renamed") == 2 && count("kept") == 2 && count("changing") == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_being_written_is_not_taken_half() {
    let world = World::start().await;
    let before = world.reloaded_at().await;
    let good = std::fs::read_to_string(world.config()).unwrap();
    // Empty is valid, and would end every target. The writer takes its time, and touches the file meanwhile.
    for part in [0, 10, 20, 30] {
        std::fs::write(world.config(), &good[..part]).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    }
    std::fs::write(world.config(), &good).unwrap();
    world.wait_for_reload(before).await;
    let log = world.promring.log();
    assert!(!log.contains("jobs=0") && !log.contains("refused"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sighup_while_a_process_starts_does_not_end_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("prometheus.yml");
    // Much to read, so that the start takes a while.
    let jobs: String = (0..200).map(|number| format!("- {{job_name: j{number}}}\n")).collect();
    std::fs::write(&config, format!("scrape_configs:\n{jobs}")).unwrap();
    let (mut promring, base) = Process::standalone("promring", &config, dir.path());
    // From the first signal on that it listens to.
    let listens = async {
        while !promring.listens_to_signals() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, listens).await.unwrap();
    eventually("the process is ready", async || {
        promring.signal(Signal::HUP);
        get(&format!("{base}/-/ready")).await
    })
    .await;
    let log = promring.log();
    assert!(log.contains("promring is running"), "{log}");
    assert!(promring.terminate().success(), "{log}");
}
