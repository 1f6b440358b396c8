//! What an allocator has while it leads, and only then: the leader's state machine, where keys should be, and what each
//! scraper is told. To step down is to drop it.
//!
//! A change goes through in one go ([`Lead::advance`]): what the leader concludes from reports; what discovery, members
//! and weights want otherwise; what the leader makes of that; and for the keys that this touched, what the scrapers
//! concerned are told. Nothing here walks all targets but the first placement, a change of members and what follows one: that who has
//! gone is forgotten.

mod answer;
mod guesses;
mod told;
mod wanted;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use promring_model::handover::{Leader, LeaderOptions, MoveId, Name};
use promring_model::membership::Member;
use promring_model::placement::{Change, Node, ScraperLoad};
use promring_model::target::{TargetId, TargetKey};
use promring_proto::api::Version;

use crate::catalog::{Catalog, Changes};
use crate::intended::Intended;
use crate::lacking::Lacking;
use crate::ledger::{JobTerms, Ledger};
use crate::placing::{Drift, Placed, Placing, Taker};
use crate::reasons::{Reason, Reasons};
use crate::reports::Reports;
use crate::targets::Discovered;
pub(crate) use answer::{Answer, whole};
use guesses::Guesses;
use told::Told;
use wanted::Wanted;

/// How often the ledgers forget what was long ago, in milliseconds.
const FORGET_INTERVAL_MS: i64 = 60_000;

/// What a leader decides by. Shared with everything else that the allocator knows.
pub(crate) struct Seen<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) reports: &'a Reports,
    pub(crate) intended: &'a Intended,
    pub(crate) lacking: &'a Lacking,
}

impl Seen<'_> {
    /// A scraper with its node, where nodes matter: its pod's, or what it has reported.
    fn taker(&self, name: Name) -> Taker {
        if !self.intended.by_node() {
            return (name, None);
        }
        let of_pod = self.intended.roster().and_then(|roster| roster.node(&name));
        let told = self.reports.of(&name).map(|reported| reported.report.node.as_str());
        let node = of_pod.or(told).filter(|node| !node.is_empty()).map(Node::from);
        (name, node)
    }

    /// The node of a key, where nodes matter: of several the first by name.
    fn node(&self, key: TargetKey) -> Option<Node> {
        if !self.intended.by_node() {
            return None;
        }
        self.catalog.living(key).iter().filter_map(|target| target.node()).min().map(Node::from)
    }

    fn weight(&self, key: TargetKey) -> f64 {
        self.weight_of(self.catalog.living(key))
    }

    fn weight_of(&self, living: &[Arc<Discovered>]) -> f64 {
        self.reports.weight(living.iter().map(|target| &**target))
    }

    /// Who gets a key that placement wants at `to`: another one while that scraper's file lacks the key's job.
    fn diverted<'n>(&self, key: TargetKey, to: &'n Name, takers: &'n [Taker]) -> &'n Name {
        if self.lacking.is_idle() {
            return to;
        }
        match self.catalog.living(key).first() {
            Some(target) => {
                self.lacking.divert(key, &target.target.job, to, takers.iter().map(|(name, _)| name))
            }
            None => to,
        }
    }

    fn placed(&self, key: TargetKey, owner: Name) -> Placed {
        (key, self.weight(key), self.node(key), owner)
    }
}

/// The leader and its books.
#[derive(Debug)]
pub(crate) struct Lead {
    pub(crate) leader: Leader,
    raises_term: bool,
    /// When keys move for their weight alone.
    drift: Drift,
    /// None until the first placement.
    placing: Option<Placing>,
    /// Keys that somebody has and of which no source has told a target, as long as a source has not told everything.
    orphans: BTreeSet<TargetKey>,
    /// Those of which it is known by now that they do not exist, and since when.
    ended: BTreeMap<TargetKey, i64>,
    ledgers: HashMap<Name, Ledger>,
    /// A later counter than any that a scraper which is forgotten may have seen.
    floor: u64,
    told: HashMap<TargetKey, Told>,
    /// What is told of jobs, and since which counter.
    jobs: BTreeMap<String, (JobTerms, u64)>,
    /// The counters of what each is told, and since when.
    versions: BTreeMap<Name, (u64, i64)>,
    reasons: Reasons,
    wanted: Wanted,
    guesses: Guesses,
    /// What [`Lacking::changes`] said when keys were last diverted; None: they have to be again.
    diverted: Option<u64>,
    in_flight: BTreeMap<MoveId, i64>,
    asked_ms: i64,
    forgot_ms: i64,
    /// When it was looked for scrapers to forget.
    looked_ms: i64,
    /// Another one is to lead soon.
    retiring: bool,
}

impl Lead {
    pub(crate) fn new(leader: Leader, raises_term: bool, drift: Drift, now_ms: i64) -> Self {
        Self {
            leader,
            raises_term,
            drift,
            placing: None,
            orphans: BTreeSet::new(),
            ended: BTreeMap::new(),
            ledgers: HashMap::new(),
            floor: 0,
            told: HashMap::new(),
            jobs: BTreeMap::new(),
            versions: BTreeMap::new(),
            reasons: Reasons::default(),
            wanted: Wanted::default(),
            guesses: Guesses::default(),
            diverted: Some(0),
            in_flight: BTreeMap::new(),
            asked_ms: now_ms,
            forgot_ms: now_ms,
            looked_ms: now_ms,
            retiring: false,
        }
    }

    /// Changes the leader's times, and when keys move for their weight alone.
    pub(crate) fn set_options(&mut self, options: LeaderOptions, drift: Drift) {
        self.leader.set_options(LeaderOptions { raises_term: self.raises_term, ..options });
        if self.drift != drift {
            self.drift = drift;
            if let Some(placing) = &mut self.placing {
                placing.set_drift(drift);
            }
        }
    }

    /// Another one is to lead soon: nothing new begins.
    pub(crate) fn retire(&mut self) {
        self.retiring = true;
        self.leader.retire();
    }

    /// Whether assignments are given out.
    pub(crate) fn is_placed(&self) -> bool {
        self.placing.is_some()
    }

    /// Time has passed. Returns whether targets are placed for the first time next: nothing is before it `may_begin`, as sources
    /// are waited for.
    pub(crate) fn is_about_to_place(&mut self, catalog: &Catalog, may_begin: bool, now_ms: i64) -> bool {
        self.leader.advance(now_ms);
        // Only who knows all targets can say that each is claimed.
        let is_due = !self.leader.is_leading() && now_ms - self.asked_ms >= 1_000;
        if is_due && catalog.is_synced() {
            self.asked_ms = now_ms;
            self.leader.lead_if_claimed(catalog.keys().map(|(key, _)| key));
        }
        self.leader.is_leading() && may_begin && !self.retiring && self.placing.is_none()
    }

    /// The living targets of the keys that scrapers have, by what they have told of it. Of several who have to do with a key, its owner
    /// comes last.
    pub(crate) fn claimed<'a>(
        &'a self,
        catalog: &'a Catalog,
    ) -> impl Iterator<Item = (&'a Name, &'a Discovered)> {
        self.leader.placed().flat_map(move |(key, _)| {
            let mut names: Vec<&Name> = self.leader.participants(key).map(|(name, _)| name).collect();
            names.reverse();
            let of_key = move |name| catalog.living(key).iter().map(move |target| (name, &**target));
            names.into_iter().flat_map(of_key)
        })
    }

    /// Time has passed, or something has come: to be called after [`Lead::is_about_to_place`]. Returns the scrapers that are told
    /// something new.
    pub(crate) fn advance(
        &mut self,
        seen: &Seen<'_>,
        changes: &Changes,
        may_begin: bool,
        now_ms: i64,
    ) -> Vec<Name> {
        if !self.leader.is_leading() || !may_begin {
            return Vec::new();
        }
        if self.retiring {
            // What was agreed is told to its end; the rest is the next leader's.
            return if self.is_placed() { self.tell(seen, changes, now_ms) } else { Vec::new() };
        }
        if self.placing.is_some() {
            self.follow_changes(seen, changes, now_ms);
        } else {
            self.place_first(seen, now_ms);
        }
        self.follow_members(seen, now_ms);
        self.follow_weights(seen, now_ms);
        self.follow_lacking(seen, now_ms);
        self.tell_jobs(seen, changes);
        self.let_go(seen);
        self.leader.advance(now_ms);
        self.tell(seen, changes, now_ms)
    }

    /// Goes on from where keys are, or were going to. What has no owner yet is placed by the next steps.
    fn place_first(&mut self, seen: &Seen<'_>, now_ms: i64) {
        let placed: Vec<(TargetKey, Name)> =
            self.leader.placed().map(|(key, name)| (key, name.clone())).collect();
        // Whoever has nothing has yet to get its share: it is new, or gave everything away and is back; unless there was nothing
        // for it before.
        let mut scrapers: BTreeSet<Name> = placed.iter().map(|(_, name)| name.clone()).collect();
        if !scrapers.is_empty() {
            let takers = self.leader.membership().takers();
            let is_spare = |name: &&str| seen.reports.of(name).is_some_and(|known| known.report.spare);
            scrapers.extend(takers.filter(is_spare).map(Name::from));
        }
        let scrapers: Vec<Taker> = scrapers.into_iter().map(|name| seen.taker(name)).collect();
        let (alive, orphans): (Vec<_>, Vec<_>) =
            placed.into_iter().partition(|(key, _)| !seen.catalog.living(*key).is_empty());
        self.orphans = orphans.into_iter().map(|(key, _)| key).collect();
        let held = alive.iter().map(|(key, name)| seen.placed(*key, name.clone()));
        let mut placing = Placing::resume(seen.intended.by_node(), &scrapers, held, self.drift, now_ms);
        let held: BTreeMap<TargetKey, &Name> = alive.iter().map(|(key, name)| (*key, name)).collect();
        let new = seen.catalog.keys().filter(|(key, _)| !held.contains_key(key));
        let mut new: Vec<_> = new.map(|(key, living)| (key, seen.weight_of(living))).collect();
        // What is owned is kept in the order of keys, and a million of them go in faster in that order.
        new.sort_unstable_by_key(|(key, _)| *key);
        let new: Vec<_> =
            new.into_iter().map(|(key, weight)| (Change::Set(key, weight), seen.node(key))).collect();
        placing.apply(&new);
        // Where nobody has anything yet, nobody is there for placement either.
        let mut placed: Vec<TargetKey> =
            seen.catalog.keys().filter(|_| !scrapers.is_empty()).map(|(key, _)| key).collect();
        placed.sort_unstable();
        self.placing = Some(placing);
        for key in placed {
            let Some(name) = self.placed_with(key) else { continue };
            // It was on its way there already.
            let goes_on = held.get(&key).is_some_and(|held| **held == name);
            self.want(seen, key, &name, if goes_on { Reason::Takeover } else { Reason::Rebalance }, now_ms);
        }
        self.guesses = Guesses::begin(seen);
        self.end_orphans(seen, now_ms);
    }

    /// Discovery has told something.
    fn follow_changes(&mut self, seen: &Seen<'_>, changes: &Changes, now_ms: i64) {
        let Some(placing) = &mut self.placing else { return };
        let mut placed = Vec::new();
        for key in changes.keys.iter().copied() {
            let living = seen.catalog.living(key);
            if living.is_empty() {
                placed.push((Change::Remove(key), None));
                continue;
            }
            self.orphans.remove(&key);
            // One that somebody has, or had until lately, stays there.
            if placing.owner(key).is_none()
                && let Some(owner) = self.leader.owner(key)
            {
                placing.hold(seen.placed(key, owner.clone()));
            }
            placed.push((Change::Set(key, seen.weight(key)), seen.node(key)));
        }
        let moves = if placed.is_empty() { Vec::new() } else { placing.apply(&placed) };
        for (change, _) in placed {
            match change {
                Change::Remove(key) => self.want_none(key, now_ms),
                Change::Set(key, _) => {
                    if let Some(name) = self.placed_with(key) {
                        // Where that is another one it is on another node now.
                        self.want(seen, key, &name, Reason::Rebalance, now_ms);
                    }
                    if self.told.contains_key(&key) {
                        self.leader.renew(key);
                    }
                }
            }
        }
        // Whatever else has moved in the books moves.
        self.want_all(seen, &moves, Reason::Rebalance, now_ms);
        if changes.jobs {
            self.end_orphans(seen, now_ms);
        }
    }

    /// What no source has told of does not exist, once all have told everything.
    fn end_orphans(&mut self, seen: &Seen<'_>, now_ms: i64) {
        if !seen.catalog.is_synced() {
            return;
        }
        for key in std::mem::take(&mut self.orphans) {
            // Nobody can name its targets, so that a difference could not say that they are gone.
            let names: Vec<Name> = self.leader.participants(key).map(|(name, _)| name.clone()).collect();
            for name in names {
                let counter = self.leader.version_of(&name).counter;
                self.ledger(&name).tell_whole(counter);
            }
            self.ended.insert(key, now_ms);
            self.want_none(key, now_ms);
        }
    }

    /// Scrapers have come or go.
    fn follow_members(&mut self, seen: &Seen<'_>, now_ms: i64) {
        let Some(placing) = &mut self.placing else { return };
        if placing.is_by_node() != seen.intended.by_node() {
            let keys = seen.catalog.keys();
            let held: Vec<Placed> =
                keys.filter_map(|(key, _)| placing.owner(key).map(|owner| seen.placed(key, owner))).collect();
            let moves = placing.turn(seen.intended.by_node(), held);
            self.want_all(seen, &moves, Reason::Rebalance, now_ms);
        }
        let Some(placing) = &mut self.placing else { return };
        let takers = self.leader.membership().takers();
        let takers: Vec<Taker> = takers.map(|name| seen.taker(Name::from(name))).collect();
        if takers.is_empty() || takers == placing.takers() {
            return;
        }
        let has_joined = takers.iter().any(|(taker, _)| !placing.takes(taker));
        let left =
            placing.takers().iter().rfind(|(known, _)| !takers.iter().any(|(taker, _)| taker == known));
        let left = left.map(|(known, _)| known.clone());
        let moves = placing.set_takers(takers);
        // What has an owner who takes targets still moves for the same reason as what has to.
        let beside = match left {
            _ if has_joined => Reason::ScaleOut,
            Some(left) => self.reason_for(seen, &left, Reason::Drain),
            // Their nodes have become known, or are others.
            None => Reason::Rebalance,
        };
        self.want_all(seen, &moves, beside, now_ms);
        // Who is given what others lack is one of those that there are.
        self.diverted = None;
    }

    /// Whom placement gives a key to.
    fn placed_with(&self, key: TargetKey) -> Option<Name> {
        self.placing.as_ref()?.owner(key)
    }

    /// Loads have drifted apart.
    fn follow_weights(&mut self, seen: &Seen<'_>, now_ms: i64) {
        let Some(placing) = &mut self.placing else { return };
        let is_whole = self.guesses.follow(seen, placing, now_ms);
        let weight = |key| {
            let living = seen.catalog.living(key);
            (!living.is_empty()).then(|| (seen.weight(key), seen.node(key)))
        };
        let moves = placing.rebalance(weight, is_whole, now_ms);
        self.want_all(seen, &moves, Reason::Rebalance, now_ms);
    }

    /// Whom a job's targets may be given to has changed.
    fn follow_lacking(&mut self, seen: &Seen<'_>, now_ms: i64) {
        let changes = Some(seen.lacking.changes());
        if self.placing.is_none() || std::mem::replace(&mut self.diverted, changes) == changes {
            return;
        }
        if seen.lacking.is_idle() && self.wanted.is_as_placed() {
            return;
        }
        for (key, _) in seen.catalog.keys() {
            if let Some(owner) = self.placed_with(key) {
                self.want(seen, key, &owner, Reason::Config, now_ms);
            }
        }
    }

    /// The weight of a target that a scraper has is another. Returns its key.
    pub(crate) fn reweighed(&mut self, name: &str, id: TargetId) -> Option<TargetKey> {
        let key = self.key_of(name, id)?;
        if let Some(placing) = &mut self.placing {
            placing.reweighed(key);
        }
        Some(key)
    }

    /// The key of a target that a scraper is told of.
    pub(crate) fn key_of(&self, name: &str, id: TargetId) -> Option<TargetKey> {
        self.ledgers.get(name).and_then(|ledger| ledger.key(id))
    }

    fn tell_jobs(&mut self, seen: &Seen<'_>, changes: &Changes) {
        if !changes.jobs && !self.jobs.is_empty() {
            return;
        }
        let terms = seen.catalog.terms();
        let is_new = |(name, terms): &(&String, &JobTerms)| {
            self.jobs.get(*name).is_none_or(|(known, _)| known != *terms)
        };
        let is_changed = terms.iter().any(|term| is_new(&term));
        if is_changed {
            self.leader.renew_all();
        }
        let counter = self.leader.version().counter;
        let mut before = std::mem::take(&mut self.jobs);
        let told = |(name, terms): (String, JobTerms)| match before.remove(&name) {
            Some((known, since)) if known == terms => (name, (known, since)),
            _ => (name, (terms, counter)),
        };
        self.jobs = terms.into_iter().map(told).collect();
    }

    /// Nobody waits for what scrapers have left that do not come back.
    fn let_go(&mut self, seen: &Seen<'_>) {
        let is_gone = |name: &Name| seen.intended.is_gone(name, self.leader.membership().get(name));
        let gone: BTreeSet<Name> = self.leader.moves().map(|status| status.old).filter(is_gone).collect();
        for name in gone {
            self.leader.left(&name);
        }
    }

    /// Forgets scrapers that have gone for good and left nothing, and returns them.
    pub(crate) fn forget_gone(&mut self, intended: &Intended, reports: &Reports, now_ms: i64) -> Vec<Name> {
        if now_ms - self.looked_ms < FORGET_INTERVAL_MS || !self.is_placed() || self.retiring {
            return Vec::new();
        }
        self.looked_ms = now_ms;
        let may_be_forgotten = |(name, member): &(&str, &Member)| {
            member.lost && intended.may_be_forgotten(name, member, reports.has_backlog(name), now_ms)
        };
        let members = self.leader.membership().members().filter(may_be_forgotten);
        let gone: Vec<Name> = members.map(|(name, _)| Name::from(name)).collect();
        if gone.is_empty() {
            return Vec::new();
        }
        let forgotten = self.leader.forget(&gone);
        for name in &forgotten {
            tracing::info!(scraper = %name, "a scraper that has gone for good is forgotten");
            self.ledgers.remove(name);
            self.versions.remove(name);
        }
        if !forgotten.is_empty() {
            self.floor = self.leader.version().counter;
        }
        forgotten
    }

    /// How many keys scrapers have of which no source has told yet, as discovery has not synced.
    pub(crate) fn unknown_keys(&self) -> usize {
        self.orphans.len()
    }

    /// The newest version for a scraper; None while nothing is given out.
    pub(crate) fn version_of(&self, name: &str) -> Option<Version> {
        self.is_placed().then(|| self.leader.version_of(name))
    }

    /// Whether a scraper takes targets and there are none for it; None while nothing is given out.
    pub(crate) fn is_spare(&self, name: &str) -> Option<bool> {
        self.placing.as_ref().map(|placing| placing.is_spare(name))
    }

    /// For how long a scraper has not had in force what it is told, in milliseconds.
    pub(crate) fn behind_ms(&self, name: &str, in_force: Option<Version>, now_ms: i64) -> i64 {
        let since_ms = self.versions.get(name).map(|(_, since_ms)| *since_ms);
        since_ms.filter(|_| in_force != self.version_of(name)).map_or(0, |since_ms| now_ms - since_ms)
    }

    /// How many targets a scraper is told of.
    pub(crate) fn assigned(&self, name: &str) -> usize {
        self.ledgers.get(name).map_or(0, Ledger::len)
    }

    /// What each scraper is to carry: also of what placement wants with another one, whose file lacks its job.
    pub(crate) fn loads(&self) -> Vec<ScraperLoad> {
        self.placing.as_ref().map(|placing| self.wanted.loads(placing)).unwrap_or_default()
    }

    /// Keys that have moved, by reason.
    #[cfg(test)]
    pub(crate) fn reasons(&self) -> &Reasons {
        &self.reasons
    }
}
