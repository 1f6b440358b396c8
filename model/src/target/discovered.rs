//! From what discovery finds to a target: the labels that relabelling starts from, and what becomes of them.

use std::borrow::Cow;

use super::{
    ADDRESS, ALWAYS_SCRAPE_CLASSIC_HISTOGRAMS, CONVERT_CLASSIC_HISTOGRAMS, META_PREFIX, METRICS_PATH,
    PARAM_PREFIX, SCHEME, SCRAPE_INTERVAL, SCRAPE_NATIVE_HISTOGRAMS, SCRAPE_TIMEOUT, Target, TargetError,
};
use crate::config::ScrapeConfig;
use crate::duration::format_duration;
use crate::labels::{Labels, LabelsBuilder};
use crate::relabel::{Outcome, Step};

/// What became of one discovered set of labels.
#[derive(Clone, Debug)]
pub enum Assembled {
    /// A target to scrape.
    Target(Box<Target>),
    /// Relabelling dropped it, by the rule with this index in `relabel_configs`.
    Dropped {
        /// 0-based index of the rule.
        rule: usize,
    },
    /// Its labels make no target.
    Invalid(TargetError),
}

/// The labels that relabelling starts from: the target's own, the group's where absent, and what the
/// configuration gives where still empty (Prometheus's `PopulateDiscoveredLabels`).
#[derive(Clone, Debug)]
pub struct DiscoveredLabels<'a> {
    config: &'a ScrapeConfig,
    labels: LabelsBuilder<'a>,
    /// The names in the order in which they were set. Empty where no rule asks for it.
    set: Vec<Cow<'a, str>>,
    /// How many of these discovery found; the others are the configuration's.
    found: usize,
}

impl<'a> DiscoveredLabels<'a> {
    /// Those of a target of the job: `own` are the target's, `group` those that its group shares.
    #[must_use]
    pub fn new(config: &'a ScrapeConfig, group: &'a Labels, own: &'a Labels) -> Self {
        Self::of_pairs(config, group.iter(), own.iter())
    }

    /// The same for labels that are kept in another form than [`Labels`].
    #[must_use]
    pub fn of_pairs(
        config: &'a ScrapeConfig,
        group: impl Iterator<Item = (&'a str, &'a str)>,
        own: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut discovered = Self { config, labels: LabelsBuilder::new(), set: Vec::new(), found: 0 };
        for (name, value) in own {
            discovered.default(name.into(), value.into());
        }
        // Every target has an address of its own, be it empty; it is never the group's.
        for (name, value) in group.filter(|(name, _)| *name != ADDRESS) {
            discovered.default(name.into(), value.into());
        }
        discovered.found = discovered.set.len();
        discovered.default("job".into(), config.job_name.as_str().into());
        discovered.default(SCRAPE_INTERVAL.into(), format_duration(config.scrape_interval).into());
        discovered.default(SCRAPE_TIMEOUT.into(), format_duration(config.scrape_timeout).into());
        discovered.default(METRICS_PATH.into(), config.metrics_path.as_str().into());
        discovered.default(SCHEME.into(), config.scheme.as_str().into());
        for (label, on) in [
            (CONVERT_CLASSIC_HISTOGRAMS, config.convert_classic_histograms_to_nhcb),
            (ALWAYS_SCRAPE_CLASSIC_HISTOGRAMS, config.always_scrape_classic_histograms),
            (SCRAPE_NATIVE_HISTOGRAMS, config.scrape_native_histograms),
        ] {
            discovered.default(label.into(), if on { "true" } else { "false" }.into());
        }
        for (name, values) in &config.params {
            if let Some(first) = values.first() {
                discovered.default(format!("{PARAM_PREFIX}{name}").into(), first.as_str().into());
            }
        }
        discovered
    }

    /// Sets what is not set yet.
    fn default(&mut self, name: Cow<'a, str>, value: Cow<'a, str>) {
        if value.is_empty() || self.labels.contains(&name) {
            return;
        }
        if self.config.relabel.ask_for_order() {
            self.set.push(name.clone());
        }
        self.labels.set(name, value);
    }

    /// The finished set.
    #[must_use]
    pub fn build(&self) -> Labels {
        self.labels.build()
    }

    /// Makes a target of them: relabels, checks, drops `__meta_*` and fills in `instance` (Prometheus's
    /// `PopulateLabels`).
    #[must_use]
    pub fn assemble(self) -> Assembled {
        let Self { config, mut labels, set, .. } = self;
        let names = set.iter().map(|name| &**name);
        if let Outcome::Dropped { rule } = config.relabel.apply_after(&mut labels, names) {
            return Assembled::Dropped { rule };
        }
        labels.retain(|name, _| !name.starts_with(META_PREFIX));
        if !labels.contains("instance") {
            let address = labels.get(ADDRESS).to_owned();
            labels.set("instance", address);
        }
        match Target::from_final_labels(config, labels.build()) {
            Ok(target) => Assembled::Target(Box::new(target)),
            Err(error) => Assembled::Invalid(error),
        }
    }

    /// Whether rules make something else of them where discovery found the same labels in another order.
    #[must_use]
    pub fn depends_on_order(&self) -> bool {
        let rules = &self.config.relabel;
        if !rules.ask_for_order() {
            return false;
        }
        let set: Vec<&str> = self.set.iter().map(|name| &**name).collect();
        let (found, given) = set.split_at(self.found);
        let backwards = found.iter().rev().chain(given).copied();
        rules.trace_after(&self.build(), backwards) != self.trace()
    }

    /// What each rule of the job does to them.
    #[must_use]
    pub fn trace(&self) -> Vec<Step> {
        self.config.relabel.trace_after(&self.build(), self.set.iter().map(|name| &**name))
    }
}
