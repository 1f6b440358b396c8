//! What `/scrape_configs` holds is a configuration of Prometheus: promtool says so.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use promring_model::config::load;
use promring_net::files::Disk;
use serde_json::value::RawValue;

use super::{allocator, config, start_allocator};
use crate::servers::part;
use crate::support::{eventually, free_port, get, scaled, testdata};

/// The jobs that an allocator tells collectors of, after promtool has taken them as they were sent.
async fn told_by(dir: &Path) -> Vec<String> {
    let listen = format!("127.0.0.1:{}", free_port());
    let _allocator = start_allocator(dir, &listen, 0);
    let sent =
        eventually("the allocator tells", async || get(&format!("http://{listen}/scrape_configs")).await)
            .await;
    let jobs: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&sent).unwrap();
    let list: Vec<&str> = jobs.values().map(|job| job.get()).collect();
    let file = dir.join("told.yml");
    std::fs::write(&file, format!("{{\"scrape_configs\":[{}]}}", list.join(","))).unwrap();
    let arguments = ["check", "config", "--syntax-only", file.to_str().unwrap()];
    let output = Command::new(part("PROMTOOL")).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(output.status.success(), "{said:?}\n{sent}");
    jobs.into_keys().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn drop_in_settings_of_jobs_are_a_configuration_that_prometheus_takes() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = std::fs::read_to_string(testdata().join("drop-in/jobs.yml")).unwrap();
    std::fs::write(config(dir.path()), format!("{}\n{jobs}", allocator(&["a"]))).unwrap();
    let names = told_by(dir.path()).await;
    assert_eq!(names, ["bearer", "oauth2", "odd: {name} # ü\u{2028}", "plain", "rich"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn drop_in_settings_of_every_good_configuration_are_taken_by_prometheus() {
    let directory = testdata().join("config");
    let mut files: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut looked_at = 0;
    files.retain(|file| file.to_string_lossy().ends_with(".good.yml"));
    // Each takes the start of two processes.
    for file in files.iter().step_by(scaled(3, 1)) {
        // Some are not UTF-8, and some have sections of their own for the allocator; discovery may never sync here.
        let Ok(text) = std::fs::read_to_string(file) else { continue };
        let has = |key: &str| text.starts_with(key) || text.contains(&format!("\n{key}"));
        if !has("scrape_configs:") || has("allocator:") || text.contains("_sd_configs") {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(config(dir.path()), format!("{}\n{text}", allocator(&["a"]))).unwrap();
        if load(&config(dir.path()), &Disk).config.is_none() {
            continue;
        }
        told_by(dir.path()).await;
        looked_at += 1;
    }
    assert!(looked_at >= scaled(12, 40), "{looked_at} files were looked at");
}
