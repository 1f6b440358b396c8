//! The values of the series that promring writes about each scrape.

use crate::series::{REPORT_SERIES, Tally};

/// The values for a scrape, in the order of [`REPORT_SERIES`].
pub(super) fn values(up: bool, seconds: f64, tally: Tally) -> [f64; REPORT_SERIES.len()] {
    [f64::from(u8::from(up)), seconds, tally.scraped as f64, tally.kept as f64, tally.added as f64]
}
