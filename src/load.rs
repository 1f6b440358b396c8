//! Loads the configuration of a process that is to run with it.

use std::path::Path;
use std::sync::Arc;

use promring_model::config::{Config, Severity, load};
use promring_net::reload::{NotingDisk, Watched};

/// The configuration in `path`. Warnings and remarks are logged.
///
/// # Errors
/// All errors of the file, one after the other.
pub(crate) fn config(path: &Path) -> Result<Arc<Config>, String> {
    read(path).config
}

/// A configuration, and what to look at to notice that it changed.
pub(crate) struct Read {
    pub(crate) config: Result<Arc<Config>, String>,
    pub(crate) watched: Watched,
}

/// The same, with all files that were read or should have been.
pub(crate) fn read(path: &Path) -> Read {
    let disk = NotingDisk::default();
    let loaded = load(path, &disk);
    let mut errors = Vec::new();
    for diagnostic in &loaded.diagnostics {
        match diagnostic.severity {
            Severity::Error => errors.push(diagnostic.to_string()),
            Severity::Warning => tracing::warn!("{diagnostic}"),
            Severity::Remark => tracing::info!("{diagnostic}"),
        }
    }
    let config = loaded.config.map(Arc::new).ok_or_else(|| {
        errors.push("the configuration cannot be used".to_owned());
        errors.join("\n")
    });
    Read { config, watched: disk.watched(loaded.files, loaded.patterns) }
}
