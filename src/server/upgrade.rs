//! Upgrade of the running process to a new one: the order, its work on a thread, and its outcome.

use super::handover::{MoveCounts, NewProcess, ProcessState, SecretKey, Succession, UpgradeFailure};
use super::process_sockets::{ProcessSockets, TEMPORARY};
use super::running_state;
use super::service_manager::{SocketKeeper, keeps_sockets, notify};
use super::stored_link::NewLink;
use crate::control::Live;
use crate::upstream::process_secret;
use log::{error, info};
use moongate_sdk::hash_key;
use sd_notify::NotifyState;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::sync::oneshot;

/// IDs that the old process may still give to WebSockets.
const ID_GAP: u64 = 1 << 20;

/// A finished upgrade: its result, and the new process for what is left to tell it.
pub(super) type FinishedUpgrade = Result<(Upgraded, NewProcess), String>;

/// The new process that serves.
#[derive(Clone, Debug)]
pub(super) struct Upgraded {
    pub(super) pid: u32,
    /// Its version.
    pub(super) binary: String,
    /// The WebSockets that moved there, and those that are asked to reconnect.
    pub(super) websockets: MoveCounts,
}

/// The result of an upgrade; the reason if the old process goes on.
pub(super) type UpgradeOutcome = Result<Upgraded, String>;

/// A request for an upgrade.
pub(super) struct UpgradeOrder {
    /// How long the new process serves.
    pub(super) succession: Succession,
    /// Gets the outcome.
    pub(super) outcome: oneshot::Sender<UpgradeOutcome>,
}

/// Starts new processes of the program that this process was started from.
pub(super) struct Upgrader {
    /// Read at the start: later the file may have been replaced.
    program: Result<PathBuf, String>,
    sockets: Arc<ProcessSockets>,
    live: Arc<Live>,
}

/// An upgrade in progress.
pub(super) struct PendingUpgrade {
    gives_up: Arc<AtomicBool>,
    outcome: oneshot::Receiver<FinishedUpgrade>,
    /// How long the new process serves.
    succession: Succession,
    /// Who waits for the outcome.
    waiting: Vec<oneshot::Sender<UpgradeOutcome>>,
}

impl Upgrader {
    /// For the process that runs.
    pub(super) fn new(sockets: Arc<ProcessSockets>, live: Arc<Live>) -> Self {
        Self { program: program(), sockets, live }
    }

    /// Starts an upgrade. It begins after a reload in progress, and further reloads wait for its end.
    pub(super) fn begin(&self, succession: Succession) -> PendingUpgrade {
        let gives_up = Arc::new(AtomicBool::new(false));
        let (sender, outcome) = oneshot::channel();
        let pending =
            PendingUpgrade { gives_up: Arc::clone(&gives_up), outcome, succession, waiting: Vec::new() };
        let (sockets, live) = (Arc::clone(&self.sockets), Arc::clone(&self.live));
        let program = match succession {
            _ if self.sockets.is_temporary() => Err(TEMPORARY.to_owned()),
            Succession::UntilRestart if keeps_sockets() == SocketKeeper::None => {
                Err("there is no service manager that keeps the listening sockets (`FDSTORE`)".to_owned())
            }
            _ => self.program.clone(),
        };
        info!("upgrade started");
        tokio::spawn(async move {
            let reloads = live.hold_reloads().await;
            let live = Arc::clone(&live);
            let work = move || {
                let outcome = program.and_then(|program| {
                    let outcome = hand_over(&program, &sockets, &live, succession, &gives_up);
                    outcome.map_err(|failure| failure.to_string())
                });
                drop(reloads);
                // The receiver is gone if the process shuts down.
                let _ = sender.send(outcome);
            };
            if let Err(error) = std::thread::Builder::new().name("upgrade".to_owned()).spawn(work) {
                error!(error:%; "no thread for an upgrade");
            }
        });
        pending
    }
}

impl PendingUpgrade {
    /// Tells the outcome to one more, if its order is the same.
    pub(super) fn join(&mut self, order: Option<UpgradeOrder>) {
        let Some(UpgradeOrder { succession, outcome }) = order else { return };
        if succession == self.succession {
            self.waiting.push(outcome);
        } else {
            // Its client may be gone.
            let _ = outcome.send(Err("another upgrade is in progress".to_owned()));
        }
    }

    /// How long the new process serves.
    pub(super) fn succession(&self) -> Succession {
        self.succession
    }

    /// Waits for the outcome.
    pub(super) async fn outcome(&mut self) -> FinishedUpgrade {
        (&mut self.outcome).await.unwrap_or_else(|_| Err("the upgrade panicked".to_owned()))
    }

    /// Ends the new process, unless it serves by now, and waits for that.
    pub(super) async fn cancel(mut self) -> Option<NewProcess> {
        self.gives_up.store(true, Relaxed);
        let outcome = self.outcome().await;
        self.finish(outcome)
    }

    /// Logs the outcome, and tells it to all who wait. Returns the new process if it serves.
    pub(super) fn finish(mut self, outcome: FinishedUpgrade) -> Option<NewProcess> {
        let (outcome, new) = match outcome {
            Ok((upgraded, new)) => (Ok(upgraded), Some(new)),
            Err(reason) => (Err(reason), None),
        };
        match &outcome {
            Ok(Upgraded { pid, binary, websockets }) => {
                let (websockets_moved, websockets_left) = (websockets.moved, websockets.left);
                info!(pid, version = binary.as_str(), websockets_moved, websockets_left; "new process serves");
            }
            Err(reason) => error!(reason = reason.as_str(); "upgrade failed; this process continues"),
        }
        for order in self.waiting.drain(..) {
            // Its client may be gone.
            let _ = order.send(outcome.clone());
        }
        new
    }
}

/// The path of the program as it was called: a symbolic link may lead to another version later.
fn program() -> Result<PathBuf, String> {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let found = match called.components().count() {
        // The shell has searched the path.
        0 | 1 => std::env::var_os("PATH").and_then(|path| {
            std::env::split_paths(&path).map(|folder| folder.join(&called)).find(|file| file.is_file())
        }),
        // Relative to the directory of the start.
        _ => std::path::absolute(&called).ok(),
    };
    match found {
        Some(program) => Ok(program),
        None => std::env::current_exe().map_err(|error| format!("the program has no path: {error}")),
    }
}

/// Returns whether the program at its path is another file than the one that this process runs. Not if there is none.
pub(super) fn is_program_replaced() -> bool {
    // `/proc/self/exe` leads to the running file even if its name is gone.
    let identity = |file: &Path| file.metadata().ok().map(|found| (found.dev(), found.ino()));
    let at_path = program().ok().and_then(|program| identity(&program));
    at_path.is_some_and(|found| identity(Path::new("/proc/self/exe")).is_some_and(|running| running != found))
}

fn hand_over(
    program: &PathBuf,
    sockets: &ProcessSockets,
    live: &Live,
    succession: Succession,
    gives_up: &AtomicBool,
) -> Result<(Upgraded, NewProcess), UpgradeFailure> {
    let state = state_of(live, succession);
    let link = NewLink::store();
    let mut new = NewProcess::start(program, state, link.end(), &sockets.held(), || gives_up.load(Relaxed))?;
    let (pid, binary) = (new.pid(), new.binary.clone());
    new.serve(running_state::collect(live, sockets.history().as_deref()))?;
    // The new process alone accepts connections while the WebSockets move.
    sockets.pause();
    let commit = |new: &NewProcess| {
        // During a restart the main process is this one, and then the one that the service manager starts.
        if succession == Succession::Permanent {
            // The service manager accepts notifications of the main process only: from here on of the new one.
            notify(&[NotifyState::MainPid(pid)]);
            new.is_main();
        }
        sockets.leave();
    };
    let websockets = new.take_websockets(live.tunnels(), commit).inspect_err(|_| sockets.resume())?;
    link.keep();
    Ok((Upgraded { pid, binary, websockets }, new))
}

/// What the new process continues.
fn state_of(live: &Live, succession: Succession) -> ProcessState {
    let snapshot = live.pin();
    let names = snapshot.clusters().map(|cluster| (cluster.name().to_string(), cluster.name_states()));
    let discovered =
        snapshot.clusters().filter_map(|cluster| Some((cluster.name().to_string(), cluster.feed_state()?)));
    ProcessState {
        generation: live.generation(),
        // This process opens further ones until the new one serves.
        next_websocket: live.tunnels().arrivals() + ID_GAP,
        cookie_key: SecretKey(process_secret().map(Vec::from).unwrap_or_default()),
        hash_key: SecretKey(hash_key().to_vec()),
        names: names.filter(|(_, names)| !names.is_empty()).collect(),
        discovered: discovered.collect(),
        documents: snapshot.sources.documents(),
        succession,
    }
}
