//! docs/metrics.md and what the binary shows are the same: names, types, labels.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use promring_testkit::exporter::{Fleet, FleetOptions};
use promring_testkit::receiver::Receiver;

use crate::support::{Process, eventually, get, metric};

const PAGE: &str = include_str!("../../docs/metrics.md");

/// What dashboards and alerts for Prometheus's remote write look for, with the labels `remote_name` and `url`.
const REMOTE_STORAGE: [&str; 24] = [
    "samples_total",
    "exemplars_total",
    "histograms_total",
    "metadata_total",
    "samples_failed_total",
    "exemplars_failed_total",
    "histograms_failed_total",
    "metadata_failed_total",
    "samples_retried_total",
    "exemplars_retried_total",
    "histograms_retried_total",
    "metadata_retried_total",
    "samples_pending",
    "exemplars_pending",
    "histograms_pending",
    "metadata_pending",
    "queue_highest_timestamp_seconds",
    "queue_highest_sent_timestamp_seconds",
    "shards",
    "shards_min",
    "shards_max",
    "shards_desired",
    "bytes_total",
    "metadata_bytes_total",
];

/// These and the ones above, with other labels.
const OTHERS: [(&str, &[&str]); 9] = [
    ("max_samples_per_send", &["remote_name", "url"]),
    ("sent_batch_duration_seconds", &["remote_name", "url"]),
    ("samples_dropped_total", &["reason", "remote_name", "url"]),
    ("exemplars_dropped_total", &["reason", "remote_name", "url"]),
    ("histograms_dropped_total", &["reason", "remote_name", "url"]),
    ("samples_in_total", &[]),
    ("histograms_in_total", &[]),
    ("exemplars_in_total", &[]),
    ("highest_timestamp_in_seconds", &[]),
];

/// Type and labels.
type Shape = (String, BTreeSet<String>);

fn documented() -> BTreeMap<String, Shape> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `prom"));
    let cells = rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let rows = cells.filter(|cells| ["counter", "gauge", "histogram"].contains(cells.get(1).unwrap_or(&"")));
    let row = |cells: Vec<&str>| {
        let labels = cells[2].split(", ").map(|label| label.trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (cells[0].trim_matches('`').to_owned(), (cells[1].to_owned(), labels))
    };
    let mut documented = BTreeMap::new();
    for (name, shape) in rows.map(row) {
        assert!(documented.insert(name.clone(), shape).is_none(), "{name} stands on the page twice");
    }
    documented
}

/// What the text of `/metrics` holds.
fn shown(text: &str) -> BTreeMap<String, Shape> {
    let types: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let mut shown = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let of_histogram =
            |suffix| name.strip_suffix(suffix).filter(|base| types.get(base) == Some(&"histogram"));
        let base = ["_bucket", "_sum", "_count"].into_iter().find_map(of_histogram).unwrap_or(name);
        // No value of a label here holds such a pair of bytes.
        let labels = labels.trim_end_matches('}').split("\",").filter_map(|pair| pair.split_once('='));
        let labels = labels.map(|(label, _)| label.to_owned()).filter(|label| label != "le");
        let known: &mut Shape =
            shown.entry(base.to_owned()).or_insert((types[base].to_owned(), BTreeSet::new()));
        known.1.extend(labels);
    }
    shown
}

/// Names that the sources of the product hold as texts.
fn in_sources() -> BTreeSet<String> {
    fn walk(path: &Path, found: &mut BTreeSet<String>) {
        if path.is_dir() {
            for entry in std::fs::read_dir(path).unwrap() {
                walk(&entry.unwrap().path(), found);
            }
        } else if path.extension().is_some_and(|end| end == "rs") && !path.to_string_lossy().contains("test")
        {
            let text = std::fs::read_to_string(path).unwrap();
            let product = text.split("#[cfg(test)]").next().unwrap();
            for quoted in product.split('"') {
                let ours = quoted.starts_with("prometheus_") || quoted.starts_with("promring_");
                let name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                if ours && quoted.chars().all(name) && !quoted.ends_with('_') {
                    found.insert(quoted.to_owned());
                }
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    for part in ["allocator/src", "scraper/src", "net/src", "src"] {
        walk(&root.join(part), &mut found);
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_is_shown_stands_on_the_page_with_its_type_and_labels() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(FleetOptions { targets: 1, ..FleetOptions::default() }).await.unwrap();
    let receiver = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    std::fs::write(dir.path().join("targets.json"), fleet.file_sd_json()).unwrap();
    let config = dir.path().join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: sample, file_sd_configs: [{{files: [targets.json]}}]}}]\n\
         remote_write: [{{url: '{}', name: audit}}]\nscraper: {{queue: {{fsync_interval: 100ms}}}}\n",
        receiver.write_url()
    );
    std::fs::write(&config, text).unwrap();
    let (_promring, base) = Process::standalone("promring", &config, dir.path());
    eventually("something was sent, and the metrics say so", async || {
        let sent = metric(&base, "prometheus_remote_storage_queue_highest_sent_timestamp_seconds").await?;
        let synced = metric(&base, "promring_queue_syncs_total").await?;
        (sent > 0.0 && synced > 0.0).then_some(())
    })
    .await;
    let page = get(&format!("{base}/metrics")).await.unwrap();
    // There before there is anything to count.
    assert!(page.contains("prometheus_target_sync_failed_total{scrape_job=\"sample\"} 0\n"), "{page}");
    let shown = shown(&page);
    let documented = documented();
    for (name, shape) in &shown {
        assert_eq!(documented.get(name), Some(shape), "{name}");
    }
    let set = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect::<BTreeSet<_>>();
    let remote = REMOTE_STORAGE.iter().map(|name| (*name, set(&["remote_name", "url"])));
    for (name, labels) in remote.chain(OTHERS.iter().map(|(name, labels)| (*name, set(labels)))) {
        let name = format!("prometheus_remote_storage_{name}");
        assert_eq!(shown.get(&name).map(|shape| &shape.1), Some(&labels), "{name}");
    }
    // What is on the page and not shown here waits for its occasion.
    let sources = in_sources();
    for name in documented.keys() {
        // A summary's parts stand on the page by themselves.
        let base =
            ["_sum", "_count"].into_iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        let known = |name: &str| shown.contains_key(name) || sources.contains(name);
        assert!(known(name) || known(base), "{name} is nowhere but on the page");
    }
    for name in &sources {
        assert!(documented.contains_key(name), "{name} is in the sources and not on the page");
    }
}
