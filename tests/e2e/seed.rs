//! The seed configuration's metric rules (an allowlist, labels dropped, a label renamed), and their effect at a real
//! receiver. Its discovery is Kubernetes', so the rules are taken from it and put under a job of files.

use std::collections::BTreeSet;

use promring_model::labels::Labels;
use promring_testkit::exporter::{Exporter, Fleet, FleetOptions};

use crate::servers::Store;
use crate::support::{Process, eventually};

/// The metric rules of testdata/seed.yml, as they stand there.
fn seed_rules() -> String {
    let seed = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/seed.yml")).unwrap();
    let rules =
        seed.split("    metric_relabel_configs:\n").nth(1).unwrap().split("\nremote_write:").next().unwrap();
    assert!(
        rules.contains("action: keep") && rules.contains("labeldrop") && rules.contains("service_name"),
        "{rules}"
    );
    format!("    metric_relabel_configs:\n{rules}\n")
}

/// What is to be stored of an exporter, worked out by hand.
fn expected(exporter: &Exporter) -> BTreeSet<Labels> {
    let allowed = |name: &str| {
        let families = [
            "http_request_duration_seconds_bucket",
            "http_request_duration_seconds_count",
            "http_request_duration_seconds_sum",
        ];
        name == "up"
            || name == "http_requests_total"
            || families.contains(&name)
            || name.starts_with("process_")
            || name.starts_with("go_")
    };
    let mut sets = BTreeSet::new();
    for series in exporter.series() {
        if !allowed(series.get("__name__").unwrap()) {
            continue;
        }
        let mut labels: Vec<(String, String)> = Vec::new();
        for (name, value) in series.iter() {
            match name {
                "pod_ip" | "instance_id" => {}
                // The target's own label wins, and the exposed one is kept under another name.
                "service" => labels.push(("exported_service".to_owned(), value.to_owned())),
                _ => labels.push((name.to_owned(), value.to_owned())),
            }
        }
        for (name, value) in exporter.target_labels().iter() {
            let name = if name == "service" { "service_name" } else { name };
            labels.push((name.to_owned(), value.to_owned()));
        }
        labels.push(("job".to_owned(), "pods".to_owned()));
        labels.push(("instance".to_owned(), exporter.address().to_string()));
        sets.insert(Labels::from_pairs(labels));
    }
    sets
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seed_rules_keep_drop_and_rename_at_a_real_receiver() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::prometheus(dir.path()).await;
    let fleet = Fleet::start(FleetOptions { targets: 4, ..FleetOptions::default() }).await.unwrap();
    std::fs::write(dir.path().join("targets.json"), fleet.file_sd_json()).unwrap();
    let config = dir.path().join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n  - job_name: pods\n    file_sd_configs: [{{files: [targets.json]}}]\n{}remote_write: [{{url: '{}'}}]\n",
        seed_rules(),
        store.write_url()
    );
    std::fs::write(&config, text).unwrap();
    let (_promring, _) = Process::standalone("promring", &config, dir.path());

    let wanted: BTreeSet<Labels> = fleet.exporters().iter().flat_map(expected).collect();
    let all: usize = fleet.exporters().iter().map(|exporter| exporter.series().len()).sum();
    assert!(wanted.len() > 40 && wanted.len() < all, "{} of {all}", wanted.len());
    let with = |name: &str| wanted.iter().filter(|labels| labels.get(name).is_some()).count();
    assert_eq!((with("pod_ip"), with("instance_id"), with("service")), (0, 0, 0));
    assert_eq!(with("service_name"), wanted.len());
    let exposed_pod_ip =
        |exporter: &Exporter| exporter.series().iter().any(|series| series.get("pod_ip").is_some());
    assert!(fleet.exporters().iter().any(exposed_pod_ip), "there is something to drop");

    let query = "{job=\"pods\",__name__!~\"up|scrape_.+\"}";
    let stored: BTreeSet<Labels> = eventually("every kept series is stored", async || {
        let stored: BTreeSet<Labels> = store.query(query).await.into_keys().collect();
        (stored.len() >= wanted.len()).then_some(stored)
    })
    .await;
    assert_eq!(stored, wanted);
    assert_eq!(store.value("sum(up{job=\"pods\"})").await, Some(4.0));
}
