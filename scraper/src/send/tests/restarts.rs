use super::*;

#[tokio::test]
async fn a_request_that_was_in_flight_keeps_its_boundaries_over_a_restart() {
    let receiver = Receiver::start(|number, _| if number == 0 { Action::Hang } else { Action::Store }).await;
    let dir = tempfile::tempdir().unwrap();
    let config = destination("prod", &receiver.url, ", max_samples_per_send: 4");
    let settings = QueueSettings::default();
    let sending = Sending::open(dir.path(), std::slice::from_ref(&config), &settings);
    for time in 1..=3 {
        sending.append(&[("a", time)]);
    }
    sending.start();
    receiver.requests(1).await;
    sending.kill().await;
    // The next process finds more records than the request had, which would have been joined to it.
    let sending = Sending::open(dir.path(), &[config], &settings);
    for time in 4..=9 {
        sending.append(&[("a", time)]);
    }
    sending.start();
    sending.drained().await;
    let counts: Vec<usize> = receiver.received().iter().map(|request| request.samples().len()).collect();
    assert_eq!(counts, [3, 3, 4, 2]);
    assert_eq!(receiver.received()[0].body, receiver.received()[1].body);
    assert_eq!(receiver.stored()["a"], (1..=9).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_single_record_in_flight_is_not_joined_to_others_after_a_restart() {
    let receiver = Receiver::start(|number, _| if number == 0 { Action::Hang } else { Action::Store }).await;
    let dir = tempfile::tempdir().unwrap();
    let config = destination("prod", &receiver.url, "");
    let settings = QueueSettings::default();
    let sending = Sending::open(dir.path(), std::slice::from_ref(&config), &settings);
    sending.start();
    sending.append(&[("a", 1)]);
    receiver.requests(1).await;
    sending.append(&[("a", 2)]);
    sending.append(&[("a", 3)]);
    sending.kill().await;
    let sending = Sending::open(dir.path(), &[config], &settings);
    sending.start();
    sending.drained().await;
    let counts: Vec<usize> = receiver.received().iter().map(|request| request.samples().len()).collect();
    assert_eq!(counts, [1, 1, 2]);
}

#[tokio::test]
async fn what_a_killed_process_had_stored_is_already_stored_to_the_next_one() {
    let receiver = Receiver::start(|number, _| match number {
        0 => Action::StoreAndReset,
        1 => Action::Hang,
        _ => Action::Store,
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let config = destination("prod", &receiver.url, "");
    let settings = QueueSettings::default();
    let sending = Sending::open(dir.path(), std::slice::from_ref(&config), &settings);
    sending.append(&[("a", 1)]);
    sending.append(&[("a", 2)]);
    sending.start();
    receiver.requests(2).await;
    sending.kill().await;
    let sending = Sending::open(dir.path(), &[config], &settings);
    sending.start();
    sending.drained().await;
    assert_eq!(receiver.stored()["a"], [1, 2]);
    assert_eq!((sending.refused("already_stored"), sending.refused("out_of_order")), (1, 0));
}

#[tokio::test]
async fn what_an_earlier_process_left_is_pending_from_the_first_moment_on() {
    let dir = tempfile::tempdir().unwrap();
    let config = destination("prod", "http://127.0.0.1:9/", "");
    let settings = QueueSettings::default();
    let sending = Sending::open(dir.path(), std::slice::from_ref(&config), &settings);
    sending.append(&[("a", 1), ("b", 1)]);
    drop(sending);
    let sending = Sending::open(dir.path(), &[config], &settings);
    sending.start();
    // Nobody has had a chance to run meanwhile.
    assert_eq!(sending.metric("prometheus_remote_storage_samples_pending", ""), 2);
    assert_eq!(sending.metric("promring_queue_records", ""), 1);
    sending.kill().await;
}

#[tokio::test]
async fn a_stop_sends_what_is_queued_and_ends() {
    let receiver = Receiver::start(|_, _| Action::Store).await;
    let (sending, _dir) = sending_to(&receiver, ", max_samples_per_send: 1").await;
    for time in 1..=100 {
        sending.append(&[("a", time)]);
    }
    sending.senders[0].finish(Duration::from_secs(60)).await;
    assert_eq!(receiver.stored()["a"].len(), 100);
    assert_eq!(sending.queues[0].stats().pending.records, 0);
    assert_eq!(sending.metric("prometheus_remote_storage_samples_pending", ""), 0);
}

#[tokio::test]
async fn a_stop_ends_the_request_that_is_under_way_and_begins_no_other() {
    let answer = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&answer);
    let receiver = Receiver::start(move |number, _| match number {
        0 => Action::StoreAndWait(Arc::clone(&told)),
        _ => Action::Store,
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let config = destination("prod", &receiver.url, ", max_samples_per_send: 1");
    let sending = Sending::open(dir.path(), &[config], &QueueSettings::default());
    sending.append(&[("a", 1)]);
    sending.append(&[("a", 2)]);
    sending.start();
    receiver.requests(1).await;
    // The time to send is over before the answer comes.
    let overdue = async {};
    let ended = sending.senders[0].finish_until(overdue, std::future::pending());
    tokio::join!(ended, async { answer.notify_one() });
    assert_eq!(receiver.received().len(), 1);
    drop(sending);
    let left = crate::queue::Inspection::of(&queue_dir(dir.path(), "prod")).unwrap();
    let lane = &left.sets[0].lanes[0];
    assert_eq!((lane.acknowledged, lane.in_flight, lane.pending.records), (1, None, 1));
}

#[tokio::test]
async fn a_stop_ends_a_request_that_is_in_pieces_as_a_whole() {
    let answer = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&answer);
    let receiver = Receiver::start(move |number, _| match number {
        0 => Action::Answer(413, ""),
        1 => Action::StoreAndWait(Arc::clone(&told)),
        _ => Action::Store,
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let config = destination("prod", &receiver.url, "");
    let sending = Sending::open(dir.path(), &[config], &QueueSettings::default());
    sending.append(&[("a", 1), ("b", 1)]);
    sending.start();
    receiver.requests(2).await;
    let ended = sending.senders[0].finish_until(async {}, std::future::pending());
    tokio::join!(ended, async { answer.notify_one() });
    assert_eq!(receiver.stored().len(), 2);
    assert_eq!(sending.queues[0].stats().pending.records, 0);
}

#[tokio::test]
async fn a_stop_waits_for_no_answer_beyond_its_time_and_tries_nothing_again() {
    let receiver = Receiver::start(|number, _| match number {
        0 => Action::Answer(500, ""),
        _ => Action::Hang,
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = (*destination("prod", &receiver.url, "")).clone();
    (config.queue.min_backoff, config.queue.max_backoff) =
        (Duration::from_secs(3600), Duration::from_secs(3600));
    let sending = Sending::open(dir.path(), &[Arc::new(config)], &QueueSettings::default());
    sending.append(&[("a", 1)]);
    sending.start();
    receiver.requests(1).await;
    // It waits before it is tried again, which it is not.
    sending.senders[0].finish_until(async {}, std::future::pending()).await;
    assert_eq!(receiver.received().len(), 1);
    drop(sending);
    let config = destination("prod", &receiver.url, "");
    let sending = Sending::open(dir.path(), &[config], &QueueSettings::default());
    sending.start();
    receiver.requests(2).await;
    sending.senders[0].finish_until(async {}, async {}).await;
    assert_eq!(sending.queues[0].stats().pending.records, 1);
}

#[tokio::test]
async fn a_stop_leaves_to_the_next_process_what_a_dead_receiver_does_not_take() {
    let receiver = Receiver::start(|_, _| Action::Answer(429, "")).await;
    let dir = tempfile::tempdir().unwrap();
    let config = destination("prod", &receiver.url, "");
    let settings = QueueSettings::default();
    let sending = Sending::open(dir.path(), std::slice::from_ref(&config), &settings);
    sending.start();
    sending.append(&[("a", 1)]);
    receiver.requests(3).await;
    sending.append(&[("a", 2)]);
    sending.kill().await;
    let sending = Sending::open(dir.path(), &[config], &settings);
    assert_eq!(sending.queues[0].stats().pending.samples, 2);
    let alive = Receiver::start(|_, _| Action::Store).await;
    drop(sending);
    let config = destination("prod", &alive.url, "");
    let sending = Sending::open(dir.path(), &[config], &settings);
    sending.start();
    sending.drained().await;
    assert_eq!(alive.stored()["a"], [1, 2]);
}

#[test]
fn queues_lie_in_directories_of_their_own_whatever_their_names() {
    let names = ["prod", "Prod", "../prod", "prod/", "", "ä", "prod.", &"x".repeat(300), &"x".repeat(301)];
    let dirs: Vec<PathBuf> = names.iter().map(|name| queue_dir(Path::new("/data"), name)).collect();
    assert_eq!(dirs[0], Path::new("/data/queue/prod"));
    for dir in &dirs {
        assert_eq!(dir.parent(), Some(Path::new("/data/queue")));
        assert!(dir.file_name().unwrap().len() < 200);
    }
    let mut lower: Vec<String> = dirs.iter().map(|dir| dir.to_str().unwrap().to_lowercase()).collect();
    lower.sort();
    lower.dedup();
    assert_eq!(lower.len(), names.len());
}

#[tokio::test]
async fn counters_go_on_when_a_destination_is_opened_again_in_the_same_process() {
    let receiver = Receiver::start(|_, _| Action::Store).await;
    let dir = tempfile::tempdir().unwrap();
    let config = destination("prod", &receiver.url, "");
    let recorder = PrometheusBuilder::new().build_recorder();
    let open = || {
        Sending::open_with(dir.path(), std::slice::from_ref(&config), &QueueSettings::default(), &recorder)
    };
    let sending = open();
    sending.append(&[("a", 1), ("b", 1), ("c", 1)]);
    sending.senders[0].finish(Duration::from_secs(60)).await;
    drop(sending);
    let sending = open();
    sending.append(&[("a", 2)]);
    sending.senders[0].finish(Duration::from_secs(60)).await;
    assert_eq!(sending.metric("promring_queue_enqueued_samples_total", ""), 4);
    // Other senders on the same queue count nothing twice.
    let again =
        ::metrics::with_local_recorder(&recorder, || Senders::new(&config, &sending.queues[0]).unwrap());
    sending.append(&[("a", 3)]);
    again.finish(Duration::from_secs(60)).await;
    assert_eq!(sending.metric("promring_queue_enqueued_samples_total", ""), 5);
}

#[tokio::test]
async fn a_stop_sends_what_is_in_memory_past_what_a_failed_disk_holds() {
    let receiver = Receiver::start(|_, _| Action::Store).await;
    let (sending, dir) = queueing_for(&receiver, "");
    sending.append(&[("a", 1)]);
    drop(sending);
    let config = destination("prod", &receiver.url, "");
    let sending = Sending::open(dir.path(), &[config], &QueueSettings::default());
    // From now on nothing in the lane's directory can be read, written or renamed.
    let lane = queue_dir(dir.path(), "prod").join("set-00000001/lane-000");
    std::fs::rename(&lane, lane.with_extension("away")).unwrap();
    std::fs::write(&lane, "").unwrap();
    sending.append(&[("a", 2), ("b", 2)]);
    assert_eq!(sending.queues[0].samples_in_memory(), 2);
    sending.senders[0].finish(Duration::from_secs(600)).await;
    let stored = receiver.stored();
    assert_eq!((&stored["a"], &stored["b"]), (&vec![2], &vec![2]));
    assert_eq!(sending.queues[0].stats().dropped(DropReason::Unreadable), 1);
}
