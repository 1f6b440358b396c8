//! How sets of lanes come to be: on the disk, or where that takes none, in memory until it does.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};

use super::QueueError;
use super::directory::{Directory, Set, lane_name, parse_lane_name, parse_set_name, set_name};
use super::ground::Ground;
use super::lane::{Lane, LaneId};
use super::limits::{LANES_MAX, META_BYTES_MAX};
use super::meta::{BadMeta, Hold, SetKind, SetMeta};
use super::shared::Shared;
use super::volume;

impl Directory {
    /// Has lanes that take records: on the disk, or where that takes none, in memory until it does.
    pub(super) fn begin(&self, lanes: usize, unlaid: Option<QueueError>) -> Result<(), QueueError> {
        let made = unlaid.map_or_else(|| self.set_lanes(lanes), Err);
        let source = match made {
            Err(QueueError::Io { source, .. }) if volume::is_sick(&source) => source,
            made => return made,
        };
        self.shared.write_failed("making its lanes", &source);
        if self.lane_count() == 0 {
            let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
            let id = next_id(&sets);
            sets.insert(id, self.unmade_set(id, lanes));
        }
        self.close_superseded();
        self.upkeep_sets();
        Ok(())
    }

    /// A set of lanes that live in memory.
    pub(super) fn unmade_set(&self, id: u32, lanes: usize) -> Set {
        let dir = self.dir.join(set_name(id));
        let lane = |index| Lane::unmade(&self.shared, LaneId { set: id, index }, dir.join(lane_name(index)));
        let meta = SetMeta { kind: SetKind::Normal, lanes, hold: Hold::None };
        let lanes = (0..lanes).map(lane).collect();
        Set { meta, lanes, closed: false, made: false, is_mixed: AtomicBool::new(false) }
    }

    /// Makes what could not be made when the queue was opened.
    pub(super) fn make_what_lacks(&self) {
        let mut ground = self.ground();
        if self.is_unread()
            && let Err(error) = self.take_up(&mut ground)
        {
            return self.still_unread(&error);
        }
        let mut unmade: Vec<(u32, SetMeta)> = Vec::new();
        self.for_each_set(|id, set| {
            if !set.made {
                unmade.push((id, set.meta.clone()));
            }
        });
        let Shared { files, destination, volume, .. } = &*self.shared;
        let made = if ground.is_laid() {
            Ok(())
        } else {
            volume.with_room(|| ground.lay_later(&**files, &self.dir, destination))
        };
        let made = made.and_then(|()| {
            unmade.iter().try_for_each(|(id, meta)| {
                volume.with_room(|| self.make_set(*id, meta))?;
                let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
                if let Some(set) = sets.get_mut(id) {
                    set.made = true;
                    set.lanes.iter().for_each(|lane| lane.lock().unmade = false);
                }
                Ok(())
            })
        });
        match made {
            Ok(()) => {}
            Err(QueueError::Io { source, .. }) => self.shared.write_failed("making its lanes", &source),
            Err(error) => self.shared.write_failed("making its lanes", &io::Error::other(error.to_string())),
        }
    }

    fn ground(&self) -> MutexGuard<'_, Ground> {
        self.shared.ground.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a set of lanes.
    pub(crate) fn create_set(&self, meta: &SetMeta) -> Result<u32, QueueError> {
        if !(1..=LANES_MAX).contains(&meta.lanes) {
            return Err(QueueError::Lanes { lanes: meta.lanes });
        }
        if !self.ground().is_laid() || self.is_unread() || self.has_untold_fences() {
            let source = io::Error::other("the directory of the queue is not in use yet");
            return Err(QueueError::Io { path: self.dir.clone(), source });
        }
        // Another queue gives way without a lock on this one, or this one does.
        self.shared.volume.with_room(|| {
            let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
            let id = next_id(&sets);
            self.make_set(id, meta)?;
            let set = open_set(&self.shared, id, &self.dir.join(set_name(id)))?;
            sets.insert(id, set);
            Ok(id)
        })
    }

    /// Makes the directory of a set: it appears under its name as a whole or not at all.
    fn make_set(&self, id: u32, meta: &SetMeta) -> Result<(), QueueError> {
        let path = self.dir.join(set_name(id));
        let beside = self.dir.join(format!("{}.tmp", set_name(id)));
        let files = &self.shared.files;
        let made = (|| {
            let wanted = meta.encode();
            // All of it but the last step may have been done before.
            if files
                .read_small(&path.join("meta"), META_BYTES_MAX)
                .is_ok_and(|found| found == wanted.as_bytes())
            {
                return files.sync_dir(&self.dir);
            }
            for index in 0..meta.lanes {
                files.create_dir(&beside.join(lane_name(index)))?;
            }
            files.replace(&beside.join("meta"), wanted.as_bytes())?;
            files.rename(&beside, &path)?;
            files.sync_dir(&self.dir)
        })();
        made.map_err(|source| QueueError::Io { path, source })
    }
}

fn next_id(sets: &BTreeMap<u32, Set>) -> u32 {
    sets.last_key_value().map_or(0, |(id, _)| *id).saturating_add(1)
}

/// Opens the sets that are on the disk: all of those that `names` in the directory tell of, or none.
pub(super) fn open_sets(
    shared: &Arc<Shared>,
    dir: &Path,
    names: &[String],
) -> Result<BTreeMap<u32, Set>, QueueError> {
    let mut sets = BTreeMap::new();
    for name in names {
        if let Some(id) = parse_set_name(name) {
            let opened = open_set(shared, id, &dir.join(name)).inspect_err(|_| {
                // Those before it are closed again, and there is nothing else on the disk.
                shared.disk_bytes.store(0, Ordering::Relaxed);
            });
            sets.insert(id, opened?);
        } else if name.ends_with(".tmp") || name.ends_with(".gone") {
            let path = dir.join(name);
            // Whether it is a file or a directory; if neither works it is tried again at the next start.
            let _later = shared.files.remove(&path).or_else(|_| shared.files.remove_dir(&path));
        }
    }
    Ok(sets)
}

/// Opens a set that is on the disk.
fn open_set(shared: &Arc<Shared>, id: u32, dir: &Path) -> Result<Set, QueueError> {
    let path = dir.join("meta");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| QueueError::Io { path, source }
    };
    let names = shared.files.list(dir).map_err(failed(dir))?;
    let directories = names.iter().filter_map(|name| parse_lane_name(name)).max().map_or(0, |last| last + 1);
    let read = match shared.files.read_small(&path, META_BYTES_MAX) {
        Err(error) if shared.is_patient_with(&error) => return Err(failed(&path)(error)),
        read => read.map_err(|_| BadMeta::Damaged),
    };
    let meta = match read.and_then(|bytes| SetMeta::decode(&bytes)) {
        Ok(meta) => meta,
        Err(BadMeta::Newer(_)) => return Err(QueueError::Newer { path }),
        Err(BadMeta::Foreign | BadMeta::Damaged) => {
            tracing::warn!(file = %path.display(), "a damaged description of lanes: they are sent at once");
            SetMeta { kind: SetKind::Normal, lanes: directories.max(1), hold: Hold::None }
        }
    };
    let mut lanes = Vec::with_capacity(meta.lanes);
    for index in 0..meta.lanes {
        let lane_dir = dir.join(lane_name(index));
        shared.files.create_dir(&lane_dir).map_err(failed(&lane_dir))?;
        let lane = Lane::open(shared, LaneId { set: id, index }, lane_dir)?;
        lane.held.store(matches!(meta.hold, Hold::Until(_)), Ordering::Release);
        lanes.push(lane);
    }
    // Which lanes it came from is not written down.
    let is_mixed = meta.kind == SetKind::Aside && lanes.iter().any(|lane| !lane.is_empty());
    Ok(Set { meta, lanes, closed: false, made: true, is_mixed: AtomicBool::new(is_mixed) })
}
