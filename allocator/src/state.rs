//! The allocator's state: targets by job, scrapers, owners. Events and the time go in; what scrapers are told
//! comes out. Sockets and timers stand around it (`lib.rs`, `api.rs`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use promring_model::config::{Config, Members};
use promring_model::membership::{Membership, MembershipOptions};
use promring_model::placement::{self, Held, PlacementOptions, Previous};
use promring_model::roster::Roster;
use promring_model::target::{TargetId, TargetKey};
use promring_proto::api::{Assignment, Report, ReportAnswer, TargetReport, Version};

use crate::discovery::Found;
use crate::lacking::Lacking;
use crate::ledger::{JobTerms, Ledger};
use crate::targets::{Discovered, JobTargets};

/// A source that has not synced after this long no longer keeps the allocator from being ready.
const SOURCE_PATIENCE_MS: i64 = 30_000;

/// Scrapers that may be known at once; a report under a further name is refused.
pub const SCRAPERS_MAX: usize = 10_000;

/// What a scraper last reported, beside its targets.
#[derive(Clone, Debug, Default)]
pub struct Reported {
    /// The report without its targets.
    pub report: Report,
    /// Samples a second over its recent reports.
    pub samples_per_second: f64,
    /// When it reported, in Unix milliseconds.
    pub at_ms: i64,
}

/// Everything that the allocator knows.
#[derive(Debug)]
pub struct State {
    term: u64,
    counter: u64,
    started_ms: i64,
    jobs: BTreeMap<String, JobTargets>,
    membership: Membership,
    /// The last placement: the scrapers that there were, and what each key was placed by.
    placed_scrapers: Vec<String>,
    placed: HashMap<TargetKey, Held>,
    /// Owners that scrapers told of, from before this allocator started.
    claims: HashMap<TargetId, String>,
    ledgers: BTreeMap<String, Ledger>,
    health: HashMap<TargetId, TargetReport>,
    reported: BTreeMap<String, Reported>,
    lacking: Lacking,
    /// How many scrapers there are to be, by the configuration.
    replicas: Option<u32>,
    ready: bool,
    stale: bool,
}

impl State {
    /// Nothing discovered, nobody known. The term is the start time in milliseconds, so that it grows with every start.
    #[must_use]
    pub fn new(config: &Config, now_ms: i64) -> Self {
        let mut state = Self {
            term: now_ms.max(1) as u64,
            counter: 0,
            started_ms: now_ms,
            jobs: BTreeMap::new(),
            membership: Membership::new(membership_options(config)),
            placed_scrapers: Vec::new(),
            placed: HashMap::new(),
            claims: HashMap::new(),
            ledgers: BTreeMap::new(),
            health: HashMap::new(),
            reported: BTreeMap::new(),
            lacking: Lacking::default(),
            replicas: None,
            ready: false,
            stale: true,
        };
        state.apply_config(config);
        state
    }

    /// Takes a new configuration. Jobs that are no longer in it end; others keep their targets until their
    /// sources have synced again.
    pub fn apply_config(&mut self, config: &Config) {
        self.membership.set_options(membership_options(config));
        match &config.allocator.members {
            Members::Reporting => self.set_roster(None),
            Members::Static(names) => self.set_roster(Some(Roster::of_names(names.iter().cloned()))),
            // The API server tells; what it told last counts meanwhile.
            Members::StatefulSet(_) => {}
        }
        self.replicas = config.allocator.replicas;
        let mut before = std::mem::take(&mut self.jobs);
        for job in &config.scrape_configs {
            let targets = match before.remove(&job.job_name) {
                Some(mut known) => {
                    known.reconfigure(Arc::clone(job));
                    known
                }
                None => JobTargets::new(Arc::clone(job)),
            };
            self.jobs.insert(job.job_name.clone(), targets);
        }
        for name in before.into_keys() {
            metrics::gauge!("prometheus_sd_discovered_targets", "name" => "scrape", "config" => name)
                .set(0.0);
        }
        self.stale = true;
    }

    /// A source has told something.
    pub fn discovered(&mut self, job: &str, source: usize, found: Found) {
        if let Some(job) = self.jobs.get_mut(job) {
            self.stale |= job.update(source, found);
            metrics::gauge!("promring_sd_failed", "config" => job.config.job_name.clone())
                .set(job.failed() as f64);
            metrics::gauge!("promring_allocator_duplicate_targets", "config" => job.config.job_name.clone())
                .set(job.duplicates() as f64);
            metrics::gauge!("prometheus_sd_discovered_targets", "name" => "scrape", "config" => job.config.job_name.clone())
                .set(job.discovered() as f64);
        }
    }

    /// Who the scrapers are to be was told, and how their pods are doing; None: whoever reports.
    pub fn set_roster(&mut self, roster: Option<Roster>) {
        self.stale |= self.membership.set_roster(roster);
    }

    /// A scraper has reported.
    ///
    /// # Errors
    /// Where more scrapers report than may be known.
    pub fn report(&mut self, name: &str, mut report: Report, now_ms: i64) -> Result<ReportAnswer, String> {
        if !self.membership.contains(name) && self.membership.len() >= SCRAPERS_MAX {
            return Err(format!("{SCRAPERS_MAX} scrapers are known already"));
        }
        let known = self.membership.contains(name);
        let leaving = self.is_leaving(name);
        // One that leaves takes nothing any more, even before it is told to stop.
        self.stale |= self.membership.report(name, report.draining || leaving, now_ms);
        for queue in &report.queues {
            let labels = [("scraper", name.to_owned()), ("remote_name", queue.destination.clone())];
            metrics::gauge!("promring_allocator_queued_samples", &labels).set(queue.samples as f64);
        }
        let claims = (report.full || !known) && (!self.ready || self.is_any_unsynced());
        for target in report.targets.drain(..) {
            if claims {
                self.claims.insert(target.id, name.to_owned());
            }
            self.health.insert(target.id, target);
        }
        let lacking = report.unknown_jobs.iter().filter(|job| self.jobs.contains_key(*job)).cloned();
        self.stale |= self.lacking.reported(name, lacking, now_ms);
        for (kind, jobs) in [("differs", &report.config_mismatch), ("absent", &report.unknown_jobs)] {
            let labels = [("scraper", name.to_owned()), ("kind", kind.to_owned())];
            metrics::gauge!("promring_allocator_config_mismatches", &labels).set(jobs.len() as f64);
        }
        let reported = self.reported.entry(name.to_owned()).or_default();
        reported.observe(report, now_ms);
        // A scraper that this allocator has not seen before may have told only what changed.
        Ok(ReportAnswer { term: self.term, full: !known && !reported.report.full, leaving })
    }

    /// Whether a scraper's ordinal goes away: the roster does not have it, or, without a roster, its name ends in a number
    /// that is too high for the scrapers that there are to be.
    #[must_use]
    pub fn is_leaving(&self, name: &str) -> bool {
        if self.membership.has_roster() {
            return self.membership.is_leaving(name);
        }
        let ordinal = name.rsplit_once('-').and_then(|(_, ordinal)| ordinal.parse::<u32>().ok());
        self.replicas.zip(ordinal).is_some_and(|(replicas, ordinal)| ordinal >= replicas)
    }

    /// Time has passed, or events have come: brings the assignment up to date. Returns whether it changed for anyone.
    pub fn advance(&mut self, now_ms: i64) -> bool {
        self.stale |= self.membership.tick(now_ms);
        self.stale |= self.lacking.tick(now_ms);
        if !self.ready {
            self.become_ready(now_ms);
        }
        if !self.ready || !self.stale {
            return false;
        }
        self.stale = false;
        self.assign(now_ms)
    }

    fn become_ready(&mut self, now_ms: i64) {
        let waited = now_ms - self.started_ms >= SOURCE_PATIENCE_MS;
        let awaited = self.jobs.values().any(JobTargets::is_awaited);
        if (!awaited || waited) && self.membership.is_settled() {
            self.ready = true;
            self.stale = true;
        }
    }

    fn is_any_unsynced(&self) -> bool {
        self.jobs.values().any(|job| !job.is_synced())
    }

    /// Whether assignments are given out, and if not, why.
    ///
    /// # Errors
    /// What is still waited for.
    pub fn readiness(&self) -> Result<(), String> {
        if self.ready {
            return Ok(());
        }
        let unsynced: Vec<&str> = self
            .jobs
            .values()
            .filter(|job| !job.is_synced())
            .map(|job| job.config.job_name.as_str())
            .collect();
        if !unsynced.is_empty() {
            Err(format!("discovery has not synced for the jobs {}", unsynced.join(", ")))
        } else if self.membership.is_empty() {
            Err("no scraper has reported yet".to_owned())
        } else {
            Err("waiting for more scrapers to report (allocator.settle)".to_owned())
        }
    }

    /// Places every target and hands each scraper its part.
    fn assign(&mut self, now_ms: i64) -> bool {
        let takers: Vec<String> = self.membership.takers().map(str::to_owned).collect();
        if takers.is_empty() {
            // Nobody could take anything over: whoever is still alive goes on with what it has.
            return false;
        }
        let mut by_key: BTreeMap<TargetKey, Vec<Arc<Discovered>>> = BTreeMap::new();
        for target in self.jobs.values().flat_map(|job| job.active().values()) {
            by_key.entry(target.target.key).or_default().push(Arc::clone(target));
        }
        self.place(&by_key, &takers);
        let terms: BTreeMap<String, JobTerms> =
            self.jobs.iter().map(|(name, job)| (name.clone(), job_terms(job))).collect();
        let mut parts: BTreeMap<String, Vec<&Arc<Discovered>>> = BTreeMap::new();
        for (key, targets) in &by_key {
            if let Some(owner) = self.owner(*key) {
                parts.entry(owner.to_owned()).or_default().extend(targets);
            }
        }
        for name in self.membership.members().map(|(name, _)| name) {
            self.ledgers.entry(name.to_owned()).or_default();
        }
        let counter = self.counter + 1;
        let mut changed = false;
        for (name, ledger) in &mut self.ledgers {
            let part = parts.remove(name).unwrap_or_default();
            // What has a living target of its key moved or was replaced; its series may go on.
            let gone = |target: &Discovered| !by_key.contains_key(&target.target.key);
            changed |= ledger.replace(part.into_iter(), &terms, gone, counter, now_ms);
            ledger.forget(now_ms);
            metrics::gauge!("promring_allocator_targets", "scraper" => name.clone()).set(ledger.len() as f64);
        }
        if changed {
            self.counter = counter;
        }
        let active: std::collections::HashSet<TargetId> =
            by_key.values().flatten().map(|target| target.target.id).collect();
        self.health.retain(|id, _| active.contains(id) || self.claims.contains_key(id));
        // The targets of sources that have not synced are still to come.
        let awaited = self.is_any_unsynced();
        self.claims.retain(|id, _| awaited && !active.contains(id));
        changed
    }

    /// Places every key, jobs that all takers have together, and each that some lack among those that have it.
    fn place(&mut self, by_key: &BTreeMap<TargetKey, Vec<Arc<Discovered>>>, takers: &[String]) {
        self.take_claims(by_key);
        // Most often there is one part, with all takers.
        let mut parts: Vec<(Vec<&String>, Vec<(TargetKey, f64)>)> = Vec::new();
        let mut part_of: HashMap<&str, usize> = HashMap::new();
        for job in self.jobs.keys() {
            let takers = self.lacking.takers(takers, job);
            let known = parts.iter().position(|(of_part, _)| *of_part == takers);
            part_of.insert(job, known.unwrap_or(parts.len()));
            if known.is_none() {
                parts.push((takers, Vec::new()));
            }
        }
        for (key, target) in by_key.iter().flat_map(|(key, targets)| targets.iter().map(|one| (*key, one))) {
            let part = part_of.get(&*target.target.job).and_then(|part| parts.get_mut(*part));
            if let Some((_, targets)) = part {
                targets.push((key, self.weight(target)));
            }
        }
        let mut placed = HashMap::new();
        for (part_takers, targets) in &parts {
            // A scraper that is passed over was never there, so that each change of the others costs no more than usual.
            let passed_over = |name: &String| takers.contains(name) && !part_takers.contains(&name);
            let before = self.placed_scrapers.iter().enumerate().filter(|(_, name)| !passed_over(name));
            let (before, scrapers): (Vec<usize>, Vec<&String>) = before.unzip();
            let held = |key| {
                let Held { scraper, weight } = self.placed.get(&key).copied()?;
                Some(Held { scraper: before.binary_search(&scraper).ok()?, weight })
            };
            let previous = Previous { scrapers: &scrapers, held: &held };
            let options = PlacementOptions::default();
            let placement = placement::place(targets, part_takers, Some(&previous), &options);
            let index: Vec<usize> = part_takers
                .iter()
                .filter_map(|name| takers.iter().position(|taker| taker == *name))
                .collect();
            let by_key = placement.by_key(targets).into_iter();
            placed.extend(
                by_key.map(|(key, Held { scraper, weight })| (key, Held { scraper: index[scraper], weight })),
            );
        }
        let moved = |(key, now): &(&TargetKey, &Held)| {
            let owner_before = self.placed.get(*key).and_then(|held| self.placed_scrapers.get(held.scraper));
            owner_before.is_some_and(|before| *before != takers[now.scraper])
        };
        metrics::counter!("promring_allocator_moves_total")
            .increment(placed.iter().filter(moved).count() as u64);
        self.placed = placed;
        self.placed_scrapers = takers.to_vec();
    }

    /// After a start, what the scrapers said that they have counts as the last placement, so that a restart of the
    /// allocator moves nothing: not the targets of sources that sync late, either.
    fn take_claims(&mut self, by_key: &BTreeMap<TargetKey, Vec<Arc<Discovered>>>) {
        if self.claims.is_empty() {
            return;
        }
        if self.placed_scrapers.is_empty() {
            self.placed_scrapers = self.claims.values().cloned().collect();
            self.placed_scrapers.sort();
            self.placed_scrapers.dedup();
        }
        let mut claimed = Vec::new();
        for (key, targets) in by_key.iter().filter(|(key, _)| !self.placed.contains_key(*key)) {
            let claim = targets.iter().find_map(|target| self.claims.get(&target.target.id));
            let owner = |name: &String| self.placed_scrapers.iter().position(|known| known == name);
            if let Some(scraper) = claim.and_then(owner) {
                let weight = targets.iter().map(|target| self.weight(target)).sum();
                claimed.push((*key, Held { scraper, weight }));
            }
        }
        self.placed.extend(claimed);
    }

    /// Samples a second of a target; NaN, which placement takes as its default, where none is known.
    fn weight(&self, target: &Discovered) -> f64 {
        match self.health.get(&target.target.id) {
            Some(report) if report.samples > 0 => {
                report.samples as f64 / target.target.interval.as_secs_f64()
            }
            _ => f64::NAN,
        }
    }

    /// The answer to a poll: None where nothing is newer than what the scraper holds.
    #[must_use]
    pub fn assignment(&self, scraper: &str, held: Option<Version>) -> Option<Assignment> {
        if !self.ready {
            return None;
        }
        self.ledgers.get(scraper)?.answer(held, self.term)
    }

    /// The newest version.
    #[must_use]
    pub fn version(&self) -> Version {
        Version { term: self.term, counter: self.counter }
    }

    /// Jobs with their targets, by name.
    pub fn jobs(&self) -> impl Iterator<Item = &JobTargets> {
        self.jobs.values()
    }

    /// The owner of a target; None where it has none yet.
    #[must_use]
    pub fn owner(&self, key: TargetKey) -> Option<&str> {
        self.placed_scrapers.get(self.placed.get(&key)?.scraper).map(String::as_str)
    }

    /// What its scraper last said of a target.
    #[must_use]
    pub fn health(&self, id: TargetId) -> Option<&TargetReport> {
        self.health.get(&id)
    }

    /// The scrapers.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// What a scraper last reported.
    #[must_use]
    pub fn reported(&self, scraper: &str) -> Option<&Reported> {
        self.reported.get(scraper)
    }

    /// Whether a scraper's external labels, which are part of every series, are others than those of most scrapers.
    #[must_use]
    pub fn external_labels_differ(&self, scraper: &str) -> bool {
        let hash = |name: &str| self.reported.get(name).map(|reported| &reported.report.external_labels_hash);
        let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
        let living = self.membership.members().filter(|(_, member)| !member.lost);
        for hash in living.filter_map(|(name, _)| hash(name)) {
            *counts.entry(hash).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or_default();
        hash(scraper).is_some_and(|own| counts.get(own).is_none_or(|count| *count < most))
    }

    /// How many targets a scraper is assigned.
    #[must_use]
    pub fn assigned(&self, scraper: &str) -> usize {
        self.ledgers.get(scraper).map_or(0, Ledger::len)
    }
}

impl Reported {
    fn observe(&mut self, report: Report, now_ms: i64) {
        let seconds = (now_ms - self.at_ms) as f64 / 1_000.0;
        // A total that shrank is a scraper that restarted.
        if self.at_ms > 0 && seconds > 0.0 && report.samples_total >= self.report.samples_total {
            let rate = (report.samples_total - self.report.samples_total) as f64 / seconds;
            // Half of it is forgotten in about ten seconds: scrapes come in bursts.
            let share = 1.0 - 0.5_f64.powf(seconds / 10.0);
            let first = self.samples_per_second == 0.0;
            self.samples_per_second =
                if first { rate } else { self.samples_per_second * (1.0 - share) + rate * share };
        }
        (self.report, self.at_ms) = (report, now_ms);
    }
}

fn membership_options(config: &Config) -> MembershipOptions {
    MembershipOptions { lapse: config.allocator.lapse, settle: config.allocator.settle }
}

fn job_terms(job: &JobTargets) -> JobTerms {
    JobTerms { config_hash: job.config.scraper_hash, synced: job.is_synced(), refusal: job.refusal() }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
