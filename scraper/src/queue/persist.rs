//! When files are synced, and what else happens about once a second: bounds of age, what a failing disk left to do, metrics.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::cursor::CursorFile;
use super::directory::Directory;
use super::files::File;
use super::lane::{Among, Lane, LaneState, Place, Segment};
use super::shared::{DropReason, Shared, add};

/// A thread that looks after a queue until it is dropped.
#[derive(Debug)]
pub(crate) struct Upkeep {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Upkeep {
    pub(crate) fn start(directory: Arc<Directory>) -> io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("queue".to_owned()).spawn(move || {
            let (stopped, wake) = &*stopped;
            let mut guard = stopped.lock().unwrap_or_else(PoisonError::into_inner);
            while !*guard {
                let pause = directory.upkeep_pause();
                guard = wake.wait_timeout(guard, pause).unwrap_or_else(PoisonError::into_inner).0;
                if !*guard {
                    directory.upkeep();
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // It does nothing that panics; if it did, there is nothing left to save here.
            let _panicked = thread.join();
        }
    }
}

/// Syncs files, and the directory if names were added. Returns whether all of it worked.
pub(crate) fn sync_all<'f>(
    shared: &Shared,
    dir: &Path,
    files: impl Iterator<Item = &'f dyn File>,
    dir_too: bool,
) -> bool {
    let mut good = true;
    for file in files {
        good &= timed(shared, || file.sync());
    }
    if dir_too {
        good &= timed(shared, || shared.files.sync_dir(dir));
    }
    good
}

fn timed(shared: &Shared, sync: impl FnOnce() -> io::Result<()>) -> bool {
    let begun = Instant::now();
    let synced = sync();
    let elapsed = begun.elapsed();
    shared.sync_seconds.record(elapsed);
    add(&shared.counters.syncs, 1);
    add(&shared.counters.sync_us, u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX));
    if let Err(error) = &synced {
        shared.sync_failed(error);
    }
    synced.is_ok()
}

impl Lane {
    /// Brings everything that was written to the disk. Nobody waits for the disk meanwhile.
    pub(crate) fn sync(&self) -> bool {
        let mut state = self.lock();
        let segments = std::mem::take(&mut state.unsynced);
        let cursor = std::mem::take(&mut state.cursor_unsynced);
        let cursor_file = state.cursor_file.as_ref().filter(|_| cursor).map(CursorFile::file);
        let dir = std::mem::take(&mut state.dir_unsynced);
        drop(state);
        let files = segments.iter().map(|(_, file)| &**file).chain(cursor_file.as_deref());
        let synced = sync_all(&self.shared, &self.dir, files, dir);
        if !synced {
            let mut state = self.lock();
            state.cursor_unsynced |= cursor;
            state.dir_unsynced |= dir;
            self.sync_failed(&mut state, segments);
        }
        synced
    }

    /// Syncs the segments under the lane's lock, for the policy that wants that.
    pub(crate) fn sync_segments(&self, state: &mut LaneState) {
        let segments = std::mem::take(&mut state.unsynced);
        let dir = std::mem::take(&mut state.dir_unsynced);
        if !sync_all(&self.shared, &self.dir, segments.iter().map(|(_, file)| &**file), dir) {
            state.dir_unsynced |= dir;
            self.sync_failed(state, segments);
        }
    }

    /// What a failed sync leaves in the page cache may never reach the disk, and the next sync of the file may say that all is
    /// well: so new records go to a new file. Syncing the old one again does no harm and often helps.
    fn sync_failed(&self, state: &mut LaneState, mut segments: Vec<(u64, Arc<dyn File>)>) {
        self.finish_writer(state);
        segments.retain(|(base, _)| state.segments.iter().any(|segment| segment.base == *base));
        segments.retain(|(base, _)| state.unsynced.iter().all(|(known, _)| known != base));
        state.unsynced.splice(..0, segments);
    }

    /// Does what a failing disk kept from being done.
    pub(crate) fn retry_disk(&self) {
        let mut state = self.lock();
        if state.unmade {
            return;
        }
        if state.cursor_unwritten {
            self.open_cursor_file(&mut state);
            if state.cursor_file.is_some() {
                self.write_cursor(&mut state);
            }
        }
        let files = &self.shared.files;
        state
            .garbage
            .retain(|path| files.remove(path).is_err_and(|error| error.kind() != io::ErrorKind::NotFound));
        state.to_put_aside.retain(|path| self.rename_aside(path).is_err());
        if state.segments.iter().any(Segment::is_in_memory) {
            self.write_memory_out(&mut state);
        }
    }

    /// The process ends: what is still in memory is lost.
    pub(crate) fn lose_memory(&self) {
        while self.drop_oldest(DropReason::DiskFailed, Among::Memory) {}
    }

    /// Brings the segments in memory to the disk, oldest first, as long as it takes them.
    fn write_memory_out(&self, state: &mut LaneState) {
        if state.segments.back().is_some_and(Segment::is_in_memory) {
            state.writer = None;
        }
        let now_ms = self.shared.clock.now_ms();
        for segment in &mut state.segments {
            let Place::Memory(memory) = &segment.place else { continue };
            let path = self.segment_path(segment.base);
            let written = self.shared.files.create(&path).and_then(|file| {
                file.write_all_at(&memory.bytes(), 0)?;
                super::segment::finish(&*file, &segment.summary, segment.end)?;
                Ok(file)
            });
            match written {
                Ok(file) => {
                    self.account(segment, 0);
                    segment.place = Place::Disk;
                    self.account(segment, segment.end + super::segment::FOOTER_BYTES as u64);
                    state.unsynced.push((segment.base, file));
                    state.garbage.retain(|garbage| *garbage != path);
                    state.dir_unsynced = true;
                }
                Err(error) => {
                    self.shared.write_failed("writing out what is in memory", &error);
                    // A half of it would be read after a restart as if it were all: good as far as it goes, so it may
                    // stay if it cannot be deleted.
                    if self.shared.files.remove(&path).is_err() {
                        state.garbage.push(path);
                    }
                    state.disk_retry_ms = now_ms + super::limits::DISK_RETRY_MS;
                    return;
                }
            }
        }
    }
}
