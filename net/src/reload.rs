//! Reload: when the configuration should be read again.
//!
//! Three things ask for it: SIGHUP, `POST /-/reload`, and a changed file. Files are watched by looking at them
//! every second instead of by inotify: that also sees a ConfigMap's symlink swap, network file systems, and a file
//! that an editor replaces.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};

use crate::files::glob_paths;

/// How often watched files are looked at.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Asks the process to read its configuration again, and hears how it went.
#[derive(Clone, Debug)]
pub struct Reloader(mpsc::Sender<oneshot::Sender<Result<(), String>>>);

/// The other end of [`Reloader`].
pub type ReloadRequests = mpsc::Receiver<oneshot::Sender<Result<(), String>>>;

/// A pair of the asking and the answering end.
#[must_use]
pub fn channel() -> (Reloader, ReloadRequests) {
    let (sender, receiver) = mpsc::channel(4);
    (Reloader(sender), receiver)
}

impl Reloader {
    /// Asks and waits.
    ///
    /// # Errors
    /// The message of the reload that failed.
    pub async fn reload(&self) -> Result<(), String> {
        let (answer, result) = oneshot::channel();
        let gone = || "the process is stopping".to_owned();
        self.0.send(answer).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }
}

/// What a file looks like from outside; a change of it means that the content may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
}

/// The stamp of what `path` leads to; None where nothing is there.
#[must_use]
pub fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    // `metadata` follows symlinks, so that a swapped link shows as another inode.
    let meta = std::fs::metadata(path).ok()?;
    Some(Stamp { modified: meta.modified().ok(), len: meta.len(), inode: meta.ino() })
}

/// Files and patterns, and how they looked when last asked about.
#[derive(Debug, Default)]
pub struct Watched {
    files: BTreeMap<PathBuf, Option<Stamp>>,
    patterns: Vec<PathBuf>,
    matches: Vec<PathBuf>,
}

impl Watched {
    /// Watches these files, and which files match these patterns, from now on.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>, patterns: Vec<PathBuf>) -> Self {
        let files = paths.into_iter().map(|path| (path.clone(), stamp(&path))).collect();
        Self { files, matches: matches(&patterns), patterns }
    }

    /// Counts as a change what has changed since `before` was last asked: what was read in between may be older.
    #[must_use]
    pub fn keeping(mut self, before: &Self) -> Self {
        for (path, seen) in &mut self.files {
            if let Some(earlier) = before.files.get(path) {
                seen.clone_from(earlier);
            }
        }
        self
    }

    /// Whether any of them looks different from when this was last asked (or created).
    pub fn changed(&mut self) -> bool {
        let mut changed = false;
        for (path, seen) in &mut self.files {
            let now = stamp(path);
            if now != *seen {
                *seen = now;
                changed = true;
            }
        }
        let matches = matches(&self.patterns);
        changed |= matches != self.matches;
        self.matches = matches;
        changed
    }
}

/// The files that match; a pattern that cannot be used matches none, and the configuration's reader says why.
fn matches(patterns: &[PathBuf]) -> Vec<PathBuf> {
    patterns.iter().flat_map(|pattern| glob_paths(pattern).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swapped_symlink_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["v1", "v2"] {
            std::fs::create_dir(dir.path().join(version)).unwrap();
            std::fs::write(dir.path().join(version).join("f"), "same length").unwrap();
        }
        let data = dir.path().join("data");
        std::os::unix::fs::symlink("v1", &data).unwrap();
        let mut watched = Watched::new([data.join("f")], Vec::new());
        assert!(!watched.changed());
        std::os::unix::fs::symlink("v2", dir.path().join("new")).unwrap();
        std::fs::rename(dir.path().join("new"), &data).unwrap();
        assert!(watched.changed());
        assert!(!watched.changed(), "a change is told once");
    }

    #[test]
    fn a_file_that_newly_matches_a_pattern_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let mut watched = Watched::new([], vec![dir.path().join("*.yml")]);
        assert!(!watched.changed());
        std::fs::write(dir.path().join("a.yml"), "").unwrap();
        assert!(watched.changed());
        assert!(!watched.changed());
    }

    #[test]
    fn a_file_that_comes_and_goes_is_a_change_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut watched = Watched::new([path.clone()], Vec::new());
        std::fs::write(&path, "1").unwrap();
        assert!(watched.changed());
        std::fs::remove_file(&path).unwrap();
        assert!(watched.changed());
    }
}
