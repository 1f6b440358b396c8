//! Fences with real queues and receivers: what waits, what comes first, and what a restart makes of it.

use std::collections::HashSet;

use promring_model::handover::Version;

use super::*;
use crate::queue::LaneId;

fn id(counter: u64) -> MoveId {
    MoveId(Version { term: 1, counter })
}

/// A fence that is closed, for these keys.
fn closed(keys: &[u64]) -> WantedFence {
    WantedFence { open_at: BTreeSet::new(), keys: keys.iter().map(|key| TargetKey(*key)).collect() }
}

fn open_at(name: &str, keys: &[u64]) -> WantedFence {
    WantedFence { open_at: BTreeSet::from([name.to_owned()]), ..closed(keys) }
}

/// The lanes of keys.
fn lanes(keys: &BTreeSet<TargetKey>) -> Option<HashSet<u64>> {
    Some(keys.iter().map(|key| key.0).collect())
}

fn behind(key: u64, fence: Option<MoveId>) -> Way {
    Way { fence, ..Way::of(TargetKey(key)) }
}

impl World {
    fn scrape_behind(&self, key: u64, fence: Option<MoveId>, time: i64) {
        self.scrape_by(behind(key, fence), &names(2).map_key(key), time);
    }

    fn keep(&self, wanted: impl IntoIterator<Item = (MoveId, WantedFence)>) -> BTreeSet<MoveId> {
        self.destinations.keep_fences(&wanted.into_iter().collect())
    }

    fn fences(&self) -> usize {
        self.destinations.in_force().iter().map(|destination| destination.fences()).sum()
    }

    fn flush_in_background(&mut self) {
        let destinations = Arc::clone(&self.destinations);
        self.flushing = Some(tokio::spawn(async move { destinations.flush_always().await }));
    }

    /// Ends the process, and starts the next one in the same directory.
    async fn restart(self, config: &Config) -> Self {
        self.destinations.finish(Duration::ZERO).await;
        let Self { dir, destinations, sink, flushing, .. } = self;
        if let Some(flushing) = flushing {
            flushing.abort();
            let _aborted = flushing.await;
        }
        drop((destinations, sink));
        Self::start_in(dir, config)
    }
}

fn times_of(receiver: &Receiver, key: u64) -> Vec<i64> {
    receiver.stored().remove(&format!("series_0_of_{key}")).unwrap_or_default()
}

#[tokio::test]
async fn fences_in_a_directory_that_can_be_read_only_later_are_kept_then() {
    for goes_on in [true, false] {
        let (queue, mend) = crate::queue::tests::late::unread(&format!("hand-over {}", id(1)));
        let entry = config(&to("prod", "http://127.0.0.1:9/", ""), "").remote_write[0].clone();
        let destination = Destination::new(entry, Arc::new(queue));
        let wanted = BTreeMap::from([(id(1), closed(&[1]))]);
        assert_eq!(destination.keep_fences(&wanted), BTreeSet::from([id(1)]), "it cannot have one");
        mend(&destination.queue);
        assert!(destination.queue.has_untold_fences());
        assert!(destination.keep_fences(&if goes_on { wanted } else { BTreeMap::new() }).is_empty());
        assert_eq!(destination.fences(), usize::from(goes_on), "the one that was there");
        let held = destination.queue.stats().sets.iter().any(|set| matches!(set.hold, Hold::Until(_)));
        assert_eq!(held, goes_on);
        assert!(!destination.queue.has_untold_fences());
    }
}

#[tokio::test]
async fn what_is_behind_a_fence_waits_for_its_opening_and_nothing_overtakes_it() {
    let receiver = Receiver::start(|_, _| Action::Store).await;
    let mut world = World::start(&config(&to("prod", &receiver.url, ""), ""));
    world.flush_in_background();
    assert_eq!(world.keep([(id(1), closed(&[1]))]), BTreeSet::new());
    for time in 1..=3 {
        world.scrape_behind(1, Some(id(1)), time);
        // Of the same lane.
        world.scrape_behind(9, None, time);
    }
    world.until(|_| times_of(&receiver, 9) == [1, 2, 3]).await;
    world.destinations.in_force()[0].flush(&world.labels);
    // The receiver has them a moment before the queue knows.
    world.until(|world| world.report("prod").samples == 6).await;
    assert!(times_of(&receiver, 1).is_empty());
    assert!(world.destinations.holds_fenced());

    // The move is over before anything of it is sent: what follows still goes behind it.
    world.keep([]);
    world.scrape_behind(1, None, 4);
    world.until(|_| times_of(&receiver, 1) == [1, 2, 3, 4]).await;
    let mut time = 5;
    while world.fences() > 0 {
        // As often as targets are scraped: the fence ends all the same.
        world.scrape_behind(1, None, time);
        tokio::time::sleep(Duration::from_millis(5)).await;
        time += 1;
    }
    world.scrape_behind(1, None, time);
    world.destinations.finish(Duration::from_secs(60)).await;
    assert_eq!(times_of(&receiver, 1), (1..=time).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_fence_that_stays_closed_takes_a_drain_no_time_beside_what_it_has() {
    const TIME: Duration = Duration::from_secs(20);
    // Nobody listens there, so that nothing is sent of what no fence holds either.
    let mut world = World::start(&config(&to("prod", "http://127.0.0.1:1/", ""), ""));
    world.flush_in_background();
    world.keep([(id(1), closed(&[1]))]);
    world.scrape_behind(1, Some(id(1)), 1);
    world.scrape_behind(9, None, 1);
    world.destinations.in_force()[0].flush(&world.labels);
    assert!(world.destinations.holds_fenced());
    let begun = Instant::now();
    world.destinations.drain(begun + TIME, begun + TIME).await;
    // By a clock that stands still while anybody is at work.
    assert!(begun.elapsed() >= TIME && begun.elapsed() < TIME + TIME / 2, "{:?}", begun.elapsed());
    assert_eq!(world.report("prod").samples, 4);
}

#[tokio::test]
async fn a_drain_sends_what_waits_behind_a_fence_that_opens_in_time() {
    let receiver = Receiver::start(|_, _| Action::Store).await;
    let mut world = World::start(&config(&to("prod", &receiver.url, ""), ""));
    world.flush_in_background();
    world.keep([(id(1), closed(&[1]))]);
    world.scrape_behind(1, Some(id(1)), 1);
    world.scrape_behind(9, None, 1);
    world.destinations.in_force()[0].flush(&world.labels);
    let end = Instant::now() + Duration::from_secs(60);
    let opening = async {
        world.until(|_| times_of(&receiver, 9) == [1]).await;
        world.keep([]);
    };
    tokio::join!(world.destinations.drain(end, end), opening);
    assert_eq!(times_of(&receiver, 1), [1]);
    assert_eq!(world.report("prod").samples, 0);
}

#[tokio::test]
async fn a_fence_opens_destination_by_destination() {
    let (one, two) =
        (Receiver::start(|_, _| Action::Store).await, Receiver::start(|_, _| Action::Store).await);
    let both = format!("{}, {}", to("one", &one.url, ""), to("two", &two.url, ""));
    let mut world = World::start(&config(&both, ""));
    world.flush_in_background();
    world.keep([(id(1), closed(&[1]))]);
    world.scrape_behind(1, Some(id(1)), 1);
    world.keep([(id(1), open_at("two", &[1]))]);
    world.scrape_behind(1, Some(id(1)), 2);
    world.until(|_| times_of(&two, 1) == [1, 2]).await;
    assert!(times_of(&one, 1).is_empty());
    // One that is open before anything was behind it is none.
    world.keep([(id(1), open_at("two", &[1])), (id(2), open_at("two", &[2]))]);
    assert_eq!(world.destinations.in_force()[0].fences(), 2);
    world.scrape_behind(2, Some(id(2)), 1);
    world.until(|_| times_of(&two, 2) == [1]).await;
    world.keep([]);
    world.destinations.finish(Duration::from_secs(60)).await;
    assert_eq!((times_of(&one, 1), times_of(&one, 2)), (vec![1, 2], vec![1]));
}

#[tokio::test]
async fn a_fence_survives_a_restart_and_knows_its_keys() {
    let receiver = Receiver::start(|_, _| Action::Store).await;
    let config = config(&to("prod", &receiver.url, ""), "");
    let world = World::start(&config);
    world.keep([(id(1), closed(&[1]))]);
    world.scrape_behind(1, Some(id(1)), 1);
    let mut world = world.restart(&config).await;
    world.flush_in_background();
    assert_eq!(world.keep([(id(1), closed(&[1]))]), BTreeSet::new());
    assert_eq!(world.fences(), 1, "the one that was there");
    // The move is over; what waits is not.
    world.scrape_behind(1, None, 2);
    world.scrape_behind(9, None, 1);
    world.until(|_| times_of(&receiver, 9) == [1]).await;
    assert!(times_of(&receiver, 1).is_empty());
    world.keep([]);
    world.scrape_behind(1, None, 3);
    world.destinations.finish(Duration::from_secs(60)).await;
    assert_eq!(times_of(&receiver, 1), [1, 2, 3]);
}

#[tokio::test]
async fn what_is_left_behind_a_fence_whose_move_ended_meanwhile_is_sent_before_anything_else() {
    // The first request of the fence fails a few times, so that others would overtake it.
    let receiver = Receiver::start(|number, received| {
        let is_fenced = received.samples().iter().any(|(name, time)| name.ends_with("_of_1") && *time == 1);
        if is_fenced && number < 6 { Action::Answer(503, "") } else { Action::Store }
    })
    .await;
    let config = config(&to("prod", &receiver.url, ""), "");
    let world = World::start(&config);
    world.keep([(id(1), closed(&[1]))]);
    world.scrape_behind(1, Some(id(1)), 1);
    let mut world = world.restart(&config).await;
    world.flush_in_background();
    world.keep([]);
    for time in 2..=5 {
        world.scrape_behind(1, None, time);
        world.destinations.in_force()[0].flush(&world.labels);
    }
    world.until(|world| world.report("prod").samples == 0).await;
    assert_eq!(times_of(&receiver, 1), [1, 2, 3, 4, 5]);
    // An open fence of an earlier process goes the same way.
    world.keep([(id(2), closed(&[1]))]);
    world.scrape_behind(1, Some(id(2)), 6);
    world.keep([]);
    let world = world.restart(&config).await;
    world.keep([]);
    world.scrape_behind(1, None, 7);
    world.destinations.finish(Duration::from_secs(60)).await;
    assert_eq!(times_of(&receiver, 1), [1, 2, 3, 4, 5, 6, 7]);
}

#[tokio::test]
async fn a_destination_has_so_many_fences_and_no_more() {
    let world = World::start(&config(&to("prod", "http://127.0.0.1:1/", ", max_shards: 1"), ""));
    let wanted = |from: u64| (from..=33).map(|number| (id(number), closed(&[number])));
    let missing = world.keep(wanted(1));
    assert_eq!(missing, BTreeSet::from([id(33)]), "it waits");
    world.keep(wanted(2));
    // The first has nothing in it.
    world.destinations.in_force()[0].flush_aged(&world.labels);
    assert_eq!(world.keep(wanted(2)), BTreeSet::new());
    assert_eq!(world.fences(), 32);
}

#[tokio::test]
async fn a_barrier_is_past_once_what_stood_before_it_is_acknowledged_and_no_sooner() {
    let receiver =
        Receiver::start(|number, _| if number < 4 { Action::Answer(503, "") } else { Action::Store }).await;
    let world = World::start(&config(&to("prod", &receiver.url, ""), ""));
    let destination = world.destinations.in_force().remove(0);
    let keys = BTreeSet::from([TargetKey(1)]);
    world.scrape_behind(1, None, 1);
    // Half a request is as good as one.
    let barrier = destination.barrier(id(2), &keys, lanes(&keys).as_ref(), &world.labels);
    assert!(!destination.is_past(&barrier));
    world.until(|_| destination.is_past(&barrier)).await;
    assert_eq!(times_of(&receiver, 1), [1]);

    // What is behind a fence here counts as well.
    world.keep([(id(1), closed(&[1]))]);
    world.scrape_behind(1, Some(id(1)), 2);
    world.scrape_behind(2, None, 2);
    let barrier = destination.barrier(id(2), &keys, lanes(&keys).as_ref(), &world.labels);
    let of_others = BTreeSet::from([TargetKey(2)]);
    let others = destination.barrier(id(2), &of_others, lanes(&of_others).as_ref(), &world.labels);
    // But for what came by a later move than the one that is asked about: that is of after its T, and may wait for this.
    let earlier = destination.barrier(id(0), &keys, lanes(&keys).as_ref(), &world.labels);
    world.until(|_| destination.is_past(&others) && destination.is_past(&earlier)).await;
    assert!(!destination.is_past(&barrier) && barrier.iter().all(|(lane, _)| lane.index == 1));
    world.keep([]);
    world.until(|_| destination.is_past(&barrier)).await;
    assert_eq!(times_of(&receiver, 1), [1, 2]);
}

#[tokio::test]
async fn the_bound_of_bytes_drops_what_is_fenced_too_and_nobody_waits_for_it() {
    let queue = "queue: {max_bytes: 100KB}";
    let world = World::start(&config(&to("prod", "http://127.0.0.1:1/", ""), queue));
    let destination = world.destinations.in_force().remove(0);
    world.keep([(id(1), closed(&[1]))]);
    world.scrape_behind(1, Some(id(1)), 1);
    let keys = BTreeSet::from([TargetKey(1)]);
    let barrier = destination.barrier(id(2), &keys, lanes(&keys).as_ref(), &world.labels);
    assert!(matches!(barrier[..], [(LaneId { set: 2, .. }, _)]));
    for time in 2..200 {
        world.scrape(2, false, &names(500).map_key(2), time);
        destination.flush(&world.labels);
    }
    assert!(world.report("prod").dropped > 0);
    assert!(destination.is_past(&barrier), "dropped");
}

/// Targets come, wait behind fences, are let out and come again, while requests fail and the number of lanes changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_opens_when_every_series_arrives_once_and_in_order() {
    const KEYS: u64 = 30;
    const ROUNDS: u64 = 10;
    let receiver =
        Receiver::start(|number, _| if number % 7 == 3 { Action::Answer(503, "") } else { Action::Store })
            .await;
    let with = |lanes: usize| {
        let keys = format!(", min_shards: {lanes}, max_shards: {lanes}, max_samples_per_send: 9");
        config(&to("prod", &receiver.url, &keys), "")
    };
    let mut world = World::start(&with(3));
    world.flush_in_background();
    let mut time = 0;
    for round in 0..ROUNDS {
        // Every key is behind the fence of one round.
        let keys: Vec<u64> = (0..KEYS).filter(|key| key % ROUNDS == round).collect();
        // What this scraper has of them from before is sent when their fence opens: whoever had them in between waited for that.
        let destination = world.destinations.in_force().remove(0);
        let of_keys = keys.iter().map(|key| TargetKey(*key)).collect();
        let before = destination.barrier(id(round + 1), &of_keys, None, &world.labels);
        assert_eq!(world.keep([(id(round + 1), closed(&keys))]), BTreeSet::new());
        for _ in 0..4 {
            time += 1;
            for key in 0..KEYS {
                let fence = keys.contains(&key).then_some(id(round + 1));
                let spread = key % 4 == 0;
                world.scrape_by(Way { spread, ..behind(key, fence) }, &names(2).map_key(key), time);
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        if round % 3 == 2 {
            world.reload(&with(2 + round as usize % 5));
            world.keep([(id(round + 1), closed(&keys))]);
        }
        world.until(|_| destination.is_past(&before)).await;
    }
    world.keep([]);
    world.until(|world| world.fences() == 0).await;
    world.destinations.finish(Duration::from_secs(60)).await;
    let stored = receiver.stored();
    assert_eq!(stored.len(), 2 * KEYS as usize);
    for (name, times) in stored {
        assert_eq!(times, (1..=time).collect::<Vec<_>>(), "{name}");
    }
}
