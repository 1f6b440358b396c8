//! What a restart makes of what lies aside: nothing overtakes it, and nothing that was never sent counts as stored.

use std::sync::atomic::AtomicUsize;

use tokio::sync::Notify;

use super::*;

/// What the receiver makes of bad series.
const ILL: usize = 0;
/// The cause is put right, and what lies aside is not taken yet.
const BUSY: usize = 1;
const WELL: usize = 2;
/// What is not bad gets no answer.
const SILENT: usize = 3;

/// A round of these series.
fn round(sending: &Sending, encoding: Encoding, names: &[String], time: i64) {
    let samples: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), time)).collect();
    append_as(encoding, &sending.queues[0], 0, &samples);
}

fn names(good: usize, bad: usize) -> Vec<String> {
    let good = (0..good).map(|at| format!("good{at}"));
    good.chain((0..bad).map(|at| format!("bad{at}"))).collect()
}

#[tokio::test]
async fn what_follows_after_a_restart_does_not_overtake_what_lies_aside() {
    for encoding in [Encoding::V1, Encoding::V2] {
        let state: Arc<AtomicUsize> = Arc::default();
        let now = Arc::clone(&state);
        let receiver = Receiver::start(move |_, request| {
            let samples = request.samples();
            let bad = samples.iter().filter(|(name, _)| name.starts_with("bad"));
            match (bad.map(|(_, time)| *time).min(), now.load(Ordering::Relaxed)) {
                (Some(3..), ILL | SILENT) if samples.len() == 1 => Action::Answer(429, "later"),
                (None, SILENT) => Action::Hang,
                (Some(_), ILL | SILENT) if request.is_v2() => {
                    Action::AnswerWritten(400, 0, "too many labels")
                }
                (Some(_), ILL | SILENT) => Action::Answer(400, "too many labels"),
                (Some(..7), BUSY) => Action::Answer(429, "later"),
                _ => Action::Store,
            }
        })
        .await;
        let (sending, dir) = sending_to(&receiver, "").await;
        let names = names(2, 3);
        for time in 1..7 {
            round(&sending, encoding, &names, time);
            sending.drained().await;
        }
        assert_eq!(sending.queues[0].stats().aside.samples, 12);
        // A request is under way when the process ends.
        state.store(SILENT, Ordering::Relaxed);
        round(&sending, encoding, &names, 7);
        let is_good = |request: &receiver::Received| request.samples().contains(&("good0".to_owned(), 7));
        while !receiver.received().iter().any(is_good) {
            receiver.requests(receiver.received().len() + 1).await;
        }
        let config = Arc::clone(&sending.senders[0].link.config);
        sending.kill().await;
        state.store(BUSY, Ordering::Relaxed);
        let sending = Sending::open(dir.path(), &[config], &QueueSettings::default());
        round(&sending, encoding, &names, 8);
        sending.start();
        sending.drained().await;
        assert_eq!(receiver.stored()["good0"], [1, 2, 3, 4, 5, 6, 7, 8], "they wait for nothing");
        state.store(WELL, Ordering::Relaxed);
        sending.settled().await;
        for name in ["bad0", "bad1", "bad2"] {
            assert_eq!(receiver.stored()[name], [3, 4, 5, 6, 7, 8]);
        }
        assert_eq!((sending.refused("out_of_order"), sending.refused("already_stored")), (0, 0));
    }
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The request under way is answered.
    Stop,
    /// The receiver stores it, and nobody sees the answer.
    Killed,
    /// The same, and what the process wrote down of what it sends ahead is damaged.
    KilledAndDamaged,
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let beside = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &beside);
        } else {
            std::fs::copy(&path, &beside).unwrap();
        }
    }
}

/// Ends while ten of twenty series that are taken again are sent ahead: two of five requests are answered. Then somebody else writes a newer
/// sample of one of them. How much is refused as out of order, and how much as stored already.
async fn end_in_a_search(end: End) -> (u64, u64) {
    const ROUNDS: i64 = 12;
    let state: Arc<AtomicUsize> = Arc::default();
    let (now, told, mut ahead) = (Arc::clone(&state), Arc::new(Notify::new()), 0);
    let answer = Arc::clone(&told);
    let reached: Arc<Notify> = Arc::default();
    let at = Arc::clone(&reached);
    let is_ill = |name: &str| name.starts_with("bad1") && name != "bad1";
    let receiver = Receiver::start(move |_, request| {
        let samples = request.samples();
        let ill = samples.iter().any(|(name, _)| is_ill(name));
        let bad = samples.iter().any(|(name, _)| name.starts_with("bad"));
        match (bad, now.load(Ordering::Relaxed)) {
            (true, ILL) if samples.len() == 1 && samples[0].1 > 2 => Action::Answer(429, "later"),
            (true, ILL) => Action::Answer(400, "too many labels"),
            (true, _) if ill => Action::Answer(400, "too many labels"),
            (true, BUSY) if samples.len() > 1 => {
                ahead += 1;
                if ahead == 3 {
                    at.notify_one();
                    return Action::StoreAndWait(Arc::clone(&answer));
                }
                Action::Store
            }
            _ => Action::Store,
        }
    })
    .await;
    let (sending, dir) = sending_to(&receiver, ", max_samples_per_send: 20").await;
    let all = names(2, 20);
    for time in 1..=ROUNDS {
        round(&sending, Encoding::V1, &all, time);
        sending.drained().await;
    }
    assert_eq!(sending.queues[0].stats().aside.samples, 200);
    state.store(BUSY, Ordering::Relaxed);
    reached.notified().await;
    let config = Arc::clone(&sending.senders[0].link.config);
    let killed = tempfile::tempdir().unwrap();
    let dir = match end {
        End::Stop => {
            let stopped = tokio::join!(sending.senders[0].yield_queue(), async { told.notify_one() });
            assert_eq!(stopped, ((), ()));
            drop(sending);
            dir.path()
        }
        End::Killed | End::KilledAndDamaged => {
            copy(dir.path(), killed.path());
            sending.kill().await;
            killed.path()
        }
    };
    let file = queue_dir(dir, "prod").join("set-00000002/lane-000/ahead");
    if end == End::KilledAndDamaged {
        std::fs::write(&file, "PRMRAHD\n and then something else").unwrap();
    }
    state.store(WELL, Ordering::Relaxed);
    let stored_upto = *receiver.stored()["bad0"].last().unwrap();
    assert!((5..10).contains(&stored_upto), "{stored_upto}");
    let (other, _dir) = sending_to(&receiver, "").await;
    other.append(&[("bad0", 100)]);
    other.settled().await;
    let found = crate::queue::Inspection::of(&queue_dir(dir, "prod")).unwrap();
    assert_eq!(found.is_sound(), end != End::KilledAndDamaged, "{found}");
    let sending = Sending::open(dir, &[config], &QueueSettings::default());
    round(&sending, Encoding::V1, &all, ROUNDS + 1);
    sending.start();
    sending.settled().await;
    // Nothing of the others is lost, and all of it is in order.
    for at in 1..10 {
        assert_eq!(receiver.stored()[&format!("bad{at}")], (3..=ROUNDS + 1).collect::<Vec<_>>(), "{end:?}");
    }
    assert_eq!(receiver.stored()["good0"], (1..=ROUNDS + 1).collect::<Vec<_>>(), "{end:?}");
    let lost = ROUNDS as u64 + 1 - stored_upto as u64;
    if end != End::KilledAndDamaged {
        assert_eq!(sending.refused("out_of_order"), lost, "{end:?}: of bad0 nothing more was stored");
        // Nobody needs it any more.
        while file.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(sending.queues[0].stats().lost_cursors, u64::from(end == End::KilledAndDamaged));
    (sending.refused("out_of_order"), sending.refused("already_stored"))
}

#[tokio::test]
async fn what_was_never_sent_does_not_count_as_stored_after_an_end_in_the_midst_of_a_search() {
    let (_, already) = end_in_a_search(End::Stop).await;
    assert_eq!(already, 0, "what was answered is passed over");
    let (_, already) = end_in_a_search(End::Killed).await;
    assert!((1..=60).contains(&already), "{already}");
    // Where nobody knows, all may have been stored.
    let (lost, _) = end_in_a_search(End::KilledAndDamaged).await;
    assert!(lost <= 1, "{lost}: of what lay aside nothing");
}

/// The receiver takes no more of the series that lie aside, until it says so.
const LATER: usize = 4;

#[tokio::test]
async fn what_follows_in_a_record_after_what_was_answered_ahead_of_it_is_sent_after_a_restart() {
    let state: Arc<AtomicUsize> = Arc::default();
    let (now, reached) = (Arc::clone(&state), Arc::new(Notify::new()));
    let at = Arc::clone(&reached);
    let receiver = Receiver::start(move |_, request| {
        let samples = request.samples();
        let bad: Vec<i64> =
            samples.iter().filter(|(name, _)| name == "bad0").map(|(_, time)| *time).collect();
        match now.load(Ordering::Relaxed) {
            _ if bad.is_empty() => Action::Store,
            ILL if samples.len() == 1 && bad[0] > 2 => Action::Answer(429, "later"),
            ILL => Action::Answer(400, "too many labels"),
            LATER => {
                at.notify_one();
                Action::Answer(429, "later")
            }
            state if bad.contains(&5) => {
                if state == BUSY && bad.len() == 1 {
                    now.store(LATER, Ordering::Relaxed);
                }
                Action::Answer(400, "a value is not taken")
            }
            _ => Action::Store,
        }
    })
    .await;
    let (sending, dir) = sending_to(&receiver, "").await;
    for times in [1..2, 2..3, 3..4, 4..7, 7..8] {
        let bad = times.clone().map(|time| ("bad0", time));
        sending.append(&bad.chain([("good0", times.start)]).collect::<Vec<_>>());
        sending.drained().await;
    }
    assert_eq!(sending.queues[0].stats().aside.samples, 5);
    state.store(BUSY, Ordering::Relaxed);
    // Its first one is taken, and the others are sent ahead: of their record the first one is, and the second one is not.
    reached.notified().await;
    assert_eq!(receiver.stored()["bad0"], [3, 4]);
    let config = Arc::clone(&sending.senders[0].link.config);
    sending.kill().await;
    state.store(WELL, Ordering::Relaxed);
    let sending = Sending::open(dir.path(), &[config], &QueueSettings::default());
    sending.start();
    sending.settled().await;
    assert_eq!(receiver.stored()["bad0"], [3, 4, 6, 7]);
    let reasons = ["rejected", "out_of_order", "already_stored"];
    assert_eq!(reasons.map(|reason| sending.refused(reason)), [1, 0, 0]);
}
