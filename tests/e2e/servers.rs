//! Real servers as processes, and what they are asked.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use promring_model::labels::Labels;
use serde_json::Value;

use crate::support::{Process, client, eventually, free_port, get};

/// The path of a part that tests/e2e.sh has fetched.
pub fn part(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run tests/e2e.sh"))
}

/// A server that stores what is remote-written to it and answers PromQL.
pub struct Store {
    process: Process,
    base: String,
    write_path: &'static str,
}

/// Where a server's files are, and where it listens.
struct Place<'a> {
    dir: &'a Path,
    host: Ipv4Addr,
}

/// A stored sample: its time in seconds, and its value.
pub type Stored = BTreeMap<Labels, (f64, f64)>;

impl Store {
    /// Debian's Prometheus as a receiver that takes no sample out of order, and stores exemplars and native histograms.
    pub async fn prometheus(dir: &Path) -> Self {
        let features = "--enable-feature=exemplar-storage,native-histograms";
        let at = Place { dir, host: Ipv4Addr::LOCALHOST };
        Self::start_prometheus(at, "prometheus", &part("PROMETHEUS"), &[features], "").await
    }

    /// Prometheus 3.15 as a receiver of remote write 1.0 or 2.0, by number, and of nothing else. It takes no sample out of
    /// order, and stores exemplars and native histograms.
    pub async fn prometheus_3(dir: &Path, version: u8) -> Self {
        Self::prometheus_3_at(dir, Ipv4Addr::LOCALHOST, version).await
    }

    /// The same at another address of this machine.
    pub async fn prometheus_3_at(dir: &Path, host: Ipv4Addr, version: u8) -> Self {
        Self::start_prometheus_3(Place { dir, host }, version, "").await
    }

    /// The same by 2.0; it stores metadata as well, and passes what it has stored on to this URL, but for exemplars, which it
    /// would send as series without samples.
    pub async fn prometheus_3_before(dir: &Path, url: &str) -> Self {
        let on = format!(
            "remote_write: [{{url: '{url}', protobuf_message: io.prometheus.write.v2.Request, send_native_histograms: true}}]\n"
        );
        Self::start_prometheus_3(Place { dir, host: Ipv4Addr::LOCALHOST }, 2, &on).await
    }

    async fn start_prometheus_3(at: Place<'_>, version: u8, config: &str) -> Self {
        let message = if version == 1 { "prometheus.WriteRequest" } else { "io.prometheus.write.v2.Request" };
        let accepted = format!("--web.remote-write-receiver.accepted-protobuf-messages={message}");
        let arguments = [&*accepted, "--enable-feature=exemplar-storage,metadata-wal-records"];
        let name = format!("prometheus-3-v{version}");
        Self::start_prometheus(at, &name, &part("PROMETHEUS_3"), &arguments, config).await
    }

    async fn start_prometheus(at: Place<'_>, name: &str, program: &str, more: &[&str], keys: &str) -> Self {
        let Place { dir, host } = at;
        let port = free_port();
        let config = dir.join(format!("{name}.yml"));
        std::fs::write(&config, format!("storage: {{exemplars: {{max_exemplars: 10000}}}}\n{keys}")).unwrap();
        let base = [
            &*format!("--config.file={}", config.display()),
            &format!("--storage.tsdb.path={}", dir.join(format!("{name}-data")).display()),
            &format!("--web.listen-address={host}:{port}"),
            "--web.enable-remote-write-receiver",
        ];
        let process = Process::start(name, program, &[&base, more].concat(), dir);
        let base = format!("http://{host}:{port}");
        eventually("Prometheus is ready", async || get(&format!("{base}/-/ready")).await).await;
        Self { process, base, write_path: "/api/v1/write" }
    }

    /// Debian's VictoriaMetrics.
    pub async fn victoria_metrics(dir: &Path) -> Self {
        let port = free_port();
        let process = Process::start(
            "victoria-metrics",
            part("VICTORIA_METRICS"),
            &[
                &format!("-storageDataPath={}", dir.join("victoria-data").display()),
                &format!("-httpListenAddr=127.0.0.1:{port}"),
                // Otherwise it hides what is younger than 30 s.
                "-search.latencyOffset=1ms",
                "-search.disableCache",
            ],
            dir,
        );
        let base = format!("http://127.0.0.1:{port}");
        eventually("VictoriaMetrics is ready", async || get(&format!("{base}/health")).await).await;
        Self { process, base, write_path: "/api/v1/write" }
    }

    /// Where it takes remote write.
    pub fn write_url(&self) -> String {
        format!("{}{}", self.base, self.write_path)
    }

    /// Where it serves.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.process.runs()
    }

    /// How many samples a Prometheus has refused since they were out of order, or stored already with another value.
    pub async fn refused(&self) -> f64 {
        let text = get(&format!("{}/metrics", self.base)).await.unwrap();
        let names = [
            "prometheus_target_scrapes_sample_out_of_order_total",
            "prometheus_tsdb_out_of_order_samples_total",
        ];
        let value = |line: &str| {
            names
                .iter()
                .any(|name| line.starts_with(name))
                .then(|| line.rsplit(' ').next()?.parse::<f64>().ok())
                .flatten()
        };
        text.lines().filter_map(value).sum()
    }

    /// An instant query: every series with its sample.
    pub async fn query(&self, query: &str) -> Stored {
        let answer = self.ask("query", &[("query", query), ("nocache", "1")]).await;
        let series = |entry: &Value| (labels(&entry["metric"]), sample(&entry["value"]));
        answer["result"].as_array().unwrap().iter().map(series).collect()
    }

    /// Every sample as it is stored, by a selector: times in Unix milliseconds.
    pub async fn samples(&self, selector: &str) -> BTreeMap<Labels, Vec<(i64, f64)>> {
        let query = format!("{selector}[1h]");
        let answer = self.ask("query", &[("query", &query), ("nocache", "1")]).await;
        let series = |entry: &Value| {
            let stored = entry["values"].as_array().map(Vec::as_slice).unwrap_or_default();
            let in_ms = |(seconds, value): (f64, f64)| ((seconds * 1_000.0).round() as i64, value);
            (labels(&entry["metric"]), stored.iter().map(|pair| in_ms(sample(pair))).collect())
        };
        answer["result"].as_array().unwrap().iter().map(series).collect()
    }

    /// What `/api/v1/…` answers, without its envelope.
    pub async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let url = format!("{}/api/v1/{path}", self.base);
        let response = client()
            .post(url)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(form(parameters))
            .send()
            .await
            .unwrap();
        let mut answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!(answer["status"], "success", "{parameters:?}: {answer}");
        answer["data"].take()
    }

    /// The one value of an instant query; None where it has none.
    pub async fn value(&self, query: &str) -> Option<f64> {
        let stored = self.query(query).await;
        assert!(stored.len() <= 1, "{query} has several answers: {stored:?}");
        stored.values().next().map(|(_, value)| *value)
    }
}

fn labels(metric: &Value) -> Labels {
    serde_json::from_value(metric.clone()).unwrap()
}

/// Time in seconds, and value.
fn sample(pair: &Value) -> (f64, f64) {
    (pair[0].as_f64().unwrap(), pair[1].as_str().unwrap().parse().unwrap())
}

fn form(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}
