//! Many targets, and bad ones beside good ones: nobody is late because of another, and memory stays within its limit.

use std::path::Path;

use promring_model::config::load;
use promring_net::clock::now_ms;
use promring_net::files::Disk;
use promring_testkit::exporter::{Behaviour, Fleet, FleetOptions};
use promring_testkit::receiver::Receiver;

use crate::generator::{Body, Generator};
use crate::support::{Process, eventually, free_port, get, get_json, metric, scaled};

/// The targets whose every slot is audited.
struct Audited {
    fleet: Fleet,
    receiver: Receiver,
    dir: tempfile::TempDir,
    interval_s: i64,
}

impl Audited {
    async fn new(targets: usize, series: usize, interval_s: i64, seed: u64) -> Self {
        let options = FleetOptions { targets, series: Some(series), seed, ..FleetOptions::default() };
        let fleet = Fleet::start(options).await.unwrap();
        let receiver = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("good.json"), fleet.file_sd_json()).unwrap();
        Self { fleet, receiver, dir, interval_s }
    }

    /// Writes the configuration, with more jobs and sections, and returns its path.
    fn configure(&self, jobs: &str, sections: &str) -> std::path::PathBuf {
        let config = self.dir.path().join("prometheus.yml");
        let text = format!(
            "
global: {{scrape_interval: {0}s, scrape_timeout: {0}s}}
scrape_configs:
- job_name: good
  file_sd_configs: [{{files: [good.json]}}]
{jobs}
remote_write:
- url: '{1}'
  write_relabel_configs: [{{source_labels: [job], regex: good, action: keep}}]
{sections}
",
            self.interval_s,
            self.receiver.write_url()
        );
        std::fs::write(&config, text).unwrap();
        let job = load(&config, &Disk).config.unwrap().scrape_configs[0].clone();
        self.fleet.expect(&mut self.receiver.audit(), &job, &Default::default()).unwrap();
        config
    }

    /// Lets this many slots pass, from when every good target is up, and audits each of them.
    async fn every_slot_is_scraped(&self, base: &str, slots: i64) {
        let targets = self.fleet.exporters().len();
        let from_ms = eventually("every good target is up", async || {
            let answer = get_json(&format!("{base}/api/v1/targets")).await?;
            let active = answer["data"]["activeTargets"].as_array()?.clone();
            let is_up =
                |target: &&serde_json::Value| target["scrapePool"] == "good" && target["health"] == "up";
            let up = active.iter().filter(is_up).count();
            (up == targets).then(now_ms)
        })
        .await;
        let until_ms = from_ms + slots * self.interval_s * 1_000;
        self.receiver.audit().window(from_ms, until_ms);
        let over = async || (now_ms() > until_ms + 4_000).then_some(());
        eventually("some slots to audit", over).await;
        let report = self.receiver.audit().report(until_ms);
        assert!(report.counts.is_clean(), "{report:#?}");
        assert!(report.slots >= report.series * (slots as u64 - 1), "{} slots", report.slots);
        let text = get(&format!("{base}/metrics")).await.unwrap();
        let told = |line: &&str| {
            line.starts_with("promring_scrape_lateness_seconds_") || line.contains("skipped_total")
        };
        eprintln!("{}", text.lines().filter(told).collect::<Vec<_>>().join("\n"));
    }
}

async fn skipped(base: &str, reason: &str) -> f64 {
    let text = get(&format!("{base}/metrics")).await.unwrap_or_default();
    let name = format!("promring_scrapes_skipped_total{{reason=\"{reason}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_slow_and_malicious_targets_delay_no_other_one() {
    let audited = Audited::new(scaled(100, 200), 100, 1, 1).await;
    let huge = Generator::start(scaled(100_000, 500_000));
    huge.set(Body::Good);
    let bomb = Generator::start(1);
    bomb.set(Body::Bomb);
    let bad = Fleet::start(FleetOptions { targets: 12, seed: 2, ..FleetOptions::default() }).await.unwrap();
    let misdeeds = [Behaviour::Hung, Behaviour::Endless, Behaviour::Garbage, Behaviour::CutOff];
    for (exporter, behaviour) in bad.exporters().iter().zip(misdeeds.into_iter().cycle()) {
        exporter.set(behaviour);
    }
    std::fs::write(audited.dir.path().join("bad.json"), bad.file_sd_json()).unwrap();
    let jobs = format!(
        "
- job_name: huge
  scrape_interval: {0}s
  scrape_timeout: {0}s
  body_size_limit: 0
  static_configs: [{{targets: ['{1}']}}]
- job_name: bad
  scrape_interval: 2s
  scrape_timeout: 2s
  static_configs: [{{targets: ['{2}']}}]
  file_sd_configs: [{{files: [bad.json]}}]",
        scaled(2, 5),
        huge.address(),
        bomb.address()
    );
    let config = audited.configure(&jobs, "");
    let (mut promring, base) = Process::standalone("promring", &config, audited.dir.path());
    eventually("the huge target is scraped", async || {
        metric(&base, "promring_scrape_samples_total").await.filter(|&samples| samples > 100_000.0)
    })
    .await;
    audited.every_slot_is_scraped(&base, scaled(10, 60)).await;
    let answer = get_json(&format!("{base}/api/v1/targets")).await.unwrap();
    let told: Vec<String> = answer["data"]["activeTargets"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|target| target["scrapePool"] != "good")
        .map(|target| {
            format!("{} {} {}", target["scrapeUrl"], target["lastError"], target["lastScrapeDuration"])
        })
        .collect();
    let scrapes = [huge.scrapes(), bomb.scrapes()];
    assert!(scrapes.iter().all(|&scrapes| scrapes > 2), "{scrapes:?} {told:#?}");
    assert!(promring.terminate().success(), "{}", promring.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_targets_are_scraped_without_falling_behind() {
    let audited = Audited::new(scaled(2_000, 10_000), 50, 10, 1).await;
    let config = audited.configure("", "");
    let (mut promring, base) = Process::standalone("promring", &config, audited.dir.path());
    audited.every_slot_is_scraped(&base, scaled(2, 6)).await;
    assert_eq!((skipped(&base, "slow").await, skipped(&base, "memory").await), (0.0, 0.0));
    eprintln!("{} bytes", promring.memory("VmHWM"));
    assert!(promring.terminate().success(), "{}", promring.log());
}

/// Large targets that start together and do not fit together.
fn crowd(count: usize, series: usize) -> (Vec<Generator>, String) {
    let crowd: Vec<Generator> = (0..count).map(|_| Generator::start(series)).collect();
    crowd.iter().for_each(|generator| generator.set(Body::Good));
    let addresses: Vec<String> = crowd.iter().map(|generator| format!("'{}'", generator.address())).collect();
    let job = format!(
        "
- job_name: crowd
  scrape_interval: 2s
  scrape_timeout: 2s
  body_size_limit: 0
  static_configs: [{{targets: [{}]}}]",
        addresses.join(", ")
    );
    (crowd, job)
}

#[tokio::test(flavor = "multi_thread")]
async fn near_the_memory_limit_small_targets_miss_no_slot_and_the_limit_holds() {
    let audited = Audited::new(20, 100, 1, 1).await;
    let series = scaled(100_000, 300_000);
    let (_crowd, job) = crowd(8, series);
    let limit = 80 + series as u64 / 5_000;
    let config = audited.configure(&job, &format!("scraper: {{memory_limit: {limit}MB}}"));
    let (mut promring, base) = Process::standalone("promring", &config, audited.dir.path());
    audited.every_slot_is_scraped(&base, scaled(5, 30)).await;
    let peak = promring.memory("VmHWM");
    eprintln!("{peak} bytes at the peak, {limit} MiB allowed");
    assert!(peak <= limit << 20, "{peak} bytes at the peak, {limit} MiB allowed");
    assert!(promring.terminate().success(), "{}", promring.log());
}

/// Takes requests and never answers.
async fn mute() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move { tokio::io::copy(&mut socket, &mut tokio::io::sink()).await });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_that_never_answer_take_no_memory_from_the_others() {
    let audited = Audited::new(50, 100, 1, 1).await;
    let address = mute().await;
    let targets: Vec<String> = (0..1_000)
        .map(|number| format!("{{targets: ['{address}'], labels: {{number: '{number}'}}}}"))
        .collect();
    let job = format!(
        "
- job_name: mute
  scrape_interval: 2s
  scrape_timeout: 2s
  static_configs: [{}]",
        targets.join(", ")
    );
    let config = audited.configure(&job, "scraper: {memory_limit: 120MB}");
    let (mut promring, base) = Process::standalone("promring", &config, audited.dir.path());
    audited.every_slot_is_scraped(&base, scaled(8, 30)).await;
    assert_eq!(skipped(&base, "memory").await, 0.0);
    eprintln!("{} bytes at the peak", promring.memory("VmHWM"));
    assert!(promring.terminate().success(), "{}", promring.log());
}

/// A memory control group of version 1, which goes with the test.
struct Group(std::path::PathBuf);

impl Group {
    fn new(limit_bytes: u64) -> Self {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let path = own.lines().find_map(|line| line.split_once(":memory:").map(|(_, path)| path.to_owned()));
        let path = path.expect("the test needs control groups of version 1");
        let parent = Path::new("/sys/fs/cgroup/memory").join(path.trim_start_matches('/'));
        let group = parent.join(format!("promring-test-{}", std::process::id()));
        std::fs::create_dir(&group).expect("the test needs to make a control group, as root can");
        std::fs::write(group.join("memory.limit_in_bytes"), limit_bytes.to_string()).unwrap();
        Self(group)
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.0.join(file)).unwrap()
    }

    /// Starts promring standalone in the group; gives its URL as well.
    fn standalone(&self, config: &Path, dir: &Path) -> (Process, String) {
        let listen = format!("127.0.0.1:{}", free_port());
        let command = format!(
            "echo $$ >{}/cgroup.procs && exec {} standalone --config {} --data-dir {} --listen {listen}",
            self.0.display(),
            env!("CARGO_BIN_EXE_promring"),
            config.display(),
            dir.join("data").display()
        );
        (Process::start("promring", "/bin/sh", &["-c", &command], dir), format!("http://{listen}"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_control_groups_limit_the_process_is_never_killed() {
    let audited = Audited::new(20, 100, 1, 1).await;
    let series = scaled(100_000, 300_000);
    let limit = (90 + series as u64 / 5_000) << 20;
    let group = Group::new(limit);
    let (_crowd, job) = crowd(8, series);
    let config = audited.configure(&job, "");
    let (mut promring, base) = group.standalone(&config, audited.dir.path());
    eventually("the limit is known", async || {
        metric(&base, "promring_memory_limit_bytes").await.filter(|&bytes| bytes == (limit / 10 * 9) as f64)
    })
    .await;
    audited.every_slot_is_scraped(&base, scaled(5, 60)).await;
    assert!(promring.runs(), "{}", promring.log());
    assert!(group.read("memory.oom_control").contains("oom_kill 0"), "{}", group.read("memory.oom_control"));
    eprintln!("{} bytes at the peak, page cache included", group.read("memory.max_usage_in_bytes").trim());
    assert!(promring.terminate().success(), "{}", promring.log());
    drop(promring);
}

/// More than the process can hold, again and again, of strings that nobody has had before; the limit is the group's.
#[tokio::test(flavor = "multi_thread")]
async fn targets_that_never_end_neither_kill_the_process_nor_delay_the_others() {
    let audited = Audited::new(20, 100, 1, 1).await;
    let group = Group::new(180 << 20);
    let endless: Vec<Generator> = (0..4).map(|_| Generator::start(0)).collect();
    endless.iter().for_each(|generator| generator.set(Body::EverNew));
    let addresses: Vec<String> =
        endless.iter().map(|generator| format!("'{}'", generator.address())).collect();
    let jobs = format!(
        "
- job_name: endless
  scrape_interval: 10s
  scrape_timeout: 9s
  enable_compression: false
  body_size_limit: 0
  static_configs: [{{targets: [{}]}}]",
        addresses.join(", ")
    );
    let config = audited.configure(&jobs, "");
    let (mut promring, base) = group.standalone(&config, audited.dir.path());
    eventually("a scrape took more than one may", async || {
        assert!(promring.runs(), "{}", group.read("memory.oom_control"));
        metric(&base, "promring_scrapes_exceeded_memory_total").await.filter(|&scrapes| scrapes > 0.0)
    })
    .await;
    audited.every_slot_is_scraped(&base, scaled(8, 60)).await;
    assert!(promring.runs(), "{}", promring.log());
    assert!(group.read("memory.oom_control").contains("oom_kill 0"), "{}", group.read("memory.oom_control"));
    let limit = metric(&base, "promring_memory_limit_bytes").await.unwrap();
    let peak = promring.memory("VmHWM");
    eprintln!("{peak} bytes at the peak, {limit} allowed");
    assert!(peak as f64 <= limit, "{peak} bytes at the peak, {limit} allowed");
    let answer = get_json(&format!("{base}/api/v1/targets")).await.unwrap();
    let errors: Vec<&str> = answer["data"]["activeTargets"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|target| target["lastError"].as_str().filter(|error| !error.is_empty()))
        .collect();
    assert!(errors.iter().any(|error| error.contains("scraper.memory_limit")), "{errors:?}");
    assert!(promring.terminate().success(), "{}", promring.log());
}
