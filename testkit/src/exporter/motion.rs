//! How values move with time.
//!
//! A value is a pure function of the series, the instance and the time: nothing is stored, a thousand exporters
//! cost no memory for values, and whoever knows the time of a scrape can say what it must have shown.

/// How one series moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Motion {
    /// Counts events; only goes up.
    Counter {
        /// Events a second of an instance of speed 1.
        per_second: f64,
    },
    /// Counts the events that fall into a bucket and those below it.
    Bucket {
        /// Events a second, all buckets together.
        per_second: f64,
        /// Which part of them falls into this bucket or a lower one, 0 to 1.
        share: f64,
    },
    /// Sums up what the events measured; only goes up.
    Sum {
        /// Events a second.
        per_second: f64,
        /// What an event measures on average.
        mean: f64,
    },
    /// Swings between two values.
    Gauge {
        /// Lowest value.
        low: f64,
        /// Highest value.
        high: f64,
        /// Digits after the point.
        decimals: u8,
    },
    /// Never changes.
    Constant(u64),
    /// The Unix time at which the instance started, in seconds.
    StartTime,
}

/// What an instance needs to know of a moment to show its values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Unix milliseconds.
    now_ms: i64,
    /// Unix milliseconds.
    start_ms: i64,
    /// Seconds of full load since the start: time that runs slower and faster, but never back.
    busy_seconds: f64,
    seed: u64,
}

/// A number that can be written without a general formatter: `mantissa / 10^decimals`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fixed {
    mantissa: u64,
    decimals: u8,
}

/// Load swings by this part around its mean, less than 1 so that counters never stand still.
const LOAD_SWING: f64 = 0.4;
/// The period of that swing, in seconds.
const LOAD_PERIOD_SECONDS: f64 = 90.0;
/// Gauges swing with a period between this and three times this, in milliseconds.
const GAUGE_PERIOD_MS_MIN: u64 = 40_000;

impl Moment {
    pub(super) fn new(now_ms: i64, start_ms: i64, seed: u64) -> Self {
        let elapsed = ((now_ms - start_ms).max(0)) as f64 / 1_000.0;
        let turns = std::f64::consts::TAU / LOAD_PERIOD_SECONDS;
        // The integral of a load of 1 + LOAD_SWING · cos: its derivative is positive, so counters only go up.
        let swung = elapsed + LOAD_SWING / turns * (elapsed * turns).sin();
        let speed = 0.5 + (seed % 1_024) as f64 / 1_024.0;
        Self { now_ms, start_ms, busy_seconds: swung * speed, seed }
    }
}

impl Motion {
    /// Whether the value can only stay or go up.
    pub(super) fn is_monotone(self) -> bool {
        match self {
            Self::Counter { .. } | Self::Bucket { .. } | Self::Sum { .. } => true,
            Self::Gauge { .. } | Self::Constant(_) | Self::StartTime => false,
        }
    }

    /// Lowest and highest value between two moments.
    pub(super) fn bounds(self, from: &Moment, to: &Moment, number: u32) -> (f64, f64) {
        match self {
            Self::Counter { .. }
            | Self::Bucket { .. }
            | Self::Sum { .. }
            | Self::Constant(_)
            | Self::StartTime => (self.at(from, number).value(), self.at(to, number).value()),
            // A shown value is cut off behind its last digit.
            Self::Gauge { low, high, decimals } => (low - 1.0 / POWERS[usize::from(decimals)] as f64, high),
        }
    }

    /// The value at a moment. `number` tells the series of an instance apart.
    pub(super) fn at(self, moment: &Moment, number: u32) -> Fixed {
        match self {
            Self::Counter { per_second } => Fixed::whole(moment.busy_seconds * per_second),
            Self::Bucket { per_second, share } => {
                // A part of the whole number of events, so that no bucket outgrows the next one.
                Fixed::whole((moment.busy_seconds * per_second).floor() * share)
            }
            Self::Sum { per_second, mean } => {
                let events = (moment.busy_seconds * per_second).floor();
                Fixed { mantissa: (events * mean * 1_000.0) as u64, decimals: 3 }
            }
            Self::Gauge { low, high, decimals } => {
                let noise = mix(moment.seed ^ u64::from(number));
                let period = GAUGE_PERIOD_MS_MIN + noise % (2 * GAUGE_PERIOD_MS_MIN);
                let phase = (moment.now_ms as u64).wrapping_add(noise >> 20) % period;
                let swing = (phase as f64 / period as f64 * 2.0 - 1.0).abs();
                let scale = POWERS[usize::from(decimals)] as f64;
                Fixed { mantissa: ((low + (high - low) * swing) * scale) as u64, decimals }
            }
            Self::Constant(value) => Fixed { mantissa: value, decimals: 0 },
            Self::StartTime => Fixed { mantissa: moment.start_ms.max(0) as u64, decimals: 3 },
        }
    }
}

const POWERS: [u64; 7] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];

/// Spreads the bits of a number (the finaliser of SplitMix64).
pub(super) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Fixed {
    fn whole(value: f64) -> Self {
        Self { mantissa: value as u64, decimals: 0 }
    }

    /// What a parser makes of the written number: both are rounded once.
    pub(super) fn value(self) -> f64 {
        self.mantissa as f64 / POWERS[usize::from(self.decimals)] as f64
    }

    /// Appends the number as text.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        let scale = POWERS[usize::from(self.decimals)];
        write_digits(self.mantissa / scale, 1, out);
        if self.decimals > 0 {
            out.push(b'.');
            write_digits(self.mantissa % scale, usize::from(self.decimals), out);
        }
    }
}

/// Appends decimal digits, at least `width` of them.
fn write_digits(mut number: u64, width: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while number > 0 {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    at = at.min(digits.len() - width);
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_700_000_000_000;

    fn text(fixed: Fixed) -> String {
        let mut out = Vec::new();
        fixed.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_written_as_their_value_is_read() {
        for (mantissa, decimals, expected) in [
            (0, 0, "0"),
            (7, 3, "0.007"),
            (12_345, 3, "12.345"),
            (1_000, 3, "1.000"),
            (u64::MAX, 0, "18446744073709551615"),
        ] {
            let fixed = Fixed { mantissa, decimals };
            assert_eq!(text(fixed), expected);
            assert_eq!(text(fixed).parse::<f64>().unwrap(), fixed.value());
        }
    }

    #[test]
    fn monotone_motions_never_go_down_and_do_go_up() {
        let motions = [
            Motion::Counter { per_second: 0.7 },
            Motion::Counter { per_second: 1_000.0 },
            Motion::Bucket { per_second: 20.0, share: 0.35 },
            Motion::Sum { per_second: 20.0, mean: 0.031 },
        ];
        for motion in motions {
            assert!(motion.is_monotone());
            let values: Vec<f64> = (0..4_000)
                .map(|step| motion.at(&Moment::new(START + step * 97, START, 5), 1).value())
                .collect();
            assert!(values.windows(2).all(|pair| pair[0] <= pair[1]), "{motion:?}");
            assert!(values[3_999] > values[0], "{motion:?}");
        }
    }

    #[test]
    fn a_bucket_never_holds_more_than_the_next_one() {
        for step in 0..1_000 {
            let moment = Moment::new(START + step * 311, START, 9);
            let shares = [0.1, 0.1, 0.55, 0.98, 1.0];
            let counts: Vec<f64> = shares
                .iter()
                .map(|&share| Motion::Bucket { per_second: 3.3, share }.at(&moment, 0).value())
                .collect();
            assert!(counts.windows(2).all(|pair| pair[0] <= pair[1]), "{counts:?}");
        }
    }

    #[test]
    fn a_gauge_moves_and_stays_within_its_bounds() {
        let motion = Motion::Gauge { low: 2.0, high: 9.0, decimals: 2 };
        let values: Vec<f64> =
            (0..500).map(|step| motion.at(&Moment::new(START + step * 1_000, START, 3), 4).value()).collect();
        assert!(values.iter().all(|value| (2.0..=9.0).contains(value)));
        assert!(values.windows(2).filter(|pair| pair[0] != pair[1]).count() > 400);
    }
}
