//! The command line: every flag with its default and its environment variable.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use promring_model::duration::parse_duration;

mod election;
mod security;
pub(crate) use election::ElectionArgs;
pub(crate) use security::{AccessArgs, AdminArgs, CallersArgs, ServerArgs, spawn_server};

/// Prometheus target allocator and sharded scraper.
#[derive(Debug, Parser)]
#[command(name = "promring", version, propagate_version = true, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) log: LogArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What is logged, and how.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// Least severe messages to log: error, warn, info, debug or trace; or a filter such as
    /// info,promring_scraper=debug [default: info; for the demo warn].
    #[arg(long, global = true, env = "PROMRING_LOG_LEVEL", value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// Form of the log.
    #[arg(long, global = true, env = "PROMRING_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line a message, for people.
    Text,
    /// One JSON object a message.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Allocator and scraper in one process, for one machine.
    Standalone(StandaloneArgs),
    /// Discovers targets and assigns each to one scraper.
    Allocator(AllocatorArgs),
    /// Scrapes what the allocator assigns, and remote-writes it.
    Scraper(ScraperArgs),
    /// Shows the whole of it on this machine: exporters, an allocator, three scrapers and a receiver that audits.
    Demo(DemoArgs),
    /// Validates configuration files.
    Check(CheckArgs),
    /// Shows what each relabelling rule of a job does to label sets.
    Relabel(RelabelArgs),
    /// Shows what lies in a queue on disk, and verifies its checksums. It may be in use.
    Queue(QueueArgs),
}

#[derive(Debug, Args)]
pub(crate) struct StandaloneArgs {
    /// Prometheus configuration file.
    #[arg(long, env = "PROMRING_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Directory of the queues on disk.
    #[arg(long, env = "PROMRING_DATA_DIR", default_value = "data/", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Address to serve the page, API and metrics on.
    #[arg(long, env = "PROMRING_LISTEN", default_value = "127.0.0.1:8081", value_name = "ADDR")]
    pub(crate) listen: String,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AllocatorArgs {
    /// Prometheus configuration file, the same that the scrapers have.
    #[arg(long, env = "PROMRING_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Address to serve assignments, the page, API and metrics on.
    #[arg(long, env = "PROMRING_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDR")]
    pub(crate) listen: String,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) callers: CallersArgs,
    #[command(flatten)]
    pub(crate) election: ElectionArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ScraperArgs {
    /// Prometheus configuration file, the same that the allocator has.
    #[arg(long, env = "PROMRING_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Name of this scraper, unique among an allocator's scrapers and the same after a restart
    /// [default: the host's name, as a StatefulSet sets it].
    #[arg(long, env = "PROMRING_NAME", value_parser = scraper_name, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The allocator.
    #[arg(long, env = "PROMRING_ALLOCATOR", value_parser = http_url, value_name = "URL")]
    pub(crate) allocator: url::Url,
    /// Directory of the queues on disk.
    #[arg(long, env = "PROMRING_DATA_DIR", default_value = "data/", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Address to serve API and metrics on.
    #[arg(long, env = "PROMRING_LISTEN", default_value = "0.0.0.0:8081", value_name = "ADDR")]
    pub(crate) listen: String,
    /// How others reach this scraper's server [default: its name and the port of --listen].
    #[arg(long, env = "PROMRING_ADVERTISE", value_name = "URL")]
    pub(crate) advertise: Option<String>,
    /// Node that this scraper runs on, for allocator.strategy: per-node [default: what the allocator sees of its pod].
    #[arg(long, env = "PROMRING_NODE", value_name = "NAME")]
    pub(crate) node: Option<String>,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DemoArgs {
    #[command(subcommand)]
    pub(crate) part: Option<DemoPart>,
    /// Ends by itself after this long, with a summary; exit code 1 if the audit found anything
    /// [default: runs until Ctrl-C].
    #[arg(long, env = "PROMRING_DEMO_DURATION", value_parser = duration, value_name = "DURATION")]
    pub(crate) duration: Option<Duration>,
    /// How many sample exporters are scraped.
    #[arg(long, env = "PROMRING_DEMO_TARGETS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
    pub(crate) targets: u32,
    /// How many scrapers share them.
    #[arg(long, env = "PROMRING_DEMO_SCRAPERS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100), value_name = "N")]
    pub(crate) scrapers: u32,
    /// How often each exporter is scraped.
    #[arg(long, env = "PROMRING_DEMO_INTERVAL", default_value = "1s", value_parser = duration, value_name = "DURATION")]
    pub(crate) interval: Duration,
    /// Address of the demo's page; another port is taken where this one is busy.
    #[arg(long, env = "PROMRING_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub(crate) listen: String,
}

/// The demo's parts as processes of their own, for tests and benchmarks.
#[derive(Debug, Subcommand)]
pub(crate) enum DemoPart {
    /// Runs sample exporters only, and writes their addresses as a file_sd file.
    Exporters(ExportersArgs),
    /// Runs the auditing receiver only.
    Receiver(ReceiverArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ExportersArgs {
    /// How many exporters.
    #[arg(long, env = "PROMRING_DEMO_TARGETS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
    pub(crate) targets: u32,
    /// Series of each exporter, about [default: what its kind of service has].
    #[arg(long, env = "PROMRING_DEMO_SERIES", value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "N")]
    pub(crate) series: Option<u32>,
    /// Address of the first exporter; each further one takes the next port [default: free ports of loopback].
    #[arg(long, env = "PROMRING_LISTEN", value_name = "ADDR")]
    pub(crate) listen: Option<std::net::SocketAddr>,
    /// File to write the targets to, for file_sd_configs [default: standard output].
    #[arg(long, env = "PROMRING_DEMO_TARGETS_FILE", value_name = "FILE")]
    pub(crate) targets_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ReceiverArgs {
    /// Address to receive remote write and serve the audit on.
    #[arg(long, env = "PROMRING_LISTEN", default_value = "127.0.0.1:9091", value_name = "ADDR")]
    pub(crate) listen: String,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Configuration files.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RelabelArgs {
    /// Prometheus configuration file.
    #[arg(long, env = "PROMRING_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The job whose rules are applied.
    #[arg(long, env = "PROMRING_JOB", value_name = "NAME")]
    pub(crate) job: String,
    /// Apply metric_relabel_configs to series, with the labels of their target among theirs, instead of relabel_configs to
    /// discovered targets.
    #[arg(long, env = "PROMRING_METRIC", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) metric: bool,
    /// Label sets, as {a="b"} or as a JSON object [default: standard input, one a line; empty lines and those that begin
    /// with # are skipped].
    #[arg(value_name = "LABELS")]
    pub(crate) labels: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct QueueArgs {
    /// A destination's queue, or a data directory with the queues of all.
    #[arg(env = "PROMRING_DATA_DIR", default_value = "data/", value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

/// A name as the allocator takes it.
fn scraper_name(text: &str) -> Result<String, String> {
    promring_proto::api::check_scraper_name(text).map(|()| text.to_owned())
}

/// An absolute URL of HTTP.
fn http_url(text: &str) -> Result<url::Url, String> {
    let url = url::Url::parse(text).map_err(|error| format!("{error}; write http://host:port"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(format!("the scheme is {other:?}; write http://host:port or https://host:port")),
    }
}

/// A duration as Prometheus writes it.
fn duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("must be longer than zero".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_an_environment_variable_and_says_its_default() {
        fn walk(command: &clap::Command) {
            for argument in command.get_arguments().filter(|argument| argument.get_long().is_some()) {
                let name = format!("{} --{}", command.get_name(), argument.get_long().unwrap_or_default());
                let variable = argument.get_env().and_then(|name| name.to_str()).unwrap_or_default();
                assert!(variable.starts_with("PROMRING_"), "{name} has no environment variable");
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                let takes_value = argument.get_action().takes_values();
                let optional = !argument.is_required_set() && argument.get_default_values().is_empty();
                assert!(
                    !(takes_value && optional) || help.contains("default"),
                    "{name} does not say what holds without it"
                );
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }
}
