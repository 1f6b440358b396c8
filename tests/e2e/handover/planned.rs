//! Planned changes: scale out, scale in, rolling restart, a restart of the allocator. Nothing is lost and nothing doubled.

use super::fleet::{Fleet, Setup, TARGETS, moved, name, of};
use crate::support::{eventually, get_json};

#[tokio::test(flavor = "multi_thread")]
async fn scaling_out_and_in_loses_and_doubles_nothing() {
    let mut fleet = Fleet::start(Setup::default()).await;
    let mut owners = fleet.settled().await;
    for to in [5, 2, 4] {
        let from = owners.values().collect::<std::collections::BTreeSet<_>>().len();
        fleet.slots_pass(3, 60).await;
        fleet.scale(to).await;
        let after = fleet.settled().await;
        let changed = moved(&owners, &after).len();
        eprintln!("{from} → {to}: {changed} of {TARGETS} targets moved");
        // No more than consistent hashing has to move, and a margin for balance; and not nothing.
        let share = from.abs_diff(to) as f64 / from.max(to) as f64;
        assert!(changed as f64 >= TARGETS as f64 * share * 0.7, "{from} → {to}: {changed}");
        assert!(changed as f64 <= TARGETS as f64 * (share * 1.15 + 0.06), "{from} → {to}: {changed}");
        owners = after;
    }
    fleet.slots_pass(3, 60).await;
    fleet.assert_clean("3 → 5 → 2 → 4", 20).await;
    fleet.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_all_scrapers_loses_and_doubles_nothing() {
    let mut fleet = Fleet::start(Setup::default()).await;
    let before = fleet.settled().await;
    let mut handed_over = 0;
    for number in (0..3).rev() {
        let mine = of(&fleet.settled().await, &name(number)).count();
        assert!(mine > 0, "{} has nothing to hand over", name(number));
        fleet.stop_scraper(number);
        // Everything is elsewhere, or it would not have ended.
        let owners = fleet.owners().await.unwrap();
        assert_eq!(of(&owners, &name(number)).count(), 0, "it ended before it had given everything");
        handed_over += mine;
        fleet.start_scraper(number);
        fleet.settled().await;
    }
    assert!(handed_over >= TARGETS, "{handed_over}");
    let after = fleet.settled().await;
    eprintln!("{handed_over} hand-overs; {} targets are elsewhere than before", moved(&before, &after).len());
    fleet.assert_clean("a rolling restart", 20).await;
    fleet.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_allocator_moves_loses_and_doubles_nothing() {
    let mut fleet = Fleet::start(Setup::default()).await;
    let before = fleet.settled().await;
    fleet.restart_allocator().await;
    assert_eq!(fleet.settled().await, before, "a restart moves nothing");
    // Without any for a while.
    fleet.kill_allocator();
    fleet.slots_pass(8, 60).await;
    fleet.start_allocator_again();
    assert_eq!(fleet.settled().await, before, "nor does a crash");
    // In the midst of a scale-out: what is agreed on is completed by whoever leads next, and the rest gone on with.
    fleet.want(4);
    fleet.start_scraper(3);
    eventually("a hand-over is agreed on", async || {
        let answer = get_json(&format!("{}/api/v1/scrapers", fleet.allocator_url)).await?;
        let agreed = |one: &serde_json::Value| one["step"] == "from" || one["step"] == "fence";
        answer["data"]["moves"].as_array()?.iter().any(agreed).then_some(())
    })
    .await;
    fleet.kill_allocator();
    fleet.slots_pass(2, 30).await;
    fleet.start_allocator_again();
    let after = fleet.settled().await;
    let changed = moved(&before, &after).len();
    assert!(
        changed >= TARGETS * 7 / 40,
        "the newcomer has its share, and not just what was agreed on: {changed}"
    );
    fleet.assert_clean("restarts of the allocator", 15).await;
    fleet.end();
}
