//! Scrapers come, restart and go: every slot of every target has exactly one sample, in order, and nothing that lives is
//! marked.

use std::path::PathBuf;

use promring_model::config::load;
use promring_net::clock::now_ms;
use promring_net::files::Disk;
use promring_testkit::exporter::{Fleet, FleetOptions};
use promring_testkit::receiver::Receiver;

use crate::support::{Process, eventually, free_port, get, get_json, metric_of};

const TARGETS: usize = 12;

struct World {
    dir: tempfile::TempDir,
    config: PathBuf,
    allocator_url: String,
    _allocator: Process,
}

impl World {
    fn scraper(&self, name: &str, log: &str) -> (Process, String) {
        let listen = format!("127.0.0.1:{}", free_port());
        let data = self.dir.path().join(name);
        let [config, data] = [&*self.config, &*data].map(|path| path.to_str().unwrap());
        let arguments = [
            &["scraper", "--config", config, "--name", name, "--listen", &listen][..],
            &["--allocator", &self.allocator_url, "--data-dir", data],
        ];
        (Process::promring(log, &arguments.concat(), self.dir.path()), format!("http://{listen}"))
    }

    /// How many targets each of these scrapers has, once all targets have an owner among them and nothing moves.
    async fn settled(&self, names: &[&str]) -> Vec<u64> {
        eventually("every target has its scraper", async || {
            let answer = get_json(&format!("{}/api/v1/scrapers", self.allocator_url)).await?;
            let scrapers = answer["data"]["scrapers"].as_array()?;
            let targets = |name: &&str| {
                let scraper = scrapers
                    .iter()
                    .find(|scraper| scraper["name"] == **name && scraper["state"] == "ready")?;
                scraper["targets"].as_u64()
            };
            let targets: Vec<u64> = names.iter().map(targets).collect::<Option<_>>()?;
            let moving = answer["data"]["moves"].as_array().is_some_and(|moves| !moves.is_empty());
            (!moving && targets.iter().sum::<u64>() == TARGETS as u64 && !targets.contains(&0))
                .then_some(targets)
        })
        .await
    }
}

async fn given(base: &str) -> f64 {
    metric_of(base, "promring_handover_keys_total", "role=\"giver\"").await.unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn scrapers_come_restart_and_go_and_every_slot_has_one_sample() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(FleetOptions { targets: TARGETS, ..FleetOptions::default() }).await.unwrap();
    let receiver = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    std::fs::write(dir.path().join("targets.json"), fleet.file_sd_json()).unwrap();
    let config = dir.path().join("prometheus.yml");
    let text = format!(
        "
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
- job_name: sample
  file_sd_configs: [{{files: [targets.json]}}]
remote_write: [{{url: '{}'}}]
allocator: {{settle: 2s}}
scraper: {{heartbeat: 500ms}}
",
        receiver.write_url()
    );
    std::fs::write(&config, text).unwrap();
    let job = load(&config, &Disk).config.unwrap().scrape_configs[0].clone();
    fleet.expect(&mut receiver.audit(), &job, &Default::default()).unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let arguments = ["allocator", "--config", config.to_str().unwrap(), "--listen", &listen];
    let allocator = Process::promring("allocator", &arguments, dir.path());
    let world = World { config, dir, allocator_url: format!("http://{listen}"), _allocator: allocator };

    let (_zero, zero_url) = world.scraper("scraper-0", "scraper-0");
    let (mut one, one_url) = world.scraper("scraper-1", "scraper-1");
    world.settled(&["scraper-0", "scraper-1"]).await;
    eventually("all are scraped", async || {
        let up = receiver.audit().last_samples("up");
        (up.len() == TARGETS && up.iter().all(|up| up.samples >= 2)).then_some(())
    })
    .await;
    let from_ms = now_ms();

    // One comes.
    let (mut two, _) = world.scraper("scraper-2", "scraper-2");
    let of_two = world.settled(&["scraper-0", "scraper-1", "scraper-2"]).await[2];
    assert!(given(&zero_url).await + given(&one_url).await >= of_two as f64, "{of_two} moved");
    // One restarts.
    assert!(one.terminate().success(), "{}", one.log());
    assert!(one.log().contains("other scrapers have the targets of this one"), "{}", one.log());
    let (mut one, _) = world.scraper("scraper-1", "scraper-1-again");
    world.settled(&["scraper-0", "scraper-1", "scraper-2"]).await;
    // One goes.
    assert!(two.terminate().success(), "{}", two.log());
    assert!(two.log().contains("other scrapers have the targets of this one"), "{}", two.log());
    world.settled(&["scraper-0", "scraper-1"]).await;
    let metrics = get(&format!("{}/metrics", world.allocator_url)).await.unwrap();
    let of = |name: &str| {
        let of_it = |line: &&str| line.starts_with("promring_allocator") && line.contains(name);
        let named = metrics.lines().filter(of_it);
        named.map(|line| line.split('{').next().unwrap()).collect::<std::collections::BTreeSet<&str>>()
    };
    let left = ["promring_allocator_aside_samples", "promring_allocator_queued_samples"];
    assert_eq!(Vec::from_iter(of("\"scraper-2\"")), left);
    assert!(of("\"scraper-1\"").contains("promring_allocator_weight"), "{metrics}");
    assert!(metrics.contains("promring_allocator_scrapers{state=\"lost_or_draining\"} 0"), "{metrics}");

    let until_ms = now_ms() + 2_000;
    receiver.audit().window(from_ms, until_ms);
    eventually("all of that has arrived", async || (now_ms() > until_ms + 4_000).then_some(())).await;
    let report = receiver.audit().report(until_ms);
    assert!(report.counts.is_clean(), "{report:#?}");
    assert!(report.slots > 10 * TARGETS as u64, "{report:#?}");
    let failed = metric_of(&zero_url, "promring_handover_series_failed_total", "").await;
    assert_eq!(failed, Some(0.0), "series of last scrapes that could not be had");
    assert!(one.terminate().success(), "{}", one.log());
}
