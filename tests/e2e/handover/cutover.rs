//! What ends exactly when its target changes hands gets its marker, and what lives gets none.

use std::time::Duration;

use promring_model::labels::Labels;
use promring_net::clock::now_ms;
use promring_testkit::audit::Absence;

use super::fleet::{Fleet, Setup, moved};
use crate::support::{eventually, get_json};

/// When the targets of a hand-over change hands, and which they are, as the allocator tells a taker: `from` of its targets.
async fn cutover(fleet: &Fleet, taker: &str) -> (i64, Vec<String>) {
    eventually("T is told", async || {
        let url = format!("{}/api/v1/assignments/{taker}?wait=0s", fleet.allocator_url);
        let answer = get_json(&url).await?;
        let jobs = answer["upsert"].as_object()?;
        let targets = jobs.values().filter_map(|job| job["targets"].as_array()).flatten();
        let coming = targets.filter_map(|target| {
            Some((target["from"].as_i64()?, target["labels"]["instance"].as_str()?.to_owned()))
        });
        let (times, addresses): (Vec<i64>, Vec<String>) = coming.unzip();
        Some((times.into_iter().max()?, addresses))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_at_the_cut_over_gets_its_marker_and_what_lives_gets_none() {
    let mut fleet = Fleet::start(Setup::default()).await;
    let before = fleet.settled().await;
    fleet.want(4);
    fleet.start_scraper(3);
    let (at_ms, _) = cutover(&fleet, "scraper-3").await;
    assert!(at_ms > now_ms(), "T is ahead: {at_ms}");
    // Every target loses a series at T, as far as it can be planned, and every tenth dies. Whether it moves or not, a series that
    // ends has its marker, from whoever had it last.
    let mut vanished = 0;
    for (number, exporter) in fleet.exporters.exporters().iter().enumerate() {
        let instance = Labels::from_pairs([("instance", exporter.address().to_string())]);
        let mut audit = fleet.receiver.audit();
        let target = audit.find_target(&instance).unwrap();
        if number % 10 == 0 {
            exporter.die_at(at_ms);
            audit.expect_absence(target, Absence::down(at_ms));
            continue;
        }
        let series = exporter.series()[number % exporter.series().len()].clone();
        assert_eq!(exporter.vanish(&series, at_ms), 1);
        vanished += audit.expect_series_absence(target, &series, Absence::vanished(at_ms));
    }
    let after = fleet.settled().await;
    let changed = moved(&before, &after);
    assert!(changed.len() > 30, "{} targets moved", changed.len());
    let addresses = fleet.exporters.exporters().iter().map(|exporter| exporter.address().to_string());
    let died = addresses.step_by(10).filter(|address| changed.contains(address)).count();
    assert!(died > 0, "of the targets that moved none died");
    assert!(vanished > 200, "{vanished} series vanished");
    fleet.slots_pass(4, 20).await;
    fleet.assert_clean("ends at the cut-over", 5).await;
    fleet.end();
}

/// When targets are dropped, in milliseconds from T on: while their giver is to mark them, while their taker is before it has a
/// sample of them, and after that.
const DROPS_MS: [i64; 8] = [-3_000, -2_200, -1_500, -800, -200, 200, 700, 1_500];

/// So long after it is dropped a target may have its marker: its taker waits for T, and for what the giver knows.
const DROPPED_SETTLE_MS: i64 = 9_000;

#[tokio::test(flavor = "multi_thread")]
async fn what_discovery_drops_about_the_cut_over_gets_its_marker() {
    let mut fleet = Fleet::start(Setup::default()).await;
    let before = fleet.settled().await;
    fleet.want(4);
    fleet.start_scraper(3);
    let (at_ms, coming) = cutover(&fleet, "scraper-3").await;
    assert!(coming.len() > 30, "{} targets move", coming.len());
    // One of them stays each time.
    let groups: Vec<&[String]> = coming.chunks(coming.len() / DROPS_MS.len()).collect();
    let mut dropped = 0;
    for (group, offset_ms) in groups.into_iter().zip(DROPS_MS) {
        let wait_ms = at_ms + offset_ms - now_ms();
        tokio::time::sleep(Duration::from_millis(wait_ms.try_into().unwrap_or(0))).await;
        dropped += group.len() - 1;
        fleet.drop_targets(group[1..].iter().cloned(), DROPPED_SETTLE_MS);
    }
    let after = fleet.settled().await;
    let changed = moved(&before, &after);
    assert!(changed.len() >= DROPS_MS.len(), "{} targets moved", changed.len());
    assert!(dropped > 20, "{dropped} targets were dropped");
    fleet.slots_pass(12, 20).await;
    fleet.assert_clean("dropped at the cut-over", 5).await;
    fleet.end();
}
