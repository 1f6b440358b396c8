//! Real servers as processes, and what they are asked.

use std::collections::BTreeMap;
use std::path::Path;

use promring_model::labels::Labels;

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

/// A stored sample: its time in seconds, and its value.
pub type Stored = BTreeMap<Labels, (f64, f64)>;

impl Store {
    /// Debian's Prometheus as a receiver that takes no sample out of order.
    pub async fn prometheus(dir: &Path) -> Self {
        let port = free_port();
        std::fs::write(dir.join("receiver.yml"), "global: {}\n").unwrap();
        let data = dir.join("prometheus-data");
        let process = Process::start(
            "prometheus",
            part("PROMETHEUS"),
            &[
                &format!("--config.file={}", dir.join("receiver.yml").display()),
                &format!("--storage.tsdb.path={}", data.display()),
                &format!("--web.listen-address=127.0.0.1:{port}"),
                "--web.enable-remote-write-receiver",
            ],
            dir,
        );
        let base = format!("http://127.0.0.1:{port}");
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

    /// An instant query: every series with its sample.
    pub async fn query(&self, query: &str) -> Stored {
        let url = format!("{}/api/v1/query", self.base);
        let form = form(&[("query", query), ("nocache", "1")]);
        let response = client()
            .post(url)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(form)
            .send()
            .await
            .unwrap();
        let answer: serde_json::Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        let result = answer["data"]["result"].as_array().unwrap();
        let series = |entry: &serde_json::Value| {
            let labels: Labels = serde_json::from_value(entry["metric"].clone()).unwrap();
            let time = entry["value"][0].as_f64().unwrap();
            let value = entry["value"][1].as_str().unwrap().parse().unwrap();
            (labels, (time, value))
        };
        result.iter().map(series).collect()
    }

    /// The one value of an instant query; None where it has none.
    pub async fn value(&self, query: &str) -> Option<f64> {
        let stored = self.query(query).await;
        assert!(stored.len() <= 1, "{query} has several answers: {stored:?}");
        stored.values().next().map(|(_, value)| *value)
    }
}

fn form(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}
