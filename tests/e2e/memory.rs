//! A process that is killed for its memory, as a pod's limit does it: what was enqueued is there, and is sent by the next one.
//! As root.

use promring_scraper::queue::Inspection;
use promring_testkit::exporter::{Fleet, FleetOptions};
use promring_testkit::receiver::{Fault, Receiver};
use rustix::process::Signal;

use crate::host::MemoryLimit;
use crate::support::{Process, client, eventually, metric};

#[tokio::test(flavor = "multi_thread")]
async fn an_oom_kill_loses_nothing_that_was_enqueued() {
    let dir = tempfile::tempdir().unwrap();
    let options = FleetOptions { targets: 4, series: Some(2_000), ..FleetOptions::default() };
    let fleet = Fleet::start(options.clone()).await.unwrap();
    // Far more than the limit allows.
    let huge = FleetOptions { targets: 2, series: Some(500_000), ..options };
    let huge = Fleet::start(huge).await.unwrap();
    let receiver = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let write_url = receiver.write_url();
    receiver.add_fault(Fault::Reset).unwrap();
    std::fs::write(dir.path().join("targets.json"), fleet.file_sd_json()).unwrap();
    std::fs::write(dir.path().join("huge.json"), huge.file_sd_json()).unwrap();
    let config = dir.path().join("prometheus.yml");
    let text = format!(
        "
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
remote_write: [{{url: '{write_url}', name: audit}}]
scraper: {{body_size_limit: 1GB}}
scrape_configs:
- {{job_name: sample, file_sd_configs: [{{files: [targets.json]}}]}}
"
    );
    std::fs::write(&config, &text).unwrap();
    let (mut promring, base) = Process::standalone("promring", &config, dir.path());
    let limit = MemoryLimit::new("promring-oom");
    limit.take(promring.id());
    eventually("a backlog", async || {
        metric(&base, "promring_queue_enqueued_samples_total").await.filter(|samples| *samples > 30_000.0)
    })
    .await;
    limit.set(limit.used() + (24 << 20));
    let enqueued = metric(&base, "promring_queue_enqueued_samples_total").await.unwrap();
    let huge_job = "- {job_name: huge, scrape_interval: 2s, scrape_timeout: 2s, file_sd_configs: [{files: [huge.json]}]}\n";
    std::fs::write(&config, text.clone() + huge_job).unwrap();
    // It may not live to answer.
    let _ = client().post(format!("{base}/-/reload")).send().await;
    let status = promring.wait();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(Signal::KILL.as_raw()),
        "{status}: {}",
        promring.log()
    );

    let queue = dir.path().join("data/queue/audit");
    let left = Inspection::of(&queue).unwrap().pending().samples;
    assert!(left as f64 >= enqueued, "{left} of {enqueued}");
    std::fs::write(&config, text).unwrap();
    receiver.clear_faults();
    let (mut again, _) = Process::standalone("promring-again", &config, dir.path());
    eventually("all of it arrives", async || (receiver.summary().samples >= left).then_some(())).await;
    assert!(again.terminate().success(), "{}", again.log());
    let summary = receiver.summary();
    assert_eq!((summary.duplicates, summary.out_of_order), (0, 0));
}
