//! Who the drop-in clients are, and what each of them has.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;
use std::sync::Arc;

use promring_model::config::{Clients, Config, Members, Strategy};
use promring_model::placement::{Change, Node, PlacementOptions, Spread};
use promring_model::roster::{Presence, Roster};
use promring_model::target::TargetKey;
use promring_proto::api::{ScraperState, StateView, Version};

use super::board::{Board, Job, Shares};
use crate::reasons::{Reason, Reasons};
use crate::state::State;
use crate::targets::{Discovered, JobTargets};

/// A member: its name, and its node where that is known.
type Taker = (Arc<str>, Option<Node>);

/// The targets of each key.
type ByKey = BTreeMap<TargetKey, Vec<Arc<Discovered>>>;

/// What there is at a moment, or has changed, as far as the board is made of it. It borrows nothing of the state, which
/// others wait for.
pub(crate) struct Look {
    takers: Vec<Taker>,
    waiting: Option<String>,
    /// Everything is here, whatever the last look saw.
    is_whole: bool,
    /// Keys whose targets have changed. Those of which `targets` has none have none any more.
    keys: Vec<TargetKey>,
    /// The targets of these keys; in a whole look, all.
    targets: Vec<Arc<Discovered>>,
    jobs: BTreeMap<String, Job>,
}

/// Where the targets of a key are listed.
#[derive(Clone, PartialEq, Eq)]
struct Listed {
    owner: Arc<str>,
    job: Arc<str>,
}

/// What another allocator has told while it led.
struct Followed {
    /// Who took targets, by name.
    takers: Vec<Arc<str>>,
    owners: HashMap<TargetKey, Arc<str>>,
}

impl From<&StateView> for Followed {
    fn from(view: &StateView) -> Self {
        let takers: Vec<Arc<str>> = view.owners.keys().map(|name| Arc::from(name.as_str())).collect();
        let of_owners = takers.iter().zip(view.owners.values());
        let owners = of_owners.flat_map(|(name, keys)| keys.iter().map(move |key| (*key, Arc::clone(name))));
        let owners = owners.collect();
        Self { takers, owners }
    }
}

/// The clients of an allocator with `clients: drop-in`. They are members as long as the roster has them, and take targets as
/// long as it says that their pods are ready, or nobody watches them. Nobody reports, so nobody lapses.
///
/// Of several allocators the one that leads places targets. The others serve what it has told them ([`StateView`]), and
/// whichever leads next goes on from there.
pub(crate) struct Pool {
    roster: Option<Roster>,
    /// Why the roster cannot be told.
    failure: Option<String>,
    strategy: Strategy,
    serve_secrets: bool,
    /// The term in which this allocator leads; None: it does not.
    term: Option<u64>,
    /// Of the newest placement that is known here: the own one, or the leader's.
    version: Version,
    /// The version of what another leader has told last.
    told: Option<Version>,
    /// What that was, where it is newer than what was placed here.
    followed: Option<Followed>,
    spread: Spread,
    takers: Vec<Taker>,
    /// The keys that placement knows, with their nodes.
    keys: HashMap<TargetKey, Option<Node>>,
    /// Those of them of which another allocator has told and no source yet.
    orphans: BTreeSet<TargetKey>,
    reasons: Reasons,
    /// What the next board tells of targets.
    shares: Shares,
    /// Where in there each key is.
    listed: HashMap<TargetKey, Listed>,
    /// The shares hold everything that the last look saw: the next one need only see what has changed.
    is_whole: bool,
    /// What the board was made of.
    seen: u64,
    board: Arc<Board>,
}

impl Pool {
    /// A pool if the configuration asks for one. `before` is the one that there was.
    pub(crate) fn of(config: &Config, before: Option<Self>) -> Option<Self> {
        let allocator = &config.allocator;
        if allocator.clients != Clients::DropIn {
            return None;
        }
        let mut pool = before.unwrap_or_else(|| Self::new(allocator.strategy));
        if pool.strategy != allocator.strategy {
            // What another allocator has told holds whatever this one's own file says.
            let Self { roster, failure, term, version, told, followed, .. } = pool;
            pool = Self { roster, failure, term, version, told, followed, ..Self::new(allocator.strategy) };
        }
        pool.serve_secrets = allocator.serve_secrets;
        if let Members::Static(names) = &allocator.members {
            pool.roster = Some(Roster::of_names(names.iter().cloned()));
        }
        // Whatever else has changed is looked at anew.
        pool.seen = 0;
        Some(pool)
    }

    fn new(strategy: Strategy) -> Self {
        let options = PlacementOptions::default();
        Self {
            roster: None,
            failure: None,
            strategy,
            serve_secrets: false,
            term: None,
            version: Version { term: 0, counter: 0 },
            told: None,
            followed: None,
            spread: Spread::new(strategy == Strategy::PerNode, &options),
            takers: Vec::new(),
            keys: HashMap::new(),
            orphans: BTreeSet::new(),
            reasons: Reasons::default(),
            shares: Shares::new(),
            listed: HashMap::new(),
            is_whole: false,
            seen: 0,
            board: Arc::new(Board { waiting: Some("starting".to_owned()), ..Board::default() }),
        }
    }

    /// Who the clients are was told, and how their pods are doing.
    pub(crate) fn set_roster(&mut self, roster: Roster) {
        self.roster = Some(roster);
    }

    /// Why nothing is told of the clients; None: it is again.
    pub(crate) fn set_failure(&mut self, failure: Option<String>) {
        self.failure = failure;
    }

    /// What there is to tell now.
    pub(crate) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    fn owner(&self, key: TargetKey) -> Option<&Arc<str>> {
        match &self.followed {
            Some(followed) => followed.owners.get(&key),
            None => self.spread.owner(key),
        }
    }

    /// The newest version; None where this allocator does not lead.
    pub(crate) fn version(&self) -> Option<Version> {
        self.term.map(|_| self.version)
    }

    /// What followers are told; None where this allocator does not lead.
    pub(crate) fn view(&self) -> Option<StateView> {
        let version = self.version()?;
        let mut owners: BTreeMap<String, Vec<TargetKey>> =
            self.takers.iter().map(|(name, _)| (name.to_string(), Vec::new())).collect();
        for key in self.keys.keys() {
            if let Some(of_owner) = self.spread.owner(*key).and_then(|owner| owners.get_mut(&**owner)) {
                of_owner.push(*key);
            }
        }
        Some(StateView { version, ready: self.board.waiting.is_none(), owners })
    }

    /// How everyone is whose name is known.
    fn members(&self) -> BTreeMap<String, ScraperState> {
        let roster = self.roster.as_ref();
        let members = roster.into_iter().flat_map(Roster::names).map(move |name| {
            let state = match roster.and_then(|roster| roster.presence(name)) {
                Some(Presence::Ready | Presence::Unknown) => ScraperState::Ready,
                Some(Presence::Terminating) => ScraperState::Draining,
                Some(Presence::NotReady | Presence::Gone) | None => ScraperState::Lost,
            };
            (name.to_owned(), state)
        });
        members.collect()
    }

    /// Time has passed, or events have come: what the next board is to be made of ([`Pool::take`]); None where the last one
    /// still holds.
    pub(crate) fn look(&mut self, state: &mut State) -> Option<Look> {
        let touched = state.take_touched();
        self.is_whole &= touched.is_some();
        let keys = touched.unwrap_or_default();
        let jobs: Vec<&JobTargets> = state.jobs().collect();
        let seen = self.fingerprint(&jobs, state);
        if seen == self.seen && self.is_whole && keys.is_empty() {
            return None;
        }
        self.seen = seen;
        let takers = self.present();
        let waiting = self.waiting(state, &takers);
        // For as long as nothing is told, nothing is known of what was touched.
        let is_whole = waiting.is_some() || !self.is_whole;
        self.is_whole = waiting.is_none();
        let targets = if waiting.is_some() {
            Vec::new()
        } else if is_whole {
            jobs.iter().flat_map(|job| job.active().values()).map(Arc::clone).collect()
        } else {
            // Each key once, or its targets would come twice.
            let once: BTreeSet<TargetKey> = keys.iter().copied().collect();
            once.into_iter().flat_map(|key| state.living(key)).map(Arc::clone).collect()
        };
        let jobs = jobs.iter().map(|job| (job.config.job_name.clone(), Job::from(*job))).collect();
        Some(Look { takers, waiting, is_whole, keys, targets, jobs })
    }

    /// Makes a new board of this. It costs what has changed, but for a whole look: a whole cluster's targets take their time.
    pub(crate) fn take(&mut self, look: Look) {
        let Look { takers, waiting, is_whole, keys, targets, jobs } = look;
        let mut by_key = ByKey::new();
        if is_whole {
            self.shares.clear();
            self.listed.clear();
        } else {
            by_key.extend(keys.into_iter().map(|key| (key, Vec::new())));
        }
        for target in targets {
            by_key.entry(target.target.key).or_default().push(target);
        }
        let mut moved = Vec::new();
        if waiting.is_none() && self.term.is_some() {
            if is_whole {
                self.orphans = self.keys.keys().filter(|key| !by_key.contains_key(key)).copied().collect();
            }
            moved = self.place(&by_key, takers, jobs.values().all(|job| job.synced));
        }
        for (key, targets) in by_key {
            self.list(key, Some(targets));
        }
        for key in moved {
            self.list(key, None);
        }
        if self.term.is_some() {
            self.version.counter += 1;
        }
        let board = Board {
            waiting,
            members: self.members(),
            version: self.version(),
            shares: self.shares.clone(),
            jobs,
            serve_secrets: self.serve_secrets,
            ..Board::default()
        };
        self.log(&board);
        self.board = Arc::new(board);
    }

    /// Lists a key's targets at its owner, and nowhere else. None: they are those that are listed.
    fn list(&mut self, key: TargetKey, targets: Option<Vec<Arc<Discovered>>>) {
        let owner = self.owner(key).map(Arc::clone);
        if targets.is_none() && self.listed.get(&key).map(|listed| &listed.owner) == owner.as_ref() {
            return;
        }
        let before = self.listed.remove(&key).map(|listed| self.unlist(key, &listed));
        let targets = targets.or(before).unwrap_or_default();
        let (Some(owner), Some(first)) = (owner, targets.first()) else { return };
        // It is part of the key.
        let job = Arc::clone(&first.target.job);
        let share = Arc::make_mut(self.shares.entry(Arc::clone(&owner)).or_default());
        let list = share.entry(Arc::clone(&job)).or_default();
        for target in targets {
            list.insert(target);
        }
        self.listed.insert(key, Listed { owner, job });
    }

    /// Takes a key's targets out of the list that they are in.
    fn unlist(&mut self, key: TargetKey, listed: &Listed) -> Vec<Arc<Discovered>> {
        let Some(share) = self.shares.get_mut(&listed.owner).map(Arc::make_mut) else { return Vec::new() };
        let Some(list) = share.get_mut(&listed.job) else { return Vec::new() };
        let targets = list.remove(key);
        if list.len() == 0 {
            share.remove(&listed.job);
        }
        targets
    }

    /// Takes in who leads: while another one does, what that has told; once this one does, it goes on from there. `term`: in
    /// which this allocator leads, if it does; `view`: what another one that led has told last.
    pub(crate) fn follow(&mut self, term: Option<u64>, view: Option<&StateView>) {
        let leads_on = term.is_some() && term == self.term;
        // What is told anew is the word of who leads now, even in a lower term: a Lease that was deleted begins anew.
        let is_news = |view: &&StateView| view.ready && Some(view.version) != self.told;
        if !leads_on && let Some(view) = view.filter(is_news) {
            self.told = Some(view.version);
            self.followed = Some(Followed::from(view));
            self.version = view.version;
            self.is_whole = false;
        }
        if self.term == term {
            return;
        }
        self.term = term;
        self.is_whole = false;
        if let Some(term) = term {
            if let Some(followed) = self.followed.take() {
                self.take_over(&followed);
            }
            self.version = Version { term, counter: 0 };
        }
    }

    fn take_over(&mut self, followed: &Followed) {
        let node = |name: &str| self.roster.as_ref().and_then(|roster| roster.node(name)).map(Node::from);
        self.takers = followed.takers.iter().map(|name| (Arc::clone(name), node(name))).collect();
        let held = followed.owners.iter().map(|(key, owner)| (*key, f64::NAN, None, owner));
        let by_node = self.strategy == Strategy::PerNode;
        self.spread = Spread::resume(by_node, &PlacementOptions::default(), &self.takers, held);
        self.keys = followed.owners.keys().map(|key| (*key, None)).collect();
    }

    fn present(&self) -> Vec<Taker> {
        let Some(roster) = &self.roster else { return Vec::new() };
        roster.present().map(|name| (Arc::from(name), roster.node(name).map(Arc::from))).collect()
    }

    fn fingerprint(&self, jobs: &[&JobTargets], state: &State) -> u64 {
        // Nothing leaves this process, so the hasher need not be a stable one.
        let mut hasher = DefaultHasher::new();
        (state.may_begin(), self.serve_secrets, self.term, &self.failure).hash(&mut hasher);
        if self.followed.is_some() {
            self.version.hash(&mut hasher);
        }
        for job in jobs {
            (&job.config.job_name, job.revision()).hash(&mut hasher);
        }
        if let Some(roster) = &self.roster {
            for name in roster.names() {
                (name, roster.presence(name).as_ref().map(discriminant), roster.node(name)).hash(&mut hasher);
            }
        }
        hasher.finish().max(1)
    }

    /// Why nothing can be told. Once something was, only the last list counts: whoever is alive goes on with it.
    fn waiting(&self, state: &State, takers: &[Taker]) -> Option<String> {
        if self.term.is_none() && self.followed.is_none() && self.takers.is_empty() {
            return Some("another allocator leads, and has not told its state yet, or none does".to_owned());
        }
        if !state.may_begin() {
            return state.discovery_readiness().err();
        }
        let has_told = self.followed.is_some() || !self.takers.is_empty();
        (takers.is_empty() && !has_told).then(|| {
            let reason = match &self.roster {
                None => "nobody has told yet who the clients are (allocator.members)",
                Some(_) => "no client is ready (allocator.members)",
            };
            let failure = self.failure.iter().map(|failure| format!(": {failure}"));
            std::iter::once(reason.to_owned()).chain(failure).collect()
        })
    }

    /// Gives every key an owner, and tells which have changed theirs. While a source has not told its targets yet, keys that
    /// none has told of stay where they were. One of which a source has told that it is gone does not.
    fn place(&mut self, by_key: &ByKey, takers: Vec<Taker>, is_synced: bool) -> Vec<TargetKey> {
        let mut set: Vec<(Change, Option<Node>)> = Vec::new();
        let mut gone: BTreeSet<TargetKey> = BTreeSet::new();
        for (key, targets) in by_key {
            self.orphans.remove(key);
            if targets.is_empty() {
                gone.insert(*key);
                continue;
            }
            let node = match self.strategy {
                Strategy::ConsistentHashing => None,
                Strategy::PerNode => targets.iter().filter_map(|target| target.node()).min(),
            };
            let known = self.keys.get(key);
            if known.is_none_or(|known| known.as_deref() != node) {
                let node = node.map(Node::from);
                self.keys.insert(*key, node.clone());
                // Nobody reports what a target yields: each counts alike.
                set.push((Change::Set(*key, f64::NAN), node));
            }
        }
        if is_synced {
            gone.append(&mut self.orphans);
        }
        gone.retain(|key| self.keys.remove(key).is_some());
        let gone = gone.into_iter().map(|key| (Change::Remove(key), None));
        let mut changes: Vec<(Change, Option<Node>)> = gone.collect();
        changes.append(&mut set);
        let mut moved: Vec<TargetKey> = Vec::new();
        if !takers.is_empty() && takers != self.takers {
            let reason = self.reason(&takers);
            let moves = self.spread.set_scrapers(&takers);
            let is_first = std::mem::replace(&mut self.takers, takers).is_empty();
            self.reasons.count(reason, if is_first { 0 } else { moves.len() as u64 });
            moved.extend(moves.iter().map(|moved| moved.key));
        }
        if !changes.is_empty() {
            let moves = self.spread.apply(&changes);
            let rebalanced = moves.iter().filter(|moved| moved.from.is_some()).count();
            self.reasons.count(Reason::Rebalance, rebalanced as u64);
            moved.extend(moves.iter().map(|moved| moved.key));
        }
        moved
    }

    /// Why targets move when these take them from now on.
    fn reason(&self, takers: &[Taker]) -> Reason {
        let has = |takers: &[Taker], name: &str| takers.iter().any(|(taker, _)| &**taker == name);
        if takers.iter().any(|(name, _)| !has(&self.takers, name)) {
            return Reason::ScaleOut;
        }
        let gone = self.takers.iter().map(|(name, _)| &**name).find(|name| !has(takers, name));
        let presence = |name| self.roster.as_ref().and_then(|roster| roster.presence(name));
        match gone.map(presence) {
            Some(None) => Reason::ScaleIn,
            Some(Some(Presence::Terminating)) => Reason::Drain,
            Some(Some(_)) => Reason::Lost,
            // The same ones, on other nodes.
            None => Reason::Rebalance,
        }
    }

    /// What a user would wonder about.
    fn log(&self, board: &Board) {
        let before = self.board.left_out();
        for ((reason, jobs), (_, jobs_before)) in board.left_out().into_iter().zip(before) {
            let hidden = match reason {
                "secret" if board.serve_secrets => continue,
                "secret" => {
                    "are not in /scrape_configs: a secret stands in their settings; put it into a file"
                }
                "settings" => "are not in /http_sd without ?job=: their settings are the client's to have",
                "name" => "are not in /scrape_configs: a name of theirs is too long",
                _ => "have no targets for anyone: target_limit is exceeded",
            };
            if jobs != jobs_before && !jobs.is_empty() {
                tracing::warn!(jobs = jobs.join(", "), "drop-in clients: jobs {hidden}");
            }
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("roster", &self.roster)
            .field("takers", &self.takers)
            .finish_non_exhaustive()
    }
}
