//! Targets change hands while a receiver is slow or away, with a real Prometheus beside the audit that takes nothing out of
//! order: nothing is refused.

use promring_testkit::receiver::Fault;

use super::fleet::{Fleet, Setup, moved};
use crate::servers::Store;

async fn scale_with(fault: Fault, away: bool) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::prometheus_3(dir.path(), 2).await;
    let setup = Setup {
        targets: 60,
        more_receivers: format!(
            "{{url: '{}', name: prometheus, protobuf_message: io.prometheus.write.v2.Request}}",
            store.write_url()
        ),
        remote_write: "queue_config: {max_backoff: 500ms}",
        ..Setup::default()
    };
    let mut fleet = Fleet::start(setup).await;
    let before = fleet.settled().await;
    fleet.receiver.add_fault(fault).unwrap();
    fleet.want(5);
    for number in 3..5 {
        fleet.start_scraper(number);
    }
    if away {
        // In the midst of the change it comes back.
        fleet.slots_pass(15, 60).await;
        fleet.receiver.clear_faults();
    }
    let after = fleet.settled().await;
    let out = moved(&before, &after).len();
    assert!(out >= 15, "{out} targets moved");
    fleet.scale(3).await;
    fleet.receiver.clear_faults();
    fleet.slots_pass(5, 30).await;
    fleet.assert_clean("a scale-out and a scale-in beside a receiver that is slow or away", 15).await;
    assert_eq!(store.refused().await, 0.0, "Prometheus refused samples");
    let dropped = fleet.sum("prometheus_remote_storage_samples_failed_total").await
        + fleet.sum("prometheus_remote_storage_samples_dropped_total").await;
    assert_eq!(dropped, 0.0, "samples were refused or dropped");
    fleet.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_takes_a_second_a_request_gets_everything_in_order() {
    scale_with(Fault::Slow { delay_ms: 1_000 }, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_away_in_the_midst_of_a_change_gets_everything_in_order() {
    scale_with(Fault::Status { code: 503, retry_after_s: None }, true).await;
}
