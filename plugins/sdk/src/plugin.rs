//! What a plugin is: phases declared up front, one method a phase, and what each may decide.
//!
//! A plugin is one value that all threads share; what it must remember about one request it asks of
//! the exchange ([`Exchange::state`]). So a plugin that remembers nothing allocates nothing, and one
//! that never waits has no future: [`Flow::Wait`] alone is boxed.

use crate::{Answer, Exchange};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// The phases a plugin takes part in, declared once. A phase it does not name costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// [`Plugin::request_headers`], before an upstream is chosen.
    pub request_headers: bool,
    /// [`Plugin::response_headers`], before the answer's head goes to the client.
    pub response_headers: bool,
    /// [`Plugin::log`], when the exchange is over.
    pub log: bool,
}

/// One configured entry.
///
/// It lives as long as its settings do, across reloads, and is shared by all threads. In every phase
/// the plugins of a route run in the order the operator wrote them. A method is called only when
/// [`Plugin::phases`] names it. A panic in one costs that request and nothing else.
pub trait Plugin: Send + Sync + 'static {
    /// The phases it takes part in; asked once, when the configuration is compiled.
    fn phases(&self) -> Phases;

    /// The request's head is here; nothing was sent anywhere yet. Not called when an earlier plugin
    /// already answered.
    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        let _ = exchange;
        Flow::Continue
    }

    /// The answer's head is here, from a backend, from a plugin or from the gateway itself. Called
    /// also when an earlier plugin answered and this one never saw the request.
    fn response_headers(&self, exchange: &mut Exchange<'_>, answer: &mut Answer<'_>) {
        let _ = (exchange, answer);
    }

    /// The exchange is over; `status` is what the client got, if it got an answer.
    fn log(&self, exchange: &mut Exchange<'_>, status: Option<StatusCode>) {
        let _ = (exchange, status);
    }
}

/// What happens next, now or when a future is ready.
pub enum Flow<'f> {
    /// On to the next plugin.
    Continue,
    /// This is the answer; no backend is asked.
    Respond(Box<Reply>),
    /// Known later; see [`Flow::wait`].
    Wait(Pin<Box<dyn Future<Output = Verdict> + Send + 'f>>),
}

impl<'f> Flow<'f> {
    /// Goes on when `future` is ready.
    pub fn wait(future: impl Future<Output = Verdict> + Send + 'f) -> Self {
        Self::Wait(Box::pin(future))
    }
}

impl From<Reply> for Flow<'_> {
    fn from(reply: Reply) -> Self {
        Self::Respond(Box::new(reply))
    }
}

impl From<Verdict> for Flow<'_> {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Continue => Self::Continue,
            Verdict::Respond(reply) => Self::Respond(reply),
        }
    }
}

impl fmt::Debug for Flow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Continue => f.write_str("Continue"),
            Self::Respond(reply) => f.debug_tuple("Respond").field(reply).finish(),
            Self::Wait(_) => f.write_str("Wait(..)"),
        }
    }
}

/// What a plugin decided.
#[derive(Debug)]
pub enum Verdict {
    /// On to the next plugin, and after the last to a backend.
    Continue,
    /// This is the answer; no backend is asked.
    Respond(Box<Reply>),
}

impl From<Reply> for Verdict {
    fn from(reply: Reply) -> Self {
        Self::Respond(Box::new(reply))
    }
}

/// An answer made by a plugin.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its fields; `Content-Length` is added by the gateway.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Reply {
    /// An answer without fields and body.
    pub fn new(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// Sets a field.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}
