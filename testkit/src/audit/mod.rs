//! The audit: whether what a receiver got is what it had to get.
//!
//! It knows the targets, their slots and their series beforehand ([`ExpectedTarget`]), never from what arrived, so
//! that a target that nobody scraped is a finding and not a blank. Samples are fed in the order of their arrival
//! ([`Audit::sample`]), and [`Audit::report`] says at any time what is wrong so far. Rules:
//!
//! - Every slot of every expected series within the [window](Audit::window) needs exactly one sample. A sample
//!   counts for the slot that its timestamp lies in, on the slot's nominal time or off it.
//! - Order and duplicates are checked of everything, within the window or not.
//! - A staleness marker fills no slot. It is right where an [`Absence`] was planned, once, and wrong elsewhere.
//!
//! Nothing here knows of sockets or of the time: both come in as arguments.

mod absence;
mod check;
mod coverage;
mod expect;
mod findings;
mod report;
mod resent;
mod store;
mod values;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use promring_model::labels::{Labels, METRIC_NAME};
use promring_model::slots::Slots;
use promring_proto::remote_write::is_stale_marker;
use promring_proto::remote_write::v1::encode_labels;
use serde::{Deserialize, Serialize};

pub use absence::Absence;
pub use expect::{ExpectError, ExpectedSeries, ExpectedTarget, Exposed, ReportSeries, Shows, Source};
pub use findings::{Counts, EXAMPLES_MAX, Finding, GAP_TARGETS_MAX, Kind, Report, TargetGaps};

use crate::wire::read_labels;
use coverage::{NOTHING, Span};
use findings::Log;
use resent::Resent;
use store::Store;

/// Most series that are followed; samples of further ones are counted as a finding.
pub const SERIES_MAX: usize = 20_000_000;

/// Times further from the epoch than this are no times, in milliseconds: some 140,000 years.
const TIME_MS_MAX: i64 = 1 << 52;

/// What an interval can be.
const INTERVALS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(10 * 365 * 24 * 3_600);

/// See the module.
#[derive(Debug, Default)]
pub struct Audit {
    store: Store,
    /// By number of series.
    states: Vec<State>,
    targets: Vec<Target>,
    /// Missing slots between the first and the last of a series, for the few that have any.
    holes: HashMap<u32, Vec<Span>>,
    /// Slots of the staleness markers of a series that is expected, in order of arrival.
    markers: HashMap<u32, Vec<i64>>,
    /// Planned absences of single series.
    absences: HashMap<u32, Vec<Absence>>,
    window: Option<(i64, i64)>,
    log: Log,
    totals: Totals,
    resent: Resent,
    /// Labels under encoding.
    scratch: Vec<u8>,
}

/// Names a target among those expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetNumber(u32);

/// How much has arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Samples, staleness markers and duplicates included.
    pub samples: u64,
    /// Staleness markers.
    pub markers: u64,
    /// Samples of expected series that do not carry the nominal time of their slot.
    pub late: u64,
    /// Different series, expected or not, that have had a sample.
    pub series: u64,
    /// Requests, as far as [`Audit::request`] was told of them.
    pub requests: u64,
    /// The latest timestamp of a sample, in Unix milliseconds.
    pub latest_ms: i64,
}

/// The last that is known of a series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastSample {
    /// Its labels.
    pub labels: Labels,
    /// Its latest value, as Prometheus writes numbers: `1.5`, `+Inf`, `NaN`.
    pub value: String,
    /// Whether the latest value is a staleness marker.
    pub stale: bool,
    /// When that was, in Unix milliseconds.
    pub timestamp_ms: i64,
    /// How many samples it has had, markers included.
    pub samples: u64,
}

/// No target.
const NO_TARGET: u32 = u32::MAX;

/// What is known of one series.
#[derive(Clone, Copy, Debug)]
struct State {
    target: u32,
    source: Source,
    monotone: bool,
    has_absence: bool,
    samples: u32,
    /// The slots that have a sample, but for `holes`.
    span: Span,
    /// Of the sample with the highest timestamp.
    last_ms: i64,
    last_value: f64,
}

#[derive(Debug)]
struct Target {
    labels: Labels,
    slots: Slots,
    from_ms: i64,
    scraped: u32,
    kept: Option<u32>,
    shows: Option<Arc<dyn Shows>>,
    absences: Vec<Absence>,
    /// Whether a single series of it has a planned absence.
    series_absent: bool,
    /// The numbers of its series.
    series: Vec<u32>,
}

impl Audit {
    /// An audit that expects nothing yet: it checks order and duplicates only.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Slots `t` with `from_ms < t <= to_ms` (Unix milliseconds) need a sample. While the end is not known it can
    /// be `i64::MAX`; a report takes the time up to which it counts.
    pub fn window(&mut self, from_ms: i64, to_ms: i64) {
        self.window = Some((from_ms, to_ms));
    }

    /// Expects a target from now on. Of samples that its series have had before, the last one counts.
    ///
    /// # Errors
    /// Where another target already accounts for one of the series, or the interval is out of bounds; nothing is
    /// expected of this one then.
    pub fn expect(&mut self, target: ExpectedTarget) -> Result<TargetNumber, ExpectError> {
        let taken = |series: &&ExpectedSeries| {
            let known = self.store.find_labels(&series.labels);
            known.is_some_and(|number| self.states[number as usize].target != NO_TARGET)
        };
        if let Some(series) = target.series.iter().find(taken) {
            return Err(ExpectError::Twice(series.labels.clone()));
        }
        if !INTERVALS.contains(&target.interval) {
            return Err(ExpectError::Interval(target.interval));
        }
        let slots = target.slots();
        let target_number = self.targets.len() as u32;
        let mut numbers = Vec::with_capacity(target.series.len());
        for series in &target.series {
            let number = self.number(&series.labels);
            let state = &mut self.states[number as usize];
            *state =
                State { target: target_number, source: series.source, monotone: series.monotone, ..*state };
            if state.samples > 0 && !is_stale_marker(state.last_value) {
                let slot = slots.slot_at(state.last_ms);
                state.span = Span { first: slot, last: slot };
            }
            numbers.push(number);
        }
        self.targets.push(Target {
            labels: target.labels,
            slots,
            from_ms: target.from_ms,
            scraped: target.scraped,
            kept: target.kept,
            shows: target.shows,
            absences: Vec::new(),
            series_absent: false,
            series: numbers,
        });
        Ok(TargetNumber(target_number))
    }

    /// The first expected target that has all of these labels.
    #[must_use]
    pub fn find_target(&self, matching: &Labels) -> Option<TargetNumber> {
        (0..)
            .zip(&self.targets)
            .find(|(_, target)| has_all(&target.labels, matching))
            .map(|(at, _)| TargetNumber(at))
    }

    /// Plans that a target is not there for a time.
    pub fn expect_absence(&mut self, target: TargetNumber, absence: Absence) {
        if let Some(target) = self.targets.get_mut(target.0 as usize) {
            target.absences.push(absence);
        }
    }

    /// Plans that the series of a target that have all labels of `matching` are not exposed for a time. Returns how
    /// many they are.
    pub fn expect_series_absence(
        &mut self,
        target: TargetNumber,
        matching: &Labels,
        absence: Absence,
    ) -> usize {
        let Some(target) = self.targets.get_mut(target.0 as usize) else { return 0 };
        let mut count = 0;
        for &number in &target.series {
            if has_all(&self.store.labels(number), matching) {
                self.states[number as usize].has_absence = true;
                self.absences.entry(number).or_default().push(absence);
                count += 1;
            }
        }
        target.series_absent |= count > 0;
        count
    }

    /// Tells of a request before its samples are fed, by its body. Whether the same body came before:
    /// its samples count as re-sent then.
    pub fn request(&mut self, body: &[u8]) -> bool {
        self.totals.requests += 1;
        self.resent.begin(body)
    }

    /// A sample has arrived.
    pub fn sample(&mut self, labels: &Labels, value: f64, timestamp_ms: i64) {
        let mut encoded = std::mem::take(&mut self.scratch);
        encoded.clear();
        encode_labels(labels.iter(), &mut encoded);
        self.sample_encoded(&encoded, value, timestamp_ms);
        self.scratch = encoded;
    }

    /// A sample has arrived, with its labels as they stand in a request: the label fields of a `TimeSeries`.
    pub fn sample_encoded(&mut self, labels: &[u8], value: f64, timestamp_ms: i64) {
        self.totals.samples += 1;
        let known =
            if timestamp_ms.abs_diff(0) > TIME_MS_MAX as u64 { None } else { self.store.find(labels) };
        let Some(number) = known.or_else(|| self.meet(labels, timestamp_ms)) else { return };
        let before = self.states[number as usize];
        self.totals.latest_ms = self.totals.latest_ms.max(timestamp_ms);
        self.totals.series += u64::from(before.samples == 0);
        self.totals.markers += u64::from(is_stale_marker(value));
        if self.check_time(number, &before, value, timestamp_ms) {
            self.check_slot(number, &before, value, timestamp_ms);
        }
        let state = &mut self.states[number as usize];
        state.samples = before.samples.saturating_add(1);
        if before.samples == 0 || timestamp_ms > before.last_ms {
            state.last_ms = timestamp_ms;
            state.last_value = value;
        }
    }

    /// How much has arrived.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// How many targets and series are expected.
    #[must_use]
    pub fn expected(&self) -> (usize, usize) {
        (self.targets.len(), self.targets.iter().map(|target| target.series.len()).sum())
    }

    /// The last sample of every series of this metric name that has had one, in order of labels.
    #[must_use]
    pub fn last_samples(&self, name: &str) -> Vec<LastSample> {
        let wanted = |number: &u32| {
            self.states[*number as usize].samples > 0 && self.store.label(*number, METRIC_NAME) == Some(name)
        };
        let last = |number: u32| {
            let state = &self.states[number as usize];
            LastSample {
                labels: self.store.labels(number),
                value: format_value(state.last_value),
                stale: is_stale_marker(state.last_value),
                timestamp_ms: state.last_ms,
                samples: u64::from(state.samples),
            }
        };
        let mut found: Vec<LastSample> = (0..self.store.len() as u32).filter(wanted).map(last).collect();
        found.sort_by(|a, b| a.labels.cmp(&b.labels));
        found
    }

    /// The number of the series with these labels, which gets one if it has none.
    fn number(&mut self, labels: &Labels) -> u32 {
        let mut encoded = std::mem::take(&mut self.scratch);
        encoded.clear();
        encode_labels(labels.iter(), &mut encoded);
        let number = self.store.find(&encoded).unwrap_or_else(|| {
            self.states.push(State::default());
            self.store.insert(&encoded, labels.iter())
        });
        self.scratch = encoded;
        number
    }

    /// A series that has not been seen before. None where it cannot be followed, which is a finding then.
    fn meet(&mut self, encoded: &[u8], timestamp_ms: i64) -> Option<u32> {
        let pairs = read_labels(encoded).unwrap_or_default();
        let sorted = pairs.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let filled = pairs.iter().all(|(name, value)| !name.is_empty() && !value.is_empty());
        let problem = if pairs.is_empty() {
            Some((Kind::Malformed, "no labels"))
        } else if !sorted {
            Some((Kind::Malformed, "labels are not sorted and unique"))
        } else if !filled {
            Some((Kind::Malformed, "a label is empty"))
        } else if timestamp_ms.abs_diff(0) > TIME_MS_MAX as u64 {
            Some((Kind::Malformed, "a timestamp beyond all times"))
        } else if self.store.len() >= SERIES_MAX {
            Some((Kind::Untracked, "there are too many series"))
        } else {
            None
        };
        if let Some((kind, why)) = problem {
            let labels = || Labels::from_pairs(pairs.iter().copied());
            self.log.add(kind, 1, || finding(kind, labels(), timestamp_ms, why.to_owned()));
            return None;
        }
        self.states.push(State::default());
        Some(self.store.insert(encoded, pairs.into_iter()))
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            target: NO_TARGET,
            source: Source::Exposed(0),
            monotone: false,
            has_absence: false,
            samples: 0,
            span: NOTHING,
            last_ms: 0,
            last_value: 0.0,
        }
    }
}

fn has_all(labels: &Labels, matching: &Labels) -> bool {
    matching.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// A finding at one moment.
fn finding(kind: Kind, labels: Labels, at_ms: i64, detail: String) -> Finding {
    Finding { kind, labels, from_ms: at_ms, to_ms: at_ms, detail }
}

/// A number as Prometheus writes it.
fn format_value(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        value.to_string()
    }
}
