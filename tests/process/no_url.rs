//! Targets whose labels make no URL: scraped in vain, slot by slot, as Prometheus does.

use promring_testkit::exporter::RichExporter;
use promring_testkit::receiver::Receiver;

use crate::support::{Process, eventually, get_json};

#[tokio::test(flavor = "multi_thread")]
async fn a_target_without_a_url_is_down_in_each_slot_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let text = format!(
        "
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
- job_name: a
  static_configs:
  - targets: ['my host:9100', 'host:91000']
  - targets: ['host:1']
    labels: {{__scheme__: ftp}}
remote_write: [{{url: '{}'}}]
",
        receiver.write_url()
    );
    let path = dir.path().join("prometheus.yml");
    std::fs::write(&path, text).unwrap();
    let (mut promring, url) = Process::standalone("promring", &path, dir.path());
    let up = || {
        let mut samples = receiver.audit().last_samples("up");
        samples.sort_by_key(|sample| sample.labels.get("instance").map(str::to_owned));
        samples
    };
    let first = eventually("every target has a sample", async || Some(up()).filter(|up| up.len() == 3)).await;
    let instances: Vec<_> = first.iter().map(|sample| sample.labels.get("instance").unwrap()).collect();
    assert_eq!(instances, ["host:1", "host:91000", "my host:9100"]);
    assert!(first.iter().all(|sample| sample.value == "0"), "{first:?}");
    eventually("the next slots of all", async || {
        let next = up().iter().zip(&first).all(|(next, first)| next.timestamp_ms > first.timestamp_ms);
        next.then_some(())
    })
    .await;
    let errors = eventually("their errors are shown", async || {
        let list = get_json(&format!("{url}/api/v1/targets")).await?;
        let active = list["data"]["activeTargets"].as_array()?.clone();
        let down = active.iter().all(|target| target["health"] == "down" && target["lastError"] != "");
        (active.len() == 3 && down).then_some(active)
    })
    .await;
    let told = |url: &str, error: &str| {
        let of_target = |target: &&serde_json::Value| target["scrapeUrl"] == url;
        let target = errors.iter().find(of_target).unwrap_or_else(|| panic!("{url}: {errors:?}"));
        assert!(target["lastError"].as_str().unwrap().contains(error), "{target}");
    };
    told("http://my%20host:9100/metrics", "not a valid URL");
    told("http://host:91000/metrics", "invalid port number");
    told("ftp://host:1/metrics", "neither http nor https");
    assert!(promring.terminate().success(), "{}", promring.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_a_port_alone_is_one_of_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let exporter = RichExporter::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = exporter.address().port();
    let text = format!(
        "
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs: [{{job_name: a, static_configs: [{{targets: [':{port}']}}]}}]
remote_write: [{{url: '{}'}}]
",
        receiver.write_url()
    );
    let path = dir.path().join("prometheus.yml");
    std::fs::write(&path, text).unwrap();
    let (mut promring, url) = Process::standalone("promring", &path, dir.path());
    eventually("the target is up", async || {
        let samples = receiver.audit().last_samples("up");
        samples
            .iter()
            .any(|sample| sample.value == "1" && sample.labels.get("instance") == Some(&format!(":{port}")))
            .then_some(())
    })
    .await;
    let list = get_json(&format!("{url}/api/v1/targets")).await.unwrap();
    assert_eq!(list["data"]["activeTargets"][0]["scrapeUrl"], format!("http://:{port}/metrics"));
    assert!(promring.terminate().success(), "{}", promring.log());
}
