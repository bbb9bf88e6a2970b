//! The process from its first bind to its exit code: what is started in which order, and what waits
//! for what when it ends.

use super::bind::Bound;
use super::shutdown_deadline::Deadline;
use super::signal_request::{Ask, again};
use super::signals::SignalReceiver;
use super::worker::{self, ProcessState, WorkerListener};
use super::{admin, graceful_shutdown, process_status};
use crate::control::Live;
use crate::diagnostics::Color;
use crate::proxy::{Gateway, Shared};
use crate::runtime::blocking_pool;
use crate::runtime::supervision;
use crate::snapshot::{Address, Kinds, Snapshot};
use crate::telemetry::metrics::{self, MetricSource};
use log::{error, info};
use pingora::server::configuration::ServerConf;
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Semaphore, oneshot, watch};

/// Why a gateway did not serve, or stopped serving.
#[derive(Debug)]
pub enum Failed {
    /// The configuration is refused; the rendered report.
    Config(String),
    /// The process: an address is taken, no thread can be had.
    Process(String),
}

/// How long the access log's last lines may take at the end.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The threads of the workers, and what tells that each takes connections.
type Workers = (Vec<JoinHandle<()>>, Vec<oneshot::Receiver<io::Result<()>>>);

/// How long a worker may take to start: it reads the system's root certificates, and that may hang.
const LONGEST_START: Duration = Duration::from_secs(30);

/// How long the workers' threads may take to end when nothing is under way any more, and how often they are looked at.
const LAST_TURNS: Duration = Duration::from_secs(2);
const JOIN_LOOK: Duration = Duration::from_millis(2);

/// Serves until a signal ends it: SIGINT at once, SIGTERM after what is under way.
///
/// # Errors
/// [`Failed`], before anything was served.
///
/// `color` is for the report of a refused configuration. `ready` is called with the names and real addresses of the listeners once they serve.
pub fn run(
    path: &Path,
    kinds: Kinds,
    signals: SignalReceiver,
    color: Color,
    ready: impl FnOnce(&[(String, String)]),
) -> Result<(), Failed> {
    let live = Live::start(path, kinds, color).map_err(|refusal| Failed::Config(refusal.report))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        // What blocks has threads of its own.
        .max_blocking_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| Failed::Process(format!("no runtime: {error}")))?;
    let ended = runtime.block_on(serve(Arc::new(live), signals, ready));
    // Probes and the admin's connections have nothing to lose.
    runtime.shutdown_background();
    ended.map_err(Failed::Process)
}

async fn serve(
    live: Arc<Live>,
    signals: SignalReceiver,
    ready: impl FnOnce(&[(String, String)]),
) -> Result<(), String> {
    let gauges: Weak<dyn MetricSource> = Arc::<Live>::downgrade(&live);
    metrics::global().register(gauges);
    let snapshot = live.pin();
    // Sockets first: an address that is taken must be told before anything else has begun.
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
        .map_err(|error| format!("no thread can watch over the end of the process: {error}"))?;
    let shared = Arc::new(Shared::new(Arc::clone(&live)));
    let names: Vec<_> = snapshot
        .listeners
        .iter()
        .zip(&listeners.0)
        .map(|(l, bound)| (l.name.to_string(), bound.local()))
        .collect();
    let state = Arc::new(process_status::ProcessStatus::new(Arc::clone(&shared), names.clone()));
    if let (Some(listener), Some(settings)) = (admin_listener, &snapshot.admin) {
        info!(name = "admin", address = listener.local().as_str(); "listening");
        admin::start(listener, settings.token.as_deref(), Arc::clone(&state) as _)
            .map_err(|error| format!("the admin address cannot be served: {error}"))?;
    }
    // Until then a signal has its default action: a name server that does not answer holds up no end.
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
    info!("stopped");
    Ok(())
}

fn bind(address: &Address) -> Result<Bound, String> {
    Bound::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))
}

fn bind_all(snapshot: &Snapshot) -> Result<Vec<Bound>, String> {
    snapshot.listeners.iter().map(|listener| bind(&listener.address)).collect()
}

fn start_workers(
    snapshot: &Snapshot,
    listeners: &[Bound],
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
                .map_err(|error| format!("worker {number} cannot be started: {error}"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok((workers, starting))
}

/// Waits until every worker takes connections: a process that is ready without one serves nobody.
async fn await_workers(starting: Vec<oneshot::Receiver<io::Result<()>>>) -> Result<(), String> {
    for (number, started) in starting.into_iter().enumerate() {
        match tokio::time::timeout(LONGEST_START, started).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => return Err(format!("worker {number} cannot be started: {error}")),
            Ok(Err(_)) => return Err(format!("worker {number} panicked at its start")),
            Err(_) => return Err(format!("worker {number} did not start within {LONGEST_START:?}")),
        }
    }
    Ok(())
}

/// Pingora's own settings. One proxy serves one thread here.
fn server_conf(snapshot: &Snapshot) -> ServerConf {
    ServerConf {
        threads: 1,
        work_stealing: false,
        upstream_keepalive_pool_size: (snapshot.max_idle_connections / snapshot.threads.max(1)).max(1),
        // How often a request is tried is the upstream's `retries`; this only bounds pooled
        // connections that turn out to be closed.
        max_retries: 64,
        ..ServerConf::default()
    }
}

/// Follows the signals until the process should end: SIGINT or a second SIGTERM at once, a first
/// SIGTERM when what is under way has ended or had its grace.
async fn follow(
    mut asks: UnboundedReceiver<Ask>,
    shared: &Arc<Shared>,
    state: &process_status::ProcessStatus,
    stage: &watch::Sender<ProcessState>,
    listeners: Listeners,
) {
    let wanted = Arc::new(tokio::sync::Notify::new());
    let (reload, live) = (Arc::clone(&wanted), Arc::clone(&shared.live));
    let work = move || reload_when(Arc::clone(&reload), Arc::clone(&live));
    let reloader = supervision::spawn("reload", "", work);
    while let Some(ask) = asks.recv().await {
        match ask {
            // A burst leaves one wish behind: the reload that follows reads the newest file.
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
        // Its outcome is logged and kept where `status` finds it.
        let _ = live.reload().await;
        notify(&[sd_notify::NotifyState::Ready]);
    }
}

/// Reopens the log files each time it is notified, until the process ends: a log is rotated while it drains too.
async fn reopen_logs_when(wanted: Arc<tokio::sync::Notify>, live: Arc<Live>) {
    loop {
        wanted.notified().await;
        match live.reopen_logs().await {
            Ok(()) => info!("log files reopened"),
            Err(error) => error!(error:%; "log files cannot be reopened; the old ones are written on"),
        }
    }
}

async fn drain(
    asks: &mut UnboundedReceiver<Ask>,
    shared: &Arc<Shared>,
    state: &process_status::ProcessStatus,
    stage: &watch::Sender<ProcessState>,
    listeners: Listeners,
) {
    // Readiness fails first; how long a balancer before us has to notice is the operator's to say.
    state.draining();
    let delay = shared.live.look().terms.drain_delay;
    if tokio::time::timeout(delay, again(asks)).await.is_ok() {
        return listeners.close().await;
    }
    notify(&[sd_notify::NotifyState::Stopping]);
    shared.start_draining();
    listeners.close().await;
    let _ = stage.send(ProcessState::Draining);
    graceful_shutdown::wait(asks, shared).await;
}

/// Ends the workers, within a bound: a thread of them that hangs is left behind. The log comes last.
async fn finish(workers: Vec<JoinHandle<()>>, shared: &Shared, stage: &watch::Sender<ProcessState>) {
    let _ = stage.send(ProcessState::Ended);
    let until = Instant::now() + LAST_TURNS;
    // A join would block, and could not be given up.
    while workers.iter().any(|worker| !worker.is_finished()) {
        if Instant::now() >= until {
            error!("a worker does not end; the process ends without it");
            break;
        }
        tokio::time::sleep(JOIN_LOOK).await;
    }
    last_lines(shared).await;
}

/// Writes what the access log still holds, within a bound.
async fn last_lines(shared: &Shared) {
    if let Some(log) = shared.live.look().log.clone() {
        // The bound is the log's own as well; this one holds if its lock hangs.
        let _ = blocking_pool::LAST_LINES.run_within(LAST_LINES * 2, move || log.close(LAST_LINES)).await;
    }
}

/// The sockets that clients connect to. The queues close with the last handle to them, and the file
/// of a Unix socket goes with it.
struct Listeners(Vec<Bound>);

impl Listeners {
    /// Closes them and removes the files, within a bound.
    async fn close(mut self) {
        let bound = std::mem::take(&mut self.0);
        let _ = blocking_pool::LAST_LINES.run_within(LAST_LINES, move || drop(Self(bound))).await;
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        for listener in &self.0 {
            if let Bound::Unix(_, path) = listener {
                // Somebody may have taken it away already.
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// Tells systemd, when there is one.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    let _ = sd_notify::notify(false, states);
}
