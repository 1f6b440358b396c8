//! What a queue stands on: its directory, the lock of it, and its description. A new queue on a disk that is full, read-only or
//! failing begins without, in memory, and gets them when the disk takes them.

use std::io;
use std::path::Path;

use super::QueueError;
use super::directory::parse_set_name;
use super::files::{Files, Lock};
use super::limits::META_BYTES_MAX;
use super::meta::{self, BadMeta};
use super::volume;

/// How much of it there is.
#[derive(Default)]
pub(crate) struct Ground {
    /// Held as long as any lane can write.
    lock: Option<Box<dyn Lock>>,
    described: bool,
}

/// What is found of a queue when it is opened.
pub(crate) enum Found {
    /// The names in its directory.
    Names(Vec<String>),
    /// The same, and something of its ground is lacking for this reason.
    Unlaid(Vec<String>, QueueError),
    /// Nothing for this reason, though there may be a queue.
    Unread(QueueError),
}

impl Ground {
    /// Whether all of it is there.
    pub(crate) fn is_laid(&self) -> bool {
        self.lock.is_some() && self.described
    }

    /// Does what is left to do. Gives the names in the directory.
    pub(crate) fn lay(
        &mut self,
        files: &dyn Files,
        dir: &Path,
        destination: &str,
    ) -> Result<Vec<String>, QueueError> {
        let failed = |source| QueueError::Io { path: dir.to_owned(), source };
        files.create_dir(dir).map_err(failed)?;
        if self.lock.is_none() {
            self.lock = Some(lock(files, dir)?);
        }
        let names = files.list(dir).map_err(failed)?;
        if !self.described {
            check_meta(files, dir, destination, &names)?;
            self.described = true;
        }
        Ok(names)
    }

    /// What a queue begins with though its ground could not be laid; the error, where the disk is not to blame for it.
    pub(crate) fn without(
        &self,
        error: QueueError,
        files: &dyn Files,
        dir: &Path,
    ) -> Result<Found, QueueError> {
        if !error.is_of_sick_disk() {
            return Err(error);
        }
        let takes_nothing = matches!(&error, QueueError::Io { source, .. } if volume::takes_nothing(source));
        match files.list(dir) {
            Ok(names) if !has_sets(&names) => Ok(Found::Unlaid(names, error)),
            // What is there can be read, and is nobody else's.
            Ok(names) if self.lock.is_some() && takes_nothing => Ok(Found::Unlaid(names, error)),
            Err(listed) if listed.kind() == io::ErrorKind::NotFound => Ok(Found::Unlaid(Vec::new(), error)),
            Ok(_) | Err(_) => Ok(Found::Unread(error)),
        }
    }

    /// What [`Ground::lay`] leaves to do for a queue that began without. Nobody had the lock meanwhile, so there may be another
    /// queue by now.
    pub(crate) fn lay_later(
        &mut self,
        files: &dyn Files,
        dir: &Path,
        destination: &str,
    ) -> Result<(), QueueError> {
        let had_lock = self.lock.is_some();
        let names = self.lay(files, dir, destination)?;
        if !had_lock && has_sets(&names) {
            *self = Self::default();
            let source =
                io::Error::new(io::ErrorKind::AlreadyExists, "another process has made a queue there");
            return Err(QueueError::Io { path: dir.to_owned(), source });
        }
        Ok(())
    }
}

fn has_sets(names: &[String]) -> bool {
    names.iter().any(|name| parse_set_name(name).is_some())
}

/// Takes the lock of a queue's directory.
pub(super) fn lock(files: &dyn Files, dir: &Path) -> Result<Box<dyn Lock>, QueueError> {
    let path = dir.join("lock");
    files.lock(&path).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => QueueError::Locked { dir: dir.to_owned(), holder: source.to_string() },
        _ => QueueError::Io { path, source },
    })
}

/// Makes sure that the directory is ours and this destination's.
fn check_meta(files: &dyn Files, dir: &Path, destination: &str, names: &[String]) -> Result<(), QueueError> {
    let path = dir.join("meta");
    let wanted = meta::encode_queue(destination);
    let failed = |source| QueueError::Io { path: path.clone(), source };
    if names.iter().any(|name| name == "meta") {
        let bytes = files.read_small(&path, META_BYTES_MAX).map_err(failed)?;
        if bytes == wanted.as_bytes() {
            return Ok(());
        }
        match meta::decode_queue(&bytes) {
            Ok(found) => {
                return Err(QueueError::OtherDestination { path, found, expected: destination.to_owned() });
            }
            Err(BadMeta::Foreign) => return Err(QueueError::Foreign { path }),
            Err(BadMeta::Newer(_)) => return Err(QueueError::Newer { path }),
            Err(BadMeta::Damaged) => {
                tracing::warn!(file = %path.display(), "a damaged description of a queue is written anew");
            }
        }
    } else if has_sets(names) {
        tracing::warn!(file = %path.display(), "a missing description of a queue is written anew");
    }
    files.replace(&path, wanted.as_bytes()).map_err(failed)
}
