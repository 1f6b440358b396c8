//! Whatever the queue drops stands in the log.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::sync::Mutex;

use tracing::field::{Field, Visit};
use tracing::span;

use super::super::segment::SEGMENT_HEADER_BYTES;
use super::*;

/// Keeps the lines that are logged while it is the default.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, _metadata: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

/// Runs `act` and gives what it logs.
pub(crate) fn told_by(act: impl FnOnce()) -> Vec<String> {
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), act);
    std::mem::take(&mut *lines.0.lock().unwrap())
}

/// The same of samples that were dropped.
fn drops_told_by(act: impl FnOnce()) -> Vec<String> {
    let mut lines = told_by(act);
    lines.retain(|line| line.contains("the queue has dropped samples"));
    lines
}

fn fill(queue: &Queue, records: usize) {
    (0..records).for_each(|_| queue.append(0, samples(7), &[0; 10_000]).unwrap());
}

const SEGMENT: &str = "/data/prod/set-00000001/lane-000/00000000000000000001.seg";

#[test]
fn records_of_which_nobody_knows_how_many_samples_they_held_stand_in_the_log_with_how_many_they_are() {
    let unknown = |damage: &dyn Fn(&mut [u8])| {
        let world = World::new();
        let queue = world.open(1);
        (0..5).for_each(|_| queue.append(0, samples(7), &[0; 28]).unwrap());
        // Killed: there is no footer.
        world.disk.set_faults(|faults| faults.stop_at = Some(0));
        drop(queue);
        world.disk.revive();
        let mut bytes = world.disk.bytes(Path::new(SEGMENT));
        damage(&mut bytes);
        world.disk.put(Path::new(SEGMENT), &bytes);
        let mut lines = told_by(|| drop(world.open(1)));
        lines.retain(|line| line.contains("is not known"));
        // It has one now.
        assert!(told_by(|| drop(world.open(1))).iter().all(|line| !line.contains("is not known")));
        lines
    };
    let header = |record: usize| SEGMENT_HEADER_BYTES as usize + record * 100 + 20;
    let is_told = |lines: &[String], records: usize| {
        lines.len() == 1 && lines[0].contains(&format!("records={records} "))
    };
    assert!(unknown(&|_| ()).is_empty());
    assert!(unknown(&|bytes| bytes[header(2) + 70] ^= 1).is_empty(), "a body: its header tells");
    assert!(is_told(&unknown(&|bytes| bytes[header(0)] ^= 1), 1));
    let two = unknown(&|bytes| [2, 3].map(header).iter().for_each(|at| bytes[*at] ^= 1));
    assert!(is_told(&two, 2), "{two:?}");
}

#[test]
fn every_reason_to_drop_samples_stands_in_the_log_with_how_many() {
    type Lose = fn(&mut World);
    let lose: [(DropReason, Lose); 7] = [
        (DropReason::Size, |world| {
            world.settings.max_bytes = 100_000;
            fill(&world.open(1), 20);
        }),
        (DropReason::Age, |world| {
            let queue = world.open(1);
            fill(&queue, 2);
            world.advance(i64::try_from(world.settings.max_age.as_millis()).unwrap() + 1);
            queue.directory.upkeep();
        }),
        (DropReason::DiskFull, |world| {
            let queue = world.open(1);
            world.disk.set_faults(|faults| faults.capacity = Some(100_000));
            fill(&queue, 20);
        }),
        (DropReason::DiskFailed, |world| {
            let queue = world.open(1);
            world.disk.set_faults(|faults| faults.writes = Some(ErrorKind::ReadOnlyFilesystem));
            fill(&queue, 2);
        }),
        (DropReason::Unreadable, |world| {
            let queue = world.open(1);
            fill(&queue, 2);
            drop(queue);
            let queue = world.open(1);
            world.disk.take_away(Path::new(SEGMENT));
            drain(&mut reader(&queue, 0));
        }),
        (DropReason::Corrupt, |world| {
            let queue = world.open(1);
            fill(&queue, 2);
            drop(queue);
            let mut bad = world.disk.bytes(Path::new(SEGMENT));
            bad[500] ^= 1;
            world.disk.put(Path::new(SEGMENT), &bad);
            drain(&mut reader(&world.open(1), 0));
        }),
        (DropReason::Aside, |world| {
            world.settings.max_bytes = 1_000_000;
            let queue = world.open(1);
            let from = LaneId { set: 1, index: 0 };
            for _ in 0..20 {
                queue.append_aside(from, None, samples(7), &[7; 10_000]).unwrap();
            }
        }),
    ];
    assert_eq!(lose.map(|(reason, _)| reason), DropReason::ALL);
    for (reason, lose) in lose {
        let told = drops_told_by(|| lose(&mut World::new()));
        assert!(!told.is_empty(), "{reason:?}");
        let field = format!("reason=\"{}\"", reason.as_str());
        let samples = told.iter().filter_map(|line| line.split_once("samples=")?.1.split(' ').next());
        let samples: u64 = samples.map(|samples| samples.parse::<u64>().unwrap()).sum();
        assert!(told.iter().all(|line| line.contains(&field)), "{told:?}");
        assert!(samples > 0 && samples.is_multiple_of(7), "{told:?}");
    }
}
