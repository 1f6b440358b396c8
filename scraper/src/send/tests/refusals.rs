use prost::Message as _;

use super::*;

#[tokio::test]
async fn one_bad_series_costs_itself_only() {
    let receiver = Receiver::start(|_, request| {
        let bad = request.samples().iter().any(|(name, _)| name == "bad");
        if bad { Action::Answer(400, "label value is not valid") } else { Action::Store }
    })
    .await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    let names: Vec<String> =
        (0..100).map(|at| if at == 37 { "bad".to_owned() } else { format!("good_{at}") }).collect();
    let samples: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    sending.append(&samples);
    sending.append(&[("good_0", 2)]);
    receiver.samples(100).await;
    sending.drained().await;
    assert_eq!(receiver.stored()["good_0"], [1, 2]);
    assert!(!receiver.stored().contains_key("bad"));
    assert_eq!(sending.refused("rejected"), 1);
    assert_eq!(sending.metric("prometheus_remote_storage_samples_failed_total", ""), 1);
    // Halving, not one by one.
    assert!(receiver.received().len() < 20, "{}", receiver.received().len());
}

#[tokio::test]
async fn of_a_series_with_several_samples_only_those_refused_alone_are_given_up() {
    let receiver = Receiver::start(|_, _| Action::Store).await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    sending.append(&[("a", 10)]);
    receiver.samples(1).await;
    // One series of three samples, as explicit timestamps make it.
    let mut labels = Vec::new();
    v1::encode_labels([("__name__", "a")], &mut labels);
    let request = v1::WriteRequest {
        timeseries: vec![v1::TimeSeries {
            labels: vec![v1::Label { name: "__name__".to_owned(), value: "a".to_owned() }],
            samples: [5, 20, 30].map(|timestamp| v1::Sample { value: 1.0, timestamp }).to_vec(),
            ..v1::TimeSeries::default()
        }],
        metadata: Vec::new(),
    };
    let bytes = snap::raw::Encoder::new().compress_vec(&prost::Message::encode_to_vec(&request)).unwrap();
    let meta = RecordMeta { samples: 3, first_ms: 5, last_ms: 30, ..RecordMeta::default() };
    sending.queues[0].append(0, meta, &bytes).unwrap();
    sending.drained().await;
    assert_eq!(receiver.stored()["a"], [10, 20, 30]);
    assert_eq!(sending.refused("out_of_order"), 1);
    assert_eq!(sending.refused("already_stored"), 0);
}

#[tokio::test]
async fn requests_that_are_too_large_are_halved() {
    let receiver =
        Receiver::start(
            |_, request| {
                if request.samples().len() > 10 { Action::Answer(413, "") } else { Action::Store }
            },
        )
        .await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    let times: Vec<(&str, i64)> = (1..=100).map(|time| ("a", time)).collect();
    sending.append(&times);
    sending.drained().await;
    assert_eq!(receiver.stored()["a"], (1..=100).collect::<Vec<_>>());
    assert_eq!(sending.metric("prometheus_remote_storage_samples_failed_total", ""), 0);
}

/// Four series with names of this many bytes that do not compress.
fn large_names(bytes: usize) -> Vec<String> {
    let text = noise(4 * bytes);
    (0..4).map(|at| text[at * bytes..(at + 1) * bytes].to_owned()).collect()
}

#[tokio::test]
async fn what_is_too_large_is_remembered_and_goes_in_pieces_at_once() {
    for (records, bytes) in [(20, 15_000), (200, 700)] {
        let refused = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = Arc::clone(&refused);
        let receiver = Receiver::start(move |_, request| {
            if request.body.len() <= 20_000 {
                return Action::Store;
            }
            count.fetch_add(1, Ordering::Relaxed);
            Action::Answer(413, "")
        })
        .await;
        let (sending, _dir) = queueing_for(&receiver, "");
        let names = large_names(bytes);
        for time in 1..=records {
            let samples: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), time)).collect();
            sending.append(&samples);
        }
        sending.start();
        sending.drained().await;
        assert!(receiver.stored().values().all(|times| *times == (1..=records).collect::<Vec<_>>()));
        assert_eq!(receiver.stored().len(), 4);
        assert_eq!(sending.metric("prometheus_remote_storage_samples_failed_total", ""), 0);
        // Records of 60 kB go in four pieces each; small ones are joined to less from the beginning.
        let refused = refused.load(Ordering::Relaxed);
        assert!(refused <= 12, "{refused} of {} requests", receiver.received().len());
    }
}

#[tokio::test]
async fn a_limit_of_little_more_than_a_sample_is_remembered_as_well() {
    let refused = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    let receiver = Receiver::start(move |_, request| {
        if request.body.len() <= 300 {
            return Action::Store;
        }
        count.fetch_add(1, Ordering::Relaxed);
        Action::Answer(413, "")
    })
    .await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    let names = large_names(200);
    for time in 1..=50 {
        let samples: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), time)).collect();
        sending.append(&samples);
        sending.drained().await;
    }
    assert!(receiver.stored().values().all(|times| *times == (1..=50).collect::<Vec<_>>()));
    assert_eq!(receiver.stored().len(), 4);
    // The first one, and half of it.
    assert_eq!(refused.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_413_to_whatever_comes_makes_requests_many_only_as_long_as_it_lasts() {
    let receiver =
        Receiver::start(|number, _| if number < 30 { Action::Answer(413, "") } else { Action::Store }).await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    let names: Vec<String> = (0..100).map(|at| format!("series_{at}")).collect();
    for time in 1..=3 {
        let samples: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), time)).collect();
        sending.append(&samples);
        sending.drained().await;
    }
    let sizes: Vec<usize> = receiver.received().iter().map(|request| request.samples().len()).collect();
    assert_eq!(sizes[sizes.len() - 2..], [100, 100], "{sizes:?}");
}

#[tokio::test]
async fn a_request_that_went_in_pieces_at_once_keeps_its_boundaries_over_a_restart() {
    let mut seconds = 0;
    let receiver = Receiver::start(move |_, request| {
        if request.body.len() > 20_000 {
            return Action::Answer(413, "");
        }
        seconds += usize::from(request.samples()[0].1 == 2);
        // The second piece of the second record is stored, and nobody hears of it; the process ends then.
        if seconds == 2 { Action::StoreAndWait(Arc::default()) } else { Action::Store }
    })
    .await;
    let names = large_names(15_000);
    let record = |time| -> Vec<(&str, i64)> { names.iter().map(|name| (name.as_str(), time)).collect() };
    let dir = tempfile::tempdir().unwrap();
    let config = destination("prod", &receiver.url, ", max_samples_per_send: 4");
    let settings = QueueSettings::default();
    let sending = Sending::open(dir.path(), std::slice::from_ref(&config), &settings);
    sending.append(&record(1));
    sending.append(&record(2));
    sending.start();
    receiver.samples(6).await;
    sending.kill().await;
    let first = receiver.received();
    let sizes = |requests: &[receiver::Received]| -> Vec<(i64, usize)> {
        requests.iter().map(|request| (request.samples()[0].1, request.samples().len())).collect()
    };
    let of_second = first.iter().position(|request| request.samples()[0].1 == 2).unwrap();
    assert_eq!(sizes(&first[of_second..]), [(2, 1), (2, 1)], "in pieces at once");
    let sending = Sending::open(dir.path(), &[config], &settings);
    sending.start();
    sending.drained().await;
    let again = &receiver.received()[first.len()..];
    // As a whole at first, as its first copy may have gone; then all of it in the pieces in which it had gone.
    assert_eq!(again[0].samples().len(), 4);
    let pieces: Vec<&receiver::Received> =
        again.iter().filter(|request| request.samples().len() == 1).collect();
    assert!(pieces[0].body == first[of_second].body && pieces[1].body == first[of_second + 1].body);
    assert_eq!(pieces.len(), 4);
    assert!(receiver.stored().values().all(|times| *times == [1, 2]));
    assert_eq!(sending.metric("prometheus_remote_storage_samples_failed_total", ""), 0);
}

#[tokio::test]
async fn a_sample_that_is_too_large_alone_is_given_up() {
    let receiver = Receiver::start(|_, request| {
        if request.body.len() > 500 { Action::Answer(413, "too large") } else { Action::Store }
    })
    .await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    let noise = noise(5_000);
    sending.append(&[("a", 1), (&noise, 1), ("b", 1)]);
    sending.drained().await;
    assert_eq!(receiver.stored().into_keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(sending.refused("too_large"), 1);
}

#[tokio::test]
async fn a_refused_copy_of_what_was_stored_is_no_loss() {
    for gateway in [false, true] {
        let receiver = Receiver::start(move |number, _| match number {
            0 if gateway => Action::StoreAndAnswer(504),
            0 => Action::StoreAndReset,
            _ => Action::Store,
        })
        .await;
        let (sending, _dir) = queueing_for(&receiver, "");
        // Joined: two samples a series, so that the first of each is out of order the second time.
        sending.append(&[("a", 1), ("b", 1), ("c", 1)]);
        sending.append(&[("a", 2), ("b", 2), ("d", 2)]);
        sending.start();
        sending.drained().await;
        let received = receiver.received();
        assert_eq!(received[0].body, received[1].body);
        let stored: Vec<(String, Vec<i64>)> = receiver.stored().into_iter().collect();
        let expected = [("a", vec![1, 2]), ("b", vec![1, 2]), ("c", vec![1]), ("d", vec![2])];
        assert_eq!(stored, expected.map(|(name, times)| (name.to_owned(), times)));
        // c's and d's copies are the newest of their series: they are taken again, and change nothing.
        assert_eq!(sending.refused("already_stored"), 2);
        assert_eq!(sending.metric("prometheus_remote_storage_samples_failed_total", ""), 0);
    }
}

#[tokio::test]
async fn a_refusal_after_definite_answers_is_loss_and_counted_as_such() {
    // Not stored, and it says so.
    for status in [429, 401, 403, 404, 301] {
        let receiver = Receiver::start(move |number, _| match number {
            1 => Action::Answer(status, ""),
            _ => Action::Store,
        })
        .await;
        let (sending, _dir) = sending_to(&receiver, "").await;
        sending.append(&[("a", 10)]);
        receiver.samples(1).await;
        sending.append(&[("a", 5)]);
        sending.drained().await;
        let counted = (sending.refused("out_of_order"), sending.refused("already_stored"));
        assert_eq!(counted, (1, 0), "{status}");
    }
}

#[tokio::test]
async fn a_refusal_after_attempts_that_found_no_connection_is_loss_and_counted_as_such() {
    // Nobody accepts, and a queue of connections that is full lets no further one come about; later somebody does.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    let wait = Duration::from_millis(200);
    while let Ok(connected) = tokio::time::timeout(wait, tokio::net::TcpStream::connect(address)).await {
        waiting.push(connected.unwrap());
        assert!(waiting.len() < 100, "connections come about though nobody accepts them");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut config = (*destination("prod", &format!("http://{address}/api/v1/write"), "")).clone();
    config.remote_timeout = Duration::from_millis(300);
    let sending = Sending::open(dir.path(), &[Arc::new(config)], &QueueSettings::default());
    sending.append(&[("a", 5)]);
    sending.start();
    while sending.metric("prometheus_remote_storage_samples_retried_total", "") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(waiting);
    let receiver = Receiver::on(listener, |_, _| Action::Answer(400, "out of order sample"));
    sending.drained().await;
    assert!(!receiver.received().is_empty());
    assert_eq!((sending.refused("out_of_order"), sending.refused("already_stored")), (1, 0));
}

#[tokio::test]
async fn a_429_that_must_not_be_tried_again_is_given_up_at_once() {
    let receiver =
        Receiver::start(|number, _| if number == 0 { Action::Answer(429, "slow") } else { Action::Store })
            .await;
    let (sending, _dir) = sending_to(&receiver, ", retry_on_http_429: false").await;
    sending.append(&[("a", 1), ("b", 1)]);
    receiver.requests(1).await;
    sending.append(&[("a", 2)]);
    receiver.samples(1).await;
    assert_eq!(receiver.received().len(), 2);
    assert_eq!(sending.refused("rate_limited"), 2);
}

#[tokio::test]
async fn a_record_that_is_no_request_does_not_block_its_lane() {
    let receiver = Receiver::start(|_, request| {
        if request.samples().is_empty() {
            Action::Answer(400, "snappy: corrupt input")
        } else {
            Action::Store
        }
    })
    .await;
    let (sending, _dir) = queueing_for(&receiver, "");
    // Its neighbours are joined to it, and must not go with it.
    sending.append(&[("a", 1)]);
    let meta = RecordMeta { samples: 7, ..RecordMeta::default() };
    sending.queues[0].append(0, meta, b"\x05no request").unwrap();
    sending.append(&[("a", 2)]);
    sending.start();
    sending.drained().await;
    assert_eq!(receiver.stored()["a"], [1, 2]);
    assert_eq!(sending.refused("rejected"), 7);
}

#[tokio::test]
async fn a_receiver_that_refuses_everything_is_not_behind() {
    let receiver = Receiver::start(|_, _| Action::Answer(400, "label value is not valid")).await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    sending.append(&[("a", 5_000), ("b", 7_000)]);
    sending.drained().await;
    assert_eq!(sending.refused("rejected"), 2);
    assert_eq!(sending.metric("prometheus_remote_storage_queue_highest_sent_timestamp_seconds", ""), 7);
}

#[tokio::test]
async fn what_has_no_time_and_is_refused_tells_no_time() {
    let receiver = Receiver::start(|_, _| Action::Answer(400, "no")).await;
    let (sending, _dir) = queueing_for(&receiver, "");
    let family = v1::MetricMetadata { metric_family_name: "a".to_owned(), ..Default::default() };
    let labels = vec![v1::Label { name: "__name__".to_owned(), value: "a".to_owned() }];
    let samples = vec![v1::Sample { value: 1.0, timestamp: 7_000 }];
    let series = v1::TimeSeries { labels, samples, ..Default::default() };
    let request = v1::WriteRequest { timeseries: vec![series], metadata: vec![family] };
    let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).unwrap();
    let meta =
        RecordMeta { samples: 1, metadata: 1, first_ms: 7_000, last_ms: 7_000, ..RecordMeta::default() };
    sending.queues[0].append(0, meta, &body).unwrap();
    sending.start();
    sending.drained().await;
    assert_eq!(receiver.received().len(), 3);
    assert_eq!(sending.metric("prometheus_remote_storage_queue_highest_sent_timestamp_seconds", ""), 7);
}
