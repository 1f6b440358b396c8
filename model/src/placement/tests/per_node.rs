//! Placement by node: who is near takes, and what happens elsewhere moves nobody.

use std::collections::BTreeSet;

use super::*;

const NODES: [&str; 6] = ["n0", "n1", "n2", "n3", "n4", "n5"];

fn node() -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![1 => Just(None), 6 => proptest::sample::select(&NODES[..]).prop_map(Some)]
}

/// Targets on nodes; some keys stand on several.
fn located() -> impl Strategy<Value = Vec<NodeTarget<'static>>> {
    let located = |(weights, nodes, doubles): (Targets, Vec<Option<&'static str>>, Vec<bool>)| {
        let mut targets: Vec<NodeTarget<'static>> = Vec::new();
        for ((&(key, weight), node), double) in weights.iter().zip(nodes).zip(doubles) {
            let key = targets.last().filter(|_| double).map_or(key, |last| last.0);
            targets.push((key, weight, node));
        }
        targets
    };
    (targets(0..300), vec(node(), 300), vec(prop::bool::weighted(0.05), 300)).prop_map(located)
}

fn scrapers(names: &[String], nodes: &[Option<&'static str>]) -> Vec<(String, Option<&'static str>)> {
    names.iter().cloned().zip(nodes.iter().copied()).collect()
}

type Scrapers = [(String, Option<&'static str>)];

fn spread(
    targets: &[NodeTarget<'_>],
    scrapers: &Scrapers,
    before: Option<(&Placement, &Scrapers)>,
) -> Placement {
    spread_by(&PlacementOptions::default(), targets, scrapers, before)
}

fn spread_by(
    options: &PlacementOptions,
    targets: &[NodeTarget<'_>],
    scrapers: &Scrapers,
    before: Option<(&Placement, &Scrapers)>,
) -> Placement {
    let now: Vec<NodeScraper<'_>> = scrapers.iter().map(|(name, node)| (name.as_str(), *node)).collect();
    let Some((placement, old)) = before else {
        return place_per_node(targets, &now, None, options);
    };
    let keys: Targets = targets.iter().map(|&(key, weight, _)| (key, weight)).collect();
    let held = placement.by_key(&keys);
    let old: Vec<NodeScraper<'_>> = old.iter().map(|(name, node)| (name.as_str(), *node)).collect();
    let previous = NodePrevious { scrapers: &old, held: &|key| held.get(&key).copied() };
    place_per_node(targets, &now, Some(&previous), options)
}

/// The nodes of a key's targets that have a scraper.
fn homes_of(key: TargetKey, targets: &[NodeTarget<'static>], scrapers: &Scrapers) -> Vec<&'static str> {
    let served = |node: &&'static str| scrapers.iter().any(|(_, on)| on == &Some(*node));
    targets.iter().filter(|target| target.0 == key).filter_map(|target| target.2).filter(served).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn who_is_on_a_targets_node_takes_it_and_others_take_what_nobody_is_near_to(
        targets in located(), nodes in vec(node(), 1..12),
    ) {
        let scrapers = scrapers(&names(nodes.len()), &nodes);
        let placed = spread(&targets, &scrapers, None);
        prop_assert_eq!(placed.owners.len(), targets.len());
        let mut owners = HashMap::new();
        for (&(key, ..), &owner) in targets.iter().zip(&placed.owners) {
            prop_assert!((owner as usize) < scrapers.len());
            prop_assert_eq!(*owners.entry(key).or_insert(owner), owner, "one key, two owners");
            let homes = homes_of(key, &targets, &scrapers);
            let on = scrapers[owner as usize].1;
            prop_assert!(homes.is_empty() || on.is_some_and(|on| homes.contains(&on)));
        }
    }

    #[test]
    fn the_order_of_targets_and_scrapers_does_not_matter(
        targets in located(), nodes in vec(node(), 1..12), by in any::<prop::sample::Index>(),
    ) {
        let scrapers = scrapers(&names(nodes.len()), &nodes);
        let (mut turned, mut turned_scrapers) = (targets.clone(), scrapers.clone());
        if !turned.is_empty() {
            let middle = by.index(turned.len());
            turned.rotate_left(middle);
        }
        turned_scrapers.reverse();
        let owners = |targets: &[NodeTarget<'_>], scrapers: &Scrapers| -> HashMap<TargetKey, String> {
            let placed = spread(targets, scrapers, None);
            let named = placed.owners.iter().map(|&owner| scrapers[owner as usize].0.clone());
            targets.iter().map(|target| target.0).zip(named).collect()
        };
        prop_assert_eq!(owners(&targets, &scrapers), owners(&turned, &turned_scrapers));
    }

    #[test]
    fn what_changes_on_one_node_moves_nothing_that_is_at_home_on_another(
        targets in located(), nodes in vec(node(), 2..12), joins in proptest::sample::select(&NODES[..]),
    ) {
        let (fewer, last) = nodes.split_at(nodes.len() - 1);
        let before = scrapers(&names(fewer.len()), fewer);
        let last = last[0].or(Some(joins));
        let mut after = before.clone();
        after.push(("joins".to_owned(), last));
        for (old, new) in [(&before, &after), (&after, &before)] {
            let placed = spread(&targets, old, None);
            let again = spread(&targets, old, Some((&placed, old)));
            prop_assert_eq!(&placed, &again, "solving twice changes nothing");
            let changed = spread(&targets, new, Some((&placed, old)));
            // A key with targets on several nodes may go from one to another: then both have another load.
            let home = |key, scrapers| homes_of(key, &targets, scrapers).into_iter().min();
            let homes = targets.iter().map(|&(key, ..)| (home(key, old), home(key, new)));
            let touched: BTreeSet<&str> =
                homes.filter(|(was, is)| was != is).flat_map(|(was, is)| [was, is]).flatten().collect();
            for ((&(key, ..), &was), &is) in targets.iter().zip(&placed.owners).zip(&changed.owners) {
                let (old_homes, new_homes) = (homes_of(key, &targets, old), homes_of(key, &targets, new));
                let elsewhere = old_homes == new_homes
                    && !old_homes.contains(&last.unwrap())
                    && old_homes.iter().min().is_some_and(|home| !touched.contains(home));
                prop_assert!(!elsewhere || old[was as usize].0 == new[is as usize].0);
            }
        }
    }

    #[test]
    fn targets_that_change_their_node_move_nothing_else(
        weights in targets(1..300), nodes in vec(node(), 2..8), on in vec(node(), 300), anew in vec(node(), 300),
        change in vec(prop::bool::weighted(0.1), 300), measured in vec(0.0..20.0_f64, 300),
    ) {
        // Scrapers of one node are uneven by what was measured since.
        let scrapers = scrapers(&names(nodes.len()), &nodes);
        let before: Vec<NodeTarget<'_>> = weights.iter().zip(&on).map(|(&(key, weight), on)| (key, weight, *on)).collect();
        let placed = spread(&before, &scrapers, None);
        let rows = before.iter().zip(&anew).zip(change.iter().zip(&measured));
        let after: Vec<NodeTarget<'_>> = rows
            .map(|((&(key, _, on), anew), (change, measured))| (key, *measured, if *change { *anew } else { on }))
            .collect();
        let options = PlacementOptions { drift_moves_max: 0, ..PlacementOptions::default() };
        let owners = spread_by(&options, &after, &scrapers, Some((&placed, &scrapers))).owners;
        for (at, (was, is)) in placed.owners.iter().zip(&owners).enumerate() {
            prop_assert!(change[at] || was == is, "key {at} was with {was} and is with {is}");
        }
    }

    #[test]
    fn without_nodes_it_is_the_plain_placement(targets in targets(0..300), count in 1..12_usize) {
        let located: Vec<NodeTarget<'_>> = targets.iter().map(|&(key, weight)| (key, weight, Some("n0"))).collect();
        let names = names(count);
        let unknown = scrapers(&names, &vec![None; count]);
        prop_assert_eq!(spread(&located, &unknown, None), fresh(&targets, &names));
    }
}

#[test]
fn all_nodes_together_move_no_more_for_weight_than_allowed() {
    let nodes = [Some("n0"), Some("n0"), Some("n1"), Some("n1"), Some("n2"), Some("n2")];
    let names: Vec<String> = (0..nodes.len()).map(|at| format!("s{at}")).collect();
    let scrapers = scrapers(&names, &nodes);
    let even: Vec<NodeTarget<'_>> =
        (0..120).map(|at| (TargetKey(at * 7_919), 1.0, NODES.get(at as usize % 3).copied())).collect();
    let before = spread(&even, &scrapers, None);
    // One scraper of each node has become heavy.
    let heavy: Vec<NodeTarget<'_>> = even
        .iter()
        .zip(&before.owners)
        .map(|(&(key, _, node), owner)| (key, if owner % 2 == 0 { 20.0 } else { 1.0 }, node))
        .collect();
    let now: Vec<NodeScraper<'_>> = scrapers.iter().map(|(name, node)| (name.as_str(), *node)).collect();
    let keys: Targets = even.iter().map(|&(key, weight, _)| (key, weight)).collect();
    let held = before.by_key(&keys);
    let previous = NodePrevious { scrapers: &now, held: &|key| held.get(&key).copied() };
    let moved = |drift_moves_max: usize| {
        let options = PlacementOptions { drift_moves_max, ..PlacementOptions::default() };
        let after = place_per_node(&heavy, &now, Some(&previous), &options);
        before.owners.iter().zip(&after.owners).filter(|(before, after)| before != after).count()
    };
    assert_eq!([0, 1, 2, 5].map(moved), [0, 1, 2, 5]);
    assert!(moved(usize::MAX) > 5);
}
