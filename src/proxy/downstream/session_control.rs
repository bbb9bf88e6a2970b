//! What the phases of a request tell the session of its client, which Pingora holds meanwhile: whether the body is read,
//! how long the backend may be silent, what it means when the client closes. And what the session tells them: which of its
//! limits ended the request. Pingora lends a session shared, hence the atomics; one thread uses them.
//!
//! The session is polled while the backend is waited for, so it is where that wait is bounded: Pingora's own timeout knows
//! one length for heads and bodies.

use super::upload_gate::UploadGate;
use crate::config::OnClientClose;
use crate::proxy::failure::Failure;
use crate::runtime::clock;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// What moments are counted from.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The control of one client's session.
#[derive(Debug, Default)]
pub(in crate::proxy) struct SessionControl {
    /// Whether the body is read.
    pub(in crate::proxy) gate: UploadGate,
    finishes: AtomicBool,
    /// The longest silence of the backend in milliseconds; 0 is no limit.
    silence: AtomicU64,
    /// When the backend was heard, or sent something, in milliseconds.
    heard: AtomicU64,
    /// The backend's response is under way.
    streams: AtomicBool,
    /// No minimum rate holds: an event stream or a call of gRPC.
    unpaced: AtomicBool,
    /// Its response has been handed to the client whole.
    answered: AtomicBool,
    ended_by: AtomicU8,
    /// Why a request on a stream of HTTP/2 is refused, whatever else it says.
    refused: Option<Failure>,
}

/// A limit that ended a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::proxy) enum EndedBy {
    /// The route's `timeout` or `stream_idle_timeout`.
    Backend = 1,
    /// `body_timeout` or `body_min_rate`.
    Body,
    /// `send_timeout` or `send_min_rate`.
    Send,
}

impl SessionControl {
    /// For a stream of HTTP/2.
    pub(in crate::proxy) fn for_stream(refused: Option<Failure>) -> Self {
        Self { refused, ..Self::default() }
    }

    /// Why the request is refused, whatever else it says.
    pub(in crate::proxy) fn refused(&self) -> Option<Failure> {
        self.refused
    }

    /// For the next request of the connection.
    pub(in crate::proxy) fn reset(&self) {
        self.gate.reset();
        self.finishes.store(false, Relaxed);
        self.streams.store(false, Relaxed);
        self.unpaced.store(false, Relaxed);
        self.answered.store(false, Relaxed);
        self.silence.store(0, Relaxed);
        self.ended_by.store(0, Relaxed);
    }

    /// What a client's close means on its route.
    pub(in crate::proxy) fn on_client_close(&self, close: OnClientClose) {
        self.finishes.store(close == OnClientClose::Finish, Relaxed);
    }

    /// Whether the response is delivered to a client that has closed its direction.
    pub(in crate::proxy) fn finishes(&self) -> bool {
        self.finishes.load(Relaxed)
    }

    /// The backend is asked: the head of its response must come within that time.
    pub(in crate::proxy) fn await_response(&self, limit: Option<Duration>) {
        self.streams.store(false, Relaxed);
        self.bound(limit);
    }

    /// The response has begun: its silence is bounded from here on.
    pub(in crate::proxy) fn stream(&self, limit: Option<Duration>) {
        self.streams.store(true, Relaxed);
        self.bound(limit);
    }

    fn bound(&self, limit: Option<Duration>) {
        let millis = limit.map_or(0, |limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1));
        self.silence.store(millis, Relaxed);
        self.hear();
    }

    /// No minimum rate holds for this request and its response.
    pub(in crate::proxy) fn unpace(&self) {
        self.unpaced.store(true, Relaxed);
    }

    pub(in crate::proxy) fn is_paced(&self) -> bool {
        !self.unpaced.load(Relaxed)
    }

    /// The backend was heard, or something was sent to it or for it.
    pub(in crate::proxy) fn hear(&self) {
        let millis = clock::now().saturating_duration_since(*START).as_millis();
        self.heard.store(u64::try_from(millis).unwrap_or(u64::MAX), Relaxed);
    }

    /// When the backend has been silent for too long.
    pub(in crate::proxy) fn deadline(&self) -> Option<Instant> {
        let silence = self.silence.load(Relaxed);
        (silence > 0)
            .then(|| *START + Duration::from_millis(self.heard.load(Relaxed).saturating_add(silence)))
    }

    /// The client has the whole response.
    pub(in crate::proxy) fn set_answered(&self) {
        self.answered.store(true, Relaxed);
    }

    pub(in crate::proxy) fn is_answered(&self) -> bool {
        self.answered.load(Relaxed)
    }

    /// A limit ended the request.
    pub(in crate::proxy) fn end(&self, by: EndedBy) {
        self.ended_by.store(by as u8, Relaxed);
    }

    /// The failure of a request that a limit ended.
    pub(in crate::proxy) fn failure(&self) -> Option<Failure> {
        match self.ended_by.load(Relaxed) {
            1 if self.streams.load(Relaxed) => Some(Failure::StreamIdleTimeout),
            1 => Some(Failure::ResponseTimeout),
            2 => Some(Failure::BodyTimeout),
            3 => Some(Failure::SendTimeout),
            _ => None,
        }
    }
}
