//! The folder of a certificate. Below the operator's `storage` each authority has a folder, named after
//! its directory, and in it:
//!
//! - `account.json`: the account and its key. An account that was made elsewhere (external account
//!   binding) has its identifier's digest in the name.
//! - `NAME.pem`: a key and the chain of its certificate, in one file, so that both change in one step.
//! - `NAME.json`: when tries of late failed, so that a process that is started again and again does not
//!   bother the authority each time.
//!
//! Everything is readable by its owner alone, and written beside its place and then moved into it.

use super::certificate_state::now;
use super::certified_key::Keyed;
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

/// The largest file that is read.
const LARGEST: u64 = 1 << 20;

/// The tries of late that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tries {
    /// When, in seconds since 1970.
    pub(super) failed: Vec<u64>,
}

/// For one of the operations below, wherever it is waited for. A file system may hang.
const LONGEST: Duration = Duration::from_secs(15);

/// Runs an operation of this module on a thread that may hang, and waits for it, within a bound.
///
/// # Errors
/// Those of the operation, and when the file system does not answer in time.
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

/// Where the account is kept. It cannot be a certificate's: no host's name ends in `.json`'s `account`
/// alone and has a certificate there, for those end in `.pem`.
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

/// Makes the folder and sees that it can be written to.
///
/// # Errors
/// What the system says.
pub(super) fn prepare(settings: &Settings) -> io::Result<()> {
    let folder = folder(settings);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    remove_drafts(&folder, settings)?;
    let probe = folder.join(format!(".{}.probe", settings.id()));
    write(&probe, b"")?;
    fs::remove_file(probe)
}

/// Removes what writes of a process that died have left of this certificate's files.
fn remove_drafts(folder: &Path, settings: &Settings) -> io::Result<()> {
    for path in [certificate(settings), tries(settings)] {
        // One of this process may be under way.
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

/// Sees, without making anything, whether [`prepare`] can be expected to succeed: the nearest directory that exists is
/// one that may be written to.
///
/// # Errors
/// What the system says.
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

/// The certificate that is kept and still holds, and whether it is for all the names and no others' file.
/// Where it has none of its own, another one's of the same authority stands in that is for the most of its
/// names: who adds a name must not lose the others until the authority has seen it.
///
/// # Errors
/// When a kept certificate cannot be read. An order for a second one would not mend that, and would count at the
/// authority.
pub(super) fn load(settings: &Settings) -> io::Result<Option<(Keyed, bool)>> {
    let holds = |kept: &Keyed| kept.validity.until > now();
    let file = certificate(settings);
    let own = match read(&file).map(|pem| Keyed::read(&pem)) {
        Ok(Ok(kept)) => Some(kept).filter(holds),
        Ok(Err(wrong)) => {
            log::warn!(file:? = file; "a certificate that was kept is left aside: {wrong}");
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
        // It is made with the first certificate.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        entries => entries?.collect::<io::Result<Vec<_>>>()?,
    };
    let others = entries.iter().map(fs::DirEntry::path);
    Ok(others
        .filter(|path| path.extension().is_some_and(|ending| ending == "pem"))
        // One of another certificate's files is that certificate's problem.
        .filter_map(|path| Keyed::read(&read(&path).ok()?).ok())
        .filter(holds)
        .filter(|kept| kept.shares(&settings.names) > 0)
        .max_by_key(|kept| kept.shares(&settings.names))
        .map(|kept| (kept, false)))
}

/// Keeps a key and the chain of its certificate.
///
/// # Errors
/// What the system says; what was kept before is there then.
pub(super) fn keep(settings: &Settings, pem: &str) -> io::Result<()> {
    write(&certificate(settings), pem.as_bytes())
}

/// The tries that failed; none when nothing is kept of them. A file that cannot be read is a warning: the waits
/// begin anew.
pub(super) fn load_tries(settings: &Settings) -> Tries {
    let file = tries(settings);
    load_json(&file)
        .unwrap_or_else(|error| {
            log::warn!(file:? = file, error:%; "the record of failed orders cannot be read");
            None
        })
        .unwrap_or_default()
}

/// Keeps them; with none the file goes.
///
/// # Errors
/// What the system says.
pub(super) fn keep_tries(settings: &Settings, kept: &Tries) -> io::Result<()> {
    if kept.failed.is_empty() {
        // A turn as a write has: one that hangs must not bring the file back.
        let writes = writes_of(&tries(settings));
        let mut newest = writes.lock();
        *newest += 1;
        return remove_if_there(&tries(settings));
    }
    keep_json(&tries(settings), kept)
}

/// What is kept in a file; `None` where there is none.
///
/// # Errors
/// When it cannot be read, or says something else.
pub(super) fn load_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Keeps it in a file.
///
/// # Errors
/// What the system says.
pub(super) fn keep_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    write(path, &serde_json::to_vec_pretty(value)?)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_regular_file(path, LARGEST).map_err(|error| {
        io::Error::new(error.kind(), format!("`{}` cannot be read: {error}", path.display()))
    })
}

/// The writes of each file so far.
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

/// In one step: a reader finds the old content whole or the new one, also after a loss of power. A write that hangs and
/// goes on when a later one has begun is given up, so that content is never replaced by older content.
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
    // One that was left by a process that died, perhaps with other rights.
    remove_if_there(&draft)?;
    let placed = draw(&draft, bytes).and_then(|()| {
        // Held while it is renamed: a later write waits for that, within its own bound.
        let newest = writes.lock();
        if *newest != turn {
            return Err(io::Error::other("a later write of the file has begun"));
        }
        fs::rename(&draft, path)
    });
    if placed.is_err() {
        // It may hold a part of a key. The error that is returned says more than one of this.
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
