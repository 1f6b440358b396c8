//! A changed file reaches the scrapers one after the other: what they do meanwhile, and what is shown of it.

use std::collections::BTreeMap;
use std::path::Path;

use promring_testkit::exporter::{Fleet, FleetOptions};
use serde_json::{Value, json};

use crate::support::{Process, eventually, free_port, get_json, metric_of};

const TARGETS: usize = 8;
const OLD: &str = "- {job_name: old, file_sd_configs: [{files: [targets.json]}]}\n";
const OLD_OTHERWISE: &str =
    "- {job_name: old, sample_limit: 100000, file_sd_configs: [{files: [targets.json]}]}\n";
const NEW: &str = "- {job_name: new, file_sd_configs: [{files: [targets.json]}]}\n";

fn write(dir: &Path, name: &str, jobs: &[&str]) -> String {
    let text = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nallocator: {{settle: 1s}}\nscraper: {{heartbeat: 300ms}}\nscrape_configs:\n{}",
        jobs.concat()
    );
    let path = dir.join(name);
    // Renamed into place: half of it is never read.
    std::fs::write(path.with_extension("part"), text).unwrap();
    std::fs::rename(path.with_extension("part"), &path).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Owner and health of a job's targets, by instance.
async fn targets(allocator: &str, job: &str) -> Option<BTreeMap<String, (String, String)>> {
    let answer = get_json(&format!("{allocator}/api/v1/targets?scrapePool={job}")).await?;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |one: &Value| (text(&one["labels"]["instance"]), (text(&one["scraper"]), text(&one["health"])));
    Some(answer["data"]["activeTargets"].as_array()?.iter().map(of).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_a_scraper_does_not_have_yet_waits_there_and_differences_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(FleetOptions { targets: TARGETS, ..FleetOptions::default() }).await.unwrap();
    std::fs::write(dir.path().join("targets.json"), fleet.file_sd_json()).unwrap();
    let whole = write(dir.path(), "whole.yml", &[OLD, NEW]);
    let late = write(dir.path(), "late.yml", &[OLD_OTHERWISE]);
    let address = || format!("127.0.0.1:{}", free_port());
    let (listen, listen_a, listen_b) = (address(), address(), address());
    let allocator = ["allocator", "--config", &whole, "--listen", &listen];
    let _allocator = Process::promring("allocator", &allocator, dir.path());
    let url = format!("http://{listen}");
    let scraper = |name: &str, config: &str, listen: &str| {
        let data = dir.path().join(name);
        let more = ["--allocator", &url, "--listen", listen, "--data-dir", data.to_str().unwrap()];
        Process::promring(
            name,
            &[&["scraper", "--config", config, "--name", name], &more[..]].concat(),
            dir.path(),
        )
    };
    let (_a, _b) = (scraper("a", &whole, &listen_a), scraper("b", &late, &listen_b));

    eventually("the differences are shown", async || {
        let answer = get_json(&format!("{url}/api/v1/scrapers")).await?;
        let of = |one: &Value| json!([one["name"], one["config_mismatch"], one["unknown_jobs"]]);
        let shown: Vec<Value> = answer["data"]["scrapers"].as_array()?.iter().map(of).collect();
        (shown == [json!(["a", [], []]), json!(["b", ["old"], ["new"]])]).then_some(())
    })
    .await;
    let count = async |base: &str, name: &str, labels: &str| metric_of(base, name, labels).await;
    let own = format!("http://{listen_b}");
    for kind in ["differs", "absent"] {
        let labels = format!("kind=\"{kind}\"");
        eventually("metrics say so", async || {
            let here = count(&own, "promring_config_mismatches", &labels).await?;
            let there = count(&url, "promring_allocator_config_mismatches", &labels).await?;
            (here == 1.0 && there == 1.0).then_some(())
        })
        .await;
    }

    // Other settings stop nothing; an unknown job waits where it is, and only there.
    let before = eventually("everything is scraped but what waits", async || {
        let (old, new) = (targets(&url, "old").await?, targets(&url, "new").await?);
        let good =
            |(scraper, health): &(String, String)| health == if scraper == "a" { "up" } else { "unknown" };
        let all = old.len() == TARGETS && old.values().all(|(_, health)| health == "up");
        (all && new.len() == TARGETS && new.values().all(good)).then_some(new)
    })
    .await;
    let owned = |scraper: &str| before.values().filter(|(owner, _)| owner == scraper).count();
    assert!(owned("a") > 0 && owned("b") > 0, "{before:?}");

    write(dir.path(), "late.yml", &[OLD, NEW]);
    eventually("the job is scraped there, too", async || {
        let new = targets(&url, "new").await?;
        new.values().all(|(_, health)| health == "up").then_some(())
    })
    .await;
    let after = targets(&url, "new").await.unwrap();
    assert!(after.iter().all(|(instance, (owner, _))| before[instance].0 == *owner), "nothing has moved");
    eventually("nothing differs any more", async || {
        let differing = count(&url, "promring_allocator_config_mismatches", "").await?;
        (differing == 0.0).then_some(())
    })
    .await;
}
