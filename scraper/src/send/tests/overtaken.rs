//! What somebody else has overtaken while this scraper could not send: it is refused, and what follows need not wait for that.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use promring_net::clock::now_ms;

use super::*;

const REFUSED: usize = 0;
/// What was overtaken gets no answer where it comes alone.
const LATER: usize = 1;

/// A receiver that has newer samples of series called `bad`, up to a time.
struct Overtaken {
    receiver: Receiver,
    sending: Sending,
    /// Unix milliseconds.
    upto: Arc<AtomicI64>,
    alone: Arc<AtomicUsize>,
    names: Vec<String>,
    dir: tempfile::TempDir,
}

impl Overtaken {
    /// What lies aside of them has no time before what follows is sent ahead of it.
    async fn with(bad: usize) -> Self {
        let overtaken = Self::waiting_with(bad).await;
        overtaken.sending.senders[0].link.refused_series.fair_for(Duration::ZERO);
        overtaken
    }

    /// It has its time, which is longer than a test takes.
    async fn waiting_with(bad: usize) -> Self {
        let (upto, alone) = (Arc::new(AtomicI64::new(1_000)), Arc::new(AtomicUsize::new(REFUSED)));
        let (newest, say) = (Arc::clone(&upto), Arc::clone(&alone));
        let receiver = Receiver::start(move |_, request| {
            let samples = request.samples();
            let newest = newest.load(Ordering::Relaxed);
            let is_late = |(name, time): &(String, i64)| name.starts_with("bad") && *time <= newest;
            match samples.iter().any(is_late) {
                // Of what lies aside.
                true if samples.len() == 1
                    && samples[0].1 < 1_000
                    && say.load(Ordering::Relaxed) == LATER =>
                {
                    Action::Answer(429, "later")
                }
                true => Action::Answer(400, "out of order sample"),
                false => Action::Store,
            }
        })
        .await;
        let (sending, dir) = sending_to(&receiver, "").await;
        let mut names: Vec<String> = (0..bad).map(|at| format!("bad{at}")).collect();
        names.push("good".to_owned());
        Self { receiver, sending, upto, alone, names, dir }
    }

    async fn round(&self, time: i64) {
        let samples: Vec<(&str, i64)> = self.names.iter().map(|name| (name.as_str(), time)).collect();
        append(&self.sending.queues[0], 0, &samples);
        self.sending.drained().await;
    }

    fn times(&self, name: &str) -> Vec<i64> {
        self.receiver.stored().remove(name).unwrap_or_default()
    }

    fn aside(&self) -> u64 {
        self.sending.queues[0].stats().aside.samples
    }
}

#[tokio::test]
async fn what_follows_does_not_wait_for_what_was_overtaken() {
    follows(Overtaken::with(20).await).await;
}

#[tokio::test]
async fn nor_does_it_where_that_went_aside_unasked() {
    let overtaken = Overtaken::with(20).await;
    overtaken.sending.senders[0].link.refused_series.behind_after(0);
    follows(overtaken).await;
}

#[tokio::test]
async fn what_nothing_is_known_of_yet_waits_for_no_turn_of_what_is_refused_again_and_again() {
    let overtaken = Overtaken::with(20).await;
    let link = &overtaken.sending.senders[0].link;
    link.refused_series.behind_after(0);
    overtaken.round(1).await;
    overtaken.sending.settled().await;
    assert_eq!(overtaken.sending.refused("out_of_order"), 20, "each was asked for alone");
    assert!(link.pace.has_first_turns_only());
    // From now on each sample of them is.
    overtaken.round(2).await;
    overtaken.sending.settled().await;
    assert_eq!(overtaken.sending.refused("out_of_order"), 40);
    assert!(!link.pace.has_first_turns_only());
}

#[tokio::test]
async fn what_the_receiver_would_take_of_what_lies_aside_is_not_overtaken_by_what_follows() {
    let overtaken = Overtaken::waiting_with(20).await;
    overtaken.upto.store(10, Ordering::Relaxed);
    // Of each series ten samples are refused, and thirty are not. From the third one on they go aside.
    overtaken.round(1).await;
    overtaken.round(2).await;
    overtaken.alone.store(LATER, Ordering::Relaxed);
    for time in 3..=40 {
        overtaken.round(time).await;
    }
    let begun_ms = now_ms();
    for time in 0..3 {
        overtaken.round(begun_ms + time).await;
    }
    assert!(overtaken.names[..20].iter().all(|name| overtaken.times(name).is_empty()));
    overtaken.alone.store(REFUSED, Ordering::Relaxed);
    // What is scraped comes between the turns.
    for time in 3..10 {
        overtaken.round(begun_ms + time).await;
    }
    overtaken.sending.settled().await;
    let taken: Vec<i64> = (11..=40).chain((0..10).map(|time| begun_ms + time)).collect();
    assert!(overtaken.names[..20].iter().all(|name| overtaken.times(name) == taken));
    assert_eq!(overtaken.sending.refused("out_of_order"), 10 * 20);
}

#[tokio::test]
async fn what_was_overtaken_has_turns_as_fast_as_the_receiver_answers_for_as_long_as_that() {
    let overtaken = Overtaken::waiting_with(20).await;
    for time in 1..=10 {
        overtaken.round(time).await;
    }
    overtaken.sending.settled().await;
    assert_eq!(overtaken.sending.refused("out_of_order"), 10 * 20);
    assert!(overtaken.sending.senders[0].link.pace.has_first_turns_only());
}

async fn follows(overtaken: Overtaken) {
    // The turns of these take long.
    for time in 1..=60 {
        overtaken.round(time).await;
    }
    let begun_ms = now_ms();
    for time in 0..3 {
        overtaken.round(begun_ms + time).await;
    }
    let fresh = [begun_ms, begun_ms + 1, begun_ms + 2];
    while overtaken.names[..20].iter().any(|name| overtaken.times(name) != fresh) {
        overtaken.receiver.requests(overtaken.receiver.received().len() + 1).await;
    }
    assert!(overtaken.aside() > 0, "they have waited for all others");
    // So does what follows, behind nothing.
    overtaken.round(begun_ms + 3).await;
    while overtaken.times("bad0").len() < 4 {
        overtaken.receiver.requests(overtaken.receiver.received().len() + 1).await;
    }
    assert!(overtaken.aside() > 0);
    overtaken.sending.settled().await;
    assert_eq!(overtaken.sending.refused("out_of_order"), 60 * 20);
    assert!(overtaken.names[..20].iter().all(|name| overtaken.times(name).len() == 4));
}

#[tokio::test]
async fn what_follows_after_a_restart_does_not_wait_for_what_lay_aside_and_was_overtaken() {
    let mut overtaken = Overtaken::with(3).await;
    overtaken.alone.store(LATER, Ordering::Relaxed);
    for time in 1..=6 {
        // Its turn does not come, and what is refused with others goes aside at the second time.
        let samples: Vec<(&str, i64)> = overtaken.names.iter().map(|name| (name.as_str(), time)).collect();
        append(&overtaken.sending.queues[0], 0, &samples);
    }
    let config = Arc::clone(&overtaken.sending.senders[0].link.config);
    let metrics = overtaken.sending.metrics.clone();
    let nothing = Sending { senders: Vec::new(), queues: Vec::new(), metrics };
    std::mem::replace(&mut overtaken.sending, nothing).kill().await;
    overtaken.alone.store(REFUSED, Ordering::Relaxed);
    overtaken.sending = Sending::open(overtaken.dir.path(), &[config], &QueueSettings::default());
    overtaken.sending.start();
    overtaken.sending.settled().await;
    let begun_ms = now_ms();
    overtaken.round(begun_ms).await;
    overtaken.round(begun_ms + 1).await;
    assert_eq!(overtaken.times("bad2"), [begun_ms, begun_ms + 1]);
    assert_eq!(overtaken.times("good").len(), 8);
}

#[tokio::test]
async fn whoever_is_overtaken_all_the_time_is_asked_for_past_the_others_once() {
    let overtaken = Overtaken::with(20).await;
    overtaken.upto.store(i64::MAX, Ordering::Relaxed);
    overtaken.round(1).await;
    overtaken.round(2).await;
    overtaken.alone.store(LATER, Ordering::Relaxed);
    overtaken.round(3).await;
    let begun_ms = now_ms();
    // They are tried, and go aside as before.
    overtaken.round(begun_ms).await;
    overtaken.round(begun_ms + 1).await;
    let before = overtaken.receiver.received().len();
    for time in 2..12 {
        overtaken.round(begun_ms + time).await;
    }
    let of_lane = |request: &receiver::Received| request.samples().iter().any(|(name, _)| name == "good");
    let received = overtaken.receiver.received();
    let of_lane = received[before..].iter().filter(|request| of_lane(request)).count();
    assert_eq!(of_lane, 10, "one for each round");
    assert_eq!(overtaken.times("good").len(), 3 + 12);
    assert!(overtaken.times("bad0").is_empty());
}
