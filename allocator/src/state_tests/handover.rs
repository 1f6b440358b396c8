//! Targets that change their scraper.

use promring_model::handover::Step;
use promring_model::labels::Labels;
use promring_model::target::TargetGroup;

use super::*;
use crate::discovery::Found;
use crate::reasons::Reason;

pub(super) fn reasons(fleet: &Fleet) -> Vec<(Reason, u64)> {
    let all = [
        Reason::ScaleOut,
        Reason::ScaleIn,
        Reason::Drain,
        Reason::Rebalance,
        Reason::Lost,
        Reason::Config,
        Reason::Takeover,
    ];
    let reasons = fleet.state.leading().unwrap().reasons();
    all.into_iter().map(|reason| (reason, reasons.of(reason))).filter(|(_, count)| *count > 0).collect()
}

/// An address that is on its way, with the scrapers between which it moves.
fn moving(fleet: &Fleet) -> (String, String, String) {
    let status = fleet.state.moves().next().unwrap();
    let (old, new) = (status.old.to_string(), status.new.to_string());
    let held = fleet.scrapers[&new].held.values().map(|held| &held.address);
    let given = |address: &&String| fleet.scrapers[&old].held.values().any(|held| held.address == **address);
    (held.into_iter().find(given).unwrap().clone(), old, new)
}

#[test]
fn a_scale_out_hands_over_at_one_time_and_moves_no_more_than_the_share() {
    let mut fleet = Fleet::new(&config(100, ""), &["a", "b"]);
    let before = fleet.shares();
    fleet.join("c");
    for _ in 0..30 {
        fleet.run(1_000);
        fleet.shares();
    }
    fleet.settle();
    let after = fleet.shares();
    assert!((25..=38).contains(&after["c"].len()), "{}", after["c"].len());
    assert!(after["a"].is_subset(&before["a"]) && after["b"].is_subset(&before["b"]));
    assert_eq!(reasons(&fleet), [(Reason::ScaleOut, after["c"].len() as u64)]);
}

#[test]
fn until_and_from_are_one_time_and_stand_at_the_targets_for_who_looks_on() {
    let mut fleet = Fleet::new(&config(20, ""), &["a"]);
    fleet.join("b");
    fleet.run(2_000);
    let (address, old, new) = moving(&fleet);
    let until = fleet.window(&old, &address).unwrap().1;
    assert!(until.is_some_and(|until| until > fleet.now_ms));
    assert_eq!(fleet.window(&new, &address).map(|(from, _)| from), until);
    let told = fleet.state.assignment(&old, None).unwrap();
    let of_web = &told.upsert["web"].targets;
    let target = of_web.iter().find(|target| target.labels.get("__address__") == Some(&*address)).unwrap();
    assert_eq!((target.from, target.until), (None, until));
    assert_eq!(told.moves[&target.grant.outgoing.unwrap()].at, until);
}

#[test]
fn a_scraper_that_drains_gives_everything_and_is_then_done() {
    let mut fleet = Fleet::new(&config(30, ""), &["a", "b", "c"]);
    let now_ms = fleet.now_ms;
    let had = fleet.shares()["b"].len() as u64;
    fleet.scraper("b").member.drain(now_ms);
    for _ in 0..30 {
        fleet.run(1_000);
        fleet.shares();
    }
    fleet.settle();
    assert_eq!(fleet.shares()["b"].len(), 0);
    assert!(fleet.scraper("b").held.is_empty());
    let drained = reasons(&fleet);
    assert!(drained.len() == 1 && drained[0].0 == Reason::Drain && drained[0].1 >= had, "{drained:?}");
    assert!(!fleet.scraper("b").answer.alone);
    // Its successor takes its share again.
    fleet.join("b");
    fleet.scraper("b").member.set_address("http://b2");
    fleet.run(2_000);
}

#[test]
fn the_last_scraper_is_told_that_it_drains_in_vain() {
    let mut fleet = Fleet::new(&config(5, ""), &["a"]);
    let now_ms = fleet.now_ms;
    fleet.scraper("a").member.drain(now_ms);
    fleet.run(3_000);
    assert!(fleet.scraper("a").answer.alone);
    assert_eq!(fleet.shares()["a"].len(), 5, "whoever is still there goes on");
}

#[test]
fn a_scale_in_is_told_as_leaving_and_hands_over() {
    let two = config(30, "");
    let mut fleet = Fleet::new(&two, &["s-0", "s-1", "s-10", "host"]);
    let mut one = two.clone();
    one.allocator.replicas = Some(1);
    fleet.reconfigure(&one);
    for _ in 0..25 {
        fleet.run(1_000);
        fleet.shares();
    }
    fleet.settle();
    let leaving = ["s-0", "s-1", "s-10", "host"].map(|name| fleet.scraper(name).answer.leaving);
    assert_eq!(leaving, [false, true, true, false]);
    let shares = fleet.shares();
    assert_eq!((shares["s-1"].len(), shares["s-10"].len()), (0, 0));
    assert_eq!(reasons(&fleet).len(), 1);
    assert!(reasons(&fleet)[0].0 == Reason::ScaleIn, "{:?}", reasons(&fleet));
    // It is wanted again.
    fleet.reconfigure(&two);
    fleet.run(2_000);
    fleet.settle();
    assert!(!fleet.scraper("s-1").answer.leaving);
    assert!(!fleet.shares()["s-1"].is_empty());
}

#[test]
fn the_targets_of_a_lost_scraper_go_to_the_others_at_once_and_only_those() {
    let mut fleet = Fleet::new(&config(100, ""), &["a", "b", "c"]);
    let before = fleet.shares();
    fleet.silent.insert("c".to_owned());
    fleet.run(18_000);
    let after = ["a", "b"].map(|name| fleet.scrapes(name));
    assert!(before["a"].is_subset(&after[0]) && before["b"].is_subset(&after[1]));
    assert_eq!(after[0].len() + after[1].len(), 100);
    assert_eq!(fleet.state.moves().count(), 0, "nobody is there to hand over");
    let lost = before["c"].len() as u64;
    assert_eq!(reasons(&fleet), [(Reason::Lost, lost)]);
    // It comes back, and is told that it has nothing, without markers.
    fleet.silent.clear();
    fleet.run(1_000);
    let told = fleet.scraper("c").told.clone().unwrap();
    assert!(told.gone.is_empty() && fleet.scraper("c").marked.is_empty());
    assert!(fleet.scrapes("c").is_empty(), "what it takes, it takes by hand-over");
    fleet.settle();
    fleet.shares();
}

#[test]
fn while_no_scraper_is_left_assignments_stay_as_they_are() {
    let mut fleet = Fleet::new(&config(10, ""), &["a"]);
    fleet.silent.insert("a".to_owned());
    fleet.run(100_000);
    assert_eq!(fleet.state.assigned("a"), 10, "it may be alive and cut off");
}

#[test]
fn a_restart_of_the_allocator_moves_nothing() {
    let mut fleet = Fleet::new(&config(100, ""), &["a", "b"]);
    // A third scraper that came later leaves owners that no fresh placement would give.
    fleet.join("c");
    fleet.run(3_000);
    fleet.settle();
    let before = fleet.shares();
    let term = fleet.state.version().unwrap().term;
    fleet.restart_allocator();
    fleet.run(20_000);
    assert!(fleet.state.version().unwrap().term > term, "above what scrapers have seen");
    assert_eq!(fleet.shares(), before);
    assert_eq!((fleet.state.moves().count(), reasons(&fleet)), (0, vec![]));
}

#[test]
fn a_restart_of_the_allocator_in_the_middle_completes_what_is_final() {
    let mut fleet = Fleet::new(&config(40, ""), &["a"]);
    fleet.join("b");
    fleet.run(2_000);
    let (address, old, new) = moving(&fleet);
    let at = fleet.window(&old, &address).unwrap().1.unwrap();
    fleet.restart_allocator();
    for _ in 0..40 {
        fleet.run(1_000);
        fleet.shares();
        let is_early = fleet.now_ms + 1 < at;
        assert_eq!(fleet.scrapes(&old).contains(&address), is_early, "it stops when it has said");
    }
    fleet.settle();
    assert_eq!(fleet.scraper_of(&address), Some(new));
}

#[test]
fn after_a_crash_in_the_midst_of_a_scale_out_the_newcomer_gets_the_rest_of_its_share() {
    // After so many seconds; one giver may have too much unsent to give yet, and one member may not have heard of anything.
    for after in 0..12_u64 {
        for (late, deaf) in [(false, None), (true, None), (false, Some("a")), (false, Some("c"))] {
            let mut fleet = Fleet::new(&config(100, ""), &["a", "b"]);
            let before = fleet.shares();
            fleet.join("c");
            fleet.run(1_000 * i64::from(deaf == Some("c") && after > 0));
            fleet.silent.extend(deaf.map(str::to_owned));
            for acked in 0..after {
                fleet.queued("a", if late { 60_000 } else { 0 }, acked);
                fleet.run(1_000);
            }
            fleet.silent.clear();
            fleet.restart_allocator();
            fleet.queued("a", 0, after);
            fleet.run(20_000);
            fleet.settle();
            let shares = fleet.shares();
            let context = format!("after {after} s, late {late}, deaf {deaf:?}");
            assert!((25..=38).contains(&shares["c"].len()), "{context}: {}", shares["c"].len());
            let kept = shares["a"].is_subset(&before["a"]) && shares["b"].is_subset(&before["b"]);
            assert!(kept, "{context}");
        }
    }
}

#[test]
fn a_scraper_that_gave_everything_away_gets_its_share_again_though_the_allocator_restarts_meanwhile() {
    let mut fleet = Fleet::new(&config(60, ""), &["a", "b", "c"]);
    let now_ms = fleet.now_ms;
    fleet.scraper("b").member.drain(now_ms);
    fleet.run(20_000);
    fleet.settle();
    assert!(fleet.scraper("b").held.is_empty());
    fleet.restart_allocator();
    fleet.come_back("b");
    fleet.run(20_000);
    fleet.settle();
    assert!((15..=23).contains(&fleet.shares()["b"].len()));
}

/// A fleet that moves nothing for weight and in which all that `b` had went long ago, with what is left.
fn without_the_targets_of_b() -> (Fleet, Vec<TargetGroup>) {
    let mut off = config(60, "");
    off.allocator.rebalance_moves_per_minute = 0;
    let mut fleet = Fleet::new(&off, &["a", "b", "c"]);
    let shares = fleet.shares();
    let left = ["a", "c"].into_iter().flat_map(|name| &shares[name]);
    let targets = left.map(|address| Labels::from_pairs([("__address__", &**address)])).collect();
    let left = vec![TargetGroup { source: "0".to_owned(), targets, ..TargetGroup::default() }];
    fleet.state.discovered("web", 0, Found::all(&left));
    // Longer than anybody remembers them.
    fleet.run(1_000_000);
    assert_eq!((fleet.books()["b"], reasons(&fleet)), (0, vec![]));
    (fleet, left)
}

#[test]
fn a_scraper_whose_targets_have_all_gone_is_none_that_is_new_to_the_next_leader() {
    let (mut fleet, left) = without_the_targets_of_b();
    let before = fleet.shares();
    for _ in 0..2 {
        fleet.restart_allocator();
        fleet.state.discovered("web", 0, Found::all(&left));
        fleet.run(20_000);
        fleet.settle();
        assert_eq!((fleet.shares(), reasons(&fleet)), (before.clone(), vec![]));
    }
}

#[test]
fn a_scraper_that_has_nothing_gets_its_share_when_it_starts_again() {
    let (mut fleet, left) = without_the_targets_of_b();
    fleet.restart_allocator();
    fleet.state.discovered("web", 0, Found::all(&left));
    fleet.come_back("b");
    fleet.run(20_000);
    fleet.settle();
    assert!(fleet.books()["b"] > 5);
}

#[test]
fn nothing_is_given_out_after_a_restart_before_everyone_has_told_or_is_lost() {
    let mut fleet = Fleet::new(&config(10, ""), &["a", "b"]);
    let before = fleet.shares();
    fleet.restart_allocator();
    fleet.silent.insert("b".to_owned());
    fleet.run(14_000);
    assert!(fleet.state.readiness().unwrap_err().contains("tell what they have"));
    assert!(before["a"].is_subset(&fleet.scrapes("a")), "scraping goes on meanwhile");
    fleet.run(4_000);
    assert_eq!(fleet.scrapes("a").len(), 10);
}

#[test]
fn a_path_that_changes_while_its_target_moves_takes_the_same_time() {
    let mut fleet = Fleet::new(&config(20, ""), &["a"]);
    fleet.join("b");
    fleet.run(2_000);
    let (address, old, new) = moving(&fleet);
    let until = fleet.window(&old, &address).unwrap().1;
    let held = fleet.scraper(&old).told.as_ref().unwrap().version;
    fleet.reconfigure(&config(20, "  metrics_path: /other\n"));
    fleet.state.advance(fleet.now_ms);
    let told = fleet.state.assignment(&old, Some(held)).unwrap();
    assert_eq!((told.base, told.gone.len()), (Some(held), 0));
    assert_eq!(
        (told.moved.len(), told.upsert["web"].targets.len()),
        (20, 20),
        "each replaced by its successor"
    );
    fleet.run(1_000);
    assert_eq!(fleet.window(&old, &address).unwrap().1, until);
    assert_eq!(fleet.window(&new, &address).map(|(from, _)| from), until);
    fleet.run(1_000);
    fleet.settle();
    assert_eq!(fleet.scraper_of(&address), Some(new.clone()));
    let mut paths = fleet.scraper(&new).held.values().map(|held| held.path.clone());
    assert!(paths.all(|path| path == "/other"));
    fleet.shares();
}

#[test]
fn what_changes_while_it_is_prepared_is_prepared_anew() {
    let mut fleet = Fleet::new(&config(20, ""), &["a"]);
    fleet.join("b");
    // The taker has been told, and its word that it is ready is on its way.
    fleet.now_ms += 1_000;
    fleet.talk("a");
    fleet.talk("b");
    fleet.state.advance(fleet.now_ms);
    assert!(fleet.state.moves().all(|status| status.step <= Step::Until));
    let early = fleet.state.version_of("b");
    fleet.reconfigure(&config(20, "  metrics_path: /other\n"));
    fleet.state.advance(fleet.now_ms);
    assert!(fleet.state.version_of("b") > early, "there is something new to be ready for");
    fleet.run(25_000);
    fleet.settle();
    fleet.shares();
}

#[test]
fn a_target_that_goes_while_it_moves_is_marked_once_by_whoever_scrapes_it() {
    for late in [false, true] {
        let mut fleet = Fleet::new(&config(20, ""), &["a"]);
        fleet.join("b");
        fleet.run(2_000);
        let (_, _, new) = moving(&fleet);
        let last = fleet.scraper(&new).held.values().map(|held| held.address.clone());
        let numbers = last.filter_map(|address| address.strip_prefix("t:")?.parse::<usize>().ok());
        // Everything from the first that moves on is gone.
        let first = numbers.min().unwrap();
        fleet.run(if late { 5_000 } else { 0 });
        fleet.reconfigure(&config(first - 1, ""));
        fleet.run(1_000);
        let marked = ["a", "b"].map(|name| fleet.scraper(name).marked.clone());
        let mut all: Vec<String> = marked.iter().flatten().cloned().collect();
        all.sort();
        let mut gone: Vec<String> = (first..=20).map(|n| format!("t:{n}")).collect();
        gone.sort();
        assert_eq!(all, gone, "each once, {late}");
        assert_eq!(marked[1].is_empty(), !late, "before T it is the giver's: {marked:?}");
        fleet.settle();
        fleet.shares();
    }
}

#[test]
fn a_target_that_returns_is_where_it_was() {
    let twenty = config(20, "");
    let mut fleet = Fleet::new(&twenty, &["a", "b"]);
    let before = fleet.shares();
    fleet.reconfigure(&config(1, ""));
    fleet.run(3_000);
    fleet.reconfigure(&twenty);
    fleet.run(3_000);
    assert_eq!(fleet.shares(), before);
    assert_eq!(fleet.state.moves().count(), 0);
}

#[test]
fn targets_move_for_their_weight_alone_past_the_band_and_no_faster_than_allowed() {
    let mut limited = config(100, "");
    limited.allocator.rebalance_moves_per_minute = 2;
    let mut fleet = Fleet::new(&limited, &["a", "b"]);
    let before = fleet.shares();
    let weigh = |fleet: &mut Fleet, samples: u64| {
        for address in &before["a"] {
            for scraper in fleet.scrapers.values_mut() {
                scraper.samples.insert(address.clone(), Some(samples));
            }
        }
    };
    weigh(&mut fleet, 120);
    fleet.run(30_000);
    assert_eq!(fleet.shares(), before, "a wobble moves nothing");
    weigh(&mut fleet, 1_000);
    fleet.run(59_000);
    let moved = |fleet: &Fleet| reasons(fleet).first().map_or(0, |(_, count)| *count);
    assert_eq!(reasons(&fleet).first().map(|(reason, _)| *reason), Some(Reason::Rebalance));
    assert_eq!(moved(&fleet), 2);
    fleet.run(1_500_000);
    let after = fleet.shares();
    let load = |name: &str| {
        after[name].iter().map(|address| if before["a"].contains(address) { 10.0 } else { 1.0 }).sum::<f64>()
    };
    let (a, b) = (load("a"), load("b"));
    assert!(a / ((a + b) / 2.0) <= 1.3, "{a} and {b}");
    assert!(after["b"].len() - before["b"].len() == moved(&fleet) as usize);

    let mut off = config(100, "");
    off.allocator.rebalance_moves_per_minute = 0;
    let mut fleet = Fleet::new(&off, &["a", "b"]);
    weigh(&mut fleet, 1_000);
    fleet.run(120_000);
    assert_eq!(fleet.shares(), before, "switched off");
    // It is switched on for a running fleet, with a band that this load does not pass, and then with one that it does.
    let mut wide = config(100, "");
    wide.allocator.rebalance_band = 1.9;
    fleet.state.apply_config(&wide);
    fleet.run(120_000);
    assert_eq!(fleet.shares(), before, "the load is 1.8 times the mean");
    wide.allocator.rebalance_band = 1.5;
    fleet.state.apply_config(&wide);
    fleet.run(120_000);
    fleet.settle();
    let after = fleet.shares();
    let heavy = |name: &str| after[name].iter().filter(|address| before["a"].contains(*address)).count();
    let light = |name: &str| after[name].len() - heavy(name);
    let [a, b] = ["a", "b"].map(|name| 10.0 * heavy(name) as f64 + light(name) as f64);
    assert!((1.4..=1.5).contains(&(a / ((a + b) / 2.0))), "{a} and {b}: no more than brings it back");
}

#[test]
fn times_are_configured() {
    let mut quick = config(20, "");
    quick.allocator.handover_lead = std::time::Duration::from_secs(3);
    quick.allocator.handover_settle = std::time::Duration::from_secs(1);
    let mut fleet = Fleet::new(&quick, &["a"]);
    fleet.join("b");
    fleet.run(2_000);
    let (address, old, _) = moving(&fleet);
    let until = fleet.window(&old, &address).unwrap().1.unwrap();
    assert!(until - fleet.now_ms <= 3_000);
    fleet.run(6_000);
    assert_eq!(fleet.state.moves().count(), 0);
}

#[test]
fn who_steps_down_gives_out_nothing_and_the_next_term_moves_nothing() {
    let mut fleet = Fleet::new(&config(30, ""), &["a", "b"]);
    let before = fleet.shares();
    let term = fleet.state.version().unwrap().term;
    fleet.state.step_down();
    fleet.state.advance(fleet.now_ms);
    assert!(!fleet.state.leads() && fleet.state.readiness().is_err());
    assert_eq!(fleet.state.assignment("a", None), None);
    fleet.state.lead(term + 1, false, fleet.now_ms);
    fleet.run(10_000);
    assert_eq!(fleet.state.version().unwrap().term, term + 1);
    assert_eq!(fleet.shares(), before);
}
