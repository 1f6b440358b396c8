//! Cases by hand: what testdata/relabel/targets.yml says of a target is what promring does, and what promtool does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use promring_model::labels::Labels;
use promring_model::target::META_PREFIX;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Version;
use super::discovery::{self, CONFIG, Finding, Findings};
use crate::divergences;
use crate::support::testdata;

/// A target of a job, and what becomes of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// A few words with hyphens, unique.
    name: String,
    /// Keys of the job, but for its name and its discovery.
    #[serde(default)]
    job: Map<String, Value>,
    /// The target's address; absent: `host:9100`.
    target: Option<String>,
    /// Labels of its group.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// What promring makes of it.
    want: Want,
    /// What Prometheus 3.15 makes of it, for a listed divergence.
    prometheus: Option<Want>,
    /// What Prometheus 2.42 made of it, where that was something else.
    prometheus_2_42: Option<Want>,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Want {
    /// The final labels, but for those that are as in [`USUAL`]. Null: there is no such label.
    Labels(BTreeMap<String, Option<String>>),
    Word(Word),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    /// A rule drops it.
    Dropped,
    /// The labels make no target.
    Invalid,
    /// The configuration is refused, or the file of targets.
    Refused,
}

/// What a target has that neither its discovery nor its job says anything about.
const USUAL: [(&str, &str); 10] = [
    ("__address__", "host:9100"),
    ("instance", "host:9100"),
    ("job", "job"),
    ("__scheme__", "http"),
    ("__metrics_path__", "/metrics"),
    ("__scrape_interval__", "1m"),
    ("__scrape_timeout__", "10s"),
    ("__convert_classic_histograms_to_nhcb__", "false"),
    ("__always_scrape_classic_histograms__", "false"),
    ("__scrape_native_histograms__", "false"),
];

/// Begins the names of the usual labels that 2.42 did not know.
const NEWER: [&str; 3] = ["__convert_", "__always_", "__scrape_native_"];

#[test]
fn targets_get_the_labels_that_are_written_down_for_them() {
    let text = std::fs::read_to_string(testdata().join("relabel/targets.yml")).unwrap();
    let cases: Vec<Case> = serde_saphyr::from_str(&text).unwrap();
    assert!(cases.len() >= 40, "{} cases", cases.len());
    let dir = tempfile::tempdir().unwrap();
    let dirs: Vec<PathBuf> = cases.iter().map(|case| case.write(dir.path())).collect();
    let ours: Vec<_> = discovery::promring(&dirs).iter().map(|ours| only(&ours.findings)).collect();
    let theirs = |version| -> Vec<Option<Finding>> {
        let found = discovery::promtool(version, &dirs, "job");
        found.into_iter().map(|found| found.ok().and_then(|findings| only(&findings))).collect()
    };
    let (newer, older) = (theirs(Version::V3_15), theirs(Version::V2_42));

    let mut wrong = Vec::new();
    let (mut differs_now, mut differed_once) = (BTreeMap::new(), BTreeMap::new());
    for (at, case) in cases.iter().enumerate() {
        let mut check = |who: &str, found: &Option<Finding>, want: &Option<Finding>| {
            if found != want {
                wrong.push(format!("{}, {who}:\n    found {found:?}\n   wanted {want:?}", case.name));
            }
        };
        let want = case.want.finding();
        let of_newer = case.prometheus.as_ref().map_or_else(|| want.clone(), Want::finding);
        let of_older = case.prometheus_2_42.as_ref().map_or_else(|| of_newer.clone(), Want::finding);
        check("promring", &ours[at], &want);
        check("promtool 3.15", &newer[at], &of_newer);
        check("promtool 2.42", &older[at].clone().map(without_newer), &of_older.clone().map(without_newer));
        if of_newer != want {
            differs_now.insert(case.name.clone(), "not as in 3.15".to_owned());
        }
        if of_older != of_newer {
            differed_once.insert(case.name.clone(), "not as in 2.42".to_owned());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    divergences::CONFIG.settle("labels of 3.15", &differs_now);
    divergences::CONFIG.settle("labels of 2.42", &differed_once);
}

/// A case of the model's own tests: rules, and a label set before and after them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleCase {
    name: String,
    #[serde(default)]
    legacy: bool,
    rules: Vec<Value>,
    labels: BTreeMap<String, String>,
    want: Option<BTreeMap<String, String>>,
    dropped: Option<usize>,
}

#[test]
fn the_cases_of_the_models_tests_are_what_promtool_does() {
    let mut cases: Vec<RuleCase> = Vec::new();
    for file in ["actions", "labelmap", "regex", "templates"] {
        let path = testdata().join(format!("../model/testdata/relabel/{file}.yml"));
        let text = std::fs::read_to_string(path).unwrap();
        cases.extend(serde_saphyr::from_str::<Vec<RuleCase>>(&text).unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    let write = |(at, case): (usize, &RuleCase)| {
        let scheme = if case.legacy { "legacy" } else { "utf8" };
        let mut job = Map::new();
        job.insert("relabel_configs".to_owned(), json!(case.rules));
        job.insert("metric_name_validation_scheme".to_owned(), json!(scheme));
        let mut labels = case.labels.clone();
        let address = labels.remove("__address__").unwrap_or_else(|| "host:9100".to_owned());
        write_job(&dir.path().join(at.to_string()), &job, &address, &labels)
    };
    let dirs: Vec<PathBuf> = cases.iter().enumerate().map(write).collect();
    let ours = discovery::promring(&dirs);
    let theirs = discovery::promtool(Version::V3_15, &dirs, "job");
    let (mut compared, mut wrong) = (0, Vec::new());
    for ((case, ours), theirs) in cases.iter().zip(&ours).zip(theirs) {
        let theirs = theirs.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        if !ours.ambiguous.is_empty() {
            continue;
        }
        compared += 1;
        let (ours, theirs) = (only(&ours.findings), only(&theirs));
        if ours != theirs {
            wrong.push(format!("{}:\npromring {ours:?}\npromtool {theirs:?}", case.name));
        }
        let as_written = match (&theirs, &case.want) {
            (Some(Finding::Target(labels)), Some(want)) => want
                .iter()
                .filter(|(name, _)| !name.starts_with(META_PREFIX))
                .all(|(name, value)| labels.get(name) == Some(value)),
            (Some(Finding::Dropped), _) => case.dropped.is_some(),
            // Its rules took the address away.
            (Some(Finding::Invalid), Some(want)) => !want.contains_key("__address__"),
            _ => false,
        };
        if !as_written {
            wrong.push(format!("{}: promtool gives {theirs:?}, written is {:?}", case.name, case.want));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared >= 80, "{compared} of {}", cases.len());
}

impl Case {
    fn write(&self, dir: &Path) -> PathBuf {
        let address = self.target.as_deref().unwrap_or("host:9100");
        write_job(&dir.join(&self.name), &self.job, address, &self.labels)
    }
}

/// Writes a configuration with one job, and a file of its one target.
fn write_job(
    dir: &Path,
    job: &Map<String, Value>,
    address: &str,
    labels: &BTreeMap<String, String>,
) -> PathBuf {
    std::fs::create_dir(dir).unwrap();
    let mut job = job.clone();
    job.insert("job_name".to_owned(), json!("job"));
    job.insert("file_sd_configs".to_owned(), json!([{"files": ["targets.json"]}]));
    std::fs::write(dir.join(CONFIG), discovery::yaml(&json!({"scrape_configs": [job]}))).unwrap();
    let groups = json!([{"targets": [address], "labels": labels}]);
    std::fs::write(dir.join("targets.json"), groups.to_string()).unwrap();
    dir.to_owned()
}

fn only(findings: &Findings) -> Option<Finding> {
    assert!(findings.len() <= 1, "{findings:?}");
    findings.values().next().cloned()
}

fn without_newer(finding: Finding) -> Finding {
    let is_older = |name: &str| !NEWER.iter().any(|newer| name.starts_with(newer));
    match finding {
        Finding::Target(labels) => {
            Finding::Target(labels.iter().filter(|(name, _)| is_older(name)).collect())
        }
        other => other,
    }
}

impl Want {
    /// None: nothing is found.
    fn finding(&self) -> Option<Finding> {
        match self {
            Self::Labels(labels) => {
                let usual = USUAL.iter().filter(|(name, _)| !labels.contains_key(*name)).copied();
                let own = labels.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?)));
                Some(Finding::Target(usual.chain(own).collect::<Labels>()))
            }
            Self::Word(Word::Dropped) => Some(Finding::Dropped),
            Self::Word(Word::Invalid) => Some(Finding::Invalid),
            Self::Word(Word::Refused) => None,
        }
    }
}
