//! The scraper: asks the allocator for its assignment, scrapes, and remote-writes through a queue on disk.
//!
//! A sample's way: `scrape::fetch` → `parse` → `series` (which has it relabelled once, by `rules`) → `sink` (which
//! encodes it into its lane's request) → `queue` → `send`.

mod api;
pub mod assignment;
pub mod buffers;
mod chunked;
pub mod destinations;
pub mod families;
mod filling;
pub mod intervals;
pub mod labelsets;
pub mod manager;
pub mod memory;
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
pub mod symbols;
#[cfg(test)]
mod testing;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use promring_model::config::{Config, ScraperSettings};
use promring_net::server::Readiness;
use promring_net::shutdown::Shutdown;
use promring_proto::api::{MemberReport, QueueReport, Report, TargetReport};
use rand::RngExt as _;
use tokio::sync::{Notify, watch};

use assignment::{AllocatorAccess, AllocatorClient, Poll, SavedAssignment};
use buffers::{Buffers, Scratches};
use destinations::Destinations;
use labelsets::Shared as SharedLabels;
use manager::Manager;
use memory::Memory;
use observe::ScrapeMetrics;
use scrape::Environment;
use scrape::cores::Cores;
use spread::SpreadTargets;
use statuses::Statuses;

/// The first pause after a poll that failed; it doubles with every further one.
const POLL_BACKOFF_MIN: Duration = Duration::from_millis(200);

/// The longest pause.
const POLL_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// After a start, how long an allocator is waited for before the assignment of the last run is resumed.
const RESUME_AFTER: Duration = Duration::from_secs(10);

/// The assignment is saved at most this often.
const SAVE_PAUSE: Duration = Duration::from_secs(1);

/// How often metrics that are made from others are brought up to date.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(5);

/// On a stop, how long scrapes in flight may take to end.
const SCRAPES_END_MAX: Duration = Duration::from_secs(15);

/// On a stop, how long the allocator may take to say whether this scraper is leaving, and to hear the last of it.
const LAST_REPORT_MAX: Duration = Duration::from_secs(2);

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
    /// A new version is in force and should be reported at once.
    in_force: Notify,
    /// A new version is in force and should be saved.
    unsaved: Notify,
    stopping: Shutdown,
    /// Ends a stop that takes its time.
    hurry: Shutdown,
    /// The allocator said last that this scraper's ordinal goes away.
    leaving: AtomicBool,
    /// It is stopping, and leaving: it takes no targets any more.
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
        let labels = Arc::new(SharedLabels::default());
        let destinations = Destinations::new(options.data_dir.clone(), Arc::clone(&labels));
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
            stopping: stopping.clone(),
        });
        let manager = Mutex::new(Manager::new(&config, prepared, Arc::clone(&environment)));
        let (in_force, unsaved) = (Notify::new(), Notify::new());
        let config = watch::Sender::new(config);
        let shared = Shared {
            options,
            config,
            client,
            environment,
            manager,
            destinations,
            in_force,
            unsaved,
            stopping,
            hurry: Shutdown::new(),
            leaving: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Takes a new configuration. Targets of jobs that did not change lose no slot.
    ///
    /// # Errors
    /// Where a destination cannot be set up; the old configuration stays in force as a whole.
    pub fn apply_config(&self, config: Arc<Config>) -> Result<(), String> {
        let prepared = self.shared.destinations.apply(&config)?;
        self.manager().apply_config(&config, prepared);
        self.shared.environment.memory.set_limit(config.scraper.memory_limit);
        self.shared.config.send_replace(config);
        self.shared.in_force.notify_one();
        Ok(())
    }

    /// Runs until the stop begins, then ends the scrapes in flight, sends what is queued as far as time allows, or, where
    /// this scraper is leaving, as far as receivers take it, and leaves the rest on disk.
    pub async fn run(&self) {
        let shared = &self.shared;
        tokio::select! {
            () = self.follow_assignment() => {}
            () = self.report_always() => {}
            () = shared.destinations.flush_always() => {}
            () = self.resume_saved() => {}
            () = self.save_always() => {}
            () = self.publish_always() => {}
            () = shared.stopping.wait() => {}
        }
        // Loops end by themselves once `stopping` is triggered, after the scrape in flight.
        let tasks = self.manager().take_tasks();
        let ended = async {
            for task in tasks {
                if let Err(error) = task.await {
                    tracing::error!(%error, "a target's loop ended abnormally");
                }
            }
        };
        tokio::select! {
            ended = tokio::time::timeout(SCRAPES_END_MAX, ended) => if ended.is_err() {
                tracing::warn!("scrapes in flight did not end in time");
            },
            () = shared.hurry.wait() => {}
        }
        tokio::select! {
            () = self.empty_queues() => {}
            () = shared.hurry.wait() => {}
        }
        // Whatever was cut short: the rest is on disk.
        shared.destinations.finish(Duration::ZERO).await;
        for queue in self.queues().iter().filter(|queue| queue.samples > 0) {
            tracing::warn!(
                destination = queue.destination,
                samples = queue.samples,
                "not sent in time; they stay on disk and are sent after the next start"
            );
        }
        if shared.draining.load(Ordering::Relaxed) {
            // The allocator shows what is left behind.
            let last = self.report(false);
            let told = shared.client.report(&last);
            let _nobody_hears_it = tokio::time::timeout(LAST_REPORT_MAX, told).await;
        }
    }

    /// Ends a stop that has begun at once: nothing more is sent.
    pub fn hurry(&self) {
        self.shared.hurry.trigger();
    }

    /// Sends what is queued: for a moment, as a restart is over soon; or, if this scraper is leaving, for as long as
    /// receivers take it.
    async fn empty_queues(&self) {
        let ScraperSettings { flush_timeout, fence_max, .. } = self.config().scraper.clone();
        let shared = &self.shared;
        // A scale-in and the stop come together, so this may be news.
        let report = self.report(false);
        let asked = shared.client.report(&report);
        if let Ok(Ok(answer)) = tokio::time::timeout(LAST_REPORT_MAX, asked).await {
            shared.leaving.store(answer.leaving, Ordering::Relaxed);
        } else {
            // Who is not told so is not leaving: a restart must not take minutes because the allocator is away.
            shared.leaving.store(false, Ordering::Relaxed);
        }
        if !shared.leaving.load(Ordering::Relaxed) {
            return shared.destinations.finish(flush_timeout).await;
        }
        tracing::info!(
            standstill_max = ?fence_max,
            "this scraper is leaving: all that is queued is sent, as long as receivers take it; another signal ends this at once"
        );
        shared.draining.store(true, Ordering::Relaxed);
        tokio::select! {
            () = shared.destinations.drain(fence_max) => {}
            // The allocator goes on hearing how far it is.
            () = self.report_always() => {}
        }
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.shared.config.borrow())
    }

    /// Polls the allocator and brings its answers into force.
    async fn follow_assignment(&self) {
        let mut backoff = POLL_BACKOFF_MIN;
        let mut ask_everything = false;
        loop {
            let held = if ask_everything { None } else { self.manager().version() };
            let pause = match self.shared.client.poll(held).await {
                Ok(Poll::Changed(answer)) => {
                    ask_everything = !self.manager().apply(*answer);
                    self.shared.in_force.notify_one();
                    self.shared.unsaved.notify_one();
                    !ask_everything
                }
                Ok(Poll::Unchanged) => true,
                Ok(Poll::NotReady(reason)) => {
                    tracing::debug!(reason, "the allocator gives out nothing yet");
                    false
                }
                Err(error) => {
                    tracing::warn!(
                        error,
                        "no assignment from the allocator; scraping goes on with what is held"
                    );
                    false
                }
            };
            if pause {
                backoff = POLL_BACKOFF_MIN;
            } else {
                tokio::time::sleep(jittered(backoff)).await;
                backoff = (backoff * 2).min(POLL_BACKOFF_MAX);
            }
        }
    }

    /// Where no allocator gives out an assignment after a start, goes on with the one of the last run.
    async fn resume_saved(&self) {
        tokio::time::sleep(RESUME_AFTER).await;
        if self.manager().version().is_none() {
            match self.saved().load() {
                Ok(Some(saved)) => {
                    // One that came meanwhile stands.
                    if self.manager().version().is_none() {
                        tracing::warn!(version = %saved.version, "no assignment from the allocator; going on with the saved one");
                        metrics::counter!("promring_assignment_resumed_total").increment(1);
                        self.manager().apply(saved);
                        self.shared.in_force.notify_one();
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(error, "the saved assignment cannot be used"),
            }
        }
        std::future::pending::<()>().await;
    }

    /// Keeps the assignment in force on the volume.
    async fn save_always(&self) {
        loop {
            self.shared.unsaved.notified().await;
            let assignment = self.manager().assignment();
            if let Some(assignment) = assignment {
                let saved = self.saved();
                let write = tokio::task::spawn_blocking(move || saved.save(&assignment));
                if let Ok(Err(error)) = write.await {
                    tracing::warn!(error, "the assignment cannot be saved");
                }
            }
            tokio::time::sleep(SAVE_PAUSE).await;
        }
    }

    fn saved(&self) -> SavedAssignment {
        SavedAssignment::in_dir(&self.shared.options.data_dir)
    }

    /// Brings metrics up to date that nobody counts up and down.
    async fn publish_always(&self) {
        loop {
            self.shared.environment.metrics.intervals.publish();
            self.manager().publish();
            let used = self.shared.environment.memory.used();
            metrics::gauge!("promring_memory_used_bytes").set(used as f64);
            tokio::time::sleep(PUBLISH_INTERVAL).await;
        }
    }

    /// Reports at every heartbeat, and at once when a new version is in force.
    async fn report_always(&self) {
        let mut full = true;
        let mut told = true;
        loop {
            let mut again = true;
            while std::mem::take(&mut again) {
                let report = self.report(full);
                match self.shared.client.report(&report).await {
                    Ok(answer) => {
                        // An allocator that does not know us yet wants everything, at once.
                        again = answer.full && !full;
                        full = answer.full;
                        self.shared.leaving.store(answer.leaving, Ordering::Relaxed);
                        told = true;
                    }
                    Err(error) => {
                        self.shared.environment.statuses.give_back(&report.targets);
                        if std::mem::take(&mut told) {
                            tracing::warn!(error, "the allocator cannot be reported to");
                        }
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(self.config().scraper.heartbeat) => {}
                () = self.shared.in_force.notified() => {}
            }
        }
    }

    fn report(&self, full: bool) -> Report {
        let statuses = &self.shared.environment.statuses;
        let changed = statuses.take_changed();
        let manager = self.manager();
        let targets = if full {
            let of = |id| statuses.get(id).unwrap_or_else(|| TargetReport::unknown(id));
            manager.targets().map(|target| of(target.id)).collect()
        } else {
            changed
        };
        Report {
            version: manager.version(),
            address: self.shared.options.advertise.clone(),
            draining: self.shared.draining.load(Ordering::Relaxed),
            full,
            targets,
            queues: self.queues(),
            samples_total: self.shared.environment.statuses.samples_total(),
            external_labels_hash: format!("{:016x}", self.config().external_labels.hash64()),
            config_mismatch: manager.mismatches(),
            unknown_jobs: manager.unknown_jobs(),
            handover: MemberReport::default(),
        }
    }

    /// Backlog by destination.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueReport> {
        self.shared.destinations.reports()
    }

    /// The routes of the scraper's own API, as a process of its own serves them.
    pub fn routes(&self) -> Router {
        api::routes(self.clone()).merge(api::queue_routes(self.clone()))
    }

    /// The routes that an allocator in the same process does not have.
    pub fn queue_routes(&self) -> Router {
        api::queue_routes(self.clone())
    }

    /// Ready once an assignment is in force.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let scraper = self.clone();
        Arc::new(move || {
            let held = scraper.manager().version();
            held.map(|_| ()).ok_or_else(|| "no assignment from the allocator yet".to_owned())
        })
    }

    fn manager(&self) -> MutexGuard<'_, Manager> {
        self.shared.manager.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Between half and all of it, so that scrapers that lost the allocator together do not come back together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..=1.0))
}
