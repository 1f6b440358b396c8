//! The series that promring writes about each scrape.

use crate::encoded::Encoded;
use crate::rules::SeriesRules;
use crate::series::Tally;

/// `up` and its four companions, encoded once a target.
#[derive(Debug)]
pub(super) struct ReportSeries {
    up: Encoded,
    duration: Encoded,
    scraped: Encoded,
    post_relabel: Encoded,
    added: Encoded,
}

impl ReportSeries {
    pub(super) fn new(rules: &SeriesRules) -> Self {
        Self {
            up: rules.report_series("up"),
            duration: rules.report_series("scrape_duration_seconds"),
            scraped: rules.report_series("scrape_samples_scraped"),
            post_relabel: rules.report_series("scrape_samples_post_metric_relabeling"),
            added: rules.report_series("scrape_series_added"),
        }
    }

    /// Each series with its value for a scrape.
    pub(super) fn values(&self, up: bool, seconds: f64, tally: Tally) -> [(&Encoded, f64); 5] {
        [
            (&self.up, f64::from(u8::from(up))),
            (&self.duration, seconds),
            (&self.scraped, tally.scraped as f64),
            (&self.post_relabel, tally.kept as f64),
            (&self.added, tally.added as f64),
        ]
    }
}
