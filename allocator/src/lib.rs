//! The allocator: discovers targets, assigns each to exactly one scraper, and tells scrapers over HTTP.
//!
//! [`State`] holds the rules and knows neither sockets nor the clock. [`Allocator`] feeds it: discovery's updates,
//! scrapers' reports, and the time.

mod api;
pub mod callers;
pub mod discovery;
mod kubernetes;
pub mod lease;
pub mod ledger;
mod members;
pub mod packed;
pub mod state;
pub mod targets;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use promring_model::config::Config;
use promring_net::clock::now_ms;
use promring_net::server::Readiness;
use promring_net::shutdown::Shutdown;
use tokio::sync::{mpsc, watch};

use callers::Callers;
use discovery::{Sources, Update, Watches};
use members::Watching;
pub use state::State;

/// How often the time is told to the state: how late a lapse or the settle time may be noticed.
const TICK: Duration = Duration::from_millis(250);

/// Updates that come within this time are taken together.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// Updates that may wait to be taken.
const UPDATES_MAX: usize = 1_024;

/// A running allocator. Clones share one state.
#[derive(Clone, Debug)]
pub struct Allocator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes long polls; the value has no meaning.
    changed: watch::Sender<u64>,
    configs: watch::Sender<Arc<Config>>,
    callers: Callers,
    stopping: Shutdown,
}

impl Allocator {
    /// An allocator for this configuration that anyone may call; [`Allocator::run`] makes it live.
    #[must_use]
    pub fn new(config: Arc<Config>, stopping: Shutdown) -> Self {
        Self::with_callers(config, Callers::default(), stopping)
    }

    /// The same for callers that show who they are.
    #[must_use]
    pub fn with_callers(config: Arc<Config>, callers: Callers, stopping: Shutdown) -> Self {
        let state = Mutex::new(State::new(&config, now_ms()));
        let (changed, configs) = (watch::Sender::new(0), watch::Sender::new(config));
        let shared = Shared { state, changed, configs, callers, stopping };
        Self { shared: Arc::new(shared) }
    }

    /// Takes a new configuration.
    pub fn apply_config(&self, config: Arc<Config>) {
        self.shared.configs.send_replace(config);
    }

    /// Runs discovery and keeps the assignment up to date, until the stop begins.
    pub async fn run(&self) {
        let (updates, mut received) = mpsc::channel(UPDATES_MAX);
        let mut configs = self.shared.configs.subscribe();
        let mut config = Arc::clone(&configs.borrow_and_update());
        let mut generation = 0;
        let watches = Watches::default();
        let (roster_sender, mut rosters) = mpsc::channel(1);
        let mut members = Watching::start(&config, &watches, &roster_sender);
        let mut sources = Sources::start(&config, generation, &updates, &watches);
        tracing::info!(
            jobs = config.scrape_configs.len(),
            sources = sources.len(),
            "allocator: discovery started"
        );
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                () = self.shared.stopping.wait() => return,
                _ = tick.tick() => {}
                changed = configs.changed() => {
                    if changed.is_err() { return }
                    config = Arc::clone(&configs.borrow_and_update());
                    generation += 1;
                    self.state().apply_config(&config);
                    sources = Sources::start(&config, generation, &updates, &watches);
                    members.apply_config(&config, &watches, &roster_sender);
                    tracing::info!(jobs = config.scrape_configs.len(), sources = sources.len(), "allocator: configuration taken");
                }
                // One that comes after the configuration has changed its mind is nobody's.
                Some(roster) = rosters.recv(), if members.is_watching() => self.state().set_roster(Some(roster)),
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
            self.advance();
        }
    }

    fn take(&self, update: Update, generation: u64) {
        // Word from a source of an older configuration; its successor tells again.
        if update.generation == generation {
            self.state().discovered(&update.job, update.source, update.found);
        }
    }

    fn advance(&self) {
        let changed = {
            let mut state = self.state();
            let was_ready = state.readiness().is_ok();
            let changed = state.advance(now_ms());
            let ready = state.readiness().is_ok();
            metrics::gauge!("promring_allocator_ready").set(f64::from(u8::from(ready)));
            metrics::gauge!("promring_allocator_assignment_version").set(state.version().counter as f64);
            let takers = state.membership().takers().count();
            metrics::gauge!("promring_allocator_scrapers", "state" => "ready").set(takers as f64);
            let others = state.membership().len() - takers;
            metrics::gauge!("promring_allocator_scrapers", "state" => "lost_or_draining").set(others as f64);
            changed || was_ready != ready
        };
        if changed {
            self.shared.changed.send_modify(|count| *count += 1);
        }
    }

    /// The routes of the allocator's own API and its page.
    pub fn routes(&self) -> Router {
        api::routes(self.clone())
    }

    /// Says whether assignments are given out.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let allocator = self.clone();
        Arc::new(move || allocator.state().readiness())
    }

    fn callers(&self) -> &Callers {
        &self.shared.callers
    }

    /// The state, locked. Never held across an await.
    pub fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held would have left it whole enough to read: every change ends in `advance`.
        self.shared.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
