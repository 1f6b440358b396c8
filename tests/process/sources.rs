//! Sources that cannot be read at the start: others do not wait for them, and they come when they can.

use axum::routing::get;
use axum::{Json, Router};
use promring_testkit::exporter::{Fleet, FleetOptions};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{Process, eventually, free_port, get_json};

/// The targets of a job that are up.
fn up(list: &Value, job: &str) -> usize {
    let active = list["data"]["activeTargets"].as_array().into_iter().flatten();
    active.filter(|target| target["scrapePool"] == job && target["health"] == "up").count()
}

fn source<'a>(list: &'a Value, job: &str) -> &'a Value {
    let sources = list["data"]["sources"].as_array().unwrap();
    sources.iter().find(|source| source["scrapePool"] == job).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_url_and_a_broken_file_are_shown_keep_nobody_waiting_and_are_taken_when_they_are_well() {
    let dir = tempfile::tempdir().unwrap();
    let options = FleetOptions { targets: 1, ..FleetOptions::default() };
    let (fixed, called, filed) = (
        Fleet::start(options.clone()).await.unwrap(),
        Fleet::start(options.clone()).await.unwrap(),
        Fleet::start(options).await.unwrap(),
    );
    let address = |fleet: &Fleet| fleet.exporters()[0].address().to_string();
    let port = free_port();
    let text = format!(
        "
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
- job_name: fixed
  static_configs: [{{targets: ['{}']}}]
- job_name: called
  http_sd_configs: [{{url: 'http://127.0.0.1:{port}/', refresh_interval: 1s}}]
- job_name: filed
  file_sd_configs: [{{files: [targets.json]}}]
",
        address(&fixed)
    );
    let path = dir.path().join("prometheus.yml");
    std::fs::write(&path, text).unwrap();
    std::fs::write(dir.path().join("targets.json"), "[{").unwrap();
    let (mut promring, url) = Process::standalone("promring", &path, dir.path());
    let targets = async || get_json(&format!("{url}/api/v1/targets")).await;
    let list = eventually("the job without trouble is scraped", async || {
        targets().await.filter(|list| up(list, "fixed") == 1)
    })
    .await;
    for (job, place) in [("called", port.to_string()), ("filed", "targets.json".to_owned())] {
        let source = source(&list, job);
        assert_eq!(source["synced"], false, "{source}");
        assert!(source["lastError"].as_str().unwrap().contains(&place), "{source}");
    }

    let answer = json!([{"targets": [address(&called)]}]);
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let server = Router::new().route("/", get(move || std::future::ready(Json(answer.clone()))));
    tokio::spawn(async move { axum::serve(listener, server).await });
    std::fs::write(dir.path().join("new"), filed.file_sd_json()).unwrap();
    std::fs::rename(dir.path().join("new"), dir.path().join("targets.json")).unwrap();
    let list = eventually("all are scraped", async || {
        targets().await.filter(|list| ["fixed", "called", "filed"].iter().all(|job| up(list, job) == 1))
    })
    .await;
    assert!(["called", "filed"].iter().all(|job| source(&list, job)["lastError"] == ""), "{list}");
    assert!(promring.terminate().success(), "{}", promring.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_is_told_of_once_a_request() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = json!({"server": format!("http://127.0.0.1:{}", free_port())});
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "user", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
    });
    std::fs::write(dir.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
    let path = dir.path().join("prometheus.yml");
    let discovery = "[{role: node, kubeconfig_file: kubeconfig}]";
    let text = format!("scrape_configs: [{{job_name: nodes, kubernetes_sd_configs: {discovery}}}]\n");
    std::fs::write(&path, text).unwrap();
    let (promring, _url) = Process::standalone("promring", &path, dir.path());
    let warnings = |log: &str| log.matches("watch failed").count();
    eventually("it is told of", async || (warnings(&promring.log()) >= 2).then_some(())).await;
    let log = promring.log();
    assert!(!log.contains("ERROR") && !log.contains("failed with"), "{log}");
}
