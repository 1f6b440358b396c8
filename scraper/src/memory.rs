//! The memory budget of a scraper: what series and scrapes hold is counted, and what a scrape is about to take is
//! charged before it takes it, so that near the limit scrapes wait for each other instead of ending the process.
//!
//! Three counts share the room that the limit leaves: what is kept (series and their strings), large scrapes in flight,
//! and small ones. Large scrapes leave an eighth of the room alone, so that small ones always find some. A large
//! one may have half of the room, and a quarter while others wait: few targets cannot starve the rest.
//!
//! A scrape holds next to nothing until its target answers, so that targets which do not take nothing from the others.
//! Then it asks for what its last one took ([`Hold::claim`]), and for more as it grows ([`Hold::grow_to`]). Who cannot
//! grow gives everything back and begins anew, with a larger claim and before it asks its target ([`Memory::admit`]):
//! nobody waits while holding more than that little, and none longer than its timeout, so nobody waits for ever. Counting is
//! about right at best, so where much is in use a large scrape also has to fit beside what is resident.

mod system;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

use system::{resident_bytes, system_limit};

/// For what is not counted: requests on their way, buffers of sockets, the allocator's own needs.
const RESERVE_BYTES: u64 = 24 << 20;

/// A scrape that holds no more than this is a small one: the buffer of a body that is read whole, and a little.
pub(crate) const SMALL_BYTES_MAX: u64 = (1 << 20) + (256 << 10);

/// This part of the room is left to small scrapes.
const SMALL_SHARE: u64 = 8;

/// And at least so much: then scrapes are made one after the other even where the limit leaves no room at all.
const SMALL_ROOM_MIN: u64 = 2 * SMALL_BYTES_MAX;

/// The part of the room that one scrape may take.
const SHARE: u64 = 2;

/// The part of the room that one scrape may take while others wait.
const CONTENDED_SHARE: u64 = 4;

/// This part of the limit stays free when what is resident is looked at, as others are about to take what they were
/// granted.
const MARGIN_SHARE: u64 = 16;

/// The memory of one scraper.
#[derive(Debug)]
pub struct Memory {
    /// `u64::MAX` is no limit.
    limit: AtomicU64,
    /// What the process takes before it scrapes.
    base: u64,
    /// What is held for long.
    kept: AtomicU64,
    /// What scrapes in flight hold, the small ones and the others.
    small: AtomicU64,
    large: AtomicU64,
    /// Scrapes that wait for memory.
    waiting: AtomicUsize,
    given_back: Notify,
    /// What the process takes now.
    resident: fn() -> u64,
}

/// What something is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Kept,
    Small,
    Large,
}

/// A part of the memory, given back when it is dropped.
#[derive(Debug)]
pub struct Hold {
    memory: Arc<Memory>,
    bytes: u64,
    kind: Kind,
}

/// There is not enough memory for a scrape to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// Others hold what is lacking: waiting helps.
    #[error("scraper.memory_limit is reached")]
    Others,
    /// No other large scrape holds any: waiting is of no use.
    #[error("what scraper.memory_limit ({}MB) leaves does not suffice for the scrape", .limit >> 20)]
    Alone {
        /// In bytes.
        limit: u64,
    },
    /// It is more than one scrape may have.
    #[error(
        "the scrape takes more memory than one may have: {}MB by scraper.memory_limit ({}MB)",
        .share >> 20, .limit >> 20
    )]
    Share {
        /// In bytes.
        share: u64,
        /// In bytes.
        limit: u64,
    },
}

impl Memory {
    /// Memory with this limit in bytes; None: what the system allows. What the process takes now counts.
    #[must_use]
    pub fn new(limit: Option<u64>) -> Arc<Self> {
        let memory = Self {
            limit: AtomicU64::new(u64::MAX),
            base: resident_bytes() + RESERVE_BYTES,
            kept: AtomicU64::new(0),
            small: AtomicU64::new(0),
            large: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            given_back: Notify::new(),
            resident: resident_bytes,
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
        self.base + with_slack(self.counted())
    }

    /// Something that is held for long, and without being asked: it is there already.
    #[must_use]
    pub fn keep(self: &Arc<Self>) -> Hold {
        Hold { memory: Arc::clone(self), bytes: 0, kind: Kind::Kept }
    }

    /// Lets a scrape hold this many bytes, if they can be had. Where no other large scrape is in flight, so that waiting is of
    /// no use, it may begin as a small one.
    #[must_use]
    pub fn try_admit(self: &Arc<Self>, bytes: u64) -> Option<Hold> {
        let mut hold = self.scrape();
        hold.try_claim(bytes).then_some(hold)
    }

    /// Waits until a scrape may hold this many bytes.
    pub async fn admit(self: &Arc<Self>, bytes: u64) -> Hold {
        let mut hold = self.scrape();
        hold.claim(bytes).await;
        hold
    }

    /// A scrape that holds nothing yet.
    fn scrape(self: &Arc<Self>) -> Hold {
        Hold { memory: Arc::clone(self), bytes: 0, kind: Kind::Small }
    }

    fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    fn counted(&self) -> u64 {
        [&self.kept, &self.small, &self.large].iter().map(|count| count.load(Ordering::Acquire)).sum()
    }

    /// What may be counted in all.
    fn room(&self) -> u64 {
        without_slack(self.limit().saturating_sub(self.base))
    }

    fn small_room(&self) -> u64 {
        (self.room() / SMALL_SHARE).max(SMALL_ROOM_MIN)
    }

    /// Whether small scrapes may have this in all.
    fn has_small_room(&self, small: u64, more: u64) -> bool {
        let others = self.kept.load(Ordering::Acquire) + self.large.load(Ordering::Acquire);
        if others + small <= self.room() {
            return true;
        }
        // Series that are kept are counted whatever the limit: where they have outgrown it, there is no room at all.
        small <= self.small_room() && (others <= self.room() || self.fits_beside_resident(more))
    }

    /// Whether large scrapes may have this in all.
    fn has_large_room(&self, large: u64, more: u64) -> bool {
        let small = self.small.load(Ordering::Acquire).max(self.small_room());
        let (used, room) = (self.kept.load(Ordering::Acquire) + small + large, self.room());
        used <= room
            && (used <= room / 2
                || self.fits_beside_resident(more.saturating_add(self.limit() / MARGIN_SHARE)))
    }

    fn fits_beside_resident(&self, more: u64) -> bool {
        (self.resident)().saturating_add(more) <= self.limit()
    }

    /// What one scrape may hold at most, in bytes.
    #[must_use]
    pub fn share(&self) -> u64 {
        (self.room() / SHARE).max(SMALL_BYTES_MAX)
    }

    fn count(&self, kind: Kind) -> &AtomicU64 {
        match kind {
            Kind::Kept => &self.kept,
            Kind::Small => &self.small,
            Kind::Large => &self.large,
        }
    }
}

impl Hold {
    /// Waits until the scrape may hold this many bytes, or, where waiting is of no use, as many as a small one may. Others may
    /// wait for what it holds meanwhile, so that should be little.
    pub async fn claim(&mut self, bytes: u64) {
        if self.try_claim(bytes) {
            return;
        }
        let memory = Arc::clone(&self.memory);
        let _waiting = Waiting::new(&memory.waiting);
        loop {
            let mut given_back = std::pin::pin!(memory.given_back.notified());
            // From here on nothing that is given back is missed.
            given_back.as_mut().enable();
            if self.try_claim(bytes) {
                return;
            }
            given_back.await;
        }
    }

    fn try_claim(&mut self, bytes: u64) -> bool {
        let granted = match self.take(bytes, 0, false) {
            Err(Full::Alone { .. } | Full::Share { .. }) => self.take(bytes.min(SMALL_BYTES_MAX), 0, false),
            granted => granted,
        };
        granted.is_ok()
    }

    /// Lets a scrape hold this many bytes, if they can be had. See [`Hold::grow_beside`].
    ///
    /// # Errors
    /// Where they cannot: what is held stays as it is.
    pub fn grow_to(&mut self, bytes: u64) -> Result<(), Full> {
        self.grow_beside(bytes, 0)
    }

    /// The same for a scrape that has added so many `shared` bytes to what is kept: they count for its share.
    ///
    /// # Errors
    /// Where there is not enough: what is held stays as it is.
    pub fn grow_beside(&mut self, bytes: u64, shared: u64) -> Result<(), Full> {
        self.take(bytes, shared, true)
    }

    /// `yields`: it does not go past its part while others wait.
    fn take(&mut self, bytes: u64, shared: u64, yields: bool) -> Result<(), Full> {
        let (before, mine) = (self.bytes, bytes.saturating_add(shared));
        let (is_granted, is_small) = (bytes <= before, mine <= SMALL_BYTES_MAX);
        if is_granted && is_small {
            return Ok(());
        }
        let memory = &*self.memory;
        let limit = memory.limit();
        if limit == u64::MAX {
            self.set(bytes.max(before));
            return Ok(());
        }
        let share = memory.share();
        if mine > share {
            return Err(Full::Share { share: with_slack(share), limit });
        }
        if is_granted {
            return Ok(());
        }
        let more = bytes - before;
        if is_small && self.kind == Kind::Small {
            let fits = |small: u64| Some(small + more).filter(|&small| memory.has_small_room(small, more));
            memory.small.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).map_err(|_| Full::Others)?;
            self.bytes = bytes;
            return Ok(());
        }
        let is_contended = memory.waiting.load(Ordering::Acquire) > 0;
        if yields && is_contended && mine > memory.room() / CONTENDED_SHARE {
            return Err(Full::Others);
        }
        let held = if self.kind == Kind::Large { before } else { 0 };
        let fits =
            |large: u64| Some(large - held + bytes).filter(|&large| memory.has_large_room(large, more));
        match memory.large.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits) {
            Ok(_) => {}
            Err(large) if large <= held => return Err(Full::Alone { limit }),
            Err(_) => return Err(Full::Others),
        }
        if self.kind != Kind::Large {
            memory.count(self.kind).fetch_sub(before, Ordering::AcqRel);
            self.kind = Kind::Large;
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Holds this many bytes instead, whatever the limit.
    pub fn set(&mut self, bytes: u64) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        let count = self.memory.count(self.kind);
        if bytes >= before {
            count.fetch_add(bytes - before, Ordering::AcqRel);
        } else {
            count.fetch_sub(before - bytes, Ordering::AcqRel);
            self.memory.given_back.notify_waiters();
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

/// Counts who waits, for as long as it does.
struct Waiting<'m>(&'m AtomicUsize);

impl<'m> Waiting<'m> {
    fn new(count: &'m AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What the allocator takes for this many bytes: what is freed between others stays.
fn with_slack(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 4)
}

/// How many bytes can be counted in memory of this size.
fn without_slack(bytes: u64) -> u64 {
    bytes / 5 * 4
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
