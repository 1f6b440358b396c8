//! What tests of faults ask of the machine, as root: small disks and memory limits. All of it is gone when the test ends,
//! however it ends.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A small disk of its own.
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// A tmpfs of so many MiB at `path`.
    pub fn tmpfs(path: &Path, mib: u32) -> Self {
        std::fs::create_dir_all(path).unwrap();
        root("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs", text(path)]);
        Self { path: path.to_owned() }
    }

    /// An ext4 of so many MiB in a file beside `path`, mounted there.
    pub fn ext4(path: &Path, mib: u32) -> Self {
        std::fs::create_dir_all(path).unwrap();
        let image = path.with_extension("img");
        std::fs::File::create(&image).unwrap().set_len(u64::from(mib) << 20).unwrap();
        root("mkfs.ext4", &["-q", "-F", text(&image)]);
        root("mount", &["-o", "loop", text(&image), text(path)]);
        Self { path: path.to_owned() }
    }

    /// Mounts it anew with these options: `ro`, `rw`, or `abort`, which is what an ext4 does at an error of its device.
    pub fn remount(&self, options: &str) {
        root("mount", &["-o", &format!("remount,{options}"), text(&self.path)]);
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, as a process may still be ending.
        let _ = Command::new("umount").args(["-l", text(&self.path)]).status();
    }
}

/// A memory cgroup, of version 1 or 2.
pub struct MemoryLimit {
    dir: PathBuf,
    v2: bool,
}

impl MemoryLimit {
    /// A group without a limit yet.
    pub fn new(name: &str) -> Self {
        let (v1, v2) = (Path::new("/sys/fs/cgroup/memory"), Path::new("/sys/fs/cgroup"));
        let is_v2 = v2.join("cgroup.controllers").exists();
        let dir = (if is_v2 { v2 } else { v1 }).join(format!("{name}-{}", std::process::id()));
        if is_v2 {
            // Fails where it is set already, which is as good.
            let _ = std::fs::write(v2.join("cgroup.subtree_control"), "+memory");
        }
        std::fs::create_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}: {ROOT}", dir.display()));
        Self { dir, v2: is_v2 }
    }

    /// Puts a process into it.
    pub fn take(&self, pid: u32) {
        std::fs::write(self.dir.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        let file = if self.v2 { "memory.current" } else { "memory.usage_in_bytes" };
        std::fs::read_to_string(self.dir.join(file)).unwrap().trim().parse().unwrap()
    }

    /// Processes that the kernel has killed for it.
    pub fn kills(&self) -> u64 {
        let file = if self.v2 { "memory.events" } else { "memory.oom_control" };
        let text = std::fs::read_to_string(self.dir.join(file)).unwrap();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap()
    }

    /// Sets the limit, above what is in use.
    pub fn set(&self, bytes: u64) {
        let file = if self.v2 { "memory.max" } else { "memory.limit_in_bytes" };
        std::fs::write(self.dir.join(file), bytes.to_string()).unwrap();
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.dir);
    }
}

const ROOT: &str =
    "these tests mount disks and set memory limits: run them as root, on a machine that allows it";

fn root(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}: {ROOT}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {told}: {ROOT}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
