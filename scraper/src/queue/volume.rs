//! What the queues of one disk share: when it is full, the largest backlog on it gives way; while it fails, records
//! live in memory, within one bound for all.

use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::io::Errno;

use super::QueueError;
use super::directory::Directory;
use super::lane::Among;
use super::limits::{MAKE_ROOM_TRIES_MAX, MEMORY_BYTES_MAX};
use super::shared::DropReason;

/// The disk that queues lie on. Queues that are opened on the same one share it fairly when it runs full.
#[derive(Clone, Default)]
pub struct Volume(Arc<Mutex<Vec<Weak<Directory>>>>);

impl Volume {
    /// A disk with no queues yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn join(&self, queue: Weak<Directory>) {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|queue| queue.strong_count() > 0);
        queues.push(queue);
    }

    /// Makes room on the disk: gives back what is acknowledged, or deletes the oldest segment of the largest backlog.
    /// Returns whether there was anything.
    pub(crate) fn make_room(&self) -> bool {
        let mut queues = self.queues();
        // All of them, not only the first.
        if queues.iter().filter(|queue| queue.let_go()).count() > 0 {
            return true;
        }
        // What lies aside must nowhere be kept, and first goes the most of it.
        queues.sort_by_cached_key(|queue| std::cmp::Reverse(queue.aside_on_disk()));
        if queues.iter().any(|queue| queue.drop_aside(DropReason::DiskFull, Among::Disk)) {
            return true;
        }
        // What must not be dropped goes to memory, and keeps scrapes from bringing more.
        queues.retain(|queue| !queue.shared.bounds().press_back());
        // What is acknowledged in a segment that takes records is no backlog.
        queues.sort_by_cached_key(|queue| std::cmp::Reverse(queue.backlog_on_disk()));
        queues.iter().any(|queue| queue.drop_oldest(DropReason::DiskFull, Among::Disk))
    }

    /// Does something that takes room on the disk, and where there is none, again after something gave way.
    pub(crate) fn with_room<T>(
        &self,
        mut act: impl FnMut() -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        for _ in 1..MAKE_ROOM_TRIES_MAX {
            match act() {
                Err(QueueError::Io { source, .. }) if is_full(&source) && self.make_room() => {}
                done => return done,
            }
        }
        act()
    }

    /// Drops the oldest segments in memory until `bytes` more have room.
    pub(crate) fn make_memory_room(&self, bytes: u64) {
        let queues = self.queues();
        let held = |queue: &Arc<Directory>| queue.shared.memory_bytes.load(Ordering::Relaxed);
        while queues.iter().map(held).sum::<u64>() + bytes > MEMORY_BYTES_MAX {
            let largest = queues.iter().max_by_key(|queue| held(queue));
            if !largest.is_some_and(|queue| queue.drop_oldest(DropReason::DiskFailed, Among::Memory)) {
                return;
            }
        }
    }

    /// Bytes in memory, of all queues.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.queues().iter().map(|queue| queue.shared.memory_bytes.load(Ordering::Relaxed)).sum()
    }

    fn queues(&self) -> Vec<Arc<Directory>> {
        let queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queues.iter().filter_map(Weak::upgrade).collect()
    }
}

impl fmt::Debug for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Volume")
    }
}

/// Whether a write failed because there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl QueueError {
    /// Whether the disk is to blame, and may think better of it.
    pub(crate) fn is_of_sick_disk(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_sick(source))
    }
}

/// Whether a disk takes nothing, and gives what it has all the same.
pub(crate) fn takes_nothing(error: &io::Error) -> bool {
    is_full(error) || error.kind() == io::ErrorKind::ReadOnlyFilesystem
}

/// Whether a disk is to blame, and may take or give again what it refused: it is full, read-only, or has errors. What says
/// that something is not there, is not allowed, or is something else than it should be, somebody has to mend.
pub(crate) fn is_sick(error: &io::Error) -> bool {
    const TO_MEND: [Errno; 12] = [
        Errno::NOENT,
        Errno::ACCESS,
        Errno::PERM,
        Errno::EXIST,
        Errno::NOTDIR,
        Errno::ISDIR,
        Errno::NOTEMPTY,
        Errno::NAMETOOLONG,
        Errno::LOOP,
        Errno::INVAL,
        Errno::NOSYS,
        Errno::OPNOTSUPP,
    ];
    takes_nothing(error) || Errno::from_io_error(error).is_some_and(|errno| !TO_MEND.contains(&errno))
}
