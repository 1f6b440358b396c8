//! Who the drop-in clients are, and what each of them has.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;
use std::sync::Arc;

use promring_model::config::{Clients, Config, Members, Strategy};
use promring_model::placement::{Change, Node, PlacementOptions, Spread};
use promring_model::roster::{Presence, Roster};
use promring_model::target::TargetKey;
use promring_proto::api::{ScraperState, StateView, Version};

use super::board::{Board, Job, Share};
use crate::reasons::{Reason, Reasons};
use crate::state::State;
use crate::targets::{Discovered, JobTargets};

/// A member: its name, and its node where that is known.
type Taker = (Arc<str>, Option<Node>);

/// The targets of each key.
type ByKey = BTreeMap<TargetKey, Vec<Arc<Discovered>>>;

/// What there is at a moment, as far as the board is made of it. It borrows nothing of the state, which others wait for.
pub(crate) struct Look {
    takers: Vec<Taker>,
    waiting: Option<String>,
    /// Those of all jobs.
    targets: Vec<Arc<Discovered>>,
    jobs: BTreeMap<String, Job>,
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
    reasons: Reasons,
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
            let Self { roster, term, version, told, followed, .. } = pool;
            pool = Self { roster, term, version, told, followed, ..Self::new(allocator.strategy) };
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
            strategy,
            serve_secrets: false,
            term: None,
            version: Version { term: 0, counter: 0 },
            told: None,
            followed: None,
            spread: Spread::new(strategy == Strategy::PerNode, &options),
            takers: Vec::new(),
            keys: HashMap::new(),
            reasons: Reasons::default(),
            seen: 0,
            board: Arc::new(Board { waiting: Some("starting".to_owned()), ..Board::default() }),
        }
    }

    /// Who the clients are was told, and how their pods are doing.
    pub(crate) fn set_roster(&mut self, roster: Roster) {
        self.roster = Some(roster);
    }

    /// What there is to tell now.
    pub(crate) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// The owner of a target.
    pub(crate) fn owner(&self, key: TargetKey) -> Option<&str> {
        let owner = match &self.followed {
            Some(followed) => followed.owners.get(&key),
            None => self.spread.owner(key),
        };
        owner.map(|name| &**name)
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
    /// still holds. `term`: in which this allocator leads, if it does; `view`: what another one that led has told last.
    pub(crate) fn look(
        &mut self,
        state: &State,
        term: Option<u64>,
        view: Option<&StateView>,
    ) -> Option<Look> {
        let jobs: Vec<&JobTargets> = state.jobs().collect();
        self.follow(term, view);
        let seen = self.fingerprint(&jobs, state);
        if seen == self.seen {
            return None;
        }
        self.seen = seen;
        let takers = self.present();
        let waiting = self.waiting(state, &takers);
        let of_jobs = jobs.iter().filter(|_| waiting.is_none()).flat_map(|job| job.active().values());
        let targets = of_jobs.map(Arc::clone).collect();
        let jobs = jobs.iter().map(|job| (job.config.job_name.clone(), Job::from(*job))).collect();
        Some(Look { takers, waiting, targets, jobs })
    }

    /// Makes a new board of this. A whole cluster's targets take their time.
    pub(crate) fn take(&mut self, look: Look) {
        let Look { takers, waiting, targets, jobs } = look;
        let mut by_key = ByKey::new();
        for target in targets {
            by_key.entry(target.target.key).or_default().push(target);
        }
        if waiting.is_none() && self.term.is_some() {
            self.place(&by_key, takers, jobs.values().all(|job| job.synced));
        }
        let mut shares: BTreeMap<String, Share> = BTreeMap::new();
        for (key, targets) in by_key {
            let Some(owner) = self.owner(key) else { continue };
            if !shares.contains_key(owner) {
                shares.insert(owner.to_owned(), Share::new());
            }
            let Some(share) = shares.get_mut(owner) else { continue };
            for target in targets {
                match share.get_mut(&target.target.job) {
                    Some(list) => list.push(target),
                    None => drop(share.insert(Arc::clone(&target.target.job), vec![target])),
                }
            }
        }
        if self.term.is_some() {
            self.version.counter += 1;
        }
        let board = Board {
            waiting,
            members: self.members(),
            version: self.version(),
            shares,
            jobs,
            serve_secrets: self.serve_secrets,
            ..Board::default()
        };
        self.log(&board);
        self.board = Arc::new(board);
    }

    /// Takes in who leads: while another one does, what that has told; once this one does, it goes on from there.
    fn follow(&mut self, term: Option<u64>, view: Option<&StateView>) {
        let leads_on = term.is_some() && term == self.term;
        // What is told anew is the word of who leads now, even in a lower term: a Lease that was deleted begins anew.
        let is_news = |view: &&StateView| view.ready && Some(view.version) != self.told;
        if !leads_on && let Some(view) = view.filter(is_news) {
            self.told = Some(view.version);
            self.followed = Some(Followed::from(view));
            self.version = view.version;
        }
        if self.term == term {
            return;
        }
        self.term = term;
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
        (state.may_begin(), self.serve_secrets, self.term).hash(&mut hasher);
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
        (takers.is_empty() && !has_told).then(|| match &self.roster {
            None => "nobody has told yet who the clients are (allocator.members)".to_owned(),
            Some(_) => "no client is ready (allocator.members)".to_owned(),
        })
    }

    /// Gives every key an owner. While a source has not told its targets yet, keys that nobody has told of stay where they
    /// were.
    fn place(&mut self, by_key: &ByKey, takers: Vec<Taker>, is_synced: bool) {
        let unknown = self.keys.keys().filter(|key| is_synced && !by_key.contains_key(key));
        let gone: Vec<TargetKey> = unknown.copied().collect();
        let mut changes: Vec<(Change, Option<Node>)> = Vec::new();
        for key in gone {
            self.keys.remove(&key);
            changes.push((Change::Remove(key), None));
        }
        for (key, targets) in by_key {
            let node = match self.strategy {
                Strategy::ConsistentHashing => None,
                Strategy::PerNode => targets.iter().filter_map(|target| target.node()).min(),
            };
            let known = self.keys.get(key);
            if known.is_none_or(|known| known.as_deref() != node) {
                let node = node.map(Node::from);
                self.keys.insert(*key, node.clone());
                // Nobody reports what a target yields: each counts alike.
                changes.push((Change::Set(*key, f64::NAN), node));
            }
        }
        if !takers.is_empty() && takers != self.takers {
            let reason = self.reason(&takers);
            let moves = self.spread.set_scrapers(&takers);
            let is_first = std::mem::replace(&mut self.takers, takers).is_empty();
            self.reasons.count(reason, if is_first { 0 } else { moves.len() as u64 });
        }
        if !changes.is_empty() {
            let moves = self.spread.apply(&changes);
            let moved = moves.iter().filter(|moved| moved.from.is_some()).count();
            self.reasons.count(Reason::Rebalance, moved as u64);
        }
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
