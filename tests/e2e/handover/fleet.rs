//! An allocator and scrapers as processes, which come and go as a StatefulSet's pods do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use promring_cluster::Host;
use promring_model::config::load;
use promring_model::labels::Labels;
use promring_net::clock::now_ms;
use promring_net::files::Disk;
use promring_testkit::audit::{Absence, Report};
use promring_testkit::exporter::{Fleet as Exporters, FleetOptions};
use promring_testkit::receiver::Receiver;
use rustix::process::Signal;

use super::clocks::Skew;
use crate::owners;
pub use crate::owners::{Owners, moved, of};
use crate::support::{Process, eventually, free_port, metric_of};

/// How many targets there are, each scraped every second.
pub const TARGETS: usize = 300;
/// Series that each exposes.
pub const SERIES: usize = 10;
/// Samples may be under way for this long, in milliseconds: two cores may be busy.
const UNDER_WAY_MS: i64 = 4_000;

/// What differs from test to test.
pub struct Setup {
    /// How many targets.
    pub targets: usize,
    /// Scrapers at the start.
    pub scrapers: usize,
    /// `allocator.lapse`.
    pub lapse: &'static str,
    /// Further keys under `scraper:`.
    pub scraper: &'static str,
    /// Entries of `remote_write` beside the auditing receiver's, as a YAML flow sequence without its brackets.
    pub more_receivers: String,
    /// Keys of the auditing receiver's entry.
    pub remote_write: &'static str,
    /// Where the allocator runs; None: beside everything else.
    pub host: Option<Host>,
    /// By how much the scrapers' clocks are off, in turn.
    pub clocks: Option<Skew>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            targets: TARGETS,
            scrapers: 3,
            lapse: "15s",
            scraper: "",
            more_receivers: String::new(),
            remote_write: "",
            host: None,
            clocks: None,
        }
    }
}

/// One scraper's process, and where it listens.
struct Scraper {
    process: Process,
    base: String,
}

/// The whole fleet.
pub struct Fleet {
    dir: tempfile::TempDir,
    pub exporters: Exporters,
    pub receiver: Receiver,
    setup: Setup,
    config: PathBuf,
    allocator: Process,
    pub allocator_url: String,
    scrapers: BTreeMap<usize, Scraper>,
    /// Addresses of targets that discovery has dropped.
    dropped: BTreeSet<String>,
    /// How often a process was started, for the names of logs.
    starts: usize,
}

impl Fleet {
    /// Starts everything, and returns when all scrapers have their targets and the audit has begun.
    pub async fn start(setup: Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options =
            FleetOptions { targets: setup.targets, series: Some(SERIES), ..FleetOptions::default() };
        let exporters = Exporters::start(options).await.unwrap();
        let receiver = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        replace(&dir.path().join("targets.json"), &exporters.file_sd_json());
        let config = dir.path().join("prometheus.yml");
        write_config(&config, &setup, setup.scrapers, &receiver);
        let job = load(&config, &Disk).config.unwrap().scrape_configs[0].clone();
        exporters.expect(&mut receiver.audit(), &job, &Default::default()).unwrap();
        let address = setup.host.as_ref().map_or(Ipv4Addr::LOCALHOST, Host::address);
        let listen = format!("{address}:{}", free_port());
        let allocator = start_allocator(&setup, &config, &listen, dir.path(), "allocator");
        let count = setup.scrapers;
        let mut fleet = Self {
            dir,
            exporters,
            receiver,
            setup,
            config,
            allocator,
            allocator_url: format!("http://{listen}"),
            scrapers: BTreeMap::new(),
            dropped: BTreeSet::new(),
            starts: 0,
        };
        for number in 0..count {
            fleet.start_scraper(number);
        }
        fleet.settled().await;
        // A target's first slot is the first after it was assigned, by a clock that may be ahead.
        let ahead_ms = if fleet.setup.clocks.is_some() { 1_000 } else { 0 };
        fleet.receiver.audit().window(now_ms() + ahead_ms, i64::MAX);
        fleet
    }

    /// Starts a scraper, with the volume that it had before, if it had one.
    pub fn start_scraper(&mut self, number: usize) {
        self.starts += 1;
        let name = name(number);
        let base = self.scrapers.remove(&number).map(|scraper| scraper.base);
        let base = base.unwrap_or_else(|| format!("http://127.0.0.1:{}", free_port()));
        let data = self.dir.path().join(&name);
        let arguments = [
            "scraper",
            "--config",
            self.config.to_str().unwrap(),
            "--name",
            &name,
            "--allocator",
            &self.allocator_url,
            "--listen",
            base.strip_prefix("http://").unwrap(),
            "--data-dir",
            data.to_str().unwrap(),
        ];
        let log = format!("{name}-{}", self.starts);
        let process = match &self.setup.clocks {
            Some(skew) => skew.start(number, &log, &arguments, self.dir.path()),
            None => Process::promring(&log, &arguments, self.dir.path()),
        };
        self.scrapers.insert(number, Scraper { process, base });
    }

    /// Says how many scrapers there are to be.
    pub fn want(&self, scrapers: usize) {
        write_config(&self.config, &self.setup, scrapers, &self.receiver);
    }

    /// Takes targets out of what is discovered, for good. Their series are to end within `settle_ms`, with markers.
    pub fn drop_targets(&mut self, addresses: impl IntoIterator<Item = String>, settle_ms: i64) {
        let absence = Absence::removed(now_ms(), settle_ms);
        for address in addresses {
            let mut audit = self.receiver.audit();
            let target = audit.find_target(&Labels::from_pairs([("instance", address.clone())])).unwrap();
            audit.expect_absence(target, absence);
            self.dropped.insert(address);
        }
        let mut groups: Vec<serde_json::Value> =
            serde_json::from_str(&self.exporters.file_sd_json()).unwrap();
        for targets in groups.iter_mut().filter_map(|group| group["targets"].as_array_mut()) {
            targets.retain(|target| !self.dropped.contains(target.as_str().unwrap()));
        }
        replace(&self.dir.path().join("targets.json"), &serde_json::to_string(&groups).unwrap());
    }

    /// Changes the number of scrapers as a StatefulSet does: new ones are started, those with the highest ordinals
    /// stopped one after the other. Returns when everybody has what it is to have.
    pub async fn scale(&mut self, to: usize) {
        let from = self.scrapers.len();
        self.want(to);
        for number in from..to {
            self.start_scraper(number);
        }
        for number in (to..from).rev() {
            self.leaves(number).await;
            self.stop_scraper(number);
            self.scrapers.remove(&number);
        }
        self.settled().await;
    }

    /// Waits until the allocator knows that a scraper's ordinal goes away.
    async fn leaves(&self, number: usize) {
        eventually("the allocator knows that a scraper is to go", async || {
            owners::standing(&self.allocator_url).await?.leaving.contains(&name(number)).then_some(())
        })
        .await;
    }

    /// Asks a scraper to end, and waits until it has.
    pub fn stop_scraper(&mut self, number: usize) {
        let process = self.process(number);
        assert!(process.terminate().success(), "{}", process.log());
    }

    /// Kills a scraper as a crash would.
    pub fn kill_scraper(&mut self, number: usize) {
        self.process(number).kill();
    }

    /// Sends a scraper a signal.
    pub fn signal_scraper(&mut self, number: usize, signal: Signal) {
        self.process(number).signal(signal);
    }

    fn process(&mut self, number: usize) -> &mut Process {
        &mut self.scrapers.get_mut(&number).unwrap().process
    }

    /// Stops the allocator and starts it again.
    pub async fn restart_allocator(&mut self) {
        assert!(self.allocator.terminate().success(), "{}", self.allocator.log());
        self.start_allocator_again();
        self.settled().await;
    }

    /// Kills the allocator.
    pub fn kill_allocator(&mut self) {
        self.allocator.kill();
    }

    /// Starts an allocator where the last one was.
    pub fn start_allocator_again(&mut self) {
        self.starts += 1;
        let listen = self.allocator_url.strip_prefix("http://").unwrap();
        let log = format!("allocator-{}", self.starts);
        self.allocator = start_allocator(&self.setup, &self.config, listen, self.dir.path(), &log);
    }

    /// Takes the network of the allocator's host away, or gives it back.
    pub fn connect_allocator(&self, connected: bool) {
        self.setup.host.as_ref().unwrap().connect(connected);
    }

    /// Waits until the scrapers that run are those that take targets, each has what it is to have, and no hand-over is
    /// under way; and looks at who has what.
    pub async fn settled(&self) -> Owners {
        let running: BTreeSet<String> = self.scrapers.keys().map(|number| name(*number)).collect();
        self.settled_among(&running).await
    }

    /// The same where only these scrapers take targets.
    pub async fn settled_among(&self, names: &BTreeSet<String>) -> Owners {
        eventually("every scraper has its targets, and no hand-over is under way", async || {
            let standing = owners::standing(&self.allocator_url).await?;
            if !standing.still || standing.takers != *names {
                return None;
            }
            let owners = self.owners().await?;
            let having: BTreeSet<String> = owners.values().cloned().collect();
            (owners.len() == self.setup.targets - self.dropped.len()
                && having == *names
                && self.as_told(&owners).await?)
                .then_some(owners)
        })
        .await
    }

    /// Whether what each scraper really scrapes is what the allocator says.
    async fn as_told(&self, owners: &Owners) -> Option<bool> {
        let mut scraped = Owners::new();
        for (number, scraper) in &self.scrapers {
            let Some(own) = owners::listed(&scraper.base).await else { continue };
            scraped.extend(own.into_keys().map(|instance| (instance, name(*number))));
        }
        Some(scraped == *owners)
    }

    /// Who has what, as the allocator says.
    pub async fn owners(&self) -> Option<Owners> {
        owners::listed(&self.allocator_url).await
    }

    /// The audit of all slots from its beginning up to now, once what is under way has had time to come.
    pub async fn audited(&self) -> Report {
        owners::audited(&self.receiver, UNDER_WAY_MS).await
    }

    /// The same, of at least so many slots a series: a report on nothing says nothing.
    pub async fn audited_at_least(&self, slots_min: u64) -> Report {
        let report = self.audited().await;
        assert_eq!(report.targets, self.setup.targets as u64);
        assert!(report.slots >= report.series * slots_min, "only {} slots", report.slots);
        eprintln!("{} slots audited: {:?}", report.slots, report.counts);
        report
    }

    /// Asserts that every series had exactly one sample a slot, of which there were at least so many a series.
    pub async fn assert_clean(&self, what: &str, slots_min: u64) {
        let report = self.audited_at_least(slots_min).await;
        assert!(report.counts.is_clean(), "{what}: {report:#?}");
    }

    /// The sum of a metric over all scrapers.
    pub async fn sum(&self, metric_name: &str) -> f64 {
        self.sum_of(metric_name, "").await
    }

    /// The same of series whose labels, as they are written, contain this text.
    pub async fn sum_of(&self, metric_name: &str, labels: &str) -> f64 {
        let mut sum = 0.0;
        for scraper in self.scrapers.values() {
            sum += metric_of(&scraper.base, metric_name, labels).await.unwrap_or(0.0);
        }
        sum
    }

    /// Lets so many slots pass.
    pub async fn slots_pass(&self, short: i64, full: i64) {
        owners::slots_pass(short, full).await;
    }

    /// Stops everything in good order.
    pub fn end(mut self) {
        for number in self.scrapers.keys().copied().collect::<Vec<_>>() {
            self.stop_scraper(number);
        }
        assert!(self.allocator.terminate().success(), "{}", self.allocator.log());
    }
}

/// A scraper's name by its ordinal.
pub fn name(number: usize) -> String {
    format!("scraper-{number}")
}

fn start_allocator(setup: &Setup, config: &Path, listen: &str, dir: &Path, log: &str) -> Process {
    let arguments = ["allocator", "--config", config.to_str().unwrap(), "--listen", listen];
    let Some(host) = &setup.host else { return Process::promring(log, &arguments, dir) };
    let (runner, before) = host.runner();
    let promring = [env!("CARGO_BIN_EXE_promring")];
    Process::start(log, runner, &[&before[..], &promring, &arguments].concat(), dir)
}

fn write_config(path: &Path, setup: &Setup, replicas: usize, receiver: &Receiver) {
    let Setup { lapse, scraper, more_receivers, remote_write, .. } = setup;
    let text = format!(
        "
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
- job_name: sample
  file_sd_configs: [{{files: [targets.json]}}]
remote_write: [{{url: '{}', name: audit, {remote_write}}}, {more_receivers}]
allocator: {{settle: 3s, lapse: {lapse}, replicas: {replicas}, handover_lead: 5s, handover_settle: 2s}}
scraper: {{heartbeat: 500ms, {scraper}}}
",
        receiver.write_url()
    );
    replace(path, &text);
}

/// Writes a file as an editor that writes carefully does it.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, path).unwrap();
}
