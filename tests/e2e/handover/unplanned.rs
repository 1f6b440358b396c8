//! What nobody planned: a scraper that is killed, one that is back at once, and one that is stopped for a while; an allocator
//! that is cut off.

use std::collections::BTreeSet;

use promring_cluster::in_network;
use promring_net::clock::now_ms;
use rustix::process::Signal;

use super::fleet::{Fleet, SERIES, Setup, TARGETS, moved, name, of};
use crate::proxy::{Proxy, Temper};
use crate::servers::Store;
use crate::support::{eventually, get_json};

const LAPSE_MS: i64 = 4_000;
const INTERVAL_MS: i64 = 1_000;
/// The longest that a loss may last. The lapse begins with the last report, which comes before the kill; one interval is that of
/// the slot that is just over when another scraper begins. The other one covers what the scraper that is killed has scraped and not
/// yet written (0.8 s), and what the allocator takes to notice that the lapse is over (it looks four times a second).
const GAP_MAX_MS: i64 = LAPSE_MS + 2 * INTERVAL_MS;

const REFUSED: &str = "promring_remote_write_refused_samples_total";

/// Slots of each series that an audit here must at least be of.
const SLOTS_MIN: u64 = 4;

fn setup() -> Setup {
    Setup { lapse: "4s", ..Setup::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_scraper_costs_its_own_targets_a_lapse_and_comes_back_without_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    // Beside the audit, one that takes nothing out of order.
    let store = Store::prometheus_3(dir.path(), 2).await;
    let proxy = Proxy::start(Some(store.write_url()), 2, 0).await;
    proxy.set(Temper::Calm);
    let more_receivers = format!(
        "{{url: '{}', name: prometheus, protobuf_message: io.prometheus.write.v2.Request, queue_config: {{max_backoff: 500ms}}}}",
        proxy.url()
    );
    let mut fleet = Fleet::start(Setup { more_receivers, ..setup() }).await;
    let before = fleet.settled().await;
    let mine: BTreeSet<String> = of(&before, "scraper-1").cloned().collect();
    // So that it has something left to send.
    proxy.set(Temper::Away);
    fleet.slots_pass(2, 10).await;
    let killed_ms = now_ms();
    fleet.kill_scraper(1);
    let others = BTreeSet::from([name(0), name(2)]);
    let after = fleet.settled_among(&others).await;
    assert_eq!(moved(&before, &after), mine, "only its own targets moved");
    proxy.set(Temper::Calm);
    fleet.slots_pass(3, 30).await;
    let report = fleet.audited_at_least(SLOTS_MIN).await;
    assert_eq!((report.counts.duplicates, report.counts.out_of_order), (0, 0), "{report:#?}");
    assert_eq!((report.counts.stray_markers, report.counts.missing_markers), (0, 0), "{report:#?}");
    assert!(report.counts.gaps > 0, "a kill without a gap is no kill");
    for gap in &report.gaps {
        let instance = gap.labels.get("instance").unwrap();
        assert!(mine.contains(instance), "{instance} was not its target: {gap:?}");
        assert!(gap.first_ms > killed_ms - 2 * INTERVAL_MS, "a gap from before the kill: {gap:?}");
        assert!(gap.longest_ms <= GAP_MAX_MS, "{gap:?}");
    }
    eprintln!("longest gap: {} ms", report.gaps.iter().map(|gap| gap.longest_ms).max().unwrap());

    // It comes back, and takes its share by a hand-over: no further gap. What it had queued is sent, late.
    let gaps = report.counts.gaps;
    let back_ms = now_ms();
    fleet.start_scraper(1);
    let back = fleet.settled().await;
    assert!(of(&back, "scraper-1").count() > TARGETS / 6, "it has targets again");
    fleet.slots_pass(3, 30).await;
    let report = fleet.audited_at_least(SLOTS_MIN).await;
    assert!(report.counts.gaps <= gaps, "{} gaps more: {report:#?}", report.counts.gaps - gaps);
    assert!(report.gaps.iter().all(|gap| gap.last_ms < back_ms), "a gap since it is back: {report:#?}");
    assert_eq!(report.counts.duplicates, 0, "{report:#?}");

    // What comes after others have gone on is refused by whoever takes nothing out of order, and counts as just that.
    let late = eventually("what it had left is refused", async || {
        let late = fleet.sum_of(REFUSED, "reason=\"late_after_loss\"").await;
        let pending = fleet.sum_of("prometheus_remote_storage_samples_pending", "prometheus").await;
        (late > 0.0 && pending < (TARGETS * SERIES) as f64).then_some(late)
    })
    .await;
    assert_eq!(
        fleet.sum("prometheus_remote_storage_samples_failed_total").await,
        late,
        "nothing else is refused"
    );
    eprintln!("{late} samples came late after the loss");
    fleet.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scraper_killed_and_back_in_three_seconds_keeps_its_targets() {
    let mut fleet = Fleet::start(Setup::default()).await;
    let before = fleet.settled().await;
    let mine: BTreeSet<String> = of(&before, "scraper-1").cloned().collect();
    fleet.kill_scraper(1);
    fleet.slots_pass(1, 3).await;
    fleet.start_scraper(1);
    let after = fleet.settled().await;
    assert_eq!(moved(&before, &after).len(), 0, "nothing moved");
    fleet.slots_pass(4, 30).await;
    let report = fleet.audited_at_least(SLOTS_MIN).await;
    assert_eq!((report.counts.duplicates, report.counts.out_of_order), (0, 0), "{report:#?}");
    assert!(report.counts.gaps > 0, "it was away, and nothing is missing");
    assert!(report.gaps.iter().all(|gap| mine.contains(gap.labels.get("instance").unwrap())), "{report:#?}");
    fleet.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scraper_that_was_stopped_and_wakes_after_its_targets_moved_scrapes_no_slot_twice() {
    let mut fleet = Fleet::start(setup()).await;
    let before = fleet.settled().await;
    let mine: BTreeSet<String> = of(&before, "scraper-2").cloned().collect();
    fleet.signal_scraper(2, Signal::STOP);
    let others = BTreeSet::from([name(0), name(1)]);
    let after = fleet.settled_among(&others).await;
    assert_eq!(moved(&before, &after), mine, "only its own targets moved");
    fleet.slots_pass(2, 20).await;
    fleet.signal_scraper(2, Signal::CONT);
    let back = fleet.settled().await;
    assert!(of(&back, "scraper-2").count() > TARGETS / 6, "it has targets again");
    fleet.slots_pass(3, 30).await;
    let report = fleet.audited_at_least(SLOTS_MIN).await;
    // What it had queued before may come late; no slot has two samples.
    assert_eq!((report.counts.duplicates, report.counts.stray_markers), (0, 0), "{report:#?}");
    assert!(report.counts.gaps > 0, "it was away, and nothing is missing");
    assert!(report.gaps.iter().all(|gap| mine.contains(gap.labels.get("instance").unwrap())), "{report:#?}");
    fleet.end();
}

#[test]
fn an_allocator_that_loses_the_network_moves_nothing_and_a_hand_over_goes_on_without_it() {
    in_network(async |wires| {
        let mut fleet = Fleet::start(Setup { host: Some(wires.add_host()), ..setup() }).await;
        let before = fleet.settled().await;
        // Longer than the lapse: it hears of nobody, and nobody of it.
        fleet.connect_allocator(false);
        fleet.slots_pass(2 * LAPSE_MS / 1_000, 60).await;
        fleet.connect_allocator(true);
        assert_eq!(moved(&before, &fleet.settled().await).len(), 0);

        // In the midst of a scale-out: whoever was to take targets asks those who give them.
        fleet.want(4);
        fleet.start_scraper(3);
        eventually("a time for a hand-over is proposed", async || {
            let answer = get_json(&format!("{}/api/v1/scrapers", fleet.allocator_url)).await?;
            let proposed = |one: &serde_json::Value| one["step"] == "until" || one["step"] == "from";
            answer["data"]["moves"].as_array()?.iter().any(proposed).then_some(())
        })
        .await;
        fleet.connect_allocator(false);
        fleet.slots_pass(2 * LAPSE_MS / 1_000, 60).await;
        fleet.connect_allocator(true);
        let after = fleet.settled().await;
        let changed = moved(&before, &after);
        assert!(changed.len() > TARGETS / 6, "{} targets moved", changed.len());
        assert!(changed.iter().all(|target| after[target] == name(3)), "only to the new one");
        fleet.assert_clean("an allocator without a network", 15).await;
        fleet.end();
    });
}
