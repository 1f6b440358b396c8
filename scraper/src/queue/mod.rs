//! The queue on disk: what is between a scrape and a receiver, and outlives both.
//!
//! One directory a destination, in it sets of lanes, in a lane segments of checksummed records, each a finished request
//! body (docs/format/queue.md). The layers, lowest first: `files` is the seam to the operating system, `record`,
//! `segment` and `cursor` know bytes, `lane` (with `appending`, `reader` and
//! `reading`, `giving_way` and `recovery`) an ordered stream, `directory` (with `ground`,
//! `making`, `aside`, `ahead`, `looking`, `late` and `removal`) all lanes of a destination and their bounds, `volume` all destinations of a disk. Nothing here knows HTTP, and nothing here decodes a body.
//!
//! File calls block for as long as the page cache takes, which is short, and are made where they are needed. Syncing
//! can take long: it happens on a thread of the queue's own, but for the policy `always`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use promring_model::config::QueueSettings;
use tokio::sync::watch;

mod ahead;
mod appending;
mod aside;
mod cursor;
mod directory;
mod examine;
mod files;
mod giving_way;
mod ground;
mod inspect;
mod lane;
mod late;
mod limits;
mod looking;
mod losses;
mod making;
mod memory;
mod meta;
mod persist;
mod reader;
mod reading;
mod record;
mod recovery;
mod removal;
mod segment;
mod shared;
mod stats;
mod volume;

#[cfg(test)]
pub(crate) mod tests;

pub use ahead::SentAhead;
pub use examine::{Examined, examine};
pub use inspect::{InspectedLane, InspectedSet, Inspection};
pub use lane::{LaneId, Pending};
pub use limits::{DESTINATION_BYTES_MAX, LANES_MAX, RECORD_BODY_BYTES_MAX};
pub use meta::{Hold, SetKind};
pub use reader::{LaneReader, RecordInfo, Wake};
pub use record::{Beside, Encoding, RecordMeta};
pub use removal::{remove_if_empty, remove_rest};
pub use shared::DropReason;
pub use stats::{LaneStats, QueueStats, SetStats};
pub use volume::Volume;

use appending::AppendFailure;
use directory::Directory;
use files::{Files, OsFiles};
use lane::Lane;
use limits::MAKE_ROOM_TRIES_MAX;
use meta::SetMeta;
use persist::Upkeep;
use shared::Clock;

/// Why a queue is not opened, or not changed as asked.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Somebody else has it.
    #[error("{} is in use by {holder}: two processes must not share a queue; stop the other one or give each its own --data-dir", dir.display())]
    Locked {
        /// The queue's directory.
        dir: PathBuf,
        /// Who has it, as far as is known.
        holder: String,
    },
    /// Not a queue of ours.
    #[error("{} is not the description of a promring queue: the directory belongs to something else; move it away or choose another --data-dir", path.display())]
    Foreign {
        /// The file that told.
        path: PathBuf,
    },
    /// Nothing of a queue is there.
    #[error("{} is no queue: it holds neither a file \"meta\" nor a set of lanes; write the directory of one destination's queue, or a data directory with its directory \"queue\"", dir.display())]
    NoQueue {
        /// The directory.
        dir: PathBuf,
    },
    /// Written by a later version.
    #[error("{} was written by a newer version of promring: run that version until the queue is empty, or move the directory away", path.display())]
    Newer {
        /// The file that told.
        path: PathBuf,
    },
    /// The queue of another destination.
    #[error("{} is the queue of {found:?}, not of {expected:?}: it must not be sent there", path.display())]
    OtherDestination {
        /// The file that told.
        path: PathBuf,
        /// Whose queue it is.
        found: String,
        /// Whose it was to be.
        expected: String,
    },
    /// Not a number of lanes.
    #[error("a queue cannot have {lanes} lanes; write 1 to {LANES_MAX}")]
    Lanes {
        /// How many were asked for.
        lanes: usize,
    },
    /// A name too long to be written down.
    #[error("the name of a destination has {bytes} bytes; at most {DESTINATION_BYTES_MAX} are possible")]
    Name {
        /// How many bytes it has.
        bytes: usize,
    },
    /// No set of lanes has this number.
    #[error("the queue has no set of lanes {set}")]
    NoSuchSet {
        /// The number.
        set: u32,
    },
    /// The disk said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Why a record is not appended. A disk that fails is no reason: see [`Queue::append`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The lane does not exist (any more): the number of lanes has changed.
    #[error("the queue has no lane {0}")]
    NoSuchLane(usize),
    /// The lane or the queue takes no more records.
    #[error("the lane is closed")]
    Closed,
    /// The body is longer than any receiver takes.
    #[error("a request body of {0} bytes: at most {RECORD_BODY_BYTES_MAX} can be queued")]
    TooLarge(usize),
}

/// The queue of one destination. Dropping it finishes and syncs all files; the directory is unlocked when its readers
/// are dropped as well.
#[derive(Debug)]
pub struct Queue {
    directory: Arc<Directory>,
    /// Stops before the files are finished.
    upkeep: Option<Upkeep>,
}

impl Queue {
    /// Opens the queue in `dir`, or makes it, on a disk of its own. Records go to `lanes` lanes; if there were another number
    /// of them, the old ones are sent first, lane by lane.
    ///
    /// # Errors
    /// Where the directory belongs to another process, destination, program or version, or cannot be used.
    pub fn open(
        dir: &Path,
        destination: &str,
        lanes: usize,
        settings: &QueueSettings,
    ) -> Result<Self, QueueError> {
        Self::open_on(&Volume::new(), dir, destination, lanes, settings)
    }

    /// The same on a disk that it shares with other queues: when that is full, the largest backlog of all gives way.
    ///
    /// # Errors
    /// As [`Queue::open`].
    ///
    /// A disk that takes nothing, or does not let the directory be read, is none: the queue begins in memory.
    pub fn open_on(
        volume: &Volume,
        dir: &Path,
        destination: &str,
        lanes: usize,
        settings: &QueueSettings,
    ) -> Result<Self, QueueError> {
        let mut queue = Self::open_with(
            dir,
            destination,
            lanes,
            settings,
            (Arc::new(OsFiles), Clock::system(), volume.clone()),
        )?;
        let upkeep = Upkeep::start(Arc::clone(&queue.directory));
        queue.upkeep = Some(upkeep.map_err(|source| QueueError::Io { path: dir.to_owned(), source })?);
        Ok(queue)
    }

    /// The same without a thread of its own, on any files and clock.
    fn open_with(
        dir: &Path,
        destination: &str,
        lanes: usize,
        settings: &QueueSettings,
        world: (Arc<dyn Files>, Clock, Volume),
    ) -> Result<Self, QueueError> {
        Ok(Self { directory: Directory::open(dir, destination, lanes, settings, world)?, upkeep: None })
    }

    /// How many lanes take records. A series must always go to the same one, by a hash modulo this number.
    #[must_use]
    pub fn lane_count(&self) -> usize {
        self.directory.lane_count()
    }

    /// From now on records go to this many lanes. What the old ones hold is sent before what follows in a new one, as far
    /// as they may hold the same series. Bodies that are being filled for old lanes must be appended before.
    ///
    /// # Errors
    /// Where the number is out of range or the disk does not take new directories.
    pub fn set_lanes(&self, lanes: usize) -> Result<(), QueueError> {
        self.directory.set_lanes(lanes)
    }

    /// Takes other bounds from now on.
    pub fn apply_settings(&self, settings: &QueueSettings) {
        self.directory.set_bounds(settings);
    }

    /// Whether scrapes may bring more: false at its bounds where these drop nothing (`when_full: back_pressure`).
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.directory.has_room()
    }

    /// The newest record of each lane that has any to send, but for what lies aside.
    #[must_use]
    pub fn newest_records(&self) -> Vec<(LaneId, u64)> {
        self.newest_records_where(|_, _, _| true)
    }

    /// The same of some lanes: `wanted` is asked with a lane, what its set is for, and how many lanes that has.
    pub fn newest_records_where(
        &self,
        wanted: impl FnMut(LaneId, SetKind, usize) -> bool,
    ) -> Vec<(LaneId, u64)> {
        self.directory.newest_records_where(wanted)
    }

    /// Whether a record was acknowledged or dropped, and so everything before it in its lane.
    #[must_use]
    pub fn is_past(&self, lane: LaneId, sequence: u64) -> bool {
        let directory = &self.directory;
        directory.is_past_unread(lane).unwrap_or_else(|| {
            directory.lane(Some(lane.set), lane.index).is_none_or(|lane| lane.is_past(sequence))
        })
    }

    /// Whether its directory could not be read yet, so that nobody knows what it holds; new records are in memory.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.directory.is_unread()
    }

    /// The process ends: what is in memory because the directory cannot be read is sent now, though what that holds is older.
    pub fn send_unread(&self) {
        self.directory.send_unread();
    }

    /// Whether fences were found since the queue was opened, in a directory that could not be read then. As long as nobody has
    /// taken note of them there are no new ones.
    #[must_use]
    pub fn has_untold_fences(&self) -> bool {
        self.directory.has_untold_fences()
    }

    /// They are taken note of.
    pub fn tell_of_fences(&self) {
        self.directory.tell_of_fences();
    }

    /// Appends a finished request body to a lane, written to the segment's file when this returns. Drops the oldest records
    /// of the queue if it is at its bound, unless that is to press back: then whoever scrapes asks [`Queue::has_room`] first.
    ///
    /// A disk that is full costs the oldest records of the largest backlog on it; one that takes nothing at all
    /// makes records live in memory until it does, within a bound. Both are counted and no error.
    ///
    /// # Errors
    /// Where there is no such lane, it is closed, or the body is too large.
    pub fn append(&self, lane: usize, meta: RecordMeta, body: &[u8]) -> Result<(), AppendError> {
        self.append_in(None, lane, meta, body)
    }

    /// Appends to a lane of a set that was made by [`Queue::create_fence`].
    ///
    /// # Errors
    /// As [`Queue::append`].
    pub fn append_to(&self, set: u32, lane: usize, meta: RecordMeta, body: &[u8]) -> Result<(), AppendError> {
        self.append_in(Some(set), lane, meta, body)
    }

    /// Makes a second set of lanes, of which nothing is sent before [`Queue::release`]; the condition is written down with it.
    ///
    /// # Errors
    /// Where the number of lanes is out of range or the disk does not take new directories.
    pub fn create_fence(&self, lanes: usize, condition: &str) -> Result<u32, QueueError> {
        let hold = Hold::Until(condition.to_owned());
        let set = self.directory.create_set(&SetMeta { kind: SetKind::Fence, lanes, hold })?;
        self.directory.upkeep_sets();
        Ok(set)
    }

    /// The condition of a fence is fulfilled: its lanes are sent.
    ///
    /// # Errors
    /// Where there is no such set, or the disk did not take the change: the lanes are sent nevertheless, and
    /// held again after a restart.
    pub fn release(&self, set: u32) -> Result<(), QueueError> {
        self.directory.release(set)
    }

    /// A set takes no more records, and is removed when it is empty.
    pub fn close_set(&self, set: u32) {
        self.directory.close_set(set);
    }

    /// The same at once for a set whose series nobody can tell: what follows in the normal lanes waits until it is empty.
    pub fn send_before_others(&self, set: u32) {
        self.directory.close_set(set);
        self.directory.send_before_others(set);
        self.directory.upkeep_sets();
    }

    /// Whether everything in a set is acknowledged or dropped.
    #[must_use]
    pub fn is_set_empty(&self, set: u32) -> bool {
        self.directory.is_set_empty(set)
    }

    /// All lanes of all sets, kept up to date: each wants a reader.
    #[must_use]
    pub fn lanes(&self) -> watch::Receiver<Vec<LaneId>> {
        self.directory.subscribe()
    }

    /// The reader of a lane. None: there is no such lane, or somebody has its reader.
    #[must_use]
    pub fn reader(&self, lane: LaneId) -> Option<LaneReader> {
        LaneReader::new(self.directory.lane(Some(lane.set), lane.index)?)
    }

    /// What is in the queue and what has happened to it.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        stats::gather(&self.directory)
    }

    /// Samples that are not acknowledged and in memory alone, because the disk takes nothing: they end with the process.
    #[must_use]
    pub fn samples_in_memory(&self) -> u64 {
        let lanes = self.directory.all_lanes();
        lanes.iter().map(|lane| lane.pending_among(lane::Among::Memory).samples).sum()
    }

    /// What is in the queue, and what the last call of this function returned: counters that are published grow by the
    /// difference, so that they go on over a reload, whoever publishes them.
    #[must_use]
    pub fn publish_stats(&self) -> (QueueStats, QueueStats) {
        let mut published = self.directory.published.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that what is returned never goes back.
        let now = self.stats();
        let before = std::mem::replace(&mut *published, now.clone());
        (now, before)
    }

    /// Returns when everything that was appended is on the disk; false where the disk failed.
    pub fn sync(&self) -> bool {
        self.directory.sync()
    }

    fn append_in(
        &self,
        set: Option<u32>,
        index: usize,
        meta: RecordMeta,
        body: &[u8],
    ) -> Result<(), AppendError> {
        if body.len() > RECORD_BODY_BYTES_MAX {
            return Err(AppendError::TooLarge(body.len()));
        }
        let lane = self.directory.lane(set, index).ok_or(AppendError::NoSuchLane(index))?;
        self.append_to_lane(&lane, meta, body)?;
        appending::count_enqueued(&self.directory.shared, &meta, body);
        Ok(())
    }

    /// Gives the number of the record in its lane.
    fn append_to_lane(&self, lane: &Lane, meta: RecordMeta, body: &[u8]) -> Result<u64, AppendError> {
        let shared = &self.directory.shared;
        let bytes = (record::RECORD_HEADER_BYTES + body.len()) as u64;
        self.directory.keep_bound(bytes);
        for _ in 0..MAKE_ROOM_TRIES_MAX {
            match lane.append(meta, body) {
                Ok(sequence) => return Ok(sequence),
                Err(AppendFailure::Closed) => return Err(AppendError::Closed),
                Err(AppendFailure::Later) => break,
                Err(AppendFailure::Disk(error)) => {
                    shared.write_failed("appending a record", &error);
                    if !(volume::is_full(&error) && shared.volume.make_room()) {
                        break;
                    }
                }
            }
        }
        shared.volume.make_memory_room(bytes);
        lane.append_to_memory(meta, body).map_err(|_| AppendError::Closed)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.upkeep = None;
        self.directory.shut();
    }
}
