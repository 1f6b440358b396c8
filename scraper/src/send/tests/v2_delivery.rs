//! Remote write 2.0, and the way back to 1.0.

use super::answer::Answer;
use super::*;

/// Which of the requests were of 2.0.
fn versions(receiver: &Receiver) -> Vec<bool> {
    receiver.received().iter().map(|request| request.is_v2()).collect()
}

fn counts(receiver: &Receiver) -> Vec<usize> {
    receiver.received().iter().map(|request| request.samples().len()).collect()
}

#[tokio::test]
async fn a_record_of_2_0_arrives_as_it_was_queued_with_the_headers_of_the_protocol() {
    let receiver = Receiver::start(|_, _| Action::Store).await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    sending.append_v2(&[("a", 1), ("b", 1)]);
    sending.drained().await;
    // A record of 1.0 that an earlier configuration left.
    sending.append(&[("a", 2)]);
    sending.drained().await;
    let request = &receiver.received()[0];
    assert_eq!(request.body, body_v2(&[("a", 1), ("b", 1)]));
    for (name, value) in [
        ("Content-Encoding", "snappy"),
        ("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
        ("X-Prometheus-Remote-Write-Version", "2.0.0"),
        ("User-Agent", concat!("promring/", env!("CARGO_PKG_VERSION"))),
        ("X-Tenant", "a"),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    let old = &receiver.received()[1];
    assert_eq!(old.header("X-Prometheus-Remote-Write-Version"), Some("0.1.0"));
    assert_eq!(receiver.stored()["a"], [1, 2]);
    assert_eq!(sending.metric("promring_remote_write_fallback", ""), 0);
}

#[tokio::test]
async fn a_backlog_of_2_0_goes_in_few_requests_with_one_table_each() {
    let receiver = Receiver::start(|_, _| Action::Store).await;
    let (sending, _dir) = queueing_for(&receiver, ", max_samples_per_send: 4");
    for time in 1..=5 {
        sending.append_v2(&[("a", time), (if time == 1 { "b" } else { "c" }, time)]);
    }
    // Another encoding is another request.
    sending.append(&[("a", 6)]);
    sending.append_v2(&[("a", 7)]);
    sending.start();
    sending.drained().await;
    assert_eq!(counts(&receiver), [4, 4, 2, 1, 1]);
    assert_eq!(versions(&receiver), [true, true, true, false, true]);
    assert_eq!(receiver.received()[0].decoded_v2.symbols, ["", "__name__", "a", "b", "c"]);
    assert_eq!(receiver.stored()["a"], [1, 2, 3, 4, 5, 6, 7]);
}

#[tokio::test]
async fn a_joined_request_of_2_0_is_the_same_bytes_after_a_restart() {
    let receiver = Receiver::start(|number, _| if number == 0 { Action::Hang } else { Action::Store }).await;
    let dir = tempfile::tempdir().unwrap();
    let config = destination("prod", &receiver.url, ", max_samples_per_send: 100");
    let settings = QueueSettings::default();
    let sending = Sending::open(dir.path(), std::slice::from_ref(&config), &settings);
    for time in 1..=20 {
        sending.append_v2(&[("a", time), (&format!("name_{time}"), time), ("b", time)]);
    }
    sending.start();
    receiver.requests(1).await;
    sending.kill().await;
    // The next process may have other limits, and finds more.
    let config = destination("prod", &receiver.url, ", max_samples_per_send: 70");
    let sending = Sending::open(dir.path(), &[config], &settings);
    for time in 21..=30 {
        sending.append_v2(&[("a", time)]);
    }
    sending.start();
    sending.drained().await;
    assert_eq!(counts(&receiver), [60, 60, 10]);
    assert_eq!(receiver.received()[0].body, receiver.received()[1].body);
    assert_eq!(receiver.stored()["a"], (1..=30).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_record_that_is_no_request_of_2_0_does_not_take_its_neighbours_with_it() {
    let receiver = Receiver::start(|_, request| {
        if request.samples().is_empty() { Action::Answer(400, "corrupt") } else { Action::Store }
    })
    .await;
    let (sending, _dir) = queueing_for(&receiver, "");
    sending.append_v2(&[("a", 1)]);
    let meta = RecordMeta { samples: 7, encoding: Encoding::V2, ..RecordMeta::default() };
    sending.queues[0].append(0, meta, b"\x05no request").unwrap();
    sending.append_v2(&[("a", 2)]);
    sending.start();
    sending.drained().await;
    assert_eq!(receiver.stored()["a"], [1, 2]);
    assert_eq!(sending.refused("rejected"), 7);
    assert_eq!(versions(&receiver), [true; 3]);
}

#[tokio::test]
async fn a_receiver_that_does_not_speak_2_0_gets_1_0_from_then_on_and_loses_nothing() {
    // Older receivers refuse the type, or take it for an empty request of 1.0.
    for (status, text) in [(415, "what is that"), (204, ""), (200, "fine")] {
        let receiver =
            Receiver::start(
                move |_, request| {
                    if request.is_v2() { Action::Answer(status, text) } else { Action::Store }
                },
            )
            .await;
        let (sending, _dir) = queueing_for(&receiver, ", max_samples_per_send: 6");
        for time in 1..=4 {
            sending.append_v2(&[("a", time), ("b", time)]);
        }
        sending.start();
        sending.drained().await;
        assert_eq!(versions(&receiver), [true, false, false], "{status}");
        assert_eq!(counts(&receiver), [6, 6, 2]);
        assert_eq!(receiver.stored()["b"], [1, 2, 3, 4]);
        let first = &receiver.received()[1];
        assert_eq!(first.decoded.timeseries[1].labels[0].name, "__name__");
        assert_eq!(first.decoded.timeseries[5].samples[0].value, 3.0);
        assert_eq!(sending.metric("promring_remote_write_fallback", ""), 1);
        assert_eq!(sending.metric("prometheus_remote_storage_samples_failed_total", ""), 0);
    }
}

#[tokio::test]
async fn what_goes_as_1_0_instead_is_halved_and_bisected_as_1_0_is() {
    let receiver = Receiver::start(|_, request| {
        if request.is_v2() {
            Action::Answer(415, "")
        } else if request.samples().len() > 10 {
            Action::Answer(413, "")
        } else if request.samples().iter().any(|(name, _)| name == "bad") {
            Action::Answer(400, "label value is not valid")
        } else {
            Action::Store
        }
    })
    .await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    let mut samples: Vec<(&str, i64)> = (1..=50).map(|time| ("a", time)).collect();
    samples.insert(33, ("bad", 1));
    sending.append_v2(&samples);
    sending.drained().await;
    assert_eq!(receiver.stored()["a"], (1..=50).collect::<Vec<_>>());
    assert_eq!(sending.refused("rejected"), 1);
    assert_eq!(versions(&receiver).iter().filter(|v2| **v2).count(), 1);
}

#[tokio::test]
async fn a_request_that_grows_in_1_0_goes_in_pieces_that_receivers_take() {
    let receiver =
        Receiver::start(|_, request| if request.is_v2() { Action::Answer(415, "") } else { Action::Store })
            .await;
    let (sending, _dir) = sending_to(&receiver, ", max_samples_per_send: 10000").await;
    // In 2.0 the name stands there once.
    let name = "n".repeat(10_000);
    let samples: Vec<(&str, i64)> = (1..=1_000).map(|time| (name.as_str(), time)).collect();
    sending.append_v2(&samples);
    sending.drained().await;
    assert_eq!(receiver.stored()[&name], (1..=1_000).collect::<Vec<_>>());
    let sizes = counts(&receiver);
    assert_eq!(sizes.len(), 4);
    let bytes = |samples: usize| samples * 10_000;
    assert!(sizes[1..].iter().all(|samples| bytes(*samples) <= 4 << 20), "{sizes:?}");
}

#[tokio::test]
async fn what_is_written_in_part_is_not_sent_again() {
    let receiver = Receiver::start(|_, _| Action::Store).await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    sending.append_v2(&[("a", 10), ("b", 10)]);
    sending.drained().await;
    sending.append_v2(&[("a", 5), ("b", 20), ("c", 1)]);
    sending.append_v2(&[("c", 2)]);
    sending.drained().await;
    assert_eq!(receiver.stored()["b"], [10, 20]);
    assert_eq!(receiver.stored()["c"], [1, 2]);
    assert_eq!(
        receiver.received().iter().filter(|request| request.samples().contains(&("a".into(), 5))).count(),
        1
    );
    assert_eq!((sending.refused("out_of_order"), sending.refused("already_stored")), (1, 0));
    assert_eq!(sending.metric("prometheus_remote_storage_samples_failed_total", ""), 1);
    // Now it is known to store what it can, so that nothing written of several samples is a plain answer.
    let before = receiver.received().len();
    sending.append_v2(&[("a", 1), ("a", 2), ("b", 1)]);
    sending.drained().await;
    assert_eq!(receiver.received().len(), before + 1);
    assert_eq!(sending.refused("out_of_order"), 4);
}

#[tokio::test]
async fn a_refused_copy_of_what_was_stored_of_2_0_is_no_loss() {
    for gateway in [false, true] {
        let receiver = Receiver::start(move |number, _| match number {
            0 if gateway => Action::StoreAndAnswer(504),
            0 => Action::StoreAndReset,
            _ => Action::Store,
        })
        .await;
        let (sending, _dir) = queueing_for(&receiver, "");
        sending.append_v2(&[("a", 1), ("b", 1), ("c", 1)]);
        sending.append_v2(&[("a", 2), ("b", 2), ("d", 2)]);
        sending.start();
        sending.drained().await;
        let received = receiver.received();
        assert_eq!(received.len(), 2);
        assert_eq!(received[0].body, received[1].body);
        assert_eq!(receiver.stored()["a"], [1, 2]);
        assert_eq!(sending.refused("already_stored"), 2);
        assert_eq!(sending.metric("prometheus_remote_storage_samples_failed_total", ""), 0);
    }
}

#[tokio::test]
async fn a_failure_that_says_that_nothing_was_written_makes_no_later_refusal_look_harmless() {
    let receiver = Receiver::start(|number, _| match number {
        1 => Action::AnswerWritten(500, 0, "rolled back"),
        _ => Action::Store,
    })
    .await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    sending.append_v2(&[("a", 10)]);
    receiver.samples(1).await;
    sending.append_v2(&[("a", 5)]);
    sending.drained().await;
    assert_eq!((sending.refused("out_of_order"), sending.refused("already_stored")), (1, 0));
}

#[tokio::test]
async fn a_receiver_that_takes_all_or_nothing_of_2_0_loses_only_what_it_refuses_alone() {
    let receiver = Receiver::start(|_, request| {
        let bad = request.samples().iter().any(|(name, _)| name == "bad");
        if bad { Action::AnswerWritten(400, 0, "label value is not valid") } else { Action::Store }
    })
    .await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    let names: Vec<String> =
        (0..100).map(|at| if at == 37 { "bad".to_owned() } else { format!("good_{at}") }).collect();
    let samples: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    sending.append_v2(&samples);
    sending.drained().await;
    assert_eq!(receiver.stored().len(), 99);
    assert_eq!(sending.refused("rejected"), 1);
    assert!(receiver.received().len() < 20, "{}", receiver.received().len());
    assert!(versions(&receiver).iter().all(|v2| *v2));
    // A half has the symbols that it uses, and no others.
    let smallest = receiver.received().into_iter().min_by_key(|request| request.samples().len()).unwrap();
    assert_eq!(smallest.decoded_v2.symbols.len(), 2 + smallest.samples().len());
}

#[tokio::test]
async fn requests_of_2_0_that_are_too_large_are_halved() {
    let receiver =
        Receiver::start(
            |_, request| {
                if request.samples().len() > 10 { Action::Answer(413, "") } else { Action::Store }
            },
        )
        .await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    let times: Vec<(&str, i64)> = (1..=100).map(|time| ("a", time)).collect();
    sending.append_v2(&times);
    sending.drained().await;
    assert_eq!(receiver.stored()["a"], (1..=100).collect::<Vec<_>>());
    assert_eq!(sending.metric("prometheus_remote_storage_samples_failed_total", ""), 0);
}

#[tokio::test]
async fn a_receiver_that_refuses_every_request_of_2_0_gets_them_as_1_0() {
    // It looks at the version, and has never heard of 415.
    let receiver = Receiver::start(|_, request| {
        if request.is_v2() { Action::Answer(400, "unsupported version") } else { Action::Store }
    })
    .await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    for time in 1..=3 {
        sending.append_v2(&[("a", time), ("b", time)]);
        sending.drained().await;
    }
    assert_eq!(receiver.stored()["b"], [1, 2, 3]);
    assert_eq!(versions(&receiver), [true, false, true, false, true, false]);
    assert_eq!(sending.metric("prometheus_remote_storage_samples_failed_total", ""), 0);
}

#[tokio::test]
async fn what_a_receiver_accepts_and_does_not_write_is_counted() {
    let receiver = Receiver::start(|_, _| Action::AnswerWritten(200, 2, "")).await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    sending.append_v2(&[("a", 1), ("b", 1), ("c", 1)]);
    sending.drained().await;
    assert_eq!(receiver.received().len(), 1);
    assert_eq!(sending.refused("not_written"), 1);
    assert_eq!(sending.metric("prometheus_remote_storage_samples_failed_total", ""), 1);
}

#[tokio::test]
async fn an_answer_says_with_which_status_the_receiver_has_accepted() {
    let receiver = Receiver::start(|_, _| Action::AnswerWritten(204, 2, "")).await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    let link = &sending.senders[0].link;
    for encoding in [Encoding::V1, Encoding::V2] {
        let answer = link.attempt(bytes::Bytes::new(), encoding, 0).await;
        let Answer::Accepted { status, written } = answer else { panic!("{answer:?}") };
        assert_eq!((status, written.is_some()), (204, encoding == Encoding::V2));
    }
}

#[tokio::test]
async fn what_went_as_1_0_is_the_same_after_a_restart_and_no_loss_where_it_was_stored() {
    let receiver = Receiver::start(|number, request| match number {
        _ if request.is_v2() => Action::Answer(415, ""),
        1 => Action::StoreAndReset,
        2 => Action::Hang,
        _ => Action::Store,
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let config = destination("prod", &receiver.url, "");
    let settings = QueueSettings::default();
    let sending = Sending::open(dir.path(), std::slice::from_ref(&config), &settings);
    sending.append_v2(&[("a", 1), ("b", 1)]);
    sending.append_v2(&[("a", 2)]);
    sending.start();
    receiver.requests(3).await;
    sending.kill().await;
    let sending = Sending::open(dir.path(), &[config], &settings);
    sending.append_v2(&[("a", 3)]);
    sending.start();
    sending.drained().await;
    let received = receiver.received();
    // What was learned of the receiver is learned again.
    assert_eq!(versions(&receiver)[..5], [true, false, false, true, false]);
    assert_eq!(received[0].body, received[3].body);
    assert!([2, 4].iter().all(|at| received[*at].body == received[1].body));
    assert_eq!(receiver.stored()["a"], [1, 2, 3]);
    assert_eq!((sending.refused("already_stored"), sending.refused("out_of_order")), (1, 0));
}

#[tokio::test]
async fn samples_of_2_0_past_sample_age_limit_are_not_sent_whichever_way_they_go() {
    for speaks_v2 in [true, false] {
        let receiver = Receiver::start(move |_, request| {
            if request.is_v2() && !speaks_v2 { Action::Answer(415, "") } else { Action::Store }
        })
        .await;
        let now_ms = promring_net::clock::now_ms();
        let (sending, _dir) = sending_to(&receiver, ", sample_age_limit: 1h").await;
        sending.append_v2(&[("half", 3), ("half", now_ms)]);
        sending.drained().await;
        sending.append_v2(&[("half", 4), ("half", now_ms + 1)]);
        sending.drained().await;
        assert_eq!(receiver.stored()["half"], [now_ms, now_ms + 1]);
        assert_eq!(sending.metric("prometheus_remote_storage_samples_dropped_total", "too_old"), 2);
    }
}

#[tokio::test]
async fn a_refusal_of_2_0_by_a_receiver_that_takes_nothing_else_does_not_hold_its_lane() {
    let mut requests = 0;
    let receiver = Receiver::start(move |_, request| {
        requests += 1;
        match (request.is_v2(), requests) {
            (false, _) => Action::Answer(415, "only 2.0 is accepted"),
            // As something between might say.
            (true, 1) => Action::Answer(400, "no"),
            (true, _) => Action::Store,
        }
    })
    .await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    sending.append_v2(&[("a", 1), ("b", 1)]);
    sending.append_v2(&[("a", 2)]);
    sending.drained().await;
    assert_eq!(receiver.stored()["a"], [1, 2]);
    assert_eq!(receiver.stored()["b"], [1]);
    assert!(versions(&receiver)[2..].iter().all(|v2| *v2), "1.0 was tried once");
    assert_eq!(sending.metric("promring_remote_write_fallback", ""), 0);
    assert_eq!(sending.refused("rejected"), 0);
}

/// A receiver of 2.0 alone, which answers the requests of these numbers with nothing but a 200.
async fn only_v2(bare: impl Fn(usize) -> bool + Send + 'static) -> Receiver {
    Receiver::start(move |number, request| match request.is_v2() {
        false => Action::Answer(415, "only 2.0 is accepted"),
        true if bare(number) => Action::Answer(200, ""),
        true => Action::Store,
    })
    .await
}

#[tokio::test]
async fn a_receiver_of_2_0_alone_that_once_does_not_say_what_it_stored_gets_2_0_again() {
    // At its first request, and later.
    for at in [0, 2] {
        let receiver = only_v2(move |number| number == at).await;
        let (sending, _dir) = queueing_for(&receiver, ", max_samples_per_send: 2");
        for time in 1..=6 {
            sending.append_v2(&[("a", time), ("b", time)]);
        }
        sending.start();
        sending.drained().await;
        assert_eq!(receiver.stored()["a"], (1..=6).collect::<Vec<_>>());
        assert_eq!(receiver.stored()["b"], (1..=6).collect::<Vec<_>>());
        let spoken = versions(&receiver);
        assert_eq!(spoken.iter().position(|v2| !v2), Some(at + 1), "1.0 is tried");
        assert_eq!(spoken.iter().filter(|v2| !**v2).count(), 1, "and not again");
        assert_eq!(spoken.len(), 8);
        assert_eq!(sending.metric("promring_remote_write_fallback", ""), 0);
        assert_eq!(sending.metric("prometheus_remote_storage_samples_failed_total", ""), 0);
    }
}

#[tokio::test]
async fn a_receiver_of_2_0_alone_that_never_says_what_it_stored_is_no_dead_end() {
    let receiver = only_v2(|_| true).await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    for time in 1..=3 {
        sending.append_v2(&[("a", time)]);
        sending.drained().await;
    }
    // The first one is tried for long, the others are not.
    let last = receiver.received().len();
    sending.append_v2(&[("a", 4)]);
    sending.drained().await;
    assert_eq!(receiver.received().len(), last + 1);
    assert_eq!(versions(&receiver).iter().filter(|v2| !**v2).count(), 1);
}

#[tokio::test]
async fn one_answer_without_a_word_on_what_is_stored_does_not_end_2_0() {
    let receiver = Receiver::start(|number, request| match number {
        1 => Action::StoreAndAnswer(200),
        _ if request.is_v2() || number == 2 => Action::Store,
        _ => Action::Answer(400, "unexpected"),
    })
    .await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    for time in 1..=4 {
        sending.append_v2(&[("a", time)]);
        sending.drained().await;
    }
    assert_eq!(versions(&receiver), [true, true, false, true, true]);
    assert_eq!(receiver.stored()["a"], [1, 2, 3, 4]);
    assert_eq!(sending.metric("promring_remote_write_fallback", ""), 0);
}

#[tokio::test]
async fn a_receiver_that_takes_neither_version_is_asked_in_turn_until_it_takes_one() {
    for takes_v2 in [true, false] {
        let receiver = Receiver::start(move |number, request| match number {
            20.. if request.is_v2() == takes_v2 => Action::Store,
            _ => Action::Answer(415, "neither"),
        })
        .await;
        let (sending, _dir) = sending_to(&receiver, "").await;
        sending.append_v2(&[("a", 1), ("b", 1)]);
        sending.append_v2(&[("a", 2)]);
        sending.drained().await;
        assert_eq!(receiver.stored()["a"], [1, 2]);
        assert_eq!(receiver.stored()["b"], [1]);
        assert_eq!(sending.metric("promring_remote_write_fallback", ""), u64::from(!takes_v2));
        assert_eq!(sending.metric("prometheus_remote_storage_samples_failed_total", ""), 0);
    }
}

#[tokio::test]
async fn what_was_taken_as_1_0_and_comes_again_as_2_0_is_no_loss() {
    let receiver = Receiver::start(|number, request| match number {
        0 => Action::Answer(415, ""),
        1 => Action::Store,
        _ if request.is_v2() => Action::Store,
        _ => Action::Answer(415, "not any more"),
    })
    .await;
    let (sending, _dir) = sending_to(&receiver, ", max_samples_per_send: 10000").await;
    // So much that it goes in pieces.
    let name = "n".repeat(10_000);
    let samples: Vec<(&str, i64)> = (1..=1_000).map(|time| (name.as_str(), time)).collect();
    sending.append_v2(&samples);
    sending.drained().await;
    assert_eq!(versions(&receiver), [true, false, false, true]);
    assert_eq!(receiver.stored()[&name], (1..=1_000).collect::<Vec<_>>());
    assert!(sending.refused("already_stored") > 0);
    assert_eq!(sending.refused("out_of_order"), 0);
    assert_eq!(sending.metric("prometheus_remote_storage_samples_failed_total", ""), 0);
}
