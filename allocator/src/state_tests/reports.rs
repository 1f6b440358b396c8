//! What scrapers say.

use promring_model::target::TargetId;
use promring_proto::api::{MemberReport, Report, TargetReport};

use super::*;
use crate::state::State;

#[test]
fn an_older_report_than_the_newest_changes_nothing() {
    let mut state = State::new(&config(1, ""), 0);
    state.lead(1, false, 0);
    let report = |sequence, draining, samples_total| Report {
        draining,
        samples_total,
        handover: MemberReport { run: 5, sequence, promised: 1, full: true, ..MemberReport::default() },
        ..Report::default()
    };
    state.report("a", report(2, false, 7), 0).unwrap();
    for (run, sequence) in [(5, 1), (5, 2), (4, 9)] {
        let mut late = report(sequence, true, 9);
        late.handover.run = run;
        state.report("a", late, 0).unwrap();
    }
    assert!(state.membership().unwrap().takers().any(|taker| taker == "a"));
    assert_eq!(state.reported("a").unwrap().report.samples_total, 7);
}

#[test]
fn nobody_tells_of_targets_that_are_not_its_own() {
    let mut fleet = Fleet::new(&config(8, ""), &["a", "b"]);
    fleet.run(5_000);
    let health = |fleet: &Fleet, id| fleet.state.health(id).map(|report| report.samples);
    let ids: Vec<(TargetId, String)> = {
        let active = fleet.state.jobs().flat_map(|job| job.active().values());
        active
            .map(|target| (target.target.id, fleet.state.owner(target.target.key).unwrap().to_owned()))
            .collect()
    };
    let told = ids.iter().map(|(id, _)| *id).chain([TargetId(7)]);
    let told = told.map(|id| TargetReport { samples: 123_456, ..TargetReport::unknown(id) }).collect();
    let handover = MemberReport { run: 1, sequence: 1_000_000, promised: 1, ..MemberReport::default() };
    fleet.state.report("a", Report { handover, targets: told, ..Report::default() }, fleet.now_ms).unwrap();
    for (id, owner) in &ids {
        assert_eq!(health(&fleet, *id) == Some(123_456), owner == "a", "{id} of {owner}");
    }
    assert!(ids.iter().any(|(_, owner)| owner == "a") && ids.iter().any(|(_, owner)| owner == "b"));
    assert_eq!(health(&fleet, TargetId(7)), None);
}

#[test]
fn what_a_scraper_tells_a_new_leader_of_others_targets_counts_for_nothing() {
    const FORGED: u64 = 60_000_000;
    for restarts in [false, true] {
        let mut fleet = Fleet::unsettled(&config(40, ""), &["a", "b", "c"]);
        // Half of the targets have never yielded anything, so that their owners have no word against a forged one.
        for number in 1..=40 {
            let samples = (number % 2 != 0).then_some(3_000);
            for scraper in fleet.scrapers.values_mut() {
                scraper.samples.insert(format!("t:{number}"), samples);
            }
        }
        fleet.run(20_000);
        let before = fleet.shares();
        let active = fleet.state.jobs().flat_map(|job| job.active().values());
        let ids: Vec<(TargetId, String)> = active
            .map(|target| (target.target.id, fleet.state.owner(target.target.key).unwrap().to_owned()))
            .collect();
        let others = ids.iter().filter(|(_, owner)| owner != "b").map(|(id, _)| *id);
        let told = others.clone().chain([TargetId(7)]);
        fleet.scraper("b").beside =
            told.map(|id| TargetReport { samples: FORGED, ..TargetReport::unknown(id) }).collect();
        if restarts {
            fleet.restart_allocator();
        } else {
            let term = fleet.state.version().unwrap().term + 1;
            fleet.state.step_down();
            fleet.state.lead(term, false, fleet.now_ms);
        }
        // It tells that after all others as well.
        fleet.run(4_000);
        assert!(fleet.state.assigns().is_err() || !restarts);
        fleet.talk("b");
        fleet.run(200_000);
        fleet.settle();
        assert_eq!(fleet.shares(), before, "nothing moves");
        for id in others {
            assert_ne!(fleet.state.health(id).map(|report| report.samples), Some(FORGED));
        }
        let loads = fleet.state.leading().unwrap().loads();
        assert_eq!(loads.iter().map(|load| load.weight).sum::<f64>(), 40.0 * 50.0);
        let own = ids.iter().filter(|(_, owner)| owner == "b");
        assert!(own.clone().count() > 0 && own.clone().all(|(id, _)| fleet.state.health(*id).is_some()));
    }
}

#[test]
fn every_run_is_asked_for_everything() {
    let mut fleet = Fleet::new(&config(3, ""), &["a"]);
    let answer = fleet.scraper("a").answer.clone();
    assert!(!answer.full && !answer.full_claims && answer.version.is_some());
    let handover = MemberReport { run: 9, sequence: 1, promised: 1, ..MemberReport::default() };
    let answer = fleet.state.report("a", Report { handover, ..Report::default() }, fleet.now_ms).unwrap();
    assert!(answer.full, "health of a process that has just started");
}

#[test]
fn a_new_leader_asks_for_all_claims() {
    let mut fleet = Fleet::new(&config(3, ""), &["a"]);
    let term = fleet.state.version().unwrap().term + 1;
    fleet.state.step_down();
    fleet.state.lead(term, false, fleet.now_ms);
    let handover = MemberReport { run: 1, sequence: 1_000, promised: term, ..MemberReport::default() };
    let answer = fleet.state.report("a", Report { handover, ..Report::default() }, fleet.now_ms).unwrap();
    assert!(answer.full_claims && answer.version.is_none());
    assert_eq!(answer.term, term);
}
