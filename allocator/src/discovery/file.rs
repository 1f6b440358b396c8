//! `file_sd_configs`: target groups in JSON or YAML files, read again when they change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use promring_model::config::{
    Diagnostic, FileDiscovery, GroupsOfFile, Severity, TARGETS_BYTES_MAX, target_groups,
};
use promring_model::labels::Labels;
use promring_model::target::TargetGroup;
use promring_net::files::{glob_paths, read_bounded};
use promring_net::reload::{Stamp, WATCH_INTERVAL, stamp};
use tokio::time::{Instant, MissedTickBehavior};

use super::{Found, Group, Reporter};

/// The file that a group stands in, as Prometheus attaches it.
const FILEPATH_LABEL: &str = "__meta_filepath";

/// What is held of one file.
#[derive(Debug, Default)]
struct Held {
    stamp: Option<Stamp>,
    /// What it had when it was good last; None where it never was.
    groups: Option<Vec<TargetGroup>>,
    /// What is wrong with it now.
    error: Option<String>,
}

/// Reads the files now and after every change. A file that cannot be read keeps the groups it had; as long as one never could
/// be read, nobody knows all groups.
pub(super) async fn run(config: FileDiscovery, reporter: Reporter) {
    let mut held: BTreeMap<PathBuf, Held> = BTreeMap::new();
    let mut told: BTreeSet<String> = BTreeSet::new();
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
            reporter.send(changes(&held, &mut told)).await;
            let errors = held.iter().filter_map(|(path, file)| Some((path, file.error.as_ref()?)));
            let errors: Vec<String> =
                errors.map(|(path, error)| format!("{}: {error}", path.display())).collect();
            if !errors.is_empty() {
                reporter.send(Found::Failed(errors.join("; "))).await;
            }
        }
    }
}

/// All groups that are held, and the names of those that were told before and are there no more.
fn changes(held: &BTreeMap<PathBuf, Held>, told: &mut BTreeSet<String>) -> Found {
    let groups = || held.values().filter_map(|file| file.groups.as_ref()).flatten();
    let names = groups().map(|group| group.source.clone()).collect();
    let before = std::mem::replace(told, names);
    Found::Changes {
        upsert: groups().map(|group| Arc::new(Group::from(group))).collect(),
        removed: before.difference(told).map(|name| Arc::from(name.as_str())).collect(),
        complete: held.values().all(|file| file.groups.is_some()),
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
        let file = held.entry(path.clone()).or_default();
        let was_read = file.groups.is_some() || file.error.is_some();
        if was_read && file.stamp == now && !force {
            continue;
        }
        // Remembered whatever comes of it, so that the log says once a change what is wrong.
        file.stamp = now;
        match read_groups(&path) {
            Ok(GroupsOfFile { groups, warnings }) => {
                if !warnings.is_empty() {
                    let warning = said(&warnings);
                    tracing::warn!(job, file = %path.display(), warning, "a part of the file_sd file has no effect");
                }
                changed |= file.error.take().is_some() || file.groups.as_ref() != Some(&groups);
                file.groups = Some(groups);
            }
            Err(error) => {
                metrics::counter!("prometheus_sd_file_read_errors_total").increment(1);
                tracing::error!(job, file = %path.display(), error, "file_sd file cannot be used; its last good targets stay");
                changed |= file.error.as_ref() != Some(&error);
                file.error = Some(error);
            }
        }
    }
    changed
}

fn read_groups(path: &Path) -> Result<GroupsOfFile, String> {
    let content = read_bounded(path, TARGETS_BYTES_MAX as u64)?;
    let mut file = target_groups(path, &content).map_err(|found| said(&found))?;
    let filepath = [(FILEPATH_LABEL, path.to_string_lossy())];
    for group in &mut file.groups {
        let labels = group.labels.iter().chain(filepath.iter().map(|(name, path)| (*name, &**path)));
        group.labels = Labels::from_pairs(labels);
    }
    Ok(file)
}

/// The first of these in a line; `promring check` shows all, with hints.
fn said(found: &[Diagnostic]) -> String {
    let error = found.iter().find(|found| found.severity == Severity::Error);
    let Some(first) = error.or(found.first()) else { return String::new() };
    let (line, column) = (first.line, first.column);
    let place = if line > 0 { format!("line {line}, column {column}: ") } else { String::new() };
    format!("{place}{}", first.message)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::discovery::Update;

    #[test]
    fn json_and_yaml_give_the_same_groups() {
        let dir = tempfile::tempdir().unwrap();
        let (json, yaml) = (dir.path().join("a.json"), dir.path().join("a.yml"));
        std::fs::write(&json, r#"[{"targets": ["x:1", "y:2"], "labels": {"env": "test"}}]"#).unwrap();
        std::fs::write(&yaml, "- targets: [x:1, y:2]\n  labels: {env: test}\n").unwrap();
        let read = |path: &Path| {
            let groups = read_groups(path).unwrap().groups;
            assert_eq!(groups[0].source, format!("{}:0", path.display()));
            assert_eq!(groups[0].labels.get(FILEPATH_LABEL), path.to_str());
            groups
                .into_iter()
                .map(|group| (group.targets, group.labels.get("env").map(str::to_owned)))
                .collect::<Vec<_>>()
        };
        assert_eq!(read(&json), read(&yaml));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_in_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let said = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            read_groups(&path).map(|file| said(&file.warnings)).unwrap_or_else(|error| error)
        };
        assert_eq!(
            said("a.yml", "- targets: [x:1]\n---\n- targets: [y:1]\n"),
            "line 2, column 1: only the first document of a file is read, which ends before this"
        );
        let error = said("a.yml", "- targets: [x:1]\n  labels:\n    '': a\n");
        assert_eq!(error, "line 3, column 5: a label without a name");
        let error = said("a.json", "[{\"targets\": [\"x:1\"],\n \"target\": []}]");
        assert!(error.starts_with("line 2, column "), "{error}");
        assert!(!error.contains('\n'), "{error}");
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
        assert!(refresh(&patterns, &mut held, false, "job"), "there is an error to tell");
        assert!(!refresh(&patterns, &mut held, true, "job"), "it is still the same");
        assert_eq!(held[&path].groups.as_ref().unwrap()[0].targets.len(), 1);
        assert!(held[&path].error.is_some());
        std::fs::write(&path, r#"[{"target": ["x:1"]}]"#).unwrap();
        assert!(refresh(&patterns, &mut held, false, "job"), "a mistyped key is an error");
        assert_eq!(held[&path].groups.as_ref().unwrap()[0].targets.len(), 1);
        std::fs::remove_file(&path).unwrap();
        assert!(refresh(&patterns, &mut held, false, "job"));
        assert!(held.is_empty());
    }

    /// What the source tells next.
    async fn next(updates: &mut mpsc::Receiver<Update>) -> Found {
        updates.recv().await.unwrap().found
    }

    #[tokio::test]
    async fn changed_files_are_noticed_and_one_that_never_was_good_makes_nobody_believe_that_this_is_all() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(dir.path().join("new"), text).unwrap();
            std::fs::rename(dir.path().join("new"), dir.path().join(name)).unwrap();
        };
        write("good.json", r#"[{"targets": ["x:1"]}, {"targets": ["y:1"]}]"#);
        write("bad.json", "[{");
        let hour = std::time::Duration::from_secs(3_600);
        let config = FileDiscovery { files: vec![dir.path().join("*.json")], refresh_interval: hour };
        let (sender, mut updates) = mpsc::channel(4);
        let reporter = Reporter { generation: 0, job: Arc::from("job"), source: 0, updates: sender };
        let _source = tokio::spawn(run(config, reporter));
        let Found::Changes { upsert, complete: false, .. } = next(&mut updates).await else {
            panic!("the good file's groups, and not all that there are")
        };
        assert_eq!(upsert.len(), 2);
        let Found::Failed(error) = next(&mut updates).await else { panic!("what is wrong") };
        assert!(error.contains("bad.json"), "{error}");
        // A group of the good file goes, though the other one is still bad.
        write("good.json", r#"[{"targets": ["x:1"]}]"#);
        let Found::Changes { upsert, removed, complete: false } = next(&mut updates).await else {
            panic!("the change")
        };
        assert_eq!((upsert.len(), removed.len()), (1, 1));
        assert!(matches!(next(&mut updates).await, Found::Failed(_)), "and it still is");
        write("bad.json", r#"[{"targets": ["z:1"]}]"#);
        let Found::Changes { upsert, complete: true, .. } = next(&mut updates).await else {
            panic!("all that there are")
        };
        assert_eq!(upsert.len(), 2);
    }
}
