//! What the audit found: counts of everything, and examples of each kind.

use std::fmt;

use promring_model::labels::Labels;
use serde::{Deserialize, Serialize};

/// Examples kept of each kind of finding.
pub const EXAMPLES_MAX: usize = 20;
/// Targets listed with their gaps.
pub const GAP_TARGETS_MAX: usize = 1_000;

/// Something that should not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A slot of an expected series has no sample.
    Gap,
    /// An expected series has no sample at all in the window.
    MissingSeries,
    /// An expected target has no sample at all in the window.
    MissingTarget,
    /// A slot or a timestamp has a second sample.
    Duplicate,
    /// A sample is older than one that came before it.
    OutOfOrder,
    /// A staleness marker of a series that lives.
    StrayMarker,
    /// A planned end without a staleness marker.
    MissingMarker,
    /// A series that nobody expects.
    UnexpectedSeries,
    /// A sample of a series that has ended.
    SampleAfterEnd,
    /// A value that the exporter cannot have shown, or a counter that went down.
    UnexpectedValue,
    /// Labels that are not sorted and unique, or one of them empty, or a time far beyond our own.
    Malformed,
    /// Samples of series beyond [`super::SERIES_MAX`].
    Untracked,
}

/// How many of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Slots without a sample, those of missing series and targets included.
    pub gaps: u64,
    /// Series that are missing as a whole, those of missing targets not included.
    pub missing_series: u64,
    /// Targets that are missing as a whole.
    pub missing_targets: u64,
    /// Second samples of a slot or a timestamp.
    pub duplicates: u64,
    /// Those of the duplicates that repeat series, timestamp and value, or came in a repeated request: what a
    /// sender has to do when it does not learn that its request was stored.
    pub resent: u64,
    /// Samples that came after a later one of their series.
    pub out_of_order: u64,
    /// Staleness markers of living series.
    pub stray_markers: u64,
    /// Planned ends without a marker.
    pub missing_markers: u64,
    /// Series that nobody expects.
    pub unexpected_series: u64,
    /// Samples after a planned end.
    pub samples_after_end: u64,
    /// Values that cannot be.
    pub unexpected_values: u64,
    /// Samples with labels or a time that no sender may send.
    pub malformed: u64,
    /// Samples of series beyond the limit.
    pub untracked: u64,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// The series, or the target.
    pub labels: Labels,
    /// Where in time it begins, in Unix milliseconds.
    pub from_ms: i64,
    /// Where it ends: the same for what has no length.
    pub to_ms: i64,
    /// What is wrong, for people.
    pub detail: String,
}

/// The gaps of one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetGaps {
    /// Its public labels.
    pub labels: Labels,
    /// Missing slots of all its series.
    pub slots: u64,
    /// Series that have any.
    pub series: u64,
    /// The first missing slot, in Unix milliseconds.
    pub first_ms: i64,
    /// The last missing slot.
    pub last_ms: i64,
    /// The most slots that one series lacks in a row, times the interval, in milliseconds.
    pub longest_ms: i64,
}

/// The result of an audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The window: slots after this have been required,
    pub from_ms: i64,
    /// up to this, inclusive. Both in Unix milliseconds.
    pub to_ms: i64,
    /// Targets expected.
    pub targets: u64,
    /// Series expected.
    pub series: u64,
    /// Slots that had to have a sample, over all series. A clean report says nothing where this is 0.
    pub slots: u64,
    /// What was found.
    pub counts: Counts,
    /// Examples, at most [`EXAMPLES_MAX`] of each kind.
    pub findings: Vec<Finding>,
    /// Targets with gaps, those with most first, at most [`GAP_TARGETS_MAX`].
    pub gaps: Vec<TargetGaps>,
}

impl Counts {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    /// Whether nothing was found but what at-least-once delivery allows.
    #[must_use]
    pub fn is_clean_but_resent(&self) -> bool {
        Self { duplicates: self.duplicates - self.resent, resent: 0, ..*self }.is_clean()
    }

    pub(super) fn add(&mut self, kind: Kind, more: u64) {
        *match kind {
            Kind::Gap => &mut self.gaps,
            Kind::MissingSeries => &mut self.missing_series,
            Kind::MissingTarget => &mut self.missing_targets,
            Kind::Duplicate => &mut self.duplicates,
            Kind::OutOfOrder => &mut self.out_of_order,
            Kind::StrayMarker => &mut self.stray_markers,
            Kind::MissingMarker => &mut self.missing_markers,
            Kind::UnexpectedSeries => &mut self.unexpected_series,
            Kind::SampleAfterEnd => &mut self.samples_after_end,
            Kind::UnexpectedValue => &mut self.unexpected_values,
            Kind::Malformed => &mut self.malformed,
            Kind::Untracked => &mut self.untracked,
        } += more;
    }
}

/// Counts and examples while they are gathered.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) counts: Counts,
    pub(super) examples: Vec<Finding>,
}

impl Log {
    /// Counts `more` findings; the example is made only while there is room for it.
    pub(super) fn add(&mut self, kind: Kind, more: u64, example: impl FnOnce() -> Finding) {
        self.counts.add(kind, more);
        if self.examples.iter().filter(|finding| finding.kind == kind).count() < EXAMPLES_MAX {
            self.examples.push(example());
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.labels, self.from_ms)?;
        if self.to_ms != self.from_ms {
            write!(f, " to {}", self.to_ms)?;
        }
        write!(f, ": {}", self.detail)
    }
}

/// For people: what was checked, what was found, and the examples.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        writeln!(f, "{} slots of {} series of {} targets audited", self.slots, self.series, self.targets)?;
        writeln!(
            f,
            "{} gaps, {} duplicates ({} of them re-sent), {} out of order, {} stray markers, {} missing markers",
            counts.gaps,
            counts.duplicates,
            counts.resent,
            counts.out_of_order,
            counts.stray_markers,
            counts.missing_markers
        )?;
        let further = [
            (counts.missing_targets, "missing targets"),
            (counts.missing_series, "missing series"),
            (counts.unexpected_series, "unexpected series"),
            (counts.samples_after_end, "samples after the end of their series"),
            (counts.unexpected_values, "unexpected values"),
            (counts.malformed, "malformed samples"),
            (counts.untracked, "samples of series beyond the limit"),
        ];
        for (count, what) in further.into_iter().filter(|(count, _)| *count > 0) {
            writeln!(f, "{count} {what}")?;
        }
        self.findings.iter().try_for_each(|finding| writeln!(f, "  {finding}"))
    }
}
