//! Scrapers that take the targets of their own nodes.

use std::collections::{BTreeMap, BTreeSet};

use promring_model::config::{Config, Strategy};
use promring_model::labels::Labels;
use promring_model::target::TargetGroup;

use super::*;
use crate::discovery::Found;
use crate::reasons::Reason;

/// The targets `t:FIRST` to `t:LAST` on a node.
fn on(node: &str, first: usize, last: usize) -> TargetGroup {
    let address = |n| Labels::from_pairs([("__address__", format!("t:{n}"))]);
    TargetGroup {
        source: node.to_owned(),
        labels: Labels::from_pairs([("__meta_kubernetes_pod_node_name", node)]),
        targets: (first..=last).map(address).collect(),
    }
}

fn addresses(first: usize, last: usize) -> BTreeSet<String> {
    (first..=last).map(|n| format!("t:{n}")).collect()
}

fn per_node() -> Config {
    let mut config = config(1, "");
    config.allocator.strategy = Strategy::PerNode;
    config
}

#[test]
fn a_scraper_takes_the_targets_of_its_node_by_hand_over_and_all_share_what_nobody_is_near_to() {
    let mut fleet = Fleet::unsettled(&per_node(), &["a", "b"]);
    let groups = [on("north", 1, 8), on("south", 9, 12), on("west", 13, 18)];
    fleet.state.discovered("web", 0, Found::all(&groups));
    fleet.scraper("a").node = "north".to_owned();
    fleet.scraper("b").node = "south".to_owned();
    fleet.run(10_000);
    let before = fleet.shares();
    assert!(before["a"].is_superset(&addresses(1, 8)), "{before:?}");
    assert!(before["b"].is_superset(&addresses(9, 12)), "{before:?}");
    assert!(before["a"].len() > 8 && before["b"].len() > 4, "both have some of the west: {before:?}");

    fleet.join("c");
    fleet.scraper("c").node = "west".to_owned();
    fleet.run(2_000);
    assert!(fleet.state.moves().next().is_some(), "it takes over, it does not just take");
    fleet.settle();
    let after = fleet.shares();
    assert_eq!((&after["a"], &after["b"]), (&addresses(1, 8), &addresses(9, 12)));
    assert_eq!(after["c"], addresses(13, 18));
}

#[test]
fn a_reload_changes_the_strategy_of_a_running_fleet() {
    let mut by_load = per_node();
    by_load.allocator.strategy = Strategy::ConsistentHashing;
    let mut fleet = Fleet::unsettled(&by_load, &["a", "b"]);
    let groups = [on("north", 1, 20), on("south", 21, 24)];
    fleet.state.discovered("web", 0, Found::all(&groups));
    fleet.scraper("a").node = "north".to_owned();
    fleet.scraper("b").node = "south".to_owned();
    fleet.run(10_000);
    assert!(fleet.shares().values().all(|share| (11..=13).contains(&share.len())));
    fleet.state.apply_config(&per_node());
    // The file has other targets than the source that the test plays.
    fleet.state.discovered("web", 0, Found::all(&groups));
    fleet.settle();
    fleet.settle();
    let shares = fleet.shares();
    assert_eq!((&shares["a"], &shares["b"]), (&addresses(1, 20), &addresses(21, 24)));
}

#[test]
fn a_target_that_is_on_another_node_goes_to_the_scraper_there_though_its_labels_are_the_same() {
    let mut fleet = Fleet::unsettled(&per_node(), &["a", "b"]);
    fleet.state.discovered("web", 0, Found::all(&north_and_south(20, 40)));
    fleet.scraper("a").node = "north".to_owned();
    fleet.scraper("b").node = "south".to_owned();
    fleet.run(10_000);
    fleet.settle();
    assert_eq!(fleet.shares()["a"], addresses(1, 20));
    fleet.state.discovered("web", 0, Found::all(&north_and_south(12, 40)));
    fleet.run(2_000);
    assert!(fleet.state.moves().next().is_some(), "they are handed over");
    fleet.settle();
    let shares = fleet.shares();
    assert_eq!((&shares["a"], &shares["b"]), (&addresses(1, 12), &addresses(13, 40)));
    assert_eq!(handover::reasons(&fleet), [(Reason::Rebalance, 8)]);
}

/// Each target is told of by itself, so that what tells of it says something else later: the first so many on one node, the others
/// on another.
fn north_and_south(north: usize, all: usize) -> Vec<TargetGroup> {
    let node = |n| if n <= north { "north" } else { "south" };
    (1..=all).map(|n| TargetGroup { source: format!("t:{n}"), ..on(node(n), n, n) }).collect()
}

/// One scraper of the north and two of the south, one of which has more to carry, but not so much that anything moves; and nothing
/// does for weight.
fn uneven() -> Fleet {
    let mut off = per_node();
    off.allocator.rebalance_moves_per_minute = 0;
    let mut fleet = Fleet::unsettled(&off, &["a", "b", "c"]);
    fleet.state.discovered("web", 0, Found::all(&north_and_south(20, 60)));
    for (name, node) in [("a", "north"), ("b", "south"), ("c", "south")] {
        fleet.scraper(name).node = node.to_owned();
    }
    fleet.run(10_000);
    for address in &fleet.shares()["b"].clone() {
        for scraper in fleet.scrapers.values_mut() {
            scraper.samples.insert(address.clone(), Some(1_000));
        }
    }
    fleet.run(90_000);
    assert_eq!(handover::reasons(&fleet), []);
    fleet
}

fn differences(fleet: &mut Fleet, before: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let after = fleet.shares();
    let mut moved = BTreeSet::new();
    for (name, share) in before {
        moved.extend(after[name].symmetric_difference(share).cloned());
    }
    moved
}

/// One target of the north is on the southern node now, which somebody has acted on after so long.
fn assert_one_alone_moves(fleet: &mut Fleet, before: &BTreeMap<String, BTreeSet<String>>, time_ms: i64) {
    fleet.state.discovered("web", 0, Found::all(&north_and_south(19, 60)));
    fleet.run(time_ms);
    fleet.settle();
    assert_eq!(differences(fleet, before), addresses(20, 20));
    assert_eq!(fleet.books().values().sum::<usize>(), 60);
    assert_eq!(handover::reasons(fleet), [(Reason::Rebalance, 1)]);
}

#[test]
fn a_target_that_is_on_another_node_moves_nothing_else_neither_there_nor_in_the_books() {
    let mut fleet = uneven();
    let before = fleet.shares();
    assert_one_alone_moves(&mut fleet, &before, 2_000);
}

#[test]
fn a_target_that_is_on_another_node_since_another_allocator_led_moves_nothing_else() {
    let mut fleet = uneven();
    let before = fleet.shares();
    fleet.restart_allocator();
    assert_one_alone_moves(&mut fleet, &before, 20_000);
}

#[test]
fn targets_that_were_away_and_are_back_on_another_node_are_handed_over_for_a_reason() {
    let mut fleet = Fleet::unsettled(&per_node(), &["a", "b"]);
    fleet.state.discovered("web", 0, Found::all(&north_and_south(20, 40)));
    fleet.scraper("a").node = "north".to_owned();
    fleet.scraper("b").node = "south".to_owned();
    fleet.run(10_000);
    let mut away = north_and_south(20, 40);
    away.drain(12..20).for_each(drop);
    fleet.state.discovered("web", 0, Found::all(&away));
    fleet.run(3_000);
    fleet.state.discovered("web", 0, Found::all(&north_and_south(12, 40)));
    fleet.run(2_000);
    assert!(fleet.state.moves().next().is_some(), "they are handed over");
    fleet.settle();
    assert_eq!(fleet.shares()["b"], addresses(13, 40));
    assert_eq!(handover::reasons(&fleet), [(Reason::Rebalance, 8)]);
}

/// Who has each address.
fn owners(fleet: &mut Fleet) -> BTreeMap<String, String> {
    let shares = fleet.shares();
    shares
        .into_iter()
        .flat_map(|(name, share)| share.into_iter().map(move |address| (address, name.clone())))
        .collect()
}

/// Targets by the nodes that they are on, told of one by one; nobody is on the last node.
fn told_of(nodes: &[usize]) -> Vec<TargetGroup> {
    let group = |(n, node): (usize, &usize)| TargetGroup {
        source: format!("t:{n}"),
        ..on(&format!("n{node}"), n, n)
    };
    nodes.iter().enumerate().map(group).collect()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]

    #[test]
    fn through_any_history_the_books_say_who_has_what_and_every_move_counts_once(
        steps in proptest::collection::vec((0..6_u8, 0..1_000_usize), 1..8),
    ) {
        let mut off = per_node();
        off.allocator.rebalance_moves_per_minute = 0;
        let mut fleet = Fleet::unsettled(&off, &["s0", "s1", "s2", "s3"]);
        for (at, scraper) in fleet.scrapers.values_mut().enumerate() {
            scraper.node = format!("n{}", at % 3);
        }
        let mut nodes: Vec<usize> = (0..40).map(|n| n % 4).collect();
        fleet.state.discovered("web", 0, Found::all(&told_of(&nodes)));
        fleet.run(10_000);
        let mut next = 4;
        for (step, by) in steps {
            let before = owners(&mut fleet);
            let mut counted: u64 = handover::reasons(&fleet).iter().map(|(_, moves)| moves).sum();
            let names: Vec<String> = fleet.scrapers.keys().cloned().collect();
            let name = names[by % names.len()].clone();
            let lacks = fleet.scrapers.values().any(|scraper| !scraper.lacks.is_empty());
            let some: Vec<usize> = (0..40).filter(|n| (n * 7 + by) % 5 == 0).collect();
            let now_ms = fleet.now_ms;
            match step {
                0 => {
                    some.iter().for_each(|n| nodes[*n] = (nodes[*n] + by) % 4);
                    fleet.state.discovered("web", 0, Found::all(&told_of(&nodes)));
                }
                1 => {
                    let mut left = told_of(&nodes);
                    left.retain(|group| some.iter().all(|n| group.source != format!("t:{n}")));
                    fleet.state.discovered("web", 0, Found::all(&left));
                    fleet.run(3_000);
                    some.iter().for_each(|n| nodes[*n] = (nodes[*n] + by) % 4);
                    fleet.state.discovered("web", 0, Found::all(&told_of(&nodes)));
                }
                2 if names.len() < 7 => {
                    let joins = format!("s{next}");
                    next += 1;
                    fleet.join(&joins);
                    fleet.scraper(&joins).node = format!("n{}", by % 3);
                }
                3 if names.len() > 2 => fleet.scraper(&name).member.drain(now_ms),
                4 if !lacks => {
                    fleet.restart_allocator();
                    fleet.state.discovered("web", 0, Found::all(&told_of(&nodes)));
                    counted = 0;
                    fleet.run(20_000);
                }
                5 => {
                    let of_it = &mut fleet.scraper(&name).lacks;
                    if of_it.is_empty() { of_it.push("web".to_owned()) } else { of_it.clear() }
                    fleet.run(36_000);
                }
                _ => {}
            }
            fleet.run(4_000);
            fleet.settle();
            if step == 3 && names.len() > 2 {
                proptest::prop_assert!(fleet.scraper(&name).held.is_empty());
                fleet.scrapers.remove(&name);
                fleet.run(20_000);
            }
            fleet.books();
            let after = owners(&mut fleet);
            let moved = after.iter().filter(|(address, name)| before.get(*address) != Some(*name)).count() as u64;
            let reasons = handover::reasons(&fleet);
            let sum: u64 = reasons.iter().map(|(_, moves)| moves).sum();
            proptest::prop_assert_eq!(sum - counted, moved, "step {} by {}: {:?}", step, by, reasons);
        }
    }
}
