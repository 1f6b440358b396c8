//! The demo's exporters and its receiver as processes of their own, for tests and benchmarks.

use std::process::ExitCode;

use promring_net::shutdown::StopSignals;
use promring_testkit::exporter::{Fleet, FleetOptions};
use promring_testkit::receiver::Receiver;

use super::say;
use crate::cli::{ExportersArgs, ReceiverArgs};

/// Runs exporters until a signal comes.
pub(super) async fn exporters(args: &ExportersArgs, signals: &mut StopSignals) -> Result<ExitCode, String> {
    let default = FleetOptions::default();
    let options = FleetOptions {
        targets: args.targets as usize,
        series: args.series.map(|series| series as usize),
        host: args.listen.map_or(default.host, |address| address.ip()),
        base_port: args.listen.map_or(default.base_port, |address| address.port()),
        ..default
    };
    let fleet = Fleet::start(options).await.map_err(|error| error.to_string())?;
    let targets = fleet.file_sd_json();
    match &args.targets_file {
        None => say(&targets),
        Some(path) => {
            std::fs::write(path, targets).map_err(|error| format!("{}: {error}", path.display()))?;
            say(&format!("{} exporters; their addresses are in {}", args.targets, path.display()));
        }
    }
    signals.next().await;
    say(&format!("{} scrapes were answered", fleet.scrapes()));
    fleet.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Runs the receiver until a signal comes.
pub(super) async fn receiver(args: &ReceiverArgs, signals: &mut StopSignals) -> Result<ExitCode, String> {
    let listen = super::resolved(&args.listen).await?;
    let receiver = Receiver::start(listen).await.map_err(|error| error.to_string())?;
    say(&format!("remote write goes to {}", receiver.write_url()));
    say(&format!("page: http://{}/", receiver.address()));
    signals.next().await;
    let summary = receiver.summary();
    say(&format!(
        "{} samples of {} series in {} requests; duplicates {}, out of order {}",
        summary.samples, summary.series, summary.received.requests, summary.duplicates, summary.out_of_order
    ));
    receiver.stop().await;
    Ok(ExitCode::SUCCESS)
}
