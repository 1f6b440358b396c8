//! Single traces in the simulated world: one thing happens at one moment, whatever delays and clocks chance brings. The audit
//! of the whole world applies to each: no slot with two owners, no gap without a fault, samples in order at every receiver,
//! markers only of what is gone.

use std::collections::BTreeSet;

use promring_model::handover::{Leader, MoveId, Name, Step};
use promring_model::target::TargetKey;

use crate::audit::Totals;
use crate::chance::Chance;
use crate::queue::Queue;
use crate::world::{Mode, Place, STEP_MS, World};

/// Seeds that each trace is played with.
const SEEDS: u64 = 10;

/// What a trace waits for has to happen within this, in milliseconds.
const PATIENCE_MS: i64 = 120_000;

/// Until everything is at rest again, in milliseconds.
const REST_MS: i64 = 120_000;

/// The lapse, and what it may take until a loss is told, in milliseconds.
const LOSS_MS: i64 = 15_000 + 3_000;

struct Trace {
    world: World,
    seed: u64,
}

fn name(number: i64) -> Name {
    Name::from(format!("s{number}"))
}

/// Plays a trace with several seeds.
fn play(scrapers: i64, targets: i64, trace: impl Fn(Trace)) {
    (0..SEEDS).for_each(|seed| trace(Trace::new(seed, scrapers, targets)));
}

impl Trace {
    /// A world at rest, in which every target is scraped.
    fn new(seed: u64, scrapers: i64, targets: i64) -> Self {
        let mut chance = Chance::new(seed);
        let skews_ms = [(), ()].map(|()| chance.between(-250, 250));
        let mut world = World::empty(chance, Mode::Planned, false, skews_ms);
        (0..scrapers).for_each(|number| world.add_scraper(number));
        (0..targets).for_each(|number| world.add_target(number));
        Self { world, seed }.begun()
    }

    fn begun(mut self) -> Self {
        self.until("every target is scraped", |world| {
            world.targets.keys().all(|key| world.audit.scraper(*key).is_some())
        });
        self.pass(5_000);
        self
    }

    fn pass(&mut self, time_ms: i64) {
        let end_ms = self.world.now_ms + time_ms;
        while self.world.now_ms < end_ms {
            self.world.now_ms += STEP_MS;
            self.world.act();
        }
    }

    fn until(&mut self, what: &str, done: impl Fn(&World) -> bool) {
        let end_ms = self.world.now_ms + PATIENCE_MS;
        while !done(&self.world) {
            assert!(self.world.now_ms < end_ms, "seed {}: never happened: {what}", self.seed);
            self.pass(STEP_MS);
        }
    }

    /// Lets everything come to rest, and audits it.
    fn end(mut self) -> Totals {
        self.pass(REST_MS);
        self.world.finish()
    }

    /// The keys that a scraper has started last.
    fn keys_of(&self, scraper: &Name) -> BTreeSet<TargetKey> {
        let keys = self.world.targets.keys().copied();
        keys.filter(|key| self.world.audit.scraper(*key) == Some(scraper)).collect()
    }

    /// The keys that are a scraper's, as the leader has it.
    fn owned_by(&self, scraper: &Name) -> BTreeSet<TargetKey> {
        let keys = self.world.targets.keys().copied();
        keys.filter(|key| leader(&self.world).and_then(|leader| leader.owner(*key)) == Some(scraper))
            .collect()
    }

    /// Kills the allocator that leads. Nobody gives the Lease back.
    fn kill_leader(&mut self, down_ms: i64) {
        let Some(index) = self.world.lease.holder else { panic!("nobody leads") };
        self.world.allocators[index].step_down();
        self.world.allocators[index].down_until_ms = self.world.now_ms + down_ms;
    }

    /// Kills a scraper, which comes back after so long, or (None) never.
    fn kill(&mut self, scraper: &Name, back_ms: Option<i64>) {
        let Some(s) = self.world.scrapers.get_mut(scraper) else { panic!("there is no {scraper}") };
        s.stop();
        s.starts_ms = back_ms.map(|back_ms| self.world.now_ms + back_ms);
    }

    /// Slots that are missing, of these keys and of all others.
    fn missing(&self, keys: &BTreeSet<TargetKey>) -> (Vec<i64>, Vec<i64>) {
        let until_ms = self.world.now_ms - 5_000;
        let of = |own: bool| {
            let chosen = self.world.targets.keys().filter(|key| keys.contains(key) == own);
            chosen.flat_map(|key| self.world.audit.missing(*key, until_ms)).collect()
        };
        (of(true), of(false))
    }
}

fn leader(world: &World) -> Option<&Leader> {
    world.allocators.get(world.lease.holder?)?.leader.as_ref()
}

fn steps(world: &World) -> Vec<Step> {
    leader(world).map(|leader| leader.moves().map(|status| status.step).collect()).unwrap_or_default()
}

/// Whether a giver has agreed on a T of which its taker knows nothing.
fn agreed_and_untold(world: &World) -> bool {
    let members = || world.scrapers.values().filter_map(|scraper| scraper.member.as_ref());
    let is_told = |id: MoveId| {
        members().any(|member| member.taking().any(|(taken, _, from)| taken == id && from.is_some()))
    };
    let mut given = members().flat_map(|member| member.giving());
    given.any(|(id, at, _)| at > world.now_ms + 3_500 && !is_told(id))
}

#[test]
fn a_leader_killed_between_until_acknowledged_and_from() {
    play(2, 20, |mut trace| {
        trace.world.add_scraper(2);
        trace.until("a giver has agreed on T, and its taker does not know it", agreed_and_untold);
        trace.kill_leader(5_000);
        trace.pass(10_000);
        assert!(leader(&trace.world).is_none(), "nobody leads when T comes");
        assert!(!trace.keys_of(&name(2)).is_empty(), "the taker has asked the giver, and began at T");
        let totals = trace.end();
        assert!(totals.told_by_giver > 0 && totals.takeovers == 2, "{totals:?}");
        assert_eq!((totals.excused_gaps, totals.excused_duplicates, totals.keys_lost), (0, 0, 0));
    });
}

#[test]
fn a_leader_killed_in_the_midst_of_a_scale_out_leaves_the_rest_to_the_next() {
    // At any moment from the first move to the last fence.
    for after_ms in (0..15_000).step_by(1_500) {
        let mut trace = Trace::new(after_ms as u64, 2, 24);
        // Equal weights: a third of the targets is the third's share.
        trace.world.targets.values_mut().for_each(|target| target.weight = 50.0);
        trace.world.discovery += 1;
        trace.pass(60_000);
        trace.world.add_scraper(2);
        trace.until("a move begins", |world| !steps(world).is_empty());
        trace.pass(after_ms);
        trace.kill_leader(5_000);
        trace.pass(REST_MS);
        let share = trace.keys_of(&name(2)).len();
        assert!((6..=9).contains(&share), "killed after {after_ms} ms: {share} of 24");
        let totals = trace.end();
        assert_eq!((totals.excused_gaps, totals.excused_duplicates, totals.keys_lost), (0, 0, 0));
    }
}

/// A scale-in ends although some keys of the one that goes stay with it, and every other one is handed over.
fn scale_in(mut trace: Trace, staying: &BTreeSet<TargetKey>) {
    let others: BTreeSet<TargetKey> =
        trace.keys_of(&name(2)).into_iter().filter(|key| !staying.contains(key)).collect();
    assert!(!staying.is_empty() && !others.is_empty());
    trace.world.lacking_ms = Some((trace.world.now_ms, i64::MAX));
    let Some(s) = trace.world.scrapers.get_mut(&name(2)) else { panic!("there is no s2") };
    s.ending = Some(None);
    trace.until("the drain ends", |world| !world.scrapers[&name(2)].exists);
    // Until their new scrapers have begun a slot.
    trace.pass(15_000);
    assert_eq!(trace.missing(staying).1, Vec::<i64>::new(), "what is handed over has no gap");
    assert!(others.iter().all(|key| trace.world.audit.scraper(*key) != Some(&name(2))));
    trace.world.lack_nothing();
    trace.pass(LOSS_MS + 20_000);
    trace.end();
}

#[test]
fn a_scale_in_while_a_new_leader_lacks_a_source() {
    play(3, 24, |mut trace| {
        let unsynced: BTreeSet<TargetKey> = trace.keys_of(&name(2)).into_iter().take(2).collect();
        trace.world.unsynced.clone_from(&unsynced);
        trace.kill_leader(5_000);
        trace.pass(60_000);
        assert!(leader(&trace.world).is_some_and(Leader::is_leading));
        scale_in(trace, &unsynced);
    });
}

#[test]
fn a_scale_in_of_the_only_one_that_has_a_job() {
    play(3, 24, |mut trace| {
        let keys: BTreeSet<TargetKey> = trace.keys_of(&name(2)).into_iter().take(2).collect();
        for number in 0..2 {
            let s = trace.world.scrapers.get_mut(&name(number)).unwrap();
            s.set_lacking(keys.clone());
        }
        scale_in(trace, &keys);
    });
}

#[test]
fn a_path_annotation_changed_while_its_target_moves() {
    for step in Step::ALL {
        play(2, 12, |mut trace| {
            if step == Step::Fence {
                // Otherwise everything is sent when T is past.
                trace.world.faults.slow(0, trace.world.now_ms + 40_000, 0);
            }
            trace.world.add_scraper(2);
            trace.until("a move is as far", |world| steps(world).contains(&step));
            let keys: Vec<TargetKey> = trace.world.targets.keys().copied().collect();
            let index = trace.world.lease.holder.unwrap();
            let leader = trace.world.allocators[index].leader.as_mut().unwrap();
            for key in keys {
                leader.renew(key);
            }
            let totals = trace.end();
            assert!(totals.moves_done > 0, "{step:?}: {totals:?}");
            assert_eq!((totals.excused_gaps, totals.excused_duplicates, totals.markers), (0, 0, 0));
        });
    }
}

#[test]
fn a_destination_dead_for_ten_minutes_during_a_rebalance() {
    const DEAD_MS: i64 = 600_000;
    play(3, 16, |mut trace| {
        let until_ms = trace.world.now_ms + DEAD_MS;
        trace.world.faults.slow(0, until_ms, 0);
        trace.pass(30_000);
        // What one scraper has becomes heavy.
        let heavy = trace.keys_of(&name(0));
        for (key, target) in &mut trace.world.targets {
            target.weight = if heavy.contains(key) { 100.0 } else { 1.0 };
        }
        trace.world.discovery += 1;
        trace.pass(60_000);
        let moved: Vec<TargetKey> = heavy.difference(&trace.keys_of(&name(0))).copied().collect();
        assert!(!moved.is_empty(), "nobody waits for a destination that is dead");
        assert!(steps(&trace.world).contains(&Step::Fence), "its fence stays closed");
        // The other destination gets everything all the time.
        trace.pass(until_ms - trace.world.now_ms - 1_000);
        for key in &moved {
            let newest = |destination| trace.world.audit.newest(destination, *key).unwrap_or(0);
            assert!(newest(1) > trace.world.now_ms - 15_000 && newest(0) < until_ms - DEAD_MS + 5_000);
        }
        let totals = trace.end();
        assert!(totals.moves_done > 0, "{totals:?}");
        assert_eq!((totals.excused_gaps, totals.excused_duplicates), (0, 0));
        // But for what is under way, everything arrives at both.
        assert!(2 * totals.slots - totals.received <= 2 * 16, "{totals:?}");
    });
}

#[test]
fn a_scraper_killed_and_back_in_three_seconds() {
    play(3, 18, |mut trace| {
        let (own, killed_ms) = (trace.keys_of(&name(1)), trace.world.now_ms);
        assert!(!own.is_empty());
        trace.kill(&name(1), Some(3_000));
        trace.world.audit.fault(&name(1), killed_ms, killed_ms + 3_000);
        trace.pass(30_000);
        assert_eq!(trace.keys_of(&name(1)), own, "nothing moves");
        let (of_own, of_others) = trace.missing(&own);
        assert!(of_others.is_empty(), "{of_others:?}");
        // Down for three seconds, and until an allocator has said that it still has them.
        let window = killed_ms - 500..killed_ms + 5_000;
        assert!(!of_own.is_empty() && of_own.iter().all(|slot| window.contains(slot)), "{of_own:?}");
        let totals = trace.end();
        assert_eq!((totals.moves_done, totals.keys_lost, totals.excused_duplicates), (0, 0, 0));
    });
}

#[test]
fn a_scale_out_of_overloaded_scrapers() {
    for seed in 0..3 {
        let mut trace = Trace::new(seed, 2, 260);
        // More than the destinations take.
        let slow_ms = trace.world.now_ms + 120_000;
        trace.world.faults.slow(0, slow_ms, 1);
        trace.world.faults.slow(1, slow_ms, 1);
        trace.until("both have much to send", |world| {
            let is_late =
                |queue: &Queue| queue.oldest_ms().is_some_and(|oldest_ms| world.now_ms - oldest_ms > 12_000);
            world.scrapers.values().all(|scraper| scraper.queues.iter().any(is_late))
        });
        trace.world.add_scraper(2);
        trace.pass(20_000);
        let waiting = steps(&trace.world);
        assert!(!waiting.is_empty() && waiting.iter().all(|step| *step == Step::Prepare), "{waiting:?}");
        // No longer than `fence_max`: a fleet that is overloaded for good needs the newcomer most.
        trace.pass(40_000);
        assert!(!trace.keys_of(&name(2)).is_empty());
        let totals = trace.end();
        assert!(totals.moves_done > 0, "{totals:?}");
        assert_eq!((totals.excused_gaps, totals.excused_duplicates), (0, 0));
    }
}

#[test]
fn the_last_scraper_deleted() {
    for successor in [0, 1] {
        play(1, 8, |mut trace| {
            trace.world.scrapers.get_mut(&name(0)).unwrap().ending = Some(None);
            trace.until("it ends, as nobody would take over", |world| !world.scrapers[&name(0)].exists);
            trace.pass(20_000);
            let began_ms = trace.world.now_ms;
            if successor == 0 {
                // Its ordinal is wanted again, and has its volume.
                let s = trace.world.scrapers.get_mut(&name(0)).unwrap();
                (s.exists, s.starts_ms) = (true, Some(began_ms));
            } else {
                trace.world.add_scraper(1);
            }
            trace.pass(30_000);
            assert_eq!(trace.keys_of(&name(successor)).len(), 8);
            let (missing, _) = trace.missing(&trace.world.targets.keys().copied().collect());
            assert!(missing.iter().all(|slot| *slot < began_ms + LOSS_MS), "{missing:?}");
            let totals = trace.end();
            assert_eq!((totals.excused_duplicates, totals.markers), (0, 0));
        });
    }
}

#[test]
fn a_new_owner_lost_after_t() {
    play(2, 16, |mut trace| {
        // The giver cannot send for a while, so that the fence stays closed.
        let away_ms = trace.world.now_ms + 60_000;
        trace.world.faults.slow(0, away_ms, 0);
        trace.world.add_scraper(2);
        trace.until("the new one scrapes", |world| {
            world.targets.keys().any(|key| world.audit.scraper(*key) == Some(&name(2)))
        });
        trace.pass(2_000);
        let (own, killed_ms) = (trace.owned_by(&name(2)), trace.world.now_ms);
        trace.kill(&name(2), None);
        trace.world.audit.fault(&name(2), killed_ms, killed_ms + LOSS_MS);
        trace.pass(LOSS_MS + 5_000);
        assert!(trace.keys_of(&name(2)).is_empty(), "others have them");
        let (of_own, of_others) = trace.missing(&own);
        assert!(of_others.is_empty(), "{of_others:?}");
        let window = killed_ms - 500..killed_ms + LOSS_MS;
        assert!(!of_own.is_empty() && of_own.iter().all(|slot| window.contains(slot)), "{of_own:?}");
        // Its volume comes back, with what it had fenced.
        let now_ms = trace.world.now_ms;
        trace.world.scrapers.get_mut(&name(2)).unwrap().starts_ms = Some(now_ms);
        let totals = trace.end();
        assert_eq!(totals.excused_duplicates, 0);
        // But for the scrapes that it had under way, and those that are at the end, everything arrives.
        let lost = 2 * totals.slots - totals.received;
        assert!(lost <= 2 * (own.len() as u64 + 16), "{totals:?}");
    });
}

#[test]
fn clocks_half_a_second_apart() {
    for (seed, allocator_ms) in [(0, 250), (1, -250), (2, 0)] {
        let skews_ms = [allocator_ms, -allocator_ms];
        let mut world = World::empty(Chance::new(seed), Mode::Planned, false, skews_ms);
        (0..4).for_each(|number| world.add_skewed_scraper(number, if number % 2 == 0 { 250 } else { -250 }));
        (0..24).for_each(|number| world.add_target(number));
        let mut trace = Trace { world, seed }.begun();
        trace.world.add_skewed_scraper(4, -250);
        trace.pass(40_000);
        assert!(!trace.keys_of(&name(4)).is_empty());
        // One drains for good, one restarts, and the leader with it.
        trace.world.scrapers.get_mut(&name(0)).unwrap().ending = Some(None);
        trace.world.scrapers.get_mut(&name(1)).unwrap().ending = Some(Some(3_000));
        trace.pass(5_000);
        let holder = trace.world.lease.holder.unwrap();
        trace.world.retire(holder);
        trace.pass(60_000);
        assert!(trace.keys_of(&name(0)).is_empty() && !trace.keys_of(&name(1)).is_empty());
        let totals = trace.end();
        assert!(totals.moves_done > 5, "{totals:?}");
        assert_eq!((totals.excused_gaps, totals.excused_duplicates, totals.keys_lost), (0, 0, 0));
    }
}

#[test]
fn an_allocator_cut_off_from_everybody_for_a_minute() {
    // At rest, and at any moment of a scale-out.
    for after_ms in [None].into_iter().chain((0..12_000).step_by(1_000).map(Some)) {
        let mut trace = Trace::new(7 + after_ms.unwrap_or(0) as u64, 2, 20);
        let before = trace.keys_of(&name(0));
        if let Some(after_ms) = after_ms {
            trace.world.add_scraper(2);
            trace.until("a move begins", |world| !steps(world).is_empty());
            trace.pass(after_ms);
        }
        let until_ms = trace.world.now_ms + 60_000;
        let names: Vec<Name> = trace.world.scrapers.keys().cloned().collect();
        for (index, name) in [0, 1].into_iter().flat_map(|index| names.iter().map(move |name| (index, name)))
        {
            trace.world.faults.cut(Place::Allocator(index), Place::Scraper(name.clone()), until_ms);
        }
        trace.pass(70_000);
        if after_ms.is_none() {
            assert_eq!(trace.keys_of(&name(0)), before, "nothing moves");
        }
        let totals = trace.end();
        assert_eq!(
            (totals.excused_gaps, totals.excused_duplicates, totals.keys_lost),
            (0, 0, 0),
            "{after_ms:?}"
        );
    }
}
