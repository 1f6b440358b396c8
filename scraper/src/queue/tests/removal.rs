use super::super::removal::remove;
use super::*;

const DIR: &str = "/data/prod";

fn removed(world: &World) -> Result<bool, QueueError> {
    remove(&world.disk, Path::new(DIR))
}

fn is_there(world: &World) -> bool {
    world.disk.paths().iter().any(|path| path.starts_with(DIR))
}

/// A queue of which everything is acknowledged, closed.
fn done_with() -> World {
    let world = World::new();
    let queue = world.open(2);
    queue.append(0, samples(1), b"a").unwrap();
    queue.append(1, samples(1), b"b").unwrap();
    for lane in 0..2 {
        drain(&mut reader(&queue, lane));
    }
    drop(queue);
    world
}

#[test]
fn a_queue_that_is_done_with_is_deleted_as_a_whole_and_can_be_made_anew() {
    let world = done_with();
    assert!(removed(&world).unwrap());
    assert_eq!(world.disk.paths(), Vec::<std::path::PathBuf>::new());
    let queue = world.open(1);
    queue.append(0, samples(1), b"c").unwrap();
    assert_eq!(drain(&mut reader(&queue, 0)), [b"c"]);
}

#[test]
fn a_queue_that_holds_anything_stays() {
    let world = World::new();
    let queue = world.open(2);
    queue.append(1, samples(1), b"a").unwrap();
    drop(queue);
    assert!(!removed(&world).unwrap(), "a record that is not acknowledged");
    for beside in ["note-of-the-operator", "set-00000009.unreadable"] {
        let world = done_with();
        world.disk.put(&Path::new(DIR).join(beside), b"");
        assert!(!removed(&world).unwrap() && is_there(&world), "{beside}");
    }
    let world = done_with();
    let aside = Path::new(DIR).join("set-00000001/lane-000/00000000000000000001.seg.unreadable");
    world.disk.put(&aside, b"?");
    assert!(!removed(&world).unwrap() && is_there(&world), "a segment that was put aside");
}

#[test]
fn a_queue_that_somebody_has_stays() {
    let world = done_with();
    let queue = world.open(2);
    assert!(matches!(removed(&world), Err(QueueError::Locked { .. })));
    queue.append(0, samples(1), b"c").unwrap();
    drop(queue);
    assert!(!removed(&world).unwrap() && is_there(&world));
}

#[test]
fn a_disk_that_fails_or_a_process_that_ends_on_the_way_leaves_a_queue_or_none() {
    let world = done_with();
    let before = world.disk.calls();
    removed(&world).unwrap();
    let steps = world.disk.calls() - before;
    assert!(steps >= 3, "{steps}");
    for step in 0..steps {
        let world = done_with();
        world.disk.set_faults(|faults| {
            (faults.writes, faults.writes_after) = (Some(std::io::ErrorKind::ReadOnlyFilesystem), step);
        });
        // A disk of memory deletes what is not there as well; what this is about is what stays.
        assert!(removed(&world).is_err(), "step {step}");
        world.disk.set_faults(|faults| faults.writes = None);
        let queue = world.open(2);
        queue.append(0, samples(1), b"c").unwrap();
        assert_eq!(drain(&mut reader(&queue, 0)), [b"c"], "step {step}");
        drop(queue);
        assert!(removed(&world).unwrap() && !is_there(&world));
    }
}
