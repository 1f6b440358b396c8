//! Deleting the directory of a queue that nobody needs any more.

use std::io;
use std::path::{Path, PathBuf};

use super::QueueError;
use super::directory::parse_set_name;
use super::files::{Files, OsFiles};
use super::ground;
use super::inspect::{Depth, inspect};

/// What the name of a queue's directory ends in that is being deleted. No queue is named so: see `send::queue_dir`.
const GONE: &str = ".gone";

/// Deletes the queue in `dir` if all of it is acknowledged and nothing else lies there, a segment that was put aside
/// included. False: it stays.
///
/// # Errors
/// Where it is in use, is no queue that this version knows, or the disk does not take the change: it stays, or what is
/// left of it has a name that ends in `.gone`.
pub fn remove_if_empty(dir: &Path) -> Result<bool, QueueError> {
    remove(&OsFiles, dir)
}

/// Whether this is what an earlier process left of a queue that it was deleting; it is deleted then, as far as that goes.
#[must_use]
pub fn remove_rest(dir: &Path) -> bool {
    let is_rest = dir.extension().is_some_and(|end| end == GONE.trim_start_matches('.'));
    // A directory of that name that has something to send is somebody's copy.
    let holds = |dir| inspect(&OsFiles, dir, Depth::Index).is_ok_and(|found| found.pending().records > 0);
    if !is_rest || holds(dir) {
        return false;
    }
    if let Err(error) = OsFiles.remove_dir(dir) {
        tracing::warn!(dir = %dir.display(), %error, "what is left of a queue that is done with cannot be deleted");
    }
    true
}

pub(super) fn remove(files: &dyn Files, dir: &Path) -> Result<bool, QueueError> {
    let failed = |source| QueueError::Io { path: dir.to_owned(), source };
    // So that nobody begins to use it meanwhile.
    let _lock = ground::lock(files, dir)?;
    let is_ours = |name: &String| {
        let left = name.ends_with(".tmp") || name.ends_with(GONE);
        left || name == "lock" || name == "meta" || parse_set_name(name).is_some()
    };
    if !files.list(dir).map_err(failed)?.iter().all(is_ours) {
        return Ok(false);
    }
    let found = inspect(files, dir, Depth::Index)?;
    if found.pending().records > 0 || !found.is_sound() {
        return Ok(false);
    }
    // At once: there is never half a queue under its name.
    let gone = gone(dir);
    match files.remove_dir(&gone) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    files.rename(dir, &gone).map_err(failed)?;
    if let Some(parent) = dir.parent() {
        files.sync_dir(parent).map_err(failed)?;
    }
    files.remove_dir(&gone).map_err(failed)?;
    Ok(true)
}

fn gone(dir: &Path) -> PathBuf {
    let mut gone = dir.as_os_str().to_owned();
    gone.push(GONE);
    PathBuf::from(gone)
}
