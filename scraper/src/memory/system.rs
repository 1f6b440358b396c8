//! What the system allows the process, and what the process takes.

use std::fs;
use std::path::{Path, PathBuf};

/// Control groups above the process's own that are looked at.
const GROUPS_MAX: usize = 32;

/// A limit of this many bytes and more is none: what version 1 of control groups says for "unlimited" is one.
const UNLIMITED_BYTES_MIN: u64 = 1 << 60;

/// The memory that the process takes now, in bytes.
pub(super) fn resident_bytes() -> u64 {
    let Ok(text) = fs::read_to_string("/proc/self/status") else { return 0 };
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Nine tenths of what the process's control group, or one above it, allows.
pub(super) fn system_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_of(&groups, Path::new("/sys/fs/cgroup")).map(|bytes| bytes / 10 * 9)
}

/// The smallest limit of the groups that `/proc/self/cgroup` lists, under the root of their file system.
fn limit_of(groups: &str, root: &Path) -> Option<u64> {
    // `number:controllers:path`; version 2 has no controllers there.
    let files = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (mount, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        let own = mount.join(path.trim_start_matches('/'));
        // In a container the path may be the host's, and its own group is the root.
        let groups = own.ancestors().take_while(|group| group.starts_with(&mount)).take(GROUPS_MAX);
        groups.map(|group| group.join(file)).collect::<Vec<PathBuf>>()
    });
    let limits = files.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    limits.filter(|&bytes| bytes < UNLIMITED_BYTES_MIN).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_smallest_of_the_control_groups() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("memory.max", "max\n");
        write("a/memory.max", "1000\n");
        write("a/b/memory.max", "2000\n");
        assert_eq!(limit_of("0::/a/b\n", root.path()), Some(1000));
        assert_eq!(limit_of("0::/\n", root.path()), None);
        write("memory/x/memory.limit_in_bytes", "3000\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit_of("5:cpu:/x\n4:memory:/x\n0::/\n", root.path()), Some(3000));
        assert_eq!(limit_of("4:memory:/not/here\n", root.path()), None);
    }
}
