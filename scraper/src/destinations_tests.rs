//! Destinations with real queues and real receivers: what a reload, a bound and a second do to samples.

use promring_model::config::WhenFull;
use promring_model::labels::{Labels, LabelsBuilder};
use promring_model::target::TargetKey;

use super::*;
use crate::labelsets::LabelSets;
use crate::payload::Outgoing;
use crate::queue::SetKind;
use crate::queue::tests::losses::told_by;
use crate::send::tests::receiver::{Action, Received, Receiver};
use crate::series::Series;
use crate::sink::Way;

#[path = "fences_tests.rs"]
mod fences;

fn config(remote_write: &str, scraper: &str) -> Config {
    let text = format!("remote_write: [{remote_write}]\nscraper: {{{scraper}}}\n");
    crate::testing::config_in(&text)
}

/// A destination with short pauses and these keys of `queue_config`.
fn to(name: &str, url: &str, keys: &str) -> String {
    format!("{{name: {name}, url: '{url}', queue_config: {{min_backoff: 1ms, max_backoff: 5ms{keys}}}}}")
}

struct World {
    dir: tempfile::TempDir,
    labels: Arc<Shared>,
    destinations: Arc<Destinations>,
    sink: Arc<Sink>,
    flushing: Option<tokio::task::JoinHandle<()>>,
}

impl World {
    fn start(config: &Config) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), config)
    }

    fn start_in(dir: tempfile::TempDir, config: &Config) -> Self {
        let labels = Arc::new(Shared::default());
        let destinations = Destinations::new(dir.path().to_owned(), Arc::clone(&labels), None);
        let sink = destinations.apply(config).unwrap().sink;
        Self { dir, labels, destinations: Arc::new(destinations), sink, flushing: None }
    }

    fn reload(&mut self, config: &Config) {
        self.sink = self.destinations.apply(config).unwrap().sink;
    }

    /// A scrape of the target with this key: one sample of each series.
    fn scrape(&self, key: u64, spread: bool, names: &[String], time: i64) {
        self.scrape_by(Way { spread, ..Way::of(TargetKey(key)) }, names, time);
    }

    fn scrape_by(&self, way: Way, names: &[String], time: i64) {
        let key = way.key.0;
        let mut sets = LabelSets::new(&self.labels, std::iter::empty());
        let mut added = |name: &String| {
            let labels = Labels::from_pairs([("__name__", name.as_str()), ("key", &key.to_string())]);
            let (mut bytes, labels) = (Vec::new(), LabelsBuilder::from_labels(&labels));
            sets.add(&[Some(labels.clone()), Some(labels)], &mut bytes);
            bytes
        };
        let added: Vec<Vec<u8>> = names.iter().map(&mut added).collect();
        let mut lanes = self.sink.lanes(way, &self.labels);
        for bytes in &added {
            let series = Series::new(&sets, bytes);
            lanes.push(&Outgoing::float(series, (time as f64).to_bits(), time));
        }
    }

    fn report(&self, name: &str) -> QueueReport {
        let reports = self.destinations.reports();
        reports.into_iter().find(|report| report.destination == name).unwrap()
    }

    async fn until(&self, mut done: impl FnMut(&Self) -> bool) {
        // Nobody tells what is asked for here, so this asks now and then.
        while !done(self) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("series_{number}")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_sample_is_in_the_segments_file_within_a_second_even_where_more_may_be_waited_for() {
    // Nobody listens there.
    let world = World::start(&config(&to("prod", "http://127.0.0.1:1/", ", batch_send_deadline: 10s"), ""));
    let destinations = Arc::clone(&world.destinations);
    tokio::spawn(async move { destinations.flush_always().await });
    for at_ms in [0, 37, 99, 150] {
        // Wherever in the pause between two looks it comes.
        tokio::time::sleep(Duration::from_millis(at_ms)).await;
        let before = world.report("prod").samples;
        world.scrape(7, false, &names(3), 1_000);
        assert_eq!(world.report("prod").samples, before);
        tokio::time::sleep(Duration::from_millis(950)).await;
        assert_eq!(world.report("prod").samples, before + 3);
    }
    let inspection = Inspection::of(&send::queue_dir(world.dir.path(), "prod")).unwrap();
    assert_eq!(inspection.pending().samples, 12, "and what is in the queue is in its files");
}

#[tokio::test]
async fn a_reload_with_another_number_of_lanes_loses_nothing_and_keeps_the_order_of_each_series() {
    let receiver =
        Receiver::start(|number, _| if number % 5 == 3 { Action::Answer(503, "") } else { Action::Store })
            .await;
    let with = |lanes: usize| {
        let keys = format!(", min_shards: {lanes}, max_shards: {lanes}, max_samples_per_send: 10");
        config(&to("prod", &receiver.url, &keys), "")
    };
    let mut world = World::start(&with(8));
    let mut time = 0;
    for lanes in [3, 16, 1, 8] {
        for _ in 0..20 {
            time += 1;
            for key in 0..12 {
                world.scrape(key, key % 3 == 0, &names(3).map_key(key), time);
            }
        }
        // Requests are half filled when it comes.
        world.reload(&with(lanes));
    }
    world.destinations.finish(Duration::from_secs(60)).await;
    let stored = receiver.stored();
    assert_eq!(stored.len(), 36);
    for (name, times) in stored {
        assert_eq!(times, (1..=80).collect::<Vec<_>>(), "{name}");
    }
}

trait MapKey {
    fn map_key(self, key: u64) -> Self;
}

impl MapKey for Vec<String> {
    /// Series are told apart by name at the receiver.
    fn map_key(self, key: u64) -> Self {
        self.into_iter().map(|name| format!("{name}_of_{key}")).collect()
    }
}

#[tokio::test]
async fn an_old_number_of_lanes_is_gone_once_it_is_sent() {
    let receiver = Receiver::start(|_, _| Action::Store).await;
    let with = |lanes: usize| config(&to("prod", &receiver.url, &format!(", max_shards: {lanes}")), "");
    let mut world = World::start(&with(5));
    world.scrape(1, false, &names(1), 1);
    world.reload(&with(2));
    let open = lock(&world.destinations.open)[0].clone();
    world
        .until(|_| {
            let sets = open.destination.queue.stats().sets;
            assert!(sets.iter().all(|set| set.kind == SetKind::Normal));
            sets.len() == 1 && sets[0].lanes.len() == 2
        })
        .await;
    assert_eq!(receiver.stored()["series_0"], [1]);
}

#[tokio::test]
async fn the_series_of_a_spread_target_use_every_lane_and_each_always_the_same() {
    let receiver = Receiver::start(|_, _| Action::Store).await;
    let world = World::start(&config(&to("prod", &receiver.url, ", max_samples_per_send: 5"), ""));
    let lanes_used = |world: &World| {
        let open = lock(&world.destinations.open)[0].clone();
        let sets = open.destination.queue.stats().sets;
        sets[0].lanes.iter().filter(|lane| lane.pending.records > 0).count()
    };
    for time in 1..=30 {
        world.scrape(4, true, &names(100), time);
    }
    // The senders have not had a turn yet.
    assert_eq!(lanes_used(&world), send::LANES);
    world.destinations.finish(Duration::from_secs(60)).await;
    assert_eq!(receiver.stored().len(), 100);
    assert!(receiver.stored().values().all(|times| *times == (1..=30).collect::<Vec<_>>()));
}

#[tokio::test]
async fn half_filled_requests_of_1_0_are_finished_as_such_when_a_reload_asks_for_2_0() {
    let receiver = Receiver::start(|_, _| Action::Store).await;
    let one = config(&to("prod", &receiver.url, ", max_shards: 1"), "");
    let two = to("prod", &receiver.url, ", max_shards: 1")
        .replace("{name", "{protobuf_message: io.prometheus.write.v2.Request, name");
    let mut world = World::start(&one);
    world.scrape(1, false, &names(2), 1);
    world.reload(&config(&two, ""));
    world.scrape(1, false, &names(2), 2);
    world.destinations.finish(Duration::from_secs(60)).await;
    let received = receiver.received();
    assert_eq!(received.iter().map(Received::is_v2).collect::<Vec<_>>(), [false, true]);
    assert!(receiver.stored().values().all(|times| *times == [1, 2]));
}

#[tokio::test]
async fn a_destination_that_moves_keeps_its_queue_by_its_name_and_one_that_does_not_change_goes_on() {
    let left = Receiver::start(|_, _| Action::Answer(503, "")).await;
    let (moved, steady) =
        (Receiver::start(|_, _| Action::Store).await, Receiver::start(|_, _| Action::Store).await);
    let with = |url: &str| config(&format!("{}, {}", to("moves", url, ""), to("stays", &steady.url, "")), "");
    let mut world = World::start(&with(&left.url));
    let destinations = Arc::clone(&world.destinations);
    tokio::spawn(async move { destinations.flush_always().await });
    let stays = |world: &World| Arc::clone(&lock(&world.destinations.open)[1].senders);
    let before = stays(&world);
    world.scrape(1, false, &names(2), 1);
    left.requests(1).await;
    world.reload(&with(&moved.url));
    assert!(Arc::ptr_eq(&before, &stays(&world)));
    world.scrape(1, false, &names(2), 2);
    for receiver in [&moved, &steady] {
        receiver.samples(4).await;
        assert!(receiver.stored().values().all(|times| *times == [1, 2]));
    }
    assert_eq!(world.destinations.reports().len(), 2);
}

#[tokio::test]
async fn a_removed_destination_is_sent_what_is_queued_and_its_queue_is_closed() {
    let receiver =
        Receiver::start(|number, _| if number < 5 { Action::Answer(500, "") } else { Action::Store }).await;
    let mut world = World::start(&config(&to("prod", &receiver.url, ""), ""));
    let (destinations, old) = (Arc::clone(&world.destinations), Arc::clone(&world.sink));
    tokio::spawn(async move { destinations.flush_always().await });
    world.scrape(1, false, &names(2), 1);
    world.reload(&config("", ""));
    // A scrape under the old configuration ends only now.
    let new = std::mem::replace(&mut world.sink, old);
    world.scrape(1, false, &names(2), 2);
    world.sink = new;
    receiver.samples(4).await;
    world.until(|world| world.destinations.reports().is_empty()).await;
    assert!(receiver.stored().values().all(|times| *times == [1, 2]));
    let dir = send::queue_dir(world.dir.path(), "prod");
    assert!(!dir.exists(), "an empty queue without a destination is deleted");
    // It can be had again.
    world.reload(&config(&to("prod", &receiver.url, ""), ""));
    world.scrape(1, false, &names(2), 3);
    receiver.samples(6).await;
    assert!(dir.exists());
}

#[tokio::test]
async fn a_removed_destination_is_there_until_all_that_lies_aside_was_asked_for() {
    let away = Arc::new(AtomicBool::new(true));
    let is_away = Arc::clone(&away);
    let receiver = Receiver::start(move |_, request| {
        let samples = request.samples();
        match &*samples {
            [(name, 3)] if name == "series_0" && is_away.load(Ordering::Relaxed) => Action::Answer(429, ""),
            _ if samples.iter().any(|(name, _)| name == "series_0") => Action::Answer(400, "no"),
            _ => Action::Store,
        }
    })
    .await;
    let mut world = World::start(&config(&to("prod", &receiver.url, ", max_shards: 1"), ""));
    let destinations = Arc::clone(&world.destinations);
    tokio::spawn(async move { destinations.flush_always().await });
    for time in 1..=3 {
        world.scrape(1, false, &names(2), time);
        receiver.samples(usize::try_from(time).unwrap()).await;
    }
    world.reload(&config("", ""));
    let asked = || {
        receiver.received().iter().filter(|request| request.samples() == [("series_0".to_owned(), 3)]).count()
    };
    let before = asked();
    world.until(|_| asked() > before + 2).await;
    let report = world.report("prod");
    assert_eq!((report.samples, report.aside_samples), (0, 1));
    assert!(world.destinations.are_idle(), "nobody waits for it");
    let dir = send::queue_dir(world.dir.path(), "prod");
    assert!(dir.exists());
    away.store(false, Ordering::Relaxed);
    world.until(|world| world.destinations.reports().is_empty() && !dir.exists()).await;
    assert!(receiver.stored().values().all(|times| *times == [1, 2, 3]));
}

#[tokio::test]
async fn a_destination_that_is_removed_and_comes_back_over_and_over_loses_nothing() {
    let receiver =
        Receiver::start(|number, _| if number % 4 == 1 { Action::Answer(503, "") } else { Action::Store })
            .await;
    let there = config(&to("prod", &receiver.url, ""), "");
    let mut world = World::start(&there);
    let destinations = Arc::clone(&world.destinations);
    tokio::spawn(async move { destinations.flush_always().await });
    for time in 1..=15 {
        world.scrape(1, false, &names(2), time);
        world.reload(&config("", ""));
        if time % 3 > 0 {
            // From a moment to all of the way to the end of its queue.
            let pause = tokio::time::sleep(Duration::from_millis(time as u64 * 97 % 350));
            pause.await;
        }
        world.reload(&there);
    }
    world.destinations.finish(Duration::from_secs(60)).await;
    assert!(receiver.stored().values().all(|times| *times == (1..=15).collect::<Vec<_>>()));
}

#[tokio::test]
async fn a_parked_destination_is_sent_nothing_until_one_of_its_name_is_there_again() {
    let receiver = Receiver::start(|_, _| Action::Hang).await;
    let mut world = World::start(&config(&to("prod", &receiver.url, ""), ""));
    let destinations = Arc::clone(&world.destinations);
    tokio::spawn(async move { destinations.flush_always().await });
    world.scrape(1, false, &names(2), 1);
    world.until(|world| world.report("prod").samples == 2).await;
    receiver.requests(1).await;
    world.reload(&config("", "removed_destinations: park"));
    world.until(|world| lock(&world.destinations.leaving).is_empty()).await;
    let parked = world.report("prod");
    assert_eq!(parked.samples, 2);
    // By its name it has its queue again, wherever it is by now.
    let moved = Receiver::start(|_, _| Action::Store).await;
    world.reload(&config(&to("prod", &moved.url, ""), "removed_destinations: park"));
    moved.samples(2).await;
    assert_eq!(receiver.received().len(), 1);
    world.until(|world| world.report("prod").samples == 0).await;
    assert_eq!(world.destinations.reports().len(), 1);
}

#[tokio::test]
async fn a_queue_of_an_earlier_run_without_a_destination_is_shown() {
    let world = World::start(&config(&to("old", "http://127.0.0.1:1/", ""), ""));
    world.scrape(1, false, &names(5), 1);
    world.destinations.finish(Duration::ZERO).await;
    let World { dir, destinations, sink, .. } = world;
    drop((destinations, sink));
    let labels = Arc::new(Shared::default());
    let destinations = Destinations::new(dir.path().to_owned(), labels, None);
    destinations.apply(&config(&to("new", "http://127.0.0.1:1/", ""), "")).unwrap();
    let reports = destinations.reports();
    assert_eq!(
        reports.iter().map(|report| (&*report.destination, report.samples)).collect::<Vec<_>>(),
        [("new", 0), ("old", 5)]
    );
    assert!(!destinations.are_idle());
}

#[tokio::test]
async fn a_queue_of_an_earlier_run_without_a_destination_goes_if_it_is_empty() {
    let receiver = Receiver::start(|_, _| Action::Store).await;
    let world = World::start(&config(&to("old", &receiver.url, ""), ""));
    world.scrape(1, false, &names(5), 1);
    world.destinations.finish(Duration::from_secs(60)).await;
    let World { dir, destinations, sink, .. } = world;
    drop((destinations, sink));
    let old = send::queue_dir(dir.path(), "old");
    // As another one that was being deleted when its process ended.
    let rest = old.with_file_name("older.gone");
    std::fs::create_dir_all(rest.join("set-00000001")).unwrap();
    assert!(old.exists());
    let destinations = Destinations::new(dir.path().to_owned(), Arc::default(), None);
    destinations.apply(&config(&to("new", &receiver.url, ""), "")).unwrap();
    assert!(!old.exists() && !rest.exists());
    assert_eq!(destinations.reports().len(), 1);
}

#[tokio::test]
async fn with_back_pressure_a_full_queue_drops_nothing_and_has_room_again_when_it_is_sent() {
    let receiver = Receiver::start(|_, _| Action::Store).await;
    let queue = "queue: {max_bytes: 300KB, when_full: back_pressure}";
    // Away at first.
    let mut world = World::start(&config(&to("prod", "http://127.0.0.1:1/", ""), queue));
    let names: Vec<String> = names(500);
    let mut time = 0;
    while world.sink.has_room() {
        time += 1;
        assert!(time < 10_000, "it never fills");
        world.scrape(time as u64, false, &names.clone().map_key(time as u64), time);
        lock(&world.destinations.open)[0].destination.flush(&world.labels);
    }
    let report = world.report("prod");
    assert_eq!((report.samples, report.dropped), (time as u64 * 500, 0));
    // What scrapes in flight still bring is kept too.
    time += 1;
    world.scrape(time as u64, false, &names.clone().map_key(time as u64), time);
    world.reload(&config(&to("prod", &receiver.url, ""), queue));
    world.until(|world| world.report("prod").samples == 0 && world.sink.has_room()).await;
    assert_eq!(world.report("prod").dropped, 0);
    world.destinations.finish(Duration::from_secs(60)).await;
    let stored: usize = receiver.stored().values().map(Vec::len).sum();
    assert_eq!(stored, time as usize * 500);
}

#[tokio::test]
async fn a_reload_brings_other_bounds_to_a_queue_that_is_open() {
    let destination = to("prod", "http://127.0.0.1:1/", "");
    let mut world = World::start(&config(&destination, ""));
    let open = lock(&world.destinations.open)[0].clone();
    assert!(open.destination.queue.has_room());
    world.scrape(1, false, &names(100), 1);
    open.destination.flush(&world.labels);
    world.reload(&config(&destination, "queue: {max_bytes: 100B, when_full: back_pressure}"));
    assert!(!open.destination.queue.has_room(), "{:?}", WhenFull::BackPressure);
    world.reload(&config(&destination, "queue: {max_bytes: 100B}"));
    world.scrape(1, false, &names(100), 2);
    open.destination.flush(&world.labels);
    assert_eq!(world.report("prod").dropped, 100);
}

#[tokio::test]
async fn a_drain_ends_when_all_is_sent_or_its_time_is_over() {
    let taking = Receiver::start(|number, _| {
        if number % 2 == 0 { Action::AnswerWith(429, "Retry-After", "0".to_owned()) } else { Action::Store }
    })
    .await;
    let stuck = Receiver::start(|_, _| Action::Hang).await;
    let keys = ", max_shards: 1, max_samples_per_send: 3";
    let both = format!("{}, {}", to("taking", &taking.url, keys), to("stuck", &stuck.url, keys));
    let world = World::start(&config(&both, ""));
    for time in 1..=30 {
        world.scrape(1, false, &names(3), time);
    }
    let end = Instant::now() + Duration::from_millis(400);
    world.destinations.drain(end, end).await;
    assert!(taking.stored().values().all(|times| *times == (1..=30).collect::<Vec<_>>()));
    assert_eq!((world.report("taking").samples, world.report("stuck").samples), (0, 90));
}

#[tokio::test]
async fn a_receiver_that_takes_a_little_at_a_time_does_not_prolong_a_drain() {
    let answer = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&answer);
    let slow = Receiver::start(move |_, _| Action::StoreAndWait(Arc::clone(&told))).await;
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            answer.notify_one();
        }
    });
    let world = World::start(&config(&to("prod", &slow.url, ", max_shards: 1, max_samples_per_send: 3"), ""));
    for time in 1..=500 {
        world.scrape(1, false, &names(3), time);
    }
    let end = Instant::now() + Duration::from_secs(1);
    world.destinations.drain(end, end + Duration::from_secs(60)).await;
    // Ten seconds are needed for all of it.
    let left = world.report("prod").samples;
    assert!(left > 0 && left < 1_500, "{left}");
    assert_eq!(slow.stored().values().map(Vec::len).sum::<usize>() as u64, 1_500 - left, "no answer is lost");
}

#[tokio::test]
async fn at_the_end_the_log_tells_apart_what_stays_on_disk_and_what_is_lost_in_memory() {
    // Nobody listens there.
    let world = World::start(&config(&to("prod", "http://127.0.0.1:9/", ", max_shards: 1"), ""));
    let queue = Arc::clone(&world.destinations.in_force()[0].queue);
    let append = |samples| {
        let meta = crate::queue::RecordMeta { samples, ..Default::default() };
        queue.append(0, meta, b"body").unwrap();
    };
    append(3);
    let told = || told_by(|| world.destinations.tell_what_stays());
    let lines = told();
    assert!(lines.len() == 1 && lines[0].contains("samples=3 "), "{lines:?}");
    assert!(lines[0].contains("they stay on disk"), "{lines:?}");
    // The segment that takes records is finished, and the next one has no place.
    assert!(queue.set_lanes(2).is_ok());
    let set = send::queue_dir(world.dir.path(), "prod").join("set-00000002");
    std::fs::remove_dir_all(&set).unwrap();
    std::fs::write(&set, "").unwrap();
    append(5);
    assert_eq!(queue.samples_in_memory(), 5);
    let lines = told();
    assert!(lines.iter().any(|line| line.contains("samples=5 ") && line.contains("lost with this process")));
    assert!(lines.iter().any(|line| line.contains("samples=3 ") && line.contains("they stay on disk")));
}
