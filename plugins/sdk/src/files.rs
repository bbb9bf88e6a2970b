//! Files that settings name: modules, scripts, keys. What was read is noted, so that a reload knows
//! whether an instance built from it is still the same.

use crate::{Placed, Problem};
use std::fs::File;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A file that was read.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where it is.
    pub path: PathBuf,
    /// What it says.
    pub bytes: Arc<[u8]>,
}

/// What a file said, in 64 bits; against change, not against an enemy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(BuildHasherDefault::<DefaultHasher>::default().hash_one(bytes))
    }
}

/// The files that were read for one instance.
#[derive(Clone, Debug, Default)]
pub struct Files(Arc<Mutex<Vec<Noted>>>);

#[derive(Clone, Debug)]
struct Noted {
    path: PathBuf,
    limit: u64,
    digest: Digest,
}

impl Files {
    /// Reads a file that a setting names, relative to the file with that setting, up to `limit` bytes.
    ///
    /// # Errors
    /// With the place of the name, when it cannot be read, is no file or is too large.
    pub fn read(&self, path: &Placed<String>, limit: u64) -> Result<Source, Problem> {
        let base = Path::new(&*path.place.file).parent().unwrap_or(Path::new(""));
        let whole = base.join(&path.value);
        let bytes = read(&whole, limit).map_err(|error| {
            Problem::new(format!("cannot read `{}`: {error}", path.value)).at(&path.place)
        })?;
        let noted = Noted { path: whole.clone(), limit, digest: Digest::of(&bytes) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(noted);
        Ok(Source { path: whole, bytes: bytes.into() })
    }

    /// Whether every file says what it said when it was read.
    pub fn unchanged(&self) -> bool {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        noted
            .iter()
            .all(|file| read(&file.path, file.limit).is_ok_and(|bytes| Digest::of(&bytes) == file.digest))
    }
}

fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for somebody to write to it.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}
