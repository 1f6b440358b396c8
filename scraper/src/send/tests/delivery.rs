use super::*;

#[tokio::test]
async fn a_record_arrives_as_it_was_queued_with_the_headers_of_the_protocol() {
    let receiver = Receiver::start(|_, _| Action::Store).await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    sending.append(&[("a", 1), ("b", 1)]);
    receiver.requests(1).await;
    let request = &receiver.received()[0];
    assert_eq!(request.body, body(&[("a", 1), ("b", 1)]));
    assert!(request.head.starts_with("POST /api/v1/write HTTP/1.1\r\n"), "{}", request.head);
    for (name, value) in [
        ("Content-Encoding", "snappy"),
        ("Content-Type", "application/x-protobuf"),
        ("X-Prometheus-Remote-Write-Version", "0.1.0"),
        ("User-Agent", concat!("promring/", env!("CARGO_PKG_VERSION"))),
        ("X-Tenant", "a"),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    assert_eq!(request.header("Retry-Attempt"), None);
    sending.drained().await;
    assert_eq!(sending.metric("prometheus_remote_storage_samples_total", "remote_name=\"prod\""), 2);
    assert_eq!(sending.metric("prometheus_remote_storage_bytes_total", ""), request.body.len() as u64);
}

#[tokio::test]
async fn a_failed_request_is_sent_again_as_it_was_until_it_is_taken() {
    let receiver = Receiver::start(|number, _| match number {
        0 => Action::Answer(500, "no"),
        1 => Action::Answer(503, ""),
        2 => Action::Reset,
        3 => Action::Answer(401, "who are you"),
        _ => Action::Store,
    })
    .await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    sending.append(&[("a", 1)]);
    receiver.requests(1).await;
    // What comes meanwhile does not change the request in flight.
    sending.append(&[("a", 2)]);
    receiver.samples(2).await;
    sending.drained().await;
    let received = receiver.received();
    assert_eq!(received.len(), 6);
    assert!(received[..5].iter().all(|request| request.body == received[0].body));
    let attempts: Vec<_> = received.iter().map(|request| request.header("Retry-Attempt")).collect();
    assert_eq!(attempts, [None, Some("1"), Some("2"), Some("3"), Some("4"), None]);
    assert_eq!(sending.metric("prometheus_remote_storage_samples_retried_total", ""), 4);
    assert_eq!(sending.metric("prometheus_remote_storage_samples_failed_total", ""), 0);
    // As Prometheus: samples at each attempt, bytes once.
    assert_eq!(sending.metric("prometheus_remote_storage_samples_total", ""), 6);
    let bytes = received[4].body.len() + received[5].body.len();
    assert_eq!(sending.metric("prometheus_remote_storage_bytes_total", ""), bytes as u64);
}

#[tokio::test]
async fn retry_after_is_waited_for_instead_of_the_backoff() {
    let receiver = Receiver::start(|number, _| match number {
        0 => Action::AnswerWith(429, "Retry-After", "1".to_owned()),
        1 => {
            let soon = std::time::SystemTime::now() + Duration::from_secs(1);
            Action::AnswerWith(503, "Retry-After", httpdate::fmt_http_date(soon))
        }
        _ => Action::Store,
    })
    .await;
    // Without Retry-After nothing would be sent again before an hour is over.
    let dir = tempfile::tempdir().unwrap();
    let mut config = (*destination("prod", &receiver.url, "")).clone();
    (config.queue.min_backoff, config.queue.max_backoff) =
        (Duration::from_secs(3600), Duration::from_secs(3600));
    let sending = Sending::open(dir.path(), &[Arc::new(config)], &QueueSettings::default());
    sending.start();
    let begun = std::time::Instant::now();
    sending.append(&[("a", 1)]);
    receiver.samples(1).await;
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_backlog_of_small_records_goes_in_few_requests_within_the_limit() {
    let receiver = Receiver::start(|_, _| Action::Store).await;
    let (sending, _dir) = queueing_for(&receiver, ", max_samples_per_send: 10");
    for time in 1..=20 {
        // Long names, so that copies in the compressed blocks reach back.
        let name = "a_long_metric_name_that_repeats_a_long_metric_name_that_repeats";
        sending.append(&[(name, time), ("b", time), ("b_long_metric_name_that_repeats", time)]);
    }
    sending.start();
    receiver.samples(60).await;
    let received = receiver.received();
    let counts: Vec<usize> = received.iter().map(|request| request.samples().len()).collect();
    assert_eq!(counts, [9, 9, 9, 9, 9, 9, 6]);
    assert!(receiver.stored().values().all(|times| *times == (1..=20).collect::<Vec<_>>()));
    sending.drained().await;
}

#[tokio::test]
async fn a_dead_destination_holds_up_nobody_else() {
    let alive = Receiver::start(|_, _| Action::Store).await;
    let dead = Receiver::start(|_, _| Action::Hang).await;
    let dir = tempfile::tempdir().unwrap();
    let configs = [destination("dead", &dead.url, ""), destination("alive", &alive.url, "")];
    let sending = Sending::open(dir.path(), &configs, &QueueSettings::default());
    sending.start();
    for time in 1..=50 {
        append(&sending.queues[0], 0, &[("a", time)]);
        append(&sending.queues[1], 0, &[("a", time)]);
    }
    alive.samples(50).await;
    assert_eq!(sending.queues[0].stats().pending.samples, 50);
}

#[tokio::test]
async fn lanes_that_come_later_are_sent_too_after_those_that_they_wait_for() {
    let receiver =
        Receiver::start(|number, _| if number < 3 { Action::Answer(500, "") } else { Action::Store }).await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    sending.append(&[("a", 1)]);
    sending.queues[0].set_lanes(3).unwrap();
    for lane in 0..3 {
        append(&sending.queues[0], lane, &[("a", 2), (&format!("lane_{lane}"), 2)]);
    }
    receiver.samples(5).await;
    assert_eq!(receiver.stored()["a"], [1, 2]);
}

#[tokio::test]
async fn samples_past_sample_age_limit_are_not_sent_and_counted() {
    let receiver = Receiver::start(|_, _| Action::Store).await;
    let now_ms = promring_net::clock::now_ms();
    let (sending, _dir) = queueing_for(&receiver, ", sample_age_limit: 1h, max_samples_per_send: 2");
    sending.append(&[("old", 1), ("old", 2)]);
    sending.append(&[("half", 3), ("half", now_ms)]);
    sending.append(&[("new", now_ms)]);
    sending.start();
    receiver.samples(2).await;
    sending.drained().await;
    assert_eq!(receiver.stored().into_keys().collect::<Vec<_>>(), ["half", "new"]);
    assert_eq!(receiver.stored()["half"], [now_ms]);
    assert_eq!(sending.metric("prometheus_remote_storage_samples_dropped_total", "too_old"), 3);
}

#[tokio::test]
async fn what_the_queue_drops_during_an_outage_is_not_waited_for() {
    let receiver = Receiver::start(|number, _| if number < 1 { Action::Hang } else { Action::Store }).await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = (*destination("prod", &receiver.url, "")).clone();
    config.remote_timeout = Duration::from_millis(100);
    let settings = QueueSettings { max_bytes: 300_000, ..QueueSettings::default() };
    let sending = Sending::open(dir.path(), &[Arc::new(config)], &settings);
    sending.start();
    let noise = noise(10_000);
    sending.append(&[("first", 1)]);
    receiver.requests(1).await;
    for time in 2..=60 {
        append(&sending.queues[0], 0, &[("a", time), (&format!("{noise}{time}"), time)]);
    }
    sending.drained().await;
    let stored = receiver.stored();
    assert!(!stored.contains_key("first"), "it was dropped while its first copy hung");
    assert_eq!(stored["a"].last(), Some(&60));
    let dropped = sending.queues[0].stats().dropped(DropReason::Size);
    assert_eq!(dropped as usize, 1 + 2 * (59 - stored["a"].len()));
}

#[tokio::test]
async fn a_record_behind_a_long_damaged_stretch_arrives_at_a_stop_too() {
    let receiver = Receiver::start(|_, _| Action::Store).await;
    let dir = tempfile::tempdir().unwrap();
    let config = destination("prod", &receiver.url, "");
    let settings = QueueSettings::default();
    let sending = Sending::open(dir.path(), std::slice::from_ref(&config), &settings);
    sending.append(&[("a", 1)]);
    let meta = RecordMeta { samples: 1, ..RecordMeta::default() };
    sending.queues[0].append(0, meta, &vec![7; 5 << 20]).unwrap();
    sending.append(&[("a", 3)]);
    drop(sending);
    let path = queue_dir(dir.path(), "prod").join("set-00000001/lane-000/00000000000000000001.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[32 + 72 + body(&[("a", 1)]).len()] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let sending = Sending::open(dir.path(), &[config], &settings);
    sending.senders[0].finish(Duration::from_secs(60)).await;
    assert_eq!(receiver.stored()["a"], [1, 3]);
    let stats = sending.queues[0].stats();
    assert_eq!((stats.corrupt_records, stats.dropped(DropReason::Corrupt)), (1, 1));
}
