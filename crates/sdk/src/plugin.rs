//! What a plugin is: phases declared up front, one method a phase, and what each may decide.
//!
//! A plugin is one value that all threads share; what it must remember about one request it asks of
//! the exchange ([`Exchange::state`]). So a plugin that remembers nothing allocates nothing, and one
//! that never waits has no future: [`Flow::Wait`] alone is boxed.

use crate::{Ended, Exchange, Fault, Message, MessageVerdict, Piece, Response, Services};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// The phases a plugin takes part in, declared once. A phase it does not name costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// [`Plugin::request_headers`], before an upstream is chosen.
    pub request_headers: bool,
    /// [`Plugin::request_body`], piece by piece on the way to the backend.
    pub request_body: bool,
    /// It only looks at the request's body: what it does to a piece is not taken over. A body that no other
    /// plugin may change keeps its Content-Length.
    pub looks_only: bool,
    /// [`Plugin::response_headers`], before the answer's head goes to the client.
    pub response_headers: bool,
    /// [`Plugin::response_body`], piece by piece on the way to the client.
    pub response_body: bool,
    /// It gives answers' bodies another coding (`Content-Encoding`). In the phases of answers it comes behind
    /// all that do not, wherever it is written: what it leaves is nothing to look into.
    pub encodes: bool,
    /// [`Plugin::message`] for WebSocket messages to the backend. A route without plugins for
    /// messages keeps the raw relay.
    pub messages_to_backend: bool,
    /// [`Plugin::message`] for WebSocket messages to the client.
    pub messages_to_client: bool,
    /// How often [`Plugin::request_headers`] is asked again about a WebSocket that lives; one that is
    /// then answered is closed with 1008.
    pub recheck: Option<Duration>,
    /// [`Plugin::closed`], when a WebSocket has ended.
    pub closed: bool,
    /// [`Plugin::log`], when the exchange is over.
    pub log: bool,
    /// It may answer with [`Flow::wait`]. The wait ends when the client leaves; one of a plugin that does not say so goes
    /// on to its end.
    pub waits: bool,
}

/// Work of a plugin's own, beside the requests.
pub type Background = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One configured entry.
///
/// It lives as long as its settings (and the files they name) stay the same, across reloads, and is
/// shared by all threads. In every phase the plugins of a route run in the order the operator wrote
/// them, but for [`Phases::encodes`]. A method is called only when [`Plugin::phases`] names it. A panic or a fault in one costs
/// that request and nothing else, and the plugin is left out of the rest of it.
pub trait Plugin: Send + Sync + 'static {
    /// The phases it takes part in; asked once, when the configuration is compiled.
    fn phases(&self) -> Phases;

    /// The upstreams of the configuration that it calls, by name. Asked for each configuration; one that has
    /// no such upstream is refused, with the place of the name in the settings.
    fn upstreams(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Whether it responds to every request in [`Plugin::request_headers`], so that a route with it needs no upstream.
    /// Asked once, when the configuration is compiled. A request that gets past it all the same, because it failed, is
    /// answered with 503.
    fn always_responds(&self) -> bool {
        false
    }

    /// The request fields that this plugin fills and that no client may: who the client is, say. Asked once, when the configuration is
    /// compiled. What a client sends in one of them, in any spelling, reaches no other plugin and no backend, also when
    /// this plugin is left out of the request. It is withdrawn before the first plugin runs; `Authorization`, `Cookie`
    /// and `Proxy-Authorization` right before this plugin would run. Plugins read it with [`Exchange::client_values`]
    /// and [`Exchange::credentials`].
    fn owned_headers(&self) -> Vec<HeaderName> {
        Vec::new()
    }

    /// Work beside the requests: a key set that is fetched, a clock that ticks. Asked once, when the
    /// first generation with this entry serves; the future is dropped with the last generation that
    /// has it.
    fn background(&self, services: &Arc<dyn Services>) -> Option<Background> {
        let _ = services;
        None
    }

    /// The request's head is here; nothing was sent anywhere yet. Not called when an earlier plugin
    /// already answered.
    fn request_headers<'f>(&'f self, exchange: &'f mut Exchange<'_>) -> Flow<'f> {
        let _ = exchange;
        Flow::Continue
    }

    /// A piece of the request's body is here. It may be changed, or held back by taking its bytes and
    /// giving them to a later one. The backend may have seen the head and earlier pieces by now,
    /// unless this plugin asked for the whole body with [`Flow::Body`]. Not called for a request without
    /// a body, unless asked for so. A reply is the answer as long as the client has none yet; later it
    /// ends the connection.
    fn request_body<'f>(&'f self, exchange: &'f mut Exchange<'_>, piece: &'f mut Piece) -> Flow<'f> {
        let _ = (exchange, piece);
        Flow::Continue
    }

    /// The answer's head is here, from a backend, from a plugin or from the gateway itself. Called
    /// also when an earlier plugin answered and this one never saw the request. A reply takes the
    /// place of the answer, body and all, unless that is a 101; the other plugins then see it in the
    /// same way, from the first on. `Content-Length` and `Transfer-Encoding` are the gateway's to say.
    fn response_headers<'f>(
        &'f self,
        exchange: &'f mut Exchange<'_>,
        answer: &'f mut Response<'_>,
    ) -> Flow<'f> {
        let _ = (exchange, answer);
        Flow::Continue
    }

    /// A piece of the answer's body is here, of whomever made the answer; as [`Plugin::request_body`],
    /// but the client may have the head. Not called for an answer without a body.
    ///
    /// # Errors
    /// When the answer must not go on: it becomes a 500, or, when the client has its head, the connection
    /// is closed in mid-body, so that the client knows.
    fn response_body(&self, exchange: &mut Exchange<'_>, piece: &mut Piece) -> Result<(), Fault> {
        let _ = (exchange, piece);
        Ok(())
    }

    /// A whole WebSocket message is here, unmasked and in one piece. The exchange is its handshake's.
    fn message(&self, exchange: &mut Exchange<'_>, message: &mut Message) -> MessageVerdict {
        let _ = (exchange, message);
        MessageVerdict::Forward
    }

    /// The WebSocket has ended.
    fn closed(&self, exchange: &mut Exchange<'_>, ended: &Ended<'_>) {
        let _ = (exchange, ended);
    }

    /// The exchange is over; `status` is what the client got, if it got an answer. Of a WebSocket this
    /// is the handshake.
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
    /// From [`Plugin::request_headers`] alone: the whole body, up to so many bytes, is shown to this
    /// plugin's [`Plugin::request_body`] as one last piece before anything goes on, an empty one when
    /// there is no body, and whether or not its phases name bodies; a longer one is answered with 413.
    /// The head may still be changed there.
    Body(u64),
    /// Known later; see [`Flow::wait`].
    Wait(Pin<Box<dyn Future<Output = Verdict> + Send + 'f>>),
    /// The plugin could not do its work; the entry's `on_error` decides.
    Failed(Fault),
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

/// What a plugin decided.
#[derive(Debug)]
pub enum Verdict {
    /// On to the next plugin, and after the last to a backend.
    Continue,
    /// This is the answer; no backend is asked.
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
