//! The memory budget of a scraper: what series and scrapes in flight hold is counted, so that near the limit scrapes
//! wait for each other instead of ending the process.
//!
//! A scrape asks for what its last one took ([`Memory::admit`]) and for more as it grows ([`Hold::grow_to`]). Who cannot
//! grow gives everything back and begins anew, with a larger claim: nobody waits while holding, so nobody waits for ever.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// For what is not counted: requests on their way, buffers of sockets, the allocator's own needs.
const RESERVE_BYTES: u64 = 24 << 20;

/// Control groups above the process's own that are looked at.
const GROUPS_MAX: usize = 32;

/// A limit of this many bytes and more is none: what version 1 of control groups says for "unlimited" is one.
const UNLIMITED_BYTES_MIN: u64 = 1 << 60;

/// The memory of one scraper.
#[derive(Debug)]
pub struct Memory {
    /// `u64::MAX` is no limit.
    limit: AtomicU64,
    /// What the process takes before it scrapes.
    base: u64,
    /// All holds together.
    held: AtomicU64,
    /// Those of scrapes in flight among them.
    in_flight: AtomicU64,
    given_back: Notify,
}

/// A part of the memory, given back when it is dropped.
#[derive(Debug)]
pub struct Hold {
    memory: Arc<Memory>,
    bytes: u64,
    in_flight: bool,
}

/// There is not enough memory for a scrape to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// No other scrape holds any: waiting is of no use.
    pub alone: bool,
}

impl Memory {
    /// Memory with this limit in bytes; None: what the system allows. What the process takes now counts.
    #[must_use]
    pub fn new(limit: Option<u64>) -> Arc<Self> {
        let memory = Self {
            limit: AtomicU64::new(u64::MAX),
            base: resident_bytes() + RESERVE_BYTES,
            held: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            given_back: Notify::new(),
        };
        memory.set_limit(limit);
        Arc::new(memory)
    }

    /// Takes another limit.
    pub fn set_limit(&self, limit: Option<u64>) {
        let limit = limit.or_else(system_limit).unwrap_or(u64::MAX);
        self.limit.store(limit, Ordering::Relaxed);
        metrics::gauge!("promring_memory_limit_bytes").set(if limit == u64::MAX {
            0.0
        } else {
            limit as f64
        });
        self.given_back.notify_waiters();
    }

    /// Bytes in use, as far as they are counted.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.base + with_slack(self.held.load(Ordering::Relaxed))
    }

    /// Something that is held for long, and without being asked: it is there already.
    #[must_use]
    pub fn keep(self: &Arc<Self>) -> Hold {
        Hold { memory: Arc::clone(self), bytes: 0, in_flight: false }
    }

    /// Lets a scrape hold this many bytes, if they can be had or if it is the only one.
    #[must_use]
    pub fn try_admit(self: &Arc<Self>, bytes: u64) -> Option<Hold> {
        let mut hold = Hold { memory: Arc::clone(self), bytes: 0, in_flight: true };
        match hold.grow_to(bytes) {
            Ok(()) => Some(hold),
            Err(Full { alone: true }) => {
                hold.set(bytes);
                Some(hold)
            }
            Err(Full { alone: false }) => None,
        }
    }

    /// Waits until a scrape may hold this many bytes, or until it is the only one.
    pub async fn admit(self: &Arc<Self>, bytes: u64) -> Hold {
        loop {
            let mut given_back = std::pin::pin!(self.given_back.notified());
            // From here on nothing that is given back is missed.
            given_back.as_mut().enable();
            if let Some(hold) = self.try_admit(bytes) {
                return hold;
            }
            given_back.await;
        }
    }
}

impl Hold {
    /// Holds this many bytes instead; for a scrape, if they can be had.
    ///
    /// # Errors
    /// Where they cannot: what is held stays as it is.
    pub fn grow_to(&mut self, bytes: u64) -> Result<(), Full> {
        if bytes <= self.bytes {
            return Ok(());
        }
        let memory = &self.memory;
        let (limit, before) = (memory.limit.load(Ordering::Relaxed), self.bytes);
        let more = bytes - before;
        let room = |held: u64| {
            let all = held.checked_add(more)?;
            (memory.base + with_slack(all) <= limit).then_some(all)
        };
        if memory.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).is_err() {
            return Err(Full { alone: memory.in_flight.load(Ordering::Acquire) <= before });
        }
        if self.in_flight {
            memory.in_flight.fetch_add(more, Ordering::AcqRel);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Holds this many bytes instead, whatever the limit.
    pub fn set(&mut self, bytes: u64) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        let memory = &self.memory;
        let counts = if self.in_flight {
            [Some(&memory.held), Some(&memory.in_flight)]
        } else {
            [Some(&memory.held), None]
        };
        for count in counts.into_iter().flatten() {
            if bytes > before {
                count.fetch_add(bytes - before, Ordering::AcqRel);
            } else {
                count.fetch_sub(before - bytes, Ordering::AcqRel);
            }
        }
        if bytes < before {
            memory.given_back.notify_waiters();
        }
    }

    /// How much is held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// What the allocator takes for this many bytes: lists that grow are copied, and what is freed between others stays.
fn with_slack(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 2)
}

/// The memory that the process takes now.
fn resident_bytes() -> u64 {
    let Ok(text) = fs::read_to_string("/proc/self/status") else { return 0 };
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Nine tenths of what the process's control group, or one above it, allows.
fn system_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_of(&groups, Path::new("/sys/fs/cgroup")).map(|bytes| bytes / 10 * 9)
}

/// The smallest limit of the groups that `/proc/self/cgroup` lists, under the root of their file system.
fn limit_of(groups: &str, root: &Path) -> Option<u64> {
    // `number:controllers:path`; version 2 has no controllers there.
    let files = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (mount, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        let own = mount.join(path.trim_start_matches('/'));
        // In a container the path may be the host's, and its own group is the root.
        let groups = own.ancestors().take_while(|group| group.starts_with(&mount)).take(GROUPS_MAX);
        groups.map(|group| group.join(file)).collect::<Vec<PathBuf>>()
    });
    let limits = files.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    limits.filter(|&bytes| bytes < UNLIMITED_BYTES_MIN).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(room: u64) -> Arc<Memory> {
        let memory = Memory::new(Some(u64::MAX));
        memory.set_limit(Some(memory.base + with_slack(room)));
        memory
    }

    #[tokio::test]
    async fn who_finds_no_room_waits_until_another_gives_it_back() {
        let memory = memory(100);
        let first = memory.admit(60).await;
        let waiting = tokio::spawn({
            let memory = Arc::clone(&memory);
            async move { memory.admit(50).await.bytes() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        assert_eq!(waiting.await.unwrap(), 50);
        assert_eq!(memory.used(), memory.base);
    }

    #[tokio::test]
    async fn who_grows_past_the_limit_is_refused_and_keeps_what_it_has() {
        let memory = memory(100);
        let mut first = memory.admit(60).await;
        assert_eq!(first.grow_to(101), Err(Full { alone: true }));
        let second = memory.admit(30).await;
        assert_eq!(first.grow_to(71), Err(Full { alone: false }));
        assert_eq!(first.grow_to(70), Ok(()));
        assert_eq!(first.grow_to(10), Ok(()), "less is no request to give back");
        assert_eq!((first.bytes(), second.bytes()), (70, 30));
    }

    #[tokio::test]
    async fn the_only_scrape_is_let_in_whatever_it_asks_for() {
        let memory = memory(100);
        let mut series = memory.keep();
        series.set(500);
        let mut only = memory.admit(10).await;
        assert_eq!(only.grow_to(11), Err(Full { alone: true }));
    }

    #[tokio::test]
    async fn without_a_limit_everything_is_let_in() {
        let memory = Memory::new(Some(u64::MAX));
        let mut hold = memory.admit(1 << 50).await;
        assert_eq!(hold.grow_to(1 << 51), Ok(()));
    }

    #[test]
    fn the_limit_is_the_smallest_of_the_control_groups() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("memory.max", "max\n");
        write("a/memory.max", "1000\n");
        write("a/b/memory.max", "2000\n");
        assert_eq!(limit_of("0::/a/b\n", root.path()), Some(1000));
        assert_eq!(limit_of("0::/\n", root.path()), None);
        write("memory/x/memory.limit_in_bytes", "3000\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit_of("5:cpu:/x\n4:memory:/x\n0::/\n", root.path()), Some(3000));
        assert_eq!(limit_of("4:memory:/not/here\n", root.path()), None);
    }
}
