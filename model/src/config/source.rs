//! Where files and environment variables come from: this crate reads neither by itself.

use std::path::{Path, PathBuf};

/// Most bytes of one configuration file. Kubernetes stores 1 MiB in a ConfigMap; a reader may stop right
/// after this many.
pub const FILE_BYTES_MAX: usize = 32 << 20;

/// Most bytes of one file of targets. Of YAML no more than [`FILE_BYTES_MAX`] are read.
pub const TARGETS_BYTES_MAX: usize = 256 << 20;

/// Files and environment of the process that loads a configuration.
pub trait ConfigSource {
    /// The bytes of a file. More than [`FILE_BYTES_MAX`] need not be read: such a file is refused.
    ///
    /// # Errors
    /// Why it cannot be read, for a person.
    fn read(&self, path: &Path) -> Result<Vec<u8>, String>;

    /// The bytes of a file of targets, of which there may be [`TARGETS_BYTES_MAX`].
    ///
    /// # Errors
    /// Why it cannot be read, for a person.
    fn read_targets(&self, path: &Path) -> Result<Vec<u8>, String> {
        self.read(path)
    }

    /// The files that match a pattern, sorted; none is no error.
    ///
    /// # Errors
    /// Why the pattern cannot be used, for a person.
    fn glob(&self, pattern: &Path) -> Result<Vec<PathBuf>, String>;

    /// The value of an environment variable, `None` where it is not set.
    fn env(&self, name: &str) -> Option<String>;
}
