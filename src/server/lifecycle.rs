//! Process lifecycle from the first bind to the exit code: the order of startup and shutdown.

use super::bind::BoundListener;
use super::shutdown_watchdog::Deadline;
use super::signal_request::{Ask, again};
use super::signals::SignalReceiver;
use super::worker::{self, ProcessState, WorkerListener};
use super::{admin, admin_state, graceful_shutdown};
use crate::control::{Live, ReloadCause};
use crate::diagnostics::Color;
use crate::proxy::{Gateway, Shared};
use crate::runtime::blocking_pool;
use crate::runtime::supervision;
use crate::snapshot::{Address, Kinds, Snapshot};
use crate::telemetry::metrics::{self, MetricSource};
use crate::telemetry::recent_lines;
use crate::tls::platform_roots;
use log::{error, info};
use pingora::server::configuration::ServerConf;
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Semaphore, oneshot, watch};

/// The idle connections in Pingora's pools, over all workers.
const PINGORA_POOL: usize = 512;

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

/// The time limit for flushing the access log at the end.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The worker threads, and the receivers of their startup.
type Workers = (Vec<JoinHandle<()>>, Vec<oneshot::Receiver<io::Result<()>>>);

/// The time limit for the start of a worker, which reads the system's root certificates and may hang.
const LONGEST_START: Duration = Duration::from_secs(30);

/// The time limit for the end of idle worker threads, and the interval of checks.
const LAST_TURNS: Duration = Duration::from_secs(2);
const JOIN_LOOK: Duration = Duration::from_millis(2);

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
    let live = Live::start(path, kinds, color).map_err(|refusal| StartError::Config(refusal.report))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        // Blocking work has threads of its own.
        .max_blocking_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| StartError::Process(format!("cannot start the runtime: {error}")))?;
    let ended = runtime.block_on(serve(Arc::new(live), signals, ready));
    // Probes and admin connections can be aborted.
    runtime.shutdown_background();
    ended.map_err(StartError::Process)
}

async fn serve(
    live: Arc<Live>,
    signals: SignalReceiver,
    ready: impl FnOnce(&[(String, String)]),
) -> Result<(), String> {
    let gauges: Weak<dyn MetricSource> = Arc::<Live>::downgrade(&live);
    metrics::global().register(gauges);
    let snapshot = live.pin();
    // Sockets first: an address in use must be reported before anything else starts.
    let listeners = Listeners(bind_all(&snapshot)?);
    let admin_listener = snapshot
        .admin
        .as_ref()
        .map(|admin| bind(&Address::Tcp { address: admin.address, ipv6_only: true }))
        .transpose()?;
    let reopen = Arc::new(tokio::sync::Notify::new());
    let (wanted, own) = (Arc::clone(&reopen), Arc::clone(&live));
    let reopener = move || reopen_logs_when(Arc::clone(&wanted), Arc::clone(&own));
    supervision::spawn("log_reopen", "", reopener);
    let deadline = Deadline::new(Arc::clone(&live))
        .map_err(|error| format!("cannot start the thread of the shutdown deadline: {error}"))?;
    let shared = Arc::new(Shared::new(Arc::clone(&live)));
    let names: Vec<_> = snapshot
        .listeners
        .iter()
        .zip(&listeners.0)
        .map(|(l, bound)| (l.name.to_string(), bound.local()))
        .collect();
    let state = Arc::new(admin_state::ProcessStatus::new(Arc::clone(&shared), names.clone()));
    if let (Some(listener), Some(settings)) = (admin_listener, &snapshot.admin) {
        info!(name = "admin", address = listener.local().as_str(); "listening");
        let history = Arc::<admin::live::History>::default();
        admin::start(listener, settings.token.as_deref(), Arc::clone(&state) as _, Arc::clone(&history))
            .map_err(|error| format!("cannot serve the admin address: {error}"))?;
        supervision::spawn("history", "", move || admin::live::keep(Arc::clone(&history)));
        recent_lines::ACCESS_LOG.keep();
        recent_lines::PROCESS_LOG.keep();
    }
    // Until then signals have their default actions: a hung name server does not delay the end.
    live.wait_until_ready().await;
    let asks = signals.watch(reopen, deadline);
    let (stage, watching) = watch::channel(ProcessState::Serving);
    let (workers, starting) = start_workers(&snapshot, &listeners.0, &shared, &watching)?;
    await_workers(starting).await?;
    drop(snapshot);
    state.serving();
    for (name, address) in &names {
        info!(name = name.as_str(), address = address.as_str(); "listening");
    }
    ready(&names);
    notify(&[sd_notify::NotifyState::Ready]);
    follow(asks, &shared, &state, &stage, listeners).await;
    finish(workers, &shared, &stage).await;
    info!("process stopped");
    Ok(())
}

fn bind(address: &Address) -> Result<BoundListener, String> {
    BoundListener::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))
}

fn bind_all(snapshot: &Snapshot) -> Result<Vec<BoundListener>, String> {
    snapshot.listeners.iter().map(|listener| bind(&listener.address)).collect()
}

fn start_workers(
    snapshot: &Snapshot,
    listeners: &[BoundListener],
    shared: &Arc<Shared>,
    stage: &watch::Receiver<ProcessState>,
) -> Result<Workers, String> {
    let conf = Arc::new(server_conf(snapshot));
    let rooms: Vec<_> =
        snapshot.listeners.iter().map(|l| l.max_connections.map(|n| Arc::new(Semaphore::new(n)))).collect();
    let mut starting = Vec::with_capacity(snapshot.threads);
    let workers = (0..snapshot.threads)
        .map(|number| {
            let (started, awaited) = oneshot::channel();
            starting.push(awaited);
            let doors = listeners
                .iter()
                .zip(&rooms)
                .zip(0..)
                .map(|((bound, room), index)| {
                    Ok(WorkerListener { bound: bound.share()?, index, room: room.clone() })
                })
                .collect::<std::io::Result<Vec<_>>>();
            doors
                .and_then(|doors| {
                    worker::spawn(
                        number,
                        doors,
                        Gateway::new(shared),
                        Arc::clone(&conf),
                        stage.clone(),
                        started,
                    )
                })
                .map_err(|error| format!("cannot start worker {number}: {error}"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok((workers, starting))
}

/// Waits until every worker accepts connections, since readiness without workers would be wrong.
async fn await_workers(starting: Vec<oneshot::Receiver<io::Result<()>>>) -> Result<(), String> {
    for (number, started) in starting.into_iter().enumerate() {
        match tokio::time::timeout(LONGEST_START, started).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => return Err(format!("cannot start worker {number}: {error}")),
            Ok(Err(_)) => return Err(format!("worker {number} panicked at its start")),
            Err(_) => return Err(format!("worker {number} did not start within {LONGEST_START:?}")),
        }
    }
    Ok(())
}

/// Pingora's own settings. Here one proxy serves one thread.
fn server_conf(snapshot: &Snapshot) -> ServerConf {
    ServerConf {
        threads: 1,
        work_stealing: false,
        // Only for HTTP/2 upstreams.
        upstream_keepalive_pool_size: (PINGORA_POOL / snapshot.threads.max(1)).max(1),
        // The upstream's `retries` limits attempts; this only bounds pooled connections that turn out to be
        // closed.
        max_retries: 64,
        ca_file: platform_roots::ca_file(),
        ..ServerConf::default()
    }
}

/// Handles signals until the process should end: SIGINT or a second SIGTERM at once, a first SIGTERM after
/// the graceful shutdown.
async fn follow(
    mut asks: UnboundedReceiver<Ask>,
    shared: &Arc<Shared>,
    state: &admin_state::ProcessStatus,
    stage: &watch::Sender<ProcessState>,
    listeners: Listeners,
) {
    let wanted = Arc::new(tokio::sync::Notify::new());
    let (reload, live) = (Arc::clone(&wanted), Arc::clone(&shared.live));
    let work = move || reload_when(Arc::clone(&reload), Arc::clone(&live));
    let reloader = supervision::spawn("reload", "", work);
    while let Some(ask) = asks.recv().await {
        match ask {
            // A burst of signals leaves one notification: the next reload reads the newest file.
            Ask::Reload => wanted.notify_one(),
            Ask::Stop => break,
            Ask::Drain => {
                reloader.abort();
                drain(&mut asks, shared, state, stage, listeners).await;
                return;
            }
        }
    }
    listeners.close().await;
}

async fn reload_when(wanted: Arc<tokio::sync::Notify>, live: Arc<Live>) {
    loop {
        wanted.notified().await;
        notify(&[sd_notify::NotifyState::Reloading]);
        // Its outcome is logged and shown in the status.
        let _ = live.reload(ReloadCause::Signal).await;
        notify(&[sd_notify::NotifyState::Ready]);
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
    asks: &mut UnboundedReceiver<Ask>,
    shared: &Arc<Shared>,
    state: &admin_state::ProcessStatus,
    stage: &watch::Sender<ProcessState>,
    listeners: Listeners,
) {
    // Readiness fails first; `drain_delay` gives load balancers time to notice.
    state.draining();
    let delay = shared.live.look().globals.drain_delay;
    info!(drain_delay:? = delay; "shutdown requested");
    if tokio::time::timeout(delay, again(asks)).await.is_ok() {
        return listeners.close().await;
    }
    notify(&[sd_notify::NotifyState::Stopping]);
    shared.start_draining();
    listeners.close().await;
    let _ = stage.send(ProcessState::Draining);
    graceful_shutdown::wait(asks, shared).await;
}

/// Stops the workers within a time limit and abandons hanging threads. Then closes the log
/// and exports the last spans.
async fn finish(workers: Vec<JoinHandle<()>>, shared: &Shared, stage: &watch::Sender<ProcessState>) {
    let _ = stage.send(ProcessState::Ended);
    let until = Instant::now() + LAST_TURNS;
    // A join would block and could not be abandoned.
    while workers.iter().any(|worker| !worker.is_finished()) {
        if Instant::now() >= until {
            error!("worker not stopped in time; process exits");
            break;
        }
        tokio::time::sleep(JOIN_LOOK).await;
    }
    tokio::join!(last_lines(shared), shared.live.finish_traces(LAST_SPANS));
}

/// Flushes the access log within a time limit.
async fn last_lines(shared: &Shared) {
    if let Some(log) = shared.live.look().log.clone() {
        // The log has the same limit; this one applies if its lock hangs.
        let _ = blocking_pool::LAST_LINES.run_within(LAST_LINES * 2, move || log.close(LAST_LINES)).await;
    }
}

/// The sockets of the listeners. An accept queue is closed with its last handle, and the file of a Unix
/// socket is removed with it.
struct Listeners(Vec<BoundListener>);

impl Listeners {
    /// Closes them and removes the files, within a time limit.
    async fn close(mut self) {
        let bound = std::mem::take(&mut self.0);
        let _ = blocking_pool::LAST_LINES.run_within(LAST_LINES, move || drop(Self(bound))).await;
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        for listener in &self.0 {
            if let BoundListener::Unix(_, path) = listener {
                // It may have been removed already.
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// Notifies systemd, if it started the process.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    let _ = sd_notify::notify(false, states);
}
