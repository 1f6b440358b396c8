//! `promring standalone`: allocator and scraper in one process. They are the same two parts as elsewhere and talk
//! over HTTP on loopback, so that one machine and a cluster run the same code.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use promring_allocator::Allocator;
use promring_model::config::{Config, Members};
use promring_net::observe;
use promring_net::reload::channel;
use promring_net::server::{Readiness, bind, common_routes, loopback_of, serve};
use promring_net::shutdown::{Shutdown, StopSignals};
use promring_scraper::assignment::AllocatorAccess;
use promring_scraper::{Scraper, ScraperOptions};

use crate::cli::StandaloneArgs;
use crate::{load, reload};

/// The one scraper's name.
const SCRAPER: &str = "standalone";

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(args: StandaloneArgs) -> Result<ExitCode, String> {
    // Before anything is opened that a signal should not cut off.
    let hangups = reload::hangups()?;
    let mut signals = StopSignals::install()?;
    let read = load::read(&args.config);
    let config = alone(read.config?);
    let listener = bind(&args.listen).await.map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let own = format!("http://{}", loopback_of(address));
    let options = ScraperOptions {
        name: SCRAPER.to_owned(),
        allocator: AllocatorAccess::plain(own.parse().map_err(|error| format!("{own}: {error}"))?),
        data_dir: args.data_dir,
        advertise: own.clone(),
        node: String::new(),
    };
    let stopping = Shutdown::new();
    let served = Shutdown::new();
    let scraper =
        Scraper::new(Arc::clone(&config), options, stopping.clone()).map_err(|error| error.to_string())?;
    let allocator = Allocator::new(config, served.clone());
    let (reloader, requests) = channel();
    let ready = both(allocator.readiness(), scraper.readiness());
    let admin = args.admin.admin(reloader);
    // The allocator's list of targets says more than the scraper's, so that one is served.
    let router = allocator.routes().merge(scraper.queue_routes()).merge(common_routes(ready, admin));
    let server = tokio::spawn(serve(listener, router, served.clone()));
    let (allocator_reloaded, scraper_reloaded) = (allocator.clone(), scraper.clone());
    let apply = move |config| {
        let config = alone(config);
        scraper_reloaded.apply_config(Arc::clone(&config))?;
        allocator_reloaded.apply_config(config);
        Ok(())
    };
    tokio::spawn(reload::follow(args.config, hangups, read.watched, requests, apply));
    let allocating = tokio::spawn(async move { allocator.run().await });
    let running = scraper.clone();
    let mut scraping = tokio::spawn(async move { running.run().await });
    tokio::spawn(observe::upkeep());
    tracing::info!(page = own, "promring is running");
    let signal = signals.next().await;
    tracing::info!(
        signal,
        "stopping: scrapes in flight end, and what is queued is sent as far as scraper.flush_timeout allows"
    );
    stopping.trigger();
    tokio::select! {
        _ = &mut scraping => {}
        signal = signals.next() => {
            tracing::warn!(signal, "a second signal: what is queued stays on disk");
            scraper.hurry();
            let _ = scraping.await;
        }
    }
    served.trigger();
    let _ = allocating.await;
    let _ = server.await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// There is one scraper, and no other to wait for.
fn alone(mut config: Arc<Config>) -> Arc<Config> {
    let allocator = &mut Arc::make_mut(&mut config).allocator;
    allocator.settle = Duration::ZERO;
    allocator.members = Members::Static(vec![SCRAPER.to_owned()]);
    config
}

fn both(one: Readiness, other: Readiness) -> Readiness {
    Arc::new(move || one().and_then(|()| other()))
}
