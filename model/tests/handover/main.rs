//! The hand-over simulated: the product's own state machines in simulated time, under faults. See README.md here.
//!
//! `PROMRING_SIM_RUNS=20000` simulates more, `PROMRING_SIM_SEED=…` replays one run, with a log on standard error where
//! `PROMRING_SIM_LOG=1`.

#![expect(
    clippy::panic,
    clippy::print_stderr,
    reason = "a failing run names its seed, and a replayed one is told of"
)]

mod allocator;
mod audit;
mod chance;
mod faults;
mod queue;
mod scraper;
mod traces;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::{Mode, World};

/// Runs of each mode when nothing else is said: a few seconds' worth.
const RUNS: u64 = 20;

/// Seeds that found something once, after some thousand others.
const FOUND: [u64; 16] = [
    334, 1_772, 1_804, 1_880, 200_297, 201_664, 203_207, 204_767, 205_096, 209_539, 213_202, 213_999,
    310_429, 311_131, 322_028, 322_564,
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn simulate(mode: Mode) {
    let seeds: Vec<u64> = match number("PROMRING_SIM_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("PROMRING_SIM_RUNS").unwrap_or(RUNS)).chain(FOUND).collect(),
    };
    let log = std::env::var("PROMRING_SIM_LOG").is_ok();
    let mut totals = audit::Totals::default();
    for seed in &seeds {
        let run = catch_unwind(AssertUnwindSafe(|| World::new(*seed, mode, log).run()));
        match run {
            Ok(total) => totals.add(&total),
            Err(cause) => {
                let text = cause.downcast_ref::<String>().cloned().unwrap_or_default();
                panic!("PROMRING_SIM_SEED={seed} in mode {mode:?}: {text}");
            }
        }
    }
    eprintln!("{mode:?}: {} runs, {totals:?}", seeds.len());
    if seeds.len() >= RUNS as usize {
        totals.check(mode, seeds.len() as u64);
    }
}

#[test]
fn planned_changes_leave_no_gap_no_duplicate_and_the_order_as_it_was() {
    simulate(Mode::Planned);
}

#[test]
fn lost_late_and_reordered_messages_give_no_slot_two_owners() {
    simulate(Mode::Lossy);
}

#[test]
fn after_any_fault_every_key_has_one_owner_again() {
    simulate(Mode::Chaos);
}
