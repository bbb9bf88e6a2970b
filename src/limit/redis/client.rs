//! Client of Redis and Valkey: one server, the master that Sentinel names, or a cluster.
//!
//! A gateway has one connection to a server, shared by its workers: requests are sent at once, and responses are matched by
//! their order. To a cluster it has one for each master.

use super::scripts::{COUNT, HEARTBEAT, SECRETS, StoreScript, TOKENS};
use crate::limit::connection::{
    ClientCount, KEY_LIFE, Reply, StoreClient, StoreConnection, StoreError, StoredSecrets, TokenGrant,
    TokenRequest,
};
use moongate_config::Credentials;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, FromRedisValue, IntoConnectionInfo,
    RedisError, ServerErrorKind, TlsCertificates, Value, cmd,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use zeroize::Zeroizing;

/// The time limit for one server; a client tries several Sentinels within the time for connecting.
const ONE_SERVER: Duration = Duration::from_millis(300);

/// TLS to the servers; `None` for plain connections.
#[derive(Clone)]
pub(super) struct Tls {
    /// The issuers to trust, as PEM; the system's without.
    pub(super) ca: Option<Vec<u8>>,
}

/// The servers.
pub(super) enum Servers {
    /// One.
    Single(String),
    /// The master that one of the Sentinels names.
    Sentinel { sentinels: Vec<String>, master: String, credentials: Credentials },
    /// A cluster, by some of its nodes.
    Cluster(Vec<String>),
}

/// The client.
pub(super) struct RedisClient {
    pub(super) servers: Servers,
    pub(super) credentials: Credentials,
    pub(super) tls: Option<Tls>,
    pub(super) deadline: Duration,
    /// The Sentinel to ask first: the next one after each failure.
    pub(super) first: AtomicUsize,
}

impl From<RedisError> for StoreError {
    fn from(error: RedisError) -> Self {
        // The server's own word, such as READONLY, tells more than a translation.
        match (error.code(), error.detail()) {
            (Some(code), Some(detail)) => Self(format!("{code} {detail}")),
            _ => Self(error.to_string()),
        }
    }
}

impl RedisClient {
    /// Judges the settings: builds the clients that connecting will use.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn check(&self) -> Result<(), RedisError> {
        match &self.servers {
            Servers::Single(url) => self.client(url, &self.credentials).map(drop),
            Servers::Sentinel { sentinels, credentials, .. } => {
                sentinels.iter().try_for_each(|server| self.client(&self.url(server), credentials).map(drop))
            }
            Servers::Cluster(_) => self.cluster().map(drop),
        }
    }

    fn url(&self, server: &str) -> String {
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://{server}")
    }

    fn info(&self, url: &str, credentials: &Credentials) -> Result<ConnectionInfo, RedisError> {
        let info = url.into_connection_info()?;
        // It would cost a round trip.
        let mut settings = info.redis_settings().clone().set_skip_set_lib_name();
        if let Some(user) = &credentials.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &credentials.password {
            settings = settings.set_password(password);
        }
        Ok(info.set_redis_settings(settings))
    }

    fn certificates(&self) -> Option<TlsCertificates> {
        self.tls.as_ref().map(|tls| TlsCertificates { client_tls: None, root_cert: tls.ca.clone() })
    }

    fn client(&self, url: &str, credentials: &Credentials) -> Result<Client, RedisError> {
        let info = self.info(url, credentials)?;
        match self.certificates() {
            Some(certificates) => Client::build_with_tls(info, certificates),
            None => Client::open(info),
        }
    }

    fn cluster(&self) -> Result<ClusterClient, RedisError> {
        let Servers::Cluster(nodes) = &self.servers else {
            return Err(RedisError::from((ErrorKind::InvalidClientConfig, "no cluster")));
        };
        let nodes = nodes.iter().map(|node| self.info(&self.url(node), &self.credentials));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        // A request that failed is not repeated: it has its deadline, and `on_failure` is the answer then.
        let mut builder = ClusterClientBuilder::new(nodes)
            .retries(1)
            .connection_timeout(ONE_SERVER)
            .response_timeout(self.deadline.max(ONE_SERVER));
        if let Some(certificates) = self.certificates() {
            builder = builder.certs(certificates);
        }
        builder.build()
    }

    /// The master by the first Sentinel that responds.
    async fn master(
        &self,
        sentinels: &[String],
        master: &str,
        credentials: &Credentials,
    ) -> Result<String, StoreError> {
        let mut last = StoreError("no Sentinel".to_owned());
        let first = self.first.load(Relaxed);
        for server in sentinels.iter().cycle().skip(first % sentinels.len().max(1)).take(sentinels.len()) {
            match tokio::time::timeout(ONE_SERVER, self.master_by(server, master, credentials)).await {
                Ok(Ok((host, port))) => {
                    let host = if host.contains(':') { format!("[{host}]") } else { host };
                    return Ok(format!("{host}:{port}"));
                }
                Ok(Err(error)) => last = StoreError(format!("Sentinel {server}: {error}")),
                Err(_) => last = StoreError(format!("Sentinel {server}: timed out")),
            }
        }
        Err(last)
    }

    async fn master_by(
        &self,
        server: &str,
        master: &str,
        credentials: &Credentials,
    ) -> Result<(String, u16), StoreError> {
        let client = self.client(&self.url(server), credentials)?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config()).await?;
        let found: Option<(String, u16)> =
            cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master).query_async(&mut connection).await?;
        found.ok_or_else(|| StoreError(format!("it has no master `{master}`")))
    }

    async fn connect_to(&self, url: &str) -> Result<Arc<dyn StoreConnection>, StoreError> {
        let client = self.client(url, &self.credentials)?;
        let connection = client.get_multiplexed_async_connection_with_config(&config()).await?;
        Ok(Arc::new(RedisConnection::<MultiplexedConnection>(connection)))
    }

    async fn connect_all(&self) -> Result<Arc<dyn StoreConnection>, StoreError> {
        match &self.servers {
            Servers::Single(url) => self.connect_to(url).await,
            Servers::Sentinel { sentinels, master, credentials } => {
                let found = self.master(sentinels, master, credentials).await;
                let connected = match found {
                    Ok(server) => self.connect_to(&self.url(&server)).await,
                    Err(error) => Err(error),
                };
                // A Sentinel may not know yet what the others know.
                self.first.fetch_add(1, Relaxed);
                connected
            }
            Servers::Cluster(_) => {
                let connection = self.cluster()?.get_async_connection().await?;
                Ok(Arc::new(RedisConnection::<ClusterConnection>(connection)))
            }
        }
    }
}

/// The store has a deadline of its own for each request.
fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(ONE_SERVER * 2)).set_response_timeout(None)
}

/// The client in an `Arc`, since a pending connection outlives the call.
pub(super) struct SharedClient(pub(super) Arc<RedisClient>);

impl StoreClient for SharedClient {
    fn connect(&self) -> Reply<Arc<dyn StoreConnection>> {
        let client = Arc::clone(&self.0);
        Box::pin(async move { client.connect_all().await })
    }

    fn server(&self) -> String {
        match &self.0.servers {
            Servers::Single(url) => url.clone(),
            Servers::Sentinel { sentinels, master, .. } => {
                format!("sentinel {master} ({})", sentinels.join(", "))
            }
            Servers::Cluster(nodes) => format!("cluster ({})", nodes.join(", ")),
        }
    }
}

/// A connection to one server, or those to a cluster.
struct RedisConnection<C>(C);

impl<C> RedisConnection<C>
where
    C: ConnectionLike + Clone + Send + Sync + 'static,
{
    /// Runs a script by its hash; a server that does not have it yet gets it with the request.
    fn run<T>(
        &self,
        script: &'static StoreScript,
        mut command: impl FnMut(&mut Cmd),
        read: fn(Value) -> Result<T, RedisError>,
    ) -> Reply<T>
    where
        T: 'static,
    {
        let mut by_hash = cmd("EVALSHA");
        by_hash.arg(&script.hash);
        command(&mut by_hash);
        let mut whole = cmd("EVAL");
        whole.arg(script.code);
        command(&mut whole);
        let mut connection = self.0.clone();
        Box::pin(async move {
            let response = match by_hash.query_async::<Value>(&mut connection).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    whole.query_async::<Value>(&mut connection).await
                }
                response => response,
            };
            Ok(read(response?)?)
        })
    }
}

/// Reads a response of the type that the caller expects.
fn read<T: FromRedisValue>(value: Value) -> Result<T, RedisError> {
    Ok(redis::from_redis_value(value)?)
}

impl<C> StoreConnection for RedisConnection<C>
where
    C: ConnectionLike + Clone + Send + Sync + 'static,
{
    fn tokens(&self, key: String, request: TokenRequest) -> Reply<TokenGrant> {
        let command = |command: &mut Cmd| {
            command
                .arg(1)
                .arg(&key)
                .arg(format!("{:.3}", request.interval))
                .arg(request.burst)
                .arg(request.owed)
                .arg(request.wanted)
                .arg(u64::try_from(request.queue.as_micros()).unwrap_or(u64::MAX));
        };
        self.run(&TOKENS, command, |value| {
            let (given, wait, full): (u32, u64, u64) = read(value)?;
            Ok(TokenGrant { given, wait: Duration::from_micros(wait), full: Duration::from_micros(full) })
        })
    }

    fn count(&self, key: String, count: ClientCount) -> Reply<bool> {
        let command = |command: &mut Cmd| {
            command
                .arg(1)
                .arg(&key)
                .arg(&*count.gateway)
                .arg(count.count)
                .arg(count.sequence)
                .arg(count.limit)
                .arg(milliseconds(count.life))
                .arg(milliseconds(KEY_LIFE));
            for gateway in &*count.living {
                command.arg(&**gateway);
            }
        };
        self.run(&COUNT, command, |value| read::<u8>(value).map(|within| within == 1))
    }

    fn heartbeat(&self, key: String, gateway: Arc<str>, life: Duration) -> Reply<Vec<Arc<str>>> {
        let command = |command: &mut Cmd| {
            command.arg(1).arg(&key).arg(&*gateway).arg(milliseconds(life));
        };
        self.run(&HEARTBEAT, command, |value| {
            Ok(read::<Vec<String>>(value)?.into_iter().map(Arc::from).collect())
        })
    }

    fn secrets(
        &self,
        key: String,
        known: Zeroizing<String>,
        fresh: Option<Zeroizing<String>>,
        activation: Duration,
    ) -> Reply<StoredSecrets> {
        let command = |command: &mut Cmd| {
            let fresh = fresh.as_ref().map_or("", |fresh| fresh.as_str());
            command.arg(1).arg(&key).arg(known.as_str()).arg(fresh).arg(milliseconds(activation));
        };
        self.run(&SECRETS, command, |value| {
            let (text, now, is_rotated): (String, u64, u8) = read(value)?;
            Ok(StoredSecrets { text: Zeroizing::new(text), now, is_rotated: is_rotated == 1 })
        })
    }

    fn leave(&self, key: String, gateway: Arc<str>) -> Reply<()> {
        let mut connection = self.0.clone();
        Box::pin(async move {
            let removed: Result<(), _> =
                cmd("ZREM").arg(key).arg(&*gateway).query_async(&mut connection).await;
            Ok(removed?)
        })
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
