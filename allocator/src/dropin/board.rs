//! What drop-in clients are told: a picture of the moment, shared by all requests until the next change.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use promring_model::config::ScrapeConfig;
use promring_model::target::TargetKey;
use promring_proto::api::{ScraperState, Version};

use super::list::List;
use super::render;
use crate::targets::JobTargets;

/// The targets of one member, by job. No list is empty.
pub(crate) type Share = BTreeMap<Arc<str>, List>;

/// What each member has. A copy shares with the one that it was made of whatever does not change.
pub(crate) type Shares = BTreeMap<Arc<str>, Arc<Share>>;

/// What there is to tell.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// Why nothing is told yet; None once something is.
    pub(crate) waiting: Option<String>,
    /// Everyone whose name is known, whether it takes targets or not, and how it is.
    pub(crate) members: BTreeMap<String, ScraperState>,
    /// None where this allocator does not lead.
    pub(crate) version: Option<Version>,
    /// What each member has.
    pub(crate) shares: Shares,
    /// The jobs, by name.
    pub(crate) jobs: BTreeMap<String, Job>,
    /// Secrets may be told, over a connection that allows it.
    pub(crate) serve_secrets: bool,
    /// The body of `/scrape_configs`, without and with secrets.
    pub(super) scrape_configs: [OnceLock<Bytes>; 2],
}

/// One job.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) config: Arc<ScrapeConfig>,
    /// Every source of it has told its targets.
    pub(crate) synced: bool,
    /// Why none of its targets may be scraped.
    pub(crate) refusal: Option<String>,
}

impl From<&JobTargets> for Job {
    fn from(job: &JobTargets) -> Self {
        Self { config: Arc::clone(&job.config), synced: job.is_synced(), refusal: job.refusal() }
    }
}

impl Board {
    /// The targets of a member in a job. None for a member without any, and for a job whose targets may not be scraped.
    pub(crate) fn targets(&self, member: &str, job: &str) -> Option<&List> {
        self.jobs.get(job).filter(|job| job.refusal.is_none())?;
        self.shares.get(member)?.get(job)
    }

    /// Who has each key.
    pub(crate) fn owners(&self) -> HashMap<TargetKey, &str> {
        let mut owners = HashMap::new();
        for (name, share) in &self.shares {
            owners.extend(share.values().flat_map(List::iter).map(|target| (target.target.key, &**name)));
        }
        owners
    }

    /// How many targets a member has.
    pub(crate) fn count(&self, member: &str) -> usize {
        self.shares.get(member).map_or(0, |share| share.values().map(List::len).sum())
    }

    /// Jobs that a client can scrape by their targets' labels alone, without settings of its own for them.
    pub(crate) fn plain_jobs(&self) -> impl Iterator<Item = (&str, &Job)> {
        let plain = self.jobs.iter().filter(|(_, job)| !render::needs_settings(&job.config));
        plain.map(|(name, job)| (name.as_str(), job))
    }

    /// Jobs by why a client is not told of them, for metrics and the log.
    pub(crate) fn left_out(&self) -> [(&'static str, Vec<&str>); 4] {
        let jobs = |keep: fn(&Job) -> bool| {
            let kept = self.jobs.iter().filter(move |(_, job)| keep(job));
            kept.map(|(name, _)| name.as_str()).collect()
        };
        [
            ("secret", jobs(|job| job.config.http_written.has_secret())),
            ("settings", jobs(|job| render::needs_settings(&job.config))),
            ("name", jobs(|job| !render::has_valid_names(&job.config))),
            ("target_limit", jobs(|job| job.refusal.is_some())),
        ]
    }

    /// Sets the gauges. Who has what, only the one that leads shows.
    pub(crate) fn show(&self, leads: bool) {
        for (reason, jobs) in self.left_out() {
            metrics::gauge!("promring_dropin_jobs_left_out", "reason" => reason).set(jobs.len() as f64);
        }
        if !leads {
            return;
        }
        for name in self.members.keys() {
            let targets = self.count(name) as f64;
            metrics::gauge!("promring_allocator_targets", "scraper" => name.clone()).set(targets);
        }
        let ready = self.members.values().filter(|state| **state == ScraperState::Ready).count();
        metrics::gauge!("promring_allocator_scrapers", "state" => "ready").set(ready as f64);
        let others = (self.members.len() - ready) as f64;
        metrics::gauge!("promring_allocator_scrapers", "state" => "lost_or_draining").set(others);
    }

    /// The body of `/scrape_configs`: every job whose settings may be told. Made once.
    pub(crate) fn scrape_configs(&self, with_secrets: bool) -> Bytes {
        let [without, with] = &self.scrape_configs;
        let cell = if with_secrets { with } else { without };
        let told = |job: &&Job| {
            let config = &job.config;
            (with_secrets || !config.http_written.has_secret()) && render::has_valid_names(config)
        };
        cell.get_or_init(|| render::scrape_configs(self.jobs.values().filter(told).map(|job| &*job.config)))
            .clone()
    }
}
