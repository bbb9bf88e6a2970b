//! Process lifecycle from the first bind to the exit code: the order of startup and shutdown.

use super::handover::{NewProcess, OldProcess, ProcessState, Succession};
use super::inherited_sockets::InheritedSockets;
use super::predecessor::Predecessor;
use super::process_sockets::ProcessSockets;
use super::request_sender::RequestSender;
use super::service_manager::{SocketKeeper, keeps_sockets, notify};
use super::shutdown_watchdog::Deadline;
use super::signal_request::{Ask, again};
use super::signals::SignalReceiver;
use super::stored_link::ReceivedLink;
use super::upgrade::{FinishedUpgrade, PendingUpgrade, UpgradeOrder, Upgrader};
use super::worker_pool::WorkerPool;
use super::{admin, admin_state, graceful_shutdown, running_state};
use crate::control::{Live, ReloadCause};
use crate::diagnostics::Color;
use crate::proxy::Shared;
use crate::runtime::blocking_pool;
use crate::runtime::supervision;
use crate::snapshot::Kinds;
use crate::telemetry::metrics::{self, MetricSource};
use crate::upstream::{close_idle_connections, inherit_process_secret};
use log::{error, info};
use moongate_sdk::inherit_hash_key;
use parking_lot::Mutex;
use rustix::process::Signal;
use sd_notify::NotifyState;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Why a gateway failed to start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration was rejected; contains the rendered report.
    Config(String),
    /// A process error: for example an address in use.
    Process(String),
}

/// The time limit for exporting spans at the end.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// The time limit for closing idle connections at the end.
const LAST_CONNECTIONS: Duration = Duration::from_secs(1);

/// The time limit for flushing the access log at the end.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The time limit for binding the sockets, and for starting the workers: both may wait for a file system.
const LONGEST_BIND: Duration = Duration::from_secs(30);
const LONGEST_START: Duration = Duration::from_secs(60);

/// Serves until a signal: SIGINT ends at once, SIGTERM after a graceful shutdown.
///
/// # Errors
/// [`StartError`], before anything was served.
///
/// `color` applies to the report of a rejected configuration. `ready` is called with the names and actual
/// addresses of the listeners once they serve.
pub fn run(
    path: &Path,
    kinds: Kinds,
    signals: SignalReceiver,
    color: Color,
    ready: impl FnOnce(&[(String, String)]),
) -> Result<(), StartError> {
    let old = OldProcess::find()
        .map_err(|error| StartError::Process(format!("cannot take over from the old process: {error}")))?
        .map(Arc::new);
    let outcome = run_after(path, kinds, signals, color, old.clone(), ready);
    if let (Some(old), Err(error)) = (old, &outcome) {
        old.report_failure(match error {
            StartError::Config(report) => report,
            StartError::Process(problem) => problem,
        });
    }
    outcome
}

/// For a command that cannot take over from another process: refuses to, if this process was started for that.
#[must_use]
pub fn refuse_handover(reason: &str) -> bool {
    OldProcess::refuse(reason)
}

/// Serves as the successor of `old`, if there is one.
fn run_after(
    path: &Path,
    kinds: Kinds,
    signals: SignalReceiver,
    color: Color,
    old: Option<Arc<OldProcess>>,
    ready: impl FnOnce(&[(String, String)]),
) -> Result<(), StartError> {
    // The old process prints the report too, for its operator.
    let color = if old.is_some() { Color::Never } else { color };
    let (state, inherited, link) = match &old {
        None => (ProcessState::default(), InheritedSockets::take(), None),
        Some(old) => {
            let (state, sockets, link) = old
                .receive()
                .map_err(|error| StartError::Process(format!("nothing from the old process: {error}")))?;
            (state, InheritedSockets::of_handover(sockets), link.and_then(ReceivedLink::of))
        }
    };
    if let Ok(key) = <[u8; 32]>::try_from(&*state.cookie_key.0) {
        inherit_process_secret(key);
    }
    if let Ok(key) = <[u8; 16]>::try_from(&*state.hash_key.0) {
        inherit_hash_key(key);
    }
    let live = Live::start_at(path, kinds, color, state.generation + 1, &state.documents)
        .map_err(|refusal| StartError::Config(refusal.report))?;
    live.tunnels().begin_at(state.next_websocket);
    for (upstream, names) in &state.names {
        // The new configuration may not have the upstream.
        if let Some(cluster) = live.pin().cluster(upstream) {
            cluster.restore_names(names);
        }
    }
    for (upstream, members) in state.discovered {
        if let Some(cluster) = live.pin().cluster(&upstream) {
            cluster.restore_feed(members);
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        // Blocking work has threads of its own.
        .max_blocking_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| StartError::Process(format!("cannot start the runtime: {error}")))?;
    let succession = state.succession;
    let old = old.map(|process| Predecessor { process, succession, link });
    let ended = runtime.block_on(serve(Arc::new(live), signals, inherited, old, ready));
    // Probes and admin connections can be aborted.
    runtime.shutdown_background();
    ended.map_err(StartError::Process)
}

async fn serve(
    live: Arc<Live>,
    signals: SignalReceiver,
    inherited: InheritedSockets,
    old: Option<Predecessor>,
    ready: impl FnOnce(&[(String, String)]),
) -> Result<(), String> {
    let gauges: Weak<dyn MetricSource> = Arc::<Live>::downgrade(&live);
    metrics::global().register(gauges);
    let snapshot = live.pin();
    // A reload of the admin address waits until the sockets of the first generation serve.
    let reloads = live.hold_reloads().await;
    let reopen = Arc::new(tokio::sync::Notify::new());
    let (wanted, own) = (Arc::clone(&reopen), Arc::clone(&live));
    let reopener = move || reopen_logs_when(Arc::clone(&wanted), Arc::clone(&own));
    supervision::spawn("log_reopen", "", reopener);
    let deadline = Deadline::new(Arc::clone(&live))
        .map_err(|error| format!("cannot start the thread of the shutdown deadline: {error}"))?;
    let shared = Arc::new(Shared::new(Arc::clone(&live)));
    let workers = WorkerPool::new(Arc::clone(&shared));
    let succession = old.as_ref().map_or(Succession::Permanent, |old| old.succession);
    let sockets = ProcessSockets::new(workers, inherited, succession);
    let (orders, upgrades) = unbounded_channel();
    let state = Arc::new(admin_state::ProcessStatus::new(Arc::clone(&shared), Arc::clone(&sockets), orders));
    let shown: Arc<dyn admin::AdminState> = Arc::clone(&state) as _;
    sockets.show(Arc::downgrade(&shown));
    // Sockets first: an address in use must be reported before anything else starts.
    let binding = Arc::clone(&sockets);
    let mut starting = on_thread(LONGEST_BIND, move || binding.start(&snapshot))
        .await?
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    if old.is_none() {
        starting.serve_admin();
    }
    // Until then signals have their default actions: a hung name server does not delay the end.
    live.wait_until_ready().await;
    let mut starting = on_thread(LONGEST_START, move || starting.start_workers().map(|()| starting))
        .await?
        .map_err(|error| error.to_string())?;
    if let Some(old) = &old {
        let process = Arc::clone(&old.process);
        let parts = on_thread(LONGEST_START, move || process.await_order(succession)).await?;
        running_state::restore(parts, &live, starting.history().as_deref());
        starting.serve_admin();
    }
    let deadline = Arc::new(Mutex::new(deadline));
    let (asks, asked) = unbounded_channel();
    let requests = RequestSender::new(asks, Arc::clone(&deadline));
    signals.watch(reopen, requests.clone());
    live.bind_sockets_with(Arc::clone(&sockets) as _);
    on_thread(LONGEST_BIND, move || starting.serve()).await?;
    drop(reloads);
    state.serving();
    ready(&sockets.addresses());
    if old.is_none() {
        notify(&[NotifyState::Ready]);
    }
    if let Some(old) = old {
        // The old process may have stopped reading.
        let process = Arc::clone(&old.process);
        on_thread(LONGEST_BIND, move || process.confirm()).await?;
        old.adopt(&sockets, requests);
    }
    let orders = Orders { asks: asked, upgrades, deadline };
    let end = follow(orders, &shared, &state, &sockets).await;
    sockets.finish().await;
    tokio::join!(last_lines(&shared), shared.live.finish_traces(LAST_SPANS), shared.live.leave_stores());
    // Those of background work, on its thread.
    let _ = tokio::time::timeout(LAST_CONNECTIONS, tokio::spawn(async { close_idle_connections() })).await;
    info!("process stopped");
    match end {
        // For a service manager of which it is the main process after all: to start another one.
        End::Left if succession == Succession::Permanent => {
            Err("the old process ended during the handover, and the service has another main process"
                .to_owned())
        }
        End::Left | End::Asked => Ok(()),
    }
}

/// Does work that may wait for a file system on a thread of its own, within a time limit.
async fn on_thread<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let done = blocking_pool::RELOAD.run_within(limit, work).await;
    done.map_err(|error| format!("cannot start: {error}"))
}

/// What the process is asked to do.
struct Orders {
    asks: UnboundedReceiver<Ask>,
    /// Upgrades of the admin API.
    upgrades: UnboundedReceiver<UpgradeOrder>,
    deadline: Arc<Mutex<Deadline>>,
}

/// Why the process ended.
enum End {
    /// A signal, or a handover.
    Asked,
    /// The process before ended, and this one was not to stay.
    Left,
}

/// Handles orders until the process should end: SIGINT or a second SIGTERM at once, a first SIGTERM or a handover after
/// the graceful shutdown.
async fn follow(
    Orders { mut asks, mut upgrades, deadline }: Orders,
    shared: &Arc<Shared>,
    state: &admin_state::ProcessStatus,
    sockets: &Arc<ProcessSockets>,
) -> End {
    let wanted = Arc::new(tokio::sync::Notify::new());
    let (reload, live) = (Arc::clone(&wanted), Arc::clone(&shared.live));
    let work = move || reload_when(Arc::clone(&reload), Arc::clone(&live));
    let reloader = supervision::spawn("reload", "", work);
    let upgrader = Upgrader::new(Arc::clone(sockets), Arc::clone(&shared.live));
    let mut pending: Option<PendingUpgrade> = None;
    // The new process may have read the file before it was changed.
    let mut reload_after = false;
    loop {
        let upgrade = tokio::select! {
            ask = asks.recv() => match ask {
                // A burst of signals leaves one notification: the next reload reads the newest file.
                Some(Ask::Reload) => {
                    reload_after |= pending.is_some();
                    wanted.notify_one();
                    continue;
                }
                Some(Ask::Upgrade) => None,
                Some(ask @ (Ask::Drain | Ask::Leave)) => {
                    reloader.abort();
                    // Those who ask from now on get an error at once.
                    drop(upgrades);
                    match cancel(pending, Signal::TERM).await {
                        Some(new) => {
                            drain_after_handover(again(&mut asks, 0), shared, state, sockets, new).await;
                        }
                        None => drain(ask, &mut asks, shared, state, sockets).await,
                    }
                    return if ask == Ask::Leave { End::Left } else { End::Asked };
                }
                Some(Ask::Stop) | None => {
                    match cancel(pending, Signal::INT).await {
                        Some(_) => sockets.leave(),
                        None => close(sockets).await,
                    }
                    return End::Asked;
                }
            },
            Some(order) = upgrades.recv() => Some(order),
            outcome = outcome_of(&mut pending) => {
                let Some(finished) = pending.take() else { continue };
                // Before the service manager has the outcome, and sends its signal.
                let succession = finished.succession();
                let expected = match &outcome {
                    Ok(_) => deadline.lock().handed_over(succession),
                    Err(_) => 0,
                };
                if let Some(new) = finished.finish(outcome) {
                    if std::mem::take(&mut reload_after) {
                        new.signal(Signal::HUP);
                    }
                    if expected > 0 {
                        forward(Signal::TERM, &new, succession);
                    }
                    reloader.abort();
                    drop(upgrades);
                    let ended = again(&mut asks, expected);
                    drain_after_handover(ended, shared, state, sockets, new).await;
                    return End::Asked;
                }
                reload_after = false;
                continue;
            }
        };
        let succession = upgrade.as_ref().map_or(Succession::Permanent, |order| order.succession);
        pending.get_or_insert_with(|| upgrader.begin(succession)).join(upgrade);
    }
}

/// Ends the new process of an upgrade in progress. One that serves by now is returned.
async fn cancel(pending: Option<PendingUpgrade>, signal: Signal) -> Option<NewProcess> {
    let pending = pending?;
    let succession = pending.succession();
    let new = pending.cancel().await?;
    forward(signal, &new, succession);
    Some(new)
}

/// Forwards the signal to stop that came during an upgrade: a service manager stops the service, and has sent it to this process
/// alone.
fn forward(signal: Signal, new: &NewProcess, succession: Succession) {
    if succession == Succession::Permanent && keeps_sockets() == SocketKeeper::ServiceManager {
        new.signal(signal);
    }
}

/// The outcome of the upgrade in progress; never without one.
async fn outcome_of(pending: &mut Option<PendingUpgrade>) -> FinishedUpgrade {
    match pending {
        Some(pending) => pending.outcome().await,
        None => std::future::pending().await,
    }
}

/// Ends what this process still serves, while the new one accepts connections; at once when `ended` is done.
async fn drain_after_handover(
    ended: impl Future<Output = ()>,
    shared: &Arc<Shared>,
    state: &admin_state::ProcessStatus,
    sockets: &Arc<ProcessSockets>,
    new: NewProcess,
) {
    state.draining();
    shared.start_draining();
    sockets.leave();
    graceful_shutdown::wait(ended, shared).await;
    // The new process may have stopped reading.
    let _ = blocking_pool::LAST_LINES.run_within(LAST_LINES, move || new.send_last_counts()).await;
}

async fn reload_when(wanted: Arc<tokio::sync::Notify>, live: Arc<Live>) {
    loop {
        wanted.notified().await;
        notify(&[NotifyState::Reloading]);
        // Its outcome is logged and shown in the status.
        let _ = live.reload(ReloadCause::Signal).await;
        notify(&[NotifyState::Ready]);
    }
}

/// Reopens the log files on each notification, until the process ends: logs are rotated during a shutdown
/// too.
async fn reopen_logs_when(wanted: Arc<tokio::sync::Notify>, live: Arc<Live>) {
    loop {
        wanted.notified().await;
        match live.reopen_logs().await {
            Ok(()) => info!("log files reopened"),
            Err(error) => error!(error:%; "log files not reopened; previous ones kept"),
        }
    }
}

async fn drain(
    ask: Ask,
    asks: &mut UnboundedReceiver<Ask>,
    shared: &Arc<Shared>,
    state: &admin_state::ProcessStatus,
    sockets: &Arc<ProcessSockets>,
) {
    // Readiness fails first; `drain_delay` gives load balancers time to notice.
    state.draining();
    if ask == Ask::Drain {
        let delay = shared.live.look().globals.drain_delay;
        info!(drain_delay:? = delay; "shutdown requested");
        if tokio::time::timeout(delay, again(asks, 0)).await.is_ok() {
            return close(sockets).await;
        }
    }
    notify(&[NotifyState::Stopping]);
    shared.start_draining();
    close(sockets).await;
    graceful_shutdown::wait(again(asks, 0), shared).await;
}

/// Flushes the access log within a time limit.
async fn last_lines(shared: &Shared) {
    if let Some(log) = shared.live.look().log.clone() {
        // The log has the same limit; this one applies if its lock hangs.
        let _ = blocking_pool::LAST_LINES.run_within(LAST_LINES * 2, move || log.close(LAST_LINES)).await;
    }
}

/// Closes the listeners, within a time limit: the file of a Unix socket is removed.
async fn close(sockets: &Arc<ProcessSockets>) {
    let sockets = Arc::clone(sockets);
    let _ = blocking_pool::LAST_LINES.run_within(LAST_LINES, move || sockets.close()).await;
}
