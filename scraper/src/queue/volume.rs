//! What the queues of one disk share: when it is full, the largest backlog on it gives way; while it fails, records
//! live in memory, within one bound for all.

use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::directory::Directory;
use super::limits::MEMORY_BYTES_MAX;
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

    /// Deletes the oldest segment of the largest backlog. Returns whether there was one.
    pub(crate) fn make_room(&self) -> bool {
        let mut queues = self.queues();
        // What must not be dropped goes to memory, and keeps scrapes from bringing more.
        queues.retain(|queue| !queue.shared.bounds().press_back());
        queues.sort_by_key(|queue| std::cmp::Reverse(queue.shared.disk_bytes.load(Ordering::Relaxed)));
        queues.iter().any(|queue| queue.drop_oldest(DropReason::DiskFull, false))
    }

    /// Drops the oldest segments in memory until `bytes` more have room.
    pub(crate) fn make_memory_room(&self, bytes: u64) {
        let queues = self.queues();
        let held = |queue: &Arc<Directory>| queue.shared.memory_bytes.load(Ordering::Relaxed);
        while queues.iter().map(held).sum::<u64>() + bytes > MEMORY_BYTES_MAX {
            let largest = queues.iter().max_by_key(|queue| held(queue));
            if !largest.is_some_and(|queue| queue.drop_oldest(DropReason::DiskFailed, true)) {
                return;
            }
        }
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
