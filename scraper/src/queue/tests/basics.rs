use super::super::limits::SEGMENT_IDLE_BYTES_MAX;
use super::*;

#[test]
fn records_come_back_in_order_with_what_was_said_about_them() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::open(dir.path(), "prod", 2, &QueueSettings::default()).unwrap();
    let meta = RecordMeta {
        samples: 3,
        histograms: 1,
        exemplars: 2,
        metadata: 4,
        first_ms: -1,
        last_ms: 9,
        encoding: Encoding::V2,
        maybe_stored: true,
    };
    queue.append(1, meta, b"first").unwrap();
    queue.append(1, samples(1), b"second").unwrap();
    queue.append(0, samples(1), b"other lane").unwrap();
    let mut reader = reader(&queue, 1);
    let mut body = Vec::new();
    let first = reader.peek(&mut body).unwrap();
    assert_eq!((first.sequence, first.meta, &*body), (1, meta, &b"first"[..]));
    let second = reader.peek_next_if(&mut body, |info| info.meta.samples == 1).unwrap();
    assert_eq!((second.sequence, &*body), (2, &b"second"[..]));
    assert_eq!(reader.peek_next_if(&mut body, |_| true), None);
    // Nothing was acknowledged: it begins at the first again.
    assert_eq!(reader.peek(&mut body), Some(first));
    assert_eq!(reader.peek_next_if(&mut body, |_| false), None);
    reader.ack(1);
    assert_eq!(reader.peek(&mut body), Some(second));
}

#[test]
fn what_was_not_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Queue::open(dir.path(), "prod", 1, &QueueSettings::default()).unwrap();
    let queue = open();
    for body in [&b"a"[..], b"b", b"c"] {
        queue.append(0, samples(10), body).unwrap();
    }
    let mut first = reader(&queue, 0);
    first.peek(&mut Vec::new()).unwrap();
    first.ack(1);
    assert_eq!(queue.stats().pending.samples, 20);
    drop((queue, first));
    let queue = open();
    assert_eq!(queue.stats().pending.samples, 20);
    queue.append(0, samples(10), b"d").unwrap();
    assert_eq!(drain(&mut reader(&queue, 0)), [b"b", b"c", b"d"]);
    assert_eq!(queue.stats().pending, Pending::default());
    drop(queue);
    assert!(drain(&mut reader(&open(), 0)).is_empty());
}

#[test]
fn a_request_in_flight_is_known_after_a_kill_and_not_after_its_acknowledgement() {
    let world = World::new();
    let queue = world.open(1);
    for body in [&b"a"[..], b"b", b"c"] {
        queue.append(0, samples(1), body).unwrap();
    }
    let mut first = reader(&queue, 0);
    assert_eq!(first.in_flight(), None);
    first.peek(&mut Vec::new()).unwrap();
    first.peek_next_if(&mut Vec::new(), |_| true).unwrap();
    first.mark(2);
    world.disk.set_faults(|faults| faults.stop_at = Some(0));
    drop((queue, first));
    world.disk.revive();
    let queue = world.open(1);
    let mut second = reader(&queue, 0);
    assert_eq!(second.in_flight(), Some(2));
    second.peek(&mut Vec::new()).unwrap();
    second.peek_next_if(&mut Vec::new(), |_| true).unwrap();
    second.ack(2);
    assert_eq!(second.in_flight(), None);
    drop((queue, second));
    assert_eq!(reader(&world.open(1), 0).in_flight(), None);
}

#[test]
fn a_lane_has_one_reader_at_a_time() {
    let world = World::new();
    let queue = world.open(1);
    let lane = LaneId { set: 1, index: 0 };
    let first = queue.reader(lane).unwrap();
    assert!(queue.reader(lane).is_none());
    drop(first);
    assert!(queue.reader(lane).is_some());
    assert!(queue.reader(LaneId { set: 1, index: 1 }).is_none());
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Queue::open(dir.path(), "prod", 1, &QueueSettings::default());
    let first = open().unwrap();
    let refused = open().unwrap_err().to_string();
    assert!(refused.contains(&format!("in use by process {}", std::process::id())), "{refused}");
    drop(first);
    open().unwrap();
}

#[test]
fn directories_of_others_are_refused_and_left_alone() {
    let world = World::new();
    drop(world.open(1));
    let path = Path::new("/data/prod/meta");
    let good = world.disk.bytes(path);
    for (bytes, expected) in [
        (&b"{\"format\": 3}"[..], "is not the description of a promring queue"),
        (&meta_with_format(2), "newer version of promring"),
        (super::super::meta::encode_queue("dev").as_bytes(), "is the queue of \"dev\", not of \"prod\""),
    ] {
        world.disk.put(path, bytes);
        let error = world.open_as("prod", 1).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(world.disk.bytes(path), bytes);
    }
    // Damaged, cut off or missing: ours all the same.
    for bytes in [&good[..good.len() - 2], &good[..30]] {
        world.disk.put(path, bytes);
        drop(world.open(1));
        assert_eq!(world.disk.bytes(path), good);
    }
    world.disk.take_away(path);
    drop(world.open(1));
    assert_eq!(world.disk.bytes(path), good);
}

fn meta_with_format(format: u32) -> Vec<u8> {
    let text = format!("promring queue format {format}\nnobody knows\n");
    format!("{text}crc32 {:08x}\n", crc32fast::hash(text.as_bytes())).into_bytes()
}

#[test]
fn a_newer_segment_is_refused() {
    let world = World::new();
    let queue = world.open(1);
    queue.append(0, samples(1), b"a").unwrap();
    drop(queue);
    let path = Path::new("/data/prod/set-00000001/lane-000/00000000000000000001.seg");
    let mut bytes = world.disk.bytes(path);
    bytes[8] = 2;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..12]);
    crc.update(&bytes[16..32]);
    bytes[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
    world.disk.put(path, &bytes);
    let error = world.open_as("prod", 1).unwrap_err().to_string();
    assert!(error.contains("newer version") && error.contains("lane-000"), "{error}");
    assert_eq!(world.disk.bytes(path), bytes);
}

#[test]
fn names_of_others_in_the_directory_do_no_harm() {
    let world = World::new();
    let queue = world.open(1);
    queue.append(0, samples(1), b"a").unwrap();
    drop(queue);
    for name in
        ["lost+found", "set-1", "set-00000001/notes", "set-00000001/lane-000/1.seg", "set-00000001/lane-7"]
    {
        world.disk.put(&Path::new("/data/prod").join(name), b"mine");
    }
    world.disk.put(Path::new("/data/prod/set-00000009.tmp"), b"");
    let queue = world.open(1);
    assert_eq!(drain(&mut reader(&queue, 0)), [b"a"]);
    assert!(world.disk.paths().iter().any(|path| path.ends_with("lost+found")));
    assert!(!world.disk.paths().iter().any(|path| path.ends_with("set-00000009.tmp")));
}

#[test]
fn impossible_wishes_get_an_error() {
    let world = World::new();
    assert!(matches!(world.open_as("prod", 0), Err(QueueError::Lanes { lanes: 0 })));
    assert!(matches!(world.open_as("prod", 1000), Err(QueueError::Lanes { lanes: 1000 })));
    assert!(matches!(world.open_as(&"x".repeat(1025), 1), Err(QueueError::Name { bytes: 1025 })));
    let queue = world.open(2);
    assert_eq!(queue.append(2, samples(1), b""), Err(AppendError::NoSuchLane(2)));
    let large = vec![0; RECORD_BODY_BYTES_MAX + 1];
    assert_eq!(queue.append(0, samples(1), &large), Err(AppendError::TooLarge(large.len())));
    assert!(queue.release(9).is_err());
}

#[test]
fn what_is_acknowledged_leaves_the_disk() {
    let world = World::new();
    let queue = world.open(1);
    let mut reader = reader(&queue, 0);
    let body = vec![7; 100_000];
    for _ in 0..1000 {
        queue.append(0, samples(1), &body).unwrap();
        assert_eq!(drain(&mut reader).len(), 1);
        let held = queue.stats().disk_bytes;
        assert!(held <= SEGMENT_IDLE_BYTES_MAX + 100_072, "{held}");
    }
}

#[test]
fn the_age_of_a_backlog_is_that_of_its_oldest_record_not_of_its_segment() {
    let world = World::new();
    let queue = world.open(1);
    let mut reader = reader(&queue, 0);
    let age = |queue: &Queue| queue.stats().oldest_age.map(|age| age.as_millis());
    assert_eq!(age(&queue), None);
    // One record a second, each acknowledged a second later: the segment grows old, the backlog does not.
    queue.append(0, samples(1), b"").unwrap();
    for _ in 0..50 {
        world.advance(1000);
        queue.append(0, samples(1), b"").unwrap();
        let info = reader.peek(&mut Vec::new()).unwrap();
        reader.ack(info.sequence);
        assert!(age(&queue).unwrap() <= 1000);
    }
    drain(&mut reader);
    world.advance(100_000);
    queue.append(0, samples(1), b"").unwrap();
    world.advance(5);
    assert_eq!(age(&queue), Some(5));
    drop((queue, reader));
    assert_eq!(age(&world.open(1)), Some(5));
}

#[tokio::test]
async fn a_reader_is_woken_by_an_append() {
    let world = World::new();
    let queue = world.open(1);
    let mut reader = reader(&queue, 0);
    let waiting = tokio::spawn(async move {
        let mut body = Vec::new();
        assert_eq!(reader.peek(&mut body), None);
        assert_eq!(reader.wait().await, Wake::Ready);
        reader.peek(&mut body).unwrap();
        body
    });
    tokio::task::yield_now().await;
    queue.append(0, samples(1), b"news").unwrap();
    assert_eq!(waiting.await.unwrap(), b"news");
}
