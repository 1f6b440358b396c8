use std::sync::atomic::AtomicBool;

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

/// A receiver that takes no series whose name `is_bad`, and a sender to it of which each round brings these names.
struct Refusing {
    encoding: Encoding,
    receiver: Receiver,
    sending: Sending,
    names: Vec<String>,
    time: i64,
    _dir: tempfile::TempDir,
}

impl Refusing {
    /// `good` and `bad` series, mixed.
    async fn of(good: usize, bad: usize, is_bad: impl Fn(&str) -> bool + Send + 'static) -> Self {
        let receiver = Receiver::start(move |_, request| {
            match (request.samples().iter().any(|(name, _)| is_bad(name)), request.is_v2()) {
                (true, false) => Action::Answer(400, "too many labels"),
                (true, true) => Action::AnswerWritten(400, 0, "too many labels"),
                (false, _) => Action::Store,
            }
        })
        .await;
        let (sending, dir) = sending_to(&receiver, "").await;
        let mut names: Vec<String> = (0..good).map(|at| format!("good{at}")).collect();
        (0..bad).for_each(|at| names.insert(at * 7919 % (names.len() + 1), format!("bad{at}")));
        Self { encoding: Encoding::V1, receiver, sending, names, time: 0, _dir: dir }
    }

    /// A sample of each series; how many requests that takes.
    async fn round(&mut self) -> usize {
        self.time += 1;
        let before = self.receiver.received().len();
        let samples: Vec<(&str, i64)> = self.names.iter().map(|name| (name.as_str(), self.time)).collect();
        append_as(self.encoding, &self.sending.queues[0], 0, &samples);
        self.sending.drained().await;
        self.receiver.received().len() - before
    }

    /// Rounds until there is no time left to ask for each of what is known to be refused.
    async fn exhaust(&mut self) {
        while self.round().await > 50 {
            assert!(self.time < 100, "each is asked for, again and again");
        }
    }

    fn times(&self, name: &str) -> Vec<i64> {
        self.receiver.stored().remove(name).unwrap_or_default()
    }
}

#[tokio::test]
async fn series_that_are_never_taken_cost_a_few_requests_and_not_one_each() {
    let mut world = Refusing::of(20, 100, |name| name.starts_with("bad")).await;
    let begun = std::time::Instant::now();
    let mut requests = Vec::new();
    for _ in 0..30 {
        requests.push(world.round().await);
    }
    // Bisected once, asked for alone once; then the request, those that are taken, those that are not, and of these each alone
    // as far as there is time, or four.
    assert!((120..=239).contains(&requests[0]), "{requests:?}");
    assert_eq!(requests[1], 102, "{requests:?}");
    assert!(requests[2..].iter().all(|requests| (7..=103).contains(requests)), "{requests:?}");
    let affordable = 400 + 20 * (begun.elapsed().as_secs() as usize + 1);
    assert!(requests[2..].iter().sum::<usize>() <= 28 * 7 + affordable, "{requests:?}");
    assert_eq!(world.receiver.stored().len(), 20);
    assert!(world.receiver.stored().values().all(|times| *times == (1..=30).collect::<Vec<_>>()));
    assert_eq!(world.sending.refused("rejected"), 3_000);
    assert_eq!(world.sending.metric("prometheus_remote_storage_samples_failed_total", ""), 3_000);
}

#[tokio::test]
async fn series_that_are_never_taken_by_2_0_cost_as_little() {
    let mut world = Refusing::of(5, 20, |name| name.starts_with("bad")).await;
    world.encoding = Encoding::V2;
    world.round().await;
    assert_eq!((world.round().await, world.round().await), (22, 23));
    // What is known is known of both versions.
    world.encoding = Encoding::V1;
    assert_eq!(world.round().await, 23);
    assert!(world.receiver.stored().values().all(|times| *times == [1, 2, 3, 4]));
    assert_eq!((world.receiver.stored().len(), world.sending.refused("rejected")), (5, 80));
}

#[tokio::test]
async fn a_receiver_that_has_changed_its_mind_gets_what_it_takes_now() {
    let changed = Arc::new(AtomicBool::new(false));
    let is_changed = Arc::clone(&changed);
    let is_bad = move |name: &str| match is_changed.load(Ordering::Relaxed) {
        true => name == "bad50",
        false => name.starts_with("bad"),
    };
    let mut world = Refusing::of(20, 100, is_bad).await;
    world.exhaust().await;
    let refused = world.sending.refused("rejected");
    changed.store(true, Ordering::Relaxed);
    let requests = world.round().await;
    assert!(requests < 100, "{requests}");
    assert_eq!(world.receiver.stored().len(), 119, "all but one, at once");
    assert_eq!(world.sending.refused("rejected"), refused + 1);
    // What is taken is no longer asked for with what is not.
    assert!(world.round().await <= 3);
}

#[tokio::test]
async fn a_series_that_alone_is_taken_again_is_found_when_its_turn_comes() {
    let changed = Arc::new(AtomicBool::new(false));
    let is_changed = Arc::clone(&changed);
    let is_bad =
        move |name: &str| name.starts_with("bad") && !(is_changed.load(Ordering::Relaxed) && name == "bad50");
    let mut world = Refusing::of(20, 100, is_bad).await;
    world.exhaust().await;
    changed.store(true, Ordering::Relaxed);
    let mut rounds = 0;
    while world.times("bad50").is_empty() {
        world.round().await;
        rounds += 1;
        assert!(rounds <= 25, "four of a hundred have their turn in each round");
    }
    let first = world.times("bad50")[0];
    world.round().await;
    assert_eq!(world.times("bad50"), [first, first + 1]);
}

#[tokio::test]
async fn a_few_series_that_are_never_taken_are_each_asked_for_in_every_request() {
    let changed = Arc::new(AtomicBool::new(false));
    let is_changed = Arc::clone(&changed);
    let is_bad =
        move |name: &str| name.starts_with("bad") && !(is_changed.load(Ordering::Relaxed) && name == "bad3");
    let mut world = Refusing::of(20, 6, is_bad).await;
    for _ in 0..4 {
        world.round().await;
    }
    // The request, those that are taken, those that are not, and each of these alone.
    assert_eq!(world.round().await, 3 + 6);
    changed.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        world.round().await;
    }
    assert_eq!(world.times("bad3"), [6, 7, 8], "nothing is lost from the moment on that it is taken");
    assert_eq!(world.sending.refused("rejected"), 6 * 8 - 3);
}

#[tokio::test]
async fn a_sample_that_alone_was_refused_takes_no_later_one_of_its_series_with_it() {
    // Each round another series has a sample that is not taken, and forty never have one that is.
    let round = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let now = Arc::clone(&round);
    let is_bad =
        move |name: &str| name.starts_with("bad") || *name == format!("good{}", now.load(Ordering::Relaxed));
    let mut world = Refusing::of(12, 40, is_bad).await;
    for _ in 0..12 {
        world.round().await;
        round.fetch_add(1, Ordering::Relaxed);
    }
    for (at, times) in (0..12).map(|at| (at, world.times(&format!("good{at}")))) {
        let expected: Vec<i64> = (1..=12).filter(|time| *time != at + 1).collect();
        assert_eq!(times, expected, "good{at}");
    }
    assert_eq!(world.sending.refused("rejected"), 492);
}

/// Sends 40 samples of each of 17 series, ten in a request. Six series are taken, three more from some request on. How many requests
/// there were.
async fn send_while_three_come_to_be_taken(from: usize) -> usize {
    let names: Vec<String> =
        (0..17).map(|at| if at % 3 == 0 { format!("good{at}") } else { format!("bad{at}") }).collect();
    let receiver = Receiver::start(move |number, request| {
        let is_taken = |name: &str| {
            name.starts_with("good") || number >= from && ["bad1", "bad5", "bad10"].contains(&name)
        };
        match request.samples().iter().all(|(name, _)| is_taken(name)) {
            true => Action::Store,
            false => Action::Answer(400, "too many labels"),
        }
    })
    .await;
    let (sending, _dir) = queueing_for(&receiver, ", max_samples_per_send: 170");
    for time in 1..=40 {
        let samples: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), time)).collect();
        sending.append(&samples);
    }
    sending.start();
    sending.drained().await;
    let stored = receiver.stored();
    let good = stored.iter().filter(|(name, _)| name.starts_with("good"));
    assert!(good.clone().all(|(_, times)| *times == (1..=40).collect::<Vec<_>>()));
    assert_eq!(good.count(), 6);
    let samples: usize = stored.values().map(Vec::len).sum();
    assert_eq!(sending.refused("rejected") as usize + samples, 17 * 40, "from request {from}");
    assert_eq!(sending.refused("out_of_order"), 0, "from request {from}");
    receiver.received().len()
}

#[tokio::test]
async fn samples_of_a_series_keep_their_order_in_whatever_pieces_they_go() {
    let requests = send_while_three_come_to_be_taken(usize::MAX).await;
    for from in (0..requests).step_by(5) {
        send_while_three_come_to_be_taken(from).await;
    }
}
