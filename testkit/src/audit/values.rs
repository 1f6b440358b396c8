//! Whether values can be: counters never go down, exporters show what they say, and the report series agree with
//! what is known of the target.

use super::absence::Need;
use super::{Audit, ReportSeries, Source, State};

/// How far the time at which an exporter was asked may be from the sample's timestamp, in milliseconds, besides
/// the interval by which an answer may be late.
const VALUE_SLACK_MS: i64 = 1_500;

impl Audit {
    /// What is wrong with a value of an expected series; None if nothing is.
    pub(super) fn check_value(
        &self,
        number: u32,
        before: &State,
        value: f64,
        timestamp_ms: i64,
        late: bool,
    ) -> Option<String> {
        let target = self.targets.get(before.target as usize)?;
        match before.source {
            Source::Exposed(index) => {
                let falls = before.samples > 0 && value < before.last_value;
                if before.monotone && !late && falls {
                    return Some(format!("it went down from {} to {value}", before.last_value));
                }
                let from_ms = timestamp_ms - VALUE_SLACK_MS;
                let to_ms = timestamp_ms + target.slots.interval_ms() + VALUE_SLACK_MS;
                let (low, high) = target.shows.as_ref()?.bounds(index, from_ms, to_ms)?;
                let within = (low..=high).contains(&value);
                (!within).then(|| format!("{value} is not what was exposed: {low} to {high}"))
            }
            Source::Report(report) => {
                let alone = target.absences.is_empty();
                let expected = match report {
                    ReportSeries::Up => self.expected_up(number, before, timestamp_ms)?,
                    ReportSeries::Scraped if alone && !target.series_absent => f64::from(target.scraped),
                    ReportSeries::PostRelabelling if alone && !target.series_absent => {
                        f64::from(target.kept?)
                    }
                    ReportSeries::Scraped
                    | ReportSeries::PostRelabelling
                    | ReportSeries::Duration
                    | ReportSeries::Added => {
                        let possible = value.is_finite() && value >= 0.0;
                        return (!possible).then(|| format!("{} cannot be {value}", report.name()));
                    }
                };
                (value != expected).then(|| format!("{} is {value}, and should be {expected}", report.name()))
            }
        }
    }

    /// What `up` has to be; None where the target is changing just then.
    fn expected_up(&self, number: u32, state: &State, timestamp_ms: i64) -> Option<f64> {
        let target = self.targets.get(state.target as usize)?;
        let slot = target.slots.slot_at(timestamp_ms);
        // The exporter's own series say whether it answers; `up` itself goes on while it does not.
        let exposed = State { source: Source::Exposed(0), ..*state };
        match self.need(number, &exposed, slot) {
            Need::Sample => Some(1.0),
            Need::Nothing => Some(0.0),
            Need::Either => None,
        }
    }
}
