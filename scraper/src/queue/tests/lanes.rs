use super::*;

fn in_set(queue: &Queue, set: u32, index: usize) -> LaneReader {
    queue.reader(LaneId { set, index }).unwrap()
}

fn sets(queue: &Queue) -> Vec<u32> {
    queue.stats().sets.iter().map(|set| set.set).collect()
}

#[test]
fn a_new_number_of_lanes_waits_lane_by_lane_for_the_old_ones() {
    let world = World::new();
    let queue = world.open(4);
    for lane in 0..4 {
        queue.append(lane, samples(1), &[lane as u8]).unwrap();
    }
    queue.set_lanes(2).unwrap();
    assert_eq!(queue.lane_count(), 2);
    queue.append(0, samples(1), b"even").unwrap();
    queue.append(1, samples(1), b"odd").unwrap();
    let (mut even, mut odd) = (in_set(&queue, 2, 0), in_set(&queue, 2, 1));
    // A series of new lane 0 was in old lane 0 or 2.
    assert!(drain(&mut even).is_empty());
    drain(&mut in_set(&queue, 1, 0));
    assert!(drain(&mut even).is_empty());
    drain(&mut in_set(&queue, 1, 2));
    assert_eq!(drain(&mut even), [b"even"]);
    assert!(drain(&mut odd).is_empty());
    drain(&mut in_set(&queue, 1, 1));
    drain(&mut in_set(&queue, 1, 3));
    assert_eq!(drain(&mut odd), [b"odd"]);
    queue.directory.upkeep();
    assert_eq!(sets(&queue), [2]);
}

#[test]
fn a_changed_number_of_lanes_is_kept_apart_over_a_restart() {
    let world = World::new();
    let queue = world.open(2);
    queue.append(0, samples(1), b"old").unwrap();
    drop(queue);
    let queue = world.open(3);
    assert_eq!(queue.lane_count(), 3);
    queue.append(0, samples(1), b"new").unwrap();
    drop(queue);
    let queue = world.open(3);
    assert_eq!(sets(&queue), [1, 2]);
    assert!(drain(&mut in_set(&queue, 2, 0)).is_empty());
    assert_eq!(drain(&mut in_set(&queue, 1, 0)), [b"old"]);
    assert_eq!(drain(&mut in_set(&queue, 2, 0)), [b"new"]);
    drop(queue);
    let queue = world.open(3);
    assert_eq!(sets(&queue), [2]);
    // Going on with the number that it has makes no further set.
    queue.set_lanes(3).unwrap();
    assert_eq!(sets(&queue), [2]);
}

#[tokio::test]
async fn emptying_the_last_old_lane_wakes_the_new_one() {
    let world = World::new();
    let queue = world.open(1);
    queue.append(0, samples(1), b"old").unwrap();
    queue.set_lanes(2).unwrap();
    queue.append(1, samples(1), b"new").unwrap();
    let mut new = in_set(&queue, 2, 1);
    let waiting = tokio::spawn(async move {
        assert_eq!(new.wait().await, Wake::Ready);
        drain(&mut new)
    });
    tokio::task::yield_now().await;
    let mut old = in_set(&queue, 1, 0);
    assert_eq!(drain(&mut old), [b"old"]);
    assert_eq!(waiting.await.unwrap(), [b"new"]);
    assert_eq!(old.wait().await, Wake::Retired);
}

#[test]
fn a_fence_holds_until_it_is_released_over_a_restart_too() {
    let world = World::new();
    let queue = world.open(2);
    let fence = queue.create_fence(2, "scraper-1 has sent all").unwrap();
    queue.append_to(fence, 1, samples(5), b"held").unwrap();
    // Ordinary records go on to the ordinary lanes.
    queue.append(1, samples(1), b"free").unwrap();
    assert_eq!(drain(&mut in_set(&queue, 1, 1)), [b"free"]);
    assert!(drain(&mut in_set(&queue, fence, 1)).is_empty());
    drop(queue);
    let queue = world.open(2);
    let stats = queue.stats();
    assert_eq!(stats.sets[1].hold, Hold::Until("scraper-1 has sent all".to_owned()));
    assert_eq!((stats.sets[1].kind, stats.pending.samples), (SetKind::Fence, 5));
    assert!(drain(&mut in_set(&queue, fence, 1)).is_empty());
    queue.release(fence).unwrap();
    drop(queue);
    let queue = world.open(2);
    assert_eq!(queue.lane_count(), 2);
    assert_eq!(drain(&mut in_set(&queue, fence, 1)), [b"held"]);
    queue.directory.upkeep();
    assert_eq!(sets(&queue), [1, fence], "an open fence may be filled again");
    queue.close_set(fence);
    assert_eq!(queue.append_to(fence, 1, samples(1), b"late"), Err(AppendError::Closed));
    queue.directory.upkeep();
    assert_eq!(sets(&queue), [1]);
    assert_eq!(queue.append_to(fence, 1, samples(1), b"late"), Err(AppendError::NoSuchLane(1)));
}

#[test]
fn who_reads_lanes_is_told_of_new_and_retired_ones() {
    let world = World::new();
    let queue = world.open(1);
    let mut lanes = queue.lanes();
    assert_eq!(*lanes.borrow_and_update(), [LaneId { set: 1, index: 0 }]);
    queue.create_fence(1, "a").unwrap();
    assert!(lanes.has_changed().unwrap());
    assert_eq!(lanes.borrow_and_update().len(), 2);
    queue.close_set(2);
    queue.directory.upkeep();
    assert_eq!(*lanes.borrow_and_update(), [LaneId { set: 1, index: 0 }]);
}

#[test]
fn a_crash_while_a_set_is_made_leaves_all_of_it_or_nothing() {
    let world = World::new();
    drop(world.open(1));
    for calls in 1..40 {
        let queue = world.open(1);
        let before = world.disk.calls();
        world.disk.set_faults(|faults| faults.stop_at = Some(before + calls));
        let made = queue.create_fence(2, "c").is_ok();
        drop(queue);
        world.disk.revive();
        let queue = world.open(1);
        let fences: Vec<_> =
            queue.stats().sets.into_iter().filter(|set| set.kind == SetKind::Fence).collect();
        assert!(fences.iter().all(|set| set.lanes.len() == 2 && set.hold == Hold::Until("c".to_owned())));
        assert!(!made || !fences.is_empty());
        for fence in fences {
            queue.close_set(fence.set);
        }
        queue.directory.upkeep();
    }
}

#[test]
fn a_damaged_description_of_lanes_loses_no_record() {
    let world = World::new();
    let queue = world.open(3);
    queue.append(2, samples(1), b"a").unwrap();
    drop(queue);
    world.disk.put(Path::new("/data/prod/set-00000001/meta"), b"promring queue set 1\nkind");
    let queue = world.open(3);
    assert_eq!(sets(&queue), [1]);
    assert_eq!(drain(&mut reader(&queue, 2)), [b"a"]);
}
