//! Random jobs and targets: the labels must be those of promtool, one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use promring_model::config::{ConfigSource, load};
use promring_model::labels::Labels;
use serde_json::{Map, Value, json};

use super::Version;
use super::discovery::{self, CONFIG, Finding, Findings, Ours};
use super::random::Random;

/// Targets that must have the same labels on both sides; those that are dropped or invalid come on top.
const TARGETS: usize = 2_000;
const TARGETS_FULL: usize = 20_000;
const TARGETS_OF_A_JOB: usize = 24;
const JOBS_AT_ONCE: usize = 100;

/// Disagreements that are shown.
const SHOWN: usize = 5;

/// Whether tests/e2e.sh was called with `--full`.
pub(super) fn is_full() -> bool {
    std::env::var("PROMRING_E2E_FULL").is_ok_and(|full| full == "1")
}

#[test]
fn random_targets_get_the_labels_of_promtool() {
    let mut random = Random::from_environment();
    let wanted = if is_full() { TARGETS_FULL } else { TARGETS };
    let mut tally = Tally::default();
    while tally.targets < wanted && tally.differing.len() < SHOWN {
        let dir = tempfile::tempdir().unwrap();
        let dirs: Vec<PathBuf> =
            (0..JOBS_AT_ONCE).map(|number| dir.path().join(number.to_string())).collect();
        for dir in &dirs {
            write_job(&mut random, dir);
        }
        let ours = discovery::promring(&dirs);
        let theirs = discovery::promtool(Version::V3_15, &dirs, "job");
        for ((dir, ours), theirs) in dirs.iter().zip(&ours).zip(theirs) {
            match theirs {
                Ok(theirs) => tally.compare(dir, ours, &theirs),
                Err(refusal) => tally.differing.push(format!("promring takes it, but {refusal}")),
            }
        }
    }
    let Tally { targets, dropped, invalid, effects, differing } = &tally;
    eprintln!(
        "agreed: {targets} targets, {dropped} dropped, {invalid} invalid; rules with an effect: {effects:?}"
    );
    let (seed, shown) = (random.seed(), differing.len().min(SHOWN));
    assert!(differing.is_empty(), "seed {seed}:\n{}", differing[..shown].join("\n\n"));
    assert!(*dropped > 0 && *invalid > 0, "{tally:?}");
    assert!(effects.len() == 11 && effects.values().all(|&count| count >= 10), "{effects:?}");
}

/// What came of the comparison.
#[derive(Debug, Default)]
struct Tally {
    /// Targets with the same labels on both sides.
    targets: usize,
    /// Dropped on both sides.
    dropped: usize,
    /// No targets on both sides.
    invalid: usize,
    /// How often a rule of each action changed or dropped what was compared.
    effects: BTreeMap<String, usize>,
    differing: Vec<String>,
}

impl Tally {
    fn compare(&mut self, dir: &Path, ours: &Ours, theirs: &Findings) {
        let Ours { job, findings: ours, ambiguous } = ours;
        let keys: BTreeSet<&Labels> = ours.keys().chain(theirs.keys()).collect();
        for discovered in keys.into_iter().filter(|discovered| !ambiguous.contains(discovered)) {
            let (our, their) = (ours.get(discovered), theirs.get(discovered));
            match (our, their) {
                (Some(our), Some(their)) if our == their => match our {
                    Finding::Target(_) => self.targets += 1,
                    Finding::Dropped => self.dropped += 1,
                    Finding::Invalid => self.invalid += 1,
                },
                _ => {
                    let config = std::fs::read_to_string(dir.join(CONFIG)).unwrap();
                    let found = format!("{config}\n{discovered}\npromring: {our:?}\npromtool: {their:?}");
                    self.differing.push(found);
                }
            }
            for (step, rule) in job.relabel.trace(discovered).iter().zip(job.relabel.iter()) {
                if step.dropped || !step.changes.is_empty() {
                    let action = rule.spec().action.as_deref().unwrap_or("replace").to_lowercase();
                    *self.effects.entry(action).or_default() += 1;
                }
            }
        }
    }
}

/// Writes a job that promring takes, and its targets; that promtool takes it too is seen when it is run.
fn write_job(random: &mut Random, dir: &Path) {
    std::fs::create_dir(dir).unwrap();
    let groups: Vec<Value> = (0..TARGETS_OF_A_JOB).map(|_| group(random)).collect();
    std::fs::write(dir.join("targets.json"), Value::from(groups).to_string()).unwrap();
    let mut job = settings(random);
    let mut rules: Vec<Value> = Vec::new();
    for _ in 0..=random.number(6) {
        rules.push(random.rule());
        job.insert("relabel_configs".to_owned(), json!(rules));
        if !is_good(&job) {
            rules.pop();
        }
    }
    job.insert("relabel_configs".to_owned(), json!(rules));
    std::fs::write(dir.join(CONFIG), config(&job)).unwrap();
}

fn settings(random: &mut Random) -> Map<String, Value> {
    let mut job = Map::new();
    let mut set = |key: &str, value: Value| job.insert(key.to_owned(), value);
    set("job_name", json!("job"));
    set("file_sd_configs", json!([{"files": ["targets.json"]}]));
    if random.chance(30) {
        set("scrape_interval", json!(random.pick(&["1s", "90s", "1h", "1d", "100ms"])));
        set("scrape_timeout", json!("100ms"));
    }
    if random.chance(30) {
        set("metrics_path", json!(random.pick(&["/probe", "", "metrics", "/a b?c#é"])));
    }
    if random.chance(30) {
        set("scheme", json!(random.pick(&["http", "https"])));
    }
    if random.chance(30) {
        set("params", json!({"module": [random.value(), "second"], "": ["x"], "none": []}));
    }
    if random.chance(30) {
        set("metric_name_validation_scheme", json!("legacy"));
    }
    for key in
        ["scrape_native_histograms", "convert_classic_histograms_to_nhcb", "always_scrape_classic_histograms"]
    {
        if random.chance(10) {
            set(key, json!(random.chance(50)));
        }
    }
    job
}

/// A group of one target. promtool falls over two bad targets in one group.
fn group(random: &mut Random) -> Value {
    let mut labels = BTreeMap::new();
    for _ in 0..random.number(9) {
        let name = random.name();
        let usual = match name {
            "__address__" => continue,
            "__scheme__" => random.pick(&["http", "https", "https", "ftp"]),
            "__metrics_path__" => random.pick(&["/m", "", "m", "/a?b=c"]),
            "__scrape_interval__" => {
                random.pick(&["15s", "1m", "1d", "5s500ms", "1h1s", "1s1h", "5", "999999999y", "0"])
            }
            "__scrape_timeout__" => random.pick(&["1s", "100ms", "1ms", "2m", "", "0"]),
            "__scrape_native_histograms__" => random.pick(&["true", "T", "0", "False", "on", ""]),
            _ => "",
        };
        let value = if usual.is_empty() { random.value() } else { usual.to_owned() };
        labels.insert(name, if random.chance(4) { String::new() } else { value });
    }
    let address = match random.number(40) {
        0 => String::new(),
        1 => random.pick(&["a/b", "http://a:1", "/"]).to_owned(),
        2 => random.pick(&["a b:1", "a:99999", "[::1", ":80", "ünï:1"]).to_owned(),
        3 => "[::1]:9100".to_owned(),
        number => format!("10.0.0.{number}:{}", random.number(4) + 9100),
    };
    json!({"targets": [address], "labels": labels})
}

fn config(job: &Map<String, Value>) -> String {
    discovery::yaml(&json!({"scrape_configs": [job]}))
}

fn is_good(job: &Map<String, Value>) -> bool {
    load(Path::new(CONFIG), &Only(config(job))).config.is_some()
}

/// A source of one file.
struct Only(String);

impl ConfigSource for Only {
    fn read(&self, _: &Path) -> Result<Vec<u8>, String> {
        Ok(self.0.clone().into_bytes())
    }

    fn glob(&self, _: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}
