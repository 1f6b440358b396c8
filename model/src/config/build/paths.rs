//! Paths as they stand in a file.

use std::path::{Component, Path, PathBuf};

/// The directory of a file.
pub(super) fn directory(file: &Path) -> PathBuf {
    file.parent().map(Path::to_owned).unwrap_or_default()
}

/// A path that stands in a file of this directory; `.` and `..` are resolved as text, as Prometheus does.
pub(super) fn join(dir: &Path, path: &str) -> PathBuf {
    if Path::new(path).is_absolute() {
        return PathBuf::from(path);
    }
    let mut clean = PathBuf::new();
    for component in dir.join(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => match clean.components().next_back() {
                Some(Component::Normal(_)) => drop(clean.pop()),
                Some(Component::RootDir) => {}
                _ => clean.push(".."),
            },
            other => clean.push(other),
        }
    }
    clean
}

/// Whether asterisks stand in the last element of a path only.
pub(crate) fn is_pattern(path: &str) -> bool {
    match path.split_once('*') {
        None => true,
        Some((_, rest)) => !rest.contains('/'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_in_the_directory_of_their_file() {
        let join = |dir: &str, path| join(Path::new(dir), path).display().to_string();
        assert_eq!(join("/etc/p", "t.json"), "/etc/p/t.json");
        assert_eq!(join("/etc/p", "./t/../u/*.json"), "/etc/p/u/*.json");
        assert_eq!(join("/etc/p", "../t.json"), "/etc/t.json");
        assert_eq!(join("/etc/p", "/t.json"), "/t.json");
        assert_eq!(join("", "t.json"), "t.json");
        assert_eq!(join("", "../t.json"), "../t.json");
        assert_eq!(join("a", "../../t.json"), "../t.json");
    }

    #[test]
    fn an_asterisk_stands_in_the_last_element_only() {
        assert!(is_pattern("jobs/a.yml"));
        assert!(is_pattern("jobs/*.yml"));
        assert!(is_pattern("jobs/a*"));
        assert!(!is_pattern("*/a.yml"));
    }
}
