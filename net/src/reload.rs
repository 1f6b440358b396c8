//! Reload: when the configuration should be read again.
//!
//! Three things ask for it: SIGHUP, `POST /-/reload`, and a changed file. Files are watched by looking at them
//! every second instead of by inotify: that also sees a ConfigMap's symlink swap, network file systems, and a file
//! that an editor replaces.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use promring_model::config::ConfigSource;
use tokio::sync::{mpsc, oneshot};

use crate::files::{Disk, glob_paths};

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

/// The disk, which notes how each file looks just before it is read: what changes while it is read is a change afterwards, and
/// what was read is none.
#[derive(Debug, Default)]
pub struct NotingDisk {
    files: RefCell<BTreeMap<PathBuf, Option<Stamp>>>,
    matches: RefCell<BTreeMap<PathBuf, Vec<PathBuf>>>,
}

impl NotingDisk {
    /// Watches these files and patterns from when they were read here; those that were not, from now on.
    #[must_use]
    pub fn watched(self, paths: impl IntoIterator<Item = PathBuf>, patterns: Vec<PathBuf>) -> Watched {
        let (mut noted, mut found) = (self.files.into_inner(), self.matches.into_inner());
        let mut as_read = |path: PathBuf| {
            let seen = noted.remove(&path).unwrap_or_else(|| stamp(&path));
            (path, seen)
        };
        let files = paths.into_iter().map(&mut as_read).collect();
        let mut as_found = |pattern: &PathBuf| {
            found.remove(pattern).unwrap_or_else(|| matches(std::slice::from_ref(pattern)))
        };
        let matches = patterns.iter().flat_map(&mut as_found).collect();
        Watched { files, patterns, matches }
    }
}

impl ConfigSource for NotingDisk {
    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        self.files.borrow_mut().entry(path.to_owned()).or_insert_with(|| stamp(path));
        Disk.read(path)
    }

    fn read_targets(&self, path: &Path) -> Result<Vec<u8>, String> {
        Disk.read_targets(path)
    }

    fn glob(&self, pattern: &Path) -> Result<Vec<PathBuf>, String> {
        let found = Disk.glob(pattern)?;
        self.matches.borrow_mut().entry(pattern.to_owned()).or_insert_with(|| found.clone());
        Ok(found)
    }

    fn env(&self, name: &str) -> Option<String> {
        Disk.env(name)
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
    fn what_was_read_is_no_change_and_what_came_while_it_was_read_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let (path, pattern) = (dir.path().join("f"), dir.path().join("*.yml"));
        std::fs::write(&path, "1").unwrap();
        let read = || {
            let disk = NotingDisk::default();
            assert!(disk.read(&path).is_ok() && disk.glob(&pattern).is_ok());
            disk
        };
        let watched = |disk: NotingDisk| disk.watched([path.clone()], vec![pattern.clone()]);
        assert!(!watched(read()).changed());
        let disk = read();
        std::fs::write(&path, "22").unwrap();
        assert_eq!(disk.read(&path).unwrap(), b"22");
        assert!(watched(disk).changed(), "the first reading counts");
        let disk = read();
        std::fs::write(dir.path().join("a.yml"), "").unwrap();
        assert!(watched(disk).changed());
        assert!(!watched(read()).changed());
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
