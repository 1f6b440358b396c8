//! Both versions of remote write, side by side, from one process.

use promring_model::config::load;
use promring_model::labels::Labels;
use promring_net::clock::now_ms;
use promring_net::files::Disk;
use promring_testkit::exporter::{Fleet, FleetOptions};
use promring_testkit::receiver::{Fault, Receiver};

use crate::support::{Process, client, eventually, metric, metric_of};

const SLOTS_MS: i64 = 4_000;

#[tokio::test(flavor = "multi_thread")]
async fn every_slot_arrives_once_by_1_0_by_2_0_and_by_the_fallback_from_2_0() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(FleetOptions { targets: 5, ..FleetOptions::default() }).await.unwrap();
    std::fs::write(dir.path().join("targets.json"), fleet.file_sd_json()).unwrap();
    let mut receivers = Vec::new();
    for _ in 0..3 {
        receivers.push(Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap());
    }
    receivers[2].add_fault(Fault::NoV2).unwrap();
    let v2 = "protobuf_message: io.prometheus.write.v2.Request";
    let text = format!(
        "
global: {{scrape_interval: 1s, scrape_timeout: 1s, external_labels: {{cluster: a}}}}
scrape_configs:
- job_name: sample
  file_sd_configs: [{{files: [targets.json]}}]
remote_write:
- {{url: '{}', name: one}}
- {{url: '{}', name: two, {v2}}}
- {{url: '{}', name: falls-back, {v2}}}
",
        receivers[0].write_url(),
        receivers[1].write_url(),
        receivers[2].write_url()
    );
    let path = dir.path().join("prometheus.yml");
    std::fs::write(&path, text).unwrap();
    let config = load(&path, &Disk).config.unwrap();
    for receiver in &receivers {
        fleet.expect(&mut receiver.audit(), &config.scrape_configs[0], &config.external_labels).unwrap();
    }
    let (mut promring, _) = Process::standalone("promring", &path, dir.path());
    eventually("every target is up everywhere", async || {
        let up = Labels::from_pairs([("__name__", "up")]);
        let all = |receiver: &Receiver| receiver.audit().last_samples(up.get("__name__").unwrap()).len() == 5;
        receivers.iter().all(all).then_some(())
    })
    .await;
    let from_ms = now_ms();
    for receiver in &receivers {
        receiver.audit().window(from_ms, from_ms + SLOTS_MS);
    }
    eventually("slots to audit", async || (now_ms() > from_ms + SLOTS_MS + 2_500).then_some(())).await;
    assert!(promring.terminate().success(), "{}", promring.log());
    for receiver in &receivers {
        let report = receiver.audit().report(from_ms + SLOTS_MS);
        assert!(report.counts.is_clean(), "{report:#?}");
        assert!(report.slots >= report.series * 3, "{} slots", report.slots);
    }
    let by_v2: Vec<u64> = receivers.iter().map(|receiver| receiver.received().v2_requests).collect();
    assert_eq!((by_v2[0], by_v2[2]), (0, 0));
    assert!(by_v2[1] > 0, "the second destination is sent 2.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gauges_of_a_destination_go_with_it_and_what_is_parked_is_shown() {
    const PENDING: &str = "prometheus_remote_storage_samples_pending";
    const AGE: &str = "promring_queue_oldest_age_seconds";
    const PARKED: &str = "promring_queue_parked_samples";
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(FleetOptions { targets: 1, ..FleetOptions::default() }).await.unwrap();
    std::fs::write(dir.path().join("targets.json"), fleet.file_sd_json()).unwrap();
    let path = dir.path().join("prometheus.yml");
    // Nobody is at these addresses.
    let write = |destinations: &str| {
        let text = format!(
            "
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs: [{{job_name: sample, file_sd_configs: [{{files: [targets.json]}}]}}]
scraper: {{removed_destinations: park}}
remote_write: [{destinations}]
"
        );
        std::fs::write(&path, text).unwrap();
    };
    let of = |path: &str| format!("url=\"http://127.0.0.1:1/{path}\"");
    write("{url: 'http://127.0.0.1:1/old', name: prod}");
    let (mut promring, base) = Process::standalone("promring", &path, dir.path());
    let reload = async || {
        let answer = client().post(format!("{base}/-/reload")).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    };
    let shown = async |name: &str, path: &str| metric_of(&base, name, &of(path)).await;
    eventually("a backlog", async || shown(PENDING, "old").await.filter(|samples| *samples > 0.0)).await;
    write("{url: 'http://127.0.0.1:1/new', name: prod}");
    reload().await;
    eventually("it is shown under the new address alone", async || {
        let new = shown(PENDING, "new").await?;
        (new > 0.0 && shown(PENDING, "old").await.is_none()).then_some(())
    })
    .await;
    assert_eq!(shown(AGE, "old").await, None);
    assert!(shown("prometheus_remote_storage_samples_retried_total", "old").await.is_some(), "counters stay");
    write("");
    reload().await;
    let parked = eventually("it is shown as parked alone", async || {
        let parked = metric(&base, PARKED).await?;
        (parked > 0.0 && metric(&base, PENDING).await.is_none()).then_some(parked)
    })
    .await;
    assert_eq!(metric(&base, AGE).await, None);
    eventually("fences are not shown", async || {
        metric(&base, "promring_handover_fences").await.is_none().then_some(())
    })
    .await;
    write("{url: 'http://127.0.0.1:1/new', name: prod}");
    reload().await;
    eventually("it is shown as pending again", async || {
        (shown(PENDING, "new").await? >= parked && metric(&base, PARKED).await? == 0.0).then_some(())
    })
    .await;
    assert!(promring.terminate().success(), "{}", promring.log());
}
