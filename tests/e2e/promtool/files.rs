//! Files of target groups: what testdata/target-groups.yml says of them is what promtool says.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use super::Version;
use super::discovery::CONFIG;
use crate::divergences;
use crate::support::testdata;

/// A file, and what is in it; model/tests/target_groups.rs looks at what promring makes of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// How the file's name ends.
    file: String,
    text: String,
    want: Want,
    /// What Prometheus makes of it, for a listed divergence.
    prometheus: Option<Want>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Want {
    Groups(Vec<Group>),
    Word(Word),
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Word {
    Refused,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct Group {
    targets: Vec<String>,
    labels: BTreeMap<String, String>,
}

/// The labels that discovery gives a target, with its address.
type Discovered = BTreeMap<String, String>;

impl Want {
    /// The targets, in no order; None: the file is refused.
    fn targets(&self) -> Option<BTreeSet<Discovered>> {
        let Self::Groups(groups) = self else { return None };
        let target = |group: &Group, address: &String| {
            let address =
                Some(("__address__".to_owned(), address.clone())).filter(|(_, text)| !text.is_empty());
            group.labels.clone().into_iter().chain(address).collect()
        };
        Some(groups.iter().flat_map(|group| group.targets.iter().map(|at| target(group, at))).collect())
    }
}

/// Promtool waits as long for discovery; longer where that was not enough.
const TIMEOUTS: [&str; 3] = ["1s", "5s", "30s"];

#[test]
fn files_of_targets_are_read_as_promtool_reads_them() {
    let text = std::fs::read_to_string(testdata().join("target-groups.yml")).unwrap();
    let cases: Vec<Case> = serde_saphyr::from_str(&text).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = |case: &Case| dir.path().join(format!("{}.{}", case.name, case.file));
    for case in &cases {
        std::fs::write(file(case), &case.text).unwrap();
    }
    std::fs::write(
        dir.path().join(CONFIG),
        // An address for those that have none: promtool panics where two targets of a group have the same error.
        "scrape_configs: [{job_name: job, file_sd_configs: [{files: ['*.json', '*.yml']}], \
         relabel_configs: [{source_labels: [__address__], regex: '', target_label: __address__, replacement: 'x:1'}]}]",
    )
    .unwrap();
    let wanted: BTreeMap<&str, Option<BTreeSet<Discovered>>> = cases
        .iter()
        .map(|case| (case.name.as_str(), case.prometheus.as_ref().unwrap_or(&case.want).targets()))
        .collect();
    let mut found = BTreeMap::new();
    for timeout in TIMEOUTS {
        let output = Command::new(Version::V3_15.program())
            .args(["check", "service-discovery", "--timeout", timeout])
            .arg(dir.path().join(CONFIG))
            .arg("job")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let entries: Vec<Value> = serde_json::from_slice(&output.stdout).expect(&said);
        let all: Vec<Discovered> = entries
            .iter()
            .map(|entry| {
                let labels: BTreeMap<String, String> =
                    serde_json::from_value(entry["discoveredLabels"].clone()).unwrap();
                labels
            })
            .collect();
        found = cases
            .iter()
            .map(|case| {
                let path = file(case).to_str().unwrap().to_owned();
                let refused =
                    said.lines().any(|line| line.contains("Error reading file") && line.contains(&path));
                let targets = all.iter().filter(|target| target["__meta_filepath"] == path).map(own_labels);
                (case.name.as_str(), (!refused).then(|| targets.collect()))
            })
            .collect();
        if found == wanted {
            break;
        }
    }
    for (name, wanted) in &wanted {
        assert_eq!(found[name], *wanted, "{name}: promtool's on the left");
    }
    let differing =
        cases.iter().filter(|case| case.prometheus.as_ref().is_some_and(|theirs| *theirs != case.want));
    let differing = differing.map(|case| (case.name.clone(), "not as in 3.15".to_owned())).collect();
    divergences::CONFIG.settle("files of targets of 3.15", &differing);
}

/// Without what the job and the file give a target.
fn own_labels(target: &Discovered) -> Discovered {
    let by_others = ["job", "__meta_filepath", "__metrics_path__", "__scheme__"];
    let is_own = |name: &str| {
        !by_others.contains(&name)
            && !name.starts_with("__scrape_")
            && !name.ends_with("_histograms__")
            && !name.ends_with("_nhcb__")
    };
    target
        .iter()
        .filter(|(name, _)| is_own(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
