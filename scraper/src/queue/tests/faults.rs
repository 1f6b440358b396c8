//! Disks that run full, fail and are read-only: never an error to who appends, never a loss that is not counted.

use std::io::ErrorKind;

use super::super::limits::{DISK_RETRY_MS, MEMORY_BYTES_MAX};
use super::*;

const BODY_BYTES: usize = 10_000;

fn numbered(number: u32) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(BODY_BYTES, 0);
    body
}

fn numbers(bodies: &[Vec<u8>]) -> Vec<u32> {
    bodies.iter().map(|body| u32::from_le_bytes(body[..4].try_into().unwrap())).collect()
}

fn fill(queue: &Queue, numbers: std::ops::Range<u32>) {
    for number in numbers {
        queue.append(0, samples(1), &numbered(number)).unwrap();
    }
}

/// Small segments, as dropping goes by segments.
fn small_segments() -> World {
    let mut world = World::new();
    world.settings.max_bytes = 1_600_000;
    world
}

#[test]
fn a_full_disk_costs_the_oldest_of_the_largest_backlog() {
    let world = small_segments();
    let large = world.open_as("large", 1);
    let large = large.unwrap();
    let small = world.open_as("small", 1).unwrap();
    fill(&large, 0..40);
    fill(&small, 0..10);
    world.disk.set_faults(|faults| faults.capacity = Some(520_000));
    fill(&small, 10..22);
    assert_eq!(numbers(&drain(&mut reader(&small, 0))), (0..22).collect::<Vec<_>>());
    let left = numbers(&drain(&mut reader(&large, 0)));
    assert_eq!(left, (40 - u32::try_from(left.len()).unwrap()..40).collect::<Vec<_>>());
    let stats = large.stats();
    assert_eq!(stats.dropped(DropReason::DiskFull) + left.len() as u64, 40);
    assert_eq!((small.stats().dropped(DropReason::DiskFull), small.stats().memory_bytes), (0, 0));
    assert!(small.stats().write_errors > 0, "the disk refused what it took later");
}

/// A destination that has got nine records through, and its reader.
fn sent_nine(world: &World) -> (Queue, LaneReader) {
    let live = world.open_as("live", 1).unwrap();
    fill(&live, 0..9);
    let mut sent = reader(&live, 0);
    drain(&mut sent);
    (live, sent)
}

#[test]
fn what_is_acknowledged_is_no_backlog_when_a_disk_is_full() {
    let world = small_segments();
    // It gets everything through, but for the last: its segment takes more records and is the largest.
    let (live, mut sent) = sent_nine(&world);
    fill(&live, 9..10);
    let dead = world.open_as("dead", 1).unwrap();
    fill(&dead, 0..4);
    assert!(live.stats().disk_bytes > 2 * dead.stats().disk_bytes);
    world.disk.set_faults(|faults| faults.capacity = Some(142_000));
    fill(&live, 10..12);
    assert_eq!(live.stats().dropped(DropReason::DiskFull), 0);
    assert!(dead.stats().dropped(DropReason::DiskFull) > 0);
    assert_eq!(numbers(&drain(&mut sent)), [9, 10, 11]);
}

#[test]
fn a_full_disk_takes_back_what_is_acknowledged_before_anything_gives_way() {
    let world = small_segments();
    let (live, mut sent) = sent_nine(&world);
    let dead = world.open_as("dead", 1).unwrap();
    fill(&dead, 0..4);
    world.disk.set_faults(|faults| faults.capacity = Some(132_000));
    fill(&dead, 4..10);
    assert_eq!(dead.stats().dropped(DropReason::DiskFull), 0);
    assert_eq!((dead.stats().memory_bytes, live.stats().disk_bytes), (0, 0));
    fill(&live, 9..10);
    assert_eq!(numbers(&drain(&mut sent)), [9]);
    assert_eq!(numbers(&drain(&mut reader(&dead, 0))), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_has_room_for_a_new_queue_at_the_cost_of_the_largest_backlog() {
    let world = small_segments();
    let old = world.open_as("old", 1).unwrap();
    fill(&old, 0..40);
    world.disk.set_faults(|faults| faults.capacity = Some(400_000));
    let new = world.open_as("new", 1).unwrap();
    fill(&new, 0..3);
    assert!(old.stats().dropped(DropReason::DiskFull) > 0);
    assert_eq!((new.stats().memory_bytes, new.stats().write_errors), (0, 0));
    drop(new);
    let new = world.open_as("new", 1).unwrap();
    assert_eq!(numbers(&drain(&mut reader(&new, 0))), [0, 1, 2]);
}

#[test]
fn a_queue_that_the_disk_does_not_take_begins_in_memory_and_is_made_when_it_does() {
    for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::ReadOnlyFilesystem] {
        let world = World::new();
        // At each of its steps, from the directory on.
        let mut steps = 0;
        loop {
            world.disk.set_faults(|faults| (faults.writes, faults.writes_after) = (Some(kind), steps));
            let name = format!("new-{kind:?}-{steps}");
            let queue = world.open_as(&name, 2).unwrap();
            let failed = queue.stats().write_errors > 0;
            fill(&queue, 0..3);
            let mut read = reader(&queue, 0);
            let mut body = Vec::new();
            let first = read.peek(&mut body).unwrap();
            assert_eq!(numbers(std::slice::from_ref(&body)), [0], "what is in memory is sent");
            read.ack(first.sequence);
            assert!(queue.stats().memory_bytes > 0);
            assert_eq!(queue.stats().pending.samples, 2);
            queue.directory.upkeep();
            assert!(queue.stats().memory_bytes > 0, "nothing has changed");
            world.disk.set_faults(|faults| faults.writes = None);
            world.advance(DISK_RETRY_MS);
            queue.directory.upkeep();
            assert_eq!(queue.stats().memory_bytes, 0, "{kind:?} after {steps}");
            fill(&queue, 3..5);
            drop(read);
            drop(queue);
            let queue = world.open_as(&name, 2).unwrap();
            assert_eq!(numbers(&drain(&mut reader(&queue, 0))), [1, 2, 3, 4], "{kind:?} after {steps}");
            if !failed {
                break;
            }
            steps += 1;
        }
        assert!(steps > 5, "{steps}");
    }
}

#[test]
fn a_queue_in_memory_loses_nothing_to_a_full_disk_and_is_not_put_over_another_ones() {
    let world = World::new();
    world.disk.set_faults(|faults| faults.writes = Some(ErrorKind::StorageFull));
    let queue = world.open(1);
    fill(&queue, 0..20);
    // There is nothing on the disk that could give way for it.
    assert_eq!(queue.stats().dropped(DropReason::DiskFull), 0);
    assert_eq!(queue.stats().pending.samples, 20);
    // Another process, whose disk works.
    let mut other = World { disk: world.disk.clone(), ..World::new() };
    other.settings.max_bytes = 1_600_000;
    world.disk.set_faults(|faults| faults.writes = None);
    let theirs = other.open(1);
    fill(&theirs, 100..103);
    queue.directory.upkeep();
    assert!(queue.stats().memory_bytes > 0 && queue.stats().write_errors > 0);
    drop(theirs);
    queue.directory.upkeep();
    assert!(queue.stats().memory_bytes > 0, "it is not this one's");
    assert_eq!(numbers(&drain(&mut reader(&other.open(1), 0))), [100, 101, 102]);
    assert_eq!(numbers(&drain(&mut reader(&queue, 0))), (0..20).collect::<Vec<_>>());
}

#[test]
fn another_number_of_lanes_that_the_disk_does_not_take_stays_as_it_was() {
    let world = World::new();
    let queue = world.open(2);
    fill(&queue, 0..3);
    drop(queue);
    world.disk.set_faults(|faults| faults.writes = Some(ErrorKind::ReadOnlyFilesystem));
    let queue = world.open(3);
    assert_eq!(queue.lane_count(), 2);
    assert_eq!(numbers(&drain(&mut reader(&queue, 0))), [0, 1, 2]);
}

#[test]
fn a_directory_that_somebody_has_to_mend_is_refused() {
    let world = World::new();
    world.disk.set_faults(|faults| faults.writes = Some(ErrorKind::PermissionDenied));
    assert!(matches!(world.open_as("prod", 1), Err(QueueError::Io { .. })));
}

#[test]
fn a_disk_that_others_fill_sends_records_through_memory_until_there_is_room() {
    let world = small_segments();
    let queue = world.open(1);
    world.disk.set_faults(|faults| faults.capacity = Some(0));
    fill(&queue, 0..20);
    assert!(queue.stats().memory_bytes > 200_000);
    assert_eq!(queue.stats().disk_bytes, 0);
    world.disk.set_faults(|faults| faults.capacity = None);
    world.advance(DISK_RETRY_MS);
    fill(&queue, 20..30);
    queue.directory.upkeep();
    assert_eq!(queue.stats().memory_bytes, 0);
    assert!(queue.stats().disk_bytes > 300_000);
    // What was in memory is on the disk now, in its place.
    world.disk.set_faults(|faults| faults.stop_at = Some(0));
    drop(queue);
    world.disk.revive();
    assert_eq!(numbers(&drain(&mut reader(&world.open(1), 0))), (0..30).collect::<Vec<_>>());
}

#[test]
fn errors_of_every_kind_lose_nothing_that_has_room_in_memory() {
    for kind in [ErrorKind::Other, ErrorKind::ReadOnlyFilesystem, ErrorKind::StorageFull, ErrorKind::NotFound]
    {
        let world = World::new();
        let queue = world.open(1);
        fill(&queue, 0..10);
        world.disk.set_faults(|faults| faults.writes = Some(kind));
        if kind == ErrorKind::StorageFull {
            // There is a backlog that can give way, but nothing can be deleted either.
            drain(&mut reader(&queue, 0));
        }
        fill(&queue, 10..20);
        assert!(queue.stats().write_errors > 0);
        let read = numbers(&drain(&mut reader(&queue, 0)));
        assert_eq!(read.last(), Some(&19), "{kind:?}");
        fill(&queue, 20..25);
        world.advance(DISK_RETRY_MS);
        world.disk.set_faults(|faults| faults.writes = None);
        fill(&queue, 25..30);
        queue.directory.upkeep();
        drop(queue);
        let queue = world.open(1);
        let read = numbers(&drain(&mut reader(&queue, 0)));
        assert_eq!(read, (20..30).collect::<Vec<_>>(), "{kind:?}");
    }
}

#[test]
fn memory_is_bounded_and_what_it_does_not_hold_is_counted() {
    let world = World::new();
    let queue = world.open(1);
    world.disk.set_faults(|faults| faults.writes = Some(ErrorKind::ReadOnlyFilesystem));
    let count = u32::try_from(MEMORY_BYTES_MAX).unwrap() / 10_000 + 500;
    fill(&queue, 0..count);
    let stats = queue.stats();
    assert!(stats.memory_bytes <= MEMORY_BYTES_MAX);
    assert_eq!(stats.dropped(DropReason::DiskFailed) + stats.pending.samples, u64::from(count));
    let read = numbers(&drain(&mut reader(&queue, 0)));
    assert_eq!(read.len() as u64, stats.pending.samples);
    assert_eq!(read.last(), Some(&(count - 1)));
}

#[test]
fn what_is_still_in_memory_at_the_end_is_counted_as_lost() {
    let world = World::new();
    let queue = world.open(1);
    world.disk.set_faults(|faults| faults.writes = Some(ErrorKind::Other));
    fill(&queue, 0..3);
    let directory = Arc::clone(&queue.directory);
    drop(queue);
    assert_eq!(super::super::stats::gather(&directory).dropped(DropReason::DiskFailed), 3);
}

#[test]
fn a_read_only_disk_can_be_opened_and_sent_from() {
    let world = World::new();
    let queue = world.open(1);
    fill(&queue, 0..3);
    drop(queue);
    world.disk.set_faults(|faults| faults.writes = Some(ErrorKind::ReadOnlyFilesystem));
    let queue = world.open(1);
    fill(&queue, 3..5);
    let mut reader = reader(&queue, 0);
    assert_eq!(numbers(&drain(&mut reader)), (0..5).collect::<Vec<_>>());
    // It is writable again: the cursor is written and what could not be deleted is.
    world.disk.set_faults(|faults| faults.writes = None);
    queue.directory.upkeep();
    world.disk.set_faults(|faults| faults.stop_at = Some(0));
    drop((queue, reader));
    world.disk.revive();
    let queue = world.open(1);
    assert_eq!(queue.stats().pending, Pending::default());
    assert!(!world.disk.paths().iter().any(|path| path.extension().is_some_and(|end| end == "seg")));
}

#[test]
fn a_failed_sync_is_counted_and_new_records_go_to_a_new_file() {
    let world = World::new();
    let queue = world.open(1);
    fill(&queue, 0..1);
    world.disk.set_faults(|faults| faults.syncs = Some(ErrorKind::Other));
    queue.directory.upkeep();
    assert!(queue.stats().sync_errors > 0);
    world.disk.set_faults(|faults| faults.syncs = None);
    fill(&queue, 1..2);
    let segments =
        world.disk.paths().iter().filter(|path| path.extension().is_some_and(|end| end == "seg")).count();
    assert_eq!(segments, 2);
    assert_eq!(numbers(&drain(&mut reader(&queue, 0))), [0, 1]);
}

#[test]
fn writes_that_take_a_few_bytes_at_a_time_make_whole_records() {
    let world = World::new();
    world.disk.set_faults(|faults| faults.short_writes = Some(7));
    let queue = world.open(1);
    fill(&queue, 0..3);
    drop(queue);
    assert_eq!(numbers(&drain(&mut reader(&world.open(1), 0))), [0, 1, 2]);
}

#[test]
fn the_policy_always_syncs_before_an_append_returns() {
    let mut world = World::new();
    world.settings.fsync = FsyncPolicy::Always;
    let queue = world.open(1);
    fill(&queue, 0..5);
    world.disk.set_faults(|faults| faults.stop_at = Some(0));
    drop(queue);
    world.disk.cut_power(|| 0);
    assert_eq!(numbers(&drain(&mut reader(&world.open(1), 0))), [0, 1, 2, 3, 4]);
}

#[test]
fn a_power_cut_costs_at_most_what_came_within_the_fsync_interval() {
    let mut world = World::new();
    world.settings.fsync = FsyncPolicy::Interval(Duration::from_secs(1));
    let queue = world.open(1);
    let mut synced = 0;
    for number in 0..100 {
        fill(&queue, number..number + 1);
        world.advance(90);
        // As often as the queue's thread looks, or more often.
        let before = queue.stats().syncs;
        queue.directory.upkeep();
        if queue.stats().syncs > before {
            synced = number + 1;
        }
        assert!(number + 1 - synced <= 12, "{} records wait to be synced", number + 1 - synced);
    }
    fill(&queue, 100..105);
    world.disk.set_faults(|faults| faults.stop_at = Some(0));
    drop(queue);
    world.disk.cut_power(|| 0);
    let read = numbers(&drain(&mut reader(&world.open(1), 0)));
    assert_eq!(read, (0..synced).collect::<Vec<_>>());
    assert!(synced >= 105 - 12 - 5, "{synced}");
}

#[test]
fn what_a_killed_process_left_unsynced_is_synced_by_the_next_one() {
    let mut world = small_segments();
    world.settings.fsync = FsyncPolicy::Interval(Duration::from_secs(1));
    let queue = world.open(1);
    queue.directory.upkeep();
    fill(&queue, 0..20);
    let mut read = reader(&queue, 0);
    let mut body = Vec::new();
    let first = read.peek(&mut body).unwrap();
    read.ack(first.sequence);
    world.disk.set_faults(|faults| faults.stop_at = Some(0));
    drop((queue, read));
    world.disk.revive();
    let queue = world.open(1);
    world.advance(1_000);
    queue.directory.upkeep();
    world.disk.set_faults(|faults| faults.stop_at = Some(0));
    drop(queue);
    world.disk.cut_power(|| 0);
    assert_eq!(numbers(&drain(&mut reader(&world.open(1), 0))), (1..20).collect::<Vec<_>>());
}

#[test]
fn files_are_synced_in_each_interval_however_long_it_is() {
    for interval_ms in [1, 40, 700, 1_000, 1_500, 2_999, 10_000] {
        let mut world = World::new();
        world.settings.fsync = FsyncPolicy::Interval(Duration::from_millis(interval_ms));
        let queue = world.open(1);
        queue.directory.upkeep();
        let mut synced_ms = 0;
        let mut now_ms = 0;
        let mut written = 0;
        while now_ms < interval_ms * 5 {
            fill(&queue, written..written + 1);
            written += 1;
            // As the queue's thread does.
            let pause_ms = queue.directory.upkeep_pause().as_millis() as u64;
            assert!((1..=1_000).contains(&pause_ms), "{pause_ms} ms");
            now_ms += pause_ms;
            world.advance(pause_ms as i64);
            let before = queue.stats().syncs;
            queue.directory.upkeep();
            if queue.stats().syncs > before {
                synced_ms = now_ms;
            }
            assert!(now_ms - synced_ms < interval_ms, "{} ms of {interval_ms}", now_ms - synced_ms);
        }
    }
}

#[test]
fn the_policy_never_leaves_it_to_the_operating_system() {
    let mut world = World::new();
    world.settings.fsync = FsyncPolicy::Never;
    let queue = world.open(1);
    fill(&queue, 0..5);
    world.advance(3_600_000);
    queue.directory.upkeep();
    assert_eq!(queue.stats().syncs, 0);
    // A process that is killed loses nothing all the same.
    world.disk.set_faults(|faults| faults.stop_at = Some(0));
    drop(queue);
    world.disk.revive();
    assert_eq!(numbers(&drain(&mut reader(&world.open(1), 0))), [0, 1, 2, 3, 4]);
}
