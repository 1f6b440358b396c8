//! `promring queue DIR`: what lies in queues on disk, with every checksum verified.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use promring_scraper::queue::Inspection;

use crate::cli::QueueArgs;

/// Shows a queue, or all queues of a data directory. Exit code 1 if anything in them is damaged or cannot be shown.
pub(crate) fn run(args: &QueueArgs) -> Result<ExitCode, String> {
    let dirs = queues(&args.dir)?;
    let mut sound = true;
    let mut errors: Vec<String> = Vec::new();
    let mut out = stdout().lock();
    for dir in dirs {
        match Inspection::of(&dir) {
            Ok(inspection) => {
                sound &= inspection.is_sound();
                // Who closed the pipe does not want to read on; the exit code still counts.
                let _ = writeln!(out, "{}\n{inspection}", dir.display());
            }
            // The others are shown all the same.
            Err(error) => errors.push(error.to_string()),
        }
    }
    if !errors.is_empty() {
        return Err(errors.join("\n"));
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a file system of its own has at its root.
const LOST_AND_FOUND: &str = "lost+found";

/// The directory itself, or the queues under it where it is a data directory.
fn queues(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let parent = dir.join("queue");
    if !parent.is_dir() {
        return Ok(vec![dir.to_owned()]);
    }
    let entries = std::fs::read_dir(&parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    let mut dirs: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir() && !path.ends_with(LOST_AND_FOUND))
        .collect();
    dirs.sort();
    if dirs.is_empty() { Err(format!("{} holds no queue", parent.display())) } else { Ok(dirs) }
}
