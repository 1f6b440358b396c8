//! The labels of a job's targets, before and after relabelling: promtool's, and promring's.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use promring_allocator::discovery::{Found, Sources, Watches};
use promring_model::config::{NameValidation, ScrapeConfig, load};
use promring_model::labels::{Labels, LabelsBuilder};
use promring_model::relabel::{Outcome, Rule, RuleSpec, Rules};
use promring_model::target::{Assembled, META_PREFIX, assemble, discovered};
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

/// What promring finds in each of these directories, by the allocator's own discovery.
pub(super) fn promring(dirs: &[impl AsRef<Path>]) -> Vec<(ScrapeConfig, Findings)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut all = Vec::new();
        for dir in dirs {
            let loaded = load(&dir.as_ref().join(CONFIG), &Disk);
            let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
            let (sender, mut updates) = tokio::sync::mpsc::channel(8);
            let sources = Sources::start(&config, 0, &sender, &Watches::default());
            let job = &config.scrape_configs[0];
            let mut findings = Findings::new();
            for _ in 0..sources.len() {
                let groups = match updates.recv().await.unwrap().found {
                    Found::All(groups) | Found::Changes { upsert: groups, complete: true, .. } => groups,
                    other => panic!("files and lists are told whole: {other:?}"),
                };
                for group in groups {
                    for own in &group.targets {
                        let discovered = discovered(job, group.labels.iter(), own.iter()).build();
                        let finding = finding(job, &discovered);
                        findings.insert(discovered, finding);
                    }
                }
            }
            all.push((ScrapeConfig::clone(job), findings));
        }
        all
    })
}

fn finding(job: &ScrapeConfig, discovered: &Labels) -> Finding {
    let finding = match assemble(job, discovered) {
        Assembled::Target(target) => Finding::Target(target.labels),
        Assembled::Dropped { .. } => Finding::Dropped,
        Assembled::Invalid(_) => Finding::Invalid,
    };
    assert_trace_agrees(job, discovered, &finding);
    finding
}

/// What the page and `promring relabel` show of each rule must end in what really happens.
fn assert_trace_agrees(job: &ScrapeConfig, discovered: &Labels, finding: &Finding) {
    let steps = job.relabel.trace(discovered);
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

/// Whether a labelmap makes one name of two labels with different values. Which of them wins is left to chance where
/// Prometheus relabels targets: it fills their labels in from a Go map.
pub(super) fn is_ambiguous(rules: &Rules, discovered: &Labels) -> bool {
    let mut before = discovered.clone();
    for (step, rule) in rules.trace(discovered).into_iter().zip(rules.iter()) {
        let is_map =
            rule.spec().action.as_deref().is_some_and(|action| action.eq_ignore_ascii_case("labelmap"));
        let mut made: BTreeMap<String, &str> = BTreeMap::new();
        for (name, value) in before.iter().filter(|_| is_map) {
            let Some(new) = mapped(rule, name) else { continue };
            if made.insert(new, value).is_some_and(|other| other != value) {
                return true;
            }
        }
        before = step.after;
    }
    false
}

/// The name that a labelmap makes of this one. None: it does not match.
fn mapped(rule: &Rule, name: &str) -> Option<String> {
    let names = NameValidation::Utf8;
    let regex = rule.spec().regex.clone();
    let keep = RuleSpec {
        source_labels: Some(vec!["name".to_owned()]),
        regex,
        action: Some("keep".to_owned()),
        ..RuleSpec::default()
    };
    let keep = Rules::new(vec![Rule::compile(&keep, names).unwrap()]);
    let text = Labels::from_pairs([("name", name)]);
    if keep.apply(&mut LabelsBuilder::from_labels(&text)) != Outcome::Kept {
        return None;
    }
    let alone = Labels::from_pairs([(name, "value")]);
    let mut builder = LabelsBuilder::from_labels(&alone);
    Rules::new(vec![rule.clone()]).apply(&mut builder);
    let new = builder.iter().map(|(new, _)| new).find(|new| *new != name);
    Some(new.unwrap_or(name).to_owned())
}
