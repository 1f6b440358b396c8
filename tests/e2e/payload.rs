//! Native histograms, exemplars and staleness at real receivers: what Prometheus has stored is what was exposed.

use promring_proto::exposition::{Histogram, MetricFamily};
use promring_testkit::exporter::RichExporter;

use crate::servers::Store;
use crate::support::{Process, eventually, metric};

const SCRAPES: usize = 8;

/// The histograms that were exposed under this name, scrape by scrape.
fn exposed(expositions: &[Vec<MetricFamily>], name: &str) -> Vec<Histogram> {
    let families = expositions.iter().flatten().filter(|family| family.name == name);
    families.filter_map(|family| family.metric[0].histogram.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_stores_native_histograms_and_exemplars_as_they_were_exposed() {
    let dir = tempfile::tempdir().unwrap();
    let mut stores = [Store::prometheus_3(dir.path(), 1).await, Store::prometheus_3(dir.path(), 2).await];
    let exporter = RichExporter::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let mut config = format!(
        "global: {{scrape_interval: 1s, scrape_native_histograms: true}}\nscrape_configs:\n- job_name: rich\n  always_scrape_classic_histograms: true\n  static_configs: [{{targets: ['{}']}}]\nremote_write:\n",
        exporter.address()
    );
    for (store, message) in stores.iter().zip(["prometheus.WriteRequest", "io.prometheus.write.v2.Request"]) {
        config.push_str(&format!(
            "- {{url: '{}', protobuf_message: {message}, send_exemplars: true, send_native_histograms: true}}\n",
            store.write_url()
        ));
    }
    let path = dir.path().join("promring.yml");
    std::fs::write(&path, config).unwrap();
    let (mut promring, base) = Process::standalone("promring", &path, dir.path());
    eventually("scrapes", async || (exporter.exposed().len() >= SCRAPES).then_some(())).await;
    exporter.hide(&["rich_floats"]);
    let hidden_from = exporter.exposed().len();
    eventually("scrapes without it", async || (exporter.exposed().len() > hidden_from + 1).then_some(()))
        .await;
    assert!(metric(&base, "prometheus_remote_storage_histograms_total").await > Some(0.0));
    for name in [
        "prometheus_remote_storage_samples_failed_total",
        "prometheus_remote_storage_histograms_failed_total",
        "prometheus_remote_storage_exemplars_failed_total",
    ] {
        assert_eq!(metric(&base, name).await, Some(0.0), "{name}\n{}", promring.log());
    }
    assert!(promring.terminate().success(), "{}", promring.log());
    let expositions = exporter.exposed();
    for store in &mut stores {
        assert!(store.runs());
        for name in ["rich_whole_seconds", "rich_gauge_seconds", "rich_floats"] {
            let expected = exposed(&expositions, name);
            let stored = store.ask("query", &[("query", &format!("{name}[1h]"))]).await;
            let histograms = stored["result"][0]["histograms"]
                .as_array()
                .unwrap_or_else(|| panic!("{name}: {stored}"))
                .clone();
            assert_eq!(histograms.len(), expected.len(), "{name}");
            for (stored, exposed) in histograms.iter().zip(&expected) {
                let number = |key: &str| stored[1][key].as_str().unwrap().parse::<f64>().unwrap();
                let count = if exposed.sample_count_float > 0.0 {
                    exposed.sample_count_float
                } else {
                    exposed.sample_count as f64
                };
                assert_eq!((number("count"), number("sum")), (count, exposed.sample_sum), "{name}");
            }
        }
        // A series that is gone has no value, though it had one a moment ago.
        let left = store.ask("query", &[("query", "rich_floats")]).await;
        assert_eq!(left["result"].as_array().map(Vec::len), Some(0), "{left}");
        let window = [("query", "rich_whole_seconds"), ("start", "1699999000"), ("end", "1800000000")];
        let found = store.ask("query_exemplars", &window).await;
        let exemplars = found[0]["exemplars"].as_array().unwrap_or_else(|| panic!("{found}"));
        let traces: std::collections::BTreeSet<&str> =
            exemplars.iter().filter_map(|exemplar| exemplar["labels"]["trace_id"].as_str()).collect();
        assert!(traces.len() >= SCRAPES / 2, "{found}");
        assert_eq!(exemplars.len(), traces.len() * 2, "two of each: {found}");
    }
}
