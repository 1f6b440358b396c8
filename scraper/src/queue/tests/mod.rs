//! The queue as a whole, on real files and on a simulated disk that fails on command.

mod aside;
mod basics;
mod bounds;
mod damage;
mod disk;
mod faults;
mod inspection;
mod lanes;
pub(crate) mod late;
pub(crate) mod losses;
mod model;
mod removal;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use promring_model::config::{FsyncPolicy, QueueSettings};

use super::shared::Clock;
use super::*;
use disk::Disk;

/// A queue on a simulated disk, with a clock that stands still unless it is told otherwise.
struct World {
    disk: Disk,
    now_ms: Arc<AtomicI64>,
    volume: Volume,
    settings: QueueSettings,
}

impl World {
    fn new() -> Self {
        let settings =
            QueueSettings { fsync: FsyncPolicy::Interval(Duration::ZERO), ..QueueSettings::default() };
        Self {
            disk: Disk::default(),
            now_ms: Arc::new(AtomicI64::new(1_000_000)),
            volume: Volume::new(),
            settings,
        }
    }

    fn open_as(&self, name: &str, lanes: usize) -> Result<Queue, QueueError> {
        let now_ms = Arc::clone(&self.now_ms);
        let clock = Clock::new(move || now_ms.load(Ordering::Relaxed));
        let files = Arc::new(self.disk.clone());
        let dir = Path::new("/data").join(name);
        Queue::open_with(&dir, name, lanes, &self.settings, (files, clock, self.volume.clone()))
    }

    fn open(&self, lanes: usize) -> Queue {
        self.open_as("prod", lanes).unwrap()
    }

    fn advance(&self, ms: i64) {
        self.now_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

fn samples(samples: u32) -> RecordMeta {
    RecordMeta { samples, ..RecordMeta::default() }
}

/// The reader of a lane of the only set.
fn reader(queue: &Queue, lane: usize) -> LaneReader {
    queue.reader(LaneId { set: 1, index: lane }).unwrap()
}

/// Reads and acknowledges everything in a lane.
fn drain(reader: &mut LaneReader) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    let mut body = Vec::new();
    while let Some(info) = reader.peek(&mut body) {
        bodies.push(body.clone());
        reader.ack(info.sequence);
    }
    bodies
}

impl World {
    fn open_file(&self, path: &Path) -> Arc<dyn super::files::File> {
        super::files::Files::open(&self.disk, path).unwrap()
    }
}
