//! What ends exactly when its target changes hands gets its marker, and what lives gets none.

use promring_model::labels::Labels;
use promring_net::clock::now_ms;
use promring_testkit::audit::Absence;

use super::fleet::{Fleet, Setup, moved};
use crate::support::{eventually, get_json};

/// When the targets of a hand-over change hands, as the allocator tells a taker: `from` of its targets.
async fn cutover(fleet: &Fleet, taker: &str) -> i64 {
    eventually("T is told", async || {
        let url = format!("{}/api/v1/assignments/{taker}?wait=0s", fleet.allocator_url);
        let answer = get_json(&url).await?;
        let jobs = answer["upsert"].as_object()?;
        let targets = jobs.values().filter_map(|job| job["targets"].as_array()).flatten();
        targets.filter_map(|target| target["from"].as_i64()).max()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_at_the_cut_over_gets_its_marker_and_what_lives_gets_none() {
    let mut fleet = Fleet::start(Setup::default()).await;
    let before = fleet.settled().await;
    fleet.want(4);
    fleet.start_scraper(3);
    let at_ms = cutover(&fleet, "scraper-3").await;
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
