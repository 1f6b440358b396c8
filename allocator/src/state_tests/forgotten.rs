//! Scrapers that are remembered no longer.

use promring_model::config::{Config, Members, SelectorMembers};
use promring_model::roster::{Presence, Roster, Seen, StatefulSet};

use super::members::{of_set, set};
use super::*;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// A pool of pods that a selector finds, with a lapse that is long, so that a day has few steps.
fn of_pods(targets: usize) -> Config {
    let mut config = config(targets, "");
    config.allocator.lapse = std::time::Duration::from_secs(600);
    config.allocator.members = Members::Selector(SelectorMembers {
        namespace: Some("n".to_owned()),
        selector: "app=scraper".to_owned(),
        kubeconfig_file: None,
    });
    config
}

/// What the API server tells of these pods, which are all ready.
fn pods(names: &[&str]) -> Option<Roster> {
    let seen = || Seen { presence: Presence::Ready, node: None };
    Some(Roster::of_pods(names.iter().map(|name| ((*name).to_owned(), seen()))))
}

#[test]
fn a_pod_that_no_selector_finds_any_more_is_forgotten_after_a_day_though_it_has_left_something() {
    for queued in [0, 7] {
        let mut fleet = Fleet::unsettled(&of_pods(20), &["x-7f", "x-9c"]);
        fleet.state.set_roster(pods(&["x-7f", "x-9c"]));
        fleet.run(3_000);
        fleet.scraper("x-9c").queued = queued;
        fleet.run(4_000);
        // It dies, and the Deployment has another one for it.
        fleet.silent.insert("x-9c".to_owned());
        let died_ms = fleet.now_ms;
        fleet.join("x-b2");
        fleet.state.set_roster(pods(&["x-7f", "x-b2"]));
        fleet.run(700_000);
        assert_eq!(is_known(&fleet, "x-9c"), queued > 0, "nothing is left of it");
        while fleet.now_ms < died_ms + DAY_MS - 200_000 {
            fleet.now_ms += 100_000;
            fleet.run(1_000);
        }
        assert_eq!(is_known(&fleet, "x-9c"), queued > 0, "it is not a day yet");
        fleet.run(360_000);
        assert!(!is_known(&fleet, "x-9c"));
        let shares: Vec<usize> = ["x-7f", "x-b2"].iter().map(|name| fleet.scrapes(name).len()).collect();
        assert!(shares.iter().all(|share| *share > 0) && shares.iter().sum::<usize>() == 20, "{shares:?}");
    }
}

fn is_known(fleet: &Fleet, name: &str) -> bool {
    let known = fleet.state.membership().unwrap().contains(name);
    assert!(known || fleet.state.reported(name).is_none(), "{name} is forgotten as a whole");
    known
}

#[test]
fn one_that_has_not_been_heard_of_for_a_day_is_forgotten_and_told_everything_should_it_come_back() {
    let mut rare = config(20, "");
    // With a long lapse a day has few steps.
    rare.allocator.lapse = std::time::Duration::from_secs(600);
    for ends in [false, true] {
        let mut fleet = Fleet::new(&rare, &["a", "b"]);
        let had = fleet.scraper("b").held.len();
        assert!(had > 0);
        fleet.silent.insert("b".to_owned());
        let silent_ms = fleet.now_ms;
        while fleet.now_ms < silent_ms + DAY_MS - 200_000 {
            fleet.now_ms += 100_000;
            fleet.run(1_000);
        }
        assert!(is_known(&fleet, "b"), "it is not a day yet");
        assert_eq!(fleet.scrapes("a").len(), 20, "it is lost all the same");
        fleet.run(360_000);
        assert!(!is_known(&fleet, "b") && is_known(&fleet, "a"));
        // It was cut off all the time, and holds what it held: of the same leader, and now somebody else's.
        assert_eq!(fleet.scraper("b").held.len(), had);
        fleet.silent.clear();
        if ends {
            let now_ms = fleet.now_ms;
            fleet.scraper("b").member.drain(now_ms);
        }
        fleet.talk("b");
        let told = fleet.scraper("b").told.clone().unwrap();
        assert_eq!(told.base, None, "everything, as nobody knows what it has");
        assert!(fleet.scrapes("b").is_empty());
        fleet.run(20_000);
        fleet.settle();
        assert_eq!(fleet.shares()["b"].is_empty(), ends, "it is a scraper as any other");
        assert_eq!(fleet.scraper("b").held.is_empty(), ends);
    }
}

#[test]
fn an_ordinal_that_is_gone_is_forgotten_unless_it_has_left_something() {
    for queued in [0, 7] {
        let mut fleet = Fleet::unsettled(&of_set(20), &["s-0", "s-1"]);
        fleet.state.set_roster(set(2, 2, &[]));
        fleet.run(3_000);
        fleet.scraper("s-1").queued = queued;
        fleet.state.set_roster(set(1, 2, &[]));
        fleet.run(4_000);
        let now_ms = fleet.now_ms;
        fleet.scraper("s-1").member.drain(now_ms);
        fleet.run(60_000);
        assert_eq!(fleet.scrapes("s-0").len(), 20);
        fleet.silent.insert("s-1".to_owned());
        fleet.run(120_000);
        assert!(is_known(&fleet, "s-1"), "its pod is still there");
        fleet.state.set_roster(set(1, 1, &[]));
        fleet.run(61_000);
        assert_eq!(is_known(&fleet, "s-1"), queued > 0);
        // The set grows again.
        fleet.state.set_roster(set(2, 2, &[]));
        fleet.come_back("s-1");
        fleet.silent.clear();
        fleet.run(20_000);
        fleet.settle();
        assert!(!fleet.shares()["s-1"].is_empty());
    }
}

#[test]
fn one_that_restarts_or_has_targets_is_never_forgotten() {
    let mut fleet = Fleet::unsettled(&of_set(20), &["s-0", "s-1"]);
    fleet.state.set_roster(set(2, 2, &[]));
    fleet.run(3_000);
    fleet.silent.insert("s-1".to_owned());
    fleet.state.set_roster(set(2, 2, &["s-1"]));
    fleet.run(200_000);
    assert!(is_known(&fleet, "s-1"), "its ordinal is one of the set's");
    // Nobody is left that could take the targets.
    let mut nobody = StatefulSet::new("s");
    nobody.sized(Some((0, 0)));
    nobody.pod("s-0", Some(Presence::Terminating));
    fleet.state.set_roster(nobody.roster());
    fleet.run(1_000);
    nobody.pod("s-0", None);
    fleet.state.set_roster(nobody.roster());
    fleet.silent.insert("s-0".to_owned());
    fleet.run(200_000);
    assert!(is_known(&fleet, "s-0"), "it has the targets");
}
