//! The data directory: created if it is missing, and locked by one process at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use crate::Error;

/// The database file.
pub(super) const DATABASE: &str = "tidings.db";
/// The lock file: locked while a process has the log open. It holds that process's id, for the error
/// message of the next one.
const LOCK: &str = "tidings.lock";

/// A data directory, exclusively ours until this is dropped.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    /// The operating system releases the lock with the file, however the process ends. It is not the
    /// database file, because other programs (`sqlite3`, Litestream) may take SQLite's own locks on that.
    lock: File,
}

impl Directory {
    /// Creates the directory if it is missing, and takes the lock.
    pub(super) fn hold(path: &Path) -> Result<Self, Error> {
        create(path).map_err(|error| {
            Error::Store(format!(
                "the data directory {} cannot be created: {error}",
                path.display()
            ))
        })?;
        let lock = path.join(LOCK);
        let cannot = |error: io::Error| {
            Error::Store(format!("{} cannot be locked: {error}", lock.display()))
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock)
            .map_err(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(path, &mut file)),
            Err(TryLockError::Error(error)) => return Err(cannot(error)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(cannot)?;
        Ok(Self { path: path.to_owned(), lock: file })
    }

    /// Makes the file names in the directory durable. Call it once the database has been created:
    /// syncing a file does not sync its directory entry.
    pub(super) fn sync(&self) -> Result<(), Error> {
        File::open(&self.path).and_then(|directory| directory.sync_all()).map_err(|error| {
            Error::Store(format!("{} cannot be synced: {error}", self.path.display()))
        })
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }
}

impl Drop for Directory {
    /// Unlocks the file explicitly. Closing it is not enough: a child that another thread has just
    /// forked holds a copy of the descriptor until it calls exec.
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            // The lock goes when the last copy of the file is closed. This crate does not log.
            debug_assert!(false, "the lock is not released: {error}");
        }
    }
}

/// Creates `path` and its missing ancestors, and makes each new name durable in its parent.
fn create(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if parent != path {
        create(parent)?;
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        other => other?,
    }
    File::open(parent)?.sync_all()
}

fn in_use(path: &Path, file: &mut File) -> Error {
    let mut pid = String::new();
    // Best effort: the message is true without the process id.
    let who = match file.read_to_string(&mut pid) {
        Ok(_) if !pid.trim().is_empty() => format!("process {}", pid.trim()),
        _ => "another process".to_owned(),
    };
    Error::InUse(format!(
        "the data directory {} is in use by {who}: stop it first, or choose another directory",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::Directory;

    #[test]
    fn a_dropped_directory_can_be_locked_while_a_forked_child_holds_a_copy_of_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let held = Directory::hold(folder.path()).unwrap();
        // A copy of the descriptor shares the open file, and thus the lock, as in a fork before its exec.
        let copy = held.lock.try_clone().unwrap();
        assert!(Directory::hold(folder.path()).is_err());
        drop(held);
        drop(Directory::hold(folder.path()).unwrap());
        drop(copy);
    }
}
