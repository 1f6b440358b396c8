//! The allocator's state. What discovery, scrapers and the configuration have told is here whether it leads or not; what
//! follows from that for the scrapers is `Lead`, and there only while it leads.
//!
//! Events and the time go in, what scrapers are told comes out. Sockets and timers stand around it (`lib.rs`, `api.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use promring_model::config::Config;
use promring_model::handover::{Leader, LeaderOptions, MoveStatus, Name, Reply};
use promring_model::membership::{Membership, MembershipOptions};
use promring_model::roster::Roster;
use promring_model::target::{TargetId, TargetKey};
use promring_proto::api::{Assignment, Report, ReportAnswer, TargetReport, Version};

use crate::catalog::Catalog;
use crate::discovery::Found;
use crate::intended::Intended;
use crate::lacking::Lacking;
use crate::lead::{Answer, Lead, Seen, whole};
use crate::namesakes::Namesakes;
use crate::patience::PATIENCE_MS;
use crate::placing::Drift;
pub use crate::reports::Reported;
use crate::reports::{self, Reports};
use crate::targets::{Discovered, JobTargets};

/// Scrapers that may be known at once; a report under a further name is refused.
pub const SCRAPERS_MAX: usize = 10_000;

/// Why a report is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another allocator leads, or none.
    NotLeading,
    /// Whoever reports is no scraper of this allocator.
    Unknown(String),
    /// There are too many scrapers.
    TooMany(String),
}

/// Everything that the allocator knows.
#[derive(Debug)]
pub struct State {
    catalog: Catalog,
    reports: Reports,
    intended: Intended,
    lacking: Lacking,
    namesakes: Namesakes,
    options: LeaderOptions,
    drift: Drift,
    started_ms: i64,
    /// Every source has told what there is, or has failed for long.
    discovered: bool,
    /// Nobody waits for sources any more: what they tell later comes as a change.
    may_begin: bool,
    /// Keys whose targets have changed since they were taken last; None where nobody takes them.
    touched: Option<Vec<TargetKey>>,
    lead: Option<Lead>,
}

impl State {
    /// Nothing discovered, nobody known, not leading.
    #[must_use]
    pub fn new(config: &Config, now_ms: i64) -> Self {
        let mut state = Self {
            catalog: Catalog::default(),
            reports: Reports::default(),
            intended: Intended::new(now_ms),
            lacking: Lacking::default(),
            namesakes: Namesakes::default(),
            options: LeaderOptions::default(),
            drift: drift(config),
            started_ms: now_ms,
            discovered: false,
            may_begin: false,
            touched: None,
            lead: None,
        };
        state.apply_config(config);
        state
    }

    /// Takes a new configuration. Jobs that are no longer in it end; others keep their targets until their
    /// sources have synced again.
    pub fn apply_config(&mut self, config: &Config) {
        self.options = leader_options(config);
        self.drift = drift(config);
        self.intended.apply_config(config);
        self.catalog.apply_config(config);
        let roster = self.intended.roster().cloned();
        if let Some(lead) = &mut self.lead {
            lead.set_options(self.options, self.drift);
            lead.leader.set_roster(roster);
            lead.leader.expect(self.intended.expected());
        }
    }

    /// This allocator leads from now on, with a term that is higher than any before. With `raises_term` it may raise that
    /// further above what scrapers have seen: where no Lease keeps the terms. Nothing is given out before every scraper
    /// has told what it has, or is lost.
    pub fn lead(&mut self, term: u64, raises_term: bool, now_ms: i64) {
        let options = LeaderOptions { raises_term, ..self.options };
        let mut leader = Leader::new(options, term, self.intended.expected(), now_ms);
        leader.set_roster(self.intended.roster().cloned());
        self.lead = Some(Lead::new(leader, raises_term, self.drift, now_ms));
    }

    /// Another one leads. What discovery and scrapers have told stays.
    pub fn step_down(&mut self) {
        self.lead = None;
    }

    /// Another one is to lead soon: nothing new begins, and what scrapers have agreed on is told.
    pub fn retire(&mut self) {
        if let Some(lead) = &mut self.lead {
            lead.retire();
        }
    }

    /// Whether nobody waits for the time of a hand-over that has been agreed on.
    #[must_use]
    pub fn has_told_times(&self, now_ms: i64) -> bool {
        self.lead.as_ref().is_none_or(|lead| lead.leader.has_told_times(now_ms))
    }

    /// Whether every source has told what there is, or has failed for long; if not, the jobs that are waited for. Once it
    /// has, a source that fails or comes anew changes nothing.
    ///
    /// # Errors
    /// Names the jobs.
    pub fn discovery_readiness(&self) -> Result<(), String> {
        if self.discovered { Ok(()) } else { Err(self.unsynced()) }
    }

    /// Whether what is known may be given out: every source has told what there is, or that it fails, or was waited for. A
    /// job of a source that has not synced takes nothing from anybody.
    #[must_use]
    pub fn may_begin(&self) -> bool {
        self.may_begin
    }

    fn unsynced(&self) -> String {
        format!("discovery has not synced for the jobs {}", self.catalog.unsynced())
    }

    /// Whether this allocator leads, which it does before it gives anything out.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.lead.is_some()
    }

    /// A source has told something.
    pub fn discovered(&mut self, job: &str, source: usize, found: Found) {
        self.catalog.discovered(job, source, found);
    }

    /// Who the scrapers are to be was told, and how their pods are doing; None: whoever reports.
    pub fn set_roster(&mut self, roster: Option<Roster>) {
        self.intended.set_roster(roster.clone());
        if let Some(lead) = &mut self.lead {
            lead.leader.set_roster(roster);
            lead.leader.expect(self.intended.expected());
        }
    }

    /// A scraper's process of this run asks for its assignment.
    pub fn polled(&mut self, name: &str, run: u64) {
        if let Some(lead) = &mut self.lead {
            lead.leader.polled(name, run);
        }
    }

    /// A scraper has reported.
    ///
    /// # Errors
    /// Why the report is not taken.
    pub fn report(&mut self, name: &str, mut report: Report, now_ms: i64) -> Result<ReportAnswer, Refusal> {
        let Some(lead) = &mut self.lead else { return Err(Refusal::NotLeading) };
        let members = lead.leader.membership();
        if !members.contains(name) {
            if members.len() >= SCRAPERS_MAX {
                return Err(Refusal::TooMany(format!("{SCRAPERS_MAX} scrapers are known already")));
            }
            if !self.intended.admits(name, report.handover.version.is_some()) {
                return Err(Refusal::Unknown(format!("{name} is none of the scrapers (allocator.members)")));
            }
        }
        let leaving = self.intended.is_leaving(name);
        // One that leaves takes nothing any more, even before it is told to stop.
        report.handover.draining |= report.draining || leaving;
        if report.handover.address.is_empty() {
            report.handover.address.clone_from(&report.address);
        }
        if report.handover.run == 0 {
            lead.leader.alive(name, now_ms);
        }
        let is_old = lead.leader.has_heard(name, report.handover.run, report.handover.sequence);
        let is_late = lead.leader.has_heard(name, report.handover.run, u64::MAX);
        if is_late && self.namesakes.reported(name, report.handover.run) {
            tracing::error!(
                scraper = name,
                address = report.handover.address,
                "two scrapers have this name: the one at this address was started first, is told nothing any more and scrapes what it had; end it"
            );
        }
        let Reply { term, full: full_claims, sequence, .. } =
            lead.leader.report(name, report.handover.clone(), now_ms);
        let lacking = report.unknown_jobs.iter().filter(|job| self.catalog.has_job(job)).cloned();
        self.lacking.reported(name, lacking, now_ms);
        if lead.is_placed() {
            // Nobody tells of targets that are not its own.
            let told = report.targets.len();
            let is_own = |id| lead.key_of(name, id).is_some_and(|key| self.catalog.target(key, id).is_some());
            report.targets.retain(|target| is_own(target.id));
            reports::count_ignored(told - report.targets.len());
        } else if !is_old {
            self.reports.put_by(name, std::mem::take(&mut report.targets));
        }
        let mut reweighed = Vec::new();
        let full = !is_old && self.reports.take(name, report, now_ms, |id| reweighed.push(id));
        for id in reweighed {
            if let Some(target) = lead.reweighed(name, id).and_then(|key| self.catalog.target(key, id)) {
                self.reports.count(target);
            }
        }
        let version = lead.version_of(name);
        let alone = version.is_some() && !lead.leader.has_others(name);
        let staying = version.and_then(|_| lead.leader.staying(name));
        let spare = lead.is_spare(name);
        Ok(ReportAnswer { term, full, leaving, alone, staying, full_claims, sequence, version, spare })
    }

    /// Whether a scraper's ordinal goes away: the roster does not have it, or, without a roster, its name ends in a number
    /// that is too high for the scrapers that there are to be.
    #[must_use]
    pub fn is_leaving(&self, name: &str) -> bool {
        self.intended.is_leaving(name)
    }

    /// Time has passed, or events have come: brings the assignment up to date. Returns the scrapers that are told
    /// something new.
    pub fn advance(&mut self, now_ms: i64) -> Vec<Name> {
        let changes = self.catalog.settle();
        if let Some(touched) = &mut self.touched {
            touched.extend(changes.keys.iter().chain(&changes.replaced));
        }
        self.reports.forget(&changes.gone, now_ms);
        let living = changes.keys.iter().flat_map(|key| self.catalog.living(*key));
        self.reports.welcome(living.map(|target| &**target));
        self.discovered |= !self.catalog.keeps_unready(now_ms);
        let waited = now_ms - self.started_ms >= PATIENCE_MS;
        self.may_begin |= self.discovered || waited || !self.catalog.keeps_others_waiting();
        let Some(lead) = &mut self.lead else { return Vec::new() };
        if self.intended.is_awaited(now_ms) {
            return Vec::new();
        }
        self.lacking.tick(now_ms);
        if lead.is_about_to_place(&self.catalog, self.may_begin, now_ms) && self.reports.has_put_by() {
            for (name, target) in lead.claimed(&self.catalog) {
                self.reports.believe(name, target);
            }
            self.reports.drop_put_by();
        }
        let seen = Seen {
            catalog: &self.catalog,
            reports: &self.reports,
            intended: &self.intended,
            lacking: &self.lacking,
        };
        let news = lead.advance(&seen, &changes, self.may_begin, now_ms);
        for name in lead.forget_gone(&self.intended, &self.reports, now_ms) {
            self.reports.forget_scraper(&name);
            self.lacking.forget(&name);
            self.namesakes.forget(&name);
        }
        news
    }

    /// Whether assignments are given out, and every source has synced or has failed for long; if not, why.
    ///
    /// # Errors
    /// What is still waited for.
    pub fn readiness(&self) -> Result<(), String> {
        self.assigns().and_then(|()| self.discovery_readiness())
    }

    /// Whether assignments are given out, and if not, why.
    ///
    /// # Errors
    /// What is still waited for.
    pub fn assigns(&self) -> Result<(), String> {
        let Some(lead) = &self.lead else { return Err("another allocator leads, or none does".to_owned()) };
        if lead.is_placed() {
            Ok(())
        } else if !self.may_begin {
            Err(self.unsynced())
        } else if lead.leader.membership().is_empty() {
            Err("no scraper has reported yet".to_owned())
        } else if !lead.leader.membership().is_settled() {
            Err("waiting for more scrapers to report (allocator.settle)".to_owned())
        } else {
            Err("waiting for all scrapers to tell what they have, or to be lost (allocator.lapse)".to_owned())
        }
    }

    /// The answer to a poll: None where nothing is newer than what the scraper holds.
    #[must_use]
    pub fn assignment(&self, scraper: &str, held: Option<Version>) -> Option<Assignment> {
        self.answer(scraper, held).map(whole)
    }

    /// The same, to be written.
    pub(crate) fn answer(&self, scraper: &str, held: Option<Version>) -> Option<Answer> {
        self.lead.as_ref()?.answer(scraper, held, &self.catalog)
    }

    /// The newest version for a scraper; None while nothing is given out.
    #[must_use]
    pub fn version_of(&self, scraper: &str) -> Option<Version> {
        self.lead.as_ref()?.version_of(scraper)
    }

    /// The newest version; None where this allocator does not lead.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.lead.as_ref().map(|lead| lead.leader.version())
    }

    /// Keys whose targets have changed since this was called last, each at least once; None at the first call, after which
    /// they are noted.
    pub(crate) fn take_touched(&mut self) -> Option<Vec<TargetKey>> {
        self.touched.replace(Vec::new())
    }

    /// Nobody takes them any more.
    pub(crate) fn forget_touched(&mut self) {
        self.touched = None;
    }

    /// The targets of a key.
    pub(crate) fn living(&self, key: TargetKey) -> &[Arc<Discovered>] {
        self.catalog.living(key)
    }

    /// Jobs with their targets, by name.
    pub fn jobs(&self) -> impl Iterator<Item = &JobTargets> {
        self.catalog.jobs()
    }

    /// The owner of a target; None where it has none yet.
    #[must_use]
    pub fn owner(&self, key: TargetKey) -> Option<&str> {
        self.lead.as_ref()?.leader.owner(key).map(|name| &**name)
    }

    /// Every key that has an owner; nothing where this allocator does not lead.
    pub fn owners(&self) -> impl Iterator<Item = (TargetKey, &str)> {
        self.lead.iter().flat_map(|lead| lead.leader.placed().map(|(key, name)| (key, &**name)))
    }

    /// Samples a second that a target yields, and whether that is known: otherwise it is guessed by the others. One that is
    /// down keeps what it had.
    pub(crate) fn weight(&self, target: &Discovered) -> (f64, bool) {
        (self.reports.weight([target]), self.reports.knows(target.target.id))
    }

    /// What its scraper last said of a target.
    #[must_use]
    pub fn health(&self, id: TargetId) -> Option<&TargetReport> {
        self.reports.health(id)
    }

    /// Why the load of some targets that scrapers have is not known: no source has told of them since this allocator started.
    pub(crate) fn unknown_load(&self) -> Option<String> {
        let keys = self.lead.as_ref().map_or(0, Lead::unknown_keys);
        (keys > 0).then(|| format!("{}, of which scrapers have {keys} targets", self.unsynced()))
    }

    /// Whether this allocator leads and there is no scraper that it could hear of.
    pub(crate) fn hears_no_scraper(&self, now_ms: i64) -> bool {
        self.lead.as_ref().is_some_and(|lead| lead.leader.hears_nobody(now_ms))
    }

    /// The scrapers; None where this allocator does not lead.
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        self.lead.as_ref().map(|lead| lead.leader.membership())
    }

    /// The scrapers that take targets, in order of their names.
    pub fn takers(&self) -> impl Iterator<Item = &str> {
        self.membership().into_iter().flat_map(Membership::takers)
    }

    /// What a scraper last reported.
    #[must_use]
    pub fn reported(&self, scraper: &str) -> Option<&Reported> {
        self.reports.of(scraper)
    }

    /// Whether a scraper's external labels, which are part of every series, are others than those of most scrapers.
    #[must_use]
    pub fn external_labels_differ(&self, scraper: &str) -> bool {
        let hash = |name: &str| self.reports.of(name).map(|reported| &reported.report.external_labels_hash);
        let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
        let members = self.membership().into_iter().flat_map(Membership::members);
        for hash in members.filter(|(_, member)| !member.lost).filter_map(|(name, _)| hash(name)) {
            *counts.entry(hash).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or_default();
        hash(scraper).is_some_and(|own| counts.get(own).is_none_or(|count| *count < most))
    }

    /// How many targets a scraper is told of, those included that come or go.
    #[must_use]
    pub fn assigned(&self, scraper: &str) -> usize {
        self.lead.as_ref().map_or(0, |lead| lead.assigned(scraper))
    }

    /// Moves that are not done.
    pub fn moves(&self) -> impl Iterator<Item = MoveStatus> {
        self.lead.iter().flat_map(|lead| lead.leader.moves())
    }

    /// What this allocator has while it leads.
    pub(crate) fn leading(&self) -> Option<&Lead> {
        self.lead.as_ref()
    }
}

fn drift(config: &Config) -> Drift {
    let allocator = &config.allocator;
    Drift { moves_per_minute: allocator.rebalance_moves_per_minute, band: allocator.rebalance_band }
}

fn leader_options(config: &Config) -> LeaderOptions {
    let allocator = &config.allocator;
    LeaderOptions {
        membership: MembershipOptions { lapse: allocator.lapse, settle: allocator.settle },
        ahead: allocator.handover_lead,
        settled_after: allocator.handover_settle,
        prepare_max: allocator.handover_prepare_max,
        fence_max: config.scraper.fence_max,
        ..LeaderOptions::default()
    }
}

#[cfg(test)]
#[path = "state_tests/mod.rs"]
mod tests;
