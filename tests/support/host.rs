//! What tests of faults ask of the machine, as root: small disks and memory limits. All of it is gone when the test ends,
//! however it ends.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
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
        File::create(&image).unwrap().set_len(u64::from(mib) << 20).unwrap();
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

    /// Damages a small directory of an ext4 that nobody uses, by its path from the disk's root: it cannot be read until it is mended.
    pub fn damage(&self, dir: &str) -> Damage {
        let image = self.path.with_extension("img");
        root("umount", &[text(&self.path)]);
        let file = File::options().read(true).write(true).open(&image).unwrap();
        // The superblock begins at 1024, and says at 24 how often 1024 is doubled for a block.
        let mut doubled = [0; 4];
        file.read_exact_at(&mut doubled, 1024 + 24).unwrap();
        let block_bytes = 1024_u64 << u32::from_le_bytes(doubled);
        let blocks = root("debugfs", &["-R", &format!("blocks /{dir}"), text(&image)]);
        let block: u64 = blocks.split_whitespace().next().unwrap().parse().unwrap();
        let at = block * block_bytes;
        let mut bytes = vec![0; block_bytes as usize];
        file.read_exact_at(&mut bytes, at).unwrap();
        file.write_all_at(&vec![7; bytes.len()], at).unwrap();
        drop(file);
        root("mount", &["-o", "loop", text(&image), text(&self.path)]);
        let device = root("losetup", &["-j", text(&image)]);
        Damage { device: device.split(':').next().unwrap().into(), at, bytes }
    }
}

/// A block of a disk that holds something else than it should.
pub struct Damage {
    device: PathBuf,
    at: u64,
    bytes: Vec<u8>,
}

impl Damage {
    /// Puts back what was there, under whoever uses the disk.
    pub fn mend(self) {
        let device = File::options().write(true).open(&self.device).unwrap();
        device.write_all_at(&self.bytes, self.at).unwrap();
        device.sync_all().unwrap();
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

/// Gives what the program prints.
fn root(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}: {ROOT}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {told}: {ROOT}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
