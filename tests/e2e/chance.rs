//! The seed of what tests do at random: printed, and taken from the environment to repeat a run.

/// Names the seed.
const SEED_VARIABLE: &str = "PROMRING_E2E_SEED";

/// A seed, printed.
pub fn seed() -> u64 {
    let seed = match std::env::var(SEED_VARIABLE) {
        Ok(seed) => seed.parse().unwrap_or_else(|_| panic!("{SEED_VARIABLE}={seed} is no number")),
        Err(_) => u64::from(rand::random::<u32>()),
    };
    eprintln!("seed {seed}; {SEED_VARIABLE}={seed} repeats this run");
    seed
}
