//! A store of shared limits: its connection, its state, and the requests of the workers.
//!
//! A request waits for the deadline of the store at most. An error, or [`TIMEOUTS`] time-outs in a row, makes the store
//! unavailable: nothing is sent until a probe succeeds, and each limit follows `on_failure`.

use super::connection::{
    ClientCount, Reply, StoreClient, StoreConnection, StoreError, TokenGrant, TokenRequest,
};
use crate::runtime::shared_secrets::SharedSecrets;
use crate::telemetry::metrics::{LazyHandle, StoreMetrics, StoreOutcome};
use log::{info, warn};
use moongate_config::{Files, Problem, Settings};
use moongate_sdk::random_bits;
use parking_lot::{Mutex, RwLock};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, mpsc};

/// So many time-outs in a row make a store unavailable.
const TIMEOUTS: u32 = 3;
/// How long a gateway is counted without a heartbeat. With the interval of heartbeats it is less than 15 s.
pub(super) const LIFE: Duration = Duration::from_secs(12);

/// What limits do while their store is unavailable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Each gateway applies its share: the limit divided by the gateways that were seen last.
    #[default]
    Local,
    /// Nothing is limited.
    Open,
    /// Everything is refused.
    Closed,
}

/// The settings that all kinds of stores share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// The longest wait for a response.
    pub deadline: Duration,
    /// See [`OnFailure`].
    pub on_failure: OnFailure,
    /// The beginning of every key.
    pub key_prefix: String,
}

/// What a kind builds.
pub struct StoreParts {
    /// The shared settings.
    pub(crate) settings: StoreSettings,
    /// The client.
    pub(crate) client: Arc<dyn StoreClient>,
}

/// A store.
pub struct Store {
    name: Arc<str>,
    settings: StoreSettings,
    client: Arc<dyn StoreClient>,
    /// What it was built from.
    written: (String, Settings),
    files: Files,
    metrics: LazyHandle<Arc<StoreMetrics>>,
    /// The number of this instance in the metrics.
    instance: OnceLock<u64>,
    current: RwLock<Option<Arc<Current>>>,
    state: Mutex<State>,
    living: RwLock<Arc<[Arc<str>]>>,
    /// Notified when the connection was lost.
    pub(super) lost: Notify,
    /// Notified when a count of WebSockets has changed.
    pub(super) changed: Notify,
    pub(super) work: WorkQueue,
    /// The counts of WebSockets, which are sent again after a loss.
    pub(super) counts: Mutex<Vec<Weak<dyn CountSource>>>,
    /// The secrets that it has for the fleet, since they are used. Kept over changes of its settings.
    secrets: Arc<OnceLock<Arc<SharedSecrets>>>,
}

/// Counts of WebSockets that the task of the store writes.
pub(super) trait CountSource: Send + Sync {
    /// Marks all counts as changed: the server may have forgotten them.
    fn refresh(&self);

    /// The next counts that have changed, with their clients and keys, and whether there are more.
    fn changed(&self) -> (Vec<(u128, String, ClientCount)>, bool);

    /// Marks a count as changed whose write has failed.
    fn repeat(&self, client: u128);
}

/// The work for the task of the store.
pub(super) struct WorkQueue {
    sender: mpsc::UnboundedSender<Work>,
    receiver: Mutex<Option<mpsc::UnboundedReceiver<Work>>>,
}

/// Work that no request waits for.
pub(super) type Work = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// The connection in use.
struct Current {
    connection: Arc<dyn StoreConnection>,
    timeouts: AtomicU32,
}

#[derive(Clone, Debug)]
struct State {
    is_up: bool,
    since: SystemTime,
    error: Option<String>,
}

/// The state of a store, for the status.
#[derive(Clone, Debug, Serialize)]
pub struct StoreStatus {
    /// The name in `stores`.
    pub name: Arc<str>,
    /// The server, without secrets.
    pub server: String,
    /// Whether it is available.
    pub up: bool,
    /// Since when, in Unix seconds.
    pub since: u64,
    /// The gateways that it has seen lately.
    pub gateways: u32,
    /// What its limits do while it is unavailable.
    pub on_failure: OnFailure,
    /// The version of the secrets that it has for the fleet, if they are used; 0 while this gateway uses its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<u64>,
    /// Why it is unavailable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The identity of this process in all stores. A process that takes over from another one has its own: the counts of
/// WebSockets move with the WebSockets.
pub(super) fn gateway_id() -> &'static Arc<str> {
    static ID: OnceLock<Arc<str>> = OnceLock::new();
    ID.get_or_init(|| {
        let (high, low) = random_bits();
        format!("{:016x}", high ^ low).into()
    })
}

impl Store {
    pub(super) fn new(name: &str, parts: StoreParts, written: (String, Settings), files: Files) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let of: Arc<str> = name.into();
        let metrics = Arc::clone(&of);
        Self {
            name: of,
            settings: parts.settings,
            client: parts.client,
            written,
            files,
            metrics: LazyHandle::new(move || StoreMetrics::of(&metrics)),
            instance: OnceLock::new(),
            current: RwLock::new(None),
            state: Mutex::new(State { is_up: false, since: SystemTime::now(), error: None }),
            living: RwLock::new(Arc::new([Arc::clone(gateway_id())])),
            lost: Notify::new(),
            changed: Notify::new(),
            work: WorkQueue { sender, receiver: Mutex::new(Some(receiver)) },
            counts: Mutex::default(),
            secrets: Arc::default(),
        }
    }

    /// The same store with the secrets of an earlier one of its name.
    pub(super) fn with_secrets_of(self, earlier: &Self) -> Self {
        Self { secrets: Arc::clone(&earlier.secrets), ..self }
    }

    /// The secrets that it has for the fleet, which it reads from now on.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(crate) fn secrets(&self) -> Result<&Arc<SharedSecrets>, Problem> {
        if let Some(secrets) = self.secrets.get() {
            return Ok(secrets);
        }
        let fresh = SharedSecrets::new();
        let fresh = fresh.ok_or_else(|| Problem::new("the system has no random numbers for a secret"))?;
        Ok(self.secrets.get_or_init(|| fresh))
    }

    /// The secrets, if they are used.
    pub(crate) fn secrets_in_use(&self) -> Option<&Arc<SharedSecrets>> {
        self.secrets.get()
    }

    /// The name in `stores`.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The shared settings.
    pub fn settings(&self) -> &StoreSettings {
        &self.settings
    }

    /// Registers its series.
    pub fn register_metrics(&self) {
        self.metrics.register();
    }

    /// Whether it is of this kind with these settings, and the files that they name are unchanged.
    pub(super) fn is_of(&self, kind: &str, settings: &Settings) -> bool {
        self.written.0 == kind && self.written.1 == *settings && self.files.unchanged()
    }

    pub(super) fn client(&self) -> &Arc<dyn StoreClient> {
        &self.client
    }

    /// A key of this store.
    pub(super) fn key(&self, kind: &str, scope: &str, client: Option<u128>) -> String {
        let prefix = &self.settings.key_prefix;
        match client {
            Some(client) => format!("{prefix}{kind}:{scope}:{client:032x}"),
            None => format!("{prefix}{kind}:{scope}"),
        }
    }

    /// Whether it is available.
    pub fn is_up(&self) -> bool {
        self.current.read().is_some()
    }

    /// Whether the first attempt to connect has ended.
    pub fn is_tried(&self) -> bool {
        let state = self.state.lock();
        state.is_up || state.error.is_some()
    }

    /// The number of gateways that it has seen lately, this one included.
    pub fn gateways(&self) -> u32 {
        u32::try_from(self.living.read().len()).unwrap_or(u32::MAX).max(1)
    }

    /// The gateways that live, by the last heartbeat.
    pub(super) fn living(&self) -> Arc<[Arc<str>]> {
        Arc::clone(&self.living.read())
    }

    /// The state, for the status.
    pub fn status(&self) -> StoreStatus {
        let state = self.state.lock().clone();
        StoreStatus {
            name: Arc::clone(&self.name),
            server: self.client.server(),
            up: state.is_up,
            since: state.since.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            gateways: self.gateways(),
            on_failure: self.settings.on_failure,
            secrets: self.secrets.get().map(|secrets| secrets.version()),
            error: state.error,
        }
    }

    /// Takes tokens; `None` if the store is unavailable.
    pub(super) async fn tokens(&self, key: String, request: TokenRequest) -> Option<TokenGrant> {
        self.call(|connection| connection.tokens(key, request)).await
    }

    /// Sends one request and waits for the deadline at most; `None` if there is no response.
    pub(super) async fn call<T>(&self, send: impl FnOnce(&dyn StoreConnection) -> Reply<T>) -> Option<T> {
        let Some(current) = self.current.read().clone() else {
            self.metrics.requested(StoreOutcome::Skipped);
            return None;
        };
        let begun = Instant::now();
        let response = tokio::time::timeout(self.settings.deadline, send(&*current.connection)).await;
        match response {
            Ok(Ok(result)) => {
                current.timeouts.store(0, Relaxed);
                self.metrics.responded(begun.elapsed());
                return Some(result);
            }
            Ok(Err(error)) => {
                self.metrics.requested(StoreOutcome::Failed);
                self.lose(&current, error);
            }
            Err(_) => {
                self.metrics.requested(StoreOutcome::TimedOut);
                if current.timeouts.fetch_add(1, Relaxed) + 1 >= TIMEOUTS {
                    let deadline = self.settings.deadline.as_millis();
                    self.lose(&current, StoreError(format!("no response within {deadline} ms")));
                }
            }
        }
        None
    }

    /// Work for the task, which nothing waits for.
    pub(super) fn defer(&self, work: Work) {
        // Without a task the process ends.
        let _ = self.work.sender.send(work);
    }

    /// Takes the queue of work, once.
    pub(super) fn take_work(&self) -> Option<mpsc::UnboundedReceiver<Work>> {
        self.work.receiver.lock().take()
    }

    /// Returns the queue of work for a task that is restarted.
    pub(super) fn return_work(&self, receiver: mpsc::UnboundedReceiver<Work>) {
        *self.work.receiver.lock() = Some(receiver);
    }

    /// Uses a connection whose first heartbeat has succeeded.
    pub(super) fn use_connection(&self, connection: Arc<dyn StoreConnection>) {
        *self.current.write() = Some(Arc::new(Current { connection, timeouts: AtomicU32::new(0) }));
        *self.state.lock() = State { is_up: true, since: SystemTime::now(), error: None };
        self.set_up(true);
        info!(store = &*self.name, gateways = self.gateways(); "store became available");
    }

    fn set_up(&self, is_up: bool) {
        self.metrics.set_up(*self.instance.get_or_init(|| self.metrics.begin()), is_up);
    }

    /// Begins to report its state.
    pub(super) fn begin(&self) {
        self.instance.get_or_init(|| self.metrics.begin());
    }

    pub(super) fn set_living(&self, living: Vec<Arc<str>>) {
        *self.living.write() = living.into();
    }

    /// Records that the store could not be connected to.
    pub(super) fn not_connected(&self, error: &StoreError) {
        let mut state = self.state.lock();
        if state.error.is_none() {
            warn!(store = &*self.name, error:%; "store is unavailable");
            if self.secrets.get().is_some_and(|secrets| secrets.version() == 0) {
                warn!(store = &*self.name; "secrets of this process in use: other gateways do not accept them");
            }
        }
        state.error = Some(error.0.clone());
    }

    /// Ends the connection, if it is still the current one.
    fn lose(&self, lost: &Arc<Current>, error: StoreError) {
        {
            let mut current = self.current.write();
            if !current.as_ref().is_some_and(|current| Arc::ptr_eq(current, lost)) {
                return;
            }
            *current = None;
        }
        self.set_up(false);
        warn!(store = &*self.name, error:%; "store became unavailable");
        *self.state.lock() = State { is_up: false, since: SystemTime::now(), error: Some(error.0) };
        self.lost.notify_one();
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("name", &self.name).finish_non_exhaustive()
    }
}
