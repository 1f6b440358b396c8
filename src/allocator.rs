//! `promring allocator`: the allocator as a process of its own.

use std::process::ExitCode;

use promring_allocator::Allocator;
use promring_net::observe;
use promring_net::reload::channel;
use promring_net::server::{bind, common_routes};
use promring_net::shutdown::{Shutdown, StopSignals};

use crate::cli::{AllocatorArgs, spawn_server};
use crate::{load, reload};

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(args: AllocatorArgs) -> Result<ExitCode, String> {
    // Before anything is opened that a signal should not cut off.
    let mut signals = StopSignals::install()?;
    let read = load::read(&args.config);
    let config = read.config?;
    let (callers, tls) = (args.callers.callers()?, args.server.tls()?);
    let listener = bind(&args.listen).await.map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let stopping = Shutdown::new();
    let (reloader, requests) = channel();
    let allocator = Allocator::with_callers(config, callers, stopping.clone());
    let admin = args.server.admin.admin(reloader);
    let router = allocator.routes().merge(common_routes(allocator.readiness(), admin));
    let server = spawn_server(listener, tls, router, stopping.clone());
    let reloaded = allocator.clone();
    let apply = move |config| {
        reloaded.apply_config(config);
        Ok(())
    };
    tokio::spawn(reload::follow(args.config, read.watched, requests, apply));
    let runner = tokio::spawn(async move { allocator.run().await });
    tokio::spawn(observe::upkeep());
    tracing::info!(%address, "allocator is listening");
    let signal = signals.next().await;
    tracing::info!(signal, "stopping");
    stopping.trigger();
    let _ = runner.await;
    let _ = server.await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}
