//! Prints the table of placement's README, and holds two durations against their goals: a million targets on a
//! thousand scrapers placed from nothing, and one change of one target there (99 of 100). Ends with 1 when a goal
//! is missed.
//!
//! `cargo bench -p promring-model --bench placement`; with `-- quick` without the table's million targets.
#![allow(clippy::print_stdout, missing_docs)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use promring_model::hash::hash64;
use promring_model::placement::{Change, Placement, PlacementOptions, Placer, Previous, place};
use promring_model::target::TargetKey;

const FROM_NOTHING_MAX: Duration = Duration::from_secs(1);
const ONE_CHANGE_MAX: Duration = Duration::from_millis(5);
/// Of several runs the fastest counts: the machine has other work.
const RUNS: usize = 3;
/// How many keys are changed, thrice each: another weight, gone, back.
const KEYS: usize = 1_000;

type Targets = Vec<(TargetKey, f64)>;

#[derive(Clone, Copy)]
enum Weights {
    Counts,
    Zipf,
}

impl Weights {
    fn name(self) -> &'static str {
        match self {
            Self::Counts => "counts",
            Self::Zipf => "Zipf",
        }
    }

    /// Zipf with exponent 1: the second target weighs half of the first, the third a third.
    fn targets(self, count: u64) -> Targets {
        let weight = |n: u64| match self {
            Self::Counts => 1.0,
            Self::Zipf => 1e6 / (n + 1) as f64,
        };
        (0..count).map(|n| (TargetKey(hash64(&n.to_le_bytes())), weight(n))).collect()
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("promring-scraper-{n}")).collect()
}

fn main() -> ExitCode {
    let quick = std::env::args().any(|argument| argument == "quick");
    // `cargo test --all-targets` runs benches too, in debug builds, where durations mean nothing.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    println!(
        "| targets | scrapers | weights | heaviest/mean | max/mean | min/mean | moved on +1 | ideal | moved on −1 | its own | +1 from nothing | anew after +1 | ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for count in [10_000, 100_000, 1_000_000] {
        if quick && count == 1_000_000 {
            continue;
        }
        for weights in [Weights::Counts, Weights::Zipf] {
            let targets = weights.targets(count);
            for scrapers in [5, 10, 50, 500, 1_000] {
                row(weights, &targets, scrapers);
            }
        }
    }
    if durations() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn row(weights: Weights, targets: &Targets, scrapers: usize) {
    let options = PlacementOptions::default();
    let (before, one_more) = (names(scrapers), names(scrapers + 1));
    let one_less: Vec<String> = before.iter().filter(|name| !name.ends_with("-2")).cloned().collect();
    let start = Instant::now();
    let placed = place(targets, &before, None, &options);
    let took = start.elapsed();
    let held = placed.by_key(targets);
    let loads = loads(targets, &placed, scrapers);
    let mean = loads.iter().sum::<f64>() / scrapers as f64;
    let heaviest = targets.iter().map(|target| target.1).fold(0.0, f64::max);
    let (least, most) =
        loads.iter().fold((f64::MAX, 0.0_f64), |(low, high), &load| (low.min(load), high.max(load)));
    let after = |scrapers: &[String]| {
        let previous = Previous { scrapers: &before, held: &|key| held.get(&key).copied() };
        place(targets, scrapers, Some(&previous), &options)
    };
    let moved = |placed: &Placement, scrapers: &[String]| {
        share(targets, |at| before[held[&targets[at].0].scraper] != scrapers[placed.owners[at] as usize])
    };
    let grown = after(&one_more);
    let (up, down) = (moved(&grown, &one_more), moved(&after(&one_less), &one_less));
    let own = share(targets, |at| before[placed.owners[at] as usize].ends_with("-2"));
    let fresh = place(targets, &one_more, None, &options);
    let reshuffled = share(targets, |at| fresh.owners[at] != placed.owners[at]);
    let anew = share(targets, |at| fresh.owners[at] != grown.owners[at]);
    println!(
        "| {} | {scrapers} | {} | {:.2} | {:.3} | {:.3} | {:.2}% | {:.2}% | {:.2}% | {:.2}% | {:.1}% | {:.1}% | {} |",
        targets.len(),
        weights.name(),
        heaviest / mean,
        most / mean,
        least / mean,
        up,
        100.0 / (scrapers + 1) as f64,
        down,
        own,
        reshuffled,
        anew,
        took.as_millis(),
    );
}

fn loads(targets: &Targets, placement: &Placement, scrapers: usize) -> Vec<f64> {
    let mut loads = vec![0.0; scrapers];
    for ((_, weight), &owner) in targets.iter().zip(&placement.owners) {
        loads[owner as usize] += weight;
    }
    loads
}

/// The percentage of the targets of which this holds.
fn share(targets: &Targets, counts: impl Fn(usize) -> bool) -> f64 {
    (0..targets.len()).filter(|&at| counts(at)).count() as f64 * 100.0 / targets.len() as f64
}

/// Whether both goals are reached.
fn durations() -> bool {
    let options = PlacementOptions::default();
    let (scrapers, one_more) = (names(1_000), names(1_001));
    let mut reached = true;
    println!();
    for weights in [Weights::Counts, Weights::Zipf] {
        let targets = weights.targets(1_000_000);
        let nothing = fastest(|| {
            let start = Instant::now();
            std::hint::black_box(place(&targets, &scrapers, None, &options));
            start.elapsed()
        });
        let mut placer = Placer::new(&options);
        placer.set_scrapers(&scrapers);
        let changes: Vec<Change> = targets.iter().map(|&(key, weight)| Change::Set(key, weight)).collect();
        placer.apply(&changes);
        let mut took = Vec::new();
        let mut timed = |change| {
            let start = Instant::now();
            std::hint::black_box(placer.apply(&[change]));
            took.push(start.elapsed());
        };
        for &(key, weight) in targets.iter().step_by(targets.len() / KEYS).take(KEYS) {
            timed(Change::Set(key, weight * 10.0));
            timed(Change::Remove(key));
            timed(Change::Set(key, weight));
        }
        took.sort_unstable();
        let [median, slowest] = [took[took.len() / 2], took[took.len() * 99 / 100]];
        let start = Instant::now();
        let moves = placer.set_scrapers(&one_more).len();
        let joining = start.elapsed();
        let start = Instant::now();
        let moves_back = placer.set_scrapers(&scrapers).len();
        let leaving = start.elapsed();
        println!(
            "1,000,000 targets on 1,000 scrapers, {}: from nothing {nothing:?}, one change {median:?} (99 in 100 at most {slowest:?}, worst {:?}), a scraper joins {joining:?} ({moves} moves), leaves {leaving:?} ({moves_back} moves)",
            weights.name(),
            took.last().copied().unwrap_or_default(),
        );
        reached &= nothing < FROM_NOTHING_MAX && slowest < ONE_CHANGE_MAX;
    }
    println!(
        "goals (from nothing {FROM_NOTHING_MAX:?}, one change {ONE_CHANGE_MAX:?}): {}",
        if reached { "reached" } else { "MISSED" }
    );
    reached
}

fn fastest(mut run: impl FnMut() -> Duration) -> Duration {
    (0..RUNS).map(|_| run()).min().unwrap_or_default()
}
