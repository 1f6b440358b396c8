//! The labels of a job's targets, before and after relabelling: promtool's, and promring's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use promring_allocator::discovery::{Found, Sources, Watches};
use promring_model::config::{ScrapeConfig, load};
use promring_model::labels::{Labels, LabelsBuilder};
use promring_model::relabel::{Outcome, Rules};
use promring_model::target::{
    ALWAYS_SCRAPE_CLASSIC_HISTOGRAMS, Assembled, CONVERT_CLASSIC_HISTOGRAMS, DiscoveredLabels, META_PREFIX,
    METRICS_PATH, PARAM_PREFIX, SCHEME, SCRAPE_INTERVAL, SCRAPE_NATIVE_HISTOGRAMS, SCRAPE_TIMEOUT,
};
use promring_net::files::Disk;
use serde_json::Value;

use super::Version;

/// The configuration file's name in a job's directory.
pub(super) const CONFIG: &str = "prometheus.yml";

/// Processes that run at once. They sleep most of the time: promtool waits out its timeout in any case.
const PROCESSES: usize = 16;

/// How long promtool waits for discovery, and how long where that was not enough.
const TIMEOUTS: [&str; 3] = ["500ms", "5s", "30s"];

/// What became of a target's labels.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Finding {
    /// The final labels.
    Target(Labels),
    /// A rule dropped it; promtool does not say which.
    Dropped,
    /// They make no target.
    Invalid,
}

/// The labels that a job gives its targets, in the order in which Prometheus sets them; parameters follow.
const BY_THE_JOB: [&str; 8] = [
    "job",
    SCRAPE_INTERVAL,
    SCRAPE_TIMEOUT,
    METRICS_PATH,
    SCHEME,
    CONVERT_CLASSIC_HISTOGRAMS,
    ALWAYS_SCRAPE_CLASSIC_HISTOGRAMS,
    SCRAPE_NATIVE_HISTOGRAMS,
];

/// What was found, by discovered labels.
pub(super) type Findings = BTreeMap<Labels, Finding>;

/// A value as text that YAML readers of every kind read alike.
pub(super) fn yaml(value: &Value) -> String {
    let mut text = String::new();
    for char in value.to_string().chars() {
        match u32::from(char) {
            // JSON is a part of YAML but for these: line ends of Unicode's, and what may not stand in a file.
            code @ 0x7f..=0xffff => text.push_str(&format!("\\u{code:04x}")),
            code @ 0x1_0000.. => text.push_str(&format!("\\U{code:08x}")),
            _ => text.push(char),
        }
    }
    text
}

/// What promtool finds in each of these directories, which hold a configuration with the one job `job`; or why it
/// refuses the configuration or the file of targets.
pub(super) fn promtool(
    version: Version,
    dirs: &[impl AsRef<Path> + Sync],
    job: &str,
) -> Vec<Result<Findings, String>> {
    let program = version.program();
    let next = AtomicUsize::new(0);
    let found = Mutex::new(BTreeMap::new());
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(dir) = dirs.get(at) else { return };
            let findings = discover(&program, dir.as_ref(), job);
            found.lock().unwrap().insert(at, findings);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..PROCESSES.min(dirs.len()) {
            scope.spawn(work);
        }
    });
    found.into_inner().unwrap().into_values().collect()
}

/// Waits longer where nothing was found: this machine may be busy.
fn discover(program: &str, dir: &Path, job: &str) -> Result<Findings, String> {
    for timeout in TIMEOUTS {
        let output = Command::new(program)
            .args(["check", "service-discovery", "--timeout", timeout])
            .arg(dir.join(CONFIG))
            .arg(job)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() || errors.contains("Error reading file") {
            let config = std::fs::read_to_string(dir.join(CONFIG)).unwrap();
            return Err(format!("promtool: {errors}\n{config}"));
        }
        let entries: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        if !entries.is_empty() {
            return Ok(entries.iter().map(entry).collect());
        }
    }
    panic!("promtool finds no target in {}", dir.display());
}

fn entry(entry: &Value) -> (Labels, Finding) {
    let labels = |key: &str| -> Labels { serde_json::from_value(entry[key].clone()).unwrap() };
    let finding = match labels("labels") {
        labels if !labels.is_empty() => Finding::Target(labels),
        _ if entry.get("error").is_some() => Finding::Invalid,
        _ => Finding::Dropped,
    };
    (labels("discoveredLabels"), finding)
}

/// What promring finds in a directory, by the allocator's own discovery.
pub(super) struct Ours {
    pub(super) job: ScrapeConfig,
    pub(super) findings: Findings,
    /// Of which discovered labels Prometheus makes now this, now that.
    pub(super) ambiguous: BTreeSet<Labels>,
}

/// What promring finds in each of these directories.
pub(super) fn promring(dirs: &[impl AsRef<Path>]) -> Vec<Ours> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut all = Vec::new();
        for dir in dirs {
            let loaded = load(&dir.as_ref().join(CONFIG), &Disk);
            let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
            let (sender, mut updates) = tokio::sync::mpsc::channel(8);
            let sources = Sources::start(&config, 0, &sender, &Watches::default());
            let job = &config.scrape_configs[0];
            let (mut findings, mut ambiguous) = (Findings::new(), BTreeSet::new());
            for _ in 0..sources.len() {
                let groups = match updates.recv().await.unwrap().found {
                    Found::All(groups) | Found::Changes { upsert: groups, complete: true, .. } => groups,
                    other => panic!("files and lists are told whole: {other:?}"),
                };
                for group in groups {
                    let shared = group.labels.to_labels();
                    for own in &group.targets {
                        let own = own.to_labels();
                        let target = DiscoveredLabels::new(job, &shared, &own);
                        let discovered = target.build();
                        if is_ambiguous(&job.relabel, &discovered, &Origins::new(&discovered, &shared, &own))
                        {
                            ambiguous.insert(discovered.clone());
                        }
                        findings.insert(discovered, finding(&target));
                    }
                }
            }
            all.push(Ours { job: ScrapeConfig::clone(job), findings, ambiguous });
        }
        all
    })
}

fn finding(discovered: &DiscoveredLabels<'_>) -> Finding {
    let finding = match discovered.clone().assemble() {
        Assembled::Target(target) => Finding::Target(target.labels),
        Assembled::Dropped { .. } => Finding::Dropped,
        Assembled::Invalid(_) => Finding::Invalid,
    };
    assert_trace_agrees(discovered, &finding);
    finding
}

/// What the page and `promring relabel` show of each rule must end in what really happens.
fn assert_trace_agrees(discovered: &DiscoveredLabels<'_>, finding: &Finding) {
    let (steps, discovered) = (discovered.trace(), &discovered.build());
    let dropped = steps.last().is_some_and(|step| step.dropped);
    assert_eq!(dropped, *finding == Finding::Dropped, "{discovered}");
    if let Finding::Target(labels) = finding {
        let traced = steps.last().map_or(discovered, |step| &step.after);
        let kept = traced.iter().filter(|(name, _)| !name.starts_with(META_PREFIX));
        let is_default = |name: &str| name == "instance" && traced.get(name).is_none();
        let without_default: Labels = labels.iter().filter(|(name, _)| !is_default(name)).collect();
        assert_eq!(kept.collect::<Labels>(), without_default, "{discovered}");
    }
}

/// A target's labels before relabelling, in groups: within each, in which order Prometheus sets them is left to chance, as
/// it takes them from a Go map.
struct Origins {
    own: Vec<String>,
    group: Vec<String>,
    /// In this order.
    job: Vec<String>,
    params: Vec<String>,
}

impl Origins {
    fn new(discovered: &Labels, group: &Labels, own: &Labels) -> Self {
        let names = |labels: &Labels| labels.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        let rest: Vec<String> = names(discovered)
            .into_iter()
            .filter(|name| own.get(name).is_none() && group.get(name).is_none())
            .collect();
        let of_job = BY_THE_JOB.iter().filter(|name| rest.iter().any(|rest| rest == *name));
        Self {
            own: names(own),
            group: names(group).into_iter().filter(|name| own.get(name).is_none()).collect(),
            job: of_job.map(|name| (*name).to_owned()).collect(),
            params: rest.into_iter().filter(|name| name.starts_with(PARAM_PREFIX)).collect(),
        }
    }

    /// Orders in which Prometheus may set them, so many that of each group each label is once the first and once the last.
    fn orders(&self) -> impl Iterator<Item = Vec<&str>> {
        let by_chance = [&self.own, &self.group, &self.params];
        let most = by_chance.iter().map(|names| names.len()).max().unwrap_or_default().max(1);
        (0..2 * most).map(|number| {
            let turned = |names: &'_ [String]| -> Vec<usize> {
                let mut at: Vec<usize> = (0..names.len()).collect();
                at.rotate_left((number / 2) % names.len().max(1));
                if number % 2 == 1 {
                    at.reverse();
                }
                at
            };
            let mut order: Vec<&str> = Vec::new();
            for (names, is_by_chance) in
                [(&self.own, true), (&self.group, true), (&self.job, false), (&self.params, true)]
            {
                if is_by_chance {
                    order.extend(turned(names).into_iter().map(|at| &*names[at]));
                } else {
                    order.extend(names.iter().map(String::as_str));
                }
            }
            order
        })
    }
}

/// Whether what a labelmap makes of these labels is left to chance where Prometheus relabels targets.
fn is_ambiguous(rules: &Rules, discovered: &Labels, origins: &Origins) -> bool {
    let ends = origins.orders().map(|order| {
        let mut labels = LabelsBuilder::from_labels(discovered);
        let outcome = rules.apply_after(&mut labels, order);
        (outcome, labels.build())
    });
    let ends: Vec<(Outcome, Labels)> = ends.collect();
    ends.iter().any(|end| *end != ends[0])
}
