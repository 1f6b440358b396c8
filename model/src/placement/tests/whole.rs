//! Fresh placements, and changes of members.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_order_of_the_input_does_not_matter(
        targets in targets(0..300), scrapers in 1..20_usize, turn in 0..300_usize,
    ) {
        let scrapers = names(scrapers);
        let placed = fresh(&targets, &scrapers);
        let (mut turned, mut reversed) = (targets.clone(), scrapers.clone());
        turned.rotate_left(turn.min(targets.len()));
        turned.reverse();
        reversed.reverse();
        let other = fresh(&turned, &reversed).by_key(&turned);
        for (&(key, _), &owner) in targets.iter().zip(&placed.owners) {
            prop_assert_eq!(&scrapers[owner as usize], &reversed[other[&key].scraper]);
        }
    }

    #[test]
    fn every_change_of_members_leaves_every_target_an_owner_within_the_bound(
        targets in targets(0..400), sizes in vec(1..40_usize, 1..5),
    ) {
        let mut scrapers = names(sizes[0]);
        let mut placed = fresh(&targets, &scrapers);
        within_bound(&placed, scrapers.len())?;
        for (round, &size) in sizes.iter().enumerate() {
            // Some stay, some go, some come.
            let next: Vec<String> = names(size + round).split_off(round.min(size));
            placed = again(&targets, &next, &placed.by_key(&targets), &scrapers);
            within_bound(&placed, next.len())?;
            scrapers = next;
        }
    }

    #[test]
    fn solving_twice_changes_nothing(targets in targets(0..400), sizes in vec(1..40_usize, 1..4)) {
        let mut scrapers = names(sizes[0]);
        let mut placed = fresh(&targets, &scrapers);
        for &size in &sizes {
            let next = names(size);
            placed = again(&targets, &next, &placed.by_key(&targets), &scrapers);
            prop_assert_eq!(&placed, &again(&targets, &next, &placed.by_key(&targets), &next));
            scrapers = next;
        }
    }

    #[test]
    fn through_any_history_joining_and_leaving_move_few_targets(
        count in prop_oneof![0..60_u64, 0..1_500_u64], zipf: bool, start in 1..40_usize, steps in vec(any::<(bool, u16)>(), 1..8),
    ) {
        let targets = typical(count, zipf);
        let mut scrapers = names(start);
        let mut placed = fresh(&targets, &scrapers);
        for (step, (joins, pick)) in steps.into_iter().enumerate() {
            let mut next = scrapers.clone();
            let gone = usize::from(pick) % scrapers.len();
            let allowed = if joins || scrapers.len() == 1 {
                next.push(format!("newcomer-{step}"));
                count as f64 * 1.15 / next.len() as f64
            } else {
                next.remove(gone);
                let own = placed.owners.iter().filter(|&&owner| owner as usize == gone).count();
                own as f64 + 0.03 * count as f64
            };
            let after = again(&targets, &next, &placed.by_key(&targets), &scrapers);
            let moved = moves((&scrapers, &placed), (&next, &after));
            prop_assert!(moved as f64 <= allowed, "{} -> {}: {moved} of {allowed}", scrapers.len(), next.len());
            (scrapers, placed) = (next, after);
        }
    }
}

proptest! {
    // Large inputs, of which few are enough: what goes wrong by size goes wrong nearly always.
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn twenty_thousand_targets_on_two_hundred_scrapers_keep_the_bound(
        targets in targets(15_000..20_000), scrapers in 100..200_usize,
    ) {
        let (before, after) = (names(scrapers), names(scrapers + 1));
        let placed = fresh(&targets, &before);
        within_bound(&placed, before.len())?;
        let joined = again(&targets, &after, &placed.by_key(&targets), &before);
        within_bound(&joined, after.len())?;
        within_bound(&again(&targets, &before, &joined.by_key(&targets), &after), before.len())?;
    }

    #[test]
    fn light_targets_are_spread_within_five_percent(count in 10_000..20_000_u64, scrapers in 1..90_usize) {
        // No target exceeds 1% of the mean, so that `within_bound` allows no more than c x mean.
        let targets = typical(count, false);
        let (before, after) = (names(scrapers), names(scrapers + 1));
        let placed = fresh(&targets, &before);
        within_bound(&placed, before.len())?;
        let joined = again(&targets, &after, &placed.by_key(&targets), &before);
        within_bound(&joined, after.len())?;
        let moved = moves((&before, &placed), (&after, &joined)) as f64;
        prop_assert!(moved <= 1.15 * count as f64 / after.len() as f64, "{moved} moved");
    }
}

#[test]
fn a_new_scraper_takes_its_share_and_a_leaving_one_leaves_the_rest_alone() {
    for zipf in [false, true] {
        let targets = typical(10_000, zipf);
        let (ten, eleven) = (names(10), names(11));
        let before = fresh(&targets, &ten);
        let held = before.by_key(&targets);
        let joined = again(&targets, &eleven, &held, &ten);
        let moved = moves((&ten, &before), (&eleven, &joined));
        assert!(moved <= 10_000 * 115 / 1_100, "zipf {zipf}: {moved} moved");
        let newcomer = loads(&joined, 11)[10];
        let mean = joined.weights.iter().sum::<f64>() / 11.0;
        assert!(newcomer > 0.95 * mean, "zipf {zipf}: the newcomer has {newcomer} of {mean}");
        for gone in 0..10 {
            let nine: Vec<String> = (0..10).filter(|&n| n != gone).map(|n| ten[n].clone()).collect();
            let left = again(&targets, &nine, &held, &ten);
            let own = before.owners.iter().filter(|&&owner| owner as usize == gone).count();
            let moved = moves((&ten, &before), (&nine, &left));
            assert!(moved <= own + 300, "zipf {zipf}: {moved} moved, {own} had to");
        }
    }
}

#[test]
fn a_replaced_scraper_hands_its_targets_to_its_successor() {
    let targets = typical(10_000, false);
    let (old, mut new) = (names(10), names(10));
    new[4] = "successor".to_owned();
    let before = fresh(&targets, &old);
    let after = again(&targets, &new, &before.by_key(&targets), &old);
    assert_eq!(moves((&old, &before), (&new, &after)), 1_000);
    assert_eq!(loads(&after, 10), [1_000.0; 10]);
}

#[test]
fn a_scraper_with_a_target_heavier_than_the_mean_gets_nothing_else() {
    let mut targets = typical(1_000, false);
    targets[17].1 = 500.0;
    let placed = fresh(&targets, &names(10));
    let owner = placed.owners[17];
    assert_eq!(placed.owners.iter().filter(|&&other| other == owner).count(), 1);
    for (scraper, load) in loads(&placed, 10).into_iter().enumerate().filter(|&(n, _)| n != owner as usize) {
        assert_eq!(load, 111.0, "{scraper}");
    }
}

#[test]
fn without_scrapers_nobody_owns_anything_and_without_targets_there_is_nothing_to_own() {
    assert_eq!(fresh(&typical(10, false), &[]), Placement::default());
    assert_eq!(fresh(&Vec::new(), &names(3)), Placement::default());
}

#[test]
fn living_targets_with_one_key_share_the_owner_and_count_together() {
    let mut targets = typical(100, false);
    targets.extend([(key(7), 30.0), (key(7), f64::NAN)]);
    let placed = fresh(&targets, &names(5));
    let [first, second, third] = [7, 100, 101].map(|at| (placed.owners[at], placed.weights[at]));
    assert_eq!(first, second);
    assert_eq!(first, third);
    assert_eq!(first.1, 1.0 + 30.0 + PlacementOptions::default().weight_default);
}

#[test]
fn a_scraper_named_twice_counts_once() {
    let targets = typical(1_000, false);
    let mut twice = names(4);
    twice.extend(names(4));
    assert_eq!(fresh(&targets, &twice), fresh(&targets, &names(4)));
}

#[test]
fn a_fresh_placement_is_pinned_so_that_no_upgrade_moves_targets() {
    let placed = fresh(&typical(2_000, true), &names(7));
    let owners: Vec<u8> = placed.owners.iter().map(|&owner| owner as u8).collect();
    assert_eq!(hash64(&owners), 17_472_110_776_655_104_170);
}

#[test]
fn an_owner_that_never_was_counts_as_none() {
    let (targets, scrapers) = (typical(50, false), names(3));
    let previous = Previous { scrapers: &scrapers, held: &|_| Some(Held { scraper: 99, weight: f64::NAN }) };
    let placed = place(&targets, &scrapers, Some(&previous), &PlacementOptions::default());
    assert!(loads(&placed, 3).iter().all(|&load| load >= 16.0), "{placed:?}");
}
