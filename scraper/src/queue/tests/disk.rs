//! A simulated disk: files in memory with faults on command. It can run full, fail, be read-only, and stop a process at
//! any write, as SIGKILL does (what was written stays) or as a power cut does (what was not synced may be gone).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::super::files::{File, Files, Lock};

#[derive(Clone, Default)]
pub(super) struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    files: BTreeMap<PathBuf, Arc<Mutex<Node>>>,
    dirs: BTreeSet<PathBuf>,
    /// Names that outlive a power cut, with the files that they stand for.
    durable: BTreeMap<PathBuf, Arc<Mutex<Node>>>,
    locked: BTreeSet<PathBuf>,
    /// Changing calls so far.
    calls: u64,
    /// Calls so far that asked for what is there.
    looks: u64,
    faults: Faults,
}

#[derive(Default)]
struct Node {
    bytes: Vec<u8>,
    synced: Vec<u8>,
}

/// What goes wrong.
#[derive(Clone, Default)]
pub(super) struct Faults {
    /// Every changing call fails with this.
    pub(super) writes: Option<io::ErrorKind>,
    /// But for the next so many.
    pub(super) writes_after: u64,
    /// Every read fails with this.
    pub(super) reads: Option<io::ErrorKind>,
    /// After so many looks at what is there, names included, every one is an input/output error.
    pub(super) looks_after: Option<u64>,
    /// This file cannot be opened.
    pub(super) unreadable: Option<PathBuf>,
    /// No name can be changed: an input/output error.
    pub(super) names_stuck: bool,
    /// Every sync fails with this.
    pub(super) syncs: Option<io::ErrorKind>,
    /// The process is gone after so many changing calls; of a write, half is done.
    pub(super) stop_at: Option<u64>,
    /// Bytes of all files.
    pub(super) capacity: Option<u64>,
    /// At most so many bytes are taken by one write.
    pub(super) short_writes: Option<usize>,
}

impl Disk {
    pub(super) fn set_faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state().faults);
    }

    pub(super) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// The machine is there again after `stop_at`: the process's locks are gone, its writes are not.
    pub(super) fn revive(&self) {
        let mut state = self.state();
        state.faults.stop_at = None;
        state.locked.clear();
    }

    /// The power fails: names and bytes that were not synced are gone, or half there, as `lose` decides for each file.
    pub(super) fn cut_power(&self, mut lose: impl FnMut() -> u8) {
        let mut state = self.state();
        state.faults.stop_at = None;
        state.locked.clear();
        state.files = state.durable.clone();
        for node in state.files.values() {
            let mut node = node.lock().unwrap();
            match lose() % 3 {
                // Nothing beyond what was synced.
                0 => node.bytes = node.synced.clone(),
                // The new length without the data.
                1 => {
                    let len = node.bytes.len();
                    node.bytes = node.synced.clone();
                    node.bytes.resize(len, 0);
                }
                // All of it: the kernel had written it of its own accord.
                _ => node.synced = node.bytes.clone(),
            }
            node.synced = node.bytes.clone();
        }
    }

    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.state().files.keys().cloned().collect()
    }

    pub(super) fn bytes(&self, path: &Path) -> Vec<u8> {
        let node = Arc::clone(&self.state().files[path]);
        let node = node.lock().unwrap();
        node.bytes.clone()
    }

    pub(super) fn put(&self, path: &Path, bytes: &[u8]) {
        let node = Node { bytes: bytes.to_vec(), synced: bytes.to_vec() };
        self.state().files.insert(path.to_owned(), Arc::new(Mutex::new(node)));
    }

    pub(super) fn take_away(&self, path: &Path) {
        self.state().files.remove(path);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// How often was looked so far at what is there.
    pub(super) fn looks(&self) -> u64 {
        self.state().looks
    }

    /// Counts a look at what is there and says whether it fails.
    fn look(&self) -> io::Result<()> {
        let mut state = self.state();
        state.looks += 1;
        if state.faults.looks_after.is_some_and(|looks| state.looks > looks) {
            return Err(rustix::io::Errno::IO.into());
        }
        Ok(())
    }

    /// Counts a changing call and says whether it fails.
    fn change(&self) -> io::Result<()> {
        let mut state = self.state();
        state.calls += 1;
        if state.faults.stop_at.is_some_and(|at| state.calls >= at) {
            return Err(io::Error::other("the process is gone"));
        }
        let Some(kind) = state.faults.writes else { return Ok(()) };
        match state.faults.writes_after.checked_sub(1) {
            Some(left) => {
                state.faults.writes_after = left;
                Ok(())
            }
            None => Err(kind.into()),
        }
    }

    /// Whether `stop_at` has come.
    pub(super) fn is_gone(&self) -> bool {
        let state = self.state();
        state.faults.stop_at.is_some_and(|at| state.calls >= at)
    }
}

struct Handle {
    disk: Disk,
    node: Arc<Mutex<Node>>,
}

impl File for Handle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if let Some(kind) = self.disk.state().faults.reads {
            return Err(kind.into());
        }
        self.disk.look()?;
        let node = self.node.lock().unwrap();
        let from = (offset as usize).min(node.bytes.len());
        let len = buffer.len().min(node.bytes.len() - from);
        buffer[..len].copy_from_slice(&node.bytes[from..from + len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let before = self.disk.is_gone();
        let changed = self.disk.change();
        let faults = self.disk.state().faults.clone();
        let mut len = bytes.len().min(faults.short_writes.unwrap_or(usize::MAX));
        if changed.is_err() {
            // The write during which the process goes is done by half.
            let going = !before && self.disk.is_gone();
            len = if going { len / 2 } else { 0 };
        } else if let Some(capacity) = faults.capacity {
            let nodes: Vec<_> = self.disk.state().files.values().cloned().collect();
            let used: usize = nodes.iter().map(|node| node.lock().unwrap().bytes.len()).sum();
            let have = self.node.lock().unwrap().bytes.len();
            let room = (capacity as usize).saturating_sub(used);
            let grows = (offset as usize + len).saturating_sub(have);
            len = len.saturating_sub(grows.saturating_sub(room));
            if len == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        if len == 0 {
            return changed.map(|()| 0);
        }
        let mut node = self.node.lock().unwrap();
        let end = offset as usize + len;
        if node.bytes.len() < end {
            node.bytes.resize(end, 0);
        }
        node.bytes[offset as usize..end].copy_from_slice(&bytes[..len]);
        changed.map(|()| len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.node.lock().unwrap().bytes.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.change()?;
        self.node.lock().unwrap().bytes.resize(len as usize, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.change()?;
        if let Some(kind) = self.disk.state().faults.syncs {
            return Err(kind.into());
        }
        let mut node = self.node.lock().unwrap();
        node.synced = node.bytes.clone();
        Ok(())
    }
}

struct Held {
    disk: Disk,
    path: PathBuf,
}

impl Lock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        self.disk.state().locked.remove(&self.path);
    }
}

impl Files for Disk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.change()?;
        let node = Arc::new(Mutex::new(Node::default()));
        self.state().files.insert(path.to_owned(), Arc::clone(&node));
        Ok(Arc::new(Handle { disk: self.clone(), node }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.look()?;
        if self.state().faults.unreadable.as_deref() == Some(path) {
            return Err(rustix::io::Errno::IO.into());
        }
        let node = self.state().files.get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(Handle { disk: self.clone(), node }))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.look()?;
        let state = self.state();
        let names = state.files.keys().chain(&state.dirs).filter(|known| known.parent() == Some(path));
        Ok(names.map(|known| known.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if self.state().dirs.contains(path) {
            return Ok(());
        }
        self.change()?;
        self.state().dirs.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        let mut state = self.state();
        state.files.retain(|known, _| !known.starts_with(path));
        state.durable.retain(|known, _| !known.starts_with(path));
        state.dirs.retain(|known| !known.starts_with(path));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        let mut state = self.state();
        state.durable.remove(path);
        state.files.remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change()?;
        let mut state = self.state();
        if state.faults.names_stuck {
            return Err(rustix::io::Errno::IO.into());
        }
        let moved = |known: &Path| known.strip_prefix(from).ok().map(|rest| to.join(rest));
        let moved = |known: &Path| if known == from { Some(to.to_owned()) } else { moved(known) };
        let files: Vec<PathBuf> =
            state.files.keys().filter(|known| moved(known).is_some()).cloned().collect();
        for known in files {
            let node = state.files.remove(&known).unwrap();
            // Renames are taken as durable at once: what matters here is which bytes they lead to.
            state.durable.remove(&known);
            state.durable.insert(moved(&known).unwrap(), Arc::clone(&node));
            state.files.insert(moved(&known).unwrap(), node);
        }
        let dirs: Vec<PathBuf> = state.dirs.iter().filter(|known| moved(known).is_some()).cloned().collect();
        for known in dirs {
            state.dirs.remove(&known);
            state.dirs.insert(moved(&known).unwrap());
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        let mut state = self.state();
        if let Some(kind) = state.faults.syncs {
            return Err(kind.into());
        }
        let in_dir: Vec<_> = state
            .files
            .iter()
            .filter(|(known, _)| known.parent() == Some(path))
            .map(|(known, node)| (known.clone(), Arc::clone(node)))
            .collect();
        state.durable.extend(in_dir);
        Ok(())
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let (capacity, nodes): (_, Vec<_>) = {
            let state = self.state();
            (state.faults.capacity, state.files.values().cloned().collect())
        };
        let used: u64 = nodes.iter().map(|node| node.lock().unwrap().bytes.len() as u64).sum();
        Ok(capacity.unwrap_or(u64::MAX).saturating_sub(used))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.look()?;
        if !self.state().locked.insert(path.to_owned()) {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "process 7"));
        }
        Ok(Box::new(Held { disk: self.clone(), path: path.to_owned() }))
    }
}
