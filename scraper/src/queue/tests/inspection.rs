use super::super::inspect::{Depth, inspect};
use super::*;

const DIR: &str = "/data/prod";

fn look(world: &World) -> Inspection {
    inspect(&world.disk, Path::new(DIR), Depth::Bodies).unwrap()
}

#[test]
fn an_inspection_tells_what_is_pending_and_changes_nothing() {
    let world = World::new();
    let queue = world.open(2);
    for samples_ in [10, 20, 30] {
        queue.append(1, samples(samples_), b"body").unwrap();
    }
    let mut reader = reader(&queue, 1);
    reader.peek(&mut Vec::new()).unwrap();
    reader.ack(1);
    reader.peek(&mut Vec::new()).unwrap();
    reader.mark(2);
    let (calls, stats) = (world.disk.calls(), queue.stats());
    // Beside a running process, and after it.
    let beside = look(&world);
    assert_eq!(world.disk.calls(), calls);
    let lane = &beside.sets[0].lanes[1];
    assert_eq!(lane.pending, stats.pending);
    assert_eq!((lane.acknowledged, lane.in_flight, lane.good_records, lane.bad_records), (1, Some(2), 3, 0));
    assert_eq!(beside.destination.as_deref(), Some("prod"));
    assert!(beside.is_sound());
    drop((queue, reader));
    assert_eq!(look(&world).sets[0].lanes[1].pending, stats.pending);
    let text = look(&world).to_string();
    assert!(
        text.contains("queue of prod") && text.contains("a request of records 2 to 2 was in flight"),
        "{text}"
    );
}

#[test]
fn the_index_tells_what_is_pending_without_a_look_at_any_body() {
    let mut world = World::new();
    world.settings.max_bytes = 1_000_000;
    let queue = world.open(1);
    for _ in 0..30 {
        queue.append(0, samples(2), &[7; 10_000]).unwrap();
    }
    let mut reader = reader(&queue, 0);
    for _ in 0..8 {
        let info = reader.peek(&mut Vec::new()).unwrap();
        reader.ack(info.sequence);
    }
    let pending = queue.stats().pending;
    assert_eq!(pending.samples, 44);
    for closed in [false, true] {
        if closed {
            reader.ack(0);
        }
        let index = inspect(&world.disk, Path::new(DIR), Depth::Index).unwrap();
        assert_eq!(index.pending(), pending);
        assert_eq!(index.sets[0].lanes[0].good_records, 0);
        assert_eq!(look(&world).pending(), pending);
    }
}

#[test]
fn an_inspection_finds_every_flipped_bit_of_a_record() {
    let world = World::new();
    let queue = world.open(1);
    queue.append(0, samples(1), b"first").unwrap();
    queue.append(0, samples(1), b"second").unwrap();
    drop(queue);
    let path = Path::new(DIR).join("set-00000001/lane-000/00000000000000000001.seg");
    let good = world.disk.bytes(&path);
    for bit in 32 * 8..(good.len() - 80) * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        world.disk.put(&path, &bad);
        let seen = look(&world);
        let lane = &seen.sets[0].lanes[0];
        assert_eq!((lane.good_records, lane.bad_records, seen.is_sound()), (1, 1, false), "bit {bit}");
    }
    for bit in (0..32 * 8).chain((good.len() - 80) * 8..good.len() * 8) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        world.disk.put(&path, &bad);
        let seen = look(&world);
        assert_eq!((seen.sets[0].lanes[0].good_records, seen.is_sound()), (2, false), "bit {bit}");
    }
    world.disk.put(&path, &good[..good.len() - 81]);
    assert!(look(&world).to_string().contains("bytes of a torn tail"));
}

#[test]
fn a_queue_without_a_good_description_is_shown_with_what_is_wrong() {
    let world = World::new();
    let queue = world.open(1);
    queue.append(0, samples(3), b"body").unwrap();
    drop(queue);
    let meta = Path::new(DIR).join("meta");
    let good = world.disk.bytes(&meta);
    let mut flipped = good.clone();
    flipped[30] ^= 1;
    let nothing: &[u8] = b"";
    for (bytes, told) in [
        (Some(&*flipped), "/data/prod/meta is damaged; a scraper"),
        (Some(nothing), "/data/prod/meta is not the description of a promring queue"),
        (Some(b"{}"), "/data/prod/meta is not the description of a promring queue"),
        (None, "/data/prod/meta is missing; a scraper"),
    ] {
        match bytes {
            Some(bytes) => world.disk.put(&meta, bytes),
            None => world.disk.remove(&meta).unwrap(),
        }
        let seen = look(&world);
        assert_eq!((seen.destination.as_deref(), seen.pending().samples, seen.is_sound()), (None, 3, false));
        let text = seen.to_string();
        assert!(text.starts_with(&format!("queue of an unknown destination\n{told}")), "{text}");
        assert!(
            text.contains("to send: 1 records, 3 samples") && text.ends_with("damaged, see above\n"),
            "{text}"
        );
    }
    world.disk.put(&meta, &good);
    assert!(look(&world).is_sound());
}

#[test]
fn a_directory_of_something_else_is_no_queue() {
    let world = World::new();
    let look = |dir| inspect(&world.disk, Path::new(dir), Depth::Bodies);
    world.disk.create_dir(Path::new("/data/else")).unwrap();
    assert!(matches!(look("/data/else"), Err(QueueError::NoQueue { .. })));
    world.disk.put(Path::new("/data/else/meta"), b"{}");
    assert!(matches!(look("/data/else"), Err(QueueError::Foreign { .. })));
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Inspection::of(&dir.path().join("nothing")), Err(QueueError::Io { .. })));
}

#[test]
fn what_of_a_queue_cannot_be_shown_hides_nothing_else_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("prod");
    let queue = Queue::open(&path, "prod", 4, &QueueSettings::default()).unwrap();
    for lane in 0..4 {
        queue.append(lane, samples(10), b"body").unwrap();
    }
    drop(queue);
    let lane = |lane: usize| path.join(format!("set-00000001/lane-{lane:03}"));
    // One lane is a file, one has a segment of a newer version, one an empty one.
    std::fs::remove_dir_all(lane(0)).unwrap();
    std::fs::write(lane(0), "").unwrap();
    let mut newer = std::fs::read(lane(1).join("00000000000000000001.seg")).unwrap();
    newer[8] = 2;
    let crc = crc32fast::hash(&[&newer[..12], &newer[16..32]].concat());
    newer[12..16].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(lane(1).join("00000000000000000002.seg"), newer).unwrap();
    std::fs::write(lane(2).join("00000000000000000002.seg"), "").unwrap();
    std::fs::write(path.join("set-00000009"), "").unwrap();
    let seen = Inspection::of(&path).unwrap();
    assert!(!seen.is_sound());
    assert_eq!(seen.pending().samples, 30);
    let lanes = &seen.sets[0].lanes;
    let problems: Vec<usize> = lanes.iter().map(|lane| lane.problems.len()).collect();
    assert_eq!(problems, [1, 1, 0, 0]);
    let text = seen.to_string();
    for told in ["lane-000", "00000000000000000002.seg was written by a newer version", "set-00000009"] {
        assert!(text.contains(told), "{text}");
    }
    assert!(text.contains("lane-002/00000000000000000002.seg: is empty"), "{text}");
    assert!(text.contains("to send: 3 records, 30 samples"), "{text}");
    // The index is to count all or nothing.
    assert!(Inspection::of_index(&path).is_err());
}

#[test]
fn an_empty_segment_is_what_a_crash_leaves_and_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("prod");
    let queue = Queue::open(&path, "prod", 1, &QueueSettings::default()).unwrap();
    queue.append(0, samples(10), b"body").unwrap();
    drop(queue);
    std::fs::write(path.join("set-00000001/lane-000/00000000000000000002.seg"), "").unwrap();
    let seen = Inspection::of(&path).unwrap();
    assert!(seen.is_sound() && seen.to_string().contains("is empty"), "{seen}");
    assert_eq!((seen.pending().samples, seen.sets[0].lanes[0].segments), (10, 2));
}

#[test]
fn a_lane_that_is_missing_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    drop(Queue::open(dir.path(), "prod", 3, &QueueSettings::default()).unwrap());
    assert!(Inspection::of(dir.path()).unwrap().is_sound());
    std::fs::remove_dir_all(dir.path().join("set-00000001/lane-001")).unwrap();
    let found = Inspection::of(dir.path()).unwrap();
    assert!(!found.is_sound() && found.sets[0].lanes.len() == 2);
    assert!(found.to_string().contains("lane-001: is missing"), "{found}");
    assert!(!remove_if_empty(dir.path()).unwrap());
}

#[test]
fn a_pipe_in_place_of_a_segment_keeps_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::open(dir.path(), "prod", 1, &QueueSettings::default()).unwrap();
    queue.append(0, samples(7), b"body").unwrap();
    drop(queue);
    let path = dir.path().join("set-00000001/lane-000/00000000000000000002.seg");
    let made = std::process::Command::new("mkfifo").args(["-m", "400"]).arg(&path).status().unwrap();
    assert!(made.success());
    let found = Inspection::of(dir.path()).unwrap();
    assert!(!found.is_sound() && found.to_string().contains("it is no regular file"), "{found}");
    assert_eq!(found.pending().samples, 7);
    let queue = Queue::open(dir.path(), "prod", 1, &QueueSettings::default()).unwrap();
    assert_eq!((queue.stats().pending.samples, queue.stats().read_errors), (7, 1));
    assert!(!path.exists(), "it is put aside");
}
