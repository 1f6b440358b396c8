//! `promring demo`: the whole of it on one machine, with nothing else installed. Sample exporters, an allocator,
//! scrapers and a receiver that audits what arrives, all on loopback; nothing is left on disk.

mod fleet;
mod parts;
mod summary;

use std::io::{IsTerminal, Write, stdout};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use promring_model::duration::format_duration;
use promring_net::clock::now_ms;
use promring_net::shutdown::StopSignals;
use promring_testkit::exporter::{Fleet, FleetOptions};
use promring_testkit::receiver::{Receiver, ReceiverError};
use tokio::time::Instant;

use crate::cli::{DemoArgs, DemoPart};
use crate::load;
use fleet::Roles;

/// How often the live line is renewed on a terminal.
const LIVE_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is printed where the output is no terminal.
const PRINT_INTERVAL: Duration = Duration::from_secs(5);

/// How long the parts may take to find each other.
const START_MAX: Duration = Duration::from_secs(30);

/// A scrape may begin this much after its slot, so the last audited slot needs this long before scraping stops.
const LAST_SLOT_GRACE: Duration = Duration::from_secs(1);

/// Runs the demo, or the part of it that was asked for.
pub(crate) async fn run(args: DemoArgs) -> Result<ExitCode, String> {
    // Before anything is put on disk, so that no signal leaves it behind.
    let mut signals = StopSignals::with_hangup()?;
    match &args.part {
        Some(DemoPart::Exporters(args)) => parts::exporters(args, &mut signals).await,
        Some(DemoPart::Receiver(args)) => parts::receiver(args, &mut signals).await,
        None => whole(&args, &mut signals).await,
    }
}

async fn whole(args: &DemoArgs, signals: &mut StopSignals) -> Result<ExitCode, String> {
    let dir = tempfile::Builder::new()
        .prefix("promring-demo-")
        .tempdir()
        .map_err(|error| format!("no temporary directory for the queues: {error}"))?;
    let options = FleetOptions { targets: args.targets as usize, ..FleetOptions::default() };
    let exporters = Fleet::start(options).await.map_err(|error| error.to_string())?;
    let receiver = start_receiver(&args.listen).await?;
    let config_path = write_config(dir.path(), &exporters, &receiver, args)?;
    let config = load::config(&config_path)?;
    let job = &config.scrape_configs[0];
    let expected = exporters.expect(&mut receiver.audit(), job, &config.external_labels);
    expected.map_err(|error| error.to_string())?;

    say(&format!(
        "{} exporters, scraped every {} by {} scrapers; everything on loopback, the queues in {}",
        args.targets,
        format_duration(args.interval),
        args.scrapers,
        dir.path().display()
    ));
    let roles = Roles::start(config, args.scrapers, dir.path()).await?;
    let early = tokio::select! {
        started = roles.wait_until_in_force(START_MAX) => started.map(|()| None),
        signal = signals.next() => Ok(Some(signal)),
    };
    if !matches!(early, Ok(None)) {
        roles.stop().await;
        if let Some(signal) = early? {
            say(&format!("ended by {signal} before the first slot that is audited"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    // From here on every slot of every target has its owner, so every one of them is to arrive.
    let from_ms = now_ms();
    receiver.audit().window(from_ms, i64::MAX);
    say(&format!("page:      http://{}/", receiver.address()));
    say(&format!("allocator: {}/  (targets, scrapers, who has what)", roles.allocator_url()));

    let stopped_by = watch(&receiver, &roles, args.duration, signals).await;
    // The window ends now; scraping goes on until its last slot has begun.
    let to_ms = now_ms();
    receiver.audit().window(from_ms, to_ms);
    tokio::time::sleep(LAST_SLOT_GRACE).await;
    roles.stop().await;
    let report = receiver.audit().report(to_ms);
    let summary = receiver.summary();
    receiver.stop().await;
    exporters.stop().await;
    dir.close().map_err(|error| format!("the temporary directory stays behind: {error}"))?;
    say(&summary::text(&report, &summary, stopped_by, args));
    Ok(if report.counts.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows the live line until the time is over or a signal comes; gives the reason.
async fn watch(
    receiver: &Receiver,
    roles: &Roles,
    duration: Option<Duration>,
    signals: &mut StopSignals,
) -> &'static str {
    let live = stdout().is_terminal();
    let mut tick = tokio::time::interval(if live { LIVE_INTERVAL } else { PRINT_INTERVAL });
    let end = duration.map(|duration| Instant::now() + duration);
    let over = async {
        match end {
            Some(end) => tokio::time::sleep_until(end).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    if duration.is_none() {
        say("Ctrl-C ends it with a summary.");
    }
    let reason = loop {
        tokio::select! {
            _ = tick.tick() => {
                let (targets, states) = roles.overview();
                receiver.set_facts(roles.facts());
                let line = summary::live_line(&receiver.summary(), targets, &states, roles.queued_samples());
                if live { show(&format!("\r\x1b[K{line}")) } else { say(&line) }
            }
            () = &mut over => break "its time is over",
            signal = signals.next() => break signal,
        }
    };
    if live {
        say("");
    }
    reason
}

/// The receiver on the address asked for, or on another port where that one is busy.
async fn start_receiver(listen: &str) -> Result<Receiver, String> {
    let address = resolved(listen).await?;
    match Receiver::start(address).await {
        Err(ReceiverError::PortBusy { address }) => {
            say(&format!("{address} is in use, so another port is taken"));
            let any_port = SocketAddr::new(address.ip(), 0);
            Receiver::start(any_port).await.map_err(|error| error.to_string())
        }
        result => result.map_err(|error| error.to_string()),
    }
}

/// The address that `--listen` names: a number or a host's name. Of several the first that is of IPv4, as everything
/// else of the demo is.
async fn resolved(listen: &str) -> Result<SocketAddr, String> {
    let found = tokio::net::lookup_host(listen).await;
    let found = found
        .map_err(|error| format!("--listen {listen:?} is no address such as 127.0.0.1:8080: {error}"))?;
    let mut found: Vec<SocketAddr> = found.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().ok_or_else(|| format!("--listen {listen:?} names a host without an address"))
}

/// An ordinary Prometheus configuration for the exporters, with the rules that a platform team would have.
fn write_config(
    dir: &Path,
    exporters: &Fleet,
    receiver: &Receiver,
    args: &DemoArgs,
) -> Result<std::path::PathBuf, String> {
    let interval = format_duration(args.interval);
    let text = format!(
        "\
global:
  scrape_interval: {interval}
  scrape_timeout: {interval}
  external_labels: {{cluster: demo}}
scrape_configs:
- job_name: demo
  file_sd_configs: [{{files: [targets.json]}}]
  relabel_configs:
  - {{source_labels: [service], target_label: service_name}}
  - {{regex: service, action: labeldrop}}
  metric_relabel_configs:
  - {{regex: pod_ip|instance_id, action: labeldrop}}
remote_write:
- url: {}
  name: demo-receiver
allocator: {{settle: 1s}}
scraper: {{heartbeat: 1s}}
",
        receiver.write_url()
    );
    let path = dir.join("prometheus.yml");
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    write(&dir.join("targets.json"), &exporters.file_sd_json())?;
    write(&path, &text)?;
    Ok(path)
}

/// Prints a line.
fn say(text: &str) {
    show(&format!("{text}\n"));
}

fn show(text: &str) {
    let mut out = stdout().lock();
    // Who closed the pipe does not want to read on; the demo's exit code still counts.
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}
