//! Receivers of 1.0 that store what they can of a request and answer 400 for the rest.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use super::receiver::Refuses;
use super::*;

/// Series that are taken, and records of all series in a request after an outage.
const GOOD: usize = 20;
const JOINED: usize = 10;

/// Records that an outage leaves.
const BACKLOG: i64 = 60;

/// Such a receiver, and what a sender keeps between its processes.
struct World {
    receiver: Receiver,
    /// The receiver answers 429, which says that nothing was stored.
    away: Arc<AtomicBool>,
    /// Some series are not taken.
    refusing: Arc<AtomicBool>,
    dir: tempfile::TempDir,
    config: Arc<RemoteWrite>,
    names: Vec<String>,
}

impl World {
    /// `bad` series that are not taken once the receiver refuses some.
    async fn of(bad: usize) -> Self {
        let (away, refusing): (Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
        let (is_away, is_refusing) = (Arc::clone(&away), Arc::clone(&refusing));
        let refuses: Refuses =
            Arc::new(move |name, _| name.starts_with("bad") && is_refusing.load(Ordering::Relaxed));
        let receiver = Receiver::start(move |_, _| match is_away.load(Ordering::Relaxed) {
            true => Action::Answer(429, "away"),
            false => Action::StoreInPart(Arc::clone(&refuses)),
        })
        .await;
        let mut names: Vec<String> = (0..GOOD).map(|at| format!("good{at}")).collect();
        (0..bad).for_each(|at| names.insert(at * 7919 % (names.len() + 1), format!("bad{at}")));
        let keys = format!(", max_samples_per_send: {}", JOINED * names.len());
        let config = destination("prod", &receiver.url, &keys);
        Self { receiver, away, refusing, dir: tempfile::tempdir().unwrap(), config, names }
    }

    fn open(&self) -> Sending {
        Sending::open(self.dir.path(), std::slice::from_ref(&self.config), &QueueSettings::default())
    }

    /// A record of all series for each of these times.
    fn append(&self, sending: &Sending, times: std::ops::RangeInclusive<i64>) {
        for time in times {
            let samples: Vec<(&str, i64)> = self.names.iter().map(|name| (name.as_str(), time)).collect();
            sending.append(&samples);
        }
    }

    /// Everything that was ever appended, up to this time, is stored in its order, but so many samples of each series that is not
    /// taken; and nothing else counts as lost.
    fn assert_only_refused_is_lost(&self, sending: &Sending, upto: i64, lost: i64) {
        let stored = self.receiver.stored();
        for name in &self.names {
            let upto = if name.starts_with("bad") { upto - lost } else { upto };
            let times = stored.get(name).cloned().unwrap_or_default();
            assert_eq!(times, (1..=upto).collect::<Vec<_>>(), "{name}");
        }
        let bad = self.names.iter().filter(|name| name.starts_with("bad")).count() as u64;
        let refused = ["rejected", "out_of_order", "duplicate", "late_after_loss"];
        let expected = [bad * lost as u64, 0, 0, 0];
        assert_eq!(refused.map(|reason| sending.refused(reason)), expected);
        let failed = "prometheus_remote_storage_samples_failed_total";
        assert_eq!(sending.metric(failed, ""), bad * lost as u64);
    }

    /// One joined request took at most two requests for each of its samples; the others went as if the series had been known before.
    fn assert_one_fell_apart(&self, sending: &Sending, requests: usize) {
        let of_one = 2 * JOINED * self.names.len();
        // It was 2,218 before anything was set apart.
        assert!(requests <= of_one + 6 * 2, "{requests}");
        // All of its samples but the newest of each series.
        assert_eq!(sending.refused("already_stored"), ((JOINED - 1) * GOOD) as u64);
    }

    /// Sends three records one after the other, then begins an outage, in which the backlog is queued.
    async fn send_until_an_outage(&self, sending: &Sending) {
        sending.start();
        for time in 1..=3 {
            self.append(sending, time..=time);
            sending.settled().await;
        }
        self.away.store(true, Ordering::Relaxed);
        self.append(sending, 4..=3 + BACKLOG);
        self.receiver.requests(self.receiver.received().len() + 2).await;
    }

    /// Ends the outage; how many requests what it left takes in its lane, which does not wait for what goes aside.
    async fn drain(&self, sending: &Sending) -> usize {
        let before = self.receiver.received().len();
        self.away.store(false, Ordering::Relaxed);
        sending.settled().await;
        let received = self.receiver.received().split_off(before);
        let holds_good = |samples: &[(String, i64)]| samples.iter().any(|(name, _)| name.starts_with("good"));
        received.iter().filter(|request| holds_good(&request.samples())).count()
    }
}

#[tokio::test]
async fn a_series_that_was_not_taken_before_an_outage_costs_the_rest_nothing_after_it() {
    let world = World::of(1).await;
    world.refusing.store(true, Ordering::Relaxed);
    let sending = world.open();
    world.send_until_an_outage(&sending).await;
    let requests = world.drain(&sending).await;
    // Of each joined request what is taken; before the rest was set apart, each request took 368, and 150 of its samples counted
    // as lost. The first one was in flight when the outage began.
    assert!(requests <= 6 + 1, "{requests}");
    assert_eq!(sending.refused("already_stored"), 0);
    world.assert_only_refused_is_lost(&sending, 3 + BACKLOG, 3 + BACKLOG);
}

#[tokio::test]
async fn a_series_that_is_no_longer_taken_after_an_outage_takes_one_request_apart() {
    let world = World::of(1).await;
    let sending = world.open();
    world.send_until_an_outage(&sending).await;
    world.refusing.store(true, Ordering::Relaxed);
    let requests = world.drain(&sending).await;
    world.assert_one_fell_apart(&sending, requests);
    world.assert_only_refused_is_lost(&sending, 3 + BACKLOG, BACKLOG);
}

#[tokio::test]
async fn a_process_that_is_new_after_an_outage_learns_of_a_series_that_is_not_taken_by_one_request() {
    let world = World::of(1).await;
    world.refusing.store(true, Ordering::Relaxed);
    let sending = world.open();
    world.append(&sending, 1..=BACKLOG);
    drop(sending);
    let sending = world.open();
    sending.start();
    let requests = world.drain(&sending).await;
    world.assert_one_fell_apart(&sending, requests);
    world.assert_only_refused_is_lost(&sending, BACKLOG, BACKLOG);
}

#[tokio::test]
async fn several_series_that_are_not_taken_cost_one_request_as_well() {
    let world = World::of(5).await;
    world.refusing.store(true, Ordering::Relaxed);
    let sending = world.open();
    world.append(&sending, 1..=BACKLOG);
    sending.start();
    let requests = world.drain(&sending).await;
    let of_one = 2 * JOINED * world.names.len();
    assert!(requests <= of_one + 6 * 2, "{requests}");
    world.assert_only_refused_is_lost(&sending, BACKLOG, BACKLOG);
}

#[tokio::test]
async fn records_are_not_joined_while_it_is_not_known_whether_a_series_is_refused_again() {
    let world = World::of(0).await;
    let refuses: Refuses = Arc::new(|name, _| name == "bad");
    let receiver = Receiver::start(move |_, _| Action::StoreInPart(Arc::clone(&refuses))).await;
    let keys = format!(", max_samples_per_send: {}", JOINED * (GOOD + 1));
    let (sending, _dir) = queueing_for(&receiver, &keys);
    // The series has a sample in each twentieth record only.
    for time in 1..=BACKLOG {
        let mut samples: Vec<(&str, i64)> = world.names.iter().map(|name| (name.as_str(), time)).collect();
        samples.extend((time % 20 == 5).then_some(("bad", time)));
        sending.append(&samples);
    }
    sending.start();
    sending.settled().await;
    let stored = receiver.stored();
    assert_eq!(stored.len(), GOOD);
    assert!(stored.values().all(|times| *times == (1..=BACKLOG).collect::<Vec<_>>()));
    assert_eq!((sending.refused("rejected"), sending.refused("out_of_order")), (3, 0));
    let joined: Vec<i64> = receiver
        .received()
        .iter()
        .filter_map(|request| {
            let times: Vec<i64> = request.samples().into_iter().map(|(_, time)| time).collect();
            let (first, last) = (times.iter().min()?, times.iter().max()?);
            (request.samples().len() > GOOD && last > first).then_some(*first)
        })
        .collect();
    // The first one falls apart; from the second refusal on, records are joined again.
    assert_eq!(joined[0], 1);
    assert!(joined.iter().all(|first| *first < 11 || *first > 25), "{joined:?}");
    assert!(joined.iter().any(|first| *first > 25), "{joined:?}");
}

#[tokio::test]
async fn what_comes_after_somebody_elses_samples_is_lost_though_its_request_was_refused_for_another_series() {
    // It stores a request as a whole or not at all, and looks at labels first.
    let receiver = Receiver::start(|_, request| {
        let bad = request.samples().iter().any(|(name, _)| name == "bad");
        if bad { Action::Answer(400, "label value is not valid") } else { Action::Store }
    })
    .await;
    let (sending, _dir) = queueing_for(&receiver, ", max_samples_per_send: 4");
    // It stands for what somebody else has sent.
    sending.append(&[("a", 100), ("b", 1), ("c", 1), ("d", 1)]);
    sending.append(&[("a", 10), ("bad", 10)]);
    sending.append(&[("a", 20), ("b", 20)]);
    sending.start();
    sending.drained().await;
    assert_eq!((&receiver.stored()["a"], &receiver.stored()["b"]), (&vec![100], &vec![1, 20]));
    assert_eq!((sending.refused("out_of_order"), sending.refused("already_stored")), (2, 0));
    assert_eq!(sending.refused("rejected"), 1);
}

/// Refuses what begins with `bad`, and does not answer where that is asked for alone, from its third sample on. At state 1 what lies
/// aside is put right, but for what is refused of it.
async fn put_right_but(refuses: Refuses) -> (Receiver, Arc<AtomicUsize>) {
    let state: Arc<AtomicUsize> = Arc::default();
    let now = Arc::clone(&state);
    let receiver = Receiver::start(move |_, request| {
        let samples = request.samples();
        let bad = samples.iter().filter(|(name, _)| name.starts_with("bad"));
        match (bad.map(|(_, time)| *time).max(), now.load(Ordering::Relaxed)) {
            (None, _) => Action::Store,
            (Some(time), 0) if time > 2 && samples.len() == 1 => Action::Answer(429, "later"),
            (_, 0) => Action::Answer(400, "too many labels"),
            (Some(..4), _) => Action::Store,
            _ => Action::StoreInPart(Arc::clone(&refuses)),
        }
    })
    .await;
    (receiver, state)
}

#[tokio::test]
async fn what_was_stored_of_a_refused_request_that_went_ahead_is_no_loss() {
    // But `bad1` for one sample only.
    let (receiver, state) = put_right_but(Arc::new(|name, _| name == "bad1")).await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    for time in 1..=6 {
        sending.append(&[("good0", time), ("bad0", time), ("bad1", time)]);
        sending.drained().await;
    }
    assert_eq!(sending.queues[0].stats().aside.samples, 8);
    state.store(1, Ordering::Relaxed);
    sending.settled().await;
    assert_eq!(
        (&receiver.stored()["bad0"][..], &receiver.stored()["bad1"][..]),
        (&[3, 4, 5, 6][..], &[3][..])
    );
    let reasons = ["rejected", "out_of_order", "already_stored"];
    assert_eq!(reasons.map(|reason| sending.refused(reason)), [4 + 3, 0, 2]);
}

#[tokio::test]
async fn nor_is_it_where_the_oldest_sample_of_each_series_is_refused() {
    let (receiver, state) = put_right_but(Arc::new(|name, time| name.starts_with("bad") && time == 4)).await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    for time in 1..=8 {
        sending.append(&["good0", "bad0", "bad1", "bad2"].map(|name| (name, time)));
        sending.drained().await;
    }
    state.store(1, Ordering::Relaxed);
    sending.settled().await;
    for name in ["bad0", "bad1", "bad2"] {
        assert_eq!(receiver.stored()[name], [3, 5, 6, 7, 8], "{name}");
    }
    let reasons = ["rejected", "out_of_order", "already_stored"];
    assert_eq!(reasons.map(|reason| sending.refused(reason)), [3 * 2 + 3, 0, 3 * 3]);
}

/// Series of which the receiver takes some samples only: how much counts as rejected, out of order and already stored.
async fn refuse_every_third(aside: bool) -> [u64; 3] {
    let away: Arc<AtomicBool> = Arc::new(AtomicBool::new(false));
    let ill: Arc<AtomicBool> = Arc::new(AtomicBool::new(aside));
    let (is_away, is_ill) = (Arc::clone(&away), Arc::clone(&ill));
    let refuses: Refuses = Arc::new(|name, time| name.starts_with("bad") && time % 3 == 0);
    let receiver = Receiver::start(move |_, request| {
        if is_away.load(Ordering::Relaxed) {
            return Action::Answer(429, "away");
        }
        let samples = request.samples();
        let bad = samples.iter().filter(|(name, _)| name.starts_with("bad"));
        match bad.map(|(_, time)| *time).max() {
            Some(3..) if is_ill.load(Ordering::Relaxed) && samples.len() == 1 => Action::Answer(429, "later"),
            Some(_) if is_ill.load(Ordering::Relaxed) => Action::Answer(400, "too many labels"),
            _ => Action::StoreInPart(Arc::clone(&refuses)),
        }
    })
    .await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    let names = ["good0", "bad0", "good1", "bad1", "good2"];
    let round = |time| sending.append(&names.map(|name| (name, time)));
    for time in 1..=2 {
        round(time);
        sending.drained().await;
    }
    away.store(!aside, Ordering::Relaxed);
    for time in 3..=17 {
        round(time);
        if aside {
            sending.drained().await;
        }
    }
    away.store(false, Ordering::Relaxed);
    ill.store(false, Ordering::Relaxed);
    sending.settled().await;
    for name in ["bad0", "bad1"] {
        let from = if aside { 3 } else { 1 };
        let taken: Vec<i64> = (from..=17).filter(|time| time % 3 != 0).collect();
        assert_eq!(receiver.stored()[name], taken, "{name}");
    }
    assert_eq!(receiver.stored()["good1"], (1..=17).collect::<Vec<_>>());
    ["rejected", "out_of_order", "already_stored"].map(|reason| sending.refused(reason))
}

#[tokio::test]
async fn what_was_stored_of_series_of_which_single_samples_are_refused_is_no_loss() {
    let [rejected, lost, _] = refuse_every_third(false).await;
    assert_eq!((rejected, lost), (10, 0));
    let [rejected, lost, _] = refuse_every_third(true).await;
    assert_eq!((rejected, lost), (4 + 10, 0));
}
