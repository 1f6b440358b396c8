//! Scrapers that are remembered no longer.

use promring_model::roster::{Presence, StatefulSet};

use super::members::{of_set, set};
use super::*;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

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
