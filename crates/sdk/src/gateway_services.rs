//! Services of the gateway for plugins: HTTP calls, background work, worker numbers.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// An HTTP request of a plugin.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its target.
    pub to: CallTarget,
    /// The method.
    pub method: Method,
    /// Path and query; ignored for a URL, which has its own.
    pub target: String,
    /// The fields; `Host` is added when it is missing.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The timeout of the whole call.
    pub timeout: Duration,
    /// The longest response body that is accepted.
    pub limit: usize,
}

/// The target of a plugin's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallTarget {
    /// An upstream of the configuration, by name: with its balancer, health checks and metrics.
    Upstream(String),
    /// An `http://` or `https://` URL.
    Url(String),
}

/// The response to a plugin's request.
#[derive(Clone, Debug)]
pub struct CallResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// The reason for a missing response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// No upstream has this name, or the URL is invalid.
    Unknown,
    /// No connection could be established.
    Unreachable,
    /// The call timed out.
    TimedOut,
    /// The connection was closed before the head of the response was complete.
    Closed,
    /// The response was malformed.
    Bad,
    /// The response has this status, but its body was malformed or longer than the call accepts.
    Cut(StatusCode),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut(status) => {
                return write!(f, "the response {} was truncated or too long", status.as_str());
            }
            Self::Unknown => "unknown upstream or invalid URL",
            Self::Unreachable => "connection failed",
            Self::TimedOut => "timed out",
            Self::Closed => "closed without a response",
            Self::Bad => "the response was malformed",
        })
    }
}

impl std::error::Error for CallError {}

/// A plugin's pending request. Dropping it cancels the request.
pub type CallFuture = Pin<Box<dyn Future<Output = Result<CallResponse, CallError>> + Send>>;

/// Services of the gateway for plugins.
pub trait Services: Send + Sync {
    /// Sends a request and returns the whole response.
    fn call(&self, call: Call) -> CallFuture;

    /// Runs `work` in the background; it outlives the request that started it.
    fn spawn(&self, work: Pin<Box<dyn Future<Output = ()> + Send>>);

    /// Whether the current configuration has an upstream of this name.
    fn has_upstream(&self, name: &str) -> bool;
}

/// Services without effect: for tests, and for programs that only compile a configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoServices;

impl Services for NoServices {
    fn call(&self, _: Call) -> CallFuture {
        Box::pin(std::future::ready(Err(CallError::Unknown)))
    }
    fn spawn(&self, _: Pin<Box<dyn Future<Output = ()> + Send>>) {}
    fn has_upstream(&self, _: &str) -> bool {
        false
    }
}

thread_local! {
    static WORKER: Cell<usize> = const { Cell::new(0) };
}

/// The number of this worker thread, counted from 1; 0 for every thread that serves no requests. A plugin can use
/// it as an index into per-worker state without contention.
pub fn worker() -> usize {
    WORKER.get()
}

/// Sets the number of this worker thread; the gateway calls it once per worker.
pub fn set_worker(number: usize) {
    WORKER.set(number);
}
