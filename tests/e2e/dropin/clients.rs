//! The programs that are clients, each with the least configuration that a user would give it.

use std::path::Path;

use serde_json::Value;

use crate::servers::part;
use crate::support::{Process, free_port, get_json};

/// A program that scrapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Prometheus 3.15, by http_sd.
    Prometheus,
    /// Debian's vmagent, by http_sd.
    Vmagent,
    /// An OpenTelemetry Collector, by the Target Allocator's API.
    Collector,
}

/// One client.
pub struct Client {
    pub name: String,
    base: String,
    _process: Process,
}

/// Jobs by http_sd, as they stand in the client's own file.
fn http_sd(allocator: &str, name: &str, refresh: &str) -> String {
    format!(
        "
scrape_configs:
- job_name: web
  scrape_interval: 1s
  scrape_timeout: 1s
  http_sd_configs: [{{url: '{allocator}/http_sd/{name}?job=pods%2Fweb+%2B1'{refresh}}}]
- job_name: limited
  scrape_interval: 1s
  scrape_timeout: 1s
  metric_relabel_configs: [{{regex: team, action: labeldrop}}]
  http_sd_configs: [{{url: '{allocator}/http_sd/{name}?job=limited'{refresh}}}]
"
    )
}

fn collector(allocator: &str, name: &str, write_url: &str, address: &str) -> String {
    format!(
        "
receivers:
  prometheus:
    config: {{scrape_configs: []}}
    api_server: {{enabled: true, server_config: {{endpoint: '{address}'}}}}
    target_allocator:
      endpoint: {allocator}
      interval: 1s
      collector_id: {name}
      http_sd_config: {{refresh_interval: 1s}}
exporters:
  prometheusremotewrite: {{endpoint: '{write_url}'}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{metrics: {{receivers: [prometheus], exporters: [prometheusremotewrite]}}}}
"
    )
}

impl Client {
    /// Starts it under this name. What it scrapes goes to `write_url`, if it has to go anywhere.
    pub fn start(program: Program, name: &str, allocator: &str, write_url: &str, dir: &Path) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let config = dir.join(format!("{name}.yml"));
        let data = dir.join(format!("{name}-data"));
        let (file, data) = (config.display(), data.display());
        let (text, binary, arguments) = match program {
            Program::Prometheus => (
                http_sd(allocator, name, ", refresh_interval: 1s"),
                part("PROMETHEUS_3"),
                vec![
                    format!("--config.file={file}"),
                    format!("--storage.tsdb.path={data}"),
                    format!("--web.listen-address={address}"),
                ],
            ),
            // It has a flag for that.
            Program::Vmagent => (
                http_sd(allocator, name, ""),
                part("VMAGENT"),
                vec![
                    format!("-promscrape.config={file}"),
                    "-promscrape.httpSDCheckInterval=1s".to_owned(),
                    format!("-remoteWrite.url={write_url}"),
                    format!("-remoteWrite.tmpDataPath={data}"),
                    format!("-httpListenAddr={address}"),
                ],
            ),
            Program::Collector => (
                collector(allocator, name, write_url, &address),
                part("OTELCOL"),
                vec![format!("--config=file:{file}")],
            ),
        };
        std::fs::write(&config, text).unwrap();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let process = Process::start(name, binary, &arguments, dir);
        Self { name: name.to_owned(), base: format!("http://{address}"), _process: process }
    }

    /// The instances that it scrapes, each with its job; None while one of them is not up.
    pub async fn scrapes(&self) -> Option<Vec<(String, String)>> {
        let answer = get_json(&format!("{}/api/v1/targets?state=active", self.base)).await?;
        let target = |target: &Value| {
            assert!(target["labels"]["relabelled"] == "here" || target["labels"]["job"] != "limited");
            let text = |label: &str| target["labels"][label].as_str().map(str::to_owned);
            (target["health"] == "up").then_some(())?;
            Some((text("instance")?, text("job")?))
        };
        answer["data"]["activeTargets"].as_array()?.iter().map(target).collect()
    }
}
