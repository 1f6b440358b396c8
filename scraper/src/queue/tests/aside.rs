//! Lanes aside: how they come and go, what they are bounded by, and that nobody waits for them.

use super::super::inspect::{Depth, inspect};
use super::super::removal;
use super::*;

const DIR: &str = "/data/prod";

fn lane(index: usize) -> LaneId {
    LaneId { set: 1, index }
}

/// Puts records of these samples aside.
fn put_aside(queue: &Queue, from: usize, records: u32, body: &[u8]) {
    for _ in 0..records {
        queue.append_aside(lane(from), None, samples(10), body).unwrap();
    }
}

fn kinds(queue: &Queue) -> Vec<(u32, SetKind, usize)> {
    queue.stats().sets.iter().map(|set| (set.set, set.kind, set.lanes.len())).collect()
}

#[test]
fn what_lies_aside_is_read_and_is_no_backlog() {
    let world = World::new();
    let queue = world.open(3);
    queue.append(1, samples(1), b"normal").unwrap();
    assert!(!queue.holds_aside(lane(1)));
    let lanes = queue.lanes();
    let meta = RecordMeta { samples: 10, maybe_stored: true, ..RecordMeta::default() };
    let place = queue.append_aside(lane(1), None, meta, b"refused").unwrap();
    assert_eq!(place, (LaneId { set: 2, index: 1 }, 1));
    assert_eq!(kinds(&queue), [(1, SetKind::Normal, 3), (2, SetKind::Aside, 3)]);
    assert!(lanes.borrow().contains(&place.0) && queue.is_aside(place.0) && !queue.is_aside(lane(1)));
    assert_eq!([0, 1, 2].map(|index| queue.holds_aside(lane(index))), [false, true, false]);
    let stats = queue.stats();
    assert_eq!((stats.pending.samples, stats.aside.samples, stats.enqueued_samples), (1, 10, 1));
    assert_eq!(stats.enqueued_records, 1, "it was enqueued before");
    assert_eq!(queue.newest_records(), [(lane(1), 1)]);
    let found = inspect(&world.disk, Path::new(DIR), Depth::Bodies).unwrap();
    assert!(found.is_sound() && found.to_string().contains("set 2, aside: "), "{found}");
    assert_eq!(found.pending().samples, 11);
    let mut aside = queue.reader(place.0).unwrap();
    assert!(!queue.is_past(place.0, place.1));
    assert!(aside.peek(&mut Vec::new()).unwrap().meta.maybe_stored);
    assert_eq!(drain(&mut aside), [b"refused"]);
    assert!(queue.is_past(place.0, place.1) && !queue.holds_aside(lane(1)));
}

#[test]
fn a_restart_goes_on_with_what_lies_aside_and_an_empty_set_of_it_goes() {
    let world = World::new();
    let queue = world.open(2);
    put_aside(&queue, 1, 2, b"refused");
    drop(queue);
    // Whether it came from lanes of one number is known no more, so any lane may hold the same series.
    let queue = world.open(4);
    assert_eq!(kinds(&queue), [(2, SetKind::Aside, 2), (3, SetKind::Normal, 4)]);
    let of_newest = |index| LaneId { set: 3, index };
    assert_eq!([0, 1, 2, 3].map(|index| queue.holds_aside(of_newest(index))), [true; 4]);
    let (place, sequence) = queue.append_aside(of_newest(3), None, samples(10), b"more").unwrap();
    assert_eq!((place, sequence), (LaneId { set: 2, index: 1 }, 3));
    assert_eq!(drain(&mut queue.reader(place).unwrap()), [&b"refused"[..], b"refused", b"more"]);
    // Once it is empty it makes room for one of which that is known.
    queue.directory.upkeep();
    assert_eq!(kinds(&queue), [(3, SetKind::Normal, 4)]);
    let (place, _) = queue.append_aside(of_newest(3), None, samples(1), b"new").unwrap();
    assert_eq!(place, LaneId { set: 4, index: 3 });
    assert_eq!([0, 1, 2, 3].map(|index| queue.holds_aside(of_newest(index))), [false, false, false, true]);
    queue.mix_aside();
    assert_eq!([0, 1, 2, 3].map(|index| queue.holds_aside(of_newest(index))), [true; 4]);
    drain(&mut queue.reader(place).unwrap());
    drop(queue);
    assert_eq!(kinds(&world.open(4)), [(3, SetKind::Normal, 4)]);
}

#[test]
fn a_series_stays_in_the_lane_aside_in_which_it_lies_and_is_found_there_from_lanes_of_any_number() {
    let world = World::new();
    drop(world.open(3));
    let queue = world.open(2);
    let of = |set, index| LaneId { set, index };
    let newest = queue.stats().sets.iter().map(|set| set.set).max().unwrap();
    let (first, _) = queue.append_aside(of(newest, 1), None, samples(10), b"one").unwrap();
    assert_eq!([0, 1].map(|index| queue.holds_aside(of(newest, index))), [false, true]);
    queue.set_lanes(3).unwrap();
    let three = queue.stats().sets.iter().filter(|set| set.kind == SetKind::Normal).map(|set| set.set).max();
    let three = three.unwrap();
    let (behind, _) = queue.append_aside(of(three, 2), Some(first), samples(10), b"two").unwrap();
    assert_eq!(behind, first, "behind what lies there");
    assert!([0, 1, 2].iter().all(|index| queue.holds_aside(of(three, *index))));
    queue.set_lanes(2).unwrap();
    let two = queue.stats().sets.iter().filter(|set| set.kind == SetKind::Normal).map(|set| set.set).max();
    assert!(
        [0, 1].iter().all(|index| queue.holds_aside(of(two.unwrap(), *index))),
        "also with as many as before"
    );
}

#[test]
fn the_oldest_gives_way_at_the_bound_of_its_own() {
    let mut world = World::new();
    world.settings.max_bytes = 16 << 20;
    let queue = world.open(2);
    for _ in 0..5 {
        queue.append(0, samples(1), &[1; 1000]).unwrap();
    }
    // A sixteenth is 1 MiB, and so is a segment.
    put_aside(&queue, 0, 150, &[7; 10_000]);
    put_aside(&queue, 1, 5, &[7; 10_000]);
    let stats = queue.stats();
    let dropped = stats.dropped(DropReason::Aside);
    assert!(dropped > 0 && stats.aside.bytes <= 1 << 20, "{stats:?}");
    assert_eq!((dropped + stats.aside.samples, stats.pending.samples), (1550, 5));
    assert_eq!(stats.sets[1].lanes[1].pending.samples, 50, "the newest stay");
    assert_eq!(stats.dropped(DropReason::Size), 0);
}

#[test]
fn acknowledged_segments_go_before_anything_else_does() {
    let mut world = World::new();
    world.settings.max_bytes = 1_000_000;
    let queue = world.open(2);
    let (first, _) = queue.append_aside(lane(0), None, samples(10), &[7; 40_000]).unwrap();
    drain(&mut queue.reader(first).unwrap());
    put_aside(&queue, 1, 1, &[7; 40_000]);
    let stats = queue.stats();
    assert_eq!((stats.aside.samples, stats.dropped(DropReason::Aside)), (10, 0));
}

#[test]
fn at_the_bounds_of_the_queue_and_of_the_disk_it_gives_way_first() {
    let mut world = World::new();
    world.settings.max_bytes = 1_000_000;
    let queue = world.open(1);
    queue.append(0, samples(1), &[1; 95_000]).unwrap();
    put_aside(&queue, 0, 1, &[7; 50_000]);
    for _ in 0..8 {
        queue.append(0, samples(1), &[1; 95_000]).unwrap();
    }
    assert_eq!((queue.stats().aside.samples, queue.stats().dropped(DropReason::Size)), (10, 0));
    queue.append(0, samples(1), &[1; 95_000]).unwrap();
    let stats = queue.stats();
    assert_eq!((stats.aside.samples, stats.dropped(DropReason::Size)), (0, 10), "and it was newer");
    assert_eq!(stats.pending.samples, 10);

    let mut world = World::new();
    // Also where nothing else is dropped.
    world.settings.when_full = promring_model::config::WhenFull::BackPressure;
    let other = world.open_as("other", 1).unwrap();
    let queue = world.open(1);
    for _ in 0..4 {
        other.append(0, samples(1), &[1; 100_000]).unwrap();
    }
    put_aside(&queue, 0, 1, &[7; 50_000]);
    world.disk.set_faults(|faults| faults.capacity = Some(500_000));
    other.append(0, samples(1), &[1; 90_000]).unwrap();
    let stats = queue.stats();
    assert_eq!((stats.aside.samples, stats.dropped(DropReason::DiskFull)), (0, 10));
    assert_eq!((other.stats().pending.samples, other.stats().memory_bytes), (5, 0));
}

#[test]
fn no_scrape_waits_for_what_is_too_old_aside() {
    let mut world = World::new();
    world.settings.when_full = promring_model::config::WhenFull::BackPressure;
    let queue = world.open(1);
    put_aside(&queue, 0, 1, b"refused");
    world.advance(i64::try_from(world.settings.max_age.as_millis()).unwrap() + 1);
    queue.directory.upkeep();
    assert!(queue.has_room());
    assert_eq!((queue.stats().aside.samples, queue.stats().dropped(DropReason::Age)), (0, 10));
}

#[test]
fn a_disk_that_takes_no_lanes_puts_nothing_aside_and_later_memory_does() {
    let world = World::new();
    let queue = world.open(1);
    queue.append(0, samples(1), b"normal").unwrap();
    world.disk.set_faults(|faults| faults.writes = Some(std::io::ErrorKind::ReadOnlyFilesystem));
    assert_eq!(queue.append_aside(lane(0), None, samples(10), b"refused"), None);
    assert_eq!(kinds(&queue), [(1, SetKind::Normal, 1)]);
    world.disk.set_faults(|faults| faults.writes = None);
    put_aside(&queue, 0, 1, b"refused");
    world.disk.set_faults(|faults| faults.writes = Some(std::io::ErrorKind::ReadOnlyFilesystem));
    put_aside(&queue, 0, 1, b"in memory");
    assert_eq!((queue.stats().aside.samples, queue.samples_in_memory()), (20, 10));
    world.disk.set_faults(|faults| faults.writes = None);
    world.advance(2_000);
    queue.directory.upkeep();
    assert_eq!((queue.stats().aside.samples, queue.samples_in_memory()), (20, 0));
}

#[test]
fn a_queue_is_not_deleted_while_anything_lies_aside() {
    let world = World::new();
    let queue = world.open(1);
    put_aside(&queue, 0, 1, b"refused");
    drop(queue);
    assert!(!removal::remove(&world.disk, Path::new(DIR)).unwrap());
    let queue = world.open(1);
    drain(&mut queue.reader(LaneId { set: 2, index: 0 }).unwrap());
    drop(queue);
    assert!(removal::remove(&world.disk, Path::new(DIR)).unwrap());
}
