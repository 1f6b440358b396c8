//! Senders that are replaced while something of theirs is under way, as a reload does.

use std::sync::atomic::AtomicBool;

use super::*;

/// Replaces the senders of the first destination, as a reload does that changes something of it.
async fn replace(sending: &mut Sending, config: &Arc<RemoteWrite>, recorder: &PrometheusRecorder) {
    sending.senders[0].yield_queue().await;
    let senders = ::metrics::with_local_recorder(recorder, || Senders::new(config, &sending.queues[0]));
    sending.senders[0] = senders.unwrap();
    sending.start();
}

#[tokio::test]
async fn what_was_refused_before_a_reload_is_neither_sent_nor_counted_again_after_it() {
    for (message, reason) in
        [("label value is not valid", "rejected"), ("out of order sample", "out_of_order")]
    {
        let ill = Arc::new(AtomicBool::new(true));
        let healed = Arc::clone(&ill);
        let receiver = Receiver::start(move |_, request| {
            let samples = request.samples();
            let has = |wanted: &str| samples.iter().any(|(name, _)| name == wanted);
            match ill.load(Ordering::Relaxed) {
                _ if has("bad") => Action::Answer(400, message),
                true if has("late") => Action::Answer(503, "not now"),
                _ => Action::Store,
            }
        })
        .await;
        let dir = tempfile::tempdir().unwrap();
        let config = destination("prod", &receiver.url, "");
        let recorder = PrometheusBuilder::new().build_recorder();
        let mut sending = Sending::open_with(
            dir.path(),
            std::slice::from_ref(&config),
            &QueueSettings::default(),
            &recorder,
        );
        sending.append(&[("bad", 1), ("good", 1), ("late", 1), ("last", 1)]);
        sending.start();
        // All, a half, both of its samples, and the other half, which is tried again and again.
        receiver.requests(5).await;
        replace(&mut sending, &config, &recorder).await;
        // Over and over.
        let before = receiver.received().len();
        receiver.requests(before + 2).await;
        replace(&mut sending, &config, &recorder).await;
        healed.store(false, Ordering::Relaxed);
        sending.drained().await;
        assert_eq!(sending.refused(reason), 1, "{reason}");
        assert_eq!(sending.refused("already_stored"), 0);
        assert_eq!(sending.metric("prometheus_remote_storage_samples_failed_total", ""), 1);
        let received = receiver.received();
        let has_good =
            |request: &&receiver::Received| request.samples().iter().any(|(name, _)| name == "good");
        assert_eq!(received.iter().filter(has_good).count(), 3, "not after the reload");
        assert_eq!(receiver.stored().into_keys().collect::<Vec<_>>(), ["good", "last", "late"]);
    }
}

#[tokio::test]
async fn what_is_left_of_a_request_is_not_that_of_another_one() {
    let receiver = Receiver::start(|_, request| match request.samples().len() {
        1 => Action::Answer(503, "not now"),
        _ => Action::Answer(400, "no"),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let config = destination("prod", &receiver.url, "");
    let recorder = PrometheusBuilder::new().build_recorder();
    let settings = QueueSettings { max_bytes: 1, ..QueueSettings::default() };
    let mut sending = Sending::open_with(dir.path(), std::slice::from_ref(&config), &settings, &recorder);
    sending.append(&[("a", 1), ("b", 1)]);
    sending.start();
    receiver.requests(3).await;
    sending.senders[0].yield_queue().await;
    // The queue is full: this takes the place of what was there.
    sending.append(&[("c", 2), ("d", 2)]);
    let before = receiver.received().len();
    replace(&mut sending, &config, &recorder).await;
    receiver.requests(before + 1).await;
    let names: Vec<String> =
        receiver.received()[before].samples().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["c", "d"]);
    sending.kill().await;
}

#[tokio::test]
async fn what_lies_aside_goes_on_after_a_reload_where_it_was() {
    let names: Vec<String> = (0..12).map(|at| format!("bad{at}")).collect();
    // The newest sample of this series is not answered for good when it comes alone.
    let awaited = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_awaited = Arc::clone(&awaited);
    let receiver = Receiver::start(move |_, request| {
        match request.samples() == [("bad5".to_owned(), 3)] && is_awaited.load(Ordering::Relaxed) {
            true => Action::Answer(429, "later"),
            false => Action::Answer(400, "too many labels"),
        }
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let config = destination("prod", &receiver.url, "");
    let recorder = PrometheusBuilder::new().build_recorder();
    let configs = std::slice::from_ref(&config);
    let mut sending = Sending::open_with(dir.path(), configs, &QueueSettings::default(), &recorder);
    sending.start();
    awaited.store(true, Ordering::Relaxed);
    for time in 1..=3 {
        let samples: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), time)).collect();
        sending.append(&samples);
        sending.drained().await;
    }
    let asked = |name: &str| {
        let received = receiver.received();
        received.iter().filter(|request| request.samples() == [(name.to_owned(), 3)]).count()
    };
    while asked("bad5") == 0 {
        receiver.requests(receiver.received().len() + 1).await;
    }
    sending.senders[0].yield_queue().await;
    assert_eq!(sending.refused("rejected"), 24 + 5);
    awaited.store(false, Ordering::Relaxed);
    replace(&mut sending, &config, &recorder).await;
    sending.settled().await;
    assert_eq!(sending.refused("rejected"), 36, "none counts twice");
    assert!(names.iter().all(|name| name == "bad5" || asked(name) == 1));
}
