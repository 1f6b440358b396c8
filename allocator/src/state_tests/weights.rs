//! What targets weigh of which nothing is known, and that it moves nothing.

use promring_model::handover::Drain;
use promring_model::labels::Labels;
use promring_model::target::{ADDRESS, TargetGroup};

use super::handover::reasons;
use super::*;
use crate::discovery::Found;
use crate::reasons::Reason;

/// Samples of an interval of a minute: 1,000 a second.
const THOUSAND: u64 = 60_000;

/// Has every scraper report as many samples for these targets; None: that they are down.
fn weigh(fleet: &mut Fleet, targets: std::ops::RangeInclusive<usize>, samples: impl Into<Option<u64>>) {
    let samples = samples.into();
    for number in targets {
        for scraper in fleet.scrapers.values_mut() {
            scraper.samples.insert(format!("t:{number}"), samples);
        }
    }
}

/// What all scrapers are to carry together, in samples a second.
fn load(fleet: &Fleet) -> f64 {
    fleet.state.leading().unwrap().loads().iter().map(|load| load.weight).sum()
}

#[test]
fn what_is_unknown_weighs_as_what_is_known_does() {
    let mut fleet = Fleet::unsettled(&config(10, ""), &["a", "b"]);
    weigh(&mut fleet, 1..=40, None);
    fleet.run(20_000);
    assert_eq!(load(&fleet), 1_000.0, "nothing is known: 100 each");
    weigh(&mut fleet, 1..=5, THOUSAND);
    fleet.run(20_000);
    assert_eq!(load(&fleet), 10_000.0, "half of them are known");
    weigh(&mut fleet, 6..=10, THOUSAND);
    fleet.reconfigure(&config(20, ""));
    fleet.run(2_000);
    assert_eq!(load(&fleet), 20_000.0, "half of them are new");
    let other = "- {job_name: db, static_configs: [{targets: ['t:21', 't:22']}]}\n";
    fleet.reconfigure(&config(20, other));
    fleet.run(2_000);
    assert_eq!(load(&fleet), 22_000.0, "two of another job");
    weigh(&mut fleet, 21..=21, THOUSAND / 10);
    fleet.run(20_000);
    assert_eq!(load(&fleet), 20_200.0, "of which one is known now");
    // The next leader is told everything by the scrapers.
    let term = fleet.state.version().unwrap().term;
    fleet.state.step_down();
    fleet.state.lead(term + 1, false, fleet.now_ms);
    fleet.run(20_000);
    assert_eq!(load(&fleet), 20_200.0);
    fleet.restart_allocator();
    fleet.run(30_000);
    assert_eq!(load(&fleet), 20_200.0);
    fleet.reconfigure(&config(0, "- {job_name: db, static_configs: [{targets: ['t:22']}]}\n"));
    fleet.run(5_000);
    assert_eq!(load(&fleet), 100.0, "what is gone counts no more");
}

#[test]
fn a_target_that_is_down_still_counts_for_how_many_scrapers_are_wanted() {
    let mut fleet = Fleet::new(&config(10, ""), &["a"]);
    weigh(&mut fleet, 1..=9, 6_000);
    weigh(&mut fleet, 10..=10, 9 * THOUSAND);
    fleet.run(20_000);
    let wanted = |fleet: &Fleet| {
        let scaling = crate::scaling::scaling(&fleet.state, 1_000);
        (scaling.wanted, scaling.targets_unknown)
    };
    assert_eq!(wanted(&fleet), (10, 0));
    for down in [1..=9, 10..=10, 1..=10] {
        weigh(&mut fleet, down, None);
        fleet.run(20_000);
        assert_eq!(wanted(&fleet), (10, 0));
    }
}

/// These targets, each in a group of its own, named by its place as files and answers to HTTP name groups.
fn listed(numbers: impl IntoIterator<Item = usize>) -> Found {
    let groups: Vec<TargetGroup> = numbers
        .into_iter()
        .enumerate()
        .map(|(place, number)| TargetGroup {
            targets: vec![Labels::from_pairs([(ADDRESS, format!("t:{number}"))])],
            labels: Labels::default(),
            source: place.to_string(),
        })
        .collect();
    Found::all(&groups)
}

/// Two scrapers of twenty targets: ten of a thousand samples a scrape each, and ten of `others`.
fn weighed(others: u64) -> Fleet {
    let mut fleet = Fleet::new(&config(20, ""), &["a", "b"]);
    weigh(&mut fleet, 1..=10, THOUSAND);
    weigh(&mut fleet, 11..=20, others);
    fleet.run(20_000);
    fleet
}

fn unknown(fleet: &Fleet) -> u64 {
    crate::scaling::scaling(&fleet.state, 1_000).targets_unknown
}

#[test]
fn living_targets_keep_their_weights_whatever_groups_they_are_in_and_however_often_sources_tell() {
    let mut fleet = weighed(THOUSAND / 10);
    assert_eq!((load(&fleet), unknown(&fleet)), (11_000.0, 0));
    // Nobody reports meanwhile.
    fleet.state.discovered("web", 0, listed([21].into_iter().chain(1..=20)));
    fleet.state.advance(fleet.now_ms);
    assert_eq!((load(&fleet), unknown(&fleet)), (11_550.0, 1), "the new one as the mean of the others");
    // Away and back before anybody looks.
    for numbers in [0..0, 1..22] {
        fleet.state.discovered("web", 0, listed(numbers));
    }
    fleet.state.advance(fleet.now_ms);
    assert_eq!((load(&fleet), unknown(&fleet)), (11_550.0, 1));
    let known = fleet
        .state
        .jobs()
        .flat_map(|job| job.active().keys())
        .filter(|id| fleet.state.health(**id).is_some());
    assert_eq!(known.count(), 20);
}

#[test]
fn targets_that_are_soon_back_weigh_what_they_did() {
    let mut fleet = weighed(0);
    let before = load(&fleet);
    // A few, and all; their scrapers have not scraped them again when they are back.
    for away in [1..=5, 11..=15, 1..=20] {
        fleet.state.discovered("web", 0, listed((1..=20).filter(|number| !away.contains(number))));
        fleet.run(60_000);
        weigh(&mut fleet, away.clone(), None);
        fleet.state.discovered("web", 0, listed(1..=20));
        assert_eq!(unknown(&fleet), 0, "at once");
        fleet.run(5_000);
        assert_eq!((load(&fleet).round(), unknown(&fleet)), (before.round(), 0), "{away:?}");
    }
    // What is told since counts.
    weigh(&mut fleet, 1..=20, THOUSAND);
    fleet.run(20_000);
    assert_eq!(load(&fleet), 20_000.0);
    // After long nobody knows.
    fleet.state.discovered("web", 0, listed(1..=10));
    fleet.run(600_000);
    weigh(&mut fleet, 11..=20, None);
    fleet.state.discovered("web", 0, listed(1..=20));
    fleet.run(5_000);
    assert_eq!(unknown(&fleet), 10);
}

#[test]
fn targets_in_the_place_of_others_weigh_what_these_did() {
    let mut fleet = weighed(0);
    let (before, shares) = (load(&fleet), fleet.shares());
    weigh(&mut fleet, 1..=20, None);
    for path in ["/other", "/another"] {
        fleet.reconfigure(&config(20, &format!("  metrics_path: {path}\n")));
        fleet.run(5_000);
        assert_eq!((load(&fleet).round(), unknown(&fleet)), (before.round(), 0), "{path}");
    }
    fleet.run(60_000);
    assert_eq!(fleet.shares(), shares);
}

#[test]
fn a_target_that_yields_nothing_is_known_and_weighs_little() {
    let mut fleet = Fleet::new(&config(60, ""), &["a", "b", "c"]);
    weigh(&mut fleet, 1..=60, 0);
    fleet.run(20_000);
    let scaling = |fleet: &Fleet| {
        let scaling = crate::scaling::told(&fleet.state, 1_000, fleet.now_ms).unwrap();
        (scaling.wanted, scaling.samples_per_second, scaling.targets_unknown)
    };
    let (wanted, samples_per_second, unknown) = scaling(&fleet);
    assert_eq!((wanted, samples_per_second.round(), unknown), (1, 1.0, 0), "each as one sample a minute");
    assert_eq!(load(&fleet).round(), 1.0);
    weigh(&mut fleet, 1..=20, THOUSAND);
    fleet.run(20_000);
    assert_eq!(scaling(&fleet).0, 21);
    weigh(&mut fleet, 1..=60, None);
    fleet.run(20_000);
    assert_eq!((scaling(&fleet).0, scaling(&fleet).2), (21, 0), "what is down is as it was");
}

#[test]
fn a_scraper_whose_targets_yield_nothing_any_more_is_given_others() {
    let names = ["a", "b", "c"];
    let mut fleet = Fleet::new(&config(90, ""), &names);
    weigh(&mut fleet, 1..=90, THOUSAND);
    fleet.run(100_000);
    fleet.settle();
    let before = fleet.shares();
    let emptied: Vec<String> = ["b", "c"].iter().flat_map(|name| before[*name].iter().cloned()).collect();
    for scraper in fleet.scrapers.values_mut() {
        scraper.samples.extend(emptied.iter().map(|address| (address.clone(), Some(0))));
    }
    fleet.run(200_000);
    fleet.settle();
    let after = fleet.shares();
    let heavy = |name: &str| after[name].iter().filter(|address| !emptied.contains(address)).count();
    let most = names.iter().map(|name| heavy(name)).max().unwrap();
    assert!(3 * most < before["a"].len() * 13 / 10 + 3, "{most} of {}", before["a"].len());
}

#[test]
fn a_scaler_gets_a_guess_where_no_scraper_is_and_nothing_while_one_may_still_tell() {
    let mut fleet = Fleet::unsettled(&config(45, ""), &[]);
    let wanted = |fleet: &Fleet| {
        let scaling = crate::scaling::told(&fleet.state, 1_000, fleet.now_ms).ok()?;
        Some((scaling.wanted, scaling.targets, scaling.targets_unknown))
    };
    fleet.run(14_000);
    assert_eq!(wanted(&fleet), None, "one may have been there before this allocator began");
    fleet.run(2_000);
    assert_eq!(wanted(&fleet), Some((5, 45, 45)), "100 each");
    fleet.join("a");
    fleet.run(2_000);
    assert_eq!(wanted(&fleet), None, "it will tell");
    fleet.run(30_000);
    assert_eq!(wanted(&fleet), Some((1, 45, 0)), "100 a minute each");

    let mut empty = Fleet::unsettled(&config(0, ""), &[]);
    empty.run(1_000);
    assert_eq!(wanted(&empty), Some((1, 0, 0)), "nobody need tell anything of no targets");
}

#[test]
fn a_scaler_gets_nothing_while_scrapers_have_targets_that_are_not_known_yet() {
    let config = config(
        10,
        "- job_name: away\n  static_configs: [{targets: ['f:1', 'f:2', 'f:3', 'f:4', 'f:5', 'f:6']}]\n",
    );
    let mut fleet = Fleet::new(&config, &["a", "b"]);
    let targets = |fleet: &Fleet| {
        crate::scaling::told(&fleet.state, 1_000, fleet.now_ms).map(|scaling| scaling.targets)
    };
    fleet.run(20_000);
    assert_eq!(targets(&fleet), Ok(16));
    // Another allocator, for which a source stays away.
    let mut known = config.clone();
    known.scrape_configs.retain(|job| job.job_name != "away");
    fleet.state = crate::State::new(&config, fleet.now_ms);
    fleet.state.lead(1, true, fleet.now_ms);
    discover(&mut fleet.state, &known);
    fleet.run(60_000);
    assert_eq!(fleet.state.readiness(), Ok(()), "it goes on without");
    let reason = targets(&fleet).unwrap_err();
    assert!(reason.contains("away") && reason.contains("have 6 targets"), "{reason}");
    // Nor does a drain wait for them.
    let now_ms = fleet.now_ms;
    fleet.scraper("a").member.drain(now_ms);
    fleet.run(60_000);
    let staying = fleet.scraper("a").answer.staying;
    assert!(staying.is_some_and(|staying| staying.unknown > 0 && staying.unready == 0), "{staying:?}");
    let now_ms = fleet.now_ms;
    assert!(matches!(fleet.scraper("a").member.drained(false, staying, now_ms), Drain::Left(_)));
    discover(&mut fleet.state, &config);
    fleet.run(5_000);
    assert_eq!(targets(&fleet), Ok(16));
}

#[test]
fn weights_that_become_known_move_nothing() {
    let names = ["a", "b", "c"];
    let mut fleet = Fleet::unsettled(&config(90, ""), &names);
    weigh(&mut fleet, 1..=90, None);
    fleet.run(20_000);
    let before = fleet.shares();
    // One scraper after the other tells that its targets are far heavier, or lighter, than what was thought.
    for samples in [THOUSAND, THOUSAND / 1_000] {
        let mut fleet = Fleet::unsettled(&config(90, ""), &names);
        weigh(&mut fleet, 1..=90, None);
        fleet.run(20_000);
        assert_eq!(fleet.shares(), before);
        for name in names {
            let addresses = before[name].clone();
            fleet.scraper(name).samples.extend(addresses.into_iter().map(|address| (address, Some(samples))));
            fleet.run(30_000);
            assert_eq!(fleet.shares(), before, "{name}");
        }
        assert_eq!(reasons(&fleet).iter().filter(|(reason, _)| *reason == Reason::Rebalance).count(), 0);
        assert_eq!(load(&fleet), 90.0 * samples as f64 / 60.0);
    }
}

#[test]
fn what_is_told_of_targets_piece_by_piece_is_complete_in_the_end_and_moves_nothing() {
    let names = ["a", "b", "c"];
    let mut fleet = Fleet::unsettled(&config(90, ""), &names);
    weigh(&mut fleet, 1..=90, THOUSAND / 100);
    weigh(&mut fleet, 1..=9, THOUSAND);
    fleet.run(400_000);
    fleet.settle();
    let (before, weight) = (fleet.shares(), load(&fleet));
    assert_eq!(weight, 9.0 * 1_000.0 + 81.0 * 10.0);
    for name in names {
        fleet.scraper(name).piece = Some(1);
    }
    fleet.restart_allocator();
    let untold = |fleet: &Fleet| {
        let active = fleet.state.jobs().flat_map(|job| job.active().keys());
        active.filter(|id| fleet.state.health(**id).is_none()).count()
    };
    while fleet.state.assigns().is_err() {
        fleet.run(1_000);
    }
    assert!(untold(&fleet) > 45, "claims are enough to go on: {}", untold(&fleet));
    while untold(&fleet) > 0 {
        assert!(fleet.now_ms < 500_000, "{} are never told of", untold(&fleet));
        fleet.run(1_000);
        assert_eq!(fleet.shares(), before);
    }
    fleet.run(200_000);
    fleet.settle();
    assert_eq!(fleet.shares(), before);
    assert_eq!(load(&fleet), weight);
    assert!(reasons(&fleet).iter().all(|(reason, moves)| *reason != Reason::Rebalance || *moves == 0));
}
