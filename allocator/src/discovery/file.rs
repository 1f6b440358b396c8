//! `file_sd_configs`: target groups in JSON or YAML files, read again when they change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use promring_model::config::FileDiscovery;
use promring_model::labels::Labels;
use promring_model::target::{ADDRESS, TargetGroup};
use promring_net::files::{glob_paths, read_bounded};
use promring_net::reload::{Stamp, WATCH_INTERVAL, stamp};
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior};

use super::{Found, Reporter};

/// A file of target groups may have this many bytes.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// The file that a group stands in, as Prometheus attaches it.
const FILEPATH_LABEL: &str = "__meta_filepath";

/// A group as it stands in a file.
#[derive(Debug, Deserialize)]
struct FileGroup {
    #[serde(default)]
    targets: Vec<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

/// What is held of one file.
#[derive(Debug)]
struct Held {
    stamp: Option<Stamp>,
    groups: Vec<TargetGroup>,
}

/// Reads the files now and after every change. A file that cannot be read keeps the groups it had.
pub(super) async fn run(config: FileDiscovery, reporter: Reporter) {
    let mut held: BTreeMap<PathBuf, Held> = BTreeMap::new();
    let mut forced = Instant::now();
    let mut first = true;
    let mut tick = tokio::time::interval(WATCH_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let force = forced.elapsed() >= config.refresh_interval;
        if force {
            forced = Instant::now();
        }
        let patterns = config.files.clone();
        let job = reporter.job.clone();
        // Reading may take long on a slow disk; the runtime's threads must not wait for it.
        let read = tokio::task::spawn_blocking(move || {
            let changed = refresh(&patterns, &mut held, force, &job);
            (held, changed)
        })
        .await;
        // The task neither panics nor is it cancelled while this one lives; if so, this source ends with it.
        let Ok((state, changed)) = read else { return };
        held = state;
        if changed || first {
            first = false;
            reporter.send(Found::all(held.values().flat_map(|file| &file.groups))).await;
        }
    }
}

/// Brings `held` up to date and says whether anything changed.
fn refresh(patterns: &[PathBuf], held: &mut BTreeMap<PathBuf, Held>, force: bool, job: &str) -> bool {
    let mut changed = false;
    let mut found = Vec::new();
    for pattern in patterns {
        match glob_paths(pattern) {
            Ok(paths) => found.extend(paths),
            Err(error) => {
                tracing::error!(job, pattern = %pattern.display(), error, "file_sd pattern cannot be used");
            }
        }
    }
    held.retain(|path, _| {
        let stays = found.contains(path);
        changed |= !stays;
        stays
    });
    for path in found {
        let now = stamp(&path);
        let known = held.get(&path);
        if known.is_some_and(|file| file.stamp == now) && !force {
            continue;
        }
        match read_groups(&path) {
            Ok(groups) => {
                changed |= known.is_none_or(|file| file.groups != groups);
                held.insert(path, Held { stamp: now, groups });
            }
            Err(error) => {
                metrics::counter!("prometheus_sd_file_read_errors_total").increment(1);
                tracing::error!(job, file = %path.display(), error, "file_sd file cannot be used; its last good targets stay");
                // The stamp is remembered, so that the log says it once a change.
                held.entry(path).or_insert(Held { stamp: None, groups: Vec::new() }).stamp = now;
            }
        }
    }
    changed
}

fn read_groups(path: &Path) -> Result<Vec<TargetGroup>, String> {
    let content = read_bounded(path, FILE_BYTES_MAX)?;
    let text = String::from_utf8(content).map_err(|_| "it is not UTF-8".to_owned())?;
    let groups: Option<Vec<FileGroup>> = if path.extension().is_some_and(|ext| ext == "json") {
        serde_json::from_str(&text).map_err(|error| error.to_string())?
    } else {
        serde_saphyr::from_str(&text).map_err(|error| error.to_string())?
    };
    let file = path.display().to_string();
    let build = |(at, group): (usize, FileGroup)| {
        let mut labels = group.labels.unwrap_or_default();
        labels.insert(FILEPATH_LABEL.to_owned(), file.clone());
        TargetGroup {
            source: format!("{file}:{at}"),
            labels: Labels::from_pairs(labels),
            targets: group.targets.iter().map(|address| Labels::from_pairs([(ADDRESS, address)])).collect(),
        }
    };
    Ok(groups.unwrap_or_default().into_iter().enumerate().map(build).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_yaml_give_the_same_groups() {
        let dir = tempfile::tempdir().unwrap();
        let (json, yaml) = (dir.path().join("a.json"), dir.path().join("a.yml"));
        std::fs::write(&json, r#"[{"targets": ["x:1", "y:2"], "labels": {"env": "test"}}]"#).unwrap();
        std::fs::write(&yaml, "- targets: [x:1, y:2]\n  labels: {env: test}\n").unwrap();
        let strip = |groups: Vec<TargetGroup>| {
            groups
                .into_iter()
                .map(|group| (group.targets, group.labels.get("env").map(str::to_owned)))
                .collect::<Vec<_>>()
        };
        assert_eq!(strip(read_groups(&json).unwrap()), strip(read_groups(&yaml).unwrap()));
    }

    #[test]
    fn a_broken_file_keeps_its_targets_and_a_removed_one_loses_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let patterns = [dir.path().join("*.json")];
        let mut held = BTreeMap::new();
        std::fs::write(&path, r#"[{"targets": ["x:1"]}]"#).unwrap();
        assert!(refresh(&patterns, &mut held, false, "job"));
        assert!(!refresh(&patterns, &mut held, false, "job"), "nothing changed");
        std::fs::write(&path, r#"[{"targets": ["x:1"#).unwrap();
        assert!(!refresh(&patterns, &mut held, false, "job"));
        assert_eq!(held[&path].groups[0].targets.len(), 1);
        std::fs::remove_file(&path).unwrap();
        assert!(refresh(&patterns, &mut held, false, "job"));
        assert!(held.is_empty());
    }
}
