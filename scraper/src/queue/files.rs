//! The seam under the queue: what it asks of a file system. Product code stands on [`OsFiles`]; tests put a simulated
//! disk here that fails, runs full, or loses power at any write.

use std::fmt;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};

use rustix::fs::OFlags;

/// A file that is read and written by position. Positions need no lock: a reader and the writer share one handle.
pub(crate) trait File: Send + Sync {
    /// Reads at `offset`, perhaps less than asked for; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at `offset`, perhaps less than asked for.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Bytes of the file.
    fn len(&self) -> io::Result<u64>;
    /// Cuts or extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Returns when the data are on the disk.
    fn sync(&self) -> io::Result<()>;

    /// Fills `buffer` from `offset` on.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    buffer = buffer.get_mut(read..).unwrap_or_default();
                    offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all of `bytes` from `offset` on.
    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    offset += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What is asked of a file system.
pub(crate) trait Files: Send + Sync {
    /// A new file, readable and writable; one of this name is emptied.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// A file that exists, readable and writable, or readable only where writing is not allowed.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Names in a directory, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// A directory and those above it; no error if it exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// A directory with all that is in it.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Deletes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Renames a file or directory, over a file of that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Returns when the names in the directory are on the disk.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// How many bytes more the disk of a directory takes from this process.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
    /// Takes the lock file, or fails with `WouldBlock` where somebody else has it; held until the guard is dropped.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;

    /// Reads a small file whole; more than `bytes_max` is an error.
    fn read_small(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        let file = self.open(path)?;
        let len = file.len()?;
        if len > bytes_max {
            return Err(io::Error::other(format!(
                "{} has {len} bytes, at most {bytes_max} are expected",
                path.display()
            )));
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Replaces a small file as a whole: after a crash it holds either the old bytes or the new ones.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".tmp");
        let beside = PathBuf::from(name);
        let file = self.create(&beside)?;
        file.write_all_at(bytes, 0)?;
        file.sync()?;
        self.rename(&beside, path)?;
        path.parent().map_or(Ok(()), |parent| self.sync_dir(parent))
    }
}

/// Holds a lock file until it is dropped.
pub(crate) trait Lock: Send + Sync {}

impl fmt::Debug for dyn File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("File")
    }
}

impl fmt::Debug for dyn Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Files")
    }
}

/// The operating system's files.
#[derive(Debug)]
pub(crate) struct OsFiles;

struct OsFile(fs::File);

impl File for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

struct OsLock(#[expect(dead_code, reason = "closing it gives the lock back")] fs::File);

impl Lock for OsLock {}

impl Files for OsFiles {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Arc::new(OsFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        // Where there is a pipe in its place, nobody may ever be at its other end.
        let mut options = fs::OpenOptions::new();
        options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let file = match options.clone().write(true).open(path) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
                ) =>
            {
                options.open(path)?
            }
            opened => opened?,
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        Ok(Arc::new(OsFile(file)))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            // A name that is no UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir_all(path) {
            // It may be there, and the disk not say what it is.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(fs::metadata(path).err().unwrap_or(error))
            }
            made => made,
        }
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(path)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let opened = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = match opened {
            // A lock needs no write access, so that a read-only disk can still be sent from.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                fs::File::open(path).map_err(|_| error)?
            }
            opened => opened?,
        };
        if let Err(error) = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(error.into());
            }
            let mut holder = String::new();
            let _unreadable_is_unknown = (&file).take(20).read_to_string(&mut holder);
            let holder = holder.trim();
            let text =
                if holder.is_empty() { "another process".to_owned() } else { format!("process {holder}") };
            return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
        }
        // Only a help for whoever meets the lock: failing to write it is no failure.
        if file.set_len(0).is_ok() {
            let _only_a_help = writeln!(file, "{}", std::process::id());
        }
        Ok(Box::new(OsLock(file)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_refused_while_it_is_held_and_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = OsFiles.lock(&path).unwrap();
        let refused = OsFiles.lock(&path).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(refused.to_string(), format!("process {}", std::process::id()));
        drop(held);
        assert!(OsFiles.lock(&path).is_ok());
    }

    #[test]
    fn replacing_leaves_the_new_bytes_and_nothing_beside_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta");
        OsFiles.replace(&path, b"old and long").unwrap();
        OsFiles.replace(&path, b"new").unwrap();
        assert_eq!(OsFiles.read_small(&path, 100).unwrap(), b"new");
        assert_eq!(OsFiles.list(dir.path()).unwrap(), ["meta"]);
        assert!(OsFiles.read_small(&path, 2).is_err());
    }
}
