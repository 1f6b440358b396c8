//! What `/scrape_configs` holds is a configuration of Prometheus: promtool says so.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use promring_model::config::load;
use promring_net::files::Disk;
use serde_json::value::RawValue;

use super::{allocator, config, start_allocator, write_config};
use crate::servers::part;
use crate::support::{eventually, free_port, get, scaled, testdata};

/// A job with about every setting, and one of each way to authenticate.
const RICH: &str = r#"
- job_name: rich
  scrape_interval: 20s
  scrape_timeout: 7s
  honor_labels: true
  honor_timestamps: false
  track_timestamps_staleness: true
  params: {a: [x, 'y z'], b: ['1']}
  metrics_path: /m
  scheme: https
  scrape_protocols: [PrometheusText1.0.0, PrometheusProto]
  fallback_scrape_protocol: PrometheusText0.0.4
  enable_compression: false
  scrape_native_histograms: true
  always_scrape_classic_histograms: true
  convert_classic_histograms_to_nhcb: true
  extra_scrape_metrics: true
  metric_name_validation_scheme: legacy
  metric_name_escaping_scheme: dots
  body_size_limit: 10MB
  sample_limit: 1
  target_limit: 100
  label_limit: 2
  label_name_length_limit: 3
  label_value_length_limit: 4
  keep_dropped_targets: 5
  native_histogram_bucket_limit: 6
  native_histogram_min_bucket_factor: 1.1
  basic_auth: {username: user, password_file: secrets/password}
  tls_config: {ca_file: ca.pem, cert_file: /certs/c.pem, key_file: k.pem, server_name: s, insecure_skip_verify: true, min_version: TLS12}
  follow_redirects: false
  enable_http2: false
  proxy_url: http://proxy:3128
  no_proxy: example.com
  http_headers: {X-Scope: {values: [a], files: [scope]}}
  relabel_configs: [{target_label: x, replacement: y}]
  metric_relabel_configs:
  - {source_labels: [__name__], regex: 'a|b', action: keep}
  - {source_labels: [a, b], separator: '-', target_label: c, replacement: "$1 ü\u2028\u0085 😀", modulus: 3, action: hashmod}
  - {regex: pod_ip, action: labeldrop}
  static_configs: [{targets: ['t:80']}]
- {job_name: "odd: {name} # ü\u2028", authorization: {type: Token, credentials_file: t}, static_configs: [{targets: ['t:80']}]}
- {job_name: oauth2, oauth2: {client_id: c, client_secret_file: s, token_url: 'https://t/', scopes: [a], endpoint_params: {k: v}, tls_config: {ca_file: ca.pem}}, static_configs: [{targets: ['t:80']}]}
- {job_name: bearer, bearer_token_file: b, proxy_from_environment: true, static_configs: [{targets: ['t:80']}]}
- {job_name: hidden, bearer_token: hunter2, static_configs: [{targets: ['t:80']}]}
- {job_name: plain, static_configs: [{targets: ['t:80']}]}
"#;

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
    write_config(dir.path(), &["a"], RICH);
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
