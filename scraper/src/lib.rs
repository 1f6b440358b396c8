//! The scraper: asks the allocator for its assignment, scrapes, and remote-writes through a queue on disk.
//!
//! A sample's way: `scrape::fetch` → `parse` → `series` (which has it relabelled once, by `rules`) → `sink` (which
//! encodes it into its lane's request) → `queue` → `send`.

mod api;
pub mod assignment;
pub mod buffers;
mod chunked;
pub mod companions;
pub mod destinations;
pub mod families;
mod filling;
pub mod handover;
mod label_limits;
pub mod labelsets;
mod leaving;
pub mod manager;
pub mod memory;
mod news;
pub mod observe;
mod page;
pub mod parse;
pub mod payload;
pub mod queue;
pub mod request_symbols;
pub mod rules;
pub mod scrape;
pub mod send;
pub mod series;
pub mod sink;
pub mod spread;
pub mod statuses;
pub mod summaries;
pub mod symbols;
#[cfg(test)]
mod testing;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use promring_model::config::Config;
use promring_model::handover::{Member, MemberOptions, Name, Staying};
use promring_net::clock::now_ms;
use promring_net::server::Readiness;
use promring_net::shutdown::Shutdown;
use promring_proto::api::{Assignment, QueueReport};
use tokio::sync::watch;

use assignment::{AllocatorAccess, AllocatorClient, SavedAssignment, SavedState};
use buffers::{Buffers, Scratches};
use companions::Companions;
use destinations::Destinations;
use handover::{Gate, Tending};
use labelsets::Shared as SharedLabels;
use manager::Manager;
use memory::Memory;
use observe::ScrapeMetrics;
use scrape::Environment;
use scrape::cores::Cores;
use spread::SpreadTargets;
use statuses::Statuses;

/// How often metrics that are made from others are brought up to date.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(5);

/// What a scraper is started with, beside its configuration.
#[derive(Clone, Debug)]
pub struct ScraperOptions {
    /// Its name, unique among the scrapers of an allocator.
    pub name: String,
    /// The way to the allocator.
    pub allocator: AllocatorAccess,
    /// Where the queues lie.
    pub data_dir: PathBuf,
    /// Where the scraper's own server is reached, as `http://host:port`.
    pub advertise: String,
    /// The node that it runs on, for placement by node; empty: not known here.
    pub node: String,
}

/// Why a scraper cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A destination: its queue, or the client for it.
    #[error("{0}")]
    Destination(String),
    /// The client for the allocator.
    #[error("{0}")]
    Client(#[from] promring_net::client::ClientError),
}

/// A scraper. Clones share one state.
#[derive(Clone, Debug)]
pub struct Scraper {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: ScraperOptions,
    config: watch::Sender<Arc<Config>>,
    client: AllocatorClient,
    environment: Arc<Environment>,
    manager: Mutex<Manager>,
    destinations: Destinations,
    tending: Tending,
    /// Begins the stop; loops end once the targets are handed over.
    stopping: Shutdown,
    /// Ends a stop that takes its time.
    hurry: Shutdown,
    /// The allocator said last that this scraper's ordinal goes away.
    leaving: AtomicBool,
    /// It said last that no other scraper takes targets.
    alone: AtomicBool,
    /// The last leader that gave out anything said last that it has nothing for this scraper.
    spare: AtomicBool,
    /// What an allocator last said of what stays here.
    staying: Mutex<Option<Staying>>,
    /// It knows hand-over.
    hands_over: AtomicBool,
    /// This scraper is stopping, and leaving: it takes no targets any more.
    draining: AtomicBool,
}

impl Scraper {
    /// Opens the queues and prepares everything; [`Scraper::run`] makes it live. `stopping` begins the stop.
    ///
    /// # Errors
    /// Where a queue cannot be opened or a client not be made.
    pub fn new(config: Arc<Config>, options: ScraperOptions, stopping: Shutdown) -> Result<Self, StartError> {
        let client = AllocatorClient::new(options.allocator.clone(), &options.name)?;
        if config.remote_write.is_empty() {
            tracing::warn!(
                "no remote_write in the configuration: targets are scraped and shown, nothing is sent"
            );
        }
        let saved = SavedAssignment::in_dir(&options.data_dir).load().unwrap_or_else(|error| {
            tracing::warn!(error, "the saved assignment cannot be used");
            None
        });
        let (member, assignment) = member_of(&config, &options, saved);
        let gate = Gate::new(member);
        let labels = Arc::new(SharedLabels::default());
        let destinations =
            Destinations::new(options.data_dir.clone(), Arc::clone(&labels), Some(Arc::clone(&gate)));
        let prepared = destinations.apply(&config).map_err(StartError::Destination)?;
        let memory = Memory::new(config.scraper.memory_limit);
        let environment = Arc::new(Environment {
            cores: Cores::default(),
            symbols_hold: Mutex::new(memory.keep()),
            memory,
            statuses: Statuses::default(),
            buffers: Buffers::default(),
            scratches: Scratches::default(),
            labels,
            metrics: ScrapeMetrics::new(),
            spread: SpreadTargets::open(&options.data_dir, destinations.are_idle()),
            companions: Companions::default(),
            gate,
            stopping: Shutdown::new(),
        });
        let manager = Mutex::new(Manager::new(&config, prepared, Arc::clone(&environment)));
        let shared = Shared {
            options,
            config: watch::Sender::new(config),
            client,
            environment,
            manager,
            destinations,
            tending: Tending::new(),
            stopping,
            hurry: Shutdown::new(),
            leaving: AtomicBool::new(false),
            alone: AtomicBool::new(false),
            spare: AtomicBool::new(false),
            staying: Mutex::new(None),
            hands_over: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        };
        let scraper = Self { shared: Arc::new(shared) };
        // Before any scrape may go behind them.
        scraper.make_fences(scraper.shared.environment.gate.wanted_fences());
        if let Some(assignment) = assignment {
            scraper.manager().restore(assignment);
        }
        Ok(scraper)
    }

    /// Takes a new configuration. Targets of jobs that did not change lose no slot.
    ///
    /// # Errors
    /// Where a destination cannot be set up; the old configuration stays in force as a whole.
    pub fn apply_config(&self, config: Arc<Config>) -> Result<(), String> {
        let prepared = self.shared.destinations.apply(&config)?;
        // Destinations that are new lack theirs.
        self.make_fences(self.shared.environment.gate.wanted_fences());
        self.manager().apply_config(&config, prepared);
        self.shared.environment.memory.set_limit(config.scraper.memory_limit);
        self.shared.config.send_replace(config);
        self.shared.environment.gate.changed.notify_one();
        Ok(())
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.shared.config.borrow())
    }

    /// Gives back what targets held that have gone, and brings metrics up to date that nobody counts up and down.
    async fn tidy_always(&self) {
        loop {
            let ended = self.manager().take_ended();
            if !ended.is_empty() {
                self.shared.environment.cores.run(|| drop(ended)).await;
            }
            self.shared.environment.give_back().await;
            self.shared.environment.metrics.intervals.publish();
            self.shared.environment.metrics.syncs.publish();
            self.manager().publish();
            self.publish_fences();
            let used = self.shared.environment.memory.used();
            metrics::gauge!("promring_memory_used_bytes").set(used as f64);
            tokio::time::sleep(PUBLISH_INTERVAL).await;
        }
    }

    /// Backlog by destination.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueReport> {
        self.shared.destinations.reports()
    }

    /// The routes of the scraper's own API, as a process of its own serves them.
    pub fn routes(&self) -> Router {
        api::routes(self.clone()).merge(self.queue_routes())
    }

    /// The routes that an allocator in the same process does not have.
    pub fn queue_routes(&self) -> Router {
        api::queue_routes(self.clone()).merge(handover::routes(self.clone()))
    }

    /// Ready once an assignment is in force, and known to hold still.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let scraper = self.clone();
        Arc::new(move || {
            let sure = scraper
                .shared
                .environment
                .gate
                .with(|member| member.version().is_some() && !member.is_doubting());
            sure.then_some(()).ok_or_else(|| "no assignment from the allocator yet".to_owned())
        })
    }

    fn manager(&self) -> MutexGuard<'_, Manager> {
        self.shared.manager.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What this scraper has, after a start: what it had before, if that is known.
fn member_of(
    config: &Config,
    options: &ScraperOptions,
    saved: Option<SavedState>,
) -> (Member, Option<Assignment>) {
    let now_ms = now_ms();
    let member_options = MemberOptions { lapse: config.allocator.lapse, ..MemberOptions::default() };
    let name: Name = options.name.as_str().into();
    // The start time is higher than that of any run before.
    let run = u64::try_from(now_ms).unwrap_or_default();
    let (mut member, assignment) = match saved {
        Some(SavedState { member, assignment }) => {
            (Member::restored(name, member_options, run, member, now_ms), assignment)
        }
        None => (Member::new(name, member_options, run, now_ms), None),
    };
    member.set_address(&options.advertise);
    (member, assignment)
}
