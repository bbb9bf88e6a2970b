//! Storage of certificates. `storage` has a folder for each CA, named after its directory URL, with these
//! files:
//!
//! - `account.json`: the account and its key. With external account binding, the name has a digest of the
//!   identifier.
//! - `NAME.pem`: a key and its certificate chain, in one file, so that both change in one step.
//! - `NAME.json`: times of recent failed attempts, so that a process in a restart loop respects the backoff.
//!
//! Every file is readable by its owner only, written as a draft, and renamed into place.

use super::certificate_state::now;
use super::certified_key::KeyedCertificate;
use super::settings::Settings;
use crate::runtime::blocking_pool;
use moongate_config::read_regular_file;
use parking_lot::Mutex;
use rustix::fs::Access;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The largest file in bytes.
const LARGEST: u64 = 1 << 20;

/// The recent failed attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FailedAttempts {
    /// Their times, in Unix seconds.
    pub(super) failed: Vec<u64>,
}

/// The time limit for any operation below: a file system may hang.
const LONGEST: Duration = Duration::from_secs(15);

/// Runs an operation of this module on a thread that may hang, and waits for it with a time limit.
///
/// # Errors
/// Those of the operation, and a timeout.
pub(super) async fn run<T: Send + 'static>(
    settings: &Arc<Settings>,
    operation: impl FnOnce(&Settings) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let settings = Arc::clone(settings);
    blocking_pool::ACME.run_within(LONGEST, move || operation(&settings)).await?
}

fn folder(settings: &Settings) -> PathBuf {
    settings.storage.join(settings.authority())
}

fn certificate(settings: &Settings) -> PathBuf {
    folder(settings).join(settings.id() + ".pem")
}

fn tries(settings: &Settings) -> PathBuf {
    folder(settings).join(settings.id() + ".json")
}

/// The account's file. It cannot collide with a certificate's file, because those end in `.pem`, and the
/// record of attempts has a host name with a digest.
pub(super) fn account(settings: &Settings) -> PathBuf {
    let name = settings.external.as_ref().map_or_else(
        || "account.json".to_owned(),
        |(id, _)| {
            let digest = Sha256::digest(id);
            let short: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
            format!("account_{short}.json")
        },
    );
    folder(settings).join(name)
}

/// Creates the folder and checks that it is writable.
///
/// # Errors
/// I/O errors.
pub(super) fn prepare(settings: &Settings) -> io::Result<()> {
    let folder = folder(settings);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    remove_drafts(&folder, settings)?;
    let probe = folder.join(format!(".{}.probe", settings.id()));
    write(&probe, b"")?;
    fs::remove_file(probe)
}

/// Removes drafts of this certificate's files that a dead process left.
fn remove_drafts(folder: &Path, settings: &Settings) -> io::Result<()> {
    for path in [certificate(settings), tries(settings)] {
        // A write of this process may be in progress.
        if *writes_of(&path).lock() > 0 {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let begin = format!(".{name}.");
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let found = entry.file_name();
            let found = found.to_string_lossy();
            if found.starts_with(&begin) && found.ends_with("new") {
                remove_if_there(&entry.path())?;
            }
        }
    }
    Ok(())
}

/// Checks whether [`prepare`] can succeed, without side effects: the nearest existing directory is writable.
///
/// # Errors
/// I/O errors.
pub(super) fn check(settings: &Settings) -> io::Result<()> {
    let folder = folder(settings);
    for path in folder.ancestors() {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        match path.metadata() {
            Ok(found) if !found.is_dir() => return Err(ErrorKind::NotADirectory.into()),
            Ok(_) => return rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK).map_err(Into::into),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The stored certificate that is still valid, and whether it covers exactly the configured names. Without
/// one, the certificate of the same CA that covers most of the names: after a name is added, the others must
/// stay in use.
///
/// # Errors
/// A stored certificate cannot be read. A new order would not fix that, and would count at the CA.
pub(super) fn load(settings: &Settings) -> io::Result<Option<(KeyedCertificate, bool)>> {
    let holds = |kept: &KeyedCertificate| kept.validity.until > now();
    let file = certificate(settings);
    let own = match read(&file).map(|pem| KeyedCertificate::read(&pem)) {
        Ok(Ok(kept)) => Some(kept).filter(holds),
        Ok(Err(wrong)) => {
            log::warn!(file:? = file; "stored certificate ignored: {wrong}");
            None
        }
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(own) = own {
        let whole = own.covers(&settings.names);
        return Ok(Some((own, whole)));
    }
    let entries = match fs::read_dir(folder(settings)) {
        // The folder is created with the first certificate.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        entries => entries?.collect::<io::Result<Vec<_>>>()?,
    };
    let others = entries.iter().map(fs::DirEntry::path);
    Ok(others
        .filter(|path| path.extension().is_some_and(|ending| ending == "pem"))
        // An unreadable file of another certificate is reported for that certificate.
        .filter_map(|path| KeyedCertificate::read(&read(&path).ok()?).ok())
        .filter(holds)
        .filter(|kept| kept.shares(&settings.names) > 0)
        .max_by_key(|kept| kept.shares(&settings.names))
        .map(|kept| (kept, false)))
}

/// Stores a key and its certificate chain.
///
/// # Errors
/// I/O errors; the previous file is still there then.
pub(super) fn keep(settings: &Settings, pem: &str) -> io::Result<()> {
    write(&certificate(settings), pem.as_bytes())
}

/// The recorded failed attempts. An unreadable record is a warning: the backoff starts again.
pub(super) fn load_tries(settings: &Settings) -> FailedAttempts {
    let file = tries(settings);
    load_json(&file)
        .unwrap_or_else(|error| {
            log::warn!(file:? = file, error:%; "record of failed orders not read");
            None
        })
        .unwrap_or_default()
}

/// Stores the failed attempts; without any, removes the file.
///
/// # Errors
/// I/O errors.
pub(super) fn keep_tries(settings: &Settings, kept: &FailedAttempts) -> io::Result<()> {
    if kept.failed.is_empty() {
        // Numbered like a write: a hanging write must not restore the file.
        let writes = writes_of(&tries(settings));
        let mut newest = writes.lock();
        *newest += 1;
        return remove_if_there(&tries(settings));
    }
    keep_json(&tries(settings), kept)
}

/// The content of a file; `None` if it does not exist.
///
/// # Errors
/// The file cannot be read, or has other content.
pub(super) fn load_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Stores a value in a file.
///
/// # Errors
/// I/O errors.
pub(super) fn keep_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    write(path, &serde_json::to_vec_pretty(value)?)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_regular_file(path, LARGEST).map_err(|error| {
        io::Error::new(error.kind(), format!("`{}` cannot be read: {error}", path.display()))
    })
}

/// The number of writes of each file.
static WRITES: Mutex<BTreeMap<PathBuf, Arc<Mutex<u64>>>> = Mutex::new(BTreeMap::new());

fn writes_of(path: &Path) -> Arc<Mutex<u64>> {
    Arc::clone(WRITES.lock().entry(path.to_owned()).or_default())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Replaces the file atomically, also across a power failure. A hanging write that continues after the start
/// of a later one is abandoned, so that old content never replaces newer content.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let writes = writes_of(path);
    let turn = {
        let mut writes = writes.lock();
        *writes += 1;
        *writes
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = folder.join(format!(".{name}.{turn}.new"));
    // A dead process may have left a draft, perhaps with other permissions.
    remove_if_there(&draft)?;
    let placed = draw(&draft, bytes).and_then(|()| {
        // Held during the rename: a later write waits for it, within its own time limit.
        let newest = writes.lock();
        if *newest != turn {
            return Err(io::Error::other("a later write of the file has started"));
        }
        fs::rename(&draft, path)
    });
    if placed.is_err() {
        // The draft may contain part of a key. The returned error matters more than an error here.
        let _ = fs::remove_file(&draft);
    }
    placed?;
    File::open(folder)?.sync_all()
}

fn draw(draft: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
pub(super) mod tests;
