//! A target that its file loses and has again before its next slot loses nothing.

use std::time::{Duration, Instant};

use promring_model::config::load;
use promring_model::labels::Labels;
use promring_net::clock::now_ms;
use promring_net::files::Disk;
use promring_testkit::exporter::{Fleet, FleetOptions};
use promring_testkit::receiver::Receiver;

use crate::support::{Process, eventually, get_json};

/// Each change of the file takes about a second to be seen.
const INTERVAL: Duration = Duration::from_secs(5);

/// So often is the machine allowed to be too busy.
const ATTEMPTS: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_back_in_its_file_before_its_next_slot_loses_none_and_is_not_marked() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(FleetOptions { targets: 1, ..FleetOptions::default() }).await.unwrap();
    let receiver = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let write = |text: &str| {
        std::fs::write(dir.path().join("new"), text).unwrap();
        std::fs::rename(dir.path().join("new"), dir.path().join("targets.json")).unwrap();
    };
    write(&fleet.file_sd_json());
    let path = dir.path().join("prometheus.yml");
    let text = format!(
        "
global: {{scrape_interval: 5s, scrape_timeout: 1s}}
scrape_configs:
- job_name: flaps
  file_sd_configs: [{{files: [targets.json], refresh_interval: 100ms}}]
remote_write: [{{url: '{}', name: audit}}]
",
        receiver.write_url()
    );
    std::fs::write(&path, text).unwrap();
    let (mut promring, base) = Process::standalone("promring", &path, dir.path());
    let config = load(&path, &Disk).config.unwrap();
    fleet.expect(&mut receiver.audit(), &config.scrape_configs[0], &Labels::default()).unwrap();
    let scraped = async |what: &str, more: u64| {
        let wanted = fleet.scrapes() + more;
        eventually(what, async || (fleet.scrapes() >= wanted).then_some(())).await;
    };
    let targets = async |what: &str, wanted: usize| {
        eventually(what, async || {
            let list = get_json(&format!("{base}/api/v1/targets")).await?;
            (list["data"]["activeTargets"].as_array()?.len() == wanted).then_some(())
        })
        .await;
    };
    let mut was_quick = false;
    for _ in 0..ATTEMPTS {
        scraped("it is scraped", 1).await;
        let begun = Instant::now();
        receiver.audit().window(now_ms(), i64::MAX);
        write("[]");
        targets("it is gone", 0).await;
        write(&fleet.file_sd_json());
        targets("it is back", 1).await;
        // Otherwise the machine was busy, and a slot came in between.
        was_quick = begun.elapsed() < INTERVAL * 3 / 4;
        if was_quick {
            break;
        }
    }
    assert!(was_quick, "a slot came in between each time");
    scraped("some more slots", 2).await;
    let until_ms = now_ms() - 500;
    // What was scraped has arrived once the stop is over.
    assert!(promring.terminate().success(), "{}", promring.log());
    let report = receiver.audit().report(until_ms);
    let counts = report.counts;
    assert_eq!(
        (counts.gaps, counts.duplicates, counts.out_of_order, counts.stray_markers),
        (0, 0, 0, 0),
        "{report:#?}"
    );
    assert!(report.slots > 1, "{} slots", report.slots);
}
