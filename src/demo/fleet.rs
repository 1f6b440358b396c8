//! The demo's own allocator and scrapers: the same parts as everywhere, in one process, over HTTP on loopback.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use promring_allocator::Allocator;
use promring_model::config::Config;
use promring_net::observe;
use promring_net::server::{Admin, bind, common_routes, serve};
use promring_net::shutdown::Shutdown;
use promring_scraper::assignment::AllocatorAccess;
use promring_scraper::{Scraper, ScraperOptions};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How often it is looked whether every scraper has its targets.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Running roles.
pub(super) struct Roles {
    allocator: Allocator,
    allocator_url: String,
    scrapers: Vec<Scraper>,
    running: Vec<JoinHandle<()>>,
    serving: Vec<JoinHandle<std::io::Result<()>>>,
    /// Ends the scrapers.
    stopping: Shutdown,
    /// Ends the servers and the allocator, once the scrapers have ended.
    served: Shutdown,
}

impl Roles {
    /// Starts an allocator and this many scrapers, each with a server and a directory of its own.
    pub(super) async fn start(config: Arc<Config>, scrapers: u32, dir: &Path) -> Result<Self, String> {
        let (stopping, served) = (Shutdown::new(), Shutdown::new());
        let allocator = Allocator::new(Arc::clone(&config), served.clone());
        let router = allocator.routes().merge(common_routes(allocator.readiness(), Admin::NoFile));
        let (allocator_url, server) = serve_anywhere(router, &served).await?;
        let runner = allocator.clone();
        let mut roles = Self {
            allocator,
            allocator_url,
            scrapers: Vec::new(),
            running: vec![tokio::spawn(async move { runner.run().await }), tokio::spawn(observe::upkeep())],
            serving: vec![server],
            stopping,
            served,
        };
        for number in 0..scrapers {
            roles.add_scraper(&config, &format!("scraper-{number}"), dir).await?;
        }
        Ok(roles)
    }

    async fn add_scraper(&mut self, config: &Arc<Config>, name: &str, dir: &Path) -> Result<(), String> {
        let listener = bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let url = self.allocator_url.parse().map_err(|error| format!("{}: {error}", self.allocator_url))?;
        let options = ScraperOptions {
            name: name.to_owned(),
            allocator: AllocatorAccess::plain(url),
            data_dir: dir.join(name),
            advertise: format!("http://{address}"),
            node: String::new(),
        };
        let scraper = Scraper::new(Arc::clone(config), options, self.stopping.clone());
        let scraper = scraper.map_err(|error| error.to_string())?;
        let router = scraper.routes().merge(common_routes(scraper.readiness(), Admin::NoFile));
        self.serving.push(tokio::spawn(serve(listener, router, self.served.clone())));
        let runner = scraper.clone();
        self.running.insert(0, tokio::spawn(async move { runner.run().await }));
        self.scrapers.push(scraper);
        Ok(())
    }

    /// Where the allocator serves.
    pub(super) fn allocator_url(&self) -> &str {
        &self.allocator_url
    }

    /// Waits until every target has an owner and every scraper has told that it scrapes what it owns.
    pub(super) async fn wait_until_in_force(&self, timeout: Duration) -> Result<(), String> {
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            if self.is_in_force() {
                return Ok(());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        let reason = self
            .allocator
            .state()
            .readiness()
            .err()
            .unwrap_or_else(|| "a scraper has not reported its targets".to_owned());
        Err(format!("the parts did not find each other within {timeout:?}: {reason}"))
    }

    fn is_in_force(&self) -> bool {
        let state = self.allocator.state();
        let owned = |name: &str| {
            state.reported(name).is_some_and(|reported| reported.report.handover.version.is_some())
        };
        state.readiness().is_ok()
            && state.takers().count() == self.scrapers.len()
            && state.takers().all(owned)
    }

    /// How many targets there are, and how many each scraper has.
    pub(super) fn overview(&self) -> (usize, Vec<usize>) {
        let state = self.allocator.state();
        let targets = state.jobs().map(|job| job.active().len()).sum();
        let each = state.takers().map(|name| state.assigned(name)).collect();
        (targets, each)
    }

    /// Samples that wait in the queues of all scrapers.
    pub(super) fn queued_samples(&self) -> u64 {
        self.scrapers.iter().flat_map(Scraper::queues).map(|queue| queue.samples).sum()
    }

    /// What the page shows beside the audit.
    pub(super) fn facts(&self) -> BTreeMap<String, String> {
        let (targets, each) = self.overview();
        BTreeMap::from([
            ("allocator".to_owned(), format!("{}/", self.allocator_url)),
            ("queue".to_owned(), format!("{} samples", self.queued_samples())),
            ("scrapers".to_owned(), format!("{} with {each:?} targets", each.len())),
            ("targets".to_owned(), targets.to_string()),
        ])
    }

    /// Stops the scrapers, which flush their queues, then the rest.
    pub(super) async fn stop(self) {
        self.stopping.trigger();
        let scrapers = self.scrapers.len();
        let mut running = self.running.into_iter();
        for task in running.by_ref().take(scrapers) {
            let _ = task.await;
        }
        self.served.trigger();
        for task in running {
            task.abort();
        }
        for server in self.serving {
            let _ = server.await;
        }
    }
}

/// Serves on a free port of loopback, and gives its URL.
async fn serve_anywhere(
    router: axum::Router,
    shutdown: &Shutdown,
) -> Result<(String, JoinHandle<std::io::Result<()>>), String> {
    let listener = bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    Ok((format!("http://{address}"), tokio::spawn(serve(listener, router, shutdown.clone()))))
}
