//! Directories that cannot be read when their queue is opened.

use super::super::inspect::Depth;
use super::super::limits::{MEMORY_BYTES_MAX, READ_TRIES_MAX, UNREAD_HOLD_MS};
use super::*;

const OLD: LaneId = LaneId { set: 1, index: 0 };

/// The set that begins in memory: the clock's seconds.
const NEW: LaneId = LaneId { set: 1_000, index: 0 };

fn append(queue: &Queue, bodies: &[&[u8]]) {
    for body in bodies {
        queue.append(0, samples(1), body).unwrap();
    }
}

fn drain_of(queue: &Queue, lane: LaneId) -> Vec<Vec<u8>> {
    drain(&mut queue.reader(lane).unwrap())
}

/// A queue of one lane whose directory cannot be read, with a fence in it and in that a sample. The function mends the disk.
pub(crate) fn unread(condition: &str) -> (Queue, impl Fn(&Queue) + use<>) {
    let world = World::new();
    let queue = world.open(1);
    let fence = queue.create_fence(1, condition).unwrap();
    queue.append_to(fence, 0, samples(1), b"fenced").unwrap();
    drop(queue);
    fails_after(&world, 0);
    let queue = world.open(1);
    let mend = move |queue: &Queue| {
        works(&world);
        queue.directory.upkeep();
    };
    (queue, mend)
}

/// A queue of an earlier process, with two records of which the first is acknowledged, and a fence with one.
fn left_behind() -> World {
    let world = World::new();
    let queue = world.open(2);
    append(&queue, &[b"sent", b"old"]);
    let mut read = queue.reader(OLD).unwrap();
    let first = read.peek(&mut Vec::new()).unwrap();
    read.ack(first.sequence);
    let fence = queue.create_fence(2, "hand-over 7").unwrap();
    queue.append_to(fence, 0, samples(1), b"fenced").unwrap();
    drop((queue, read));
    world
}

fn fails_after(world: &World, looks: u64) {
    let looks = world.disk.looks() + looks;
    world.disk.set_faults(|faults| faults.looks_after = Some(looks));
}

fn works(world: &World) {
    world.disk.set_faults(|faults| faults.looks_after = None);
}

#[test]
fn a_directory_that_cannot_be_read_is_taken_up_when_it_can_and_sent_first() {
    // From the first look at it to the last one that opening takes.
    let mut looks = 0;
    loop {
        let world = left_behind();
        fails_after(&world, looks);
        let queue = world.open(2);
        if !queue.stats().unread {
            break;
        }
        append(&queue, &[b"new"]);
        assert!(drain_of(&queue, NEW).is_empty(), "it is not sent before what was there");
        assert!(!queue.is_past(queue.newest_records()[0].0, 0), "nobody knows what is not sent");
        queue.directory.upkeep();
        assert!(queue.is_unread() && queue.create_fence(2, "hand-over 8").is_err());
        works(&world);
        let unread = queue.newest_records()[0];
        queue.directory.upkeep();
        let stats = queue.stats();
        assert_eq!((stats.unread, stats.memory_bytes), (false, 0), "{looks}");
        assert_eq!(stats.pending.samples, 3, "{looks}");
        append(&queue, &[b"newer"]);
        assert!(drain_of(&queue, NEW).is_empty(), "{looks}");
        assert!(!queue.is_past(unread.0, unread.1));
        // Whether the process goes on or another one does.
        let queue = if looks % 2 == 0 {
            queue
        } else {
            drop(queue);
            world.open(2)
        };
        assert_eq!(drain_of(&queue, OLD), [b"old"], "{looks}");
        assert_eq!(drain_of(&queue, NEW), [&b"new"[..], b"newer"], "{looks}");
        if looks % 2 == 0 {
            assert!(queue.is_past(unread.0, unread.1));
            assert!(queue.has_untold_fences() && queue.create_fence(2, "hand-over 8").is_err());
            queue.tell_of_fences();
        }
        let fence = queue.stats().sets.into_iter().find(|set| set.kind == SetKind::Fence).unwrap();
        assert_eq!(fence.hold, Hold::Until("hand-over 7".to_owned()), "{looks}");
        queue.release(fence.set).unwrap();
        assert_eq!(drain_of(&queue, LaneId { set: fence.set, index: 0 }), [b"fenced"], "{looks}");
        assert!(queue.create_fence(2, "hand-over 8").is_ok());
        drop(queue);
        assert_eq!(world.open(2).stats().pending, Pending::default(), "{looks}");
        looks += 1;
    }
    assert!(looks > 15, "{looks}");
}

#[test]
fn what_is_in_memory_is_sent_before_it_would_be_too_late_or_too_much() {
    let fill: Vec<u8> = vec![0; 1 << 20];
    for (case, due) in [("time", true), ("memory", true), ("end", true), ("", false)] {
        let world = left_behind();
        fails_after(&world, 0);
        let queue = world.open(2);
        append(&queue, &[b"new"]);
        match case {
            "time" => world.advance(UNREAD_HOLD_MS),
            "memory" => (0..MEMORY_BYTES_MAX >> 21).for_each(|_| append(&queue, &[&fill])),
            "end" => queue.send_unread(),
            _ => world.advance(UNREAD_HOLD_MS - 1),
        }
        queue.directory.upkeep();
        assert_eq!(drain_of(&queue, NEW).first().is_some_and(|first| first == b"new"), due, "{case}");
        if due {
            // What is there is not forgotten, and holds nothing up: its place is lost.
            append(&queue, &[b"newer"]);
            works(&world);
            queue.directory.upkeep();
            assert_eq!(drain_of(&queue, NEW), [b"newer"], "{case}");
            assert_eq!(drain_of(&queue, OLD), [b"old"], "{case}");
        }
        assert_eq!(queue.stats().dropped_samples.iter().map(|(_, samples)| samples).sum::<u64>(), 0);
    }
}

#[test]
fn a_file_that_stays_unreadable_holds_a_directory_up_for_some_tries_only() {
    let world = left_behind();
    let segment = Path::new("/data/prod/set-00000001/lane-000/00000000000000000001.seg");
    world.disk.set_faults(|faults| faults.unreadable = Some(segment.to_owned()));
    let queue = world.open(2);
    let mut rounds = 0;
    while queue.is_unread() {
        append(&queue, &[b"new"]);
        queue.directory.upkeep();
        rounds += 1;
    }
    assert_eq!(rounds, READ_TRIES_MAX);
    let look = || super::super::inspect::inspect(&world.disk, Path::new("/data/prod"), Depth::Index).unwrap();
    assert!(!look().is_sound() && look().to_string().contains("put aside"));
    // Its lanes are done with, and it is still there for whoever can read it.
    let aside = Path::new("/data/prod/set-00000001.unreadable/lane-000/00000000000000000001.seg.unreadable");
    assert!(world.disk.paths().contains(&aside.to_owned()), "{:?}", world.disk.paths());
    assert_eq!(drain_of(&queue, NEW).len(), READ_TRIES_MAX as usize, "its lane goes on");
    drop(queue);
    drop(world.open(2));
    assert!(world.disk.paths().contains(&aside.to_owned()));
}

#[test]
fn a_disk_that_gives_names_and_nothing_else_is_waited_for_however_long_it_takes() {
    let world = left_behind();
    let segment = Path::new("/data/prod/set-00000001/lane-000/00000000000000000001.seg");
    world.disk.set_faults(|faults| {
        (faults.unreadable, faults.names_stuck) = (Some(segment.to_owned()), true);
    });
    let queue = world.open(2);
    append(&queue, &[b"new"]);
    for _ in 0..3 * READ_TRIES_MAX {
        queue.directory.upkeep();
        assert!(queue.is_unread());
    }
    world.disk.set_faults(|faults| (faults.unreadable, faults.names_stuck) = (None, false));
    queue.directory.upkeep();
    assert_eq!(drain_of(&queue, OLD), [b"old"]);
    assert_eq!(drain_of(&queue, NEW), [b"new"]);
}

#[test]
fn a_directory_that_another_process_uses_meanwhile_is_left_to_it_and_taken_up_after_it() {
    let world = left_behind();
    fails_after(&world, 0);
    let queue = world.open(2);
    append(&queue, &[b"new"]);
    works(&world);
    let theirs = World { disk: world.disk.clone(), ..World::new() }.open(2);
    queue.directory.upkeep();
    assert!(queue.is_unread());
    assert_eq!(drain_of(&theirs, OLD), [b"old"]);
    drop(theirs);
    queue.directory.upkeep();
    assert!(!queue.is_unread());
    assert_eq!(drain_of(&queue, NEW), [b"new"]);
    drop(queue);
    assert_eq!(world.open(2).stats().pending.samples, 1, "the fence");
}

#[test]
fn a_number_of_a_set_that_is_in_use_is_not_used_twice() {
    let world = left_behind();
    world.advance(9_000_000);
    fails_after(&world, 0);
    let queue = world.open(2);
    append(&queue, &[b"first"]);
    works(&world);
    queue.directory.upkeep();
    drop(queue);
    // The clock is set back.
    world.advance(-9_000_000);
    fails_after(&world, 0);
    let queue = world.open(2);
    append(&queue, &[b"second"]);
    works(&world);
    queue.directory.upkeep();
    assert!(queue.is_unread());
    queue.send_unread();
    assert_eq!(drain_of(&queue, NEW), [b"second"], "it goes on from memory");
    drop(queue);
    let queue = world.open(2);
    assert_eq!(drain_of(&queue, OLD), [b"old"]);
    assert_eq!(drain_of(&queue, LaneId { set: 10_000, index: 0 }), [b"first"]);
}

#[test]
fn what_somebody_has_to_mend_is_an_error_at_the_start() {
    let world = left_behind();
    world.disk.put(Path::new("/data/prod/meta"), b"somebody else's");
    assert!(matches!(world.open_as("prod", 2), Err(QueueError::Foreign { .. })));
}
