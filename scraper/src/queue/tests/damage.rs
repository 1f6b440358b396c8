//! Truncation and flipped bits at every byte of small files, and files of arbitrary bytes.

use proptest::prelude::*;

use super::super::files::File;
use super::super::inspect::{Depth, inspect};
use super::super::limits::READ_TRIES_MAX;
use super::super::memory::MemoryFile;
use super::super::record::RECORD_HEADER_BYTES;
use super::super::segment::{self, FOOTER_BYTES, SEGMENT_HEADER_BYTES, Step, Writer};
use super::*;

const SEGMENT: &str = "/data/prod/set-00000001/lane-000/00000000000000000001.seg";
const BODIES: [&[u8]; 4] = [b"one", b"second", b"the third", b""];

/// A queue with one lane of four records, as a clean stop (with a footer) or a kill (without) leaves it.
fn world(finished: bool) -> World {
    let world = World::new();
    let queue = world.open(1);
    for body in BODIES {
        queue.append(0, samples(10), body).unwrap();
    }
    if !finished {
        world.disk.set_faults(|faults| faults.stop_at = Some(0));
    }
    drop(queue);
    world.disk.revive();
    world
}

fn expected(lost: &[usize]) -> Vec<Vec<u8>> {
    (0..BODIES.len()).filter(|at| !lost.contains(at)).map(|at| BODIES[at].to_vec()).collect()
}

/// Where each record begins, and where the last ends.
fn offsets() -> Vec<usize> {
    let mut offsets = vec![SEGMENT_HEADER_BYTES as usize];
    for body in BODIES {
        offsets.push(offsets[offsets.len() - 1] + RECORD_HEADER_BYTES + body.len());
    }
    offsets
}

#[test]
fn every_flipped_bit_costs_the_record_that_it_is_in_and_no_other() {
    for finished in [true, false] {
        let good = world(finished).disk.bytes(Path::new(SEGMENT));
        let offsets = offsets();
        assert_eq!(good.len(), offsets[4] + if finished { FOOTER_BYTES } else { 0 });
        for bit in 0..good.len() * 8 {
            let world = world(finished);
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            world.disk.put(Path::new(SEGMENT), &bad);
            let queue = world.open(1);
            let hit: Vec<usize> =
                (0..4).filter(|at| (offsets[*at]..offsets[at + 1]).contains(&(bit / 8))).collect();
            let read = drain(&mut reader(&queue, 0));
            assert_eq!(read, expected(&hit), "bit {bit}, finished {finished}");
            let stats = queue.stats();
            assert_eq!(stats.pending, Pending::default(), "bit {bit}, finished {finished}");
            // Totals are known from the footer; without one, of a header that cannot be read nobody knows the samples.
            let lost = 10 * hit.len() as u64;
            let counted = stats.dropped(DropReason::Corrupt);
            assert!(
                counted == lost || (!finished && counted == 0),
                "bit {bit}, finished {finished}: {counted}"
            );
            assert_eq!(
                stats.corrupt_records + stats.torn_tails,
                tears(hit.len(), bit / 8 >= offsets[4]),
                "bit {bit}"
            );
        }
    }
}

/// How much damage is told: a record that is hit, or a footer (the segment is walked, and its rest taken for a torn tail).
fn tears(records: usize, footer: bool) -> u64 {
    records as u64 + u64::from(footer)
}

#[test]
fn a_segment_cut_anywhere_keeps_the_records_before_the_cut() {
    for finished in [true, false] {
        let good = world(finished).disk.bytes(Path::new(SEGMENT));
        let offsets = offsets();
        for len in 0..good.len() {
            let world = world(finished);
            world.disk.put(Path::new(SEGMENT), &good[..len]);
            let queue = world.open(1);
            let whole = (0..4).filter(|at| offsets[at + 1] <= len).count();
            queue.append(0, samples(1), b"fresh").unwrap();
            let mut wanted = expected(&[]);
            wanted.truncate(whole);
            wanted.push(b"fresh".to_vec());
            assert_eq!(drain(&mut reader(&queue, 0)), wanted, "cut at {len}, finished {finished}");
            assert_eq!(queue.stats().corrupt_records, 0, "cut at {len}");
            drop(queue);
            assert!(drain(&mut reader(&world.open(1), 0)).is_empty(), "cut at {len}");
        }
    }
}

#[test]
fn a_damaged_cursor_sends_again_and_loses_nothing() {
    let path = Path::new("/data/prod/set-00000001/lane-000/cursor");
    let acknowledged = || {
        let world = world(false);
        let queue = world.open(1);
        let mut reader = reader(&queue, 0);
        for _ in 0..2 {
            let info = reader.peek(&mut Vec::new()).unwrap();
            reader.ack(info.sequence);
        }
        drop((queue, reader));
        world
    };
    let good = acknowledged().disk.bytes(path);
    for at in 0..good.len() {
        let world = acknowledged();
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        world.disk.put(path, &bad);
        let read = drain(&mut reader(&world.open(1), 0));
        assert!(read == expected(&[0, 1]) || read == expected(&[0]), "byte {at}: {read:?}");
    }
    for len in 0..good.len() {
        let world = acknowledged();
        world.disk.put(path, &good[..len]);
        let queue = world.open(1);
        let read = drain(&mut reader(&queue, 0));
        assert!(expected(&[]).ends_with(&read) && read.len() >= 2, "cut at {len}: {read:?}");
        // No bytes at all are those of a lane of which nothing was sent yet.
        assert_eq!(queue.stats().lost_cursors, u64::from(read.len() == 4 && len > 0), "cut at {len}");
    }
}

#[test]
fn a_lane_of_which_nothing_was_sent_yet_has_no_damaged_cursor() {
    let world = World::new();
    let queue = world.open(1);
    queue.append(0, samples(3), b"unsent").unwrap();
    // Killed, and started again.
    world.disk.set_faults(|faults| faults.stop_at = Some(0));
    drop(queue);
    world.disk.revive();
    let cursor = Path::new("/data/prod/set-00000001/lane-000/cursor");
    assert!(world.disk.bytes(cursor).is_empty());
    let seen = inspect(&world.disk, Path::new("/data/prod"), Depth::Bodies).unwrap();
    let problems: Vec<&String> = seen.sets.iter().flat_map(|set| &set.lanes[0].problems).collect();
    assert!(problems.iter().all(|problem| !problem.contains("cursor")), "{problems:?}");
    let queue = world.open(1);
    assert_eq!(queue.stats().lost_cursors, 0);
    assert_eq!(drain(&mut reader(&queue, 0)), [b"unsent"]);
    // One that is gone says nothing of what was sent.
    queue.append(0, samples(3), b"sent?").unwrap();
    drop(queue);
    world.disk.take_away(cursor);
    assert_eq!(world.open(1).stats().lost_cursors, 1);
}

#[test]
fn damage_under_a_running_queue_is_skipped_and_settled() {
    let world = world(true);
    let queue = world.open(1);
    let mut bad = world.disk.bytes(Path::new(SEGMENT));
    bad[offsets()[1]] ^= 1;
    bad[offsets()[3] - 1] ^= 1;
    world.disk.put(Path::new(SEGMENT), &bad);
    let mut reader = reader(&queue, 0);
    // Reading twice counts once.
    let mut body = Vec::new();
    reader.peek(&mut body).unwrap();
    reader.peek_next_if(&mut body, |_| true).unwrap();
    assert_eq!(drain(&mut reader), expected(&[1, 2]));
    let stats = queue.stats();
    assert_eq!((stats.corrupt_records, stats.dropped(DropReason::Corrupt)), (2, 20));
    assert_eq!(stats.pending, Pending::default());
}

#[test]
fn a_segment_that_is_gone_or_cannot_be_read_is_counted_and_passed() {
    let world = world(true);
    let queue = world.open(1);
    queue.append(0, samples(1), b"next segment").unwrap();
    world.disk.take_away(Path::new(SEGMENT));
    assert_eq!(drain(&mut reader(&queue, 0)), [b"next segment"]);
    assert_eq!(queue.stats().dropped(DropReason::Unreadable), 40);
}

#[tokio::test(start_paused = true)]
async fn at_the_end_only_what_is_in_memory_is_sent_past_a_segment_that_the_disk_does_not_give() {
    let world = world(true);
    let queue = world.open(1);
    let mut first = reader(&queue, 0);
    first.end();
    let fails = std::io::ErrorKind::Other;
    world.disk.set_faults(|faults| (faults.reads, faults.writes) = (Some(fails), Some(fails)));
    for _ in 1..READ_TRIES_MAX {
        assert_eq!(first.peek(&mut Vec::new()), None);
        assert!(!first.holds_up_memory());
    }
    assert_eq!(queue.stats().dropped(DropReason::Unreadable), 0, "it stays on the disk");
    drop(first);
    queue.append(0, samples(1), b"in memory").unwrap();
    assert_eq!(queue.samples_in_memory(), 1);
    let mut reader = reader(&queue, 0);
    reader.end();
    // The disk has another chance.
    assert_eq!(reader.peek(&mut Vec::new()), None);
    assert!(reader.holds_up_memory());
    assert_eq!(reader.wait().await, Wake::Ready);
    assert_eq!(drain(&mut reader), [b"in memory"]);
    assert_eq!(queue.stats().dropped(DropReason::Unreadable), 40);
    // It is not deleted when the disk is there again, as what was put aside never is.
    assert!(world.disk.paths().contains(&SEGMENT.into()));
    world.disk.set_faults(|faults| (faults.reads, faults.writes) = (None, None));
    queue.directory.upkeep();
    assert!(world.disk.paths().contains(&format!("{SEGMENT}.unreadable").into()));
}

#[test]
fn what_is_in_memory_of_newer_lanes_is_sent_at_the_end_past_an_unreadable_segment_of_older_ones() {
    let world = world(true);
    let queue = world.open(2);
    let fails = std::io::ErrorKind::Other;
    world.disk.set_faults(|faults| (faults.reads, faults.writes) = (Some(fails), Some(fails)));
    queue.append(0, samples(1), b"in memory").unwrap();
    let (mut old, mut new) = (reader(&queue, 0), queue.reader(LaneId { set: 2, index: 0 }).unwrap());
    old.end();
    assert_eq!(old.peek(&mut Vec::new()), None);
    assert!(old.holds_up_memory() && new.waits_for_others());
    assert_eq!(old.peek(&mut Vec::new()), None);
    assert!(!old.holds_up_memory());
    assert_eq!(drain(&mut new), [b"in memory"]);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_cannot_be_read_for_a_while_loses_nothing() {
    let world = world(true);
    let queue = world.open(1);
    let mut reader = reader(&queue, 0);
    world.disk.set_faults(|faults| faults.reads = Some(std::io::ErrorKind::Other));
    for _ in 0..5 {
        assert_eq!(reader.peek(&mut Vec::new()), None);
        assert_eq!(reader.wait().await, Wake::Ready);
    }
    world.disk.set_faults(|faults| faults.reads = None);
    assert_eq!(drain(&mut reader), expected(&[]));
    assert_eq!(queue.stats().read_errors, 5);
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_stays_unreadable_is_put_aside() {
    let world = world(true);
    let queue = world.open(1);
    let mut reader = reader(&queue, 0);
    world.disk.set_faults(|faults| faults.reads = Some(std::io::ErrorKind::Other));
    while queue.stats().pending.records > 0 {
        assert_eq!(reader.peek(&mut Vec::new()), None);
        if queue.stats().pending.records > 0 {
            reader.wait().await;
        }
    }
    assert_eq!(queue.stats().dropped(DropReason::Unreadable), 40);
    let aside =
        world.disk.paths().into_iter().find(|path| path.to_string_lossy().ends_with(".seg.unreadable"));
    world.disk.set_faults(|faults| faults.reads = None);
    assert!(segment::open(&*world.open_file(&aside.unwrap())).unwrap().finished);
    queue.append(0, samples(1), b"fresh").unwrap();
    assert_eq!(drain(&mut reader), [b"fresh"]);
}

#[tokio::test(start_paused = true)]
async fn a_file_of_somebody_elses_with_a_segments_name_is_put_aside_as_it_is() {
    let note = b"a note of somebody else's, and long enough to hold a header of ours";
    for (content, is_kept) in [(&note[..], true), (&note[..5], true), (&[0; 64], false), (b"", false)] {
        let world = world(true);
        drop(world.open(1));
        let is_segment = |path: &&PathBuf| path.extension().is_some_and(|end| end == "seg");
        let lane = world.disk.paths().iter().find(is_segment).unwrap().parent().unwrap().to_owned();
        let path = lane.join("00000000000000009999.seg");
        world.disk.create(&path).unwrap().write_all_at(content, 0).unwrap();
        let queue = world.open(1);
        assert!(!world.disk.paths().contains(&path));
        let aside = lane.join("00000000000000009999.seg.unreadable");
        assert_eq!(world.disk.paths().contains(&aside), is_kept, "{content:?}");
        if is_kept {
            let mut kept = vec![0; content.len()];
            world.open_file(&aside).read_exact_at(&mut kept, 0).unwrap();
            assert_eq!(kept, content);
        }
        assert_eq!(queue.stats().pending.records, 4, "its own are there");
    }
}

/// Reads a segment as far as it goes; every step must get on.
fn read_through(bytes: &[u8]) -> usize {
    let file = MemoryFile::default();
    file.write_all_at(bytes, 0).unwrap();
    let Ok(found) = segment::open(&file) else { return 0 };
    assert!(found.end <= bytes.len() as u64);
    let (mut offset, mut after, mut records) = (SEGMENT_HEADER_BYTES, 0, 0);
    let mut body = Vec::new();
    loop {
        match segment::step(&file, offset, found.end, after).unwrap() {
            Step::Record(header) => {
                segment::read_body(&file, offset, &header, &mut body).unwrap();
                assert!(body.capacity() <= 2 * bytes.len(), "{} of {}", body.capacity(), bytes.len());
                (offset, after, records) = (offset + header.record_len(), header.sequence, records + 1);
            }
            Step::Bad { next } => {
                assert!(next > offset && next <= found.end);
                offset = next;
            }
            Step::Search { next } => {
                assert!(next > offset);
                offset = next;
            }
            Step::End => return records,
        }
    }
}

/// Bytes as a disk might have them: pieces of real segments, shuffled, among noise.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..100),
        Just(b"PREC".to_vec()),
        (1_u64..9, 0_usize..60, 0_usize..200).prop_map(|(sequence, body, cut)| {
            let file = Arc::new(MemoryFile::default());
            let mut writer = Writer::begin(Arc::clone(&file) as Arc<dyn File>, sequence, 0).unwrap();
            let body = vec![1; body];
            let header = super::super::record::RecordHeader::new(sequence, 0, samples(1), &body);
            writer.append(&header, &body).unwrap();
            let mut bytes = file.bytes();
            bytes.truncate(bytes.len().saturating_sub(cut.saturating_sub(150)));
            bytes
        }),
        (0_u64..300).prop_map(|end| segment::encode_footer(&segment::Summary::default(), end).to_vec()),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_never_allocate_more_than_the_file(bytes in pieces()) {
        read_through(&bytes);
    }

    #[test]
    fn a_good_record_after_noise_without_one_is_found(noise in proptest::collection::vec(any::<u8>(), 0..2000), body: Vec<u8>) {
        let file = Arc::new(MemoryFile::default());
        let mut writer = Writer::begin(Arc::clone(&file) as Arc<dyn File>, 1, 0).unwrap();
        writer.end += noise.len() as u64;
        file.write_all_at(&noise, SEGMENT_HEADER_BYTES).unwrap();
        writer.append(&super::super::record::RecordHeader::new(1, 0, samples(1), &body), &body).unwrap();
        prop_assert_eq!(read_through(&file.bytes()), 1);
    }
}

#[test]
fn a_good_record_after_noise_longer_than_the_search_buffer_is_found() {
    // Around the edges of the buffer that is searched at a time.
    for noise in (65_536 - 80..65_536 + 80).chain(131_072 - 150..131_072) {
        let file = Arc::new(MemoryFile::default());
        let mut writer = Writer::begin(Arc::clone(&file) as Arc<dyn File>, 1, 0).unwrap();
        writer.end += noise;
        let header = super::super::record::RecordHeader::new(1, 0, samples(1), b"x");
        writer.append(&header, b"x").unwrap();
        assert_eq!(read_through(&file.bytes()), 1, "{noise}");
    }
}

#[test]
fn a_long_damaged_stretch_is_searched_in_steps_and_is_one_bad_record() {
    const MIB: usize = 1 << 20;
    let world = World::new();
    let queue = world.open(1);
    queue.append(0, samples(1), b"before").unwrap();
    // What looks like the beginning of a record over and over is the slowest to search.
    queue.append(0, samples(2), &b"PREC".repeat(MIB)).unwrap();
    queue.append(0, samples(4), b"after").unwrap();
    drop(queue);
    let path = Path::new("/data/prod/set-00000001/lane-000/00000000000000000001.seg");
    let mut bytes = world.disk.bytes(path);
    let second = 32 + 72 + b"before".len();
    bytes[second + 20] ^= 1;
    world.disk.put(path, &bytes);
    let queue = world.open(1);
    let mut reader = reader(&queue, 0);
    assert_eq!(drain(&mut reader), [b"before"]);
    let mut steps = 1;
    let after = loop {
        let mut body = Vec::new();
        if let Some(info) = reader.peek(&mut body) {
            reader.ack(info.sequence);
            break body;
        }
        assert!(reader.is_searching());
        steps += 1;
    };
    assert_eq!(after, b"after");
    // A step is a little more than so many bytes, and the last one finds it.
    let steps_max = 4 * MIB / segment::STEP_BYTES_MAX as usize;
    assert!((steps_max - 1..=steps_max).contains(&steps), "{steps}");
    assert!(reader.peek(&mut Vec::new()).is_none() && !reader.is_searching());
    let stats = queue.stats();
    assert_eq!((stats.corrupt_records, stats.pending.records), (1, 0));
    drop((reader, queue));
    let found = inspect::inspect(&world.disk, Path::new("/data/prod"), inspect::Depth::Bodies).unwrap();
    assert!(found.pending().records == 0);
}
