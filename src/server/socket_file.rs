//! File of a Unix socket: its permissions, and its removal when the socket is closed, unless another process has
//! replaced it meanwhile.

use crate::snapshot::Access;
use parking_lot::Mutex;
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// The file of a socket of this process. It is removed on drop.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode; `None` once the file is left to somebody else.
    identity: Mutex<Option<(u64, u64)>>,
}

/// Changed permissions, restored on drop unless they are kept.
#[derive(Debug)]
pub(super) struct AccessChange {
    path: PathBuf,
    before: Option<(u32, u32, u32)>,
}

impl SocketFile {
    /// The file that a bind of this process has created.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn created(path: &Path) -> io::Result<Self> {
        let identity = identity(&fs::symlink_metadata(path)?);
        Ok(Self { path: path.to_owned(), identity: Mutex::new(Some(identity)) })
    }

    /// The file of a socket that another process has bound. It is not removed unless [`SocketFile::take_over`] is called.
    pub(super) fn passed(path: &Path) -> Self {
        Self { path: path.to_owned(), identity: Mutex::new(None) }
    }

    /// From now on the file is removed with the socket.
    pub(super) fn take_over(&self) {
        *self.identity.lock() = fs::symlink_metadata(&self.path).ok().map(|meta| identity(&meta));
    }

    /// Returns whether the file is removed with the socket.
    pub(super) fn is_own(&self) -> bool {
        self.identity.lock().is_some()
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Sets owner, group and permissions.
    ///
    /// # Errors
    /// When the process may not change them.
    pub(super) fn allow(&self, Access { mode, owner, group }: Access) -> io::Result<()> {
        if owner.is_some() || group.is_some() {
            std::os::unix::fs::lchown(&self.path, owner, group)?;
        }
        match mode {
            Some(mode) => fs::set_permissions(&self.path, Permissions::from_mode(mode)),
            None => Ok(()),
        }
    }

    /// Changes owner, group and permissions of a socket in use from `before` to `access`. A setting that was removed
    /// has its default again: the user of the process, and permissions by the umask.
    ///
    /// # Errors
    /// When the process may not change them; the previous ones are restored.
    pub(super) fn change_access(&self, before: Access, access: Access) -> io::Result<AccessChange> {
        let meta = fs::symlink_metadata(&self.path)?;
        let change = AccessChange {
            path: self.path.clone(),
            before: Some((meta.uid(), meta.gid(), meta.mode() & 0o7777)),
        };
        let is_removed = |had: Option<u32>, has: Option<u32>| had.is_some() && has.is_none();
        let removed = [
            is_removed(before.mode, access.mode),
            is_removed(before.owner, access.owner),
            is_removed(before.group, access.group),
        ];
        let defaults = if removed.contains(&true) { default_access(&self.path)? } else { Access::default() };
        let [mode, owner, group] = removed;
        self.allow(Access {
            mode: access.mode.or(defaults.mode.filter(|_| mode)),
            owner: access.owner.or(defaults.owner.filter(|_| owner)),
            group: access.group.or(defaults.group.filter(|_| group)),
        })?;
        Ok(change)
    }

    /// Removes the file, unless it is another one by now.
    pub(super) fn remove(&self) {
        let Some(own) = self.identity.lock().take() else { return };
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| identity(&meta) == own) {
            // It may have been removed already.
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Leaves the file to the process that holds the socket too.
    pub(super) fn leave(&self) {
        *self.identity.lock() = None;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

impl AccessChange {
    /// Keeps the change.
    pub(super) fn keep(mut self) {
        self.before = None;
    }
}

impl Drop for AccessChange {
    fn drop(&mut self) {
        if let Some((owner, group, mode)) = self.before {
            // What was possible before is possible again, but for a process that has given the file away.
            let _ = chown(&self.path, Some(owner), Some(group));
            let _ = fs::set_permissions(&self.path, Permissions::from_mode(mode));
        }
    }
}

fn identity(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// What a new socket beside `path` gets.
fn default_access(path: &Path) -> io::Result<Access> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = PathBuf::from(name);
    // A stale one of an ended process.
    let _ = fs::remove_file(&beside);
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.bind(&socket2::SockAddr::unix(&beside)?)?;
    let meta = fs::symlink_metadata(&beside);
    let _ = fs::remove_file(&beside);
    let meta = meta?;
    Ok(Access { mode: Some(meta.mode() & 0o7777), owner: Some(meta.uid()), group: Some(meta.gid()) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use std::os::unix::net::UnixListener;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_change_of_permissions_is_taken_back_unless_it_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let _socket = UnixListener::bind(&path).unwrap();
        let file = SocketFile::created(&path).unwrap();
        let first = mode(&path);
        let access = |mode| Access { mode, ..Access::default() };
        let change = file.change_access(Access::default(), access(Some(0o600))).unwrap();
        assert_eq!(mode(&path), 0o600);
        drop(change);
        assert_eq!(mode(&path), first);
        file.change_access(Access::default(), access(Some(0o600))).unwrap().keep();
        assert_eq!(mode(&path), 0o600);
        file.change_access(access(Some(0o600)), Access::default()).unwrap().keep();
        assert_eq!(mode(&path), first);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_another_process_has_replaced_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let first = UnixListener::bind(&path).unwrap();
        let file = SocketFile::created(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _second = UnixListener::bind(&path).unwrap();
        drop((file, first));
        assert!(path.exists());
        SocketFile::created(&path).unwrap().leave();
        assert!(path.exists());
        drop(SocketFile::created(&path).unwrap());
        assert!(!path.exists());
    }
}
