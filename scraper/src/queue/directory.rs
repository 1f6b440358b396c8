//! The directory of a queue: sets of lanes that come and go, the bounds over all of them, and upkeep.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use promring_model::config::{FsyncPolicy, QueueSettings};
use tokio::sync::watch;

use super::QueueError;
use super::aside::drop_oldest_of;
use super::files::Files;
use super::ground::{Found, Ground};
use super::lane::{Among, Lane, LaneId};
use super::late::Late;
use super::limits::{DESTINATION_BYTES_MAX, LANES_MAX, ROOM_SHARE};
use super::losses::Losses;
use super::making::open_sets;
use super::meta::{Hold, SetKind, SetMeta};
use super::shared::{Bounds, Clock, Counters, DropReason, Shared};
use super::stats::QueueStats;
use super::volume::Volume;
use crate::news::News;

/// Longest pause between two rounds of upkeep.
const ROUND_MAX: Duration = Duration::from_secs(1);

/// A queue's directory.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) shared: Arc<Shared>,
    pub(super) dir: PathBuf,
    pub(super) sets: RwLock<BTreeMap<u32, Set>>,
    lanes_changed: watch::Sender<Vec<LaneId>>,
    last_sync_ms: AtomicI64,
    /// What was published last.
    pub(crate) published: Mutex<QueueStats>,
    /// What is to be known of a directory that could not be read when it was opened.
    pub(super) late: Mutex<Option<Late>>,
    /// Held by whoever makes lanes aside.
    pub(super) making_aside: Mutex<()>,
}

/// A set of lanes.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) meta: SetMeta,
    pub(crate) lanes: Vec<Arc<Lane>>,
    pub(crate) closed: bool,
    /// Whether it has a directory. One that has none lives in memory.
    pub(super) made: bool,
    /// Of lanes aside: not all that is in one of them was in the lane of the same number, as far as is known.
    pub(super) is_mixed: AtomicBool,
}

impl Directory {
    /// Opens a directory or makes it; records go to `lanes` lanes.
    pub(crate) fn open(
        dir: &Path,
        destination: &str,
        lanes: usize,
        settings: &QueueSettings,
        (files, clock, volume): (Arc<dyn Files>, Clock, Volume),
    ) -> Result<Arc<Self>, QueueError> {
        if !(1..=LANES_MAX).contains(&lanes) {
            return Err(QueueError::Lanes { lanes });
        }
        if destination.len() > DESTINATION_BYTES_MAX {
            return Err(QueueError::Name { bytes: destination.len() });
        }
        let mut ground = Ground::default();
        let laid = volume.with_room(|| ground.lay(&*files, dir, destination));
        let found = laid.map(Found::Names).or_else(|error| ground.without(error, &*files, dir))?;
        let shared = Arc::new(Shared {
            destination: destination.to_owned(),
            files,
            clock,
            volume: volume.clone(),
            bounds: RwLock::new(Bounds::new(settings, lanes, u64::MAX)),
            counters: Counters::default(),
            losses: Losses::default(),
            bad_records: News::default(),
            write_errors: News::default(),
            read_errors: News::default(),
            sync_errors: News::default(),
            sync_seconds: metrics::histogram!(
                "promring_queue_fsync_duration_seconds",
                "remote_name" => destination.to_owned()
            ),
            disk_bytes: AtomicU64::new(0),
            memory_bytes: AtomicU64::new(0),
            overaged: AtomicBool::new(false),
            ground: Mutex::new(ground),
            patient: AtomicBool::new(true),
        });
        let opened = match found {
            Found::Names(names) => open_sets(&shared, dir, &names).map(|sets| (sets, None)),
            Found::Unlaid(names, error) => open_sets(&shared, dir, &names).map(|sets| (sets, Some(error))),
            Found::Unread(error) => Err(error),
        };
        let (sets, begun) = match opened {
            Ok((sets, unlaid)) => (sets, Ok(unlaid)),
            Err(error) if error.is_of_sick_disk() => (BTreeMap::new(), Err(error)),
            Err(error) => return Err(error),
        };
        let directory = Arc::new(Self {
            shared,
            dir: dir.to_owned(),
            sets: RwLock::new(sets),
            lanes_changed: watch::Sender::new(Vec::new()),
            last_sync_ms: AtomicI64::new(0),
            published: Mutex::default(),
            late: Mutex::default(),
            making_aside: Mutex::default(),
        });
        // Before it needs room itself.
        volume.join(Arc::downgrade(&directory));
        match begun {
            Ok(unlaid) => directory.begin(lanes, unlaid)?,
            Err(error) => directory.begin_unread(lanes, &error),
        }
        directory.size_segments();
        Ok(directory)
    }

    /// The lane of a set; None: the newest normal set.
    pub(crate) fn lane(&self, set: Option<u32>, index: usize) -> Option<Arc<Lane>> {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        let set = match set {
            Some(id) => sets.get(&id)?,
            None => newest_normal(&sets)?.1,
        };
        set.lanes.get(index).cloned()
    }

    /// How many lanes take records.
    pub(crate) fn lane_count(&self) -> usize {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        newest_normal(&sets).map_or(0, |(_, set)| set.lanes.len())
    }

    /// Which lanes there are, and when that changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Vec<LaneId>> {
        self.lanes_changed.subscribe()
    }

    /// From now on records go to `lanes` lanes.
    pub(crate) fn set_lanes(&self, lanes: usize) -> Result<(), QueueError> {
        if !(1..=LANES_MAX).contains(&lanes) {
            return Err(QueueError::Lanes { lanes });
        }
        let newest = {
            let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
            newest_normal(&sets).map(|(id, set)| (id, set.lanes.len()))
        };
        match newest {
            Some((_, count)) if count == lanes => {}
            Some((id, _)) => {
                self.create_set(&SetMeta { kind: SetKind::Normal, lanes, hold: Hold::After(id) })?;
            }
            None => {
                self.create_set(&SetMeta { kind: SetKind::Normal, lanes, hold: Hold::None })?;
            }
        }
        // In this order: whether an old lane is empty is asked when it cannot fill any more.
        self.close_superseded();
        self.upkeep_sets();
        self.size_segments();
        Ok(())
    }

    /// The condition of a set is fulfilled.
    pub(crate) fn release(&self, id: u32) -> Result<(), QueueError> {
        let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
        let set = sets.get_mut(&id).ok_or(QueueError::NoSuchSet { set: id })?;
        set.meta.hold = Hold::None;
        let path = self.dir.join(set_name(id)).join("meta");
        for lane in &set.lanes {
            lane.held.store(false, Ordering::Release);
            lane.notify.notify_one();
        }
        self.shared
            .files
            .replace(&path, set.meta.encode().as_bytes())
            .map_err(|source| QueueError::Io { path, source })
    }

    /// A set takes no more records, and goes when it is empty.
    pub(crate) fn close_set(&self, id: u32) {
        let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = sets.get_mut(&id).filter(|set| !set.closed) {
            set.closed = true;
            for lane in &set.lanes {
                lane.close();
            }
        }
    }

    /// Calls `look` with every set.
    pub(crate) fn for_each_set(&self, mut look: impl FnMut(u32, &Set)) {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        for (id, set) in sets.iter() {
            look(*id, set);
        }
    }

    /// All lanes of all sets.
    pub(crate) fn all_lanes(&self) -> Vec<Arc<Lane>> {
        self.lanes_where(|_| true)
    }

    /// All lanes of some sets.
    pub(super) fn lanes_where(&self, wanted: impl Fn(&Set) -> bool) -> Vec<Arc<Lane>> {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        sets.values().filter(|set| wanted(set)).flat_map(|set| set.lanes.iter().cloned()).collect()
    }

    /// Drops the oldest segment of the queue, of what lies aside first. Returns whether there was one.
    pub(crate) fn drop_oldest(&self, reason: DropReason, among: Among) -> bool {
        self.drop_aside(reason, among) || drop_oldest_of(&self.all_lanes(), reason, among)
    }

    /// Bytes on the disk that are not acknowledged.
    pub(crate) fn backlog_on_disk(&self) -> u64 {
        self.all_lanes().iter().map(|lane| lane.pending_among(Among::Disk).bytes).sum()
    }

    /// The same of what lies aside.
    pub(crate) fn aside_on_disk(&self) -> u64 {
        self.aside_lanes().iter().map(|lane| lane.pending_among(Among::Disk).bytes).sum()
    }

    /// Gives segments back of which everything is acknowledged, though they take records. Returns whether there was any.
    pub(crate) fn let_go(&self) -> bool {
        // All of them, not only the first.
        self.all_lanes().iter().filter(|lane| lane.let_go()).count() > 0
    }

    /// Makes room for `bytes` more within the bound of bytes.
    pub(crate) fn keep_bound(&self, bytes: u64) {
        let bounds = self.shared.bounds();
        if bounds.press_back() {
            return;
        }
        while self.shared.held_bytes() + bytes > bounds.settings.max_bytes {
            if !self.drop_oldest(DropReason::Size, Among::All) {
                return;
            }
        }
    }

    /// Whether scrapes may bring more. Always, where the oldest gives way at the bounds.
    pub(crate) fn has_room(&self) -> bool {
        let bounds = self.shared.bounds();
        if !bounds.press_back() {
            return true;
        }
        let in_memory = || self.shared.memory_bytes.load(Ordering::Relaxed) > 0;
        if in_memory() {
            // What is acknowledged there is no reason to wait for the disk.
            self.let_go();
        }
        if self.shared.overaged.load(Ordering::Relaxed) || in_memory() {
            return false;
        }
        // Scrapes that have begun bring theirs, so the last part is for them.
        let max_bytes = bounds.settings.max_bytes;
        let fits = || self.shared.held_bytes() <= max_bytes - max_bytes / ROOM_SHARE;
        fits() || {
            // Segments that wait for more records may hold nothing but acknowledged ones.
            self.let_go();
            fits()
        }
    }

    /// Takes other bounds from now on.
    pub(crate) fn set_bounds(&self, settings: &QueueSettings) {
        let room_bytes = self.room_bytes();
        let bounds = Bounds::new(settings, self.lane_count(), room_bytes);
        *self.shared.bounds.write().unwrap_or_else(PoisonError::into_inner) = bounds;
    }

    /// Fits the size of segments to the lanes and the disk as they are now.
    fn size_segments(&self) {
        let (lanes, room_bytes) = (self.lane_count(), self.room_bytes());
        let mut bounds = self.shared.bounds.write().unwrap_or_else(PoisonError::into_inner);
        *bounds = Bounds::new(&bounds.settings, lanes, room_bytes);
    }

    /// What the disk has for the queue: what that takes already, and what is free.
    fn room_bytes(&self) -> u64 {
        // Where the disk does not say, it will not take much either.
        let free_bytes = self.shared.files.free_bytes(&self.dir).unwrap_or(u64::MAX);
        free_bytes.saturating_add(self.shared.disk_bytes.load(Ordering::Relaxed))
    }

    /// The newest record of each lane that is wanted and holds any. Of lanes aside there is none: nobody waits for them.
    pub(crate) fn newest_records_where(
        &self,
        mut wanted: impl FnMut(LaneId, SetKind, usize) -> bool,
    ) -> Vec<(LaneId, u64)> {
        // What a directory holds that cannot be read is newer than nothing, and older than all else.
        let mut newest: Vec<(LaneId, u64)> =
            self.unread_record().filter(|(lane, _)| wanted(*lane, SetKind::Normal, 1)).into_iter().collect();
        self.for_each_set(|_, set| {
            let lanes = set.lanes.iter().filter(|_| !set.is_aside());
            let lanes = lanes.filter(|lane| wanted(lane.id, set.meta.kind, set.lanes.len()));
            newest.extend(lanes.filter_map(|lane| Some((lane.id, lane.newest_record()?))));
        });
        newest
    }

    /// What a closed set holds goes before what is in the lanes that take records.
    pub(crate) fn send_before_others(&self, id: u32) {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        if let (Some(older), Some((_, newest))) = (sets.get(&id), newest_normal(&sets)) {
            tie(older, newest);
        }
    }

    /// Whether everything in a set is acknowledged or dropped.
    pub(crate) fn is_set_empty(&self, id: u32) -> bool {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        sets.get(&id).is_none_or(|set| set.lanes.iter().all(|lane| lane.is_empty()))
    }

    /// How long it is until [`Directory::upkeep`] has something to do: a second, or less where files are to be synced before.
    pub(crate) fn upkeep_pause(&self) -> Duration {
        // Asked for each time, as a reload may change it.
        let FsyncPolicy::Interval(interval) = self.shared.bounds().settings.fsync else { return ROUND_MAX };
        let since_ms = self.shared.clock.now_ms().saturating_sub(self.last_sync_ms.load(Ordering::Relaxed));
        // Where the clock was set back, a sync is due now.
        let since = u64::try_from(since_ms).map_or(interval, Duration::from_millis);
        interval.saturating_sub(since).clamp(Duration::from_millis(1), ROUND_MAX)
    }

    /// What is due about once a second.
    pub(crate) fn upkeep(&self) {
        let now_ms = self.shared.clock.now_ms();
        let bounds = self.shared.bounds();
        let age = i64::try_from(bounds.settings.max_age.as_millis()).unwrap_or(i64::MAX);
        let before_ms = now_ms.saturating_sub(age);
        let mut overaged = false;
        self.make_what_lacks();
        self.send_late_if_due(now_ms);
        for lane in self.lanes_where(|set| !set.is_aside()) {
            if bounds.press_back() {
                overaged |= lane.pending().oldest_ms.is_some_and(|oldest_ms| oldest_ms < before_ms);
            } else {
                lane.drop_older(before_ms);
            }
            lane.retry_disk();
        }
        for lane in self.aside_lanes() {
            // No scrape waits for what a receiver refuses.
            lane.drop_older(before_ms);
            lane.retry_disk();
        }
        self.shared.overaged.store(overaged, Ordering::Relaxed);
        let due = match bounds.settings.fsync {
            FsyncPolicy::Always => true,
            FsyncPolicy::Interval(interval) => {
                let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
                // A clock that was set back must not stop it.
                !(0..interval).contains(&now_ms.saturating_sub(self.last_sync_ms.load(Ordering::Relaxed)))
            }
            FsyncPolicy::Never => false,
        };
        if due {
            self.last_sync_ms.store(now_ms, Ordering::Relaxed);
            self.sync();
        }
        self.close_empty_aside(true);
        self.upkeep_sets();
        self.size_segments();
        self.shared.tell_losses(false);
    }

    /// Brings everything that was written to the disk. Returns whether that worked.
    pub(crate) fn sync(&self) -> bool {
        // All of them, whatever becomes of one.
        self.all_lanes().iter().filter(|lane| !lane.sync()).count() == 0
    }

    /// Finishes all segments and syncs: nothing is written any more.
    pub(crate) fn shut(&self) {
        self.make_what_lacks();
        let lanes = self.all_lanes();
        for lane in &lanes {
            lane.retry_disk();
            lane.close();
        }
        for lane in &lanes {
            lane.sync();
            lane.lose_memory();
        }
        self.shared.tell_losses(true);
    }

    /// All normal sets but the newest take no more records, and what is empty aside goes.
    pub(super) fn close_superseded(&self) {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        let newest = newest_normal(&sets).map(|(id, _)| id);
        let superseded: Vec<u32> = sets
            .iter()
            .filter(|(id, set)| set.meta.kind == SetKind::Normal && Some(**id) != newest)
            .map(|(id, _)| *id)
            .collect();
        drop(sets);
        for id in superseded {
            self.close_set(id);
        }
        self.close_empty_aside(false);
    }

    /// Removes sets that are closed and empty, ties the others to those that they wait for, and tells who reads lanes.
    pub(crate) fn upkeep_sets(&self) {
        let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
        let done: Vec<u32> = sets
            .iter()
            .filter(|(_, set)| set.closed && set.lanes.iter().all(|lane| lane.is_empty()))
            .map(|(id, _)| *id)
            .collect();
        for id in done {
            if sets.get(&id).is_some_and(|set| !set.made) {
                sets.remove(&id);
                continue;
            }
            let path = self.dir.join(set_name(id));
            let aside = sets.get(&id).is_some_and(|set| set.lanes.iter().any(|lane| lane.has_put_aside()));
            let end = if aside { "unreadable" } else { "gone" };
            let gone = self.dir.join(format!("{}.{end}", set_name(id)));
            if let Err(error) = self.shared.files.rename(&path, &gone) {
                // It stays, empty, and is tried again.
                self.shared.write_failed("removing a set of lanes", &error);
                continue;
            }
            sets.remove(&id);
            if aside {
                tracing::warn!(
                    destination = self.shared.destination,
                    dir = %gone.display(),
                    "lanes are done with and not deleted, as segments lie there that could not be read"
                );
            } else if let Err(error) = self.shared.files.remove_dir(&gone) {
                self.shared.write_failed("removing a set of lanes", &error);
            }
        }
        for set in sets.values() {
            if let Hold::After(older) = set.meta.hold
                && let Some(older) = sets.get(&older)
            {
                tie(older, set);
            }
        }
        let lanes: Vec<LaneId> = sets.values().flat_map(|set| set.lanes.iter().map(|lane| lane.id)).collect();
        drop(sets);
        self.lanes_changed.send_if_modified(|known| {
            let changed = *known != lanes;
            *known = lanes;
            changed
        });
    }
}

/// Lane j of `newer` waits for those lanes of `older` that may hold the same series.
fn tie(older: &Set, newer: &Set) {
    let common = gcd(older.lanes.len(), newer.lanes.len());
    for (at, lane) in newer.lanes.iter().enumerate() {
        let mut waits_for = lane.waits_for.lock().unwrap_or_else(PoisonError::into_inner);
        for before in older.lanes.iter().skip(at % common).step_by(common) {
            if waits_for.iter().any(|known| Arc::ptr_eq(known, before)) || before.is_empty() {
                continue;
            }
            waits_for.push(Arc::clone(before));
            let mut successors = before.successors.lock().unwrap_or_else(PoisonError::into_inner);
            successors.push(Arc::downgrade(lane));
            drop(successors);
            // It may have become empty before it knew whom to wake.
            if before.is_empty() {
                lane.notify.notify_one();
            }
        }
    }
}

pub(super) fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

pub(super) fn newest_normal(sets: &BTreeMap<u32, Set>) -> Option<(u32, &Set)> {
    sets.iter().rev().find(|(_, set)| set.meta.kind == SetKind::Normal).map(|(id, set)| (*id, set))
}

pub(super) fn set_name(id: u32) -> String {
    format!("set-{id:08}")
}

pub(super) fn lane_name(index: usize) -> String {
    format!("lane-{index:03}")
}

pub(crate) fn parse_set_name(name: &str) -> Option<u32> {
    let id = name.strip_prefix("set-")?.parse().ok()?;
    (set_name(id) == name).then_some(id)
}

pub(crate) fn parse_lane_name(name: &str) -> Option<usize> {
    let index = name.strip_prefix("lane-")?.parse().ok().filter(|index| *index < LANES_MAX)?;
    (lane_name(index) == name).then_some(index)
}
