//! What has to arrive, worked out from the exporters' lists and the configuration alone.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use promring_model::config::ScrapeConfig;
use promring_model::labels::{Labels, LabelsBuilder, METRIC_NAME};
use promring_model::relabel::Outcome;
use promring_model::slots::Slots;
use promring_model::target::{Assembled, DiscoveredLabels, TargetError, TargetKey};
use serde::{Deserialize, Serialize};

/// A series that an exporter shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposed {
    /// Its labels as they stand in the text, and `__name__`.
    pub labels: Labels,
    /// Whether its value can never go down: a counter, or a part of a histogram.
    pub monotone: bool,
}

/// The series that a scraper writes of every scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportSeries {
    /// `up`
    Up,
    /// `scrape_duration_seconds`
    Duration,
    /// `scrape_samples_scraped`
    Scraped,
    /// `scrape_samples_post_metric_relabeling`
    PostRelabelling,
    /// `scrape_series_added`
    Added,
}

impl ReportSeries {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Up, Self::Duration, Self::Scraped, Self::PostRelabelling, Self::Added];

    /// Its metric name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Duration => "scrape_duration_seconds",
            Self::Scraped => "scrape_samples_scraped",
            Self::PostRelabelling => "scrape_samples_post_metric_relabeling",
            Self::Added => "scrape_series_added",
        }
    }
}

/// Where an expected series comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The target exposes it, at this index of its list.
    Exposed(u32),
    /// The scraper reports it.
    Report(ReportSeries),
}

/// A series that has to arrive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedSeries {
    /// Final labels, as they stand in a remote write request.
    pub labels: Labels,
    /// Whether its value can never go down.
    pub monotone: bool,
    /// Where it comes from.
    pub source: Source,
}

/// Says between which bounds the value of a series lay, whenever in a span of time it was scraped.
pub trait Shows: fmt::Debug + Send + Sync {
    /// Lowest and highest value of the series with this index in the exposed list, from `from_ms` to `to_ms`.
    fn bounds(&self, series: u32, from_ms: i64, to_ms: i64) -> Option<(f64, f64)>;
}

/// A target, and every series that has to arrive of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExpectedTarget {
    /// Its labels as a user sees them: `job`, `instance`, ….
    pub labels: Labels,
    /// How often it is scraped.
    #[serde(rename = "interval_ms", with = "millis")]
    pub interval: Duration,
    /// What its slots hang on.
    #[serde(with = "key")]
    pub key: TargetKey,
    /// It exists from this time on, in Unix milliseconds, so its first slot comes after it.
    #[serde(default)]
    pub from_ms: i64,
    /// How many samples a scrape has, before metric relabelling.
    pub scraped: u32,
    /// How many are left after it; None where two of them have become one series.
    pub kept: Option<u32>,
    /// Its series, with those that the scraper reports.
    pub series: Vec<ExpectedSeries>,
    /// What values its series can have; None: values are not checked, except that counters never go down.
    #[serde(skip)]
    pub shows: Option<Arc<dyn Shows>>,
}

/// Why there is no expectation.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpectError {
    /// Discovery and relabelling make no target.
    #[error("no target: {0}")]
    Target(#[from] TargetError),
    /// Metric relabelling takes a series' name away, which fails the whole scrape.
    #[error("metric_relabel_configs leave {0} without a name, so that every scrape fails")]
    Nameless(Labels),
    /// Scraped more than a thousand times a second, or less than once in ten years.
    #[error("an interval of {} ms is none", .0.as_millis())]
    Interval(Duration),
    /// Two targets would write the same series.
    #[error("{0} is expected of two targets")]
    Twice(Labels),
}

impl ExpectedTarget {
    /// What has to arrive of a discovered target: the labels of its group, its own, and what it exposes.
    /// None: relabelling drops the target.
    ///
    /// # Errors
    /// Where the labels make no target, or its scrapes cannot succeed.
    pub fn new(
        config: &ScrapeConfig,
        external_labels: &Labels,
        group: &Labels,
        own: &Labels,
        exposed: &[Exposed],
    ) -> Result<Option<Self>, ExpectError> {
        let target = match DiscoveredLabels::new(config, group, own).assemble() {
            Assembled::Target(target) => target,
            Assembled::Dropped { .. } => return Ok(None),
            Assembled::Invalid(error) => return Err(error.into()),
        };
        let labels = target.labels.public();
        let mut series = Vec::with_capacity(exposed.len() + ReportSeries::ALL.len());
        let mut unique = HashSet::new();
        let mut kept = 0;
        for (index, exposed) in (0..).zip(exposed) {
            let Some(built) = final_labels(config, &labels, external_labels, &exposed.labels)? else {
                continue;
            };
            kept += 1;
            // Of two that relabelling makes one, a scraper keeps the first.
            if unique.insert(built.hash64()) {
                let source = Source::Exposed(index);
                series.push(ExpectedSeries { labels: built, monotone: exposed.monotone, source });
            }
        }
        let kept = (series.len() == kept as usize).then_some(kept);
        for report in ReportSeries::ALL {
            let mut builder = LabelsBuilder::from_labels(&labels);
            builder.set(METRIC_NAME, report.name());
            let _set = add_absent(&mut builder, external_labels);
            let source = Source::Report(report);
            series.push(ExpectedSeries { labels: builder.build(), monotone: false, source });
        }
        Ok(Some(Self {
            labels,
            interval: target.interval,
            key: target.key,
            from_ms: 0,
            scraped: exposed.len() as u32,
            kept,
            series,
            shows: None,
        }))
    }

    /// When it is due.
    #[must_use]
    pub fn slots(&self) -> Slots {
        Slots::new(self.interval, self.key)
    }
}

/// The labels that a sample of an exposed series is written with; None: metric relabelling drops it.
fn final_labels(
    config: &ScrapeConfig,
    target: &Labels,
    external_labels: &Labels,
    exposed: &Labels,
) -> Result<Option<Labels>, ExpectError> {
    let mut builder = LabelsBuilder::from_labels(exposed);
    let set = if config.honor_labels {
        add_absent(&mut builder, target)
    } else {
        override_exposed(&mut builder, target)
    };
    let names = set.iter().map(String::as_str);
    if let Outcome::Dropped { .. } = config.metric_relabel.apply_after(&mut builder, names) {
        return Ok(None);
    }
    if !builder.contains(METRIC_NAME) {
        return Err(ExpectError::Nameless(exposed.clone()));
    }
    let _set = add_absent(&mut builder, external_labels);
    Ok(Some(builder.build()))
}

/// Returns the names of those that were set, in order.
fn add_absent<'a>(builder: &mut LabelsBuilder<'a>, labels: &'a Labels) -> Vec<String> {
    let mut set = Vec::new();
    for (name, value) in labels.iter() {
        if !builder.contains(name) {
            builder.set(name, value);
            set.push(name.to_owned());
        }
    }
    set
}

/// The target's labels win; what they displace gets the prefix `exported_`, again until the name is free, short
/// names first (Prometheus, `resolveConflictingExposedLabels`). Returns the names that were set, in order.
fn override_exposed<'a>(builder: &mut LabelsBuilder<'a>, target: &'a Labels) -> Vec<String> {
    let mut set: Vec<String> = target.iter().map(|(name, _)| name.to_owned()).collect();
    let mut displaced: Vec<(String, String)> = Vec::new();
    for (name, value) in target.iter() {
        if builder.contains(name) {
            displaced.push((name.to_owned(), builder.get(name).to_owned()));
        }
        builder.set(name, value);
    }
    displaced.sort_by_key(|(name, _)| name.len());
    for (name, value) in displaced {
        let mut free = format!("exported_{name}");
        while builder.contains(&free) {
            free.insert_str(0, "exported_");
        }
        builder.set(free.clone(), value);
        set.push(free);
    }
    set
}

/// A duration as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// A target's key as a number.
mod key {
    use promring_model::target::TargetKey;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(key: &TargetKey, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(key.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TargetKey, D::Error> {
        u64::deserialize(deserializer).map(TargetKey)
    }
}
