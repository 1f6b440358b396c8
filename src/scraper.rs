//! `promring scraper`: a scraper as a process of its own.

use std::net::SocketAddr;
use std::process::ExitCode;

use promring_net::observe;
use promring_net::reload::channel;
use promring_net::server::{bind, common_routes};
use promring_net::shutdown::{Shutdown, StopSignals};
use promring_scraper::{Scraper, ScraperOptions};

use crate::cli::{ScraperArgs, spawn_server};
use crate::{load, reload};

/// Runs until SIGTERM or SIGINT; then the targets go to other scrapers, the scrapes in flight end, and the queue is sent as far as time allows.
pub(crate) async fn run(args: ScraperArgs) -> Result<ExitCode, String> {
    // Before anything is opened that a signal should not cut off.
    let hangups = reload::hangups()?;
    let mut signals = StopSignals::install()?;
    let read = load::read(&args.config);
    let config = read.config?;
    let name = match args.name {
        Some(name) => name,
        None => host_name()?,
    };
    let tls = args.server.tls()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let listener = bind(&args.listen).await.map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let options = ScraperOptions {
        advertise: args.advertise.unwrap_or_else(|| advertised(scheme, &name, address)),
        node: args.node.unwrap_or_default(),
        name,
        allocator: args.access.access(args.allocator),
        data_dir: args.data_dir,
    };
    let stopping = Shutdown::new();
    // The server lives until the queue is flushed, so that a stop can be watched.
    let served = Shutdown::new();
    let scraper = Scraper::new(config, options, stopping.clone()).map_err(|error| error.to_string())?;
    let (reloader, requests) = channel();
    let admin = args.server.admin.admin(reloader);
    let router = scraper.routes().merge(common_routes(scraper.readiness(), admin));
    let server = spawn_server(listener, tls, router, served.clone());
    let reloaded = scraper.clone();
    let apply = move |config| reloaded.apply_config(config);
    tokio::spawn(reload::follow(args.config, hangups, read.watched, requests, apply));
    let running = scraper.clone();
    let mut runner = tokio::spawn(async move { running.run().await });
    tokio::spawn(observe::upkeep());
    tracing::info!(%address, "scraper is listening");
    let signal = signals.next().await;
    tracing::info!(
        signal,
        "stopping: targets are handed over, scrapes in flight end, and what is queued is sent as far as scraper.flush_timeout allows"
    );
    stopping.trigger();
    tokio::select! {
        _ = &mut runner => {}
        signal = signals.next() => {
            tracing::warn!(signal, "a second signal: nothing more is handed over, and what is queued stays on disk");
            scraper.hurry();
            let _ = runner.await;
        }
    }
    served.trigger();
    let _ = server.await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Where others reach this scraper: on all addresses, by its name; otherwise where it listens.
fn advertised(scheme: &str, name: &str, address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("{scheme}://{name}:{}", address.port())
    } else {
        format!("{scheme}://{address}")
    }
}

pub(crate) fn host_name() -> Result<String, String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { Err("this host has no name; give one with --name".to_owned()) } else { Ok(name) }
}
