//! Host name resolver: one cache for the process, for upstreams, plugin calls, JWKS and ACME.
//!
//! Concurrent lookups of a name share one query. Lookups run on a separate thread (hickory) or on detached
//! threads (`getaddrinfo`), so that callers can stop waiting. After a failed lookup, the last known addresses
//! stay in use.

mod answers;
mod name_server;
#[cfg(test)]
mod name_server_tests;
mod queries;
mod search;
mod system_files;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use crate::config::ResolverKind;
pub use answers::{Family, FamilyAddresses, HostAnswer, ServiceRecord, Services};

use crate::runtime::blocking_pool::{self, WorkError};
use crate::telemetry::metrics::{self, LookupResult};
use name_server::Client;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;
use system_files::SystemFiles;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::{Instant, timeout};

/// The time limit of a lookup with all its repetitions.
const LONGEST: Duration = Duration::from_secs(10);

/// Longer lookups are logged and counted.
const SLOW: Duration = Duration::from_secs(1);

/// The minimum lifetime of a response, for any TTL.
const MIN_TTL: Duration = Duration::from_secs(1);

/// The delays before a failed lookup is repeated, with and without known addresses.
const RETRY: Duration = Duration::from_secs(5);
const RETRY_UNKNOWN: Duration = Duration::from_secs(1);

/// The maximum age of a response for a call, for any TTL.
const MAX_AGE: Duration = Duration::from_secs(30);

/// The time limit of a call for a lookup, if addresses are known.
const PATIENCE: Duration = Duration::from_millis(500);

/// The limit on cached names: plugins may call hosts that a request names.
const MOST_NAMES: usize = 4096;

static PROCESS: LazyLock<Arc<Resolver>> = LazyLock::new(|| Resolver::new(SystemFiles::of_system()));

/// The resolver of this process.
pub fn global() -> &'static Arc<Resolver> {
    &PROCESS
}

/// The reason for the lack of addresses.
#[derive(Clone, Debug, Error)]
pub enum LookupError {
    /// The name has no address records.
    #[error("the name has no addresses")]
    NotFound,
    /// No name server responded to any attempt.
    #[error("no name server responds")]
    NoResponse,
    /// The lookup took too long.
    #[error("no result within {0:?}")]
    TimedOut(Duration),
    /// A name server or the system returned an error.
    #[error("{0}")]
    Failed(Arc<str>),
}

impl LookupError {
    #[allow(clippy::needless_pass_by_value, reason = "it stands in map_err")]
    fn failed(error: impl ToString) -> Self {
        Self::Failed(error.to_string().into())
    }

    fn result(&self) -> LookupResult {
        match self {
            Self::NotFound => LookupResult::NotFound,
            Self::NoResponse | Self::TimedOut(_) => LookupResult::TimedOut,
            Self::Failed(_) => LookupResult::Failed,
        }
    }
}

impl From<LookupError> for io::Error {
    fn from(error: LookupError) -> Self {
        let kind = match error {
            LookupError::NotFound => io::ErrorKind::NotFound,
            LookupError::NoResponse | LookupError::TimedOut(_) => io::ErrorKind::TimedOut,
            LookupError::Failed(_) => io::ErrorKind::Other,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<WorkError> for LookupError {
    fn from(halted: WorkError) -> Self {
        match halted {
            WorkError::TimedOut(limit) => Self::TimedOut(limit),
            other => Self::failed(other),
        }
    }
}

/// The addresses of a name.
#[derive(Clone, Debug)]
pub struct Resolution {
    /// In the order in which the name servers sent them, IPv4 before IPv6. Never empty.
    pub addresses: Arc<[IpAddr]>,
    /// The time until the next lookup.
    pub valid_for: Duration,
    /// The error of the last lookup, if these addresses are from an earlier one.
    pub failure: Option<LookupError>,
}

/// A caching resolver.
pub struct Resolver {
    names: Mutex<HashMap<Key, Entry>>,
    settings: Mutex<Settings>,
    files: AsyncMutex<SystemFiles>,
    client: Mutex<Option<Arc<Client>>>,
    /// The number of changes of the configuration.
    changes: watch::Sender<u64>,
}

/// The configuration of lookups.
#[derive(Clone, Default, PartialEq, Eq)]
struct Settings {
    /// The default kind.
    kind: ResolverKind,
    servers: Arc<[SocketAddr]>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    host: Box<str>,
    kind: ResolverKind,
}

type LookupInFlight = watch::Receiver<bool>;

/// The cache entry of a name.
#[derive(Default)]
struct Entry {
    found: Option<CachedLookup>,
    failure: Option<(LookupError, Instant)>,
    /// The lookup in progress; true when it has ended.
    flight: Option<LookupInFlight>,
}

#[derive(Clone)]
struct CachedLookup {
    addresses: Arc<[IpAddr]>,
    at: Instant,
    /// `None` for a response without a TTL: from a file or the system.
    ttl: Option<Duration>,
}

/// The result of a lookup by family, so that a failure of one family does not lose addresses of the other.
#[derive(Debug)]
struct Records {
    addresses: Vec<IpAddr>,
    ttl: Option<Duration>,
    /// The error of one family, and whether that is IPv6.
    missing: Option<(bool, LookupError)>,
}

impl Entry {
    /// A response that is recent enough, or the result of a recent failed lookup.
    fn current(&self, max_age: Duration) -> Option<Result<Resolution, LookupError>> {
        let now = Instant::now();
        if let Some((error, at)) = &self.failure {
            let retry = if self.found.is_some() { RETRY } else { RETRY_UNKNOWN };
            let left = (*at + retry).checked_duration_since(now).filter(|left| !left.is_zero())?;
            return Some(self.found.as_ref().map_or(Err(error.clone()), |found| {
                let addresses = Arc::clone(&found.addresses);
                Ok(Resolution { addresses, valid_for: left, failure: Some(error.clone()) })
            }));
        }
        let found = self.found.as_ref()?;
        let life = found.ttl.map_or(max_age, |ttl| ttl.max(MIN_TTL).min(max_age));
        let left = (found.at + life).checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some(Ok(Resolution { addresses: Arc::clone(&found.addresses), valid_for: left, failure: None }))
    }

    /// The addresses of the last successful lookup, of any age.
    fn last_good(&self) -> Option<Resolution> {
        let found = self.found.as_ref()?;
        let failure = self.failure.as_ref().map(|(error, _)| error.clone());
        Some(Resolution { addresses: Arc::clone(&found.addresses), valid_for: Duration::ZERO, failure })
    }

    fn learn(&mut self, outcome: Result<Records, LookupError>) {
        let at = Instant::now();
        let records = match outcome {
            Ok(records) => records,
            Err(error) => {
                self.failure = Some((error, at));
                return;
            }
        };
        let Records { mut addresses, ttl, missing } = records;
        self.failure = None;
        if let Some((is_ipv6, error)) = missing {
            // A name without addresses of that family has lost none.
            let before = self.found.iter().flat_map(|found| found.addresses.iter());
            let lost: Vec<_> = before.filter(|address| address.is_ipv6() == is_ipv6).copied().collect();
            if !lost.is_empty() {
                addresses.extend(lost);
                self.failure = Some((error, at));
            }
        }
        self.found = Some(CachedLookup { addresses: addresses.into(), at, ttl });
    }
}

impl Resolver {
    fn new(files: SystemFiles) -> Arc<Self> {
        Arc::new(Self {
            names: Mutex::default(),
            settings: Mutex::default(),
            files: AsyncMutex::new(files),
            client: Mutex::default(),
            changes: watch::Sender::default(),
        })
    }

    /// Sets the default kind and the name servers; without any, those of `/etc/resolv.conf`. Known addresses
    /// stay in use until the new servers respond.
    pub fn configure(&self, kind: ResolverKind, servers: &[SocketAddr]) {
        let mut settings = self.settings.lock();
        if settings.kind == kind && *settings.servers == *servers {
            return;
        }
        *settings = Settings { kind, servers: servers.into() };
        *self.client.lock() = None;
        for entry in self.names.lock().values_mut() {
            entry.failure = None;
            // A lookup in progress uses the old servers, so its result is ignored.
            entry.flight = None;
            if let Some(found) = &mut entry.found {
                found.ttl = Some(Duration::ZERO);
            }
        }
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn kind(&self, requested: Option<ResolverKind>) -> ResolverKind {
        requested.unwrap_or_else(|| self.settings.lock().kind)
    }

    /// Notified when the configuration of lookups changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The addresses of a name, from a response within its TTL and `max_age`, or from a lookup. `kind`:
    /// `None` means the configured one.
    ///
    /// # Errors
    /// The lookup failed, and no earlier one succeeded.
    pub async fn lookup(
        self: &Arc<Self>,
        host: &str,
        kind: Option<ResolverKind>,
        max_age: Duration,
    ) -> Result<Resolution, LookupError> {
        let kind = self.kind(kind);
        match self.begin(host, kind, max_age) {
            LookupStart::Known(known) => known,
            LookupStart::Flight(flight) => self.await_lookup(host, kind, flight, max_age).await,
        }
    }

    /// Like `lookup`, with a short wait: during a slow lookup, the last known addresses are used.
    ///
    /// # Errors
    /// As for `lookup`.
    pub async fn lookup_soon(self: &Arc<Self>, host: &str) -> Result<Resolution, LookupError> {
        let kind = self.kind(None);
        match self.begin(host, kind, MAX_AGE) {
            LookupStart::Known(known) => known,
            LookupStart::Flight(flight) => {
                let mut pending = std::pin::pin!(self.await_lookup(host, kind, flight, MAX_AGE));
                if let Ok(outcome) = timeout(PATIENCE, pending.as_mut()).await {
                    return outcome;
                }
                let known = self.names.lock().get(&Key::new(host, kind)).and_then(Entry::last_good);
                match known {
                    Some(resolution) => Ok(resolution),
                    None => pending.await,
                }
            }
        }
    }

    /// Connects to a name or an address, resolved by `lookup_soon`.
    ///
    /// # Errors
    /// The name has no addresses, or the connection to its last address failed.
    pub async fn connect(self: &Arc<Self>, host: &str, port: u16) -> io::Result<tokio::net::TcpStream> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return tokio::net::TcpStream::connect((address, port)).await;
        }
        let resolution = self.lookup_soon(host).await?;
        let addresses: Vec<_> = resolution.addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        tokio::net::TcpStream::connect(&*addresses).await
    }

    fn begin(self: &Arc<Self>, host: &str, kind: ResolverKind, max_age: Duration) -> LookupStart {
        let key = Key::new(host, kind);
        let mut names = self.names.lock();
        if names.len() >= MOST_NAMES && !names.contains_key(&key) {
            make_room(&mut names);
        }
        let entry = names.entry(key.clone()).or_default();
        if let Some(known) = entry.current(max_age) {
            return LookupStart::Known(known);
        }
        if let Some(flight) = &entry.flight {
            return LookupStart::Flight(flight.clone());
        }
        let runtime = match runtime() {
            Ok(runtime) => runtime,
            Err(error) => {
                entry.learn(Err(error.clone()));
                return LookupStart::Known(entry.last_good().ok_or(error));
            }
        };
        let (finished, flight) = watch::channel(false);
        entry.flight = Some(flight.clone());
        drop(names);
        // Callers may stop waiting; the result is for the cache.
        let guard =
            LookupGuard { resolver: Arc::clone(self), key, outcome: None, finished, flight: flight.clone() };
        runtime.spawn(run_lookup(guard));
        LookupStart::Flight(flight)
    }

    async fn await_lookup(
        &self,
        host: &str,
        kind: ResolverKind,
        mut flight: LookupInFlight,
        max_age: Duration,
    ) -> Result<Resolution, LookupError> {
        // An error means that the lookup has ended too.
        let _ = flight.wait_for(|finished| *finished).await;
        let names = self.names.lock();
        let gone = || LookupError::failed("the lookup was abandoned");
        let Some(entry) = names.get(&Key::new(host, kind)) else { return Err(gone()) };
        // A response that has just arrived is used for any `max_age`.
        match entry.current(max_age).or_else(|| entry.last_good().map(Ok)) {
            Some(outcome) => outcome,
            None => Err(entry.failure.as_ref().map_or_else(gone, |(error, _)| error.clone())),
        }
    }

    async fn resolve(&self, key: &Key) -> Result<Records, LookupError> {
        match key.kind {
            ResolverKind::System => getaddrinfo(&key.host).await,
            ResolverKind::Hickory => self.ask(&key.host).await,
        }
    }

    async fn ask(&self, host: &str) -> Result<Records, LookupError> {
        let (listed, client) = self.files_and_client(host).await;
        if !listed.is_empty() {
            return Ok(Records { addresses: listed, ttl: None, missing: None });
        }
        client?.host(host).await.into_records()
    }

    /// The addresses of a name that no name server is queried for, and the name servers for other names.
    async fn files_and_client(&self, host: &str) -> (Vec<IpAddr>, Result<Arc<Client>, LookupError>) {
        let (mut listed, client) = {
            let mut files = self.files.lock().await;
            let changed = files.refresh().await;
            let listed = files.hosts.addresses(host);
            (listed, self.client(&files, changed))
        };
        if listed.is_empty() && search::is_localhost(host) {
            // RFC 6761 §6.3: no name server is asked.
            listed = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
        }
        (listed, client)
    }

    fn client(&self, files: &SystemFiles, changed: bool) -> Result<Arc<Client>, LookupError> {
        let servers = Arc::clone(&self.settings.lock().servers);
        let mut client = self.client.lock();
        if let Some(client) = client.as_ref().filter(|_| !changed || !servers.is_empty()) {
            return Ok(Arc::clone(client));
        }
        let new = Arc::new(Client::new(&servers, files.resolv_conf())?);
        *client = Some(Arc::clone(&new));
        Ok(new)
    }
}

impl Key {
    fn new(host: &str, kind: ResolverKind) -> Self {
        Self { host: host.to_ascii_lowercase().into(), kind }
    }
}

enum LookupStart {
    Known(Result<Resolution, LookupError>),
    Flight(LookupInFlight),
}

/// Ends a lookup in any case: after a panic, the name must not stay locked.
struct LookupGuard {
    resolver: Arc<Resolver>,
    key: Key,
    outcome: Option<Result<Records, LookupError>>,
    finished: watch::Sender<bool>,
    flight: LookupInFlight,
}

impl Drop for LookupGuard {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| Err(LookupError::failed("the lookup panicked")));
        let result = match &outcome {
            Ok(Records { missing: None, .. }) => LookupResult::Resolved,
            Ok(Records { missing: Some((_, error)), .. }) | Err(error) => error.result(),
        };
        metrics::global().lookups().done(result);
        let mut names = self.resolver.names.lock();
        let entry = names.get_mut(&self.key);
        let is_current =
            |entry: &&mut Entry| entry.flight.as_ref().is_some_and(|known| known.same_channel(&self.flight));
        if let Some(entry) = entry.filter(is_current) {
            entry.flight = None;
            entry.learn(outcome);
        }
        drop(names);
        self.finished.send_replace(true);
    }
}

async fn run_lookup(mut guard: LookupGuard) {
    let resolver = Arc::clone(&guard.resolver);
    let key = guard.key.clone();
    guard.outcome = Some(bounded(&key.host, resolver.resolve(&key)).await);
}

/// Ends a lookup after its time limit, and counts and logs a slow one.
async fn bounded<T>(
    name: &str,
    work: impl Future<Output = Result<T, LookupError>>,
) -> Result<T, LookupError> {
    let mut work = Box::pin(timeout(LONGEST, work));
    let outcome = match timeout(SLOW, work.as_mut()).await {
        Ok(outcome) => outcome,
        Err(_) => {
            metrics::global().lookups().slow();
            if moongate_sdk::log_throttle::admit(log::Level::Warn, "name lookup is slow", &[name]) {
                log::warn!(name, seconds = SLOW.as_secs(); "name lookup is slow");
            }
            work.await
        }
    };
    outcome.unwrap_or(Err(LookupError::TimedOut(LONGEST)))
}

/// Removes names without recent lookups, or any name.
fn make_room(names: &mut HashMap<Key, Entry>) {
    let is_young = |entry: &Entry| {
        entry.flight.is_some() || entry.found.as_ref().is_some_and(|found| found.at.elapsed() < MAX_AGE * 2)
    };
    names.retain(|_, entry| is_young(entry));
    if names.len() >= MOST_NAMES
        && let Some(key) = names.iter().find(|(_, entry)| entry.flight.is_none()).map(|(key, _)| key.clone())
    {
        names.remove(&key);
    }
}

async fn getaddrinfo(host: &str) -> Result<Records, LookupError> {
    let owned = host.to_owned();
    let found =
        blocking_pool::GETADDRINFO.run(move || (owned.as_str(), 0).to_socket_addrs().map(Vec::from_iter));
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found.await?.map_err(LookupError::failed)? {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    if addresses.is_empty() {
        return Err(LookupError::NotFound);
    }
    Ok(Records { addresses, ttl: None, missing: None })
}

/// The runtime of all lookups: one detached thread.
fn runtime() -> Result<Handle, LookupError> {
    static RUNTIME: OnceLock<Handle> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    let _turn = STARTING.lock();
    if let Some(handle) = RUNTIME.get() {
        return Ok(handle.clone());
    }
    let (built, handle) = sync_channel(1);
    let forever = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = built.send(Err(LookupError::failed(error)));
                return;
            }
        };
        // The caller is waiting, so sending cannot fail.
        let _ = built.send(Ok(runtime.handle().clone()));
        runtime.block_on(std::future::pending::<()>());
    };
    std::thread::Builder::new().name("resolver".to_owned()).spawn(forever).map_err(LookupError::failed)?;
    let handle = handle.recv().unwrap_or_else(|error| Err(LookupError::failed(error)))?;
    Ok(RUNTIME.get_or_init(|| handle).clone())
}
