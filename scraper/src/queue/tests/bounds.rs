use super::super::limits::SEGMENT_BYTES_MIN;
use super::*;

const BODY_BYTES: usize = 10_000;

fn bounded(max_bytes: u64) -> World {
    let mut world = World::new();
    world.settings.max_bytes = max_bytes;
    world
}

/// A body that tells its number.
fn numbered(number: u32) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(BODY_BYTES, 0);
    body
}

fn numbers(bodies: &[Vec<u8>]) -> Vec<u32> {
    bodies.iter().map(|body| u32::from_le_bytes(body[..4].try_into().unwrap())).collect()
}

#[test]
fn at_its_bound_of_bytes_the_oldest_samples_go_and_are_counted() {
    let world = bounded(500_000);
    let queue = world.open(2);
    for number in 0..100 {
        queue.append((number % 2) as usize, samples(10), &numbered(number)).unwrap();
        assert!(queue.stats().disk_bytes <= 500_000);
        world.advance(1);
    }
    let stats = queue.stats();
    let dropped = stats.dropped(DropReason::Size);
    assert_eq!(dropped + stats.pending.samples, 1000);
    // No coarser than a segment of each lane.
    assert!(stats.disk_bytes + 2 * SEGMENT_BYTES_MIN > 500_000);
    let mut left = numbers(&drain(&mut reader(&queue, 0)));
    left.extend(numbers(&drain(&mut reader(&queue, 1))));
    left.sort_unstable();
    assert_eq!(left.len() as u64 * 10, 1000 - dropped);
    // The oldest went: those of a lane that are left are its newest, and neither lane lost much more than the other.
    let first = u32::try_from(dropped / 10).unwrap();
    assert!(left[0] + 14 > first, "{} is kept though {first} went", left[0]);
    assert_eq!(left.last(), Some(&99));
}

#[test]
fn segments_are_small_where_the_disk_is_or_the_bound_so_that_little_goes_at_a_time() {
    for (max_bytes, capacity, lanes) in
        [(u64::MAX, 8 << 20, 1), (u64::MAX, 8 << 20, 4), (8 << 20, 1 << 40, 1), (8 << 20, 1 << 40, 4)]
    {
        let world = bounded(max_bytes);
        world.disk.set_faults(|faults| faults.capacity = Some(capacity));
        let queue = world.open(lanes);
        let mut before = queue.stats();
        let mut gone = 0;
        for number in 0..2_000 {
            queue.append(number % lanes, samples(1), &numbered(0)).unwrap();
            let now = queue.stats();
            gone = gone.max(before.disk_bytes.saturating_sub(now.disk_bytes));
            before = now;
        }
        assert!(before.pending.samples < 2_000 && before.memory_bytes == 0);
        let most = (8 << 20) / 16;
        assert!(gone > 0 && gone <= most, "{gone} bytes at once, {max_bytes} of {capacity}, {lanes} lanes");
        // With room again they grow.
        world.disk.set_faults(|faults| faults.capacity = None);
        queue.apply_settings(&World::new().settings);
        let segments = || {
            world.disk.paths().iter().filter(|path| path.extension().is_some_and(|end| end == "seg")).count()
        };
        let segments_before = segments();
        for number in 0..200 {
            queue.append(number % lanes, samples(1), &numbered(0)).unwrap();
        }
        assert!(segments() <= segments_before + lanes, "{lanes} lanes");
    }
}

#[test]
fn one_lane_with_an_old_backlog_gives_way_to_fresh_data_of_another() {
    let world = bounded(500_000);
    let queue = world.open(2);
    for number in 0..20 {
        queue.append(0, samples(1), &numbered(number)).unwrap();
    }
    world.advance(1000);
    for number in 0..45 {
        queue.append(1, samples(1), &numbered(number)).unwrap();
    }
    assert_eq!(numbers(&drain(&mut reader(&queue, 1))), (0..45).collect::<Vec<_>>());
    assert!(drain(&mut reader(&queue, 0)).len() < 8);
}

#[test]
fn samples_past_the_bound_of_age_go_and_are_counted() {
    let mut world = World::new();
    world.settings.max_age = Duration::from_secs(160);
    let queue = world.open(1);
    for number in 0..320 {
        queue.append(0, samples(1), &numbered(number)).unwrap();
        world.advance(1000);
        queue.directory.upkeep();
        let oldest = queue.stats().oldest_age.unwrap();
        // A segment spans a sixteenth of the bound.
        assert!(oldest <= Duration::from_secs(172), "{oldest:?}");
    }
    let stats = queue.stats();
    assert_eq!(stats.dropped(DropReason::Age) + stats.pending.samples, 320);
    assert!(stats.pending.samples >= 160);
    // Nothing is appended any more: the segment that takes records is no exception.
    world.advance(200_000);
    queue.directory.upkeep();
    assert_eq!(queue.stats().pending, Pending::default());
    queue.append(0, samples(1), &numbered(1000)).unwrap();
    assert_eq!(numbers(&drain(&mut reader(&queue, 0))), [1000]);
}

#[test]
fn a_record_in_hand_that_is_dropped_counts_once_whatever_becomes_of_it() {
    for delivered in [true, false] {
        let world = bounded(500_000);
        let queue = world.open(1);
        let mut reader = reader(&queue, 0);
        queue.append(0, samples(1), &numbered(0)).unwrap();
        let mut body = Vec::new();
        let info = reader.peek(&mut body).unwrap();
        for number in 1..100 {
            queue.append(0, samples(1), &numbered(number)).unwrap();
        }
        assert!(reader.is_dropped());
        if delivered {
            reader.ack(info.sequence);
        }
        let left = drain(&mut reader).len() as u64;
        assert_eq!(queue.stats().dropped(DropReason::Size) + left + u64::from(delivered), 100);
    }
}

#[test]
fn what_was_dropped_does_not_come_back_after_a_restart() {
    let world = bounded(500_000);
    let queue = world.open(1);
    for number in 0..100 {
        queue.append(0, samples(1), &numbered(number)).unwrap();
    }
    let left = queue.stats().pending.samples;
    drop(queue);
    let queue = world.open(1);
    assert_eq!(queue.stats().pending.samples, left);
    let first = 100 - u32::try_from(left).unwrap();
    assert_eq!(numbers(&drain(&mut reader(&queue, 0))), (first..100).collect::<Vec<_>>());
}

#[test]
fn what_memory_held_while_the_disk_failed_presses_back_until_it_is_sent_and_no_longer() {
    let mut world = World::new();
    world.settings.when_full = promring_model::config::WhenFull::BackPressure;
    let queue = world.open(1);
    let mut reader = reader(&queue, 0);
    world.disk.set_faults(|faults| faults.writes = Some(std::io::ErrorKind::ReadOnlyFilesystem));
    queue.append(0, samples(1), b"a").unwrap();
    assert!(!queue.has_room());
    drain(&mut reader);
    assert!(queue.has_room(), "the disk still takes nothing");
    queue.append(0, samples(1), b"b").unwrap();
    assert_eq!(drain(&mut reader), [b"b"]);
    assert_eq!(queue.stats().dropped_samples.iter().map(|(_, samples)| samples).sum::<u64>(), 0);
}

#[test]
fn a_body_larger_than_the_bound_is_queued_alone() {
    let world = bounded(50_000);
    let queue = world.open(1);
    queue.append(0, samples(1), b"small").unwrap();
    queue.append(0, samples(2), &vec![0; 60_000]).unwrap();
    assert_eq!(queue.stats().pending.records, 1);
    assert_eq!(queue.stats().dropped(DropReason::Size), 1);
}
