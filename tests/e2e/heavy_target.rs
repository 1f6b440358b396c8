//! A target that brings more samples than one lane should carry is spread over all of them, and no series overtakes itself.

use promring_model::labels::Labels;
use promring_net::clock::now_ms;
use promring_testkit::exporter::{Fleet, FleetOptions};
use promring_testkit::receiver::{Fault, FaultRule, Receiver};

use crate::support::{Process, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_heavy_target_is_spread_over_lanes_and_stays_so_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let options = FleetOptions { targets: 1, series: Some(25_000), ..FleetOptions::default() };
    let fleet = Fleet::start(options).await.unwrap();
    let receiver = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    // One lane would carry 20,000 samples a second at most, and never keep up; and lanes are not equally fast.
    let slower = Fault::Slow { delay_ms: 130 };
    receiver.add_fault(FaultRule { probability: Some(0.3), ..slower.into() }).unwrap();
    receiver.add_fault(Fault::Slow { delay_ms: 100 }).unwrap();
    std::fs::write(dir.path().join("targets.json"), fleet.file_sd_json()).unwrap();
    let config = dir.path().join("prometheus.yml");
    let text = format!(
        "
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs: [{{job_name: sample, file_sd_configs: [{{files: [targets.json]}}]}}]
remote_write: [{{url: '{}', name: audit}}]
",
        receiver.write_url()
    );
    std::fs::write(&config, text).unwrap();
    let (mut promring, _) = Process::standalone("promring", &config, dir.path());
    let file = dir.path().join("data/spread");
    eventually("it is spread", async || file.exists().then_some(())).await;
    let up = Labels::from_pairs([("__name__", "up")]);
    let ups =
        || receiver.audit().last_samples(up.get("__name__").unwrap()).first().map_or(0, |up| up.samples);
    let spread_at = ups();
    eventually("some scrapes after that", async || (ups() >= spread_at + 4).then_some(())).await;
    let last_ms = now_ms();
    promring.kill();
    let (mut again, _) = Process::standalone("promring-again", &config, dir.path());
    eventually("scrapes of the next process", async || {
        let last = receiver.audit().last_samples("up").first().map_or(0, |up| up.timestamp_ms);
        (last > last_ms + 2_000).then_some(())
    })
    .await;
    assert!(again.terminate().success(), "{}", again.log());
    let summary = receiver.summary();
    assert_eq!(summary.out_of_order, 0, "no series has overtaken itself");
    // One request a lane was under way when the process was killed.
    assert!(summary.duplicates <= 8 * 2_000, "{} duplicates", summary.duplicates);
}
