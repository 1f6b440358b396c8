//! Targets that bring more than one lane should carry: their series are spread over all lanes of a destination, by the hash
//! of their labels.
//!
//! A series that changes its lane could overtake itself, so a target is spread only once everything is sent that was queued
//! while it was not: a target that nothing was queued of, before its first sample. It stays spread, over restarts too: the
//! keys stand in a small file beside the queues.
//!
//! And targets whose lane is not that of their key, since others may yield the same series (`SeriesRules::lane`).

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use promring_model::target::TargetKey;

use crate::queue::{LaneId, Queue};

/// A target that brings more samples a second than this is spread.
pub const TARGET_SAMPLES_PER_SECOND_MAX: f64 = 20_000.0;

/// Keys that are remembered. A target that would be one more is not spread.
const KEYS_MAX: usize = 10_000;

/// Keys that are known to have used a lane. Where there are more, none counts as one that has not.
const SETTLED_MAX: usize = 1_000_000;

/// The name of the file in the data directory.
const FILE: &str = "spread";

/// The targets that are spread.
#[derive(Debug, Default)]
pub struct SpreadTargets {
    /// None: not written down.
    file: Option<PathBuf>,
    keys: RwLock<HashSet<TargetKey>>,
    /// Those of which this process has queued samples in one lane.
    settled: Mutex<HashSet<TargetKey>>,
    /// Those whose lane is another one than that of the key.
    elsewhere: Mutex<HashMap<TargetKey, u64>>,
}

impl SpreadTargets {
    /// Those of an earlier process with this data directory. Where the queues are empty, `idle`, none needs to be
    /// remembered.
    #[must_use]
    pub fn open(data_dir: &Path, idle: bool) -> Self {
        let file = data_dir.join(FILE);
        let text = if idle {
            // What is queued from now on is not spread before it says so: the old word must not count for it later.
            let _none_is_as_good = std::fs::remove_file(&file);
            String::new()
        } else {
            std::fs::read_to_string(&file).unwrap_or_default()
        };
        let key = |line: &str| Some(TargetKey(u64::from_str_radix(line, 16).ok()?));
        let keys = text.lines().filter_map(key).take(KEYS_MAX).collect();
        Self { file: Some(file), keys: RwLock::new(keys), ..Self::default() }
    }

    /// The lane of a target is this one from now on.
    pub fn place(&self, key: TargetKey, lane: u64) {
        let mut elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        if lane != key.0 && elsewhere.len() < SETTLED_MAX {
            elsewhere.insert(key, lane);
        }
    }

    /// The lanes of some targets, also of those that have gone; None: any of them.
    #[must_use]
    pub fn lanes<'k>(&self, keys: impl IntoIterator<Item = &'k TargetKey>) -> Option<HashSet<u64>> {
        let spread = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = |key: &TargetKey| match elsewhere.get(key) {
            _ if spread.contains(key) => None,
            Some(lane) => Some(*lane),
            None if elsewhere.len() < SETTLED_MAX => Some(key.0),
            None => None,
        };
        keys.into_iter().map(lane).collect()
    }

    /// Samples of a target go into its lane.
    pub fn settle(&self, key: TargetKey) {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        if settled.len() < SETTLED_MAX {
            settled.insert(key);
        }
    }

    /// Whether this process has queued nothing of a target in its lane.
    #[must_use]
    pub fn is_unsettled(&self, key: TargetKey) -> bool {
        let settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.len() < SETTLED_MAX && !settled.contains(&key)
    }

    /// Whether the target's series go to all lanes.
    #[must_use]
    pub fn contains(&self, key: TargetKey) -> bool {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).contains(&key)
    }

    /// From now on they do. False: they cannot, as it could not be written down.
    pub fn add(&self, key: TargetKey) -> bool {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= KEYS_MAX {
            return keys.contains(&key);
        }
        keys.insert(key);
        if let Some(file) = &self.file {
            let mut lines: Vec<String> = keys.iter().map(|key| format!("{:016x}\n", key.0)).collect();
            lines.sort();
            if let Err(error) = write(file, &lines.concat()) {
                tracing::warn!(file = %file.display(), %error, "a heavy target is not spread over lanes: this cannot be written down");
                keys.remove(&key);
                return false;
            }
        }
        true
    }
}

/// On the disk before any sample goes another way than before.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let beside = file.with_extension("tmp");
    let mut written = std::fs::File::create(&beside)?;
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    std::fs::rename(&beside, file)?;
    file.parent().map_or(Ok(()), |dir| std::fs::File::open(dir)?.sync_all())
}

/// A moment of some queues: what they held then.
#[derive(Debug, Default)]
pub struct Passed(Vec<(Weak<Queue>, NewestRecords)>);

type NewestRecords = Vec<(LaneId, u64)>;

impl Passed {
    /// What these queues hold now.
    pub(crate) fn new<'q>(queues: impl Iterator<Item = &'q Arc<Queue>>) -> Self {
        Self(queues.map(|queue| (Arc::downgrade(queue), queue.newest_records())).collect())
    }

    /// Whether all of it has been sent or dropped.
    #[must_use]
    pub fn is_past(&self) -> bool {
        let mut records =
            self.0.iter().flat_map(|(queue, records)| records.iter().map(move |record| (queue, record)));
        // A queue that is closed is no longer the way of any series.
        records.all(|(queue, (lane, sequence))| {
            queue.upgrade().is_none_or(|queue| queue.is_past(*lane, *sequence))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_remembered_over_a_restart_as_long_as_anything_is_queued() {
        let dir = tempfile::tempdir().unwrap();
        let spread = SpreadTargets::open(dir.path(), false);
        assert!(spread.add(TargetKey(7)) && spread.add(TargetKey(u64::MAX)));
        assert!(spread.contains(TargetKey(7)) && !spread.contains(TargetKey(8)));
        let again = SpreadTargets::open(dir.path(), false);
        assert!(again.contains(TargetKey(7)) && again.contains(TargetKey(u64::MAX)));
        assert!(!SpreadTargets::open(dir.path(), true).contains(TargetKey(7)));
        assert!(!SpreadTargets::open(dir.path(), false).contains(TargetKey(7)), "nor ever again");
    }

    #[test]
    fn a_key_is_unsettled_until_something_is_queued_in_its_lane() {
        let spread = SpreadTargets::default();
        spread.settle(TargetKey(7));
        assert!(!spread.is_unsettled(TargetKey(7)) && spread.is_unsettled(TargetKey(8)));
    }

    #[test]
    fn a_target_has_the_lane_of_its_key_or_another_one_or_all() {
        let spread = SpreadTargets::default();
        let lanes = |keys: &[u64]| spread.lanes(&keys.iter().map(|key| TargetKey(*key)).collect::<Vec<_>>());
        spread.place(TargetKey(7), 7);
        spread.place(TargetKey(8), 3);
        assert_eq!(lanes(&[7, 8, 9]), Some(HashSet::from([7, 3, 9])));
        spread.add(TargetKey(9));
        assert_eq!((lanes(&[7, 8]), lanes(&[8, 9])), (Some(HashSet::from([7, 3])), None));
    }

    #[test]
    fn a_target_is_not_spread_where_that_cannot_be_written_down() {
        let dir = tempfile::tempdir().unwrap();
        let spread = SpreadTargets::open(&dir.path().join("missing"), false);
        assert!(!spread.add(TargetKey(7)) && !spread.contains(TargetKey(7)));
    }
}
