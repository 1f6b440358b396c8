//! The main job: scrape real exporters, relabel, and store the same in two real servers at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_parse::{Scrape, Value};
use promring_model::labels::Labels;
use promring_testkit::exporter::{Fleet, FleetOptions};

use crate::servers::{Store, Stored, part};
use crate::support::{Process, client, eventually, free_port, get as fetch, metric, scaled};

/// Stands between promring and an exporter and keeps every body that passes, so that what is stored can be compared
/// with what was really shown.
#[derive(Clone)]
struct Tap {
    upstream: String,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl Tap {
    async fn start(upstream: &str) -> (Self, SocketAddr) {
        let tap = Self { upstream: upstream.to_owned(), bodies: Arc::default() };
        let router = Router::new().route("/metrics", get(Self::pass)).with_state(tap.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (tap, address)
    }

    async fn pass(State(tap): State<Self>) -> impl IntoResponse {
        let body = client().get(&tap.upstream).send().await.unwrap().text().await.unwrap();
        tap.bodies.lock().unwrap().push(body.clone());
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], body)
    }

    fn count(&self) -> usize {
        self.bodies.lock().unwrap().len()
    }

    fn last(&self) -> String {
        self.bodies.lock().unwrap().last().unwrap().clone()
    }
}

/// What has to be stored of a body by the rules in the configuration below, worked out here by hand, with a parser
/// that is not promring's.
fn expected(body: &str, instance: &SocketAddr) -> BTreeMap<Labels, f64> {
    let scrape = Scrape::parse(body.lines().map(|line| Ok(line.to_owned()))).unwrap();
    let mut series = BTreeMap::new();
    for sample in scrape.samples {
        if sample.metric.starts_with("node_scrape_collector_") {
            continue;
        }
        let value = match sample.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => value,
            Value::Histogram(_) | Value::Summary(_) => {
                panic!("{} is neither counter nor gauge", sample.metric)
            }
        };
        let mut labels: BTreeMap<String, String> =
            sample.labels.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
        if let Some(device) = labels.remove("device") {
            labels.insert("dev".to_owned(), device);
        }
        labels.insert("__name__".to_owned(), sample.metric);
        for (name, value) in [("job", "node"), ("host", "here"), ("place", "at-here"), ("cluster", "e2e")] {
            labels.insert(name.to_owned(), value.to_owned());
        }
        labels.insert("instance".to_owned(), instance.to_string());
        series.insert(Labels::from_pairs(labels), value);
    }
    series
}

fn assert_stored(expected: &BTreeMap<Labels, f64>, stored: &Stored, tolerance: f64) {
    for (labels, value) in expected {
        let (_, found) = stored.get(labels).unwrap_or_else(|| panic!("{labels} is not stored"));
        let near = (value - found).abs() <= tolerance * value.abs();
        assert!(
            near || (value.is_nan() && found.is_nan()) || value == found,
            "{labels}: {found}, shown was {value}"
        );
    }
    let surplus: Vec<&Labels> = stored.keys().filter(|labels| !expected.contains_key(*labels)).collect();
    assert!(surplus.is_empty(), "stored, but not to be kept: {surplus:?}");
}

/// The five series that promring writes about a scrape.
const REPORT: &str = "up|scrape_.*";

#[tokio::test(flavor = "multi_thread")]
async fn two_real_servers_store_exactly_what_node_exporter_shows() {
    let dir = tempfile::tempdir().unwrap();
    let mut prometheus = Store::prometheus(dir.path()).await;
    let mut victoria = Store::victoria_metrics(dir.path()).await;
    let node_port = free_port();
    let _node = Process::start(
        "node_exporter",
        part("NODE_EXPORTER"),
        // Its own metrics have summaries, which the independent parser groups; they are not what this test is about.
        &[&format!("--web.listen-address=127.0.0.1:{node_port}"), "--web.disable-exporter-metrics"],
        dir.path(),
    );
    let upstream = format!("http://127.0.0.1:{node_port}/metrics");
    eventually("node_exporter answers", async || fetch(&upstream).await).await;
    let (tap, tap_address) = Tap::start(&upstream).await;
    let mut fleet = Fleet::start(FleetOptions { targets: 2, ..FleetOptions::default() }).await.unwrap();
    let samples: Vec<String> =
        fleet.exporters().iter().map(|exporter| exporter.address().to_string()).collect();

    let config = dir.path().join("prometheus.yml");
    let text = format!(
        "
global: {{scrape_interval: 1s, external_labels: {{cluster: e2e}}}}
scrape_configs:
- job_name: node
  static_configs: [{{targets: ['{tap_address}'], labels: {{host: here}}}}]
  relabel_configs: [{{source_labels: [host], regex: (.*), target_label: place, replacement: 'at-$1'}}]
  metric_relabel_configs:
  - {{source_labels: [__name__], regex: 'node_scrape_collector_.+', action: drop}}
  - {{source_labels: [device], regex: '(.+)', target_label: dev}}
  - {{regex: device, action: labeldrop}}
- job_name: sample
  static_configs: [{{targets: ['{}', '{}']}}]
remote_write:
- {{url: '{}', name: prometheus}}
- {{url: '{}', name: victoria}}
",
        samples[0],
        samples[1],
        prometheus.write_url(),
        victoria.write_url(),
    );
    std::fs::write(&config, text).unwrap();
    let (mut promring, base) = Process::standalone("promring", &config, dir.path());

    for store in [&prometheus, &victoria] {
        eventually("every target is up", async || (store.value("sum(up)").await == Some(3.0)).then_some(()))
            .await;
    }

    // A target that stops: up is 0, and its series end at once instead of living on for five minutes.
    let gone = format!("{{instance=\"{}\",__name__!~\"{REPORT}\"}}", samples[1]);
    for store in [&prometheus, &victoria] {
        assert!(store.value(&format!("count({gone})")).await.unwrap() > 20.0);
    }
    fleet.exporters_mut()[1].die().await;
    for store in [&prometheus, &victoria] {
        let up = format!("up{{instance=\"{}\"}}", samples[1]);
        eventually("up is 0", async || (store.value(&up).await == Some(0.0)).then_some(())).await;
        eventually("its series are stale", async || store.query(&gone).await.is_empty().then_some(())).await;
        let alive = format!("up{{instance=\"{}\"}}", samples[0]);
        assert_eq!(store.value(&alive).await, Some(1.0), "a target that stops disturbs no other");
    }

    let until = tap.count() + scaled(5, 50);
    eventually("more scrapes", async || (tap.count() >= until).then_some(())).await;
    for name in
        ["prometheus_remote_storage_samples_failed_total", "prometheus_remote_storage_samples_dropped_total"]
    {
        let refused = metric(&base, name).await.unwrap_or_else(|| panic!("{name} is not shown"));
        assert_eq!(refused, 0.0, "{name}: something was refused");
    }
    assert!(promring.terminate().success(), "{}", promring.log());

    let expected = expected(&tap.last(), &tap_address);
    assert!(expected.len() > 100, "{} series are few for node_exporter", expected.len());
    let node = format!("{{job=\"node\",__name__!~\"{REPORT}\"}}");
    let scrapes = tap.count() as f64;
    for (store, tolerance) in [(&prometheus, 0.0), (&victoria, 1e-12)] {
        let counted = "count_over_time(up{job=\"node\"}[10m])";
        eventually("every scrape is stored once", async || {
            (store.value(counted).await == Some(scrapes)).then_some(())
        })
        .await;
        assert_stored(&expected, &store.query(&node).await, tolerance);
        for companion in [
            "scrape_duration_seconds",
            "scrape_samples_scraped",
            "scrape_samples_post_metric_relabeling",
            "scrape_series_added",
        ] {
            let stored = store.value(&format!("{companion}{{job=\"node\"}}")).await;
            assert!(stored.is_some(), "{companion} is not stored");
        }
        let kept = store.value("scrape_samples_post_metric_relabeling{job=\"node\"}").await;
        assert_eq!(kept, Some(expected.len() as f64));
    }
    let base = prometheus.base().to_owned();
    for name in ["prometheus_tsdb_out_of_order_samples_total", "prometheus_tsdb_out_of_bound_samples_total"] {
        assert_eq!(metric(&base, name).await, Some(0.0), "{name} of the receiver");
    }
    assert!(prometheus.runs() && victoria.runs());
}
