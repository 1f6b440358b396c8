//! `promring allocator`: the allocator as a process of its own.

use std::process::ExitCode;

use promring_allocator::{Allocator, AllocatorOptions};
use promring_net::observe;
use promring_net::reload::channel;
use promring_net::server::{bind, common_routes};
use promring_net::shutdown::{Shutdown, StopSignals};

use crate::cli::{AllocatorArgs, spawn_server};
use crate::{load, reload};

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(args: AllocatorArgs) -> Result<ExitCode, String> {
    // Before anything is opened that a signal should not cut off.
    let hangups = reload::hangups()?;
    let mut signals = StopSignals::install()?;
    let read = load::read(&args.config);
    let config = read.config?;
    let (callers, tls) = (args.callers.callers()?, args.server.tls()?);
    let listener = bind(&args.listen).await.map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let stopping = Shutdown::new();
    let (reloader, requests) = channel();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let election =
        args.election.options(scheme, address, args.callers.api_server(), crate::scraper::host_name)?;
    let options = AllocatorOptions { callers, election };
    let allocator =
        Allocator::with_options(config, options, stopping.clone()).map_err(|error| error.to_string())?;
    let admin = args.server.admin.admin(reloader);
    let router = allocator.routes().merge(common_routes(allocator.readiness(), admin));
    let server = spawn_server(listener, tls, router, stopping.clone());
    let reloaded = allocator.clone();
    let apply = move |config| {
        reloaded.apply_config(config);
        Ok(())
    };
    tokio::spawn(reload::follow(args.config, hangups, read.watched, requests, apply));
    let running = allocator.clone();
    let runner = tokio::spawn(async move { running.run().await });
    tokio::spawn(observe::upkeep());
    tracing::info!(%address, "allocator is listening");
    let signal = signals.next().await;
    tracing::info!(signal, "stopping");
    tokio::select! {
        () = allocator.retire() => {}
        signal = signals.next() => tracing::warn!(signal, "a second signal: the Lease runs out by itself"),
    }
    stopping.trigger();
    let _ = runner.await;
    let _ = server.await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}
