//! Who the scrapers are.

use promring_model::roster::{Presence, Roster, StatefulSet};
use promring_proto::api::{MemberReport, Report};

use super::*;
use crate::state::{Refusal, SCRAPERS_MAX, State};

fn first_report() -> Report {
    let handover = MemberReport { run: 1, sequence: 1, full: true, promised: 1, ..MemberReport::default() };
    Report { full: true, handover, ..Report::default() }
}

#[test]
fn more_scrapers_than_may_be_known_are_refused() {
    let mut state = State::new(&config(1, ""), 0);
    state.lead(1, false, 0);
    for n in 0..SCRAPERS_MAX {
        state.report(&format!("s-{n}"), first_report(), 0).unwrap();
    }
    assert!(matches!(state.report("one-more", first_report(), 0), Err(Refusal::TooMany(_))));
    assert!(state.report("s-1", first_report(), 0).is_ok());
}

#[test]
fn a_report_is_taken_by_a_leader_only() {
    let mut state = State::new(&config(1, ""), 0);
    assert_eq!(state.report("a", first_report(), 0), Err(Refusal::NotLeading));
}

#[test]
fn where_there_is_a_list_others_may_report_only_to_give_back_what_they_have() {
    let mut state = State::new(&config(1, ""), 0);
    state.set_roster(Some(Roster::of_names(["a"])));
    state.lead(1, false, 0);
    assert!(state.report("a", first_report(), 0).is_ok());
    assert!(matches!(state.report("b", first_report(), 0), Err(Refusal::Unknown(_))));
    let mut former = first_report();
    former.handover.version = Some("1-1".parse().unwrap());
    assert!(state.report("c", former, 0).unwrap().leaving);
}

/// A set of this size whose pods are ready, but those named.
pub(super) fn set(replicas: u32, pods: u32, gone: &[&str]) -> Option<Roster> {
    let mut set = StatefulSet::new("s");
    set.sized(Some((replicas, 0)));
    for pod in (0..pods).map(|n| format!("s-{n}")).filter(|pod| !gone.contains(&&**pod)) {
        set.pod(&pod, Some(Presence::Ready));
    }
    set.roster()
}

pub(super) fn of_set(targets: usize) -> promring_model::config::Config {
    let mut config = config(targets, "");
    config.allocator.members =
        promring_model::config::Members::StatefulSet(promring_model::config::StatefulSetMembers {
            namespace: Some("n".to_owned()),
            name: "s".to_owned(),
            kubeconfig_file: None,
        });
    config
}

#[test]
fn a_new_leader_waits_to_hear_who_the_scrapers_are_and_then_for_all_of_them() {
    let mut fleet = Fleet::unsettled(&of_set(10), &["s-0", "s-1"]);
    fleet.silent.insert("s-1".to_owned());
    fleet.run(10_000);
    assert!(fleet.state.readiness().is_err(), "nobody has told who there is");
    fleet.state.set_roster(set(2, 2, &[]));
    fleet.run(3_000);
    assert!(fleet.state.readiness().is_err(), "one has not told yet");
    fleet.silent.clear();
    fleet.run(1_000);
    assert_eq!(fleet.state.readiness(), Ok(()), "everyone has");
    fleet.run(1_000);
    fleet.shares();
}

#[test]
fn without_a_word_of_who_the_scrapers_are_whoever_reports_counts_after_a_while() {
    let mut fleet = Fleet::unsettled(&of_set(10), &["s-0"]);
    fleet.run(32_000);
    assert_eq!(fleet.state.readiness(), Ok(()));
}

#[test]
fn nobody_waits_for_what_an_ordinal_has_left_that_is_gone_for_good() {
    let mut fleet = Fleet::unsettled(&of_set(20), &["s-0", "s-1"]);
    fleet.state.set_roster(set(2, 2, &[]));
    fleet.run(3_000);
    // It is scaled away, stops where it was told to, and ends with something unsent.
    fleet.state.set_roster(set(1, 2, &[]));
    fleet.run(4_000);
    assert!(fleet.scraper("s-1").answer.leaving);
    let now_ms = fleet.now_ms;
    fleet.scraper("s-1").member.drain(now_ms);
    while fleet.state.moves().any(|status| status.step < promring_model::handover::Step::From) {
        fleet.run(1_000);
    }
    fleet.silent.insert("s-1".to_owned());
    fleet.run(20_000);
    assert_eq!(fleet.state.moves().count(), 1, "its pod is still there");
    fleet.state.set_roster(set(1, 1, &[]));
    fleet.run(20_000);
    assert_eq!(fleet.state.moves().count(), 0);
    assert!(fleet.state.leading().unwrap().leader.fences_forced() > 0);
    assert_eq!(fleet.shares()["s-0"].len(), 20);
}
