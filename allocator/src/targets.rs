//! From target groups to targets: one job's discovered labels, relabelled, checked and without doubles.

use std::collections::BTreeMap;
use std::sync::Arc;

use promring_model::config::ScrapeConfig;
use promring_model::labels::Labels;
use promring_model::target::{Assembled, Target, TargetGroup, TargetId, assemble, discovered_labels};
use promring_proto::api::DroppedTarget;

use crate::discovery::Failure;

/// Dropped targets kept to look at, for each job, unless `keep_dropped_targets` says less.
const DROPPED_KEPT_MAX: u64 = 1_000;

/// A target and the labels that discovery gave it.
#[derive(Debug)]
pub struct Discovered {
    /// The target.
    pub target: Target,
    /// Its labels before relabelling.
    pub labels: Labels,
}

/// One source of a job.
#[derive(Debug, Default)]
struct Source {
    groups: Vec<TargetGroup>,
    synced: bool,
    /// Why it has told nothing (yet), or failed last.
    failure: Option<Failure>,
}

/// Everything that is known of one job's targets.
#[derive(Debug)]
pub struct JobTargets {
    /// The job's configuration.
    pub config: Arc<ScrapeConfig>,
    sources: Vec<Source>,
    active: BTreeMap<TargetId, Arc<Discovered>>,
    dropped: Vec<DroppedTarget>,
    dropped_count: u64,
    duplicates: u64,
}

impl JobTargets {
    /// No source has synced yet.
    #[must_use]
    pub fn new(config: Arc<ScrapeConfig>) -> Self {
        let sources = config.discovery.iter().map(|_| Source::default()).collect();
        Self {
            config,
            sources,
            active: BTreeMap::new(),
            dropped: Vec::new(),
            dropped_count: 0,
            duplicates: 0,
        }
    }

    /// Takes a new configuration of the same job. Sources start anew unless they are the same; until they have
    /// synced, what the old ones found stays.
    pub fn reconfigure(&mut self, config: Arc<ScrapeConfig>) {
        let same_sources = config.discovery == self.config.discovery;
        self.config = config;
        if same_sources {
            self.rebuild();
        } else {
            self.sources = self.config.discovery.iter().map(|_| Source::default()).collect();
        }
    }

    /// A source told its groups, or why it can't. Returns whether the job's targets may have changed.
    pub fn update(&mut self, source: usize, groups: Result<Vec<TargetGroup>, Failure>) -> bool {
        let Some(source) = self.sources.get_mut(source) else { return false };
        match groups {
            Ok(groups) => {
                let changed = !source.synced || source.groups != groups;
                *source = Source { groups, synced: true, failure: None };
                // Until all have synced, targets of a source that has not must not vanish.
                if changed && self.is_synced() {
                    self.rebuild();
                }
                changed
            }
            Err(failure) => {
                source.failure = Some(failure);
                false
            }
        }
    }

    /// How many targets the sources have found, before relabelling.
    #[must_use]
    pub fn discovered(&self) -> usize {
        self.sources.iter().flat_map(|source| &source.groups).map(|group| group.targets.len()).sum()
    }

    /// Whether every source has told its groups.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.sources.iter().all(|source| source.synced)
    }

    /// Whether a source has not synced that still may.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        let hopeless = |source: &Source| source.failure.as_ref().is_some_and(|failure| failure.for_good);
        self.sources.iter().any(|source| !source.synced && !hopeless(source))
    }

    /// Takes the targets of the sources that have synced, although others have not.
    pub fn rebuild(&mut self) {
        self.active.clear();
        self.dropped.clear();
        (self.dropped_count, self.duplicates) = (0, 0);
        let kept_max = self.config.limits.keep_dropped_targets.unwrap_or(DROPPED_KEPT_MAX);
        for group in self.sources.iter().flat_map(|source| &source.groups) {
            for own in &group.targets {
                let labels = discovered_labels(&self.config, &group.labels, own);
                let (dropped_by_rule, error) = match assemble(&self.config, &labels) {
                    Assembled::Target(target) => {
                        let id = target.id;
                        if self.active.insert(id, Arc::new(Discovered { target: *target, labels })).is_some()
                        {
                            self.duplicates += 1;
                        }
                        continue;
                    }
                    Assembled::Dropped { rule } => (Some(rule), String::new()),
                    Assembled::Invalid(error) => {
                        let error = error.to_string();
                        tracing::warn!(job = %self.config.job_name, %labels, error, "not a target");
                        (None, error)
                    }
                };
                self.dropped_count += 1;
                if (self.dropped.len() as u64) < kept_max {
                    let scrape_pool = self.config.job_name.clone();
                    self.dropped.push(DroppedTarget {
                        discovered_labels: labels,
                        scrape_pool,
                        dropped_by_rule,
                        error,
                    });
                }
            }
        }
    }

    /// The targets, by identity.
    #[must_use]
    pub fn active(&self) -> &BTreeMap<TargetId, Arc<Discovered>> {
        &self.active
    }

    /// Targets that relabelling dropped, as far as they are kept, and how many there are.
    #[must_use]
    pub fn dropped(&self) -> (&[DroppedTarget], u64) {
        (&self.dropped, self.dropped_count)
    }

    /// How many targets had the identity of another one.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Why no target of this job may be scraped, if that is so.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let limit = self.config.limits.targets?;
        let count = self.active.len();
        // Prometheus's words, so that alerts on the text keep working.
        (count as u64 > limit)
            .then(|| format!("target_limit exceeded (number of targets: {count}, limit: {limit})"))
    }
}
