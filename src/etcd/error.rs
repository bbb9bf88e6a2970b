//! Why a request to etcd failed.

use std::fmt;

/// Why a request to etcd failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdError {
    /// A label for metrics.
    pub reason: &'static str,
    /// What failed, with the server.
    pub detail: String,
    kind: ErrorKind,
}

/// What a client does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorKind {
    /// The next server may respond.
    Server,
    /// The token of authentication is missing, unknown or too old.
    Token,
    /// The revision is not available any more.
    Compacted,
    /// The response would be too large for etcd.
    LargeResponse,
}

impl EtcdError {
    pub(super) fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), kind: ErrorKind::Server }
    }

    /// An error that etcd names by a gRPC status code (0 if it gives none) and a message.
    pub(super) fn of_status(code: i64, message: &str) -> Self {
        let is = |part: &str| message.contains(part);
        let (reason, kind) = match code {
            16 => ("unauthenticated", ErrorKind::Token),
            _ if is("invalid auth token") || is("auth store is old") || is("user name is empty") => {
                ("unauthenticated", ErrorKind::Token)
            }
            _ if is("authentication failed") => ("unauthenticated", ErrorKind::Server),
            // A watch with a token that expired is refused by this word, too.
            7 => ("forbidden", ErrorKind::Token),
            _ if is("permission denied") => ("forbidden", ErrorKind::Token),
            11 => ("compacted", ErrorKind::Compacted),
            8 => ("too_large", ErrorKind::LargeResponse),
            _ if is("no leader") => ("no_leader", ErrorKind::Server),
            4 => ("timeout", ErrorKind::Server),
            _ if is("timed out") => ("timeout", ErrorKind::Server),
            _ => ("failed", ErrorKind::Server),
        };
        Self { reason, detail: message.to_owned(), kind }
    }

    pub(super) fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The error with the server that it came from.
    pub(super) fn at(self, server: &str) -> Self {
        Self { detail: format!("{server}: {}", self.detail), ..self }
    }
}

impl fmt::Display for EtcdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for EtcdError {}
