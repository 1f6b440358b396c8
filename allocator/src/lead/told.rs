//! What each scraper is told: the leader's grants with the targets of their keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use promring_model::handover::{Grant, MoveId, Name};
use promring_model::target::{TargetId, TargetKey};
use promring_proto::api::{Assignment, JobAssignment, Version};

use super::answer::{Answer, Given};
use super::{FORGET_INTERVAL_MS, Lead, Seen};
use crate::catalog::{Catalog, Changes};
use crate::ledger::{JobTerms, Ledger, REMOVALS_KEPT_MS, Removal};
use crate::targets::Discovered;

/// What was told of one key: nearly always that one scraper has its one target, with nothing under way.
#[derive(Debug)]
pub(super) enum Told {
    One(Name, TargetId),
    Other(Box<Parts>),
}

/// The scrapers that were told of a key, and the targets that they were told.
type Parts = (Vec<(Name, Grant)>, Vec<TargetId>);

impl Told {
    fn of(parts: Parts) -> Self {
        match (&parts.0[..], &parts.1[..]) {
            ([(name, grant)], [id]) if *grant == Grant::default() => Self::One(name.clone(), *id),
            _ => Self::Other(Box::new(parts)),
        }
    }

    fn into_parts(self) -> Parts {
        match self {
            Self::One(name, id) => (vec![(name, Grant::default())], vec![id]),
            Self::Other(parts) => *parts,
        }
    }
}

impl Lead {
    /// Brings the ledgers up to date for every key that changed. Returns the scrapers that are told something new.
    pub(super) fn tell(&mut self, seen: &Seen<'_>, changes: &Changes, now_ms: i64) -> Vec<Name> {
        self.count_moves(seen);
        let mut keys: Vec<TargetKey> = self.leader.take_changed().into_iter().collect();
        keys.extend(&changes.keys);
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            self.tell_key(key, seen.catalog.living(key), now_ms);
        }
        if now_ms - self.forgot_ms >= FORGET_INTERVAL_MS {
            self.forgot_ms = now_ms;
            self.forget_reasons();
            self.ledgers.values_mut().for_each(|ledger| ledger.forget(now_ms));
            self.ended.retain(|_, ended_ms| now_ms - *ended_ms < REMOVALS_KEPT_MS);
        }
        self.note_moves(now_ms);
        let mut news = Vec::new();
        for (name, _) in self.leader.membership().members() {
            let counter = self.leader.version_of(name).counter;
            match self.versions.get_mut(name) {
                Some((known, _)) if *known == counter => continue,
                Some(known) => *known = (counter, now_ms),
                None => drop(self.versions.insert(Name::from(name), (counter, now_ms))),
            }
            news.push(Name::from(name));
        }
        news
    }

    fn tell_key(&mut self, key: TargetKey, living: &[Arc<Discovered>], now_ms: i64) {
        let holders: Vec<(Name, Grant)> = match living {
            [] => Vec::new(),
            _ => self.leader.participants(key).map(|(name, grant)| (name.clone(), grant)).collect(),
        };
        let (holders_before, ids_before) = self.told.remove(&key).map(Told::into_parts).unwrap_or_default();
        let is_living = |id: &TargetId| living.iter().any(|target| target.target.id == *id);
        let is_replaced = living.iter().any(|target| !ids_before.contains(&target.target.id));
        for (name, _) in &holders_before {
            let stays = holders.iter().any(|(holder, _)| holder == name);
            let ended = ids_before.iter().filter(|id| !stays || !is_living(id));
            for id in ended {
                let why = self.removal(key, name, stays, is_replaced);
                let counter = self.leader.version_of(name).counter;
                self.ledger(name).end(*id, why, counter, now_ms);
            }
        }
        for (name, grant) in &holders {
            let is_same = holders_before.iter().any(|(known, before)| known == name && before == grant);
            let counter = self.leader.version_of(name).counter;
            let ledger = self.ledger(name);
            for target in living.iter().map(|target| target.target.id) {
                if !is_same || !ids_before.contains(&target) {
                    ledger.tell(target, key, counter);
                }
            }
        }
        if !holders.is_empty() {
            let ids = living.iter().map(|target| target.target.id).collect();
            self.told.insert(key, Told::of((holders, ids)));
        }
    }

    pub(super) fn ledger(&mut self, name: &Name) -> &mut Ledger {
        let floor = self.floor;
        self.ledgers.entry(name.clone()).or_insert_with(|| Ledger::after(floor))
    }

    /// Why a target leaves a scraper, which has others of the key still where it `stays`.
    fn removal(&self, key: TargetKey, name: &Name, stays: bool, is_replaced: bool) -> Removal {
        // One of several targets of a key went without a successor: whoever scrapes it ends its series.
        let is_its_end = stays && !is_replaced && self.leader.owner(key) == Some(name);
        if is_its_end || self.leader.marks(key, name) { Removal::Gone } else { Removal::Moved }
    }

    /// The answer to a poll that holds the version `held`; None where nothing is newer, or nothing is given out.
    pub(crate) fn answer(&self, name: &str, held: Option<Version>, catalog: &Catalog) -> Option<Answer> {
        self.leader.membership().get(name)?;
        let version = self.version_of(name)?;
        if held == Some(version) {
            return None;
        }
        let empty = Ledger::after(self.floor);
        let difference = self.ledgers.get(name).unwrap_or(&empty).since(held, version);
        let base = difference.base;
        let moves = self.leader.terms(name);
        let is_newer = |since: u64| base.is_none_or(|base| since > base.counter);
        let mut upsert: BTreeMap<String, JobAssignment<Given>> = self
            .jobs
            .iter()
            .filter(|(_, (_, since))| is_newer(*since))
            .map(|(job, (terms, _))| (job.clone(), job_assignment(terms)))
            .collect();
        for (id, key) in difference.upsert {
            let Some(target) = catalog.target(key, id) else { continue };
            let job = &*target.target.job;
            let Some((terms, _)) = self.jobs.get(job) else { continue };
            let grant = self.leader.grant(key, name).unwrap_or_default();
            let given = Given::new(target, grant, &moves);
            match upsert.get_mut(job) {
                Some(assignment) => assignment.targets.push(given),
                None => {
                    let assignment = JobAssignment { targets: vec![given], ..job_assignment(terms) };
                    upsert.insert(job.to_owned(), assignment);
                }
            }
        }
        let gone_keys = self.ended.keys().filter(|key| self.leader.marks(**key, name)).copied().collect();
        let (gone, moved) = (difference.gone, difference.moved);
        Some(Assignment { version, base, upsert, gone, moved, gone_keys, moves })
    }

    /// Moves that have ended since: how long they took.
    fn note_moves(&mut self, now_ms: i64) {
        let moves: BTreeMap<MoveId, i64> =
            self.leader.moves().map(|status| (status.id, status.since_ms)).collect();
        for (id, since_ms) in &self.in_flight {
            if !moves.contains_key(id) {
                metrics::histogram!("promring_allocator_handover_duration_seconds")
                    .record((now_ms - since_ms) as f64 / 1_000.0);
            }
        }
        self.in_flight = moves;
    }
}

fn job_assignment(terms: &JobTerms) -> JobAssignment<Given> {
    JobAssignment {
        config_hash: format!("{:016x}", terms.config_hash),
        synced: terms.synced,
        refusal: terms.refusal.clone(),
        targets: Vec::new(),
    }
}
