//! A receiver that is away for a while and comes back: every slot arrives, the backlog at full speed, fresh samples meanwhile.
//! Seconds here; ten minutes with PROMRING_E2E_FULL=1.

use promring_model::config::load;
use promring_net::clock::now_ms;
use promring_net::files::Disk;
use promring_testkit::exporter::{Fleet, FleetOptions};
use promring_testkit::receiver::{Fault, Receiver};

use crate::support::{Process, eventually, metric, scaled};

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_costs_no_slot_and_its_backlog_is_gone_soon_after() {
    let outage_ms: i64 = scaled(6_000, 600_000);
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(FleetOptions { targets: 10, ..FleetOptions::default() }).await.unwrap();
    let receiver = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    std::fs::write(dir.path().join("targets.json"), fleet.file_sd_json()).unwrap();
    let path = dir.path().join("prometheus.yml");
    let text = format!(
        "
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
- job_name: sample
  file_sd_configs: [{{files: [targets.json]}}]
remote_write: [{{url: '{}', name: audit}}]
",
        receiver.write_url()
    );
    std::fs::write(&path, text).unwrap();
    let config = load(&path, &Disk).config.unwrap();
    fleet.expect(&mut receiver.audit(), &config.scrape_configs[0], &config.external_labels).unwrap();
    let (mut promring, base) = Process::standalone("promring", &path, dir.path());
    eventually("every target is up", async || {
        (receiver.audit().last_samples("up").len() == 10).then_some(())
    })
    .await;
    let from_ms = now_ms();
    receiver.audit().window(from_ms, i64::MAX);

    receiver.add_fault(Fault::Reset).unwrap();
    let until_ms = from_ms + outage_ms;
    // Ten minutes are longer than anything else is waited for.
    while now_ms() < until_ms {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let pending = metric(&base, "prometheus_remote_storage_samples_pending").await.unwrap();
    let series = receiver.audit().report(from_ms).series as f64;
    let slots = (outage_ms / 1_000 - 2) as f64;
    assert!(pending >= slots * series, "{pending} of {series} series wait after {slots} slots");
    receiver.clear_faults();
    // The lanes ask again within max_backoff; what two slots bring may be under way at any moment.
    eventually("the backlog is sent", async || {
        let pending = metric(&base, "prometheus_remote_storage_samples_pending").await?;
        (pending <= 2.0 * series).then_some(())
    })
    .await;
    let back_ms = now_ms();
    eventually("slots after it", async || (now_ms() > back_ms + 5_000).then_some(())).await;
    assert!(promring.terminate().success(), "{}", promring.log());
    let report = receiver.audit().report(back_ms + 2_000);
    assert!(report.counts.is_clean(), "{report:#?}");
    assert!(report.slots as f64 >= series * (slots + 2.0), "{} slots", report.slots);
    let log = promring.log();
    let told = log.lines().filter(|line| line.contains("a request is sent again")).count() as i64;
    assert!((1..=2 + outage_ms / 60_000).contains(&told), "one line a minute: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_that_several_targets_yield_stays_in_order_over_an_outage() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(FleetOptions { targets: 1, ..FleetOptions::default() }).await.unwrap();
    let receiver = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let groups: serde_json::Value = serde_json::from_str(&fleet.file_sd_json()).unwrap();
    let address = groups[0]["targets"][0].as_str().unwrap();
    // What tells the first ones apart is taken away, and the last ones are of two jobs with one label `job`.
    let pods: String =
        (0..4).map(|pod| format!("  - {{targets: ['{address}'], labels: {{pod: p{pod}}}}}\n")).collect();
    let jobs: String = (0..4)
        .map(|job| {
            format!("- {{job_name: j{job}, static_configs: [{{targets: ['{address}'], labels: {{job: same}}}}]}}\n")
        })
        .collect();
    let text = format!(
        "
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
- job_name: pods
  metric_relabel_configs: [{{regex: pod, action: labeldrop}}]
  static_configs:
{pods}{jobs}remote_write: [{{url: '{}', name: audit}}]
",
        receiver.write_url()
    );
    let path = dir.path().join("prometheus.yml");
    std::fs::write(&path, text).unwrap();
    let (mut promring, base) = Process::standalone("promring", &path, dir.path());
    let up = async || (receiver.audit().last_samples("up").len() == 5).then_some(());
    eventually("every target is up", up).await;
    receiver.add_fault(Fault::Reset).unwrap();
    let samples = receiver.audit().totals().samples as f64;
    eventually("a backlog", async || {
        let pending = metric(&base, "prometheus_remote_storage_samples_pending").await?;
        (pending >= samples.max(3_000.0)).then_some(())
    })
    .await;
    receiver.clear_faults();
    eventually("it is sent", async || {
        let pending = metric(&base, "prometheus_remote_storage_samples_pending").await?;
        (pending <= 1_000.0).then_some(())
    })
    .await;
    assert!(promring.terminate().success(), "{}", promring.log());
    let report = receiver.audit().report(now_ms());
    // Of two that are due at nearly the same moment the later one may be scraped sooner, now and then.
    let samples = receiver.audit().totals().samples;
    assert!(report.counts.out_of_order * 20 < samples, "of {samples}: {report:#?}");
}
