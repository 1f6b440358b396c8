//! Weights inside placement: whole numbers, so that sums do not depend on the order of adding.

use super::PlacementOptions;

/// The heaviest weight that placement tells apart, in samples a second. Anything above counts as this much.
pub const WEIGHT_MAX: f64 = 1e9;

/// The lightest weight, in samples a second: one sample in eleven days. Anything below, 0 included, counts as
/// this much, so that every target has a load.
pub const WEIGHT_MIN: f64 = 1e-6;

/// How far a measured weight may lie from the one in force before it replaces it, in percent of the latter.
pub const WOBBLE_PERCENT: u64 = 25;

/// [`WEIGHT_MAX`] in millionths of a sample a second.
pub(super) const WEIGHT_UNITS_MAX: u64 = 1_000_000_000_000_000;

const UNITS_PER_SAMPLE: f64 = 1e6;
const PARTS: u128 = 1_000_000;

/// The options in whole numbers, with nonsense replaced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    bound: u128,
    band: u128,
    weight_default: u64,
    /// See [`PlacementOptions::drift_moves_max`].
    pub(super) drift_moves_max: usize,
}

impl Rules {
    pub(super) fn new(options: &PlacementOptions) -> Self {
        let standard = PlacementOptions::default();
        let parts = |value: f64, standard: f64| {
            let value = if value.is_finite() { value } else { standard };
            // Under 1.01 a bound could not be kept: the last targets to be placed would fit nowhere.
            (value.clamp(1.01, 1_000.0) * PARTS as f64).round() as u128
        };
        let bound = parts(options.bound, standard.bound);
        let weight_default = measured(options.weight_default).or_else(|| measured(standard.weight_default));
        Self {
            bound,
            band: parts(options.band, standard.band).max(bound),
            weight_default: weight_default.unwrap_or(1),
            drift_moves_max: options.drift_moves_max,
        }
    }

    /// A weight from outside in millionths of a sample a second.
    pub(super) fn units(&self, weight: f64) -> u64 {
        measured(weight).unwrap_or(self.weight_default)
    }

    /// What no load may exceed after a change of members, for a scraper with no heavy target.
    pub(super) fn bound(&self, total: u128, scrapers: usize) -> u128 {
        share(total, scrapers, self.bound)
    }

    /// The most that a scraper takes of its own accord, where `level` is what the ordinary one carries: half way
    /// to the bound. At the bound itself the next scraper to join would have to be given something by every
    /// full one, far more than its share where loads are a few dozen targets.
    pub(super) fn cap(&self, level: u128) -> u128 {
        share(level, 1, PARTS + (self.bound - PARTS) / 2)
    }

    /// The least that a scraper is left with when others need some of its load: as far below the level as the cap
    /// is above it.
    pub(super) fn floor(&self, level: u128) -> u128 {
        share(level, 1, PARTS - ((self.bound - PARTS) / 2).min(PARTS))
    }

    /// The load at which drift moves targets, for a scraper with no heavy target.
    pub(super) fn band(&self, total: u128, scrapers: usize) -> u128 {
        share(total, scrapers, self.band)
    }
}

/// `factor` times the mean, rounded down: a load is a whole number, so this compares as exactly as the fraction.
fn share(total: u128, scrapers: usize, factor: u128) -> u128 {
    total.saturating_mul(factor) / (PARTS * scrapers.max(1) as u128)
}

/// None for what is no weight: NaN, infinite, negative.
fn measured(weight: f64) -> Option<u64> {
    (weight.is_finite() && weight >= 0.0)
        .then(|| (weight.clamp(WEIGHT_MIN, WEIGHT_MAX) * UNITS_PER_SAMPLE).round() as u64)
}

/// The weight to go by, when `in_force` is what was gone by so far.
pub(super) fn settle(in_force: u64, measured: u64) -> u64 {
    // One unit more, as both were rounded.
    let tolerated = u128::from(in_force) * u128::from(WOBBLE_PERCENT) / 100 + 1;
    if u128::from(in_force.abs_diff(measured)) > tolerated { measured } else { in_force }
}

/// Back to samples a second. [`Rules::units`] of the result gives `units` again.
pub(super) fn samples(units: u64) -> f64 {
    units as f64 / UNITS_PER_SAMPLE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules::new(&PlacementOptions { weight_default: 7.0, ..PlacementOptions::default() })
    }

    #[test]
    fn what_is_no_weight_counts_as_the_default() {
        for weight in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
            assert_eq!(rules().units(weight), 7_000_000, "{weight}");
        }
    }

    #[test]
    fn weights_stay_within_what_can_be_told_apart() {
        assert_eq!(rules().units(0.0), 1);
        assert_eq!(rules().units(-0.0), 1);
        assert_eq!(rules().units(1e-300), 1);
        assert_eq!(rules().units(1e300), 1_000_000_000_000_000);
    }

    #[test]
    fn a_weight_in_force_survives_the_way_out_and_in() {
        for weight in [0.0, 1e-6, 0.1, 1.0 / 3.0, 66.666_666_7, 20_000.0, 123_456_789.123_456_7, 1e9] {
            let units = rules().units(weight);
            assert_eq!(rules().units(samples(units)), units, "{weight}");
        }
    }

    #[test]
    fn a_quarter_more_or_less_does_not_count() {
        assert_eq!(settle(100, 126), 100);
        assert_eq!(settle(100, 74), 100);
        assert_eq!(settle(100, 127), 127);
        assert_eq!(settle(100, 73), 73);
    }

    #[test]
    fn options_that_make_no_sense_are_replaced() {
        let rules = Rules::new(&PlacementOptions {
            bound: f64::NAN,
            band: 0.5,
            weight_default: -3.0,
            ..PlacementOptions::default()
        });
        assert_eq!(rules.bound(1_000, 10), 105);
        assert_eq!(rules.band(1_000, 10), 105, "a band below the bound is the bound");
        assert_eq!(rules.units(f64::NAN), rules.units(PlacementOptions::default().weight_default));
    }
}
