//! `promring check`: validates configuration files.

use std::io::{Write, stdout};
use std::path::Path;
use std::process::ExitCode;

use promring_model::config::{Config, Discovery, Loaded, Severity, check};
use promring_net::files::Disk;

use crate::cli::CheckArgs;

/// Checks each file and prints what was found: OK with a count of what is in it, or the errors. Exit code 1 if any
/// file has an error.
pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode, String> {
    let mut failed = false;
    let mut out = stdout().lock();
    for file in &args.files {
        let loaded = check(file, &Disk);
        failed |= loaded.config.is_none();
        // A reader that closes the pipe early is no failure of the check.
        let _ = out.write_all(describe(file, &loaded).as_bytes());
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn describe(file: &Path, loaded: &Loaded) -> String {
    let mut text = String::new();
    for diagnostic in &loaded.diagnostics {
        text.push_str(&format!("{diagnostic}\n"));
    }
    let errors =
        loaded.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
    let verdict = match &loaded.config {
        Some(config) => format!("OK: {}", contents(config)),
        None => format!("FAILED: {}", count(errors, "error")),
    };
    format!("{text}{}: {verdict}\n", file.display())
}

fn contents(config: &Config) -> String {
    let jobs = &config.scrape_configs;
    let rules: usize = jobs.iter().map(|job| job.relabel.len() + job.metric_relabel.len()).sum();
    let write_rules: usize =
        config.remote_write.iter().map(|destination| destination.write_relabel.len()).sum();
    let static_targets: usize = jobs
        .iter()
        .flat_map(|job| &job.discovery)
        .map(|discovery| match discovery {
            Discovery::Static(groups) => groups.iter().map(|group| group.targets.len()).sum(),
            Discovery::File(_) | Discovery::Http(_) | Discovery::Dns(_) | Discovery::Kubernetes(_) => 0,
        })
        .sum();
    let sources = jobs
        .iter()
        .flat_map(|job| &job.discovery)
        .filter(|discovery| !matches!(discovery, Discovery::Static(_)))
        .count();
    [
        count(jobs.len(), "job"),
        // Those that are written in the file, before relabelling; what a source finds is known when it runs.
        format!("{} in static_configs", count(static_targets, "target")),
        format!("{} of targets", count(sources, "other source")),
        count(rules + write_rules, "relabelling rule"),
        count(config.remote_write.len(), "destination"),
    ]
    .join(", ")
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
