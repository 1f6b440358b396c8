//! promring: a Prometheus target allocator and sharded scraper. This file parses the command line and runs what it
//! names; each subcommand has a file of its own.

mod allocator;
mod check;
mod cli;
mod demo;
mod load;
mod logging;
mod malloc;
mod queue;
mod relabel;
mod reload;
mod scraper;
mod standalone;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, LogFormat};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::Standalone(_) | Command::Scraper(_)) {
        malloc::use_one_arena();
    }
    // The demo talks by itself; a log between its lines would only hide them.
    let level_default = if matches!(cli.command, Command::Demo(_)) { "warn" } else { "info" };
    logging::install(&cli.log, level_default);
    let json = cli.log.log_format == LogFormat::Json;
    promring_net::observe::install_metrics();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}"), json),
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Standalone(args) => standalone::run(args).await,
            Command::Allocator(args) => allocator::run(args).await,
            Command::Scraper(args) => scraper::run(args).await,
            Command::Demo(args) => demo::run(args).await,
            Command::Check(args) => check::run(&args),
            Command::Relabel(args) => relabel::run(&args),
            Command::Queue(args) => queue::run(&args),
        }
    });
    // A file read in the background must not keep the process from ending.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(message) => fail(&message, json),
    }
}

#[expect(clippy::print_stderr, reason = "the last word of a process that fails")]
fn fail(message: &str, json: bool) -> ExitCode {
    // Why a process does not start is said whatever the level of the log is.
    if json && tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!("{message}");
    } else if json {
        eprintln!("{}", serde_json::json!({ "level": "ERROR", "message": message }));
    } else {
        eprintln!("promring: {message}");
    }
    ExitCode::FAILURE
}
