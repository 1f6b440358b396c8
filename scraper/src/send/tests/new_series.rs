//! Refused series that are new in each scrape, or all at once: a lane that is behind does not ask for each of them.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use super::*;

/// Longer than any test takes: who waits so long waits for ever.
const FOR_EVER: Duration = Duration::from_secs(60);

/// A receiver that takes no bad series, and has no answer to a bad sample that comes alone as long as it `is_silent`.
async fn refusing(is_silent: &Arc<AtomicBool>) -> Receiver {
    let silent = Arc::clone(is_silent);
    Receiver::start(move |_, request| {
        let samples = request.samples();
        let bad = samples.iter().any(|(name, _)| name.starts_with("bad"));
        match (bad, samples.len()) {
            (false, _) => Action::Store,
            (true, 1) if silent.load(Ordering::Relaxed) => Action::Answer(429, "later"),
            (true, _) if request.is_v2() => Action::AnswerWritten(400, 0, "label value too long"),
            (true, _) => Action::Answer(400, "label value too long"),
        }
    })
    .await
}

async fn round(sending: &Sending, encoding: Encoding, names: &[String], time: i64) {
    let samples: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), time)).collect();
    append_as(encoding, &sending.queues[0], 0, &samples);
    tokio::time::timeout(FOR_EVER, sending.drained()).await.expect("nothing holds the lane up");
}

/// `good` and `bad` names, mixed.
fn mixed(good: impl IntoIterator<Item = String>, bad: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = good.into_iter().collect();
    for (at, name) in bad.into_iter().enumerate() {
        names.insert(at * 7919 % (names.len() + 1), name);
    }
    names
}

/// How often each sample of a bad series came alone.
fn came_alone(receiver: &Receiver) -> BTreeMap<(String, i64), usize> {
    let mut alone = BTreeMap::new();
    for request in receiver.received() {
        if let [sample] = &*request.samples()
            && sample.0.starts_with("bad")
        {
            *alone.entry(sample.clone()).or_insert(0) += 1;
        }
    }
    alone
}

#[tokio::test]
async fn refused_series_that_are_new_in_each_scrape_do_not_hold_a_lane_up_that_is_behind() {
    for encoding in [Encoding::V1, Encoding::V2] {
        let is_silent: Arc<AtomicBool> = Arc::default();
        let receiver = refusing(&is_silent).await;
        let (sending, _dir) = sending_to(&receiver, "").await;
        let names = |time: i64| {
            // One more good series from the fourth scrape on.
            let good = (0..20 + i64::from(time > 3)).map(|at| format!("good{at}"));
            mixed(good, (0..60).map(|at| format!("bad{at}of{time}")))
        };
        // While the lane is not behind it asks for each.
        round(&sending, encoding, &names(1), 1).await;
        assert_eq!((sending.refused("rejected"), sending.queues[0].stats().aside.samples), (60, 0));
        sending.senders[0].link.refused_series.behind_after(0);
        is_silent.store(true, Ordering::Relaxed);
        let before = receiver.received().len();
        for time in 2..=6 {
            round(&sending, encoding, &names(time), time).await;
        }
        let of_lane = receiver.received().split_off(before);
        let of_lane =
            of_lane.iter().filter(|request| request.samples().iter().any(|(name, _)| name == "good0"));
        assert_eq!(of_lane.count(), 10, "as a whole, then what is known to be taken");
        for at in 0..20 {
            assert_eq!(receiver.stored()[&format!("good{at}")], [1, 2, 3, 4, 5, 6]);
        }
        let stats = sending.queues[0].stats();
        assert_eq!((stats.pending.records, stats.aside.samples >= 5 * 60), (0, true));
        assert_eq!(sending.refused("rejected"), 60, "nothing is given up unasked");
        is_silent.store(false, Ordering::Relaxed);
        sending.settled().await;
        for time in 7..=8 {
            round(&sending, encoding, &names(time), time).await;
            sending.settled().await;
        }
        assert_eq!(receiver.stored()["good20"], [4, 5, 6, 7, 8], "a new one has its turn, and is known then");
        assert_eq!(sending.refused("rejected"), 8 * 60);
        assert_eq!(sending.refused("out_of_order") + sending.refused("already_stored"), 0);
        let alone = came_alone(&receiver);
        assert_eq!(alone.len(), 8 * 60);
        assert!(alone.iter().all(|((_, time), times)| *time < 7 || *times == 1), "{alone:?}");
    }
}

#[tokio::test]
async fn many_refused_series_that_are_new_in_each_scrape_go_aside_as_they_are_once_it_is_known_what_is_taken()
{
    for encoding in [Encoding::V1, Encoding::V2] {
        let is_silent: Arc<AtomicBool> = Arc::default();
        let receiver = refusing(&is_silent).await;
        let (sending, _dir) = sending_to(&receiver, "").await;
        let good = || (0..20).map(|at| format!("good{at}"));
        round(&sending, encoding, &mixed(good(), ["bad".to_owned()]), 1).await;
        let refused = &sending.senders[0].link.refused_series;
        refused.behind_after(0);
        refused.settled_after(Duration::ZERO);
        is_silent.store(true, Ordering::Relaxed);
        let before = receiver.received().len();
        for time in 2..=4 {
            let bad = (0..400).map(|at| format!("bad{at}of{time}"));
            round(&sending, encoding, &mixed(good(), bad), time).await;
        }
        let of_lane = receiver.received().split_off(before);
        let of_lane =
            of_lane.iter().filter(|request| request.samples().iter().any(|(name, _)| name == "good0"));
        assert_eq!(of_lane.count(), 6, "as a whole, then what is known to be taken");
        for name in good() {
            assert_eq!(receiver.stored()[&name], [1, 2, 3, 4]);
        }
        assert_eq!(sending.queues[0].stats().aside.samples, 3 * 400);
        is_silent.store(false, Ordering::Relaxed);
        sending.settled().await;
        assert_eq!(sending.refused("rejected"), 1 + 3 * 400);
    }
}

#[tokio::test]
async fn many_series_that_are_refused_for_the_first_time_do_not_hold_a_lane_up_that_is_behind() {
    for encoding in [Encoding::V1, Encoding::V2] {
        let is_silent = Arc::new(AtomicBool::new(true));
        let receiver = refusing(&is_silent).await;
        let (sending, _dir) = sending_to(&receiver, "").await;
        sending.senders[0].link.refused_series.behind_after(0);
        let good = || (0..20).map(|at| format!("good{at}"));
        let names = mixed(good(), (0..500).map(|at| format!("bad{at}")));
        // Of the same lane, and of other targets.
        let others: Vec<String> = (0..20).map(|at| format!("other{at}")).collect();
        for time in 1..=3 {
            round(&sending, encoding, &names, time).await;
            round(&sending, encoding, &others, time).await;
        }
        assert_eq!(receiver.stored()["other0"], [1, 2, 3]);
        assert_eq!(sending.refused("rejected"), 0, "nothing is given up unasked");
        is_silent.store(false, Ordering::Relaxed);
        sending.settled().await;
        for time in 4..=5 {
            round(&sending, encoding, &names, time).await;
            sending.settled().await;
        }
        for name in good() {
            assert_eq!(receiver.stored()[&name], [1, 2, 3, 4, 5], "{name}");
        }
        assert_eq!(sending.refused("rejected"), 5 * 500);
        assert_eq!(sending.refused("out_of_order") + sending.refused("already_stored"), 0);
        assert_eq!(came_alone(&receiver).len(), 5 * 500);
    }
}

#[tokio::test]
async fn of_a_joined_request_all_of_a_new_series_goes_aside_in_order() {
    let is_silent: Arc<AtomicBool> = Arc::default();
    let receiver = refusing(&is_silent).await;
    let (sending, _dir) = queueing_for(&receiver, ", max_samples_per_send: 400");
    sending.senders[0].link.refused_series.behind_after(0);
    let names = mixed((0..5).map(|at| format!("good{at}")), (0..5).map(|at| format!("bad{at}")));
    for time in 1..=40 {
        let samples: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), time)).collect();
        append(&sending.queues[0], 0, &samples);
    }
    sending.start();
    sending.settled().await;
    assert_eq!(receiver.stored().len(), 5);
    assert!(receiver.stored().values().all(|times| *times == (1..=40).collect::<Vec<_>>()));
    assert_eq!((sending.refused("rejected"), sending.refused("out_of_order")), (200, 0));
}

#[tokio::test]
async fn a_new_series_that_is_taken_does_not_wait_for_all_that_is_refused_before_it() {
    for encoding in [Encoding::V1, Encoding::V2] {
        let is_silent: Arc<AtomicBool> = Arc::default();
        let receiver = refusing(&is_silent).await;
        let (sending, _dir) = sending_to(&receiver, "").await;
        sending.senders[0].link.refused_series.behind_after(0);
        let names = |time: i64| {
            let good = (0..20 + i64::from(time > 3)).map(|at| format!("good{at}"));
            mixed(good, (0..if time > 4 { 10 } else { 1_000 }).map(|at| format!("bad{at}of{time}")))
        };
        for time in 1..=6 {
            round(&sending, encoding, &names(time), time).await;
        }
        // Before it lie 3,000 samples of which each is refused.
        let is_stored = || receiver.stored().get("good20").is_some_and(|times| times.len() == 3);
        while !is_stored() {
            receiver.requests(receiver.received().len() + 1).await;
        }
        let aside = sending.queues[0].stats().aside.samples;
        assert!(aside > 1_500, "{aside}");
        sending.settled().await;
        round(&sending, encoding, &names(7), 7).await;
        sending.settled().await;
        assert_eq!(receiver.stored()["good20"], [4, 5, 6, 7]);
        for at in 0..20 {
            assert_eq!(receiver.stored()[&format!("good{at}")], [1, 2, 3, 4, 5, 6, 7]);
        }
        assert_eq!(sending.refused("rejected"), 4_000 + 3 * 10);
        assert_eq!(sending.refused("out_of_order") + sending.refused("already_stored"), 0);
    }
}
