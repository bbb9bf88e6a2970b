//! The access log of a generation: opened before the commit, used after it.

use crate::config;
use crate::snapshot::Snapshot;
use crate::telemetry::AccessLog;
use crate::telemetry::access_log::LineSettings;
use moongate_config::Problem;
use std::fs::File;
use std::io;
use std::sync::Arc;

/// What happens to the file of a log whose settings are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeptFile {
    /// It is opened again: the operator may have moved it (logrotate).
    Reopened,
    /// It stays open.
    Kept,
}

/// The access log of a generation, open and not written to yet.
pub(super) enum OpenedLog {
    New(Arc<AccessLog>),
    /// The prior generation's log, with its file if that was opened again.
    Kept(Arc<AccessLog>, Option<File>),
}

impl OpenedLog {
    pub(super) fn commit(self) -> Arc<AccessLog> {
        match self {
            Self::New(log) => log,
            Self::Kept(log, file) => {
                log.exchange(file);
                log
            }
        }
    }
}

/// Opens the access log, or keeps the prior one if the settings are equal.
///
/// # Errors
/// The file cannot be opened.
pub(super) fn open_log(
    settings: &config::AccessLog,
    lines: Option<LineSettings>,
    prior: Option<&Snapshot>,
    file: KeptFile,
) -> Result<Option<OpenedLog>, Problem> {
    let problem = |error: io::Error| {
        Problem::new(format!("cannot open the access log `{}`: {error}", settings.path.value))
            .at(&settings.path.place)
    };
    let kept = prior.filter(|prior| prior.log_settings == *settings).and_then(|prior| prior.log.clone());
    let Some(lines) = lines else { return Ok(None) };
    Ok(Some(match kept {
        Some(log) => {
            let file = match file {
                KeptFile::Reopened => log.open_again().map_err(problem)?,
                KeptFile::Kept => None,
            };
            OpenedLog::Kept(log, file)
        }
        None => OpenedLog::New(AccessLog::open(lines, &settings.path, settings.buffer.0).map_err(problem)?),
    }))
}
