//! The interface of a store's server: what the kinds of stores implement.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long the server keeps the counts of a client without a write.
pub(crate) const KEY_LIFE: Duration = Duration::from_secs(3600);

/// A pending response of the server.
pub(crate) type Reply<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// Why the server gave no result. Any of them ends the connection: a server that is read-only, loading, or no longer
/// responsible for a key is as lost as one without a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreError(pub(crate) String);

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request for tokens of one bucket. Times are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TokenRequest {
    /// The time in which a token comes back.
    pub(crate) interval: f64,
    /// The tokens of a full bucket.
    pub(crate) burst: u32,
    /// Tokens that were taken already, available or not; a negative number gives some back.
    pub(crate) owed: i64,
    /// The most tokens to take if they are available.
    pub(crate) wanted: u32,
    /// Tokens that become available within this time are available.
    pub(crate) queue: Duration,
}

/// The tokens of a [`TokenRequest`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TokenGrant {
    /// The tokens that were taken, without those owed.
    pub(crate) given: u32,
    /// The time until the last of them is available; without any, until one would be.
    pub(crate) wait: Duration,
    /// The time until the bucket is full.
    pub(crate) full: Duration,
}

/// The number of a client's WebSockets at one gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientCount {
    /// The gateway.
    pub(crate) gateway: Arc<str>,
    /// The number.
    pub(crate) count: u32,
    /// Larger than that of every earlier count of this gateway: a count that arrives late is ignored.
    pub(crate) sequence: u64,
    /// Refuses the count if those of all living gateways together exceed this.
    pub(crate) limit: u32,
    /// The gateways that live, by the last heartbeat.
    pub(crate) living: Arc<[Arc<str>]>,
    /// How long the count is valid without a heartbeat.
    pub(crate) life: Duration,
}

/// The secrets of a fleet, as the server has them.
pub(crate) struct StoredSecrets {
    /// As text.
    pub(crate) text: Zeroizing<String>,
    /// The server's clock, in milliseconds.
    pub(crate) now: u64,
    /// Whether a secret was added.
    pub(crate) is_rotated: bool,
}

/// A connection to the server. Requests share it; each is sent at once.
pub(crate) trait StoreConnection: Send + Sync {
    /// Takes tokens.
    fn tokens(&self, key: String, request: TokenRequest) -> Reply<TokenGrant>;

    /// Records a count; returns whether it was within its limit.
    fn count(&self, key: String, count: ClientCount) -> Reply<bool>;

    /// Records that a gateway lives for `life`; returns all that do.
    fn heartbeat(&self, key: String, gateway: Arc<str>, life: Duration) -> Reply<Vec<Arc<str>>>;

    /// Reads the secrets. A server without any, or with older ones, takes the `known` ones. A `fresh` one is added unless the
    /// last one was added less than `activation` ago.
    fn secrets(
        &self,
        key: String,
        known: Zeroizing<String>,
        fresh: Option<Zeroizing<String>>,
        activation: Duration,
    ) -> Reply<StoredSecrets>;

    /// Records that a gateway has ended.
    fn leave(&self, key: String, gateway: Arc<str>) -> Reply<()>;
}

/// The client of a server: settings that were judged, without a connection.
pub(crate) trait StoreClient: Send + Sync {
    /// Connects. The caller limits the time.
    fn connect(&self) -> Reply<Arc<dyn StoreConnection>>;

    /// The server, for logs and the status, without secrets.
    fn server(&self) -> String;
}
