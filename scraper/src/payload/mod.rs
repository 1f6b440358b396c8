//! What a sample can have beside a float and a time: a native histogram, exemplars, the time at which counting began,
//! and what is said of its metric family. Nearly all samples have none of it, and pay nothing for it.

mod exemplars;
mod extras;
mod histograms;

pub(crate) use exemplars::Taken;
pub use exemplars::{Exemplars, LastExemplars};
pub use extras::Extras;
pub(crate) use extras::{Extra, HistogramKind};
pub use histograms::HistogramLimits;

use crate::families::Family;
use crate::series::Series;

/// One sample on its way to the sink.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'s> {
    /// Labels.
    pub series: Series<'s>,
    /// Float or histogram.
    pub value: Value<'s>,
    /// Unix milliseconds.
    pub timestamp_ms: i64,
    /// When counting began, in Unix milliseconds; 0: not known.
    pub start_ms: i64,
    /// Examples of what was counted.
    pub exemplars: Exemplars<'s>,
    /// What is said of its metric family.
    pub family: Option<&'s Family>,
}

/// The value of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'s> {
    /// A float's bits.
    Float(u64),
    /// A native histogram.
    Histogram {
        /// The message that both versions of remote write have for it, its timestamp included.
        content: &'s [u8],
        /// It has bounds of its own, which remote write 1.0 cannot carry.
        is_custom: bool,
        /// It marks the series as stale.
        is_stale: bool,
    },
}

impl<'s> Outgoing<'s> {
    /// A float and nothing else.
    #[must_use]
    pub fn float(series: Series<'s>, value_bits: u64, timestamp_ms: i64) -> Self {
        let value = Value::Float(value_bits);
        Self { series, value, timestamp_ms, start_ms: 0, exemplars: Exemplars::default(), family: None }
    }
}

#[cfg(test)]
mod wire_tests;
