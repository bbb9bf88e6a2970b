//! Sockets of the process as a reload sees them: bound before the new generation is used, and handed over with it.
//! `server` implements it, because only it knows workers and connections.

use crate::config::Loaded;
use crate::snapshot::Snapshot;
use moongate_config::{Place, Problem};
use std::fmt;
use std::io::{self, ErrorKind};

/// Binds the sockets of a generation.
pub trait SocketBinder: Send + Sync {
    /// Binds what `next` needs and the process does not have. Nothing that serves changes, and dropping the result
    /// closes what was opened.
    ///
    /// # Errors
    /// Every address that cannot be bound.
    fn prepare(&self, next: &Snapshot) -> Result<Box<dyn PreparedSockets>, Vec<SocketError>>;
}

/// Bound sockets that do not serve yet.
pub trait PreparedSockets: Send {
    /// Serves with these sockets, and closes those that the generation does not have. It cannot fail.
    fn commit(self: Box<Self>);
}

/// What a socket error concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketOwner {
    /// The listener with this index.
    Listener(usize),
    /// The admin address.
    Admin,
    /// The workers.
    Workers,
}

/// An address that cannot be bound, or a worker that cannot be started.
#[derive(Debug)]
pub struct SocketError {
    /// What it concerns.
    pub owner: SocketOwner,
    /// What cannot be done, as `listen on 127.0.0.1:80`.
    pub action: String,
    /// The cause.
    pub error: io::Error,
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.action, self.error)
    }
}

impl SocketError {
    /// The error as a problem at the setting that causes it.
    pub(super) fn problem(&self, loaded: &Loaded) -> Problem {
        let spec = &loaded.spec;
        let place: Option<&Place> = match self.owner {
            SocketOwner::Listener(index) => spec
                .listeners
                .as_ref()
                .and_then(|listeners| listeners.get(index))
                .map(|listener| &listener.address.place),
            SocketOwner::Admin => spec.admin.as_ref().map(|admin| &admin.address.place),
            SocketOwner::Workers => None,
        };
        let problem = Problem::new(self.to_string());
        let problem = match self.error.kind() {
            ErrorKind::AddrInUse => problem.help("another process has the address; `ss -ltnp` shows which"),
            ErrorKind::PermissionDenied => {
                problem.help("a port below 1024 requires root or CAP_NET_BIND_SERVICE")
            }
            ErrorKind::AddrNotAvailable => {
                problem.help("no interface has the address; `ip address` shows them")
            }
            _ => problem,
        };
        match place {
            Some(place) => problem.at(place),
            None => problem,
        }
    }
}
