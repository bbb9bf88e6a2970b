//! The plugin trait: declared phases, one method per phase, and the decision of each.
//!
//! A plugin is one value shared by all threads; its state of a request is in the exchange ([`Exchange::state`]). A
//! plugin without state therefore allocates nothing, and one that never waits has no future: only [`Flow::Wait`] is
//! boxed.

use crate::{Exchange, Fault, LimitStores, Message, MessageVerdict, Piece, Response, Services, WebSocketEnd};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use moongate_config::Problems;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// The phases of a plugin, declared once. Other phases cost nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// [`Plugin::request_headers`], before an upstream is chosen.
    pub request_headers: bool,
    /// [`Plugin::request_body`], piece by piece on the way to the backend.
    pub request_body: bool,
    /// The plugin only reads the request's body: its changes of a piece are ignored. A body that no other plugin
    /// may change keeps its Content-Length.
    pub looks_only: bool,
    /// [`Plugin::response_headers`], before the response head is sent to the client.
    pub response_headers: bool,
    /// [`Plugin::response_body`], piece by piece on the way to the client.
    pub response_body: bool,
    /// The plugin encodes response bodies (`Content-Encoding`). In the response phases it runs after all plugins
    /// that do not, at any position in the list: they could not read its output.
    pub encodes: bool,
    /// [`Plugin::message`] for WebSocket messages to the backend. A route without message plugins uses the raw
    /// relay.
    pub messages_to_backend: bool,
    /// [`Plugin::message`] for WebSocket messages to the client.
    pub messages_to_client: bool,
    /// The interval at which [`Plugin::request_headers`] runs again during a WebSocket; a response then closes the
    /// WebSocket with 1008.
    pub recheck: Option<Duration>,
    /// [`Plugin::closed`], after the end of a WebSocket.
    pub closed: bool,
    /// [`Plugin::log`], after the end of the exchange.
    pub log: bool,
    /// It may return [`Flow::wait`]. The wait ends when the client disconnects; without this flag a wait continues
    /// to its end.
    pub waits: bool,
}

/// Background work of a plugin.
pub type Background = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One configured entry.
///
/// It is kept across reloads as long as its settings, and the files that they name, are unchanged, and is shared by
/// all threads. In every phase the plugins of a route run in the configured order, except for [`Phases::encodes`].
/// A method is called only if [`Plugin::phases`] includes it. A panic or a fault affects only that request, and the
/// plugin is skipped for the rest of it.
pub trait Plugin: Send + Sync + 'static {
    /// The phases of the plugin; queried once, when the configuration is compiled.
    fn phases(&self) -> Phases;

    /// The names of the upstreams that it calls. Queried for each configuration; an unknown upstream is an error at
    /// the place of its name in the settings.
    fn upstreams(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Takes its shared limits from the stores of the configuration ([`crate::Limiter::share`]). Called once, before any
    /// other method. The entry is built anew when a store that it uses has changed.
    ///
    /// # Errors
    /// Every store that does not exist, at its place in the settings.
    fn use_stores(&mut self, stores: &dyn LimitStores) -> Result<(), Problems> {
        let _ = stores;
        Ok(())
    }

    /// Whether it responds to every request in [`Plugin::request_headers`], so that a route with it needs no upstream.
    /// Queried once, when the configuration is compiled. A request that passes because the plugin failed gets
    /// a 503.
    fn always_responds(&self) -> bool {
        false
    }

    /// The request fields that only this plugin may fill, such as the client's identity. Queried once, when the
    /// configuration is compiled. The client's values of these fields, in any spelling, reach no other plugin and no
    /// backend, even if this plugin is skipped. They are withdrawn before the first plugin runs; `Authorization`,
    /// `Cookie` and `Proxy-Authorization` are withdrawn right before this plugin would run. Plugins read the values
    /// with [`Exchange::client_values`] and [`Exchange::credentials`].
    fn owned_headers(&self) -> Vec<HeaderName> {
        Vec::new()
    }

    /// What it has counted over all requests, for the process that takes over in an upgrade, in parts of at most 100 kB
    /// of JSON.
    fn counts(&self) -> Vec<serde_json::Value> {
        Vec::new()
    }

    /// Continues with a part of [`Plugin::counts`] of another process. Its settings may have been others, and its binary
    /// older or newer: what it cannot read begins anew.
    fn restore_counts(&self, counts: serde_json::Value) {
        let _ = counts;
    }

    /// Background work, such as fetching a key set or a timer. Queried once, when the first generation with this
    /// entry is in use; the future is dropped with the last generation that has it.
    fn background(&self, services: &Arc<dyn Services>) -> Option<Background> {
        let _ = services;
        None
    }

    /// The request head has arrived, and nothing was forwarded yet. Not called if an earlier plugin has responded.
    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        let _ = exchange;
        Flow::Continue
    }

    /// A piece of the request's body has arrived. The plugin may change it, or hold it back by taking its bytes and
    /// returning them with a later one. The backend may have received the head and earlier pieces, unless this
    /// plugin requested the whole body with [`Flow::Body`]. Not called for a request without a body, except after
    /// [`Flow::Body`]. A reply is the response if the client has none yet; later it ends the connection.
    fn request_body<'f>(&'f self, exchange: &'f mut Exchange<'_>, piece: &'f mut Piece) -> Flow<'f> {
        let _ = (exchange, piece);
        Flow::Continue
    }

    /// The response head is available, from a backend, a plugin or the gateway itself. Also called if an earlier
    /// plugin responded and this one never saw the request. A reply replaces the response with its body, unless it
    /// is a 101; the other plugins then see the reply, from the first on. The gateway sets `Content-Length` and
    /// `Transfer-Encoding`.
    fn response_headers<'f>(
        &'f self,
        exchange: &'f mut Exchange<'_>,
        response: &'f mut Response<'_>,
    ) -> Flow<'f> {
        let _ = (exchange, response);
        Flow::Continue
    }

    /// A piece of the response's body, from any source; as [`Plugin::request_body`], but the client may have the
    /// head. Not called for a response without a body.
    ///
    /// # Errors
    /// The response must not continue: it becomes a 500. If the client has its head, the connection is closed
    /// within the body, so that the client detects the failure.
    fn response_body(&self, exchange: &mut Exchange<'_>, piece: &mut Piece) -> Result<(), Fault> {
        let _ = (exchange, piece);
        Ok(())
    }

    /// A whole WebSocket message, unmasked and in one piece. The exchange is that of the handshake.
    fn message(&self, exchange: &mut Exchange<'_>, message: &mut Message) -> MessageVerdict {
        let _ = (exchange, message);
        MessageVerdict::Forward
    }

    /// The WebSocket has ended.
    fn closed(&self, exchange: &mut Exchange<'_>, ended: &WebSocketEnd<'_>) {
        let _ = (exchange, ended);
    }

    /// The exchange is over; `status` is the status that the client received, if any. For a WebSocket this is its
    /// handshake.
    fn log(&self, exchange: &mut Exchange<'_>, status: Option<StatusCode>) {
        let _ = (exchange, status);
    }
}

/// The next step, now or when a future is ready.
pub enum Flow<'f> {
    /// Continues with the next plugin.
    Continue,
    /// This is the response; no backend is used.
    Respond(Box<Reply>),
    /// From [`Plugin::request_headers`] only: [`Plugin::request_body`] of this plugin gets the whole body, up to
    /// this many bytes, as one last piece before the request continues. The piece is empty without a body, and the
    /// phases need not include bodies. A longer body is rejected with 413. The head may still be changed there.
    Body(u64),
    /// Decided later; see [`Flow::wait`].
    Wait(Pin<Box<dyn Future<Output = Verdict> + Send + 'f>>),
    /// The plugin failed; the entry's `on_error` decides.
    Failed(Fault),
}

impl<'f> Flow<'f> {
    /// Continues when `future` is ready.
    pub fn wait(future: impl Future<Output = Verdict> + Send + 'f) -> Self {
        Self::Wait(Box::pin(future))
    }
}

impl From<Reply> for Flow<'_> {
    fn from(reply: Reply) -> Self {
        Self::Respond(Box::new(reply))
    }
}

impl From<Fault> for Flow<'_> {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

impl From<Verdict> for Flow<'_> {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Continue => Self::Continue,
            Verdict::Respond(reply) => Self::Respond(reply),
            Verdict::Body(limit) => Self::Body(limit),
            Verdict::Failed(fault) => Self::Failed(fault),
        }
    }
}

impl fmt::Debug for Flow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Continue => f.write_str("Continue"),
            Self::Respond(reply) => f.debug_tuple("Respond").field(reply).finish(),
            Self::Body(limit) => f.debug_tuple("Body").field(limit).finish(),
            Self::Wait(_) => f.write_str("Wait(..)"),
            Self::Failed(fault) => f.debug_tuple("Failed").field(fault).finish(),
        }
    }
}

/// A plugin's decision.
#[derive(Debug)]
pub enum Verdict {
    /// Continues with the next plugin, and after the last with a backend.
    Continue,
    /// This is the response; no backend is used.
    Respond(Box<Reply>),
    /// See [`Flow::Body`].
    Body(u64),
    /// See [`Flow::Failed`].
    Failed(Fault),
}

impl From<Reply> for Verdict {
    fn from(reply: Reply) -> Self {
        Self::Respond(Box::new(reply))
    }
}

impl From<Fault> for Verdict {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

/// A response of a plugin.
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
    /// A response without fields and body.
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
