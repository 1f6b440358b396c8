//! An allocator and three scrapers as processes: each target is scraped by exactly one, and one that is killed stops
//! nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use promring_model::config::load;
use promring_net::clock::now_ms;
use promring_net::files::Disk;
use promring_testkit::exporter::{Fleet, FleetOptions};
use promring_testkit::receiver::Receiver;
use serde_json::Value;

use crate::support::{Process, eventually, free_port, get_json, scaled};

const TARGETS: usize = 12;
const SCRAPERS: usize = 3;

struct Parts {
    allocator: Process,
    allocator_url: String,
    scrapers: Vec<(Process, String)>,
}

impl Parts {
    fn start(config: &Path, dir: &Path) -> Self {
        let config = config.to_str().unwrap();
        let listen = format!("127.0.0.1:{}", free_port());
        let arguments = ["allocator", "--config", config, "--listen", &listen, "--log-format", "json"];
        let allocator = Process::promring("allocator", &arguments, dir);
        let allocator_url = format!("http://{listen}");
        let scraper = |number: usize| {
            let name = format!("scraper-{number}");
            let listen = format!("127.0.0.1:{}", free_port());
            let data = dir.join(&name);
            let arguments = [
                "scraper",
                "--config",
                config,
                "--name",
                &name,
                "--allocator",
                &allocator_url,
                "--listen",
                &listen,
                "--data-dir",
                data.to_str().unwrap(),
            ];
            (Process::promring(&name, &arguments, dir), format!("http://{listen}"))
        };
        let scrapers = (0..SCRAPERS).map(scraper).collect();
        Self { allocator, allocator_url, scrapers }
    }
}

/// The instances that the targets API of a process lists, with the scraper it names.
async fn instances(base: &str) -> BTreeMap<String, String> {
    let answer = get_json(&format!("{base}/api/v1/targets")).await.unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let targets = answer["data"]["activeTargets"].as_array().unwrap();
    targets.iter().map(|target| (text(&target["labels"]["instance"]), text(&target["scraper"]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_scrapers_share_the_targets_and_survive_each_others_death() {
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
allocator: {{settle: 3s, lapse: 1h}}
scraper: {{heartbeat: 500ms}}
",
        receiver.write_url()
    );
    std::fs::write(&config, text).unwrap();
    let job = load(&config, &Disk).config.unwrap().scrape_configs[0].clone();
    fleet.expect(&mut receiver.audit(), &job, &Default::default()).unwrap();

    let mut parts = Parts::start(&config, dir.path());
    let everyone = eventually("every scraper has its assignment in force", async || {
        let answer = get_json(&format!("{}/api/v1/scrapers", parts.allocator_url)).await?;
        let scrapers = answer["data"]["scrapers"].as_array()?.clone();
        let in_force = scrapers.iter().all(|scraper| scraper["version"].is_string());
        (scrapers.len() == SCRAPERS && in_force && answer["data"]["ready"] == true).then_some(scrapers)
    })
    .await;
    let from_ms = now_ms();
    receiver.audit().window(from_ms, i64::MAX);
    assert!(everyone.iter().all(|scraper| scraper["targets"].as_u64().unwrap() > 0), "{everyone:?}");

    // What each scraper scrapes, put together, is exactly the targets, each once.
    let all: BTreeSet<String> =
        fleet.exporters().iter().map(|exporter| exporter.address().to_string()).collect();
    let mut owners: BTreeMap<String, usize> = BTreeMap::new();
    for (number, (_, base)) in parts.scrapers.iter().enumerate() {
        for instance in instances(base).await.into_keys() {
            assert_eq!(owners.insert(instance.clone(), number), None, "{instance} has two owners");
        }
    }
    assert_eq!(owners.keys().cloned().collect::<BTreeSet<_>>(), all);
    let told = instances(&parts.allocator_url).await;
    let own: BTreeMap<String, String> =
        owners.iter().map(|(instance, number)| (instance.clone(), format!("scraper-{number}"))).collect();
    assert_eq!(told, own, "the allocator names the owners that really scrape");

    // And what arrives has one sample a slot.
    let slots = scaled(5, 60);
    let audited = |from_ms: i64| now_ms() - from_ms >= (slots + 3) * 1_000;
    eventually("some slots to audit", async || audited(from_ms).then_some(())).await;
    let report = receiver.audit().report(from_ms + slots * 1_000);
    assert!(report.counts.is_clean(), "{report:#?}");
    assert_eq!(report.targets, TARGETS as u64);
    assert!(report.slots >= report.series * (slots as u64 - 1), "{} slots", report.slots);

    // Killed, not stopped: its targets have gaps from now on (nobody takes over within the lapse), the others none.
    let killed_ms = now_ms();
    parts.scrapers[0].0.kill();
    let until_ms = killed_ms + slots * 1_000;
    eventually("slots after the kill", async || (now_ms() > until_ms + 3_000).then_some(())).await;
    let report = receiver.audit().report(until_ms);
    let mine: BTreeSet<&String> =
        owners.iter().filter(|(_, owner)| **owner == 0).map(|(instance, _)| instance).collect();
    assert!(!report.gaps.is_empty(), "the killed scraper's targets have gaps");
    for gap in &report.gaps {
        let instance = gap.labels.get("instance").unwrap().to_owned();
        assert!(mine.contains(&instance), "{instance} was not the killed scraper's and has gaps: {gap:?}");
        assert!(gap.first_ms > killed_ms - 2_000, "a gap from before the kill: {gap:?}");
    }
    assert_eq!((report.counts.duplicates, report.counts.out_of_order), (0, 0));

    // It comes back under its name and goes on with its targets.
    let (_, base) = &parts.scrapers[0];
    let listen = base.strip_prefix("http://").unwrap().to_owned();
    let data = dir.path().join("scraper-0");
    let arguments = [
        "scraper",
        "--config",
        config.to_str().unwrap(),
        "--name",
        "scraper-0",
        "--allocator",
        &parts.allocator_url,
        "--listen",
        &listen,
        "--data-dir",
        data.to_str().unwrap(),
    ];
    parts.scrapers[0].0 = Process::promring("scraper-0-again", &arguments, dir.path());
    let base = parts.scrapers[0].1.clone();
    let back = eventually("the killed scraper has its targets again", async || {
        get_json(&format!("{base}/api/v1/targets")).await?;
        Some(instances(&base).await).filter(|targets| !targets.is_empty())
    })
    .await;
    assert_eq!(back.keys().collect::<BTreeSet<_>>(), mine);

    for (mut scraper, _) in parts.scrapers {
        assert!(scraper.terminate().success(), "{}", scraper.log());
    }
    assert!(parts.allocator.terminate().success(), "{}", parts.allocator.log());
    for line in parts.allocator.log().lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}
