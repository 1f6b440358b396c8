//! Prometheus 3.15 as an agent beside promring: the same configuration, the same expositions, two receivers. What differs
//! on purpose stands in testdata/scrape/divergences.txt with its reason, and nowhere else.

mod cases;
mod compare;
pub mod script;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use promring_net::clock::now_ms;

use crate::chance::seed;
use crate::divergences::SCRAPE;
use crate::recorder::{Record, Recorder};
use crate::servers::part;
use crate::support::{Process, eventually, free_port, get, scaled};
use compare::{Sent, by_case, differences, out_of_order, scrape_times, sent, value};
use script::{Case, Script, Step};

/// A scraper under comparison, and what it sends to.
struct Side {
    process: Process,
    /// One for remote write 1.0, one for 2.0.
    recorders: [Recorder; 2],
}

/// So many scrapes may take as long as an event.
const STEPS_AT_ONCE: usize = 50;

/// Everything that is sent is compared.
fn is_compared(_: &Record) -> bool {
    true
}

impl Side {
    async fn promring(cases: &[Case], script: &Script, dir: &Path) -> Self {
        let recorders = [Recorder::start().await, Recorder::start().await];
        let config = configure("promring", cases, script, &recorders, dir);
        let (process, _) = Process::standalone("promring", &config, dir);
        Self { process, recorders }
    }

    async fn prometheus(cases: &[Case], script: &Script, dir: &Path) -> Self {
        let recorders = [Recorder::start().await, Recorder::start().await];
        let config = configure("prometheus", cases, script, &recorders, dir);
        let arguments = [
            "--agent",
            &format!("--config.file={}", config.display()),
            &format!("--storage.agent.path={}", dir.join("agent").display()),
            &format!("--web.listen-address=127.0.0.1:{}", free_port()),
            "--enable-feature=metadata-wal-records",
        ];
        let process = Process::start("prometheus", part("PROMETHEUS_3"), &arguments, dir);
        Self { process, recorders }
    }

    /// The number of scrapes of a case that both receivers have.
    fn scrapes(&self, job: &str) -> usize {
        let scrapes = |recorder: &Recorder| {
            recorder
                .look(|recorded| by_case(recorded).get(job).map_or(0, |records| scrape_times(records).len()))
        };
        self.recorders.iter().map(scrapes).min().unwrap_or_default()
    }
}

/// The configuration that both get: only the receivers differ.
fn configure(
    name: &str,
    cases: &[Case],
    script: &Script,
    recorders: &[Recorder; 2],
    dir: &Path,
) -> std::path::PathBuf {
    let mut text = "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n".to_owned();
    let address = script.address.to_string();
    for case in cases {
        let job = &case.job;
        text.push_str(&format!("- job_name: {job}\n  metrics_path: /{job}\n"));
        if !case.settings.contains("_configs: [{targets") && !case.settings.contains("file_sd_configs") {
            text.push_str(&format!(
                "  static_configs: [{{targets: ['{address}'], labels: {{case: '{job}'}}}}]\n"
            ));
        }
        for line in case.settings.lines() {
            text.push_str(&format!("  {}\n", line.replace("ADDRESS", &address).replace("JOB", job)));
        }
    }
    text.push_str("remote_write:\n");
    for (recorder, (version, message)) in
        recorders.iter().zip([(1, "prometheus.WriteRequest"), (2, "io.prometheus.write.v2.Request")])
    {
        text.push_str(&format!(
            "- url: {}\n  name: v{version}\n  protobuf_message: {message}\n  send_exemplars: true\n  send_native_histograms: true\n  queue_config: {{max_shards: 1, batch_send_deadline: 500ms}}\n  metadata_config: {{send_interval: 1s}}\n",
            recorder.url(version)
        ));
    }
    let path = dir.join(format!("{name}.yml"));
    std::fs::write(&path, text).unwrap();
    path
}

/// The same without what is told of each scrape, but for `up`: the list of divergences has what differs there.
fn is_compared_by_chance(record: &Record) -> bool {
    !value(&record.labels, "__name__").is_some_and(|name| name.starts_with("scrape_"))
}

/// Lets both scrape all cases to their ends, and gives what differs, by `family/step`. `counts`: which records are looked
/// at.
async fn differing(cases: &[Case], counts: fn(&Record) -> bool, dir: &Path) -> BTreeMap<String, String> {
    let script = Script::start(cases).await;
    let mut ours = Side::promring(cases, &script, dir).await;
    let mut theirs = Side::prometheus(cases, &script, dir).await;
    // In steps, so that the patience is for each of them.
    let steps_max = cases.iter().map(|case| case.steps.len()).max().unwrap_or_default();
    for steps in (0..=steps_max + STEPS_AT_ONCE).step_by(STEPS_AT_ONCE) {
        for side in [&ours, &theirs] {
            for case in cases {
                let wanted = steps.min(case.steps.len()) + 1;
                eventually(&format!("{wanted} scrapes of {}", case.job), async || {
                    let done = side.scrapes(&case.job) >= wanted;
                    if !done {
                        tokio::time::sleep(Duration::from_millis(500)).await;
                    }
                    done.then_some(())
                })
                .await;
            }
        }
    }
    assert!(ours.process.terminate().success(), "{}", ours.process.log());
    theirs.process.terminate();

    // By name and text, the versions of remote write that show it.
    let mut found: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut compared = 0;
    for (version, (ours, theirs)) in [1, 2].into_iter().zip(ours.recorders.iter().zip(&theirs.recorders)) {
        let (ours, theirs) = (ours.recorded(), theirs.recorded());
        assert_eq!(ours.faults, [] as [String; 0], "faults of what promring sent by {version}.0");
        let (ours, theirs) = (by_case(&ours), by_case(&theirs));
        assert!(!ours.contains_key("none") && !theirs.contains_key("none"), "series of no case");
        for case in cases {
            let late = out_of_order(&ours[&case.job]);
            if !late.is_empty() {
                let text = format!("out of order: {late:?}\n");
                found.entry(format!("{}/order", case.family)).or_default().insert(text, version.to_string());
            }
            let of = |sent_by: &BTreeMap<String, Vec<_>>| sent(&sent_by[&case.job], case.steps.len(), counts);
            let (ours, theirs): (Sent, Sent) = (of(&ours), of(&theirs));
            compared += ours.scrapes.iter().map(Vec::len).sum::<usize>();
            for (name, text) in differences(case, &ours, &theirs) {
                found.entry(name).or_default().entry(text).or_default().push_str(&format!("{version}.0 "));
            }
        }
    }
    eprintln!("{} jobs, {compared} samples compared", cases.len());
    let heads = script.heads();
    for case in cases {
        let of = |client: &str| heads.get(&(case.job.clone(), client.to_owned()));
        let (ours, theirs) = (of("promring"), of("prometheus"));
        if ours != theirs {
            let text = format!("requests differ\n   promring: {ours:?}\n   Prometheus: {theirs:?}\n");
            found.entry(format!("{}/request", case.family)).or_default().insert(text, String::new());
        }
    }
    let joined = |texts: BTreeMap<String, String>| {
        texts.into_iter().map(|(text, versions)| format!("{versions}{text}")).collect::<String>()
    };
    found.into_iter().map(|(name, texts)| (name, joined(texts))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_odd_exposition_yields_what_it_yields_with_prometheus() {
    let dir = tempfile::tempdir().unwrap();
    // Prometheus does not send what is older than itself.
    let mut cases = cases::all(now_ms() + 120_000);
    cases.extend(real_expositions(dir.path()).await);
    SCRAPE.settle("scrapes of 3.15", &differing(&cases, is_compared, dir.path()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn expositions_made_by_chance_yield_what_they_yield_with_prometheus() {
    let dir = tempfile::tempdir().unwrap();
    let seed = seed();
    let cases = cases::random(seed, scaled(30, 40), scaled(12, 200));
    let mut found = differing(&cases, is_compared_by_chance, dir.path()).await;
    found.retain(|name, _| !name.starts_with("any/"));
    let shown: Vec<String> = found.into_iter().map(|(name, text)| format!("{name}: {text}")).collect();
    assert!(shown.is_empty(), "seed {seed}: {} differ:\n{}", shown.len(), shown.join("\n"));
}

/// What real programs show: node_exporter and Prometheus itself, in each format, several times.
async fn real_expositions(dir: &Path) -> Vec<Case> {
    let (node, prometheus) = (free_port(), free_port());
    let listen = format!("--web.listen-address=127.0.0.1:{node}");
    let _node = Process::start("node_exporter", part("NODE_EXPORTER"), &[&listen], dir);
    std::fs::write(dir.join("shown.yml"), "global: {}\n").unwrap();
    let arguments = [
        "--agent",
        &format!("--config.file={}", dir.join("shown.yml").display()),
        &format!("--storage.agent.path={}", dir.join("shown").display()),
        &format!("--web.listen-address=127.0.0.1:{prometheus}"),
    ];
    let _prometheus = Process::start("prometheus-shown", part("PROMETHEUS_3"), &arguments, dir);
    let formats = [
        ("text", "text/plain;version=0.0.4"),
        ("text-1.0", "text/plain;version=1.0.0;escaping=allow-utf-8"),
        ("openmetrics", "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"),
        (
            "protobuf",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
        ),
    ];
    let mut cases = Vec::new();
    for (name, port) in [("node-exporter", node), ("prometheus", prometheus)] {
        let url = format!("http://127.0.0.1:{port}/metrics");
        eventually(&format!("{name} answers"), async || get(&url).await).await;
        for (format, accept) in formats {
            let mut steps = Vec::new();
            for number in 1..=4 {
                let request = crate::support::client().get(&url).header("Accept", accept).send();
                let response = request.await.unwrap();
                let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
                steps.push(Step::new(&number.to_string(), &content_type, response.bytes().await.unwrap()));
            }
            cases.extend(cases::family(&format!("{name}-{format}"), "", steps));
        }
    }
    assert!(cases.iter().all(|case| case.steps.iter().all(|step| step.body.len() > 4)));
    cases
}
