//! What discovery has found: jobs with their targets, and the living targets of each key. The same in every allocator,
//! whether it leads or not.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use promring_model::config::Config;
use promring_model::target::{TargetId, TargetKey};

use crate::discovery::Found;
use crate::few::Few;
use crate::ledger::JobTerms;
use crate::targets::{Discovered, JobTargets};

/// What has changed since [`Catalog::settle`] was called last.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Keys with a target that is new, or gone; in order, each once.
    pub(crate) keys: Vec<TargetKey>,
    /// Keys with a target in whose place another of the same identity has come.
    pub(crate) replaced: Vec<TargetKey>,
    /// Targets that are gone: none that left and is back by now.
    pub(crate) gone: Vec<(TargetKey, TargetId)>,
    /// What scrapers are told of jobs beside targets may have changed.
    pub(crate) jobs: bool,
}

/// Jobs and targets. What sources tell is seen by key only after [`Catalog::settle`], so that whoever goes by keys and
/// hears of changes there misses none.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    jobs: BTreeMap<String, JobTargets>,
    by_key: HashMap<TargetKey, Few<Arc<Discovered>>>,
    /// Jobs that are no longer configured, and whose targets are still seen by key.
    removed: Vec<JobTargets>,
    unsettled: bool,
}

impl Catalog {
    /// Takes a new configuration. Jobs that are no longer in it end; others keep their targets until their sources have
    /// synced again.
    pub(crate) fn apply_config(&mut self, config: &Config) {
        let mut before = std::mem::take(&mut self.jobs);
        for job in &config.scrape_configs {
            let targets = match before.remove(&job.job_name) {
                Some(mut known) => {
                    known.reconfigure(Arc::clone(job));
                    known
                }
                None => JobTargets::new(Arc::clone(job)),
            };
            // Sources that are no more tell nothing that would correct what is shown of them.
            show(&targets);
            self.jobs.insert(job.job_name.clone(), targets);
        }
        for (name, job) in before {
            self.removed.push(job);
            show_counts(&name, 0, 0, 0);
        }
        self.unsettled = true;
    }

    /// Whether the configuration has a job of this name.
    #[must_use]
    pub(crate) fn has_job(&self, name: &str) -> bool {
        self.jobs.contains_key(name)
    }

    /// A source has told something.
    pub(crate) fn discovered(&mut self, job: &str, source: usize, found: Found) {
        let Some(job) = self.jobs.get_mut(job) else { return };
        self.unsettled |= job.update(source, found);
        show(job);
    }

    /// Brings the keys up to date and tells what has changed.
    pub(crate) fn settle(&mut self) -> Changes {
        let mut changes = Changes::default();
        if !std::mem::take(&mut self.unsettled) {
            return changes;
        }
        changes.jobs = true;
        let mut jobs = std::mem::take(&mut self.jobs);
        for job in jobs.values_mut() {
            self.index(job, &mut changes);
        }
        self.jobs = jobs;
        for mut job in std::mem::take(&mut self.removed) {
            self.index(&mut job, &mut changes);
            for target in job.active().values() {
                self.unindex(target, &mut changes);
            }
        }
        // At a start these are all keys: sorted once, they cost a tenth of a set that is kept sorted.
        changes.keys.sort_unstable();
        changes.keys.dedup();
        changes.gone.retain(|(key, id)| self.target(*key, *id).is_none());
        changes
    }

    fn index(&mut self, job: &mut JobTargets, changes: &mut Changes) {
        for (target, is_active) in job.take_changes() {
            if !is_active {
                self.unindex(&target, changes);
                continue;
            }
            let (key, id) = (target.target.key, target.target.id);
            let mut living = match self.by_key.entry(key) {
                Entry::Occupied(living) => living,
                Entry::Vacant(place) => {
                    place.insert(Few::One(target));
                    changes.keys.push(key);
                    continue;
                }
            };
            match living.get_mut().as_mut_slice().iter_mut().find(|known| known.target.id == id) {
                Some(known) => {
                    // A scraper may be nearer to it now.
                    let has_moved = known.node() != target.node();
                    *known = target;
                    if has_moved { changes.keys.push(key) } else { changes.replaced.push(key) }
                }
                None => {
                    let more = living.remove().with(target);
                    self.by_key.insert(key, more);
                    changes.keys.push(key);
                }
            }
        }
    }

    /// A target is gone, unless another one of the same identity has taken its place.
    fn unindex(&mut self, target: &Arc<Discovered>, changes: &mut Changes) {
        let key = target.target.key;
        let Some(at) = self.living(key).iter().position(|known| Arc::ptr_eq(known, target)) else { return };
        if let Some(rest) = self.by_key.remove(&key).and_then(|living| living.without(at)) {
            self.by_key.insert(key, rest);
        }
        changes.keys.push(key);
        changes.gone.push((key, target.target.id));
    }

    /// The targets of a key.
    pub(crate) fn living(&self, key: TargetKey) -> &[Arc<Discovered>] {
        self.by_key.get(&key).map_or(&[], Few::as_slice)
    }

    /// Every key that has a target.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (TargetKey, &[Arc<Discovered>])> {
        self.by_key.iter().map(|(key, living)| (*key, living.as_slice()))
    }

    /// A target, by key and identity.
    pub(crate) fn target(&self, key: TargetKey, id: TargetId) -> Option<&Arc<Discovered>> {
        self.living(key).iter().find(|target| target.target.id == id)
    }

    /// The jobs, by name.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = &JobTargets> {
        self.jobs.values()
    }

    /// The job of this name.
    pub(crate) fn job(&self, name: &str) -> Option<&JobTargets> {
        self.jobs.get(name)
    }

    /// What scrapers are told of the jobs beside their targets.
    pub(crate) fn terms(&self) -> BTreeMap<String, JobTerms> {
        let terms = |job: &JobTargets| JobTerms {
            config_hash: job.config.scraper_hash,
            synced: job.is_synced(),
            refusal: job.refusal(),
        };
        self.jobs.iter().map(|(name, job)| (name.clone(), terms(job))).collect()
    }

    /// Whether every source has told its targets.
    pub(crate) fn is_synced(&self) -> bool {
        self.jobs.values().all(JobTargets::is_synced)
    }

    /// Whether a source keeps others waiting at a start.
    pub(crate) fn keeps_others_waiting(&self) -> bool {
        self.jobs.values().any(JobTargets::keeps_others_waiting)
    }

    /// Whether a source keeps the allocator from being ready. To be asked as time goes on: a source of which nothing is heard
    /// comes to count as failing here.
    pub(crate) fn keeps_unready(&mut self, now_ms: i64) -> bool {
        let mut unready = false;
        for job in self.jobs.values_mut() {
            let failed = job.failed();
            unready |= job.keeps_unready(now_ms);
            if job.failed() > failed {
                show(job);
                for source in job.sources().filter(|source| !source.synced && !source.last_error.is_empty()) {
                    let (job, error) = (&source.scrape_pool, &source.last_error);
                    tracing::warn!(
                        job,
                        kind = source.kind,
                        error,
                        "a source does not answer; others do not wait for it"
                    );
                }
            }
        }
        unready
    }

    /// The jobs that have not synced, for people.
    pub(crate) fn unsynced(&self) -> String {
        let unsynced = self.jobs.values().filter(|job| !job.is_synced());
        unsynced.map(|job| job.config.job_name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// What the metrics say of a job's sources and targets.
fn show(job: &JobTargets) {
    show_counts(&job.config.job_name, job.failed(), job.duplicates(), job.discovered());
}

fn show_counts(job: &str, failed: usize, duplicates: u64, discovered: usize) {
    let config = || job.to_owned();
    metrics::gauge!("promring_sd_failed", "config" => config()).set(failed as f64);
    metrics::gauge!("promring_allocator_duplicate_targets", "config" => config()).set(duplicates as f64);
    metrics::gauge!("prometheus_sd_discovered_targets", "name" => "scrape", "config" => config())
        .set(discovered as f64);
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use promring_model::config::Discovery;

    use super::*;

    fn config(jobs: &str) -> Config {
        crate::testing::config_in(&format!("scrape_configs: [{jobs}]"))
    }

    /// Sources that found one target twice, and one that fails.
    const FULL: &str =
        "static_configs: [{targets: ['a:1', 'a:1']}], http_sd_configs: [{url: 'http://down/'}]";

    #[test]
    fn nothing_is_shown_of_sources_that_a_reload_has_taken_out() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        // Of the jobs `gone`, `emptied` and `left`: what failed, doubles, and what was found.
        let shown = || {
            let text = handle.render();
            let value = |name: &str, job: &str| {
                let is = |line: &&str| line.starts_with(name) && line.contains(&format!("config=\"{job}\""));
                let line = text.lines().find(is).unwrap_or_else(|| panic!("{name} of {job}: {text}"));
                line.rsplit_once(' ').unwrap().1.to_owned()
            };
            ["gone", "emptied", "left"].map(|job| {
                [
                    "promring_sd_failed{",
                    "promring_allocator_duplicate_targets{",
                    "prometheus_sd_discovered_targets{",
                ]
                .map(|name| value(name, job))
                .join(" ")
            })
        };
        metrics::with_local_recorder(&recorder, || {
            let before = config(
                &["gone", "emptied", "left"].map(|job| format!("{{job_name: {job}, {FULL}}}")).join(", "),
            );
            let mut catalog = Catalog::default();
            catalog.apply_config(&before);
            assert_eq!(shown(), ["0 0 0"; 3], "there from the start");
            for job in &before.scrape_configs {
                for (place, discovery) in job.discovery.iter().enumerate() {
                    let found = match discovery {
                        Discovery::Static(groups) => Found::all(groups),
                        _ => Found::Failed("down".to_owned()),
                    };
                    catalog.discovered(&job.job_name, place, found);
                }
            }
            assert_eq!(shown(), ["1 1 2"; 3]);
            catalog.apply_config(&config(&format!("{{job_name: emptied}}, {{job_name: left, {FULL}}}")));
            assert_eq!(shown(), ["0 0 0", "0 0 0", "1 1 2"]);
        });
    }
}
