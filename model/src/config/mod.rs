//! The configuration: a raw type that mirrors the file, and the validated types that everything else uses.

mod secret;
mod types;

pub use secret::Secret;
pub use types::*;

/// What loading a configuration needs of the outside: files, patterns, environment variables.
pub trait ConfigSource {
    /// The content of a file.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn read(&self, path: &std::path::Path) -> Result<Vec<u8>, String>;

    /// Existing files that match a pattern, sorted.
    ///
    /// # Errors
    /// Why the pattern cannot be used.
    fn glob(&self, pattern: &std::path::Path) -> Result<Vec<std::path::PathBuf>, String>;

    /// An environment variable.
    fn env(&self, name: &str) -> Option<String>;
}
