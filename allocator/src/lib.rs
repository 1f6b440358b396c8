//! The allocator: discovers targets, assigns each to exactly one scraper, and tells scrapers over HTTP.
//!
//! [`State`] holds the rules and knows neither sockets nor the clock. [`Allocator`] feeds it: discovery's updates,
//! scrapers' reports, and the time.

mod answers;
mod api;
mod away;
pub mod callers;
mod catalog;
pub mod discovery;
mod dropin;
mod few;
mod gauges;
mod intended;
mod kubernetes;
mod lacking;
mod lead;
mod leadership;
pub mod lease;
pub mod ledger;
mod means;
mod members;
mod mirror;
mod namesakes;
pub mod packed;
mod patience;
mod placing;
mod polls;
mod reasons;
mod reports;
pub mod scaling;
pub mod state;
mod succession;
pub mod targets;
#[cfg(test)]
mod testing;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use promring_model::config::{Config, HttpClientConfig};
use promring_model::handover::Name;
use promring_model::roster::Roster;
use promring_net::client::{ClientError, HttpClient};
use promring_net::clock::now_ms;
use promring_net::observe;
use promring_net::server::Readiness;
use promring_net::shutdown::Shutdown;
use promring_proto::api::{Scaling, ScraperList, ScraperStatus, Version};
use tokio::sync::{mpsc, watch};

use answers::Answers;
use callers::Callers;
use discovery::{Sources, Update, Watches};
use dropin::{Board, Pool};
use leadership::Candidacy;
use lease::{Leadership, Lease, LeaseOptions};
use members::{Told, Watching};
use mirror::Mirror;
use polls::Polls;
pub use state::State;

/// How often the time is told to the state: how late a lapse or the settle time may be noticed.
const TICK: Duration = Duration::from_millis(250);

/// How often the metrics of scaling are worked out: it takes a walk over all targets.
const SCALING_INTERVAL: Duration = Duration::from_secs(10);

/// Updates that come within this time are taken together.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// How often callers that no longer call are forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Updates that may wait to be taken.
const UPDATES_MAX: usize = 1_024;

/// What an allocator is started with, beside its configuration.
#[derive(Debug, Default)]
pub struct AllocatorOptions {
    /// Who may act as a scraper.
    pub callers: Callers,
    /// The election that it takes part in; None: it is the only one, and leads.
    pub election: Option<ElectionOptions>,
}

/// An election among several allocators.
#[derive(Clone, Debug)]
pub struct ElectionOptions {
    /// The Lease that says who leads.
    pub lease: LeaseOptions,
    /// How other allocators are reached.
    pub http: HttpClientConfig,
}

/// A running allocator. Clones share one state.
#[derive(Clone, Debug)]
pub struct Allocator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// What takes the place of the state's assignment where the clients are not promring's scrapers. Locked before the
    /// state.
    pool: Mutex<Option<Pool>>,
    /// The pool's newest board: whoever asks does not wait for the pool, which may be at work on the next one.
    board: Mutex<Option<Arc<Board>>>,
    /// Why those that are to be members cannot be watched; None where they are, or need not be.
    members_failure: Mutex<Option<String>>,
    polls: Polls,
    /// Something is new for any scraper.
    any_news: watch::Sender<()>,
    answers: Answers,
    configs: watch::Sender<Arc<Config>>,
    callers: Callers,
    candidacy: Option<Candidacy>,
    mirror: Mirror,
    /// What the load wanted last; None where that is not known, or not asked for.
    scaling: Mutex<Option<Scaling>>,
    stopping: Shutdown,
}

/// What an advance of the state brings.
struct News {
    /// Scrapers that are told something new.
    names: Vec<Name>,
    /// To be ready, or to give out assignments, begins or ends.
    begins_or_ends: bool,
}

impl Allocator {
    /// An allocator for this configuration that anyone may call; [`Allocator::run`] makes it live.
    #[must_use]
    pub fn new(config: Arc<Config>, stopping: Shutdown) -> Self {
        Self::assemble(config, Callers::default(), None, stopping)
    }

    /// The same for callers that show who they are, and as one of several.
    ///
    /// # Errors
    /// Where the client for other allocators cannot be made.
    pub fn with_options(
        config: Arc<Config>,
        options: AllocatorOptions,
        stopping: Shutdown,
    ) -> Result<Self, ClientError> {
        let candidacy = match options.election {
            None => None,
            Some(election) => {
                // Who leads is what the Lease says, not what an answer says.
                let http = HttpClientConfig { follow_redirects: false, ..election.http };
                Some(Candidacy::new(Lease::new(election.lease), HttpClient::new(&http)?))
            }
        };
        Ok(Self::assemble(config, options.callers, candidacy, stopping))
    }

    fn assemble(
        config: Arc<Config>,
        callers: Callers,
        candidacy: Option<Candidacy>,
        stopping: Shutdown,
    ) -> Self {
        let mut state = State::new(&config, now_ms());
        if candidacy.is_none() {
            // Without a Lease the start time is a term that grows with every start.
            state.lead(now_ms().max(1) as u64, true, now_ms());
        }
        let pool = Pool::of(&config, None);
        let shared = Shared {
            state: Mutex::new(state),
            board: Mutex::new(pool.as_ref().map(Pool::board)),
            pool: Mutex::new(pool),
            members_failure: Mutex::default(),
            polls: Polls::default(),
            any_news: watch::Sender::new(()),
            answers: Answers::default(),
            configs: watch::Sender::new(config),
            callers,
            candidacy,
            mirror: Mirror::default(),
            scaling: Mutex::new(None),
            stopping,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Takes a new configuration.
    pub fn apply_config(&self, config: Arc<Config>) {
        self.shared.configs.send_replace(config);
    }

    /// Runs discovery, keeps the assignment up to date while this allocator leads, and follows the leader while another one
    /// does; until the stop begins.
    pub async fn run(&self) {
        let election = async {
            if let Some(candidacy) = self.candidacy() {
                candidacy.run().await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.keep_up() => {}
            () = election => {}
            () = self.follow_leader() => {}
        }
    }

    async fn keep_up(&self) {
        let (updates, mut received) = mpsc::channel(UPDATES_MAX);
        let mut configs = self.shared.configs.subscribe();
        let mut config = Arc::clone(&configs.borrow_and_update());
        let mut generation = 0;
        let watches = Watches::default();
        let mut members = Watching::start(&config, &watches);
        let mut sources = Sources::start(&config, generation, &updates, &watches);
        tracing::info!(
            jobs = config.scrape_configs.len(),
            sources = sources.len(),
            "allocator: discovery started"
        );
        let mut tick = tokio::time::interval(TICK);
        let mut scaling = tokio::time::interval(SCALING_INTERVAL);
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        let shown = self.clone();
        let _shown = observe::collect(move || shown.show());
        let mut leadership = self.candidacy().map(Candidacy::changes);
        loop {
            let elected = async {
                match &mut leadership {
                    Some(leadership) => leadership.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.shared.stopping.wait() => return,
                _ = tick.tick() => {}
                _ = scaling.tick() => {
                    self.measure();
                    continue;
                }
                _ = elected => {}
                _ = sweep.tick() => {
                    self.shared.polls.sweep();
                    continue;
                }
                changed = configs.changed() => {
                    if changed.is_err() { return }
                    config = Arc::clone(&configs.borrow_and_update());
                    generation += 1;
                    self.take_config(&config);
                    sources = Sources::start(&config, generation, &updates, &watches);
                    if members.apply_config(&config, &watches) {
                        self.set_members_failure(None);
                    }
                    tracing::info!(jobs = config.scrape_configs.len(), sources = sources.len(), "allocator: configuration taken");
                }
                Some(told) = members.next() => match told {
                    Told::Roster(roster) => self.set_roster(roster),
                    Told::Failing(failure) => self.set_members_failure(failure),
                },
                Some(update) = received.recv() => {
                    self.take(update, generation);
                    tokio::time::sleep(DEBOUNCE).await;
                    while let Ok(update) = received.try_recv() {
                        self.take(update, generation);
                        // A whole cluster's targets may be coming: polls are answered in between.
                        tokio::task::yield_now().await;
                    }
                }
            }
            self.advance().await;
        }
    }

    fn take(&self, update: Update, generation: u64) {
        // Word from a source of an older configuration; its successor tells again.
        if update.generation == generation {
            self.state().discovered(&update.job, update.source, update.found);
        }
    }

    fn take_config(&self, config: &Config) {
        let mut pool = self.pool();
        *pool = Pool::of(config, pool.take());
        self.publish(pool.as_ref());
        let mut state = self.state();
        state.apply_config(config);
        if pool.is_none() {
            state.forget_touched();
        }
    }

    fn set_roster(&self, roster: Roster) {
        if let Some(pool) = &mut *self.pool() {
            pool.set_roster(roster.clone());
        }
        self.state().set_roster(Some(roster));
    }

    fn set_members_failure(&self, failure: Option<String>) {
        if let Some(pool) = &mut *self.pool() {
            pool.set_failure(failure.clone());
        }
        *self.shared.members_failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// Why those that are to be members cannot be watched; empty where they are, or need not be.
    fn members_error(&self) -> String {
        let failure = self.shared.members_failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone().unwrap_or_default()
    }

    /// Works out what [`Allocator::show`] shows of scaling.
    fn measure(&self) {
        let scaling = self.scraper_capacity().and_then(|capacity| self.scaling(capacity).ok());
        *self.shared.scaling.lock().unwrap_or_else(PoisonError::into_inner) = scaling;
    }

    /// How many scrapers the load wants, where that is known here: scrapers report to the leader.
    ///
    /// # Errors
    /// Why it is not known (yet).
    fn scaling(&self, capacity: u64) -> Result<Scaling, String> {
        self.is_ready().map_err(|reason| format!("not ready: {reason}"))?;
        let are_told = self.board().is_none();
        let state = self.state();
        if !state.leads() {
            return Err("another allocator leads, and has the reports".to_owned());
        }
        // Nobody ever tells of the targets of drop-in clients.
        if are_told {
            scaling::told(&state, capacity, now_ms())
        } else {
            Ok(scaling::scaling(&state, capacity))
        }
    }

    /// Sets the metrics of what comes and goes.
    fn show(&self) {
        let is_ready = self.is_ready().is_ok();
        metrics::gauge!("promring_members_failed").set(f64::from(!self.members_error().is_empty()));
        let state = self.state();
        gauges::show_ready(is_ready, state.leads());
        let leads = state.leads();
        match self.board() {
            Some(board) => board.show(leads),
            None => gauges::show(&state, now_ms()),
        }
        drop(state);
        if !leads {
            return;
        }
        if let Some(scaling) = &*self.shared.scaling.lock().unwrap_or_else(PoisonError::into_inner) {
            scaling::show(scaling);
        }
    }

    /// Samples a second that one scraper is meant to carry, if that is configured.
    fn scraper_capacity(&self) -> Option<u64> {
        self.shared.configs.borrow().allocator.scraper_capacity
    }

    /// Brings everything up to date, and tells whoever waits for it.
    async fn advance(&self) {
        let news = self.advance_state();
        let is_told = self.board().is_some() && {
            let allocator = self.clone();
            // To place a whole cluster takes its time, which a thread that serves sockets has not. The next events wait for it,
            // so that one board is made at a time. A task that was stopped in its middle is the process's end.
            tokio::task::spawn_blocking(move || allocator.advance_pool()).await.unwrap_or_default()
        };
        self.tell(&news, is_told);
    }

    fn advance_state(&self) -> News {
        self.follow_lease();
        let mut state = self.state();
        let before = (state.assigns().is_ok(), state.readiness().is_ok());
        let names = state.advance(now_ms());
        News { names, begins_or_ends: before != (state.assigns().is_ok(), state.readiness().is_ok()) }
    }

    /// Makes the next board, and returns whether there is a new one.
    fn advance_pool(&self) -> bool {
        let mut pool = self.pool();
        let Some(of_clients) = &mut *pool else { return false };
        let term = self.state().version().map(|version| version.term);
        of_clients.follow(term, self.mirror().get().as_deref());
        // The state is locked for the look alone.
        let look = of_clients.look(&mut self.state());
        let Some(look) = look else { return false };
        of_clients.take(look);
        self.publish(pool.as_ref());
        true
    }

    fn tell(&self, news: &News, is_told: bool) {
        if news.begins_or_ends {
            self.wake_all_polls();
        } else if is_told || !news.names.is_empty() {
            self.shared.polls.wake(&news.names);
            self.shared.any_news.send_replace(());
        }
    }

    fn wake_all_polls(&self) {
        self.shared.polls.wake_all();
        self.shared.any_news.send_replace(());
    }

    /// Tells when something is new for any scraper: from this call on.
    fn wait_for_any(&self) -> watch::Receiver<()> {
        self.shared.any_news.subscribe()
    }

    /// The routes of the allocator's own API and its page.
    pub fn routes(&self) -> Router {
        api::routes(self.clone())
    }

    /// Says whether discovery is through, with scrapers or without: what waits for a fleet that is scaled to nothing would wait
    /// for ever. Of an allocator that follows another one, it says whether it could go on in its place; of one with
    /// drop-in clients, whether there is something to tell them.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let allocator = self.clone();
        Arc::new(move || allocator.is_ready())
    }

    fn is_ready(&self) -> Result<(), String> {
        match self.board() {
            Some(board) => {
                board.waiting.clone().map_or(Ok(()), Err)?;
                self.state().discovery_readiness()
            }
            None => self.is_ready_to_lead_or_follow(),
        }
    }

    fn is_ready_to_lead_or_follow(&self) -> Result<(), String> {
        match self.leadership() {
            Leadership::Ours(_) => self.state().discovery_readiness(),
            Leadership::Theirs(_) if self.mirror().get().is_none() => {
                Err("the leader has not told its state yet".to_owned())
            }
            Leadership::Theirs(_) => self.state().discovery_readiness(),
            Leadership::Nobody => Err("no allocator leads that is known here".to_owned()),
        }
    }

    /// What drop-in clients are told; None where the clients are promring's scrapers.
    fn board(&self) -> Option<Arc<Board>> {
        self.shared.board.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn publish(&self, pool: Option<&Pool>) {
        let board = pool.map(Pool::board);
        let before = {
            let mut published = self.shared.board.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *published, board)
        };
        // Nobody waits while it is taken apart.
        drop(before);
    }

    /// The drop-in clients as a list of scrapers.
    fn dropin_scrapers(&self) -> Option<ScraperList> {
        let board = self.board()?;
        let scrapers = board.members.iter().map(|(name, state)| ScraperStatus {
            name: name.clone(),
            address: String::new(),
            state: *state,
            targets: board.count(name),
            version: None,
            last_report_seconds: 0.0,
            samples_per_second: 0.0,
            queues: Vec::new(),
            config_mismatch: Vec::new(),
            unknown_jobs: Vec::new(),
            external_labels_differ: false,
            leaving: false,
        });
        let scrapers = scrapers.collect();
        let version = board.version.unwrap_or(Version { term: 0, counter: 0 });
        let ready = board.waiting.is_none() && self.state().discovery_readiness().is_ok();
        Some(ScraperList { version, ready, error: self.members_error(), scrapers, moves: Vec::new() })
    }

    fn pool(&self) -> MutexGuard<'_, Option<Pool>> {
        self.shared.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn callers(&self) -> &Callers {
        &self.shared.callers
    }

    fn candidacy(&self) -> Option<&Candidacy> {
        self.shared.candidacy.as_ref()
    }

    fn mirror(&self) -> &Mirror {
        &self.shared.mirror
    }

    async fn stopping(&self) {
        self.shared.stopping.wait().await;
    }

    /// The state, locked. Never held across an await.
    pub fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held would have left it whole enough to read: every change ends in `advance`.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
