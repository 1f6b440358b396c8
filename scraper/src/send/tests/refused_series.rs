//! Series that a receiver never takes: what they cost, and what becomes of those that it takes after all.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use prost::Message as _;

use super::*;
use crate::queue::{DropReason, Inspection, SetKind};

/// What is said to samples of bad series that come alone.
const REFUSED: usize = 0;
const AWAY: usize = 1;
const SILENCE: usize = 2;
/// The same as at first, but nothing is taken of 2.0.
const ONLY_1_0: usize = 3;

/// A receiver that takes no series whose name `is_bad`, and a sender to it of which each round brings these names.
struct Refusing {
    encoding: Encoding,
    receiver: Receiver,
    sending: Sending,
    names: Vec<String>,
    time: i64,
    /// What bad samples that come alone are answered.
    alone: Arc<AtomicUsize>,
    dir: tempfile::TempDir,
}

impl Refusing {
    /// `good` and `bad` series, mixed.
    async fn of(good: usize, bad: usize, is_bad: impl Fn(&str) -> bool + Send + 'static) -> Self {
        Self::with("too many labels", good, bad, is_bad).await
    }

    /// The same where this is said to bad ones.
    async fn with(
        why: &'static str,
        good: usize,
        bad: usize,
        is_bad: impl Fn(&str) -> bool + Send + 'static,
    ) -> Self {
        let alone: Arc<AtomicUsize> = Arc::default();
        let say = Arc::clone(&alone);
        let receiver = Receiver::start(move |_, request| {
            let samples = request.samples();
            let known_as_bad = samples.len() == 1 && samples[0].0.starts_with("bad");
            match (known_as_bad, say.load(Ordering::Relaxed)) {
                (true, AWAY) => return Action::Answer(429, "later"),
                (true, SILENCE) => return Action::Hang,
                (_, ONLY_1_0) if request.is_v2() => return Action::Answer(415, ""),
                _ => {}
            }
            match (samples.iter().any(|(name, _)| is_bad(name)), request.is_v2()) {
                (true, false) => Action::Answer(400, why),
                (true, true) => Action::AnswerWritten(400, 0, why),
                (false, _) => Action::Store,
            }
        })
        .await;
        let (sending, dir) = sending_to(&receiver, "").await;
        let mut names: Vec<String> = (0..good).map(|at| format!("good{at}")).collect();
        (0..bad).for_each(|at| names.insert(at * 7919 % (names.len() + 1), format!("bad{at}")));
        Self { encoding: Encoding::V1, receiver, sending, names, time: 0, alone, dir }
    }

    /// A sample of each series. Returns when the lane has gone on.
    async fn round(&mut self) {
        self.time += 1;
        let samples: Vec<(&str, i64)> = self.names.iter().map(|name| (name.as_str(), self.time)).collect();
        append_as(self.encoding, &self.sending.queues[0], 0, &samples);
        self.sending.drained().await;
    }

    /// Two rounds, in which each bad series is refused alone as often as it takes to be put aside.
    async fn learn(&mut self) {
        self.round().await;
        self.round().await;
    }

    fn say(&self, what: usize) {
        self.alone.store(what, Ordering::Relaxed);
    }

    fn times(&self, name: &str) -> Vec<i64> {
        self.receiver.stored().remove(name).unwrap_or_default()
    }

    /// The requests that hold more than one sample of a bad series, or none: those of the lane itself.
    fn requests_of_lane(&self) -> usize {
        let of_lane = |samples: &[(String, i64)]| samples.iter().any(|(name, _)| name.starts_with("good"));
        self.receiver.received().iter().filter(|request| of_lane(&request.samples())).count()
    }

    /// The samples of bad series that came alone.
    fn came_alone(&self) -> BTreeSet<(String, i64)> {
        let received = self.receiver.received();
        let alone = received.iter().filter_map(|request| match &*request.samples() {
            [sample] if sample.0.starts_with("bad") => Some(sample.clone()),
            _ => None,
        });
        alone.collect()
    }

    /// Another process goes on in its place.
    async fn restart(&mut self) {
        let config = Arc::clone(&self.sending.senders[0].link.config);
        let metrics = self.sending.metrics.clone();
        let nothing = Sending { senders: Vec::new(), queues: Vec::new(), metrics };
        let sending = std::mem::replace(&mut self.sending, nothing);
        sending.kill().await;
        self.sending = reopen(self.dir.path(), config);
    }
}

fn reopen(dir: &Path, config: Arc<RemoteWrite>) -> Sending {
    Sending::open(dir, &[config], &QueueSettings::default())
}

#[tokio::test]
async fn each_sample_that_is_given_up_came_alone_and_the_lane_waits_for_none_of_them() {
    let bad = 200;
    let mut world = Refusing::of(20, bad, |name| name.starts_with("bad")).await;
    world.learn().await;
    // From now on nobody has an answer to a bad sample that comes alone.
    world.say(SILENCE);
    let before = world.requests_of_lane();
    for _ in 3..=8 {
        world.round().await;
    }
    assert!(world.receiver.stored().values().all(|times| *times == (1..=8).collect::<Vec<_>>()));
    assert_eq!(world.receiver.stored().len(), 20);
    // The first one is refused as it lies; then what lies aside must not be overtaken, so that nobody sees the others whole.
    assert_eq!(world.requests_of_lane() - before, 7);
    let stats = world.sending.queues[0].stats();
    assert_eq!((stats.pending.records, stats.aside.samples), (0, 6 * bad as u64));
    // What a stop in the midst of a record has asked for again is little.
    assert!(stats.aside.records >= 6 * bad as u64 / 50, "{}", stats.aside.records);
    assert_eq!(world.sending.refused("rejected"), 2 * bad as u64, "nothing is given up unasked");
    // A sender that is made anew asks again.
    world.say(REFUSED);
    world.restart().await;
    world.sending.start();
    world.sending.settled().await;
    assert_eq!(world.sending.refused("rejected"), 6 * bad as u64);
    let failed = world.sending.metric("prometheus_remote_storage_samples_failed_total", "");
    assert_eq!(failed, 6 * bad as u64);
    let each = (1..=8).flat_map(|time| (0..bad).map(move |at| (format!("bad{at}"), time)));
    assert_eq!(world.came_alone(), each.collect());
    assert_eq!(world.sending.queues[0].stats().dropped(DropReason::Aside), 0);
}

#[tokio::test]
async fn series_that_are_never_taken_by_2_0_go_aside_as_well() {
    let mut world = Refusing::of(5, 20, |name| name.starts_with("bad")).await;
    world.encoding = Encoding::V2;
    world.learn().await;
    let before = world.requests_of_lane();
    world.round().await;
    world.sending.settled().await;
    assert_eq!(world.requests_of_lane() - before, 2);
    // What is known is known of both versions.
    world.encoding = Encoding::V1;
    world.round().await;
    assert_eq!(world.requests_of_lane() - before, 4);
    world.sending.settled().await;
    assert!(world.receiver.stored().values().all(|times| *times == [1, 2, 3, 4]));
    assert_eq!((world.receiver.stored().len(), world.sending.refused("rejected")), (5, 80));
    let alone = world.receiver.received().into_iter().filter(|request| request.samples().len() == 1);
    assert_eq!(alone.filter(|request| request.is_v2() && request.samples()[0].1 == 3).count(), 20);
}

/// Refuses six series, and from some time on only this one of them. Nothing aside is answered until later samples went their way.
async fn put_right_all_but(never: &'static str) {
    let changed = Arc::new(AtomicBool::new(false));
    let is_changed = Arc::clone(&changed);
    let is_bad =
        move |name: &str| name.starts_with("bad") && (!is_changed.load(Ordering::Relaxed) || name == never);
    let mut world = Refusing::of(20, 6, is_bad).await;
    world.learn().await;
    world.say(AWAY);
    for _ in 3..=6 {
        world.round().await;
    }
    changed.store(true, Ordering::Relaxed);
    // What would be taken whole must not overtake what lies aside.
    world.round().await;
    world.say(REFUSED);
    world.sending.settled().await;
    world.round().await;
    world.sending.settled().await;
    let (right, wrong): (Vec<String>, Vec<String>) =
        (0..6).map(|at| format!("bad{at}")).partition(|name| name != never);
    assert!(
        right.iter().all(|name| world.times(name) == [3, 4, 5, 6, 7, 8]),
        "{:?}",
        world.receiver.stored()
    );
    assert!(wrong.iter().all(|name| world.times(name).is_empty()));
    assert_eq!(world.sending.refused("rejected") as usize, right.len() * 2 + wrong.len() * 8);
    assert_eq!(world.sending.refused("out_of_order"), 0);
    // They go with the others again.
    let is_with_others = |request: &receiver::Received| {
        let samples = request.samples();
        samples.len() == 20 + right.len() && samples.iter().all(|(_, time)| *time == 8)
    };
    assert!(world.receiver.received().iter().any(is_with_others));
}

#[tokio::test]
async fn of_a_series_whose_cause_is_put_right_everything_is_stored_that_was_not_given_up_before() {
    put_right_all_but("bad3").await;
    put_right_all_but("none").await;
}

/// Puts ten samples of each of three series aside, in one record, and has all of them taken later.
async fn take_all_of_a_record(encoding: Encoding, say: usize) {
    let changed = Arc::new(AtomicBool::new(false));
    let is_changed = Arc::clone(&changed);
    let is_bad = move |name: &str| name.starts_with("bad") && !is_changed.load(Ordering::Relaxed);
    let mut world = Refusing::of(2, 3, is_bad).await;
    world.encoding = encoding;
    world.learn().await;
    world.say(AWAY);
    let samples: Vec<(&str, i64)> =
        (3..=12).flat_map(|time| world.names.iter().map(move |name| (name.as_str(), time))).collect();
    append_as(encoding, &world.sending.queues[0], 0, &samples);
    world.sending.drained().await;
    changed.store(true, Ordering::Relaxed);
    let before = world.receiver.received().len();
    world.say(say);
    world.sending.settled().await;
    for at in 0..3 {
        assert_eq!(world.times(&format!("bad{at}")), (3..=12).collect::<Vec<_>>());
    }
    assert_eq!(world.sending.refused("rejected"), 6);
    let taken = world.receiver.received().split_off(before);
    let taken = taken.iter().map(|request| request.samples().len()).filter(|samples| *samples > 1).count();
    assert!((1..=3).contains(&taken), "the rest of each, or of several, in one: {taken}");
}

#[tokio::test]
async fn once_one_sample_of_a_series_is_taken_the_others_aside_need_not_come_alone() {
    take_all_of_a_record(Encoding::V1, REFUSED).await;
    take_all_of_a_record(Encoding::V2, REFUSED).await;
    take_all_of_a_record(Encoding::V2, ONLY_1_0).await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_what_lies_aside_and_the_next_start_asks_for_it() {
    let changed = Arc::new(AtomicBool::new(false));
    let is_changed = Arc::clone(&changed);
    let is_bad = move |name: &str| name.starts_with("bad") && !is_changed.load(Ordering::Relaxed);
    let mut world = Refusing::of(3, 5, is_bad).await;
    world.learn().await;
    world.say(AWAY);
    world.round().await;
    world.round().await;
    // Without an end: this is over as soon as the lanes are empty.
    world.sending.senders[0].finish_until(std::future::pending(), std::future::pending()).await;
    assert!(world.sending.senders[0].has_ended());
    world.restart().await;
    let left = Inspection::of(&queue_dir(world.dir.path(), "prod")).unwrap();
    assert!(left.is_sound());
    let aside = left.sets.iter().find(|set| matches!(set.purpose, Some((SetKind::Aside, _)))).unwrap();
    assert_eq!(aside.lanes[0].pending.samples, 10);
    assert_eq!((left.pending().samples, left.sets[0].lanes[0].pending.samples), (10, 0));
    let report = queue_report(&world.sending.senders[0].link.config, &world.sending.queues[0]);
    assert_eq!((report.samples, report.aside_samples), (0, 10));
    assert!(report.aside_bytes > 0 && report.oldest_seconds == 0);
    changed.store(true, Ordering::Relaxed);
    world.say(REFUSED);
    world.sending.start();
    assert_eq!(world.sending.metric("promring_queue_aside_samples", ""), 10);
    assert_eq!(world.sending.metric("prometheus_remote_storage_samples_pending", ""), 0);
    world.sending.settled().await;
    for at in 0..5 {
        assert_eq!(world.times(&format!("bad{at}")), [3, 4], "bad{at}");
    }
}

#[tokio::test]
async fn a_crash_after_something_was_put_aside_asks_for_it_twice() {
    let holds = Arc::new(AtomicBool::new(false));
    let is_held = Arc::clone(&holds);
    let receiver = Receiver::start(move |_, request| {
        let samples = request.samples();
        let bad = samples.iter().filter(|(name, _)| name.starts_with("bad")).count();
        match (bad, is_held.load(Ordering::Relaxed)) {
            (0, true) => Action::Hang,
            (0, false) => Action::Store,
            (1, true) if samples.len() == 1 => Action::Answer(429, "later"),
            _ => Action::Answer(400, "too many labels"),
        }
    })
    .await;
    let (sending, dir) = sending_to(&receiver, "").await;
    let round = |sending: &Sending, time| sending.append(&[("good", time), ("bad1", time), ("bad2", time)]);
    for time in [1, 2] {
        round(&sending, time);
        sending.drained().await;
    }
    holds.store(true, Ordering::Relaxed);
    let before = receiver.received().len();
    round(&sending, 3);
    // What is good of it is under way, so the rest lies aside, and nothing of it is acknowledged.
    let good_is_under_way = || {
        let received = receiver.received().split_off(before);
        received.iter().any(|request| request.samples() == [("good".to_owned(), 3)])
    };
    while !good_is_under_way() {
        receiver.requests(receiver.received().len() + 1).await;
    }
    let config = Arc::clone(&sending.senders[0].link.config);
    sending.kill().await;
    holds.store(false, Ordering::Relaxed);
    let sending = reopen(dir.path(), config);
    let stats = sending.queues[0].stats();
    assert_eq!((stats.pending.samples, stats.aside.samples), (3, 2));
    let before = receiver.received().len();
    sending.start();
    sending.settled().await;
    assert_eq!(receiver.stored()["good"], [1, 2, 3]);
    let received = receiver.received().split_off(before);
    for name in ["bad1", "bad2"] {
        let alone = received.iter().filter(|request| request.samples() == [(name.to_owned(), 3)]);
        assert_eq!(alone.count(), 2, "{name}");
    }
    assert_eq!(sending.refused("rejected"), 4);
}

#[tokio::test]
async fn where_nothing_can_be_put_aside_each_sample_is_asked_for_in_its_lane() {
    let mut world = Refusing::of(3, 5, |name| name.starts_with("bad")).await;
    world.learn().await;
    // In the way of the next set of lanes.
    std::fs::write(queue_dir(world.dir.path(), "prod").join("set-00000002.tmp"), "").unwrap();
    world.round().await;
    assert_eq!(world.sending.refused("rejected"), 15);
    let stats = world.sending.queues[0].stats();
    assert_eq!((stats.sets.len(), stats.write_errors), (1, 1));
    std::fs::remove_file(queue_dir(world.dir.path(), "prod").join("set-00000002.tmp")).unwrap();
    world.round().await;
    assert_eq!(world.sending.queues[0].stats().sets.len(), 2);
    world.sending.settled().await;
    assert_eq!(world.sending.refused("rejected"), 20);
}

#[tokio::test]
async fn a_sample_that_alone_was_refused_takes_no_later_one_of_its_series_with_it() {
    // Each round another series has a sample that is not taken, and forty never have one that is.
    let round = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&round);
    let is_bad =
        move |name: &str| name.starts_with("bad") || *name == format!("good{}", now.load(Ordering::Relaxed));
    let mut world = Refusing::of(12, 40, is_bad).await;
    for _ in 0..12 {
        world.round().await;
        world.sending.settled().await;
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
async fn send_while_three_come_to_be_taken(from: usize, is_behind: bool) -> usize {
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
    sending.senders[0].link.refused_series.behind_after(if is_behind { 0 } else { i64::MAX });
    sending.start();
    sending.settled().await;
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
    for is_behind in [false, true] {
        let requests = send_while_three_come_to_be_taken(usize::MAX, is_behind).await;
        for from in (0..requests).step_by(25) {
            send_while_three_come_to_be_taken(from, is_behind).await;
        }
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
        sending.settled().await;
        let known = receiver.received().len();
        let meta = RecordMeta { samples, first_ms: 10, last_ms: 14, ..RecordMeta::default() };
        let body = snap::raw::Encoder::new().compress_vec(&body).unwrap();
        sending.queues[0].append(0, meta, &body).unwrap();
        sending.settled().await;
        assert!(known > before);
        assert_eq!(receiver.stored()[&name], [12, 14]);
        assert_eq!(sending.refused("rejected"), 4 + 2 + u64::from(samples) - 4);
        let took = receiver.received().len() - known;
        assert!(took <= requests, "{took}");
        sending.kill().await;
    }
}

/// Has series refused for their times, and taken in the end.
async fn refuse_for_times(encoding: Encoding, why: &'static str, reason: &str) {
    let changed = Arc::new(AtomicBool::new(false));
    let is_changed = Arc::clone(&changed);
    let is_bad = move |name: &str| name.starts_with("bad") && !is_changed.load(Ordering::Relaxed);
    let mut world = Refusing::with(why, 5, 20, is_bad).await;
    world.encoding = encoding;
    world.learn().await;
    assert_eq!(world.sending.refused(reason), 40, "{why}");
    // The lane waits for no answer to any of them.
    world.say(AWAY);
    let before = world.requests_of_lane();
    for _ in 3..=5 {
        world.round().await;
    }
    assert_eq!(world.requests_of_lane() - before, 4, "{why}");
    assert_eq!(world.sending.queues[0].stats().aside.samples, 60);
    world.say(REFUSED);
    world.sending.settled().await;
    assert_eq!((world.sending.refused(reason), world.came_alone().len()), (100, 100), "{why}");
    changed.store(true, Ordering::Relaxed);
    for _ in 6..=8 {
        world.round().await;
        world.sending.settled().await;
    }
    for at in 0..20 {
        assert_eq!(world.times(&format!("bad{at}")), [6, 7, 8], "{why}");
    }
    assert_eq!(world.times("good0"), (1..=8).collect::<Vec<_>>());
    assert_eq!(world.sending.refused(reason), 100, "{why}");
}

#[tokio::test]
async fn series_that_are_refused_for_their_times_go_aside_until_one_sample_is_taken() {
    for encoding in [Encoding::V1, Encoding::V2] {
        refuse_for_times(encoding, "out of bounds", "out_of_bounds").await;
        refuse_for_times(encoding, "out of order sample", "out_of_order").await;
        refuse_for_times(encoding, "duplicate sample for timestamp", "duplicate").await;
    }
}

#[tokio::test]
async fn what_is_refused_since_a_copy_was_stored_is_not_put_aside() {
    let mut seen = BTreeSet::new();
    let receiver = Receiver::start(move |_, request| {
        if seen.insert(request.samples()) && request.samples().len() == 2 {
            return Action::Reset;
        }
        Action::Answer(400, "duplicate sample for timestamp")
    })
    .await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    for time in 1..=4 {
        sending.append(&[("a", time), ("b", time)]);
        sending.drained().await;
    }
    assert_eq!((sending.refused("already_stored"), sending.queues[0].stats().sets.len()), (8, 1));
}

#[tokio::test]
async fn of_a_joined_request_two_samples_of_each_refused_series_are_asked_for_in_the_lane() {
    for encoding in [Encoding::V1, Encoding::V2] {
        // A third one is asked for without an end.
        let mut alone = std::collections::BTreeMap::new();
        let receiver = Receiver::start(move |_, request| {
            let samples = request.samples();
            let bad = samples.iter().any(|(name, _)| name.starts_with("bad"));
            if let [(name, _)] = &*samples
                && bad
            {
                let times = alone.entry(name.clone()).or_insert(0);
                *times += 1;
                if *times > 2 {
                    return Action::Answer(429, "later");
                }
            }
            match (bad, request.is_v2()) {
                (false, _) => Action::Store,
                (true, false) => Action::Answer(400, "too many labels"),
                (true, true) => Action::AnswerWritten(400, 0, "too many labels"),
            }
        })
        .await;
        let (sending, _dir) = queueing_for(&receiver, ", max_samples_per_send: 400");
        let names: Vec<String> =
            (0..10).map(|at| format!("{}{at}", if at % 2 == 0 { "good" } else { "bad" })).collect();
        for time in 1..=40 {
            let samples: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), time)).collect();
            append_as(encoding, &sending.queues[0], 0, &samples);
        }
        sending.start();
        sending.drained().await;
        assert!(receiver.stored().values().all(|times| *times == (1..=40).collect::<Vec<_>>()));
        assert_eq!((receiver.stored().len(), sending.refused("rejected")), (5, 10));
        assert_eq!(sending.queues[0].stats().aside.samples, 5 * 38);
        sending.kill().await;
    }
}

#[tokio::test]
async fn nothing_is_joined_while_a_series_was_refused_only_once() {
    for encoding in [Encoding::V1, Encoding::V2] {
        let receiver = Receiver::start(|_, request| {
            let bad = request.samples().iter().any(|(name, _)| name == "bad");
            match (bad, request.is_v2()) {
                (false, _) => Action::Store,
                (true, false) => Action::Answer(400, "too many labels"),
                (true, true) => Action::AnswerWritten(400, 0, "too many labels"),
            }
        })
        .await;
        let (sending, _dir) = sending_to(&receiver, "").await;
        append_as(encoding, &sending.queues[0], 0, &[("good", 1), ("bad", 1)]);
        sending.drained().await;
        let before = receiver.received().len();
        for time in 2..=11 {
            append_as(encoding, &sending.queues[0], 0, &[("good", time)]);
        }
        sending.drained().await;
        assert_eq!(receiver.received().len() - before, 10);
    }
}

#[tokio::test]
async fn what_is_taken_again_waits_for_nothing_that_is_refused_before_it_and_is_not_overtaken() {
    for encoding in [Encoding::V1, Encoding::V2] {
        let changed = Arc::new(AtomicBool::new(false));
        let is_changed = Arc::clone(&changed);
        let is_bad = move |name: &str| {
            name.starts_with("bad") && (!is_changed.load(Ordering::Relaxed) || name != "bad7")
        };
        let mut world = Refusing::of(2, 200, is_bad).await;
        world.encoding = encoding;
        world.learn().await;
        world.say(AWAY);
        for _ in 3..=12 {
            world.round().await;
        }
        changed.store(true, Ordering::Relaxed);
        world.say(REFUSED);
        // One of these 2,000 samples shows that a series is taken again. The rest of it does not wait for the others.
        while world.times("bad7").len() < 10 {
            world.receiver.requests(world.receiver.received().len() + 1).await;
        }
        let aside = world.sending.queues[0].stats().aside.samples;
        assert!(aside > 1_000, "{aside}");
        world.round().await;
        world.sending.settled().await;
        world.round().await;
        world.sending.settled().await;
        assert_eq!(world.times("bad7"), (3..=14).collect::<Vec<_>>());
        assert_eq!((world.sending.refused("out_of_order"), world.sending.refused("already_stored")), (0, 0));
        assert_eq!(world.sending.refused("rejected"), 200 * 14 - 12);
    }
}

/// Has bad series refused for `why`, and puts that right when what lies aside of them is too old already and is not done with.
async fn put_right_when_what_lies_aside_is_too_old(encoding: Encoding, why: &'static str) {
    // The first samples that are not too old any more.
    const FRESH: i64 = 13;
    let (is_right, is_asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (right, asked) = (Arc::clone(&is_right), Arc::clone(&is_asked));
    let receiver = Receiver::start(move |_, request| {
        let samples = request.samples();
        let is_right = right.load(Ordering::Relaxed);
        let bad = |time: i64| samples.iter().any(|(name, at)| name.starts_with("bad") && *at < time);
        let refusal = match () {
            // Those of the first record aside are asked for; the others wait for long.
            () if samples.len() == 1 && bad(FRESH) && samples[0].1 > 2 => match asked.load(Ordering::Relaxed)
            {
                false if !is_right || samples[0].1 > 3 => return Action::Answer(429, "later"),
                _ => "out of bounds",
            },
            () if !is_right && bad(i64::MAX) => why,
            () if bad(FRESH) => "out of bounds",
            () => return Action::Store,
        };
        if request.is_v2() { Action::AnswerWritten(400, 0, refusal) } else { Action::Answer(400, refusal) }
    })
    .await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    let round = async |time| {
        let names = ["bad0", "good0", "bad1", "good1", "bad2"];
        append_as(encoding, &sending.queues[0], 0, &names.map(|name| (name, time)));
        sending.drained().await;
    };
    for time in 1..FRESH {
        round(time).await;
    }
    let refused = sending.refused("out_of_bounds");
    is_right.store(true, Ordering::Relaxed);
    while sending.refused("out_of_bounds") < refused + 3 {
        receiver.requests(receiver.received().len() + 1).await;
    }
    // Five minutes are over.
    sending.senders[0].link.refused_series.hurry();
    let before = receiver.received().len();
    for time in FRESH..FRESH + 3 {
        round(time).await;
    }
    let with_others =
        receiver.received().split_off(before).into_iter().filter(|request| request.samples().len() == 5);
    assert_eq!(with_others.count(), 2, "{why}");
    assert!(sending.queues[0].stats().aside.samples >= 27, "{why}");
    // What lies aside of them holds nothing up, and is asked for.
    is_asked.store(true, Ordering::Relaxed);
    sending.settled().await;
    round(FRESH + 3).await;
    assert_eq!(sending.queues[0].stats().aside.samples, 0);
    for name in ["bad0", "bad1", "bad2"] {
        assert_eq!(receiver.stored()[name], [FRESH, FRESH + 1, FRESH + 2, FRESH + 3], "{why}");
    }
    assert_eq!(receiver.stored()["good0"], (1..FRESH + 4).collect::<Vec<_>>(), "{why}");
    assert_eq!(sending.refused("out_of_bounds"), refused + 30, "{why}");
}

#[tokio::test]
async fn a_series_is_taken_again_though_what_lies_aside_of_it_is_too_old_by_then() {
    for encoding in [Encoding::V1, Encoding::V2] {
        put_right_when_what_lies_aside_is_too_old(encoding, "too many labels").await;
        put_right_when_what_lies_aside_is_too_old(encoding, "out of bounds").await;
    }
}
