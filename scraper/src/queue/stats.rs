//! What is in a queue and what has happened to it, for metrics, pages and reports.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::directory::Directory;
use super::lane::{LaneId, Pending};
use super::meta::{Hold, SetKind};
use super::shared::DropReason;

/// A queue at one moment. Counters count since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// What is not acknowledged, over all lanes but those aside.
    pub pending: Pending,
    /// What lies aside, as the receiver has refused its series before: it is asked for sample by sample, and nobody waits for it.
    pub aside: Pending,
    /// How long the oldest of it has waited.
    pub oldest_age: Option<Duration>,
    /// Newest time of a sample that was appended, Unix milliseconds; None: none was.
    pub newest_sample_ms: Option<i64>,
    /// Bytes of segment files, what is acknowledged in them included: what the bound of bytes is about.
    pub disk_bytes: u64,
    /// Bytes of segments in memory: not 0 only while the disk fails.
    pub memory_bytes: u64,
    /// Whether the directory could not be read yet: what it holds is not counted here.
    pub unread: bool,
    /// Records that were appended.
    pub enqueued_records: u64,
    /// Samples in them.
    pub enqueued_samples: u64,
    /// Bytes of their bodies.
    pub enqueued_bytes: u64,
    /// Samples that were dropped, by reason.
    pub dropped_samples: Vec<(DropReason, u64)>,
    /// Damaged records that were skipped.
    pub corrupt_records: u64,
    /// Segments of which a torn tail was cut off.
    pub torn_tails: u64,
    /// Lanes that began again at their oldest record because their cursor was damaged.
    pub lost_cursors: u64,
    /// Writes that failed.
    pub write_errors: u64,
    /// Reads that failed.
    pub read_errors: u64,
    /// Syncs that failed.
    pub sync_errors: u64,
    /// Syncs.
    pub syncs: u64,
    /// How long they took together.
    pub sync_time: Duration,
    /// The sets of lanes.
    pub sets: Vec<SetStats>,
}

impl QueueStats {
    /// Samples that were dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped_samples.iter().find(|(known, _)| *known == reason).map_or(0, |(_, samples)| *samples)
    }
}

/// A set of lanes at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetStats {
    /// Its number.
    pub set: u32,
    /// What it is for.
    pub kind: SetKind,
    /// What it waits for.
    pub hold: Hold,
    /// Takes no more records.
    pub closed: bool,
    /// Its lanes.
    pub lanes: Vec<LaneStats>,
}

/// A lane at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneStats {
    /// Which lane.
    pub lane: LaneId,
    /// What is not acknowledged.
    pub pending: Pending,
}

pub(crate) fn gather(directory: &Directory) -> QueueStats {
    let shared = &directory.shared;
    let counters = &shared.counters;
    let newest_sample_ms = counters.newest_sample_ms.load(Ordering::Relaxed);
    let mut stats = QueueStats {
        newest_sample_ms: (newest_sample_ms != i64::MIN).then_some(newest_sample_ms),
        disk_bytes: shared.disk_bytes.load(Ordering::Relaxed),
        memory_bytes: shared.memory_bytes.load(Ordering::Relaxed),
        unread: directory.is_unread(),
        enqueued_records: counters.enqueued_records.load(Ordering::Relaxed),
        enqueued_samples: counters.enqueued_points.load(Ordering::Relaxed),
        enqueued_bytes: counters.enqueued_bytes.load(Ordering::Relaxed),
        corrupt_records: counters.corrupt_records.load(Ordering::Relaxed),
        torn_tails: counters.torn_tails.load(Ordering::Relaxed),
        lost_cursors: counters.lost_cursors.load(Ordering::Relaxed),
        write_errors: counters.write_errors.load(Ordering::Relaxed),
        read_errors: counters.read_errors.load(Ordering::Relaxed),
        sync_errors: counters.sync_errors.load(Ordering::Relaxed),
        syncs: counters.syncs.load(Ordering::Relaxed),
        sync_time: Duration::from_micros(counters.sync_us.load(Ordering::Relaxed)),
        dropped_samples: DropReason::ALL
            .into_iter()
            .zip(&counters.dropped_points)
            .map(|(reason, counter)| (reason, counter.load(Ordering::Relaxed)))
            .collect(),
        ..QueueStats::default()
    };
    directory.for_each_set(|id, set| {
        let lanes: Vec<LaneStats> =
            set.lanes.iter().map(|lane| LaneStats { lane: lane.id, pending: lane.pending() }).collect();
        let total = if set.is_aside() { &mut stats.aside } else { &mut stats.pending };
        lanes.iter().for_each(|LaneStats { pending, .. }| total.add(pending));
        stats.sets.push(SetStats {
            set: id,
            kind: set.meta.kind,
            hold: set.meta.hold.clone(),
            closed: set.closed,
            lanes,
        });
    });
    stats.oldest_age = stats.pending.oldest_ms.map(|oldest| {
        let age = shared.clock.now_ms().saturating_sub(oldest);
        Duration::from_millis(u64::try_from(age).unwrap_or(0))
    });
    stats
}
