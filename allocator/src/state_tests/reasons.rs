//! Every key that changes its scraper counts once, with the reason for which it was begun.

use promring_model::handover::Step;

use super::handover::reasons;
use super::*;
use crate::reasons::Reason;

/// Three scrapers, of which `b` lacks the job for so long that what it had is with the others.
fn lacking() -> (Fleet, u64) {
    let mut fleet = Fleet::new(&config(60, ""), &["a", "b", "c"]);
    let had = fleet.shares()["b"].len() as u64;
    fleet.scraper("b").lacks = vec!["web".to_owned()];
    fleet.run(35_000);
    fleet.settle();
    (fleet, had)
}

#[test]
fn what_a_scraper_cannot_serve_moves_for_its_configuration_and_so_does_what_comes_back() {
    let (mut fleet, had) = lacking();
    assert!(had > 0);
    assert_eq!(fleet.books()["b"], 0, "it has nothing to carry");
    assert_eq!(reasons(&fleet), [(Reason::Config, had)]);
    let weight = |fleet: &Fleet, name: &str| {
        let loads = fleet.state.leading().unwrap().loads();
        loads.iter().find(|load| *load.scraper == *name).map(|load| load.weight)
    };
    assert_eq!(weight(&fleet, "b"), Some(0.0));
    fleet.scraper("b").lacks.clear();
    fleet.run(2_000);
    fleet.settle();
    assert_eq!(fleet.books()["b"] as u64, had);
    assert_eq!(reasons(&fleet), [(Reason::Config, 2 * had)]);
    assert!(weight(&fleet, "b").is_some_and(|weight| weight > 0.0));
}

#[test]
fn what_others_have_of_a_scraper_that_cannot_serve_it_goes_on_when_they_go() {
    let (mut fleet, had) = lacking();
    let now_ms = fleet.now_ms;
    let gives = fleet.shares()["a"].len() as u64;
    fleet.scraper("a").member.drain(now_ms);
    fleet.run(2_000);
    fleet.settle();
    let books = fleet.books();
    assert_eq!((books["b"], books["c"]), (0, 60));
    assert_eq!(reasons(&fleet), [(Reason::Drain, gives), (Reason::Config, had)]);
}

#[test]
fn a_newcomer_that_has_the_job_takes_what_nobody_else_could_serve() {
    let mut fleet = Fleet::new(&config(20, ""), &["a"]);
    fleet.scraper("a").lacks = vec!["web".to_owned()];
    fleet.run(35_000);
    fleet.join("b");
    fleet.run(2_000);
    fleet.settle();
    assert_eq!(fleet.books()["b"], 20);
    assert_eq!(reasons(&fleet).iter().map(|(_, moves)| moves).sum::<u64>(), 20);
}

/// A second passes in which both givers have much to send.
fn behind(fleet: &mut Fleet, acked: u64) {
    fleet.queued("a", 60_000, acked);
    fleet.queued("b", 60_000, acked);
    fleet.run(1_000);
}

#[test]
fn a_target_that_changes_while_it_waits_to_move_counts_once() {
    let mut fleet = Fleet::new(&config(40, ""), &["a", "b"]);
    fleet.join("c");
    // What was queued for long is sent first.
    for acked in 0..12 {
        behind(&mut fleet, acked);
        let path = format!("  metrics_path: /{acked}\n");
        fleet.reconfigure(&config(40, &path));
    }
    assert!(fleet.state.moves().next().is_some_and(|status| status.step == Step::Prepare));
    fleet.queued("a", 0, 13);
    fleet.queued("b", 0, 13);
    fleet.run(2_000);
    fleet.settle();
    let moved = fleet.books()["c"] as u64;
    assert!(moved > 0);
    assert_eq!(reasons(&fleet), [(Reason::ScaleOut, moved)]);
}

#[test]
fn what_never_went_does_not_count() {
    let mut fleet = Fleet::new(&config(40, ""), &["a", "b"]);
    fleet.join("c");
    for acked in 0..5 {
        behind(&mut fleet, acked);
    }
    assert!(fleet.state.moves().next().is_some());
    fleet.silent.insert("c".to_owned());
    for acked in 5..30 {
        behind(&mut fleet, acked);
    }
    assert_eq!((fleet.state.moves().count(), reasons(&fleet)), (0, vec![]));
}

#[test]
fn what_a_later_leader_completes_counts_there_though_it_cannot_know_why() {
    for after_ms in (0..=9_000).step_by(200) {
        let mut fleet = Fleet::new(&config(40, ""), &["a"]);
        fleet.join("b");
        fleet.run(after_ms);
        let before: u64 = reasons(&fleet).iter().map(|(_, moves)| moves).sum();
        fleet.restart_allocator();
        fleet.run(20_000);
        fleet.settle();
        let moved = fleet.books()["b"] as u64;
        let after = reasons(&fleet);
        // Before anything was agreed on it is the later one's own.
        let begun = after.iter().all(|(reason, _)| *reason == Reason::Takeover);
        assert!(begun || before == 0, "{after_ms} ms: {after:?}");
        assert_eq!(before + after.iter().map(|(_, moves)| moves).sum::<u64>(), moved, "{after_ms} ms");
    }
}
