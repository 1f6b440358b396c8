//! Targets and receivers that misbehave: each is told apart with a message of its own, and nobody else notices.

use std::collections::BTreeMap;

use promring_model::config::load;
use promring_model::labels::Labels;
use promring_net::clock::now_ms;
use promring_net::files::Disk;
use promring_testkit::exporter::{Behaviour, Fleet, FleetOptions};
use promring_testkit::receiver::{Fault, Receiver};
use serde_json::Value;

use crate::support::{Process, eventually, free_port, get_json, metric};

/// What an exporter does, and what its target then says.
const MISDEEDS: [(Behaviour, &str); 6] = [
    (Behaviour::Status { code: 500 }, "server returned HTTP status 500"),
    (Behaviour::Garbage, "line 1: "),
    (Behaviour::Endless, "body size limit exceeded"),
    (Behaviour::Hung, "scrape timeout"),
    (Behaviour::CutOff, "body"),
    (Behaviour::WrongContentType, "unsupported Content-Type \"text/html"),
];

const SLOTS_MS: i64 = 5_000;

#[tokio::test(flavor = "multi_thread")]
async fn bad_targets_and_a_refusing_receiver_are_told_and_disturb_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let good = Fleet::start(FleetOptions { targets: 3, ..FleetOptions::default() }).await.unwrap();
    let bad = Fleet::start(FleetOptions { targets: MISDEEDS.len(), seed: 2, ..FleetOptions::default() })
        .await
        .unwrap();
    for (exporter, (behaviour, _)) in bad.exporters().iter().zip(MISDEEDS) {
        exporter.set(behaviour);
    }
    let unreachable = format!("127.0.0.1:{}", free_port());
    let receiver = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let refusing = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    refusing.add_fault(Fault::Status { code: 400, retry_after_s: None }).unwrap();
    std::fs::write(dir.path().join("good.json"), good.file_sd_json()).unwrap();
    std::fs::write(dir.path().join("bad.json"), bad.file_sd_json()).unwrap();
    let config = dir.path().join("prometheus.yml");
    let text = format!(
        "
global: {{scrape_interval: 1s, scrape_timeout: 1s, body_size_limit: 1MB}}
scrape_configs:
- job_name: good
  file_sd_configs: [{{files: [good.json]}}]
- job_name: bad
  file_sd_configs: [{{files: [bad.json]}}]
  static_configs: [{{targets: ['{unreachable}']}}]
remote_write:
- {{url: '{}', name: audit, write_relabel_configs: [{{source_labels: [job], regex: good, action: keep}}]}}
- {{url: '{}', name: refusing}}
",
        receiver.write_url(),
        refusing.write_url()
    );
    std::fs::write(&config, text).unwrap();
    let job = load(&config, &Disk).config.unwrap().scrape_configs[0].clone();
    good.expect(&mut receiver.audit(), &job, &Labels::default()).unwrap();

    let (mut promring, base) = Process::standalone("promring", &config, dir.path());

    let mut wanted: BTreeMap<String, &str> = BTreeMap::from([(unreachable, "refused")]);
    for (exporter, (_, message)) in bad.exporters().iter().zip(MISDEEDS) {
        wanted.insert(exporter.address().to_string(), message);
    }
    let from_ms = eventually("every bad target tells what is wrong with it", async || {
        let answer = get_json(&format!("{base}/api/v1/targets")).await?;
        let targets = answer["data"]["activeTargets"].as_array()?;
        let of_job =
            |job: &str| targets.iter().filter(|target| target["scrapePool"] == job).collect::<Vec<_>>();
        let told = |target: &&Value| {
            let error = target["lastError"].as_str().unwrap_or_default();
            let instance = target["labels"]["instance"].as_str().unwrap_or_default();
            target["health"] == "down" && error.contains(wanted[instance])
        };
        let (bad, good) = (of_job("bad"), of_job("good"));
        let all = bad.len() == wanted.len()
            && bad.iter().all(told)
            && good.iter().all(|target| target["health"] == "up");
        (all && good.len() == 3).then(now_ms)
    })
    .await;

    receiver.audit().window(from_ms, from_ms + SLOTS_MS);
    let over = async || (now_ms() > from_ms + SLOTS_MS + 3_000).then_some(());
    eventually("some slots to audit", over).await;
    let report = receiver.audit().report(from_ms + SLOTS_MS);
    assert!(report.counts.is_clean(), "{report:#?}");
    assert!(report.slots >= report.series * 4, "{} slots", report.slots);

    // What the refusing receiver will never take does not stay in its lanes for ever, and is counted.
    let failed = "prometheus_remote_storage_samples_failed_total";
    eventually("the refused samples are counted", async || {
        metric(&base, failed).await.filter(|&count| count > 0.0)
    })
    .await;
    assert_eq!(refusing.summary().samples, 0);
    assert!(promring.runs());
    assert!(promring.terminate().success(), "{}", promring.log());
}
