//! The configuration's files: what the pure model asks for, read from the disk.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use promring_model::config::{ConfigSource, FILE_BYTES_MAX, TARGETS_BYTES_MAX};
use promring_model::glob;

/// Most paths that are looked at for one pattern.
const PATHS_MAX: usize = 100_000;

/// Reads from the file system and the process's environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl ConfigSource for Disk {
    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        read_bounded(path, FILE_BYTES_MAX as u64)
    }

    fn read_targets(&self, path: &Path) -> Result<Vec<u8>, String> {
        read_bounded(path, TARGETS_BYTES_MAX as u64)
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

/// Existing paths that match a pattern (see [`glob`]), sorted. What cannot be listed is left out, as a shell does.
///
/// # Errors
/// Where the pattern is malformed or not UTF-8.
pub fn glob_paths(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let text = pattern.to_str().ok_or("the pattern is not UTF-8")?;
    glob::check(text).map_err(|error| error.to_string())?;
    let elements: Vec<&str> = text.split('/').filter(|element| !element.is_empty()).collect();
    let start = if text.starts_with('/') { "/" } else { "" };
    let mut paths = vec![PathBuf::from(start)];
    for element in &elements {
        let is_pattern = glob::is_pattern(element);
        let below =
            |path: &PathBuf| if is_pattern { matching(path, element) } else { vec![path.join(element)] };
        paths = paths.iter().flat_map(below).take(PATHS_MAX).collect();
    }
    paths.retain(|path| !elements.is_empty() && path.symlink_metadata().is_ok());
    paths.sort();
    Ok(paths)
}

/// What of a directory matches an element of a pattern.
fn matching(dir: &Path, element: &str) -> Vec<PathBuf> {
    let here = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let Ok(entries) = std::fs::read_dir(here) else { return Vec::new() };
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
    let names = entries.filter_map(name).filter(|name| glob::is_match(element, name));
    names.map(|name| dir.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names_in_directories_and_directories() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            for file in ["1.json", "2.json", ".3.json", "x[y"] {
                std::fs::write(dir.path().join(name).join(file), "").unwrap();
            }
        }
        let found = |pattern: &str| -> Vec<String> {
            let paths = glob_paths(&dir.path().join(pattern)).unwrap();
            let own = |path: PathBuf| path.strip_prefix(dir.path()).unwrap().display().to_string();
            paths.into_iter().map(own).collect()
        };
        assert_eq!(found("a/*.json"), ["a/.3.json", "a/1.json", "a/2.json"]);
        assert_eq!(found("?/[^1].json"), ["a/2.json", "b/2.json"]);
        assert_eq!(found("[b]/x\\[y"), ["b/x[y"]);
        assert_eq!(found("a/1.json"), ["a/1.json"]);
        assert!(found("a/none.json").is_empty() && found("none/*").is_empty());
        assert!(glob_paths(&dir.path().join("[")).is_err());
    }
}
