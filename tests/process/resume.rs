//! A scraper that restarts while no allocator answers goes on with the assignment that it saved.

use std::path::Path;

use promring_model::config::load;
use promring_net::clock::now_ms;
use promring_net::files::Disk;
use promring_testkit::exporter::{Fleet, FleetOptions};
use promring_testkit::receiver::Receiver;
use serde_json::Value;

use crate::support::{Process, client, eventually, free_port, get, get_json, metric};

const TARGETS: usize = 3;

struct Parts {
    config: String,
    data: String,
    allocator: String,
    scraper: String,
}

impl Parts {
    fn start_allocator(&self, name: &str, dir: &Path) -> Process {
        Process::promring(name, &["allocator", "--config", &self.config, "--listen", &self.allocator], dir)
    }

    fn start_scraper(&self, name: &str, dir: &Path) -> Process {
        let allocator = format!("http://{}", self.allocator);
        let Self { config, data, scraper, .. } = self;
        let arguments =
            ["--config", config, "--data-dir", data, "--listen", scraper, "--allocator", &allocator];
        Process::promring(name, &[&["scraper", "--name", "scraper-0"][..], &arguments].concat(), dir)
    }

    async fn targets(&self, query: &str) -> Option<Vec<Value>> {
        let answer = get_json(&format!("http://{}/api/v1/targets{query}", self.scraper)).await?;
        assert_eq!(answer["status"], "success");
        Some(answer["data"]["activeTargets"].as_array()?.clone())
    }

    async fn all_up(&self) {
        eventually("all targets are up", async || {
            let targets = self.targets("").await?;
            let up = targets.iter().filter(|target| target["health"] == "up").count();
            (up == TARGETS).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scraper_without_an_allocator_goes_on_with_the_assignment_on_its_volume() {
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
allocator: {{settle: 0s}}
",
        receiver.write_url()
    );
    std::fs::write(&config, text).unwrap();
    let job = load(&config, &Disk).config.unwrap().scrape_configs[0].clone();
    fleet.expect(&mut receiver.audit(), &job, &Default::default()).unwrap();
    let parts = Parts {
        config: config.to_str().unwrap().to_owned(),
        data: dir.path().join("data").to_str().unwrap().to_owned(),
        allocator: format!("127.0.0.1:{}", free_port()),
        scraper: format!("127.0.0.1:{}", free_port()),
    };
    let mut allocator = parts.start_allocator("allocator", dir.path());
    let mut scraper = parts.start_scraper("scraper", dir.path());
    parts.all_up().await;
    the_api_is_prometheuss(&parts).await;
    let saved = dir.path().join("data/assignment.json");
    eventually("the assignment is saved", async || saved.exists().then_some(())).await;

    allocator.kill();
    scraper.kill();
    let mut scraper = parts.start_scraper("scraper-again", dir.path());
    parts.all_up().await;
    let base = format!("http://{}", parts.scraper);
    assert_eq!(metric(&base, "promring_assignment_resumed_total").await, Some(1.0));

    // The allocator comes back and changes nothing: no slot is missed, none is scraped twice.
    let from_ms = now_ms();
    let mut allocator = parts.start_allocator("allocator-again", dir.path());
    eventually("the allocator's new term is in force", async || {
        let answer = get_json(&format!("http://{}/api/v1/scrapers", parts.allocator)).await?;
        let version = answer["data"]["version"].as_str()?.to_owned();
        (answer["data"]["scrapers"][0]["version"] == version && answer["data"]["ready"] == true).then_some(())
    })
    .await;
    let until_ms = now_ms() + 3_000;
    receiver.audit().window(from_ms, until_ms);
    eventually("some slots to audit", async || (now_ms() > until_ms + 3_000).then_some(())).await;
    let report = receiver.audit().report(until_ms);
    assert!(report.counts.is_clean(), "{report:#?}");
    assert!(scraper.terminate().success(), "{}", scraper.log());
    assert!(allocator.terminate().success(), "{}", allocator.log());
}

/// Names and shapes that Prometheus's clients know.
async fn the_api_is_prometheuss(parts: &Parts) {
    let targets = parts.targets("?state=active&scrapePool=sample").await.unwrap();
    assert_eq!(targets.len(), TARGETS);
    for name in [
        "discoveredLabels",
        "labels",
        "scrapePool",
        "scrapeUrl",
        "globalUrl",
        "lastError",
        "lastScrape",
        "lastScrapeDuration",
        "health",
        "scrapeInterval",
        "scrapeTimeout",
    ] {
        assert!(!targets[0][name].is_null(), "{name} is missing: {}", targets[0]);
    }
    assert_eq!((&targets[0]["scrapeInterval"], &targets[0]["lastError"]), (&"1s".into(), &"".into()));
    assert_eq!(parts.targets("?state=dropped").await.unwrap(), Vec::<Value>::new());
    assert_eq!(parts.targets("?scrapePool=other").await.unwrap(), Vec::<Value>::new());
    let base = format!("http://{}", parts.scraper);
    let page = get(&format!("{base}/targets")).await.unwrap();
    assert!(page.contains("<h2>sample</h2>") && page.contains(targets[0]["scrapeUrl"].as_str().unwrap()));
    let head = client().get(format!("{base}/targets")).send().await.unwrap();
    assert!(head.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
}
