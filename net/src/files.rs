//! The configuration's files: what the pure model asks for, read from the disk.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use promring_model::config::{ConfigSource, FILE_BYTES_MAX};

/// Reads from the file system and the process's environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl ConfigSource for Disk {
    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        read_bounded(path, FILE_BYTES_MAX as u64)
    }

    fn glob(&self, pattern: &Path) -> Result<Vec<PathBuf>, String> {
        glob_paths(pattern)
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// The content of a file of at most `bytes_max` bytes.
///
/// # Errors
/// Where the file cannot be read, is no file, or is larger.
pub fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let meta = file.metadata().map_err(|error| error.to_string())?;
    if meta.is_dir() {
        return Err("it is a directory".to_owned());
    }
    let mut content = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut content).map_err(|error| error.to_string())?;
    if content.len() as u64 > bytes_max {
        return Err(format!("it is larger than {bytes_max} bytes"));
    }
    Ok(content)
}

/// Existing paths that match a pattern, sorted.
///
/// # Errors
/// Where the pattern is malformed or not UTF-8.
pub fn glob_paths(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let text = pattern.to_str().ok_or("the pattern is not UTF-8")?;
    let paths = glob::glob(text).map_err(|error| error.to_string())?;
    // What cannot be listed is left out, as a shell does.
    Ok(paths.filter_map(Result::ok).collect())
}
