//! What the gateway does for its plugins besides showing them requests. Who does it, and over what
//! connections, stays out.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// A request of a plugin's own.
#[derive(Clone, Debug)]
pub struct Call {
    /// To whom.
    pub to: CallTarget,
    /// The method.
    pub method: Method,
    /// Path and query; taken from the URL when that is whom it goes to.
    pub target: String,
    /// The fields; `Host` is added when it is missing.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// How long the whole may take.
    pub timeout: Duration,
    /// The longest body that is taken from the answer.
    pub limit: usize,
}

/// Whom a plugin's request goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallTarget {
    /// An upstream of the configuration, by name: balanced, health-checked and counted as always.
    Upstream(String),
    /// An `http://` or `https://` URL.
    Url(String),
}

/// The answer to a plugin's request.
#[derive(Clone, Debug)]
pub struct CallResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// No upstream has this name, or the URL cannot be read.
    Unknown,
    /// Nobody could be connected to.
    Unreachable,
    /// It took too long.
    TimedOut,
    /// The answer was broken before its head was whole.
    Bad,
    /// The answer has this status, but its body was broken, or longer than the call takes.
    Cut(StatusCode),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut(status) => return write!(f, "the answer {} was broken or too long", status.as_str()),
            Self::Unknown => "there is no such upstream or URL",
            Self::Unreachable => "nobody could be connected to",
            Self::TimedOut => "it took too long",
            Self::Bad => "the answer was broken",
        })
    }
}

impl std::error::Error for CallError {}

/// A request of a plugin's own, under way. Dropping it gives it up.
pub type CallFuture = Pin<Box<dyn Future<Output = Result<CallResponse, CallError>> + Send>>;

/// What the gateway does for its plugins.
pub trait Services: Send + Sync {
    /// Sends a request and waits for the whole answer.
    fn call(&self, call: Call) -> CallFuture;

    /// Runs `work` beside the request that asks for it; it outlives that request.
    fn spawn(&self, work: Pin<Box<dyn Future<Output = ()> + Send>>);

    /// Whether the current configuration has an upstream of this name.
    fn has_upstream(&self, name: &str) -> bool;
}

/// A gateway that does nothing for its plugins: for tests, and for programs that only compile a configuration.
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

/// Which worker this thread is, counted from 1; 0 is every thread that serves no requests. A plugin
/// that keeps something for each worker finds its own by it and meets nobody there.
pub fn worker() -> usize {
    WORKER.get()
}

/// Says which worker this thread is; the gateway calls it once for each.
pub fn set_worker(number: usize) {
    WORKER.set(number);
}
