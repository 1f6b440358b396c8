//! The log: to standard error, as text or JSON.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use crate::cli::{LogArgs, LogFormat};

/// Installs the log. A filter that cannot be read is told, and everything from info up is logged.
pub(crate) fn install(args: &LogArgs) {
    let (filter, problem) = match EnvFilter::try_new(&args.log_level) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let layer = fmt::layer().with_writer(stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match args.log_format {
        LogFormat::Text => registry.with(layer.with_ansi(stderr().is_terminal()).with_target(false)).init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).init(),
    }
    if let Some(error) = problem {
        tracing::warn!(%error, filter = args.log_level, "--log-level cannot be read; logging from info up");
    }
}
