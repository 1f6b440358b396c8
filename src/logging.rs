//! The log: to standard error, as text or JSON.

use std::io::{IsTerminal, stderr};

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use crate::cli::{LogArgs, LogFormat};

/// Where kube's client says by itself that a request failed. Whoever sent it tells the same with its object and cause, and as the
/// warning that it is.
const KUBE_FAILURES: &str = "kube_client::client::builder";

/// Installs the log. A level that cannot be read is told, and the default taken.
pub(crate) fn install(args: &LogArgs, level_default: &str) {
    let level = args.log_level.as_deref().unwrap_or(level_default);
    let (filter, problem) = match EnvFilter::try_new(level) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(level_default), Some(error)),
    };
    let layer = fmt::layer().with_writer(stderr);
    let told_twice = filter_fn(|line| line.target() != KUBE_FAILURES || *line.level() != Level::ERROR);
    let registry = tracing_subscriber::registry().with(filter).with(told_twice);
    match args.log_format {
        LogFormat::Text => registry.with(layer.with_ansi(stderr().is_terminal()).with_target(false)).init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).init(),
    }
    if let Some(error) = problem {
        tracing::warn!(%error, level, level_default, "--log-level cannot be read; the default is taken");
    }
}
