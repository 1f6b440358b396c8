//! From the text of a series to its final labels: merged with the target's, relabelled, checked, and completed with
//! the external labels, for each class of destinations.
//!
//! This is the slow path, walked once a series.

use std::borrow::Cow;
use std::sync::Arc;

use promring_model::config::{NameValidation, RemoteWrite, ScrapeConfig, ScrapeLimits};
use promring_model::labels::{
    Labels, LabelsBuilder, METRIC_NAME, SpareLabels, is_legacy_label_name, is_legacy_metric_name,
};
use promring_model::relabel::{Outcome, Rules};
use promring_model::target::{Target, TargetKey};

use crate::label_limits;
use crate::parse::{LABEL_TWICE, NAME_EMPTY, SeriesText};
use crate::payload::HistogramLimits;
use crate::series::report::{EXTRA_FROM, REPORT_SERIES};

/// Why a series, and with it its whole scrape, is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The text of the series is malformed.
    #[error("{reason}: {excerpt:?}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
        /// The text.
        excerpt: String,
    },
    /// Relabelling took the name away.
    #[error("metric relabelling left the series {0} without a name")]
    NoName(String),
    /// A name that the job's validation scheme refuses.
    #[error("invalid metric or label name {0:?}")]
    InvalidName(String),
    /// More labels than `label_limit`, or longer ones than the length limits.
    #[error("{0}")]
    Limit(String),
    /// A native histogram that cannot be.
    #[error("{0}")]
    Histogram(&'static str),
    /// A native histogram with more buckets than `native_histogram_bucket_limit`, however coarse.
    #[error("histogram bucket limit exceeded")]
    Buckets,
}

/// Destinations with the same `write_relabel_configs` form a class: a series is encoded once for all of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Classes {
    rules: Vec<Rules>,
    /// Whether a destination takes exemplars.
    send_exemplars: bool,
}

impl Classes {
    /// One class without rules.
    #[cfg(test)]
    pub(crate) fn one() -> Self {
        Self { rules: vec![Rules::default()], send_exemplars: true }
    }

    /// The classes of these destinations, and the class of each.
    #[must_use]
    pub fn of(destinations: &[Arc<RemoteWrite>]) -> (Self, Vec<usize>) {
        let mut rules: Vec<Rules> = Vec::new();
        let class_of = destinations
            .iter()
            .map(|destination| {
                rules.iter().position(|known| *known == destination.write_relabel).unwrap_or_else(|| {
                    rules.push(destination.write_relabel.clone());
                    rules.len() - 1
                })
            })
            .collect();
        let send_exemplars = destinations.iter().any(|destination| destination.send_exemplars);
        (Self { rules, send_exemplars }, class_of)
    }
}

/// What is known of every series of a target before any is seen.
#[derive(Debug)]
pub struct SeriesRules {
    /// Labels that every series of the target gets.
    target: Labels,
    honor_labels: bool,
    /// Exposed timestamps are kept.
    pub honor_timestamps: bool,
    /// Series with exposed timestamps get staleness markers too.
    pub track_timestamps_staleness: bool,
    /// Whether a destination takes exemplars.
    pub sends_exemplars: bool,
    /// How many of the series about the scrape are written.
    pub report_series: usize,
    /// What native histograms may be.
    pub histogram_limits: HistogramLimits,
    names: NameValidation,
    limits: ScrapeLimits,
    metric_relabel: Rules,
    /// The target's labels, and the external ones where the target has none of that name.
    base: Labels,
    external: Labels,
    classes: Classes,
}

/// Names of labels that were set behind those that a series was exposed with, in order: where a `labelmap` makes one label
/// of two, the later wins. Kept only where a rule asks for it.
struct NamesSet<'a> {
    names: Vec<Cow<'a, str>>,
    are_wanted: bool,
}

impl<'a> NamesSet<'a> {
    fn note(&mut self, name: impl FnOnce() -> Cow<'a, str>) {
        if self.are_wanted {
            self.names.push(name());
        }
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }
}

/// Final labels of a series, one set a class of destinations; None for a class that drops it.
pub type Sets<'a> = Vec<Option<LabelsBuilder<'a>>>;

impl SeriesRules {
    /// The rules for the series of `target`.
    #[must_use]
    pub fn new(config: &ScrapeConfig, target: &Target, external: &Labels, classes: &Classes) -> Self {
        let public = target.labels.public();
        let base = external.iter().chain(public.iter()).collect();
        Self {
            target: public,
            base,
            honor_labels: config.honor_labels,
            honor_timestamps: config.honor_timestamps,
            track_timestamps_staleness: config.track_timestamps_staleness,
            sends_exemplars: classes.send_exemplars,
            report_series: if config.extra_scrape_metrics { REPORT_SERIES.len() } else { EXTRA_FROM },
            histogram_limits: HistogramLimits::new(&config.limits),
            names: config.metric_name_validation_scheme,
            limits: config.limits.clone(),
            metric_relabel: config.metric_relabel.clone(),
            external: external.clone(),
            classes: classes.clone(),
        }
    }

    /// The lane of a target at each destination: that of the key which a target would have whose labels are those that all series of this
    /// one get. Of targets of which these are the same, as the rules take away what tells them apart, or as their jobs have one label
    /// `job`, series may be the same; and one series has one lane. For most targets it is their own key's.
    #[must_use]
    pub fn lane(&self) -> u64 {
        let mut labels = LabelsBuilder::from_labels(&self.target);
        // Whatever becomes of a series without a name.
        let _ = self.metric_relabel.apply(&mut labels);
        labels.remove(METRIC_NAME);
        TargetKey::new(labels.get("job"), &labels.build()).0
    }

    /// The final labels of a series; None where metric relabelling drops it. They take the room that is spare; whoever is
    /// done with them gives it back.
    ///
    /// # Errors
    /// Where the text is malformed, a name is invalid, or a limit is exceeded.
    pub fn resolve<'a>(
        &'a self,
        series: &SeriesText<'a>,
        spare: &mut SpareLabels,
    ) -> Result<Option<Sets<'a>>, Refusal> {
        let mut labels = spare.take();
        let malformed =
            |reason| Refusal::Malformed { reason, excerpt: series.to_string().chars().take(80).collect() };
        let odd = series.labels(&mut labels).map_err(malformed)?.unwrap_or_default();
        let mut set = NamesSet { names: Vec::new(), are_wanted: self.metric_relabel.ask_for_order() };
        self.merge_target(&mut labels, &odd.emptied, &mut set);
        let outcome = self.metric_relabel.apply_after(&mut labels, set.iter());
        // Of a series without its name Prometheus asks where it is, but not of one without any label.
        if outcome != Outcome::Kept || labels.is_empty() {
            spare.keep(labels);
            return Ok(None);
        }
        if labels.contains("") {
            return Err(malformed(NAME_EMPTY));
        }
        self.check(&labels)?;
        // Only a rule that drops it puts it right.
        if odd.twice.iter().any(|(name, _)| labels.contains(name)) {
            return Err(malformed(LABEL_TWICE));
        }
        Ok(Some(self.finish(labels)))
    }

    /// One of the series that promring writes about the scrape itself. Metric relabelling and limits do not apply.
    #[must_use]
    pub fn report_series(&self, name: &str) -> Sets<'_> {
        let mut labels = LabelsBuilder::from_labels(&self.target);
        labels.set(METRIC_NAME, name.to_owned());
        self.finish(labels)
    }

    /// The labels that nearly all series of the target have.
    #[must_use]
    pub fn base(&self) -> &Labels {
        &self.base
    }

    /// How many classes of destinations there are.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes.rules.len()
    }

    /// Prometheus's `mutateSampleLabels`: the target's labels win, and an exposed label of the same name becomes
    /// `exported_…`; with honor_labels the exposed ones win. `emptied`: exposed with an empty value, by which the
    /// Pushgateway, for one, keeps the target's `instance` away.
    fn merge_target<'a>(
        &'a self,
        labels: &mut LabelsBuilder<'a>,
        emptied: &[(Cow<'a, str>, Cow<'a, str>)],
        set: &mut NamesSet<'a>,
    ) {
        if self.honor_labels {
            for (name, value) in self.target.iter() {
                if !emptied.iter().any(|(emptied, _)| emptied == name) && labels.add(name, value) {
                    set.note(|| name.into());
                }
            }
            return;
        }
        let mut conflicts: Vec<(&str, Cow<'a, str>)> = Vec::new();
        for (name, value) in self.target.iter() {
            // Of a label that was given with a value before it was given with none, Prometheus finds that one.
            let emptied = || emptied.iter().find(|(emptied, value)| emptied == name && !value.is_empty());
            let exposed = labels.replace(name, value).or_else(|| emptied().map(|(_, value)| value.clone()));
            if let Some(exposed) = exposed {
                conflicts.push((name, exposed));
            }
            set.note(|| name.into());
        }
        // Shortest first, so that `exported_x` of x is settled before an exposed `exported_x` moves on.
        conflicts.sort_by_key(|(name, _)| name.len());
        for (name, value) in conflicts {
            let mut exported = format!("exported_{name}");
            while labels.contains(&exported) {
                exported.insert_str(0, "exported_");
            }
            set.note(|| exported.clone().into());
            labels.set(exported, value);
        }
    }

    fn check(&self, labels: &LabelsBuilder<'_>) -> Result<(), Refusal> {
        let name = labels.get(METRIC_NAME);
        if name.is_empty() {
            return Err(Refusal::NoName(labels.build().to_string()));
        }
        if self.names == NameValidation::Legacy {
            let label = labels.iter().map(|(name, _)| name).find(|name| !is_legacy_label_name(name));
            let invalid = if is_legacy_metric_name(name) { label } else { Some(name) };
            if let Some(invalid) = invalid {
                return Err(Refusal::InvalidName(invalid.to_owned()));
            }
        }
        label_limits::check(labels, &self.limits).map_err(Refusal::Limit)
    }

    /// External labels where absent, and each class's own rules.
    fn finish<'a>(&'a self, mut labels: LabelsBuilder<'a>) -> Sets<'a> {
        let asks = self.classes.rules.iter().any(Rules::ask_for_order);
        let mut set = NamesSet { names: Vec::new(), are_wanted: asks };
        for (name, value) in self.external.iter() {
            if labels.add(name, value) {
                set.note(|| name.into());
            }
        }
        let of_class = |rules: &Rules, mut own: LabelsBuilder<'a>| {
            let kept = matches!(rules.apply_after(&mut own, set.iter()), Outcome::Kept);
            // Without labels there is nothing that a receiver could store.
            (kept && !own.is_empty()).then_some(own)
        };
        let Some((last, others)) = self.classes.rules.split_last() else { return Vec::new() };
        let mut sets = Vec::with_capacity(self.classes.rules.len());
        sets.extend(others.iter().map(|rules| of_class(rules, labels.clone())));
        sets.push(of_class(last, labels));
        sets
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{job, rules_for, target_of};

    /// Whether the lane of a target with these settings is its key's, and the lane.
    fn lane(settings: &str) -> (bool, u64) {
        let job = job(settings);
        let lane = rules_for(&job).lane();
        (lane == target_of(&job).key.0, lane)
    }

    #[test]
    fn targets_whose_series_may_be_the_same_have_one_lane() {
        let pod = |labels: &str, rules: &str| {
            lane(&format!("static_configs: [{{targets: ['host:1'], labels: {{{labels}}}}}]\n{rules}"))
        };
        let drop = "metric_relabel_configs: [{regex: pod, action: labeldrop}]";
        let (is_of_key, without) = pod("", drop);
        assert!(is_of_key);
        assert_eq!(pod("pod: one", drop), (false, without));
        assert_eq!(pod("pod: two", drop), (false, without));
        let (is_of_key, one) = pod("pod: one", "");
        assert!(is_of_key && one != without);
        // Of some series the rules take nothing away.
        let some = "metric_relabel_configs: [{source_labels: [__name__], regex: a, target_label: pod, replacement: ''}]";
        assert_eq!(pod("pod: one", some), (true, one));
        // Whatever their jobs are called.
        let (is_of_key, same) = pod("job: same", "");
        assert!(!is_of_key);
        assert_eq!(pod("job: same, pod: one", drop).1, same);
        assert_eq!(pod("", "metric_relabel_configs: [{target_label: job, replacement: same}]").1, same);
    }
}
