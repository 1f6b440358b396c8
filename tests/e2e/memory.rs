//! A process that is killed for its memory, as a pod's limit does it: what was enqueued is there, and is sent by the next one.
//! As root.

use promring_scraper::queue::Inspection;
use promring_testkit::exporter::{Fleet, FleetOptions};
use promring_testkit::receiver::{Fault, Receiver};
use rustix::process::Signal;

use crate::generator::{Body, Generator};
use crate::host::MemoryLimit;
use crate::support::{Process, client, eventually, metric};

/// Targets whose bodies never end. Their slots lie apart, so that the first comes soon, and none times out before the
/// test would give up: however slow the machine is, the process only ever takes more.
const ENDLESS: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn an_oom_kill_loses_nothing_that_was_enqueued() {
    let dir = tempfile::tempdir().unwrap();
    let options = FleetOptions { targets: 4, series: Some(2_000), ..FleetOptions::default() };
    let fleet = Fleet::start(options).await.unwrap();
    let endless = Generator::start(0);
    endless.set(Body::Endless);
    let receiver = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let write_url = receiver.write_url();
    receiver.add_fault(Fault::Reset).unwrap();
    std::fs::write(dir.path().join("targets.json"), fleet.file_sd_json()).unwrap();
    let config = dir.path().join("prometheus.yml");
    // Without a limit of its own: it would see that of the group, keep to it and live.
    let idle = format!(
        "
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
remote_write: [{{url: '{write_url}', name: audit}}]
scraper: {{memory_limit: 0}}
"
    );
    let text = format!(
        "{idle}scrape_configs:\n- {{job_name: sample, file_sd_configs: [{{files: [targets.json]}}]}}\n"
    );
    std::fs::write(&config, &text).unwrap();
    let (mut promring, base) = Process::standalone("promring", &config, dir.path());
    let limit = MemoryLimit::new("promring-oom");
    limit.take(promring.id());
    eventually("a backlog", async || {
        metric(&base, "promring_queue_enqueued_samples_total").await.filter(|samples| *samples > 30_000.0)
    })
    .await;
    let enqueued = metric(&base, "promring_queue_enqueued_samples_total").await.unwrap();
    limit.set(limit.used() + (8 << 20));
    let targets: Vec<String> = (0..ENDLESS)
        .map(|number| format!("{{targets: ['{}'], labels: {{number: '{number}'}}}}", endless.address()))
        .collect();
    let job = format!(
        "- job_name: endless
  scrape_interval: 2m
  scrape_timeout: 2m
  body_size_limit: 0
  static_configs: [{}]
",
        targets.join(", ")
    );
    std::fs::write(&config, text + &job).unwrap();
    // It may not live to answer; a file that it does not take would keep it alive.
    if let Ok(answer) = client().post(format!("{base}/-/reload")).send().await {
        assert_eq!(answer.status(), 200, "{}", promring.log());
    }
    let status = promring.wait();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(Signal::KILL.as_raw()),
        "{status}: {}",
        promring.log()
    );
    assert_eq!(limit.kills(), 1);

    let queue = dir.path().join("data/queue/audit");
    let left = Inspection::of(&queue).unwrap().pending().samples;
    assert!(left as f64 >= enqueued, "{left} of {enqueued}");
    // Nothing new comes in, so that what arrives is what was left.
    std::fs::write(&config, idle).unwrap();
    receiver.clear_faults();
    let (mut again, _) = Process::standalone("promring-again", &config, dir.path());
    eventually("all of it arrives", async || (receiver.summary().samples >= left).then_some(())).await;
    assert!(again.terminate().success(), "{}", again.log());
    let summary = receiver.summary();
    assert_eq!((summary.samples, summary.duplicates, summary.out_of_order), (left, 0, 0));
}
