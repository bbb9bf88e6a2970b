//! Files that settings name: modules, scripts, keys. Every file that was read is recorded, so that a reload knows
//! whether an instance built from it is still current.

use crate::{Placed, Problem};
use std::fs::{self, File};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A file and its content.
#[derive(Clone, Debug)]
pub struct FileRecord {
    /// Its path.
    pub path: PathBuf,
    /// Its content.
    pub bytes: Arc<[u8]>,
}

/// A 64-bit digest of a file's content: it detects changes, not attacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(BuildHasherDefault::<DefaultHasher>::default().hash_one(bytes))
    }
}

/// The files that one instance was built from.
#[derive(Clone, Debug, Default)]
pub struct Files(Arc<Mutex<Vec<FileDigest>>>);

#[derive(Clone, Debug)]
struct FileDigest {
    path: PathBuf,
    limit: u64,
    digest: Digest,
}

impl Files {
    /// Reads a file that a setting names, relative to the file with that setting, up to `limit` bytes.
    ///
    /// # Errors
    /// The file cannot be read, is not a regular file or is too large. The problem has the place of the name.
    pub fn read(&self, path: &Placed<String>, limit: u64) -> Result<FileRecord, Problem> {
        let base = Path::new(&*path.place.file).parent().unwrap_or(Path::new(""));
        let whole = base.join(&path.value);
        let bytes = read_regular_file(&whole, limit).map_err(|error| {
            Problem::new(format!("cannot read `{}`: {error}", path.value)).at(&path.place)
        })?;
        let noted = FileDigest { path: whole.clone(), limit, digest: Digest::of(&bytes) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(noted);
        Ok(FileRecord { path: whole, bytes: bytes.into() })
    }

    /// Whether every file still has the content that was read.
    pub fn unchanged(&self) -> bool {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        noted.iter().all(|file| {
            read_regular_file(&file.path, file.limit).is_ok_and(|bytes| Digest::of(&bytes) == file.digest)
        })
    }
}

/// Reads a regular file, or a symbolic link to one, of at most `limit` bytes. Never blocks on a writer, as opening
/// a FIFO would.
///
/// # Errors
/// The file is missing ([`ErrorKind::NotFound`]), unreadable, not a regular file or too large.
pub fn read_regular_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    regular_file(path)?;
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Whether `path` is a regular file, or a symbolic link to one.
///
/// # Errors
/// The reason why it is not. Only a missing name is [`ErrorKind::NotFound`]: a dangling symbolic link exists.
pub fn regular_file(path: &Path) -> io::Result<()> {
    let metadata = path.metadata().map_err(|error| match fs::read_link(path) {
        Ok(target) if error.kind() == ErrorKind::NotFound => {
            let target = target.display();
            io::Error::other(format!("it is a symbolic link to `{target}`, which does not exist"))
        }
        _ => error,
    })?;
    match metadata.file_type() {
        kind if kind.is_file() => Ok(()),
        kind if kind.is_dir() => Err(io::Error::other("it is a directory")),
        _ => Err(io::Error::other("it is not a regular file")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_a_missing_name_is_not_found() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("good"), "text").unwrap();
        fs::create_dir(at("directory")).unwrap();
        symlink(at("good"), at("link")).unwrap();
        symlink(at("nothing"), at("dangling")).unwrap();
        symlink(at("loop"), at("loop")).unwrap();
        assert_eq!(read_regular_file(&at("good"), 4).unwrap(), b"text");
        assert_eq!(read_regular_file(&at("link"), 4).unwrap(), b"text");
        let kind = |name: &str| read_regular_file(&at(name), 3).unwrap_err().kind();
        assert_eq!(kind("missing"), ErrorKind::NotFound);
        for name in ["directory", "dangling", "loop", "good/through", "good"] {
            assert_ne!(kind(name), ErrorKind::NotFound, "{name}");
        }
        for (name, reason) in
            [("directory", "a directory"), ("dangling", "which does not exist"), ("good", "larger than 3")]
        {
            let error = read_regular_file(&at(name), 3).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
