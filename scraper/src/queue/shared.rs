//! What all lanes of a queue share: files, clock, bounds and counters.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use promring_model::config::{QueueSettings, WhenFull};

use super::files::Files;
use super::ground::Ground;
use super::limits::{
    ASIDE_BYTES_MAX, ASIDE_SHARE, LANE_SEGMENTS_MIN, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SEGMENT_SHARE,
};
use super::losses::{self, Loss, Losses};
use super::volume::{self, Volume};
use crate::news::News;

/// The time in Unix milliseconds.
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    pub(crate) fn new(now: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn system() -> Self {
        Self::new(|| {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
        })
    }

    pub(crate) fn now_ms(&self) -> i64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// Why the queue itself dropped samples that nobody had acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The queue was at its bound of bytes.
    Size,
    /// They were older than the queue's bound of age.
    Age,
    /// The disk was full.
    DiskFull,
    /// The disk failed, and memory took no more; or the process ended before the disk came back.
    DiskFailed,
    /// They could not be read back.
    Unreadable,
    /// Checksums told that they were damaged.
    Corrupt,
    /// More lay aside than may, of what the receiver had refused before.
    Aside,
}

impl DropReason {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Size,
        Self::Age,
        Self::DiskFull,
        Self::DiskFailed,
        Self::Unreadable,
        Self::Corrupt,
        Self::Aside,
    ];

    /// As it stands in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Age => "age",
            Self::DiskFull => "disk_full",
            Self::DiskFailed => "disk_failed",
            Self::Unreadable => "unreadable",
            Self::Corrupt => "corrupt",
            Self::Aside => "aside",
        }
    }
}

/// Things that happened, since the queue was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) newest_sample_ms: NewestMs,
    pub(crate) enqueued_records: AtomicU64,
    pub(crate) enqueued_points: AtomicU64,
    pub(crate) enqueued_bytes: AtomicU64,
    pub(crate) dropped_points: [AtomicU64; DropReason::ALL.len()],
    pub(crate) corrupt_records: AtomicU64,
    pub(crate) torn_tails: AtomicU64,
    pub(crate) lost_cursors: AtomicU64,
    pub(crate) write_errors: AtomicU64,
    pub(crate) read_errors: AtomicU64,
    pub(crate) sync_errors: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) sync_us: AtomicU64,
}

/// The newest time that was seen; begins before all times.
#[derive(Debug)]
pub(crate) struct NewestMs(AtomicI64);

impl Default for NewestMs {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

impl std::ops::Deref for NewestMs {
    type Target = AtomicI64;

    fn deref(&self) -> &AtomicI64 {
        &self.0
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// What all lanes of a queue share.
pub(crate) struct Shared {
    pub(crate) destination: String,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) clock: Clock,
    pub(crate) volume: Volume,
    pub(crate) bounds: RwLock<Bounds>,
    pub(crate) counters: Counters,
    pub(crate) losses: Losses,
    /// What is logged of damaged records, and of what the disk refuses.
    pub(crate) bad_records: News,
    pub(crate) write_errors: News,
    pub(crate) read_errors: News,
    pub(crate) sync_errors: News,
    pub(crate) sync_seconds: metrics::Histogram,
    /// Bytes of segment files.
    pub(crate) disk_bytes: AtomicU64,
    /// Bytes of segments in memory.
    pub(crate) memory_bytes: AtomicU64,
    /// Whether something has waited for longer than the bound of age; looked at about once a second.
    pub(crate) overaged: AtomicBool,
    /// What its directory is made of so far.
    pub(crate) ground: Mutex<Ground>,
    /// What cannot be read while the directory is opened may be readable at the next try.
    pub(crate) patient: AtomicBool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("destination", &self.destination).finish_non_exhaustive()
    }
}

/// What a queue is bounded by. A reload may change it.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    pub(crate) settings: QueueSettings,
    pub(crate) segment_bytes_max: u64,
    pub(crate) segment_age_max_ms: i64,
}

impl Bounds {
    /// Where there are so many lanes, and room for so many bytes on the disk.
    pub(crate) fn new(settings: &QueueSettings, lanes: usize, room_bytes: u64) -> Self {
        Self {
            settings: settings.clone(),
            segment_bytes_max: segment_bytes_max(settings.max_bytes.min(room_bytes), lanes),
            segment_age_max_ms: segment_age_max_ms(settings),
        }
    }

    /// How many bytes may lie aside.
    pub(crate) fn aside_bytes_max(&self) -> u64 {
        let share = self.settings.max_bytes / ASIDE_SHARE;
        share.max(self.segment_bytes_max).min(ASIDE_BYTES_MAX)
    }

    /// Whether the queue refuses nothing and drops nothing at its bounds, and scrapes wait instead.
    pub(crate) fn press_back(&self) -> bool {
        self.settings.when_full == WhenFull::BackPressure
    }
}

impl Shared {
    pub(crate) fn bounds(&self) -> Bounds {
        // They are replaced as a whole, so a poisoned lock is as good.
        self.bounds.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts samples that were dropped, and tells of them.
    pub(crate) fn dropped(&self, reason: DropReason, loss: Loss) {
        if let Some(counter) = self.counters.dropped_points.get(reason as usize) {
            add(counter, loss.samples);
        }
        self.losses.add(reason, loss);
        self.tell_losses(false);
    }

    /// Tells of what was dropped and not told of; `all`: however short a time it is since the last line.
    pub(crate) fn tell_losses(&self, all: bool) {
        for reason in DropReason::ALL {
            let now_ms = self.clock.now_ms();
            if let Some(loss) = self.losses.due(reason, now_ms, all) {
                losses::tell(&self.destination, reason, &loss, now_ms);
            }
        }
    }

    /// Bytes on the disk and in memory.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.disk_bytes.load(Ordering::Relaxed) + self.memory_bytes.load(Ordering::Relaxed)
    }

    /// Whether what could not be read is worth another try, so that the directory must not be opened without it.
    pub(crate) fn is_patient_with(&self, error: &io::Error) -> bool {
        self.patient.load(Ordering::Relaxed) && volume::is_sick(error) && !volume::takes_nothing(error)
    }

    pub(crate) fn write_failed(&self, what: &str, error: &io::Error) {
        add(&self.counters.write_errors, 1);
        if let Some(untold) = self.write_errors.tell(Instant::now()) {
            tracing::error!(destination = self.destination, what, %error, untold, "queue cannot write to its disk");
        }
    }

    pub(crate) fn read_failed(&self, what: &str, error: &io::Error) {
        add(&self.counters.read_errors, 1);
        if let Some(untold) = self.read_errors.tell(Instant::now()) {
            tracing::error!(destination = self.destination, what, %error, untold, "queue cannot read from its disk");
        }
    }

    pub(crate) fn sync_failed(&self, error: &io::Error) {
        add(&self.counters.sync_errors, 1);
        if let Some(untold) = self.sync_errors.tell(Instant::now()) {
            tracing::error!(destination = self.destination, %error, untold, "the disk of a queue cannot be synced");
        }
    }
}

/// How large segments of a queue are that may take so many bytes.
fn segment_bytes_max(queue_bytes_max: u64, lanes: usize) -> u64 {
    let share = queue_bytes_max / (LANE_SEGMENTS_MIN * lanes as u64).max(SEGMENT_SHARE);
    share.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
}

/// How long a segment takes records: a sixteenth of the bound of age, at most ten minutes, at least a second.
fn segment_age_max_ms(settings: &QueueSettings) -> i64 {
    let sixteenth = i64::try_from(settings.max_age.as_millis() / 16).unwrap_or(i64::MAX);
    sixteenth.clamp(1_000, 600_000)
}
