//! Workers of the process. A reload may add some, or retire some: those accept no further connection, and end after
//! their last one.

use super::open_listener::OpenListener;
use super::worker::{self, Adoption, WorkerOrder, WorkerStage};
use crate::proxy::{Gateway, Shared};
use crate::tls::platform_roots;
use crate::upstream::most_idle_connections;
use log::{error, info};
use parking_lot::Mutex;
use pingora::server::configuration::ServerConf;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;

/// The most idle connections in Pingora's pool of a worker, which reserves space for them.
const PINGORA_POOL: usize = 8192;

/// The time limit for the start of a worker, which reads the system's root certificates and may hang.
const LONGEST_START: Duration = Duration::from_secs(30);

/// The time limit for the end of idle worker threads, and the interval of checks.
const LAST_TURNS: Duration = Duration::from_secs(2);
const JOIN_LOOK: Duration = Duration::from_millis(2);

/// The workers.
pub(super) struct WorkerPool {
    shared: Arc<Shared>,
    workers: Mutex<Workers>,
}

#[derive(Default)]
struct Workers {
    serving: Vec<Worker>,
    retired: Vec<Worker>,
    /// The name of the next thread.
    next: usize,
    /// The turn of the next WebSocket of another process.
    next_adopter: usize,
}

/// A worker's thread. Without its owner it ends.
pub(super) struct Worker {
    orders: watch::Sender<WorkerOrder>,
    adoptions: UnboundedSender<Adoption>,
    thread: JoinHandle<()>,
}

impl Worker {
    fn order(&self, stage: WorkerStage, listeners: &Arc<[Arc<OpenListener>]>) {
        self.orders.send_replace(WorkerOrder { stage, listeners: Arc::clone(listeners) });
    }
}

impl WorkerPool {
    /// A pool without workers.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, workers: Mutex::default() }
    }

    /// Starts the workers that `threads` has in addition to those that serve. They accept nothing yet.
    ///
    /// # Errors
    /// The first error; the other new workers end.
    pub(super) fn prepare(&self, threads: usize) -> io::Result<Vec<Worker>> {
        let (serving, first) = {
            let workers = self.workers.lock();
            (workers.serving.len(), workers.next)
        };
        let conf = Arc::new(server_conf(threads));
        let none: Arc<[_]> = Arc::from([]);
        (first..first + threads.saturating_sub(serving))
            .map(|number| {
                let (started, outcome) = sync_channel(1);
                let order = WorkerOrder { stage: WorkerStage::Serving, listeners: Arc::clone(&none) };
                let (orders, receiver) = watch::channel(order);
                let (adoptions, adopted) = unbounded_channel();
                let gateway = Gateway::new(&self.shared);
                let thread = worker::spawn(number, gateway, Arc::clone(&conf), receiver, adopted, started)?;
                match outcome.recv_timeout(LONGEST_START) {
                    Ok(started) => started?,
                    Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("it panicked")),
                    Err(RecvTimeoutError::Timeout) => {
                        return Err(io::Error::other(format!("it did not start within {LONGEST_START:?}")));
                    }
                }
                Ok(Worker { orders, adoptions, thread })
            })
            .collect()
    }

    /// Adds the prepared workers, retires those above `threads`, and lets all accept connections of these listeners.
    pub(super) fn commit(&self, new: Vec<Worker>, threads: usize, listeners: &Arc<[Arc<OpenListener>]>) {
        let mut workers = self.workers.lock();
        workers.next += new.len();
        workers.serving.extend(new);
        let kept = threads.min(workers.serving.len());
        let surplus = workers.serving.split_off(kept);
        for worker in &workers.serving {
            worker.order(WorkerStage::Serving, listeners);
        }
        if !surplus.is_empty() {
            info!(workers = surplus.len(); "workers retired");
        }
        for worker in &surplus {
            worker.order(WorkerStage::Retired, &Arc::from([]));
        }
        workers.retired.retain(|worker| !worker.thread.is_finished());
        workers.retired.extend(surplus);
    }

    /// No worker accepts further connections, except those that wait already.
    pub(super) fn drain(&self) {
        self.order_all(WorkerStage::Draining);
    }

    /// No worker accepts further connections until [`WorkerPool::resume`].
    pub(super) fn pause(&self) {
        self.order_serving(WorkerStage::Paused, &Arc::from([]));
    }

    /// The paused workers accept connections of these listeners again.
    pub(super) fn resume(&self, listeners: &Arc<[Arc<OpenListener>]>) {
        self.order_serving(WorkerStage::Serving, listeners);
    }

    /// No worker accepts further connections: another process does.
    pub(super) fn hand_over(&self) {
        self.order_all(WorkerStage::HandedOver);
    }

    /// Gives WebSockets of another process to the workers, in turn.
    pub(super) fn adopt(&self, adoptions: impl IntoIterator<Item = Adoption>) {
        let mut workers = self.workers.lock();
        for adoption in adoptions {
            let turn = workers.next_adopter;
            workers.next_adopter = turn.wrapping_add(1);
            // Without a worker, or if it has ended, the adoption is dropped, and with it the reply.
            if let Some(worker) = turn.checked_rem(workers.serving.len()).map(|at| &workers.serving[at]) {
                let _ = worker.adoptions.send(adoption);
            }
        }
    }

    /// Stops the workers within a time limit and abandons hanging threads.
    pub(super) async fn finish(&self) {
        self.order_all(WorkerStage::Ended);
        let until = Instant::now() + LAST_TURNS;
        let is_running = || {
            let workers = self.workers.lock();
            workers.serving.iter().chain(&workers.retired).any(|worker| !worker.thread.is_finished())
        };
        // A join would block and could not be abandoned.
        while is_running() {
            if Instant::now() >= until {
                error!("worker not stopped in time; process exits");
                break;
            }
            tokio::time::sleep(JOIN_LOOK).await;
        }
    }

    fn order_serving(&self, stage: WorkerStage, listeners: &Arc<[Arc<OpenListener>]>) {
        for worker in &self.workers.lock().serving {
            worker.order(stage, listeners);
        }
    }

    fn order_all(&self, stage: WorkerStage) {
        let (workers, none) = (self.workers.lock(), Arc::from([]));
        for worker in workers.serving.iter().chain(&workers.retired) {
            worker.order(stage, &none);
        }
    }
}

/// Pingora's own settings. Here one proxy serves one thread.
fn server_conf(threads: usize) -> ServerConf {
    ServerConf {
        threads: 1,
        work_stealing: false,
        // Only for HTTP/2 upstreams.
        upstream_keepalive_pool_size: most_idle_connections().div_ceil(threads.max(1)).clamp(1, PINGORA_POOL),
        // The upstream's `retries` limits attempts; this only bounds pooled connections that turn out to be
        // closed.
        max_retries: 64,
        ca_file: platform_roots::ca_file(),
        ..ServerConf::default()
    }
}
