//! Series that a receiver never takes: what they cost, and what becomes of those that it takes after all.

use std::sync::atomic::AtomicBool;

use prost::Message as _;

use super::*;

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
    let bad = 2_000;
    let mut world = Refusing::of(20, bad, |name| name.starts_with("bad")).await;
    let begun = std::time::Instant::now();
    let mut requests = Vec::new();
    for _ in 0..8 {
        requests.push(world.round().await);
    }
    // Bisected once, asked for alone once; then the request, those that are taken, those that are not, and of these each alone
    // as far as there is time, or four.
    assert!((bad..=2 * (bad + 20)).contains(&requests[0]), "{requests:?}");
    assert_eq!(requests[1], 2 + bad, "{requests:?}");
    assert!(requests[2..].iter().all(|requests| (7..=3 + 400).contains(requests)), "{requests:?}");
    let affordable = 400 + 20 * (begun.elapsed().as_secs() as usize + 1);
    assert!(requests[2..].iter().sum::<usize>() <= 6 * 7 + affordable, "{requests:?}");
    assert_eq!(world.receiver.stored().len(), 20);
    assert!(world.receiver.stored().values().all(|times| *times == (1..=8).collect::<Vec<_>>()));
    assert_eq!(world.sending.refused("rejected"), 16_000);
    assert_eq!(world.sending.metric("prometheus_remote_storage_samples_failed_total", ""), 16_000);
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

#[tokio::test]
async fn each_sample_of_a_series_that_is_known_to_be_refused_is_asked_for_alone() {
    // One series has several samples, as explicit timestamps make it; the receiver does not take two of them, nor the other series.
    let receiver = Receiver::start(|_, request| {
        let bad = request.samples().iter().any(|(name, time)| name == "bad" || *time == 11 || *time == 13);
        if bad { Action::Answer(400, "invalid histogram") } else { Action::Store }
    })
    .await;
    for (others, requests) in [(0, 7), (6, 15)] {
        let (sending, _dir) = sending_to(&receiver, "").await;
        let before = receiver.received().len();
        let series = |name: &str, times: &[i64]| v1::TimeSeries {
            labels: vec![v1::Label { name: "__name__".to_owned(), value: name.to_owned() }],
            samples: times.iter().map(|time| v1::Sample { value: 1.0, timestamp: *time }).collect(),
            ..v1::TimeSeries::default()
        };
        let name = format!("several{others}");
        let mut timeseries = vec![series(&name, &[11, 12, 13, 14])];
        timeseries.extend((0..others).map(|_| series("bad", &[10])));
        let samples = 4 + others as u32;
        let body = v1::WriteRequest { timeseries, metadata: Vec::new() }.encode_to_vec();
        // Both are known.
        for _ in 0..2 {
            sending.append(&[(&name, 11)]);
            sending.append(&[("bad", 10)]);
        }
        sending.drained().await;
        let known = receiver.received().len();
        let meta = RecordMeta { samples, first_ms: 10, last_ms: 14, ..RecordMeta::default() };
        let body = snap::raw::Encoder::new().compress_vec(&body).unwrap();
        sending.queues[0].append(0, meta, &body).unwrap();
        sending.drained().await;
        assert!(known > before);
        assert_eq!(receiver.stored()[&name], [12, 14]);
        assert_eq!(sending.refused("rejected"), 4 + 2 + u64::from(samples) - 4);
        let took = receiver.received().len() - known;
        assert!(took <= requests, "{took}");
        sending.kill().await;
    }
}
