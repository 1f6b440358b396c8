//! The values of the series that promring writes about each scrape.

use std::time::Duration;

use crate::series::Tally;
use crate::series::report::REPORT_SERIES;

/// What a scrape was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    pub(super) up: bool,
    pub(super) seconds: f64,
    pub(super) tally: Tally,
    pub(super) timeout: Duration,
    pub(super) sample_limit: Option<u64>,
    /// Of the uncompressed body; -1 where it was longer than the limit, 0 where there was none for another reason.
    pub(super) body_bytes: i64,
}

impl Report {
    /// The values in the order of [`REPORT_SERIES`].
    pub(super) fn values(&self) -> [f64; REPORT_SERIES.len()] {
        let Tally { scraped, kept, added, .. } = self.tally;
        [
            f64::from(u8::from(self.up)),
            self.seconds,
            scraped as f64,
            kept as f64,
            added as f64,
            self.timeout.as_secs_f64(),
            self.sample_limit.unwrap_or(0) as f64,
            self.body_bytes as f64,
        ]
    }
}
