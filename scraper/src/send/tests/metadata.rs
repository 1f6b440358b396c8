//! Metadata by remote write 1.0.

use std::sync::atomic::AtomicBool;

use promring_proto::remote_write::v1::MetricType;

use super::receiver::{Action, Receiver};
use super::*;
use crate::families::testing::expose;
use crate::labelsets::Shared;

/// A destination that is told of metadata every few milliseconds, and what keeps the families.
fn telling(url: &str, keys: &str, families: &[(&str, MetricType, &str)]) -> (Sending, impl Sized) {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "remote_write:\n- name: prod\n  url: {url}\n  queue_config: {{min_backoff: 1ms, max_backoff: 5ms}}\n  \
         metadata_config: {{send_interval: 20ms, max_samples_per_send: 2}}\n{keys}"
    );
    let config = crate::testing::config_in(&text);
    let mut sending = Sending::open(dir.path(), &config.remote_write, &QueueSettings::default());
    let shared = Arc::new(Shared::default());
    let kept = expose(&shared, families);
    sending.senders = sending.senders.into_iter().map(|senders| senders.with_metadata(&shared)).collect();
    sending.start();
    (sending, (dir, kept))
}

const THREE: [(&str, MetricType, &str); 3] = [
    ("a", MetricType::Gauge, "Help of a."),
    ("b", MetricType::Counter, "Help of b."),
    ("c", MetricType::Unknown, ""),
];

#[tokio::test]
async fn what_is_known_of_families_is_told_in_intervals_and_requests_of_limited_size() {
    let receiver = Receiver::start(|_, _| Action::Answer(204, "")).await;
    let (sending, _kept) = telling(&receiver.url, "", &THREE);
    receiver.requests(4).await;
    let received = receiver.received();
    let sizes: Vec<usize> = received[..4].iter().map(|request| request.decoded.metadata.len()).collect();
    assert_eq!(sizes, [2, 1, 2, 1]);
    let mut told: Vec<_> =
        received[..2].iter().flat_map(|request| request.decoded.metadata.clone()).collect();
    told.sort_by(|one, other| one.metric_family_name.cmp(&other.metric_family_name));
    for (told, (name, kind, help)) in told.iter().zip(THREE) {
        assert_eq!(
            (told.metric_family_name.as_str(), told.metric_type(), told.help.as_str()),
            (name, kind, help)
        );
    }
    assert_eq!(received[0].header("X-Prometheus-Remote-Write-Version"), Some("0.1.0"));
    assert!(
        sending.metric("prometheus_remote_storage_metadata_total", "") >= 5,
        "the last may not be taken yet"
    );
    sending.kill().await;
}

#[tokio::test]
async fn metadata_that_are_not_taken_are_retried_and_then_left_for_the_next_interval() {
    let receiver = Receiver::start(|number, _| match number {
        0 => Action::Answer(500, "later"),
        1 => Action::Answer(204, ""),
        2 => Action::Answer(400, "never"),
        _ => Action::Answer(204, ""),
    })
    .await;
    let (sending, _kept) = telling(&receiver.url, "", &THREE[..1]);
    receiver.requests(4).await;
    assert_eq!(receiver.received()[1].header("Retry-Attempt"), Some("1"));
    assert_eq!(sending.metric("prometheus_remote_storage_metadata_retried_total", ""), 1);
    assert_eq!(sending.metric("prometheus_remote_storage_metadata_failed_total", ""), 1);
    // They hold no samples up.
    sending.append(&[("a", 5)]);
    sending.drained().await;
    sending.kill().await;
}

#[tokio::test]
async fn a_receiver_of_2_0_is_told_with_the_series_and_apart_only_where_it_lacks_2_0() {
    let receiver = Receiver::start(|_, request| match request.is_v2() {
        true => Action::Answer(415, "no"),
        false => Action::Answer(204, ""),
    })
    .await;
    let v2 = "  protobuf_message: io.prometheus.write.v2.Request\n";
    let (sending, _kept) = telling(&receiver.url, v2, &THREE[..1]);
    sending.append_v2(&[("a", 5)]);
    receiver.requests(3).await;
    let received = receiver.received();
    assert!(received[0].is_v2(), "whatever the interval, nothing was told before");
    assert!(received[1..].iter().any(|request| request.decoded.metadata.len() == 1));
    sending.kill().await;
}

#[tokio::test]
async fn a_pause_that_the_receiver_asks_for_lasts_over_further_intervals() {
    let asked = Arc::new(Mutex::new(None));
    let (told, early) = (Arc::clone(&asked), Arc::new(AtomicBool::new(false)));
    let seen = Arc::clone(&early);
    // Many times the interval.
    let pause = Duration::from_secs(1);
    let receiver = Receiver::start(move |number, _| match number {
        0 => {
            *told.lock().unwrap() = Some(std::time::Instant::now());
            Action::AnswerWith(503, "Retry-After", pause.as_secs().to_string())
        }
        _ => {
            let since = told.lock().unwrap().map(|asked: std::time::Instant| asked.elapsed());
            seen.fetch_or(since.is_none_or(|since| since < pause), Ordering::Relaxed);
            Action::Answer(204, "")
        }
    })
    .await;
    // Two requests: the second one waits as well.
    let (sending, _kept) = telling(&receiver.url, "", &THREE);
    receiver.requests(3).await;
    assert!(!early.load(Ordering::Relaxed), "something came before the pause was over");
    assert_eq!(sending.metric("prometheus_remote_storage_metadata_failed_total", ""), 3);
    sending.kill().await;
}
