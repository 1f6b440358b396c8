//! Targets change hands while receivers are slow or away, the audit and a real Prometheus that takes nothing out of order:
//! nothing is refused.

use std::time::Duration;

use promring_testkit::receiver::Fault;

use super::fleet::{Fleet, Setup, moved};
use crate::proxy::{Proxy, Temper};
use crate::servers::Store;

async fn scale_with(fault: Fault, temper: Temper) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::prometheus_3(dir.path(), 2).await;
    let proxy = Proxy::start(Some(store.write_url()), 2, 0).await;
    proxy.set(Temper::Calm);
    let setup = Setup {
        targets: 60,
        more_receivers: format!(
            "{{url: '{}', name: prometheus, protobuf_message: io.prometheus.write.v2.Request}}",
            proxy.url()
        ),
        remote_write: "queue_config: {max_backoff: 500ms}",
        ..Setup::default()
    };
    let mut fleet = Fleet::start(setup).await;
    let before = fleet.settled().await;
    fleet.receiver.add_fault(fault).unwrap();
    proxy.set(temper);
    fleet.want(5);
    for number in 3..5 {
        fleet.start_scraper(number);
    }
    if temper == Temper::Away {
        // In the midst of the change they come back.
        fleet.slots_pass(15, 60).await;
        fleet.receiver.clear_faults();
        proxy.set(Temper::Calm);
    }
    let after = fleet.settled().await;
    let out = moved(&before, &after).len();
    assert!(out >= 15, "{out} targets moved");
    fleet.scale(3).await;
    let back = moved(&after, &fleet.settled().await).len();
    assert!(back >= 15, "{back} targets moved back");
    fleet.receiver.clear_faults();
    proxy.set(Temper::Calm);
    fleet.slots_pass(5, 30).await;
    fleet.assert_clean("a scale-out and a scale-in beside a receiver that is slow or away", 15).await;
    assert_eq!(store.refused().await, 0.0, "Prometheus refused samples");
    assert!(proxy.troubled() >= 5, "Prometheus was as ever: {}", proxy.summary());
    let stored = store.samples("up").await;
    assert_eq!(stored.len(), 60, "{:?}", stored.keys());
    for (labels, samples) in &stored {
        assert!(samples.len() >= 15, "{labels} has {} samples in Prometheus", samples.len());
        let gap = samples.windows(2).find(|two| two[1].0 - two[0].0 != 1_000);
        assert_eq!(gap, None, "{labels} has no sample in each slot in Prometheus");
    }
    let dropped = fleet.sum("prometheus_remote_storage_samples_failed_total").await
        + fleet.sum("prometheus_remote_storage_samples_dropped_total").await;
    assert_eq!(dropped, 0.0, "samples were refused or dropped");
    fleet.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_take_a_second_a_request_get_everything_in_order() {
    scale_with(Fault::Slow { delay_ms: 1_000 }, Temper::Slow(Duration::from_secs(1))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_are_away_in_the_midst_of_a_change_get_everything_in_order() {
    scale_with(Fault::Status { code: 503, retry_after_s: None }, Temper::Away).await;
}
